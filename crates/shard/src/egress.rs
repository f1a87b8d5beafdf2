//! The sending half of a subscriber, as the shard sees it.
//!
//! Stage 1 implements it with str0m's `write_rtp` ([`crate::connection`]). Stage 2 (own rewriting into a send arena,
//! own SRTP) takes its place without the shard noticing; so nothing of str0m is in these signatures.

use std::time::Instant;

use antiphon_room::SlotId;
use antiphon_room::slot::Outgoing;

use crate::net::Datagram;

/// Where finished datagrams are collected for the socket.
pub(crate) type Arena = Vec<Datagram>;

/// Sends media to one subscriber.
pub(crate) trait Egress {
    /// Takes a packet for a slot. Nothing leaves before [`Egress::finish_peer`].
    fn forward(&mut self, slot: SlotId, outgoing: &Outgoing);

    /// Everything taken leaves into `arena`; gives when it wants to be called again without new input.
    fn finish_peer(&mut self, now: Instant, arena: &mut Arena) -> Instant;

    /// A datagram of this subscriber: feedback, ICE, DTLS, media of its own. `false`: it was not taken.
    fn on_datagram(&mut self, now: Instant, received: &crate::net::Received<'_>) -> bool;
}
