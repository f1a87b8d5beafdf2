//! A room on its shard: the engine, its members, and the table from feeds to those who get their packets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use antiphon_base::{Codec, ParticipantKey, RoomName, TrackKey};
use antiphon_room::slot::Outgoing;
use antiphon_room::{Feed, Room, SlotId};
use antiphon_wire::rtp::Packet;

use crate::attach::AttachEvent;
use crate::meter::Meter;
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
    meter: Meter,
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
            meter: Meter::default(),
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
        let feed = Feed { track: packet.track, layer: packet.layer };
        let state = self.feed(feed, now);
        let silent = now.saturating_duration_since(state.told) >= ACTIVITY_INTERVAL;
        // One that has stopped comes again: a layer that was not wanted for a while.
        let new = state.codec != packet.codec
            || state.stopped
            || now.saturating_duration_since(state.told) >= Duration::from_secs(2);
        let resolution = packet.descriptor.resolution().filter(|r| state.resolution != Some(*r));
        let listens = |place: usize| peers.get(place).and_then(Option::as_deref).is_some_and(|p| p.connected);
        let goes_somewhere = !state.taps.is_empty() || state.routes.iter().any(|(place, _)| listens(*place));
        let rate = state.meter.take(now, packet);
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
        if let Some(rate) = rate {
            self.room.layer_rate(now, feed, rate);
        }
        if let Some((width, height)) = resolution {
            self.room.layer_resolution(now, feed, width, height);
        }
        if let Some(level) = packet.audio_level {
            self.room.audio_level(now, packet.track, level.level, level.voice);
        }
        // One that nobody gets must not keep the next from being asked for.
        let is_key = packet.codec.kind() == antiphon_base::MediaKind::Video && packet.starts_keyframe();
        if is_key && goes_somewhere {
            self.room.keyframe_seen(now, feed);
        }
        self.dirty |= new
            || silent
            || rate.is_some()
            || resolution.is_some()
            || packet.audio_level.is_some()
            || packet.starts_keyframe();
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
        let feed = Feed { track: packet.track, layer: packet.layer };
        let Some(state) = self.feeds.get(&feed) else { return };
        routed.unwanted = state.routes.is_empty() && state.taps.is_empty();
        for &(place, slot) in &state.routes {
            let Some(peer) = peers.get_mut(place).and_then(Option::as_deref_mut) else { continue };
            // Without keys str0m would keep all of it, and let it go at once when they come.
            if !peer.connected {
                continue;
            }
            let Some(target) = peer.slots.get_mut(usize::from(slot.0)) else { continue };
            if target.admit(packet, &mut self.scratch) {
                routed.switched.push(Switched { peer: place, slot, feed: None, rtp_time: 0 });
            }
            if self.scratch.is_empty() {
                continue;
            }
            routed.touched.push(place);
            for outgoing in self.scratch.drain(..) {
                routed.forwarded += 1;
                if outgoing.switched {
                    // Not always the packet's own feed: the end of the old one lets the held key frame of the new one go.
                    let p = &outgoing.packet;
                    let feed = Some(Feed { track: p.track, layer: p.layer });
                    let rtp_time = outgoing.rewritten.rtp_time;
                    routed.switched.push(Switched { peer: place, slot, feed, rtp_time });
                }
                peer.connection.forward(slot, outgoing);
            }
        }
        for key in &state.taps {
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

    /// Feeds of a track that somebody gets now (for keyframes of a tapped track).
    pub(crate) fn is_tapped(&self, subscriber: ParticipantKey, track: TrackKey, layer: u8) -> bool {
        self.feeds.get(&Feed { track, layer }).is_some_and(|f| f.taps.contains(&subscriber))
    }
}
