//! H.264 payloads (RFC 6184, packetization mode 1): single NAL units, STAP-A, FU-A; and the picture size from a
//! sequence parameter set (ITU-T H.264, 7.3.2.1.1).

use super::bits::{Bits, Bytes};

/// NAL unit types (ITU-T H.264, table 7-1; RFC 6184, table 1) that decide something here.
pub mod nal {
    /// Slice of a picture that is no IDR picture.
    pub const SLICE: u8 = 1;
    /// Slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;
    /// Single-time aggregation packet.
    pub const STAP_A: u8 = 24;
    /// Fragmentation unit.
    pub const FU_A: u8 = 28;
}

/// Why an H.264 payload did not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Empty, or it ends inside a header or an aggregated unit.
    #[error("H.264 payload ends early")]
    Short,
    /// A packet type of no use in packetization mode 0 or 1 (STAP-B, MTAP, FU-B, reserved).
    #[error("H.264 packet type {0} is not used in packetization mode 1")]
    Type(u8),
}

/// What an H.264 payload carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// An access unit can begin here: its first unit is a delimiter, a parameter set, SEI, or a picture's first slice.
    pub starts_frame: bool,
    /// Begins with, or holds, an SPS or the first slice of an IDR picture.
    pub starts_keyframe: bool,
    /// An FU-A that is not its unit's first.
    pub continuation: bool,
    /// Highest `nal_ref_idc` of its units; 0: no other picture refers to this one.
    pub ref_idc: u8,
    /// Width and height, cropped, where an SPS is inside.
    pub resolution: Option<(u16, u16)>,
}

impl Descriptor {
    /// Parses a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut d = Self {
            starts_frame: false,
            starts_keyframe: false,
            continuation: false,
            ref_idc: 0,
            resolution: None,
        };
        match Unit::parse(payload)? {
            Unit::Single(unit) => d.see(unit),
            Unit::Aggregate(units) => {
                for unit in units {
                    d.see(unit?);
                }
            }
            Unit::Fragment(f) if f.start => {
                // The slice header is clear of emulation prevention in its first bits: nothing precedes it.
                d.see_head(f.header, f.data);
            }
            Unit::Fragment(f) => {
                d.continuation = true;
                d.ref_idc = (f.header >> 5) & 0x03;
            }
        }
        Ok(d)
    }

    fn see(&mut self, unit: &[u8]) {
        if let Some((header, body)) = unit.split_first() {
            self.see_head(*header, body);
        }
    }

    fn see_head(&mut self, header: u8, body: &[u8]) {
        self.ref_idc = self.ref_idc.max((header >> 5) & 0x03);
        // first_mb_in_slice is ue(v): a leading 1 bit is 0, the picture's first slice.
        let first_slice = body.first().is_some_and(|b| b & 0x80 != 0);
        match header & 0x1f {
            nal::IDR => {
                self.starts_frame |= first_slice;
                self.starts_keyframe |= first_slice;
            }
            nal::SPS => {
                self.starts_frame = true;
                self.starts_keyframe = true;
                self.resolution = self.resolution.or_else(|| sps_resolution(body));
            }
            // ITU-T H.264, 7.4.1.2.3: the first of these after a picture begins the next access unit.
            nal::SEI | nal::PPS | nal::AUD | 14..=18 => self.starts_frame = true,
            nal::SLICE | 2 => self.starts_frame |= first_slice,
            _ => {}
        }
    }
}

/// A payload by its packet type (RFC 6184, 5.4).
#[derive(Debug, Clone)]
pub enum Unit<'a> {
    /// One NAL unit with its header byte; never empty.
    Single(&'a [u8]),
    /// STAP-A.
    Aggregate(Aggregate<'a>),
    /// FU-A.
    Fragment(Fragment<'a>),
}

/// The NAL units of a STAP-A, each never empty. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Aggregate<'a> {
    rest: Option<Bytes<'a>>,
}

/// An FU-A.
#[derive(Debug, Clone, Copy)]
pub struct Fragment<'a> {
    /// The header byte that the whole unit has.
    pub header: u8,
    /// First fragment of its unit.
    pub start: bool,
    /// Last fragment of its unit.
    pub end: bool,
    /// The fragment, without any header.
    pub data: &'a [u8],
}

impl<'a> Unit<'a> {
    /// Tells what a payload is. The units inside a STAP-A are checked when iterated.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let (indicator, rest) = payload.split_first().ok_or(Error::Short)?;
        match indicator & 0x1f {
            1..=23 => Ok(Self::Single(payload)),
            nal::STAP_A => Ok(Self::Aggregate(Aggregate { rest: Some(Bytes::new(rest)) })),
            nal::FU_A => {
                let (fu, data) = rest.split_first().ok_or(Error::Short)?;
                Ok(Self::Fragment(Fragment {
                    header: indicator & 0xe0 | fu & 0x1f,
                    start: fu & 0x80 != 0,
                    end: fu & 0x40 != 0,
                    data,
                }))
            }
            other => Err(Error::Type(other)),
        }
    }
}

impl<'a> Iterator for Aggregate<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut r = self.rest?;
        if r.rest().is_empty() {
            self.rest = None;
            return None;
        }
        let unit = r.u16().and_then(|len| r.take(usize::from(len))).filter(|u| !u.is_empty());
        self.rest = unit.map(|_| r);
        Some(unit.ok_or(Error::Short))
    }
}

/// Profiles whose SPS has the chroma fields (ITU-T H.264, 7.3.2.1.1).
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Cropped width and height of a sequence parameter set, `body` being the NAL unit behind its header byte.
/// `None` if it does not parse or is larger than 16 bits.
pub fn sps_resolution(body: &[u8]) -> Option<(u16, u16)> {
    let mut b = Bits::rbsp(body);
    let profile = b.bits(8)?;
    b.bits(16)?; // constraint flags, level
    b.ue()?; // seq_parameter_set_id
    let mut chroma = 1;
    let mut separate_planes = false;
    if HIGH_PROFILES.contains(&profile) {
        chroma = b.ue()?;
        if chroma == 3 {
            separate_planes = b.bit()?;
        }
        b.ue()?; // bit_depth_luma_minus8
        b.ue()?; // bit_depth_chroma_minus8
        b.bit()?; // qpprime_y_zero_transform_bypass_flag
        if b.bit()? {
            skip_scaling_lists(&mut b, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    b.ue()?; // log2_max_frame_num_minus4
    skip_picture_order(&mut b)?;
    b.ue()?; // max_num_ref_frames
    b.bit()?; // gaps_in_frame_num_value_allowed_flag
    let width_mbs = u64::from(b.ue()?) + 1;
    let height_units = u64::from(b.ue()?) + 1;
    let frame_mbs_only = b.bit()?;
    if !frame_mbs_only {
        b.bit()?; // mb_adaptive_frame_field_flag
    }
    b.bit()?; // direct_8x8_inference_flag
    let fields = if frame_mbs_only { 1 } else { 2 };
    let (mut width, mut height) = (width_mbs * 16, height_units * 16 * fields);
    if b.bit()? {
        let (unit_x, unit_y) = match (chroma, separate_planes) {
            (1, _) => (2, 2 * fields),
            (2, _) => (2, fields),
            _ => (1, fields),
        };
        let (left, right, top, bottom) = (b.ue()?, b.ue()?, b.ue()?, b.ue()?);
        width = width.checked_sub(unit_x * (u64::from(left) + u64::from(right)))?;
        height = height.checked_sub(unit_y * (u64::from(top) + u64::from(bottom)))?;
    }
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

fn skip_scaling_lists(b: &mut Bits<'_>, lists: u32) -> Option<()> {
    for i in 0..lists {
        if !b.bit()? {
            continue;
        }
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..if i < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + i64::from(b.se()?)).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

fn skip_picture_order(b: &mut Bits<'_>) -> Option<()> {
    match b.ue()? {
        0 => {
            b.ue()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            b.bit()?; // delta_pic_order_always_zero_flag
            b.se()?; // offset_for_non_ref_pic
            b.se()?; // offset_for_top_to_bottom_field
            let cycle = b.ue()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                b.se()?;
            }
        }
        _ => {}
    }
    Some(())
}
