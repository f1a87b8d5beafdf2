//! What the operator decides about the packet threads. Filled by `server`; defaults are here and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Settings of all shards.
#[derive(Debug, Clone)]
pub struct Config {
    /// First UDP address; shard `i` takes the port plus `i`. Port 0 lets the system choose (tests).
    pub media: SocketAddr,
    /// Number of shards, at least 1.
    pub shards: usize,
    /// Addresses told to peers instead of those of the interfaces.
    pub announce: Vec<IpAddr>,
    /// Most participants in a room, bots included.
    pub max_participants_per_room: usize,
    /// Most players (WHEP) and other hidden ones in a room, beside its participants.
    pub max_players_per_room: usize,
    /// Most rooms on this node.
    pub max_rooms: usize,
    /// Most WebRTC peers on this node.
    pub max_peers: usize,
    /// How long the place of a lost connection is kept.
    pub resume_ttl: Duration,
    /// A shard busier than this (0 to 1) refuses joins.
    pub max_busy: f64,
    /// A shard loaded for more than this (0 to 1) gives new peers to less loaded ones: rooms spread. 0: they take turns; 1:
    /// never.
    pub spread_above: f64,
    /// A peer without a valid STUN binding for this long is gone.
    pub consent_timeout: Duration,
    /// Receive slots that an offer may have.
    pub max_slots: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            media: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7701),
            shards: std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1)),
            announce: Vec::new(),
            max_participants_per_room: 1_000,
            max_players_per_room: 10_000,
            max_rooms: 10_000,
            max_peers: 10_000,
            resume_ttl: Duration::from_secs(30),
            max_busy: 0.85,
            spread_above: 0.25,
            consent_timeout: Duration::from_secs(30),
            max_slots: 64,
        }
    }
}
