//! Loss, reordering, time-outs; and that no delivered frame is torn or refers to one that was not delivered.

use std::collections::BTreeSet;

use antiphon_base::VideoCodec;

use super::*;
use crate::rtp::packetize;
use crate::rtp::testing::{Random, VP8, packet, shared, vp8_payload};

const H264: Codec = Codec::Video(VideoCodec::H264);

fn drain(assembler: &mut Assembler) -> Vec<Assembled> {
    std::iter::from_fn(|| assembler.poll()).collect()
}

/// H.264 access unit `n` in several packets, `ms` being its arrival; without parameter sets unless it is a key unit.
fn h264_unit(n: u64, key: bool, first_seq: u64, ms: u64) -> Vec<Arc<Packet>> {
    let mut unit: Vec<u8> = Vec::new();
    if key {
        unit.extend([0, 0, 0, 1, 0x67, 66, 0, 30, 0, 0, 0, 1, 0x68, 1]);
    }
    unit.extend([0, 0, 0, 1, if key { 0x65 } else { 0x41 }, 0x88]);
    unit.extend(std::iter::repeat_n(u8::try_from(n % 200).unwrap() + 10, 150));
    packetize::H264
        .packetize(&unit, 80)
        .unwrap()
        .iter()
        .zip(first_seq..)
        .map(|(payload, seq)| {
            let mut p = packet(H264, seq, n * 3000, ms * 1000, &payload.data);
            p.marker = payload.marker;
            shared(p)
        })
        .collect()
}

#[test]
fn reordering_within_a_frame_costs_nothing() {
    let mut assembler = Assembler::new(VideoCodec::H264, Limits::default());
    assert!(assembler.needs_keyframe());
    let mut packets = h264_unit(0, true, 65_534, 0);
    let next = packets.last().unwrap().seq + 1;
    packets.extend(h264_unit(1, false, next, 33));
    packets.swap(1, 2);
    packets.swap(3, 4);
    for p in &packets {
        assembler.push(p);
        assembler.push(p);
    }
    let frames = drain(&mut assembler);
    assert_eq!(
        frames.iter().map(|f| (f.key, f.gap, f.rtp_time)).collect::<Vec<_>>(),
        [(true, false, 0), (false, false, 3000)]
    );
    assert!(!assembler.needs_keyframe());
    let c = assembler.counters();
    assert_eq!(
        (c.used, c.dropped_duplicate, c.dropped()),
        (packets.len() as u64, packets.len() as u64, c.packets_in / 2)
    );
}

#[test]
fn a_loss_waits_then_needs_a_key_frame() {
    let mut assembler = Assembler::new(VideoCodec::H264, Limits::default());
    let (mut seq, mut delivered) = (100, Vec::new());
    for n in 0..40 {
        let key = n == 0 || n == 30;
        for (i, p) in h264_unit(n, key, seq, n * 33).iter().enumerate() {
            seq = p.seq + 1;
            if (n, i) != (5, 1) {
                assembler.push(p);
            }
        }
        delivered.extend(drain(&mut assembler).iter().map(|f| (f.rtp_time / 3000, f.gap)));
        let waited = n > 6 && (n - 6) * 33_000 > WAIT_US;
        assert_eq!(assembler.needs_keyframe(), waited && n < 30, "{n}");
    }
    let expected: Vec<(u64, bool)> = (0..5).chain(30..40).map(|n| (n, n == 30)).collect();
    assert_eq!(delivered, expected);
    let c = assembler.counters();
    assert_eq!(c.lost, 1);
    assert!(c.dropped_torn > 0 && c.dropped_undecodable > 0);
    assert_eq!(c.packets_in, c.used + c.dropped());
}

#[test]
fn a_retransmission_in_time_saves_the_frame() {
    let mut assembler = Assembler::new(VideoCodec::H264, Limits::default());
    let first = h264_unit(0, true, 0, 0);
    let second = h264_unit(1, false, first.len() as u64, 33);
    let third = h264_unit(2, false, (first.len() + second.len()) as u64, 300);
    for p in first.iter().chain(&second[1..]).chain(&third) {
        assembler.push(p);
    }
    assert_eq!(drain(&mut assembler).len(), 1);
    assembler.push(&second[0]);
    let frames = drain(&mut assembler);
    assert_eq!(frames.len(), 2);
    assert!(frames.iter().all(|f| !f.gap));
}

#[test]
fn parameter_sets_sent_once_go_before_each_key_picture() {
    let mut assembler = Assembler::new(VideoCodec::H264, Limits::default());
    let idr = |seq, unit: &[u8]| {
        let mut p = packet(H264, seq, seq * 3000, seq * 33_000, unit);
        p.marker = true;
        shared(p)
    };
    assembler.push(&idr(0, &[0x65, 0x80]));
    assert_eq!(assembler.poll(), None, "no decoder can start without them");
    assert!(assembler.needs_keyframe());
    assembler.push(&idr(1, &[0x78, 0, 2, 0x67, 9, 0, 2, 0x68, 7, 0, 2, 0x65, 0x81]));
    assembler.push(&idr(2, &[0x65, 0x82]));
    let frames = drain(&mut assembler);
    assert_eq!(*frames[0].data, [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 7, 0, 0, 0, 1, 0x65, 0x81]);
    assert_eq!(*frames[1].data, [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 7, 0, 0, 0, 1, 0x65, 0x82]);
}

/// L1T3 VP8 frame `n` in three packets. Temporal ids 0 2 1 2: the second and third refer to the first, the fourth
/// to the third, the first to the first of the four before.
fn l1t3(n: u64, key: bool, at_us: u64) -> Vec<Arc<Packet>> {
    let (tid, sync) = [(0, false), (2, true), (1, true), (2, false)][usize::try_from(n % 4).unwrap()];
    let tl0 = u8::try_from((n / 4) & 0xff).unwrap();
    let id = u16::try_from(n & 0x7fff).unwrap();
    (0..3)
        .map(|i| {
            let mut payload = vp8_payload(id, tl0, tid, sync, key);
            if i > 0 {
                payload[0] = 0x80;
            }
            payload.extend([n.to_be_bytes()[7], n.to_be_bytes()[6], i]);
            let mut p = packet(VP8, 1000 + n * 3 + u64::from(i), n * 3000, at_us + u64::from(i), &payload);
            p.marker = i == 2;
            shared(p)
        })
        .collect()
}

fn reference(n: u64) -> Option<u64> {
    match n % 4 {
        0 => n.checked_sub(4),
        1 => Some(n - 1),
        2 => Some(n - 2),
        _ => Some(n - 1),
    }
}

/// What the encoder gave for frame `n`.
fn l1t3_data(n: u64, key: bool) -> Vec<u8> {
    l1t3(n, key, 0).iter().flat_map(|p| p.payload[6..].to_vec()).collect()
}

#[test]
fn an_upper_layer_lost_does_not_stop_the_others() {
    let mut assembler = Assembler::new(VideoCodec::Vp8, Limits { packets: 256, wait_us: 50_000 });
    let mut delivered = Vec::new();
    for n in 0..24 {
        let packets = l1t3(n, n == 0, n * 33_333);
        for p in packets.iter().skip(usize::from(n == 6)) {
            assembler.push(p);
        }
        delivered.extend(drain(&mut assembler).iter().map(|f| f.rtp_time / 3000));
        assert!(!assembler.needs_keyframe(), "{n}");
    }
    // 6 is the lost one, and 7 refers to it. 11 would be decodable, but only a sync frame says so for sure.
    let expected: Vec<u64> = (0..24).filter(|n| ![6, 7, 11].contains(n)).collect();
    assert_eq!(delivered, expected);
}

#[test]
fn nothing_torn_and_nothing_without_its_reference() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut assembler = Assembler::new(VideoCodec::Vp8, Limits { packets: 128, wait_us: 120_000 });
        let loss = 2 + random.below(60);
        let (mut keys, mut delivered) = (BTreeSet::new(), BTreeSet::new());
        let mut late: Vec<(u64, Arc<Packet>)> = Vec::new();
        for n in 0..300u64 {
            // The sender answers a request for a key frame at its next base frame.
            let key = n % 4 == 0 && assembler.needs_keyframe();
            if key {
                keys.insert(n);
            }
            for p in l1t3(n, key, n * 33_333) {
                match random.below(100) {
                    x if x < loss / 2 => {}
                    x if x < loss => late.push((n + random.below(6), p)),
                    _ => assembler.push(&p),
                }
            }
            late.retain(|(due, p)| {
                if *due <= n {
                    assembler.push(p);
                }
                *due > n
            });
            for frame in drain(&mut assembler) {
                let n = frame.rtp_time / 3000;
                assert_eq!(*frame.data, *l1t3_data(n, keys.contains(&n)), "torn, seed {seed}");
                assert_eq!(frame.key, keys.contains(&n));
                let whole = frame.key || reference(n).is_some_and(|r| delivered.contains(&r));
                assert!(whole, "frame {n} without its reference, seed {seed}");
                assert!(delivered.iter().next_back().is_none_or(|last| *last < n), "in order, seed {seed}");
                let skipped = delivered.iter().next_back().is_some_and(|last| last + 1 != n);
                assert!(frame.gap || !skipped, "frame {n} hides a gap, seed {seed}");
                delivered.insert(n);
            }
            let c = assembler.counters();
            assert_eq!(c.packets_in, c.used + c.dropped() + assembler.held() as u64);
        }
        assert!(delivered.len() > 30 || loss > 30, "seed {seed}: {} of 300 at {loss} %", delivered.len());
    }
}

#[test]
fn a_full_buffer_and_a_restarted_source_begin_anew() {
    let mut assembler = Assembler::new(VideoCodec::Vp8, Limits { packets: 32, wait_us: u64::MAX });
    for p in (1..30).flat_map(|n| l1t3(n, false, n)) {
        assembler.push(&p);
        assert!(assembler.held() <= 32);
    }
    assert!(assembler.counters().dropped_overflow > 0);
    for p in l1t3(1000, true, 5) {
        assembler.push(&p);
    }
    assert_eq!(drain(&mut assembler).len(), 1);
    let mut frames = Vec::new();
    for n in 0..40 {
        for p in l1t3(n, n % 8 == 0, n * 33_333) {
            assembler.push(&p);
        }
        frames.extend(drain(&mut assembler));
    }
    assert!(frames.len() > 8 && frames[0].gap && frames[0].key, "{}", frames.len());
}
