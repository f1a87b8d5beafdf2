//! Any text as an SDP fragment of a PATCH request: taken or refused, and what is taken survives being written.
#![no_main]

use antiphon_wire::sdpfrag::Fragment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(fragment) = Fragment::parse(text) {
        assert_eq!(Fragment::parse(&fragment.to_lite_text()), Ok(fragment));
    }
});
