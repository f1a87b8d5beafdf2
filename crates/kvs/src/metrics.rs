//! What an operator sees of the store: numbers with names, for whoever exports them.

use antiphon_store::{Stats, is_near_limit};

use crate::Kvs;

/// One number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Letters and underscores.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it only goes up.
    pub counter: bool,
    /// Now.
    pub value: u64,
}

impl Kvs {
    /// All numbers, in a fixed order.
    pub fn metrics(&self) -> Vec<Metric> {
        let (s, health) = (self.store().stats(), self.store().health());
        let (images_made, images_failed) = self.images();
        let failing = u64::from(health.fault.is_some());
        let keys = s.key_server.unwrap_or_default();
        let mut all = vec![
            gauge("store_streams", "Streams", s.streams),
            gauge("store_streams_max", "Streams at most", self.store().config().max_streams as u64),
            gauge(
                "store_streams_near_limit",
                "1 while there are nine tenths of the streams that may be",
                is_near_limit(s.streams, self.store().config().max_streams as u64).into(),
            ),
            gauge("store_sessions", "Producers connected", s.sessions),
            gauge("store_readers", "GetMedia readers connected", s.readers),
            gauge("store_reader_lag_ms", "How far the slowest reader is behind", s.reader_lag_ms),
            gauge("store_fragments", "Fragments stored", s.fragments),
            gauge("store_bytes", "Bytes of media stored", s.bytes),
            gauge("store_failing", "1 while the last write to the storage failed", failing),
            gauge(
                "store_away",
                "1 while the object store is away, and the spool is used",
                health.away.into(),
            ),
            gauge("store_refused", "1 while that is because it refuses access", health.refused.into()),
            gauge("store_spooled", "Objects that wait in the spool", health.spooled),
            gauge("store_spooled_bytes", "Bytes that wait in the spool", health.spooled_bytes),
            gauge("store_spool_max_bytes", "Bytes that may wait there", health.spool_max_bytes),
            gauge(
                "store_set_aside",
                "Objects in it that the object store refuses again and again while it takes others",
                health.set_aside,
            ),
            counter("store_grouped", "Fragments that were made durable with others", health.grouped),
            counter("store_group_syncs", "Syncs of the whole file system for these", health.group_syncs),
            counter("store_group_failures", "Of these syncs, those that failed", health.group_failures),
            gauge("store_key_server_away", "1 while the key server does not answer", keys.away.into()),
            counter("store_key_server_calls", "Calls of the key server", keys.calls),
            counter("store_key_server_failures", "Of these, those that gave no key", keys.failures),
        ];
        all.extend(of_journal(&s));
        all.extend([
            counter("store_fragments_salvaged", "Fragments salvaged at the start", s.fragments_salvaged),
            gauge("store_last_sweep_seconds", "When retention was last applied", s.last_sweep_ms / 1000),
            counter("store_sweeps", "How often retention was applied", s.sweeps),
            counter("store_sweep_failures", "Streams that a sweep could not finish", s.sweep_failures),
            counter("store_fragments_stored", "Fragments that were stored", s.fragments_stored),
            counter("store_fragments_failed", "Fragments that could not be stored", s.fragments_failed),
            counter("store_failed_full", "Of these, because the storage was full", s.failed_full),
            counter("store_failed_unavailable", "Because the storage did not answer", s.failed_unavailable),
            counter("store_failed_refused", "Because the storage refused access", s.failed_refused),
            counter("store_failed_quota", "Because of a quota of stored bytes", s.failed_quota),
            counter("store_failed_key", "Because of the stream's key", s.failed_key),
            counter("store_fragments_damaged", "Stored fragments found damaged", s.fragments_damaged),
            counter("store_fragments_expired", "Fragments whose retention ended", s.fragments_expired),
            counter("store_write_failures", "Writes that the storage refused", health.failures),
            counter("store_sessions_failed", "Producers ended because of what they sent", s.sessions_failed),
            counter("store_throttled_ms", "Milliseconds that producers were let wait", s.throttled_ms),
            counter("store_images_made", "Images that GetImages made", images_made),
            counter("store_images_failed", "Images that it could not make", images_failed),
            counter(
                "store_readers_stuck",
                "GetMedia answers given up as nobody read them",
                self.readers_stuck(),
            ),
            counter("store_news_dropped", "Stored fragments that webhooks were not told of", s.news_dropped),
            counter("store_acks_dropped", "Acknowledgements that producers did not read", s.acks_dropped),
        ]);
        all
    }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric { name, help, counter: false, value }
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric { name, help, counter: true, value }
}

fn of_journal(s: &Stats) -> [Metric; 7] {
    [
        gauge("store_journal_fragments", "Fragments in the journal", s.journal_fragments),
        gauge("store_journal_bytes", "Bytes of the journal's files", s.journal_bytes),
        gauge(
            "store_journal_failing",
            "1 while the journal cannot be written: a kill would lose what is not stored yet",
            s.journal_failing.into(),
        ),
        counter("store_journal_failures", "Writes to the journal that failed", s.journal_failures),
        counter("store_journal_given_up", "Fragments that it does not have whole", s.journal_given_up),
        counter("store_journal_late", "Syncs that came later than after 250 ms", s.journal_late),
        counter("store_journal_syncs", "Syncs that wrote", s.journal_syncs),
    ]
}
