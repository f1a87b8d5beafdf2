//! What passes between the home of a room and the shard of a peer: orders one way, facts the other. On one shard both are
//! calls; between shards they are messages.

use std::sync::Arc;

use antiphon_base::{ParticipantId, Source};
use antiphon_room::{Feed, SlotId};
use antiphon_wire::control::{ClientMessage, LeaveReason, ServerMessage};
use antiphon_wire::topic;

/// What the room wants done with a peer.
#[derive(Debug)]
pub(crate) enum Order {
    /// Send a control message.
    Say(Box<ServerMessage>),
    /// Send a message on a topic.
    Data(Arc<topic::Message>),
    /// What a slot shall show.
    Route { slot: SlotId, feed: Option<Feed> },
    /// What it would be sent if nothing limited it, in bits per second.
    Demand(u64),
    /// Ask it for a keyframe.
    Keyframe { source: Source, layer: u8 },
    /// It is out of the room.
    Close(LeaveReason),
    /// Another connection has taken its place: end it without a word.
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
    Request(ClientMessage),
    /// It sent a message on a topic.
    Data(Result<topic::Publication, topic::TopicError>),
    /// How much it can receive, in bits per second.
    Bandwidth(u64),
    /// What a slot shows now.
    Switched { slot: SlotId, feed: Option<Feed>, rtp_time: u32 },
    /// The connection is gone without good-bye.
    Lost { id: ParticipantId, stats: serde_json::Value },
}
