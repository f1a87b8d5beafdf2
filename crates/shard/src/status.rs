//! What can be seen of the shards from outside: status of a participant, metrics.

use antiphon_base::{ParticipantId, ParticipantKey};
use antiphon_wire::control::{LeaveReason, Presence};
use serde::Serialize;

/// State of a participant's resource (`GET`), kept for a while after it has gone.
#[derive(Debug, Clone, Serialize)]
pub struct ParticipantStatus {
    /// Its id.
    pub id: ParticipantId,
    /// Its number in the room.
    pub key: ParticipantKey,
    /// `new`, `connected`, `reconnecting`, `gone`.
    pub state: &'static str,
    /// Presence while in the room.
    pub presence: Option<Presence>,
    /// Why it went.
    pub reason: Option<LeaveReason>,
    /// Counts and the latest events, as JSON; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<serde_json::Value>,
}

/// Counters of one shard since its start. All grow; rates are the reader's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ShardMetrics {
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams from nobody we know.
    pub datagrams_unknown: u64,
    /// Datagrams the socket would not take.
    pub send_dropped: u64,
    /// TCP connections of peers now.
    pub tcp_connections: u64,
    /// TCP connections accepted.
    pub tcp_accepted: u64,
    /// TCP connections ended because of a bound.
    pub tcp_refused: u64,
    /// TCP connections ended because nobody we know spoke by them.
    pub tcp_strangers: u64,
    /// TCP connections given to the shard that their peer is on.
    pub tcp_handed: u64,
    /// Packets that did not leave by TCP because the peer reads too slowly or has gone.
    pub tcp_dropped: u64,
    /// Media packets that came in.
    pub packets_in: u64,
    /// Media packets forwarded to subscribers.
    pub packets_forwarded: u64,
    /// Media packets of unwanted layers, dropped at ingress.
    pub packets_unwanted: u64,
    /// Packets dropped because an attachment was slow.
    pub attach_dropped: u64,
    /// Commands refused because the inbox was full.
    pub inbox_dropped: u64,
    /// Keyframes asked of publishers.
    pub keyframe_requests: u64,
    /// Rooms ended because of a panic in them.
    pub room_panics: u64,
    /// WebRTC peers now.
    pub peers: u64,
    /// Rooms now.
    pub rooms: u64,
    /// Attachments now.
    pub attachments: u64,
    /// Share of time not waiting, over the last second, in thousandths.
    pub busy_permille: u64,
}

/// All shards.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Metrics {
    /// One each.
    pub shards: Vec<ShardMetrics>,
}

/// A room and who is in it.
#[derive(Debug, Clone, Serialize)]
pub struct RoomStatus {
    /// Its name.
    pub name: antiphon_base::RoomName,
    /// Everybody in the roster.
    pub participants: Vec<antiphon_wire::control::ParticipantInfo>,
}
