//! Any tracks and frames of a producer, made into MP4.

/// Runs one input: tracks, then frames, as `antiphon_kvs::fuzzing::repack` reads them.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_kvs::fuzzing::repack(bytes);
}
