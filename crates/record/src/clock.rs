//! The wall clock, read once: later times follow the monotonic one, so that they never jump and tests can turn it.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Maps monotonic time to microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    origin_us: u64,
}

impl Clock {
    /// The clock as of now.
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), origin_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX) }
    }

    /// `at` in microseconds since the Unix epoch.
    pub(crate) fn us(&self, at: Instant) -> u64 {
        let micros = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.origin) {
            Some(after) => self.origin_us.saturating_add(micros(after)),
            None => self.origin_us.saturating_sub(micros(self.origin.duration_since(at))),
        }
    }

    /// Now, in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.us(Instant::now()) / 1_000
    }
}
