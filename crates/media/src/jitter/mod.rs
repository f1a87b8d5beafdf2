//! The audio jitter buffer: packets in as they arrive, what to play next out, one frame after the other.
//!
//! Sans-IO: `now_us` is an argument, on the clock of the packets' `arrival_us`. The delay follows what is seen:
//!
//! - *Start* (and after each silence): the first packet waits for the jitter of the recent packets (the 95th
//!   percentile of their transit against the fastest; [`INITIAL_DELAY_US`] while little is known).
//! - *Grow*: when nothing is there in time, concealment is played; if the packet then comes, it is played after it,
//!   and the delay has grown by what was concealed. Packets that come after a later one was played make it grow too.
//! - *Shrink*: when over a second or more every packet waited longer than a frame, whole packets are skipped, in
//!   quiet passages if there are any. Delay then stays below a frame and [`GUARD_US`] for a sender without jitter.
//!
//! Drift between the sender's clock and ours is the slow case of growing and shrinking. Silence that the sender did
//! not send (DTX, mute) shows by timestamps that jump where sequence numbers do not. Both jumping is a restart.
//!
//! A *patient* buffer ([`Buffer::patient`]) is for who keeps what is said: each packet waits until so long after the time at which the fastest of
//! the recent ones would have come. So whatever comes within that is played at its place, nothing that is heard is skipped, and after a silence
//! the place is the same. Drift, and the delay that a stall has left behind, are made up for in quiet passages.
//! RFC 3550, 6.4.1 and A.8 (transit times); RFC 7587, 4.2 (timestamps in DTX).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use antiphon_base::AudioCodec;

use crate::audio;

/// Nothing is kept longer than this: past half a second a conversation is not one.
pub const MAX_DELAY_US: u64 = 500_000;

/// The most packets kept: [`MAX_DELAY_US`] of the shortest usual packets (2.5 ms), and some.
pub const MAX_PACKETS: usize = 256;

/// How long the first packet waits when the jitter is unknown. With a frame of waiting for the tick: 25 ms at most.
pub const INITIAL_DELAY_US: u64 = 5_000;

/// The delay shrinks when a packet's waiting would still be this long after it.
pub const GUARD_US: u64 = 2_000;

/// How long concealment goes on while nothing arrives, before it is taken for silence.
const MAX_CONCEAL_MS: u32 = 100;

/// How long every packet must have waited too long before the delay shrinks, and how far growing may double it.
const HOLD_US: u64 = 1_000_000;
const MAX_HOLD_US: u64 = 16_000_000;

/// A timestamp this far from where we are is another timeline.
const RESTART_MS: u32 = 1_000;

/// Sequence numbers this far behind are not late but a restart; so are this many late packets in a row.
const MAX_BEHIND: u64 = 1_000;
const MAX_LATE_RUN: u32 = 10;

/// Packets between two skips, so that speech is only a little faster.
const SKIP_SPACING: u32 = 5;

/// A level (RFC 6464) from which a packet may be skipped unheard, and how long a skip waits for one.
const QUIET_DBOV: u8 = 50;
const FORCE_SKIP_US: u64 = 1_000_000;

/// How far a patient buffer may be from the place where it should be before it makes up for it: three frames.
const SLACK_US: u64 = 60_000;

/// How many transit times and lost sequence numbers are remembered.
const TRANSITS: usize = 64;
const MIN_TRANSITS: usize = 10;
const MAX_LOST_KNOWN: usize = 64;

/// One received audio packet.
#[derive(Debug, Clone)]
pub struct Packet {
    /// RTP sequence number, unwrapped.
    pub seq_ext: u64,
    /// RTP timestamp in the codec's clock, unwrapped.
    pub rtp_time: u64,
    /// The codec's bytes.
    pub payload: Arc<[u8]>,
    /// Arrival on our clock.
    pub arrival_us: u64,
    /// Capture of the first sample, as in [`antiphon_base::Clocks`].
    pub capture_us: u64,
    /// See [`antiphon_base::ClockFlags`].
    pub capture_estimated: bool,
    /// The sender's own level (RFC 6464), if it sent one.
    pub level: Option<u8>,
}

/// What to play next. Ticks are of the codec's RTP clock.
#[derive(Debug, Clone)]
pub enum Playout {
    /// Decode and play.
    Packet(Packet),
    /// Decode, but do not play: the delay shrinks.
    Skip(Packet),
    /// Something was sent and is missing: conceal `ticks`.
    Lost {
        /// How much.
        ticks: u32,
        /// The packet just after the gap, if it ends here: it may hold redundancy (Opus in-band FEC).
        next: Option<Arc<[u8]>>,
    },
    /// Nothing was there in time, lost or only late: conceal `ticks`.
    Late {
        /// How much.
        ticks: u32,
    },
    /// Nothing was sent: mute, DTX, not started.
    Silence {
        /// How much.
        ticks: u32,
        /// The sender is in DTX: the decoder's comfort noise may fill it.
        dtx: bool,
    },
}

/// What became of the packets: `received = played + skipped + late + duplicates + discarded +` those in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Packets pushed.
    pub received: u64,
    /// Packets given out to be played.
    pub played: u64,
    /// Packets given out to be skipped, to shorten the delay.
    pub skipped: u64,
    /// Packets that came after their turn.
    pub late: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets dropped because the buffer was full or the source restarted.
    pub discarded: u64,
    /// Sequence numbers that never came in time.
    pub lost: u64,
    /// Times when the delay grew because a packet was late.
    pub grown: u64,
    /// Times when the timeline began anew.
    pub restarts: u64,
}

struct Entry {
    packet: Packet,
    duration: u32,
    dtx: bool,
}

impl Entry {
    /// The sender says that nothing is to be heard in it.
    fn is_quiet(&self) -> bool {
        self.dtx || self.packet.level.is_some_and(|level| level >= QUIET_DBOV)
    }
}

/// Where the timeline stands while something is played.
struct Playing {
    /// The RTP time of the next sample.
    at: u64,
    /// Ticks concealed since the last packet.
    concealed: u32,
    /// The last packet was DTX.
    dtx: bool,
}

/// How long packets wait, and what may be skipped because of it.
struct Shrink {
    since_us: u64,
    least_wait_us: u64,
    hold_us: u64,
    budget_us: u64,
    budget_since_us: u64,
    spacing: u32,
}

impl Shrink {
    const NEW: Self = Self {
        since_us: 0,
        least_wait_us: u64::MAX,
        hold_us: HOLD_US,
        budget_us: 0,
        budget_since_us: 0,
        spacing: 0,
    };

    fn restart(&mut self, now_us: u64) {
        *self = Self { since_us: now_us, hold_us: self.hold_us, ..Self::NEW };
    }

    fn grown(&mut self, now_us: u64) {
        self.hold_us = (self.hold_us * 2).min(MAX_HOLD_US);
        self.restart(now_us);
    }

    /// Notes a packet's waiting; true if it is to be skipped.
    fn skip(&mut self, now_us: u64, entry: &Entry, duration_us: u64) -> bool {
        let wait = now_us.saturating_sub(entry.packet.arrival_us);
        self.least_wait_us = self.least_wait_us.min(wait);
        self.spacing = self.spacing.saturating_add(1);
        if now_us.saturating_sub(self.since_us) >= self.hold_us {
            self.budget_us = self.least_wait_us.saturating_sub(GUARD_US);
            self.budget_since_us = now_us;
            self.since_us = now_us;
            self.least_wait_us = u64::MAX;
            self.hold_us = (self.hold_us / 2).max(HOLD_US);
        }
        let quiet = entry.dtx || entry.packet.level.is_none_or(|level| level >= QUIET_DBOV);
        let forced = now_us.saturating_sub(self.budget_since_us) >= FORCE_SKIP_US / 2;
        let skip = duration_us > 0
            && self.budget_us >= duration_us.max(20_000)
            && self.spacing >= SKIP_SPACING
            && (quiet || forced);
        if skip {
            self.budget_us -= duration_us;
            self.spacing = 0;
            // Waiting seen before the skip says nothing about the time after it.
            self.since_us = now_us;
            self.least_wait_us = u64::MAX;
        }
        skip
    }
}

/// The jitter buffer of one audio stream.
pub struct Buffer {
    codec: AudioCodec,
    packets: BTreeMap<u64, Entry>,
    /// `None`: silence; the next packet starts anew.
    playing: Option<Playing>,
    /// The next sequence number to play.
    next_seq: Option<u64>,
    dtx: bool,
    late_run: u32,
    late_credit: u32,
    lost_known: VecDeque<u64>,
    transits: VecDeque<i64>,
    shrink: Shrink,
    /// How long the fastest packets wait, in a buffer that does not hurry.
    patience_us: Option<u64>,
    stats: Stats,
}

impl Buffer {
    /// An empty buffer.
    pub fn new(codec: AudioCodec) -> Self {
        Self {
            codec,
            packets: BTreeMap::new(),
            playing: None,
            next_seq: None,
            dtx: false,
            late_run: 0,
            late_credit: 0,
            lost_known: VecDeque::new(),
            transits: VecDeque::new(),
            shrink: Shrink::NEW,
            patience_us: None,
            stats: Stats::default(),
        }
    }

    /// An empty buffer in which the fastest packets wait so long.
    pub fn patient(codec: AudioCodec, patience_us: u64) -> Self {
        Self { patience_us: Some(patience_us), ..Self::new(codec) }
    }

    /// The counters so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Packets waiting.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The delay a first packet would be given now: the jitter seen, at most half of [`MAX_DELAY_US`].
    pub fn start_delay_us(&self) -> u64 {
        if self.transits.len() < MIN_TRANSITS {
            return INITIAL_DELAY_US;
        }
        let mut sorted: Vec<_> = self.transits.iter().copied().collect();
        sorted.sort_unstable();
        let jitter = sorted[sorted.len() * 95 / 100] - sorted[0];
        u64::try_from(jitter).unwrap_or(0).min(MAX_DELAY_US / 2)
    }

    /// Forgets the stream, as when its SSRC changes. Counters stay.
    pub fn restart(&mut self) {
        self.stats.discarded += self.packets.len() as u64;
        self.stats.restarts += 1;
        self.packets.clear();
        self.playing = None;
        self.next_seq = None;
        self.late_run = 0;
        self.late_credit = 0;
        self.lost_known.clear();
        self.transits.clear();
        self.shrink = Shrink::NEW;
    }

    /// Takes a packet in any order.
    pub fn push(&mut self, packet: Packet) {
        self.stats.received += 1;
        if let Some(next) = self.next_seq
            && packet.seq_ext < next
            && !self.too_old(&packet, next)
        {
            return;
        }
        self.late_run = 0;
        if self.packets.contains_key(&packet.seq_ext) {
            self.stats.duplicates += 1;
            return;
        }
        let duration = audio::packet_duration(self.codec, &packet.payload);
        let dtx = audio::is_dtx(self.codec, &packet.payload);
        self.note_transit(&packet);
        self.packets.insert(packet.seq_ext, Entry { packet, duration, dtx });
        self.bound();
    }

    /// A packet from before `next`: true if it is the start of another timeline.
    fn too_old(&mut self, packet: &Packet, next: u64) -> bool {
        self.late_run += 1;
        if next - packet.seq_ext > MAX_BEHIND || self.late_run > MAX_LATE_RUN {
            self.restart();
            return true;
        }
        if let Some(index) = self.lost_known.iter().position(|seq| *seq == packet.seq_ext) {
            self.lost_known.remove(index);
            self.stats.late += 1;
            self.stats.lost = self.stats.lost.saturating_sub(1);
            self.late_credit += 1;
        } else {
            self.stats.duplicates += 1;
        }
        false
    }

    fn note_transit(&mut self, packet: &Packet) {
        if self.transits.len() >= TRANSITS {
            self.transits.pop_front();
        }
        let transit = packet.arrival_us.wrapping_sub(self.sent_us(packet.rtp_time)).cast_signed();
        if self.transits.back().is_some_and(|last| last.abs_diff(transit) > 1000 * u64::from(RESTART_MS)) {
            self.transits.clear();
        }
        self.transits.push_back(transit);
    }

    /// An RTP time in microseconds. Only differences of such times mean anything, so wrapping is harmless.
    fn sent_us(&self, rtp_time: u64) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "only differences matter")]
        let us = (u128::from(rtp_time) * 1_000_000 / u128::from(self.codec.clock_rate())) as u64;
        us
    }

    /// How far `now_us` is behind the time at which a patient buffer should play what was sent at `rtp_time`.
    fn behind_us(&self, rtp_time: u64, now_us: u64, patience_us: u64) -> i64 {
        let fastest = self.transits.iter().min().copied().unwrap_or(0);
        let due_us = self.sent_us(rtp_time).wrapping_add_signed(fastest).wrapping_add(patience_us);
        now_us.wrapping_sub(due_us).cast_signed()
    }

    /// Keeps within [`MAX_PACKETS`] and [`MAX_DELAY_US`], behind its patience, by dropping the oldest.
    fn bound(&mut self) {
        let most_us = MAX_DELAY_US + self.patience_us.unwrap_or(0);
        let most = most_us * u64::from(self.codec.clock_rate()) / 1_000_000;
        while let (Some((_, first)), Some((_, last))) =
            (self.packets.first_key_value(), self.packets.last_key_value())
        {
            let span =
                (last.packet.rtp_time + u64::from(last.duration)).saturating_sub(first.packet.rtp_time);
            let restart = span > most + u64::from(self.ticks_of_ms(RESTART_MS));
            if self.packets.len() <= MAX_PACKETS && (span <= most || restart || self.packets.len() == 1) {
                return;
            }
            let (seq, dropped) = self.packets.pop_first().expect("there is a first");
            self.stats.discarded += 1;
            self.next_seq = Some(seq + 1);
            if let Some(playing) = &mut self.playing {
                playing.at = playing.at.max(dropped.packet.rtp_time + u64::from(dropped.duration));
            }
        }
    }

    fn ticks_of_ms(&self, ms: u32) -> u32 {
        self.codec.clock_rate() / 1000 * ms
    }

    /// What to play next. `want`: how many ticks are missing from the frame being made; what is not a packet, nor
    /// the gap that redundancy can fill, is at most that long.
    pub fn pop(&mut self, now_us: u64, want: u32) -> Playout {
        // Each round takes a packet, changes the state once, or returns.
        loop {
            if self.playing.is_none() && !self.start(now_us) {
                return Playout::Silence { ticks: want, dtx: self.dtx };
            }
            let Some((&seq, entry)) = self.packets.first_key_value() else {
                return self.underrun(want);
            };
            let playing = self.playing.as_mut().expect("started above");
            let gap = entry.packet.rtp_time.wrapping_sub(playing.at).cast_signed();
            let next_seq = self.next_seq.unwrap_or(seq);
            let far = u64::from(self.codec.clock_rate() / 1000 * RESTART_MS);
            if gap.unsigned_abs() > far {
                // Another timeline, or a long silence.
                self.stats.restarts += u64::from(gap < 0);
                self.stop();
            } else if seq == next_seq && gap > 0 {
                // Nothing was sent in between: the end of DTX or mute. It starts anew, without an audible seam.
                self.stop();
            } else if gap > 0 {
                return self.hole(want);
            } else if self.patience_us.is_none() && self.late_credit >= 2 && gap == 0 {
                self.late_credit = 0;
                self.stats.grown += 1;
                self.shrink.grown(now_us);
                return Playout::Late { ticks: want };
            } else if self.is_early(now_us) {
                self.shrink.spacing = 0;
                self.stats.grown += 1;
                return Playout::Late { ticks: want };
            } else if let Some(playout) = self.take(now_us, gap < 0) {
                return playout;
            }
        }
    }

    /// Whether a patient buffer plays too early, and may wait for a frame unheard.
    fn is_early(&self, now_us: u64) -> bool {
        let Some(patience_us) = self.patience_us else { return false };
        self.packets.first_key_value().is_some_and(|(_, entry)| {
            let behind_us = self.behind_us(entry.packet.rtp_time, now_us, patience_us);
            self.shrink.spacing >= SKIP_SPACING && entry.is_quiet() && behind_us <= -SLACK_US.cast_signed()
        })
    }

    /// Whether a packet is to be skipped, so that the delay shrinks.
    fn skip(&mut self, now_us: u64, entry: &Entry) -> bool {
        let duration_us = u64::from(entry.duration) * 1_000_000 / u64::from(self.codec.clock_rate());
        let Some(patience_us) = self.patience_us else {
            return self.shrink.skip(now_us, entry, duration_us);
        };
        let behind_us = self.behind_us(entry.packet.rtp_time, now_us, patience_us);
        self.shrink.spacing = self.shrink.spacing.saturating_add(1);
        let skip = entry.is_quiet()
            && self.shrink.spacing > SKIP_SPACING
            && behind_us >= (SLACK_US + duration_us).cast_signed();
        if skip {
            self.shrink.spacing = 0;
        }
        skip
    }

    fn stop(&mut self) {
        self.playing = None;
        if let Some((seq, _)) = self.packets.first_key_value() {
            self.next_seq = Some(*seq);
        }
    }

    /// Out of silence, if the first packet has waited long enough.
    fn start(&mut self, now_us: u64) -> bool {
        let Some((&seq, entry)) = self.packets.first_key_value() else { return false };
        let (rtp_time, arrival_us) = (entry.packet.rtp_time, entry.packet.arrival_us);
        let waits = match self.patience_us {
            Some(patience_us) => !self.is_due(rtp_time, arrival_us, now_us, patience_us),
            None => now_us < arrival_us + self.start_delay_us(),
        };
        if waits {
            return false;
        }
        self.playing = Some(Playing { at: rtp_time, concealed: 0, dtx: false });
        self.lose_until(seq);
        self.shrink.restart(now_us);
        true
    }

    /// Whether the time of the first packet of a patient buffer has come.
    fn is_due(&mut self, rtp_time: u64, arrival_us: u64, now_us: u64, patience_us: u64) -> bool {
        if self.behind_us(rtp_time, arrival_us, patience_us) <= 0 {
            return self.behind_us(rtp_time, now_us, patience_us) >= 0;
        }
        // It came too late. If a stall has held it up, those behind it have come with it, and wait no longer than it did.
        let last = self.packets.last_key_value().map_or(rtp_time, |(_, last)| last.packet.rtp_time);
        if self.sent_us(last).wrapping_sub(self.sent_us(rtp_time)) >= patience_us {
            return true;
        }
        // Else the sender's timestamps stood still while it said nothing: this is the fastest way now.
        let is_due = now_us >= arrival_us + patience_us;
        if is_due {
            let transit = arrival_us.wrapping_sub(self.sent_us(rtp_time)).cast_signed();
            self.transits.retain(|t| t.saturating_add_unsigned(patience_us) >= transit);
        }
        is_due
    }

    /// Counts the sequence numbers before `seq` as lost.
    fn lose_until(&mut self, seq: u64) {
        let from = self.next_seq.unwrap_or(seq).min(seq);
        self.stats.lost += if seq - from > MAX_BEHIND { 0 } else { seq - from };
        for lost in from.max(seq.saturating_sub(MAX_LOST_KNOWN as u64))..seq {
            if self.lost_known.len() >= MAX_LOST_KNOWN {
                self.lost_known.pop_front();
            }
            self.lost_known.push_back(lost);
        }
        self.next_seq = Some(seq);
    }

    fn underrun(&mut self, want: u32) -> Playout {
        let most = self.ticks_of_ms(MAX_CONCEAL_MS);
        let playing = self.playing.as_mut().expect("only called while playing");
        if playing.dtx || playing.concealed >= most {
            self.dtx = playing.dtx;
            self.playing = None;
            return Playout::Silence { ticks: want, dtx: self.dtx };
        }
        playing.at += u64::from(want);
        playing.concealed += want;
        Playout::Late { ticks: want }
    }

    /// Packets are missing before the first one, and their time has come.
    fn hole(&mut self, want: u32) -> Playout {
        let (_, entry) = self.packets.first_key_value().expect("the caller saw it");
        let playing = self.playing.as_mut().expect("only called while playing");
        let gap = u32::try_from(entry.packet.rtp_time - playing.at).unwrap_or(want);
        let ends = gap <= entry.duration.max(want);
        let next = ends.then(|| Arc::clone(&entry.packet.payload));
        let ticks = if ends { gap } else { want };
        playing.at += u64::from(ticks);
        Playout::Lost { ticks, next }
    }

    /// Takes the first packet; `None` for one without sound.
    fn take(&mut self, now_us: u64, grown: bool) -> Option<Playout> {
        let (seq, entry) = self.packets.pop_first().expect("the caller saw it");
        self.lose_until(seq);
        self.next_seq = Some(seq + 1);
        let playing = self.playing.as_mut().expect("only called while playing");
        playing.at = entry.packet.rtp_time + u64::from(entry.duration);
        playing.concealed = 0;
        playing.dtx = entry.dtx;
        self.dtx = entry.dtx;
        if grown {
            self.stats.grown += 1;
            self.shrink.grown(now_us);
        }
        if self.skip(now_us, &entry) {
            self.stats.skipped += 1;
            return Some(Playout::Skip(entry.packet));
        }
        self.stats.played += 1;
        (entry.duration > 0).then_some(Playout::Packet(entry.packet))
    }
}

#[cfg(test)]
mod tests;
