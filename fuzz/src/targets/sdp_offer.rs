//! Any text as an offer; what is answered keeps the limits, line by line.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(offer) = std::str::from_utf8(bytes) else { return };
    let Some(answered) = antiphon_shard::fuzzing::offer(offer) else { return };
    let lines = |sdp: &str| sdp.lines().filter(|l| l.starts_with("m=")).count();
    // An answer has the lines of its offer (RFC 3264, 6).
    assert_eq!(lines(&answered.answer), lines(offer));
    assert!(answered.slots <= antiphon_shard::fuzzing::MAX_SLOTS + 8);
    assert!(answered.answer.starts_with("v=0\r\n"));
}
