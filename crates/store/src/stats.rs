//! Counters of the store, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

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
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    bytes: AtomicU64,
    stored: AtomicU64,
    failed: AtomicU64,
    damaged: AtomicU64,
    expired: AtomicU64,
    acks_dropped: AtomicU64,
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

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
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
            ..Stats::default()
        }
    }
}
