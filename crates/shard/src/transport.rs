//! How packets travel: as UDP datagrams, or framed in a TCP stream (RFC 6544, RFC 4571).

use std::net::SocketAddr;

/// A transport protocol of ICE candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream that the peer has opened.
    Tcp,
}

/// Where a peer sends from: the same number may be somebody else's in the other protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Remote {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
}
