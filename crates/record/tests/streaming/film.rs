//! Somebody with a camera, and what a stream has of it.

use std::sync::Arc;
use std::time::Duration;

use antiphon_base::{Codec, ParticipantKey, Source, TrackKey, VideoCodec};
use antiphon_store::matroska::{Bounds, Header, Item, Parser};
use antiphon_store::{FragmentNumber, Start, Step, Store, StreamRef};
use antiphon_wire::rtp::packetize::{H264, MAX_PAYLOAD, Vp8};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::hall::Hall;

/// Between two pictures.
pub(crate) const FRAME: Duration = Duration::from_millis(40);
/// From libx264: 64x64, High.
const SPS: [u8; 23] = [
    0x67, 0x64, 0x00, 0x0a, 0xac, 0xd9, 0x44, 0x26, 0x84, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03,
    0x00, 0xf0, 0x3c, 0x48, 0x96, 0x58,
];
const PPS: [u8; 6] = [0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

/// A picture that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) captured_ms: u64,
    pub(crate) key: bool,
    pub(crate) data: Vec<u8>,
}

/// Somebody who films. A key frame is sent first, and whenever the room asks for one.
pub(crate) struct Camera {
    hall: Hall,
    track: TrackKey,
    codec: VideoCodec,
    pub(crate) size: (u16, u16),
    vp8: Vp8,
    seq: u64,
    count: u64,
    due: Instant,
    pub(crate) sent: Vec<Shot>,
}

impl Camera {
    pub(crate) fn new(hall: &Hall, key: u32, codec: VideoCodec, size: (u16, u16)) -> Self {
        let track = TrackKey { participant: ParticipantKey(key), source: Source::Camera };
        hall.asks_for_key(track);
        Self {
            hall: hall.clone(),
            track,
            codec,
            size,
            vp8: Vp8::new(7),
            seq: u64::from(key) * 10_000,
            count: 0,
            due: Instant::now(),
            sent: Vec::new(),
        }
    }

    /// Another connection, or another codec: other numbers.
    pub(crate) fn reconnected(self, key: u32, codec: VideoCodec) -> Self {
        let again = Self::new(&self.hall, key, codec, self.size);
        Self { sent: self.sent, count: self.count, ..again }
    }

    /// The room wants a key frame.
    pub(crate) fn key(&self) {
        self.hall.asks_for_key(self.track);
    }

    /// Films in a room for so long.
    pub(crate) async fn film(&mut self, room: &str, length: Duration) {
        self.due = self.due.max(Instant::now());
        let until = self.due + length;
        while self.due < until {
            tokio::time::sleep_until(self.due).await;
            self.shoot(room);
            self.due += FRAME;
        }
    }

    fn shoot(&mut self, room: &str) {
        let key = self.hall.wants_key(self.track);
        let body = [format!("{:08}", self.count).as_bytes(), &[0x55; 1_500]].concat();
        let (payloads, data) = match self.codec {
            VideoCodec::H264 => {
                let slice = [&[0, 0, 0, 1, if key { 0x65 } else { 0x41 }, 0x80][..], &body].concat();
                let sets = [&[0, 0, 0, 1][..], &SPS, &[0, 0, 0, 1], &PPS].concat();
                let unit = if key { [sets, slice].concat() } else { slice };
                (H264.packetize(&unit, MAX_PAYLOAD).unwrap(), unit)
            }
            _ => {
                let ([w, width], [h, height]) = (self.size.0.to_le_bytes(), self.size.1.to_le_bytes());
                let head = [0x10, 0, 0, 0x9d, 0x01, 0x2a, w, width, h, height];
                let head = if key { &head[..] } else { &[0x11, 0, 0] };
                let frame = [head, &body].concat();
                (self.vp8.packetize(&frame, MAX_PAYLOAD).unwrap(), frame)
            }
        };
        let (codec, now_us) = (Codec::Video(self.codec), self.hall.now_us());
        for payload in payloads {
            let numbers = (self.seq, 90_000 + self.count * 3_600);
            let mut packet = self.hall.captured(self.track, codec, numbers, payload.data.into());
            packet.marker = payload.marker;
            self.hall.packet(room, &Arc::new(packet));
            self.seq += 1;
        }
        self.sent.push(Shot { captured_ms: (now_us - 20_000) / 1_000, key, data });
        self.count += 1;
    }
}

/// A block of a fragment.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) track: u64,
    pub(crate) at_ms: u64,
    pub(crate) key: bool,
    pub(crate) data: Bytes,
}

/// A fragment as readers get it.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) header: Header,
    pub(crate) began_ms: u64,
    pub(crate) blocks: Vec<Kept>,
}

impl Document {
    /// Number of the track of that name.
    pub(crate) fn track(&self, name: &str) -> Option<u64> {
        self.header.tracks.iter().find(|t| t.name == name).map(|t| t.number)
    }
}

/// Everything behind a fragment, read as GetMedia does it, to the end of the streaming.
pub(crate) async fn read(store: &Store, stream: &str, after: FragmentNumber, hall: &Hall) -> Vec<Document> {
    let bounds = Bounds { header_bytes: 10_000, fragment_bytes: 20_000_000 };
    let name = StreamRef::Name(stream.to_owned());
    let mut reader = store.get_media(&name, Start::After(after), hall.now_us() / 1_000).unwrap();
    let (mut parser, mut all) = (Parser::new(bounds), Vec::<Document>::new());
    loop {
        let bytes = match reader.next(hall.now_us() / 1_000).await {
            Step::Bytes(bytes) => bytes,
            Step::Wait => {
                // The end comes with time.
                let _ = tokio::time::timeout(FRAME, reader.changed()).await;
                continue;
            }
            Step::End => return all,
        };
        if bytes.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
            parser = Parser::new(bounds);
        }
        parser.push(&bytes);
        while let Some(item) = parser.next_item().unwrap() {
            match item {
                Item::Header { header, .. } => {
                    all.push(Document { header, began_ms: 0, blocks: Vec::new() });
                }
                Item::Timecode { ticks, .. } => all.last_mut().unwrap().began_ms = ticks,
                Item::Block { bytes, block } => {
                    let document = all.last_mut().unwrap();
                    let at_ms = document.began_ms + u64::try_from(block.relative).unwrap();
                    let data = bytes.slice(bytes.len() - block.len..);
                    document.blocks.push(Kept { track: block.track, at_ms, key: block.key, data });
                }
                _ => {}
            }
        }
    }
}

/// Begins to read that way, while it is written.
pub(crate) fn follow(
    store: &Store,
    stream: &str,
    after: FragmentNumber,
    hall: &Hall,
) -> JoinHandle<Vec<Document>> {
    let (store, stream, hall) = (store.clone(), stream.to_owned(), hall.clone());
    tokio::spawn(async move { read(&store, &stream, after, &hall).await })
}

/// Looks at what holds whatever happens, and gives the pictures: the sound has no hole, a fragment's pictures
/// begin with a key picture, and no picture stands in a document that does not tell of it.
pub(crate) fn check(documents: &[Document], start_ms: u64) -> Vec<Kept> {
    let (mut sound_ms, mut pictures) = (start_ms, Vec::new());
    for document in documents {
        let (from, video) = (document.track("AUDIO_FROM_CUSTOMER"), document.track("VIDEO_FROM_CUSTOMER"));
        let tag = document.header.tag("VIDEO_FROM_CUSTOMER").map(|n| n.parse().unwrap());
        assert_eq!(tag, video, "the tag says the track's number");
        let mut seen = false;
        for block in &document.blocks {
            if Some(block.track) == from {
                assert_eq!(block.at_ms, sound_ms, "sound without a hole");
                sound_ms += block.data.len() as u64 / 16;
            } else {
                assert_eq!(Some(block.track), video);
                assert!(seen || block.key, "a fragment's pictures begin with a key picture: {block:?}");
                seen = true;
                pictures.push(block.clone());
            }
        }
    }
    assert!(pictures.windows(2).all(|w| w[0].at_ms < w[1].at_ms), "each picture has a time of its own");
    pictures
}
