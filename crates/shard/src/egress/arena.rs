//! Where finished datagrams of a round are collected for the socket: one buffer, written front to back, so that the
//! datagrams of one peer lie next to each other and leave as one segmented message without a copy.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::transport::Transport;

/// A datagram in the arena.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    /// Address it leaves from; decides the interface.
    pub(crate) source: IpAddr,
    /// Where to.
    pub(crate) destination: SocketAddr,
    /// Its bytes in the arena.
    pub(crate) range: Range<usize>,
}

/// The way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    /// By which protocol.
    pub(crate) transport: Transport,
    /// Our address: the machine's, not the one that peers are told.
    pub(crate) source: IpAddr,
    /// Its address.
    pub(crate) destination: SocketAddr,
}

/// All datagrams of a round.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    datagrams: Vec<Datagram>,
    /// What goes into TCP streams, apart: the UDP socket has nothing to ask of each packet.
    by_tcp: Vec<Datagram>,
    /// Where the next one begins.
    end: usize,
}

impl Arena {
    /// The buffer, to write one datagram behind what stands there. Then [`Arena::commit`] or [`Arena::abandon`].
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Where the next datagram begins.
    pub(crate) fn start(&self) -> usize {
        self.end
    }

    /// What was written since [`Arena::start`] is a datagram.
    pub(crate) fn commit(&mut self, path: Path) -> usize {
        let range = self.end..self.bytes.len();
        let length = range.len();
        self.end = range.end;
        let datagram = Datagram { source: path.source, destination: path.destination, range };
        match path.transport {
            Transport::Udp => self.datagrams.push(datagram),
            Transport::Tcp => self.by_tcp.push(datagram),
        }
        length
    }

    /// What was written since [`Arena::start`] is not sent.
    pub(crate) fn abandon(&mut self) {
        self.bytes.truncate(self.start());
    }

    /// Adds a finished datagram.
    pub(crate) fn push(&mut self, path: Path, contents: &[u8]) {
        self.bytes.extend_from_slice(contents);
        self.commit(path);
    }

    /// Those for UDP, in the order of their bytes.
    pub(crate) fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }

    /// Those for TCP, in the order of their bytes.
    pub(crate) fn by_tcp(&self) -> &[Datagram] {
        &self.by_tcp
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that it takes, whatever is in it.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bytes of a datagram.
    pub(crate) fn contents(&self, datagram: &Datagram) -> &[u8] {
        self.bytes.get(datagram.range.clone()).unwrap_or(&[])
    }

    /// They have left. The buffers stay.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
        self.by_tcp.clear();
        self.end = 0;
    }
}
