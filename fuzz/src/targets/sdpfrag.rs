//! Any text as an SDP fragment of a PATCH request: taken or refused, and what is taken survives being written.

use antiphon_wire::sdpfrag::Fragment;

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(fragment) = Fragment::parse(text) {
        assert_eq!(Fragment::parse(&fragment.to_lite_text()), Ok(fragment));
    }
}
