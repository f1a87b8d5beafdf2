//! Start selectors and ListFragments' ranges over a stream of any shape.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_store::fuzzing::selectors(bytes);
}
