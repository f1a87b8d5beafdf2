//! Any bytes as a stored track of a recording that is made into files.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_record::fuzzing::recording(bytes);
}
