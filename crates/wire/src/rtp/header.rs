//! The RTP header (RFC 3550, 5.1) and its extensions (RFC 8285, 4.2 and 4.3): written from fields, and read.

use super::bits::Bytes;

/// Most CSRCs of one packet: the header counts them in four bits.
pub const MAX_CSRCS: usize = 15;
/// Most bytes of an element in a block of one-byte headers.
pub const MAX_ONE_BYTE: usize = 16;
/// How a block of one-byte headers begins, and one of two-byte headers (its low four bits are free for applications).
const ONE_BYTE: u16 = 0xbede;
const TWO_BYTE: u16 = 0x1000;

/// Fields of an RTP header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Marker.
    pub marker: bool,
    /// Seven bits.
    pub payload_type: u8,
    /// Sequence number as on the wire.
    pub seq: u16,
    /// Timestamp as on the wire.
    pub rtp_time: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Contributing sources; those beyond [`MAX_CSRCS`] are not written.
    pub csrcs: Vec<u32>,
    /// RFC 6464 level and voice flag, with the extension's id (1 to 14).
    pub audio_level: Option<(u8, super::AudioLevel)>,
    /// A dependency descriptor, with the extension's id.
    pub dependency: Option<(u8, Vec<u8>)>,
}

/// Why bytes are not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than its header says.
    #[error("RTP packet ends early")]
    Short,
    /// Version other than 2.
    #[error("RTP version {0}")]
    Version(u8),
    /// More padding than payload.
    #[error("RTP padding is longer than the payload")]
    Padding,
}

/// Writes a packet.
pub fn serialize(header: &Header, payload: &[u8]) -> Vec<u8> {
    let csrcs = header.csrcs.get(..MAX_CSRCS).unwrap_or(&header.csrcs);
    let count = u8::try_from(csrcs.len()).expect("at most fifteen");
    let mut out = Vec::with_capacity(12 + 4 * csrcs.len() + 8 + payload.len());
    out.push(0x80 | count);
    out.push(u8::from(header.marker) << 7 | header.payload_type & 0x7f);
    out.extend(header.seq.to_be_bytes());
    out.extend(header.rtp_time.to_be_bytes());
    out.extend(header.ssrc.to_be_bytes());
    for csrc in csrcs {
        out.extend(csrc.to_be_bytes());
    }
    let level = header.audio_level.map(|(id, level)| (id, u8::from(level.voice) << 7 | level.level & 0x7f));
    let level = level.iter().map(|(id, byte)| (*id, std::slice::from_ref(byte)));
    let dependency = header.dependency.iter().map(|(id, bytes)| (*id, bytes.as_slice()));
    append(&mut out, level.chain(dependency));
    out.extend_from_slice(payload);
    out
}

/// Appends a block of extensions to the fixed part of a header. Elements without a possible id or length are left out.
fn append<'a>(out: &mut Vec<u8>, elements: impl Iterator<Item = (u8, &'a [u8])> + Clone) {
    let elements = elements.filter(|(id, value)| (1..=14).contains(id) && (1..=255).contains(&value.len()));
    let fixed = out.len();
    let is_long = elements.clone().any(|(_, value)| value.len() > MAX_ONE_BYTE);
    for (i, (id, value)) in elements.enumerate() {
        if i == 0 {
            out.extend(if is_long { TWO_BYTE } else { ONE_BYTE }.to_be_bytes());
            out.extend([0, 0]);
        }
        let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
        if is_long {
            out.extend([id, length]);
        } else {
            out.push(id << 4 | (length - 1));
        }
        out.extend(value);
    }
    if out.len() > fixed {
        finish_block(out, 0, fixed);
    }
}

/// The fixed part of an outgoing header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// Marker.
    pub marker: bool,
    /// Seven bits.
    pub payload_type: u8,
    /// Sequence number as on the wire.
    pub seq: u16,
    /// Timestamp as on the wire.
    pub rtp_time: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Contributing source.
    pub csrc: u32,
}

/// Bytes of the fixed part and the CSRC.
const FIXED_BYTES: usize = 16;
/// Of a whole header with one-byte extensions; what does not fit is left out. Room for four elements of the longest kind.
const MAX_HEADER_BYTES: usize = 96;

/// Writes a header with one CSRC and extensions behind what stands in a buffer; allocates nothing by itself.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Written here first, since each growth of `out` costs more than the bytes.
    header: [u8; MAX_HEADER_BYTES],
    length: usize,
    /// With two-byte headers it is in `out` already, from here on: those are rare.
    long: Option<usize>,
}

impl<'a> Writer<'a> {
    /// Writes the fixed part and the CSRC.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, fixed: &Fixed) -> Self {
        let mut header = [0; MAX_HEADER_BYTES];
        let [b0, b1, s0, s1, t0, t1, t2, t3, x0, x1, x2, x3, c0, c1, c2, c3, ..] = &mut header;
        (*b0, *b1) = (0x81, u8::from(fixed.marker) << 7 | fixed.payload_type & 0x7f);
        [*s0, *s1] = fixed.seq.to_be_bytes();
        [*t0, *t1, *t2, *t3] = fixed.rtp_time.to_be_bytes();
        [*x0, *x1, *x2, *x3] = fixed.ssrc.to_be_bytes();
        [*c0, *c1, *c2, *c3] = fixed.csrc.to_be_bytes();
        Self { out, header, length: FIXED_BYTES, long: None }
    }

    /// What follows the header ends with padding, the last byte of which is its length (RFC 3550, 5.1). To be said first.
    pub fn padded(&mut self) {
        self.header[0] |= 0x20;
    }

    /// All elements get two-byte headers: for one that is longer than [`MAX_ONE_BYTE`]. To be said before the first; only
    /// to a receiver that takes both forms in one stream (RFC 8285, 4.1.2: `extmap-allow-mixed`).
    pub fn two_byte(&mut self) {
        if self.length == FIXED_BYTES && self.long.is_none() {
            self.long = Some(self.out.len());
            self.out.extend(self.header.iter().take(FIXED_BYTES));
            self.out.extend(TWO_BYTE.to_be_bytes());
            self.out.extend([0, 0]);
        }
    }

    /// Adds an element: `id` from 1 to 14, 1 to 16 bytes, or up to 255 with two-byte headers. Anything else is left out.
    #[inline]
    pub fn extension(&mut self, id: u8, value: &[u8]) {
        if self.long.is_some() {
            return self.extension_by(id, |out| out.extend_from_slice(value));
        }
        let Some(length) = value.len().checked_sub(1).and_then(|l| u8::try_from(l).ok()).filter(|l| *l < 16)
        else {
            return;
        };
        let at = self.length.max(FIXED_BYTES + 4);
        let Some(element) = self.header.get_mut(at..at + 1 + value.len()) else { return };
        let Some((first, rest)) = element.split_first_mut().filter(|_| (1..=14).contains(&id)) else {
            return;
        };
        *first = id << 4 | length;
        rest.copy_from_slice(value);
        self.length = at + 1 + value.len();
    }

    /// Likewise an element whose value `write` appends to the buffer.
    pub fn extension_by(&mut self, id: u8, write: impl FnOnce(&mut Vec<u8>)) {
        if !(1..=14).contains(&id) {
            return;
        }
        let at = self.out.len();
        if self.long.is_none() {
            // Appended to be measured, then moved to its place: a few bytes.
            write(self.out);
            let mut value = [0; MAX_ONE_BYTE];
            let length = self.out.len() - at;
            if let (Some(to), Some(from)) = (value.get_mut(..length), self.out.get(at..)) {
                to.copy_from_slice(from);
                self.out.truncate(at);
                self.extension(id, value.get(..length).unwrap_or_default());
            }
            self.out.truncate(at);
            return;
        }
        self.out.extend([id, 0]);
        write(self.out);
        let length = u8::try_from(self.out.len() - at - 2).ok().filter(|length| *length > 0);
        match (length, self.out.get_mut(at + 1)) {
            (Some(length), Some(second)) => *second = length,
            _ => self.out.truncate(at),
        }
    }

    /// Ends the header; gives its length in bytes.
    #[inline]
    pub fn finish(mut self) -> usize {
        if let Some(start) = self.long {
            return finish_block(self.out, start, FIXED_BYTES);
        }
        if self.length > FIXED_BYTES {
            let words = (self.length - FIXED_BYTES - 4).div_ceil(4);
            self.length = FIXED_BYTES + 4 + 4 * words;
            let [w0, w1] = u16::try_from(words).unwrap_or(0).to_be_bytes();
            self.header[0] |= 0x10;
            self.header[FIXED_BYTES..FIXED_BYTES + 4].copy_from_slice(&[0xbe, 0xde, w0, w1]);
        }
        self.out.extend_from_slice(self.header.get(..self.length).unwrap_or(&self.header));
        self.length
    }
}

/// Ends a block of extensions behind the `fixed` bytes of a header that begins at `start`; gives the header's length.
fn finish_block(out: &mut Vec<u8>, start: usize, fixed: usize) -> usize {
    let begin = start + fixed + 4;
    let words = out.len().saturating_sub(begin).div_ceil(4);
    out.resize(begin + 4 * words, 0);
    if let Some(first) = out.get_mut(start) {
        *first |= 0x10;
    }
    if let Some(length) = out.get_mut(begin - 2..begin) {
        length.copy_from_slice(&u16::try_from(words).unwrap_or(0).to_be_bytes());
    }
    out.len() - start
}

/// Reads a packet: its header (extensions are skipped) and its payload without padding.
pub fn parse(packet: &[u8]) -> Result<(Header, &[u8]), Error> {
    let first = *packet.first().ok_or(Error::Short)?;
    if first >> 6 != 2 {
        return Err(Error::Version(first >> 6));
    }
    let (header, payload) = read(packet).ok_or(Error::Short)?;
    if first & 0x20 == 0 {
        return Ok((header, payload));
    }
    let padding = usize::from(*payload.last().ok_or(Error::Padding)?);
    match payload.len().checked_sub(padding) {
        Some(len) if padding > 0 => Ok((header, payload.get(..len).unwrap_or(&[]))),
        _ => Err(Error::Padding),
    }
}

fn read(packet: &[u8]) -> Option<(Header, &[u8])> {
    let mut r = Bytes::new(packet);
    let first = r.u8()?;
    let second = r.u8()?;
    let mut header = Header {
        marker: second & 0x80 != 0,
        payload_type: second & 0x7f,
        seq: r.u16()?,
        rtp_time: r.u32()?,
        ssrc: r.u32()?,
        ..Header::default()
    };
    for _ in 0..first & 0x0f {
        header.csrcs.push(r.u32()?);
    }
    if first & 0x10 != 0 {
        r.u16()?;
        let words = usize::from(r.u16()?);
        r.take(4 * words)?;
    }
    Some((header, r.rest()))
}

/// The value of an extension of a packet, in either form.
pub fn extension(packet: &[u8], id: u8) -> Option<&[u8]> {
    let mut r = Bytes::new(packet);
    let first = r.u8()?;
    r.take(11 + 4 * usize::from(first & 0x0f))?;
    if first & 0x10 == 0 {
        return None;
    }
    let form = r.u16()?;
    let words = usize::from(r.u16()?);
    let mut block = Bytes::new(r.take(4 * words)?);
    loop {
        let head = block.u8()?;
        let (found, length) = match form {
            _ if head == 0 => continue, // padding
            ONE_BYTE if head >> 4 == 15 => return None,
            ONE_BYTE => (head >> 4, usize::from(head & 0x0f) + 1),
            _ if form & 0xfff0 == TWO_BYTE => (head, usize::from(block.u8()?)),
            _ => return None,
        };
        let value = block.take(length)?;
        if found == id {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::AudioLevel;

    #[test]
    fn an_outgoing_header_reads_back() {
        let fixed =
            Fixed { marker: true, payload_type: 96, seq: 65_535, rtp_time: 0xdead_beef, ssrc: 7, csrc: 9 };
        for (extensions, length) in [(0, 16), (1, 24), (2, 24), (3, 28)] {
            let mut out = vec![1, 2, 3];
            let mut writer = Writer::new(&mut out, &fixed);
            for (id, value) in [(4, b"a".as_slice()), (1, &[0x85]), (3, b"abc")].iter().take(extensions) {
                writer.extension(*id, value);
            }
            writer.extension(15, b"x");
            writer.extension(1, b"");
            writer.extension(1, &[0; 17]);
            assert_eq!(writer.finish(), length);
            out.extend(b"payload");
            let (header, payload) = parse(&out[3..]).unwrap();
            assert_eq!(payload, b"payload");
            assert_eq!((header.marker, header.payload_type, header.seq), (true, 96, 65_535));
            assert_eq!((header.rtp_time, header.ssrc, header.csrcs), (0xdead_beef, 7, vec![9]));
        }
    }

    #[test]
    fn a_long_element_gives_all_of_them_two_byte_headers() {
        let fixed = Fixed { marker: false, payload_type: 45, seq: 1, rtp_time: 2, ssrc: 3, csrc: 4 };
        let long = [7; 90];
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, &fixed);
        writer.two_byte();
        writer.extension(3, &[1, 2]);
        writer.extension(12, &long);
        assert_eq!(writer.finish(), 16 + 4 + 4 + 92);
        out.extend(b"obu");
        assert_eq!(parse(&out).unwrap().1, b"obu");
        assert_eq!(extension(&out, 3), Some(&[1, 2][..]));
        assert_eq!(extension(&out, 12), Some(&long[..]));
        assert_eq!(extension(&out, 5), None);
        for len in 0..out.len() {
            extension(&out[..len], 12);
        }
        let header = Header { dependency: Some((12, long.to_vec())), ..Header::default() };
        assert_eq!(extension(&serialize(&header, b"x"), 12), Some(&long[..]));
    }

    #[test]
    fn what_is_written_reads_back() {
        let header = Header {
            marker: true,
            payload_type: 111,
            seq: 65_535,
            rtp_time: 0xdead_beef,
            ssrc: 7,
            csrcs: vec![1, 2],
            audio_level: Some((1, AudioLevel { level: 30, voice: true })),
            dependency: None,
        };
        let bytes = serialize(&header, b"opus");
        let (read, payload) = parse(&bytes).unwrap();
        assert_eq!(payload, b"opus");
        assert_eq!(read, Header { audio_level: None, ..header });
        assert_eq!(bytes.get(20..28), Some(&[0xbe, 0xde, 0, 1, 0x10, 0x80 | 30, 0, 0][..]));
        for len in 0..28 {
            assert!(parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn padding_is_checked() {
        let mut bytes = serialize(&Header::default(), &[1, 2, 3]);
        bytes[0] |= 0x20;
        assert_eq!(parse(&bytes).unwrap().1, &[] as &[u8]);
        *bytes.last_mut().unwrap() = 4;
        assert_eq!(parse(&bytes), Err(Error::Padding));
        assert_eq!(parse(&[0x40]), Err(Error::Version(1)));
    }
}
