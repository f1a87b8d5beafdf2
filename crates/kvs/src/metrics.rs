//! What an operator sees of the store: numbers with names, for whoever exports them.

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
    pub fn metrics(&self) -> [Metric; 13] {
        let (s, health) = (self.store().stats(), self.store().health());
        let gauge = |name, help, value| Metric { name, help, counter: false, value };
        let counter = |name, help, value| Metric { name, help, counter: true, value };
        [
            gauge("store_streams", "Streams", s.streams),
            gauge("store_streams_max", "Streams at most", self.store().config().max_streams as u64),
            gauge("store_sessions", "Producers connected", s.sessions),
            gauge("store_readers", "GetMedia readers connected", s.readers),
            gauge("store_fragments", "Fragments stored", s.fragments),
            gauge("store_bytes", "Bytes of media stored", s.bytes),
            gauge(
                "store_failing",
                "1 while the last write to the storage failed",
                health.fault.is_some().into(),
            ),
            counter("store_fragments_stored", "Fragments that were stored", s.fragments_stored),
            counter("store_fragments_failed", "Fragments that could not be stored", s.fragments_failed),
            counter("store_fragments_damaged", "Stored fragments found damaged", s.fragments_damaged),
            counter("store_fragments_expired", "Fragments whose retention ended", s.fragments_expired),
            counter("store_write_failures", "Writes that the storage refused", health.failures),
            counter("store_acks_dropped", "Acknowledgements that producers did not read", s.acks_dropped),
        ]
    }
}
