//! A store to try, documents to feed it, and a reader of what comes out.

use std::sync::Arc;

use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block};
use antiphon_store::matroska::{Bounds, Item, Parser};
use antiphon_store::{
    Ack, Acks, Backend, Config, FragmentNumber, NewStream, Reader, Start, Step, Store, StreamRef, Timecodes,
};
use bytes::Bytes;

/// When the tests happen.
pub(crate) const T0: u64 = 1_700_000_000_000;
pub(crate) const HOUR: u64 = 3_600_000;
/// Bytes of a block: 64 ms of 8 kHz, 16 bit.
pub(crate) const BLOCK: usize = 1024;

/// All files below a folder, sorted.
pub(crate) fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

pub(crate) fn keys() -> Arc<LocalKeys> {
    Arc::new(LocalKeys::new("default", Secret([7; 32])).with("other", Secret([8; 32])))
}

pub(crate) fn name(name: &str) -> StreamRef {
    StreamRef::Name(name.into())
}

pub(crate) async fn open(backend: Backend, now: u64) -> Store {
    let (store, problems) = Store::open(backend, keys(), Config::default(), now).await.unwrap();
    assert_eq!(problems, []);
    store
}

pub(crate) fn new_stream(name: &str, retention_h: u32) -> NewStream {
    NewStream { name: name.into(), retention_h, ..NewStream::default() }
}

/// A store in memory with one stream.
pub(crate) async fn with_stream(retention_h: u32) -> (Store, StreamRef) {
    let store = open(Backend::memory(), T0).await;
    store.create_stream(new_stream("s", retention_h), T0).await.unwrap();
    (store, name("s"))
}

pub(crate) fn header() -> Vec<u8> {
    header_of("contact-1")
}

pub(crate) fn header_of(contact: &str) -> Vec<u8> {
    let track = PcmTrack { number: 1, name: "VOICE".into(), rate_hz: 8000, label: PcmLabel::Pcm };
    pcm_header("t", &[track], &[("ContactId", contact)])
}

/// Sound that differs from block to block.
pub(crate) fn pcm(timecode: u64, block: u64) -> Vec<u8> {
    let seed = timecode.wrapping_mul(31).wrapping_add(block);
    (0..BLOCK as u64).map(|i| (seed.wrapping_add(i).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A cluster of so many blocks of 64 ms.
pub(crate) fn cluster(timecode: u64, blocks: u64) -> Vec<u8> {
    let blocks = (0..blocks).flat_map(|i| simple_block(1, (i * 64) as i16, &pcm(timecode, i)));
    cluster_start(timecode).into_iter().chain(blocks).collect()
}

/// Stores fragments of 1024 ms that begin at these times, received at the same times. Gives their numbers.
pub(crate) async fn produce(store: &Store, stream: &StreamRef, times: &[u64]) -> Vec<FragmentNumber> {
    let (mut session, acks) = store.open_session(stream, Timecodes::Absolute, times[0]).await.unwrap();
    session.push(&header(), times[0]).await.unwrap();
    for time in times {
        session.push(&cluster(*time, 16), *time).await.unwrap();
    }
    session.finish(true, times[times.len() - 1] + 1024).await;
    persisted(acks).await
}

pub(crate) async fn all_acks(mut acks: Acks) -> Vec<Ack> {
    let mut all = Vec::new();
    while let Some(ack) = acks.recv().await {
        all.push(ack);
    }
    all
}

pub(crate) async fn persisted(acks: Acks) -> Vec<FragmentNumber> {
    let number = |ack| if let Ack::Persisted(of) = ack { Some(of.number) } else { None };
    all_acks(acks).await.into_iter().filter_map(number).collect()
}

/// Reads until the reader has nothing more at that time.
pub(crate) async fn drain(reader: &mut Reader, now: u64) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        match reader.next(now).await {
            Step::Bytes(bytes) => all.extend_from_slice(&bytes),
            Step::Wait => return (all, false),
            Step::End => return (all, true),
        }
    }
}

pub(crate) async fn read_all(store: &Store, stream: &StreamRef, start: Start, now: u64) -> Vec<Document> {
    let mut reader = store.get_media(stream, start, now).unwrap();
    documents(&drain(&mut reader, now).await.0)
}

/// One document of a response.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Document {
    pub(crate) tags: Vec<(String, String)>,
    /// The cluster's timecode and its blocks' data.
    pub(crate) cluster: Option<(u64, Vec<Vec<u8>>)>,
}

impl Document {
    pub(crate) fn tag(&self, name: &str) -> &str {
        self.tags.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    pub(crate) fn number(&self) -> FragmentNumber {
        self.tag("AWS_KINESISVIDEO_FRAGMENT_NUMBER").parse().unwrap()
    }

    pub(crate) fn timecode(&self) -> u64 {
        self.cluster.as_ref().unwrap().0
    }

    pub(crate) fn error(&self) -> &str {
        self.tag("AWS_KINESISVIDEO_ERROR_CODE")
    }
}

/// Takes a response apart, document by document, by sizes; what stands before a cluster counts as tags of that document.
pub(crate) fn documents(bytes: &[u8]) -> Vec<Document> {
    let mut found = Vec::new();
    for (begin, end) in borders(bytes) {
        found.push(document(&bytes[begin..end]));
    }
    found
}

const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

/// Where the documents of a response begin and end. The rig's sound never contains the magic.
fn borders(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut begins: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, w)| *w == EBML).map(|(i, _)| i).collect();
    begins.push(bytes.len());
    begins.windows(2).map(|w| (w[0], w[1])).collect()
}

fn document(bytes: &[u8]) -> Document {
    let mut parser = Parser::new(Bounds { header_bytes: 1 << 20, fragment_bytes: 1 << 26 });
    parser.push(bytes);
    let mut document = Document::default();
    while let Some(item) = parser.next_item().unwrap_or_else(|e| panic!("{e}: {bytes:x?}")) {
        match item {
            Item::Header { header, .. } => {
                document.tags.extend(header.tags.into_iter().map(|t| (t.name, t.value)));
            }
            Item::Timecode { ticks, .. } => document.cluster = Some((ticks, Vec::new())),
            Item::Block { bytes, block } => {
                let data = bytes[bytes.len() - block.len..].to_vec();
                document.cluster.as_mut().unwrap().1.push(data);
            }
            Item::Trailing { tags, .. } => document.tags.extend(tags.into_iter().map(|t| (t.name, t.value))),
            _ => {}
        }
    }
    if document.cluster.is_none() {
        // An error document has no cluster: a header without tracks, which the parser waits forever on.
        let at = bytes.windows(4).position(|w| w == [0x12, 0x54, 0xc3, 0x67]).unwrap();
        let tags = antiphon_store::matroska::header::tags(&bytes[at + 8..]).unwrap();
        document.tags = tags.into_iter().map(|t| (t.name, t.value)).collect();
    } else {
        assert!(parser.may_end(), "ends inside an element");
    }
    document
}

/// What a cluster made by [`cluster`] has to come back as.
pub(crate) fn assert_whole(document: &Document, blocks: u64) {
    let (timecode, data) = document.cluster.as_ref().unwrap();
    let expected: Vec<_> = (0..blocks).map(|i| pcm(*timecode, i)).collect();
    assert_eq!(data, &expected);
}

pub(crate) async fn list(store: &Store, stream: &StreamRef, now: u64) -> Vec<FragmentNumber> {
    let page = store.list_fragments(stream, None, 1000, None, now).unwrap();
    page.fragments.iter().map(|f| f.number).collect()
}

pub(crate) async fn media_of(
    store: &Store,
    stream: &StreamRef,
    numbers: &[FragmentNumber],
    now: u64,
) -> Bytes {
    let mut list = store.get_fragments(stream, numbers.to_vec(), now).unwrap();
    let mut all = Vec::new();
    while let Some(bytes) = list.next().await {
        all.extend_from_slice(&bytes);
    }
    all.into()
}
