//! How many videos a busy server serves: last-N by the load of the shard.

use std::time::{Duration, Instant};

/// A step is seen in the next but one report of a host that measures over a second.
const EFFECT: Duration = Duration::from_millis(1_500);
/// Calm for so long before the first step back.
const GROW_AFTER: Duration = Duration::from_secs(4);
/// Each step back that proved too much doubles that, up to this.
const MAX_GROW_AFTER: Duration = Duration::from_secs(60);
/// A step back was too much if the server is busy again within this.
const REGRET: Duration = Duration::from_secs(10);

/// Loads from which on something is done, in thousandths. All follow from one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    /// Above this fewer videos are served.
    busy: u64,
    /// Below this more are again. Far enough from `busy` for what one step brings back not to reach it.
    calm: u64,
    /// From here on not even the first video is spared: voices come next.
    drowning: u64,
}

impl Levels {
    /// Those of a host that is busy above `busy` thousandths: 650 and 950 where that is 800. From 1,000 on nothing is held back.
    pub(crate) fn above(busy: u64) -> Self {
        Self { busy, calm: busy * 13 / 16, drowning: busy + 1_000_u64.saturating_sub(busy) * 3 / 4 }
    }
}

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

/// What a shard's host tells of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) permille: u64,
    pub(crate) levels: Levels,
    /// The most videos that one subscriber of the shard is served, and would be.
    pub(crate) served: usize,
    pub(crate) wanted: usize,
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

    /// Takes a report. True: the cap has changed.
    pub(crate) fn report(&mut self, now: Instant, load: Report) -> bool {
        let Report { permille, levels, served, wanted } = load;
        if permille >= levels.calm {
            self.calm = None;
        }
        if permille > levels.busy {
            let lowest = usize::from(permille < levels.drowning);
            return self.shrink(now, lowest, served);
        }
        if permille >= levels.calm {
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

    fn shrink(&mut self, now: Instant, lowest: usize, served: usize) -> bool {
        if self.changed.is_some_and(|at| now.saturating_duration_since(at) < EFFECT) {
            return false;
        }
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
        run_above(800, seconds, wanted, per)
    }

    /// As [`run`], of one that is busy above `busy` thousandths.
    fn run_above(busy: u64, seconds: u64, wanted: usize, per: impl Fn(u64) -> u64) -> Vec<usize> {
        let base = crate::testing::base();
        let mut load = Load::default();
        let mut last = wanted;
        (0..seconds)
            .map(|second| {
                let permille = 100 + per(second) * last as u64;
                last = load.cap().map_or(wanted, |cap| cap.min(wanted));
                let report = Report { permille, levels: Levels::above(busy), served: last, wanted };
                load.report(base + Duration::from_secs(second), report);
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

    #[test]
    fn the_operator_says_what_is_busy() {
        let seven_videos = |second| if second < 30 { 20 } else { 10 };
        // 240 with all of them, 170 later.
        let caps = run_above(200, 60, 7, seven_videos);
        assert!(caps[29] < 7, "{caps:?}");
        assert_eq!(caps[59], 7, "{caps:?}");
        assert!(run(60, 7, seven_videos).iter().all(|c| *c == 7));
        let never = run_above(1_000, 60, 7, |_| 120);
        assert!(never.iter().all(|c| *c == 7), "{never:?}");
    }

    #[test]
    fn the_levels_keep_their_places() {
        let Levels { busy, calm, drowning } = Levels::above(800);
        assert_eq!((busy, calm, drowning), (800, 650, 950));
        for busy in 0..=1_000 {
            let levels = Levels::above(busy);
            assert!(levels.calm <= levels.busy && levels.busy <= levels.drowning, "{levels:?}");
        }
    }
}
