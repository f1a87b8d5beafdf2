//! What passes between the home of a room and the shards of its peers: orders one way, facts the other. On one shard both
//! are calls; between shards they are messages, and packets follow beside them.

use std::sync::Arc;

use antiphon_base::{ParticipantId, ParticipantKey, RoomName, Source};
use antiphon_room::{Bandwidth, Feed, KeyframeCause, SlotId};
use antiphon_wire::control::{ClientMessage, LeaveReason, ServerMessage};
use antiphon_wire::rtp::Packet;
use antiphon_wire::topic;

use crate::command::Reply;
use crate::peer::Entry;
use crate::restart::{IceError, IceRequest, IceUpdate};
use crate::status::ParticipantStatus;
use crate::table::Observed;

/// A room on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RoomId {
    /// The shard on which its engine is.
    pub(crate) home: u16,
    /// Used once on that shard: a new room of the same name has another.
    pub(crate) serial: u64,
}

/// One connection of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    pub(crate) room: RoomId,
    pub(crate) key: ParticipantKey,
    /// Counts the connections of a room; a later one has a higher number.
    pub(crate) connection: u32,
}

/// What the room wants done with a peer.
#[derive(Debug)]
pub(crate) enum Order {
    /// Send a control message.
    Say(Box<ServerMessage>),
    /// Send a message on a topic.
    Data(Arc<topic::Message>),
    /// What a slot shall show, and up to which temporal layer (`None`: all).
    Route { slot: SlotId, feed: Option<Feed>, temporal: Option<u8> },
    /// What it would be sent if nothing limited it, in bits per second.
    Demand(u64),
    /// It shall send no more than this, in bits per second; `None`: as much as it likes.
    Bound(Option<u64>),
    /// Ask it for a keyframe.
    Keyframe { source: Source, layer: u8 },
    /// It is out of the room.
    Close(LeaveReason),
    /// Another connection has taken its place, or none shall: end it without a word.
    Replace,
}

/// What happened on a peer's connection.
#[derive(Debug)]
pub(crate) enum Fact {
    /// Media can flow.
    Connected { has_control: bool },
    /// The control channel is open.
    ControlOpen,
    /// A request on the control channel.
    Request(Box<ClientMessage>),
    /// It sent a message on a topic.
    Data(Result<topic::Publication, topic::TopicError>),
    /// How much it can receive.
    Bandwidth(Bandwidth),
    /// What a slot shows now.
    Switched { slot: SlotId, feed: Option<Feed>, rtp_time: u32 },
    /// A packet that it sent tells something.
    Observed { source: Source, layer: u8, observed: Observed },
    /// A layer that it sent has stopped while others of its track go on.
    Stopped { source: Source, layer: u8 },
    /// The connection is gone without good-bye.
    Lost { id: ParticipantId, stats: serde_json::Value },
}

/// What one shard says to another. In order, but for `Relay`, `Interest` and `Want`, which come last as they stand then; none is lost.
pub(crate) enum Message {
    /// From the home: a peer that was prepared for your port.
    Enter { name: RoomName, who: Who, entry: Box<Entry> },
    /// From the home.
    Order { who: Who, order: Order },
    /// From the home: packets of a feed that is published on your shard go to that one, too, or do not any more.
    Relay { room: RoomId, feed: Feed, to: u16, on: bool },
    /// From the home: a participant begins anew on this connection.
    Restart(Who),
    /// From the home: a participant has gone.
    Forget { room: RoomId, key: ParticipantKey },
    /// From the home: the room has ended by a fault.
    End(RoomId),
    /// From the home: complete this with the connection's counts, and answer.
    Look { who: Who, status: Box<ParticipantStatus>, reply: Reply<Option<ParticipantStatus>> },
    /// From the home: what the peer says of its ICE session; answer.
    Ice { who: Who, request: Box<IceRequest>, reply: Reply<Result<IceUpdate, IceError>> },
    /// From the home: begin a dump.
    Dump { who: Who, reply: Reply<Option<async_channel::Receiver<Vec<u8>>>> },
    /// To the home.
    Fact { who: Who, fact: Fact },
    /// To the home: so many here need a keyframe.
    Want { room: RoomId, feed: Feed, cause: KeyframeCause, count: u16 },
    /// To the home: somebody here gets this feed, or nobody any more.
    Interest { room: RoomId, feed: Feed, on: bool },
    /// To a home of rooms that have peers here: the share of a core that this shard used over the last second, in thousandths.
    Busy(u64),
    /// To the home: the last counts of one that was closed.
    Gone { name: RoomName, key: ParticipantKey, stats: serde_json::Value },
    /// To the home: the room has panicked here.
    Failed(RoomId),
}

impl Message {
    /// It may be lost: a message on a topic.
    pub(crate) fn is_data(&self) -> bool {
        matches!(self, Self::Order { order: Order::Data(_), .. } | Self::Fact { fact: Fact::Data(_), .. })
    }

    /// The connection whose budget it takes. The last message about one takes none.
    pub(crate) fn counts_for(&self) -> Option<Who> {
        match self {
            Self::Order { order: Order::Close(_) | Order::Replace, .. }
            | Self::Fact { fact: Fact::Lost { .. }, .. } => None,
            Self::Order { who, .. }
            | Self::Fact { who, .. }
            | Self::Enter { who, .. }
            | Self::Look { who, .. }
            | Self::Ice { who, .. }
            | Self::Dump { who, .. } => Some(*who),
            Self::Relay { .. }
            | Self::Restart(_)
            | Self::Forget { .. }
            | Self::End(_)
            | Self::Want { .. }
            | Self::Interest { .. }
            | Self::Busy(_)
            | Self::Gone { .. }
            | Self::Failed(_) => None,
        }
    }
}

/// What may be lost on the way.
#[derive(Clone)]
pub(crate) enum Relayed {
    /// A packet that this connection has sent.
    Packet { who: Who, packet: Arc<Packet> },
    /// To the home: how loud a packet was, where nothing else is to be said of it.
    Level { who: Who, source: Source, level: u8, voice: bool },
}
