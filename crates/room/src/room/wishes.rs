//! What the room says back: to publishers, which layers are wanted; to subscribers, how many videos they are served. And
//! the load of the host, by which that number shrinks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use antiphon_base::{MediaKind, ParticipantKey, Source};
use antiphon_wire::control::{LimitReason, ServerMessage};

use super::Room;
use crate::bound::{bound, differs};
use crate::layers;
use crate::load::{Levels, Report};
use crate::output::{Feed, MAX_LAYERS, Output};
use crate::participant::Participant;
use crate::timer::Reason;
use crate::wish::Want;

/// All subscribers are gone through for it; a burst of joins costs one such look.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Room {
    /// On which of the host's shards a participant is served; 0 until this is said.
    pub fn served_by(&mut self, now: Instant, key: ParticipantKey, shard: u16) {
        self.at(now);
        if let Some(p) = self.participants.get_mut(&key) {
            p.shard = shard;
            self.dirty.insert(key);
        }
    }

    /// How busy a shard is, in thousandths of its time over the last second or so. To be said about once per second:
    /// above [`Config::busy_permille`](crate::Config::busy_permille) those whom it serves get fewer videos.
    pub fn load(&mut self, now: Instant, shard: u16, permille: u64) {
        self.at(now);
        let here = || self.participants.values().filter(|p| p.shard == shard);
        let wanted = here().map(|p| p.videos.0).max().unwrap_or(0);
        let served = here().map(|p| p.videos.1).max().unwrap_or(0);
        let report = Report { permille, levels: Levels::above(self.config.busy_permille), served, wanted };
        if self.loads.entry(shard).or_default().report(self.now, report) {
            self.stats.load_caps += 1;
            let here: Vec<_> = here().map(|p| p.key).collect();
            self.dirty.extend(here);
        }
    }

    /// Says how many videos `key` is served, where that has changed. `capped`: the server holds some back.
    pub(super) fn tell_limits(&mut self, key: ParticipantKey, capped: bool) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        let (wanted, served) = p.videos;
        let reason = if capped { LimitReason::ServerBusy } else { LimitReason::Bandwidth };
        let limits = (served < wanted).then(|| (u16::try_from(served).unwrap_or(u16::MAX), reason));
        if !p.open || p.limits == limits {
            return;
        }
        p.limits = limits;
        self.stats.limits_told += 1;
        let (last_n, reason) = limits.unzip();
        self.send(key, ServerMessage::Limits { last_n, reason });
    }

    /// Layers that were told to come back and have not are given up.
    pub(super) fn layers_tick(&mut self, now: Instant) {
        self.layers_dirty = true;
        let mut gone = Vec::new();
        for p in self.participants.values_mut() {
            for state in &mut p.sources {
                let overdue = state.wish.overdue(now);
                let Some(media) = state.media.as_mut().filter(|m| m.paused & overdue != 0) else { continue };
                media.paused &= !overdue;
                gone.push(p.key);
            }
        }
        if !gone.is_empty() {
            self.roster_dirty.extend(gone);
            self.touch_scene();
        }
    }

    /// Tells publishers what has changed.
    pub(super) fn flush_layers(&mut self) {
        if !self.layers_dirty {
            return;
        }
        let due = self.layers_looked.map_or(self.now, |at| at + LOOK_INTERVAL);
        if due > self.now {
            self.timers.set(Reason::Layers, due);
            return;
        }
        (self.layers_dirty, self.layers_looked) = (false, Some(self.now));
        let wants = self.wants();
        let now = self.now;
        let (mut told, mut bounds, mut wake) = (Vec::new(), Vec::new(), None::<Instant>);
        for p in self.participants.values_mut().filter(|p| p.open || (p.boundable && p.up)) {
            for source in [Source::Camera, Source::Screen] {
                let (track, state) = (p.track(source), &mut p.sources[source.index()]);
                if !state.listed() || state.muted {
                    continue;
                }
                let Some(media) = state.media.as_ref() else { continue };
                let (deaf, nested) = (media.deaf, media.nested);
                let want = |layer| {
                    if nested {
                        // One stream: it is watched or not.
                        let any = (0..MAX_LAYERS).any(|layer| wants.contains_key(&Feed { track, layer }));
                        return any.then(Want::default);
                    }
                    let want = *wants.get(&Feed { track, layer })?;
                    Some(if deaf { Want { max_bitrate: None, ..want } } else { want })
                };
                let known = if nested { 1 } else { media.available() };
                let (news, again) = state.wish.update(now, known, want);
                let news = news.filter(|_| p.open);
                told.extend(news.map(|layers| (p.key, ServerMessage::Layers { source, layers })));
                wake = [wake, again].into_iter().flatten().min();
            }
            if p.boundable {
                bounds.extend(new_bound(p));
            }
        }
        self.stats.bounds_told += bounds.len() as u64;
        self.outputs.extend(bounds);
        for (to, message) in told {
            self.stats.layers_told += 1;
            self.send(to, message);
        }
        match wake {
            Some(at) => self.timers.set(Reason::Layers, at),
            None => self.timers.cancel(Reason::Layers),
        }
    }

    /// Everything that slots and taps want of video, or still show.
    fn wants(&self) -> BTreeMap<Feed, Want> {
        let mut wants: BTreeMap<Feed, Want> = BTreeMap::new();
        let mut add = |feed: Feed, want: Want| {
            wants.entry(feed).and_modify(|old| *old = old.and(want)).or_insert(want);
        };
        for p in self.participants.values() {
            for slot in &p.slots {
                let Some(desired) = slot.desired.filter(|f| f.track.source.kind() == MediaKind::Video) else {
                    continue;
                };
                let track = self.scene.tracks.get(&desired.track);
                let want = Want {
                    max_bitrate: slot.squeezed,
                    max_height: track.and_then(|t| layers::cap(p, slot, t)),
                    max_frame_rate: p.policy.max_frame_rate,
                };
                add(desired, want);
                // What it shows until then; it was wanted by the same cap.
                if let Some(routed) = slot.routed.filter(|r| r != &desired && r.track == desired.track) {
                    add(routed, Want { max_bitrate: None, ..want });
                }
            }
            for tap in p.taps.values() {
                let want = Want { max_height: tap.max_height, ..Want::default() };
                for feed in [tap.feed, tap.old].into_iter().flatten() {
                    add(feed, want);
                }
            }
        }
        // What has not been switched away from yet.
        for feed in self.holds.keys() {
            wants.entry(*feed).or_default();
        }
        wants
    }
}

/// What a publisher without control channel is to be told, if that is news.
fn new_bound(p: &mut Participant) -> Option<Output> {
    let bps = bound(p);
    if !differs(p.bound, bps) {
        return None;
    }
    p.bound = bps;
    Some(Output::Bound { publisher: p.key, bps })
}
