//! Fragments of a stream that became durable, told together: one event for some seconds of a stream, not one for each fragment.
//! No clock, no I/O.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use antiphon_kvs::Persisted;
use serde_json::{Value, json};
use tokio::time::Instant;

/// A range with so many fragments is told at once: a reader can ask for as many in one request.
const MAX_FRAGMENTS: u64 = 1_000;
/// Ranges that are open at a time: as many as there may be streams by default, some 5 MB. With more, the oldest is told at once.
const MAX_OPEN: usize = 10_000;

/// What was stored of one stream, of one contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    first: Persisted,
    last: Persisted,
    fragments: u64,
    bytes: u64,
    /// Its place in the order of age.
    order: u64,
    due: Instant,
}

impl Range {
    /// Numbers as text: fragment numbers have 47 digits, and times are spelled as contact records do.
    pub(super) fn to_json(&self) -> Value {
        let (first, last) = (&self.first, &self.last);
        let mut data = json!({
            "StreamName": first.stream,
            "StreamARN": first.arn.as_str(),
            "FirstFragmentNumber": first.number.to_string(),
            "LastFragmentNumber": last.number.to_string(),
            "StartProducerTimestamp": first.producer_ms.to_string(),
            "EndProducerTimestamp": (last.producer_ms.saturating_add(last.duration_ms.into())).to_string(),
            "StartServerTimestamp": first.number.server_ms().to_string(),
            "EndServerTimestamp": last.number.server_ms().to_string(),
            "Fragments": self.fragments,
            "Bytes": self.bytes,
        });
        if !first.contact.is_empty() {
            data["ContactId"] = first.contact.clone().into();
        }
        data
    }
}

/// The ranges that grow, by stream.
#[derive(Debug)]
pub(super) struct Ranges {
    interval: Duration,
    open: HashMap<String, Range>,
    /// The oldest first, which is also the first to be due.
    by_age: BTreeMap<u64, String>,
    next: u64,
}

impl Ranges {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, open: HashMap::new(), by_age: BTreeMap::new(), next: 0 }
    }

    /// Takes a fragment. Gives what is to be told because of it.
    pub(super) fn push(&mut self, persisted: Persisted, now: Instant) -> Vec<Range> {
        let arn = persisted.arn.as_str().to_owned();
        let mut full = Vec::new();
        if self.open.get(&arn).is_some_and(|range| range.first.contact != persisted.contact) {
            full.extend(self.take(&arn));
        }
        match self.open.get_mut(&arn) {
            Some(range) => {
                range.fragments += 1;
                range.bytes += persisted.bytes;
                range.last = persisted;
            }
            None => {
                if self.open.len() >= MAX_OPEN {
                    full.extend(self.take_any());
                }
                let (order, due, bytes) = (self.next, now + self.interval, persisted.bytes);
                self.next += 1;
                let range =
                    Range { first: persisted.clone(), last: persisted, fragments: 1, bytes, order, due };
                self.by_age.insert(order, arn.clone());
                self.open.insert(arn.clone(), range);
            }
        }
        if self.open.get(&arn).is_some_and(|range| range.fragments >= MAX_FRAGMENTS) {
            full.extend(self.take(&arn));
        }
        full
    }

    /// When the next one is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, arn) = self.by_age.first_key_value()?;
        self.open.get(arn).map(|range| range.due)
    }

    /// One that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Range> {
        self.deadline().filter(|due| *due <= now).and_then(|_| self.take_any())
    }

    /// That of a stream.
    pub(super) fn take(&mut self, arn: &str) -> Option<Range> {
        let range = self.open.remove(arn)?;
        self.by_age.remove(&range.order);
        Some(range)
    }

    /// The oldest.
    pub(super) fn take_any(&mut self) -> Option<Range> {
        let (_, arn) = self.by_age.pop_first()?;
        self.open.remove(&arn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_record::FragmentNumber;

    fn fragment(stream: &str, contact: &str, i: u64) -> Persisted {
        Persisted {
            stream: stream.into(),
            arn: format!("arn:aws:kinesisvideo:r:1:stream/{stream}/1").parse().unwrap(),
            contact: contact.into(),
            number: FragmentNumber::new(i, 1_000 * i, 7),
            producer_ms: 1_000 * i + 5,
            duration_ms: 1_000,
            bytes: 100,
        }
    }

    #[test]
    fn fragments_are_told_together_by_stream_and_contact() {
        let now = Instant::now();
        let at = |s: u64| now + Duration::from_secs(s);
        let mut ranges = Ranges::new(Duration::from_secs(10));
        assert_eq!(ranges.deadline(), None);
        for i in 1..=3 {
            assert_eq!(ranges.push(fragment("a", "c", i), at(i)), []);
        }
        assert_eq!(ranges.push(fragment("b", "", 1), at(5)), []);
        assert_eq!((ranges.deadline(), ranges.due(at(10))), (Some(at(11)), None));
        let a = ranges.due(at(11)).unwrap().to_json();
        assert_eq!(
            a,
            json!({
                "StreamName": "a", "StreamARN": "arn:aws:kinesisvideo:r:1:stream/a/1", "ContactId": "c",
                "FirstFragmentNumber": FragmentNumber::new(1, 1_000, 7).to_string(),
                "LastFragmentNumber": FragmentNumber::new(3, 3_000, 7).to_string(),
                "StartProducerTimestamp": "1005", "EndProducerTimestamp": "4005",
                "StartServerTimestamp": "1000", "EndServerTimestamp": "3000",
                "Fragments": 3, "Bytes": 300,
            })
        );
        assert_eq!((ranges.due(at(11)), ranges.deadline()), (None, Some(at(15))));
        let told = ranges.push(fragment("b", "other", 2), at(12));
        assert_eq!((told.len(), told[0].fragments, told[0].to_json().get("ContactId")), (1, 1, None));
        assert_eq!(ranges.take("nothing"), None);
        assert_eq!(ranges.take_any().map(|r| r.first.contact), Some("other".into()));
        assert_eq!(ranges.deadline(), None);
    }

    #[test]
    fn ranges_are_bounded_in_length_and_number() {
        let now = Instant::now();
        let mut ranges = Ranges::new(Duration::from_secs(10));
        let told: Vec<_> =
            (0..2 * MAX_FRAGMENTS).flat_map(|i| ranges.push(fragment("a", "", i), now)).collect();
        assert_eq!(told.iter().map(|r| r.fragments).collect::<Vec<_>>(), [MAX_FRAGMENTS; 2]);
        let push = |i: usize, ranges: &mut Ranges| ranges.push(fragment(&format!("s{i}"), "", 1), now);
        assert!((0..MAX_OPEN).all(|i| push(i, &mut ranges).is_empty()));
        assert_eq!(push(MAX_OPEN, &mut ranges)[0].first.stream, "s0");
        assert_eq!((ranges.open.len(), ranges.by_age.len()), (MAX_OPEN, MAX_OPEN));
    }
}
