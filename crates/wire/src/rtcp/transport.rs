//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1): which packets of a
//! connection came, and when.

use crate::rtp::bits::Bytes;

/// Packets that one message may report: a second of 80 Mbit/s. A run length chunk of two bytes names up to 8,191, so
/// the work for a message of this many is bounded by this and not by its length.
pub const MAX_STATUSES: u16 = 8_192;

/// Microseconds in a unit of the reference time.
pub const REFERENCE_UNIT_US: i64 = 64_000;
/// The reference time is counted modulo this.
pub const REFERENCE_UNITS: i64 = 1 << 24;
/// Microseconds in a unit of a receive delta.
const DELTA_UNIT_US: i64 = 250;

/// One message: statuses of consecutive transport sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback<'a> {
    /// The first packet reported.
    pub base_seq: u16,
    /// How many are reported.
    pub count: u16,
    /// Reference time in units of [`REFERENCE_UNIT_US`], modulo [`REFERENCE_UNITS`], on the receiver's own clock.
    pub reference: u32,
    /// Counts messages, modulo 256.
    pub number: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// What became of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its transport sequence number.
    pub seq: u16,
    /// When it came, in microseconds after the message's reference time; `None`: not yet.
    pub arrival_us: Option<i64>,
}

impl<'a> Feedback<'a> {
    /// Reads what follows the SSRCs. `None`: it ends early, or reports more than [`MAX_STATUSES`].
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut r = Bytes::new(body);
        let base_seq = r.u16()?;
        let count = r.u16()?;
        let word = r.u32()?;
        if count > MAX_STATUSES {
            return None;
        }
        let all = r.rest();
        let mut left = count;
        while left > 0 {
            left = left.saturating_sub(Chunk(r.u16()?).len());
        }
        let deltas = r.rest();
        let chunks = all.get(..all.len() - deltas.len())?;
        let number = word.to_be_bytes()[3];
        Some(Self { base_seq, count, reference: word >> 8, number, chunks, deltas })
    }

    /// The statuses in order, at most [`Feedback::count`]; fewer if the deltas end early.
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            chunks: Bytes::new(self.chunks),
            deltas: Bytes::new(self.deltas),
            chunk: Chunk(0),
            at: 0,
            seq: self.base_seq,
            left: self.count,
            arrival_us: 0,
        }
    }
}

/// Section 3.1.2 to 3.1.4.
#[derive(Debug, Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    fn len(self) -> u16 {
        match self.0 >> 14 {
            0 | 1 => self.0 & 0x1fff,
            2 => 14,
            _ => 7,
        }
    }

    /// 0: not received, 1: small delta, 2: large or negative delta, 3: reserved.
    fn symbol(self, at: u16) -> u16 {
        match self.0 >> 14 {
            0 | 1 => self.0 >> 13 & 3,
            2 => self.0 >> (13 - at.min(13)) & 1,
            _ => self.0 >> (2 * (6 - at.min(6))) & 3,
        }
    }
}

/// Iterates over statuses.
#[derive(Debug, Clone)]
pub struct Statuses<'a> {
    chunks: Bytes<'a>,
    deltas: Bytes<'a>,
    chunk: Chunk,
    /// Symbols of the chunk that were read.
    at: u16,
    seq: u16,
    left: u16,
    arrival_us: i64,
}

impl Iterator for Statuses<'_> {
    type Item = Status;

    fn next(&mut self) -> Option<Status> {
        self.left = self.left.checked_sub(1)?;
        while self.at >= self.chunk.len() {
            self.chunk = Chunk(self.chunks.u16()?);
            self.at = 0;
        }
        let delta = match self.chunk.symbol(self.at) {
            0 => None,
            1 => Some(i64::from(self.deltas.u8()?)),
            2 => Some(i64::from(self.deltas.u16()?.cast_signed())),
            _ => return None,
        };
        self.at += 1;
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        let arrival_us = delta.map(|delta| {
            self.arrival_us += delta * DELTA_UNIT_US;
            self.arrival_us
        });
        Some(Status { seq, arrival_us })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Message, read};
    use super::*;
    use crate::rtp::testing::Random;

    /// A message as libwebrtc lays it out: 7 two-bit statuses, then a run of 3, then one-bit statuses.
    fn message() -> Vec<u8> {
        let mut bytes = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        bytes.extend([0xff, 0xfe, 0, 14, 0, 0, 3, 9]);
        // 11 (two-bit): small, not, large, small, not, small, small.
        bytes.extend(0b11_01_00_10_01_00_01_01u16.to_be_bytes());
        // 0 01 (run of small), 3.
        bytes.extend(0b001_0000000000011u16.to_be_bytes());
        // 10 (one-bit): not, small, not, small; the rest is beyond the count.
        bytes.extend(0b10_01010000000000u16.to_be_bytes());
        bytes.extend([4, 0xff, 0xfc, 8, 0, 40]);
        bytes.extend([1, 2, 3]);
        bytes.extend([10, 20]);
        while bytes.len() % 4 != 0 {
            bytes.push(0);
        }
        let words = u16::try_from(bytes.len() / 4 - 1).unwrap().to_be_bytes();
        bytes[2..4].copy_from_slice(&words);
        bytes
    }

    #[test]
    fn every_kind_of_chunk_is_read() {
        let bytes = message();
        let mut found = None;
        read(&bytes, |m| {
            if let Message::Transport(f) = m {
                found = Some(f);
            }
        });
        let feedback = found.unwrap();
        assert_eq!((feedback.base_seq, feedback.count), (65_534, 14));
        assert_eq!((feedback.reference, feedback.number), (3, 9));
        let got: Vec<_> = feedback.statuses().map(|s| (s.seq, s.arrival_us)).collect();
        let expected = [
            (65_534, Some(1_000)),
            (65_535, None),
            (0, Some(0)),
            (1, Some(2_000)),
            (2, None),
            (3, Some(2_000)),
            (4, Some(12_000)),
            (5, Some(12_250)),
            (6, Some(12_750)),
            (7, Some(13_500)),
            (8, None),
            (9, Some(16_000)),
            (10, None),
            (11, Some(21_000)),
        ];
        assert_eq!(got, expected);
    }

    /// A run of two small deltas: the second packet came 50 ms after the first.
    #[test]
    fn a_short_message_is_read() {
        let body = [0, 5, 0, 2, 0x00, 0x00, 0x01, 0x00, 0x20, 0x02, 0x00, 0xc8];
        let feedback = Feedback::parse(&body).unwrap();
        let got: Vec<_> = feedback.statuses().map(|s| (s.seq, s.arrival_us)).collect();
        assert_eq!((feedback.reference, got), (1, vec![(5, Some(0)), (6, Some(50_000))]));
    }

    /// From a capture of libwebrtc: one packet, after 148 units of 250 us.
    #[test]
    fn a_captured_message_is_read() {
        let bytes = [
            0xaf, 0xcd, 0x00, 0x05, 0xfa, 0x17, 0xfa, 0x17, 0x43, 0x03, 0x2f, 0xa0, 0x00, 0x99, 0x00, 0x01,
            0x3d, 0xe8, 0x02, 0x17, 0x20, 0x01, 0x94, 0x01,
        ];
        let mut got = Vec::new();
        read(&bytes, |m| {
            if let Message::Transport(f) = m {
                got.push((f.reference, f.number, f.statuses().collect::<Vec<_>>()));
            }
        });
        assert_eq!(got, [(4_057_090, 23, vec![Status { seq: 153, arrival_us: Some(37_000) }])]);
    }

    #[test]
    fn more_than_can_be_sent_is_refused() {
        // Nine runs of 8,191 that did not come.
        let mut body = vec![0, 0, 0xff, 0xff, 0, 0, 0, 0];
        body.extend([0x1f, 0xff].repeat(9));
        assert_eq!(Feedback::parse(&body), None);
        body[2..4].copy_from_slice(&MAX_STATUSES.to_be_bytes());
        assert_eq!(Feedback::parse(&body).unwrap().statuses().count(), usize::from(MAX_STATUSES));
        // Runs of nothing end with the message.
        let mut body = vec![0, 0, 0, 1, 0, 0, 0, 0];
        body.extend([0; 1_000]);
        assert_eq!(Feedback::parse(&body), None);
    }

    #[test]
    fn nonsense_is_read_without_harm() {
        let mut random = Random(11);
        let genuine = message();
        for round in 0..50_000 {
            let bytes = if round % 2 == 0 { random.mutate(&genuine[12..]) } else { random.bytes(64) };
            let Some(feedback) = Feedback::parse(&bytes) else { continue };
            let statuses = feedback.statuses().inspect(|s| {
                let bound = 32_768 * DELTA_UNIT_US * i64::from(MAX_STATUSES);
                assert!(s.arrival_us.is_none_or(|at| at.abs() <= bound));
            });
            assert!(statuses.count() <= usize::from(feedback.count));
        }
    }
}
