//! Any bytes as a datagram of a stranger: whose it is, and whether it nominates.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_shard::fuzzing::stun(bytes);
}
