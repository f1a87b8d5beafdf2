//! What shards say to each other, done: entering branches, orders, facts, who gets whose packets.

use std::time::Instant;

use antiphon_base::{ParticipantKey, RoomName};
use antiphon_room::{Feed, KeyframeCause};

use crate::core::Core;
use crate::home::Member;
use crate::host::Host;
use crate::link::{Load, Port};
use crate::peer::{Entry, Peer};
use crate::seam::{Fact, Message, RoomId, Who};

impl Core {
    /// Takes what another shard has left for this one.
    pub(crate) fn handle_load(&mut self, now: Instant, from: u16, load: &mut Load) {
        for message in load.messages.drain(..) {
            self.handle_message(now, from, message);
        }
        for relayed in load.media.drain(..) {
            self.handle_relayed(now, from, relayed);
        }
    }

    /// Leaves what it has for other shards.
    pub(crate) fn flush(&mut self, port: &Port) {
        let dropped = port.flush(&mut self.links);
        self.metrics.relay_dropped += dropped;
        self.metrics.packets_relayed = self.metrics.packets_relayed.saturating_sub(dropped);
    }

    fn handle_message(&mut self, now: Instant, from: u16, message: Message) {
        match message {
            Message::Enter { name, who, entry } => self.enter_branch(now, name, who, *entry),
            Message::Order { who, order } => {
                if let Some(place) = self.place_of(who) {
                    self.obey(now, place, order);
                }
            }
            Message::Relay { room, feed, to, on } => {
                // Its publisher may have been lost meanwhile.
                if let Some(host) = self.host_of(room)
                    && host.seats.contains_key(&feed.track.participant)
                {
                    host.table.relay(now, feed, to, on);
                }
            }
            Message::Restart(who) => {
                if let Some(&room) = self.by_id.get(&who.room) {
                    self.restart(now, room, who);
                }
            }
            Message::Forget { room, key } => {
                if let Some(host) = self.host_of(room) {
                    host.table.forget_participant(key);
                }
            }
            Message::End(id) => {
                if let Some(&room) = self.by_id.get(&id) {
                    self.close_room(now, room);
                }
            }
            Message::Look { who, mut status, reply } => {
                status.stats = self.stats_of(now, who);
                // A reply that nobody waits for any more is not an error.
                let _ = reply.try_send(Some(*status));
            }
            Message::Ice { who, request, reply } => {
                let _ = reply.try_send(self.ice_of(now, who, &request));
            }
            Message::Dump { who, reply } => {
                let place = self.place_of(who);
                let _ = reply.try_send(place.and_then(|place| self.begin_dump(place)));
            }
            Message::Fact { who, fact } => self.handle_fact(now, from, who, fact),
            Message::Want { room, feed, cause, count } => self.handle_want(now, room, (feed, cause), count),
            Message::Interest { room, feed, on } => {
                if let Some(&room) = self.by_id.get(&room) {
                    self.interest(now, room, feed, from, on);
                }
            }
            Message::Busy(permille) => self.hear_load(now, from, permille),
            Message::Gone { name, key, stats } => {
                let mut latest = self.gone.iter_mut().rev();
                if let Some((_, status)) = latest.find(|(n, status)| *n == name && status.key == key) {
                    status.stats = Some(stats);
                }
            }
            Message::Failed(id) => {
                if let Some(&room) = self.by_id.get(&id) {
                    self.tell_branches(room, Message::End);
                    self.close_room(now, room);
                }
            }
        }
    }

    fn host_of(&mut self, id: RoomId) -> Option<&mut Host> {
        let room = *self.by_id.get(&id)?;
        self.hosts.get_mut(room)?.as_deref_mut()
    }

    /// The place of a connection, if it is here, still.
    pub(crate) fn place_of(&self, who: Who) -> Option<usize> {
        let room = *self.by_id.get(&who.room)?;
        let place = *self.hosts.get(room)?.as_deref()?.seats.get(&who.key)?;
        let peer = self.peers.get(place)?.as_deref()?;
        (peer.who == who).then_some(place)
    }

    /// Counts of a connection here.
    pub(crate) fn stats_of(&self, now: Instant, who: Who) -> Option<serde_json::Value> {
        let place = self.place_of(who)?;
        Some(self.peers.get(place)?.as_deref()?.stats(now))
    }

    fn enter_branch(&mut self, now: Instant, name: RoomName, who: Who, mut entry: Entry) {
        let room = match self.by_id.get(&who.room) {
            Some(&room) => room,
            None => {
                self.metrics.branches += 1;
                self.place_host(Host::new(who.room, name, None))
            }
        };
        entry.connection.enter(self.clock, now);
        let place = self.place_peer(Peer::new(entry, room, now));
        self.touch(place);
    }

    fn handle_fact(&mut self, now: Instant, from: u16, who: Who, fact: Fact) {
        let Some(&room) = self.by_id.get(&who.room) else { return };
        let clock = self.clock;
        // Those of a connection that was replaced or has gone are late.
        if self.home(room).is_some_and(|home| home.is_on(from, who)) {
            self.with_home(now, room, |home| home.learn(now, clock, who.key, fact));
        }
    }

    fn handle_want(&mut self, now: Instant, id: RoomId, (feed, cause): (Feed, KeyframeCause), count: u16) {
        let Some(&room) = self.by_id.get(&id) else { return };
        self.with_home(now, room, |home| {
            for _ in 0..count {
                home.room.keyframe_wanted(now, feed, cause);
            }
        });
    }

    /// The home does not take what is to be told of a peer: its connection is given up.
    pub(crate) fn give_up(&mut self, now: Instant, place: usize) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        self.metrics.link_dropped += 1;
        peer.note(now, "the shard of its room does not keep up");
        self.links.forget(peer.who.room.home, peer.who);
        self.lose_peer(now, place);
    }

    /// Says something to all shards that have peers of a room at home here.
    pub(crate) fn tell_branches(&mut self, room: usize, message: impl Fn(RoomId) -> Message) {
        let Some(host) = self.hosts.get(room).and_then(Option::as_deref) else { return };
        let Some(home) = host.home.as_deref() else { return };
        for branch in &home.branches {
            self.links.send_always(*branch, message(host.id));
        }
    }

    /// Tells the home for which feeds the listeners here have come or gone.
    pub(crate) fn settle_interests(&mut self, now: Instant, room: usize) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let (id, interests) = (host.id, host.table.interests(&self.peers));
        if self.links.is_alone() {
            return;
        }
        for (feed, on) in interests {
            if id.home == self.shard {
                self.interest(now, room, feed, self.shard, on);
            } else {
                self.links.interest(id.home, id, feed, on);
            }
        }
    }

    /// Somebody on a shard gets a feed, or nobody does any more: the shard of its publisher is told.
    fn interest(&mut self, now: Instant, room: usize, feed: Feed, shard: u16, on: bool) {
        if self.home_mut(room).is_some_and(|home| home.interest(feed, shard, on)) {
            self.relay(now, room, feed, shard, on);
        }
    }

    fn relay(&mut self, now: Instant, room: usize, feed: Feed, to: u16, on: bool) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let Some(home) = host.home.as_deref() else { return };
        match home.members.get(&feed.track.participant) {
            Some(Member::Peer(_) | Member::Attached(_)) if to != self.shard => {
                host.table.relay(now, feed, to, on);
            }
            Some(Member::Away(away)) if to != away.shard => {
                self.links.relays(away.shard, host.id, (feed, to), on);
            }
            _ => {}
        }
    }

    /// A participant is on another connection: the shard on which it is now learns who gets its packets.
    pub(crate) fn move_relays(&mut self, now: Instant, room: usize, key: ParticipantKey) {
        let Some(home) = self.home(room) else { return };
        for (feed, shard) in home.interests_in(key) {
            self.relay(now, room, feed, shard, true);
        }
    }
}
