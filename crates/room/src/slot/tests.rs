//! The gate with real VP8 payload headers, over reorder and loss.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::{AudioCodec, Codec, MediaKind, ParticipantKey, Source, TrackKey, VideoCodec};
use antiphon_wire::rtp::rewrite::Start;
use antiphon_wire::rtp::{Descriptor, Packet};

mod chromium;
mod layers;

use super::{HOLD, MAX_HELD, Outgoing, Slot};
use crate::output::Feed;
use crate::testing::{Random, base};

fn feed(participant: u32, layer: u8) -> Feed {
    let participant = ParticipantKey(participant);
    Feed { track: TrackKey { participant, source: Source::Camera }, layer }
}

/// Packet `part` of `parts` of frame `frame`; three packets in a frame unless said otherwise.
struct Sender {
    base: Instant,
    feed: Feed,
    parts: u64,
}

impl Sender {
    fn packet(&self, frame: u64, part: u64, key: bool) -> Arc<Packet> {
        let codec = Codec::Video(VideoCodec::Vp8);
        // RFC 7741: S bit in the first packet, then the frame tag, whose lowest bit is 0 in a key frame.
        let payload: Vec<u8> = match (part, key) {
            (0, true) => vec![0x10, 0, 0, 0, 0x9d, 0x01, 0x2a, 64, 0, 48, 0],
            (0, false) => vec![0x10, 1, 0, 0],
            _ => vec![0x00, 7, 7, 7],
        };
        let arrival = self.base + Duration::from_millis(frame * 33);
        Arc::new(Packet {
            track: self.feed.track,
            layer: self.feed.layer,
            codec,
            seq: 1000 + frame * self.parts + part,
            rtp_time: 90_000 + frame * 3000,
            marker: part + 1 == self.parts,
            descriptor: Descriptor::parse(codec, &payload),
            payload: payload.into(),
            arrival,
            arrival_us: 0,
            capture_us: 0,
            capture_estimated: false,
            audio_level: None,
            dependency: None,
            spatial_layers: 1,
        })
    }

    fn frame(&self, frame: u64, key: bool) -> Vec<Arc<Packet>> {
        (0..self.parts).map(|part| self.packet(frame, part, key)).collect()
    }
}

fn senders() -> (Sender, Sender) {
    let base = base();
    (Sender { base, feed: feed(1, 0), parts: 3 }, Sender { base, feed: feed(2, 0), parts: 3 })
}

fn admit(slot: &mut Slot, packets: &[Arc<Packet>]) -> Vec<Outgoing> {
    let mut out = Vec::new();
    for packet in packets {
        slot.admit(packet, &mut out);
    }
    out
}

fn video() -> Slot {
    Slot::new(MediaKind::Video, Start { seq: 65_534, rtp_time: 7, ..Start::default() })
}

/// A slot that shows the first sender.
fn showing(a: &Sender) -> Slot {
    let mut slot = video();
    slot.want(Some(a.feed));
    assert_eq!(admit(&mut slot, &a.frame(0, true)).len(), 3);
    slot
}

fn numbers(out: &[Outgoing]) -> Vec<u64> {
    out.iter().map(|o| o.rewritten.seq).collect()
}

#[test]
fn video_begins_with_a_key_frame() {
    let (a, _) = senders();
    let mut slot = video();
    assert!(!slot.want(Some(a.feed)));
    assert!(admit(&mut slot, &a.frame(0, false)).is_empty());
    assert_eq!(slot.needs_keyframe(), Some(a.feed));
    assert!(admit(&mut slot, &[a.packet(1, 1, true), a.packet(1, 2, true)]).is_empty(), "headless");
    let out = admit(&mut slot, &a.frame(2, true));
    assert_eq!(out.len(), 3);
    assert_eq!((out[0].switched, out[1].switched), (Some(a.feed), None));
    assert_eq!(out[0].rewritten.rtp_time, 7);
    assert_eq!(numbers(&out), [65_534, 65_535, 65_536]);
    assert_eq!((slot.needs_keyframe(), slot.current()), (None, Some(a.feed)));
}

#[test]
fn a_switch_waits_for_the_end_of_the_old_frame() {
    let (a, b) = senders();
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    assert_eq!(admit(&mut slot, &a.frame(1, false)).len(), 3, "the old source goes on until the key frame");
    let mut out = admit(&mut slot, &[a.packet(2, 0, false), b.packet(2, 0, true), b.packet(2, 1, true)]);
    assert_eq!(out.len(), 1, "held");
    out.extend(admit(&mut slot, &[a.packet(2, 1, false), a.packet(2, 2, false), b.packet(2, 2, true)]));
    let order: Vec<(u32, bool)> =
        out.iter().map(|o| (o.packet.track.participant.0, o.switched.is_some())).collect();
    assert_eq!(order, [(1, false), (1, false), (1, false), (2, true), (2, false), (2, false)]);
    assert!(numbers(&out).windows(2).all(|w| w[1] == w[0] + 1));
    assert!(admit(&mut slot, &a.frame(3, false)).is_empty(), "nothing of the old source passes");
    assert_eq!(slot.counters().torn, 0);
}

#[test]
fn an_old_frame_that_never_ends_is_left_with_a_hole() {
    let (a, b) = senders();
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    let mut out = admit(&mut slot, &[a.packet(1, 0, false)]);
    out.extend(admit(&mut slot, &b.frame(1, true)));
    assert_eq!(out.len(), 1);
    out.extend(admit(&mut slot, &b.frame(2, false)));
    out.extend(admit(&mut slot, &b.frame(3, false)));
    assert!(HOLD < Duration::from_millis(66));
    assert_eq!(out.len(), 10);
    let numbers = numbers(&out);
    assert_eq!(numbers[1], numbers[0] + 2, "the receiver sees that the old frame is not whole");
    assert!(numbers[1..].windows(2).all(|w| w[1] == w[0] + 1));
    assert_eq!(slot.counters().torn, 1);
}

#[test]
fn a_lost_packet_of_the_old_frame_is_waited_for() {
    let (a, b) = senders();
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    admit(&mut slot, &[a.packet(1, 0, false), a.packet(1, 2, false)]);
    assert!(admit(&mut slot, &b.frame(1, true)).is_empty());
    let out = admit(&mut slot, &[a.packet(1, 1, false)]);
    assert_eq!(out.len(), 4, "the retransmission, then the key frame");
    assert_eq!(slot.counters().torn, 0);
}

#[test]
fn a_sender_without_markers_is_switched_at_its_next_frame() {
    let (a, b) = senders();
    let plain = |p: Arc<Packet>| Arc::new(Packet { marker: false, ..(*p).clone() });
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    let old: Vec<_> = a.frame(1, false).into_iter().map(plain).collect();
    admit(&mut slot, &old);
    assert!(admit(&mut slot, &b.frame(1, true)).is_empty());
    let out = admit(&mut slot, &[a.packet(2, 0, false)]);
    assert_eq!(out.len(), 3);
    assert!(out.iter().all(|o| o.packet.track == b.feed.track));
}

#[test]
fn what_is_older_than_the_key_frame_is_dropped_and_what_overtook_it_is_kept() {
    let (a, b) = senders();
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    let out = admit(&mut slot, &[b.packet(5, 1, true), b.packet(5, 0, true), b.packet(5, 2, true)]);
    let parts: Vec<u64> = out.iter().map(|o| o.packet.seq).collect();
    assert_eq!(parts, [1015, 1016, 1017]);
    assert!(admit(&mut slot, &b.frame(4, false)).is_empty());
    assert_eq!(admit(&mut slot, &b.frame(6, false)).len(), 3);
}

#[test]
fn a_first_packet_sent_again_brings_what_followed_it() {
    let (a, _) = senders();
    let mut slot = video();
    slot.want(Some(a.feed));
    let (key, next) = (a.frame(5, true), a.frame(6, false));
    assert!(admit(&mut slot, &key[1..]).is_empty());
    assert!(admit(&mut slot, &next).is_empty());
    let out = admit(&mut slot, &key[..1]);
    assert_eq!(out.len(), key.len() + next.len());
    assert!(numbers(&out).windows(2).all(|n| n[1] == n[0] + 1), "{:?}", numbers(&out));
}

#[test]
fn stopping_is_at_a_frame_boundary() {
    let (a, _) = senders();
    let mut slot = showing(&a);
    assert!(slot.want(None), "between frames: at once");
    assert_eq!(slot.current(), None);

    let mut slot = showing(&a);
    admit(&mut slot, &[a.packet(1, 0, false)]);
    assert!(!slot.want(None));
    let mut out = Vec::new();
    assert!(!slot.admit(&a.packet(1, 1, false), &mut out));
    assert!(slot.admit(&a.packet(1, 2, false), &mut out));
    assert_eq!((out.len(), slot.current()), (2, None));

    let mut slot = showing(&a);
    admit(&mut slot, &[a.packet(1, 0, false)]);
    slot.want(None);
    out.clear();
    assert!(slot.admit(&a.packet(2, 0, false), &mut out), "the next frame shows that it is over");
    assert!(out.is_empty());
    slot.want(Some(a.feed));
    assert!(admit(&mut slot, &a.frame(3, false)).is_empty(), "and it begins with a key frame again");
    assert_eq!(admit(&mut slot, &a.frame(4, true)).len(), 3);
}

#[test]
fn a_source_that_begins_anew_is_cut_and_begins_with_a_key_frame() {
    let (a, b) = senders();
    let mut slot = showing(&a);
    let last = numbers(&admit(&mut slot, &[a.packet(1, 0, false)]))[0];
    slot.want(Some(b.feed));
    assert!(!slot.cut(b.feed.track.participant), "who is only waited for does not end the picture");
    assert_eq!(slot.current(), Some(a.feed));
    slot.want(None);
    slot.want(Some(a.feed));
    assert!(slot.cut(a.feed.track.participant), "a frame was under way");
    assert_eq!((slot.current(), slot.needs_keyframe()), (None, Some(a.feed)));
    assert!(!slot.cut(a.feed.track.participant));
    assert!(admit(&mut slot, &a.frame(1, false)).is_empty(), "nothing of it without a key frame");
    let out = admit(&mut slot, &a.frame(0, true));
    assert!(out[0].switched.is_some());
    assert_eq!(numbers(&out)[0], last + 2, "a number is left out: the frame before was not whole");
}

#[test]
fn wanting_the_current_feed_again_cancels_the_switch() {
    let (a, b) = senders();
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    admit(&mut slot, &[a.packet(1, 0, false), b.packet(1, 0, true)]);
    slot.want(Some(a.feed));
    assert_eq!(slot.needs_keyframe(), None);
    let out = admit(&mut slot, &[a.packet(1, 1, false), b.packet(1, 1, true), a.packet(1, 2, false)]);
    assert_eq!(out.len(), 2);
}

/// A frame of the old source waits for a packet of it, the new one has begun, and then it is not wanted any more.
#[test]
fn a_switch_that_is_called_off_loses_no_frame_of_what_goes_on() {
    let (a, b) = senders();
    let third = Sender { feed: feed(3, 0), ..senders().0 };
    for wanted in [a.feed, third.feed] {
        let mut slot = showing(&a);
        slot.want(Some(b.feed));
        admit(&mut slot, &[a.packet(1, 0, false), a.packet(1, 2, false)]);
        assert!(admit(&mut slot, &b.frame(1, true)).is_empty());
        assert!(admit(&mut slot, &a.frame(2, false)).is_empty(), "the old frame is waited for");
        assert_eq!(slot.held(), 6);
        slot.want(Some(wanted));
        let out = admit(&mut slot, &a.frame(3, false));
        let sent: Vec<u64> = out.iter().map(|o| o.packet.seq).collect();
        assert!(sent.into_iter().eq(1_006..1_012), "frames 2 and 3");
        assert_eq!((slot.held(), slot.counters().dropped), (0, 0));
    }
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    admit(&mut slot, &[a.packet(1, 0, false), a.packet(1, 2, false)]);
    admit(&mut slot, &b.frame(1, true));
    admit(&mut slot, &a.frame(2, false));
    slot.want(None);
    assert!(admit(&mut slot, &a.frame(3, false)).is_empty(), "nothing is wanted any more");
    assert_eq!(slot.held(), 0);
}

/// What is missing in the middle shows by itself.
#[test]
fn no_number_is_left_out_after_a_hole_before_the_last_frame() {
    let (a, b) = senders();
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    let mut out = admit(&mut slot, &[a.packet(1, 0, false), a.packet(1, 2, false)]);
    out.extend(admit(&mut slot, &b.frame(1, true)));
    out.extend(admit(&mut slot, &b.frame(3, false)));
    let (before, after) = out.split_at(2);
    let (before, after) = (numbers(before), numbers(after));
    assert_eq!((before[1], after[0]), (before[0] + 2, before[1] + 1));
    assert_eq!((after.len(), slot.counters().torn), (6, 0));
}

#[test]
fn another_codec_in_the_feed_is_another_source() {
    let (a, _) = senders();
    let mut slot = showing(&a);
    let h264 = |p: Arc<Packet>, payload: &[u8]| {
        let codec = Codec::Video(VideoCodec::H264);
        let descriptor = Descriptor::parse(codec, payload);
        Arc::new(Packet { codec, descriptor, payload: payload.into(), ..(*p).clone() })
    };
    assert!(admit(&mut slot, &[h264(a.packet(1, 0, false), &[0x41, 0x9a, 0])]).is_empty());
    let sps = h264(a.packet(2, 0, false), &[0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe9]);
    assert!(sps.starts_keyframe());
    let out = admit(&mut slot, &[sps]);
    assert!(out[0].switched.is_some());
}

#[test]
fn holding_is_bounded() {
    let (a, mut b) = senders();
    b.parts = 1000;
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    admit(&mut slot, &[a.packet(1, 0, false)]);
    let key: Vec<_> = (0..u64::try_from(MAX_HELD).unwrap()).map(|part| b.packet(1, part, true)).collect();
    assert!(admit(&mut slot, &key[1..]).is_empty());
    let mut slot = showing(&a);
    slot.want(Some(b.feed));
    admit(&mut slot, &[a.packet(1, 0, false)]);
    assert_eq!(admit(&mut slot, &key).len(), MAX_HELD);
}

#[test]
fn audio_switches_at_once_with_the_marker() {
    let base = base();
    let voice = |participant: u32, n: u64| {
        let participant = ParticipantKey(participant);
        Arc::new(Packet {
            track: TrackKey { participant, source: Source::Microphone },
            layer: 0,
            codec: Codec::Audio(AudioCodec::Opus),
            seq: n,
            rtp_time: n * 960,
            marker: false,
            payload: vec![1, 2, 3].into(),
            arrival: base + Duration::from_millis(n * 20),
            arrival_us: 0,
            capture_us: 0,
            capture_estimated: false,
            audio_level: None,
            dependency: None,
            spatial_layers: 1,
            descriptor: Descriptor::Audio,
        })
    };
    let mut slot = Slot::new(MediaKind::Audio, Start::default());
    let of = |p: &Arc<Packet>| Some(super::feed_of(p));
    slot.want(of(&voice(1, 0)));
    let mut out = admit(&mut slot, &[voice(1, 5), voice(1, 6), voice(2, 6)]);
    slot.want(of(&voice(2, 0)));
    out.extend(admit(&mut slot, &[voice(1, 7), voice(2, 7), voice(1, 8), voice(2, 8)]));
    let sent: Vec<(u32, u64, bool)> =
        out.iter().map(|o| (o.packet.track.participant.0, o.rewritten.seq, o.marker)).collect();
    assert_eq!(sent, [(1, 0, true), (1, 1, false), (1, 2, false), (2, 3, true), (2, 4, false)]);
    assert_eq!(slot.needs_keyframe(), None);
    assert!(slot.want(None));
}

/// Whatever is lost and reordered: each run of consecutive outgoing numbers, cut into frames by RTP time, has only
/// whole frames where no number is missing, and the first frame of each source is a key frame from its first packet.
#[test]
fn no_torn_picture_over_loss_and_reorder() {
    let mut sent = 0;
    for seed in 0..300 {
        let mut random = Random(seed);
        let base = base();
        let senders: Vec<Sender> =
            (1..4).map(|p| Sender { base, feed: feed(p, 0), parts: 1 + u64::from(p) }).collect();
        let mut wire: Vec<(u64, Arc<Packet>)> = Vec::new();
        for frame in 0..200 {
            for (i, sender) in senders.iter().enumerate() {
                let key = frame % 10 == 3 * i as u64;
                for p in sender.frame(frame, key) {
                    if random.below(50) > 0 {
                        wire.push((frame * 100 + p.seq % 10 + random.below(30), p));
                    }
                }
            }
        }
        wire.sort_by_key(|(at, _)| *at);
        let mut slot = video();
        let mut out = Vec::new();
        for (_, packet) in &wire {
            if random.below(60) == 0 {
                slot.want((random.below(4) > 0).then(|| senders[random.index(3)].feed));
            }
            slot.admit(packet, &mut out);
        }
        check(seed, &out, &senders);
        sent += slot.counters().sent;
    }
    assert!(sent > 300 * 200, "{sent}: the test would prove nothing");
}

fn check(seed: u64, out: &[Outgoing], senders: &[Sender]) {
    let by_number: BTreeMap<u64, &Outgoing> = out.iter().map(|o| (o.rewritten.seq, o)).collect();
    assert_eq!(by_number.len(), out.len(), "seed {seed}: a number was used twice");
    let mut frames: BTreeMap<(u64, u32), Vec<u64>> = BTreeMap::new();
    let mut switches = 0;
    let mut last_source = None;
    for (number, o) in &by_number {
        let source = o.packet.track.participant;
        if o.switched.is_some() {
            assert!(o.packet.starts_keyframe(), "seed {seed}");
            switches += 1;
            last_source = Some(source);
        }
        assert_eq!(Some(source), last_source, "seed {seed}: a packet between sources");
        frames.entry((switches, o.rewritten.rtp_time)).or_default().push(*number);
    }
    for ((_, time), numbers) in &frames {
        let first = by_number[&numbers[0]];
        let sender = senders.iter().find(|s| s.feed.track == first.packet.track).unwrap();
        let whole = numbers.len() as u64 == sender.parts;
        let (low, high) = (numbers[0], numbers[numbers.len() - 1]);
        let gap_inside = high - low + 1 != numbers.len() as u64;
        let end_of_stream = by_number.range(high + 1..).next().is_none();
        let gap_around =
            !by_number.contains_key(&(high + 1)) || !by_number.contains_key(&low.saturating_sub(1));
        assert!(whole || gap_inside || gap_around || end_of_stream, "seed {seed}: torn frame at {time}");
    }
}
