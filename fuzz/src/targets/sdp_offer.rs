//! Any text as an offer, of one who joins, by WHIP and by WHEP; what is answered keeps the limits, line by line.

use antiphon_shard::fuzzing::{MAX_SLOTS, offer};
use antiphon_wire::control::ParticipantKind;

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = |sdp: &str| sdp.lines().filter(|l| l.starts_with("m=")).count();
    for kind in [ParticipantKind::WebRtc, ParticipantKind::Whip, ParticipantKind::Whep] {
        let Some(answered) = offer(kind, text) else { continue };
        // An answer has the lines of its offer (RFC 3264, 6).
        assert_eq!(lines(&answered.answer), lines(text), "{kind:?}");
        assert!(answered.slots <= MAX_SLOTS + 8, "{kind:?}");
        // Who publishes by WHIP receives nothing.
        assert!(kind != ParticipantKind::Whip || answered.slots == 0);
        assert!(answered.answer.starts_with("v=0\r\n"));
    }
}
