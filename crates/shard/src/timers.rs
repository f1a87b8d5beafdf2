//! Deadlines of peers and rooms in one order; at most one each, so idle peers cost nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A deadline that has moved back by less is left where it was: to wake once for nothing costs about what moving it does, and many move with
/// each packet.
const MOVED: Duration = Duration::from_millis(100);

/// Whose deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Slot of a peer.
    Peer(usize),
    /// Slot of a room.
    Room(usize),
    /// The shard's own housekeeping.
    Housekeeping,
}

/// All deadlines of a shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Wakes `timer` at `at`, or somewhat before, where `scheduled` (the owner's field) is as early. A deadline that is not much later than
    /// that is kept by the owner, and scheduled when this one has come.
    pub(crate) fn schedule(&mut self, timer: Timer, at: Instant, scheduled: &mut Option<Instant>) {
        if scheduled.is_some_and(|s| s <= at && at - s < MOVED) {
            return;
        }
        self.cancel(timer, *scheduled);
        *scheduled = Some(at);
        self.set.insert((at, timer));
    }

    /// Its owner is gone, or wakes earlier.
    pub(crate) fn cancel(&mut self, timer: Timer, scheduled: Option<Instant>) {
        if let Some(at) = scheduled {
            self.set.remove(&(at, timer));
        }
    }

    /// Deadlines: one of each owner at most.
    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    /// When to wake at the latest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.set.first().map(|(at, _)| *at)
    }

    /// The next timer that is due. The owner checks whether it still means it and schedules again.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Timer> {
        self.next().filter(|at| *at <= now)?;
        self.set.pop_first().map(|(_, timer)| timer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_owner_has_one_deadline_the_earliest() {
        let base = Instant::now();
        let at = |ms| base + Duration::from_millis(ms);
        let (mut timers, mut scheduled, mut other) = (Timers::default(), None, None);
        timers.schedule(Timer::Peer(2), at(50), &mut other);
        for ms in [40, 90, 30, 35, 20] {
            timers.schedule(Timer::Peer(1), at(ms), &mut scheduled);
        }
        assert_eq!((timers.len(), timers.next(), scheduled), (2, Some(at(20)), Some(at(20))));
        assert_eq!(timers.pop(at(19)), None);
        assert_eq!(timers.pop(at(60)), Some(Timer::Peer(1)));
        timers.cancel(Timer::Peer(2), other);
        assert_eq!((timers.pop(at(60)), timers.len()), (None, 0));
    }

    #[test]
    fn one_that_has_moved_far_back_wakes_nobody_where_it_was() {
        let base = Instant::now();
        let (mut timers, mut scheduled) = (Timers::default(), None);
        timers.schedule(Timer::Peer(1), base, &mut scheduled);
        timers.schedule(Timer::Peer(1), base + MOVED / 2, &mut scheduled);
        assert_eq!((timers.next(), scheduled), (Some(base), Some(base)));
        timers.schedule(Timer::Peer(1), base + MOVED, &mut scheduled);
        assert_eq!((timers.next(), scheduled, timers.len()), (Some(base + MOVED), Some(base + MOVED), 1));
    }
}
