//! Every rule with the bytes that break it; the same document cut anywhere; anything at all.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block, tags};

const T0: u64 = 1_700_000_000_000;

fn header(tracks: u64) -> Vec<u8> {
    let tracks: Vec<_> = (1..=tracks)
        .map(|number| PcmTrack { number, name: format!("T{number}"), rate_hz: 8000, label: PcmLabel::Pcm })
        .collect();
    pcm_header("t", &tracks, &[("ContactId", "c-1")])
}

/// `blocks` of 64 ms on track 1.
fn cluster(timecode: u64, blocks: i16) -> Vec<u8> {
    let blocks = (0..blocks).flat_map(|i| simple_block(1, i * 64, &[1; 1024]));
    cluster_start(timecode).into_iter().chain(blocks).collect()
}

fn known(cluster: &[u8]) -> Vec<u8> {
    let mut w = write::Writer::new();
    w.binary(crate::matroska::id::CLUSTER, &cluster[12..]);
    w.into_bytes()
}

fn run(rules: &Rules, timecodes: Timecodes, pieces: &[&[u8]]) -> Result<Vec<Event>, Fault> {
    let mut ingest = Ingest::new(rules.clone(), timecodes);
    let mut events = Vec::new();
    for (now, piece) in (T0..).zip(pieces) {
        let result = ingest.push(piece, now);
        events.extend(std::iter::from_fn(|| ingest.poll()));
        result?;
    }
    ingest.finish()?;
    events.extend(std::iter::from_fn(|| ingest.poll()));
    Ok(events)
}

fn all(document: &[u8]) -> Result<Vec<Event>, Fault> {
    run(&Rules::default(), Timecodes::Absolute, &[document])
}

fn sealed(events: &[Event]) -> Vec<&Sealed> {
    events.iter().filter_map(|e| if let Event::Sealed(s) = e { Some(s) } else { None }).collect()
}

fn opened(events: &[Event]) -> Vec<&Opening> {
    events.iter().filter_map(|e| if let Event::Opened(o) = e { Some(o) } else { None }).collect()
}

fn live(events: &[Event]) -> Vec<u8> {
    events.iter().flat_map(|e| if let Event::Live(b) = e { b.to_vec() } else { Vec::new() }).collect()
}

#[test]
fn fragments_are_clusters_with_what_follows_them() {
    let (a, b) = (cluster(T0, 16), [known(&cluster(T0 + 1024, 15)), tags(&[("ContactId", "c-2")])].concat());
    let document = [&header(1)[..], &a, &b].concat();
    let events = all(&document).unwrap();
    let sealed = sealed(&events);
    assert_eq!(sealed[0].media.concat(), a);
    assert_eq!(sealed[1].media.concat(), b);
    assert_eq!((sealed[0].duration_ms, sealed[1].duration_ms), (1024, 960));
    assert_eq!((sealed[0].contact.as_str(), sealed[1].contact.as_str()), ("c-1", "c-2"));
    assert!(!sealed[0].salvaged && !sealed[1].salvaged);
    let opened = opened(&events);
    assert_eq!(opened[1].producer_ms, T0 + 1024);
    assert_eq!(opened[0].header.bytes, header(1));
    // Live, a cluster of known size becomes one of unknown size; all else is as sent.
    let unknown = [cluster(T0 + 1024, 15), tags(&[("ContactId", "c-2")])].concat();
    assert_eq!(live(&events), [a, unknown].concat());
}

#[test]
fn relative_timecodes_count_from_the_start() {
    let document = [header(1), cluster(500, 1)].concat();
    let events = run(&Rules::default(), Timecodes::Relative { start_ms: T0 }, &[&document]).unwrap();
    let opening = opened(&events)[0];
    assert_eq!((opening.timecode_ms, opening.producer_ms), (500, T0 + 500));
}

#[test]
fn wherever_it_is_cut_it_is_the_same() {
    let document = [header(1), cluster(T0, 2), known(&cluster(T0 + 128, 2)), cluster(T0 + 256, 1)].concat();
    let whole = all(&document).unwrap();
    for cut in 0..document.len() {
        let (a, b) = document.split_at(cut);
        let events = run(&Rules::default(), Timecodes::Absolute, &[a, b]).unwrap();
        assert_eq!(live(&events), live(&whole), "cut at {cut}");
        assert_eq!(sealed(&events), sealed(&whole), "cut at {cut}");
    }
}

#[test]
fn the_server_time_is_that_of_the_first_byte() {
    let (a, b) = (header(1), cluster(T0, 1));
    let document = [a.clone(), b].concat();
    let single: Vec<&[u8]> = document.chunks(1).collect();
    let events = run(&Rules::default(), Timecodes::Absolute, &single).unwrap();
    assert_eq!(opened(&events)[0].server_ms, T0 + a.len() as u64);
}

#[test]
fn durations_come_from_what_is_known() {
    // No rate in the header: the distance to the block before counts, over the fragment's border too.
    let track = PcmTrack { number: 1, name: "a".into(), rate_hz: 8000, label: PcmLabel::ConnectStrict };
    let document = [
        pcm_header("t", &[track], &[]),
        cluster(T0, 16),
        cluster(T0 + 1024, 1),
        // Blocks out of order.
        [cluster_start(T0 + 1088), simple_block(1, 64, &[0; 10]), simple_block(1, 0, &[0; 10])].concat(),
    ]
    .concat();
    let events = all(&document).unwrap();
    let durations: Vec<_> = sealed(&events).iter().map(|s| s.duration_ms).collect();
    assert_eq!(durations[..2], [1024, 64]);
    assert!((64..=128).contains(&durations[2]), "{durations:?}");
}

#[test]
fn a_vanished_producer_leaves_what_was_complete() {
    for original in [cluster(T0, 4), known(&cluster(T0, 4))] {
        let document = [header(1), original].concat();
        let events = all(&document[..document.len() - 100]).unwrap();
        let sealed = sealed(&events)[0];
        assert!(sealed.salvaged);
        assert_eq!(sealed.media.concat(), cluster(T0, 3));
        assert_eq!(sealed.duration_ms, 192);
        assert_eq!(live(&events), cluster(T0, 3));
    }
    assert_eq!(all(&header(1)).unwrap(), []);
    assert_eq!(all(&header(1)[..20]).unwrap(), []);
}

#[test]
fn a_flush_seals_without_waiting() {
    let mut ingest = Ingest::new(Rules::default(), Timecodes::Absolute);
    ingest.push(&[header(1), cluster(T0, 1)].concat(), T0).unwrap();
    assert!(ingest.is_open());
    ingest.flush().unwrap();
    assert!(matches!(std::iter::from_fn(|| ingest.poll()).last(), Some(Event::Sealed(_))));
    ingest.push(&cluster(T0 + 64, 1), T0).unwrap();
    ingest.push(&simple_block(1, 64, &[0; 10])[..5], T0).unwrap();
    assert_eq!(ingest.flush().unwrap_err().kind, FaultKind::InvalidMkv);
}

#[test]
fn every_rule_has_its_fault() {
    let check = |rules: Rules, document: &[Vec<u8>], kind: FaultKind| {
        let fault = run(&rules, Timecodes::Absolute, &[&document.concat()]).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        fault.timecode_ms
    };
    let d = Rules::default;
    check(d(), &[b"hello, this is not Matroska".to_vec()], FaultKind::InvalidMkv);
    check(d(), &[header(4), cluster(T0, 1)], FaultKind::TrackCount);
    check(d(), &[header(65), cluster(T0, 1)], FaultKind::TrackCount);
    let two = simple_block(2, 0, &[0; 10]);
    let at = check(d(), &[header(1), cluster_start(T0), two.clone()], FaultKind::TrackNumber);
    assert_eq!(at, Some(T0), "the fault names its fragment");
    check(Rules { every_track: true, ..d() }, &[header(2), cluster(T0, 2)], FaultKind::FramesMissing);
    check(d(), &[header(1), cluster(T0, 1), cluster(T0 - 1, 1)], FaultKind::TimecodeBackwards);
    check(Rules { fragment_bytes: 3000, ..d() }, &[header(1), cluster(T0, 3)], FaultKind::FragmentSize);
    check(Rules { fragment_ms: 100, ..d() }, &[header(1), cluster(T0, 3)], FaultKind::FragmentDuration);
    check(d(), &[header(1), cluster(MAX_PRODUCER_MS + 1, 1)], FaultKind::ProducerTimestamp);
    check(d(), &[header(1), cluster(u64::MAX, 1)], FaultKind::ProducerTimestamp);
    check(d(), &[header(1), write::live_cluster_head(), simple_block(1, 0, &[0])], FaultKind::InvalidMkv);
    check(d(), &[header(1), cluster_start(T0), cluster_start(T0)[12..].to_vec()], FaultKind::InvalidMkv);
    let ours = tags(&[("AWS_KINESISVIDEO_FRAGMENT_NUMBER", "1")]);
    check(d(), &[header(1), cluster(T0, 1), ours], FaultKind::MetadataLimit);
    check(
        Rules { tags: 1, ..d() },
        &[header(1), cluster(T0, 1), tags(&[("a", "b")])],
        FaultKind::MetadataLimit,
    );
    check(d(), &[header(1), cluster(T0, 1), tags(&[("a", &"b".repeat(1025))])], FaultKind::MetadataLimit);
    check(d(), &[header(1), cluster(T0, 1), header(1)], FaultKind::InvalidMkv);
}

#[test]
fn codes_and_ids_are_those_of_the_protocol() {
    for (kind, id, code) in [
        (FaultKind::InvalidMkv, 4006, "INVALID_MKV_DATA"),
        (FaultKind::Key(crate::key::KeyError::Validation), 4502, "KMS_KEY_VALIDATION_ERROR"),
        (FaultKind::Archival, 5001, "ARCHIVAL_ERROR"),
    ] {
        assert_eq!((kind.id(), kind.code()), (id, code));
    }
}

/// Live bytes never stop inside an element, what is sealed was announced, all is bounded.
#[test]
fn anything_at_all_is_taken_calmly() {
    let rules = Rules { fragment_bytes: 8 << 10, header_bytes: 2 << 10, ..Rules::default() };
    let base = [header(2), cluster(T0, 3), known(&cluster(T0 + 192, 2)), tags(&[("a", "b")])].concat();
    for seed in 0..3000u64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut document = base.clone();
        for _ in 0..rng.random_range(1..5) {
            let at = rng.random_range(0..document.len());
            match rng.random_range(0..4) {
                0 => document[at] = rng.random(),
                1 => document.truncate(at.max(1)),
                2 => document.insert(at, rng.random()),
                _ => document.extend_from_within(at..),
            }
        }
        let pieces: Vec<&[u8]> = document.chunks(rng.random_range(1..2000)).collect();
        if let Ok(events) = run(&rules, Timecodes::Absolute, &pieces) {
            assert_eq!(opened(&events).len(), sealed(&events).len(), "seed {seed}");
            assert!(sealed(&events).iter().all(|s| s.media.concat().len() <= rules.fragment_bytes + 8));
        }
    }
}
