//! The recordings of a node: those that run, those that are kept, and what can be done with them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use antiphon_base::RoomName;
use antiphon_shard::{AttachCommand, Door, Place, RecordingCommand};
use antiphon_store::{Store, StreamInfo, StreamRef};
use antiphon_wire::control::RecordingState;
use tokio::sync::watch;

use super::keep::Counters;
use super::names::{self, TrackTags};
use super::options::{Policy, StartRecording};
use super::run::{Plan, Run};
use super::{Recording, Status, Track};
use crate::clock::Clock;
use crate::error::Error;
use crate::listen::recorder_request;

/// Commands waiting for a recording's task, which passes them on at once.
const COMMANDS: usize = 16;
/// A room answers at once; one that does not is not going to.
const ANSWER: Duration = Duration::from_secs(5);
/// Recordings that never began are remembered for who asks how they went.
const MAX_OVER: usize = 100;
/// Streams looked at in one go.
const PAGE: usize = 1_000;
/// Recordings of one list; older ones are found by their id.
const MAX_LIST: usize = 1_000;

/// Counts, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordingMetrics {
    /// Rooms that are recorded now, announced ones included.
    pub running: usize,
    /// As many as may be.
    pub running_max: usize,
    /// Frames handed to the store.
    pub frames: u64,
    /// Frames that were dropped because the store did not keep up.
    pub frames_dropped: u64,
    /// Tracks that could not be stored.
    pub tracks_failed: u64,
    /// Tracks that were left out: a codec that is not kept, or too many.
    pub tracks_left_out: u64,
}

struct Active {
    /// As it was started; how it stands is in `status`.
    about: Recording,
    commands: async_channel::Sender<RecordingCommand>,
    status: watch::Receiver<Status>,
}

impl Active {
    fn now(&self) -> Recording {
        let status = self.status.borrow();
        Recording {
            state: Some(status.state),
            end: status.end,
            waiting: status.waiting.clone(),
            start_ms: status.start_ms,
            stop_ms: status.stop_ms,
            tracks: status.tracks.clone(),
            ..self.about.clone()
        }
    }
}

struct Inner {
    store: Store,
    door: Arc<dyn Door>,
    clock: Clock,
    policy: Policy,
    active: Mutex<BTreeMap<String, Active>>,
    over: Mutex<VecDeque<Recording>>,
    counters: Arc<Counters>,
}

/// All recordings. Cloning it is a reference count.
#[derive(Clone)]
pub struct Recordings(Arc<Inner>);

impl Recordings {
    pub(crate) fn new(store: Store, door: Arc<dyn Door>, clock: Clock, policy: Policy) -> Self {
        let (active, over, counters) = (Mutex::default(), Mutex::default(), Arc::default());
        Self(Arc::new(Inner { store, door, clock, policy, active, over, counters }))
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn clock(&self) -> Clock {
        self.0.clock.clone()
    }

    /// Announces a recording in a room. It begins when everybody has acknowledged it; returns when the room has been told.
    ///
    /// # Errors
    /// Options, as many as may be, recorded already, the room.
    pub async fn start(&self, room: &RoomName, options: StartRecording) -> Result<Recording, Error> {
        options.check()?;
        let (inner, room) = (self.0.clone(), room.clone());
        // In a task of its own: a client that hangs up does not leave a start half done.
        let starting = tokio::spawn(async move { inner.start(room, options).await });
        starting.await.unwrap_or(Err(Error::Refused))
    }

    /// A recording of a room.
    ///
    /// # Errors
    /// No such one.
    pub fn get(&self, room: &RoomName, id: &str) -> Result<Recording, Error> {
        let found = self.0.find(id).filter(|r| r.room == *room);
        found.ok_or(Error::NoRecording)
    }

    /// The recordings of a room, the latest first.
    pub fn list(&self, room: &RoomName) -> Vec<Recording> {
        let mut all: BTreeMap<String, Recording> = BTreeMap::new();
        let over = self.0.over.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(over.iter().filter(|r| r.room == *room).map(|r| (r.id.clone(), r.clone())));
        drop(over);
        for stream in self.0.streams(names::PREFIX) {
            let Some(id) = names::of_timeline(&stream.name) else { continue };
            if let Some(recording) = self.0.stored(id).filter(|r| r.room == *room) {
                all.insert(id.to_owned(), recording);
            }
        }
        let active = self.0.active();
        all.extend(active.iter().filter(|(_, a)| a.about.room == *room).map(|(id, a)| (id.clone(), a.now())));
        drop(active);
        let mut all: Vec<Recording> = all.into_values().collect();
        // One that waits has no time yet, and is the latest.
        all.sort_by_key(|r| std::cmp::Reverse(r.start_ms.unwrap_or(u64::MAX)));
        all.truncate(MAX_LIST);
        all
    }

    /// Keeps nothing for a while. Nothing that comes after the answer is kept.
    ///
    /// # Errors
    /// No such recording, it does not run.
    pub async fn pause(&self, room: &RoomName, id: &str) -> Result<Recording, Error> {
        let from = RecordingState::Recording;
        self.turn(room, id, from, RecordingCommand::Pause, RecordingState::Paused).await
    }

    /// Goes on.
    ///
    /// # Errors
    /// No such recording, it is not paused.
    pub async fn resume(&self, room: &RoomName, id: &str) -> Result<Recording, Error> {
        let from = RecordingState::Paused;
        self.turn(room, id, from, RecordingCommand::Resume, RecordingState::Recording).await
    }

    async fn turn(
        &self,
        room: &RoomName,
        id: &str,
        from: RecordingState,
        command: RecordingCommand,
        to: RecordingState,
    ) -> Result<Recording, Error> {
        let (commands, mut status) = self.running(room, id)?;
        let state = status.borrow().state;
        if state == to {
            return self.get(room, id);
        }
        if state != from {
            return Err(Error::WrongState("the recording does not run, or is over"));
        }
        commands.try_send(command).map_err(|_| Error::Refused)?;
        let turned = status.wait_for(|s| s.state == to || s.done);
        let turned = tokio::time::timeout(ANSWER, turned).await;
        let turned = matches!(turned, Ok(Ok(status)) if status.state == to);
        if turned { self.get(room, id) } else { Err(Error::WrongState("the recording has ended meanwhile")) }
    }

    /// Ends a recording. Returns when everything is stored.
    ///
    /// # Errors
    /// No such recording, it is over.
    pub async fn stop(&self, room: &RoomName, id: &str) -> Result<Recording, Error> {
        let (commands, mut status) = self.running(room, id)?;
        // It may be ending by itself at this moment.
        let _ = commands.send(RecordingCommand::Stop).await;
        let _ = status.wait_for(|s| s.done).await;
        self.get(room, id)
    }

    fn running(
        &self,
        room: &RoomName,
        id: &str,
    ) -> Result<(async_channel::Sender<RecordingCommand>, watch::Receiver<Status>), Error> {
        let of = |a: &Active| (a.commands.clone(), a.status.clone());
        let running = self.0.active().get(id).filter(|a| a.about.room == *room).map(of);
        match running {
            Some(running) => Ok(running),
            None => {
                self.get(room, id)?;
                Err(Error::WrongState("the recording is over"))
            }
        }
    }

    /// Ends a recording and destroys it: the keys first, so that no copy can be read either.
    ///
    /// # Errors
    /// No such recording, the store.
    pub async fn delete(&self, room: &RoomName, id: &str) -> Result<(), Error> {
        self.get(room, id)?;
        match self.stop(room, id).await {
            Ok(_) | Err(Error::WrongState(_) | Error::NoRecording) => {}
            Err(error) => return Err(error),
        }
        self.0.remove(id).await?;
        let mut over = self.0.over.lock().unwrap_or_else(PoisonError::into_inner);
        over.retain(|r| r.id != id);
        Ok(())
    }

    /// Removes recordings of which nothing is kept any more.
    pub(crate) async fn sweep(&self) -> u64 {
        let now_ms = self.0.clock.now_ms();
        let timelines = self.0.streams(names::PREFIX);
        let ids: Vec<String> =
            timelines.iter().filter_map(|s| names::of_timeline(&s.name)).map(str::to_owned).collect();
        let mut removed = 0;
        for id in ids {
            let Some(recording) = self.0.find(&id) else { continue };
            let kept_ms = u64::from(recording.retention_h) * 3_600_000;
            let ended = recording.stop_ms.or(recording.start_ms).unwrap_or(0);
            let empty = self.0.streams(&names::all(&id)).iter().all(|s| s.fragments == 0);
            let runs = self.0.active().contains_key(&id);
            if !runs && empty && ended.saturating_add(kept_ms) <= now_ms {
                match self.0.remove(&id).await {
                    Ok(()) => removed += 1,
                    Err(error) => tracing::debug!(%error, "an empty recording was not removed"),
                }
            }
        }
        removed
    }

    /// Ends everything that runs and waits until it is stored.
    pub(crate) async fn close(&self) {
        let running: Vec<_> =
            self.0.active().values().map(|a| (a.commands.clone(), a.status.clone())).collect();
        for (commands, _) in &running {
            let _ = commands.try_send(RecordingCommand::Stop);
        }
        for (_, mut status) in running {
            let _ = status.wait_for(|s| s.done).await;
        }
    }

    /// Counts.
    pub fn metrics(&self) -> RecordingMetrics {
        let counters = &self.0.counters;
        RecordingMetrics {
            running: self.0.active().len(),
            running_max: self.0.policy.running,
            frames: counters.frames.load(Ordering::Relaxed),
            frames_dropped: counters.frames_dropped.load(Ordering::Relaxed),
            tracks_failed: counters.tracks_failed.load(Ordering::Relaxed),
            tracks_left_out: counters.tracks_left_out.load(Ordering::Relaxed),
        }
    }
}

impl Inner {
    fn active(&self) -> MutexGuard<'_, BTreeMap<String, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place among those that run.
    fn reserve(&self, active: Active) -> Result<(), Error> {
        let mut all = self.active();
        // One that has stopped is only being stored.
        let runs = |a: &Active| a.status.borrow().state != RecordingState::Stopped;
        if all.values().any(|a| a.about.room == active.about.room && runs(a)) {
            return Err(Error::RoomRecorded);
        }
        if all.len() >= self.policy.running {
            return Err(Error::TooManyRecordings);
        }
        all.insert(active.about.id.clone(), active);
        Ok(())
    }

    async fn start(self: Arc<Self>, room: RoomName, options: StartRecording) -> Result<Recording, Error> {
        let id = names::fresh_id();
        let consent = self.policy.consent_in(room.as_str(), options.consent);
        let about = Recording {
            id: id.clone(),
            room: room.clone(),
            state: Some(RecordingState::Announcing),
            end: None,
            consent,
            waiting: Vec::new(),
            start_ms: None,
            stop_ms: None,
            retention_h: options.retention_h.unwrap_or(self.policy.retention_h),
            tags: options.tags.clone(),
            tracks: Vec::new(),
        };
        let (commands, receiver) = async_channel::bounded(COMMANDS);
        let (sender, mut status) = watch::channel(Status::new());
        self.reserve(Active { about: about.clone(), commands, status: status.clone() })?;
        let place = match tokio::time::timeout(ANSWER, self.door.attach(&room, recorder_request())).await {
            Ok(Ok(place)) => place,
            Ok(Err(error)) => {
                self.active().remove(&id);
                return Err(error.into());
            }
            Err(_) => {
                self.active().remove(&id);
                return Err(Error::Refused);
            }
        };
        let within = if consent { self.policy.consent_within } else { self.policy.acknowledge_within };
        (place.say)(AttachCommand::Record(RecordingCommand::Announce { id: id.clone(), consent, within }));
        let run = self.task(&about, &options, place, receiver, sender);
        let (inner, of) = (self.clone(), id.clone());
        tokio::spawn(async move {
            run.run().await;
            inner.ended(&of);
        });
        let _ = tokio::time::timeout(ANSWER, status.wait_for(|s| s.announced)).await;
        self.find(&id).or_else(|| self.over(&id)).ok_or(Error::Refused)
    }

    fn task(
        &self,
        about: &Recording,
        options: &StartRecording,
        place: Place,
        commands: async_channel::Receiver<RecordingCommand>,
        status: watch::Sender<Status>,
    ) -> Run {
        let mut tags = BTreeMap::from([
            (names::RECORDING.to_owned(), about.id.clone()),
            (names::ROOM.to_owned(), about.room.to_string()),
            (names::CONSENT.to_owned(), about.consent.to_string()),
        ]);
        tags.extend(about.tags.iter().map(|(k, v)| (format!("{}{k}", names::OWN), v.clone())));
        let plan = Plan {
            id: about.id.clone(),
            audio: options.audio,
            video: options.video,
            retention_h: about.retention_h,
            tracks: self.policy.tracks,
            tags,
        };
        let (store, clock, counters) = (self.store.clone(), self.clock.clone(), self.counters.clone());
        Run { plan, store, clock, counters, place, commands, status }
    }

    /// A recording's task is done. What never began is only remembered.
    fn ended(&self, id: &str) {
        let Some(active) = self.active().remove(id) else { return };
        let recording = active.now();
        if recording.start_ms.is_none() {
            let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
            over.push_back(recording);
            while over.len() > MAX_OVER {
                over.pop_front();
            }
        }
    }

    fn over(&self, id: &str) -> Option<Recording> {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        over.iter().find(|r| r.id == id).cloned()
    }

    fn find(&self, id: &str) -> Option<Recording> {
        let active = self.active().get(id).map(Active::now);
        active.or_else(|| self.stored(id)).or_else(|| self.over(id))
    }

    /// All streams whose names begin so.
    fn streams(&self, prefix: &str) -> Vec<StreamInfo> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.store.list_streams(prefix, &after, PAGE);
            let Some(last) = page.last() else { return all };
            after.clone_from(&last.name);
            all.extend(page);
        }
    }

    /// A recording that is kept, from its streams' tags.
    fn stored(&self, id: &str) -> Option<Recording> {
        if !names::is_id(id) {
            return None;
        }
        let name = StreamRef::Name(names::timeline(id));
        let (info, tags) = (self.store.describe(&name).ok()?, self.store.tags(&name).ok()?);
        let time = |name: &str| tags.get(name).and_then(|ms| ms.parse::<u64>().ok());
        let own = |(k, v): (&String, &String)| Some((k.strip_prefix(names::OWN)?.to_owned(), v.clone()));
        let tracks: Vec<Track> = self
            .streams(&names::all(id))
            .into_iter()
            .filter_map(|s| TrackTags::read(&self.store.tags(&StreamRef::Name(s.name)).ok()?))
            .collect();
        let stop_ms = time(names::STOP);
        Some(Recording {
            id: id.to_owned(),
            room: RoomName::new(tags.get(names::ROOM)?).ok()?,
            state: stop_ms.map(|_| RecordingState::Stopped),
            end: None,
            consent: tags.get(names::CONSENT).is_some_and(|c| c == "true"),
            waiting: Vec::new(),
            start_ms: time(names::START),
            stop_ms,
            retention_h: info.retention_h,
            tags: tags.iter().filter_map(own).collect(),
            tracks,
        })
    }

    /// Destroys all streams of a recording; the timeline's last, so that what was cut short can be repeated.
    async fn remove(&self, id: &str) -> Result<(), Error> {
        let last = names::timeline(id);
        let mut streams: Vec<String> = self.streams(&names::all(id)).into_iter().map(|s| s.name).collect();
        streams.sort_by_key(|name| *name == last);
        for name in streams {
            match self.store.delete_stream(&StreamRef::Name(name), None).await {
                Ok(()) | Err(antiphon_store::Error::StreamNotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
