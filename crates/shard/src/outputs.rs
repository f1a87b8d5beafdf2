//! What rooms say is done: messages sent, slots routed, taps set, keyframes asked for, connections ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use antiphon_base::{ParticipantId, ParticipantKey};
use antiphon_room::{Feed, Output};
use antiphon_wire::control::{LeaveReason, ServerMessage};
use antiphon_wire::topic;

use crate::attach::{AttachEvent, EVENT_RING};
use crate::core::Core;
use crate::home::{Away, Member};
use crate::seam::{Message, Order, Who};
use crate::status::ParticipantStatus;
use crate::timers::Timer;

/// Outputs of one room taken in a round; the rest waits for the next, so that packets are not held up.
const MAX_OUTPUTS: usize = 100_000;

impl Core {
    /// Takes all outputs of a room, and its next deadline.
    pub(crate) fn pump(&mut self, now: Instant, room: usize) {
        for _ in 0..MAX_OUTPUTS {
            let Some(home) = self.home_mut(room) else { break };
            match catch_unwind(AssertUnwindSafe(|| home.room.poll_output())) {
                Ok(Some(output)) => self.act(now, room, output),
                Ok(None) => {
                    home.dirty = false;
                    break;
                }
                Err(_) => return self.drop_room(now, room),
            }
        }
        self.settle_interests(now, room);
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let Some(home) = host.home.as_deref_mut() else { return };
        if let Some((at, _reason)) = home.room.poll_timeout() {
            self.timers.schedule(Timer::Room(room), at, &mut home.scheduled);
        }
    }

    fn act(&mut self, now: Instant, room: usize, output: Output) {
        match output {
            Output::Send { to, message } => self.deliver(now, room, to, message),
            Output::Route { subscriber, slot, feed, temporal } => {
                self.order(now, room, subscriber, Order::Route { slot, feed, temporal });
            }
            Output::Tap { subscriber, feed, on } => {
                if let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) {
                    host.table.tap(now, subscriber, feed, on);
                }
            }
            Output::Keyframe { feed } => self.ask_publisher(now, room, feed),
            // The routing table itself knows what nobody wants, and publishers are told by message.
            Output::Wanted { .. } => {}
            Output::Demand { subscriber, bps } => self.order(now, room, subscriber, Order::Demand(bps)),
            Output::Bound { publisher, bps } => self.order(now, room, publisher, Order::Bound(bps)),
            Output::Recording { to, view } => {
                self.attachment_event(now, room, to, AttachEvent::Recording(view))
            }
            Output::Data { to, message } => {
                for key in to {
                    self.give_data(now, room, key, &message);
                }
            }
            Output::Ended { key, reason } => self.end_participant(now, room, key, reason),
            // `enter` has put the new connection in the old one's place already.
            Output::Dropped { .. } => {}
        }
    }

    /// Gives an order to a member's peer, wherever it is.
    fn order(&mut self, now: Instant, room: usize, key: ParticipantKey, order: Order) {
        let Some(host) = self.hosts.get(room).and_then(Option::as_deref) else { return };
        match host.home.as_deref().and_then(|home| home.members.get(&key)) {
            Some(&Member::Peer(place)) => self.obey(now, place, order),
            Some(Member::Away(away)) => {
                let (shard, who) = (away.shard, Who { room: host.id, key, connection: away.connection });
                let message = Message::Order { who, order };
                let may_be_lost = message.is_data();
                match self.links.send(shard, message) {
                    true => {}
                    false if may_be_lost => self.metrics.data_dropped += 1,
                    false => self.give_up_away(now, room, shard, who),
                }
            }
            Some(Member::Attached(_) | Member::Lost { .. }) | None => {}
        }
    }

    /// What is to be said to a peer on another shard does not fit any more: its connection is given up.
    fn give_up_away(&mut self, now: Instant, room: usize, shard: u16, who: Who) {
        self.metrics.link_dropped += 1;
        self.links.forget(shard, who);
        self.links.send_always(shard, Message::Order { who, order: Order::Replace });
        self.with_home(now, room, |home| {
            if let Some(Member::Away(Away { id, .. })) = home.members.remove(&who.key) {
                home.members.insert(who.key, Member::Lost { id, stats: serde_json::Value::Null });
            }
            home.room.disconnected(now, who.key);
        });
    }

    fn deliver(&mut self, now: Instant, room: usize, to: ParticipantKey, message: ServerMessage) {
        let Some(home) = self.home_mut(room) else { return };
        match home.members.get(&to) {
            Some(Member::Attached(_)) => self.attachment_event(now, room, to, AttachEvent::Control(message)),
            _ => self.order(now, room, to, Order::Say(Box::new(message))),
        }
    }

    fn attachment_event(&mut self, now: Instant, room: usize, to: ParticipantKey, event: AttachEvent) {
        let Some(home) = self.home_mut(room) else { return };
        let Some(Member::Attached(attached)) = home.members.get(&to) else { return };
        // It does not read its events: it would see a roster that is not true. Better none.
        if attached.events.try_send(event).is_err() {
            self.with_home(now, room, |home| home.room.leave(now, to, LeaveReason::ProtocolError));
        }
    }

    fn give_data(&mut self, now: Instant, room: usize, to: ParticipantKey, message: &Arc<topic::Message>) {
        let Some(home) = self.home_mut(room) else { return };
        let Some(Member::Attached(attached)) = home.members.get(&to) else {
            return self.order(now, room, to, Order::Data(message.clone()));
        };
        // Half of the ring is for what must not be lost.
        let fits = attached.events.len() < EVENT_RING / 2;
        if !fits || attached.events.try_send(AttachEvent::Data(message.clone())).is_err() {
            self.metrics.data_dropped += 1;
        }
    }

    fn ask_publisher(&mut self, now: Instant, room: usize, feed: Feed) {
        let (key, source, layer) = (feed.track.participant, feed.track.source, feed.layer);
        let Some(home) = self.home_mut(room) else { return };
        let Some(Member::Attached(attached)) = home.members.get(&key) else {
            return self.order(now, room, key, Order::Keyframe { source, layer });
        };
        // A full ring is a holder that will be let go at the next message.
        let _ = attached.events.try_send(AttachEvent::Keyframe(source));
        self.metrics.keyframe_requests += 1;
    }

    fn end_participant(&mut self, now: Instant, room: usize, key: ParticipantKey, reason: LeaveReason) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        host.table.forget_participant(key);
        let (id, name) = (host.id, host.name.clone());
        let Some(home) = host.home.as_deref_mut() else { return };
        home.forget(key);
        let member = home.members.remove(&key);
        self.tell_branches(room, |room| Message::Forget { room, key });
        match member {
            Some(Member::Peer(place)) => self.obey(now, place, Order::Close(reason)),
            Some(Member::Away(Away { shard, connection, id: whose, .. })) => {
                // The branch tells its counts when it has closed it.
                let who = Who { room: id, key, connection };
                self.links.send_always(shard, Message::Order { who, order: Order::Close(reason) });
                self.remember(name, gone(whose, key, reason, None));
            }
            Some(Member::Attached(_)) => {
                self.metrics.attachments = self.metrics.attachments.saturating_sub(1);
            }
            Some(Member::Lost { id, stats }) => self.remember(name, gone(id, key, reason, Some(stats))),
            None => {}
        }
    }
}

/// The last state of a participant.
pub(crate) fn gone(
    id: ParticipantId,
    key: ParticipantKey,
    reason: LeaveReason,
    stats: Option<serde_json::Value>,
) -> ParticipantStatus {
    ParticipantStatus { id, key, state: "gone", presence: None, reason: Some(reason), stats }
}
