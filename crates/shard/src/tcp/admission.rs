//! Bounds of pipes that have not shown whose they are: few of one source, not many in all, none for long.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::source;

/// Unproven pipes of one source: everybody in an office that joins at the same time, and a browser's several tries.
pub(super) const MAX_PER_SOURCE: u32 = 64;
/// Unproven pipes of a shard, and no more than half of all pipes. With more, the oldest ends: a peer needs a round trip, a
/// flood takes all there is.
pub(super) const MAX_WAITING: usize = 1_024;
/// By then a valid STUN request must have come.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);

/// A pipe that waits, by its place and the time by which one knows that it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) place: usize,
    pub(super) since: Instant,
}

/// Who waits. Pipes that have been proven or have ended stay in line until their turn; whoever takes one out looks whether
/// it still waits.
#[derive(Debug)]
pub(super) struct Admission {
    max_waiting: usize,
    line: VecDeque<Waiting>,
    per_source: HashMap<IpAddr, u32>,
}

impl Admission {
    /// For a shard with so many pipes at most.
    pub(super) fn new(max_pipes: usize) -> Self {
        let max_waiting = (max_pipes / 2).clamp(1, MAX_WAITING);
        Self { max_waiting, line: VecDeque::new(), per_source: HashMap::new() }
    }

    /// Another pipe of this address. `false`: it has too many.
    pub(super) fn enter(&mut self, ip: IpAddr) -> bool {
        let count = self.per_source.entry(source(ip)).or_default();
        let free = *count < MAX_PER_SOURCE;
        *count += u32::from(free);
        free
    }

    /// A pipe of this address has been proven or has ended.
    pub(super) fn leave(&mut self, ip: IpAddr) {
        if let Some(count) = self.per_source.get_mut(&source(ip)) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source(ip));
            }
        }
    }

    /// A pipe waits. Gives the one that has to end for it.
    pub(super) fn wait(&mut self, place: usize, since: Instant) -> Option<Waiting> {
        self.line.push_back(Waiting { place, since });
        if self.line.len() > self.max_waiting { self.line.pop_front() } else { None }
    }

    /// A pipe that has waited too long.
    pub(super) fn late(&mut self, now: Instant) -> Option<Waiting> {
        let first = self.line.front()?;
        if now.saturating_duration_since(first.since) < MAX_WAIT { None } else { self.line.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_its_share_only() {
        let mut admission = Admission::new(10_000);
        let household = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        let entered = (0..200).filter(|n| admission.enter(household(*n))).count();
        assert_eq!(entered, 64);
        assert!(admission.enter("192.0.2.1".parse().unwrap()));
        admission.leave(household(7));
        assert!(admission.enter(household(300)));
        assert!(!admission.enter(household(301)));
    }

    #[test]
    fn who_waits_longest_ends_first() {
        let (mut admission, start) = (Admission::new(10_000), Instant::now());
        let at = |n: usize| start + Duration::from_millis(n as u64);
        for n in 0..MAX_WAITING {
            assert_eq!(admission.wait(n, at(n)), None);
        }
        assert_eq!(admission.wait(5_000, at(5_000)), Some(Waiting { place: 0, since: at(0) }));
        assert_eq!(admission.late(at(1) + MAX_WAIT), Some(Waiting { place: 1, since: at(1) }));
        assert_eq!(admission.late(at(1) + MAX_WAIT), None);
    }
}
