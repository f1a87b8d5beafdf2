//! The recorder of a node: its contacts, what is streamed of them, and what can be asked of that.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use antiphon_base::{ParticipantId, RoomName};
use antiphon_shard::Door;
use antiphon_store::matroska::write::PcmLabel;
use antiphon_store::{Store, StreamRef};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::contact::ContactId;
use crate::contacts::{Contacts, Status};
use crate::ears::{Ears, Wanted};
use crate::error::Error;
use crate::events::{Events, Happened, Teller};
use crate::history::{self, History, Run, RunChange};
use crate::in_force::{InForce, Source};
use crate::listen::Here;
use crate::options::{Form, Options};
use crate::rooms::Recordings;
use crate::settings::{Limits, Settings};
use crate::shared;
use crate::streaming::{COMMANDS, Command, Streaming, Where};
use crate::writer::{Layout, Opened, Target};

/// The names that readers tell the tracks by.
pub(crate) const FROM_CUSTOMER: &str = "AUDIO_FROM_CUSTOMER";
/// What the contact hears.
pub(crate) const TO_CUSTOMER: &str = "AUDIO_TO_CUSTOMER";

/// Counts, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Contacts that are streamed now.
    pub streamed: usize,
    /// As many as may be.
    pub streamed_max: usize,
    /// Contacts that are remembered.
    pub contacts_forgotten: u64,
    /// Starts that were refused because as many are streamed as may be.
    pub refused_at_limit: u64,
    /// Starts that failed otherwise.
    pub failed: u64,
    /// Blocks of sound that were dropped because the store did not keep up.
    pub blocks_dropped: u64,
    /// Places and tracks that were left so soon after each other that the end of what was said there is missing.
    pub tails_cut: u64,
    /// Pictures of contacts that were handed to the store.
    pub frames: u64,
    /// Pictures that were dropped because the store, or the sound, did not keep up.
    pub frames_dropped: u64,
    /// Events that were not told to who asked for [`Events`].
    pub events_dropped: u64,
    /// Settings were set and cannot be read, so nothing can be started.
    pub settings_unreadable: bool,
}

impl Metrics {
    /// Nearly as many contacts are streamed as may be.
    pub fn is_near_limit(&self) -> bool {
        antiphon_store::is_near_limit(self.streamed as u64, self.streamed_max as u64)
    }
}

#[derive(Default)]
struct Counters {
    refused_at_limit: AtomicU64,
    failed: AtomicU64,
    tails_cut: Arc<AtomicU64>,
    written: crate::feed::Counters,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    door: Arc<dyn Door>,
    pub(crate) settings: InForce,
    limits: Limits,
    pub(crate) clock: Clock,
    contacts: Mutex<Contacts>,
    counters: Counters,
    pub(crate) rooms: Recordings,
    teller: Teller,
}

/// As whom somebody enters a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered<'a> {
    /// Its token says whose contact it is.
    As(&'a ContactId),
    /// It takes its own place again, after a lost connection.
    Again,
    /// Neither: another call, unless its contact is streamed at this moment.
    Anew,
}

/// The recorder. Cloning it is a reference count. Needs a tokio runtime with time.
#[derive(Clone)]
pub struct Recorder(pub(crate) Arc<Inner>);

impl Recorder {
    /// Over an open store; it enters rooms by `door`. `settings` are those of the configuration.
    pub fn new(store: Store, door: impl Door + 'static, settings: Settings, limits: Limits) -> Self {
        let (door, clock): (Arc<dyn Door>, _) = (Arc::new(door), Clock::new());
        let rooms = Recordings::new(store.clone(), door.clone(), clock.clone(), limits.recordings.clone());
        Self(Arc::new(Inner {
            store,
            door,
            settings: InForce::new(settings),
            limits,
            clock,
            rooms,
            contacts: Mutex::default(),
            counters: Counters::default(),
            teller: Teller::default(),
        }))
    }

    /// What the time of day is, once a clock that was set is believed. By it what comes from then on is stored and kept; where it stands on
    /// its time axis does not change. A clock that was set back is not followed: what is there is kept longer, never shorter.
    pub fn believe(&self, now_ms: u64) {
        self.0.clock.set(now_ms);
    }

    /// Recordings of rooms.
    pub fn rooms(&self) -> &Recordings {
        &self.0.rooms
    }

    /// Each start and stop from now on. There is one reader: `None` if there is one already.
    pub fn events(&self) -> Option<Events> {
        self.0.teller.events()
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.0.settings.get().0
    }

    /// Where the settings in force come from.
    pub fn settings_source(&self) -> Source {
        self.0.settings.get().1
    }

    /// Takes up the settings that were set before the last start. What cannot be read is told, and nothing is streamed then.
    ///
    /// # Errors
    /// The storage does not answer.
    pub async fn restore_settings(&self) -> Result<Source, Error> {
        self.0.settings.restore(&self.0.store).await
    }

    /// Changes the settings, for what starts from now on, also after a restart. They are stored when this returns.
    ///
    /// # Errors
    /// A value that cannot be, the storage: then those before are in force.
    pub async fn set_settings(&self, settings: Settings) -> Result<(), Error> {
        self.0.settings.set(&self.0.store, Some(settings)).await
    }

    /// Goes back to the settings of the configuration, for what starts from now on.
    ///
    /// # Errors
    /// The storage: then those before are in force.
    pub async fn reset_settings(&self) -> Result<(), Error> {
        self.0.settings.set(&self.0.store, None).await
    }

    /// Somebody has entered a room.
    pub fn entered(&self, room: &RoomName, participant: &ParticipantId, as_whom: Entered<'_>) {
        let place = (room.clone(), participant.clone());
        let mut contacts = self.0.contacts();
        let given = if let Entered::As(id) = as_whom { Some(id) } else { None };
        let Some(id) = given.cloned().or_else(|| contacts.at(&place).cloned()) else { return };
        let idle = contacts.get(&id).is_none_or(|c| matches!(c.status, Status::Idle));
        if idle && matches!(as_whom, Entered::Anew) {
            // The same name, another call: it gets a contact of its own when one is asked for.
            return contacts.forget(&id);
        }
        let contact = contacts.enter(&id, place.clone(), given.is_some(), self.0.limits.contacts);
        if let Status::Running { commands, .. } = &contact.status {
            // Full: the task is stuck, or gone, and would not follow anyway.
            let _ = commands.try_send(Command::Moved(place));
        }
    }

    /// The contact that a participant carries; its own is made if it has none yet.
    pub fn contact_of(&self, room: &RoomName, participant: &ParticipantId) -> ContactId {
        let place = (room.clone(), participant.clone());
        let mut contacts = self.0.contacts();
        if let Some(id) = contacts.at(&place) {
            return id.clone();
        }
        let id = ContactId::random();
        contacts.enter(&id, place, false, self.0.limits.contacts);
        id
    }

    /// Where a contact is now.
    ///
    /// # Errors
    /// No such contact, or it is in no room.
    pub fn place(&self, contact: &ContactId) -> Result<(RoomName, ParticipantId), Error> {
        let contacts = self.0.contacts();
        contacts.get(contact).ok_or(Error::NoContact)?.place.clone().ok_or(Error::NotPresent)
    }

    /// Whether a contact has been in a room: who may do something there may do it to the contact.
    pub fn was_in(&self, contact: &ContactId, room: &RoomName) -> bool {
        let known = self.0.contacts().get(contact).is_some_and(|c| c.rooms.contains(room));
        known || self.0.history(contact).is_some_and(|h| h.room.as_ref() == Some(room))
    }

    /// Starts streaming a contact, which is in a room.
    ///
    /// # Errors
    /// Off, as many as may be, running, not there, the room, the store. The call goes on in any case.
    pub async fn start(&self, contact: &ContactId, options: Options) -> Result<History, Error> {
        options.check()?;
        let settings = self.settings();
        if !settings.enabled {
            return Err(Error::Disabled);
        }
        let reserved = self.0.reserve(contact);
        let (place, given) = reserved.inspect_err(|error| {
            if matches!(error, Error::AtLimit) {
                self.0.counters.refused_at_limit.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        // In a task of its own: a client that hangs up does not leave a start half done.
        let (inner, id) = (self.0.clone(), contact.clone());
        let starting = tokio::spawn(async move {
            let started = inner.start(&id, place, given, &settings, &options).await;
            if let Err(error) = &started {
                inner.counters.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a contact is not streamed; its call goes on");
                inner.set_status(&id, Status::Idle);
            }
            started
        });
        starting.await.unwrap_or(Err(Error::Refused))
    }

    /// Stops streaming a contact. Returns when its last fragment is stored.
    ///
    /// # Errors
    /// It is not streamed.
    pub async fn stop(&self, contact: &ContactId) -> Result<History, Error> {
        let (commands, mut done) = match self.0.contacts().get(contact).map(|c| &c.status) {
            Some(Status::Running { commands, done }) => (commands.clone(), done.clone()),
            _ => return Err(Error::NotRunning),
        };
        // It may be ending by itself at this moment.
        let _ = commands.send(Command::Stop).await;
        let _ = done.wait_for(|done| *done).await;
        self.0.history(contact).ok_or(Error::NoContact)
    }

    /// What is known of a contact's streaming.
    ///
    /// # Errors
    /// No such contact, or it was never streamed.
    pub fn history(&self, contact: &ContactId) -> Result<History, Error> {
        self.0.history(contact).ok_or(Error::NoContact)
    }

    /// The contact record.
    ///
    /// # Errors
    /// No such contact.
    pub fn record(&self, contact: &ContactId) -> Result<Value, Error> {
        let (history, parts) = (self.0.whole_history(contact), self.0.parts(contact));
        let known = self.0.contacts().get(contact).is_some();
        let mut record = match history {
            Some(history) => history.record(),
            None if known || !parts.is_empty() => history::empty_record(contact),
            None => return Err(Error::NoContact),
        };
        shared::add(&mut record, &parts);
        Ok(record)
    }

    /// Ends a contact's streaming and destroys its streams: the keys first, so that no copy can be read either. From streams that it
    /// shares with others its fragments are removed.
    ///
    /// # Errors
    /// No such contact, it is being started, the store.
    pub async fn delete(&self, contact: &ContactId) -> Result<(), Error> {
        if self.0.contacts().get(contact).is_some_and(|c| matches!(c.status, Status::Starting)) {
            return Err(Error::Starting);
        }
        match self.stop(contact).await {
            Ok(_) | Err(Error::NotRunning | Error::NoContact) => {}
            Err(error) => return Err(error),
        }
        let streams = self.0.all_streams(contact);
        let shared = !self.0.parts(contact).is_empty();
        if streams.is_empty() && !shared && self.0.contacts().get(contact).is_none() {
            return Err(Error::NoContact);
        }
        let mut failed = None;
        for stream in streams {
            use antiphon_store::Error::{StreamNotActive, StreamNotFound};
            match self.0.store.delete_stream(&StreamRef::Arn(stream.arn), None).await {
                // It is being deleted, or was.
                Ok(()) | Err(StreamNotActive | StreamNotFound) => {}
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        if let Err(error) = self.0.store.remove_contact(contact.as_str()).await {
            failed.get_or_insert(error);
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.0.contacts().forget(contact);
        Ok(())
    }

    /// Ends everything that is streamed and waits until it is stored.
    pub async fn close(&self) {
        let running = self.0.contacts().running();
        for (commands, _) in &running {
            // One whose commands are full is stuck, or ends already.
            let _ = commands.try_send(Command::Stop);
        }
        for (_, mut done) in running {
            let _ = done.wait_for(|done| *done).await;
        }
        self.0.rooms.close().await;
    }

    /// Counts.
    pub fn metrics(&self) -> Metrics {
        let counters = &self.0.counters;
        let contacts = self.0.contacts();
        Metrics {
            streamed: contacts.streamed(),
            streamed_max: self.0.limits.streams,
            contacts_forgotten: contacts.forgotten,
            refused_at_limit: counters.refused_at_limit.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            blocks_dropped: counters.written.blocks_dropped.load(Ordering::Relaxed),
            tails_cut: counters.tails_cut.load(Ordering::Relaxed),
            frames: counters.written.frames.load(Ordering::Relaxed),
            frames_dropped: counters.written.frames_dropped.load(Ordering::Relaxed),
            events_dropped: self.0.teller.dropped(),
            settings_unreadable: self.settings_source() == Source::Unreadable,
        }
    }
}

impl Inner {
    pub(crate) fn contacts(&self) -> MutexGuard<'_, Contacts> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_status(&self, id: &ContactId, status: Status) {
        if let Some(contact) = self.contacts().get_mut(id) {
            contact.status = status;
        }
    }

    /// Takes a place among those that are streamed.
    fn reserve(&self, id: &ContactId) -> Result<(Where, bool), Error> {
        let mut contacts = self.contacts();
        let full = contacts.streamed() >= self.limits.streams;
        let contact = contacts.get_mut(id).ok_or(Error::NoContact)?;
        if !matches!(contact.status, Status::Idle) {
            return Err(Error::AlreadyRunning);
        }
        let place = contact.place.clone().ok_or(Error::NotPresent)?;
        if full {
            return Err(Error::AtLimit);
        }
        contact.status = Status::Starting;
        Ok((place, contact.given))
    }

    async fn start(
        self: &Arc<Self>,
        id: &ContactId,
        place: Where,
        given: bool,
        settings: &Settings,
        options: &Options,
    ) -> Result<History, Error> {
        let wanted = Wanted {
            form: options.codec,
            rate: options.sample_rate,
            others: options.to_customer,
            video: options.video,
        };
        // First whether it is there: for who is not, nothing is created.
        let ears = Ears::new(place.1.clone(), wanted);
        let mut here = Here::enter(&*self.door, &place.0, ears).await?;
        if !here.ears.present() {
            return Err(Error::NotPresent);
        }
        here.first_picture().await;
        let stream = self.stream(id, settings, options).await?;
        let name = StreamRef::Name(stream.name.clone());
        let target =
            Target { store: self.store.clone(), stream: name.clone(), layout: layout(id, settings, options) };
        let opened = Opened::new(target, here.ears.form(), self.clock.now_ms()).await?;
        let start = Instant::now();
        let start_ms = self.clock.us(start) / 1_000;
        let (writer, first) =
            opened.start(start_ms, self.clock.clone(), self.counters.written.clone()).await?;
        let run = Run { start_ms, stop_ms: None, first, last: None, video: options.video };
        if let Err(error) = self.note(&name, RunChange::Started(&run), Some(&place.0)).await {
            // It would be a stream that nobody can find.
            writer.finish().await;
            return Err(error);
        }
        let (commands, receiver) = async_channel::bounded(COMMANDS);
        let (finished, done) = watch::channel(false);
        let streaming = Streaming {
            door: self.door.clone(),
            clock: self.clock.clone(),
            absence: self.limits.absence,
            may_move: given,
            wanted,
            place: place.clone(),
            here: Some(here),
            there: VecDeque::new(),
            tails_cut: self.counters.tails_cut.clone(),
            writer,
            commands: receiver,
            start,
            start_ms,
        };
        self.began(id, &place, stream.name, commands, done);
        let history = self.history(id);
        if let Some(history) = &history {
            self.teller.tell(Happened::Started(history.clone()));
        }
        tokio::spawn(self.clone().follow(id.clone(), name, run, streaming, finished));
        history.ok_or(Error::NoContact)
    }

    /// Says that it runs, into which stream; and where the contact has gone meanwhile.
    fn began(
        &self,
        id: &ContactId,
        place: &Where,
        stream: String,
        commands: async_channel::Sender<Command>,
        done: watch::Receiver<bool>,
    ) {
        let mut contacts = self.contacts();
        let Some(contact) = contacts.get_mut(id) else { return };
        if let Some(now) = contact.place.as_ref().filter(|now| *now != place) {
            let _ = commands.try_send(Command::Moved(now.clone()));
        }
        (contact.stream, contact.status) = (Some(stream), Status::Running { commands, done });
    }

    /// Streams to the end, and notes how it ended.
    async fn follow(
        self: Arc<Self>,
        id: ContactId,
        name: StreamRef,
        mut run: Run,
        streaming: Streaming,
        finished: watch::Sender<bool>,
    ) {
        let ended = streaming.run().await;
        run.stop_ms = Some(ended.stop_ms);
        run.last = ended.finished.last.or(Some(run.first));
        if ended.finished.failed > 0 {
            tracing::warn!(
                fragments = ended.finished.failed,
                "parts of a contact's stream could not be stored"
            );
        }
        if let Err(error) = self.note(&name, RunChange::Stopped(&run), None).await {
            tracing::warn!(%error, "the end of a contact's streaming could not be noted");
        }
        self.set_status(&id, Status::Idle);
        if let Some(history) = self.history(&id) {
            self.teller.tell(Happened::Stopped(history, ended.why));
        }
        let _ = finished.send(true);
    }

    /// Notes a start or stop in the stream's tags.
    async fn note(
        &self,
        name: &StreamRef,
        change: RunChange<'_>,
        room: Option<&RoomName>,
    ) -> Result<(), Error> {
        let (mut set, remove) = history::tags_of(&self.store.tags(name)?, change);
        if let Some(room) = room {
            set.insert("Room".into(), room.to_string());
        }
        Ok(self.store.tag(name, set, &remove).await?)
    }
}

fn layout(id: &ContactId, settings: &Settings, options: &Options) -> Layout {
    let rate = options.sample_rate;
    let text = |text: &str| text.to_owned();
    let mime = match options.codec {
        Form::Pcm => format!("audio/L16;rate={rate};channels=1;"),
        Form::Opus => text("audio/opus"),
    };
    let mut tags = vec![
        (text("ContactId"), text(id.as_str())),
        (text("InstanceId"), settings.instance.clone()),
        (text("MimeType"), mime),
        (text(FROM_CUSTOMER), text("1")),
    ];
    let mut tracks = vec![FROM_CUSTOMER];
    if options.to_customer {
        tags.push((text(TO_CUSTOMER), text("2")));
        tracks.push(TO_CUSTOMER);
    }
    tags.push((text("Events"), text("[]")));
    tags.extend(options.tags.clone());
    let label = if settings.connect_strict_codec { PcmLabel::ConnectStrict } else { PcmLabel::Pcm };
    Layout { title: text("Antiphon"), tracks, form: options.codec, rate, label, tags }
}
