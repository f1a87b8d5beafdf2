//! The shards' clock, by tokio's time, which tests can turn.

use tokio::time::Instant;

/// Maps tokio's time to the wall clock's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(antiphon_shard::Clock);

impl Clock {
    /// The clock as of now.
    pub(crate) fn new() -> Self {
        Self(antiphon_shard::Clock::new(Instant::now().into_std()))
    }

    /// `at` in microseconds since the Unix epoch.
    pub(crate) fn us(&self, at: Instant) -> u64 {
        self.0.us(at.into_std())
    }

    /// Now, in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.us(Instant::now()) / 1_000
    }
}
