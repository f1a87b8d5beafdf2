//! Messages on topics that wait for one receiver: reliable ones in order, of lossy ones the freshest.

use std::collections::VecDeque;
use std::sync::Arc;

use antiphon_wire::topic::Message;

/// Bytes of reliable messages that wait for one receiver: a document that is being edited, sent anew.
const MAX_RELIABLE_BYTES: usize = 1024 * 1024;
/// Reliable messages that wait for one receiver: a second of all that three senders may say.
pub(crate) const MAX_RELIABLE: usize = 1_024;
/// Lossy messages that wait for one receiver, each of another sender and topic: pointers of a large room.
pub(crate) const MAX_LOSSY: usize = 128;

/// The queue of one receiver. A slow one loses messages of its own, counted; nobody else waits for it.
#[derive(Debug, Default)]
pub struct TopicQueue {
    reliable: Lane,
    lossy: Lane,
    reliable_bytes: usize,
}

/// Messages of one kind.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Arc<Message>>,
    /// Lost since the last one was taken.
    lost: u32,
    total_lost: u64,
}

impl Lane {
    fn lose(&mut self) -> bool {
        self.lost = self.lost.saturating_add(1);
        self.total_lost += 1;
        false
    }
}

impl TopicQueue {
    /// A message for this receiver. A reliable one that does not fit is lost; a lossy one takes the place of an older one of
    /// the same sender and topic, or else, where there is no room, of the oldest. `false`: one was lost.
    pub fn push(&mut self, message: Arc<Message>) -> bool {
        if message.lossy {
            return self.push_lossy(message);
        }
        let bytes = self.reliable_bytes + message.len();
        if bytes > MAX_RELIABLE_BYTES || self.reliable.waiting.len() >= MAX_RELIABLE {
            return self.reliable.lose();
        }
        self.reliable_bytes = bytes;
        self.reliable.waiting.push_back(message);
        true
    }

    fn push_lossy(&mut self, message: Arc<Message>) -> bool {
        let lane = &mut self.lossy;
        let same = |m: &Arc<Message>| m.from == message.from && m.topic == message.topic;
        if let Some(older) = lane.waiting.iter_mut().find(|m| same(m)) {
            *older = message;
            return lane.lose();
        }
        let full = lane.waiting.len() >= MAX_LOSSY;
        if full {
            lane.waiting.pop_front();
            lane.lose();
        }
        lane.waiting.push_back(message);
        !full
    }

    /// Gives the messages of one kind to `send`, in order and with what was lost before each, until it takes no more.
    pub fn drain(&mut self, lossy: bool, mut send: impl FnMut(&Message, u32) -> bool) {
        let lane = if lossy { &mut self.lossy } else { &mut self.reliable };
        while let Some(message) = lane.waiting.front() {
            if !send(message, lane.lost) {
                return;
            }
            lane.lost = 0;
            if !lossy {
                self.reliable_bytes -= message.len();
            }
            lane.waiting.pop_front();
        }
    }

    /// The next message, reliable ones first, and how many of its kind were lost before it.
    pub fn pop(&mut self) -> Option<(Arc<Message>, u32)> {
        for lane in [&mut self.reliable, &mut self.lossy] {
            if let Some(message) = lane.waiting.pop_front() {
                if !message.lossy {
                    self.reliable_bytes -= message.len();
                }
                return Some((message, std::mem::take(&mut lane.lost)));
            }
        }
        None
    }

    /// Messages that wait.
    pub(crate) fn len(&self) -> usize {
        self.reliable.waiting.len() + self.lossy.waiting.len()
    }

    /// Something waits.
    pub fn waits(&self) -> bool {
        !self.reliable.waiting.is_empty() || !self.lossy.waiting.is_empty()
    }

    /// Messages lost until now: reliable, lossy.
    pub fn lost(&self) -> (u64, u64) {
        (self.reliable.total_lost, self.lossy.total_lost)
    }
}

#[cfg(test)]
mod tests {
    use antiphon_base::ParticipantKey;

    use super::*;

    fn message(from: u32, lossy: bool, topic: &str, payload: &[u8]) -> Arc<Message> {
        let (from, topic, payload) = (ParticipantKey(from), topic.into(), payload.into());
        Arc::new(Message { from, lossy, addressed: false, topic, payload })
    }

    fn take(queue: &mut TopicQueue, lossy: bool) -> Vec<(u8, u32)> {
        let mut taken = Vec::new();
        queue.drain(lossy, |m, lost| {
            taken.push((m.payload[0], lost));
            true
        });
        taken
    }

    #[test]
    fn of_lossy_messages_the_freshest_of_a_sender_and_topic_waits() {
        let mut queue = TopicQueue::default();
        for (from, topic, what) in [(1, "a", 1), (2, "a", 2), (1, "a", 3), (1, "b", 4), (1, "a", 5)] {
            queue.push(message(from, true, topic, &[what]));
        }
        assert_eq!(take(&mut queue, true), [(5, 2), (2, 0), (4, 0)]);
        assert!(!queue.waits());
    }

    #[test]
    fn reliable_messages_keep_their_order_and_are_bounded() {
        let mut queue = TopicQueue::default();
        for i in 0..MAX_RELIABLE + 3 {
            queue.push(message(1, false, "a", &[u8::try_from(i % 251).unwrap()]));
        }
        let mut first = 0;
        queue.drain(false, |m, lost| {
            first += 1;
            assert_eq!(lost, if first == 1 { 3 } else { 0 });
            usize::from(m.payload[0]) == (first - 1) % 251
        });
        assert_eq!((first, queue.waits(), queue.lost()), (MAX_RELIABLE, false, (3, 0)));
        assert_eq!(queue.reliable_bytes, 0);
        let large = vec![0; 15 * 1024];
        for _ in 0..100 {
            queue.push(message(1, false, "a", &large));
        }
        assert!(queue.reliable_bytes <= MAX_RELIABLE_BYTES);
        assert_eq!(
            queue.lost().0,
            3 + 100 - (MAX_RELIABLE_BYTES / message(1, false, "a", &large).len()) as u64
        );
    }

    #[test]
    fn a_receiver_that_takes_nothing_holds_a_bounded_number_of_lossy_ones() {
        let mut queue = TopicQueue::default();
        for from in 0..1_000 {
            queue.push(message(from, true, "a", &[0]));
        }
        queue.drain(true, |_, _| false);
        assert_eq!((queue.lossy.waiting.len(), queue.lost()), (MAX_LOSSY, (0, 1_000 - MAX_LOSSY as u64)));
    }
}
