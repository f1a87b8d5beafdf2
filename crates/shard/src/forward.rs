//! The way of a packet on a shard: observed where it came in, given to slots and taps here, and to other shards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use antiphon_room::{Feed, SlotId};
use antiphon_wire::rtp::Packet;

use crate::core::Core;
use crate::seam::{Fact, Relayed, Who};
use crate::spatial::feed_of;
use crate::table::{Arrival, Observed, Switched};

impl Core {
    /// Gives a packet that a participant has sent here to whoever gets it.
    pub(crate) fn route(&mut self, now: Instant, room: usize, who: Who, packet: Packet) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let (is_home, peers) = (host.home.is_some(), &self.peers);
        let observed = catch_unwind(AssertUnwindSafe(|| host.observe(now, &packet, peers)));
        match observed {
            // The room decides first who gets it: the first packets of a voice and the first key frame are not lost.
            Ok(observed) if is_home && observed.new => self.pump(now, room),
            Ok(_) if is_home => {}
            Ok(observed) => self.report(now, room, who, &packet, observed),
            Err(_) => return self.drop_room(now, room),
        }
        self.forward(now, room, &Arc::new(packet), Some(who));
    }

    /// Tells the home of a room what it must know of a packet.
    fn report(&mut self, now: Instant, room: usize, who: Who, packet: &Packet, observed: Observed) {
        let (source, layer) = (packet.track.source, feed_of(packet).layer);
        if observed.is_more_than_level() {
            let seat = self.hosts.get(room).and_then(Option::as_deref).and_then(|h| h.seats.get(&who.key));
            if let Some(&place) = seat {
                self.tell(now, place, Fact::Observed { source, layer, observed });
            }
        } else if let Some(heard) = observed.level {
            let (level, voice) = (heard.level, heard.voice);
            // One level more or less is not noticed.
            self.links.relay(who.room.home, Relayed::Level { who, source, level, voice });
        }
    }

    /// Gives an observed packet to everybody who gets it; if it came in here, from `who`, to other shards, too.
    pub(crate) fn forward(&mut self, now: Instant, room: usize, packet: &Arc<Packet>, who: Option<Who>) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let (peers, routed) = (&mut self.peers, &mut self.routed);
        let result = catch_unwind(AssertUnwindSafe(|| host.route(packet, peers, routed)));
        let (Ok(slow), dirty) = (result, host.is_dirty()) else { return self.drop_room(now, room) };
        self.metrics.packets_forwarded += self.routed.forwarded;
        self.metrics.packets_unwanted += u64::from(self.routed.unwanted);
        self.metrics.attach_dropped += slow;
        for to in self.routed.relays.drain(..) {
            let Some(who) = who else { break };
            let taken = self.links.relay(to, Relayed::Packet { who, packet: packet.clone() });
            self.metrics.packets_relayed += u64::from(taken);
            self.metrics.relay_dropped += u64::from(!taken);
        }
        for i in 0..self.routed.touched.len() {
            self.touch(self.routed.touched[i]);
        }
        if dirty {
            self.mark(room);
        }
        let mut switched = std::mem::take(&mut self.routed.switched);
        for Switched { peer, slot, feed, rtp_time } in switched.drain(..) {
            self.tell(now, peer, Fact::Switched { slot, feed, rtp_time });
            self.relisten(now, room, peer, slot);
        }
        self.routed.switched = switched;
    }

    /// Something came from another shard that may as well have been lost.
    pub(crate) fn handle_relayed(&mut self, now: Instant, from: u16, relayed: Relayed) {
        match relayed {
            Relayed::Packet { who, packet } => {
                let Some(&room) = self.by_id.get(&who.room) else { return };
                let Some(host) = self.hosts.get(room).and_then(Option::as_deref) else { return };
                match host.table.arrival(&packet, who.connection) {
                    Arrival::Next => {}
                    Arrival::Restart => self.restart(now, room, who),
                    Arrival::Late => return,
                }
                self.forward(now, room, &packet, None);
            }
            Relayed::Level { who, source, level, voice } => {
                let Some(&room) = self.by_id.get(&who.room) else { return };
                let track = antiphon_base::TrackKey { participant: who.key, source };
                self.with_home(now, room, |home| {
                    if home.is_on(from, who) {
                        home.room.audio_level(now, track, level, voice);
                    }
                });
            }
        }
    }

    /// A publisher begins anew on another connection.
    pub(crate) fn restart(&mut self, now: Instant, room: usize, who: Who) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        for (place, slot) in host.table.restart(who, now, &mut self.peers) {
            self.tell(now, place, Fact::Switched { slot, feed: None, rtp_time: 0 });
        }
        self.mark(room);
    }

    /// Corrects the table after a slot's wishes changed.
    pub(crate) fn relisten(&mut self, now: Instant, room: usize, place: usize, slot: SlotId) {
        if let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut)
            && let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut)
        {
            host.table.relisten(now, place, peer, slot);
            self.mark(room);
        }
    }

    /// Tells the engine of layers that have stopped while others of their track go on.
    pub(crate) fn find_stopped_layers(&mut self, now: Instant, room: usize) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let stopped = host.table.find_stopped_layers(now);
        if host.home.is_some() {
            return self.with_home(now, room, |home| {
                for feed in stopped {
                    home.room.layer_gone(now, feed);
                }
            });
        }
        let seat = |feed: &Feed| Some((*host.seats.get(&feed.track.participant)?, *feed));
        let seated: Vec<(usize, Feed)> = stopped.iter().filter_map(seat).collect();
        for (place, feed) in seated {
            let (source, layer) = (feed.track.source, feed.layer);
            self.tell(now, place, Fact::Stopped { source, layer });
        }
    }
}
