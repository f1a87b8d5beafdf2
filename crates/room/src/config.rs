//! What the operator decides about a room. Defaults stand here and nowhere else.

use std::time::Duration;

/// Settings of one room.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Most participants at a time, lost ones in their resume time included, hidden ones not.
    pub max_participants: usize,
    /// Most hidden ones at a time: players, taps. Nobody is told of them, so a room can have many more.
    pub max_hidden: usize,
    /// Most participants with a track at a time; packets of further ones are ignored.
    pub max_publishers: usize,
    /// Most receive slots of one participant: the largest grid, with sound.
    pub max_slots: usize,
    /// How long the place of a lost connection is kept.
    pub resume_ttl: Duration,
    /// Size of the dominant-speaker set.
    pub dominant: usize,
    /// A room without visible participants ends after this. Longer than a page reload.
    pub empty_ttl: Duration,
    /// A track of a publisher without control channel ends after this time without packets.
    pub idle_track: Duration,
    /// Tracks that have not started again this long after a resume end.
    pub restart_grace: Duration,
    /// A shard of the host that is busier than this, in thousandths, serves fewer videos (last-N). From 1,000 on: never.
    pub busy_permille: u64,
    /// Requests that one participant may make per second; more are answered `rate_limited`.
    pub requests_per_second: u32,
    /// What one participant may send on topics.
    pub data: DataRates,
}

/// What one participant may send on topics, per second; a second's worth may be saved up. More is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRates {
    /// Messages: several pointers at the rate of the screen.
    pub messages: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Bytes that leave the server for them: those sent, times those who get them.
    pub fan_out_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_participants: 1_000,
            max_hidden: 10_000,
            max_publishers: 1_000,
            max_slots: 64,
            resume_ttl: Duration::from_secs(30),
            dominant: 4,
            empty_ttl: Duration::from_secs(30),
            idle_track: Duration::from_secs(2),
            restart_grace: Duration::from_secs(5),
            busy_permille: 800,
            requests_per_second: 30,
            data: DataRates { messages: 300, bytes: 256 * 1024, fan_out_bytes: 8 * 1024 * 1024 },
        }
    }
}
