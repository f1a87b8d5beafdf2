//! A room being recorded: from the announcement to the last stored frame. What may be kept the room says, and gives no packet of
//! anything else; this task looks again, and touches the store only from then on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use antiphon_base::{Codec, MediaKind, ParticipantKey, Source, TrackKey};
use antiphon_shard::{
    AttachCommand, AttachEvent, Place, RecordingCommand, RecordingEnd, RecordingView, Roster, TapRequest,
};
use antiphon_store::{Store, StreamRef};
use antiphon_wire::control::{RecordingState, ServerMessage, Speaker};
use antiphon_wire::rtp::Packet;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::keep::{Counters, Keep, NewKeep};
use super::names::{self, TrackTags};
use super::timeline::Timeline;
use super::{Status, Track};
use crate::clock::Clock;
use crate::matroska::Form;
use crate::take::{Frame, Take, Taken};

/// How often it is looked whether something waits in vain.
const TICK: Duration = Duration::from_millis(100);
/// The timeline is cut into fragments so often: a listing of it in a call is that old at most.
const TIMELINE_CUT: Duration = Duration::from_secs(1);
/// A key frame is asked for so often, so that any part of a recording can be shown without what is long before it.
const KEY_EVERY_US: u64 = 10_000_000;
/// Packets taken in one go before events are looked at again.
const BATCH: usize = 256;

/// What is asked for, and where it goes.
pub(super) struct Plan {
    pub(super) id: String,
    pub(super) audio: bool,
    pub(super) video: bool,
    pub(super) retention_h: u32,
    /// The most tracks.
    pub(super) tracks: usize,
    /// Tags of the timeline's stream.
    pub(super) tags: BTreeMap<String, String>,
}

/// What the task has.
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    pub(super) place: Place,
    pub(super) commands: async_channel::Receiver<RecordingCommand>,
    pub(super) status: watch::Sender<Status>,
}

/// A track that is taken, and kept once it has begun.
struct Running {
    take: Take,
    /// Its place in the list, and its store.
    kept: Option<(usize, Keep)>,
}

/// What changes while it runs.
struct State {
    view: Option<RecordingView>,
    cleared: BTreeSet<ParticipantKey>,
    roster: Roster,
    running: BTreeMap<TrackKey, Running>,
    /// Not kept: an unknown codec, or too many.
    left_out: BTreeSet<TrackKey>,
    tracks: Vec<(Track, bool)>,
    taps: Vec<TrackKey>,
    timeline: Timeline,
    /// Who is heard.
    speakers: Vec<Speaker>,
    /// The timeline's store; there from the moment on at which something may be kept.
    events: Option<Keep>,
    cut_at: Instant,
    uncut: bool,
    start_ms: u64,
    stop_ms: Option<u64>,
    ending: JoinSet<()>,
    taken: VecDeque<Taken>,
}

impl Run {
    /// Runs to the end.
    pub(super) async fn run(self) {
        let mut state = State {
            view: None,
            cleared: BTreeSet::new(),
            roster: Roster::default(),
            running: BTreeMap::new(),
            left_out: BTreeSet::new(),
            tracks: Vec::new(),
            taps: Vec::new(),
            timeline: Timeline::default(),
            speakers: Vec::new(),
            events: None,
            cut_at: Instant::now(),
            uncut: false,
            start_ms: 0,
            stop_ms: None,
            ending: JoinSet::new(),
            taken: VecDeque::new(),
        };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                event = self.place.events.recv() => match event {
                    Ok(AttachEvent::Control(message)) => self.control(&mut state, message),
                    Ok(AttachEvent::Recording(view)) => {
                        if self.view(&mut state, view) { break }
                    }
                    Ok(AttachEvent::Data(_) | AttachEvent::Keyframe(_)) => {}
                    // The room is over, or has let us go.
                    Err(_) => break,
                },
                command = self.commands.recv() => {
                    self.say(AttachCommand::Record(command.unwrap_or(RecordingCommand::Stop)));
                }
                _ = tick.tick() => self.tick(&mut state),
                packet = self.place.media.recv() => match packet {
                    Ok(packet) => {
                        self.packet(&mut state, &packet);
                        self.take_waiting(&mut state, BATCH);
                    }
                    Err(_) => break,
                },
            }
        }
        self.end(state).await;
    }

    fn say(&self, command: AttachCommand) {
        if !(self.place.say)(command) {
            tracing::warn!("the room's shard does not take commands: a recording may have holes");
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.axis_ms()
    }

    fn take_waiting(&self, state: &mut State, most: usize) {
        for _ in 0..most {
            let Ok(packet) = self.place.media.try_recv() else { return };
            self.packet(state, &packet);
        }
    }

    /// The room says how the recording stands. Whether it is over.
    fn view(&self, state: &mut State, view: RecordingView) -> bool {
        use RecordingState::{Announcing, Paused, Recording, Stopped};
        let before = state.view.as_ref().map_or(Announcing, |v| v.state);
        if before == Recording {
            // What was given before this was said may be kept.
            self.take_waiting(state, usize::MAX);
        }
        let now = view.state;
        state.cleared = view.cleared.iter().copied().collect();
        state.view = Some(view);
        match (before, now) {
            (Announcing, Recording) => self.begin(state),
            (Recording, Paused) => {
                for running in state.running.values_mut() {
                    running.take.interrupted();
                    if let Some((_, keep)) = &running.kept {
                        keep.cut();
                    }
                }
                self.tell(state, json!({"event": "paused"}));
                state.cut();
            }
            (Paused, Recording) => self.tell(state, json!({"event": "resumed"})),
            (_, Stopped) => state.stop_ms = Some(self.now_ms()),
            _ => {}
        }
        self.settle(state);
        self.publish(state, false);
        now == Stopped
    }

    /// Everybody has acknowledged it: from here on something is stored.
    fn begin(&self, state: &mut State) {
        state.start_ms = self.now_ms();
        let mut tags = self.plan.tags.clone();
        tags.insert(names::START.into(), state.start_ms.to_string());
        let new = NewKeep {
            name: names::timeline(&self.plan.id),
            form: Form::timeline(),
            media_type: "text/plain",
            retention_h: self.plan.retention_h,
            tags,
        };
        state.events = Some(Keep::start(&self.store, self.clock.clone(), new, self.counters.clone()));
        let time_ms = state.start_ms;
        self.tell(state, json!({"event": "started", "time_ms": time_ms}));
    }

    fn tell(&self, state: &mut State, mut event: Value) {
        let now_ms = self.now_ms().max(state.start_ms);
        event["at_ms"] = (now_ms - state.start_ms).into();
        if let Some(events) = &mut state.events {
            events.frame(Frame { at_ms: now_ms, key: true, data: event.to_string().into() });
            state.uncut = true;
        }
    }

    fn records(state: &State) -> bool {
        state.view.as_ref().is_some_and(|v| v.state == RecordingState::Recording)
    }

    fn control(&self, state: &mut State, message: ServerMessage) {
        let speakers = match message {
            ServerMessage::Speakers { speakers } => Some(speakers),
            message => {
                if !state.roster.update(message) {
                    return;
                }
                None
            }
        };
        // A steady voice makes no further message: it is told when the recording, or its speaker, begins.
        state.speakers = speakers.unwrap_or(std::mem::take(&mut state.speakers));
        self.settle(state);
    }

    /// Brings taps, tracks and timeline in line with who is there and may be kept.
    fn settle(&self, state: &mut State) {
        let mut there: BTreeMap<TrackKey, Codec> = BTreeMap::new();
        for participant in state.roster.participants() {
            let key = |source| TrackKey { participant: participant.key, source };
            there.extend(participant.tracks.iter().map(|t| (key(t.source), t.codec)));
        }
        there.retain(|track, _| self.wants(track.source));
        let taps: Vec<TrackKey> = there.keys().copied().collect();
        if taps != state.taps {
            let request = |track: &TrackKey| TapRequest { track: *track, max_height: None };
            self.say(AttachCommand::Tap(taps.iter().map(request).collect()));
            state.taps = taps;
        }
        state.left_out.retain(|track| there.contains_key(track));
        let over =
            |track: &TrackKey| !there.contains_key(track) || !state.cleared.contains(&track.participant);
        let over: Vec<TrackKey> = state.running.keys().copied().filter(over).collect();
        for track in over {
            self.end_track(state, track);
        }
        if Self::records(state) {
            let kept = |p: &&antiphon_wire::control::ParticipantInfo| state.cleared.contains(&p.key);
            let events = state.timeline.sync(state.roster.participants().filter(kept));
            let order: Vec<String> = state
                .roster
                .dominant()
                .filter_map(|key| state.roster.id(key))
                .map(ToString::to_string)
                .collect();
            let dominant = state.timeline.dominant(order.into_iter());
            let speakers = state.timeline.speakers(&state.speakers);
            for event in events.into_iter().chain(dominant).chain(speakers) {
                self.tell(state, event);
            }
        }
    }

    fn wants(&self, source: Source) -> bool {
        match source.kind() {
            MediaKind::Audio => self.plan.audio,
            MediaKind::Video => self.plan.video,
        }
    }

    fn packet(&self, state: &mut State, packet: &Arc<Packet>) {
        let track = packet.track;
        if !Self::records(state) || !state.cleared.contains(&track.participant) || !self.wants(track.source) {
            return;
        }
        if state.running.get(&track).is_some_and(|r| r.take.codec() != packet.codec) {
            self.end_track(state, track);
        }
        if !state.running.contains_key(&track) && !self.take_up(state, track, packet.codec) {
            return;
        }
        let mut taken = std::mem::take(&mut state.taken);
        if let Some(running) = state.running.get_mut(&track) {
            running.take.packet(packet, &mut taken);
            if let Some(layer) = running.take.keyframe(packet.arrival_us) {
                self.say(AttachCommand::Keyframe { track, layer });
            }
        }
        self.keep(state, track, &mut taken);
        state.taken = taken;
    }

    /// A track comes that was not there. `false`: it is not kept.
    fn take_up(&self, state: &mut State, track: TrackKey, codec: Codec) -> bool {
        if state.left_out.contains(&track) {
            return false;
        }
        let fits = state.tracks.len() < self.plan.tracks;
        match Take::new(codec, KEY_EVERY_US).filter(|_| fits) {
            Some(take) => {
                state.running.insert(track, Running { take, kept: None });
                true
            }
            None => {
                self.counters.tracks_left_out.fetch_add(1, Ordering::Relaxed);
                state.left_out.insert(track);
                let owner = state.roster.participants().find(|p| p.key == track.participant);
                let event = owner.map(|owner| {
                    json!({
                        "event": "track_left_out", "participant": owner.id.to_string(),
                        "source": track.source, "codec": codec,
                    })
                });
                if let Some(event) = event {
                    self.tell(state, event);
                }
                false
            }
        }
    }

    fn keep(&self, state: &mut State, track: TrackKey, taken: &mut VecDeque<Taken>) {
        for taken in taken.drain(..) {
            match taken {
                Taken::Form(form) => self.begin_track(state, track, form),
                Taken::Frame(frame) => {
                    let running = state.running.get_mut(&track);
                    if let Some((_, keep)) = running.and_then(|r| r.kept.as_mut()) {
                        keep.frame(frame);
                    }
                }
            }
        }
    }

    fn begin_track(&self, state: &mut State, key: TrackKey, form: Form) {
        let owner = state.roster.participants().find(|p| p.key == key.participant);
        let Some(owner) = owner else { return };
        // Another size: decoders learn of it from the frames themselves, and the stream goes on as it began.
        let Some(running) = state.running.get_mut(&key).filter(|r| r.kept.is_none()) else { return };
        let number = state.tracks.len() + 1;
        let track = Track {
            number,
            participant: owner.id.to_string(),
            name: owner.name.clone(),
            source: key.source,
            codec: running.take.codec(),
            start_ms: self.now_ms(),
            stop_ms: None,
        };
        let new = NewKeep {
            name: names::track(&self.plan.id, number),
            form,
            media_type: names::media_type(track.codec),
            retention_h: self.plan.retention_h,
            tags: TrackTags::of(&self.plan.id, &track),
        };
        running.kept =
            Some((number - 1, Keep::start(&self.store, self.clock.clone(), new, self.counters.clone())));
        let event = json!({
            "event": "track_started", "track": number, "participant": track.participant, "source": track.source,
            "codec": track.codec,
        });
        state.tracks.push((track, false));
        self.tell(state, event);
    }

    fn end_track(&self, state: &mut State, track: TrackKey) {
        let Some(Running { kept: Some((index, keep)), .. }) = state.running.remove(&track) else { return };
        let stop_ms = self.now_ms();
        let (ended, _) = &mut state.tracks[index];
        ended.stop_ms = Some(stop_ms);
        let number = ended.number;
        self.tell(state, json!({"event": "track_stopped", "track": number}));
        let (store, name) = (self.store.clone(), StreamRef::Name(names::track(&self.plan.id, number)));
        state.ending.spawn(async move {
            keep.finish().await;
            note_stop(&store, &name, stop_ms).await;
        });
    }

    fn tick(&self, state: &mut State) {
        while state.ending.try_join_next().is_some() {}
        let now = Instant::now();
        let now_us = self.clock.us(now);
        let tracks: Vec<TrackKey> = state.running.keys().copied().collect();
        let (mut taken, mut news) = (VecDeque::new(), false);
        for track in tracks {
            let Some(running) = state.running.get_mut(&track) else { continue };
            running.take.tick(now_us, &mut taken);
            if let Some((index, keep)) = &running.kept
                && keep.is_there()
            {
                news |= !std::mem::replace(&mut state.tracks[*index].1, true);
            }
            self.keep(state, track, &mut taken);
        }
        if now >= state.cut_at + TIMELINE_CUT {
            state.cut_at = now;
            state.cut();
        }
        if news {
            self.publish(state, false);
        }
    }

    fn publish(&self, state: &State, done: bool) {
        let view = state.view.as_ref();
        let status = Status {
            state: view.map_or(RecordingState::Announcing, |v| v.state),
            end: view.and_then(|v| v.end),
            waiting: view.map(|v| v.waiting.clone()).unwrap_or_default(),
            announced: view.is_some(),
            start_ms: state.events.as_ref().map(|_| state.start_ms),
            stop_ms: state.stop_ms,
            tracks: state.tracks.iter().filter(|(_, there)| *there).map(|(t, _)| t.clone()).collect(),
            done,
        };
        self.status.send_replace(status);
    }

    /// It is over: everything is stored, and noted.
    async fn end(self, mut state: State) {
        let stop_ms = *state.stop_ms.get_or_insert(self.now_ms());
        for track in state.running.keys().copied().collect::<Vec<_>>() {
            self.end_track(&mut state, track);
        }
        self.tell(&mut state, json!({"event": "stopped"}));
        // The room is told, and left, before the store is waited for.
        self.say(AttachCommand::Record(RecordingCommand::Stop));
        self.say(AttachCommand::Leave);
        while state.ending.join_next().await.is_some() {}
        let timeline = state.events.take();
        let began = timeline.is_some();
        if let Some(events) = timeline {
            events.finish().await;
            note_stop(&self.store, &StreamRef::Name(names::timeline(&self.plan.id)), stop_ms).await;
        }
        let mut status = self.status.borrow().clone();
        status.state = RecordingState::Stopped;
        status.end = status.end.or(Some(RecordingEnd::Stopped));
        status.start_ms = began.then_some(state.start_ms);
        status.stop_ms = Some(stop_ms);
        status.tracks = state.tracks.into_iter().map(|(track, _)| track).collect();
        status.done = true;
        self.status.send_replace(status);
    }
}

impl State {
    /// Makes a fragment of what the timeline has.
    fn cut(&mut self) {
        if let Some(events) = self.events.as_ref().filter(|_| self.uncut) {
            events.cut();
            self.uncut = false;
        }
    }
}

async fn note_stop(store: &Store, name: &StreamRef, stop_ms: u64) {
    let tags = BTreeMap::from([(names::STOP.to_owned(), stop_ms.to_string())]);
    if let Err(error) = store.tag(name, tags, &[]).await {
        tracing::warn!(%error, "the end of a recorded track could not be noted");
    }
}
