//! When RTCP is read.
//!
//! A hundred receivers report each 50 ms, at moments of their own: who wakes for each report wakes for little else. So, as
//! network drivers do with their interrupts (Linux, NAPI): the first report is read when it comes; once they come often,
//! they are left in their socket, and read every few milliseconds or with media that comes meanwhile.

use std::time::{Duration, Instant};

/// How long a report may wait: little beside the time to a receiver and back, which is how old it is in any case.
const PERIOD: Duration = Duration::from_millis(5);
/// The same while reports ask for nothing: nobody waits for what they bring, and an idle processor that is woken for them takes longer for that
/// than they take. Where media comes they are read with it, and this is for where little does. Not where they come by the batch: a receiving
/// buffer holds some hundred of them.
const CALM_PERIOD: Duration = Duration::from_millis(25);
/// As long a pause between two reads is wanted even where the thread is awake: fewer at once cost more each.
const PAUSE: Duration = Duration::from_micros(2_500);
const CALM_PAUSE: Duration = Duration::from_micros(7_500);

/// What one read has brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) datagrams: usize,
    /// There may be more.
    pub(crate) more: bool,
    /// Something is to be sent because of it: packets again, or a probe.
    pub(crate) asks: bool,
}

/// When to read without being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Next {
    /// From here on if the thread is awake.
    from: Instant,
    /// Here the thread is woken.
    at: Instant,
}

/// Whether to be told that RTCP is there, or to look.
#[derive(Debug)]
pub(crate) struct Polling {
    /// The last read, and whether it left something.
    last: Instant,
    left: bool,
    next: Option<Next>,
}

impl Polling {
    /// Waits to be told.
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, left: false, next: None }
    }

    /// When to wake to read without being told; `None`: when told.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next.map(|next| next.at)
    }

    /// Whether to read, at a moment at which the thread is awake; `told` says that there is something.
    pub(crate) fn is_due(&self, now: Instant, told: bool) -> bool {
        self.next.map_or(told, |next| next.from <= now)
    }

    /// That was read.
    pub(crate) fn read(&mut self, now: Instant, round: Round) {
        let often = self.next.is_some() || now.saturating_duration_since(self.last) < PERIOD;
        let early = self.next.filter(|next| now < next.at);
        let (pause, period) =
            if round.asks || self.left { (PAUSE, PERIOD) } else { (CALM_PAUSE, CALM_PERIOD) };
        self.next = match (round.more, round.datagrams > 0 && often, early) {
            (true, ..) => Some(Next { from: now, at: now }),
            (false, true, _) => Some(Next { from: now + pause, at: now + period }),
            // Only a whole period without any says that they are rare.
            (false, false, Some(Next { at, .. })) => Some(Next { from: (now + pause).min(at), at }),
            (false, false, None) => None,
        };
        (self.last, self.left) = (now, round.more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn round(datagrams: usize) -> Round {
        Round { datagrams, more: false, asks: true }
    }

    #[test]
    fn rare_reports_are_read_when_they_come() {
        let begin = Instant::now();
        let mut polling = Polling::new(begin);
        for i in 1..10 {
            let now = begin + 20 * MS * i;
            assert!(!polling.is_due(now, false) && polling.is_due(now, true));
            polling.read(now, round(1));
            assert_eq!(polling.next(), None);
        }
    }

    #[test]
    fn frequent_ones_wait_for_the_period_or_for_media() {
        let begin = Instant::now();
        let mut polling = Polling::new(begin);
        polling.read(begin + MS, round(1));
        assert_eq!(polling.next(), Some(begin + 6 * MS));
        assert!(!polling.is_due(begin + 3 * MS, true) && polling.is_due(begin + 4 * MS, false));
        let calm = Round { asks: false, ..round(7) };
        polling.read(begin + 6 * MS, calm);
        assert_eq!(polling.next(), Some(begin + 31 * MS), "none of them asks for anything");
        assert!(!polling.is_due(begin + 13 * MS, true) && polling.is_due(begin + 14 * MS, false));
        polling.read(begin + 20 * MS, round(7));
        assert_eq!(polling.next(), Some(begin + 25 * MS));
    }

    #[test]
    fn after_a_period_without_any_it_waits_to_be_told() {
        let begin = Instant::now();
        let mut polling = Polling::new(begin);
        polling.read(begin + MS, round(1));
        // Media came earlier, and there were none yet.
        polling.read(begin + 4 * MS, round(0));
        assert_eq!(polling.next(), Some(begin + 6 * MS));
        assert!(!polling.is_due(begin + 5 * MS, false) && polling.is_due(begin + 6 * MS, false));
        polling.read(begin + 6 * MS, round(0));
        assert_eq!(polling.next(), None);
        assert!(!polling.is_due(begin + 7 * MS, false) && polling.is_due(begin + 7 * MS, true));
    }

    #[test]
    fn what_is_left_is_read_with_the_next_round() {
        let now = Instant::now();
        let mut polling = Polling::new(now - 20 * MS);
        polling.read(now, Round { more: true, ..round(64) });
        assert!(polling.next() == Some(now) && polling.is_due(now, false));
        polling.read(now, Round { asks: false, ..round(7) });
        assert_eq!(polling.next(), Some(now + PERIOD), "so many are not let wait for long");
    }
}
