//! What the room, its outputs and the two pumping tasks share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use antiphon_wire::bot::{BotEvent, BotMessage, MediaSession};
use antiphon_wire::control::{ControlError, LeaveReason};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use crate::error::Error;
use crate::inbox::Inbox;
use crate::pace::Pace;
use crate::roster::Roster;

/// Messages waiting for the socket; a sender waits when they are this many.
pub(crate) const MAX_OUTGOING: usize = 8;
/// Requests, and marks, that may wait for their answers.
pub(crate) const MAX_WAITING: usize = 1024;

/// One voice's pacing, and the bell for those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    pub(crate) pace: Mutex<Pace>,
    pub(crate) changed: Notify,
    /// Pushes one after the other.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

type Waiters<K> = HashMap<K, oneshot::Sender<Result<BotEvent, Error>>>;

/// Guarded by locks that are held for a few instructions and never across an await.
pub(crate) struct Shared {
    pub(crate) outgoing: mpsc::Sender<Message>,
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) arrived: Notify,
    pub(crate) roster: Mutex<Roster>,
    pub(crate) session: Mutex<MediaSession>,
    pub(crate) requests: Mutex<Waiters<u32>>,
    pub(crate) marks: Mutex<Waiters<String>>,
    pub(crate) microphone: Arc<Voice>,
    pub(crate) screen_audio: Arc<Voice>,
    pub(crate) malformed: std::sync::atomic::AtomicU64,
    /// Set once: why nothing more comes.
    end: Mutex<Option<Error>>,
    pub(crate) left: Mutex<Option<LeaveReason>>,
    ids: AtomicU32,
}

/// Takes a lock; a panic elsewhere does not make what it guards wrong.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(outgoing: mpsc::Sender<Message>, session: MediaSession) -> Self {
        Self {
            outgoing,
            inbox: Mutex::default(),
            arrived: Notify::new(),
            roster: Mutex::default(),
            session: Mutex::new(session),
            requests: Mutex::default(),
            marks: Mutex::default(),
            microphone: Arc::default(),
            screen_audio: Arc::default(),
            malformed: Default::default(),
            end: Mutex::default(),
            left: Mutex::default(),
            ids: AtomicU32::new(1),
        }
    }

    /// Why the connection is over, once it is.
    pub(crate) fn ended(&self) -> Option<Error> {
        lock(&self.end).clone()
    }

    /// Ends the connection for all who wait; the first reason stays.
    pub(crate) fn end(&self, why: Error) {
        let why = lock(&self.end).get_or_insert(why).clone();
        let requests = std::mem::take(&mut *lock(&self.requests));
        let marks = std::mem::take(&mut *lock(&self.marks));
        for waiter in requests.into_values().chain(marks.into_values()) {
            // Whoever waited may have given up.
            let _ = waiter.send(Err(why.clone()));
        }
        self.arrived.notify_one();
        self.microphone.changed.notify_waiters();
        self.screen_audio.changed.notify_waiters();
    }

    /// Sends one message; waits while the connection is full.
    pub(crate) async fn send(&self, message: Message) -> Result<(), Error> {
        if let Some(why) = self.ended() {
            return Err(why);
        }
        let gone = || self.ended().unwrap_or_else(|| Error::ConnectionLost("the socket is gone".to_owned()));
        self.outgoing.send(message).await.map_err(|_| gone())
    }

    /// Sends a request with a fresh id and waits for its answer.
    pub(crate) async fn request(&self, make: impl FnOnce(u32) -> BotMessage) -> Result<BotEvent, Error> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let message = text(&make(id))?;
        let answer = self.wait(&self.requests, id)?;
        self.send(message).await?;
        self.answer(answer).await
    }

    /// Says that a recording was heard of. A full queue loses it; whoever records then waits in vain, which it is told.
    pub(crate) fn acknowledge(&self, recording: &str) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let message = BotMessage::AcknowledgeRecording { id, recording: recording.to_owned(), consent: None };
        if let Ok(message) = text(&message) {
            let _ = self.outgoing.try_send(message);
        }
    }

    /// Sets a mark and waits for it.
    pub(crate) async fn mark(
        &self,
        name: Option<&str>,
        source: antiphon_base::Source,
    ) -> Result<BotEvent, Error> {
        let fresh = || format!("mark-{}", self.ids.fetch_add(1, Ordering::Relaxed));
        let name = name.map_or_else(fresh, str::to_owned);
        let message = text(&BotMessage::Mark { name: name.clone(), source })?;
        let played = self.wait(&self.marks, name)?;
        self.send(message).await?;
        self.answer(played).await
    }

    fn wait<K: std::hash::Hash + Eq>(
        &self,
        waiters: &Mutex<Waiters<K>>,
        key: K,
    ) -> Result<oneshot::Receiver<Result<BotEvent, Error>>, Error> {
        let mut waiters = lock(waiters);
        waiters.retain(|_, w| !w.is_closed());
        if waiters.len() >= MAX_WAITING {
            return Err(Error::Misuse("1024 requests are waiting for their answers already"));
        }
        if waiters.contains_key(&key) {
            return Err(Error::Misuse("that mark is still waiting: give each its own name"));
        }
        let (sender, receiver) = oneshot::channel();
        waiters.insert(key, sender);
        Ok(receiver)
    }

    async fn answer(&self, waiter: oneshot::Receiver<Result<BotEvent, Error>>) -> Result<BotEvent, Error> {
        // The connection may have ended between the check in `send` and now, when nobody answers any more.
        if let Some(why) = self.ended() {
            return Err(why);
        }
        waiter.await.unwrap_or_else(|_| Err(self.ended().unwrap_or(Error::Closed(None))))
    }
}

/// A message as text, if it keeps the limits: over a broken one the server would end the connection.
pub(crate) fn text(message: &BotMessage) -> Result<Message, Error> {
    let json = serde_json::to_string(message).expect("no map with non-text keys, no fallible Serialize");
    match BotMessage::parse(json.as_bytes()) {
        Ok(_) => Ok(Message::text(json)),
        Err(ControlError::Limit(what)) => Err(Error::Misuse(what)),
        Err(_) => Err(Error::Misuse("a message has at most 65536 bytes")),
    }
}
