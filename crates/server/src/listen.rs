//! The ports for HTTP.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted, where the system allows as many (`net.core.somaxconn`, as a rule 4,096): all who come back
/// at once after a restart. Of more the kernel drops some, or they find a connection broken that they took for open.
const BACKLOG: u32 = 4_096;

/// Listens at `address`. To be called within a runtime.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of an earlier run may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
