//! A token bucket: so many per second, with room for a burst.

use std::time::Instant;

/// How much a bot may still send.
pub(super) struct Bucket {
    /// In thousandths, so that slow rates fill smoothly.
    level: u64,
    full: u64,
    per_second: u64,
    filled: Instant,
}

impl Bucket {
    /// A full one that holds `burst` seconds' worth.
    pub(super) fn new(now: Instant, per_second: u64, burst: u64) -> Self {
        let full = per_second.saturating_mul(burst).saturating_mul(1_000);
        Self { level: full, full, per_second, filled: now }
    }

    /// Takes `amount`, if it is there.
    pub(super) fn take(&mut self, now: Instant, amount: u64) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_millis();
        if elapsed > 0 {
            let more = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(self.per_second);
            self.level = self.level.saturating_add(more).min(self.full);
            self.filled = now;
        }
        let taken = self.level.checked_sub(amount.saturating_mul(1_000));
        self.level = taken.unwrap_or(self.level);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut b = Bucket::new(start, 10, 2);
        assert_eq!((0..30).filter(|_| b.take(start, 1)).count(), 20);
        let passed = (1..=100u64).filter(|n| b.take(start + Duration::from_millis(n * 20), 1)).count();
        assert_eq!(passed, 20);
    }
}
