//! The end at the store: one task per session, fed by a bounded queue, so that a store that is slow or full delays nobody.

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
use crate::options::Form;
use crate::packets::{SILENCE, opus_head};

/// Blocks that wait for the store: half a minute of two tracks. More are dropped and counted; the time axis holds.
const MAX_WAITING_BLOCKS: usize = 1_024;

/// Nanoseconds a decoder runs before what it gives is right (RFC 9559, 5.1.4.1.26).
const SEEK_PRE_ROLL: u32 = 0x56BB;

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
    fn header(&self) -> Vec<u8> {
        if self.form == Form::Opus {
            return self.opus_header();
        }
        let track = |(name, number): (&&'static str, u64)| PcmTrack {
            number,
            name: (*name).to_owned(),
            rate_hz: self.rate,
            label: self.label,
        };
        let tracks: Vec<PcmTrack> = self.tracks.iter().zip(1..).map(track).collect();
        let tags: Vec<(&str, &str)> = self.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        write::pcm_header(&self.title, &tracks, &tags)
    }

    /// One track of Opus (the Matroska codec mappings, `A_OPUS`).
    fn opus_header(&self) -> Vec<u8> {
        let mut w = Elements::new();
        w.master(id::INFO, |w| {
            w.uint(id::TIMECODE_SCALE, 1_000_000).text(id::TITLE, &self.title);
            w.text(id::MUXING_APP, "Antiphon").text(id::WRITING_APP, "Antiphon");
        });
        w.master(id::TRACKS, |w| {
            w.master(id::TRACK_ENTRY, |w| {
                w.uint(id::TRACK_NUMBER, 1).uint(id::TRACK_UID, 1).uint(id::TRACK_TYPE, 2);
                w.text(id::TRACK_NAME, self.tracks[0]).text(id::CODEC_ID, "A_OPUS");
                w.binary(id::CODEC_PRIVATE, &opus_head()).uint(SEEK_PRE_ROLL, 80_000_000);
                w.master(id::AUDIO, |w| {
                    w.float(id::SAMPLING_FREQUENCY, 48_000.0).uint(id::CHANNELS, 2);
                });
            });
        });
        let mut out = [write::document_head(), w.into_bytes()].concat();
        for (name, value) in &self.tags {
            out.extend(write::tags(&[(name, value)]));
        }
        out
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

/// A session in the store that has its header.
pub(crate) struct Opened {
    session: Session,
    acks: Acks,
    layout: Layout,
}

/// A session that is fed.
pub(crate) struct Writer {
    blocks: mpsc::Sender<Block>,
    task: JoinHandle<Finished>,
    dropped: Arc<AtomicU64>,
}

impl Opened {
    /// Opens a session; nothing is written yet but its header, which stays in memory until a fragment follows.
    pub(crate) async fn new(
        store: &Store,
        stream: &StreamRef,
        layout: Layout,
        now_ms: u64,
    ) -> Result<Self, Error> {
        let (mut session, acks) = store.open_session(stream, Timecodes::Absolute, now_ms).await?;
        session.of_a_contact();
        session.push(&layout.header(), now_ms).await.map_err(|_| Error::Refused)?;
        Ok(Self { session, acks, layout })
    }

    /// Writes the anchor, a short fragment that ends at `start_ms`: a reader "after" its number gets everything. Then takes
    /// blocks. Gives the anchor's number.
    pub(crate) async fn start(
        mut self,
        start_ms: u64,
        clock: Clock,
        dropped: Arc<AtomicU64>,
    ) -> Result<(Writer, FragmentNumber), Error> {
        let now_ms = clock.now_ms();
        let mut clusters = Clusters::default();
        self.session.mark_next(Flags::ANCHOR);
        for block in self.layout.anchor(start_ms) {
            self.session.push(&clusters.block(&block), now_ms).await.map_err(|_| Error::Refused)?;
        }
        self.session.flush(now_ms).await.map_err(|_| Error::Refused)?;
        clusters.sealed();
        let number = match self.acks.recv().await {
            Some(Ack::Buffering(of)) => of.number,
            _ => return Err(Error::Refused),
        };
        let (blocks, waiting) = mpsc::channel(MAX_WAITING_BLOCKS);
        let run = run(self.session, self.acks, waiting, clusters, clock);
        Ok((Writer { blocks, task: tokio::spawn(run), dropped }, number))
    }
}

impl Writer {
    /// Hands over a block without waiting.
    pub(crate) fn block(&self, block: Block) {
        if self.blocks.try_send(block).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// No more comes: waits until everything is stored or has failed.
    pub(crate) async fn finish(self) -> Finished {
        drop(self.blocks);
        self.task.await.unwrap_or(Finished { first: None, last: None, kept: 0, failed: 0 })
    }
}

async fn run(
    mut session: Session,
    mut acks: Acks,
    mut blocks: mpsc::Receiver<Block>,
    mut clusters: Clusters,
    clock: Clock,
) -> Finished {
    // Failures are counted and logged by the store; acknowledgements are read so that they are not in its way.
    let reader = tokio::spawn(async move { while acks.recv().await.is_some() {} });
    while let Some(block) = blocks.recv().await {
        let bytes = clusters.block(&block);
        if let Err(fault) = session.push(&bytes, clock.now_ms()).await {
            tracing::warn!(%fault, "a contact's stream has ended before the contact");
            break;
        }
    }
    let finished = session.finish(true, clock.now_ms()).await;
    reader.abort();
    finished
}
