//! One WebRTC participant on a shard: its connection, its slots, its place in the room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::{MediaKind, ParticipantId};
use antiphon_room::slot::Slot;
use antiphon_room::{Feed, SlotPlan};
use antiphon_wire::rtp::rewrite::Start;
use antiphon_wire::topic::Message;
use rand::Rng;

use crate::connection::Connection;
use crate::holdings::Holdings;
use crate::join::Grants;
use crate::prefetch::prefetch;
use crate::seam::Who;
use crate::topics::TopicQueue;
use crate::transport::Remote;

/// Addresses one peer may send from: its interfaces while ICE makes up its mind.
pub(crate) const MAX_ADDRESSES: usize = 8;
/// Control messages waiting for the channel to open or drain: a joining burst of a large room.
pub(crate) const MAX_CONTROL_QUEUE: usize = 1_024;
/// Events kept for the stats of a participant.
const MAX_LOG: usize = 64;

/// One peer.
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    /// Place of its room on this shard.
    pub(crate) room: usize,
    pub(crate) who: Who,
    pub(crate) id: ParticipantId,
    pub(crate) grants: Grants,
    pub(crate) has_control: bool,
    pub(crate) addresses: VecDeque<Remote>,
    pub(crate) slots: Vec<Slot>,
    /// For each slot, the feeds whose packets come to it: what it shows, and what it waits for.
    pub(crate) listening: Vec<[Option<Feed>; 2]>,
    /// Needs to be finished in this round.
    pub(crate) touched: bool,
    pub(crate) deadline: Instant,
    pub(crate) scheduled: Option<Instant>,
    pub(crate) connected: bool,
    /// Out of the room; the connection is taken down at this time.
    pub(crate) closing: Option<Instant>,
    pub(crate) since: Instant,
    pub(crate) log: VecDeque<(Instant, String)>,
    pub(crate) dump: Option<async_channel::Sender<Vec<u8>>>,
    control_queue: VecDeque<String>,
    topics: TopicQueue,
}

/// A peer's new slots; sequence numbers and timestamps begin at random (RFC 3550, section 5.1), the former low enough
/// for the rollover counter to be 0.
pub(crate) fn slots(plan: &SlotPlan) -> Vec<Slot> {
    let mut rng = rand::rng();
    let mut slot = |kind| {
        let seq = rng.random_range(1..0x7fff);
        Slot::new(kind, Start { seq, rtp_time: rng.random(), picture_id: rng.random(), tl0: rng.random() })
    };
    let audio = plan.audio.iter().map(|_| MediaKind::Audio);
    let video = plan.video.iter().chain(&plan.screen).map(|_| MediaKind::Video);
    audio.chain(video).map(&mut slot).collect()
}

/// What a peer is made of when it enters.
pub(crate) struct Entry {
    pub(crate) connection: Connection,
    pub(crate) who: Who,
    pub(crate) id: ParticipantId,
    pub(crate) grants: Grants,
    pub(crate) has_control: bool,
    pub(crate) plan: SlotPlan,
}

impl Peer {
    pub(crate) fn new(entry: Entry, room: usize, now: Instant) -> Self {
        let slots = slots(&entry.plan);
        Self {
            connection: entry.connection,
            room,
            who: entry.who,
            id: entry.id,
            grants: entry.grants,
            has_control: entry.has_control,
            addresses: VecDeque::new(),
            listening: vec![[None; 2]; slots.len()],
            slots,
            touched: false,
            deadline: now,
            scheduled: None,
            connected: false,
            closing: None,
            since: now,
            log: VecDeque::new(),
            dump: None,
            control_queue: VecDeque::new(),
            topics: TopicQueue::default(),
        }
    }

    /// Asks for what each round of it needs.
    pub(crate) fn prefetch(&self) {
        prefetch(&self.touched);
        prefetch(&self.deadline);
        prefetch(&self.scheduled);
        self.connection.prefetch();
    }

    /// Asks for what a packet for one of its slots needs, but for the slot.
    pub(crate) fn prefetch_slots(&self) {
        prefetch(&self.slots);
        prefetch(&self.connected);
        self.connection.prefetch_queue();
    }

    /// Remembers what happened, for the stats.
    pub(crate) fn note(&mut self, now: Instant, what: impl Into<String>) {
        if self.log.len() == MAX_LOG {
            self.log.pop_front();
        }
        self.log.push_back((now, what.into()));
    }

    /// Sends a control message after those that wait. `false`: the queue is full, the peer does not read.
    pub(crate) fn say(&mut self, text: String) -> bool {
        if self.control_queue.is_empty() && self.connection.write_control(&text) {
            return true;
        }
        if self.control_queue.len() >= MAX_CONTROL_QUEUE {
            return false;
        }
        self.control_queue.push_back(text);
        true
    }

    /// Tries what waits.
    pub(crate) fn flush_control(&mut self) {
        while let Some(text) = self.control_queue.front() {
            if !self.connection.write_control(text) {
                return;
            }
            self.control_queue.pop_front();
        }
    }

    /// Sends a message on a topic, or keeps it while the channel is full. `false`: one was lost.
    pub(crate) fn tell(&mut self, message: Arc<Message>) -> bool {
        let kept = self.topics.push(message);
        self.flush_topics();
        kept
    }

    /// Sends what waits of messages on topics, as much as the channels take.
    pub(crate) fn flush_topics(&mut self) {
        for lossy in [false, true] {
            let connection = &mut self.connection;
            self.topics.drain(lossy, |message, lost| connection.write_data(lossy, &message.to_bytes(lost)));
        }
    }

    /// Whether messages wait for room: control messages, or those on topics, of whose channels none tells that there is room
    /// where others had filled what SCTP takes.
    pub(crate) fn messages_wait(&self) -> bool {
        !self.control_queue.is_empty() || self.topics.waits()
    }

    /// Adds what it holds.
    pub(crate) fn count(&self, held: &mut Holdings) {
        self.connection.count(held);
        self.slots.iter().for_each(|slot| held.held.add(slot.held()));
        held.messages.add(self.control_queue.len() + self.topics.len());
    }

    /// Counts and latest events, for `GET .../stats`.
    pub(crate) fn stats(&self, now: Instant) -> serde_json::Value {
        let ago =
            |at: Instant| u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        serde_json::json!({
            "connected": self.connected,
            "age_ms": ago(self.since),
            "consent_age_ms": ago(self.connection.consent()),
            "transport": self.connection.stats(),
            "data_lost": { "reliable": self.topics.lost().0, "lossy": self.topics.lost().1 },
            "slots": self.slots.iter().map(slot_stats).collect::<Vec<_>>(),
            "events": self.log.iter().map(|(at, what)| serde_json::json!({"ago_ms": ago(*at), "event": what}))
                .collect::<Vec<_>>(),
        })
    }

    /// No sign of life for too long.
    pub(crate) fn is_lost(&self, now: Instant, consent_timeout: Duration) -> bool {
        now.saturating_duration_since(self.connection.consent()) > consent_timeout
    }
}

/// What a slot shows, and what became of its packets.
fn slot_stats(slot: &Slot) -> serde_json::Value {
    let (shown, counters) = (slot.current(), slot.counters());
    serde_json::json!({
        "track": shown.map(|feed| feed.track.to_string()),
        "layer": shown.map(|feed| feed.layer),
        "sent": counters.sent,
        "left_out": counters.left_out,
        "torn": counters.torn,
    })
}

#[cfg(test)]
mod tests {
    use super::Peer;

    /// Three pages. The next size that the allocator has is two KiB more, for each subscriber.
    #[test]
    fn a_peer_fits_into_three_pages() {
        assert!(size_of::<Peer>() <= 12_288, "{}", size_of::<Peer>());
    }
}
