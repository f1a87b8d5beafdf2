//! One track as it was sent: packets in, frames at their place on the time axis out. No clock, no I/O; nothing is decoded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use antiphon_base::{AudioCodec, Codec, VideoCodec};
use antiphon_wire::container;
use antiphon_wire::rtp::Packet;
use antiphon_wire::rtp::frame::{Assembled, Follower};
use bytes::Bytes;

use crate::axis::Axis;
use crate::matroska::Form;

/// RTP clock of video.
const VIDEO_HZ: u32 = 90_000;
/// Packets of sound that wait for one before them: a second. Whoever listens later is in no hurry.
const MAX_WAITING: usize = 50;
/// How long they wait: a retransmission over a long way.
pub(crate) const WAIT_US: u64 = 300_000;
/// So many in a row that are older than what was kept are a source that counts anew.
const RESTART_RUN: u32 = 50;
/// A missing key frame is asked for again after this.
const KEY_AGAIN_US: u64 = 500_000;

/// A frame to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) key: bool,
    pub(crate) data: Bytes,
}

/// What a packet led to.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// The track begins, or goes on, in this form. Before the first frame, and before a key frame with which it changes.
    Form(Form),
    /// A frame of it.
    Frame(Frame),
}

enum Kind {
    Sound(Order),
    Picture(Box<Picture>),
}

/// One track.
pub(crate) struct Take {
    codec: Codec,
    axis: Axis,
    kind: Kind,
    /// What was told of it.
    form: Option<Form>,
}

struct Picture {
    codec: VideoCodec,
    follower: Follower,
    /// A key frame is asked for so often.
    key_every_us: u64,
    key_us: u64,
    asked_us: u64,
}

impl Take {
    /// `key_every_us`: how often a key frame is asked for. `None`: a codec that is not kept.
    pub(crate) fn new(codec: Codec, key_every_us: u64) -> Option<Self> {
        let (kind, clock_hz) = match codec {
            Codec::Audio(AudioCodec::Opus) => (Kind::Sound(Order::default()), 48_000),
            Codec::Audio(_) => return None,
            Codec::Video(codec) => {
                let follower = Follower::new(codec);
                let picture = Picture { codec, follower, key_every_us, key_us: 0, asked_us: 0 };
                (Kind::Picture(Box::new(picture)), VIDEO_HZ)
            }
        };
        Some(Self { codec, axis: Axis::new(clock_hz), kind, form: None })
    }

    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// A packet came.
    pub(crate) fn packet(&mut self, packet: &Arc<Packet>, out: &mut VecDeque<Taken>) {
        if packet.codec != self.codec {
            return;
        }
        match &mut self.kind {
            Kind::Sound(order) => {
                order.push(packet);
                self.sound(packet.arrival_us, out);
            }
            Kind::Picture(picture) => {
                picture.follower.push(packet);
                while let Some(unit) = picture.follower.poll(packet.arrival_us) {
                    show(picture, &mut self.axis, &mut self.form, &unit, out);
                }
            }
        }
    }

    /// Time passes: what waits for a packet that does not come waits no longer.
    pub(crate) fn tick(&mut self, now_us: u64, out: &mut VecDeque<Taken>) {
        if matches!(self.kind, Kind::Sound(_)) {
            self.sound(now_us, out);
        }
    }

    /// The layer of which a key frame is to be asked for now, if of one.
    pub(crate) fn keyframe(&mut self, now_us: u64) -> Option<u8> {
        let Kind::Picture(picture) = &mut self.kind else { return None };
        let old = now_us > picture.key_us + picture.key_every_us;
        let layer = picture.follower.wants_keyframe(now_us, old)?;
        (now_us > picture.asked_us + KEY_AGAIN_US).then(|| {
            picture.asked_us = now_us;
            layer
        })
    }

    /// Nothing of what waits is kept, and pictures begin with a key frame: there was a pause.
    pub(crate) fn interrupted(&mut self) {
        match &mut self.kind {
            Kind::Sound(order) => *order = Order::default(),
            Kind::Picture(picture) => picture.follower = Follower::new(picture.codec),
        }
    }

    fn sound(&mut self, now_us: u64, out: &mut VecDeque<Taken>) {
        let Kind::Sound(order) = &mut self.kind else { return };
        while let Some(packet) = order.pop(now_us) {
            if self.form.is_none() {
                out.push_back(Taken::Form(self.form.insert(Form::opus()).clone()));
            }
            let at_ms = self.axis.place(packet.rtp_time, packet.capture_us);
            let data = Bytes::from_owner(packet.payload.clone());
            out.push_back(Taken::Frame(Frame { at_ms, key: true, data }));
        }
    }
}

fn show(
    picture: &mut Picture,
    axis: &mut Axis,
    told: &mut Option<Form>,
    unit: &Assembled,
    out: &mut VecDeque<Taken>,
) {
    let Some(contained) = container::contain(picture.codec, &unit.data) else { return };
    if unit.key {
        picture.key_us = unit.first_arrival_us;
        // Without its size a picture cannot be announced: the next key frame may tell it.
        let size = unit.resolution.or(contained.size);
        let form = size.and_then(|size| Form::video(picture.codec, contained.private, size));
        if let Some(form) = form.filter(|form| told.as_ref() != Some(form)) {
            out.push_back(Taken::Form(told.insert(form).clone()));
        }
    }
    if told.is_none() {
        return;
    }
    let at_ms = axis.place(unit.rtp_time, unit.capture_us);
    out.push_back(Taken::Frame(Frame { at_ms, key: unit.key, data: contained.data.into() }));
}

/// Packets of sound in their order.
#[derive(Default)]
struct Order {
    waiting: BTreeMap<u64, Arc<Packet>>,
    next: Option<u64>,
    late: u32,
}

impl Order {
    /// Takes a packet; those that come twice or too late are dropped.
    fn push(&mut self, packet: &Arc<Packet>) {
        if packet.payload.is_empty() {
            return;
        }
        if self.next.is_some_and(|next| packet.seq < next) {
            self.late += 1;
            if self.late < RESTART_RUN {
                return;
            }
            *self = Self::default();
        }
        self.late = 0;
        self.waiting.insert(packet.seq, Arc::clone(packet));
    }

    fn pop(&mut self, now_us: u64) -> Option<Arc<Packet>> {
        let (seq, first) = self.waiting.first_key_value()?;
        let follows = self.next.is_none_or(|next| next == *seq);
        let over = self.waiting.len() > MAX_WAITING || now_us > first.arrival_us + WAIT_US;
        if !follows && !over {
            return None;
        }
        self.next = seq.checked_add(1);
        self.waiting.pop_first().map(|(_, packet)| packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_base::{ParticipantKey, Source, TrackKey};
    use antiphon_wire::rtp::Descriptor;

    fn packet(seq: u64, arrival_us: u64) -> Arc<Packet> {
        let payload: Arc<[u8]> = vec![0xf8, u8::try_from(seq % 200).unwrap()].into();
        let codec = Codec::Audio(AudioCodec::Opus);
        Arc::new(Packet {
            track: TrackKey { participant: ParticipantKey(1), source: Source::Microphone },
            layer: 0,
            codec,
            seq,
            rtp_time: seq * 960,
            marker: false,
            descriptor: Descriptor::parse(codec, &payload),
            payload,
            arrival: tokio::time::Instant::now().into_std(),
            arrival_us,
            capture_us: 1_000_000 + seq * 20_000,
            capture_estimated: false,
            audio_level: None,
            dependency: None,
            spatial_layers: 1,
        })
    }

    fn sound() -> Take {
        Take::new(Codec::Audio(AudioCodec::Opus), 0).unwrap()
    }

    fn seqs(out: &mut VecDeque<Taken>) -> Vec<u8> {
        let frame = |t| if let Taken::Frame(f) = t { Some(f.data[1]) } else { None };
        out.drain(..).filter_map(frame).collect()
    }

    #[test]
    fn sound_is_put_in_order_and_a_loss_is_not_waited_for_for_ever() {
        let mut take = sound();
        let mut out = VecDeque::new();
        for seq in [0, 1, 3, 2, 2, 5] {
            take.packet(&packet(seq, seq * 20_000), &mut out);
        }
        assert!(matches!(out[0], Taken::Form(_)));
        assert_eq!(seqs(&mut out), [0, 1, 2, 3]);
        take.tick(100_000 + WAIT_US + 1, &mut out);
        assert_eq!(seqs(&mut out), [5]);
        take.packet(&packet(4, 500_000), &mut out);
        assert_eq!(seqs(&mut out), [0; 0]);
    }

    #[test]
    fn frames_stand_where_they_were_captured() {
        let mut take = sound();
        let mut out = VecDeque::new();
        for seq in 0..50 {
            take.packet(&packet(seq, seq * 20_000), &mut out);
        }
        let at: Vec<u64> =
            out.iter().filter_map(|t| if let Taken::Frame(f) = t { Some(f.at_ms) } else { None }).collect();
        assert_eq!(at, (0..50).map(|i| 1_000 + i * 20).collect::<Vec<_>>());
    }

    #[test]
    fn a_source_that_counts_anew_is_followed() {
        let mut take = sound();
        let mut out = VecDeque::new();
        take.packet(&packet(100_000, 0), &mut out);
        for seq in 0..60 {
            take.packet(&packet(seq, seq * 20_000), &mut out);
        }
        assert_eq!(seqs(&mut out).len(), 1 + 60 - (RESTART_RUN as usize - 1));
    }
}
