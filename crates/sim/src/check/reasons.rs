//! Every gap has a reason that can be seen from outside: the network did harm, the server told of a change, or the client's
//! link was full and the server left out pictures up to a key frame.

use std::time::{Duration, Instant};

use antiphon_base::{MediaKind, ParticipantKey};
use antiphon_wire::control::ServerMessage;

use super::{Checker, Frame, TOLD_WITHIN};
use crate::client::{Client, Received};
use crate::net::Link;
use crate::sender::Sender;
use crate::stamp::Stamp;

/// How long before the first of two frames came the one between them may have been sent, beside what it takes on its way: the
/// first may have come later than the second, by retransmission, and who is silent sends a frame each 400 ms.
const BETWEEN: Duration = Duration::from_millis(500);
/// How long before a gap a packet may have been harmed that is missing, beside that: what is beside it may have come by retransmission.
/// Its number comes again after minutes.
const RETRANSMITTED: Duration = Duration::from_secs(10);
/// How long before a gap a queue may have stood on the client's link: what is left out then goes on with a key frame, which is asked
/// for again and again where its publisher's link is bad.
const UNTIL_KEY_FRAME: Duration = Duration::from_secs(3);
/// How long a shard that did nothing has to do with what waits: its ring, and what was sent to it in vain.
const CATCHES_UP: Duration = Duration::from_secs(3);
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
        let reason = self.was_harmed_on_the_way_down(a, b, (from, to))
            || self.was_harmed_on_the_way_up([a, b], (from, to))
            || self.was_another_between(a, b, (from, to))
            || self.was_thinned(b, from, to)
            || self.shard_was_stalled(from, to, sources)
            || self.change_was_told(b.packets[0], (from, to), sources);
        if !reason {
            let what = format!("a gap without a reason after {:?}, seq {:?}", a.first.stamp, a.seqs());
            self.fault(b.packets[0], &what);
        }
    }

    /// The way from the server.
    fn down(&self) -> Option<&Link> {
        self.world.network.path(self.client.address).map(|path| &path.down)
    }

    /// Every number that is missing was lost, damaged or held up on the client's own link, or came before the client had keys; or the client has moved. A number that the
    /// server left out has another reason, and so has a frame that is missing while the numbers go on.
    fn was_harmed_on_the_way_down(
        &self,
        a: &Frame<'_>,
        b: &Frame<'_>,
        (from, to): (Instant, Instant),
    ) -> bool {
        let Some(down) = self.down() else { return false };
        let (missing, harmed) = self.missing_and_harmed(down, a, b, (from, to));
        let all = missing > 0 && missing == harmed;
        down.has_moved(from - BETWEEN - down.longest, to) || all
    }

    /// How many numbers between two frames are missing, and how many of these were harmed on the client's own link.
    fn missing_and_harmed(
        &self,
        down: &Link,
        a: &Frame<'_>,
        b: &Frame<'_>,
        (from, to): (Instant, Instant),
    ) -> (usize, usize) {
        let since = from - BETWEEN - down.longest - RETRANSMITTED;
        let harmed: Vec<u16> = down
            .harmed(since, to)
            .map(|(_, place)| place)
            // What the end of the story found on its way.
            .chain(self.world.network.under_way(self.client.address))
            .chain(self.client.early.iter().copied())
            .filter(|place| self.slot.ssrc == Some(place.ssrc))
            .map(|place| place.seq)
            .collect();
        let came = |seq: u64| a.packets.iter().any(|p| p.seq == seq);
        let missing: Vec<u64> = (a.seqs().0..b.seqs().0).filter(|seq| !came(*seq)).collect();
        let is_harmed = |seq: &&u64| harmed.iter().any(|h| u64::from(*h) == **seq & 0xffff);
        (missing.len(), missing.iter().filter(is_harmed).count())
    }

    /// Of what was lost on the client's own link some was of somebody else, who stood in the slot between the two, and of whom something
    /// was lost on the way to the server.
    fn was_another_between(&self, a: &Frame<'_>, b: &Frame<'_>, (from, to): (Instant, Instant)) -> bool {
        let Some(down) = self.down() else { return false };
        if self.missing_and_harmed(down, a, b, (from, to)).1 == 0 {
            return false;
        }
        self.world.clients.iter().any(|client| {
            let Some(up) = self.world.network.path(client.address).map(|path| &path.up) else { return false };
            let since = from - BETWEEN - down.longest - up.longest;
            let senders = || client.senders.iter().filter(|s| s.source.kind() == self.slot.kind);
            up.harmed(since, to).any(|(at, place)| senders().any(|s| s.frame_of(at, place).is_some()))
        })
    }

    /// A packet of what is missing, or of the two frames beside it, was lost, damaged or held up on its publisher's link; or one that
    /// was held up overtook them all the same: numbers are kept free for what it overtook, of layers that are left out, too.
    fn was_harmed_on_the_way_up(&self, [a, b]: [&Frame<'_>; 2], (from, to): (Instant, Instant)) -> bool {
        let way_down = self.down().map_or(Duration::ZERO, |link| link.longest);
        let (first, last) = (a.first.stamp, b.first.stamp);
        let is_same = a.source() == b.source();
        let frames = |stamp: &Stamp| match *stamp {
            _ if is_same => first.frame..=last.frame,
            stamp if stamp == first => first.frame..=u32::MAX,
            _ => 0..=last.frame,
        };
        [first, last].iter().any(|stamp| {
            let Some(client) = self.world.clients.get(usize::from(stamp.publisher)) else { return false };
            let Some(up) = self.world.network.path(client.address).map(|path| &path.up) else { return false };
            let since = from - BETWEEN - way_down - up.longest;
            let sends =
                |s: &&Sender| s.source == stamp.source && (stamp.nested.is_some() || s.layer == stamp.layer);
            let Some(sender) = client.senders.iter().find(sends) else { return false };
            let mut lost =
                up.harmed(since - RETRANSMITTED, to).filter_map(|(at, place)| sender.frame_of(at, place));
            let overtook = |frame: u32| is_same && frame > last.frame && self.came_before(b, frame);
            up.has_moved(since, to) || lost.any(|frame| frames(stamp).contains(&frame) || overtook(frame))
        })
    }

    /// A packet of a later frame of the same source came before one of this frame.
    fn came_before(&self, b: &Frame<'_>, frame: u32) -> bool {
        let at = b.packets.iter().map(|p| p.at).max();
        let of_it = |stamp: Stamp| stamp.stream() == b.source() && stamp.frame == frame;
        self.slot
            .packets
            .iter()
            .any(|p| Some(p.at) < at && p.parsed.is_some_and(|parsed| of_it(parsed.stamp)))
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
            stall.from <= to && goes_on + CATCHES_UP >= from
        })
    }

    /// A sender on a full link drops pictures rather than to let them wait, and goes on with a key frame, in this layer or
    /// another. Voices are never left out.
    fn was_thinned(&self, b: &Frame<'_>, from: Instant, to: Instant) -> bool {
        let Stamp { source, key, .. } = b.first.stamp;
        let goes_on = source.kind() == MediaKind::Video && key && b.begins();
        let path = self.world.network.path(self.client.address);
        goes_on && path.is_some_and(|p| p.down.was_full(from - UNTIL_KEY_FRAME, to))
    }

    /// What changes before there is a control channel is told with the first that is said there, or next: that this one stands in the
    /// slot, from this packet on.
    fn is_told_later(&self, key: Option<ParticipantKey>, first: &Received, to: Instant) -> bool {
        let mut told = self.told().take_while(|(told, _)| *told <= to + TOLD_WITHIN);
        told.any(|(_, slot)| slot.csrc == key.map(|key| key.0) && slot.rtp_time == Some(first.rtp_time))
    }

    /// The client was told of a change of the slot, or of the publisher's tracks, about then. A player is told of no tracks; there it
    /// counts that anybody was. So it is with what comes before the control channel.
    fn change_was_told(
        &self,
        first: &Received,
        (from, to): (Instant, Instant),
        publishers: [u16; 2],
    ) -> bool {
        let keys = publishers.map(|p| self.world.publishers.get(&p).map(|p| p.key));
        let of_them = |key: ParticipantKey| keys.contains(&Some(key));
        let near = |at: Instant| at + TOLD_EARLY >= from && at <= to + TOLD_WITHIN;
        let is_told = self.client.control_open.is_some_and(|open| open <= from);
        // What is told first when the channel opens is who stands there, no change.
        let mut changes = self.told().skip(usize::from(!is_told)).map(|(at, _)| at);
        let of_tracks = |client: &Client| {
            client.messages.iter().filter(|(at, _)| near(*at)).any(|(_, message)| match message {
                ServerMessage::ParticipantJoined { participant, .. }
                | ServerMessage::ParticipantUpdated { participant, .. } => of_them(participant.key),
                _ => false,
            })
        };
        // Or the same one on another connection.
        let later = || publishers[0] != publishers[1] && self.is_told_later(keys[1], first, to);
        let others = || later() || self.world.clients.iter().any(of_tracks);
        changes.any(near) || if is_told { of_tracks(self.client) } else { others() }
    }
}
