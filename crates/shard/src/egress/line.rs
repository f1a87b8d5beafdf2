//! One receive line of a subscriber: its SSRC, its numbers, what was sent in it lately.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::Codec;
use antiphon_room::slot::Outgoing;
use antiphon_wire::rtcp::SenderInfo;
use antiphon_wire::rtp::Packet;
use antiphon_wire::rtp::dependency;
use antiphon_wire::rtp::header::{Fixed, Writer};
use antiphon_wire::rtp::red;
use antiphon_wire::rtp::rewrite::PicturePatch;

use super::pacer::Class;
use super::playout;
use super::redundancy;
use crate::prefetch::prefetch_behind;

/// For how long what was sent may be asked for again: later it is of no use to a player.
const HISTORY_US: u64 = 1_000_000;
/// What waits in the history for longer, because nothing came after it, is not sent again. A screen that stands still is a picture each
/// second, and one is missed when the next one comes.
const STALE: Duration = Duration::from_secs(5);
/// Packets remembered at most: a second of 10 Mbit/s.
pub(crate) const MAX_HISTORY: usize = 1_024;
/// What is too old is forgotten with each so many packets.
const FORGET_EACH: u32 = 16;
/// Places for packets at first: a second of 1.3 Mbit/s, and no more than 8 KiB, a size that the allocator has.
const FIRST_HISTORY: usize = 8_192 / size_of::<Sent>();
/// Places for packets that are kept free.
const SPARE_HISTORY: usize = 16;
/// The MID is sent with so many packets of an SSRC; then the peer knows whose it is (RFC 8843, 9.2).
const MID_PACKETS: u32 = 500;
/// What was sent lately and serves as padding: as many of the newest packets.
const PADDING_PACKETS: usize = 32;
/// Bytes of a packet of padding alone, where there is nothing new: as many as its last byte can count.
const PADDING_BYTES: u8 = u8::MAX;
/// A packet is not sent again earlier than this after the last time, whatever the round trip.
const MIN_RESEND: Duration = Duration::from_millis(10);

/// Audio packets that are longer are not said again: three of them shall fit a datagram.
pub(crate) const MAX_REPEATED_BYTES: usize = 350;

/// What a codec is called in a line, its retransmission (RFC 4588) and it with redundancy (RFC 2198).
#[derive(Debug, Clone, Copy)]
pub(crate) struct PayloadType {
    pub(crate) codec: Codec,
    pub(crate) number: u8,
    pub(crate) rtx: Option<u8>,
    pub(crate) red: Option<u8>,
}

/// What was negotiated for a line.
#[derive(Debug, Clone)]
pub(crate) struct LinePlan {
    pub(crate) mid: String,
    pub(crate) class: Class,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: Option<u32>,
    pub(crate) payload_types: Vec<PayloadType>,
    /// Ids of header extensions that the peer takes.
    pub(crate) mid_extension: Option<u8>,
    pub(crate) level_extension: Option<u8>,
    /// Of the transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 2).
    pub(crate) transport_extension: Option<u8>,
    /// Of the dependency descriptor, where the peer takes one-byte and two-byte extensions mixed.
    pub(crate) dependency_extension: Option<u8>,
    /// Of the least and most time that pictures are kept before they are shown.
    pub(crate) playout_extension: Option<u8>,
}

impl LinePlan {
    /// What is sent tells of the path, and more of it can be sent without harm: it can be estimated.
    pub(crate) fn can_be_probed(&self) -> bool {
        self.transport_extension.is_some() && self.payload_types.iter().any(|p| p.rtx.is_some())
    }
}

/// A packet that was sent: enough to write it once more.
struct Sent {
    packet: Arc<Packet>,
    seq: u64,
    rtp_time: u32,
    picture: PicturePatch,
    dependency: Option<dependency::Patch>,
    marker: bool,
    /// Steps from its arrival to when it was last sent again, and one; 0: never. One byte, because there are a hundred of these
    /// for each line of each subscriber, and with one more each would be a word longer.
    resent: u8,
}

/// In which it is told when something was sent again, ms: as exact as that is, the history lasts a second.
const STEP_MS: u128 = 4;

impl Sent {
    /// How long ago it came, in steps.
    fn age(&self, now: Instant) -> u8 {
        let age = now.saturating_duration_since(self.packet.arrival).as_millis() / STEP_MS;
        u8::try_from(age).unwrap_or(u8::MAX).min(u8::MAX - 1)
    }
}

const _: () = assert!(size_of::<Sent>() <= 40);

/// Where an SSRC's clock stands: the last packet's RTP time and its capture time.
#[derive(Debug, Clone, Copy)]
struct Position {
    rtp_time: u32,
    capture_us: u64,
    clock_rate: u32,
}

/// One line.
pub(crate) struct Line {
    pub(crate) plan: LinePlan,
    /// Of the last packet.
    current: Option<PayloadType>,
    history: VecDeque<Sent>,
    /// The next retransmission's extended sequence number.
    rtx_seq: u64,
    /// The number with which the source that stands here began.
    began: u64,
    /// Packets of padding sent.
    padding: usize,
    /// Earlier packets that each one repeats, where RED was negotiated; and the latest of them with their RTP times.
    pub(crate) redundancy: usize,
    said: VecDeque<(Arc<Packet>, u32)>,
    playout: playout::Said,
    packets: u32,
    bytes: u32,
    position: Option<Position>,
    /// Packets were sent since the last sender report.
    pub(crate) active: bool,
    /// When a packet of an upper spatial layer was last sent.
    pub(crate) upper_us: Option<u64>,
}

/// A packet as it stands in a buffer, to be sealed.
pub(crate) struct Written {
    pub(crate) header: usize,
    pub(crate) ssrc: u32,
    pub(crate) index: u64,
}

impl Line {
    /// `rtx_seq`: drawn at random, below 32768 so that the rollover counter begins at 0.
    pub(crate) fn new(plan: LinePlan, rtx_seq: u16) -> Self {
        Self {
            plan,
            current: None,
            history: VecDeque::new(),
            rtx_seq: u64::from(rtx_seq),
            began: 0,
            padding: 0,
            redundancy: 0,
            said: VecDeque::new(),
            playout: playout::Said::default(),
            packets: 0,
            bytes: 0,
            position: None,
            active: false,
            upper_us: None,
        }
    }

    /// How long the peer shall keep pictures before it shows them; zero: as it likes.
    pub(crate) fn keep(&mut self, depth: Duration) {
        self.playout.set(depth);
    }

    fn payload_type(&self, codec: Codec) -> Option<PayloadType> {
        self.plan.payload_types.iter().find(|p| p.codec == codec).copied()
    }

    /// That of the packet that is written, which nearly always has the codec of the last one.
    fn current_payload_type(&mut self, codec: Codec) -> Option<PayloadType> {
        if self.current.is_none_or(|p| p.codec != codec) {
            self.current = self.payload_type(codec);
        }
        self.current
    }

    /// Writes a packet behind what stands in `out`, and remembers it if it may be asked for again. `None`: the line has
    /// no payload type for its codec; nothing was written. `transport`: its transport sequence number, written where
    /// that was negotiated.
    pub(crate) fn write(&mut self, outgoing: Outgoing, transport: u16, out: &mut Vec<u8>) -> Option<Written> {
        let Outgoing { packet, rewritten, marker, switched } = outgoing;
        let payload_type = self.current_payload_type(packet.codec)?;
        let red = payload_type.red.filter(|_| self.redundancy > 0);
        let switched = switched.is_some();
        if packet.starts_keyframe() && (switched || packet.spatial_layers > 1) {
            self.began = rewritten.seq;
        }
        if switched || red.is_none() {
            // What was said before the switch is nobody's that the subscriber was told of.
            self.said.clear();
        }
        let sent = Sent {
            seq: rewritten.seq,
            rtp_time: rewritten.rtp_time,
            picture: rewritten.picture,
            dependency: rewritten.dependency,
            marker,
            resent: 0,
            packet,
        };
        let number = red.unwrap_or(payload_type.number);
        let header = self.write_header(&sent, (self.plan.ssrc, number, sent.seq), transport, out);
        if red.is_some() {
            self.write_said(&sent, payload_type.number, out);
        }
        write_payload(&sent, out);
        self.packets = self.packets.wrapping_add(1);
        self.playout.count();
        self.bytes = self.bytes.wrapping_add(u32::try_from(sent.packet.payload.len()).unwrap_or(0));
        self.active = true;
        self.advance(&sent);
        let written = Written { header, ssrc: self.plan.ssrc, index: sent.seq };
        if self.plan.rtx_ssrc.is_some() && payload_type.rtx.is_some() {
            self.remember(sent);
        }
        Some(written)
    }

    /// What this packet repeats (RFC 2198), to stand before its own payload.
    fn write_said(&mut self, sent: &Sent, number: u8, out: &mut Vec<u8>) {
        let mut blocks = [red::Block { payload_type: number, offset: 0, data: &[] }; redundancy::MOST];
        let count = self.redundancy.min(self.said.len());
        let latest = self.said.range(self.said.len() - count..);
        for (block, (packet, rtp_time)) in blocks.iter_mut().zip(latest) {
            // One that was overtaken is not earlier: its offset is too large, and it is left out.
            block.offset = sent.rtp_time.wrapping_sub(*rtp_time);
            block.data = &packet.payload;
        }
        red::write_head(number, &blocks, out);
        if self.said.len() >= redundancy::MOST {
            self.said.pop_front();
        }
        if sent.packet.payload.len() <= MAX_REPEATED_BYTES {
            self.said.push_back((Arc::clone(&sent.packet), sent.rtp_time));
        }
    }

    fn write_header(
        &self,
        sent: &Sent,
        (ssrc, number, seq): (u32, u8, u64),
        transport: u16,
        out: &mut Vec<u8>,
    ) -> usize {
        let fixed = Fixed {
            marker: sent.marker,
            payload_type: number,
            seq: low16(seq),
            rtp_time: sent.rtp_time,
            ssrc,
            csrc: sent.packet.track.participant.0,
        };
        let mut writer = Writer::new(out, &fixed);
        let descriptor = sent.packet.dependency.as_deref().zip(sent.dependency.as_ref());
        let descriptor = self.plan.dependency_extension.zip(descriptor);
        if descriptor.is_some_and(|(_, (d, patch))| d.is_long(patch)) {
            writer.two_byte();
        }
        if let (Some(id), Some(level)) = (self.plan.level_extension, sent.packet.audio_level) {
            writer.extension(id, &[u8::from(level.voice) << 7 | level.level.min(127)]);
        }
        if let Some(id) = self.plan.mid_extension.filter(|_| self.packets < MID_PACKETS) {
            writer.extension(id, self.plan.mid.as_bytes());
        }
        if let Some(id) = self.plan.transport_extension {
            writer.extension(id, &transport.to_be_bytes());
        }
        if let Some((id, value)) = self.plan.playout_extension.zip(self.playout.value()) {
            writer.extension(id, &value);
        }
        if let Some((id, (dependency, patch))) = descriptor {
            writer.extension_by(id, |out| {
                dependency.write(patch, out);
            });
        }
        writer.finish()
    }

    /// Sender reports follow the newest packet only.
    fn advance(&mut self, sent: &Sent) {
        let newer = self.position.is_none_or(|p| sent.rtp_time.wrapping_sub(p.rtp_time) < 1 << 31);
        if newer {
            let (rtp_time, capture_us) = (sent.rtp_time, sent.packet.capture_us);
            self.position =
                Some(Position { rtp_time, capture_us, clock_rate: sent.packet.codec.clock_rate() });
        }
    }

    /// Asks for where the next packet is remembered.
    pub(crate) fn prefetch_history(&self) {
        if let Some(newest) = self.history.back() {
            prefetch_behind(newest);
        }
    }

    /// Packets that may be asked for again.
    pub(super) fn remembered(&self) -> usize {
        self.history.len()
    }

    /// Packets that the next one may repeat.
    pub(crate) fn repeated(&self) -> usize {
        self.said.len()
    }

    fn remember(&mut self, sent: Sent) {
        // Several at once: what is a second old lies in no cache, and neighbours come together.
        if self.packets.is_multiple_of(FORGET_EACH) || self.history.len() >= MAX_HISTORY {
            self.forget(sent.packet.arrival_us);
        }
        if self.history.capacity() == 0 {
            self.history.reserve_exact(FIRST_HISTORY);
        } else if self.history.len() == self.history.capacity() {
            // By an eighth: doubling would leave half of it empty, and there is one for each line of each subscriber.
            self.history.reserve_exact(self.history.len() / 8 + SPARE_HISTORY);
        }
        // Nearly always the newest; a late packet goes to its place.
        if self.history.back().is_none_or(|newest| newest.seq < sent.seq) {
            self.history.push_back(sent);
        } else {
            let behind = self.history.iter().rev().take_while(|s| s.seq > sent.seq).count();
            self.history.insert(self.history.len() - behind, sent);
        }
    }

    fn forget(&mut self, now_us: u64) {
        let oldest_us = now_us.saturating_sub(HISTORY_US);
        while self.history.len() >= MAX_HISTORY
            || self.history.front().is_some_and(|s| s.packet.arrival_us < oldest_us)
        {
            self.history.pop_front();
        }
    }

    /// Gives back the memory that a burst took. To be called now and then.
    pub(crate) fn trim(&mut self) {
        let enough = self.history.len() / 8 + self.history.len() + SPARE_HISTORY;
        if self.history.capacity() > enough + SPARE_HISTORY {
            self.history.shrink_to(enough);
        }
    }

    /// A key frame is to come: what was sent until now is not sent again on a full path.
    pub(super) fn begin_anew(&mut self) {
        self.began = self.history.back().map_or(self.began, |newest| newest.seq + 1);
    }

    /// Writes a packet once more, as RTX (RFC 4588, section 4). `None`: it is not remembered, was sent again within
    /// the round trip just now, or, on a `full` path, is of a source that is gone.
    pub(crate) fn write_again(
        &mut self,
        now: Instant,
        (seq, round_trip, full): (u16, Duration, bool),
        transport: u16,
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        let newest = self.history.back()?.seq;
        let behind = low16(newest).wrapping_sub(seq);
        let wanted = newest.checked_sub(u64::from(behind))?;
        if full && wanted < self.began {
            return None;
        }
        let at = self.history.binary_search_by_key(&wanted, |s| s.seq).ok()?;
        let sent = self.history.get_mut(at)?;
        // What was lost at the end of a source is asked for when the next one begins, minutes later.
        if now.saturating_duration_since(sent.packet.arrival) > STALE {
            return None;
        }
        // A little less than the round trip: who asks again after it shall not be refused for a rounding.
        let wait = (round_trip * 3 / 4).max(MIN_RESEND);
        let age = sent.age(now);
        let since = (age + 1).saturating_sub(sent.resent);
        if sent.resent != 0 && (u128::from(since) + 1) * STEP_MS <= wait.as_millis() {
            return None;
        }
        sent.resent = age + 1;
        self.write_retransmission(at, transport, out)
    }

    /// Packets of this line tell of the path, and padding can be sent in it.
    pub(crate) fn pads(&self) -> bool {
        self.plan.transport_extension.is_some() && self.rtx().is_some()
    }

    /// SSRC and payload type of retransmissions of what was sent last.
    fn rtx(&self) -> Option<(u32, u8)> {
        self.plan.rtx_ssrc.zip(self.current?.rtx)
    }

    /// Writes padding for a probe: the newest packets of the source in turn, as RTX, which a receiver that has them drops. One that
    /// has not takes them for new, so what is too old to be sent again is no padding: where that is all, the packet is padding
    /// alone, in the numbers of retransmissions. `None`: see [`Line::pads`].
    pub(crate) fn write_padding(
        &mut self,
        now: Instant,
        transport: u16,
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        let rtx = self.rtx().filter(|_| self.pads())?;
        let is_of_now =
            |s: &&Sent| s.seq >= self.began && now.saturating_duration_since(s.packet.arrival) <= STALE;
        let count = self.history.iter().rev().take(PADDING_PACKETS).take_while(is_of_now).count();
        if count == 0 {
            return Some(self.write_blank(rtx, transport, out));
        }
        let back = self.padding % count;
        self.padding = self.padding.wrapping_add(1);
        self.write_retransmission(self.history.len() - 1 - back, transport, out)
    }

    /// A retransmission of nothing: it has no original number either (libwebrtc: `RTPSender::GeneratePadding`).
    fn write_blank(&mut self, (ssrc, number): (u32, u8), transport: u16, out: &mut Vec<u8>) -> Written {
        let index = self.rtx_seq;
        let rtp_time = self.position.map_or(0, |p| p.rtp_time);
        let fixed = Fixed { marker: false, payload_type: number, seq: low16(index), rtp_time, ssrc, csrc: 0 };
        let mut writer = Writer::new(out, &fixed);
        writer.padded();
        if let Some(id) = self.plan.transport_extension {
            writer.extension(id, &transport.to_be_bytes());
        }
        let header = writer.finish();
        out.resize(out.len() + usize::from(PADDING_BYTES) - 1, 0);
        out.push(PADDING_BYTES);
        self.rtx_seq += 1;
        Written { header, ssrc, index }
    }

    fn write_retransmission(&mut self, at: usize, transport: u16, out: &mut Vec<u8>) -> Option<Written> {
        let rtx_ssrc = self.plan.rtx_ssrc?;
        let sent = self.history.get(at)?;
        let number = self.payload_type(sent.packet.codec)?.rtx?;
        let index = self.rtx_seq;
        let header = self.write_header(sent, (rtx_ssrc, number, index), transport, out);
        out.extend(low16(sent.seq).to_be_bytes());
        write_payload(sent, out);
        self.rtx_seq += 1;
        Some(Written { header, ssrc: rtx_ssrc, index })
    }

    /// The report of this SSRC at `now_us`: the RTP time that a packet captured now would have, so that a receiver
    /// aligns lines by when things happened (RFC 3550, 6.4.1).
    pub(crate) fn report(&self, now_us: u64) -> Option<SenderInfo> {
        let p = self.position?;
        let ticks = i128::from(now_us) - i128::from(p.capture_us);
        let ticks = ticks * i128::from(p.clock_rate) / 1_000_000;
        Some(SenderInfo {
            ssrc: self.plan.ssrc,
            ntp: antiphon_wire::rtcp::ntp(now_us),
            rtp_time: p.rtp_time.wrapping_add(low32(ticks)),
            packets: self.packets,
            bytes: self.bytes,
        })
    }
}

fn write_payload(sent: &Sent, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&sent.packet.payload);
    if let Some(payload) = out.get_mut(at..) {
        sent.picture.apply(&sent.packet.descriptor, payload);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what goes on the wire")]
fn low16(seq: u64) -> u16 {
    seq as u16
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "RTP time is modulo 2^32")]
fn low32(ticks: i128) -> u32 {
    ticks as u32
}

#[cfg(test)]
mod tests;
