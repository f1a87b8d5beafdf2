//! Counters of the store, for metrics.

use crate::error::{Error, StorageFault};
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether nine tenths of what may be are there: there is time to raise the limit before anything is refused.
pub fn is_near_limit(now: u64, most: u64) -> bool {
    now.saturating_mul(10) >= most.saturating_mul(9)
}

/// What has happened since the store was opened, and how much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Streams that exist.
    pub streams: u64,
    /// Producers connected.
    pub sessions: u64,
    /// GetMedia readers connected.
    pub readers: u64,
    /// Fragments that are stored.
    pub fragments: u64,
    /// Bytes of media that are stored.
    pub bytes: u64,
    /// Fragments stored since the start.
    pub fragments_stored: u64,
    /// Fragments that could not be stored, since the start.
    pub fragments_failed: u64,
    /// Fragments that were found damaged, since the start.
    pub fragments_damaged: u64,
    /// Fragments removed because their retention had ended, since the start.
    pub fragments_expired: u64,
    /// Acknowledgements that nobody read in time, since the start.
    pub acks_dropped: u64,
    /// Stored fragments that were not told to who asked for [`News`](crate::News), since the start.
    pub news_dropped: u64,
    /// Of the fragments that could not be stored: the storage, or the spool, was full.
    pub failed_full: u64,
    /// The storage did not answer.
    pub failed_unavailable: u64,
    /// The storage refused access.
    pub failed_refused: u64,
    /// A quota of stored bytes.
    pub failed_quota: u64,
    /// The stream's key.
    pub failed_key: u64,
    /// How the server with master keys does, if there is one.
    pub key_server: Option<crate::key::KeyServer>,
    /// Sessions that ended because of what their producer sent.
    pub sessions_failed: u64,
    /// Fragments that are in the journal.
    pub journal_fragments: u64,
    /// Bytes of its files.
    pub journal_bytes: u64,
    /// Whether its last write failed, or it cannot be had at all: a kill would lose what is not stored yet.
    pub journal_failing: bool,
    /// Writes to it that failed, since the start.
    pub journal_failures: u64,
    /// Fragments of which it does not have all, because of a bound or a failure, since the start.
    pub journal_given_up: u64,
    /// Syncs that came more than 250 ms after the one before while something waited, since the start.
    pub journal_late: u64,
    /// Syncs that wrote, since the start.
    pub journal_syncs: u64,
    /// Fragments that the journals of earlier runs gave, since the start.
    pub fragments_salvaged: u64,
    /// Milliseconds for which producers were asked to wait, by the quotas of rate.
    pub throttled_ms: u64,
    /// How far the slowest GetMedia reader is behind what it could have read.
    pub reader_lag_ms: u64,
    /// Sweeps since the start.
    pub sweeps: u64,
    /// Streams that a sweep could not finish, since the start.
    pub sweep_failures: u64,
    /// When the last sweep was done, in milliseconds since 1970; 0: none yet.
    pub last_sweep_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    bytes: AtomicU64,
    stored: AtomicU64,
    failed: AtomicU64,
    damaged: AtomicU64,
    expired: AtomicU64,
    acks_dropped: AtomicU64,
    /// Full, unavailable, refused, quota, key.
    reasons: [AtomicU64; 5],
    sessions_failed: AtomicU64,
    throttled_ms: AtomicU64,
    sweeps: AtomicU64,
    sweep_failures: AtomicU64,
    last_sweep_ms: AtomicU64,
}

impl Counters {
    /// Bytes of all stored media.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn found(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn stored(&self, bytes: u64) {
        self.found(bytes);
        self.stored.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn removed(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, error: &Error) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let reason = match error {
            Error::Storage { fault: StorageFault::Full, .. } => 0,
            Error::Storage { fault: StorageFault::Unavailable, .. } => 1,
            Error::Storage { fault: StorageFault::Refused, .. } => 2,
            Error::Limit(_) => 3,
            Error::Key(_) => 4,
            _ => return,
        };
        self.reasons[reason].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn session_failed(&self) {
        self.sessions_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn throttled(&self, ms: u64) {
        self.throttled_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn swept(&self, failures: u64, now_ms: u64) {
        self.sweeps.fetch_add(1, Ordering::Relaxed);
        self.sweep_failures.fetch_add(failures, Ordering::Relaxed);
        self.last_sweep_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn acks_dropped(&self) {
        self.acks_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// The sums that are counted; what the streams know is for the caller to add.
    pub(crate) fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            bytes: self.bytes(),
            fragments_stored: get(&self.stored),
            fragments_failed: get(&self.failed),
            fragments_damaged: get(&self.damaged),
            fragments_expired: get(&self.expired),
            acks_dropped: get(&self.acks_dropped),
            failed_full: get(&self.reasons[0]),
            failed_unavailable: get(&self.reasons[1]),
            failed_refused: get(&self.reasons[2]),
            failed_quota: get(&self.reasons[3]),
            failed_key: get(&self.reasons[4]),
            sessions_failed: get(&self.sessions_failed),
            throttled_ms: get(&self.throttled_ms),
            sweeps: get(&self.sweeps),
            sweep_failures: get(&self.sweep_failures),
            last_sweep_ms: get(&self.last_sweep_ms),
            ..Stats::default()
        }
    }
}
