//! A producer: its bytes become live frames at once, and stored fragments as soon as the storage has them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::Journaled;
use crate::crypt::DataKey;
use crate::error::Error;
use crate::ingest::{Event, Fault, FaultKind, Ingest, Opening, Sealed, SessionHeader, Timecodes};
use crate::journal::{Begin, Lane, New};
use crate::layout::Flags;
use crate::live::{End, LiveFragment};
use crate::number::FragmentNumber;
use crate::persist;
use crate::places::Place;
use crate::store::Inner;
use crate::stream::{Ended, Stream};

/// Acknowledgements that wait for a producer that does not read them; more are dropped and counted. A fragment has three.
const MAX_WAITING_ACKS: usize = 1024;
/// Of these, kept for errors: a producer that reads late has to learn which fragments are lost, if anything.
const PLACES_FOR_ERRORS: usize = 128;
/// Fragments that wait to be stored, whatever their size.
const MAX_WAITING_FRAGMENTS: usize = 64;

/// What a producer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// A fragment began to arrive.
    Buffering(AckOf),
    /// It has arrived whole.
    Received(AckOf),
    /// It is durable and will be found.
    Persisted(AckOf),
    /// It, or the session, failed.
    Error {
        /// Which fragment, if one was open.
        of: Option<AckOf>,
        /// Why.
        kind: FaultKind,
    },
}

/// Which fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckOf {
    /// Its cluster's timecode as sent, in milliseconds.
    pub timecode_ms: u64,
    /// Its number.
    pub number: FragmentNumber,
}

/// Where acknowledgements come out. Ends when the session has ended and everything is told.
#[derive(Debug)]
pub struct Acks(mpsc::Receiver<Ack>);

impl Acks {
    /// The next one.
    pub async fn recv(&mut self) -> Option<Ack> {
        self.0.recv().await
    }
}

/// What a session left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its first fragment that is kept.
    pub first: Option<FragmentNumber>,
    /// Its last fragment that is kept.
    pub last: Option<FragmentNumber>,
    /// Fragments that are kept.
    pub kept: u64,
    /// Fragments that could not be kept.
    pub failed: u64,
}

/// A complete fragment on its way into the storage.
pub(crate) struct Job {
    pub(crate) live: Arc<LiveFragment>,
    pub(crate) header: Arc<SessionHeader>,
    pub(crate) sealed: Sealed,
    pub(crate) flags: Flags,
    pub(crate) of: AckOf,
    pub(crate) now_ms: u64,
    /// Ends when the fragment is stored or has failed.
    pub(crate) _lane: Option<Lane>,
    pub(crate) _room: OwnedSemaphorePermit,
}

/// Sends acknowledgements, never waiting for who should read them.
#[derive(Clone)]
pub(crate) struct AckSender {
    sender: mpsc::Sender<Ack>,
    inner: Arc<Inner>,
}

impl AckSender {
    pub(crate) fn send(&self, ack: Ack) {
        let full = !matches!(ack, Ack::Error { .. }) && self.sender.capacity() <= PLACES_FOR_ERRORS;
        if full || self.sender.try_send(ack).is_err() {
            self.inner.counters.acks_dropped();
        }
    }
}

struct Open {
    live: Arc<LiveFragment>,
    header: Arc<SessionHeader>,
    of: AckOf,
    flags: Flags,
    lane: Option<Lane>,
}

/// One producer of one stream. Dropping it is the end of a producer that vanished; what is sealed is still stored.
pub struct Session {
    inner: Arc<Inner>,
    stream: Arc<Stream>,
    ingest: Ingest,
    open: Option<Open>,
    flags: Flags,
    jobs: Option<mpsc::Sender<Job>>,
    room: Arc<Semaphore>,
    acks: AckSender,
    /// By which number its place is known, and what has become of it.
    place: (u64, watch::Receiver<Place>),
    persister: Option<JoinHandle<Finished>>,
    now_ms: u64,
    stopped: bool,
    ended: bool,
    /// Sealed since the last [`Session::pace`].
    fragments: u64,
    /// Whether what comes is in the journal until it is stored.
    journaled: bool,
    /// The newest data key that was at hand.
    key: Option<(u32, Arc<DataKey>)>,
}

impl Session {
    pub(crate) fn start(
        inner: &Arc<Inner>,
        stream: &Arc<Stream>,
        owner: Option<&str>,
        timecodes: Timecodes,
        now_ms: u64,
    ) -> Result<(Self, Acks), Error> {
        let place = {
            let mut state = stream.state();
            if !state.active() {
                return Err(Error::StreamNotActive);
            }
            state.places.take(owner, inner.config.max_sessions)?
        };
        let (ack_sender, acks) = mpsc::channel(MAX_WAITING_ACKS);
        let (jobs, waiting) = mpsc::channel(MAX_WAITING_FRAGMENTS);
        let acks_of = AckSender { sender: ack_sender, inner: inner.clone() };
        let persister = persist::run(inner.clone(), stream.clone(), waiting, acks_of.clone());
        let session = Self {
            ingest: Ingest::new(inner.config.rules.clone(), timecodes),
            inner: inner.clone(),
            stream: stream.clone(),
            open: None,
            flags: Flags::default(),
            jobs: Some(jobs),
            room: Arc::new(Semaphore::new(inner.config.max_in_flight_bytes)),
            acks: acks_of,
            place,
            persister: Some(tokio::spawn(persister)),
            now_ms,
            stopped: false,
            ended: false,
            fragments: 0,
            journaled: inner.config.journal == Journaled::Everything,
            key: None,
        };
        stream.wake();
        Ok((session, Acks(acks)))
    }

    /// Says that a contact is what is produced: see [`Journaled`].
    pub fn of_a_contact(&mut self) {
        self.journaled |= self.inner.config.journal == Journaled::Contacts;
    }

    /// Lets a fragment without a block of each track be a fault: for producers that want to hear of it, never for calls, in which a
    /// silent side must not end the other.
    pub fn want_every_track(&mut self) {
        self.ingest.want_every_track();
    }

    /// Sets flags of the next fragment that begins.
    pub fn mark_next(&mut self, flags: Flags) {
        self.flags = self.flags.and(flags);
    }

    /// Takes what the producer sent. Waits while more than `max_in_flight_bytes` of it are not stored yet.
    ///
    /// # Errors
    /// The first fault ends the session: the open fragment is dropped, later pushes are refused, and `finish` tells what
    /// was kept. It was acknowledged as an error already.
    pub async fn push(&mut self, bytes: &[u8], now_ms: u64) -> Result<(), Fault> {
        self.check()?;
        self.now_ms = now_ms;
        let pushed = self.ingest.push(bytes, now_ms);
        self.events(pushed).await
    }

    /// How long the producer should be let wait before more of its bytes are taken, by the quotas of rate. `sent` is what came
    /// since this was asked last. Who does not wait is not refused: a call goes on.
    pub fn pace(&mut self, sent: usize, now_ms: u64) -> u64 {
        let config = &self.inner.config;
        let fragments = std::mem::take(&mut self.fragments);
        let sent = sent as u64;
        let own = {
            let mut state = self.stream.state();
            let bytes = state.bytes_rate.take(sent, config.max_stream_bytes_per_s, now_ms);
            bytes.max(state.fragments_rate.take(fragments, config.max_stream_fragments_per_s, now_ms))
        };
        let mut all = self.inner.rate.lock().expect("nothing panics while holding it");
        let wait = own.max(all.take(sent, config.max_total_bytes_per_s, now_ms));
        self.inner.counters.throttled(wait);
        wait
    }

    /// Seals the open fragment now instead of when the next begins; for producers of our own.
    ///
    /// # Errors
    /// As [`Session::push`]; the producer is inside an element.
    pub async fn flush(&mut self, now_ms: u64) -> Result<(), Fault> {
        self.check()?;
        self.now_ms = now_ms;
        let flushed = self.ingest.flush();
        self.events(flushed).await
    }

    /// Ends the session: waits until everything is stored or has failed. `stopped`: on purpose, readers need not wait.
    pub async fn finish(mut self, stopped: bool, now_ms: u64) -> Finished {
        (self.now_ms, self.stopped) = (now_ms, stopped);
        if !self.ended {
            let ended = self.ingest.finish().map(|_| ());
            // A fault has been acknowledged; what was kept is told below.
            let _ = self.events(ended).await;
        }
        self.jobs = None;
        let nothing = Finished { first: None, last: None, kept: 0, failed: 0 };
        match self.persister.take() {
            Some(persister) => persister.await.unwrap_or(nothing),
            None => nothing,
        }
    }

    /// Ends the session because of something outside its bytes, such as time that is up, and says so. What is complete of the open
    /// fragment is kept, as when a producer vanishes.
    pub async fn fail(&mut self, kind: FaultKind) {
        if !self.ended {
            let kept = self.ingest.finish().map(|_| ());
            // One that cannot be kept has said its own error.
            if self.events(kept).await.is_ok() {
                self.failed(&kind.into());
            }
        }
    }

    /// What becomes of its place when its producer comes again.
    pub fn place(&self) -> watch::Receiver<Place> {
        self.place.1.clone()
    }

    fn check(&mut self) -> Result<(), Fault> {
        if self.ended {
            return Err(FaultKind::InvalidMkv.into());
        }
        if !self.stream.state().active() {
            let fault = FaultKind::StreamDeleted.into();
            self.failed(&fault);
            return Err(fault);
        }
        Ok(())
    }

    async fn events(&mut self, result: Result<(), Fault>) -> Result<(), Fault> {
        while let Some(event) = self.ingest.poll() {
            match event {
                Event::Opened(opening) => self.opened(opening),
                Event::Live(bytes) => self.live(bytes),
                Event::Sealed(sealed) => self.sealed(sealed).await,
            }
        }
        self.stream.wake();
        result.inspect_err(|fault| self.failed(fault))
    }

    fn opened(&mut self, opening: Opening) {
        let live = self.stream.state().open_fragment(&opening);
        let of = AckOf { timecode_ms: opening.timecode_ms, number: live.number };
        let flags = std::mem::take(&mut self.flags);
        let lane = if self.journaled { self.lane(&opening, of, flags) } else { None };
        self.open = Some(Open { live, header: opening.header, of, flags, lane });
        self.acks.send(Ack::Buffering(of));
    }

    /// The fragment's place in the journal, if it is to have one.
    fn lane(&mut self, opening: &Opening, of: AckOf, flags: Flags) -> Option<Lane> {
        let journal = self.inner.journal.as_ref()?;
        {
            let state = self.stream.state();
            if state.record.retention_h == 0 || state.in_memory {
                return None;
            }
            let id = state.record.dek;
            // A key that has just been replaced will do: what it sealed before needs it as well.
            self.key = state.keys.get(&id).map(|key| (id, key.clone())).or(self.key.take());
        }
        let (key_id, key) = self.key.clone()?;
        let begin = Begin {
            number: of.number,
            producer_ms: opening.producer_ms,
            flags,
            contact: opening.contact.clone(),
            header: opening.header.bytes.clone(),
        };
        journal.open(New { uid: self.stream.uid, key_id, key, begin })
    }

    fn live(&mut self, bytes: Bytes) {
        if let Some(open) = &self.open {
            if let Some(lane) = &open.lane {
                lane.push(bytes.clone());
            }
            open.live.push(bytes);
        }
    }

    async fn sealed(&mut self, sealed: Sealed) {
        let Some(Open { live, header, of, mut flags, lane }) = self.open.take() else { return };
        if sealed.salvaged {
            flags = flags.and(Flags::SALVAGED);
        }
        self.fragments += 1;
        live.belongs_to(&sealed.contact);
        live.finish(End::Complete { duration_ms: sealed.duration_ms });
        {
            let (config, mut state) = (&self.inner.config, self.stream.state());
            state.last_duration_ms = sealed.duration_ms;
            state.contact.clone_from(&sealed.contact);
            state.trim_memory(config.memory_ms, config.memory_bytes, self.now_ms);
        }
        self.stream.wake();
        self.acks.send(Ack::Received(of));
        let bytes: usize = sealed.media.iter().map(Bytes::len).sum();
        let bytes = u32::try_from(bytes.min(self.inner.config.max_in_flight_bytes)).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(bytes).await.expect("it is never closed");
        let now_ms = self.now_ms;
        let job = Job { live, header, sealed, flags, of, now_ms, _lane: lane, _room: room };
        if let Some(jobs) = &self.jobs {
            let sent = jobs.send(job).await;
            debug_assert!(sent.is_ok(), "the persister ends after its sender");
        }
    }

    /// Drops the open fragment and ends the session.
    fn failed(&mut self, fault: &Fault) {
        if self.ended {
            return;
        }
        self.ended = true;
        // These are not of what it sent.
        if !matches!(fault.kind, FaultKind::StreamRead | FaultKind::ConnectionDuration) {
            self.inner.counters.session_failed();
        }
        let of = self.drop_open();
        self.acks.send(Ack::Error { of, kind: fault.kind });
        tracing::debug!(%fault, "a producer's session failed");
    }

    fn drop_open(&mut self) -> Option<AckOf> {
        let open = self.open.take()?;
        open.live.finish(End::Dropped);
        self.stream.state().live.remove(&open.live.number);
        self.stream.wake();
        Some(open.of)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.drop_open();
        {
            let mut state = self.stream.state();
            state.places.leave(self.place.0);
            state.ended = Some(Ended { at_ms: self.now_ms, stopped: self.stopped });
        }
        self.stream.wake();
    }
}
