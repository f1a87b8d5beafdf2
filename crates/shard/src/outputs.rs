//! What rooms say is done: messages sent, slots routed, taps set, keyframes asked for, connections ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use antiphon_base::ParticipantKey;
use antiphon_room::{Feed, KeyframeCause, Output, SlotId};
use antiphon_wire::control::{LeaveReason, ServerMessage};

use crate::attach::AttachEvent;
use crate::core::{CLOSE_GRACE, Core};
use crate::host::Member;
use crate::status::ParticipantStatus;
use crate::timers::Timer;

/// Outputs of one room taken in a round; the rest waits for the next, so that packets are not held up.
const MAX_OUTPUTS: usize = 100_000;

impl Core {
    /// Takes all outputs of a room, and its next deadline.
    pub(crate) fn pump(&mut self, now: Instant, room: usize) {
        for _ in 0..MAX_OUTPUTS {
            let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
            match catch_unwind(AssertUnwindSafe(|| host.room.poll_output())) {
                Ok(Some(output)) => self.act(now, room, output),
                Ok(None) => {
                    host.dirty = false;
                    break;
                }
                Err(_) => return self.drop_room(now, room),
            }
        }
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        if let Some((at, _reason)) = host.room.poll_timeout() {
            self.timers.schedule(Timer::Room(room), at, &mut host.scheduled);
        }
    }

    fn act(&mut self, now: Instant, room: usize, output: Output) {
        match output {
            Output::Send { to, message } => self.deliver(now, room, to, message),
            Output::Route { subscriber, slot, feed, temporal } => {
                self.set_route(now, room, subscriber, slot, (feed, temporal));
            }
            Output::Tap { subscriber, feed, on } => {
                if let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) {
                    host.tap(now, subscriber, feed, on);
                }
            }
            Output::Keyframe { feed } => self.ask_keyframe(room, feed),
            // The routing table itself knows what nobody wants, and publishers are told by message.
            Output::Wanted { .. } => {}
            Output::Demand { subscriber, bps } => {
                if let Some(&Member::Peer(place)) = self.member(room, subscriber)
                    && let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut)
                {
                    peer.connection.set_demand(bps);
                }
            }
            Output::Ended { key, reason } => self.end_participant(now, room, key, reason),
            // `enter` has put the new connection in the old one's place already.
            Output::Dropped { .. } => {}
        }
    }

    fn member(&self, room: usize, key: ParticipantKey) -> Option<&Member> {
        self.hosts.get(room)?.as_deref()?.members.get(&key)
    }

    fn deliver(&mut self, now: Instant, room: usize, to: ParticipantKey, message: ServerMessage) {
        match self.member(room, to) {
            Some(Member::Peer(place)) => {
                let place = *place;
                self.say(now, place, &message);
            }
            Some(Member::Attached(attached)) => {
                let full = attached.events.try_send(AttachEvent::Control(message)).is_err();
                // It does not read its events: it would see a roster that is not true. Better none.
                full.then(|| {
                    self.with_host(now, room, |h| h.room.leave(now, to, LeaveReason::ProtocolError))
                });
            }
            Some(Member::Lost { .. }) | None => {}
        }
    }

    fn set_route(
        &mut self,
        now: Instant,
        room: usize,
        subscriber: ParticipantKey,
        slot: SlotId,
        (feed, temporal): (Option<Feed>, Option<u8>),
    ) {
        let Some(&Member::Peer(place)) = self.member(room, subscriber) else { return };
        let Some(mut peer) = self.peers.get_mut(place).and_then(Option::take) else { return };
        if let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut)
            && let Some(target) = peer.slots.get_mut(usize::from(slot.0))
        {
            let emptied = target.want(feed);
            target.limit_temporal(temporal);
            let waits = target.needs_keyframe();
            host.relisten(now, place, &mut peer, slot);
            // Who is not connected yet asks when it is.
            if let Some(feed) = waits.filter(|_| peer.connected) {
                host.room.keyframe_wanted(now, feed, KeyframeCause::Start);
            }
            if emptied {
                host.room.switched(now, subscriber, slot, None, 0);
            }
        }
        self.peers[place] = Some(peer);
    }

    fn ask_keyframe(&mut self, room: usize, feed: Feed) {
        match self.member(room, feed.track.participant) {
            Some(Member::Peer(place)) => {
                let place = *place;
                let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
                if peer.connection.request_keyframe(feed.track.source, feed.layer) {
                    self.metrics.keyframe_requests += 1;
                    self.touch(place);
                }
            }
            Some(Member::Attached(attached)) => {
                // A full ring is a holder that will be let go at the next message.
                let _ = attached.events.try_send(AttachEvent::Keyframe(feed.track.source));
                self.metrics.keyframe_requests += 1;
            }
            Some(Member::Lost { .. }) | None => {}
        }
    }

    fn end_participant(&mut self, now: Instant, room: usize, key: ParticipantKey, reason: LeaveReason) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let name = host.name.clone();
        let member = host.members.remove(&key);
        host.forget_participant(key);
        match member {
            Some(Member::Peer(place)) => {
                host.forget_peer(place);
                let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
                peer.closing = Some(now + CLOSE_GRACE);
                peer.note(now, format!("left: {reason:?}"));
                let id = peer.id.clone();
                let stats = Some(peer.stats(now));
                self.touch(place);
                let status =
                    ParticipantStatus { id, key, state: "gone", presence: None, reason: Some(reason), stats };
                self.remember(name, status);
            }
            Some(Member::Attached(_)) => {
                self.metrics.attachments = self.metrics.attachments.saturating_sub(1)
            }
            Some(Member::Lost { id, stats }) => {
                let (reason, stats) = (Some(reason), Some(stats));
                let status = ParticipantStatus { id, key, state: "gone", presence: None, reason, stats };
                self.remember(name, status);
            }
            None => {}
        }
    }
}
