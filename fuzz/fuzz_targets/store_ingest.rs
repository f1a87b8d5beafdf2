//! Any bytes as a producer's session.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, u16)| {
    let (opened, sealed) = antiphon_store::fuzzing::ingest(&input.0, input.1.into());
    assert!(sealed <= opened);
});
