//! From the scene to routes, taps, and the layers that publishers are wanted to send.

use std::collections::BTreeMap;
use std::time::Instant;

use antiphon_base::{ErrorKind, MediaKind, ParticipantKey, Source, TrackKey};
use antiphon_wire::control::{ErrorBody, ServerMessage};

use super::{MAX_TAPS, Room};
use crate::Bandwidth;
use crate::assign::{HOLD, assign};
use crate::keyframe::KeyframeCause;
use crate::layers::{self, Target};
use crate::load::Load;
use crate::output::{Feed, Output, SlotId, TapRequest};
use crate::participant::{Participant, TapState};
use crate::scene::Scene;
use crate::timer::Reason;

/// A bandwidth estimate that differs from the last by less than this share (in percent) is noise.
const BANDWIDTH_NOISE_PERCENT: u64 = 5;

impl Room {
    /// The whole set of tracks that an in-process subscriber wants. Its own tracks are left out.
    pub fn set_taps(&mut self, now: Instant, key: ParticipantKey, taps: Vec<TapRequest>) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&key) else { return };
        let mut next: BTreeMap<TrackKey, TapState> = BTreeMap::new();
        for tap in taps {
            if next.len() >= MAX_TAPS {
                self.stats.taps_refused += 1;
                continue;
            }
            let kept = p.taps.get(&tap.track).copied().unwrap_or_default();
            next.insert(tap.track, TapState { max_height: tap.max_height, ..kept });
        }
        let old = std::mem::replace(&mut p.taps, next);
        let gone: Vec<TapState> =
            old.into_iter().filter(|(track, _)| !p.taps.contains_key(track)).map(|(_, t)| t).collect();
        for feed in gone.iter().flat_map(|t| [t.old, t.feed]).flatten() {
            self.tap(key, feed, false);
        }
        self.dirty.insert(key);
    }

    /// What the subscriber can receive.
    pub fn bandwidth(&mut self, now: Instant, key: ParticipantKey, bandwidth: Bandwidth) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&key) else { return };
        // Who waits for a step up may have been short of it by less.
        let noise = p.bandwidth.is_some_and(|old| {
            let same = old.is_measured() == bandwidth.is_measured();
            let (old, bps) = (old.bps(), bandwidth.bps());
            let rises = p.tight && bps > old;
            same && !rises
                && old.abs_diff(bps).saturating_mul(100) < old.saturating_mul(BANDWIDTH_NOISE_PERCENT)
        });
        if !noise {
            p.bandwidth = Some(bandwidth);
            self.dirty.insert(key);
        }
    }

    /// A slot has really switched: to be said for each change of its feed, `None` and other layers included.
    /// `rtp_time` is that of the first packet, in the slot.
    pub fn switched(
        &mut self,
        now: Instant,
        key: ParticipantKey,
        slot: SlotId,
        feed: Option<Feed>,
        rtp_time: u32,
    ) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&key) else { return };
        let Some(state) = p.slots.get_mut(usize::from(slot.0)) else { return };
        let feed_track = feed.map(|f| f.track);
        let expected = state.routed.map(|f| f.track);
        let old = std::mem::replace(&mut state.flowing, feed);
        // By a newer route. It stands there all the same until the switch to that one, which may take long or never come.
        let overtaken = feed.is_some() && feed_track != expected;
        let stands = feed_track.is_some_and(|track| {
            !overtaken || (expected.is_some() && self.scene.tracks.contains_key(&track))
        });
        // Of who is muted or gone by now a packet or so may have left: nobody is named.
        let shown = feed_track.filter(|_| stands);
        let tell = shown != state.told && (feed.is_some() || expected.is_none());
        if old.map(|f| f.track) != feed_track {
            state.since = rtp_time;
        }
        if tell {
            state.told = shown;
            state.last = shown.filter(|_| !overtaken).or(state.last);
        }
        if let Some(feed) = feed {
            self.hold(feed);
        }
        if let Some(old) = old {
            self.release(old);
        }
        if tell {
            self.tell_slots(key, &[usize::from(slot.0)]);
        }
    }

    fn tell_slots(&mut self, key: ParticipantKey, which: &[usize]) {
        let Some(p) = self.participants.get(&key) else { return };
        let changed = which.iter().filter_map(|i| p.slots.get(*i));
        let slots: Vec<_> = changed.map(|s| s.assignment(|k| self.id_of(k))).collect();
        if !slots.is_empty() {
            self.send(key, ServerMessage::Slots { slots });
        }
    }

    /// Brings slots and taps of all marked subscribers in line with the scene.
    pub(super) fn evaluate(&mut self) {
        self.mark_contested();
        if !self.dirty_all && self.dirty.is_empty() {
            return;
        }
        if std::mem::take(&mut self.scene_stale) {
            self.scene = Scene::build(
                self.participants.values().map(AsRef::as_ref),
                self.dominance.set(),
                self.dominance.led(),
            );
        }
        let scene = std::mem::take(&mut self.scene);
        let some = std::mem::take(&mut self.dirty);
        let keys: Vec<ParticipantKey> = if std::mem::take(&mut self.dirty_all) {
            self.participants.keys().copied().collect()
        } else {
            some.into_iter().collect()
        };
        for key in keys {
            self.evaluate_slots(key, &scene);
            self.evaluate_taps(key, &scene);
            self.tell_unavailable(key, &scene);
        }
        self.scene = scene;
    }

    fn evaluate_slots(&mut self, key: ParticipantKey, scene: &Scene) {
        let now = self.now;
        let Some(p) = self.participants.get(&key).filter(|p| !p.slots.is_empty()) else { return };
        let cap = self.loads.get(&p.shard).and_then(Load::cap);
        let assignment = assign(p, scene, now, cap);
        let choice = layers::choose(p, scene, &assignment, now, |track| self.watched_by_alone(p, track));
        let Some(p) = self.participants.get_mut(&key) else { return };
        p.contested = assignment.contested;
        (p.pace, p.tight) = (choice.pace, choice.tight);
        p.videos = (assignment.wanted, choice.videos.1);
        if differs(p.demand, choice.demand) {
            p.demand = choice.demand;
            self.outputs.push_back(Output::Demand { subscriber: key, bps: choice.demand });
        }
        let mut told = Vec::new();
        for (i, target) in choice.targets.into_iter().enumerate() {
            if self.route(key, i, target, choice.tight, scene) {
                told.push(i);
            }
        }
        self.tell_slots(key, &told);
        self.tell_limits(key, choice.videos.0 < assignment.wanted && choice.videos.0 == choice.videos.1);
        match choice.wake {
            Some(at) => self.timers.set(Reason::Bandwidth(key), at),
            None => self.timers.cancel(Reason::Bandwidth(key)),
        }
    }

    /// Nobody but `p` is shown anything of this track, or taps it.
    fn watched_by_alone(&self, p: &Participant, track: TrackKey) -> bool {
        let (first, last) = (Feed { track, layer: 0 }, Feed { track, layer: u8::MAX });
        let all: u32 = self.holds.range(first..=last).map(|(_, count)| *count).sum();
        let slots = p.slots.iter().flat_map(|s| [s.routed, s.flowing]).flatten();
        let own = slots.filter(|f| f.track == track).count();
        usize::try_from(all).unwrap_or(usize::MAX) <= own
    }

    /// Routes one slot. True: the subscriber is to be told at once, not when the switch has happened.
    fn route(&mut self, key: ParticipantKey, i: usize, target: Target, tight: bool, scene: &Scene) -> bool {
        let Some(slot) = self.participants.get_mut(&key).and_then(|p| p.slots.get_mut(i)) else {
            return false;
        };
        self.layers_dirty |= slot.desired != target.feed || slot.squeezed != target.squeezed;
        (slot.desired, slot.squeezed) = (target.feed, target.squeezed);
        let feed = target.feed.map(|desired| sent(scene, desired, slot.routed, tight));
        let before = slot.told;
        let gone = |f: Feed| !scene.tracks.contains_key(&f.track);
        let old = std::mem::replace(&mut slot.routed, feed);
        let temporal = target.temporal;
        let same = old == feed && slot.temporal == temporal;
        slot.temporal = temporal;
        let flowing = slot.flowing;
        // Nothing more of a track that is muted or gone while another one is waited for.
        let emptied = old.is_some() && feed.is_some() && old != feed && flowing.is_some_and(gone);
        let back = feed.is_some() && flowing.map(|f| f.track) == feed.map(|f| f.track);
        match (feed, slot.told) {
            // Nothing will come: the tile is empty now.
            (None, _) => slot.told = None,
            // Back to what has not stopped flowing: no switch will be told.
            (Some(feed), _) if back => slot.told = Some(feed.track),
            (Some(_), Some(told)) if !scene.tracks.contains_key(&told) => slot.told = None,
            _ => {}
        }
        if let Some(feed) = feed {
            slot.last = Some(feed.track);
        }
        let tell = slot.told != before;
        if !same {
            let slot = SlotId(u16::try_from(i).unwrap_or(u16::MAX));
            if emptied {
                self.outputs.push_back(Output::Route { subscriber: key, slot, feed: None, temporal: None });
            }
            self.outputs.push_back(Output::Route { subscriber: key, slot, feed, temporal });
        }
        if old != feed {
            self.stats.routes += 1;
            if let Some(feed) = feed {
                self.hold(feed);
            }
            if let Some(old) = old {
                self.release(old);
            }
        }
        tell
    }

    fn evaluate_taps(&mut self, key: ParticipantKey, scene: &Scene) {
        let Some(p) = self.participants.get(&key) else { return };
        let wanted: Vec<(TrackKey, Option<Feed>, TapState)> = p
            .taps
            .iter()
            .map(|(track, tap)| {
                let found = scene.eligible(p, *track).filter(|_| self.may_tap(p, *track));
                (*track, found.map(|t| t.feed_below(tap.max_height)), *tap)
            })
            .filter(|(_, feed, tap)| *feed != tap.feed)
            .collect();
        for (track, feed, tap) in wanted {
            let flows = |f: &Feed| scene.tracks.get(&f.track).is_some_and(|t| t.flows(f.layer));
            // While layers change the one that is shown goes on; an unfinished earlier change is cut short.
            let shown = tap.old.or(tap.feed);
            let old = shown.filter(|f| feed.is_some_and(|wanted| wanted != *f) && flows(f));
            for off in
                [tap.old, tap.feed].into_iter().flatten().filter(|f| Some(*f) != old && Some(*f) != feed)
            {
                self.tap(key, off, false);
            }
            if let Some(feed) = feed.filter(|f| tap.old != Some(*f)) {
                self.tap(key, feed, true);
            }
            if let Some(feed) = feed.filter(|f| f.track.source.kind() == MediaKind::Video) {
                self.want_keyframe(feed, KeyframeCause::Start);
            }
            let state = self.participants.get_mut(&key).and_then(|p| p.taps.get_mut(&track));
            if let Some(state) = state {
                (state.feed, state.old) = (feed, old);
            }
        }
    }

    fn tap(&mut self, key: ParticipantKey, feed: Feed, on: bool) {
        self.outputs.push_back(Output::Tap { subscriber: key, feed, on });
        if on {
            self.hold(feed);
        } else {
            self.release(feed);
        }
    }

    /// A keyframe of `feed` came: taps that waited for it let go of their old layer.
    pub(super) fn taps_switched(&mut self, feed: Feed) {
        let mut off = Vec::new();
        for p in self.participants.values_mut() {
            if let Some(tap) = p.taps.get_mut(&feed.track).filter(|t| t.feed == Some(feed)) {
                off.extend(tap.old.take().map(|old| (p.key, old)));
            }
        }
        for (key, old) in off {
            self.tap(key, old, false);
        }
    }

    /// Says once that a track cannot be decoded by this subscriber.
    fn tell_unavailable(&mut self, key: ParticipantKey, scene: &Scene) {
        let Some(p) = self.participants.get(&key).filter(|p| p.open && !p.decodes.is_empty()) else { return };
        if p.slots.is_empty() && p.taps.is_empty() {
            return;
        }
        let news: Vec<(TrackKey, ServerMessage)> = scene
            .undecodable(p)
            .into_iter()
            .filter(|t| !p.unavailable.contains(&t.key))
            .map(|t| {
                let error = ErrorBody {
                    code: ErrorKind::NoCommonCodec,
                    message: format!("this track is coded in {}, which you did not offer", t.codec.as_str()),
                };
                let (participant, source) = (t.owner.clone(), t.key.source);
                (t.key, ServerMessage::TrackUnavailable { participant, source, error })
            })
            .collect();
        for (track, message) in news {
            if let Some(p) = self.participants.get_mut(&key) {
                p.unavailable.insert(track);
            }
            self.send(key, message);
        }
    }

    fn hold(&mut self, feed: Feed) {
        *self.holds.entry(feed).or_insert(0) += 1;
        self.layers_dirty = true;
        self.wanted_dirty.insert(feed.track);
    }

    fn release(&mut self, feed: Feed) {
        self.layers_dirty = true;
        if let Some(count) = self.holds.get_mut(&feed) {
            *count -= 1;
            if *count == 0 {
                self.holds.remove(&feed);
            }
        }
        self.wanted_dirty.insert(feed.track);
    }

    /// The mask of layers that slots and taps hold.
    pub(super) fn wants_layers(&self, track: TrackKey) -> u8 {
        let first = Feed { track, layer: 0 };
        let last = Feed { track, layer: u8::MAX };
        self.holds.range(first..=last).fold(0, |mask, (feed, _)| mask | (1 << feed.layer))
    }

    pub(super) fn flush_wanted(&mut self) {
        for track in std::mem::take(&mut self.wanted_dirty) {
            let layers = self.wants_layers(track);
            if self.wanted.get(&track).copied().unwrap_or(0) == layers {
                continue;
            }
            if layers == 0 {
                self.wanted.remove(&track);
            } else {
                self.wanted.insert(track, layers);
            }
            self.outputs.push_back(Output::Wanted { track, layers });
        }
    }

    /// A subscriber's slots hold nothing any more.
    pub(super) fn release_slots(&mut self, key: ParticipantKey) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        let held: Vec<Feed> =
            p.slots.iter_mut().flat_map(|s| [s.routed.take(), s.flowing.take()]).flatten().collect();
        p.slots.iter_mut().for_each(|s| s.desired = None);
        for feed in held {
            self.release(feed);
        }
    }

    /// Nor do its taps.
    pub(super) fn release_taps(&mut self, key: ParticipantKey) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        let held: Vec<Feed> =
            std::mem::take(&mut p.taps).into_values().flat_map(|t| [t.feed, t.old]).flatten().collect();
        for feed in held {
            self.release(feed);
        }
    }

    /// A participant goes: nothing of its keyframes is kept.
    pub(super) fn forget_feeds(&mut self, key: ParticipantKey, source: Source) {
        for feed in self.keyframes.forget(TrackKey { participant: key, source }) {
            self.timers.cancel(crate::timer::Reason::Keyframe(feed));
        }
    }
}

/// What is to be routed until `desired` is sent: what the slot shows, the highest layer below it that is sent; itself, if
/// none is.
fn sent(scene: &Scene, desired: Feed, shown: Option<Feed>, tight: bool) -> Feed {
    let Some(track) = scene.tracks.get(&desired.track) else { return desired };
    if track.flows(desired.layer) {
        return desired;
    }
    let shown = shown.filter(|f| f.track == desired.track && track.flows(f.layer));
    let above = shown.filter(|f| f.layer > desired.layer);
    if let Some(shown) = above.filter(|_| !tight) {
        return shown;
    }
    let below = track.live().rev().find(|layer| *layer < desired.layer && track.flows(*layer));
    below.map(|layer| Feed { layer, ..desired }).or(above).unwrap_or(desired)
}

/// A demand that is worth telling.
fn differs(old: u64, new: u64) -> bool {
    (old == 0) != (new == 0)
        || old.abs_diff(new).saturating_mul(100) > old.saturating_mul(BANDWIDTH_NOISE_PERCENT)
}

/// The hold of audio slots is longer than the clock on which it is looked at.
const _: () = assert!(HOLD.as_millis() >= 100);
