//! How many videos a line carries: with hysteresis, so that none comes and goes.

use std::time::{Duration, Instant};

/// Videos of which not even the lowest layers get through are shed after this: a drop of the estimate at a key frame is
/// over by then, and publishers that were told the limit have followed it.
const SHED_AFTER: Duration = Duration::from_millis(1_500);
/// One more is served again after there was room for so long.
const GROW_AFTER: Duration = Duration::from_secs(3);
/// Room is this share of what is needed, in percent.
const ROOM_PERCENT: u64 = 125;
/// And where there is so much for all, they come together: who joins a large room is taken for a narrow line until the first
/// probes have come through, and would else look at empty places for half a minute.
const AMPLE_PERCENT: u64 = 200;

/// The limit of one subscriber's line, and what led to it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shed {
    /// Most videos that are served; `None`: all.
    pub(crate) limit: Option<usize>,
    short: Option<Instant>,
    room: Option<Instant>,
}

impl Shed {
    /// Works the limit out anew. `fitting(percent)`: how many of the `wanted` videos would fit at their lowest if they
    /// took this share of what they take; `keep` is the share at which one that is served is kept. True: some are shed now,
    /// and those are to be served that fit whole.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        wanted: usize,
        keep: u64,
        fitting: impl Fn(u64) -> usize,
    ) -> bool {
        let served = self.limit.map_or(wanted, |limit| limit.min(wanted));
        if fitting(keep) < served {
            self.room = None;
            let since = *self.short.get_or_insert(now);
            let sheds = now.saturating_duration_since(since) >= SHED_AFTER;
            if sheds {
                self.short = None;
                self.limit = Some(fitting(100));
            }
            return sheds;
        }
        self.short = None;
        if self.limit.is_none_or(|limit| limit >= wanted) {
            (self.limit, self.room) = (None, None);
        } else if fitting(ROOM_PERCENT) > served {
            let since = *self.room.get_or_insert(now);
            if now.saturating_duration_since(since) >= GROW_AFTER {
                self.room = Some(now);
                let more = if fitting(AMPLE_PERCENT) == wanted { wanted } else { served + 1 };
                self.limit = Some(more).filter(|limit| *limit < wanted);
            }
        } else {
            self.room = None;
        }
        false
    }

    /// Too much is served, and the time to shed it has not come: all of it goes on.
    pub(crate) fn waits(&self) -> bool {
        self.short.is_some()
    }

    /// When it is to be looked at again, even if nothing happens.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.short.map(|at| at + SHED_AFTER).or(self.room.map(|at| at + GROW_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four videos of 150 kbit/s; each step: milliseconds, and what the line carries. The limits after each.
    fn run(script: &[(u64, u64)]) -> Vec<Option<usize>> {
        let mut shed = Shed::default();
        let mut now = crate::testing::base();
        let steps = script.iter().map(|(ms, bps)| {
            now += Duration::from_millis(*ms);
            let fitting = |percent: u64| usize::try_from(bps * 100 / percent / 150_000).unwrap().min(4);
            shed.update(now, 4, 70, fitting);
            shed.limit
        });
        steps.collect()
    }

    #[test]
    fn a_dip_sheds_nothing() {
        assert_eq!(run(&[(0, 300_000), (1_400, 300_000), (50, 600_000), (1_400, 300_000)]), [None; 4]);
        assert_eq!(run(&[(0, 450_000), (9_000, 450_000)]), [None; 2], "70 % are enough to go on");
    }

    #[test]
    fn what_does_not_fit_goes_and_comes_back_one_by_one() {
        let script = [
            (0, 310_000),
            (1_500, 310_000),
            (0, 900_000),
            (2_900, 900_000),
            (100, 900_000),
            (3_000, 900_000),
        ];
        assert_eq!(run(&script), [None, Some(2), Some(2), Some(2), Some(3), None]);
    }

    #[test]
    fn where_there_is_twice_the_room_all_come_back_together() {
        let script =
            [(0, 40_000), (1_500, 40_000), (800, 38_000_000), (2_900, 38_000_000), (100, 38_000_000)];
        assert_eq!(run(&script), [None, Some(0), Some(0), Some(0), None]);
    }

    #[test]
    fn room_must_last() {
        let script =
            [(0, 310_000), (1_500, 310_000), (0, 900_000), (2_900, 310_000), (0, 900_000), (200, 900_000)];
        assert_eq!(run(&script).last(), Some(&Some(2)));
    }
}
