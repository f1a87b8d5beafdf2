//! The door for the fuzz target: a segment of known content, changed as the input says.

use std::ops::Range;

use bytes::Bytes;

use super::format::{Begin, Kind, Records, Run, SEGMENT_HEAD_BYTES, Whose, record, segment_head};
use super::read::{Found, Lanes};
use crate::crypt::DataKey;
use crate::ingest::{Ingest, Rules};
use crate::key::Secret;
use crate::layout::{Flags, Uid};
use crate::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block};
use crate::number::FragmentNumber;

const RUN: Run = Run([5; 32]);

fn key() -> DataKey {
    DataKey::new(&Secret([1; 32]), "fuzz")
}

fn media(i: u8) -> Vec<u8> {
    let block = simple_block(1, i16::from(i) * 64, &[i; 64]);
    if i == 0 { [cluster_start(1000), block].concat() } else { block }
}

/// A lane of a fragment of four blocks, as it is written.
fn genuine() -> Vec<u8> {
    let (mut opens, mut lane) = (key().sequence(&[&RUN.0]), key().sequence(&[&RUN.0, &0u64.to_be_bytes()]));
    let mut segment = segment_head(&RUN);
    let mut whose = Whose { uid: Uid([1; 16]), key_id: 0 }.encode();
    opens.seal(&Kind::Open.aad(), &mut whose);
    record(&mut segment, Kind::Open, 0, &whose);
    let track = PcmTrack { number: 1, name: "V".into(), rate_hz: 8000, label: PcmLabel::Pcm };
    let begin = Begin {
        number: FragmentNumber::new(1, 2, 3),
        producer_ms: 1000,
        flags: Flags::default(),
        contact: "c".into(),
        header: pcm_header("t", &[track], &[]).into(),
    };
    let bodies = (0..4).map(|i| (Kind::Media, media(i)));
    let last = std::iter::once((Kind::End, Vec::new()));
    for (kind, mut body) in std::iter::once((Kind::Begin, begin.encode())).chain(bodies).chain(last) {
        lane.seal(&kind.aad(), &mut body);
        record(&mut segment, kind, 0, &body);
    }
    segment
}

/// The same records with right checksums, whatever was done to them; borders are those of the genuine ones.
fn framed(changed: &[u8], genuine: &[u8]) -> Vec<u8> {
    let mut out = changed[..SEGMENT_HEAD_BYTES.min(changed.len())].to_vec();
    for one in Records::new(genuine) {
        let Some(body) = changed.get(one.body.clone()) else { break };
        let lane = u64::from(changed[one.body.start - 1]);
        record(&mut out, one.kind, lane, body);
    }
    out
}

fn read(segment: &[u8]) -> Vec<Found> {
    let mut lanes = Lanes::default();
    lanes.add(0, segment, &key());
    let body = |_: usize, range: &Range<usize>| segment.get(range.clone()).map(<[u8]>::to_vec);
    lanes.done().iter().filter_map(|left| left.read(&key(), body)).collect()
}

/// The input is bytes of a file; content; and changes to a genuine file: a length, then places and what to change there.
pub(crate) fn run(input: &[u8]) {
    assert!(read(input).is_empty(), "nobody guesses an authentication tag");
    let _ = (Whose::decode(input), Begin::decode(input));
    if let Some(begin) = Begin::decode(input) {
        let media = Bytes::copy_from_slice(input);
        let _ = Ingest::salvage(&Rules::default(), &begin.header, begin.contact, &[media]);
    }
    let genuine = genuine();
    let mut changed = genuine.clone();
    let (pairs, _) = input.as_chunks::<3>();
    for (i, [high, low, change]) in pairs.iter().enumerate() {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % genuine.len();
        match i {
            0 if change & 1 == 1 => changed.truncate(at),
            _ => changed.get_mut(at).into_iter().for_each(|byte| *byte ^= change),
        }
    }
    for segment in [framed(&changed, &genuine), changed] {
        for found in read(&segment) {
            let whole: Vec<Vec<u8>> = (0..4).map(media).collect();
            assert!(
                found.media.len() <= 4 && found.media == whole[..found.media.len()],
                "only what was written"
            );
            assert!(!found.ended || found.media.len() == 4, "an end comes last");
            let sealed =
                Ingest::salvage(&Rules::default(), &found.begin.header, found.begin.contact, &found.media);
            let blocks = sealed.expect("it is a document").map_or(0, |sealed| sealed.duration_ms);
            assert_eq!(
                blocks as usize,
                if found.media.is_empty() { 0 } else { (found.media.len() - 1) * 64 + 4 }
            );
        }
    }
}
