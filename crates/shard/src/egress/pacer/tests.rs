//! The pacer by itself, in virtual time.

use std::sync::Arc;

use antiphon_base::{Codec, VideoCodec};
use antiphon_room::Feed;
use antiphon_wire::rtp::Packet;
use antiphon_wire::rtp::rewrite::{PicturePatch, Rewritten};

use super::*;
use crate::testing::packet;

const MS: u64 = 1_000;
const SLOT: SlotId = SlotId(1);
const OTHER: SlotId = SlotId(2);

/// A VP8 packet of 1,000 bytes with what the pacer adds; `key`: the first of a key frame.
fn outgoing(seq: u64, key: bool, switched: bool) -> Outgoing {
    let mut payload = vec![0x10, u8::from(!key), 0, 0, 0x9d, 0x01, 0x2a, 64, 0, 48, 0];
    payload.resize(1_000 - OVERHEAD_BYTES, 0);
    let packet = Packet { seq, rtp_time: seq, ..packet(Codec::Video(VideoCodec::Vp8), &payload) };
    let rewritten = Rewritten { seq, rtp_time: 0, picture: PicturePatch::None, dependency: None };
    let switched = switched.then_some(Feed { track: packet.track, layer: 0 });
    Outgoing { packet: Arc::new(packet), rewritten, switched, marker: true }
}

/// 800 kbit/s: a packet each 10 ms, and four at once.
fn pace(full: bool) -> Option<Pace> {
    Some(Pace { bps: 800_000.0, full })
}

fn drain(pacer: &mut Pacer, now_us: u64, full: bool) -> Vec<(SlotId, u64)> {
    pacer.refill(now_us, pace(full));
    let mut sent = Vec::new();
    while let Some((slot, outgoing)) = pacer.pop(now_us) {
        pacer.spend(size(&outgoing));
        sent.push((slot, outgoing.rewritten.seq));
    }
    sent
}

fn push(pacer: &mut Pacer, now_us: u64, slot: SlotId, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        pacer.push(now_us, Class::Video, slot, outgoing(seq, false, false));
    }
}

/// Woken at its deadlines until nothing waits: when how many left.
fn run(pacer: &mut Pacer, mut now_us: u64, full: bool) -> Vec<(u64, usize)> {
    let mut ticks = Vec::new();
    while let Some(at) = pacer.deadline(now_us, false) {
        assert!(at > now_us && at % TICK_US == 0);
        now_us = at;
        let sent = drain(pacer, now_us, full).len();
        if sent > 0 {
            ticks.push((now_us / MS, sent));
        }
    }
    ticks
}

#[test]
fn what_fits_leaves_at_once_and_a_key_frame_is_spread() {
    let mut pacer = Pacer::default();
    pacer.refill(1_000 * MS, pace(false));
    assert!(pacer.is_free(1_000 * MS, 4_000));
    assert!(!pacer.is_free(1_000 * MS, 4_001));
    push(&mut pacer, 1_000 * MS, SLOT, 0..10);
    assert_eq!(drain(&mut pacer, 1_000 * MS, false).len(), 4);
    let ticks = run(&mut pacer, 1_000 * MS, false);
    assert!(ticks.iter().all(|(_, sent)| *sent <= 2), "{ticks:?}");
    assert!((1_045..=1_070).contains(&ticks.last().unwrap().0), "{ticks:?}");
    assert_eq!(pacer.counters.paced, 6);
    pacer.refill(2_000 * MS, None);
    assert!(pacer.is_free(2_000 * MS, usize::MAX));
}

#[test]
fn the_screen_overtakes_cameras() {
    let mut pacer = Pacer::default();
    pacer.refill(1_000 * MS, pace(false));
    push(&mut pacer, 1_000 * MS, SLOT, 0..2);
    pacer.push(1_000 * MS, Class::Screen, OTHER, outgoing(7, false, false));
    assert_eq!(drain(&mut pacer, 1_000 * MS, false), [(OTHER, 7), (SLOT, 0), (SLOT, 1)]);
}

#[test]
fn on_a_free_path_nothing_waits_for_long() {
    let mut pacer = Pacer::default();
    pacer.refill(1_000 * MS, pace(false));
    // A second's worth.
    push(&mut pacer, 1_000 * MS, SLOT, 0..100);
    let ticks = run(&mut pacer, 1_000 * MS, false);
    assert!(ticks.last().unwrap().0 <= 1_000 + MAX_WAIT_US / MS + 5, "{ticks:?}");
    assert_eq!(pacer.counters.shed, 0);
}

#[test]
fn on_a_full_path_video_is_dropped_up_to_a_key_frame() {
    let mut pacer = Pacer::default();
    pacer.refill(1_000 * MS, pace(true));
    push(&mut pacer, 1_000 * MS, SLOT, 0..100);
    let mut sent = Vec::new();
    for ms in 1_000..1_400 {
        sent.extend(drain(&mut pacer, ms * MS, true));
        pacer.shed(ms * MS, |slot| assert_eq!(slot, SLOT));
    }
    assert!((30..=40).contains(&sent.len()), "{}", sent.len());
    assert!(pacer.is_empty());
    push(&mut pacer, 1_400 * MS, SLOT, 100..110);
    assert!(pacer.is_empty(), "it cannot be decoded");
    pacer.push(1_400 * MS, Class::Video, SLOT, outgoing(110, true, false));
    push(&mut pacer, 1_400 * MS, SLOT, 111..113);
    assert_eq!(drain(&mut pacer, 1_400 * MS, true).len(), 3);
    assert_eq!(pacer.counters.shed, 100 - sent.len() as u64 + 10);
}

/// A key frame that takes a second of the line arrives whole, and what follows it.
#[test]
fn on_a_full_path_a_key_frame_larger_than_the_patience_arrives() {
    const FRAME: u64 = 100;
    let mut pacer = Pacer::default();
    pacer.refill(1_000 * MS, pace(true));
    for seq in 0..FRAME {
        let mut one = outgoing(seq, seq == 0, false);
        Arc::make_mut(&mut one.packet).rtp_time = 7;
        pacer.push(1_000 * MS, Class::Video, SLOT, one);
    }
    let mut sent = Vec::new();
    for ms in 1_000..2_200 {
        if ms % 100 == 50 {
            push(&mut pacer, ms * MS, SLOT, ms..ms + 1);
        }
        sent.extend(drain(&mut pacer, ms * MS, true));
        pacer.shed(ms * MS, |slot| panic!("{slot:?} at {ms} ms"));
    }
    assert_eq!(sent.len() as u64, FRAME + 12, "{sent:?}");
    push(&mut pacer, 2_200 * MS, SLOT, 5_000..5_100);
    let mut dropped = 0;
    for ms in 2_200..2_600 {
        drain(&mut pacer, ms * MS, true);
        pacer.shed(ms * MS, |_| dropped = ms);
    }
    assert!((2_500..2_503).contains(&dropped), "what is no key frame waits as ever: {dropped}");
}

#[test]
fn a_slot_that_switches_leaves_the_old_source_behind() {
    let mut pacer = Pacer::default();
    pacer.refill(1_000 * MS, pace(true));
    pacer.hold(1_200 * MS);
    push(&mut pacer, 1_000 * MS, SLOT, 0..10);
    push(&mut pacer, 1_000 * MS, OTHER, 0..1);
    assert_eq!(drain(&mut pacer, 1_050 * MS, true), []);
    assert_eq!(pacer.deadline(1_050 * MS, false), Some(1_200 * MS));
    pacer.push(1_060 * MS, Class::Video, SLOT, outgoing(10, true, true));
    assert_eq!(drain(&mut pacer, 1_060 * MS, true), [(SLOT, 10)], "its key frame is not held");
    assert_eq!(drain(&mut pacer, 1_200 * MS, true), [(OTHER, 0)]);
    assert_eq!(pacer.counters.superseded, 10);
}

/// There what waits and what was lost of upper layers is needed by nobody any more, though the source is the same.
#[test]
fn a_key_frame_of_spatial_layers_leaves_behind_what_waits() {
    for (layers, left) in [(1, vec![]), (3, vec![(SLOT, 10)])] {
        let mut pacer = Pacer::default();
        pacer.refill(1_000 * MS, pace(true));
        pacer.hold(1_200 * MS);
        push(&mut pacer, 1_000 * MS, SLOT, 0..10);
        let Outgoing { packet, .. } = outgoing(10, true, false);
        let packet = Arc::new(Packet { spatial_layers: layers, ..(*packet).clone() });
        pacer.push(1_060 * MS, Class::Video, SLOT, Outgoing { packet, ..outgoing(10, true, false) });
        assert_eq!(drain(&mut pacer, 1_060 * MS, true), left, "{layers}");
    }
}
