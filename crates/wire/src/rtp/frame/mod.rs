//! Packets of one source layer to access units: reordering, loss, and never a torn or undecodable frame.
//!
//! [`Assembler::push`] packets in any order, then [`Assembler::poll`] until `None`. Time is what the packets'
//! `arrival_us` say: a hole is given up when a packet behind it has waited [`Limits::wait_us`].
//!
//! After a loss only a key frame is delivered, unless the stream tells that no later frame refers to the lost one:
//! the TL0PICIDX of VP8 (RFC 7741, 4.2) and of VP9's non-flexible mode tell that temporal layer 0 is whole.

mod access_unit;
mod follow;
mod superframe;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use antiphon_base::{Codec, VideoCodec};

pub use follow::Follower;

use super::{Descriptor, Packet};

/// Packets held at most: two seconds of 10 Mbit/s, and more than a 4K key frame has.
pub const MAX_PACKETS: usize = 2048;

/// How long a hole may hold up the packets behind it: two retransmissions over a round trip of 150 ms.
pub const WAIT_US: u64 = 400_000;

/// So many consecutive packets older than what was consumed are a source that restarted its numbering.
const RESTART_RUN: u32 = 64;

/// Any temporal layer.
const ALL_LAYERS: u8 = u8::MAX;

/// What an [`Assembler`] holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Packets in the buffer. From half of it on, holes are not waited for; when full it is emptied.
    pub packets: usize,
    /// How long a hole may hold up the packets behind it, in microseconds of `arrival_us`.
    pub wait_us: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { packets: MAX_PACKETS, wait_us: WAIT_US }
    }
}

/// One access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// A decoder can start here.
    pub key: bool,
    /// VP8 and VP9: the frame (VP9 with spatial layers: a superframe, of which the highest is shown); H.264: Annex B, parameter sets before each key picture;
    /// AV1: a temporal unit in the low-overhead format, temporal delimiter included.
    pub data: Arc<[u8]>,
    /// Unwrapped RTP time of the source layer.
    pub rtp_time: u64,
    /// Arrival of its earliest packet, microseconds since the Unix epoch.
    pub first_arrival_us: u64,
    /// Capture on the server's clock, microseconds since the Unix epoch.
    pub capture_us: u64,
    /// `capture_us` is estimated.
    pub capture_estimated: bool,
    /// Something between the last delivered frame and this one was lost or was not decodable.
    pub gap: bool,
    /// Width and height, where the key frame tells them.
    pub resolution: Option<(u32, u32)>,
}

/// Where the packets went. `packets_in = used + (sum of the dropped_*) + ` [`Assembler::held`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Pushed.
    pub packets_in: u64,
    /// Part of a delivered frame.
    pub used: u64,
    /// Came after its place was given up or delivered.
    pub dropped_late: u64,
    /// Came again.
    pub dropped_duplicate: u64,
    /// Part of a frame that lost a packet.
    pub dropped_torn: u64,
    /// Part of a whole frame that refers to a lost one, or came before the first key frame.
    pub dropped_undecodable: u64,
    /// Payload that does not parse, or of another codec.
    pub dropped_malformed: u64,
    /// No payload.
    pub dropped_padding: u64,
    /// The buffer was full, or the source restarted.
    pub dropped_overflow: u64,
    /// Sequence numbers given up; may be late later.
    pub lost: u64,
    /// Frames delivered.
    pub frames: u64,
}

impl Counters {
    /// All packets dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped_late
            + self.dropped_duplicate
            + self.dropped_torn
            + self.dropped_undecodable
            + self.dropped_malformed
            + self.dropped_padding
            + self.dropped_overflow
    }
}

/// What can be decoded next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Continuity {
    /// Only a key frame; nothing is known of what came before.
    Start,
    /// Something was lost; a key frame, or a base-layer frame that follows the last delivered one.
    Broken,
    /// Frames of temporal layers up to this one.
    Layers(u8),
}

/// One step of [`Assembler::poll`].
enum Step {
    Frame(Assembled),
    Again,
    Wait,
}

/// The extent of the frame that starts at the next sequence number.
enum Extent {
    /// Up to and including this sequence number.
    To(u64),
    /// This sequence number is missing.
    Missing(u64),
}

/// Reorders and joins packets of one source layer.
#[derive(Debug)]
pub struct Assembler {
    codec: VideoCodec,
    limits: Limits,
    buffer: BTreeMap<u64, Arc<Packet>>,
    /// Everything below was delivered, dropped or given up. `None`: nothing was yet.
    next: Option<u64>,
    /// The frame at `next` is whole up to here, exclusive.
    scanned: u64,
    continuity: Continuity,
    needs_keyframe: bool,
    gap: bool,
    newest_arrival_us: u64,
    last_tl0: Option<u8>,
    late_run: (u64, u32),
    known: access_unit::Known,
    counters: Counters,
}

impl Assembler {
    /// An assembler for one layer of a track of this codec.
    pub fn new(codec: VideoCodec, limits: Limits) -> Self {
        Self {
            codec,
            limits,
            buffer: BTreeMap::new(),
            next: None,
            scanned: 0,
            continuity: Continuity::Start,
            needs_keyframe: true,
            gap: false,
            newest_arrival_us: 0,
            last_tl0: None,
            late_run: (0, 0),
            known: access_unit::Known::default(),
            counters: Counters::default(),
        }
    }

    /// Nothing can be delivered before a key frame: ask for one (the caller limits how often).
    pub fn needs_keyframe(&self) -> bool {
        self.needs_keyframe
    }

    /// Where the packets went.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Packets in the buffer.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Takes a packet, in any order.
    pub fn push(&mut self, packet: &Arc<Packet>) {
        self.counters.packets_in += 1;
        self.newest_arrival_us = self.newest_arrival_us.max(packet.arrival_us);
        if packet.codec != Codec::Video(self.codec) {
            self.counters.dropped_malformed += 1;
            return;
        }
        if self.next.is_some_and(|next| packet.seq < next) && !self.restarted(packet.seq) {
            self.counters.dropped_late += 1;
            return;
        }
        if self.buffer.contains_key(&packet.seq) {
            self.counters.dropped_duplicate += 1;
            return;
        }
        if self.buffer.len() >= self.limits.packets {
            self.reset();
        }
        self.buffer.insert(packet.seq, Arc::clone(packet));
    }

    /// The next access unit, in decoding order. `None`: more packets are needed.
    pub fn poll(&mut self) -> Option<Assembled> {
        loop {
            match self.step() {
                Step::Frame(frame) => return Some(frame),
                Step::Again => {}
                Step::Wait => return None,
            }
        }
    }

    /// A packet older than `next` came. Many in a row: the source restarted, and everything begins anew.
    fn restarted(&mut self, seq: u64) -> bool {
        let run = if seq == self.late_run.0.wrapping_add(1) { self.late_run.1 + 1 } else { 1 };
        self.late_run = (seq, run);
        if run < RESTART_RUN {
            return false;
        }
        self.reset();
        true
    }

    fn reset(&mut self) {
        self.counters.dropped_overflow += self.buffer.len() as u64;
        self.buffer.clear();
        self.next = None;
        self.scanned = 0;
        self.late_run = (0, 0);
        self.gap = self.counters.frames > 0;
        self.continuity = Continuity::Start;
        self.needs_keyframe = true;
    }

    fn step(&mut self) -> Step {
        let Some(next) = self.next else { return self.seek_keyframe() };
        let Some(first) = self.buffer.get(&next) else { return self.hole(next) };
        if first.payload.is_empty() {
            self.take(next);
            self.counters.dropped_padding += 1;
            return Step::Again;
        }
        if !first.starts_frame() {
            let malformed = first.descriptor == Descriptor::Opaque;
            self.take(next);
            self.counters.dropped_malformed += u64::from(malformed);
            self.counters.dropped_torn += u64::from(!malformed);
            self.broken();
            return Step::Again;
        }
        match self.extent(next, first.rtp_time) {
            Extent::To(last) => self.deliver(next, last),
            Extent::Missing(missing) if self.gave_up(missing) => {
                for seq in next..missing {
                    self.take(seq);
                    self.counters.dropped_torn += 1;
                }
                self.broken();
                Step::Again
            }
            Extent::Missing(missing) => {
                self.scanned = missing;
                Step::Wait
            }
        }
    }

    /// Nothing was delivered yet: drops what cannot be decoded, once nothing that it waits for can come any more.
    fn seek_keyframe(&mut self) -> Step {
        if let Some(&key) = self.buffer.iter().find(|(_, p)| p.starts_keyframe()).map(|(seq, _)| seq) {
            let rest = self.buffer.split_off(&key);
            self.counters.dropped_undecodable += self.buffer.len() as u64;
            self.buffer = rest;
            self.next = Some(key);
            return Step::Again;
        }
        while let Some((_, oldest)) = self.buffer.first_key_value()
            && (self.waited(oldest) || self.buffer.len() > self.limits.packets / 2)
        {
            self.buffer.pop_first();
            self.counters.dropped_undecodable += 1;
        }
        Step::Wait
    }

    /// The packet at `next` is missing.
    fn hole(&mut self, next: u64) -> Step {
        let Some((&after, _)) = self.buffer.first_key_value() else { return Step::Wait };
        if !self.gave_up(next) {
            return Step::Wait;
        }
        self.counters.lost += after.saturating_sub(next);
        self.next = Some(after);
        self.broken();
        Step::Again
    }

    /// The first packet behind the hole at `missing` has waited long enough, or there are too many of them.
    fn gave_up(&self, missing: u64) -> bool {
        let behind = self.buffer.range(missing..).next();
        behind.is_some_and(|(_, p)| self.waited(p) || self.buffer.len() > self.limits.packets / 2)
    }

    fn waited(&self, packet: &Packet) -> bool {
        self.newest_arrival_us.saturating_sub(packet.arrival_us) > self.limits.wait_us
    }

    fn extent(&self, next: u64, rtp_time: u64) -> Extent {
        let mut seq = next.max(self.scanned);
        loop {
            let Some(packet) = self.buffer.get(&seq) else { return Extent::Missing(seq) };
            if packet.rtp_time != rtp_time && !packet.payload.is_empty() {
                return Extent::To(seq - 1);
            }
            if packet.ends_frame() {
                return Extent::To(seq);
            }
            let Some(following) = seq.checked_add(1) else { return Extent::To(seq) };
            seq = following;
        }
    }

    /// The frame from `first` to `last` is whole: delivers or drops it.
    fn deliver(&mut self, first: u64, last: u64) -> Step {
        let packets: Vec<Arc<Packet>> = (first..=last).filter_map(|seq| self.take(seq)).collect();
        let count = packets.len() as u64;
        let padding = packets.iter().filter(|p| p.payload.is_empty()).count() as u64;
        self.counters.dropped_padding += padding;
        let key = packets.iter().any(|p| p.starts_keyframe());
        let Some(head) = packets.first().filter(|_| self.decodable(&packets, key)) else {
            self.counters.dropped_undecodable += count - padding;
            self.gap = self.gap || self.counters.frames > 0;
            return Step::Again;
        };
        let Some(data) = access_unit::join(self.codec, &packets, key, &mut self.known) else {
            self.counters.dropped_malformed += count - padding;
            self.broken();
            return Step::Again;
        };
        self.delivered(head, key);
        self.counters.used += count - padding;
        Step::Frame(Assembled {
            key,
            data: data.into(),
            rtp_time: head.rtp_time,
            first_arrival_us: packets.iter().map(|p| p.arrival_us).min().unwrap_or(head.arrival_us),
            capture_us: head.capture_us,
            capture_estimated: head.capture_estimated,
            gap: std::mem::take(&mut self.gap),
            resolution: packets.iter().find_map(|p| p.descriptor.resolution()),
        })
    }

    /// Whether a decoder that got all frames delivered so far can decode this one; sets what it needs otherwise.
    fn decodable(&mut self, packets: &[Arc<Packet>], key: bool) -> bool {
        if key {
            return true;
        }
        let Some(head) = packets.first() else { return false };
        let layer = base_layer(&head.descriptor);
        match (self.continuity, layer) {
            (Continuity::Layers(ALL_LAYERS), _) => true,
            (Continuity::Layers(known), Some(l)) if l.temporal_id <= known => true,
            (Continuity::Layers(_), Some(l)) => l.sync,
            (Continuity::Broken, Some(l)) if l.temporal_id > 0 => false,
            (Continuity::Broken, Some(l)) if self.last_tl0.map(|t| t.wrapping_add(1)) == Some(l.tl0) => true,
            _ => {
                self.needs_keyframe = true;
                false
            }
        }
    }

    fn delivered(&mut self, head: &Packet, key: bool) {
        self.counters.frames += 1;
        let layer = base_layer(&head.descriptor);
        self.continuity = match (self.continuity, layer) {
            _ if key => Continuity::Layers(ALL_LAYERS),
            (Continuity::Layers(known), Some(l)) if l.temporal_id == known.saturating_add(1) => {
                Continuity::Layers(l.temporal_id)
            }
            (Continuity::Layers(known), _) => Continuity::Layers(known),
            (Continuity::Start | Continuity::Broken, _) => Continuity::Layers(0),
        };
        self.needs_keyframe = false;
        if let Some(l) = layer {
            self.last_tl0 = Some(l.tl0);
        }
    }

    /// Something was lost or dropped that later frames may refer to.
    fn broken(&mut self) {
        if self.continuity != Continuity::Start {
            self.continuity = Continuity::Broken;
            self.gap = true;
        }
    }

    /// Removes a packet from the buffer and moves past it.
    fn take(&mut self, seq: u64) -> Option<Arc<Packet>> {
        self.next = Some(seq.saturating_add(1));
        self.scanned = 0;
        self.buffer.remove(&seq)
    }
}

/// What a frame says about the temporal base layer.
#[derive(Debug, Clone, Copy)]
struct BaseLayer {
    temporal_id: u8,
    tl0: u8,
    /// Refers to frames of the base layer only.
    sync: bool,
}

fn base_layer(descriptor: &Descriptor) -> Option<BaseLayer> {
    match descriptor {
        Descriptor::Vp8(d) => {
            Some(BaseLayer { temporal_id: d.temporal_id?, tl0: d.tl0_pic_idx?.value, sync: d.layer_sync })
        }
        Descriptor::Vp9(d) => Some(BaseLayer {
            temporal_id: d.layer?.temporal_id,
            tl0: d.tl0_pic_idx()?.value,
            sync: d.layer?.switching_up,
        }),
        _ => None,
    }
}
