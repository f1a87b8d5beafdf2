//! The bytes of a journal, without I/O.
//!
//! ```text
//! segment: magic "KVJ1" 4 | version 1 | run 32 | records
//! record:  body length 4  | kind 1    | lane 8 | body | crc32c 4
//! ```
//! All numbers are big-endian. A *run* is one opening of the store: 32 random bytes. A *lane* is one fragment within it, and all of
//! its records are sealed. The first says whose it is, under a key derived from the account's for this run, and its place in
//! that sequence *is* the lane's number; all others are under a key derived from the stream's data key for this run and
//! lane, in the order they come. So a run's number never comes again, a lane's number comes once in a run, and
//! each key counts its records: no nonce comes twice (see [`Sequence`](crate::crypt::Sequence)). Only lengths and the
//! order of writing can be seen by who has no key.

use std::ops::Range;

use bytes::Bytes;

use crate::layout::{Flags, Uid};
use crate::number::FragmentNumber;
use crate::sealed::{MAX_CONTACT_BYTES, crc};

const MAGIC: &[u8; 4] = b"KVJ1";
const VERSION: u8 = 1;
pub(super) const RUN_BYTES: usize = 32;
/// Bytes before a segment's first record.
pub(super) const SEGMENT_HEAD_BYTES: usize = 5 + RUN_BYTES;
const RECORD_HEAD_BYTES: usize = 13;
const CRC_BYTES: usize = 4;

/// One opening of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run(pub(super) [u8; RUN_BYTES]);

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A [`Whose`].
    Open = 1,
    /// A [`Begin`].
    Begin = 2,
    /// Whole elements of the fragment.
    Media = 3,
    /// It was stored, or is not to be.
    End = 4,
}

impl Kind {
    fn new(byte: u8) -> Option<Self> {
        [Self::Open, Self::Begin, Self::Media, Self::End].into_iter().find(|kind| *kind as u8 == byte)
    }

    /// What is authenticated with a record; run and lane are in its key.
    pub(super) fn aad(self) -> [u8; 6] {
        let [a, b, c, d] = *MAGIC;
        [a, b, c, d, VERSION, self as u8]
    }
}

pub(super) fn segment_head(run: &Run) -> Vec<u8> {
    [&MAGIC[..], &[VERSION], &run.0].concat()
}

/// The run that a segment is of.
pub(super) fn run_of(segment: &[u8]) -> Option<Run> {
    let rest = segment.strip_prefix(MAGIC)?.strip_prefix(&[VERSION])?;
    rest.first_chunk().copied().map(Run)
}

/// Appends a record.
pub(super) fn record(out: &mut Vec<u8>, kind: Kind, lane: u64, body: &[u8]) {
    let begin = out.len();
    out.extend_from_slice(&u32::try_from(body.len()).expect("records are some megabytes").to_be_bytes());
    out.push(kind as u8);
    out.extend_from_slice(&lane.to_be_bytes());
    out.extend_from_slice(body);
    let sum = crc(&out[begin..]);
    out.extend_from_slice(&sum.to_be_bytes());
}

/// One record of a segment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) lane: u64,
    /// Where its body is.
    pub(super) body: Range<usize>,
}

/// The records of a segment, up to the first that is not whole: a write that was cut off.
pub(super) struct Records<'a> {
    segment: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(segment: &'a [u8]) -> Self {
        Self { segment, at: SEGMENT_HEAD_BYTES }
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let rest = self.segment.get(self.at..)?;
        let (head, _) = rest.split_first_chunk::<RECORD_HEAD_BYTES>()?;
        let (length, lane) = (head[..4].try_into().ok()?, head[5..].try_into().ok()?);
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        let end = RECORD_HEAD_BYTES.checked_add(length)?;
        let sum = rest.get(end..end.checked_add(CRC_BYTES)?)?;
        if sum != crc(&rest[..end]).to_be_bytes() {
            return None;
        }
        let body = self.at + RECORD_HEAD_BYTES..self.at + end;
        self.at += end + CRC_BYTES;
        Some(Record { kind: Kind::new(head[4])?, lane: u64::from_be_bytes(lane), body })
    }
}

/// Whose fragment a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) uid: Uid,
    /// The data key that its records are under.
    pub(super) key_id: u32,
}

impl Whose {
    pub(super) fn encode(&self) -> Vec<u8> {
        [&self.uid.0[..], &self.key_id.to_be_bytes()].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (uid, rest) = bytes.split_first_chunk()?;
        Some(Self { uid: Uid(*uid), key_id: u32::from_be_bytes(rest.try_into().ok()?) })
    }
}

/// What a fragment is that begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Begin {
    pub(crate) number: FragmentNumber,
    pub(crate) producer_ms: u64,
    pub(crate) flags: Flags,
    pub(crate) contact: String,
    /// Its session's header.
    pub(crate) header: Bytes,
}

/// Number (4 and 16), producer time, flags, length of the contact's id.
const BEGIN_HEAD_BYTES: usize = 20 + 8 + 1 + 1;

impl Begin {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (high, low) = self.number.parts();
        let mut out = Vec::with_capacity(BEGIN_HEAD_BYTES + MAX_CONTACT_BYTES + self.header.len());
        out.extend_from_slice(&high.to_be_bytes());
        out.extend_from_slice(&low.to_be_bytes());
        out.extend_from_slice(&self.producer_ms.to_be_bytes());
        out.push(self.flags.0);
        // The same length whoever it is, as in a fragment's object.
        let contact = &self.contact.as_bytes()[..self.contact.len().min(MAX_CONTACT_BYTES)];
        out.push(u8::try_from(contact.len()).expect("at most 128"));
        out.extend_from_slice(contact);
        out.resize(BEGIN_HEAD_BYTES + MAX_CONTACT_BYTES, 0);
        out.extend_from_slice(&self.header);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (high, rest) = bytes.split_first_chunk()?;
        let (low, rest) = rest.split_first_chunk()?;
        let (producer, rest) = rest.split_first_chunk()?;
        let ([flags, length], rest) = rest.split_first_chunk()?;
        let (contact, header) = rest.split_at_checked(MAX_CONTACT_BYTES)?;
        Some(Self {
            number: FragmentNumber::from_parts(u32::from_be_bytes(*high), u128::from_be_bytes(*low)),
            producer_ms: u64::from_be_bytes(*producer),
            flags: Flags(*flags),
            contact: String::from_utf8_lossy(contact.get(..usize::from(*length))?).into_owned(),
            header: Bytes::copy_from_slice(header),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Vec<u8> {
        let mut segment = segment_head(&Run([3; RUN_BYTES]));
        record(&mut segment, Kind::Open, 0, b"whose");
        record(&mut segment, Kind::Media, u64::MAX, b"");
        record(&mut segment, Kind::End, 7, b"end");
        segment
    }

    #[test]
    fn records_come_back_and_a_cut_loses_what_is_behind_it() {
        let whole = segment();
        assert_eq!(run_of(&whole), Some(Run([3; RUN_BYTES])));
        let all: Vec<_> = Records::new(&whole).collect();
        let texts: Vec<_> = all.iter().map(|r| &whole[r.body.clone()]).collect();
        assert_eq!(texts, [&b"whose"[..], b"", b"end"]);
        assert_eq!(all.iter().map(|r| r.lane).collect::<Vec<_>>(), [0, u64::MAX, 7]);
        for cut in 0..whole.len() {
            let some: Vec<_> = Records::new(&whole[..cut]).collect();
            assert_eq!(some, all[..some.len()], "cut at {cut}");
            assert!(some.len() < 3);
        }
    }

    #[test]
    fn a_changed_bit_ends_it() {
        let whole = segment();
        let all: Vec<_> = Records::new(&whole).collect();
        for at in SEGMENT_HEAD_BYTES..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            let some: Vec<_> = Records::new(&changed).collect();
            assert!(some.len() < 3 && some == all[..some.len()], "byte {at}");
        }
    }

    #[test]
    fn heads_come_back() {
        let whose = Whose { uid: Uid([1; 16]), key_id: 9 };
        assert_eq!(Whose::decode(&whose.encode()), Some(whose));
        let begin = Begin {
            number: FragmentNumber::new(3, 4, 5),
            producer_ms: 6,
            flags: Flags::ANCHOR,
            contact: "c".repeat(MAX_CONTACT_BYTES),
            header: Bytes::from_static(b"header"),
        };
        assert_eq!(Begin::decode(&begin.encode()), Some(begin.clone()));
        let bytes = begin.encode();
        for cut in 0..bytes.len() - b"header".len() {
            assert_eq!(Begin::decode(&bytes[..cut]), None);
        }
        assert_eq!(bytes.len(), Begin { contact: String::new(), ..begin }.encode().len());
    }
}
