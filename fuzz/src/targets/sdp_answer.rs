//! Any text as the answer to an offer of ours; what comes of it has no more lines than were offered.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(answer) = std::str::from_utf8(bytes) else { return };
    if let Some(slots) = antiphon_shard::fuzzing::answer(answer) {
        assert!((1..=2).contains(&slots));
    }
}
