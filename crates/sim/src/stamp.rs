//! Synthetic media: payloads that codecs' parsers take for real, with a stamp inside that tells the checkers what it is.
//! Those of H.264 and AV1 are in [`other`], those of VP9 in [`vp9`]; spatial layers of one stream in [`nested`].
//!
//! A video packet is a VP8 payload descriptor with 15-bit picture id (RFC 7741, 4.2), at the start of a frame the frame
//! tag and, in a key frame, the start code and size (RFC 6386, 9.1), then the stamp. An audio packet is an Opus table of
//! contents byte (RFC 6716, 3.1), then the stamp. The parser here is written by itself: it checks the server's.

use antiphon_base::{Source, VideoCodec};

pub mod nested;
pub mod other;
pub mod vp9;

use nested::Nested;

const MAGIC: [u8; 2] = [0xa5, 0x17];
const STAMP_BYTES: usize = 20;
/// Where there are no temporal layers.
const NO_PLACE: u8 = u8::MAX;
/// The VP8 descriptor has TL0PICIDX, TID and Y.
const TEMPORAL: u8 = 0x60;
/// Opus, CELT, full band, 20 ms, mono.
const OPUS_TOC: u8 = 0xf8;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the client that made it.
    pub publisher: u16,
    /// Of which track.
    pub source: Source,
    /// Of which simulcast layer, or spatial layer of its stream.
    pub layer: u8,
    /// Frame number in its layer, the same in all spatial layers of a picture; grows by one.
    pub frame: u32,
    /// Number of the packet in its frame.
    pub index: u16,
    /// Packets of the frame.
    pub count: u16,
    /// Of a key frame.
    pub key: bool,
    /// Of three temporal layers: place in the pattern of four pictures, 0, 2, 1, 2, that begins with each key frame.
    pub place: Option<u8>,
    /// Its stream carries several spatial layers.
    pub nested: Option<Nested>,
}

/// A parsed payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// What it says it is.
    pub stamp: Stamp,
    /// The descriptor's picture id, or the frame number of the dependency descriptor, 15 bits of it.
    pub picture_id: Option<u16>,
    /// TL0PICIDX.
    pub lowest: Option<u8>,
    /// What its dependency descriptor says.
    pub described: Option<Described>,
}

/// The fixed part of a dependency descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Number of the template.
    pub template: u8,
    /// Number of the frame.
    pub number: u16,
    /// More follows, as it must with the first packet of a source.
    pub extended: bool,
}

impl Described {
    fn read(raw: &[u8]) -> Option<Self> {
        let [head, high, low] = *raw.first_chunk()?;
        let number = u16::from_be_bytes([high, low]);
        Some(Self { template: head & 0x3f, number, extended: raw.len() > 3 })
    }
}

impl Parsed {
    /// Only a stamp.
    pub fn new(stamp: Stamp) -> Self {
        Self { stamp, picture_id: None, lowest: None, described: None }
    }

    /// With its dependency descriptor. Numbers of layers that are left out stay holes: as a picture id counts only what has no layers.
    pub(crate) fn numbered(self, dependency: Option<&[u8]>) -> Self {
        let described = dependency.and_then(Described::read);
        let plain = self.stamp.place.is_none() && self.stamp.nested.is_none();
        let number = described.filter(|_| plain).map(|d| d.number & 0x7fff);
        Self { picture_id: number.or(self.picture_id), described, ..self }
    }
}

impl Stamp {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(MAGIC);
        out.extend(self.publisher.to_be_bytes());
        out.push(u8::try_from(self.source.index()).expect("there are four sources"));
        out.push(self.layer);
        out.extend(self.frame.to_be_bytes());
        out.extend(self.index.to_be_bytes());
        out.extend(self.count.to_be_bytes());
        out.push(u8::from(self.key));
        out.push(self.place.unwrap_or(NO_PLACE));
        out.extend(Nested::bytes(self.nested));
    }

    /// The picture that this one builds on is so many before it, if it is no key frame.
    pub fn builds_on(&self) -> u32 {
        match self.place {
            Some(0) => 4,
            Some(2) => 2,
            _ => 1,
        }
    }

    /// `other` came before this picture, and at least the one that it builds on.
    pub(crate) fn may_follow(&self, other: &Self) -> bool {
        self.frame > other.frame && self.frame.saturating_sub(self.builds_on()) <= other.frame
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let b: &[u8; STAMP_BYTES] = bytes.first_chunk()?;
        (b[..2] == MAGIC).then_some(())?;
        Some(Self {
            publisher: u16::from_be_bytes([b[2], b[3]]),
            source: *Source::ALL.get(usize::from(b[4]))?,
            layer: b[5],
            frame: u32::from_be_bytes([b[6], b[7], b[8], b[9]]),
            index: u16::from_be_bytes([b[10], b[11]]),
            count: u16::from_be_bytes([b[12], b[13]]),
            key: b[14] != 0,
            place: Some(b[15]).filter(|place| *place != NO_PLACE),
            nested: Nested::of([b[16], b[17], b[18], b[19]]),
        })
    }

    /// A VP8 payload of `bytes` bytes, with this picture id and TL0PICIDX.
    pub fn vp8(&self, (picture_id, lowest): (u16, u8), size: (u16, u16), bytes: usize) -> Vec<u8> {
        let [high, low] = picture_id.to_be_bytes();
        let starts = self.index == 0;
        let temporal = if self.place.is_some() { TEMPORAL } else { 0 };
        let mut out = vec![0x80 | if starts { 0x10 } else { 0 }, 0x80 | temporal, 0x80 | high, low];
        if let Some(place) = self.place {
            // Four pictures have one of the lowest layer. All but the last build on that alone (Y).
            let id = [0, 2, 1, 2][usize::from(place % 4)];
            out.extend([lowest, id << 6 | if place < 3 { 0x20 } else { 0 }]);
        }
        if starts {
            out.extend([u8::from(!self.key) | 0x10, 0, 0]);
        }
        if starts && self.key {
            out.extend([0x9d, 0x01, 0x2a]);
            out.extend(size.0.to_le_bytes());
            out.extend(size.1.to_le_bytes());
        }
        self.write(&mut out);
        out.resize(bytes.max(out.len()), 0x55);
        out
    }

    /// A payload of this codec and `bytes` bytes; picture id and TL0PICIDX go where the codec has them.
    pub fn video(&self, codec: VideoCodec, numbers: (u16, u8), size: (u16, u16), bytes: usize) -> Vec<u8> {
        match codec {
            VideoCodec::H264 => self.h264(size, bytes),
            VideoCodec::Av1 => self.av1(size, bytes),
            VideoCodec::Vp9 => self.vp9(numbers, size, bytes),
            VideoCodec::Vp8 => self.vp8(numbers, size, bytes),
        }
    }

    /// An Opus payload of `bytes` bytes.
    pub fn opus(&self, bytes: usize) -> Vec<u8> {
        let mut out = vec![OPUS_TOC];
        self.write(&mut out);
        out.resize(bytes.max(out.len()), 0x55);
        out
    }
}

/// Reads a payload made by [`Stamp::vp8`] or [`Stamp::opus`], whatever was rewritten in its descriptor meanwhile.
pub fn parse(payload: &[u8]) -> Option<Parsed> {
    if *payload.first()? == OPUS_TOC {
        return Some(Parsed::new(Stamp::read(payload.get(1..)?)?));
    }
    let descriptor: &[u8; 4] = payload.first_chunk()?;
    let picture_id = u16::from_be_bytes([descriptor[2] & 0x7f, descriptor[3]]);
    let starts = descriptor[0] & 0x10 != 0;
    let temporal = descriptor[1] & TEMPORAL != 0;
    let length = if temporal { 6 } else { 4 };
    let header = match payload.get(length)? & 1 {
        _ if !starts => 0,
        0 => 10,
        _ => 3,
    };
    let stamp = Stamp::read(payload.get(length + header..)?)?;
    let lowest = if temporal { payload.get(4).copied() } else { None };
    Some(Parsed { picture_id: Some(picture_id), lowest, ..Parsed::new(stamp) })
}

/// The blocks of a RED payload (RFC 2198, section 3), the primary last.
pub fn red_blocks(payload: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut lengths, mut at) = (Vec::new(), 0);
    while payload.get(at)? & 0x80 != 0 {
        let head: [u8; 4] = payload.get(at..at + 4)?.try_into().ok()?;
        lengths.push(usize::from(u16::from_be_bytes([head[2], head[3]]) & 0x3ff));
        at += 4;
    }
    let mut rest = payload.get(at + 1..)?;
    let mut blocks = Vec::new();
    for length in lengths {
        let (block, tail) = rest.split_at_checked(length)?;
        blocks.push(block);
        rest = tail;
    }
    blocks.push(rest);
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_round_trip_and_look_like_vp8() {
        let places = [None, Some(0), Some(1), Some(3)];
        for ((index, key), place) in [(0, true), (0, false), (1, true), (2, false)].into_iter().zip(places) {
            let source = Source::Camera;
            let (publisher, nested) = (3, None);
            let stamp =
                Stamp { publisher, source, layer: 1, frame: 70_000, index, count: 3, key, place, nested };
            let payload = stamp.vp8((0x7abc, 77), (640, 360), 200);
            assert_eq!(
                parse(&payload),
                Some(Parsed { picture_id: Some(0x7abc), lowest: place.map(|_| 77), ..Parsed::new(stamp) })
            );
            let (d, _) = antiphon_wire::rtp::vp8::Descriptor::parse(&payload).unwrap();
            assert_eq!(d.picture_id.unwrap().value, 0x7abc);
            assert_eq!((d.starts_frame(), d.key), (index == 0, key && index == 0));
            assert_eq!(d.resolution, (index == 0 && key).then_some((640, 360)));
            assert_eq!(d.temporal_id, place.map(|place| if place == 0 { 0 } else { 2 }));
            assert_eq!(d.layer_sync, place.is_some_and(|place| place < 3));
        }
        let stamp = Stamp {
            publisher: 1,
            source: Source::Microphone,
            layer: 0,
            frame: 9,
            index: 0,
            count: 1,
            key: true,
            place: None,
            nested: None,
        };
        assert_eq!(parse(&stamp.opus(80)), Some(Parsed::new(stamp)));
    }
}
