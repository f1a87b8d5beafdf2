//! Every target is this file: which one, its name says.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| antiphon_fuzz::run(env!("CARGO_BIN_NAME"), bytes));
