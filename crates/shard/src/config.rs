//! What the operator decides about the packet threads. Filled by `server`; defaults are here and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// Settings of all shards.
#[derive(Debug, Clone)]
pub struct Config {
    /// First UDP address; shard `i` takes the port plus `i`. Port 0 lets the system choose (tests). `[::]` is IPv4, too.
    pub media: SocketAddr,
    /// Number of shards, at least 1.
    pub shards: usize,
    /// How peers reach us.
    pub reach: Reachability,
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
    /// A shard busier than this (0 to 1) serves fewer videos to each of its subscribers. 1: never.
    pub shed_busy: f64,
    /// A shard loaded for more than this (0 to 1) gives new peers to less loaded ones: rooms spread. 0: they take turns; 1:
    /// never.
    pub spread_above: f64,
    /// A peer without a valid STUN binding for this long is gone.
    pub consent_timeout: Duration,
    /// Receive slots that an offer may have.
    pub max_slots: usize,
}

/// How peers reach us.
#[derive(Debug, Clone)]
pub struct Reachability {
    /// Whether UDP addresses are told to peers.
    pub udp: bool,
    /// Where TCP is listened for.
    pub tcp: Tcp,
    /// The port of TCP told to peers where it is not the one listened at.
    pub tcp_announce_port: Option<u16>,
    /// Most TCP connections of one shard; all of them take no more than half of the files that the process may open.
    pub tcp_connections: usize,
    /// Addresses told to peers instead of those of the interfaces.
    pub announce: Vec<IpAddr>,
    /// Addresses told to peers beside those of the interfaces, to which they lead.
    pub external: Vec<External>,
    /// Whose addresses are told.
    pub interfaces: Interfaces,
}

/// Where TCP connections of peers are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    /// Nowhere.
    Off,
    /// As [`Tcp::SamePort`], but a shard whose number is taken goes without.
    IfFree,
    /// Each shard at the number of its UDP port.
    SamePort,
    /// All shards at one address.
    At(SocketAddr),
}

/// An address outside of a 1:1 NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct External {
    /// The address of ours that it leads to; `None`: any of its family.
    pub inside: Option<IpAddr>,
    /// What peers send to.
    pub outside: IpAddr,
}

/// Interfaces by name; `*` at the end stands for any rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interfaces {
    /// These only; empty: all.
    pub include: Vec<String>,
    /// But not these.
    pub exclude: Vec<String>,
}

/// Why a text is no [`Tcp`] or [`External`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotThat(&'static str);

impl FromStr for Tcp {
    type Err = NotThat;

    fn from_str(text: &str) -> Result<Self, NotThat> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::IfFree),
            "same" => Ok(Self::SamePort),
            at => at
                .parse()
                .map(Self::At)
                .map_err(|_| NotThat("\"auto\", \"same\", \"off\" or an address with a port")),
        }
    }
}

impl FromStr for External {
    type Err = NotThat;

    /// `OUTSIDE` or `INSIDE/OUTSIDE`.
    fn from_str(text: &str) -> Result<Self, NotThat> {
        let ip = |text: &str| {
            text.parse::<IpAddr>().map_err(|_| NotThat("an IP address, or two as INSIDE/OUTSIDE"))
        };
        let (inside, outside) = match text.split_once('/') {
            Some((inside, outside)) => (Some(ip(inside)?), ip(outside)?),
            None => (None, ip(text)?),
        };
        match inside {
            Some(i) if i.is_ipv4() != outside.is_ipv4() => Err(NotThat("both addresses of one family")),
            _ => Ok(Self { inside, outside }),
        }
    }
}

impl Default for Reachability {
    fn default() -> Self {
        Self {
            udp: true,
            tcp: Tcp::IfFree,
            tcp_announce_port: None,
            tcp_connections: 10_000,
            announce: Vec::new(),
            external: Vec::new(),
            interfaces: Interfaces::default(),
        }
    }
}

impl Default for Interfaces {
    /// All but the bridges and pairs of containers and virtual machines: nobody reaches them who cannot reach the host.
    fn default() -> Self {
        let exclude = ["docker*", "br-*", "veth*", "virbr*", "cni*"].map(str::to_owned).to_vec();
        Self { include: Vec::new(), exclude }
    }
}

impl Config {
    /// [`Config::shed_busy`] in thousandths.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
    pub(crate) fn shed_permille(&self) -> u64 {
        (self.shed_busy.clamp(0.0, 1.0) * 1_000.0).round() as u64
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            media: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7701),
            shards: std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1)),
            reach: Reachability::default(),
            max_participants_per_room: 1_000,
            max_players_per_room: 10_000,
            max_rooms: 10_000,
            max_peers: 10_000,
            resume_ttl: Duration::from_secs(30),
            max_busy: 0.85,
            shed_busy: 0.8,
            spread_above: 0.25,
            consent_timeout: Duration::from_secs(30),
            max_slots: 64,
        }
    }
}
