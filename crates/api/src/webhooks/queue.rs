//! What one target is still to be told, and when. No clock, no I/O.
//!
//! A target that does not answer, or cannot now (5xx, 408, 425, 429), is left alone for longer and longer, then tried with one event. An
//! event that it refuses (anything else) is tried again by itself while others go on: one that it cannot stand blocks none.
//! Without jitter: there is one of us, and it tries one event.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Counts;
use super::post::Outcome;

/// Events that wait for a target: about 1 MB. More, and the oldest are dropped.
pub(super) const MAX_QUEUED: usize = 1_000;
/// Posts to one target at a time: with 50 ms for each, 80 events per second.
pub(super) const MAX_UNDER_WAY: usize = 4;
/// The first pause after a failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest: how late a target that is back is noticed.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// An event for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) id: String,
    pub(super) body: Bytes,
    /// Attempts so far, the one under way included.
    pub(super) attempts: u32,
    since: Instant,
    due: Instant,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Post it, and say what came of it by [`Queue::done`].
    Send(Delivery),
    /// Nothing before then.
    At(Instant),
    /// Nothing, until one is pushed or done.
    Nothing,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Delivery>,
    under_way: usize,
    give_up: Duration,
    /// In a row, of the target.
    failures: u32,
    not_before: Option<Instant>,
    gone: bool,
    counts: Counts,
}

impl Queue {
    pub(super) fn new(give_up: Duration) -> Self {
        let (waiting, counts) = (VecDeque::new(), Counts::default());
        Self { waiting, under_way: 0, give_up, failures: 0, not_before: None, gone: false, counts }
    }

    pub(super) fn push(&mut self, id: String, body: Bytes, now: Instant) {
        if self.gone {
            self.counts.dropped_gone += 1;
            return;
        }
        if self.waiting.len() >= MAX_QUEUED {
            self.waiting.pop_front();
            self.counts.dropped_full += 1;
        }
        self.waiting.push_back(Delivery { id, body, attempts: 0, since: now, due: now });
    }

    /// The next to be posted.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let give_up = self.give_up;
        let before = self.waiting.len();
        self.waiting.retain(|d| now.saturating_duration_since(d.since) < give_up);
        self.counts.dropped_late += (before - self.waiting.len()) as u64;
        // One that failed is tried with one event.
        let most = if self.failures == 0 { MAX_UNDER_WAY } else { 1 };
        if self.under_way >= most {
            return Next::Nothing;
        }
        let Some((i, due)) = self.waiting.iter().map(|d| d.due).enumerate().min_by_key(|(_, due)| *due)
        else {
            return Next::Nothing;
        };
        let due = self.not_before.map_or(due, |at| at.max(due));
        if due > now {
            return Next::At(due);
        }
        let mut delivery = self.waiting.remove(i).expect("it was found above");
        delivery.attempts += 1;
        self.under_way += 1;
        Next::Send(delivery)
    }

    /// What came of an attempt.
    pub(super) fn done(&mut self, mut delivery: Delivery, outcome: &Outcome, now: Instant) {
        self.under_way -= 1;
        match outcome {
            Outcome::Delivered => {
                self.counts.delivered += 1;
                (self.failures, self.not_before) = (0, None);
            }
            Outcome::Refused { .. } => {
                self.counts.failed += 1;
                // It answers.
                (self.failures, self.not_before) = (0, None);
                delivery.due = now + pause(delivery.attempts);
                self.again(delivery);
            }
            Outcome::Failed { retry_after, .. } => {
                self.counts.failed += 1;
                self.failures = self.failures.saturating_add(1);
                let asked = retry_after.unwrap_or_default().min(MAX_PAUSE);
                self.not_before = Some(now + pause(self.failures).max(asked));
                self.again(delivery);
            }
            Outcome::Gone => {
                self.gone = true;
                self.counts.dropped_gone += 1 + self.waiting.len() as u64;
                self.waiting.clear();
            }
        }
    }

    /// Keeps one for another attempt, at its place in the order.
    fn again(&mut self, delivery: Delivery) {
        if self.gone {
            self.counts.dropped_gone += 1;
        } else if self.waiting.len() >= MAX_QUEUED {
            // It is the oldest.
            self.counts.dropped_full += 1;
        } else {
            self.waiting.push_front(delivery);
        }
    }

    /// Whether the target has said that it is gone.
    pub(super) fn gone(&self) -> bool {
        self.gone
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { queued: (self.waiting.len() + self.under_way) as u64, ..self.counts }
    }
}

/// After so many failures.
fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn failed() -> Outcome {
        Outcome::Failed { why: "", retry_after: None }
    }

    fn filled(events: usize, now: Instant) -> Queue {
        let mut queue = Queue::new(HOUR);
        (0..events).for_each(|i| queue.push(i.to_string(), Bytes::new(), now));
        queue
    }

    #[track_caller]
    fn sent(queue: &mut Queue, now: Instant) -> Delivery {
        match queue.next(now) {
            Next::Send(delivery) => delivery,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_go_out_in_order_a_few_at_a_time() {
        let now = Instant::now();
        let mut queue = filled(6, now);
        let under_way: Vec<_> = (0..MAX_UNDER_WAY).map(|_| sent(&mut queue, now)).collect();
        assert_eq!(under_way.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        assert_eq!(queue.next(now), Next::Nothing);
        for delivery in under_way {
            queue.done(delivery, &Outcome::Delivered, now);
        }
        assert_eq!(sent(&mut queue, now).id, "4");
        assert_eq!((queue.counts().delivered, queue.counts().queued), (4, 2));
    }

    #[test]
    fn a_dead_target_is_tried_less_and_less_with_one_event() {
        let mut now = Instant::now();
        let mut queue = filled(3, now);
        let mut pauses = Vec::new();
        let first = sent(&mut queue, now);
        queue.done(first, &failed(), now);
        for _ in 0..10 {
            let Next::At(at) = queue.next(now) else { panic!("it is left alone") };
            pauses.push((at - now).as_secs());
            now = at;
            let delivery = sent(&mut queue, now);
            assert_eq!(delivery.id, "0", "in its place");
            assert_eq!(queue.next(now), Next::Nothing, "no second one");
            queue.done(delivery, &failed(), now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        let Next::At(at) = queue.next(now) else { panic!("it is left alone") };
        let delivery = sent(&mut queue, at);
        queue.done(delivery, &Outcome::Delivered, at);
        assert_eq!([sent(&mut queue, at).id, sent(&mut queue, at).id], ["1", "2"], "at once");
        assert_eq!(queue.counts().failed, 11);
    }

    #[test]
    fn an_event_that_is_refused_blocks_no_other() {
        let now = Instant::now();
        let mut queue = filled(2, now);
        let first = sent(&mut queue, now);
        queue.done(first, &Outcome::Refused { why: "" }, now);
        let second = sent(&mut queue, now);
        assert_eq!(second.id, "1");
        queue.done(second, &Outcome::Delivered, now);
        assert_eq!(queue.next(now), Next::At(now + FIRST_PAUSE));
        let again = sent(&mut queue, now + FIRST_PAUSE);
        assert_eq!((again.id.as_str(), again.attempts), ("0", 2));
    }

    #[test]
    fn what_cannot_be_delivered_is_dropped_and_counted() {
        let now = Instant::now();
        let mut queue = filled(MAX_QUEUED + 2, now);
        assert_eq!(queue.counts().dropped_full, 2);
        let oldest = sent(&mut queue, now);
        assert_eq!(oldest.id, "2");
        queue.push("new".into(), Bytes::new(), now + HOUR / 2);
        queue.done(oldest, &Outcome::Failed { why: "", retry_after: Some(HOUR * 1000) }, now);
        assert_eq!(queue.counts().dropped_full, 3, "there is no room to keep it");
        assert_eq!(
            queue.next(now),
            Next::At(now + MAX_PAUSE),
            "who says `Retry-After` is not believed everything"
        );
        assert_eq!(sent(&mut queue, now + HOUR).id, "new");
        assert_eq!(queue.counts().dropped_late, MAX_QUEUED as u64 - 1);
    }

    #[test]
    fn a_target_that_is_gone_is_told_nothing_more() {
        let now = Instant::now();
        let mut queue = filled(4, now);
        let (first, second) = (sent(&mut queue, now), sent(&mut queue, now));
        queue.done(first, &Outcome::Gone, now);
        queue.done(second, &failed(), now);
        queue.push("late".into(), Bytes::new(), now);
        assert!(queue.gone() && queue.next(now + HOUR) == Next::Nothing);
        assert_eq!((queue.counts().dropped_gone, queue.counts().queued), (5, 0));
    }
}
