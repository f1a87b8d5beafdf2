//! What a stream has: its stored fragments, in the order of their numbers and in that of their producer times.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use crate::layout::{Flags, HeaderId};
use crate::number::FragmentNumber;
use crate::whose::Whose;

/// A stored fragment, as its path and size tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: FragmentNumber,
    pub(crate) producer_ms: u64,
    pub(crate) duration_ms: u32,
    pub(crate) header: HeaderId,
    pub(crate) flags: Flags,
    /// Which contact's.
    pub(crate) whose: Whose,
    /// Bytes of its media.
    pub(crate) size: u32,
    /// Seen to be unreadable.
    pub(crate) damaged: bool,
    /// It lies where damaged ones lie.
    pub(crate) aside: bool,
}

/// Which clock a time is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The producer's.
    Producer,
    /// Ours, when the first byte arrived.
    Server,
}

impl Entry {
    pub(crate) fn time_ms(&self, clock: Clock) -> u64 {
        match clock {
            Clock::Producer => self.producer_ms,
            Clock::Server => self.number.server_ms(),
        }
    }

    /// Whether a time falls into the fragment.
    pub(crate) fn covers(&self, clock: Clock, at_ms: u64) -> bool {
        let start = self.time_ms(clock);
        start <= at_ms && at_ms < start + u64::from(self.duration_ms)
    }
}

/// All stored fragments of a stream.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_number: BTreeMap<FragmentNumber, Entry>,
    by_producer: BTreeSet<(u64, FragmentNumber)>,
    headers: HashMap<HeaderId, u32>,
    contacts: HashMap<Whose, BTreeSet<FragmentNumber>>,
    bytes: u64,
}

impl Index {
    /// Of fragments in any order; the last of those with one number counts.
    pub(crate) fn of(entries: Vec<Entry>) -> Self {
        let by_number: BTreeMap<_, _> = entries.into_iter().map(|e| (e.number, e)).collect();
        let by_producer = by_number.values().map(|e| (e.producer_ms, e.number)).collect();
        let bytes = by_number.values().map(|e| u64::from(e.size)).sum();
        let mut headers = HashMap::new();
        // A session's fragments stand together.
        for run in by_number.values().map(|e| e.header).collect::<Vec<_>>().chunk_by(HeaderId::eq) {
            *headers.entry(run[0]).or_default() += u32::try_from(run.len()).expect("fewer than 2^32");
        }
        let mut contacts: HashMap<Whose, BTreeSet<_>> = HashMap::new();
        for entry in by_number.values().filter(|e| e.whose.known().is_some()) {
            contacts.entry(entry.whose).or_default().insert(entry.number);
        }
        Self { by_number, by_producer, headers, contacts, bytes }
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        if let Some(old) = self.by_number.insert(entry.number, entry) {
            self.forget(&old);
        }
        self.by_producer.insert((entry.producer_ms, entry.number));
        *self.headers.entry(entry.header).or_default() += 1;
        if entry.whose.known().is_some() {
            self.contacts.entry(entry.whose).or_default().insert(entry.number);
        }
        self.bytes += u64::from(entry.size);
    }

    pub(crate) fn remove(&mut self, number: FragmentNumber) -> Option<Entry> {
        let entry = self.by_number.remove(&number)?;
        self.forget(&entry);
        Some(entry)
    }

    fn forget(&mut self, entry: &Entry) {
        self.by_producer.remove(&(entry.producer_ms, entry.number));
        self.bytes -= u64::from(entry.size);
        if let Some(uses) = self.headers.get_mut(&entry.header) {
            *uses -= 1;
            if *uses == 0 {
                self.headers.remove(&entry.header);
            }
        }
        if let Some(numbers) = self.contacts.get_mut(&entry.whose) {
            numbers.remove(&entry.number);
            if numbers.is_empty() {
                self.contacts.remove(&entry.whose);
            }
        }
    }

    pub(crate) fn mark_damaged(&mut self, number: FragmentNumber) {
        if let Some(entry) = self.by_number.get_mut(&number) {
            entry.damaged = true;
        }
    }

    /// Says that it lies aside now; `false`: it is not there any more.
    pub(crate) fn set_aside(&mut self, number: FragmentNumber) -> bool {
        let entry = self.by_number.get_mut(&number);
        entry.map(|entry| (entry.damaged, entry.aside) = (true, true)).is_some()
    }

    pub(crate) fn get(&self, number: FragmentNumber) -> Option<&Entry> {
        self.by_number.get(&number)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Bytes of all media.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn first(&self) -> Option<&Entry> {
        self.by_number.values().next()
    }

    pub(crate) fn last(&self) -> Option<&Entry> {
        self.by_number.values().next_back()
    }

    pub(crate) fn uses_header(&self, header: HeaderId) -> bool {
        self.headers.contains_key(&header)
    }

    /// A contact's, in the order of their numbers.
    pub(crate) fn of_contact(&self, whose: Whose) -> impl Iterator<Item = &Entry> {
        self.of_contact_after(whose, FragmentNumber::MIN)
    }

    /// The same behind `after`: others' are not looked at.
    pub(crate) fn of_contact_after(
        &self,
        whose: Whose,
        after: FragmentNumber,
    ) -> impl Iterator<Item = &Entry> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let numbers = self.contacts.get(&whose).into_iter().flat_map(move |numbers| numbers.range(behind));
        numbers.filter_map(|n| self.by_number.get(n))
    }

    /// In the order of their numbers, behind `after`.
    pub(crate) fn after(&self, after: FragmentNumber) -> impl Iterator<Item = &Entry> {
        self.by_number.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, e)| e)
    }

    /// Against the order of a clock, from the newest on.
    pub(crate) fn newest(&self, clock: Clock) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match clock {
            Clock::Producer => {
                let all = self.by_producer.iter().rev();
                Box::new(all.filter_map(|(_, n)| self.by_number.get(n)))
            }
            Clock::Server => Box::new(self.by_number.values().rev()),
        }
    }

    /// In the order of a clock, from a time on; with equal times by number, behind `after` at that very time.
    pub(crate) fn since(
        &self,
        clock: Clock,
        start_ms: u64,
        after: Option<FragmentNumber>,
    ) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match clock {
            Clock::Producer => {
                let from = after.map_or(Bound::Included((start_ms, FragmentNumber::MIN)), |n| {
                    Bound::Excluded((start_ms, n))
                });
                let range = self.by_producer.range((from, Bound::Unbounded));
                Box::new(range.filter_map(|(_, n)| self.by_number.get(n)))
            }
            Clock::Server => {
                let all = self.after(after.unwrap_or(FragmentNumber::MIN));
                // Numbers sort as server times do: what is skipped lies before the range.
                Box::new(all.skip_while(move |e| e.number.server_ms() < start_ms))
            }
        }
    }

    /// The fragment that a time falls into, or else the first one later than it. Of those that began at one time the first.
    pub(crate) fn at(&self, clock: Clock, at_ms: u64) -> Option<&Entry> {
        let mut until = self.until(clock, at_ms).peekable();
        let start_ms = until.peek().map(|e| e.time_ms(clock));
        // Who sends faster than it plays has many in a millisecond.
        let together = until.take_while(|e| Some(e.time_ms(clock)) == start_ms);
        let into = together.filter(|e| e.covers(clock, at_ms)).last();
        into.or_else(|| self.since(clock, at_ms, None).next())
    }

    /// Those that began at a time or before, from the newest on.
    fn until(&self, clock: Clock, at_ms: u64) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match clock {
            Clock::Producer => {
                let before = self.by_producer.range(..=(at_ms, FragmentNumber::MAX)).rev();
                Box::new(before.filter_map(|(_, n)| self.by_number.get(n)))
            }
            Clock::Server => {
                Box::new(self.by_number.values().rev().skip_while(move |e| e.number.server_ms() > at_ms))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(counter: u64, server_ms: u64, producer_ms: u64) -> Entry {
        Entry {
            number: FragmentNumber::new(counter, server_ms, 0),
            producer_ms,
            duration_ms: 100,
            header: HeaderId(1),
            flags: Flags::default(),
            whose: Whose::NOBODY,
            size: 10,
            damaged: false,
            aside: false,
        }
    }

    fn index() -> Index {
        let mut index = Index::default();
        // Producer times run the other way in one place, and there is a gap.
        for (counter, server, producer) in
            [(1, 1000, 500), (2, 1100, 600), (3, 1200, 400), (4, 1900, 2000), (5, 2000, 2100)]
        {
            index.insert(entry(counter, server, producer));
        }
        index
    }

    #[test]
    fn times_find_the_fragment_they_fall_into_or_the_next() {
        let index = index();
        let at = |clock, ms| index.at(clock, ms).map(|e| e.number.counter());
        assert_eq!(at(Clock::Server, 0), Some(1));
        assert_eq!(at(Clock::Server, 1099), Some(1));
        assert_eq!(at(Clock::Server, 1100), Some(2));
        assert_eq!(at(Clock::Server, 1500), Some(4));
        assert_eq!(at(Clock::Server, 2100), None);
        assert_eq!(at(Clock::Producer, 450), Some(3));
        assert_eq!(at(Clock::Producer, 500), Some(1));
        assert_eq!(at(Clock::Producer, 1000), Some(4));
        assert_eq!(at(Clock::Producer, 2200), None);
    }

    #[test]
    fn of_fragments_that_began_together_the_first_is_found() {
        let mut index = Index::default();
        for (counter, server, producer) in [(1, 1000, 500), (2, 1050, 600), (3, 1050, 600), (4, 1050, 700)] {
            index.insert(entry(counter, server, producer));
        }
        // One that is over before the others are.
        index.insert(Entry { duration_ms: 10, ..entry(5, 2000, 2000) });
        index.insert(entry(6, 2000, 2000));
        let at = |clock, ms| index.at(clock, ms).map(|e| e.number.counter());
        for ms in [1050, 1051, 1149] {
            assert_eq!(at(Clock::Server, ms), Some(2), "{ms}");
        }
        assert_eq!((at(Clock::Producer, 600), at(Clock::Producer, 699)), (Some(2), Some(2)));
        for clock in [Clock::Server, Clock::Producer] {
            assert_eq!((at(clock, 2009), at(clock, 2010)), (Some(5), Some(6)), "{clock:?}");
        }
    }

    #[test]
    fn an_index_of_a_listing_is_one_that_grew() {
        let mut listed: Vec<_> = index().by_number.into_values().collect();
        listed[3].header = HeaderId(2);
        (listed[3].whose, listed[4].whose) = (Whose(7), Whose(7));
        listed.push(Entry { size: 20, producer_ms: 450, ..listed[1] });
        listed.rotate_left(2);
        // The last one of a number counts, as the last one that is inserted does.
        listed.sort_by_key(|e| e.size);
        let mut grown = Index::default();
        listed.iter().for_each(|e| grown.insert(*e));
        let made = Index::of(listed);
        assert_eq!((made.len(), made.bytes()), (5, 60));
        assert_eq!(made.by_number, grown.by_number);
        assert_eq!(made.by_producer, grown.by_producer);
        assert_eq!(made.headers, grown.headers);
        assert_eq!(made.contacts, grown.contacts);
        let mine: Vec<_> = made.of_contact(Whose(7)).map(|e| e.number.counter()).collect();
        assert_eq!(mine, [4, 5]);
    }

    #[test]
    fn sums_follow_what_comes_and_goes() {
        let mut index = index();
        assert_eq!((index.len(), index.bytes(), index.uses_header(HeaderId(1))), (5, 50, true));
        index.insert(entry(5, 2000, 2100));
        assert_eq!((index.len(), index.bytes()), (5, 50));
        let numbers: Vec<_> = index.after(FragmentNumber::MIN).map(|e| e.number).collect();
        for number in numbers {
            index.remove(number);
        }
        assert_eq!((index.len(), index.bytes(), index.uses_header(HeaderId(1))), (0, 0, false));
        assert!(index.by_producer.is_empty() && index.contacts.is_empty());
    }
}
