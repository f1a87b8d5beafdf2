//! Any bytes as a message on a topic, from a client and from the server: taken or refused, and what is taken survives being written.

use antiphon_wire::topic::{self, Message};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(publication) = topic::parse(bytes) {
        assert!(publication.to.len() <= topic::MAX_RECIPIENTS && topic::is_topic(&publication.topic));
        assert!(publication.payload.len() <= topic::MAX_PAYLOAD_BYTES);
        assert_eq!(topic::parse(&publication.to_bytes()), Ok(publication));
    }
    if let Ok((message, lost)) = Message::parse(bytes) {
        let written = message.to_bytes(lost);
        assert_eq!(Message::parse(&written), Ok((message, lost)));
    }
}
