//! Between shards: bounded rings of shared packets and of messages, one for each ordered pair.
//!
//! [`Links`] is the core's side: what it wants to hand to other shards. [`Port`] is the thread's side: once per round it moves
//! all of that into the rings, under one lock per other shard, and takes what others have left. What does not fit:
//! a packet is dropped and counted; a message waits here, for which each peer has a budget. A peer over its budget is
//! dropped, and counted. While much waits for a shard nobody enters a room that has to do with it, so what is about no peer
//! has a bound as well.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use antiphon_base::ParticipantKey;
use antiphon_room::{Feed, KeyframeCause};

use crate::holdings::{Count, Holdings};
use crate::inbox;
use crate::seam::{Message, Relayed, RoomId, Who};

/// Packets that wait for another shard: 20 ms of 200,000 per second. Beyond that it does not keep up, and waiting would only
/// make them late.
pub(crate) const MEDIA_RING: usize = 4_096;
/// Messages in a ring; the rest waits at the sender.
pub(crate) const MESSAGE_RING: usize = 4_096;
/// Messages about one peer that may wait at the sender: as many as may wait in front of its control channel.
pub(crate) const PEER_BUDGET: u32 = 1_024;
/// So many messages that have no budget wait for a shard that keeps up with nothing: nobody enters there, nor a room that has peers there.
pub(crate) const MUCH: usize = 16_384;
/// Requests for keyframes of one feed told as one: above this the room treats them as a crowd anyway.
const MAX_WANTS: u16 = 16;

/// What a shard has for the others.
pub(crate) struct Links {
    shard: u16,
    /// By shard; its own stays empty.
    links: Vec<Link>,
}

/// What a shard has for one other.
#[derive(Default)]
pub(crate) struct Link {
    messages: VecDeque<Message>,
    /// Of each peer, how many of `messages` are about it.
    counts: HashMap<(RoomId, ParticipantKey), u32>,
    /// How many are in nobody's budget.
    free: usize,
    /// Who gets what, as it was last: it may change often while nothing is taken.
    interests: BTreeMap<(RoomId, Feed), bool>,
    relays: BTreeMap<(RoomId, Feed, u16), bool>,
    wants: Vec<Want>,
    /// How busy this shard is, if that is to be told.
    busy: Option<u64>,
    media: Vec<Relayed>,
}

struct Want {
    room: RoomId,
    feed: Feed,
    cause: KeyframeCause,
    count: u16,
}

impl Links {
    pub(crate) fn new(shard: u16, shards: usize) -> Self {
        Self { shard, links: (0..shards).map(|_| Link::default()).collect() }
    }

    /// There is no other shard.
    pub(crate) fn is_alone(&self) -> bool {
        self.links.len() < 2
    }

    /// Hands over a message. `false`: the peer that it is about is over its budget.
    #[must_use]
    pub(crate) fn send(&mut self, to: u16, message: Message) -> bool {
        debug_assert_ne!(to, self.shard, "a shard does not write to itself");
        let Some(link) = self.links.get_mut(usize::from(to)) else { return true };
        if let Some(who) = message.counts_for() {
            let count = link.counts.entry((who.room, who.key)).or_default();
            // What may be lost leaves half of it to what may not.
            let budget = if message.is_data() { PEER_BUDGET / 2 } else { PEER_BUDGET };
            if *count >= budget {
                return false;
            }
            *count += 1;
        } else {
            link.free += 1;
        }
        link.messages.push_back(message);
        true
    }

    /// Hands over a message that is about no peer, or the last one about it: a few for each that has entered, see [`Self::has_much`].
    pub(crate) fn send_always(&mut self, to: u16, message: Message) {
        debug_assert!(message.counts_for().is_none(), "it has a budget");
        let _ = self.send(to, message);
    }

    /// So much waits for that shard that nobody is to be added of whom it would have to be told.
    pub(crate) fn has_much(&self, to: u16) -> bool {
        self.links.get(usize::from(to)).is_some_and(|link| link.free + link.states() >= MUCH)
    }

    /// To the home: somebody here gets a feed, or nobody any more. Only the latest is told, after all that was said before.
    pub(crate) fn interest(&mut self, to: u16, room: RoomId, feed: Feed, on: bool) {
        if let Some(link) = self.links.get_mut(usize::from(to)) {
            link.interests.insert((room, feed), on);
        }
    }

    /// From the home: packets of a feed go to the shard `other` as well, or do not any more. Likewise.
    pub(crate) fn relays(&mut self, to: u16, room: RoomId, (feed, other): (Feed, u16), on: bool) {
        if let Some(link) = self.links.get_mut(usize::from(to)) {
            link.relays.insert((room, feed, other), on);
        }
    }

    /// Takes back all messages about a peer.
    pub(crate) fn forget(&mut self, to: u16, who: Who) {
        let Some(link) = self.links.get_mut(usize::from(to)) else { return };
        link.messages.retain(|m| m.counts_for() != Some(who));
        link.counts.remove(&(who.room, who.key));
    }

    /// Somebody here needs a keyframe. Those of one feed are counted together.
    pub(crate) fn want(&mut self, to: u16, room: RoomId, feed: Feed, cause: KeyframeCause) {
        let Some(link) = self.links.get_mut(usize::from(to)) else { return };
        let same = |w: &&mut Want| (w.room, w.feed, w.cause) == (room, feed, cause);
        match link.wants.iter_mut().find(same) {
            Some(want) => want.count = (want.count + 1).min(MAX_WANTS),
            None => link.wants.push(Want { room, feed, cause, count: 1 }),
        }
    }

    /// How busy this shard is, in thousandths. Only the latest is told.
    pub(crate) fn busy(&mut self, to: u16, permille: u64) {
        if let Some(link) = self.links.get_mut(usize::from(to)) {
            link.busy = Some(permille);
        }
    }

    /// Hands over media. Dropped where the ring is full.
    pub(crate) fn relay(&mut self, to: u16, relayed: Relayed) -> bool {
        let Some(link) = self.links.get_mut(usize::from(to)) else { return false };
        let fits = link.media.len() < MEDIA_RING;
        if fits {
            link.media.push(relayed);
        }
        fits
    }

    /// Messages wait for room in a ring.
    pub(crate) fn waits(&self) -> bool {
        self.links.iter().any(Link::has_messages)
    }

    /// Adds what waits here.
    pub(crate) fn count(&self, held: &mut Holdings) {
        for link in &self.links {
            let all = link.waiting();
            let most = link.counts.values().max().map_or(0, |count| *count as usize);
            held.waiting = held.waiting + Count { all, most };
            held.ring_media.add(link.media.len());
        }
    }
}

impl Link {
    fn is_empty(&self) -> bool {
        self.media.is_empty() && !self.has_messages()
    }

    fn has_messages(&self) -> bool {
        self.waiting() > 0
    }

    fn waiting(&self) -> usize {
        self.messages.len() + self.states() + usize::from(self.busy.is_some())
    }

    /// Those that are told together when all others have left.
    fn states(&self) -> usize {
        self.interests.len() + self.relays.len() + self.wants.len()
    }

    fn move_messages(&mut self, ring: &mut Vec<Message>) {
        while ring.len() < MESSAGE_RING
            && let Some(message) = self.next()
        {
            ring.push(message);
        }
    }

    fn settle(&mut self) {
        let before = self.messages.len();
        for ((room, feed), on) in std::mem::take(&mut self.interests) {
            self.messages.push_back(Message::Interest { room, feed, on });
        }
        for ((room, feed, to), on) in std::mem::take(&mut self.relays) {
            self.messages.push_back(Message::Relay { room, feed, to, on });
        }
        for Want { room, feed, cause, count } in self.wants.drain(..) {
            self.messages.push_back(Message::Want { room, feed, cause, count });
        }
        self.messages.extend(self.busy.take().map(Message::Busy));
        self.free += self.messages.len() - before;
    }

    /// One message leaves.
    fn next(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        let Some(who) = message.counts_for() else {
            self.free -= 1;
            return Some(message);
        };
        if let Some(count) = self.counts.get_mut(&(who.room, who.key)) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&(who.room, who.key));
            }
        }
        Some(message)
    }
}

/// What waits in a ring.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) messages: Vec<Message>,
    pub(crate) media: Vec<Relayed>,
}

/// From one shard to another.
#[derive(Default)]
struct Ring {
    load: Mutex<Load>,
    waits: AtomicBool,
}

impl Ring {
    /// Moves what fits. How many packets did not.
    fn put(&self, link: &mut Link) -> u64 {
        let mut load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        link.move_messages(&mut load.messages);
        if link.messages.is_empty() {
            // They follow what was said before them, and stay together until they can.
            link.settle();
            link.move_messages(&mut load.messages);
        }
        let room = MEDIA_RING.saturating_sub(load.media.len());
        let over = link.media.iter().skip(room).filter(|m| matches!(m, Relayed::Packet { .. })).count();
        load.media.extend(link.media.drain(..).take(room));
        self.waits.store(true, Ordering::Release);
        over as u64
    }

    /// Takes everything; `into` is empty.
    fn take(&self, into: &mut Load) {
        if self.waits.swap(false, Ordering::AcqRel) {
            std::mem::swap(&mut *self.load.lock().unwrap_or_else(PoisonError::into_inner), into);
        }
    }
}

/// A shard's ends of the rings.
pub(crate) struct Port {
    shard: usize,
    /// By shard.
    out: Vec<(Arc<Ring>, inbox::Sender)>,
    into: Vec<Arc<Ring>>,
    spare: Load,
}

impl Port {
    /// One for each shard. A full ring wakes who reads it by its inbox.
    pub(crate) fn all(inboxes: &[inbox::Sender]) -> Vec<Self> {
        let count = inboxes.len();
        let rings: Vec<Vec<Arc<Ring>>> =
            (0..count).map(|_| (0..count).map(|_| Arc::new(Ring::default())).collect()).collect();
        let out = |from: usize| rings[from].iter().cloned().zip(inboxes.iter().cloned()).collect();
        let into = |to: usize| rings.iter().map(|from| from[to].clone()).collect();
        let port = |shard| Self { shard, out: out(shard), into: into(shard), spare: Load::default() };
        (0..count).map(port).collect()
    }

    /// Moves everything that fits into the rings and wakes the readers. How many packets were dropped.
    pub(crate) fn flush(&self, links: &mut Links) -> u64 {
        let mut dropped = 0;
        for (link, (ring, inbox)) in links.links.iter_mut().zip(&self.out) {
            if !link.is_empty() {
                dropped += ring.put(link);
                inbox.wake();
            }
        }
        dropped
    }

    /// Adds what is in the rings that lead from this shard.
    pub(crate) fn count(&self, held: &mut Holdings) {
        for (ring, _) in &self.out {
            let load = ring.load.lock().unwrap_or_else(PoisonError::into_inner);
            held.ring_messages.add(load.messages.len());
            held.ring_media.add(load.media.len());
        }
    }

    /// Takes what other shards have left.
    pub(crate) fn take(&mut self, mut with: impl FnMut(u16, &mut Load)) {
        for (from, ring) in self.into.iter().enumerate().filter(|(from, _)| *from != self.shard) {
            ring.take(&mut self.spare);
            if !self.spare.messages.is_empty() || !self.spare.media.is_empty() {
                with(u16::try_from(from).unwrap_or(u16::MAX), &mut self.spare);
                self.spare.messages.clear();
                self.spare.media.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::Order;
    use crate::testing;
    use antiphon_base::{AudioCodec, Codec, Source, TrackKey};
    use antiphon_wire::rtp::Packet;

    const ROOM: RoomId = RoomId { home: 0, serial: 1 };

    fn who(key: u32) -> Who {
        Who { room: ROOM, key: ParticipantKey(key), connection: 1 }
    }

    fn demand(key: u32, bps: u64) -> Message {
        Message::Order { who: who(key), order: Order::Demand(bps) }
    }

    fn level() -> Relayed {
        Relayed::Level { who: who(1), source: Source::Microphone, level: 30, voice: true }
    }

    fn packet() -> Relayed {
        let track = TrackKey { participant: ParticipantKey(1), source: Source::Microphone };
        let packet = Packet { track, ..testing::packet(Codec::Audio(AudioCodec::Opus), &[]) };
        Relayed::Packet { who: who(1), packet: Arc::new(packet) }
    }

    fn ports() -> Vec<Port> {
        Port::all(&[inbox::inbox().unwrap().0, inbox::inbox().unwrap().0])
    }

    /// Messages and packets that the second shard finds.
    fn taken(ports: &mut [Port]) -> (Vec<Message>, usize) {
        let (mut messages, mut media) = (Vec::new(), 0);
        ports[1].take(|from, load| {
            assert_eq!(from, 0);
            messages.append(&mut load.messages);
            media += load.media.len();
        });
        (messages, media)
    }

    #[test]
    fn everything_arrives_in_order() {
        let (mut ports, mut links) = (ports(), Links::new(0, 2));
        for bps in 0..100 {
            assert!(links.send(1, demand(1, bps)) && links.relay(1, level()));
        }
        assert_eq!(ports[0].flush(&mut links), 0);
        let (messages, media) = taken(&mut ports);
        let bps = messages.iter().map(|m| match m {
            Message::Order { order: Order::Demand(bps), .. } => *bps,
            _ => panic!("not a demand"),
        });
        assert!(bps.eq(0..100));
        assert_eq!(media, 100);
        assert_eq!(taken(&mut ports).0.len(), 0);
        assert!(!links.waits());
    }

    #[test]
    fn a_full_ring_drops_packets_and_keeps_messages() {
        let (mut ports, mut links) = (ports(), Links::new(0, 2));
        let (mut dropped, packet) = (0, packet());
        for round in 0..10 {
            for i in 0..1_000 {
                assert!(links.send(1, demand(i, round)) && links.relay(1, packet.clone()));
            }
            dropped += ports[0].flush(&mut links);
        }
        assert!(links.waits());
        let (first, media) = taken(&mut ports);
        assert_eq!((first.len(), media, dropped), (MESSAGE_RING, MEDIA_RING, 10_000 - MEDIA_RING as u64));
        let mut messages = first.len();
        while links.waits() {
            ports[0].flush(&mut links);
            messages += taken(&mut ports).0.len();
        }
        assert_eq!(messages, 10_000);
        assert!(links.links[1].counts.is_empty());
    }

    #[test]
    fn who_is_over_its_budget_takes_nothing_from_others() {
        let (mut ports, mut links) = (ports(), Links::new(0, 2));
        for i in 0..u64::from(PEER_BUDGET) {
            assert!(links.send(1, demand(1, i)));
        }
        assert!(!links.send(1, demand(1, 0)));
        assert!(links.send(1, demand(2, 0)));
        links.forget(1, who(1));
        links.send_always(1, Message::Order { who: who(1), order: Order::Replace });
        ports[0].flush(&mut links);
        let (messages, _) = taken(&mut ports);
        assert!(matches!(
            messages[..],
            [Message::Order { order: Order::Demand(0), .. }, Message::Order { order: Order::Replace, .. }]
        ));
        // What has left does not count.
        assert!(links.send(1, demand(1, 0)));
    }

    #[test]
    fn of_who_gets_what_the_latest_is_told_after_what_was_said_before() {
        let (mut ports, mut links) = (ports(), Links::new(0, 2));
        let track = TrackKey { participant: ParticipantKey(1), source: Source::Camera };
        let feed = Feed { track, layer: 0 };
        for on in [true, false].repeat(2 * MUCH) {
            links.interest(1, ROOM, feed, !on);
            links.relays(1, ROOM, (feed, 2), on);
        }
        assert!(links.send(1, demand(1, 0)) && !links.has_much(1));
        ports[0].flush(&mut links);
        assert!(matches!(
            taken(&mut ports).0[..],
            [
                Message::Order { .. },
                Message::Interest { on: true, .. },
                Message::Relay { on: false, to: 2, .. }
            ]
        ));
        assert!(!links.waits());
    }

    #[test]
    fn much_waits_until_the_other_shard_takes_it() {
        let (mut ports, mut links) = (ports(), Links::new(0, 2));
        for key in 0..u32::try_from(MESSAGE_RING + MUCH).unwrap() {
            links.send_always(1, Message::Forget { room: ROOM, key: ParticipantKey(key) });
            ports[0].flush(&mut links);
        }
        assert!(links.has_much(1) && !links.has_much(0));
        let _ = taken(&mut ports);
        ports[0].flush(&mut links);
        assert!(!links.has_much(1));
    }

    #[test]
    fn keyframes_wanted_of_one_feed_are_one_message() {
        let (mut ports, mut links) = (ports(), Links::new(0, 2));
        let feed = |layer| Feed {
            track: TrackKey { participant: ParticipantKey(1), source: Source::Camera },
            layer,
        };
        for _ in 0..100 {
            links.want(1, ROOM, feed(0), KeyframeCause::Start);
            links.want(1, ROOM, feed(1), KeyframeCause::Repair);
        }
        ports[0].flush(&mut links);
        let counts = taken(&mut ports).0.into_iter().map(|m| match m {
            Message::Want { count, .. } => count,
            _ => 0,
        });
        assert_eq!(counts.collect::<Vec<_>>(), [MAX_WANTS, MAX_WANTS]);
    }
}
