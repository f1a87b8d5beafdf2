//! How much shards hold now, and what bounds it: what a test sees of their memory. Counted when it is asked for; nothing of it is kept
//! on the way of a packet.
//!
//! Not counted is what has its size from the beginning: what a slot knows of numbers (`antiphon_wire::rtp::rewrite`), and the memory that
//! rings and queues keep for later.

use std::iter::Sum;
use std::ops::Add;

/// Bounds of one owner each, as the code has them.
pub mod bounds {
    use antiphon_room::slot;

    use crate::{attach, connection, core, egress, link, peer, stream, topics};

    /// Addresses from which one connection may send.
    pub const ADDRESSES: usize = peer::MAX_ADDRESSES;
    /// States of those who have gone, of a shard.
    pub const GONE: usize = core::MAX_GONE;
    /// Packets that wait for a pace, of a subscriber.
    pub const QUEUED: usize = egress::MAX_QUEUE;
    /// Numbers that were asked for again, of a subscriber.
    pub const WANTED: usize = egress::MAX_QUEUE;
    /// Packets remembered to be sent again, of a receive line.
    pub const RESENDABLE: usize = egress::MAX_HISTORY;
    /// Packets repeated by the next one (RED), of a receive line.
    pub const REPEATED: usize = egress::MAX_REPEATED;
    /// Packets of which transport-wide feedback is to tell, of a subscriber.
    pub const UNANSWERED: usize = egress::MAX_UNANSWERED;
    /// Packets that wait for a switch, of a slot.
    pub const HELD: usize = slot::MAX_HELD + slot::MAX_EARLY;
    /// Packets that wait for the structure of their dependency descriptors, of a source layer.
    pub const EARLY: usize = stream::MAX_EARLY;
    /// What has happened and was not looked at, of a connection.
    pub const HAPPENINGS: usize = connection::MAX_EVENTS;
    /// Messages that wait for room in the channels of a peer.
    pub const MESSAGES: usize = peer::MAX_CONTROL_QUEUE + topics::MAX_RELIABLE + topics::MAX_LOSSY;
    /// Commands that wait for a shard.
    pub const COMMANDS: usize = attach::COMMAND_RING;
    /// Messages to another shard about one peer that wait for room in the ring.
    pub const WAITING: usize = link::PEER_BUDGET as usize;
    /// Messages in the ring from one shard to another.
    pub const RING_MESSAGES: usize = link::MESSAGE_RING;
    /// Packets in the ring from one shard to another, or before it.
    pub const RING_MEDIA: usize = link::MEDIA_RING;
    /// Bytes of the buffer of what a shard sends. It is sent when it holds `core::ARENA_BYTES`; then one subscriber may have added all
    /// that waits for it and all that it asked for again. A vector that grows doubles.
    pub const ARENA_BYTES: usize =
        2 * (core::ARENA_BYTES + (QUEUED + WANTED + egress::MAX_PADDING) * DATAGRAM_BYTES);
    /// Bytes of a datagram, at most (Ethernet).
    const DATAGRAM_BYTES: usize = 1_500;
}

/// Of many owners of one kind: what all have, and what the one has that has most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All together.
    pub all: usize,
    /// The one with most.
    pub most: usize,
}

impl Count {
    /// Counts one owner more, who has so many.
    pub(crate) fn add(&mut self, count: usize) {
        *self = *self + Self { all: count, most: count };
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { all: self.all + other.all, most: self.most.max(other.most) }
    }
}

/// How much a shard holds now, or several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Connections.
    pub peers: usize,
    /// Addresses from which they may send.
    pub addresses: usize,
    /// User fragments by which they are found.
    pub ufrags: usize,
    /// Rooms.
    pub rooms: usize,
    /// Participants of all rooms, lost ones included.
    pub members: usize,
    /// Layers of tracks that rooms know of.
    pub feeds: usize,
    /// Slots and taps that get or await them.
    pub routes: usize,
    /// Deadlines, those that nobody means any more included.
    pub timers: usize,
    /// States of gone participants.
    pub gone: usize,
    /// Packets that wait for a pace, by subscriber.
    pub queued: Count,
    /// Numbers that were asked for again, by subscriber.
    pub wanted: Count,
    /// Packets remembered to be sent again, by receive line.
    pub resendable: Count,
    /// Packets that the next one repeats (RED), by receive line.
    pub repeated: Count,
    /// Packets of which transport-wide feedback is to tell, by subscriber.
    pub unanswered: Count,
    /// Packets that wait for a switch, by slot.
    pub held: Count,
    /// Packets that wait for the structure of their dependency descriptors, by source layer of a connection.
    pub early: Count,
    /// What has happened and was not looked at, by connection.
    pub happenings: Count,
    /// Messages that wait for room in a channel, by peer.
    pub messages: Count,
    /// Commands that wait, by shard.
    pub commands: Count,
    /// Messages that wait for room in a ring: all, and the most that are about one peer.
    pub waiting: Count,
    /// Messages, by ring between shards.
    pub ring_messages: Count,
    /// Packets, by ring between shards and queue before one.
    pub ring_media: Count,
    /// Messages that are under way by [`crate::Lag`], by ordered pair of shards.
    pub flying_messages: Count,
    /// Packets, likewise.
    pub flying_media: Count,
    /// Datagrams that the round at hand has not sent yet, by shard.
    pub unsent: Count,
    /// Bytes of the buffer for what is sent, by shard: what it takes, not what is in it. It stays for the next round.
    pub arena_bytes: Count,
}

impl Add for Holdings {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            peers: self.peers + other.peers,
            addresses: self.addresses + other.addresses,
            ufrags: self.ufrags + other.ufrags,
            rooms: self.rooms + other.rooms,
            members: self.members + other.members,
            feeds: self.feeds + other.feeds,
            routes: self.routes + other.routes,
            timers: self.timers + other.timers,
            gone: self.gone + other.gone,
            queued: self.queued + other.queued,
            wanted: self.wanted + other.wanted,
            resendable: self.resendable + other.resendable,
            repeated: self.repeated + other.repeated,
            unanswered: self.unanswered + other.unanswered,
            held: self.held + other.held,
            early: self.early + other.early,
            happenings: self.happenings + other.happenings,
            messages: self.messages + other.messages,
            commands: self.commands + other.commands,
            waiting: self.waiting + other.waiting,
            ring_messages: self.ring_messages + other.ring_messages,
            ring_media: self.ring_media + other.ring_media,
            flying_messages: self.flying_messages + other.flying_messages,
            flying_media: self.flying_media + other.flying_media,
            unsent: self.unsent + other.unsent,
            arena_bytes: self.arena_bytes + other.arena_bytes,
        }
    }
}

impl Sum for Holdings {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
