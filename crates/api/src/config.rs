//! What the operator decides about HTTP. Filled by `server`; defaults are here and nowhere else.

use std::net::IpAddr;
use std::time::Duration;

/// Settings of the HTTP side.
#[derive(Debug, Clone)]
pub struct Config {
    /// The largest SDP offer: browsers send 26 to 66 kB.
    pub max_body_bytes: usize,
    /// Most open connections; bots' WebSockets count apart.
    pub max_connections: usize,
    /// Most bots' WebSockets.
    pub max_bot_sockets: usize,
    /// Most joins waiting for their answer; each may hold an offer of `max_body_bytes`.
    pub max_joins_in_progress: usize,
    /// How long a client may take for its TLS handshake, for its request's header, and between two requests.
    pub header_timeout: Duration,
    /// How long a request may take, its body included. WebSockets and dumps go on after it.
    pub request_timeout: Duration,
    /// Joins per address.
    pub joins: Rate,
    /// Joins per room, of all addresses together.
    pub room_joins: Rate,
    /// Proxies before this server, whose `X-Forwarded-For` says whose request it is. Nobody else's is looked at.
    pub trusted_proxies: Vec<IpAddr>,
    /// Guest tokens per address.
    pub guest_tokens: Rate,
    /// Rooms that anybody may enter as a guest; `*` means all.
    pub guest_rooms: Vec<String>,
    /// How long a guest's token is good.
    pub guest_ttl: Duration,
    /// Whether `GET .../dump` gives out decrypted RTP.
    pub rtp_dump: bool,
    /// How often a silent bot is pinged; after three unanswered ones it is gone.
    pub bot_ping: Duration,
}

/// How often something may be done: a token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Sustained, per second.
    pub per_second: f64,
    /// At once.
    pub burst: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_bytes: 256 * 1024,
            max_connections: 10_000,
            max_bot_sockets: 1_000,
            max_joins_in_progress: 1_024,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            joins: Rate { per_second: 100.0, burst: 1_000 },
            // A room as large as may be fills at once.
            room_joins: Rate { per_second: 100.0, burst: 1_000 },
            trusted_proxies: Vec::new(),
            guest_tokens: Rate { per_second: 2.0, burst: 100 },
            guest_rooms: vec!["demo".into()],
            guest_ttl: Duration::from_secs(3_600),
            rtp_dump: false,
            bot_ping: Duration::from_secs(20),
        }
    }
}
