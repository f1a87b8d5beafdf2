//! The room: state, time, and the queue of outputs. What it does on each kind of input stands in the files beside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use antiphon_base::{ParticipantId, ParticipantKey, RoomName, TrackKey};
use antiphon_wire::control::{LeaveReason, ParticipantInfo, ServerMessage, Speaker};

use crate::config::Config;
use crate::dominance::Dominance;
use crate::keyframe::{Coalescer, KeyframeCause, Step};
use crate::load::Load;
use crate::output::{Feed, MAX_LAYERS, Output, SlotId};
use crate::participant::Participant;
use crate::recording::Recording;
use crate::scene::Scene;
use crate::stats::Stats;
use crate::timer::{Reason, Timers};
use crate::topics::Topics;

mod data;
mod held;
mod lifecycle;
mod playing;
mod recording;
mod request;
mod roster;
mod routing;
mod speakers;
mod tracks;
mod wishes;

/// Control messages waiting for a host that does not drain. Beyond it they are dropped and counted; a client that finds
/// a hole in the roster asks with `sync`. The whole roster of two large rooms fits.
pub const MAX_QUEUED_MESSAGES: usize = 65_536;
/// Taps of one in-process subscriber: each source of each participant of the largest room.
pub const MAX_TAPS: usize = 4_096;

/// One room. See the crate's page for the contract.
#[derive(Debug)]
pub struct Room {
    name: RoomName,
    config: Config,
    now: Instant,
    next_key: u32,
    /// Boxed: the nodes of the map have room for eleven, and are half empty.
    participants: BTreeMap<ParticipantKey, Box<Participant>>,
    /// How many of them are hidden.
    hidden: usize,
    by_id: BTreeMap<ParticipantId, ParticipantKey>,
    by_token: BTreeMap<String, ParticipantKey>,
    timers: Timers,
    outputs: VecDeque<Output>,
    queued_messages: usize,

    seq: u64,
    announced: BTreeMap<ParticipantKey, ParticipantInfo>,
    roster_dirty: BTreeSet<ParticipantKey>,

    scene: Scene,
    scene_stale: bool,
    dirty: BTreeSet<ParticipantKey>,
    dirty_all: bool,
    /// A voice began: subscribers with fewer audio slots than voices are looked at.
    onset: bool,
    /// How many slots and taps hold a feed.
    holds: BTreeMap<Feed, u32>,
    /// Masks told by [`Output::Wanted`].
    wanted: BTreeMap<TrackKey, u8>,
    wanted_dirty: BTreeSet<TrackKey>,
    /// What publishers are to be told may have changed.
    layers_dirty: bool,
    /// When that was looked at last.
    layers_looked: Option<Instant>,
    /// By shard. Those of shards that serve nobody any more are few and small.
    loads: BTreeMap<u16, Load>,

    /// The one that runs, or the last.
    recording: Option<Recording>,
    /// Who has acknowledged it, or who is here, has changed.
    recording_dirty: bool,

    topics: Topics,
    keyframes: Coalescer,
    dominance: Dominance,
    audio_ticks: u32,
    speakers: Vec<Speaker>,
    tracks_begun: u64,
    drain_until: Option<Instant>,
    over: bool,
    stats: Stats,
}

impl Room {
    /// An empty room.
    pub fn new(name: RoomName, config: Config, now: Instant) -> Self {
        let mut timers = Timers::default();
        timers.set(Reason::Empty, now + config.empty_ttl);
        Self {
            dominance: Dominance::new(now, config.dominant),
            name,
            config,
            now,
            next_key: 1,
            participants: BTreeMap::new(),
            hidden: 0,
            by_id: BTreeMap::new(),
            by_token: BTreeMap::new(),
            timers,
            outputs: VecDeque::new(),
            queued_messages: 0,
            seq: 0,
            announced: BTreeMap::new(),
            roster_dirty: BTreeSet::new(),
            scene: Scene::default(),
            scene_stale: false,
            dirty: BTreeSet::new(),
            dirty_all: false,
            onset: false,
            holds: BTreeMap::new(),
            wanted: BTreeMap::new(),
            wanted_dirty: BTreeSet::new(),
            recording: None,
            recording_dirty: false,
            topics: Topics::default(),
            layers_dirty: false,
            layers_looked: None,
            loads: BTreeMap::new(),
            keyframes: Coalescer::default(),
            audio_ticks: 0,
            speakers: Vec::new(),
            tracks_begun: 0,
            drain_until: None,
            over: false,
            stats: Stats::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &RoomName {
        &self.name
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats { keyframes_absorbed: self.keyframes.absorbed, ..self.stats }
    }

    /// Everybody as they are now, hidden ones included, in order of keys.
    pub fn participants(&self) -> impl Iterator<Item = ParticipantInfo> + '_ {
        self.participants.values().map(|p| p.info())
    }

    /// One participant as it is now.
    pub fn participant(&self, key: ParticipantKey) -> Option<ParticipantInfo> {
        self.participants.get(&key).map(|p| p.info())
    }

    /// The number of the participant of this id.
    pub fn key_of(&self, id: &ParticipantId) -> Option<ParticipantKey> {
        self.by_id.get(id).copied()
    }

    /// What a slot shall show, as last routed.
    pub fn routed(&self, key: ParticipantKey, slot: SlotId) -> Option<Feed> {
        self.participants.get(&key)?.slots.get(usize::from(slot.0))?.routed
    }

    /// It has ended: nobody is left, nobody may join; the host drops it after draining the outputs.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The server stops: everybody is told to join elsewhere; who is still here after `deadline` is let go.
    pub fn drain(&mut self, now: Instant, deadline: Duration) {
        self.at(now);
        if self.drain_until.is_some() {
            return;
        }
        self.drain_until = Some(now + deadline);
        self.timers.set(Reason::Drain, now + deadline);
        let deadline_s = u32::try_from(deadline.as_secs()).unwrap_or(u32::MAX);
        self.broadcast(&ServerMessage::Draining { deadline_s });
    }

    /// The time of [`Room::poll_timeout`] has come. Calling it early or late is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.at(now);
        // Each reason sets itself again in the future at most, so this ends.
        while let Some(reason) = self.timers.pop(now) {
            match reason {
                Reason::Resume(key) => self.leave(now, key, LeaveReason::ConnectionLost),
                Reason::Restart(key) => self.end_not_restarted(key),
                Reason::Audio => self.audio_tick(now),
                Reason::Idle => self.idle_tick(now),
                Reason::Keyframe(feed) => {
                    let needed = self.holds.contains_key(&feed)
                        || (self.is_nested(feed.track) && self.wants_layers(feed.track) != 0);
                    let step = self.keyframes.due(now, feed, needed);
                    self.keyframe_step(feed, step);
                }
                Reason::Bandwidth(key) => drop(self.dirty.insert(key)),
                Reason::Layers => self.layers_tick(now),
                Reason::Recording => self.recording_timeout(),
                Reason::Drain => self.end(LeaveReason::Draining),
                Reason::Empty => self.end(LeaveReason::RoomClosed),
            }
        }
    }

    /// When to call [`Room::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, Reason)> {
        self.timers.first()
    }

    /// The next thing to do; `None`: everything is settled. To be drained after each input or batch of inputs: what
    /// follows from inputs together (slots, roster deltas, wanted layers) is worked out here, once.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.settle();
        }
        let output = self.outputs.pop_front();
        if let Some(Output::Send { .. }) = output {
            self.queued_messages -= 1;
        }
        output
    }

    fn settle(&mut self) {
        self.flush_roster();
        self.flush_recording();
        self.evaluate();
        self.flush_wanted();
        self.flush_layers();
    }

    /// Time does not go back.
    fn at(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn end(&mut self, reason: LeaveReason) {
        let keys: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        for key in keys {
            self.leave(self.now, key, reason);
        }
        self.over = true;
        self.timers = Timers::default();
    }

    fn send(&mut self, to: ParticipantKey, message: ServerMessage) {
        if !self.participants.get(&to).is_some_and(|p| p.open) {
            return;
        }
        if self.queued_messages >= MAX_QUEUED_MESSAGES {
            self.stats.messages_dropped += 1;
            return;
        }
        self.queued_messages += 1;
        self.stats.messages += 1;
        self.outputs.push_back(Output::Send { to, message });
    }

    fn broadcast(&mut self, message: &ServerMessage) {
        let open: Vec<ParticipantKey> =
            self.participants.values().filter(|p| p.open).map(|p| p.key).collect();
        for to in open {
            self.send(to, message.clone());
        }
    }

    fn id_of(&self, key: ParticipantKey) -> Option<ParticipantId> {
        self.participants.get(&key).map(|p| p.id.clone())
    }

    /// The scene has changed: everybody's slots are looked at.
    fn touch_scene(&mut self) {
        self.scene_stale = true;
        self.dirty_all = true;
    }

    /// A subscriber needs a keyframe: it sent a PLI, or its slot waits for one. To be said for each slot that is routed,
    /// once its subscriber can receive: a keyframe that comes before that is one too many.
    pub fn keyframe_wanted(&mut self, now: Instant, feed: Feed, cause: KeyframeCause) {
        self.at(now);
        self.stats.keyframes_wanted += 1;
        let layers = self.wants_layers(feed.track);
        let of_another = layers & (1u8.checked_shl(u32::from(feed.layer)).unwrap_or(0)) == 0;
        if layers == 0 || (of_another && !self.is_nested(feed.track)) {
            return;
        }
        self.want_keyframe(feed, cause);
    }

    fn want_keyframe(&mut self, feed: Feed, cause: KeyframeCause) {
        let feed = self.keyframe_feed(feed);
        let step = self.keyframes.wanted(self.now, feed, cause);
        self.keyframe_step(feed, step);
    }

    fn keyframe_step(&mut self, feed: Feed, step: Step) {
        if step.ask {
            self.stats.keyframes_asked += 1;
            self.outputs.push_back(Output::Keyframe { feed });
        }
        match step.wake {
            Some(at) => self.timers.set(Reason::Keyframe(feed), at),
            None => self.timers.cancel(Reason::Keyframe(feed)),
        }
    }

    /// The first packet of a keyframe came in.
    pub fn keyframe_seen(&mut self, now: Instant, feed: Feed) {
        self.at(now);
        if !self.participants.contains_key(&feed.track.participant) {
            return;
        }
        let asked = self.keyframe_feed(feed);
        self.keyframes.seen(self.now, asked);
        self.timers.cancel(Reason::Keyframe(asked));
        let others =
            if self.is_nested(feed.track) { 0..MAX_LAYERS } else { feed.layer..feed.layer.saturating_add(1) };
        for layer in others {
            self.taps_switched(Feed { layer, ..feed });
        }
    }
}
