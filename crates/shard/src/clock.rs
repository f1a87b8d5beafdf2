//! The bridge between monotonic time and microseconds since the Unix epoch, read once: later times follow the
//! monotonic clock, so that they never jump.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One pair of readings; all shards of a process share one, so their times compare.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: Instant,
    base_us: u64,
}

impl Clock {
    /// Reads the system's clock once.
    pub fn new(base: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at(base, u64::try_from(since.as_micros()).unwrap_or(0))
    }

    /// `base` is `base_us` microseconds after the Unix epoch.
    pub(crate) fn at(base: Instant, base_us: u64) -> Self {
        Self { base, base_us }
    }

    /// Microseconds since the Unix epoch at `at`.
    pub fn us(&self, at: Instant) -> u64 {
        let whole = |d: std::time::Duration| d.as_secs() * 1_000_000 + u64::from(d.subsec_micros());
        match at.checked_duration_since(self.base) {
            Some(after) => self.base_us + whole(after),
            None => self.base_us.saturating_sub(whole(self.base - at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_counts_from_its_base_both_ways() {
        let base = Instant::now();
        let clock = Clock::at(base, 5_000_000);
        assert_eq!(clock.us(base + Duration::from_millis(3)), 5_003_000);
        let later = Clock::at(base + Duration::from_secs(1), 5_000_000);
        assert_eq!(later.us(base), 4_000_000);
        assert!(Clock::new(base).us(base) > 1_600_000_000_000_000);
    }
}
