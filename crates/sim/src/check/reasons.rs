//! Every gap has a reason that can be seen from outside: the network did harm, the server told of a change, or the client's
//! link was full and the server left out pictures up to a key frame.

use std::time::{Duration, Instant};

use antiphon_base::{MediaKind, ParticipantKey};
use antiphon_wire::control::ServerMessage;

use super::{Checker, Frame, TOLD_WITHIN};
use crate::net::Link;
use crate::stamp::Stamp;

/// How long before a packet came, or would have come, it may have been sent: queues and delays of both links, and a few
/// requests for it.
const UNDER_WAY: Duration = Duration::from_secs(3);
/// How long before the media of a change its announcement may come: that may wait for a key frame.
const TOLD_EARLY: Duration = Duration::from_secs(1);

impl Checker<'_> {
    /// Whether something between two frames that follow each other in a slot is missing: packets, or frames of the
    /// source.
    fn is_gap(a: &Frame<'_>, b: &Frame<'_>) -> bool {
        let missing = a.seqs().1 + 1 != b.seqs().0 || !a.has_no_hole();
        let (before, after) = (&a.first.stamp, &b.first.stamp);
        let skipped = a.source() == b.source() && before.frame < after.frame && !after.may_follow(before);
        missing || skipped
    }

    pub(super) fn check_gap(&mut self, a: &Frame<'_>, b: &Frame<'_>) {
        if !Self::is_gap(a, b) {
            return;
        }
        let times = || a.packets.iter().chain(&b.packets).map(|p| p.at);
        let (Some(from), Some(to)) = (times().min(), times().max()) else { return };
        let sources = [a.first.stamp.publisher, b.first.stamp.publisher];
        let reason = self.network_did_harm(from, to, sources)
            || self.was_thinned(b, from, to)
            || self.shard_was_stalled(from, to, sources)
            || self.change_was_told(from, to, sources);
        if !reason {
            let what = format!("a gap without a reason after {:?}, seq {:?}", a.first.stamp, a.seqs());
            self.fault(b.packets[0], &what);
        }
    }

    /// Something was lost, damaged or held up on the way of the media in that time.
    fn network_did_harm(&self, from: Instant, to: Instant, publishers: [u16; 2]) -> bool {
        let network = &self.world.network;
        let harmed = |link: &Link| link.harm.iter().any(|at| *at + UNDER_WAY >= from && *at <= to);
        let down = network.path(self.client.address).is_some_and(|p| harmed(&p.down));
        down || publishers.iter().any(|publisher| {
            let client = self.world.clients.get(usize::from(*publisher));
            client.and_then(|c| network.path(c.address)).is_some_and(|p| harmed(&p.up))
        })
    }

    /// The shard of the subscriber or of a publisher did nothing in that time: what was sent to it is lost, and of what
    /// another had for it no more is kept than a ring.
    fn shard_was_stalled(&self, from: Instant, to: Instant, publishers: [u16; 2]) -> bool {
        let passed = |shard: usize| {
            let place = |number: &u16| self.world.publishers.get(number).map(|p| p.shard);
            publishers.iter().chain([&self.client.number]).any(|number| place(number) == Some(shard))
        };
        self.world.stalls.iter().filter(|stall| passed(stall.shard)).any(|stall| {
            let goes_on = stall.to.unwrap_or(self.world.now);
            stall.from <= to && goes_on + UNDER_WAY >= from
        })
    }

    /// A sender on a full link drops pictures rather than to let them wait, and goes on with a key frame, in this layer or
    /// another. Voices are never left out.
    fn was_thinned(&self, b: &Frame<'_>, from: Instant, to: Instant) -> bool {
        let Stamp { source, key, index, .. } = b.first.stamp;
        let goes_on = source.kind() == MediaKind::Video && key && index == 0;
        let link = self.world.network.path(self.client.address).map(|p| &p.down);
        let stood = |link: &Link| link.stood.iter().any(|at| *at + UNDER_WAY >= from && *at <= to);
        goes_on && link.is_some_and(stood)
    }

    /// The client was told of a change of the slot, or of the publisher's tracks, about then; or had no way to be told.
    fn change_was_told(&self, from: Instant, to: Instant, publishers: [u16; 2]) -> bool {
        if self.client.control_open.is_none_or(|open| open > from) {
            return true;
        }
        let keys = publishers.map(|p| self.world.publishers.get(&p).map(|p| p.key));
        let of_them = |key: ParticipantKey| keys.contains(&Some(key));
        let near = |at: Instant| at + TOLD_EARLY >= from && at <= to + TOLD_WITHIN;
        self.client.messages.iter().filter(|(at, _)| near(*at)).any(|(_, message)| match message {
            ServerMessage::Slots { slots } => slots.iter().any(|s| s.mid == self.slot.mid),
            ServerMessage::ParticipantJoined { participant, .. }
            | ServerMessage::ParticipantUpdated { participant, .. } => of_them(participant.key),
            _ => false,
        })
    }
}
