//! Lines of `Name: value` as the headers of a join, WHIP or WHEP request, the first line as its room.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_api::fuzzing::headers(bytes);
}
