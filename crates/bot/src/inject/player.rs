//! The queue of sound that a bot wants spoken: any chunk size and rate in, 20 ms at 48 kHz out, every sample counted.
//!
//! Sans-IO. Positions are counted in 48 kHz samples, of which each sample of the lower rates is a whole number; they
//! are told to the bot at its own rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antiphon_wire::bot::QueueState;

/// Samples per second that go out.
pub(crate) const RATE: u32 = 48_000;
/// Samples of one frame.
pub(crate) const FRAME: usize = 960;
/// Length of one frame.
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// Frames of silence sent after the last sound, so that listeners' decoders and buffers come to rest: 200 ms.
const TAIL: u32 = 10;
/// Below this the queue is `low`.
const LOW: u64 = RATE as u64 / 5;
/// Later than this the schedule begins anew instead of catching up: the process was stopped.
pub(crate) const MAX_LATE: Duration = Duration::from_millis(200);

/// Something the bot is to be told. Samples are at 48 kHz.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A mark was reached, or thrown away by a flush.
    Mark { name: String, sample: u64, flushed: bool },
    /// A water mark was crossed.
    Queue { queued: u64, state: QueueState },
}

/// One frame to encode and send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// When it was due.
    pub(crate) due: Instant,
    /// Mono at 48 kHz.
    pub(crate) samples: Box<[i16; FRAME]>,
    /// The first one after a pause.
    pub(crate) first: bool,
}

/// Resamples one rate to 48 kHz; given by `media`, or by a test.
pub(crate) trait Upsample: Send {
    /// Appends exactly `48000 / rate` samples for each of `input`.
    fn upsample(&mut self, rate: u32, input: &[i16], out: &mut Vec<i16>);
    /// Forgets what came before.
    fn reset(&mut self);
}

struct Chunk {
    rate: u32,
    samples: Vec<i16>,
    at: usize,
}

/// A paced queue.
pub(crate) struct Player {
    upsample: Box<dyn Upsample>,
    chunks: VecDeque<Chunk>,
    /// Resampled and not yet sent: less than a sample of the lowest rate.
    ready: Vec<i16>,
    marks: VecDeque<(u64, String)>,
    notices: VecDeque<Notice>,
    played: u64,
    queued: u64,
    limit: u64,
    max_marks: usize,
    paused: bool,
    /// The water mark last told; `None` once the queue has grown past `low` again.
    told: Option<QueueState>,
    overflowing: bool,
    next: Option<Instant>,
    /// Frames of silence still to send.
    tail: u32,
    /// A frame that is not full waits one tick for its rest.
    held: bool,
}

impl Player {
    /// An empty one that holds at most `limit`.
    pub(crate) fn new(limit: Duration, max_marks: usize, upsample: Box<dyn Upsample>) -> Self {
        Self {
            upsample,
            chunks: VecDeque::new(),
            ready: Vec::new(),
            marks: VecDeque::new(),
            notices: VecDeque::new(),
            played: 0,
            queued: 0,
            limit: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).saturating_mul(48),
            max_marks,
            paused: false,
            told: Some(QueueState::Empty),
            overflowing: false,
            next: None,
            tail: 0,
            held: false,
        }
    }

    /// Queues samples of `rate` (8, 16, 24 or 48 kHz). What is over the limit, the newest, is dropped and told once
    /// until there is room again. Returns how many samples were dropped.
    pub(crate) fn push(&mut self, now: Instant, rate: u32, mut samples: Vec<i16>) -> usize {
        let unit = u64::from(RATE / rate);
        let room = usize::try_from((self.limit - self.queued.min(self.limit)) / unit).unwrap_or(usize::MAX);
        let dropped = samples.len().saturating_sub(room);
        samples.truncate(room);
        self.queued += samples.len() as u64 * unit;
        if !samples.is_empty() {
            self.chunks.push_back(Chunk { rate, samples, at: 0 });
        }
        if dropped > 0 {
            if !std::mem::replace(&mut self.overflowing, true) {
                self.notices.push_back(Notice::Queue { queued: self.queued, state: QueueState::Overflow });
            }
        } else {
            self.overflowing = false;
        }
        if self.queued > self.limit / 2 && self.told != Some(QueueState::High) {
            self.tell(QueueState::High);
        } else if self.queued >= LOW && self.told != Some(QueueState::High) {
            self.told = None;
        }
        if !self.paused && self.queued > 0 && self.next.is_none() {
            self.next = Some(now);
        }
        dropped
    }

    fn tell(&mut self, state: QueueState) {
        self.told = Some(state);
        self.notices.push_back(Notice::Queue { queued: self.queued, state });
    }

    /// Sets a mark behind all that is queued. `false`: too many wait.
    pub(crate) fn mark(&mut self, name: String) -> bool {
        if self.marks.len() >= self.max_marks {
            return false;
        }
        self.marks.push_back((self.played + self.queued, name));
        self.reach_marks();
        true
    }

    fn reach_marks(&mut self) {
        while let Some((sample, _)) = self.marks.front()
            && *sample <= self.played
        {
            let (sample, name) = self.marks.pop_front().expect("it was just seen");
            self.notices.push_back(Notice::Mark { name, sample, flushed: false });
        }
    }

    /// Throws away what is queued. Returns samples played so far and samples thrown away.
    pub(crate) fn flush(&mut self) -> (u64, u64) {
        let discarded = std::mem::take(&mut self.queued);
        self.chunks.clear();
        self.ready.clear();
        self.upsample.reset();
        self.held = false;
        self.overflowing = false;
        self.told = Some(QueueState::Empty);
        for (_, name) in self.marks.drain(..) {
            self.notices.push_back(Notice::Mark { name, sample: self.played, flushed: true });
        }
        (self.played, discarded)
    }

    /// As [`Player::flush`], and no silence follows: its track ends.
    pub(crate) fn end(&mut self) {
        self.flush();
        self.tail = 0;
    }

    /// Holds or goes on.
    pub(crate) fn pause(&mut self, now: Instant, paused: bool) {
        self.paused = paused;
        if !paused && self.queued > 0 && self.next.is_none() {
            self.next = Some(now);
        }
    }

    /// Samples played so far.
    #[cfg(test)]
    pub(crate) fn played(&self) -> u64 {
        self.played
    }

    /// When [`Player::poll`] has a frame; `None` while nothing plays.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// What the bot is to be told.
    pub(crate) fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// The frame that is due at `now`, if one is.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Spoken> {
        let mut due = self.next.filter(|due| *due <= now)?;
        if now.saturating_duration_since(due) > MAX_LATE {
            due = now;
        }
        self.next = Some(due + TICK);
        let first = self.tail == 0;
        let waits = self.queued > 0 && self.queued < FRAME as u64 && !self.held;
        let mut samples = Box::new([0; FRAME]);
        if self.paused || self.queued == 0 || (waits && !first) {
            self.held = waits && !self.paused;
            if self.tail == 0 {
                self.next = None;
                return None;
            }
            self.tail -= 1;
        } else {
            self.held = false;
            self.tail = TAIL;
            self.fill(&mut samples);
        }
        Some(Spoken { due, samples, first })
    }

    /// Takes one frame off the queue.
    fn fill(&mut self, samples: &mut [i16; FRAME]) {
        while self.ready.len() < FRAME
            && let Some(chunk) = self.chunks.front_mut()
        {
            let unit = (RATE / chunk.rate) as usize;
            let wanted = (FRAME - self.ready.len()).div_ceil(unit);
            let end = (chunk.at + wanted).min(chunk.samples.len());
            self.upsample.upsample(chunk.rate, &chunk.samples[chunk.at..end], &mut self.ready);
            chunk.at = end;
            if end == chunk.samples.len() {
                self.chunks.pop_front();
            }
        }
        let count = self.ready.len().min(FRAME);
        samples[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        self.played += count as u64;
        self.queued = self.queued.saturating_sub(count as u64);
        self.reach_marks();
        if self.queued == 0 {
            self.tell(QueueState::Empty);
        } else if self.queued < LOW && !matches!(self.told, Some(QueueState::Low | QueueState::Empty)) {
            self.tell(QueueState::Low);
        }
    }
}

#[cfg(test)]
mod tests;
