//! The last datagrams with data of the channels, which are sent once more where the peer is heard of and has not acknowledged all.
//!
//! SCTP repeats itself after 1, 3, 7, 15 s (RFC 9260, 6.3.3, rule E2): a path that comes back after eight seconds brings nothing of what
//! was said for seven more, in which media flows again and nobody is told whose it is. libwebrtc bounds these pauses to 3 s
//! (`DcSctpOptions::max_timer_backoff_duration`); in str0m they cannot be set. What is acknowledged ends the pause.
//!
//! The peer gets a datagram as a network may double it: what it has it drops (RFC 6347, 4.1.2.6), and nothing is sealed again. The last one
//! alone is not enough: the peer may have it, and its acknowledgement was lost. Of one that it has not, it acknowledges the data once
//! more, though it has them from a later one (RFC 9260, 6.2). Who forges a packet of the peer's wins nothing: this goes where the peer is,
//! twice a second at most.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::demux::is_dtls;
use crate::egress::{Arena, Path};
use crate::transport::Transport;

/// An acknowledgement alone is shorter, with up to three gaps (RFC 9260, 3.3.4): 13 + 8 + 16 bytes are DTLS's, 12 + 16 + 12 SCTP's.
/// Data of ours has more. What the peer says while only its own way is open would take the place of what it is to hear.
const ACKNOWLEDGEMENT_BYTES: usize = 77;
/// Not again earlier than this: an acknowledgement may be under way, for a round trip and 200 ms (RFC 9260, 6.2).
const WAIT: Duration = Duration::from_millis(500);
/// So many are kept: while SCTP waits, what it repeats in fifteen seconds.
const KEPT: usize = 4;

/// Those datagrams, if not everything was acknowledged when the peer was heard of last; SCTP's own repetitions are the last that it sends
/// while it waits. Behind a pointer: who has no channels has none, and a peer fits into three pages.
#[derive(Debug, Default)]
pub(crate) struct LastSaid(Option<Box<Said>>);

#[derive(Debug)]
struct Said {
    /// The oldest first.
    datagrams: VecDeque<Vec<u8>>,
    /// The last of them, or all of them again.
    sent: Instant,
}

impl LastSaid {
    /// That has left, if it is one of DTLS and more than an acknowledgement.
    pub(crate) fn keep(&mut self, now: Instant, datagram: &[u8]) {
        if is_dtls(datagram) && datagram.len() > ACKNOWLEDGEMENT_BYTES {
            let said = self.0.get_or_insert_with(|| Box::new(Said { datagrams: VecDeque::new(), sent: now }));
            if said.datagrams.len() == KEPT {
                said.datagrams.pop_front();
            }
            said.datagrams.push_back(datagram.to_vec());
            said.sent = now;
        }
    }

    /// The peer was heard of; `path`: where it is. `waits`: whether it has not acknowledged everything.
    pub(crate) fn on_heard(
        &mut self,
        now: Instant,
        path: Option<Path>,
        waits: impl FnOnce() -> bool,
        arena: &mut Arena,
    ) {
        let Some(said) = self.0.as_mut().filter(|said| now.saturating_duration_since(said.sent) >= WAIT)
        else {
            return;
        };
        if !waits() {
            self.0 = None;
        } else if let Some(path) = path.filter(|p| p.transport == Transport::Udp) {
            said.sent = now;
            for datagram in &said.datagrams {
                arena.push(path, datagram);
            }
        }
    }
}
