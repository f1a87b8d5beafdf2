//! What can be asked of a shard from other threads.

use std::time::Duration;

use antiphon_base::{ParticipantId, ParticipantKey, RoomName};
use antiphon_room::SelectError;
use antiphon_wire::control::LeaveReason;
use antiphon_wire::whep::{Event, Selection};
use async_channel::Receiver;

use crate::attach::{AttachCommand, AttachRequest, Attachment};
use crate::join::{JoinError, Joined, Prepared};
use crate::restart::{IceError, IceRequest, IceUpdate};
use crate::status::{ParticipantStatus, RoomStatus};
use crate::tcp::Handed;
use crate::watch::WatchError;

/// Where an answer goes: a ring of one.
pub(crate) type Reply<T> = async_channel::Sender<T>;

/// A command to a shard.
pub(crate) enum Command {
    /// A negotiated peer enters.
    Join { prepared: Box<Prepared>, reply: Reply<Result<Joined, JoinError>> },
    /// A program in this process enters.
    Attach { room: RoomName, request: AttachRequest, reply: Reply<Result<Attachment, JoinError>> },
    /// An attachment says something.
    Attached { room: RoomName, key: ParticipantKey, command: AttachCommand },
    /// State of a participant.
    Status { room: RoomName, id: ParticipantId, detail: bool, reply: Reply<Option<ParticipantStatus>> },
    /// Let somebody go.
    Remove { room: RoomName, id: ParticipantId, reason: LeaveReason, reply: Reply<bool> },
    /// Put somebody on hold, or take it back.
    Hold { room: RoomName, id: ParticipantId, held: bool, reply: Reply<bool> },
    /// Somebody says something of its ICE session.
    Ice { room: RoomName, id: ParticipantId, request: IceRequest, reply: Reply<Result<IceUpdate, IceError>> },
    /// A player chooses a layer.
    Select { room: RoomName, id: ParticipantId, selection: Selection, reply: Reply<Result<(), SelectError>> },
    /// A player wants to be told what happens to what it plays.
    Watch { room: RoomName, id: ParticipantId, reply: Reply<Result<Receiver<Event>, WatchError>> },
    /// Begin a dump of somebody's decrypted RTP.
    Dump { room: RoomName, id: ParticipantId, reply: Reply<Option<async_channel::Receiver<Vec<u8>>>> },
    /// All rooms.
    Rooms { reply: Reply<Vec<RoomStatus>> },
    /// Tell everybody to go elsewhere; refuse joins.
    Drain { deadline: Duration },
    /// A TCP connection of one of its peers, accepted by another shard.
    Pipe(Box<Handed>),
    /// End the thread.
    Stop,
}
