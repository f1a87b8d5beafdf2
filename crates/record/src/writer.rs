//! The way to the store: what a stream's header says, and a bounded queue before the task that feeds its sessions, so that a store that
//! is slow or full delays nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use antiphon_store::matroska::id;
use antiphon_store::matroska::write::{self, PcmLabel, PcmTrack, Writer as Elements};
use antiphon_store::{Ack, Acks, Finished, Flags, FragmentNumber, Session, Store, StreamRef, Timecodes};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::blocks::{BLOCK_MS, Block, Clusters};
use crate::clock::Clock;
use crate::error::Error;
use crate::eyes::Picture;
use crate::feed::{self, Counters, Feed, MAX_BEHIND, Piece};
use crate::gate::Gate;
use crate::matroska;
use crate::options::Form;
use crate::packets::SILENCE;

/// Blocks that wait for the store: half a minute of two tracks. More are dropped and counted; the time axis holds. Pictures have no
/// part in it: they are taken only while the queue is nearly empty, and have room of their own.
const MAX_WAITING_BLOCKS: usize = 1_024;
/// Bytes of pictures that wait for the store: four seconds of 16 Mbit/s.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// The name that readers tell the track of pictures by.
const VIDEO_FROM_CUSTOMER: &str = "VIDEO_FROM_CUSTOMER";

/// What is written, as its header says.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) title: String,
    /// Their names; the first is number 1.
    pub(crate) tracks: Vec<&'static str>,
    pub(crate) form: Form,
    pub(crate) rate: u32,
    pub(crate) label: PcmLabel,
    pub(crate) tags: Vec<(String, String)>,
}

impl Layout {
    /// What stands before the first cluster. `pictures`: there are some, of that form, as the last track.
    fn header(&self, pictures: Option<&matroska::Form>) -> Vec<u8> {
        let mut w = Elements::new();
        w.master(id::INFO, |w| {
            w.uint(id::TIMECODE_SCALE, 1_000_000).text(id::TITLE, &self.title);
            w.text(id::MUXING_APP, "Antiphon").text(id::WRITING_APP, "Antiphon");
        });
        w.master(id::TRACKS, |w| {
            for (name, number) in self.tracks.iter().zip(1..) {
                self.sound(w, number, name);
            }
            if let Some(form) = pictures {
                form.entry(w, self.picture_track(), VIDEO_FROM_CUSTOMER);
            }
        });
        let mut out = [write::document_head(), w.into_bytes()].concat();
        for (name, value) in &self.tags {
            out.extend(write::tags(&[(name, value)]));
        }
        if pictures.is_some() {
            out.extend(write::tags(&[(VIDEO_FROM_CUSTOMER, &self.picture_track().to_string())]));
        }
        out
    }

    fn sound(&self, w: &mut Elements, number: u8, name: &str) {
        let (rate_hz, label) = (self.rate, self.label);
        match self.form {
            Form::Opus => matroska::Form::opus().entry(w, number, name),
            Form::Pcm => {
                let track = PcmTrack { number: number.into(), name: name.to_owned(), rate_hz, label };
                write::pcm_track(w, &track);
            }
        }
    }

    /// The number of the track of pictures: the one after those of sound, whether it is there or not.
    fn picture_track(&self) -> u8 {
        u8::try_from(self.tracks.len() + 1).expect("one or two of sound")
    }

    /// A block of silence of each track, which ends at `until_ms`.
    fn anchor(&self, until_ms: u64) -> impl Iterator<Item = Block> {
        let samples = usize::try_from(u64::from(self.rate) * BLOCK_MS / 1000).expect("thousands");
        let (data, long_ms) = match self.form {
            Form::Pcm => (Bytes::from(vec![0; 2 * samples]), BLOCK_MS),
            Form::Opus => (Bytes::from_static(&SILENCE), 20),
        };
        let at_ms = until_ms.saturating_sub(long_ms);
        (1..).take(self.tracks.len()).map(move |track| Block { at_ms, track, data: data.clone() })
    }
}

/// A stream, and what its sessions say of themselves.
pub(crate) struct Target {
    pub(crate) store: Store,
    pub(crate) stream: StreamRef,
    pub(crate) layout: Layout,
}

impl Target {
    /// Opens a session; nothing is written yet but its header, which stays in memory until a fragment follows.
    pub(crate) async fn open(
        &self,
        pictures: Option<&Arc<matroska::Form>>,
        now_ms: u64,
    ) -> Result<(Session, Acks), Error> {
        let (mut session, acks) = self.store.open_session(&self.stream, Timecodes::Absolute, now_ms).await?;
        session.of_a_contact();
        let header = self.layout.header(pictures.map(|form| &**form));
        session.push(&header, now_ms).await.map_err(|_| Error::Refused)?;
        Ok((session, acks))
    }

    /// The number of the track of pictures.
    pub(crate) fn picture_track(&self) -> u8 {
        self.layout.picture_track()
    }
}

/// A session in the store that has its header.
pub(crate) struct Opened {
    target: Target,
    form: Option<Arc<matroska::Form>>,
    session: Session,
    acks: Acks,
}

/// A session that is fed.
pub(crate) struct Writer {
    pieces: mpsc::Sender<Piece>,
    gate: Gate,
    task: JoinHandle<Finished>,
    counters: Counters,
}

impl Opened {
    /// Opens the first session. `form`: of the pictures that are to be expected.
    pub(crate) async fn new(
        target: Target,
        form: Option<Arc<matroska::Form>>,
        now_ms: u64,
    ) -> Result<Self, Error> {
        let (session, acks) = target.open(form.as_ref(), now_ms).await?;
        Ok(Self { target, form, session, acks })
    }

    /// Writes the anchor, a short fragment that ends at `start_ms`: a reader "after" its number gets everything. Then takes
    /// blocks and pictures. Gives the anchor's number.
    pub(crate) async fn start(
        mut self,
        start_ms: u64,
        clock: Clock,
        counters: Counters,
    ) -> Result<(Writer, FragmentNumber), Error> {
        let now_ms = clock.now_ms();
        let mut clusters = Clusters::default();
        self.session.mark_next(Flags::ANCHOR);
        for block in self.target.layout.anchor(start_ms) {
            self.session.push(&clusters.block(&block), now_ms).await.map_err(|_| Error::Refused)?;
        }
        self.session.flush(now_ms).await.map_err(|_| Error::Refused)?;
        clusters.sealed();
        let number = match self.acks.recv().await {
            Some(Ack::Buffering(of)) => of.number,
            _ => return Err(Error::Refused),
        };
        feed::read(self.acks);
        let (pieces, waiting) = mpsc::channel(MAX_WAITING_BLOCKS + MAX_BEHIND);
        let gate = Gate::new(MAX_WAITING_BYTES);
        let feed = Feed::new(self.target, clock, counters.clone(), self.session, clusters, self.form);
        let task = tokio::spawn(feed.run(waiting, gate.exit()));
        Ok((Writer { pieces, gate, task, counters }, number))
    }
}

impl Writer {
    /// Hands over a block without waiting.
    pub(crate) fn block(&self, block: Block) {
        if self.pieces.try_send(Piece::Block(block)).is_err() {
            self.counters.blocks_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands over a picture without waiting, unless the sound has to wait already.
    pub(crate) fn picture(&mut self, picture: Picture) {
        let (bytes, key) = (picture.frame.data.len(), picture.frame.key);
        let behind = self.pieces.max_capacity() - self.pieces.capacity() >= MAX_BEHIND;
        let send = || !behind && self.pieces.try_send(Piece::Picture(picture)).is_ok();
        if !self.gate.pass(bytes, key, send) {
            self.counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts pictures that are lost.
    pub(crate) fn frames_dropped(&self) -> Arc<AtomicU64> {
        self.counters.frames_dropped.clone()
    }

    /// No more comes: waits until everything is stored or has failed.
    pub(crate) async fn finish(self) -> Finished {
        drop(self.pieces);
        self.task.await.unwrap_or(Finished { first: None, last: None, kept: 0, failed: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{Documents, Part};
    use crate::take::Frame;
    use antiphon_base::VideoCodec;
    use antiphon_store::key::{LocalKeys, Secret};
    use antiphon_store::{Backend, Config, NewStream, Start, Step};

    const START_MS: u64 = 1_000_000;

    async fn target() -> Target {
        let keys = Arc::new(LocalKeys::new("default", Secret([7; 32])));
        let (store, _) = Store::open(Backend::memory(), keys, Config::default(), 1_000).await.unwrap();
        let new = NewStream { name: "s".into(), retention_h: 24, ..NewStream::default() };
        store.create_stream(new, 1_000).await.unwrap();
        let layout = Layout {
            title: "t".into(),
            tracks: vec!["A"],
            form: Form::Pcm,
            rate: 8_000,
            label: PcmLabel::Pcm,
            tags: Vec::new(),
        };
        Target { store, stream: StreamRef::Name("s".into()), layout }
    }

    fn block(i: u64) -> Block {
        Block { at_ms: START_MS + i * BLOCK_MS, track: 1, data: vec![0; 1_024].into() }
    }

    fn picture(i: u64, key: bool) -> Picture {
        let form = matroska::Form::video(VideoCodec::Vp8, None, (64, 48)).map(Arc::new).filter(|_| key);
        let frame = Frame { at_ms: START_MS + i * BLOCK_MS, key, data: i.to_be_bytes().to_vec().into() };
        Picture { frame, form }
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_store_does_not_keep_up_pictures_are_left_out_and_sound_is_not() {
        let target = target().await;
        let (store, counters) = (target.store.clone(), Counters::default());
        let opened = Opened::new(target, None, START_MS).await.unwrap();
        let (mut writer, _) = opened.start(START_MS, Clock::new(), counters.clone()).await.unwrap();
        // A minute goes by before the task has its turn.
        for i in 0..1_000 {
            writer.picture(picture(i, i % 10 == 0));
            writer.block(block(i));
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(count(&counters.frames_dropped), 1_000 - MAX_BEHIND as u64 / 2);
        while writer.pieces.capacity() < writer.pieces.max_capacity() {
            tokio::task::yield_now().await;
        }
        assert_eq!((count(&counters.frames), count(&counters.blocks_dropped)), (0, 0));
        for (i, key) in [(1_000, false), (1_001, true), (1_002, false)] {
            writer.picture(picture(i, key));
            writer.block(block(i));
        }
        let finished = writer.finish().await;
        assert_eq!((count(&counters.frames), count(&counters.frames_dropped)), (2, 1_001));
        assert_eq!(finished.failed, 0);
        let now_ms = Clock::new().now_ms();
        let mut reader = store.get_media(&StreamRef::Name("s".into()), Start::Earliest, now_ms).unwrap();
        let (mut documents, mut sound, mut pictures) = (Documents::default(), Vec::new(), Vec::new());
        while let Step::Bytes(bytes) = reader.next(now_ms).await {
            documents.push(&bytes, |part| match part {
                Part::Block { track: 1, at_ms, .. } => sound.push(at_ms),
                Part::Block { data, .. } => pictures.push(u64::from_be_bytes(data[..].try_into().unwrap())),
                _ => {}
            });
        }
        assert_eq!(sound[0], START_MS - BLOCK_MS);
        assert!(sound.len() == 1_004 && sound.windows(2).all(|w| w[1] == w[0] + BLOCK_MS));
        assert_eq!(pictures, [1_001, 1_002]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_cannot_be_had_costs_the_pictures_and_nothing_else() {
        let target = target().await;
        let (store, counters) = (target.store.clone(), Counters::default());
        let opened = Opened::new(target, None, START_MS).await.unwrap();
        let (mut writer, _) = opened.start(START_MS, Clock::new(), counters.clone()).await.unwrap();
        // Somebody else produces into the stream: as many as may.
        let name = StreamRef::Name("s".into());
        let other = store.open_session(&name, Timecodes::Absolute, START_MS).await.unwrap();
        for i in 0..10 {
            writer.picture(picture(i, i % 5 == 0));
            writer.block(block(i));
        }
        while writer.pieces.capacity() < writer.pieces.max_capacity() {
            tokio::task::yield_now().await;
        }
        drop(other);
        for i in 10..20 {
            writer.picture(picture(i, i % 5 == 2));
            writer.block(block(i));
        }
        let finished = writer.finish().await;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((count(&counters.frames), count(&counters.frames_dropped)), (8, 12));
        // The anchor; sound alone; what has pictures.
        assert_eq!((finished.kept, finished.failed, count(&counters.blocks_dropped)), (4, 0, 0));
    }
}
