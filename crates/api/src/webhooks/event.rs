//! An event and its JSON: `type`, `timestamp` and `data`, as Standard Webhooks wants payloads.

use antiphon_record::{Happened, Why};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::id;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Fragments of a stream became durable.
    StreamPersisted,
    /// A contact is streamed from now on.
    MediaStreamingStarted,
    /// It is not any more, and its last fragment is stored.
    MediaStreamingStopped,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] =
        [Self::StreamPersisted, Self::MediaStreamingStarted, Self::MediaStreamingStopped];

    /// The `type` of the payload.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StreamPersisted => "stream.persisted",
            Self::MediaStreamingStarted => "media_streaming.started",
            Self::MediaStreamingStopped => "media_streaming.stopped",
        }
    }
}

/// Something to be told.
pub(super) struct Event {
    pub(super) kind: Kind,
    /// The same in each attempt and at each target: by it receivers tell what they have already.
    pub(super) id: String,
    at_ms: u64,
    data: Value,
}

impl Event {
    pub(super) fn new(kind: Kind, at_ms: u64, data: Value) -> Self {
        Self { kind, id: format!("msg_{}", id::secret()), at_ms, data }
    }

    pub(super) fn body(&self) -> Bytes {
        let at = antiphon_kvs::to_iso_8601_ms(self.at_ms);
        json!({ "type": self.kind.as_str(), "timestamp": at, "data": self.data }).to_string().into()
    }
}

/// A start or stop, in the spellings of contact records.
pub(super) fn of_contact(happened: &Happened, now_ms: u64) -> Event {
    let history = happened.history();
    let mut data = history.attributes();
    if let Some(room) = &history.room {
        data["Room"] = room.to_string().into();
    }
    let kind = match happened {
        Happened::Started(_) => Kind::MediaStreamingStarted,
        Happened::Stopped(_, why) => {
            data["Reason"] = match why {
                Why::Asked => "stopped",
                Why::ContactEnded => "contact_ended",
            }
            .into();
            Kind::MediaStreamingStopped
        }
    };
    Event::new(kind, now_ms, data)
}
