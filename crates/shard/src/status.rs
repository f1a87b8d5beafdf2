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
    /// Media packets that came in, from peers of this shard (each decrypted once) and attachments.
    pub packets_in: u64,
    /// Media packets handed to other shards, for their subscribers.
    pub packets_relayed: u64,
    /// Media packets not handed over because another shard did not keep up.
    pub relay_dropped: u64,
    /// Peers dropped because what was to be said about them between shards did not fit.
    pub link_dropped: u64,
    /// Media packets forwarded to subscribers.
    pub packets_forwarded: u64,
    /// Media packets of unwanted layers, dropped at ingress.
    pub packets_unwanted: u64,
    /// Packets dropped because an attachment was slow.
    pub attach_dropped: u64,
    /// Messages on topics lost because their receiver was slow.
    pub data_dropped: u64,
    /// Events lost because players did not read them.
    pub player_events_dropped: u64,
    /// Commands refused because the inbox was full.
    pub inbox_dropped: u64,
    /// Keyframes asked of publishers.
    pub keyframe_requests: u64,
    /// ICE restarts that peers asked for.
    pub ice_restarts: u64,
    /// Rooms ended because of a panic in them.
    pub room_panics: u64,
    /// WebRTC peers now.
    pub peers: u64,
    /// Rooms at home here now.
    pub rooms: u64,
    /// Rooms at home on other shards with peers here now.
    pub branches: u64,
    /// Attachments now.
    pub attachments: u64,
    /// Share of time not waiting, over the last second, in thousandths.
    pub busy_permille: u64,
}

impl std::iter::Sum for ShardMetrics {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            datagrams_in: a.datagrams_in + b.datagrams_in,
            datagrams_out: a.datagrams_out + b.datagrams_out,
            datagrams_unknown: a.datagrams_unknown + b.datagrams_unknown,
            send_dropped: a.send_dropped + b.send_dropped,
            tcp_connections: a.tcp_connections + b.tcp_connections,
            tcp_accepted: a.tcp_accepted + b.tcp_accepted,
            tcp_refused: a.tcp_refused + b.tcp_refused,
            tcp_strangers: a.tcp_strangers + b.tcp_strangers,
            tcp_handed: a.tcp_handed + b.tcp_handed,
            tcp_dropped: a.tcp_dropped + b.tcp_dropped,
            packets_in: a.packets_in + b.packets_in,
            packets_relayed: a.packets_relayed + b.packets_relayed,
            relay_dropped: a.relay_dropped + b.relay_dropped,
            link_dropped: a.link_dropped + b.link_dropped,
            packets_forwarded: a.packets_forwarded + b.packets_forwarded,
            packets_unwanted: a.packets_unwanted + b.packets_unwanted,
            attach_dropped: a.attach_dropped + b.attach_dropped,
            data_dropped: a.data_dropped + b.data_dropped,
            player_events_dropped: a.player_events_dropped + b.player_events_dropped,
            inbox_dropped: a.inbox_dropped + b.inbox_dropped,
            ice_restarts: a.ice_restarts + b.ice_restarts,
            keyframe_requests: a.keyframe_requests + b.keyframe_requests,
            room_panics: a.room_panics + b.room_panics,
            peers: a.peers + b.peers,
            rooms: a.rooms + b.rooms,
            branches: a.branches + b.branches,
            attachments: a.attachments + b.attachments,
            busy_permille: a.busy_permille.max(b.busy_permille),
        })
    }
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
