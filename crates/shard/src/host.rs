//! A room on a shard: its forwarding table, and, where the room is at home, its engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use antiphon_base::{ParticipantKey, RoomName};
use antiphon_wire::rtp::Packet;

use crate::home::Home;
use crate::peer::Peer;
use crate::seam::RoomId;
use crate::spatial::feed_of;
use crate::table::{Observed, Routed, Table};

/// A room on a shard.
pub(crate) struct Host {
    pub(crate) id: RoomId,
    pub(crate) name: RoomName,
    pub(crate) table: Table,
    /// `None`: the room has its home on another shard; this is a branch of it.
    pub(crate) home: Option<Box<Home>>,
    /// Places of those whose connections are here.
    pub(crate) seats: HashMap<ParticipantKey, usize>,
    /// Peers here, those included that are on their way out.
    pub(crate) peers: usize,
}

impl Host {
    pub(crate) fn new(id: RoomId, name: RoomName, home: Option<Home>) -> Self {
        let (table, home) = (Table::default(), home.map(Box::new));
        Self { id, name, table, home, seats: HashMap::new(), peers: 0 }
    }

    /// A branch that nobody needs any more.
    pub(crate) fn is_deserted(&self) -> bool {
        self.home.is_none() && self.peers == 0
    }

    /// Looks at a packet of a publisher on this shard, and tells the engine what it must know of it.
    pub(crate) fn observe(&mut self, now: Instant, packet: &Packet, peers: &[Option<Box<Peer>>]) -> Observed {
        let observed = self.table.observe(now, packet, peers);
        if let Some(home) = self.home.as_deref_mut() {
            home.observed(now, feed_of(packet), &observed);
        }
        observed
    }

    /// Gives a packet to everybody who gets it. How many attachments were too slow for it.
    pub(crate) fn route(
        &mut self,
        packet: &Arc<Packet>,
        peers: &mut [Option<Box<Peer>>],
        routed: &mut Routed,
    ) -> u64 {
        self.table.route(packet, peers, routed);
        let Some(home) = self.home.as_deref() else { return 0 };
        routed.taps.iter().map(|key| u64::from(!home.hand(*key, packet))).sum()
    }

    /// The engine may have outputs.
    pub(crate) fn is_dirty(&self) -> bool {
        self.home.as_deref().is_some_and(|home| home.dirty)
    }
}
