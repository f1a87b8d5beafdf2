//! Any bytes as SRTCP: nothing opens that the peer did not seal, and what it did comes out once.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_shard::fuzzing::srtcp(bytes);
}
