//! Synthetic media: payloads that codecs' parsers take for real, with a stamp inside that tells the checkers what it is.
//!
//! A video packet is a VP8 payload descriptor with 15-bit picture id (RFC 7741, 4.2), at the start of a frame the frame
//! tag and, in a key frame, the start code and size (RFC 6386, 9.1), then the stamp. An audio packet is an Opus table of
//! contents byte (RFC 6716, 3.1), then the stamp. The parser here is written by itself: it checks the server's.

use antiphon_base::Source;

const MAGIC: [u8; 2] = [0xa5, 0x17];
const STAMP_BYTES: usize = 15;
/// Opus, CELT, full band, 20 ms, mono.
const OPUS_TOC: u8 = 0xf8;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the client that made it.
    pub publisher: u16,
    /// Of which track.
    pub source: Source,
    /// Of which simulcast layer.
    pub layer: u8,
    /// Frame number in its layer; grows by one.
    pub frame: u32,
    /// Number of the packet in its frame.
    pub index: u16,
    /// Packets of the frame.
    pub count: u16,
    /// Of a key frame.
    pub key: bool,
}

/// A parsed payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// What it says it is.
    pub stamp: Stamp,
    /// The descriptor's picture id.
    pub picture_id: Option<u16>,
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
        })
    }

    /// A VP8 payload of `bytes` bytes.
    pub fn vp8(&self, picture_id: u16, size: (u16, u16), bytes: usize) -> Vec<u8> {
        let [high, low] = picture_id.to_be_bytes();
        let starts = self.index == 0;
        let mut out = vec![0x80 | if starts { 0x10 } else { 0 }, 0x80, 0x80 | high, low];
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
        return Some(Parsed { stamp: Stamp::read(payload.get(1..)?)?, picture_id: None });
    }
    let descriptor: &[u8; 4] = payload.first_chunk()?;
    let picture_id = u16::from_be_bytes([descriptor[2] & 0x7f, descriptor[3]]);
    let starts = descriptor[0] & 0x10 != 0;
    let header = match payload.get(4)? & 1 {
        _ if !starts => 0,
        0 => 10,
        _ => 3,
    };
    Some(Parsed { stamp: Stamp::read(payload.get(4 + header..)?)?, picture_id: Some(picture_id) })
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
        for (index, key) in [(0, true), (0, false), (1, true), (2, false)] {
            let source = Source::Camera;
            let stamp = Stamp { publisher: 3, source, layer: 1, frame: 70_000, index, count: 3, key };
            let payload = stamp.vp8(0x7abc, (640, 360), 200);
            assert_eq!(parse(&payload), Some(Parsed { stamp, picture_id: Some(0x7abc) }));
            let (d, _) = antiphon_wire::rtp::vp8::Descriptor::parse(&payload).unwrap();
            assert_eq!(d.picture_id.unwrap().value, 0x7abc);
            assert_eq!((d.starts_frame(), d.key), (index == 0, key && index == 0));
            assert_eq!(d.resolution, (index == 0 && key).then_some((640, 360)));
        }
        let stamp = Stamp {
            publisher: 1,
            source: Source::Microphone,
            layer: 0,
            frame: 9,
            index: 0,
            count: 1,
            key: true,
        };
        assert_eq!(parse(&stamp.opus(80)), Some(Parsed { stamp, picture_id: None }));
    }
}
