//! A fingerprint of a run, by which two runs of one seed are shown to be the same.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use antiphon_wire::control::ServerMessage;

use crate::client::Client;

/// FNV-1a (draft-eastlake-fnv, section 2): small, and the same in every process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Trace {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Trace {
    pub(crate) fn value(self) -> u64 {
        self.0
    }

    /// A datagram and what became of it.
    pub(crate) fn datagram(
        &mut self,
        at: Duration,
        head: (SocketAddr, SocketAddr, usize),
        fate: Option<(Duration, bool, Option<usize>)>,
    ) {
        (at, head, fate).hash(self);
    }

    /// All that came to a client.
    pub(crate) fn client(&mut self, base: Instant, client: &Client) {
        for (at, message) in &client.messages {
            (*at - base).hash(self);
            self.message(message);
        }
        for packet in client.slots.iter().flat_map(|s| &s.packets) {
            let head = (packet.at - base, packet.seq, packet.rtp_time, packet.marker, packet.csrc);
            let stamp =
                packet.parsed.map(|p| (p.picture_id, p.stamp.publisher, p.stamp.layer, p.stamp.frame));
            (head, stamp, packet.bytes).hash(self);
        }
    }

    fn message(&mut self, message: &ServerMessage) {
        serde_json::to_vec(message).expect("the server's messages are JSON").hash(self);
    }
}
