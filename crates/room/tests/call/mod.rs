//! A host for tests: steps virtual time, does what the room says as a shard would, and keeps what each client
//! would know from its messages alone.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::{
    AudioCodec, Codec, MediaKind, ParticipantId, ParticipantKey, RoomName, Source, TrackKey, VideoCodec,
};
use antiphon_room::{Config, Feed, Grants, Join, JoinError, KeyframeCause, Output, Room, SlotId, SlotPlan};
use antiphon_wire::control::{
    ClientMessage, LayerWish, LeaveReason, LimitReason, ParticipantInfo, ParticipantKind, Policy, Request,
    ServerMessage, SlotAssignment,
};
use antiphon_wire::topic::Message;

pub const OPUS: Codec = Codec::Audio(AudioCodec::Opus);
pub const VP8: Codec = Codec::Video(VideoCodec::Vp8);
pub const H264: Codec = Codec::Video(VideoCodec::H264);

pub fn id(name: &str) -> ParticipantId {
    ParticipantId::new(name).unwrap()
}

pub fn track(key: ParticipantKey, source: Source) -> TrackKey {
    TrackKey { participant: key, source }
}

pub fn feed(key: ParticipantKey, source: Source, layer: u8) -> Feed {
    Feed { track: track(key, source), layer }
}

/// `audio` + `video` slots with mids `a0..`, `v0..`, and the screen slot `s`.
pub fn plan(audio: usize, video: usize, screen: bool) -> SlotPlan {
    SlotPlan {
        audio: (0..audio).map(|i| format!("a{i}")).collect(),
        video: (0..video).map(|i| format!("v{i}")).collect(),
        screen: screen.then(|| "s".to_owned()),
    }
}

/// A browser with 3 audio, 4 video slots and a screen slot.
pub fn browser(name: &str) -> Join {
    Join {
        id: id(name),
        name: name.to_owned(),
        kind: ParticipantKind::WebRtc,
        grants: Grants { publish: true, subscribe: true, moderate: false },
        policy: Policy::default(),
        muted: vec![],
        slots: plan(3, 4, true),
        decodes: vec![VideoCodec::Vp8, VideoCodec::H264],
        hidden: false,
        only: None,
        resume_token: format!("token-{name}"),
        control: true,
    }
}

/// What one client knows from its messages.
#[derive(Default)]
pub struct Client {
    pub messages: Vec<ServerMessage>,
    pub seq: Option<u64>,
    pub roster: BTreeMap<ParticipantId, ParticipantInfo>,
    pub slots: BTreeMap<String, SlotAssignment>,
    /// Layers that it was told not to send.
    pub off: BTreeMap<Source, u8>,
    /// The same, at any time.
    pub ever_off: BTreeMap<Source, u8>,
    pub told: BTreeMap<Source, Vec<LayerWish>>,
    pub limits: Option<(u16, LimitReason)>,
}

impl Client {
    fn take(&mut self, message: ServerMessage) {
        let mut delta = |seq: u64| {
            let before = self.seq.expect("deltas follow a snapshot");
            assert_eq!(seq, before + 1, "a hole in the roster: {message:?}");
            self.seq = Some(seq);
        };
        match &message {
            ServerMessage::Roster { seq, participants } => {
                self.seq = Some(*seq);
                self.roster = participants.iter().map(|p| (p.id.clone(), p.clone())).collect();
            }
            ServerMessage::ParticipantJoined { seq, participant }
            | ServerMessage::ParticipantUpdated { seq, participant } => {
                delta(*seq);
                self.roster.insert(participant.id.clone(), participant.clone());
            }
            ServerMessage::ParticipantLeft { seq, participant, .. } => {
                delta(*seq);
                self.roster.remove(participant).expect("it was there");
            }
            ServerMessage::ScreenStarted { seq, .. } | ServerMessage::ScreenStopped { seq, .. } => {
                delta(*seq)
            }
            ServerMessage::Slots { slots } => {
                self.slots.extend(slots.iter().map(|s| (s.mid.clone(), s.clone())));
            }
            ServerMessage::Layers { source, layers } => {
                let off = layers.iter().filter(|l| !l.active).fold(0, |mask, l| mask | 1 << l.layer);
                assert_ne!(Some(layers), self.told.get(source), "a message that changes nothing");
                self.off.insert(*source, off);
                *self.ever_off.entry(*source).or_default() |= off;
                self.told.insert(*source, layers.clone());
            }
            ServerMessage::Limits { last_n, reason } => {
                let limits = last_n.zip(*reason);
                assert_ne!(limits, self.limits, "a message that changes nothing");
                self.limits = limits;
            }
            _ => {}
        }
        self.messages.push(message);
    }

    /// Who stands in a slot, as told.
    pub fn in_slot(&self, mid: &str) -> Option<(&str, Source)> {
        let slot = self.slots.get(mid)?;
        Some((slot.participant.as_ref()?.as_str(), slot.source?))
    }
}

/// The room with its host.
pub struct Call {
    pub room: Room,
    pub base: Instant,
    pub now: Instant,
    pub clients: BTreeMap<ParticipantKey, Client>,
    pub routes: BTreeMap<(ParticipantKey, SlotId), Feed>,
    /// Highest temporal layers of these; absent: all.
    pub temporal: BTreeMap<(ParticipantKey, SlotId), u8>,
    /// Routes not switched to yet, in order.
    pub pending: Vec<(ParticipantKey, SlotId, Option<Feed>)>,
    pub flowing: BTreeMap<(ParticipantKey, SlotId), Feed>,
    pub taps: BTreeSet<(ParticipantKey, Feed)>,
    pub wanted: BTreeMap<TrackKey, u8>,
    pub demands: BTreeMap<ParticipantKey, u64>,
    pub bounds: BTreeMap<ParticipantKey, Option<u64>>,
    pub keyframes: Vec<(Duration, Feed)>,
    pub ended: Vec<(ParticipantKey, LeaveReason)>,
    pub dropped: Vec<ParticipantKey>,
    pub data: Vec<(Vec<ParticipantKey>, Arc<Message>)>,
    /// All outputs.
    pub log: Vec<Output>,
    /// Slots switch as soon as they are routed.
    pub prompt: bool,
    requests: u32,
}

impl Call {
    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    pub fn new(config: Config) -> Self {
        let base = Instant::now();
        Self {
            room: Room::new(RoomName::new("test").unwrap(), config, base),
            base,
            now: base,
            clients: BTreeMap::new(),
            routes: BTreeMap::new(),
            temporal: BTreeMap::new(),
            pending: Vec::new(),
            flowing: BTreeMap::new(),
            taps: BTreeSet::new(),
            wanted: BTreeMap::new(),
            demands: BTreeMap::new(),
            bounds: BTreeMap::new(),
            keyframes: Vec::new(),
            ended: Vec::new(),
            dropped: Vec::new(),
            data: Vec::new(),
            log: Vec::new(),
            prompt: true,
            requests: 0,
        }
    }

    /// Does all that the room says.
    pub fn drain(&mut self) {
        loop {
            while let Some(output) = self.room.poll_output() {
                self.act(output);
            }
            if !self.prompt || self.pending.is_empty() {
                return;
            }
            for (key, slot, feed) in std::mem::take(&mut self.pending) {
                self.switch(key, slot, feed);
            }
        }
    }

    /// A slot has really switched.
    pub fn switch(&mut self, key: ParticipantKey, slot: SlotId, feed: Option<Feed>) {
        match feed {
            Some(feed) if self.routes.get(&(key, slot)).is_none_or(|r| r.track != feed.track) => return,
            Some(feed) => drop(self.flowing.insert((key, slot), feed)),
            None => drop(self.flowing.remove(&(key, slot))),
        }
        self.room.switched(self.now, key, slot, feed, 4711);
    }

    fn act(&mut self, output: Output) {
        self.log.push(output.clone());
        match output {
            Output::Send { to, message } => self.clients.entry(to).or_default().take(message),
            Output::Route { subscriber, slot, feed, temporal } => {
                let before = match feed {
                    Some(feed) => self.routes.insert((subscriber, slot), feed),
                    None => self.routes.remove(&(subscriber, slot)),
                };
                let earlier = match temporal {
                    Some(highest) => self.temporal.insert((subscriber, slot), highest),
                    None => self.temporal.remove(&(subscriber, slot)),
                };
                assert_ne!((before, earlier), (feed, temporal), "a route that changes nothing");
                if before == feed {
                    return;
                }
                let flowing = self.flowing.get(&(subscriber, slot)).copied();
                if let Some(feed) =
                    feed.filter(|f| f.track.source.kind() == MediaKind::Video && flowing != Some(*f))
                {
                    self.room.keyframe_wanted(self.now, feed, KeyframeCause::Start);
                }
                self.pending.push((subscriber, slot, feed));
            }
            Output::Tap { subscriber, feed, on: true } => assert!(self.taps.insert((subscriber, feed))),
            Output::Tap { subscriber, feed, on: false } => assert!(self.taps.remove(&(subscriber, feed))),
            Output::Keyframe { feed } => self.keyframes.push((self.now - self.base, feed)),
            Output::Wanted { track, layers } => {
                let before = self.wanted.insert(track, layers);
                assert_ne!(before.unwrap_or(0), layers, "a mask that changes nothing");
            }
            Output::Data { to, message } => {
                assert!(!to.is_empty(), "data for nobody");
                self.data.push((to, message));
            }
            Output::Ended { key, reason } => {
                self.ended.push((key, reason));
                self.forget(key);
                self.taps.retain(|(k, _)| *k != key);
                self.clients.remove(&key);
            }
            Output::Recording { .. } => {}
            Output::Dropped { key } => self.dropped.push(key),
            Output::Bound { publisher, bps } => {
                let before = self.bounds.insert(publisher, bps);
                assert_ne!(before.unwrap_or(None), bps, "a bound that changes nothing");
            }
            Output::Demand { subscriber, bps } => {
                let before = self.demands.insert(subscriber, bps);
                assert_ne!(before, Some(bps), "a demand that changes nothing");
            }
        }
    }

    /// A connection is gone, its slots with it.
    pub fn forget(&mut self, key: ParticipantKey) {
        self.demands.remove(&key);
        self.routes.retain(|(k, _), _| *k != key);
        self.temporal.retain(|(k, _), _| *k != key);
        self.flowing.retain(|(k, _), _| *k != key);
        self.pending.retain(|(k, _, _)| *k != key);
    }

    /// Time passes; the room wakes when it said.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some((at, _)) = self.room.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.room.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub fn try_join(&mut self, join: Join) -> Result<ParticipantKey, JoinError> {
        let key = self.room.join(self.now, join)?;
        self.drain();
        self.room.connected(self.now, key, 1);
        self.drain();
        Ok(key)
    }

    pub fn join(&mut self, join: Join) -> ParticipantKey {
        self.try_join(join).unwrap()
    }

    pub fn resume(&mut self, token: &str, plan: SlotPlan) -> Result<ParticipantKey, JoinError> {
        let key = self.room.resume(self.now, token, plan, vec![VideoCodec::Vp8])?;
        self.forget(key);
        self.clients.remove(&key);
        self.drain();
        Ok(key)
    }

    pub fn seen(&mut self, key: ParticipantKey, source: Source, layer: u8, codec: Codec) {
        self.room.layer_seen(self.now, feed(key, source, layer), codec);
        self.drain();
    }

    /// Publishes a microphone and a camera of one layer.
    pub fn send(&mut self, key: ParticipantKey) {
        self.seen(key, Source::Microphone, 0, OPUS);
        self.seen(key, Source::Camera, 0, VP8);
    }

    pub fn request(&mut self, key: ParticipantKey, request: Request) -> Option<ServerMessage> {
        self.requests += 1;
        let id = self.requests;
        self.room.request(self.now, key, ClientMessage { id, request });
        self.drain();
        let messages = &self.clients.get(&key)?.messages;
        let reply = |m: &&ServerMessage| matches!(m, ServerMessage::Reply { id: i, .. } if *i == id);
        messages.iter().find(reply).cloned()
    }

    /// Sounds for `ms`: each at its level in -dBov, a packet every 20 ms.
    pub fn sound(&mut self, ms: u64, levels: &[(ParticipantKey, u8)]) {
        for _ in 0..ms / 20 {
            for (key, level) in levels {
                self.room.audio_level(self.now, track(*key, Source::Microphone), *level, *level < 60);
                self.drain();
            }
            self.pass(20);
        }
    }

    pub fn in_slot(&self, key: ParticipantKey, mid: &str) -> Option<(&str, Source)> {
        self.clients[&key].in_slot(mid)
    }

    /// Who stands in the slots that begin with `prefix`, as told.
    pub fn shown(&self, key: ParticipantKey, prefix: &str) -> BTreeSet<&str> {
        let slots = self.clients[&key].slots.iter().filter(|(mid, _)| mid.starts_with(prefix));
        slots.filter_map(|(_, s)| s.participant.as_ref().map(ParticipantId::as_str)).collect()
    }

    pub fn count(&self, key: ParticipantKey, which: impl Fn(&ServerMessage) -> bool) -> usize {
        self.clients[&key].messages.iter().filter(|m| which(m)).count()
    }
}
