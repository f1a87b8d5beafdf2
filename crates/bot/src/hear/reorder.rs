//! Packets of one audio track in their order, for bots that want them as they come.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use antiphon_base::{AudioCodec, SpeakerLevel};
use antiphon_wire::frame::Format;
use antiphon_wire::rtp::{Packet, opus};

use crate::outbox::Frame;

/// Packets behind a hole before it is given up: what networks reorder.
const WINDOW: usize = 3;
/// How long a packet waits for one before it, if no others come behind.
const WAIT_US: u64 = 60_000;

/// A small window over one track.
pub(super) struct Reorder {
    codec: AudioCodec,
    waiting: BTreeMap<u64, Arc<Packet>>,
    next: Option<u64>,
    ready: VecDeque<Frame>,
}

impl Reorder {
    /// An empty one.
    pub(super) fn new(codec: AudioCodec) -> Self {
        Self { codec, waiting: BTreeMap::new(), next: None, ready: VecDeque::new() }
    }

    /// The next packet in order, as a frame.
    pub(super) fn poll(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// Takes a packet; those that come twice or too late are dropped.
    pub(super) fn packet(&mut self, packet: &Arc<Packet>) {
        if self.next.is_some_and(|next| packet.seq < next) || packet.payload.is_empty() {
            return;
        }
        self.waiting.insert(packet.seq, Arc::clone(packet));
        self.release(|waiting, _| waiting.len() > WINDOW);
    }

    /// Gives up holes that were waited for long enough.
    pub(super) fn tick(&mut self, now_us: u64) {
        self.release(|_, first| now_us.saturating_sub(first.arrival_us) > WAIT_US);
    }

    fn release(&mut self, give_up: impl Fn(&BTreeMap<u64, Arc<Packet>>, &Packet) -> bool) {
        while let Some((&seq, first)) = self.waiting.first_key_value() {
            let gap = self.next.is_some_and(|next| next != seq);
            if gap && !give_up(&self.waiting, first) {
                return;
            }
            if let Some(packet) = self.waiting.remove(&seq) {
                self.ready.push_back(self.frame(&packet, gap));
            }
            self.next = Some(seq + 1);
        }
    }

    fn frame(&self, packet: &Packet, gap: bool) -> Frame {
        let channels = if self.codec == AudioCodec::Opus && opus::is_stereo(&packet.payload) { 2 } else { 1 };
        let participant = packet.track.participant;
        let speaker = packet.audio_level.map(|l| SpeakerLevel { participant, level: l.level });
        Frame {
            format: Format::EncodedAudio {
                codec: self.codec,
                sample_rate: self.codec.clock_rate(),
                channels,
            },
            capture_us: packet.capture_us,
            capture_estimated: packet.capture_estimated,
            arrival_us: packet.arrival_us,
            due_us: packet.arrival_us,
            silence: self.codec == AudioCodec::Opus && opus::is_dtx(&packet.payload),
            gap,
            key: true,
            speakers: speaker.into_iter().collect(),
            payload: Arc::clone(&packet.payload),
        }
    }
}
