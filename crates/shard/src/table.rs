//! The forwarding table of a room on one shard: from feeds to the slots, taps and shards that get their packets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::{Codec, MediaKind, ParticipantKey, TrackKey};
use antiphon_room::slot::Outgoing;
use antiphon_room::{Feed, LayerRate, MAX_LAYERS, SlotId};
use antiphon_wire::rtp::{AudioLevel, Packet};

use crate::meter::Meter;
use crate::peer::Peer;
use crate::prefetch::prefetch;
use crate::seam::Who;
use crate::spatial::{self, Spatial, feed_of, layers_with};

/// How often the engine is told that packets still come.
const ACTIVITY_INTERVAL: Duration = Duration::from_millis(250);
/// After so long without packets a layer counts as new.
const LAYER_RENEWAL: Duration = Duration::from_secs(2);
/// A layer without packets for so long, while another layer of its track has them, has stopped. Longer than the gap
/// between pictures of a slow screen share.
const LAYER_SILENCE: Duration = Duration::from_millis(1_000);
/// Sizes and spatial layers of a stream that change are told no more often: each time all subscribers are looked at, and a
/// publisher could change them with each packet. What came last is told then.
const SHAPE_INTERVAL: Duration = Duration::from_millis(250);
/// Long ago: the first packet is told at once.
const NEVER: Duration = Duration::from_secs(3_600);

/// From feeds to those who get their packets.
#[derive(Default)]
pub(crate) struct Table {
    feeds: HashMap<Feed, FeedState>,
    /// Those whose listeners have changed.
    changed: Vec<Feed>,
    scratch: Vec<Outgoing>,
}

/// What was seen last, and what the home was told of it.
struct News<T> {
    seen: Option<T>,
    told: Option<T>,
    at: Option<Instant>,
}

impl<T> Default for News<T> {
    fn default() -> Self {
        Self { seen: None, told: None, at: None }
    }
}

impl<T: Copy + PartialEq> News<T> {
    /// There is something that was not told.
    fn is_owed(&self) -> bool {
        self.seen.is_some() && self.seen != self.told
    }

    /// What is to be told now.
    fn take(&mut self, now: Instant) -> Option<T> {
        let is_due = self.at.is_none_or(|at| now.saturating_duration_since(at) >= SHAPE_INTERVAL);
        if !is_due || !self.is_owed() {
            return None;
        }
        (self.told, self.at) = (self.seen, Some(now));
        self.told
    }
}

/// One source layer.
struct FeedState {
    codec: Codec,
    resolution: News<(u32, u32)>,
    meter: Meter,
    /// Of layer 0: the spatial layers.
    spatial: News<Spatial>,
    told: Instant,
    /// When its last packet came.
    last: Instant,
    /// The engine was told that it has stopped while its track goes on.
    stopped: bool,
    /// The newest connection of its publisher, where that came back or is on another shard.
    connection: u32,
    /// Slots that show it or wait for it.
    routes: Vec<(usize, SlotId)>,
    /// Attachments that take it.
    taps: Vec<ParticipantKey>,
    /// Other shards on which somebody gets it; empty unless its publisher is on this one.
    relays: Vec<u16>,
    /// The home was told that somebody here gets it.
    interested: bool,
}

impl FeedState {
    fn new(now: Instant) -> Self {
        Self {
            codec: Codec::Video(antiphon_base::VideoCodec::Vp8),
            resolution: News::default(),
            meter: Meter::default(),
            spatial: News::default(),
            told: now.checked_sub(NEVER).unwrap_or(now),
            last: now,
            // Until its first packet.
            stopped: true,
            connection: 0,
            routes: Vec::new(),
            taps: Vec::new(),
            relays: Vec::new(),
            interested: false,
        }
    }

    /// Somebody here gets it, who can receive.
    fn is_heard(&self, peers: &[Option<Box<Peer>>]) -> bool {
        let listens = |place: usize| peers.get(place).and_then(Option::as_deref).is_some_and(|p| p.connected);
        !self.taps.is_empty() || self.routes.iter().any(|(place, _)| listens(*place))
    }
}

/// What the engine must know of a packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Observed {
    pub(crate) codec: Codec,
    /// The first of a layer, which the engine may not know yet.
    pub(crate) new: bool,
    /// Packets come, still.
    pub(crate) active: bool,
    pub(crate) resolution: Option<(u32, u32)>,
    /// The spatial layers of its stream, where that is news.
    pub(crate) spatial: Option<Spatial>,
    /// What the layer costs: once per second.
    pub(crate) rate: Option<LayerRate>,
    /// The first packet of a keyframe that somebody gets.
    pub(crate) keyframe: bool,
    pub(crate) level: Option<AudioLevel>,
    /// A keyframe begins, whoever gets it.
    starts: bool,
}

impl Observed {
    /// There is something that the engine must hear.
    pub(crate) fn is_news(&self) -> bool {
        self.is_more_than_level() || self.level.is_some() || self.starts
    }

    /// There is something that it must hear beside how loud the packet is.
    pub(crate) fn is_more_than_level(&self) -> bool {
        self.new
            || self.active
            || self.resolution.is_some()
            || self.spatial.is_some()
            || self.rate.is_some()
            || self.keyframe
    }
}

/// How a packet from another shard stands to what this one knows of its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It goes on.
    Next,
    /// It is the first of a new connection.
    Restart,
    /// Nobody wants it, or it is of an earlier connection.
    Late,
}

/// A slot that has switched while a packet was routed.
pub(crate) struct Switched {
    pub(crate) peer: usize,
    pub(crate) slot: SlotId,
    pub(crate) feed: Option<Feed>,
    pub(crate) rtp_time: u32,
}

/// What routing one packet came to.
#[derive(Default)]
pub(crate) struct Routed {
    pub(crate) forwarded: u64,
    pub(crate) unwanted: bool,
    pub(crate) touched: Vec<usize>,
    pub(crate) switched: Vec<Switched>,
    /// Attachments that take it.
    pub(crate) taps: Vec<ParticipantKey>,
    /// Other shards that take it.
    pub(crate) relays: Vec<u16>,
}

impl Routed {
    fn clear(&mut self) {
        self.forwarded = 0;
        self.unwanted = false;
        self.touched.clear();
        self.switched.clear();
        self.taps.clear();
        self.relays.clear();
    }
}

impl Table {
    /// Entry of a feed; made when first routed or seen.
    fn feed(&mut self, feed: Feed, now: Instant) -> &mut FeedState {
        let connection =
            if self.feeds.contains_key(&feed) { 0 } else { self.connection(feed.track.participant) };
        self.feeds.entry(feed).or_insert_with(|| FeedState { connection, ..FeedState::new(now) })
    }

    /// The newest connection known of a publisher: a layer that is new here is no new beginning of the others.
    fn connection(&self, publisher: ParticipantKey) -> u32 {
        let of_it = self.feeds.iter().filter(|(feed, _)| feed.track.participant == publisher);
        of_it.map(|(_, state)| state.connection).max().unwrap_or(0)
    }

    /// What the engine must know of a packet of a publisher on this shard.
    pub(crate) fn observe(&mut self, now: Instant, packet: &Packet, peers: &[Option<Box<Peer>>]) -> Observed {
        let feed = feed_of(packet);
        // Of spatial layers, whoever gets another one gets this packet, too.
        let others = layers_with(packet).filter(|other| *other != feed);
        let mut goes_somewhere = others
            .filter_map(|other| self.feeds.get(&other))
            .any(|state| !state.relays.is_empty() || state.is_heard(peers));
        // One look-up for each packet of any other stream.
        let state = match self.feeds.get_mut(&feed) {
            Some(state) => state,
            None => self.feed(feed, now),
        };
        goes_somewhere |= !state.relays.is_empty() || state.is_heard(peers);
        let quiet = now.saturating_duration_since(state.told);
        let active = quiet >= ACTIVITY_INTERVAL;
        let new = state.stopped || state.codec != packet.codec || quiet >= LAYER_RENEWAL;
        let rate = state.meter.take(now, packet);
        let sized = packet.descriptor.resolution().filter(|_| packet.spatial_layers <= 1);
        state.resolution.seen = sized.or(state.resolution.seen);
        let resolution = state.resolution.take(now);
        let owed = feed.layer == 0 && state.spatial.is_owed();
        if active {
            state.told = now;
        }
        state.codec = packet.codec;
        state.last = now;
        state.stopped = false;
        let starts = packet.starts_keyframe();
        // One that nobody gets must not keep the next from being asked for.
        let is_key = starts && packet.codec.kind() == MediaKind::Video;
        let (codec, level) = (packet.codec, packet.audio_level);
        let spatial = self.spatial_news(now, packet, (new, owed), is_key);
        Observed {
            codec,
            new,
            active,
            resolution,
            spatial,
            rate,
            keyframe: is_key && goes_somewhere,
            level,
            starts,
        }
    }

    /// The spatial layers of a packet's stream, where the home was not told of them.
    fn spatial_news(
        &mut self,
        now: Instant,
        packet: &Packet,
        (new, owed): (bool, bool),
        is_key: bool,
    ) -> Option<Spatial> {
        let tells = packet.layer == 0 && (is_key || spatial::tells_layers(packet));
        if !tells && !new && !owed {
            return None;
        }
        let news = &mut self.feed(Feed { track: packet.track, layer: 0 }, now).spatial;
        if new {
            // The home may know the track anew.
            news.told = None;
            news.seen = news.seen.filter(|_| tells);
        }
        if tells {
            news.seen = Some(Spatial::of(packet).or(news.seen));
        }
        news.take(now)
    }

    /// Gives a packet to every slot that gets it, and says who else does.
    pub(crate) fn route(
        &mut self,
        packet: &Arc<Packet>,
        peers: &mut [Option<Box<Peer>>],
        routed: &mut Routed,
    ) {
        routed.clear();
        routed.unwanted = true;
        for feed in layers_with(packet) {
            self.route_to(feed, packet, peers, routed);
        }
    }

    /// Gives a packet to those who listen to one of the feeds that it is of, and to no lower one of them.
    fn route_to(
        &mut self,
        feed: Feed,
        packet: &Arc<Packet>,
        peers: &mut [Option<Box<Peer>>],
        routed: &mut Routed,
    ) {
        let Some(state) = self.feeds.get(&feed) else { return };
        routed.unwanted &= state.routes.is_empty() && state.taps.is_empty() && state.relays.is_empty();
        let lower = |other: &Feed| other.track == feed.track && other.layer < feed.layer;
        let nested = packet.spatial_layers > 1;
        for (i, &(place, slot)) in state.routes.iter().enumerate() {
            approach(state.routes.get(i..).unwrap_or_default(), peers);
            let Some(peer) = peers.get_mut(place).and_then(Option::as_deref_mut) else { continue };
            // Without keys str0m would keep all of it, and let it go at once when they come.
            if !peer.connected {
                continue;
            }
            let at = usize::from(slot.0);
            if nested && peer.listening.get(at).is_some_and(|l| l.iter().flatten().any(lower)) {
                continue;
            }
            let Some(target) = peer.slots.get_mut(at) else { continue };
            if target.admit(packet, &mut self.scratch) {
                routed.switched.push(Switched { peer: place, slot, feed: None, rtp_time: 0 });
            }
            if self.scratch.is_empty() {
                continue;
            }
            routed.touched.push(place);
            for outgoing in self.scratch.drain(..) {
                routed.forwarded += 1;
                // Not always the packet's own feed: the end of the old one lets the held key frame of the new one go.
                if outgoing.switched.is_some() {
                    let (feed, rtp_time) = (outgoing.switched, outgoing.rewritten.rtp_time);
                    routed.switched.push(Switched { peer: place, slot, feed, rtp_time });
                }
                peer.connection.forward(slot, outgoing);
            }
        }
        for key in &state.taps {
            if !nested || !routed.taps.contains(key) {
                routed.taps.push(*key);
            }
        }
        for shard in &state.relays {
            if !nested || !routed.relays.contains(shard) {
                routed.relays.push(*shard);
            }
        }
    }

    /// Corrects the table after a slot's wishes changed.
    pub(crate) fn relisten(&mut self, now: Instant, place: usize, peer: &mut Peer, slot: SlotId) {
        let at = usize::from(slot.0);
        let Some(state) = peer.slots.get(at) else { return };
        let wanted = [state.current(), state.wanted()];
        let Some(old) = peer.listening.get_mut(at) else { return };
        let before = std::mem::replace(old, wanted);
        for feed in before.into_iter().flatten() {
            if !wanted.contains(&Some(feed))
                && let Some(f) = self.feeds.get_mut(&feed)
            {
                f.routes.retain(|r| *r != (place, slot));
                self.changed.push(feed);
            }
        }
        for feed in wanted.into_iter().flatten() {
            let routes = &mut self.feed(feed, now).routes;
            if !routes.contains(&(place, slot)) {
                routes.push((place, slot));
                self.changed.push(feed);
            }
        }
    }

    /// A peer can receive from now on.
    pub(crate) fn connected(&mut self, peer: &Peer) {
        self.changed.extend(peer.listening.iter().flatten().flatten());
    }

    /// Feeds that somebody here has begun to get, or nobody gets any more. What nobody needs is forgotten.
    pub(crate) fn interests(&mut self, peers: &[Option<Box<Peer>>]) -> Vec<(Feed, bool)> {
        let mut interests = Vec::new();
        for feed in self.changed.drain(..) {
            let Some(state) = self.feeds.get_mut(&feed) else { continue };
            let heard = state.is_heard(peers);
            if heard != state.interested {
                state.interested = heard;
                interests.push((feed, heard));
            }
            let unused = state.routes.is_empty() && state.taps.is_empty() && state.relays.is_empty();
            if unused && state.stopped {
                self.feeds.remove(&feed);
            }
        }
        interests
    }

    /// Another shard takes a feed that is published here, or does not any more.
    pub(crate) fn relay(&mut self, now: Instant, feed: Feed, to: u16, on: bool) {
        if !on && !self.feeds.contains_key(&feed) {
            return;
        }
        let relays = &mut self.feed(feed, now).relays;
        relays.retain(|shard| *shard != to);
        if on {
            relays.push(to);
        } else {
            self.changed.push(feed);
        }
    }

    /// A publisher is not on this shard any more: nothing of it is to be relayed from here. On its next connection the home
    /// says anew who takes what.
    pub(crate) fn unrelay(&mut self, publisher: ParticipantKey) {
        for (feed, state) in self.feeds.iter_mut().filter(|(feed, _)| feed.track.participant == publisher) {
            if !state.relays.is_empty() {
                state.relays.clear();
                self.changed.push(*feed);
            }
        }
    }

    /// A packet came from another shard, of this connection of its publisher.
    pub(crate) fn arrival(&self, packet: &Packet, connection: u32) -> Arrival {
        let known = || layers_with(packet).filter_map(|feed| self.feeds.get(&feed)).map(|s| s.connection);
        match (known().min(), known().max()) {
            // Of spatial layers some may have been asked for only now: what any of them has seen is what came.
            (Some(_), Some(latest)) if connection < latest => Arrival::Late,
            (Some(first), Some(_)) if connection > first => Arrival::Restart,
            (Some(_), Some(_)) => Arrival::Next,
            _ => Arrival::Late,
        }
    }

    /// Simulcast layers that have stopped while others of their track go on: a sender short of bandwidth or CPU drops the
    /// highest first, and whoever watches it must get another.
    pub(crate) fn find_stopped_layers(&mut self, now: Instant) -> Vec<Feed> {
        let silent = |state: &FeedState| now.saturating_duration_since(state.last) >= LAYER_SILENCE;
        let flowing: Vec<TrackKey> =
            self.feeds.iter().filter(|(_, s)| !s.stopped && !silent(s)).map(|(f, _)| f.track).collect();
        let mut stopped = Vec::new();
        for (feed, state) in &mut self.feeds {
            if !state.stopped && silent(state) && flowing.contains(&feed.track) {
                state.stopped = true;
                stopped.push(*feed);
            }
        }
        stopped
    }

    /// Forgets a peer's slots.
    pub(crate) fn forget_peer(&mut self, place: usize) {
        for (feed, state) in &mut self.feeds {
            let before = state.routes.len();
            state.routes.retain(|(p, _)| *p != place);
            if state.routes.len() != before {
                self.changed.push(*feed);
            }
        }
    }

    /// Forgets a participant that has gone: its feeds and its taps.
    pub(crate) fn forget_participant(&mut self, key: ParticipantKey) {
        self.feeds.retain(|feed, _| feed.track.participant != key);
        for (feed, state) in &mut self.feeds {
            let before = state.taps.len();
            state.taps.retain(|k| *k != key);
            if state.taps.len() != before {
                self.changed.push(*feed);
            }
        }
    }

    /// The publisher starts again (new connection): layers must be seen anew, and slots that show one of them begin anew,
    /// with its next key frame. Those that have become empty by this.
    pub(crate) fn restart(
        &mut self,
        who: Who,
        now: Instant,
        peers: &mut [Option<Box<Peer>>],
    ) -> Vec<(usize, SlotId)> {
        let mut listeners = Vec::new();
        for (feed, state) in &mut self.feeds {
            if feed.track.participant != who.key || state.connection >= who.connection {
                continue;
            }
            state.connection = who.connection;
            state.told = now.checked_sub(NEVER).unwrap_or(now);
            state.stopped = true;
            state.spatial = News::default();
            state.relays.clear();
            listeners.extend(state.routes.iter().map(|(place, slot)| (*place, *slot, *feed)));
        }
        let mut emptied = Vec::new();
        for (place, slot, feed) in listeners {
            let Some(peer) = peers.get_mut(place).and_then(Option::as_deref_mut) else { continue };
            let Some(target) = peer.slots.get_mut(usize::from(slot.0)) else { continue };
            if [target.current(), target.wanted()].contains(&Some(feed)) && target.cut(who.key) {
                emptied.push((place, slot));
                self.relisten(now, place, peer, slot);
            }
        }
        emptied
    }

    /// Turns a tap on or off.
    pub(crate) fn tap(&mut self, now: Instant, subscriber: ParticipantKey, feed: Feed, on: bool) {
        let taps = &mut self.feed(feed, now).taps;
        taps.retain(|k| *k != subscriber);
        if on {
            taps.push(subscriber);
        }
        self.changed.push(feed);
    }

    /// How many feeds it knows.
    pub(crate) fn feeds(&self) -> usize {
        self.feeds.len()
    }

    /// Slots, taps and shards that get or await them.
    pub(crate) fn routes(&self) -> usize {
        self.feeds.values().map(|f| f.routes.len() + f.taps.len() + f.relays.len()).sum()
    }

    /// Whether a subscriber taps this feed now, or, of spatial layers, another one (for keyframes of a tapped track).
    pub(crate) fn is_tapped(&self, subscriber: ParticipantKey, feed: Feed) -> bool {
        let taps =
            |layer| self.feeds.get(&Feed { layer, ..feed }).is_some_and(|f| f.taps.contains(&subscriber));
        taps(feed.layer) || (feed.layer == 0 && (1..MAX_LAYERS).any(taps))
    }
}

/// The state of those who get a packet soon comes near: peers first, then their slots.
fn approach(routes: &[(usize, SlotId)], peers: &[Option<Box<Peer>>]) {
    let ahead = |by| {
        let (place, slot) = routes.get::<usize>(by)?;
        Some((peers.get(*place)?.as_deref()?, usize::from(slot.0)))
    };
    if let Some((peer, _)) = ahead(8) {
        peer.prefetch_slots();
    }
    if let Some((peer, at)) = ahead(4)
        && let Some(slot) = peer.slots.get(at)
    {
        prefetch(slot);
        peer.connection.sender.prefetch_place();
    }
}

#[cfg(test)]
mod tests {
    use antiphon_base::VideoCodec;
    use antiphon_wire::rtp::dependency::{
        Dependency, Indication, Indications, References, Structure, Template,
    };

    use super::*;
    use crate::testing;

    fn packet(arrival: Instant, payload: &[u8]) -> Packet {
        Packet { arrival, ..testing::packet(Codec::Video(VideoCodec::Vp8), payload) }
    }

    /// A key frame of VP8 (RFC 6386, 9.1) of so many lines; none: another picture.
    fn vp8(now: Instant, lines: Option<u8>) -> Packet {
        let Some(lines) = lines else { return packet(now, &[0x10, 1, 0, 0]) };
        packet(now, &[0x10, 0, 0, 0, 0x9d, 0x01, 0x2a, 160, 0, lines, 0])
    }

    /// A key frame with so many spatial layers.
    fn nested(now: Instant, layers: u8) -> Packet {
        let template = |spatial_id| Template {
            spatial_id,
            temporal_id: 0,
            indications: Indications::default().with(0, Indication::Switch),
            references: References::default(),
            chains: vec![],
        };
        let structure = Arc::new(Structure {
            first_template: 0,
            targets: 1,
            templates: (0..layers).map(template).collect(),
            chains: 0,
            protected_by: vec![],
            resolutions: vec![],
        });
        let dependency = Dependency::of_template(&structure, 0, 1, (true, true), true).unwrap();
        Packet { dependency: Some(Arc::new(dependency)), spatial_layers: layers, ..packet(now, &[0x10]) }
    }

    #[test]
    fn a_stream_that_changes_its_shape_with_each_packet_is_told_four_times_per_second() {
        let (base, mut table) = (Instant::now(), Table::default());
        let (mut sizes, mut layers) = (Vec::new(), Vec::new());
        for i in 0..200u8 {
            let now = base + Duration::from_millis(u64::from(i) * 5);
            sizes.extend(table.observe(now, &vp8(now, Some(1 + i)), &[]).resolution);
            layers.extend(table.observe(now, &nested(now, 2 + i % 2), &[]).spatial);
        }
        assert_eq!((sizes.len(), sizes[0]), (4, (160, 1)));
        assert!((2..=4).contains(&layers.len()), "{layers:?}");
        // The last one is told, though nothing more comes of it.
        let later = base + Duration::from_secs(2);
        let last = table.observe(later, &vp8(later, None), &[]);
        assert_eq!(last.resolution, Some((160, 200)));
        let again = later + Duration::from_secs(1);
        assert_eq!(table.observe(again, &vp8(again, None), &[]).resolution, None);
    }
}
