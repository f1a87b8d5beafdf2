//! The shards' clock, by tokio's time, which tests can turn; and the time of day, by which what is stored is kept and removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// Maps tokio's time to the wall clock's. Clones are one clock.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    shards: antiphon_shard::Clock,
    /// By how much the time of day is ahead of that, since it was set.
    ahead_ms: Arc<AtomicU64>,
}

impl Clock {
    /// The clock as of now.
    pub(crate) fn new() -> Self {
        Self { shards: antiphon_shard::Clock::new(Instant::now().into_std()), ahead_ms: Arc::default() }
    }

    /// `at` in microseconds since the Unix epoch, on the axis of all media: it never jumps.
    pub(crate) fn us(&self, at: Instant) -> u64 {
        self.shards.us(at.into_std())
    }

    /// Now, in milliseconds, on that axis.
    pub(crate) fn axis_ms(&self) -> u64 {
        self.us(Instant::now()) / 1_000
    }

    /// The time of day, in milliseconds since the Unix epoch: what the store is told. It jumps ahead where the operator's clock was set.
    pub(crate) fn now_ms(&self) -> u64 {
        self.axis_ms().saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// It is `now_ms` at least. Where the operator's clock is set back, this one goes on.
    pub(crate) fn set(&self, now_ms: u64) {
        self.ahead_ms.fetch_max(now_ms.saturating_sub(self.axis_ms()), Ordering::Relaxed);
    }
}
