//! Stamped payloads of H.264 (RFC 6184) and AV1 (RTP Payload Format For AV1, version 1.0), and AV1's dependency descriptors.
//!
//! Each H.264 packet is a slice of its picture; a key frame's first one is aggregated with a sequence parameter set. An AV1 picture is
//! one OBU in as many pieces as packets; before a key frame's stands a sequence header.

use std::sync::{Arc, LazyLock};

use antiphon_base::VideoCodec;
use antiphon_wire::rtp::dependency::{Dependency, Indication, Indications, References, Structure, Template};

use super::{Parsed, Stamp};

/// NAL units: a slice, a slice of an IDR picture, a sequence parameter set, an aggregation (RFC 6184, 5.7.1).
const SLICE: u8 = 0x41;
const IDR: u8 = 0x65;
const SPS: u8 = 0x67;
const STAP_A: u8 = 0x78;
/// How a slice header begins: `first_mb_in_slice` is 0, or 1.
const FIRST: u8 = 0x88;
const FURTHER: u8 = 0x40;
/// OBU headers: a sequence header and a frame, both without size field.
const SEQUENCE_HEADER: u8 = 1 << 3;
const FRAME: u8 = 6 << 3;

impl Stamp {
    /// An H.264 payload of `bytes` bytes.
    ///
    /// # Panics
    /// Beyond 65,535 bytes.
    pub fn h264(&self, size: (u16, u16), bytes: usize) -> Vec<u8> {
        let mut slice =
            vec![if self.key { IDR } else { SLICE }, if self.index == 0 { FIRST } else { FURTHER }];
        self.write(&mut slice);
        slice.resize(bytes.max(slice.len()), 0x55);
        if !self.key || self.index > 0 {
            return slice;
        }
        let mut out = vec![STAP_A];
        for unit in [sequence_parameters(size), slice] {
            out.extend(u16::try_from(unit.len()).expect("a packet of a test").to_be_bytes());
            out.extend(unit);
        }
        out
    }

    /// An AV1 payload of `bytes` bytes.
    ///
    /// # Panics
    /// Never: the sequence header is short.
    pub fn av1(&self, size: (u16, u16), bytes: usize) -> Vec<u8> {
        let (continues, goes_on) = (self.index > 0, self.index + 1 < self.count);
        let head = u8::from(continues) << 7 | u8::from(goes_on) << 6;
        let mut out = match self.index {
            0 if self.key && self.is_lowest() => {
                let header = sequence_header(size);
                let length = u8::try_from(header.len()).expect("a few bytes");
                [&[head | 0x28, length][..], &header, &[FRAME]].concat()
            }
            0 => vec![head | 0x10, FRAME],
            _ => vec![head | 0x10],
        };
        self.write(&mut out);
        out.resize(bytes.max(out.len()), 0x55);
        out
    }

    /// The dependency descriptor of a picture with this number: of one layer, or of three temporal ones.
    ///
    /// # Panics
    /// Never: the structures are short.
    pub fn dependency(&self, number: u16) -> Dependency {
        if let Some(nested) = &self.nested {
            return self.described(nested);
        }
        static PLAIN: LazyLock<Arc<Structure>> = LazyLock::new(|| Arc::new(plain()));
        static LAYERED: LazyLock<Arc<Structure>> = LazyLock::new(|| Arc::new(layered()));
        let structure = if self.place.is_some() { &LAYERED } else { &PLAIN };
        let template = match self.place {
            _ if self.key => 0,
            None | Some(0) => 1,
            Some(2) => 2,
            Some(_) => 3,
        };
        let (first, last) = (self.index == 0, self.index + 1 == self.count);
        let made = Dependency::of_template(structure, template, number, (first, last), self.key && first);
        made.expect("a short structure with that template")
    }
}

fn template(temporal_id: u8, indications: &[Indication], distance: Option<u16>) -> Template {
    nested_template((0, temporal_id), indications, distance)
}

/// A template of a spatial and a temporal layer.
pub(super) fn nested_template(
    (spatial_id, temporal_id): (u8, u8),
    indications: &[Indication],
    distances: impl IntoIterator<Item = u16>,
) -> Template {
    let indications =
        (0..).zip(indications).fold(Indications::default(), |all, (at, one)| all.with(at, *one));
    let mut references = References::default();
    distances.into_iter().for_each(|distance| references.push(distance).expect("a few"));
    Template { spatial_id, temporal_id, indications, references, chains: Vec::new() }
}

pub(super) fn structure(targets: u8, templates: Vec<Template>) -> Structure {
    let (protected_by, resolutions) = (Vec::new(), Vec::new());
    Structure { first_template: 0, targets, templates, chains: 0, protected_by, resolutions }
}

fn plain() -> Structure {
    let all = [Indication::Switch];
    structure(1, vec![template(0, &all, None), template(0, &all, Some(1))])
}

/// As Chromium has L1T3.
fn layered() -> Structure {
    use Indication::{Discardable, NotPresent, Switch};
    let all = [Switch; 3];
    structure(
        3,
        vec![
            template(0, &all, None),
            template(0, &all, Some(4)),
            template(1, &[NotPresent, Discardable, Switch], Some(2)),
            template(2, &[NotPresent, NotPresent, Discardable], Some(1)),
        ],
    )
}

/// Reads a payload made by [`Stamp::video`] of this codec.
pub fn parse(codec: VideoCodec, payload: &[u8]) -> Option<Parsed> {
    let stamp = match codec {
        VideoCodec::H264 => {
            let slice = match *payload.first()? {
                STAP_A => {
                    let length = usize::from(u16::from_be_bytes([*payload.get(1)?, *payload.get(2)?]));
                    payload.get(1 + 2 + length + 2..)?
                }
                _ => payload,
            };
            Stamp::read(slice.get(2..)?)?
        }
        VideoCodec::Av1 => {
            let head = *payload.first()?;
            // A sequence header stands before the frame's OBU.
            let before = match (head & 0x80 != 0, head & 0x08 != 0) {
                (true, _) => 1,
                (false, false) => 2,
                (false, true) => 2 + usize::from(*payload.get(1)?) + 1,
            };
            Stamp::read(payload.get(before..)?)?
        }
        VideoCodec::Vp9 => return super::vp9::parse(payload),
        VideoCodec::Vp8 => return super::parse(payload),
    };
    Some(Parsed::new(stamp))
}

/// Bits, the most significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, count: u32, value: u32) -> &mut Self {
        for bit in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(value >> bit & 1 == 1) << (7 - self.used % 8);
            }
            self.used += 1;
        }
        self
    }

    /// ue(v) (ITU-T H.264, 9.1).
    fn golomb(&mut self, value: u32) -> &mut Self {
        let bits = (value + 1).ilog2();
        self.put(bits, 0).put(bits + 1, value + 1)
    }
}

/// Baseline profile (ITU-T H.264, 7.3.2.1.1); what is not of whole macroblocks is cropped.
fn sequence_parameters((width, height): (u16, u16)) -> Vec<u8> {
    let blocks = |pixels: u16| u32::from(pixels.div_ceil(16));
    let excess = |pixels: u16| blocks(pixels) * 16 - u32::from(pixels);
    let mut b = Bits::default();
    // Profile, constraints, level; then the numbers of the set, of frames, of their order (type 2), of references.
    b.put(8, u32::from(SPS)).put(8, 66).put(8, 0xc0).put(8, 31);
    b.golomb(0).golomb(0).golomb(2).golomb(1).put(1, 0);
    b.golomb(blocks(width) - 1).golomb(blocks(height) - 1).put(1, 1).put(1, 0);
    // Cropped on the right and below, in units of two; no VUI; the stop bit.
    b.put(1, 1).golomb(0).golomb(excess(width) / 2).golomb(0).golomb(excess(height) / 2);
    b.put(1, 0).put(1, 1);
    b.bytes
}

/// As far as the picture size (AV1 specification, 5.5.1).
fn sequence_header((width, height): (u16, u16)) -> Vec<u8> {
    let mut b = Bits::default();
    // Profile, no still picture, no timing; one operating point with its level.
    b.put(8, u32::from(SEQUENCE_HEADER)).put(3, 0).put(4, 0).put(5, 0).put(12, 0).put(5, 5);
    b.put(4, 15).put(4, 15).put(16, u32::from(width) - 1).put(16, u32::from(height) - 1).put(8, 0);
    b.bytes
}

#[cfg(test)]
mod tests {
    use antiphon_base::{Codec, Source};
    use antiphon_wire::rtp::Descriptor;
    use antiphon_wire::rtp::dependency::Reader;

    use super::*;

    #[test]
    fn what_is_made_is_read_here_and_by_the_server() {
        for codec in [VideoCodec::H264, VideoCodec::Av1] {
            for (key, index, place) in [
                (true, 0, None),
                (true, 1, None),
                (false, 0, Some(2)),
                (false, 1, Some(1)),
                (false, 2, Some(0)),
            ] {
                let source = Source::Camera;
                let (publisher, nested) = (3, None);
                let stamp =
                    Stamp { publisher, source, layer: 1, frame: 70_000, index, count: 3, key, place, nested };
                for (width, height) in [(320, 180), (640, 360), (1_280, 720)] {
                    let payload = stamp.video(codec, (0, 0), (width, height), 200);
                    assert_eq!(parse(codec, &payload), Some(Parsed::new(stamp)));
                    let descriptor = Descriptor::parse(Codec::Video(codec), &payload);
                    let first = key && index == 0;
                    let size = first.then_some((u32::from(width), u32::from(height)));
                    assert_eq!(descriptor.resolution(), size, "{codec:?}");
                    assert_eq!(descriptor.starts_keyframe(), first, "{codec:?}");
                }
            }
        }
    }

    #[test]
    fn descriptors_are_read_under_their_structure() {
        for layered in [false, true] {
            let mut reader = Reader::new();
            let mut place = layered.then_some(0);
            for frame in 0..9 {
                let (source, key) = (Source::Camera, frame == 0);
                let (publisher, layer, nested) = (3, 1, None);
                let stamp = Stamp { publisher, source, layer, frame, index: 0, count: 1, key, place, nested };
                let number = u16::try_from(frame).unwrap();
                let read = reader.read(stamp.dependency(number).as_bytes()).unwrap();
                assert_eq!((read.frame_number, read.attached), (number, key));
                let builds_on: Vec<u32> = read.references.as_slice().iter().map(|d| u32::from(*d)).collect();
                assert_eq!(builds_on, if key { vec![] } else { vec![stamp.builds_on()] });
                let temporal = place.map_or(0, |place: u8| [0, 2, 1, 2][usize::from(place)]);
                assert_eq!(read.temporal_id, temporal);
                place = place.map(|place| (place + 1) % 4);
            }
        }
    }
}
