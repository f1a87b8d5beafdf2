//! Deadlines of peers and rooms in one heap; at most one live entry each, so idle peers cost nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

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
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    /// Wakes `timer` at `at`, unless `scheduled` (the owner's field) is already as early.
    pub(crate) fn schedule(&mut self, timer: Timer, at: Instant, scheduled: &mut Option<Instant>) {
        if scheduled.is_some_and(|s| s <= at) {
            return;
        }
        *scheduled = Some(at);
        self.heap.push(Reverse((at, timer)));
    }

    /// Deadlines, stale ones included.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// When to wake at the latest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next timer that is due. The owner checks whether it still means it and schedules again.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
