//! A slot's RTP timestamps.
//!
//! Within a source they run as the source's do, in the clock of its codec: that is what the payload type promises
//! (RFC 7160 on changing clock rates). From one source to the next they advance by the time that passed on our
//! clock between arrivals, in the clock of the new source.

use std::time::Instant;

use antiphon_base::MediaKind;

use crate::rtp::Packet;

/// A source's RTP time may differ from the time that passed on our clock by this much; more is a new time base.
const MAX_DISAGREEMENT_S: i64 = 10;

/// Most the timestamp advances at a switch, in clock ticks: an advance of 2^31 or more would look like a step back.
const MAX_ADVANCE: u32 = 1 << 30;

/// Outgoing timestamps.
#[derive(Debug, Clone)]
pub(super) struct SlotTime {
    /// Outgoing less incoming, modulo 2^32.
    shift: u32,
    /// Newest incoming and outgoing time of the current source, and when it came.
    newest: Option<Newest>,
    /// The last outgoing time before this source, or before its time base; at most [`MAX_ADVANCE`] behind the newest.
    before: u32,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    incoming: u64,
    outgoing: u32,
    arrival: Instant,
}

impl SlotTime {
    pub(super) fn new(start: u32) -> Self {
        Self { shift: 0, newest: None, before: start.wrapping_sub(1) }
    }

    /// The source's time base begins with `first`.
    pub(super) fn restart(&mut self, first: &Packet) {
        let outgoing = match self.newest {
            None => self.before.wrapping_add(1),
            Some(newest) => {
                self.before = newest.outgoing;
                newest.outgoing.wrapping_add(advance(newest.arrival, first))
            }
        };
        self.shift = outgoing.wrapping_sub(low_u32(first.rtp_time));
        self.newest = Some(Newest { incoming: first.rtp_time, outgoing, arrival: first.arrival });
    }

    /// The packet's RTP time agrees with its arrival, roughly.
    pub(super) fn plausible(&self, packet: &Packet) -> bool {
        let Some(newest) = self.newest else { return false };
        // However late the rest of a picture comes, it is of that picture.
        if packet.rtp_time == newest.incoming {
            return true;
        }
        let rate = i64::from(packet.codec.clock_rate());
        let ticks = packet.rtp_time.wrapping_sub(newest.incoming).cast_signed();
        let passed = ticks_between(newest.arrival, packet).min(u64::from(u32::MAX) * 64).cast_signed();
        ticks.checked_sub(passed).is_some_and(|d| d.saturating_abs() <= MAX_DISAGREEMENT_S * rate)
    }

    /// `None`: it is an old packet, and of before what is sent now.
    pub(super) fn map(&mut self, packet: &Packet, old: bool) -> Option<u32> {
        let outgoing = low_u32(packet.rtp_time).wrapping_add(self.shift);
        if let Some(newest) = &mut self.newest
            && outgoing.wrapping_sub(newest.outgoing).cast_signed() > 0
        {
            *newest = Newest { incoming: packet.rtp_time, outgoing, arrival: packet.arrival };
            if outgoing.wrapping_sub(self.before) > MAX_ADVANCE {
                self.before = outgoing.wrapping_sub(MAX_ADVANCE);
            }
        } else if old && outgoing.wrapping_sub(self.before).cast_signed() <= 0 {
            return None;
        }
        Some(outgoing)
    }
}

/// Ticks from the last source's newest packet to the next source's first: the time that passed, at least a frame.
fn advance(since: Instant, first: &Packet) -> u32 {
    let rate = u64::from(first.codec.clock_rate());
    let frame = match first.codec.kind() {
        MediaKind::Audio => rate / 50,
        MediaKind::Video => rate / 60,
    };
    low_u32(ticks_between(since, first).clamp(frame, u64::from(MAX_ADVANCE)))
}

fn ticks_between(since: Instant, packet: &Packet) -> u64 {
    let passed = packet.arrival.saturating_duration_since(since);
    let rate = u64::from(packet.codec.clock_rate());
    // Whole seconds and the rest apart: 64 bits are enough, and far faster than 128.
    let rest = u64::from(passed.subsec_micros()) * rate / 1_000_000;
    passed.as_secs().saturating_mul(rate).saturating_add(rest)
}

#[expect(clippy::cast_possible_truncation, reason = "RTP time is modulo 2^32")]
fn low_u32(value: u64) -> u32 {
    value as u32
}
