//! Sources switched into one outgoing SSRC: `docs/design/slot-switch.md` is the invariant, this is the part of it
//! that is numbers: sequence, timestamp, picture id, TL0PICIDX, frame number of the dependency descriptor.

mod frame_number;
mod renumber;
mod time;

#[cfg(test)]
mod tests;

use antiphon_base::TrackKey;

use self::frame_number::FrameNumbers;
use self::renumber::{Mapped, Renumber};
use self::time::SlotTime;
use super::{Descriptor, Packet, dependency};

/// Packets of the current source older than this many below its newest are refused: three seconds of 720p video,
/// by when a retransmission is of no use.
pub const SEQ_WINDOW: i64 = SequenceNumbers::WINDOW;

/// Pictures likewise.
pub const PICTURE_WINDOW: i64 = Pictures::WINDOW;

type SequenceNumbers = Renumber<16>;
type Pictures = Renumber<2>;

/// A source sequence number this far ahead of the newest is a restart, not loss (RFC 3550, A.1: MAX_DROPOUT).
pub const MAX_DROPOUT: i64 = 3000;

/// So many consecutive numbers below the window are a restarted source (RFC 3550, A.1 takes two; but old
/// retransmissions come in runs too).
pub const RESTART_RUN: u32 = 8;

/// Where a slot's numbers start. The caller draws them at random (RFC 3550, 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Start {
    /// First outgoing sequence number.
    pub seq: u16,
    /// First outgoing RTP time.
    pub rtp_time: u32,
    /// First outgoing picture id; 15 bits count.
    pub picture_id: u16,
    /// First outgoing TL0PICIDX.
    pub tl0: u8,
}

/// The numbers of an outgoing packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// Extended sequence number; the slot's first is below 65536.
    pub seq: u64,
    /// RTP timestamp.
    pub rtp_time: u32,
    /// What to change in the payload.
    pub picture: PicturePatch,
    /// What to change in the dependency descriptor, where the packet has one.
    pub dependency: Option<dependency::Patch>,
}

/// Changes to a payload header. Lengths never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PicturePatch {
    /// Nothing to change.
    None,
    /// VP8 numbers; `tl0` where the packet has one.
    Vp8 {
        /// 15 bits; a 7-bit field takes the low ones.
        picture_id: u16,
        /// TL0PICIDX.
        tl0: Option<u8>,
    },
    /// VP9 numbers; `tl0` where the packet has one.
    Vp9 {
        /// 15 bits; a 7-bit field takes the low ones.
        picture_id: u16,
        /// TL0PICIDX.
        tl0: Option<u8>,
    },
}

impl PicturePatch {
    /// Writes the numbers into `payload`, a copy of the payload that `descriptor` was parsed from.
    pub fn apply(&self, descriptor: &Descriptor, payload: &mut [u8]) {
        match (self, descriptor) {
            (Self::Vp8 { picture_id, tl0 }, Descriptor::Vp8(d)) => d.patch(payload, *picture_id, *tl0),
            (Self::Vp9 { picture_id, tl0 }, Descriptor::Vp9(d)) => d.patch(payload, *picture_id, *tl0),
            _ => {}
        }
    }
}

/// What a slot did with packets. `rewritten + dropped + refused_*` is the number of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Given numbers.
    pub rewritten: u64,
    /// Left out on purpose.
    pub dropped: u64,
    /// Refused: of another source than the current one, or older than the switch to it.
    pub refused_source: u64,
    /// Refused: further back than [`SEQ_WINDOW`] or [`PICTURE_WINDOW`], ten seconds off in RTP time, or of before the time base.
    pub refused_old: u64,
    /// Refused: the packet, or its picture, was left out before.
    pub refused_dropped: u64,
    /// Sources switched to.
    pub switches: u64,
    /// The source jumped in its sequence, picture or timestamp numbering, and was taken up anew.
    pub resyncs: u64,
    /// Left out on purpose, but too late: its outgoing number is a gap that nothing fills.
    pub holes: u64,
}

/// One slot: the current source, and how its numbers become the slot's.
#[derive(Debug, Clone)]
pub struct SlotRewriter {
    source: Option<(TrackKey, u8)>,
    seq: SequenceNumbers,
    pictures: Pictures,
    tl0: Renumber<1>,
    frames: FrameNumbers,
    time: SlotTime,
    /// Last number below the window, and how many came in a row.
    old_run: (u64, u32),
    counters: Counters,
}

/// A packet's picture numbers, where it has them.
struct PictureNumbers {
    id: u16,
    id_bits: u32,
    tl0: Option<u8>,
    temporal_id: Option<u8>,
    spatial_id: Option<u8>,
}

impl SlotRewriter {
    /// A slot without a source.
    pub fn new(start: Start) -> Self {
        Self {
            source: None,
            seq: SequenceNumbers::new(u64::from(start.seq)),
            pictures: Pictures::new(u64::from(start.picture_id & 0x7fff)),
            tl0: Renumber::new(u64::from(start.tl0)),
            frames: FrameNumbers::default(),
            time: SlotTime::new(start.rtp_time),
            old_run: (0, 0),
            counters: Counters::default(),
        }
    }

    /// The current source: a track and its layer.
    pub fn source(&self) -> Option<(TrackKey, u8)> {
        self.source
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// `first` and what follows it from the same track and layer is the source from now on: for video a packet
    /// with [`Packet::starts_keyframe`]. Then give it to [`Self::rewrite`]. Its arrival decides how far the
    /// outgoing timestamp advances. Also the way to resume after a pause: a slot that sends nothing for a while
    /// needs no calls, and its numbers go on where they stopped.
    pub fn switch(&mut self, first: &Packet) {
        self.source = Some((first.track, first.layer));
        self.counters.switches += 1;
        self.restart(first, 0);
    }

    /// One outgoing number will never be sent, so that the receiver sees that the last frame of the current source
    /// is not whole. For just before [`Self::switch`] or [`Self::clear`].
    pub fn leave_gap(&mut self) {
        self.seq.skip();
    }

    /// No source any more: everything is refused until the next switch.
    pub fn clear(&mut self) {
        self.source = None;
    }

    /// The outgoing numbers of a packet; the same again for the same packet. `None`: do not send it
    /// ([`Counters`] say why).
    // Called for each packet of each subscriber: its result is not to go through memory.
    #[inline]
    pub fn rewrite(&mut self, packet: &Packet) -> Option<Rewritten> {
        let newest = self.admit(packet)?;
        let rtp_time = self.map_time(packet, newest)?;
        let picture = self.map_picture(packet, newest)?;
        match self.seq.map(packet.seq) {
            Mapped::To(seq) => {
                self.counters.rewritten += 1;
                let dependency = packet.dependency.as_deref().map(|d| self.frames.map(d));
                Some(Rewritten { seq, rtp_time, picture, dependency })
            }
            Mapped::Dropped => {
                self.counters.refused_dropped += 1;
                None
            }
            Mapped::TooOld => {
                self.counters.refused_old += 1;
                None
            }
        }
    }

    /// Leaves a packet of the current source out on purpose (a temporal layer nobody asked for), so that the
    /// outgoing numbers have no gap. All packets of a picture, or none. Returns an outgoing number that can no
    /// longer be closed because later packets were sent already: it may be filled with an empty packet.
    pub fn drop(&mut self, packet: &Packet) -> Option<u64> {
        let hole = self.drop_part(packet)?;
        if let Some((_, numbers)) = picture_numbers(&packet.descriptor)
            && numbers.spatial_id.unwrap_or(0) == 0
        {
            let id = self.pictures.extend(u64::from(numbers.id), numbers.id_bits);
            self.pictures.drop(id);
            if let (Some(tl0), Some(0)) = (numbers.tl0, numbers.temporal_id) {
                let tl0 = self.tl0.extend(u64::from(tl0), 8);
                self.tl0.drop(tl0);
            }
        }
        hole
    }

    /// Likewise a spatial layer of a picture of which another layer is sent: the picture keeps its number. `None`: the
    /// packet was refused; otherwise the number that can no longer be closed, if there is one.
    pub fn drop_part(&mut self, packet: &Packet) -> Option<Option<u64>> {
        self.admit(packet)?;
        self.counters.dropped += 1;
        let hole = self.seq.drop(packet.seq);
        self.counters.holes += u64::from(hole.is_some());
        Some(hole)
    }

    /// Checks that a packet is of the current source and near its newest one; takes a restarted source up anew.
    /// `Some(true)`: newer than all before.
    fn admit(&mut self, packet: &Packet) -> Option<bool> {
        if self.source != Some((packet.track, packet.layer)) {
            self.counters.refused_source += 1;
            return None;
        }
        let ahead = self.seq.ahead(packet.seq);
        if ahead > MAX_DROPOUT {
            self.resync(packet);
            return Some(true);
        }
        if ahead <= -SEQ_WINDOW {
            let run = if packet.seq == self.old_run.0.wrapping_add(1) { self.old_run.1 + 1 } else { 1 };
            self.old_run = (packet.seq, run);
            if run >= RESTART_RUN {
                self.resync(packet);
                return Some(true);
            }
            self.counters.refused_old += 1;
            return None;
        }
        if self.seq.before_start(packet.seq) {
            self.counters.refused_source += 1;
            return None;
        }
        Some(ahead > 0)
    }

    /// The source restarted its numbering: one outgoing number is left out, so that the receiver sees a loss
    /// that nobody fills and asks for a key frame.
    fn resync(&mut self, packet: &Packet) {
        self.counters.resyncs += 1;
        self.restart(packet, 1);
    }

    fn restart(&mut self, first: &Packet, gap: u64) {
        self.old_run = (0, 0);
        self.seq.restart(first.seq, gap);
        self.time.restart(first);
        self.frames.restart();
        if let Some((_, numbers)) = picture_numbers(&first.descriptor) {
            self.pictures.restart(u64::from(numbers.id), gap);
            if let Some(tl0) = numbers.tl0 {
                self.tl0.restart(u64::from(tl0), gap);
            }
        }
    }

    fn map_time(&mut self, packet: &Packet, newest: bool) -> Option<u32> {
        if !self.time.plausible(packet) {
            if !newest {
                self.counters.refused_old += 1;
                return None;
            }
            self.counters.resyncs += 1;
            self.time.restart(packet);
        }
        let mapped = self.time.map(packet, !newest);
        self.counters.refused_old += u64::from(mapped.is_none());
        mapped
    }

    fn map_picture(&mut self, packet: &Packet, newest: bool) -> Option<PicturePatch> {
        let Some((vp9, numbers)) = picture_numbers(&packet.descriptor) else {
            return Some(PicturePatch::None);
        };
        let id = map_number(&mut self.pictures, u64::from(numbers.id), numbers.id_bits, newest);
        let (id, restarted) = match id {
            Ok(mapped) => mapped,
            Err(Mapped::Dropped) => {
                self.seq.drop(packet.seq);
                self.counters.refused_dropped += 1;
                return None;
            }
            Err(_) => {
                self.counters.refused_old += 1;
                return None;
            }
        };
        self.counters.resyncs += u64::from(restarted);
        let tl0 = numbers.tl0.map(|tl0| {
            match map_number(&mut self.tl0, u64::from(tl0), 8, newest) {
                Ok((tl0, _)) => low_u8(tl0),
                // Its base picture was left out or is long gone; the number only has to differ from a live one.
                Err(_) => low_u8(self.tl0.last_sent()),
            }
        });
        let picture_id = low_u15(id);
        Some(if vp9 { PicturePatch::Vp9 { picture_id, tl0 } } else { PicturePatch::Vp8 { picture_id, tl0 } })
    }
}

/// Maps a wrapped number. The flag says that the numbering jumped back and was taken up anew.
fn map_number<const W: usize>(
    numbers: &mut Renumber<W>,
    value: u64,
    bits: u32,
    newest: bool,
) -> Result<(u64, bool), Mapped> {
    let extended = numbers.extend(value, bits);
    match numbers.map(extended) {
        Mapped::To(out) => Ok((out, false)),
        Mapped::TooOld if newest => {
            numbers.restart(value, 0);
            match numbers.map(value) {
                Mapped::To(out) => Ok((out, true)),
                other => Err(other),
            }
        }
        other => Err(other),
    }
}

/// Picture numbers of a VP8 or (true) VP9 packet.
fn picture_numbers(descriptor: &Descriptor) -> Option<(bool, PictureNumbers)> {
    let (vp9, id, tl0) = match descriptor {
        Descriptor::Vp8(d) => (false, d.picture_id?, d.tl0_pic_idx),
        Descriptor::Vp9(d) => (true, d.picture_id?, d.tl0_pic_idx()),
        _ => return None,
    };
    let numbers = PictureNumbers {
        id: id.value,
        id_bits: if id.long { 15 } else { 7 },
        tl0: tl0.map(|f| f.value),
        temporal_id: descriptor.temporal_id(),
        spatial_id: descriptor.spatial_id(),
    };
    Some((vp9, numbers))
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what goes on the wire")]
fn low_u8(value: u64) -> u8 {
    value as u8
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what goes on the wire")]
fn low_u15(value: u64) -> u16 {
    value as u16 & 0x7fff
}
