//! What the operator decides about the store. Defaults are here and nowhere else.

use serde::{Deserialize, Serialize};

use crate::ingest::Rules;

/// Settings of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The account in ARNs and paths: 1 to 32 digits or letters.
    pub account: String,
    /// The region in ARNs.
    pub region: String,
    /// Streams of the account, those included that only keep what was: Amazon's number for its larger regions. How many calls
    /// are streamed at a time is limited where that is done.
    pub max_streams: usize,
    /// Producers of one stream at a time. One, and the one before it whose end has not been noticed yet.
    pub max_sessions: usize,
    /// GetMedia readers of one stream at a time.
    pub max_readers: usize,
    /// Stored bytes of one stream; 0: any.
    pub max_stream_bytes: u64,
    /// Stored bytes of all streams; 0: any.
    pub max_total_bytes: u64,
    /// Bytes that one stream's producers may send per second, on average; 0: any. Faster ones are read more slowly.
    pub max_stream_bytes_per_s: u64,
    /// Fragments that one stream's producers may send per second, on average; 0: any.
    pub max_stream_fragments_per_s: u64,
    /// Bytes that all producers together may send per second, on average; 0: any.
    pub max_total_bytes_per_s: u64,
    /// Bytes of one session's complete fragments that wait to be stored; a producer that is faster has to wait.
    pub max_in_flight_bytes: usize,
    /// Without retention, for how long live readers find what was.
    pub memory_ms: u64,
    /// Without retention, how many bytes of a stream stay in memory.
    pub memory_bytes: u64,
    /// How long a reader waits after the producer has vanished. Programs were seen to want at least 3 s.
    pub idle_close_ms: u64,
    /// How long a reader waits for a first fragment while nobody produces.
    pub first_wait_ms: u64,
    /// Whether a response ends with one more EBML head: consumers that wait for the next document get the last one.
    pub tail_flush: bool,
    /// Whose fragments are in the journal until they are stored, where the backend has one.
    pub journal: Journaled,
    /// Bytes of the journal's files; at it the oldest fragments are given up.
    pub max_journal_bytes: u64,
    /// What producers may do.
    pub rules: Rules,
}

/// Whose fragments outlast a kill before they are stored. Never those of streams without retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Journaled {
    /// Nobody's.
    #[serde(rename = "off")]
    Nothing,
    /// Those of [`Session::of_a_contact`](crate::Session::of_a_contact): what is lost of a call cannot be said again.
    Contacts,
    /// Everybody's.
    #[serde(rename = "all")]
    Everything,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            account: "000000000000".into(),
            region: "us-east-1".into(),
            max_streams: 10_000,
            max_sessions: 2,
            max_readers: 100,
            max_stream_bytes: 0,
            max_total_bytes: 0,
            max_stream_bytes_per_s: 0,
            max_stream_fragments_per_s: 0,
            max_total_bytes_per_s: 0,
            max_in_flight_bytes: 64 << 20,
            memory_ms: 300_000,
            memory_bytes: 200 << 20,
            idle_close_ms: 3_000,
            first_wait_ms: 30_000,
            tail_flush: false,
            journal: Journaled::Contacts,
            max_journal_bytes: 1 << 30,
            rules: Rules::default(),
        }
    }
}
