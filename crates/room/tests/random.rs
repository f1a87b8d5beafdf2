//! Calls from a seed, with a checker that knows only what went in and what came out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod call;

use std::collections::{BTreeMap, BTreeSet};

use antiphon_base::{Codec, MediaKind, ParticipantKey, Source, TrackKey, VideoCodec};
use antiphon_room::{Bandwidth, Config, Feed, Join, KeyframeCause, LayerRate, Output, SlotId, TapRequest};
use antiphon_wire::control::{
    Follow, LeaveReason, ParticipantInfo, ParticipantKind, Pin, Policy, Presence, Request, ServerMessage,
};
use antiphon_wire::whep::Selection;

use call::{Call, Client, H264, OPUS, VP8, browser, feed, id, plan, track};

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn name(&mut self) -> String {
        format!("p{}", self.below(10))
    }
}

/// What the checker knows of a participant: how it joined, and the layers it sent.
struct Known {
    join: Join,
    sent: BTreeMap<Source, (Codec, u8)>,
    /// Layers that have stopped after the room had said that nobody wants them.
    paused: BTreeMap<Source, u8>,
    policy: Policy,
}

struct Model {
    call: Call,
    random: Random,
    known: BTreeMap<ParticipantKey, Known>,
}

impl Model {
    fn somebody(&mut self) -> Option<ParticipantKey> {
        let keys: Vec<ParticipantKey> = self.known.keys().copied().collect();
        (!keys.is_empty()).then(|| self.random.pick(&keys))
    }

    fn join(&mut self) {
        let r = &mut self.random;
        let mut join = browser(&r.name());
        join.slots = plan(r.below(4), r.below(4), r.chance(60));
        join.control = r.chance(80);
        join.hidden = r.chance(10);
        join.grants.publish = r.chance(85);
        join.grants.subscribe = r.chance(90);
        join.grants.moderate = r.chance(30);
        join.decodes =
            [vec![VideoCodec::Vp8], vec![VideoCodec::Vp8, VideoCodec::H264], vec![]][r.below(3)].clone();
        join.kind = r.pick(&[
            ParticipantKind::WebRtc,
            ParticipantKind::WebRtc,
            ParticipantKind::Bot,
            ParticipantKind::Whip,
        ]);
        join.only = r.chance(10).then(|| id(&r.name()));
        join.muted = if r.chance(20) { vec![Source::Microphone] } else { vec![] };
        join.policy = Self::policy(r);
        let connects = r.chance(90);
        let now = self.call.now;
        if let Ok(key) = self.call.room.join(now, join.clone()) {
            self.known.insert(
                key,
                Known { policy: join.policy.clone(), join, sent: BTreeMap::new(), paused: BTreeMap::new() },
            );
            if connects {
                self.call.room.connected(now, key, 0);
            }
        }
    }

    fn policy(r: &mut Random) -> Policy {
        let pins = (0..r.below(3)).map(|_| Pin {
            participant: id(&r.name()),
            source: r.pick(&Source::ALL),
            max_height: r.chance(50).then(|| r.pick(&[180, 360, 720])),
        });
        Policy {
            pins: pins.collect(),
            follow: r.pick(&[Follow::Dominant, Follow::Joined, Follow::None]),
            max_height: r.chance(50).then(|| r.pick(&[90, 360, 1080])),
            max_videos: r.chance(30).then(|| u8::try_from(r.below(3)).unwrap()),
            max_frame_rate: r.chance(30).then(|| r.pick(&[1, 8, 15, 60])),
            ..Policy::default()
        }
    }

    fn media(&mut self, key: ParticipantKey) {
        let source = self.random.pick(&Source::ALL);
        let layer = if source == Source::Camera { u8::try_from(self.random.below(3)).unwrap() } else { 0 };
        let f = feed(key, source, layer);
        let now = self.call.now;
        let codec = match source.kind() {
            MediaKind::Audio => OPUS,
            MediaKind::Video => self.random.pick(&[VP8, VP8, VP8, H264]),
        };
        let known = self.known.get_mut(&key).unwrap();
        if self.random.chance(85) {
            self.call.room.layer_seen(now, f, codec);
            if known.join.grants.publish && !known.join.hidden {
                let sent = known.sent.entry(source).or_insert((codec, 0));
                if sent.0 != codec {
                    *sent = (codec, 0);
                    known.paused.remove(&source);
                }
                sent.1 |= 1 << layer;
            }
        } else {
            self.call.room.layer_gone(now, f);
            if let Some(sent) = known.sent.get_mut(&source) {
                let off = self.call.clients.get(&key).and_then(|c| c.ever_off.get(&source));
                *known.paused.entry(source).or_default() |= sent.1 & off.unwrap_or(&0) & (1 << layer);
                sent.1 &= !(1 << layer);
            }
        }
        if self.random.chance(20) {
            self.call.room.layer_resolution(now, f, 640, u32::try_from(90 << self.random.below(4)).unwrap());
        }
        if self.random.chance(30) {
            let bps = [1, 2, 3, 3].map(|share| share * (self.random.next() % 1_000_000));
            let (temporal_layers, frames) =
                (self.random.pick(&[0, 1, 3, 200]), self.random.pick(&[0, 15, 30]));
            self.call.room.layer_rate(now, f, LayerRate { bps, temporal_layers, frames });
        }
        if self.random.chance(20) {
            self.call.room.keyframe_seen(now, f);
        }
        self.call.room.keyframe_wanted(now, f, KeyframeCause::Repair);
    }

    fn request(&mut self, key: ParticipantKey) {
        if !self.known[&key].join.control {
            return;
        }
        let r = &mut self.random;
        let (source, participant) = (r.pick(&Source::ALL), id(&r.name()));
        let request = match r.below(9) {
            0 | 1 => Request::Mute { source, muted: r.chance(50) },
            2 | 3 => Request::Publish { source, active: r.chance(60), hint: None },
            4 => Request::Policy { policy: Self::policy(r) },
            5 => Request::Rename { name: r.name() },
            6 => Request::MuteOther { participant, source },
            7 if r.chance(30) => Request::Remove { participant },
            8 if r.chance(30) => Request::Leave,
            _ => Request::Sync,
        };
        if let Request::Policy { policy } = &request {
            self.known.get_mut(&key).unwrap().policy = policy.clone();
        }
        self.call.request(key, request);
    }

    fn connection(&mut self, key: ParticipantKey) {
        let now = self.call.now;
        let name = self.known[&key].join.id.clone();
        match self.random.below(6) {
            0 => {
                self.call.room.disconnected(now, key);
                self.known.get_mut(&key).unwrap().sent.clear();
                self.known.get_mut(&key).unwrap().paused.clear();
            }
            1 => {
                let slots = plan(self.random.below(4), self.random.below(4), true);
                if self.call.resume(&format!("token-{name}"), slots.clone()).is_ok() {
                    let key = self.call.room.key_of(&name).unwrap();
                    let known = self.known.get_mut(&key).unwrap();
                    known.sent.clear();
                    known.paused.clear();
                    (known.join.slots, known.join.decodes) = (slots, vec![VideoCodec::Vp8]);
                    if self.random.chance(80) {
                        self.call.room.connected(now, key, 0);
                    }
                }
            }
            2 => {
                let bps = self.random.next() % 8_000_000;
                let measured = self.random.chance(80);
                let bandwidth = if measured { Bandwidth::Measured(bps) } else { Bandwidth::Assumed(bps) };
                self.call.room.bandwidth(now, key, bandwidth);
            }
            3 => self.select(key),
            4 => {
                let names = ["q", "h", "f"].map(str::to_owned);
                let names = names.into_iter().take(self.random.below(4)).collect();
                self.call.room.name_layers(now, key, Source::Camera, names);
            }
            _ => {
                if self.random.chance(20) {
                    self.call.room.leave(now, key, LeaveReason::Left);
                }
            }
        }
    }

    /// A choice of layers; what cannot be chosen is refused and changes nothing.
    fn select(&mut self, key: ParticipantKey) {
        let r = &mut self.random;
        let number = |r: &mut Random| r.chance(40).then(|| u8::try_from(r.below(4)).unwrap());
        let selection = Selection {
            media_id: None,
            encoding_id: r.chance(60).then(|| r.pick(&["q", "h", "f", "x"]).to_owned()),
            spatial_layer_id: number(r),
            temporal_layer_id: number(r),
            max_spatial_layer_id: number(r),
            max_temporal_layer_id: number(r),
            max_height: r.chance(30).then(|| r.pick(&[90, 180, 400])),
        };
        let mid = r.chance(50).then(|| r.pick(&["v0", "v1", "s", "a0"]));
        let _ = self.call.room.select(self.call.now, key, mid, &selection);
    }

    fn taps(&mut self, key: ParticipantKey) {
        let keys: Vec<ParticipantKey> = self.known.keys().copied().collect();
        let r = &mut self.random;
        let taps = (0..r.below(6)).map(|_| TapRequest {
            track: track(r.pick(&keys), r.pick(&Source::ALL)),
            max_height: r.chance(50).then(|| r.pick(&[180, 360])),
        });
        let taps = taps.collect();
        self.call.room.set_taps(self.call.now, key, taps);
    }

    fn step(&mut self) {
        let action = self.random.below(20);
        let somebody = self.somebody();
        match (action, somebody) {
            (0 | 1, _) | (_, None) => self.join(),
            (2..=8, Some(key)) => self.media(key),
            (9..=11, Some(key)) => self.request(key),
            (12, Some(key)) => self.connection(key),
            (13, Some(key)) => self.taps(key),
            (14..=16, Some(key)) => {
                let level = self.random.pick(&[20, 25, 35, 70, 127]);
                let (source, ms) = (self.random.pick(&[Source::Microphone, Source::ScreenAudio]), 20);
                for _ in 0..self.random.below(30) {
                    self.call.room.audio_level(self.call.now, track(key, source), level, level < 60);
                    self.call.pass(ms);
                }
            }
            (17, _) if self.random.chance(30) => {
                let permille = self.random.pick(&[100, 700, 850, 990]);
                self.call.room.load(self.call.now, 0, permille);
            }
            (17, _) => {
                for (key, slot, feed) in std::mem::take(&mut self.call.pending) {
                    self.call.switch(key, slot, feed);
                }
            }
            _ => {
                let ms = u64::try_from(self.random.below(1500)).unwrap();
                self.call.pass(ms);
            }
        }
        if self.random.chance(70) {
            self.call.drain();
            for (key, _) in std::mem::take(&mut self.call.ended) {
                self.known.remove(&key);
            }
            self.check();
        }
    }

    /// A track that may go to others.
    fn flows(&self, all: &BTreeMap<ParticipantKey, ParticipantInfo>, track: TrackKey) -> Option<(Codec, u8)> {
        let info = all.get(&track.participant)?;
        let listed = info.tracks.iter().find(|t| t.source == track.source)?;
        let known = &self.known[&track.participant];
        let sent = known.sent.get(&track.source)?;
        let sent = (sent.0, sent.1 | known.paused.get(&track.source).unwrap_or(&0));
        (!listed.muted && sent.1 != 0 && info.presence == Presence::Connected || self.resuming(info))
            .then_some(sent)
            .filter(|s| s.1 != 0 && !listed.muted)
    }

    /// Packets may come before the control channel is open again.
    fn resuming(&self, info: &ParticipantInfo) -> bool {
        info.presence == Presence::Reconnecting
    }

    fn may_get(&self, all: &BTreeMap<ParticipantKey, ParticipantInfo>, to: ParticipantKey, f: Feed) {
        let known = &self.known[&to];
        assert!(known.join.grants.subscribe);
        assert_ne!(f.track.participant, to, "its own track");
        let (codec, layers) = self.flows(all, f.track).unwrap_or_else(|| panic!("{} does not flow", f.track));
        assert_ne!(layers & (1 << f.layer), 0, "layer {} of {} is not sent", f.layer, f.track);
        if let (Codec::Video(v), false) = (codec, known.join.decodes.is_empty()) {
            assert!(known.join.decodes.contains(&v), "undecodable");
        }
        let owner = &all[&f.track.participant].id;
        assert!(known.join.only.as_ref().is_none_or(|only| only == owner));
    }

    fn check(&self) {
        let all: BTreeMap<ParticipantKey, ParticipantInfo> =
            self.call.room.participants().map(|p| (p.key, p)).collect();
        assert_eq!(all.keys().collect::<Vec<_>>(), self.known.keys().collect::<Vec<_>>());
        for (key, known) in &self.known {
            self.check_slots(&all, *key, known);
        }
        for (key, f) in &self.call.taps {
            // The old layer of a tap that changes may have stopped.
            let newer = self.call.taps.iter().any(|(k, n)| k == key && n.track == f.track && n != f);
            if !newer {
                self.may_get(&all, *key, *f);
            }
        }
        self.check_wanted();
        let visible: BTreeMap<_, _> = all
            .values()
            .filter(|p| !self.known[&p.key].join.hidden)
            .map(|p| (p.id.clone(), p.clone()))
            .collect();
        for client in self.call.clients.values().filter(|c| c.seq == Some(self.call.room.roster_seq())) {
            assert_eq!(client.roster, visible, "replayed roster");
            let told = client.slots.values().filter_map(|s| s.participant.as_ref());
            assert!(told.clone().all(|id| all.values().any(|p| p.id == *id)), "a slot of somebody gone");
        }
        let current = self.call.clients.values().filter(|c| c.seq == Some(self.call.room.roster_seq()));
        assert!(
            self.known.is_empty()
                || current.count() > 0
                || self.call.clients.is_empty()
                || self.nobody_open(&all)
        );
    }

    fn nobody_open(&self, all: &BTreeMap<ParticipantKey, ParticipantInfo>) -> bool {
        all.values().all(|p| p.presence == Presence::Reconnecting || !self.call.clients.contains_key(&p.key))
            || self.call.clients.values().all(|c| c.seq.is_some_and(|s| s < self.call.room.roster_seq()))
    }

    fn check_slots(
        &self,
        all: &BTreeMap<ParticipantKey, ParticipantInfo>,
        key: ParticipantKey,
        known: &Known,
    ) {
        let slots = &known.join.slots;
        let mut seen = BTreeSet::new();
        let mut heard = 0;
        let mut videos = 0;
        for ((_, slot), f) in self.call.routes.range((key, SlotId(0))..=(key, SlotId(u16::MAX))) {
            self.may_get(all, key, *f);
            assert!(seen.insert(f.track), "{} stands in two slots", f.track);
            let at = usize::from(slot.0);
            let audio = at < slots.audio.len();
            assert_eq!(f.track.source.kind() == MediaKind::Audio, audio);
            if audio {
                heard += 1;
            } else if at < slots.audio.len() + slots.video.len() {
                videos += 1;
            } else {
                assert_eq!(f.track.source, Source::Screen);
            }
            assert_eq!(self.call.room.routed(key, *slot), Some(*f));
        }
        assert!(known.policy.max_videos.is_none_or(|max| videos <= usize::from(max)));
        let current = |c: &&Client| c.seq == Some(self.call.room.roster_seq());
        let client = self.call.clients.get(&key).filter(current);
        let connected = all[&key].presence == Presence::Connected;
        if let Some((last_n, _)) = client.filter(|_| connected).and_then(|c| c.limits) {
            assert_eq!(seen.len() - heard, usize::from(last_n), "{key} is served what it was told");
        }
        let voices = all.values().filter(|p| {
            p.key != key
                && known.join.only.as_ref().is_none_or(|only| *only == p.id)
                && known.join.grants.subscribe
        });
        let voices = voices.flat_map(|p| [Source::Microphone, Source::ScreenAudio].map(|s| track(p.key, s)));
        let voices = voices.filter(|t| self.flows(all, *t).is_some()).count();
        assert_eq!(heard, voices.min(slots.audio.len()), "{key} hears everybody it can: {all:#?}");
    }

    fn check_wanted(&self) {
        let mut union: BTreeMap<TrackKey, u8> = BTreeMap::new();
        let (routed, flowing) = (self.call.routes.values(), self.call.flowing.values());
        let feeds = routed.chain(flowing).chain(self.call.taps.iter().map(|(_, f)| f));
        for f in feeds {
            *union.entry(f.track).or_default() |= 1 << f.layer;
        }
        let told: BTreeMap<TrackKey, u8> =
            self.call.wanted.iter().filter(|(_, mask)| **mask != 0).map(|(t, m)| (*t, *m)).collect();
        assert_eq!(told, union, "wanted layers");
    }
}

impl Model {
    /// Long after the last change: publishers know what is wanted of them. Gives how many layers are off.
    fn check_told(&mut self) -> u32 {
        self.call.prompt = true;
        self.call.drain();
        self.call.pass(9_000);
        for (key, _) in std::mem::take(&mut self.call.ended) {
            self.known.remove(&key);
        }
        let all: Vec<ParticipantInfo> = self.call.room.participants().collect();
        let mut off = 0;
        for p in all.iter().filter(|p| p.presence == Presence::Connected) {
            let Some(client) = self.call.clients.get(&p.key) else { continue };
            for t in p.tracks.iter().filter(|t| !t.muted && t.source.kind() == MediaKind::Video) {
                let wanted = self.call.wanted.get(&track(p.key, t.source)).unwrap_or(&0);
                let told = client.off.get(&t.source).unwrap_or(&0);
                assert_eq!(wanted & told, 0, "{} {:?} was told not to send what is wanted", p.id, t.source);
                let known = &self.known[&p.key];
                let sent = known.sent.get(&t.source).map_or(0, |s| s.1);
                if *wanted == 0 {
                    assert_eq!(sent & !told, 0, "{} {:?} is told to send what nobody wants", p.id, t.source);
                }
                off += told.count_ones();
            }
        }
        off
    }
}

fn run(seed: u64, steps: usize) -> (Vec<Output>, u32) {
    let mut call = Call::new(Config { max_participants: 8, ..Config::default() });
    call.prompt = seed.is_multiple_of(2);
    let mut model = Model { call, random: Random(seed), known: BTreeMap::new() };
    for _ in 0..steps {
        model.step();
        if model.call.room.is_over() {
            break;
        }
    }
    let off = model.check_told();
    (model.call.log, off)
}

#[test]
fn random_calls_keep_the_invariants() {
    let (mut routes, mut told) = (0, 0);
    let [mut layers, mut limits] = [0, 0];
    for seed in 0..150 {
        let result = std::panic::catch_unwind(|| run(seed, 400));
        let (log, off) = result.unwrap_or_else(|_| panic!("seed {seed}"));
        told += off;
        let count = |which: fn(&ServerMessage) -> bool| {
            log.iter().filter(|o| matches!(o, Output::Send { message, .. } if which(message))).count()
        };
        routes += log.iter().filter(|o| matches!(o, Output::Route { .. })).count();
        layers += count(|m| matches!(m, ServerMessage::Layers { .. }));
        limits += count(|m| matches!(m, ServerMessage::Limits { .. }));
    }
    assert!(
        layers > 500 && limits > 500 && told > 50,
        "{layers} {limits} {told}: the test would prove nothing"
    );
    assert!(routes > 20_000, "{routes}: the test would prove nothing");
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    for seed in 0..10 {
        assert!(run(seed, 300) == run(seed, 300), "seed {seed}");
    }
}
