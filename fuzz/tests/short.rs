//! The short form of every target: its corpus, and some thousand inputs from a seed, a million where that is quick. `make fuzz` has the long one.

use antiphon_fuzz::drive::drive;
use antiphon_fuzz::{TARGETS, corpus};

/// Where one input takes a quarter of a millisecond.
const SLOW: [&str; 2] = ["sdp_answer", "sdp_offer"];
/// Where a million takes a second or two: what producers send.
const QUICK: [&str; 2] = ["store_ingest", "store_matroska"];

#[test]
fn no_target_fails() {
    for target in TARGETS {
        let inputs = match target.name {
            name if SLOW.contains(&name) => 5_000,
            name if QUICK.contains(&name) => 1_000_000,
            _ => 20_000,
        };
        let kept = corpus::load(target);
        assert!(!kept.is_empty(), "{} has no inputs to begin with", target.name);
        if let Err(failure) = drive(target, &kept, 7, inputs) {
            panic!(
                "{} fails on {:?}: {}",
                target.name,
                failure.input.escape_ascii().to_string(),
                failure.message
            );
        }
    }
}

/// Else its changes would all be refused at the first look.
#[test]
fn the_kept_answer_is_taken() {
    let answer = include_str!("../corpus/sdp_answer/str0m");
    assert_eq!(antiphon_shard::fuzzing::answer(answer), Some(2));
}

#[test]
fn every_target_has_its_row_and_its_glue_for_libfuzzer() {
    let page = include_str!("../README.md");
    let manifest = include_str!("../libfuzzer/Cargo.toml");
    for target in TARGETS {
        assert!(page.contains(&format!("\n| `{}` | ", target.name)), "{} is not in the README", target.name);
        assert!(manifest.contains(&format!("name = \"{}\"\n", target.name)), "{}", target.name);
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
