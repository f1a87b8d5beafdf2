//! The end at the store: one task and one stream per track, fed by a bounded queue. A store that is slow costs that track frames, which
//! are counted, and delays nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use antiphon_store::{Finished, NewStream, Session, Store, StreamRef, Timecodes};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::error::Error;
use crate::gate::{Exit, Gate};
use crate::matroska::{Clusters, Container, Form};
use crate::take::Frame;

/// Frames of a track that wait for the store: half a minute of sound, or of pictures.
const MAX_WAITING_FRAMES: usize = 1_500;
/// Bytes of a track that wait for the store: half a minute of 4 Mbit/s.
const MAX_WAITING_BYTES: usize = 16 << 20;

enum Piece {
    Frame(Frame),
    /// What there is becomes a fragment now.
    Cut,
}

/// Counters of all tracks.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) frames: AtomicU64,
    pub(crate) frames_dropped: AtomicU64,
    pub(crate) tracks_failed: AtomicU64,
    pub(crate) tracks_left_out: AtomicU64,
}

/// A stream to be made for a track.
pub(crate) struct NewKeep {
    pub(crate) name: String,
    pub(crate) form: Form,
    pub(crate) media_type: &'static str,
    pub(crate) retention_h: u32,
    pub(crate) tags: BTreeMap<String, String>,
}

/// A track that is being kept.
pub(crate) struct Keep {
    pieces: mpsc::Sender<Piece>,
    gate: Gate,
    there: Arc<AtomicBool>,
    counters: Arc<Counters>,
    task: JoinHandle<Option<Finished>>,
}

impl Keep {
    /// Makes the stream, and takes frames for it meanwhile.
    pub(crate) fn start(store: &Store, clock: Clock, new: NewKeep, counters: Arc<Counters>) -> Self {
        let (pieces, waiting) = mpsc::channel(MAX_WAITING_FRAMES);
        let (gate, there) = (Gate::new(MAX_WAITING_BYTES), Arc::new(AtomicBool::new(false)));
        let run = Run { store: store.clone(), clock, exit: gate.exit(), there: there.clone() };
        let counted = counters.clone();
        let task = tokio::spawn(async move {
            match run.run(new, waiting).await {
                Ok(finished) => Some(finished),
                Err(error) => {
                    counted.tracks_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "a track of a recording is not kept; the call and its other tracks go on");
                    None
                }
            }
        });
        Self { pieces, gate, there, counters, task }
    }

    /// Whether its stream can be read.
    pub(crate) fn is_there(&self) -> bool {
        self.there.load(Ordering::Acquire)
    }

    /// Hands over a frame without waiting.
    pub(crate) fn frame(&mut self, frame: Frame) {
        let (bytes, key) = (frame.data.len(), frame.key);
        let kept = self.gate.pass(bytes, key, || self.pieces.try_send(Piece::Frame(frame)).is_ok());
        let counter = if kept { &self.counters.frames } else { &self.counters.frames_dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A pause: what came before it is stored now.
    pub(crate) fn cut(&self) {
        // A full queue is cut later, by time.
        let _ = self.pieces.try_send(Piece::Cut);
    }

    /// No more comes: waits until everything is stored or has failed.
    pub(crate) async fn finish(self) {
        drop(self.pieces);
        if let Ok(Some(finished)) = self.task.await
            && finished.failed > 0
        {
            tracing::warn!(fragments = finished.failed, "parts of a recording could not be stored");
        }
    }
}

struct Run {
    store: Store,
    clock: Clock,
    exit: Exit,
    there: Arc<AtomicBool>,
}

impl Run {
    async fn run(self, new: NewKeep, mut waiting: mpsc::Receiver<Piece>) -> Result<Finished, Error> {
        let (form, name) = (new.form, StreamRef::Name(new.name.clone()));
        let stream = NewStream {
            name: new.name,
            media_type: new.media_type.into(),
            retention_h: new.retention_h,
            tags: new.tags,
            ..NewStream::default()
        };
        self.store.create_stream(stream, self.clock.now_ms()).await?;
        let (mut session, mut acks) =
            self.store.open_session(&name, Timecodes::Absolute, self.clock.now_ms()).await?;
        // Failures are counted by the store; acknowledgements are read so that they are not in its way.
        tokio::spawn(async move { while acks.recv().await.is_some() {} });
        let head = form.head(Container::Mkv, "Antiphon", None);
        let mut kept = session.push(&head, self.clock.now_ms()).await;
        self.there.store(true, Ordering::Release);
        let mut clusters = Clusters::default();
        while let Some(piece) = waiting.recv().await {
            if kept.is_ok() {
                kept = self.piece(&mut session, &mut clusters, &form, &piece).await;
            }
            if let Piece::Frame(frame) = piece {
                self.exit.took(frame.data.len());
            }
        }
        let finished = session.finish(true, self.clock.now_ms()).await;
        kept.map_err(|_| Error::Refused)?;
        Ok(finished)
    }

    async fn piece(
        &self,
        session: &mut Session,
        clusters: &mut Clusters,
        form: &Form,
        piece: &Piece,
    ) -> Result<(), antiphon_store::ingest::Fault> {
        match piece {
            Piece::Frame(frame) => {
                let cut = form.is_video() && frame.key;
                session.push(&clusters.frame(frame, frame.at_ms, cut), self.clock.now_ms()).await
            }
            Piece::Cut => {
                clusters.sealed();
                session.flush(self.clock.now_ms()).await
            }
        }
    }
}
