//! A room on a shard: its forwarding table, and, where the room is at home, its engine.

use std::sync::Arc;
use std::time::Instant;

use antiphon_base::RoomName;
use antiphon_room::Feed;
use antiphon_wire::rtp::Packet;

use crate::home::Home;
use crate::peer::Peer;
use crate::table::{Observed, Routed, Table};

/// A room on a shard.
pub(crate) struct Host {
    pub(crate) name: RoomName,
    pub(crate) table: Table,
    pub(crate) home: Option<Box<Home>>,
}

impl Host {
    pub(crate) fn new(name: RoomName, home: Home) -> Self {
        Self { name, table: Table::default(), home: Some(Box::new(home)) }
    }

    /// Looks at a packet of a publisher on this shard, and tells the engine what it must know of it.
    pub(crate) fn observe(&mut self, now: Instant, packet: &Packet, peers: &[Option<Box<Peer>>]) -> Observed {
        let observed = self.table.observe(now, packet, peers);
        if let Some(home) = self.home.as_deref_mut() {
            home.observed(now, Feed { track: packet.track, layer: packet.layer }, &observed);
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
