//! Any bytes as a frame of a bot or for one: its payload has the size that its format says, and what is taken survives being written.

use antiphon_wire::frame::{self, MAX_SPEAKERS};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let Ok((header, payload)) = frame::parse(bytes) else { return };
    assert!(bytes.ends_with(payload) && (bytes.len() - payload.len()).is_multiple_of(8));
    assert!(header.speakers.len() <= MAX_SPEAKERS);
    assert!(header.format.payload_bytes().is_none_or(|expected| expected == payload.len()));
    let written = header.to_message(payload);
    // Bytes without meaning are not kept.
    assert_eq!(written.len(), bytes.len());
    assert_eq!(frame::parse(&written), Ok((header, payload)));
}
