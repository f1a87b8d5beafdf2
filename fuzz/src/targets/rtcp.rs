//! Any bytes as a compound RTCP packet: everything in it is looked at, within the bounds that a sender relies on.

use antiphon_wire::rtcp::{self, Message};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    rtcp::read(bytes, |message| match message {
        Message::Nack { lost, .. } => assert!(lost.count() <= 17 * bytes.len() / 4),
        Message::Report(block) => {
            let _ = (block.round_trip(0), block.round_trip(u32::MAX));
        }
        Message::Transport(feedback) => assert!(feedback.statuses().count() <= 8_192),
        _ => {}
    });
}
