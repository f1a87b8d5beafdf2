//! Who listens to which topic, and how much one participant may say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::ParticipantKey;
use antiphon_wire::topic::EVERY_TOPIC;

use crate::config::DataRates;

/// A participant is told of refused messages no more often.
const TELL_REFUSED: Duration = Duration::from_secs(1);

/// Subscriptions of a room. Bounded by the participants and `MAX_SUBSCRIPTIONS` of each.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    listeners: BTreeMap<Arc<str>, BTreeSet<ParticipantKey>>,
    of: BTreeMap<ParticipantKey, BTreeSet<Arc<str>>>,
}

impl Topics {
    /// Replaces what somebody listens to.
    pub(crate) fn set(&mut self, key: ParticipantKey, topics: &[String]) {
        self.forget(key);
        for name in topics {
            let known = self.listeners.get_key_value(name.as_str()).map(|(name, _)| name.clone());
            let name = known.unwrap_or_else(|| name.as_str().into());
            self.listeners.entry(name.clone()).or_default().insert(key);
            self.of.entry(key).or_default().insert(name);
        }
    }

    /// Somebody listens no more.
    pub(crate) fn forget(&mut self, key: ParticipantKey) {
        for name in self.of.remove(&key).unwrap_or_default() {
            if let Some(listeners) = self.listeners.get_mut(&name) {
                listeners.remove(&key);
                if listeners.is_empty() {
                    self.listeners.remove(&name);
                }
            }
        }
    }

    /// Those who listen to a topic, in order, each once.
    pub(crate) fn listeners(&self, topic: &str) -> BTreeSet<ParticipantKey> {
        let of = |name: &str| self.listeners.get(name).into_iter().flatten().copied();
        of(topic).chain(of(EVERY_TOPIC)).collect()
    }
}

/// What a participant may still say; a token bucket of a second for each rate.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowance {
    /// Until when the past has been paid for, by rate, in the past at most a second.
    paid: [Option<Instant>; 3],
    refused: u32,
    told: Option<Instant>,
}

impl Allowance {
    /// Takes a message that `receivers` get from what is left; `false`: too much, and nothing is taken.
    pub(crate) fn take(&mut self, now: Instant, rates: DataRates, bytes: usize, receivers: usize) -> bool {
        let bytes = bytes as u64;
        let costs = [
            (1, rates.messages),
            (bytes, rates.bytes),
            (bytes.saturating_mul(receivers as u64), rates.fan_out_bytes),
        ];
        let full = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let mut paid = self.paid;
        for (paid, (cost, rate)) in paid.iter_mut().zip(costs) {
            let time = Duration::from_nanos(cost.saturating_mul(1_000_000_000) / rate.max(1));
            let at = paid.map_or(full, |at| at.max(full)) + time;
            if at > now {
                return false;
            }
            *paid = Some(at);
        }
        self.paid = paid;
        true
    }

    /// Counts a refused message. Some: how many were since it was last told, which is to be told now.
    pub(crate) fn refuse(&mut self, now: Instant) -> Option<u32> {
        self.refused = self.refused.saturating_add(1);
        if self.told.is_some_and(|at| now.saturating_duration_since(at) < TELL_REFUSED) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::base;

    #[test]
    fn a_second_may_be_saved_up_and_no_more() {
        let rates = DataRates { messages: 10, bytes: 1_000, fan_out_bytes: 10_000 };
        let now = base() + Duration::from_secs(100);
        let mut a = Allowance::default();
        assert_eq!((0..20).filter(|_| a.take(now, rates, 10, 1)).count(), 10);
        let later = now + Duration::from_millis(500);
        assert_eq!((0..20).filter(|_| a.take(later, rates, 10, 1)).count(), 5);
        let long_after = now + Duration::from_secs(60);
        assert!(!a.take(long_after, rates, 1_001, 1), "more bytes than a second has");
        assert!(!a.take(long_after, rates, 100, 101), "more copies than a second has");
        assert_eq!(
            (0..20).filter(|_| a.take(long_after, rates, 10, 1)).count(),
            10,
            "refused ones cost nothing"
        );
    }

    #[test]
    fn refusals_are_told_once_a_second_with_their_number() {
        let now = base() + Duration::from_secs(100);
        let mut a = Allowance::default();
        let told: Vec<_> = (0..25).filter_map(|i| a.refuse(now + Duration::from_millis(100 * i))).collect();
        assert_eq!(told, [1, 10, 10]);
    }

    #[test]
    fn who_listens_to_all_and_to_one_is_there_once() {
        let mut topics = Topics::default();
        let (ada, bob) = (ParticipantKey(1), ParticipantKey(2));
        topics.set(ada, &["chat".into(), "*".into()]);
        topics.set(bob, &["chat".into()]);
        assert_eq!(topics.listeners("chat"), [ada, bob].into());
        assert_eq!(topics.listeners("cursor"), [ada].into());
        topics.set(ada, &[]);
        topics.forget(bob);
        assert!(topics.listeners.is_empty() && topics.of.is_empty());
    }
}
