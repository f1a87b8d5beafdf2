//! How far ahead of its playing audio may be sent. No clock here: `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// How far ahead audio is sent. What waits longer waits in the program, where a flush costs nothing.
pub(crate) const MAX_AHEAD: Duration = Duration::from_secs(2);

/// When a push may go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Now.
    Go,
    /// Then, unless something changes before.
    Wait(Instant),
    /// When something changes: the queue is paused, or full at the server.
    WaitForChange,
    /// Never: a flush came after it began.
    Flushed,
}

/// An estimate of what the server has queued of one source.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    played_at: Option<Instant>,
    paused_with: Option<Duration>,
    server_full: bool,
    flushes: u64,
}

impl Pace {
    /// To be given to [`Pace::verdict`] by a push that begins now.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes
    }

    /// How much is sent and not played.
    pub(crate) fn ahead(&self, now: Instant) -> Duration {
        let by_clock = || self.played_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        self.paused_with.unwrap_or_else(by_clock)
    }

    /// Whether a push that began at `flushes` may send its next chunk.
    pub(crate) fn verdict(&self, now: Instant, flushes: u64) -> Verdict {
        if self.flushes != flushes {
            return Verdict::Flushed;
        }
        let excess = self.ahead(now).saturating_sub(MAX_AHEAD);
        if self.server_full || (self.paused_with.is_some() && !excess.is_zero()) {
            return Verdict::WaitForChange;
        }
        if excess.is_zero() { Verdict::Go } else { Verdict::Wait(now + excess) }
    }

    /// A chunk was sent.
    pub(crate) fn add(&mut self, now: Instant, duration: Duration) {
        match &mut self.paused_with {
            Some(queued) => *queued += duration,
            None => self.played_at = Some(self.played_at.map_or(now, |at| at.max(now)) + duration),
        }
    }

    /// The queue is thrown away.
    pub(crate) fn flush(&mut self) {
        self.flushes += 1;
        self.played_at = None;
        self.server_full = false;
        if let Some(queued) = &mut self.paused_with {
            *queued = Duration::ZERO;
        }
    }

    /// The queue is held.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.paused_with = Some(self.ahead(now));
    }

    /// The queue goes on.
    pub(crate) fn resume(&mut self, now: Instant) {
        if let Some(queued) = self.paused_with.take() {
            self.played_at = Some(now + queued);
        }
    }

    /// The server said whether it is full.
    pub(crate) fn server_full(&mut self, full: bool) {
        self.server_full = full;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_waits_when_two_seconds_are_ahead() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.add(now, Duration::from_millis(2_100));
        let late = now + Duration::from_millis(100);
        assert_eq!(pace.verdict(now, 0), Verdict::Wait(late));
        assert_eq!(pace.verdict(late, 0), Verdict::Go);
        pace.add(late, Duration::from_secs(1));
        pace.flush();
        assert_eq!(pace.verdict(late, 0), Verdict::Flushed);
        assert_eq!(pace.verdict(late, pace.flushes()), Verdict::Go);
        assert_eq!(pace.ahead(late), Duration::ZERO);
    }

    #[test]
    fn a_paused_queue_does_not_drain() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.add(now, Duration::from_secs(1));
        pace.pause(now);
        let later = now + Duration::from_secs(5);
        pace.add(later, Duration::from_millis(1_500));
        assert_eq!(pace.verdict(later, 0), Verdict::WaitForChange);
        pace.resume(later);
        assert_eq!(pace.verdict(later, 0), Verdict::Wait(later + Duration::from_millis(500)));
    }

    #[test]
    fn a_full_server_holds_pushes() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.server_full(true);
        assert_eq!(pace.verdict(now, 0), Verdict::WaitForChange);
        pace.server_full(false);
        assert_eq!(pace.verdict(now, 0), Verdict::Go);
    }
}
