//! The bridge between monotonic time and microseconds since the Unix epoch, fixed when a shard starts.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One pair of readings; all shards of a process share one, so their times compare.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base: Instant,
    base_us: u64,
}

impl Clock {
    /// Reads the system's clock once.
    pub(crate) fn new(base: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at(base, u64::try_from(since.as_micros()).unwrap_or(0))
    }

    /// `base` is `base_us` microseconds after the Unix epoch.
    pub(crate) fn at(base: Instant, base_us: u64) -> Self {
        Self { base, base_us }
    }

    /// Microseconds since the Unix epoch at `at`.
    pub(crate) fn us(&self, at: Instant) -> u64 {
        let forward = at.saturating_duration_since(self.base).as_micros();
        let back = self.base.saturating_duration_since(at).as_micros();
        let us = i128::from(self.base_us) + forward.cast_signed() - back.cast_signed();
        u64::try_from(us).unwrap_or(0)
    }

    /// The moment of `us`.
    pub(crate) fn instant(&self, us: u64) -> Instant {
        if us >= self.base_us {
            self.base + Duration::from_micros(us - self.base_us)
        } else {
            let back = Duration::from_micros(self.base_us - us);
            self.base.checked_sub(back).unwrap_or(self.base)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree() {
        let now = Instant::now();
        let clock = Clock::new(now);
        for ms in [0, 1, 5_000] {
            let at = now + Duration::from_millis(ms);
            assert_eq!(clock.instant(clock.us(at)).saturating_duration_since(at), Duration::ZERO);
        }
        assert!(clock.us(now) > 1_600_000_000_000_000);
    }
}
