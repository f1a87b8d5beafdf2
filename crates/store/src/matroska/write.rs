//! Writing the streams' Matroska: sizes of four bytes throughout, as Amazon's writer has them, unknown sizes for the
//! segment and for live clusters.

use super::id;
use super::vint::{size_4, write_id};

/// An unknown size of eight bytes.
const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Appends elements to bytes.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// With nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// An element with these bytes as its data: at most 256 MB.
    pub fn binary(&mut self, id: u32, data: &[u8]) -> &mut Self {
        write_id(&mut self.0, id);
        self.0.extend_from_slice(&size_4(data.len()));
        self.0.extend_from_slice(data);
        self
    }

    /// An element with text.
    pub fn text(&mut self, id: u32, text: &str) -> &mut Self {
        self.binary(id, text.as_bytes())
    }

    /// An element with an unsigned integer in as few bytes as it needs.
    pub fn uint(&mut self, id: u32, value: u64) -> &mut Self {
        let skip = (value.leading_zeros() as usize / 8).min(7);
        self.binary(id, &value.to_be_bytes()[skip..])
    }

    /// An element with a float of 8 bytes.
    pub fn float(&mut self, id: u32, value: f64) -> &mut Self {
        self.binary(id, &value.to_be_bytes())
    }

    /// An element with elements in it.
    pub fn master(&mut self, id: u32, content: impl FnOnce(&mut Self)) -> &mut Self {
        write_id(&mut self.0, id);
        let place = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        content(self);
        let size = size_4(self.0.len() - place - 4);
        self.0[place..place + 4].copy_from_slice(&size);
        self
    }

    /// The head of an element whose end only the next one shows.
    pub fn unknown(&mut self, id: u32) -> &mut Self {
        write_id(&mut self.0, id);
        self.0.extend_from_slice(&UNKNOWN_SIZE);
        self
    }
}

/// `Tags` with one `Tag` that has no target, and these names and values.
pub fn tags(tags: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Writer::new();
    out.master(id::TAGS, |w| {
        w.master(id::TAG, |w| {
            for (name, value) in tags {
                w.master(id::SIMPLE_TAG, |w| {
                    w.text(id::TAG_NAME, name).text(id::TAG_STRING, value);
                });
            }
        });
    });
    out.into_bytes()
}

/// EBML head: what begins a document.
pub fn ebml_head() -> Vec<u8> {
    ebml_head_of("matroska")
}

/// EBML head of a document of this type: `matroska` or `webm`.
pub fn ebml_head_of(doc_type: &str) -> Vec<u8> {
    let mut out = Writer::new();
    out.master(id::EBML, |w| {
        w.uint(0x4286, 1).uint(0x42F7, 1).uint(0x42F2, 4).uint(0x42F3, 8);
        w.text(id::DOC_TYPE, doc_type).uint(0x4287, 2).uint(0x4285, 2);
    });
    out.into_bytes()
}

/// EBML head and the head of a segment: what an error document begins with.
pub fn document_head() -> Vec<u8> {
    let mut out = Writer(ebml_head());
    out.unknown(id::SEGMENT);
    out.into_bytes()
}

/// The head of a cluster that is still being written.
pub fn live_cluster_head() -> Vec<u8> {
    let mut out = Writer::new();
    out.unknown(id::CLUSTER);
    out.into_bytes()
}

/// How a track of PCM sound names itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PcmLabel {
    /// `A_PCM/INT/LIT` with its rate: players understand it.
    #[default]
    Pcm,
    /// `A_AAC` over PCM, without a rate: what Amazon Connect writes. Only for programs that insist on it.
    ConnectStrict,
}

/// One track of the header.
#[derive(Debug, Clone, PartialEq)]
pub struct PcmTrack {
    /// 1, 2, …: what blocks name it by.
    pub number: u64,
    /// Such as `AUDIO_FROM_CUSTOMER`.
    pub name: String,
    /// Samples per second; s16le, one channel.
    pub rate_hz: u32,
    /// What codec it claims.
    pub label: PcmLabel,
}

/// The header of a session with PCM tracks: EBML head, segment of unknown size, `Info`, `Tracks`, one `Tags` per tag,
/// as the calls of a contact centre have them.
pub fn pcm_header(title: &str, tracks: &[PcmTrack], metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Writer(document_head());
    out.master(id::INFO, |w| {
        w.uint(id::TIMECODE_SCALE, 1_000_000).text(id::TITLE, title);
        w.text(id::MUXING_APP, "Antiphon").text(id::WRITING_APP, "Antiphon");
    });
    out.master(id::TRACKS, |w| {
        for track in tracks {
            pcm_track(w, track);
        }
    });
    for tag in metadata {
        out.0.extend_from_slice(&tags(&[*tag]));
    }
    out.into_bytes()
}

/// `TrackEntry` of such a track.
pub fn pcm_track(w: &mut Writer, track: &PcmTrack) {
    w.master(id::TRACK_ENTRY, |w| pcm_fields(w, track));
}

fn pcm_fields(w: &mut Writer, track: &PcmTrack) {
    w.uint(id::TRACK_NUMBER, track.number).uint(id::TRACK_UID, track.number).uint(id::TRACK_TYPE, 2);
    w.text(id::TRACK_NAME, &track.name);
    match track.label {
        PcmLabel::Pcm => {
            w.text(id::CODEC_ID, "A_PCM/INT/LIT");
            w.master(id::AUDIO, |w| {
                w.float(id::SAMPLING_FREQUENCY, f64::from(track.rate_hz));
                w.uint(id::CHANNELS, 1).uint(id::BIT_DEPTH, 16);
            });
        }
        PcmLabel::ConnectStrict => {
            w.text(id::CODEC_ID, "A_AAC").binary(id::CODEC_PRIVATE, &[0x11, 0x90]);
        }
    }
}

/// The beginning of a cluster of unknown size at an absolute time.
pub fn cluster_start(timecode: u64) -> Vec<u8> {
    let mut out = Writer(live_cluster_head());
    out.binary(id::TIMECODE, &timecode.to_be_bytes()).uint(id::POSITION, 0);
    out.into_bytes()
}

/// A frame, as a key frame without lacing. `track` is below 128.
pub fn simple_block(track: u8, relative: i16, frame: &[u8]) -> Vec<u8> {
    frame_block(track, relative, true, frame)
}

/// A frame without lacing, which may need others. `track` is below 128.
pub fn frame_block(track: u8, relative: i16, key: bool, frame: &[u8]) -> Vec<u8> {
    let [high, low] = relative.to_be_bytes();
    let mut data = vec![0x80 | (track & 0x7f), high, low, if key { 0x80 } else { 0 }];
    data.extend_from_slice(frame);
    let mut out = Writer::new();
    out.binary(id::SIMPLE_BLOCK, &data);
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_few_bytes_as_they_need() {
        for (value, data) in [(0, vec![0]), (1, vec![1]), (256, vec![1, 0]), (u64::MAX, vec![0xff; 8])] {
            let mut w = Writer::new();
            w.uint(id::TIMECODE, value);
            let mut expected = vec![0xe7, 0x10, 0, 0, u8::try_from(data.len()).unwrap()];
            expected.extend(&data);
            assert_eq!(w.into_bytes(), expected);
        }
    }
}
