//! A journal that is changed, cut, or put together of others: what comes out is the beginning of what went in, or nothing.

use super::format::{Run, segment_head};
use super::read::Lanes;
use super::*;
use crate::key::Secret;
use crate::layout::Flags;
use crate::number::FragmentNumber;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

fn account() -> DataKey {
    DataKey::new(&Secret([1; 32]), "journal")
}

fn key() -> Arc<DataKey> {
    Arc::new(DataKey::new(&Secret([2; 32]), "fragments"))
}

fn new(counter: u64) -> New {
    let begin = Begin {
        number: FragmentNumber::new(counter, 1_700_000_000_000, 1),
        producer_ms: 5,
        flags: Flags::default(),
        contact: "contact".into(),
        header: Bytes::from_static(b"header"),
    };
    New { uid: Uid([9; 16]), key_id: 3, key: key(), begin }
}

fn chunk(lane: u8, n: u8) -> Bytes {
    Bytes::from(vec![lane ^ n.wrapping_mul(31); 40])
}

/// Two lanes side by side over some segments; the second is ended.
fn written(folder: &Path) -> Vec<Vec<u8>> {
    let journal = Arc::new(Journal::new(folder.to_owned(), true, 1 << 20, account()));
    let lanes = [journal.open(new(1)).unwrap(), journal.open(new(2)).unwrap()];
    for n in 0..12 {
        for (i, lane) in (0..).zip(&lanes) {
            lane.push(chunk(i, n));
        }
        journal.sync(u64::from(n) * 200);
    }
    let [first, second] = lanes;
    drop(second);
    first.push(chunk(0, 12));
    journal.sync(12 * 200);
    let files = segments::left_over(folder, &Run([0; 32])).unwrap();
    std::mem::forget(first);
    files.iter().map(|(path, _)| std::fs::read(path).unwrap()).collect()
}

fn read(files: &[Vec<u8>]) -> Vec<Option<Found>> {
    let mut lanes = Lanes::default();
    for (i, file) in files.iter().enumerate() {
        lanes.add(i, file, &account());
    }
    let body =
        |file: usize, range: &std::ops::Range<usize>| files[file].get(range.clone()).map(<[u8]>::to_vec);
    lanes.done().iter().map(|left| left.read(&key(), body)).collect()
}

fn assert_prefix(found: &Found, what: &str) {
    let lane = u8::from(found.begin.number.counter() == 2);
    let expected: Vec<_> = (0..13).map(|n| chunk(lane, n)).collect();
    assert_eq!(found.media, expected[..found.media.len()], "{what}");
    assert!(!found.ended || lane == 1, "{what}");
}

#[test]
fn lanes_come_back_over_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = written(folder.path());
    assert!(files.len() >= 3, "{}", files.len());
    let found = read(&files);
    let [Some(first), Some(second)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((first.begin.clone(), first.media.len(), first.ended), (new(1).begin, 13, false));
    assert_eq!((second.begin.clone(), second.media.len(), second.ended), (new(2).begin, 12, true));
    found.iter().flatten().for_each(|found| assert_prefix(found, "whole"));
    for secret in [&b"contact"[..], b"header", &[9; 16], &chunk(0, 3)[..8]] {
        assert!(!files.iter().any(|file| file.windows(secret.len()).any(|w| w == secret)));
    }
}

#[test]
fn a_cut_or_a_changed_byte_costs_the_rest_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let files = written(folder.path());
    let mut rng = SmallRng::seed_from_u64(5);
    for round in 0..3_000 {
        let mut files = files.clone();
        let which = rng.random_range(0..files.len());
        let at = rng.random_range(0..files[which].len());
        match round % 5 {
            0 => files[which].truncate(at),
            1 => files[which][at] ^= 1 << (round % 8),
            2 => drop(files.remove(which)),
            3 => files.swap(which, 0),
            _ => {
                // Records of one file behind those of another of the same run.
                let other = files[rng.random_range(0..files.len())].clone();
                files[which].extend_from_slice(&other[super::format::SEGMENT_HEAD_BYTES..]);
            }
        }
        read(&files).iter().flatten().for_each(|found| assert_prefix(found, &format!("round {round}")));
    }
}

#[test]
fn another_key_reads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = written(folder.path());
    let mut lanes = Lanes::default();
    lanes.add(0, &files[0], &DataKey::new(&Secret([8; 32]), "journal"));
    assert!(lanes.done().is_empty());
    let mut lanes = Lanes::default();
    lanes.add(0, &files[0], &account());
    let other = DataKey::new(&Secret([8; 32]), "fragments");
    let left = lanes.done();
    assert!(
        left.len() == 2 && left[0].read(&other, |_, range| Some(files[0][range.clone()].to_vec())).is_none()
    );
}

#[test]
fn what_ends_before_a_sync_never_meets_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::new(folder.path().to_owned(), true, 1 << 20, account()));
    let lane = journal.open(new(1)).unwrap();
    lane.push(chunk(0, 0));
    drop(lane);
    journal.sync(0);
    assert!(segments::left_over(folder.path(), &Run([0; 32])).unwrap().is_empty());
    assert_eq!(journal.shared().bytes, 0);
}

#[test]
fn a_fragment_that_is_too_large_is_kept_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::new(folder.path().to_owned(), true, 1 << 30, account()));
    let lane = journal.open(new(1)).unwrap();
    let part = Bytes::from(vec![7; 1 << 20]);
    (0..20).for_each(|_| lane.push(part.clone()));
    journal.sync(0);
    let mut stats = Stats::default();
    journal.tell(&mut stats);
    assert_eq!((stats.journal_given_up, stats.journal_fragments), (1, 1));
    assert!((MAX_FRAGMENT_BYTES as u64..MAX_FRAGMENT_BYTES as u64 + 4096).contains(&stats.journal_bytes));
    // As many again, each below its own bound.
    let more: Vec<_> = (0..9).map(|n| journal.open(new(n)).unwrap()).collect();
    more.iter().for_each(|lane| (0..8).for_each(|_| lane.push(part.clone())));
    journal.tell(&mut stats);
    assert_eq!(stats.journal_given_up, 2, "the last does not fit into what may wait");
}

#[test]
fn earlier_runs_have_no_more_room_than_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let name =
        |n: u8| folder.path().join(format!("{}.00000000.journal", "ab".repeat(31) + &format!("{n:02x}")));
    for n in 0..10 {
        let head = segment_head(&Run([n; 32]));
        std::fs::write(name(n), [head, vec![0; 1000]].concat()).unwrap();
    }
    std::fs::write(folder.path().join("somebody's"), "not ours").unwrap();
    let journal = Journal::new(folder.path().to_owned(), true, 5_500, account());
    assert!(journal.scan().unwrap().lanes.is_empty());
    assert_eq!(segments::left_over(folder.path(), &Run([0; 32])).unwrap().len(), 5);
}
