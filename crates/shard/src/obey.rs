//! Orders of a room, done to a peer on this shard.

use std::time::Instant;

use antiphon_base::Source;
use antiphon_room::{Feed, KeyframeCause, SlotId};
use antiphon_wire::control::LeaveReason;

use crate::core::{CLOSE_GRACE, Core};
use crate::outputs::gone;
use crate::seam::{Fact, Message, Order};

impl Core {
    /// Does to a peer here what its room says.
    pub(crate) fn obey(&mut self, now: Instant, place: usize, order: Order) {
        match order {
            Order::Say(message) => self.say(now, place, &message),
            Order::Data(message) => {
                if let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) {
                    self.metrics.data_dropped += u64::from(!peer.tell(message));
                    self.touch(place);
                }
            }
            Order::Route { slot, feed, temporal } => self.set_route(now, place, slot, (feed, temporal)),
            Order::Demand(bps) => {
                if let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) {
                    peer.connection.set_demand(bps);
                }
            }
            Order::Bound(bps) => {
                if let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) {
                    peer.connection.bound(now, bps);
                    self.touch(place);
                }
            }
            Order::Keyframe { source, layer } => self.ask_keyframe(place, source, layer),
            Order::Close(reason) => self.close(now, place, reason),
            Order::Replace => self.take_down(now, place),
        }
    }

    fn set_route(
        &mut self,
        now: Instant,
        place: usize,
        slot: SlotId,
        (feed, temporal): (Option<Feed>, Option<u8>),
    ) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        let room = peer.room;
        let Some(target) = peer.slots.get_mut(usize::from(slot.0)) else { return };
        let emptied = target.want(feed);
        target.limit_temporal(temporal);
        // Who is not connected yet asks when it is.
        let waits = target.needs_keyframe().filter(|_| peer.connected);
        self.relisten(now, room, place, slot);
        self.settle_interests(now, room);
        if let Some(feed) = waits {
            self.want_keyframe(now, room, feed, KeyframeCause::Start);
        }
        if emptied {
            self.tell(now, place, Fact::Switched { slot, feed: None, rtp_time: 0 });
        }
    }

    fn ask_keyframe(&mut self, place: usize, source: Source, layer: u8) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        if peer.connection.request_keyframe(source, layer) {
            self.metrics.keyframe_requests += 1;
            self.touch(place);
        }
    }

    /// The participant is out of the room: its connection ends when it has had time to read why.
    fn close(&mut self, now: Instant, place: usize, reason: LeaveReason) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        peer.closing = Some(now + CLOSE_GRACE);
        peer.note(now, format!("left: {reason:?}"));
        let (room, key, id) = (peer.room, peer.who.key, peer.id.clone());
        let stats = peer.stats(now);
        self.touch(place);
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        host.table.forget_peer(place);
        let (name, home) = (host.name.clone(), host.id.home);
        if host.home.is_some() {
            self.remember(name, gone(id, key, reason, Some(stats)));
        } else {
            self.links.send_always(home, Message::Gone { name, key, stats });
        }
        self.mark(room);
    }
}
