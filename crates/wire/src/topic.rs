//! Messages on topics: what participants say to each other beside media.
//!
//! One layout in both directions, over the data channels labelled `data` and `data-lossy` and over a bot's WebSocket
//! (there its second byte tells it from a frame of [`crate::frame`]). All numbers little endian.
//! `docs/reference/data.md` is the page for users.
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | u8 | version, 1 |
//! | 1 | u8 | kind, 5 |
//! | 2 | u8 | flags: 1 lossy, 2 addressed (from the server: it was for the receiver by name) |
//! | 3 | u8 | bytes of the topic, 1 to 64 |
//! | 4 | u8 | number of recipients, at most 16; 0: everybody who listens to the topic; from the server 0 |
//! | 5 | 3 | 0 |
//! | 8 | u32 | the sender's number, set by the server; to the server 0 |
//! | 12 | u32 | messages of this kind (lossy or not) that the receiver has lost since the one before; to the server 0 |
//! | 16 | u32 each | the recipients' numbers |
//! | | | topic, UTF-8 without control characters |
//! | | | payload |

use std::sync::Arc;

use antiphon_base::ParticipantKey;

/// The version this module reads and writes.
pub const VERSION: u8 = 1;
/// The kind of these messages; frames have 1 to 4.
pub const KIND: u8 = 5;
/// Bytes before the recipients.
pub const HEADER_BYTES: usize = 16;
/// The longest topic, in bytes.
pub const MAX_TOPIC_BYTES: usize = 64;
/// The most recipients of one message: more are a topic of their own.
pub const MAX_RECIPIENTS: usize = 16;
/// The largest payload of a reliable message, in bytes: with its header it stays below the 16 KiB that every WebRTC
/// stack takes in one message.
pub const MAX_PAYLOAD_BYTES: usize = 15 * 1024;
/// The largest payload of a lossy message, in bytes: with its headers it fits into one datagram, so that nothing is lost
/// because a part of it was.
pub const MAX_LOSSY_PAYLOAD_BYTES: usize = 1_024;
/// The most topics a participant may listen to.
pub const MAX_SUBSCRIPTIONS: usize = 64;
/// Stands for all topics in a subscription.
pub const EVERY_TOPIC: &str = "*";

const FLAG_LOSSY: u8 = 1;
const FLAG_ADDRESSED: u8 = 2;

/// A message as its sender gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Lost rather than late: the freshest of a sender and topic wins.
    pub lossy: bool,
    /// To whom; empty: to everybody who listens.
    pub to: Vec<ParticipantKey>,
    /// What about.
    pub topic: Arc<str>,
    /// What.
    pub payload: Arc<[u8]>,
}

/// A message on its way to those who get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose, by the server's word.
    pub from: ParticipantKey,
    /// Lost rather than late.
    pub lossy: bool,
    /// It names its recipients.
    pub addressed: bool,
    /// What about.
    pub topic: Arc<str>,
    /// What.
    pub payload: Arc<[u8]>,
}

/// Why a message was refused; offsets are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Shorter than its header says.
    #[error("message ends at {0}, before its topic does")]
    Truncated(usize),
    /// Not version 1 or not kind 5.
    #[error("byte {value} at offset {offset} has no meaning")]
    Value {
        /// Where.
        offset: usize,
        /// What stood there.
        value: u8,
    },
    /// No topic, a too long one, no UTF-8, or with control characters.
    #[error("a topic has 1 to {MAX_TOPIC_BYTES} bytes of UTF-8 without control characters")]
    Topic,
    /// Too many recipients.
    #[error("{0} recipients are more than {MAX_RECIPIENTS}")]
    Recipients(u8),
    /// The payload is over the limit of its kind.
    #[error("payload has {found} bytes, more than {limit}")]
    TooLarge {
        /// In the message.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

/// Whether a topic may be spoken of.
pub fn is_topic(topic: &str) -> bool {
    (1..=MAX_TOPIC_BYTES).contains(&topic.len())
        && !topic.chars().any(char::is_control)
        && topic != EVERY_TOPIC
}

/// Reads what a participant sends.
///
/// # Errors
/// Whatever does not keep the layout or a limit.
pub fn parse(message: &[u8]) -> Result<Publication, TopicError> {
    let header = message.get(..HEADER_BYTES).ok_or(TopicError::Truncated(message.len()))?;
    for (offset, wanted) in [(0, VERSION), (1, KIND)] {
        if header[offset] != wanted {
            return Err(TopicError::Value { offset, value: header[offset] });
        }
    }
    let (flags, topic_bytes, recipients) = (header[2], usize::from(header[3]), header[4]);
    if flags & !FLAG_LOSSY != 0 {
        return Err(TopicError::Value { offset: 2, value: flags });
    }
    if usize::from(recipients) > MAX_RECIPIENTS {
        return Err(TopicError::Recipients(recipients));
    }
    let topic_at = HEADER_BYTES + 4 * usize::from(recipients);
    let payload_at = topic_at + topic_bytes;
    if message.len() < payload_at {
        return Err(TopicError::Truncated(message.len()));
    }
    let to = message[HEADER_BYTES..topic_at]
        .chunks_exact(4)
        .map(|b| ParticipantKey(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
        .collect();
    let topic = std::str::from_utf8(&message[topic_at..payload_at]).map_err(|_| TopicError::Topic)?;
    if !is_topic(topic) {
        return Err(TopicError::Topic);
    }
    let (lossy, payload) = (flags & FLAG_LOSSY != 0, &message[payload_at..]);
    let limit = if lossy { MAX_LOSSY_PAYLOAD_BYTES } else { MAX_PAYLOAD_BYTES };
    if payload.len() > limit {
        return Err(TopicError::TooLarge { found: payload.len(), limit });
    }
    Ok(Publication { lossy, to, topic: topic.into(), payload: payload.into() })
}

impl Publication {
    /// The bytes that [`parse`] reads; for clients. Recipients and topic are within their limits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let flags = if self.lossy { FLAG_LOSSY } else { 0 };
        write((flags, 0, 0), &self.to, &self.topic, &self.payload)
    }
}

impl Message {
    /// The bytes for one receiver, which has lost `dropped` before it.
    pub fn to_bytes(&self, dropped: u32) -> Vec<u8> {
        let mut bytes = self.to_head(dropped);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The bytes before the payload.
    pub fn to_head(&self, dropped: u32) -> Vec<u8> {
        let lossy = if self.lossy { FLAG_LOSSY } else { 0 };
        let addressed = if self.addressed { FLAG_ADDRESSED } else { 0 };
        write((lossy | addressed, self.from.0, dropped), &[], &self.topic, &[])
    }

    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.topic.len() + self.payload.len()
    }

    /// Never: it has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Reads what the server sends: the message, and how many were lost before it. For clients.
    ///
    /// # Errors
    /// Whatever does not keep the layout.
    pub fn parse(bytes: &[u8]) -> Result<(Self, u32), TopicError> {
        let header = bytes.get(..HEADER_BYTES).ok_or(TopicError::Truncated(bytes.len()))?;
        for (offset, wanted) in [(0, VERSION), (1, KIND)] {
            if header[offset] != wanted {
                return Err(TopicError::Value { offset, value: header[offset] });
            }
        }
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let payload_at = HEADER_BYTES + usize::from(header[3]);
        let topic = bytes.get(HEADER_BYTES..payload_at).ok_or(TopicError::Truncated(bytes.len()))?;
        let topic = std::str::from_utf8(topic).map_err(|_| TopicError::Topic)?;
        let message = Self {
            from: ParticipantKey(number(8)),
            lossy: header[2] & FLAG_LOSSY != 0,
            addressed: header[2] & FLAG_ADDRESSED != 0,
            topic: topic.into(),
            payload: bytes[payload_at..].into(),
        };
        Ok((message, number(12)))
    }
}

fn write(
    (flags, sender, dropped): (u8, u32, u32),
    to: &[ParticipantKey],
    topic: &str,
    payload: &[u8],
) -> Vec<u8> {
    let to = &to[..to.len().min(MAX_RECIPIENTS)];
    let mut out = Vec::with_capacity(HEADER_BYTES + 4 * to.len() + topic.len() + payload.len());
    let topic_bytes = u8::try_from(topic.len()).unwrap_or(u8::MAX);
    out.extend([VERSION, KIND, flags, topic_bytes, u8::try_from(to.len()).unwrap_or(0), 0, 0, 0]);
    out.extend(sender.to_le_bytes());
    out.extend(dropped.to_le_bytes());
    to.iter().for_each(|key| out.extend(key.0.to_le_bytes()));
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(lossy: bool, to: &[u32], topic: &str, payload: &[u8]) -> Publication {
        let to = to.iter().map(|k| ParticipantKey(*k)).collect();
        Publication { lossy, to, topic: topic.into(), payload: payload.into() }
    }

    #[test]
    fn a_publication_reads_as_documented() {
        let bytes =
            [&[1, 5, 1, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0][..], b"cursor", b"\x01\x02"]
                .concat();
        let expected = publication(true, &[7], "cursor", &[1, 2]);
        assert_eq!(parse(&bytes), Ok(expected.clone()));
        assert_eq!(expected.to_bytes(), bytes);
    }

    #[test]
    fn a_message_round_trips() {
        let message = Message {
            from: ParticipantKey(9),
            lossy: false,
            addressed: true,
            topic: "chat".into(),
            payload: b"hi".as_slice().into(),
        };
        let bytes = message.to_bytes(3);
        assert_eq!(bytes.len(), message.len());
        assert_eq!(Message::parse(&bytes), Ok((message, 3)));
    }

    #[test]
    fn hostile_messages_are_typed_errors() {
        let good = publication(false, &[1, 2], "chat", b"payload").to_bytes();
        for end in 0..good.len() - b"payload".len() {
            assert!(matches!(parse(&good[..end]), Err(TopicError::Truncated(_))), "{end}");
        }
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            parse(&bytes)
        };
        assert_eq!(with(0, 2), Err(TopicError::Value { offset: 0, value: 2 }));
        assert_eq!(with(1, 1), Err(TopicError::Value { offset: 1, value: 1 }));
        // What only the server says.
        assert_eq!(with(2, 2), Err(TopicError::Value { offset: 2, value: 2 }));
        assert_eq!(with(3, 0), Err(TopicError::Topic));
        assert_eq!(with(3, 65), Err(TopicError::Truncated(good.len())));
        assert_eq!(with(4, 17), Err(TopicError::Recipients(17)));
        assert_eq!(with(HEADER_BYTES + 8, 0xff), Err(TopicError::Topic));
        assert_eq!(parse(&publication(false, &[], EVERY_TOPIC, b"").to_bytes()), Err(TopicError::Topic));
        for (lossy, limit) in [(true, MAX_LOSSY_PAYLOAD_BYTES), (false, MAX_PAYLOAD_BYTES)] {
            assert!(parse(&publication(lossy, &[], "t", &vec![0; limit]).to_bytes()).is_ok());
            let found = limit + 1;
            let large = parse(&publication(lossy, &[], "t", &vec![0; found]).to_bytes());
            assert_eq!(large, Err(TopicError::TooLarge { found, limit }));
        }
    }
}
