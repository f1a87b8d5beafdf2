//! Any bytes as a stored stream that is read back as sound.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_record::fuzzing::sound(bytes);
}
