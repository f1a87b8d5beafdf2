//! Start selectors and ListFragments over a stream of any shape, held against looking at each fragment.

use std::sync::Arc;

use bytes::Bytes;

use crate::archive::{self, Range};
use crate::index::{Clock, Entry};
use crate::ingest::SessionHeader;
use crate::layout::{Flags, HeaderId, Uid};
use crate::live::{End, LiveFragment};
use crate::matroska::Header;
use crate::number::FragmentNumber;
use crate::record::{Record, Status};
use crate::stream::{Next, State, Stream};

/// So that times before it can be asked for.
const BASE_MS: u64 = 100_000;
/// Beyond an hour, fragments are past their retention.
const HOUR_MS: u64 = 3_600_000;

/// A fragment as it was put there.
struct Put {
    number: FragmentNumber,
    producer_ms: u64,
    /// Until when it reaches; `None`: it is open.
    duration_ms: Option<u64>,
    stored: bool,
}

impl Put {
    fn time_ms(&self, clock: Clock) -> u64 {
        match clock {
            Clock::Producer => self.producer_ms,
            Clock::Server => self.number.server_ms(),
        }
    }

    fn there(&self, now_ms: u64) -> bool {
        !self.stored || self.number.server_ms() + HOUR_MS > now_ms
    }

    /// Whether a time falls into it, or it begins later.
    fn fits(&self, clock: Clock, at_ms: u64, now_ms: u64) -> bool {
        let start = self.time_ms(clock);
        let length = self.duration_ms.unwrap_or(now_ms.saturating_sub(self.number.server_ms()));
        start >= at_ms || at_ms < start + length
    }
}

/// Three numbers, a token's text as the rest of them has it, and a fragment for each six bytes.
pub(crate) fn run(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<7>() else { return };
    let number = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (at_ms, span_ms) = (BASE_MS + number(0) - 1000, number(2));
    let (all, state) = stream(rest);
    let now_ms = BASE_MS + number(4) * 100;
    for clock in [Clock::Producer, Clock::Server] {
        at(&all, &state, clock, at_ms, now_ms);
    }
    next(&all, &state, usize::from(head[6]), now_ms);
    let stream = Stream::new(Uid([1; 16]), state);
    let token = String::from_utf8_lossy(rest);
    let _ = archive::list(&stream, None, None, (1, Some(&token)), now_ms);
    for clock in [Clock::Producer, Clock::Server] {
        let range = Range { clock, start_ms: at_ms, end_ms: at_ms + span_ms };
        list(&all, &stream, range, 1 + usize::from(head[6] % 4), now_ms);
    }
}

/// As streams are: numbers and server times go up; producer times do what they like.
fn stream(bytes: &[u8]) -> (Vec<Put>, State) {
    let mut state = State::new(record(), None);
    let header = Arc::new(SessionHeader {
        bytes: Bytes::new(),
        header: Header { scale_ns: 1, tracks: vec![], tags: vec![] },
    });
    let (mut all, mut server_ms) = (Vec::new(), BASE_MS);
    for (i, [kind, later, p0, p1, d0, d1]) in bytes.as_chunks::<6>().0.iter().enumerate() {
        server_ms += u64::from(*later);
        let number = FragmentNumber::new(i as u64 + 1, server_ms, u32::from(*kind));
        let producer_ms = BASE_MS + u64::from(u16::from_le_bytes([*p0, *p1]));
        let duration_ms = u32::from(u16::from_le_bytes([*d0, *d1]) % 2048);
        let put = |stored, duration_ms| Put { number, producer_ms, duration_ms, stored };
        if kind % 4 < 2 {
            let (header, flags) = (HeaderId(1), Flags::default());
            state.index.insert(Entry {
                number,
                producer_ms,
                duration_ms,
                header,
                flags,
                size: 1,
                whose: crate::whose::Whose::NOBODY,
                damaged: false,
                aside: false,
            });
            all.push(put(true, Some(duration_ms.into())));
            continue;
        }
        let live = LiveFragment::new(number, producer_ms, header.clone());
        let complete = kind % 4 == 2;
        if complete {
            live.finish(End::Complete { duration_ms });
        }
        state.live.insert(number, Arc::new(live));
        all.push(put(false, complete.then_some(duration_ms.into())));
    }
    (all, state)
}

fn record() -> Record {
    Record {
        name: "s".into(),
        created_ms: 0,
        version: String::new(),
        status: Status::Active,
        media_type: String::new(),
        device_name: String::new(),
        key: String::new(),
        retention_h: 1,
        tags: std::collections::BTreeMap::new(),
        dek: 0,
        dek_since: 0,
        next_counter: 0,
        last_server_ms: 0,
    }
}

fn found(next: &Next) -> Option<FragmentNumber> {
    match next {
        Next::Live(live) => Some(live.number),
        Next::Stored(entry) => Some(entry.number),
        Next::Nothing => None,
    }
}

fn at(all: &[Put], state: &State, clock: Clock, at_ms: u64, now_ms: u64) {
    let found = found(&state.at(clock, at_ms, now_ms));
    let mut fitting = all.iter().filter(|put| put.there(now_ms) && put.fits(clock, at_ms, now_ms));
    let Some(number) = found else {
        // Of stored ones only the last that began can be the one that a time falls into.
        assert!(fitting.all(|put| put.stored && put.time_ms(clock) < at_ms), "something fits");
        return;
    };
    let of = all.iter().find(|put| put.number == number).expect("it is one of them");
    assert!(of.there(now_ms) && of.fits(clock, at_ms, now_ms), "it fits");
    let between = |put: &Put| (at_ms..of.time_ms(clock)).contains(&put.time_ms(clock));
    assert!(!fitting.any(between), "nothing that fits is earlier");
}

fn next(all: &[Put], state: &State, which: usize, now_ms: u64) {
    let after = all.get(which).map_or(FragmentNumber::MIN, |put| put.number);
    let expected = all.iter().find(|put| put.number > after && put.there(now_ms));
    assert_eq!(found(&state.next(after, now_ms)), expected.map(|put| put.number));
}

fn list(all: &[Put], stream: &Stream, range: Range, page: usize, now_ms: u64) {
    let (mut numbers, mut token) = (Vec::new(), None);
    loop {
        let Ok(part) = archive::list(stream, None, Some(range), (page, token.as_deref()), now_ms) else {
            assert!(range.end_ms + HOUR_MS <= now_ms, "refused for no reason");
            return;
        };
        assert!(part.fragments.len() <= page);
        numbers.extend(part.fragments.iter().map(|fragment| fragment.number));
        token = part.next;
        if token.is_none() {
            break;
        }
    }
    let within = |put: &&Put| {
        put.stored && put.there(now_ms) && (range.start_ms..=range.end_ms).contains(&put.time_ms(range.clock))
    };
    let mut expected: Vec<_> =
        all.iter().filter(within).map(|put| (put.time_ms(range.clock), put.number)).collect();
    expected.sort_unstable();
    assert_eq!(numbers, expected.into_iter().map(|(_, number)| number).collect::<Vec<_>>());
}
