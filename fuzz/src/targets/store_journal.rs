//! Any bytes as a journal's file, as what its records have, and as changes to a genuine one.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_store::fuzzing::journal(bytes);
}
