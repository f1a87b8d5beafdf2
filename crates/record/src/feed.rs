//! What feeds a contact's stream at the store: sound and pictures become clusters, and clusters fragments.
//!
//! A session of the store has one header, which says what its tracks are. So when the camera comes up, or what its pictures are
//! changes, another session follows, at a key picture. Numbers of fragments and times go on; readers see another header.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use antiphon_store::ingest::Fault;
use antiphon_store::{Acks, Finished, Session};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::blocks::{Block, Clusters};
use crate::clock::Clock;
use crate::eyes::Picture;
use crate::gate::Exit;
use crate::matroska::Form;
use crate::writer::Target;

/// With so many pieces waiting the store is four seconds behind: pictures are left out, so that the sound gets through.
pub(crate) const MAX_BEHIND: usize = 256;
/// A session has a header to be stored, and a camera may say of each key picture that it is another one. What changes sooner goes on
/// under the header that there is: decoders learn of a size from the pictures.
const MIN_SESSION_MS: u64 = 500;

/// Counts of all contacts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    /// Blocks of sound that the store did not take in time.
    pub(crate) blocks_dropped: Arc<AtomicU64>,
    /// Pictures that were handed to the store.
    pub(crate) frames: Arc<AtomicU64>,
    /// Pictures that were not.
    pub(crate) frames_dropped: Arc<AtomicU64>,
}

/// What is handed over.
pub(crate) enum Piece {
    Block(Block),
    Picture(Picture),
}

/// The end at the store.
pub(crate) struct Feed {
    target: Target,
    clock: Clock,
    counters: Counters,
    session: Session,
    /// What its header says of pictures.
    form: Option<Arc<Form>>,
    /// When a session was begun for that, if one was.
    began_ms: Option<u64>,
    /// The session before, which is still being stored.
    before: Option<JoinHandle<Finished>>,
    finished: Finished,
    clusters: Clusters,
    /// A picture was left out that later ones may need.
    broken: bool,
}

impl Feed {
    pub(crate) fn new(
        target: Target,
        clock: Clock,
        counters: Counters,
        session: Session,
        clusters: Clusters,
        form: Option<Arc<Form>>,
    ) -> Self {
        let finished = Finished { first: None, last: None, kept: 0, failed: 0 };
        let (began_ms, before) = (None, None);
        Self { target, clock, counters, session, form, began_ms, before, finished, clusters, broken: true }
    }

    /// Writes what comes, to the end.
    pub(crate) async fn run(mut self, mut pieces: mpsc::Receiver<Piece>, exit: Exit) -> Finished {
        while let Some(piece) = pieces.recv().await {
            let written = match piece {
                Piece::Block(block) => {
                    let bytes = self.clusters.block(&block);
                    self.session.push(&bytes, self.clock.now_ms()).await
                }
                Piece::Picture(picture) => {
                    exit.took(picture.frame.data.len());
                    self.picture(&picture, pieces.len() > MAX_BEHIND).await
                }
            };
            if let Err(fault) = written {
                tracing::warn!(%fault, "a contact's stream has ended before the contact");
                break;
            }
        }
        let last = self.session.finish(true, self.clock.now_ms()).await;
        if let Some(before) = self.before.take() {
            add(&mut self.finished, before.await.ok());
        }
        add(&mut self.finished, Some(last));
        self.finished
    }

    async fn picture(&mut self, picture: &Picture, behind: bool) -> Result<(), Fault> {
        let whole = picture.frame.key || !self.broken;
        self.broken = behind || !whole || !self.told(picture).await;
        if self.broken {
            self.counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
        let bytes = self.clusters.picture(&picture.frame, self.target.picture_track());
        self.session.push(&bytes, self.clock.now_ms()).await
    }

    /// Whether a reader is told by the header what the picture is. Where it is another than those before, a session begins for it.
    async fn told(&mut self, picture: &Picture) -> bool {
        let Some(form) = &picture.form else { return self.form.is_some() };
        if self.form.as_ref() == Some(form) || self.renew(form).await {
            return true;
        }
        self.form.as_ref().is_some_and(|told| told.same_codec(form))
    }

    /// Begins a session whose header tells of such pictures. `false`: not now.
    async fn renew(&mut self, form: &Arc<Form>) -> bool {
        let now_ms = self.clock.now_ms();
        let soon = self.began_ms.is_some_and(|began| now_ms < began + MIN_SESSION_MS);
        // The store has room for two sessions of a stream: while one is being stored, no third begins.
        if soon || self.before.as_ref().is_some_and(|before| !before.is_finished()) {
            return false;
        }
        // First the new one: readers go on as long as a stream has a session.
        let (session, acks) = match self.target.open(Some(form), now_ms).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(%error, "a contact's pictures are left out; its sound goes on");
                return false;
            }
        };
        read(acks);
        let mut before = std::mem::replace(&mut self.session, session);
        if let Some(stored) = self.before.take() {
            add(&mut self.finished, stored.await.ok());
        }
        // The open fragment ends before the next begins. Should that fail, the store says so, and counts it.
        let _ = before.flush(now_ms).await;
        self.clusters.sealed();
        self.before = Some(tokio::spawn(before.finish(true, now_ms)));
        (self.form, self.began_ms) = (Some(form.clone()), Some(now_ms));
        true
    }
}

/// Failures are counted and logged by the store; acknowledgements are read so that they are not in its way.
pub(crate) fn read(mut acks: Acks) {
    tokio::spawn(async move { while acks.recv().await.is_some() {} });
}

/// What a later session left behind.
fn add(all: &mut Finished, later: Option<Finished>) {
    let Some(later) = later else { return };
    all.first = all.first.or(later.first);
    all.last = later.last.or(all.last);
    all.kept += later.kept;
    all.failed += later.failed;
}
