//! Any sequence of messages, frames and time as a session of a bot: wrong ones end it with an error, others are answered once, and what
//! waits and what is sent keeps its bounds.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_bot::fuzzing::session(bytes);
}
