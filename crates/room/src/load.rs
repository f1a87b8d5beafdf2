//! How many videos a busy server serves: last-N by the load of the shard.

use std::time::{Duration, Instant};

/// Above this load, in thousandths, fewer videos are served.
const BUSY: u64 = 800;
/// Below this more are again. Far enough from [`BUSY`] for what one step brings back not to reach it.
const CALM: u64 = 650;
/// From here on not even the first video is spared: voices come next.
const DROWNING: u64 = 950;
/// A step is seen in the next but one report of a host that measures over a second.
const EFFECT: Duration = Duration::from_millis(1_500);
/// Calm for so long before the first step back.
const GROW_AFTER: Duration = Duration::from_secs(4);
/// Each step back that proved too much doubles that, up to this.
const MAX_GROW_AFTER: Duration = Duration::from_secs(60);
/// A step back was too much if the server is busy again within this.
const REGRET: Duration = Duration::from_secs(10);

/// The cap of a room, and what led to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Most videos that anybody is served; `None`: no limit.
    cap: Option<usize>,
    changed: Option<Instant>,
    grown: Option<Instant>,
    calm: Option<Instant>,
    grow_after: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self { cap: None, changed: None, grown: None, calm: None, grow_after: GROW_AFTER }
    }
}

impl Load {
    pub(crate) fn cap(&self) -> Option<usize> {
        self.cap
    }

    /// Takes a report. `served`, `wanted`: the most videos that one subscriber is served, and would be. True: the cap has
    /// changed.
    pub(crate) fn report(&mut self, now: Instant, permille: u64, served: usize, wanted: usize) -> bool {
        if permille >= CALM {
            self.calm = None;
        }
        if permille > BUSY {
            return self.shrink(now, permille, served);
        }
        if permille >= CALM {
            return false;
        }
        let since = *self.calm.get_or_insert(now);
        let since = self.changed.map_or(since, |at| at.max(since));
        let Some(cap) = self.cap else { return false };
        if now.saturating_duration_since(since) < self.grow_after {
            return false;
        }
        let more = cap + (cap / 4).max(1);
        self.cap = (more < wanted).then_some(more);
        (self.changed, self.grown) = (Some(now), Some(now));
        true
    }

    fn shrink(&mut self, now: Instant, permille: u64, served: usize) -> bool {
        if self.changed.is_some_and(|at| now.saturating_duration_since(at) < EFFECT) {
            return false;
        }
        let lowest = usize::from(permille < DROWNING);
        let most = self.cap.map_or(served, |cap| cap.min(served));
        let fewer = (most - (most / 4).max(1).min(most)).max(lowest.min(most));
        if Some(fewer) == self.cap || fewer >= served {
            return false;
        }
        if let Some(grown) = self.grown.take() {
            let regret = now.saturating_duration_since(grown) < REGRET;
            self.grow_after = if regret { (self.grow_after * 2).min(MAX_GROW_AFTER) } else { GROW_AFTER };
        }
        (self.cap, self.changed) = (Some(fewer), Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports once per second; the caps after each. A server whose load is `per` thousandths per video, plus 100.
    fn run(seconds: u64, wanted: usize, per: impl Fn(u64) -> u64) -> Vec<usize> {
        let base = crate::testing::base();
        let mut load = Load::default();
        let mut last = wanted;
        (0..seconds)
            .map(|second| {
                let permille = 100 + per(second) * last as u64;
                last = load.cap().map_or(wanted, |cap| cap.min(wanted));
                load.report(base + Duration::from_secs(second), permille, last, wanted);
                load.cap().map_or(wanted, |cap| cap.min(wanted))
            })
            .collect()
    }

    #[test]
    fn a_busy_server_serves_fewer_within_two_seconds_and_all_when_it_is_calm() {
        let caps = run(60, 9, |second| if (5..30).contains(&second) { 90 } else { 20 });
        assert_eq!(caps[4], 9);
        assert!(caps[6] < 9, "{caps:?}");
        assert!(caps[10..30].iter().all(|c| (5..9).contains(c)), "{caps:?}");
        assert_eq!(caps[59], 9, "{caps:?}");
    }

    #[test]
    fn it_does_not_swing() {
        // Two fit, three do not.
        let caps = run(600, 9, |_| 260);
        let changes = caps.windows(2).filter(|w| w[0] != w[1]).count();
        assert!(caps[30..].iter().all(|c| (2..=3).contains(c)), "{caps:?}");
        assert!(changes < 40, "{changes}");
    }

    #[test]
    fn the_first_video_is_spared_until_nothing_else_helps() {
        assert!(run(60, 4, |_| 740)[20..].iter().all(|c| *c == 1));
        assert_eq!(run(60, 4, |_| 900)[20], 0);
    }
}
