//! Whether the wall clock may be believed where it decides what is deleted.
//!
//! Retention ends by the time of day. A clock that jumps a year ahead for a minute (a battery, a wrong server of the time, a
//! snapshot) would take all that is stored with it. So a jump counts only when it has lasted.

use std::time::{Duration, Instant};

/// What clocks are set right by, and machines sleep for, without anybody asking.
const MAX_STEP: Duration = Duration::from_secs(600);
/// How long a larger step ahead must have lasted until it counts.
const LASTS: Duration = Duration::from_secs(3_600);

/// Compares the time of day with a clock that only goes on.
#[derive(Debug)]
pub(crate) struct Wall {
    /// Both at the last look at which they went alike.
    believed: (Instant, u64),
    /// Since when the time of day is ahead of that.
    ahead: Option<Instant>,
}

impl Wall {
    /// Believes the time of day as it is now.
    pub(crate) fn new(now: Instant, wall_ms: u64) -> Self {
        Self { believed: (now, wall_ms), ahead: None }
    }

    /// The time of day that is believed: that of the machine, but for a jump ahead which is not believed yet.
    pub(crate) fn now_ms(&self, now: Instant, wall_ms: u64) -> u64 {
        let expected_ms = self.expected_ms(now);
        if wall_ms.saturating_sub(expected_ms) > millis(MAX_STEP) { expected_ms } else { wall_ms }
    }

    /// What it would be if the time of day had only gone on.
    fn expected_ms(&self, now: Instant) -> u64 {
        self.believed.1.saturating_add(millis(now.saturating_duration_since(self.believed.0)))
    }

    /// Whether things may be deleted by that time of day. To be asked now and then, minutes apart.
    pub(crate) fn is_believed(&mut self, now: Instant, wall_ms: u64) -> bool {
        let jumped = wall_ms.saturating_sub(self.expected_ms(now)) > millis(MAX_STEP);
        let ahead = jumped.then(|| *self.ahead.get_or_insert(now));
        if ahead.is_some_and(|since| now.saturating_duration_since(since) < LASTS) {
            return false;
        }
        (self.believed, self.ahead) = ((now, wall_ms), None);
        true
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const YEAR_MS: u64 = 365 * 86_400_000;
    const T0: u64 = 1_700_000_000_000;

    /// A look each minute with these steps of the clock beside the minute, in ms: whether it was believed.
    fn looks(wall: &mut Wall, begin: Instant, steps: &[i64]) -> Vec<bool> {
        let mut wall_ms = T0;
        let look = |(i, step): (usize, &i64)| {
            wall_ms = wall_ms.saturating_add_signed(60_000 + step);
            wall.is_believed(begin + MINUTE * u32::try_from(i + 1).unwrap(), wall_ms)
        };
        steps.iter().enumerate().map(look).collect()
    }

    #[test]
    fn a_clock_that_is_set_right_is_believed() {
        let begin = Instant::now();
        let steps = [0, 30_000, -30_000, 500_000, 500_000, -YEAR_MS.cast_signed(), 0];
        assert_eq!(looks(&mut Wall::new(begin, T0), begin, &steps), [true; 7]);
    }

    #[test]
    fn a_jump_ahead_that_is_taken_back_deletes_nothing() {
        let begin = Instant::now();
        let mut steps = vec![0; 10];
        steps[2] = YEAR_MS.cast_signed();
        steps[7] = -YEAR_MS.cast_signed();
        let seen = looks(&mut Wall::new(begin, T0), begin, &steps);
        assert_eq!(seen, [true, true, false, false, false, false, false, true, true, true]);
    }

    #[test]
    fn until_a_jump_is_believed_the_time_goes_on_without_it() {
        let begin = Instant::now();
        let mut wall = Wall::new(begin, T0);
        let hour = MINUTE * 60;
        assert_eq!(wall.now_ms(begin + MINUTE, T0 + 60_000 + 500_000), T0 + 560_000, "a small step");
        assert_eq!(wall.now_ms(begin + MINUTE, T0 - 5), T0 - 5, "a step back");
        for minutes in 1..=60 {
            let (at, ms) = (begin + MINUTE * minutes, T0 + u64::from(minutes) * 60_000);
            assert_eq!(wall.now_ms(at, ms + YEAR_MS), ms);
            assert!(!wall.is_believed(at, ms + YEAR_MS));
        }
        let (at, ms) = (begin + hour + MINUTE, T0 + YEAR_MS + 61 * 60_000);
        assert!(wall.is_believed(at, ms));
        assert_eq!(wall.now_ms(at + MINUTE, ms + 60_000), ms + 60_000);
    }

    #[test]
    fn a_jump_that_lasts_an_hour_counts() {
        let begin = Instant::now();
        let mut steps = vec![0; 70];
        steps[3] = YEAR_MS.cast_signed();
        let seen = looks(&mut Wall::new(begin, T0), begin, &steps);
        assert_eq!(seen.iter().position(|believed| !believed), Some(3));
        assert_eq!(seen.iter().rposition(|believed| !believed), Some(62));
    }
}
