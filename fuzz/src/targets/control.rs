//! Any bytes as a control message of a client; what is taken survives being written and read.

use antiphon_wire::control::{ClientMessage, MAX_MESSAGE_BYTES, ServerMessage};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(message) = ClientMessage::parse(bytes) {
        assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        let again = serde_json::to_vec(&message).expect("no map with non-text keys");
        assert_eq!(ClientMessage::parse(&again).expect("what was written parses"), message);
    }
    if let Ok(message) = serde_json::from_slice::<ServerMessage>(bytes) {
        let again = serde_json::from_str(&message.to_json()).expect("what was written parses");
        assert_eq!(message, again);
    }
}
