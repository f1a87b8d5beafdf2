//! Access units as containers keep them, and what containers say before them: `avcC` and length-prefixed NAL units (ISO/IEC 14496-15,
//! 5.3.3), `av1C` and temporal units without delimiter (AV1 in ISOBMFF, 2.3 and 2.4; the Matroska mapping of AV1 is the same).

use antiphon_base::VideoCodec;

use crate::rtp::av1;
use crate::rtp::bits::{Bits, Bytes};
use crate::rtp::h264::{nal, sps_resolution};

/// The most parameter sets of a kind, and their longest; real streams have one of some tens of bytes.
const MAX_SETS: usize = 16;
const MAX_SET_BYTES: usize = 1_024;
/// Profiles whose parameter sets say more about colours (ITU-T H.264, 7.3.2.1.1); `avcC` repeats it for these.
const HIGH_PROFILES: [u8; 4] = [100, 110, 122, 144];

/// An access unit for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contained {
    /// What a block holds.
    pub data: Vec<u8>,
    /// What stands before the first one (`CodecPrivate`), where this unit tells it: key frames of H.264 and AV1 do.
    pub private: Option<Vec<u8>>,
    /// Width and height, where this unit tells them: key frames of H.264, AV1 and VP9 do.
    pub size: Option<(u32, u32)>,
}

/// Brings an access unit, as [`Assembled`](crate::rtp::frame::Assembled) has it, into the form of containers. `None`: nothing to
/// show is in it.
pub fn contain(codec: VideoCodec, unit: &[u8]) -> Option<Contained> {
    match codec {
        VideoCodec::Vp8 | VideoCodec::Vp9 => {
            let size = if codec == VideoCodec::Vp9 { vp9_size(unit) } else { None };
            (!unit.is_empty()).then(|| Contained { data: unit.to_vec(), private: None, size })
        }
        VideoCodec::H264 => h264(unit),
        VideoCodec::Av1 => av1_unit(unit),
    }
}

/// The size in a key frame's uncompressed header (VP9 bitstream specification, 6.2), of the lowest spatial layer.
fn vp9_size(frame: &[u8]) -> Option<(u32, u32)> {
    let mut b = Bits::plain(frame);
    if b.bits(2)? != 2 {
        return None;
    }
    let profile = b.bits(1)? | b.bits(1)? << 1;
    let reserved = profile == 3 && b.bit()?;
    let (shows_another, is_inter) = (b.bit()?, b.bit()?);
    b.bits(2)?; // show_frame, error_resilient_mode
    if reserved || shows_another || is_inter || b.bits(24)? != 0x49_83_42 {
        return None;
    }
    if profile >= 2 {
        b.bit()?; // ten_or_twelve_bit
    }
    let subsampled = profile == 1 || profile == 3;
    match b.bits(3)? {
        7 if subsampled => b.bits(1)?,
        7 => 0,
        _ if subsampled => b.bits(4)?,
        _ => b.bits(1)?,
    };
    Some((b.bits(16)? + 1, b.bits(16)? + 1))
}

/// The NAL units between start codes (ITU-T H.264, annex B).
fn nal_units(unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = unit;
    let mut first = true;
    std::iter::from_fn(move || {
        while !rest.is_empty() || first {
            let end = rest.windows(3).position(|w| w == [0, 0, 1]);
            let (piece, after) = match end {
                Some(at) => (&rest[..at], &rest[at + 3..]),
                None => (rest, &rest[rest.len()..]),
            };
            rest = after;
            // What is before the first start code is none.
            if std::mem::take(&mut first) {
                continue;
            }
            // The zero of a longer start code is not the unit's: a unit does not end in zeros.
            let len = piece.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            if len > 0 {
                return Some(&piece[..len]);
            }
        }
        None
    })
}

fn h264(unit: &[u8]) -> Option<Contained> {
    let (mut data, mut sps, mut pps) = (Vec::with_capacity(unit.len() + 16), Vec::new(), Vec::new());
    for nal_unit in nal_units(unit) {
        let kind = nal_unit.first()? & 0x1f;
        let sets = match kind {
            // Containers mark where units begin by themselves.
            nal::AUD => continue,
            nal::SPS => Some(&mut sps),
            nal::PPS => Some(&mut pps),
            _ => None,
        };
        if let Some(sets) = sets
            && sets.len() < MAX_SETS
            && nal_unit.len() <= MAX_SET_BYTES
        {
            sets.push(nal_unit);
        }
        data.extend(u32::try_from(nal_unit.len()).ok()?.to_be_bytes());
        data.extend_from_slice(nal_unit);
    }
    let size = sps.first().and_then(|sps| sps_resolution(&sps[1..]));
    let size = size.map(|(w, h)| (u32::from(w), u32::from(h)));
    (!data.is_empty()).then(|| Contained { data, private: avc_configuration(&sps, &pps), size })
}

/// `AVCDecoderConfigurationRecord`.
fn avc_configuration(sps: &[&[u8]], pps: &[&[u8]]) -> Option<Vec<u8>> {
    let first = *sps.first()?;
    let [_, profile, compatibility, level] = *first.first_chunk::<4>()?;
    if pps.is_empty() {
        return None;
    }
    let mut out = vec![1, profile, compatibility, level, 0xff];
    let count = |sets: &[&[u8]]| u8::try_from(sets.len()).ok();
    let mut put = |head: u8, sets: &[&[u8]]| {
        out.push(head);
        for set in sets {
            out.extend(u16::try_from(set.len()).ok()?.to_be_bytes());
            out.extend_from_slice(set);
        }
        Some(())
    };
    put(0xe0 | count(sps)?, sps)?;
    put(count(pps)?, pps)?;
    if HIGH_PROFILES.contains(&profile) {
        let (chroma, luma_depth, chroma_depth) = colours(&first[1..])?;
        out.extend([0xfc | chroma, 0xf8 | luma_depth, 0xf8 | chroma_depth, 0]);
    }
    Some(out)
}

/// `chroma_format_idc` and the bit depths (less 8) of a sequence parameter set of a high profile, without its header byte.
fn colours(sps: &[u8]) -> Option<(u8, u8, u8)> {
    let mut b = Bits::rbsp(sps);
    b.bits(24)?; // profile, constraints, level
    b.ue()?; // seq_parameter_set_id
    let chroma = b.ue()?;
    if chroma == 3 {
        b.bit()?; // separate_colour_plane_flag
    }
    let small = |value: u32, most: u32| u8::try_from(value).ok().filter(|_| value <= most);
    Some((small(chroma, 3)?, small(b.ue()?, 6)?, small(b.ue()?, 6)?))
}

/// The OBUs of a temporal unit in the low-overhead format, with their heads.
fn obus(unit: &[u8]) -> impl Iterator<Item = Option<(av1::ObuHeader, &[u8], &[u8])>> {
    let mut rest = unit;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let whole = rest;
        let one = || {
            let header = av1::ObuHeader::parse(whole).filter(av1::ObuHeader::has_size)?;
            let mut r = Bytes::new(whole);
            r.take(header.len())?;
            let len = r.leb128()?;
            let payload = r.take(len)?;
            Some((header, &whole[..r.position()], payload))
        };
        let found = one();
        rest = found.as_ref().map_or(&whole[whole.len()..], |(_, all, _)| &whole[all.len()..]);
        Some(found)
    })
}

fn av1_unit(unit: &[u8]) -> Option<Contained> {
    let mut out = Contained { data: Vec::with_capacity(unit.len()), private: None, size: None };
    for obu in obus(unit) {
        let (header, all, payload) = obu?;
        match header.obu_type() {
            av1::obu::TEMPORAL_DELIMITER | av1::obu::TILE_LIST | av1::obu::PADDING => continue,
            av1::obu::SEQUENCE_HEADER if out.private.is_none() => {
                if let Some(sequence) = Sequence::parse(payload) {
                    out.private = Some([&sequence.configuration()[..], all].concat());
                    out.size = Some(sequence.size);
                }
            }
            _ => {}
        }
        out.data.extend_from_slice(all);
    }
    (!out.data.is_empty()).then_some(out)
}

/// What `av1C` repeats of a sequence header (AV1 specification, 5.5).
struct Sequence {
    profile: u8,
    level: u8,
    tier: bool,
    size: (u32, u32),
    high_depth: bool,
    twelve_bit: bool,
    monochrome: bool,
    subsampling: (bool, bool),
    sample_position: u8,
}

fn byte(b: &mut Bits<'_>, bits: u32) -> Option<u8> {
    u8::try_from(b.bits(bits)?).ok()
}

impl Sequence {
    fn configuration(&self) -> [u8; 4] {
        let flags = [
            (self.tier, 7),
            (self.high_depth, 6),
            (self.twelve_bit, 5),
            (self.monochrome, 4),
            (self.subsampling.0, 3),
            (self.subsampling.1, 2),
        ];
        let flags = flags.iter().fold(self.sample_position, |all, (set, bit)| all | u8::from(*set) << bit);
        [0x81, self.profile << 5 | self.level, flags, 0]
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let mut b = Bits::plain(payload);
        let profile = byte(&mut b, 3)?;
        b.bit()?; // still_picture
        let reduced = b.bit()?;
        let (level, tier) = if reduced { (byte(&mut b, 5)?, false) } else { operating_points(&mut b)? };
        let (width_bits, height_bits) = (b.bits(4)? + 1, b.bits(4)? + 1);
        let size = (b.bits(width_bits)? + 1, b.bits(height_bits)? + 1);
        if !reduced && b.bit()? {
            b.bits(7)?; // lengths of frame ids
        }
        b.bits(3)?; // superblocks, filter intra, intra edge
        if !reduced {
            tools(&mut b)?;
        }
        b.bits(3)?; // superres, cdef, restoration
        let sequence = Self {
            profile,
            level,
            tier,
            size,
            high_depth: false,
            twelve_bit: false,
            monochrome: false,
            subsampling: (true, true),
            sample_position: 0,
        };
        sequence.with_colours(&mut b)
    }

    /// `color_config`.
    fn with_colours(mut self, b: &mut Bits<'_>) -> Option<Self> {
        self.high_depth = b.bit()?;
        self.twelve_bit = self.profile == 2 && self.high_depth && b.bit()?;
        self.monochrome = self.profile != 1 && b.bit()?;
        let described = if b.bit()? { b.bits(24)? } else { 0x02_02_02 };
        if self.monochrome {
            return Some(self);
        }
        // BT.709 primaries, sRGB transfer, identity matrix.
        if described == 0x01_0d_00 {
            self.subsampling = (false, false);
            return Some(self);
        }
        b.bit()?; // color_range
        self.subsampling = match self.profile {
            0 => (true, true),
            1 => (false, false),
            _ if self.twelve_bit => {
                let x = b.bit()?;
                (x, x && b.bit()?)
            }
            _ => (true, false),
        };
        if self.subsampling == (true, true) {
            self.sample_position = byte(b, 2)?;
        }
        Some(self)
    }
}

/// Timing and operating points; level and tier of the first, which is the whole.
fn operating_points(b: &mut Bits<'_>) -> Option<(u8, bool)> {
    let (mut model, mut delay_bits) = (false, 0);
    if b.bit()? {
        b.bits(32)?;
        b.bits(32)?;
        if b.bit()? {
            b.ue()?; // uvlc is written as ue(v) is
        }
        model = b.bit()?;
        if model {
            delay_bits = b.bits(5)? + 1;
            b.bits(32)?;
            b.bits(10)?;
        }
    }
    let display_delay = b.bit()?;
    let count = b.bits(5)? + 1;
    let mut first = None;
    for _ in 0..count {
        b.bits(12)?;
        let level = byte(b, 5)?;
        let tier = level > 7 && b.bit()?;
        first.get_or_insert((level, tier));
        if model && b.bit()? {
            b.bits(delay_bits)?;
            b.bits(delay_bits)?;
            b.bit()?;
        }
        if display_delay && b.bit()? {
            b.bits(4)?;
        }
    }
    first
}

/// The coding tools that are told between sizes and colours.
fn tools(b: &mut Bits<'_>) -> Option<()> {
    b.bits(4)?; // interintra, masked compound, warped motion, dual filter
    let order_hint = b.bit()?;
    if order_hint {
        b.bits(2)?;
    }
    let screen_tools = b.bit()? || b.bit()?;
    if screen_tools && !b.bit()? {
        b.bit()?; // seq_force_integer_mv
    }
    if order_hint {
        b.bits(3)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From libx264, 64x64, High.
    const SPS: [u8; 23] = [
        0x67, 0x64, 0x00, 0x0a, 0xac, 0xd9, 0x44, 0x26, 0x84, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03,
        0x00, 0xf0, 0x3c, 0x48, 0x96, 0x58,
    ];
    const PPS: [u8; 6] = [0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

    #[test]
    fn nal_units_get_lengths_and_parameter_sets_stand_before() {
        let unit =
            [&[0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1][..], &SPS, &[0, 0, 1], &PPS, &[0, 0, 1, 0x65, 1, 2]].concat();
        let contained = contain(VideoCodec::H264, &unit).unwrap();
        let expected = [&[0, 0, 0, 23][..], &SPS, &[0, 0, 0, 6], &PPS, &[0, 0, 0, 3, 0x65, 1, 2]].concat();
        assert_eq!(contained.data, expected);
        let private =
            [&[1, 0x64, 0, 0x0a, 0xff, 0xe1, 0, 23][..], &SPS, &[1, 0, 6], &PPS, &[0xfd, 0xf8, 0xf8, 0]]
                .concat();
        assert_eq!(contained.private, Some(private));
        assert_eq!(contained.size, Some((64, 64)));
        let slice = contain(VideoCodec::H264, &[0, 0, 0, 1, 0x41, 7]).unwrap();
        assert_eq!((slice.data, slice.private), (vec![0, 0, 0, 2, 0x41, 7], None));
        assert_eq!(contain(VideoCodec::H264, &[0, 0, 1, 0, 0, 1, 9]), None);
    }

    #[test]
    fn an_av1_sequence_header_is_told_and_delimiters_are_left_out() {
        // 320x180, main profile, level 3.0, 4:2:0, by the fields of the specification (5.5).
        let fields: [(u32, u32); 22] = [
            (0, 3),
            (0, 1),
            (0, 1),
            (0, 1),
            (0, 1),
            (0, 5),
            (0, 12),
            (4, 5),
            (8, 4),
            (7, 4),
            (319, 9),
            (179, 8),
            (0, 1),
            (0, 3),
            (0, 4),
            (0, 1),
            (1, 1),
            (1, 1),
            (0, 3),
            (0, 3),
            (0, 1),
            (0, 2),
        ];
        let bits: Vec<u8> =
            fields.iter().flat_map(|(v, n)| (0..*n).rev().map(move |i| u8::from(v >> i & 1 == 1))).collect();
        let payload: Vec<u8> = bits
            .chunks(8)
            .map(|c| c.iter().enumerate().fold(0, |byte, (i, bit)| byte | bit << (7 - i)))
            .collect();
        let sequence = [&[0x0a, u8::try_from(payload.len()).unwrap()][..], &payload].concat();
        let unit = [&[0x12, 0][..], &sequence, &[0x32, 2, 0x10, 0x00]].concat();
        let contained = contain(VideoCodec::Av1, &unit).unwrap();
        assert_eq!(contained.data, unit[2..]);
        let private = contained.private.unwrap();
        assert_eq!(private, [&[0x81, 4, 0x0c, 0][..], &sequence].concat());
        assert_eq!(contained.size, Some((320, 180)));
        assert_eq!(contain(VideoCodec::Av1, &[0x12, 0]), None);
        assert_eq!(contain(VideoCodec::Av1, &[0x0a, 200, 1]), None, "it says more than is there");
    }

    #[test]
    fn any_bytes_are_taken_calmly() {
        let mut seed = 7_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed.to_be_bytes()[0]
        };
        for len in 0..2_000 {
            let bytes: Vec<u8> =
                (0..len % 90).map(|_| next() & if len % 3 == 0 { 0xff } else { 0x0b }).collect();
            for codec in [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Av1] {
                if let Some(contained) = contain(codec, &bytes) {
                    assert!(contained.data.len() <= 2 * bytes.len() && !contained.data.is_empty());
                }
            }
        }
    }
}
