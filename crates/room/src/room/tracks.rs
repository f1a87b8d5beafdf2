//! What publishers send: layers that begin and end, heights, idle tracks.

use std::time::Instant;

use antiphon_base::{Codec, MediaKind, ParticipantKey, Source, TrackKey};

use super::Room;
use crate::loudness::Loudness;
use crate::output::{Feed, MAX_LAYERS};
use crate::participant::{Intent, Media, Participant};
use crate::rates::{LayerRate, News};
use crate::timer::Reason;

impl Room {
    /// The first packet of a layer came, or the codec of a track changed. Refused (and counted) without the grant.
    pub fn layer_seen(&mut self, now: Instant, feed: Feed, codec: Codec) {
        self.at(now);
        let TrackKey { participant, source } = feed.track;
        if !self.may_send(participant) || feed.layer >= MAX_LAYERS || codec.kind() != source.kind() {
            self.stats.layers_refused += 1;
            return;
        }
        let Some(p) = self.participants.get_mut(&participant) else { return };
        let control = p.control;
        let state = &mut p.sources[source.index()];
        let media = state.media.get_or_insert_with(|| Box::new(Media::new(now, codec)));
        let changed = media.codec != codec;
        if changed {
            **media = Media { last: media.last, loudness: media.loudness, ..Media::new(now, codec) };
        }
        media.layers |= 1 << feed.layer;
        media.paused &= !(1 << feed.layer);
        state.wish.seen(feed.layer);
        media.last = now;
        media.idle = false;
        if changed {
            for p in self.participants.values_mut() {
                p.unavailable.remove(&feed.track);
            }
        }
        if !control && !self.timers.is_set(Reason::Idle) {
            self.timers.set(Reason::Idle, self.now + self.config.idle_track / 4);
        }
        self.roster_dirty.insert(participant);
        self.layers_dirty = true;
        self.touch_scene();
    }

    /// What a layer costs, as measured over about a second of its packets.
    pub fn layer_rate(&mut self, now: Instant, feed: Feed, rate: LayerRate) {
        self.at(now);
        let TrackKey { participant, source } = feed.track;
        let Some(p) = self.participants.get_mut(&participant) else { return };
        let state = &mut p.sources[source.index()];
        let Some(media) = state.media.as_mut() else { return };
        let Some(rates) = media.rates.get_mut(usize::from(feed.layer)) else { return };
        let mut news = rates.take(rate, source == Source::Screen);
        let peak = &mut media.peaks[usize::from(feed.layer)];
        let before = std::mem::replace(peak, rates.latest(u8::MAX).max(*peak));
        self.layers_dirty |= p.boundable && before < *peak;
        if !media.deaf && state.wish.is_ignored(self.now, feed.layer, rates.latest(u8::MAX)) {
            media.deaf = true;
            self.layers_dirty = true;
            news = News::Changed;
        }
        // Voices cost what they cost: nothing is chosen by it.
        if news == News::None || source.kind() == MediaKind::Audio {
            return;
        }
        // Nor is for those whom nothing limits.
        let minds = |p: &Participant| if news == News::Changed { p.bandwidth.is_some() } else { p.tight };
        let shows =
            |p: &Participant| p.slots.iter().any(|s| s.desired.is_some_and(|f| f.track == feed.track));
        let some = self.participants.values().filter(|p| minds(p) && shows(p)).map(|p| p.key);
        let some: Vec<ParticipantKey> = some.collect();
        self.scene_stale |= news == News::Changed || !some.is_empty();
        self.dirty.extend(some);
    }

    /// Whether packets of `key` are taken at all.
    fn may_send(&self, key: ParticipantKey) -> bool {
        let Some(p) = self.participants.get(&key) else { return false };
        // Who is not in the roster is not seen or heard either.
        if !p.grants.publish || p.hidden {
            return false;
        }
        p.publishes()
            || self.participants.values().filter(|p| p.publishes()).count() < self.config.max_publishers
    }

    /// A layer that was seen is not sent any more while others of its track are: the sender's own adaptation, or what it
    /// was told. [`Room::layer_seen`] brings it back.
    pub fn layer_gone(&mut self, now: Instant, feed: Feed) {
        self.at(now);
        let TrackKey { participant, source } = feed.track;
        let Some(p) = self.participants.get_mut(&participant) else { return };
        let state = &mut p.sources[source.index()];
        let Some(media) = state.media.as_mut() else { return };
        let bit = 1u8.checked_shl(u32::from(feed.layer)).unwrap_or(0);
        if media.layers & bit != 0 && state.wish.may_pause(feed.layer) {
            media.paused |= bit;
        }
        media.layers &= !bit;
        self.roster_dirty.insert(feed.track.participant);
        self.touch_scene();
    }

    /// A keyframe told the size of its pictures.
    pub fn layer_resolution(&mut self, now: Instant, feed: Feed, width: u32, height: u32) {
        self.at(now);
        let [width, height] = [width, height].map(|pixels| u16::try_from(pixels).unwrap_or(u16::MAX));
        let Some(media) = self.media(feed.track) else { return };
        let layer = usize::from(feed.layer);
        let (Some(known), Some(wide)) = (media.heights.get_mut(layer), media.widths.get_mut(layer)) else {
            return;
        };
        if width == 0 || height == 0 {
            return;
        }
        *wide = Some(width);
        if *known == Some(height) {
            return;
        }
        *known = Some(height);
        self.touch_scene();
    }

    /// A key frame told of how many spatial layers its RTP stream is, lowest first with their heights as far as known, and
    /// that it is the track's only one: the layers of this track are these, a key frame of one is one of all, and each
    /// comes with all below it. One: it has none. [`Room::layer_seen`] and [`Room::layer_gone`] tell which are sent.
    pub fn spatial_seen(&mut self, now: Instant, track: TrackKey, heights: &[Option<u16>]) {
        self.at(now);
        let Some(media) = self.media(track) else { return };
        let count = heights.len().clamp(1, usize::from(MAX_LAYERS));
        if count == 1 && !media.nested {
            return;
        }
        let mask = u8::MAX >> (usize::from(MAX_LAYERS) - count);
        let mut known: [Option<u16>; MAX_LAYERS as usize] = media.heights;
        for (i, known) in known.iter_mut().enumerate() {
            *known = heights.get(i).and_then(|height| height.or(*known));
        }
        let before = (media.nested, media.layers, media.heights);
        (media.nested, media.layers, media.heights) = (count > 1, media.layers & mask, known);
        media.paused &= mask;
        if before != (media.nested, media.layers, media.heights) {
            self.roster_dirty.insert(track.participant);
            self.touch_scene();
        }
    }

    /// The layers of a track are spatial layers of one stream: a key frame of one is one of all.
    pub(super) fn is_nested(&self, track: TrackKey) -> bool {
        let state = self.participants.get(&track.participant).map(|p| &p.sources[track.source.index()]);
        state.and_then(|s| s.media.as_ref()).is_some_and(|m| m.nested)
    }

    /// The feed by which key frames of `feed` are asked for.
    pub(super) fn keyframe_feed(&self, feed: Feed) -> Feed {
        Feed { layer: if self.is_nested(feed.track) { 0 } else { feed.layer }, ..feed }
    }

    /// Packets of a track still come; to be said a few times per second for publishers without control channel.
    pub fn activity(&mut self, now: Instant, track: TrackKey) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&track.participant) else { return };
        let control = p.control;
        let Some(media) = p.sources[track.source.index()].media.as_mut() else { return };
        media.last = now;
        if media.idle && !control {
            media.idle = false;
            self.timers.set(Reason::Idle, self.now + self.config.idle_track / 4);
            self.roster_dirty.insert(track.participant);
            self.touch_scene();
        }
    }

    /// Tracks without packets end, where nobody can say so.
    pub(super) fn idle_tick(&mut self, now: Instant) {
        let mut alive = false;
        let mut ended = Vec::new();
        for p in self.participants.values_mut().filter(|p| !p.control) {
            let key = p.key;
            for (state, source) in p.sources.iter_mut().zip(Source::ALL) {
                let Some(media) = state.media.as_mut().filter(|m| !m.idle) else { continue };
                let heard = media.loudness.last().map_or(media.last, |at| at.max(media.last));
                if now.saturating_duration_since(heard) >= self.config.idle_track {
                    media.idle = true;
                    ended.push(TrackKey { participant: key, source });
                } else {
                    alive = true;
                }
            }
        }
        if alive {
            self.timers.set(Reason::Idle, now + self.config.idle_track / 4);
        }
        for track in ended {
            self.track_silent(track);
            self.roster_dirty.insert(track.participant);
            self.touch_scene();
        }
    }

    pub(super) fn media(&mut self, track: TrackKey) -> Option<&mut Media> {
        self.participants.get_mut(&track.participant)?.sources[track.source.index()].media.as_deref_mut()
    }

    /// The owner says what it does with a source.
    pub(super) fn set_intent(&mut self, key: ParticipantKey, source: Source, intent: Intent) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        p.sources[source.index()].intent = intent;
        self.roster_dirty.insert(key);
        if intent == Intent::Off {
            self.track_silent(TrackKey { participant: key, source });
        }
        self.touch_scene();
    }

    /// Mutes or unmutes.
    pub(super) fn set_muted(&mut self, key: ParticipantKey, source: Source, muted: bool) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        p.sources[source.index()].muted = muted;
        self.roster_dirty.insert(key);
        if muted {
            self.track_silent(TrackKey { participant: key, source });
        }
        self.touch_scene();
    }

    fn track_silent(&mut self, track: TrackKey) {
        if let Some(media) = self.media(track) {
            media.loudness = Loudness::default();
        }
        if track.source == Source::Microphone {
            self.silence(track.participant, false);
        }
    }
}

impl Media {
    fn new(now: Instant, codec: Codec) -> Self {
        Self {
            codec,
            layers: 0,
            paused: 0,
            rates: Default::default(),
            deaf: false,
            heights: Default::default(),
            widths: Default::default(),
            peaks: Default::default(),
            nested: false,
            last: now,
            idle: false,
            loudness: Loudness::default(),
        }
    }
}
