//! What rooms say is done: messages sent, slots routed, taps set, keyframes asked for, connections ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use antiphon_base::ParticipantKey;
use antiphon_room::{Feed, Output};
use antiphon_wire::control::{LeaveReason, ServerMessage};
use antiphon_wire::topic::Message;

use crate::attach::{AttachEvent, EVENT_RING};
use crate::core::Core;
use crate::home::Member;
use crate::seam::Order;
use crate::status::ParticipantStatus;
use crate::timers::Timer;

/// Outputs of one room taken in a round; the rest waits for the next, so that packets are not held up.
const MAX_OUTPUTS: usize = 100_000;

impl Core {
    /// Takes all outputs of a room, and its next deadline.
    pub(crate) fn pump(&mut self, now: Instant, room: usize) {
        for _ in 0..MAX_OUTPUTS {
            let Some(home) = self.home_mut(room) else { return };
            match catch_unwind(AssertUnwindSafe(|| home.room.poll_output())) {
                Ok(Some(output)) => self.act(now, room, output),
                Ok(None) => {
                    home.dirty = false;
                    break;
                }
                Err(_) => return self.drop_room(now, room),
            }
        }
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let Some(home) = host.home.as_deref_mut() else { return };
        if let Some((at, _reason)) = home.room.poll_timeout() {
            self.timers.schedule(Timer::Room(room), at, &mut home.scheduled);
        }
    }

    fn act(&mut self, now: Instant, room: usize, output: Output) {
        match output {
            Output::Send { to, message } => self.deliver(now, room, to, message),
            Output::Route { subscriber, slot, feed } => {
                self.order(now, room, subscriber, Order::Route { slot, feed });
            }
            Output::Tap { subscriber, feed, on } => {
                if let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) {
                    host.table.tap(now, subscriber, feed, on);
                }
            }
            Output::Keyframe { feed } => self.ask_publisher(now, room, feed),
            // The routing table itself knows what nobody wants; telling publishers comes with congestion control.
            Output::Wanted { .. } => {}
            Output::Demand { subscriber, bps } => self.order(now, room, subscriber, Order::Demand(bps)),
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
        let Some(home) = self.home_mut(room) else { return };
        match home.members.get(&key) {
            Some(&Member::Peer(place)) => self.obey(now, place, order),
            Some(Member::Attached(_) | Member::Lost { .. }) | None => {}
        }
    }

    fn deliver(&mut self, now: Instant, room: usize, to: ParticipantKey, message: ServerMessage) {
        let Some(home) = self.home_mut(room) else { return };
        let Some(Member::Attached(attached)) = home.members.get(&to) else {
            return self.order(now, room, to, Order::Say(Box::new(message)));
        };
        // It does not read its events: it would see a roster that is not true. Better none.
        if attached.events.try_send(AttachEvent::Control(message)).is_err() {
            self.with_home(now, room, |home| home.room.leave(now, to, LeaveReason::ProtocolError));
        }
    }

    fn give_data(&mut self, now: Instant, room: usize, to: ParticipantKey, message: &Arc<Message>) {
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
        let name = host.name.clone();
        let Some(home) = host.home.as_deref_mut() else { return };
        match home.members.remove(&key) {
            Some(Member::Peer(place)) => self.obey(now, place, Order::Close(reason)),
            Some(Member::Attached(_)) => {
                self.metrics.attachments = self.metrics.attachments.saturating_sub(1);
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
