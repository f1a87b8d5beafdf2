//! What may come per second, on average: a bucket that fills with time. It holds one second's worth, and may be overdrawn by
//! what has come already: who overdraws waits until it is even again.

/// One bucket. Time is an argument; it may go back, and then nothing is given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    /// In thousandths of what is counted; negative: overdrawn.
    level: i128,
    last_ms: u64,
}

impl Bucket {
    /// Takes `count` where `per_s` may come per second (0: any); gives the milliseconds to wait before the next.
    pub(crate) fn take(&mut self, count: u64, per_s: u64, now_ms: u64) -> u64 {
        if per_s == 0 {
            return 0;
        }
        let full = i128::from(per_s) * 1000;
        let passed = now_ms.saturating_sub(self.last_ms);
        self.last_ms = self.last_ms.max(now_ms);
        let gained = i128::from(passed) * i128::from(per_s);
        self.level = (self.level + gained).min(full) - i128::from(count) * 1000;
        let owed = (-self.level).max(0);
        // Rounded up: a wait that ends too early would only be followed by another.
        u64::try_from((owed + i128::from(per_s) - 1) / i128::from(per_s)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_faster_waits() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(1000, 1000, 5_000), 0, "a second's worth at once");
        assert_eq!(bucket.take(500, 1000, 5_000), 500);
        assert_eq!(bucket.take(0, 1000, 5_400), 100);
        assert_eq!(bucket.take(0, 1000, 4_000), 100, "a clock that goes back gives nothing");
        assert_eq!(bucket.take(0, 1000, 5_500), 0);
        assert_eq!(bucket.take(1_000, 1000, 60_000), 0, "no more than a second is saved");
        assert_eq!(bucket.take(1, 1000, 60_000), 1);
        assert_eq!(bucket.take(u64::MAX, 0, 60_000), 0);
    }

    #[test]
    fn over_time_it_is_the_rate() {
        let (mut bucket, mut now, mut sent) = (Bucket::default(), 1_000_000, 0);
        while now < 1_100_000 {
            sent += 4096;
            now += bucket.take(4096, 100_000, now).max(1);
        }
        assert!((9_900_000..10_200_000).contains(&sent), "{sent}");
    }
}
