//! The slot-switch page's numbers, checked from outside: what a receiver would see.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_base::{AudioCodec, Codec, ParticipantKey, VideoCodec};

use super::*;
use crate::rtp::frame::{Assembler, Limits};
use crate::rtp::testing::{OPUS, Random, VP8, packet, shared, vp8_payload};

const START: Start = Start { seq: 65_000, rtp_time: u32::MAX - 5_000, picture_id: 0x7ffd, tl0: 254 };

fn from(participant: u32, mut packet: Packet) -> Packet {
    packet.track.participant = ParticipantKey(participant);
    packet
}

/// Opus of `participant`, 20 ms apart, numbered from `seq` on.
fn opus(participant: u32, seq: u64, at_us: u64) -> Packet {
    let rtp_time = u64::from(participant) * 1_000_003 + seq * 960;
    from(participant, packet(OPUS, seq, rtp_time, at_us, &[0xf8, 1, 2]))
}

fn numbers(rewriter: &mut SlotRewriter, p: &Packet) -> Option<(u64, u32)> {
    rewriter.rewrite(p).map(|r| (r.seq, r.rtp_time))
}

#[test]
fn a_slot_without_source_refuses() {
    let mut slot = SlotRewriter::new(START);
    assert_eq!(slot.rewrite(&opus(1, 5, 0)), None);
    assert_eq!(slot.counters().refused_source, 1);
}

#[test]
fn a_switch_goes_on_where_the_last_source_stopped() {
    let mut slot = SlotRewriter::new(START);
    slot.switch(&opus(1, 70, 0));
    assert_eq!(numbers(&mut slot, &opus(1, 70, 0)), Some((65_000, START.rtp_time)));
    assert_eq!(
        numbers(&mut slot, &opus(1, 72, 40_000)),
        Some((65_002, START.rtp_time + 1920)),
        "a gap stays"
    );
    slot.switch(&opus(2, 9_000_000, 100_000));
    let (seq, time) = numbers(&mut slot, &opus(2, 9_000_000, 100_000)).unwrap();
    assert_eq!((seq, time), (65_003, (START.rtp_time + 1920).wrapping_add(48 * 60)));
    assert_eq!(numbers(&mut slot, &opus(1, 71, 101_000)), None, "late for the old source");
    assert_eq!(numbers(&mut slot, &opus(2, 8_999_999, 102_000)), None, "older than the switch");
    assert_eq!(slot.counters().refused_source, 2);
    // At once to a third: at least one frame of 20 ms.
    slot.switch(&opus(3, 0, 100_000));
    let third = numbers(&mut slot, &opus(3, 0, 100_000)).unwrap();
    assert_eq!(third, (65_004, time.wrapping_add(960)));
    // Back to the first after an hour of nothing: the outgoing numbers go on.
    slot.switch(&opus(1, 75, 3_600_100_000));
    let back = numbers(&mut slot, &opus(1, 75, 3_600_100_000)).unwrap();
    assert_eq!(back, (65_005, third.1.wrapping_add(48_000 * 3600)));
}

#[test]
fn a_gap_left_is_seen_after_the_switch() {
    let mut slot = SlotRewriter::new(START);
    slot.switch(&opus(1, 70, 0));
    slot.rewrite(&opus(1, 70, 0));
    slot.leave_gap();
    slot.clear();
    assert_eq!(slot.rewrite(&opus(1, 71, 20_000)), None);
    slot.switch(&opus(2, 5, 40_000));
    assert_eq!(numbers(&mut slot, &opus(2, 5, 40_000)), Some((65_002, START.rtp_time + 1920)));
}

#[test]
fn another_clock_rate_keeps_its_own_ticks() {
    let pcmu = |seq: u64, at_us| packet(Codec::Audio(AudioCodec::Pcmu), seq, seq * 160, at_us, &[0; 160]);
    let mut slot = SlotRewriter::new(Start::default());
    slot.switch(&opus(2, 0, 0));
    assert_eq!(numbers(&mut slot, &opus(2, 0, 0)), Some((0, 0)));
    slot.switch(&pcmu(10, 100_000));
    assert_eq!(numbers(&mut slot, &pcmu(10, 100_000)), Some((1, 800)), "100 ms at 8 kHz");
    assert_eq!(numbers(&mut slot, &pcmu(11, 120_000)), Some((2, 960)));
    slot.switch(&opus(2, 8, 160_000));
    assert_eq!(numbers(&mut slot, &opus(2, 8, 160_000)), Some((3, 960 + 1920)));
}

#[test]
fn random_switching_is_continuous() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut slot = SlotRewriter::new(START);
        let mut seen = BTreeMap::new(); // outgoing sequence number -> participant and its own
        let mut next = [0u64; 3].map(|_| random.below(1 << 40));
        let mut now_us = 0;
        let mut last_time = None::<u32>;
        for _ in 0..12 {
            let who = random.index(3);
            now_us += random.below(300_000);
            let participant = u32::try_from(who).unwrap() + 1;
            let first = opus(participant, next[who], now_us);
            slot.switch(&first);
            let newest = seen.keys().next_back().map_or(64_999, |s| *s);
            let mut base = None;
            // In groups of eight, shuffled, with losses and duplicates; the first of all comes first.
            for group in 0..4u64 {
                let mut order: Vec<u64> = (0..8).map(|i| next[who] + group * 8 + i).collect();
                for i in 1..order.len() {
                    let j = if group == 0 { 1 + random.index(i) } else { random.index(i + 1) };
                    order.swap(i, j.min(i));
                }
                for seq in order {
                    let p = opus(participant, seq, now_us + (seq - next[who]) * 20_000);
                    if seq != first.seq && random.below(10) == 0 {
                        continue;
                    }
                    let Some(out) = slot.rewrite(&p) else { panic!("seed {seed}: refused {seq}") };
                    assert_eq!(slot.rewrite(&p), Some(out), "the same again, seed {seed}");
                    let base = *base.get_or_insert(out);
                    assert_eq!(out.seq - base.seq, seq - first.seq, "seed {seed}");
                    let ticks = u32::try_from((seq - first.seq) * 960).unwrap();
                    assert_eq!(out.rtp_time.wrapping_sub(base.rtp_time), ticks);
                    assert_eq!(seen.insert(out.seq, (participant, seq)), None, "given twice, seed {seed}");
                }
            }
            let base = base.unwrap();
            assert_eq!(base.seq, newest + 1, "seed {seed}");
            if let Some(last) = last_time {
                let step = base.rtp_time.wrapping_sub(last).cast_signed();
                assert!(step >= 960, "seed {seed}: {step}");
            }
            let newest_sent = *seen.keys().next_back().unwrap();
            last_time =
                Some(base.rtp_time.wrapping_add(u32::try_from(newest_sent - base.seq).unwrap() * 960));
            next[who] += 32 + random.below(100);
            now_us += 32 * 20_000;
        }
    }
}

/// L1T3 as libvpx sends it: temporal ids 0 2 1 2, the first of a layer after a base frame being a sync frame.
fn l1t3(participant: u32, n: u64, at_us: u64) -> Packet {
    let (tid, sync) = [(0, false), (2, true), (1, true), (2, false)][usize::try_from(n % 4).unwrap()];
    let tl0 = u8::try_from((n / 4 + 77) & 0xff).unwrap();
    let id = u16::try_from((n + 500) & 0x7fff).unwrap();
    let payload = vp8_payload(id, tl0, tid, sync, n == 0);
    let mut p = from(participant, packet(VP8, 40_000 + n, 7_000_000 + n * 3000, at_us, &payload));
    p.marker = true;
    p
}

/// The packet as the subscriber receives it.
fn received(p: &Packet, out: Rewritten) -> Packet {
    let mut payload = p.payload.to_vec();
    out.picture.apply(&p.descriptor, &mut payload);
    let mut copy = packet(p.codec, out.seq, u64::from(out.rtp_time), 0, &payload);
    copy.marker = p.marker;
    copy.arrival_us = p.arrival_us;
    copy
}

fn vp8_numbers(p: &Packet) -> (u16, u8) {
    match p.descriptor {
        Descriptor::Vp8(d) => (d.picture_id.unwrap().value, d.tl0_pic_idx.unwrap().value),
        _ => panic!("no VP8"),
    }
}

#[test]
fn left_out_layers_leave_no_gap() {
    for highest in 0..=2 {
        let mut slot = SlotRewriter::new(START);
        let mut receiver = Assembler::new(VideoCodec::Vp8, Limits::default());
        let mut expected = (u64::from(START.seq), START.picture_id, START.tl0);
        let (mut frames, mut kept) = (0, 0);
        for participant in 1..4u64 {
            for n in 0..80 {
                let p = l1t3(participant.try_into().unwrap(), n, participant * 3_000_000 + n * 33_333);
                if n == 0 {
                    slot.switch(&p);
                }
                if p.descriptor.temporal_id().unwrap() > highest {
                    assert_eq!(slot.drop(&p), None, "nothing stays open");
                    continue;
                }
                let out = received(&p, slot.rewrite(&p).unwrap());
                let (id, tl0) = vp8_numbers(&out);
                if p.descriptor.temporal_id() == Some(0) && kept > 0 {
                    expected.2 = expected.2.wrapping_add(1);
                }
                assert_eq!((out.seq, id, tl0), expected, "{participant} {n}");
                expected = (expected.0 + 1, (expected.1 + 1) & 0x7fff, expected.2);
                kept += 1;
                receiver.push(&shared(out));
                while let Some(frame) = receiver.poll() {
                    assert!(!frame.gap);
                    frames += 1;
                }
            }
        }
        assert_eq!(frames, kept);
        assert_eq!(slot.counters().resyncs, 0);
        assert_eq!(slot.counters().dropped + kept, 240);
    }
}

#[test]
fn spatial_layers_left_out_keep_their_picture_number() {
    // Two spatial layers per picture, of which the upper is left out; TL0PICIDX counts pictures.
    let vp9 = |n: u64, sid: u8| {
        let [high, low] = u16::try_from(n + 300).unwrap().to_be_bytes();
        let first = if n == 0 { 0xa8 } else { 0xe8 };
        let payload = [first, 0x80 | high, low, sid << 1, u8::try_from(n & 0xff).unwrap(), 1];
        packet(Codec::Video(VideoCodec::Vp9), 10 + 2 * n + u64::from(sid), n * 3000, n * 33_333, &payload)
    };
    let mut slot = SlotRewriter::new(START);
    slot.switch(&vp9(0, 0));
    for n in 0..300u64 {
        let out = slot.rewrite(&vp9(n, 0)).unwrap();
        assert_eq!(out.seq, 65_000 + n);
        let picture_id = u16::try_from((0x7ffd + n) & 0x7fff).unwrap();
        let tl0 = Some(u8::try_from((254 + n) & 0xff).unwrap());
        assert_eq!(out.picture, PicturePatch::Vp9 { picture_id, tl0 });
        assert_eq!(slot.drop(&vp9(n, 1)), None);
    }
}

#[test]
fn reordered_packets_keep_their_place_among_dropped_ones() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut slot = SlotRewriter::new(START);
        slot.switch(&l1t3(1, 0, 0));
        let mut order: Vec<u64> = (1..400).collect();
        for i in 1..order.len() {
            let j = i - random.index(i.min(6));
            order.swap(i, j);
        }
        order.insert(0, 0);
        let (mut outs, mut holes) = (BTreeMap::new(), BTreeSet::new());
        for n in order {
            let p = l1t3(1, n, n * 33_333);
            if p.descriptor.temporal_id() == Some(2) {
                holes.extend(slot.drop(&p));
            } else if let Some(out) = slot.rewrite(&p) {
                assert_eq!(outs.insert(n, out.seq), None);
            } else {
                panic!("seed {seed}: refused {n}");
            }
        }
        let seqs: Vec<u64> = outs.values().copied().collect();
        assert!(seqs.windows(2).all(|w| w[0] < w[1]), "seed {seed}: order is kept");
        assert_eq!(slot.counters().holes, holes.len() as u64);
        // Every number up to the last is a packet or a hole that was reported: NACK finds all of them.
        let all: BTreeSet<u64> = seqs.iter().copied().chain(holes.iter().copied()).collect();
        let last = *seqs.last().unwrap();
        assert_eq!(all.range(..=last).count() as u64, last - 65_000 + 1, "seed {seed}");
    }
}

#[test]
fn the_rest_of_a_picture_is_of_it_however_late_it_comes() {
    let mut slot = SlotRewriter::new(Start { seq: 1, rtp_time: 2, picture_id: 3, tl0: 4 });
    let first = l1t3(1, 0, 0);
    slot.switch(&first);
    let (_, time) = numbers(&mut slot, &first).unwrap();
    // Sent again by a publisher whose line was cut for a while.
    let rest = Packet { seq: first.seq + 1, rtp_time: first.rtp_time, ..l1t3(1, 1, 15_000_000) };
    assert_eq!(numbers(&mut slot, &rest).map(|(_, time)| time), Some(time));
    assert_eq!(slot.counters().resyncs, 0);
}

#[test]
fn a_restarted_source_is_taken_up_again() {
    let mut slot = SlotRewriter::new(START);
    slot.switch(&opus(1, 50_000, 0));
    let first = slot.rewrite(&opus(1, 50_000, 0)).unwrap();
    let mut far = opus(1, 60_000, 20_000);
    far.rtp_time = 3;
    let out = slot.rewrite(&far).unwrap();
    assert_eq!(out.seq, first.seq + 2, "one number is left out: the receiver sees a loss");
    assert_eq!(out.rtp_time, first.rtp_time.wrapping_add(960));
    // Backwards, as after a sender's restart: refused until it goes on for a while.
    let mut taken = Vec::new();
    for n in 0..20 {
        let mut p = opus(1, 10 + n, 40_000 + n * 20_000);
        p.rtp_time = 1 << 40;
        taken.extend(slot.rewrite(&p).map(|r| r.seq));
    }
    assert_eq!(taken.len(), 20 - usize::try_from(RESTART_RUN).unwrap() + 1);
    assert_eq!(taken[0], out.seq + 2);
    assert!(taken.windows(2).all(|w| w[1] == w[0] + 1));
    assert_eq!(slot.counters().resyncs, 2);
}

/// Found by the simulation's seed 8938: what was sent again of fourteen seconds, all of which came at once, stood before what was out.
#[test]
fn what_is_older_than_a_new_time_base_is_not_put_before_what_was_sent() {
    let mut slot = SlotRewriter::new(START);
    let at = |seq: u64, rtp_s: u64, at_us| from(1, packet(OPUS, seq, rtp_s * 48_000, at_us, &[0xf8, 1, 2]));
    slot.switch(&at(100, 1, 0));
    let (_, first) = numbers(&mut slot, &at(100, 1, 0)).unwrap();
    let (_, newest) = numbers(&mut slot, &at(800, 15, 200_000)).unwrap();
    assert_eq!(newest, first.wrapping_add(48 * 200), "by the time that passed");
    assert_eq!(numbers(&mut slot, &at(500, 9, 220_000)), None);
    let (_, next) = numbers(&mut slot, &at(801, 16, 240_000)).unwrap();
    assert_eq!((next, slot.counters().refused_old), (newest.wrapping_add(48_000), 1));
    assert_eq!(numbers(&mut slot, &at(800, 15, 260_000)).map(|(_, time)| time), Some(newest));
}

/// RTP time comes round after 25 hours of Opus, half of it after twelve.
#[test]
fn what_overtakes_is_sent_however_long_a_source_stands() {
    let mut slot = SlotRewriter::new(START);
    let at = |seq: u64, s: u64| from(1, packet(OPUS, seq, s * 48_000, s * 1_000_000, &[0xf8, 1, 2]));
    slot.switch(&at(0, 0));
    let mut last = numbers(&mut slot, &at(0, 0)).unwrap().1;
    for n in 1..30 * 60 {
        let minute = n * 60;
        let (_, newest) = numbers(&mut slot, &at(2 * n, minute)).unwrap();
        assert_eq!(newest, last.wrapping_add(60 * 48_000));
        let (_, late) = numbers(&mut slot, &at(2 * n - 1, minute - 1)).unwrap();
        assert_eq!(late, newest.wrapping_sub(48_000), "in minute {n}");
        last = newest;
    }
}

#[test]
fn hostile_numbers_do_no_harm() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut slot = SlotRewriter::new(START);
        let mut calls = 0;
        let wild = |random: &mut Random, near: u64| match random.below(4) {
            0 => random.next(),
            1 => u64::MAX - random.below(3),
            2 => random.below(3),
            _ => near.wrapping_add(random.below(4000)),
        };
        for n in 0..400 {
            let codec = match random.below(3) {
                0 => OPUS,
                1 => Codec::Video(VideoCodec::Vp9),
                _ => VP8,
            };
            let payload = random.bytes(8);
            let seq = wild(&mut random, n);
            let time = wild(&mut random, n * 960);
            let mut p = packet(codec, seq, time, random.below(1 << 36), &payload);
            p.track.source = antiphon_base::Source::Camera;
            match random.below(10) {
                0 => slot.switch(&p),
                1 | 2 => {
                    slot.drop(&p);
                    calls += 1;
                }
                _ => {
                    slot.rewrite(&p);
                    calls += 1;
                }
            }
        }
        let c = slot.counters();
        let refused = c.refused_source + c.refused_old + c.refused_dropped;
        assert_eq!(c.rewritten + c.dropped + refused, calls, "seed {seed}");
        // A sane source is served again, continuously.
        let first = opus(9, 1000, 1 << 37);
        slot.switch(&first);
        let base = slot.rewrite(&first).unwrap();
        for n in 1..50 {
            let out = slot.rewrite(&opus(9, 1000 + n, (1 << 37) + n * 20_000)).unwrap();
            assert_eq!(out.seq, base.seq.wrapping_add(n));
        }
    }
}
