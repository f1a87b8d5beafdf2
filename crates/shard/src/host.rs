//! A room on its shard: the engine, its members, and the table from feeds to those who get their packets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use antiphon_base::{Codec, ParticipantKey, RoomName, TrackKey};
use antiphon_room::slot::Outgoing;
use antiphon_room::{Feed, MAX_LAYERS, Room, SlotId};
use antiphon_wire::rtp::{Descriptor, Packet};

use crate::attach::AttachEvent;
use crate::peer::Peer;

/// How often the engine is told that packets still come.
const ACTIVITY_INTERVAL: Duration = Duration::from_millis(250);

/// A layer without packets for so long, while another layer of its track has them, has stopped. Longer than the gap
/// between pictures of a slow screen share.
const LAYER_SILENCE: Duration = Duration::from_millis(1_000);

/// A room on its shard.
pub(crate) struct Host {
    pub(crate) name: RoomName,
    pub(crate) room: Room,
    pub(crate) members: HashMap<ParticipantKey, Member>,
    pub(crate) feeds: HashMap<Feed, FeedState>,
    pub(crate) scheduled: Option<Instant>,
    /// The engine may have outputs.
    pub(crate) dirty: bool,
    scratch: Vec<Outgoing>,
}

/// By what a participant is here.
pub(crate) enum Member {
    /// A WebRTC peer, by its place.
    Peer(usize),
    /// A program in this process.
    Attached(Attached),
    /// A WebRTC peer whose connection is gone; its place in the room is kept for a while.
    Lost { id: antiphon_base::ParticipantId, stats: serde_json::Value },
}

/// The shard's side of an attachment.
pub(crate) struct Attached {
    pub(crate) events: async_channel::Sender<AttachEvent>,
    pub(crate) media: async_channel::Sender<Arc<Packet>>,
    pub(crate) dropped: Arc<AtomicU64>,
    pub(crate) may_publish: bool,
}

/// One source layer as the room knows it.
pub(crate) struct FeedState {
    codec: Codec,
    resolution: Option<(u32, u32)>,
    told: Instant,
    /// When its last packet came.
    last: Instant,
    /// The engine was told that it has stopped while its track goes on.
    stopped: bool,
    /// Slots that show it or wait for it.
    pub(crate) routes: Vec<(usize, SlotId)>,
    /// Attachments that take it.
    pub(crate) taps: Vec<ParticipantKey>,
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
    pub(crate) attach_dropped: u64,
    pub(crate) touched: Vec<usize>,
    pub(crate) switched: Vec<Switched>,
}

impl Routed {
    fn clear(&mut self) {
        self.forwarded = 0;
        self.unwanted = false;
        self.attach_dropped = 0;
        self.touched.clear();
        self.switched.clear();
    }
}

/// The layer of its track that a packet is of.
fn feed_of(packet: &Packet) -> Feed {
    let layer = if packet.spatial_layers > 1 { packet.spatial_id() } else { packet.layer };
    Feed { track: packet.track, layer }
}

/// The layers of which a packet is a part: whoever listens to one of them gets it. Of spatial layers each slot gets all,
/// also those that it leaves out: it closes their numbers.
fn layers_with(packet: &Packet) -> impl Iterator<Item = Feed> + use<> {
    let track = packet.track;
    let (first, count) =
        if packet.spatial_layers > 1 { (0, packet.spatial_layers) } else { (packet.layer, 1) };
    (first..first.saturating_add(count)).map(move |layer| Feed { track, layer })
}

/// The packet tells what spatial layers its stream has.
fn tells_layers(packet: &Packet) -> bool {
    match (&packet.dependency, &packet.descriptor) {
        (Some(d), _) => d.attached,
        (None, Descriptor::Vp9(d)) => d.spatial_layers.is_some(),
        _ => false,
    }
}

/// For each spatial layer of a packet's stream the height of its pictures, where the packet tells it.
fn spatial_heights(packet: &Packet) -> Vec<Option<u16>> {
    let told: Vec<(u16, u16)> = match (&packet.dependency, &packet.descriptor) {
        (Some(d), _) if !d.structure.resolutions.is_empty() => d.structure.resolutions.clone(),
        (_, Descriptor::Vp9(d)) => d.sizes(&packet.payload),
        _ => Vec::new(),
    };
    (0..usize::from(packet.spatial_layers)).map(|i| told.get(i).map(|(_, height)| *height)).collect()
}

impl Host {
    pub(crate) fn new(name: RoomName, room: Room) -> Self {
        Self {
            name,
            room,
            members: HashMap::new(),
            feeds: HashMap::new(),
            scheduled: None,
            dirty: true,
            scratch: Vec::new(),
        }
    }

    /// Entry of a feed; made when first routed or seen.
    pub(crate) fn feed(&mut self, feed: Feed, now: Instant) -> &mut FeedState {
        self.feeds.entry(feed).or_insert_with(|| FeedState {
            codec: Codec::Video(antiphon_base::VideoCodec::Vp8),
            resolution: None,
            // Long ago: the first packet is told at once.
            told: now.checked_sub(Duration::from_secs(3_600)).unwrap_or(now),
            last: now,
            // Until its first packet.
            stopped: true,
            routes: Vec::new(),
            taps: Vec::new(),
        })
    }

    /// Tells the engine what it must know of a packet. True: it is the first of a layer, which the room does not know yet.
    pub(crate) fn observe(&mut self, now: Instant, packet: &Packet, peers: &[Option<Box<Peer>>]) -> bool {
        let feed = feed_of(packet);
        let listens = |place: usize| peers.get(place).and_then(Option::as_deref).is_some_and(|p| p.connected);
        let goes_somewhere = layers_with(packet)
            .filter_map(|f| self.feeds.get(&f))
            .any(|state| !state.taps.is_empty() || state.routes.iter().any(|(place, _)| listens(*place)));
        let state = self.feed(feed, now);
        let silent = now.saturating_duration_since(state.told) >= ACTIVITY_INTERVAL;
        let new = state.codec != packet.codec
            || state.stopped
            || now.saturating_duration_since(state.told) >= Duration::from_secs(2);
        let resolution = packet.descriptor.resolution().filter(|r| state.resolution != Some(*r));
        if silent {
            state.told = now;
        }
        state.codec = packet.codec;
        state.last = now;
        state.stopped = false;
        if resolution.is_some() {
            state.resolution = resolution;
        }
        if new {
            self.room.layer_seen(now, feed, packet.codec);
        } else if silent {
            self.room.activity(now, packet.track);
        }
        let is_key = packet.codec.kind() == antiphon_base::MediaKind::Video && packet.starts_keyframe();
        if packet.layer == 0 && (is_key || tells_layers(packet)) {
            self.room.spatial_seen(now, packet.track, &spatial_heights(packet));
        }
        if let Some((width, height)) = resolution.filter(|_| packet.spatial_layers <= 1) {
            self.room.layer_resolution(now, feed, width, height);
        }
        if let Some(level) = packet.audio_level {
            self.room.audio_level(now, packet.track, level.level, level.voice);
        }
        // One that nobody gets must not keep the next from being asked for.
        if is_key && goes_somewhere {
            self.room.keyframe_seen(now, feed);
        }
        self.dirty |= tells_layers(packet);
        self.dirty |=
            new || silent || resolution.is_some() || packet.audio_level.is_some() || packet.starts_keyframe();
        new
    }

    /// Gives an observed packet to everybody who gets it.
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
        routed.unwanted &= state.routes.is_empty() && state.taps.is_empty();
        let lower = |other: &Feed| other.track == feed.track && other.layer < feed.layer;
        let nested = packet.spatial_layers > 1;
        for &(place, slot) in &state.routes {
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
            let lower = (0..feed.layer).map(|layer| Feed { layer, ..feed });
            if nested && lower.filter_map(|f| self.feeds.get(&f)).any(|f| f.taps.contains(key)) {
                continue;
            }
            let Some(Member::Attached(attached)) = self.members.get(key) else { continue };
            if attached.media.try_send(packet.clone()).is_err() {
                attached.dropped.fetch_add(1, Ordering::Relaxed);
                routed.attach_dropped += 1;
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
            }
        }
        for feed in wanted.into_iter().flatten() {
            let routes = &mut self.feed(feed, now).routes;
            if !routes.contains(&(place, slot)) {
                routes.push((place, slot));
            }
        }
    }

    /// Tells the engine of simulcast layers that have stopped while others of their track go on: a sender short of
    /// bandwidth or CPU drops the highest first, and whoever watches it must get another.
    pub(crate) fn find_stopped_layers(&mut self, now: Instant) {
        let silent = |state: &FeedState| now.saturating_duration_since(state.last) >= LAYER_SILENCE;
        let flowing: Vec<TrackKey> =
            self.feeds.iter().filter(|(_, s)| !s.stopped && !silent(s)).map(|(f, _)| f.track).collect();
        for (feed, state) in &mut self.feeds {
            if !state.stopped && silent(state) && flowing.contains(&feed.track) {
                state.stopped = true;
                self.room.layer_gone(now, *feed);
                self.dirty = true;
            }
        }
    }

    /// Forgets a peer's slots.
    pub(crate) fn forget_peer(&mut self, place: usize) {
        for feed in self.feeds.values_mut() {
            feed.routes.retain(|(p, _)| *p != place);
        }
    }

    /// Forgets a participant that has gone: its feeds and its taps.
    pub(crate) fn forget_participant(&mut self, key: ParticipantKey) {
        self.feeds.retain(|feed, _| feed.track.participant != key);
        for feed in self.feeds.values_mut() {
            feed.taps.retain(|k| *k != key);
        }
        self.members.remove(&key);
    }

    /// The publisher of a track starts again (new connection): layers must be seen anew, and slots that show one of them
    /// begin anew, with its next key frame.
    pub(crate) fn restart_feeds(
        &mut self,
        key: ParticipantKey,
        now: Instant,
        peers: &mut [Option<Box<Peer>>],
    ) {
        let mut cut = Vec::new();
        for (feed, state) in &mut self.feeds {
            if feed.track.participant == key {
                state.told = now.checked_sub(Duration::from_secs(3_600)).unwrap_or(now);
                cut.extend(state.routes.iter().map(|(place, slot)| (*place, *slot, *feed)));
            }
        }
        for (place, slot, feed) in cut {
            let Some(peer) = peers.get_mut(place).and_then(Option::as_deref_mut) else { continue };
            let Some(target) = peer.slots.get_mut(usize::from(slot.0)) else { continue };
            if [target.current(), target.wanted()].contains(&Some(feed)) && target.cut() {
                self.room.switched(now, peer.key, slot, None, 0);
                self.relisten(now, place, peer, slot);
            }
        }
    }

    /// Turns a tap on or off.
    pub(crate) fn tap(&mut self, now: Instant, subscriber: ParticipantKey, feed: Feed, on: bool) {
        let taps = &mut self.feed(feed, now).taps;
        taps.retain(|k| *k != subscriber);
        if on {
            taps.push(subscriber);
        }
    }

    /// Somebody gets this layer of a track now, or, of spatial layers, another one (for keyframes of a tapped track).
    pub(crate) fn is_tapped(&self, subscriber: ParticipantKey, track: TrackKey, layer: u8) -> bool {
        let taps =
            |layer| self.feeds.get(&Feed { track, layer }).is_some_and(|f| f.taps.contains(&subscriber));
        taps(layer) || (layer == 0 && (1..MAX_LAYERS).any(taps))
    }
}
