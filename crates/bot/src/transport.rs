//! The two ends between a session and whatever carries its messages (a WebSocket in `api`, a program in this process).

use std::sync::Arc;

use antiphon_base::ErrorKind;
use antiphon_wire::bot::{BotEvent, BotMessage};
use antiphon_wire::frame::Header;

/// Messages in flight each way. Few: what waits here can no longer be replaced by something newer.
pub const IN_FLIGHT: usize = 4;

/// A message from the bot.
#[derive(Debug, Clone)]
pub enum Inbound {
    /// A text message: a [`BotMessage`] as JSON.
    Text(String),
    /// A binary message: one frame (`docs/reference/frame-protocol.md`).
    Binary(bytes::Bytes),
}

impl Inbound {
    /// A message as text.
    pub fn message(message: &BotMessage) -> Self {
        Self::Text(serde_json::to_string(message).expect("no map with non-text keys, no fallible Serialize"))
    }

    /// A frame: header and payload copied into one message.
    pub fn frame(header: &Header, payload: &[u8]) -> Self {
        Self::Binary(header.to_message(payload).into())
    }
}

/// A message to the bot.
#[derive(Debug, Clone)]
pub enum Outbound {
    /// A text message: a [`BotEvent`] as JSON.
    Text(String),
    /// A binary message: `head` followed by `payload`, which is shared by all bots that get the same.
    Binary {
        /// Frame header and speakers.
        head: Vec<u8>,
        /// The medium.
        payload: Arc<[u8]>,
    },
    /// The last message: close the connection with this code and reason.
    Close {
        /// A WebSocket close code (RFC 6455, 7.4): see [`close_code`].
        code: u16,
        /// For people; at most 120 bytes.
        reason: String,
    },
}

impl Outbound {
    /// The event of a text message.
    pub fn event(&self) -> Option<BotEvent> {
        match self {
            Self::Text(text) => serde_json::from_str(text).ok(),
            Self::Binary { .. } | Self::Close { .. } => None,
        }
    }
}

/// A session's end of a connection. The other side closes `inbound` when its peer is gone.
pub struct Transport {
    /// From the bot.
    pub inbound: async_channel::Receiver<Inbound>,
    /// To the bot.
    pub outbound: async_channel::Sender<Outbound>,
}

/// The carrier's end of a connection.
pub struct Carrier {
    /// From the bot to the session.
    pub inbound: async_channel::Sender<Inbound>,
    /// From the session to the bot; ends after [`Outbound::Close`].
    pub outbound: async_channel::Receiver<Outbound>,
}

/// A connected pair with [`IN_FLIGHT`] messages each way.
pub fn connection() -> (Transport, Carrier) {
    let (inbound_sender, inbound) = async_channel::bounded(IN_FLIGHT);
    let (outbound, outbound_receiver) = async_channel::bounded(IN_FLIGHT);
    (Transport { inbound, outbound }, Carrier { inbound: inbound_sender, outbound: outbound_receiver })
}

/// The code a connection closes with after an error of this kind.
pub fn close_code(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::BadRequest | ErrorKind::BadSdp | ErrorKind::NoCommonCodec => 4400,
        ErrorKind::Unauthenticated | ErrorKind::TokenExpired => 4401,
        ErrorKind::Forbidden | ErrorKind::Disabled => 4403,
        ErrorKind::NotFound => 4404,
        ErrorKind::Conflict | ErrorKind::AlreadyRunning | ErrorKind::NoDataRetention => 4409,
        ErrorKind::TooLarge => 4413,
        ErrorKind::UnsupportedCodec => 4415,
        ErrorKind::RateLimited => 4429,
        ErrorKind::Internal => 4500,
        ErrorKind::RoomFull | ErrorKind::AtLimit | ErrorKind::Overloaded | ErrorKind::Draining => 4503,
    }
}

/// The session did not say `start` in time, or did not read its events.
pub const CLOSE_TOO_SLOW: u16 = 4408;
/// The end that was asked for.
pub const CLOSE_NORMAL: u16 = 1000;
