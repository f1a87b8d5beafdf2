//! Access units to RTP payloads: VP8 (RFC 7741), H.264 (RFC 6184, packetization mode 1), audio as it is.

#[cfg(test)]
mod tests;

use super::h264::nal;

/// One payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Payload header and data.
    pub data: Vec<u8>,
    /// RTP marker: the last packet of its picture.
    pub marker: bool,
}

/// A payload size that leaves room for IP, UDP, SRTP, TURN and header extensions in 1280 bytes (IPv6's least MTU).
pub const MAX_PAYLOAD: usize = 1100;

/// Smallest payload size that is accepted: headers and some data.
pub const MIN_PAYLOAD: usize = 64;

/// Most packets of one picture.
pub const MAX_PACKETS: usize = 16_384;

/// Why an access unit cannot be packetized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No data (H.264: no NAL unit of a specified type behind a start code).
    #[error("the access unit is empty")]
    Empty,
    /// `max_payload` is below [`MIN_PAYLOAD`], or over 64 KiB.
    #[error("{0} bytes is no size for a payload")]
    PayloadSize(usize),
    /// It would need more than [`MAX_PACKETS`].
    #[error("the access unit of {0} bytes is too large")]
    TooLarge(usize),
}

fn check(len: usize, max_payload: usize) -> Result<(), Error> {
    if len == 0 {
        return Err(Error::Empty);
    }
    if max_payload < MIN_PAYLOAD || max_payload > usize::from(u16::MAX) {
        return Err(Error::PayloadSize(max_payload));
    }
    if len > (max_payload - 8) * MAX_PACKETS {
        return Err(Error::TooLarge(len));
    }
    Ok(())
}

/// Pieces of equal size, none longer than `max`: a small last packet would only cost.
fn even_chunks(data: &[u8], max: usize) -> std::slice::Chunks<'_, u8> {
    let count = data.len().div_ceil(max).max(1);
    data.chunks(data.len().div_ceil(count).max(1))
}

/// VP8 with 15-bit picture ids.
#[derive(Debug, Clone)]
pub struct Vp8 {
    picture_id: u16,
}

impl Vp8 {
    const HEADER: usize = 4;

    /// The first frame gets `picture_id` (15 bits; the caller draws it at random).
    pub fn new(picture_id: u16) -> Self {
        Self { picture_id: picture_id & 0x7fff }
    }

    /// Payloads of one frame, none longer than `max_payload`.
    pub fn packetize(&mut self, frame: &[u8], max_payload: usize) -> Result<Vec<Payload>, Error> {
        check(frame.len(), max_payload)?;
        let [high, low] = self.picture_id.to_be_bytes();
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        let mut payloads: Vec<Payload> = even_chunks(frame, max_payload - Self::HEADER)
            .enumerate()
            .map(|(i, chunk)| {
                let start = if i == 0 { 0x10 } else { 0 };
                let mut data = Vec::with_capacity(Self::HEADER + chunk.len());
                data.extend([0x80 | start, 0x80, 0x80 | high, low]);
                data.extend_from_slice(chunk);
                Payload { data, marker: false }
            })
            .collect();
        mark_last(&mut payloads);
        Ok(payloads)
    }
}

/// H.264 in packetization mode 1: small units in STAP-A, large ones in FU-A. Without state.
#[derive(Debug, Clone, Copy, Default)]
pub struct H264;

impl H264 {
    /// Payloads of one access unit in Annex B format, none longer than `max_payload`. Units of the unspecified
    /// types 0 and 24 to 31 are left out: in RTP those numbers are packet types.
    pub fn packetize(&mut self, annex_b: &[u8], max_payload: usize) -> Result<Vec<Payload>, Error> {
        check(annex_b.len(), max_payload)?;
        let mut payloads = Vec::new();
        let mut small: Vec<&[u8]> = Vec::new();
        let mut small_bytes = 1;
        for unit in nal_units(annex_b).filter(|u| u.first().is_some_and(|h| (1..24).contains(&(h & 0x1f)))) {
            if small_bytes + 2 + unit.len() > max_payload {
                flush(&mut small, &mut payloads);
                small_bytes = 1;
            }
            if 3 + unit.len() <= max_payload {
                small_bytes += 2 + unit.len();
                small.push(unit);
            } else {
                flush(&mut small, &mut payloads);
                small_bytes = 1;
                put_large(unit, max_payload, &mut payloads);
            }
        }
        flush(&mut small, &mut payloads);
        if payloads.is_empty() {
            return Err(Error::Empty);
        }
        mark_last(&mut payloads);
        Ok(payloads)
    }
}

/// Opus and G.711: the packet is the payload. The marker (start of a talkspurt) is the caller's to set.
pub fn audio(packet: &[u8]) -> Payload {
    Payload { data: packet.to_vec(), marker: false }
}

/// The NAL units of an Annex B byte stream (ITU-T H.264, B.1), without start codes; none is empty.
pub fn nal_units(annex_b: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = start_code(annex_b).and_then(|at| annex_b.get(at + 3..)).unwrap_or(&[]);
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (unit, after) = match start_code(rest) {
                Some(at) => (rest.get(..at)?, rest.get(at + 3..)?),
                None => (rest, &[][..]),
            };
            rest = after;
            let zeros = unit.iter().rev().take_while(|b| **b == 0).count();
            let unit = unit.get(..unit.len() - zeros)?;
            if !unit.is_empty() {
                return Some(unit);
            }
        }
        None
    })
}

/// Offset of the next `00 00 01`.
fn start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|w| w == [0, 0, 1])
}

/// Sends the collected small units: one as it is, several in a STAP-A.
fn flush(small: &mut Vec<&[u8]>, payloads: &mut Vec<Payload>) {
    let units = std::mem::take(small);
    let data = match *units.as_slice() {
        [] => return,
        [unit] => unit.to_vec(),
        _ => {
            // NRI of an aggregate is the highest inside (RFC 6184, 5.7.1).
            let nri = units.iter().filter_map(|u| u.first()).map(|h| h & 0x60).max().unwrap_or(0);
            let mut data = vec![nri | nal::STAP_A];
            for unit in units {
                data.extend(u16::try_from(unit.len()).expect("fits the payload").to_be_bytes());
                data.extend_from_slice(unit);
            }
            data
        }
    };
    payloads.push(Payload { data, marker: false });
}

fn put_large(unit: &[u8], max_payload: usize, payloads: &mut Vec<Payload>) {
    let Some((header, body)) = unit.split_first() else { return };
    if unit.len() <= max_payload {
        payloads.push(Payload { data: unit.to_vec(), marker: false });
        return;
    }
    let chunks = even_chunks(body, max_payload - 2);
    let last = chunks.len() - 1;
    for (i, chunk) in chunks.enumerate() {
        let mut data = Vec::with_capacity(2 + chunk.len());
        let edge = u8::from(i == 0) << 7 | u8::from(i == last) << 6;
        data.extend([header & 0xe0 | nal::FU_A, edge | header & 0x1f]);
        data.extend_from_slice(chunk);
        payloads.push(Payload { data, marker: false });
    }
}

fn mark_last(payloads: &mut [Payload]) {
    if let Some(last) = payloads.last_mut() {
        last.marker = true;
    }
}
