//! AV1 payloads (RTP Payload Format For AV1, version 1.0, section 4): aggregation header and OBU elements.
//! The dependency descriptor header extension is [`super::dependency`].

use super::bits::{Bits, Bytes};

/// OBU types (AV1 specification, 6.2.2) that matter in transport.
pub mod obu {
    /// Sequence header.
    pub const SEQUENCE_HEADER: u8 = 1;
    /// Temporal delimiter; not sent in RTP.
    pub const TEMPORAL_DELIMITER: u8 = 2;
    /// Tile list; not sent in RTP.
    pub const TILE_LIST: u8 = 8;
    /// Padding.
    pub const PADDING: u8 = 15;
}

/// Most OBU elements of one packet; a packet of 1500 bytes could hold that many only with nearly empty ones.
pub const MAX_ELEMENTS: usize = 512;

/// Why an AV1 payload did not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Empty, or it ends inside an element or OBU header.
    #[error("AV1 payload ends early")]
    Short,
    /// N with Z: a coded video sequence cannot start in the middle of an OBU.
    #[error("AV1 packet both continues an OBU and starts a coded video sequence")]
    NewAndContinued,
    /// More than [`MAX_ELEMENTS`].
    #[error("AV1 packet has too many OBU elements")]
    Elements,
}

/// A parsed aggregation header, with the layer of the first OBU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Z: the first element continues an OBU of the packet before.
    pub continues: bool,
    /// Y: the last element goes on in the next packet.
    pub continued: bool,
    /// W: number of elements, 0 = each has its length.
    pub count: u8,
    /// N: first packet of a coded video sequence.
    pub new_sequence: bool,
    /// Temporal layer, where the first OBU starts here and has an extension header.
    pub temporal_id: Option<u8>,
    /// Spatial layer, likewise.
    pub spatial_id: Option<u8>,
    /// Largest width and height, where the packet starts a coded video sequence and its header is within.
    pub resolution: Option<(u16, u16)>,
}

impl Descriptor {
    /// Parses the aggregation header and looks at the first OBU header.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (head, rest) = payload.split_first().ok_or(Error::Short)?;
        let mut d = Self {
            continues: head & 0x80 != 0,
            continued: head & 0x40 != 0,
            count: (head >> 4) & 0x03,
            new_sequence: head & 0x08 != 0,
            temporal_id: None,
            spatial_id: None,
            resolution: None,
        };
        if rest.is_empty() {
            return Err(Error::Short);
        }
        if d.new_sequence && d.continues {
            return Err(Error::NewAndContinued);
        }
        if !d.continues
            && let Some(Ok(element)) = d.elements(payload).next()
            && let Some(header) = ObuHeader::parse(element.data)
            && let Some(extension) = header.extension
        {
            d.temporal_id = Some(extension >> 5);
            d.spatial_id = Some((extension >> 3) & 0x03);
        }
        if d.new_sequence {
            d.resolution = d.elements(payload).find_map(|e| sequence_resolution(e.ok()?.data));
        }
        Ok(d)
    }

    /// A temporal unit can begin here.
    pub fn starts_frame(&self) -> bool {
        !self.continues
    }

    /// First packet of a coded video sequence: of its lowest spatial layer, where layers are coded independently.
    pub fn starts_keyframe(&self) -> bool {
        self.new_sequence && self.spatial_id.unwrap_or(0) == 0
    }

    /// The OBU elements of the payload this was parsed from.
    pub fn elements<'a>(&self, payload: &'a [u8]) -> Elements<'a> {
        Elements { rest: Some(Bytes::new(payload.get(1..).unwrap_or(&[]))), descriptor: *self, index: 0 }
    }
}

/// One OBU or a piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// Continues the last OBU of the packet before.
    pub continues: bool,
    /// Goes on in the next packet.
    pub continued: bool,
    /// Bytes of the OBU, header included where it starts here.
    pub data: &'a [u8],
}

/// Iterates over OBU elements. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: Option<Bytes<'a>>,
    descriptor: Descriptor,
    index: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut r = self.rest.take()?;
        if r.rest().is_empty() {
            return None;
        }
        if self.index >= MAX_ELEMENTS {
            return Some(Err(Error::Elements));
        }
        self.index += 1;
        let last_counted = self.index == usize::from(self.descriptor.count);
        let len = if last_counted { Some(r.rest().len()) } else { r.leb128() };
        let Some(data) = len.and_then(|len| r.take(len)) else {
            return Some(Err(Error::Short));
        };
        let last = r.rest().is_empty();
        self.rest = Some(r);
        Some(Ok(Element {
            continues: self.index == 1 && self.descriptor.continues,
            continued: last && self.descriptor.continued,
            data,
        }))
    }
}

/// An OBU header (AV1 specification, 5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObuHeader {
    /// First byte.
    pub byte: u8,
    /// Extension byte.
    pub extension: Option<u8>,
}

impl ObuHeader {
    /// Parses the header of an OBU that starts at `data`.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let byte = *data.first()?;
        let extension = if byte & 0x04 != 0 { Some(*data.get(1)?) } else { None };
        Some(Self { byte, extension })
    }

    /// `obu_type`.
    pub fn obu_type(&self) -> u8 {
        (self.byte >> 3) & 0x0f
    }

    /// The OBU carries its own size field.
    pub fn has_size(&self) -> bool {
        self.byte & 0x02 != 0
    }

    /// Bytes of the header.
    pub fn len(&self) -> usize {
        1 + usize::from(self.extension.is_some())
    }

    /// Never: a header has at least a byte.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Appends `obu` (as it came in RTP, normally without a size field) to `out` with a size field: the low-overhead
/// bitstream format (AV1 specification, 5.2). `None` if it is malformed; then nothing is appended.
pub fn append_sized(out: &mut Vec<u8>, obu: &[u8]) -> Option<()> {
    let header = ObuHeader::parse(obu)?;
    let mut r = Bytes::new(obu);
    r.take(header.len())?;
    let payload = if header.has_size() {
        let len = r.leb128()?;
        r.take(len)?
    } else {
        r.rest()
    };
    out.push(header.byte | 0x02);
    out.extend(header.extension);
    push_leb128(out, payload.len());
    out.extend_from_slice(payload);
    Some(())
}

/// Largest width and height of a sequence header OBU (AV1 specification, 5.5.1). `None` for another OBU, one that does
/// not parse, or one with timing information, which real-time senders leave out.
fn sequence_resolution(obu: &[u8]) -> Option<(u16, u16)> {
    let header = ObuHeader::parse(obu)?;
    if header.obu_type() != obu::SEQUENCE_HEADER {
        return None;
    }
    let mut r = Bytes::new(obu);
    r.take(header.len())?;
    if header.has_size() {
        r.leb128()?;
    }
    let mut b = Bits::plain(r.rest());
    b.bits(4)?; // seq_profile, still_picture
    if b.bit()? {
        b.bits(5)?; // reduced_still_picture_header: seq_level_idx only
    } else {
        skip_operating_points(&mut b)?;
    }
    let (width_bits, height_bits) = (b.bits(4)? + 1, b.bits(4)? + 1);
    let (width, height) = (b.bits(width_bits)?, b.bits(height_bits)?);
    Some((u16::try_from(width + 1).ok()?, u16::try_from(height + 1).ok()?))
}

fn skip_operating_points(b: &mut Bits<'_>) -> Option<()> {
    if b.bit()? {
        return None; // timing_info_present_flag
    }
    let display_delay = b.bit()?;
    for _ in 0..=b.bits(5)? {
        b.bits(12)?; // operating_point_idc
        if b.bits(5)? > 7 {
            b.bit()?; // seq_tier
        }
        if display_delay && b.bit()? {
            b.bits(4)?;
        }
    }
    Some(())
}

fn push_leb128(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        out.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_with_and_without_lengths() {
        // W = 2: the first has a length, the last has none; Y: it goes on.
        let payload = [0x60, 2, 0x30, 1, 0x32, 5, 6];
        let d = Descriptor::parse(&payload).unwrap();
        let found: Vec<_> = d.elements(&payload).map(|e| e.unwrap()).map(|e| (e.continued, e.data)).collect();
        assert_eq!(found, [(false, &[0x30, 1][..]), (true, &[0x32, 5, 6][..])]);
        // W = 0: each has a length. Z: the first continues.
        let payload = [0x80, 1, 7, 2, 0x30, 8];
        let d = Descriptor::parse(&payload).unwrap();
        let found: Vec<_> = d.elements(&payload).map(|e| e.unwrap()).map(|e| (e.continues, e.data)).collect();
        assert_eq!(found, [(true, &[7][..]), (false, &[0x30, 8][..])]);
        assert!(!d.starts_frame());
        assert_eq!(Descriptor::parse(&[0x88, 1, 7]), Err(Error::NewAndContinued));
        assert_eq!(d.elements(&[0x00, 9, 1]).next(), Some(Err(Error::Short)));
    }

    #[test]
    fn obus_get_their_size() {
        let mut out = Vec::new();
        append_sized(&mut out, &[0x34, 0x48, 1, 2]).unwrap(); // with extension
        append_sized(&mut out, &[0x32, 1, 9]).unwrap(); // has one already
        assert_eq!(out, [0x36, 0x48, 2, 1, 2, 0x32, 1, 9]);
        assert_eq!(append_sized(&mut out, &[0x32, 2, 9]), None);
        let long = [&[0x30][..], &[1; 200][..]].concat();
        out.clear();
        append_sized(&mut out, &long).unwrap();
        assert_eq!(out[..3], [0x32, 0xc8, 0x01]);
    }
}
