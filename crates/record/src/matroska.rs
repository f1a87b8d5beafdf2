//! How a track stands in Matroska and WebM: what it says before its frames, and its clusters. The codec mappings are those of the
//! Matroska registry; what WebM takes is in the WebM container guidelines.

use antiphon_base::VideoCodec;
use antiphon_store::matroska::write::{self, Writer as Elements};
use antiphon_store::matroska::{Track, id};

use crate::packets::opus_head;
use crate::take::Frame;

/// Nanoseconds a decoder runs before what it gives is right (RFC 9559, 5.1.4.1.26).
const SEEK_PRE_ROLL: u32 = 0x56BB;
/// Milliseconds of a cluster, which is a fragment: what a crash loses at most of what was not yet stored.
const CLUSTER_MS: u64 = 2_000;
/// Bytes of `CodecPrivate`: real ones have some tens. The store takes headers of 1 MB.
const MAX_PRIVATE_BYTES: usize = 65_536;
/// The only track of its file.
const NUMBER: u8 = 1;

/// Which containers a track fits into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// Opus, VP8, VP9, AV1.
    WebM,
    /// Everything.
    Mkv,
}

/// What a track says of itself before its frames.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Form(Track);

impl Form {
    pub(crate) fn opus() -> Self {
        Self(Track {
            number: NUMBER.into(),
            kind: 2,
            codec: "A_OPUS".into(),
            rate_hz: 48_000.0,
            channels: 2,
            codec_private: opus_head().to_vec(),
            ..Track::default()
        })
    }

    /// `None`: the codec needs `private`, and there is none, or one that no header has room for.
    pub(crate) fn video(codec: VideoCodec, private: Option<Vec<u8>>, size: (u32, u32)) -> Option<Self> {
        let (codec, needs) = match codec {
            VideoCodec::Vp8 => ("V_VP8", false),
            VideoCodec::Vp9 => ("V_VP9", false),
            VideoCodec::H264 => ("V_MPEG4/ISO/AVC", true),
            VideoCodec::Av1 => ("V_AV1", true),
        };
        let codec_private = if needs { private? } else { Vec::new() };
        if codec_private.len() > MAX_PRIVATE_BYTES {
            return None;
        }
        let (width, height) = (size.0.into(), size.1.into());
        let number = NUMBER.into();
        Some(Self(Track {
            number,
            kind: 1,
            channels: 1,
            codec: codec.into(),
            codec_private,
            width,
            height,
            ..Track::default()
        }))
    }

    /// The timeline: text that no player shows.
    pub(crate) fn timeline() -> Self {
        Self(Track { number: NUMBER.into(), kind: 17, codec: "S_TEXT/UTF8".into(), ..Track::default() })
    }

    /// Of a stored header, if it is one of ours.
    pub(crate) fn read(tracks: &[Track]) -> Option<Self> {
        let [track] = tracks else { return None };
        Some(Self(track.clone()))
    }

    pub(crate) fn is_video(&self) -> bool {
        self.0.kind == 1
    }

    /// Whether frames of one can be decoded by who was told the other: where the codec is the same, frames tell the rest
    /// themselves.
    pub(crate) fn same_codec(&self, other: &Self) -> bool {
        self.0.codec == other.0.codec
    }

    /// What stands before the first cluster.
    pub(crate) fn head(&self, container: Container, title: &str, duration_ms: Option<u64>) -> Vec<u8> {
        let doc_type = if container == Container::WebM { "webm" } else { "matroska" };
        let mut w = Elements::new();
        w.unknown(id::SEGMENT);
        w.master(id::INFO, |w| {
            w.uint(id::TIMECODE_SCALE, 1_000_000);
            if let Some(ms) = duration_ms {
                w.float(id::DURATION, ms as f64);
            }
            w.text(id::TITLE, title).text(id::MUXING_APP, "Antiphon").text(id::WRITING_APP, "Antiphon");
        });
        w.master(id::TRACKS, |w| {
            self.entry(w, NUMBER, "");
        });
        [write::ebml_head_of(doc_type), w.into_bytes()].concat()
    }

    /// `TrackEntry` as a track of this number and name, if it has one.
    pub(crate) fn entry(&self, w: &mut Elements, number: u8, name: &str) {
        w.master(id::TRACK_ENTRY, |w| self.fields(w, number, name));
    }

    fn fields(&self, w: &mut Elements, number: u8, name: &str) {
        let track = &self.0;
        w.uint(id::TRACK_NUMBER, number.into()).uint(id::TRACK_UID, number.into());
        w.uint(id::TRACK_TYPE, track.kind);
        if !name.is_empty() {
            w.text(id::TRACK_NAME, name);
        }
        w.text(id::CODEC_ID, &track.codec);
        if !track.codec_private.is_empty() {
            w.binary(id::CODEC_PRIVATE, &track.codec_private);
        }
        match track.kind {
            1 => {
                w.master(id::VIDEO, |w| {
                    w.uint(id::PIXEL_WIDTH, track.width).uint(id::PIXEL_HEIGHT, track.height);
                });
            }
            2 => {
                w.uint(SEEK_PRE_ROLL, 80_000_000);
                w.master(id::AUDIO, |w| {
                    w.float(id::SAMPLING_FREQUENCY, track.rate_hz).uint(id::CHANNELS, track.channels);
                });
            }
            _ => {}
        }
    }
}

/// Puts frames into clusters; one begins with each key picture, and at least every two seconds.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    began_ms: Option<u64>,
}

impl Clusters {
    /// The bytes of a frame at `at_ms`, with the beginning of a cluster where one is due. `cut`: one is due.
    pub(crate) fn frame(&mut self, frame: &Frame, at_ms: u64, cut: bool) -> Vec<u8> {
        let within = |began: u64| at_ms.checked_sub(began).filter(|ms| *ms < CLUSTER_MS && !cut);
        let mut bytes = Vec::new();
        let relative = self.began_ms.and_then(within).unwrap_or_else(|| {
            bytes = write::cluster_start(at_ms);
            self.began_ms = Some(at_ms);
            0
        });
        let relative = i16::try_from(relative).expect("shorter than a cluster");
        bytes.extend(write::frame_block(NUMBER, relative, frame.key, &frame.data));
        bytes
    }

    /// The next frame begins a cluster.
    pub(crate) fn sealed(&mut self) {
        self.began_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_store::matroska::{Bounds, Item, Parser};

    #[test]
    fn what_is_written_reads_back() {
        let form = Form::video(VideoCodec::H264, Some(vec![1, 2, 3]), (640, 360)).unwrap();
        assert!(Form::video(VideoCodec::H264, None, (640, 360)).is_none());
        assert!(Form::video(VideoCodec::Av1, Some(vec![0; MAX_PRIVATE_BYTES + 1]), (640, 360)).is_none());
        let mut parser = Parser::new(Bounds { header_bytes: 1 << 20, fragment_bytes: 1 << 20 });
        parser.push(&form.head(Container::Mkv, "t", Some(1_500)));
        let (mut clusters, mut starts, mut blocks) = (Clusters::default(), Vec::new(), Vec::new());
        let frame = |at_ms, key| Frame { at_ms, key, data: vec![7; 3].into() };
        for (at_ms, key) in [(5_000, true), (5_900, false), (7_100, false), (7_200, true)] {
            parser.push(&clusters.frame(&frame(at_ms, key), at_ms, key));
        }
        parser.push(&write::live_cluster_head());
        while let Some(item) = parser.next_item().unwrap() {
            match item {
                Item::Header { header, .. } => assert_eq!(Form::read(&header.tracks), Some(form.clone())),
                Item::Timecode { ticks, .. } => starts.push(ticks),
                Item::Block { block, .. } => blocks.push((block.relative, block.key)),
                _ => {}
            }
        }
        assert_eq!(starts, [5_000, 7_100, 7_200]);
        assert_eq!(blocks, [(0, true), (900, false), (0, false), (0, true)]);
    }
}
