//! One stream while the store is open: its record, index, live fragments, and who uses it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use object_store::UpdateVersion;
use tokio::sync::{RwLock, watch};

use crate::contact::Only;
use crate::crypt::{self, DataKey};
use crate::index::{Clock, Entry, Index};
use crate::ingest::Opening;
use crate::layout::{HeaderId, Uid};
use crate::live::{End, LiveFragment};
use crate::number::FragmentNumber;
use crate::places::Places;
use crate::rate::Bucket;
use crate::record::{Record, Status};

/// Headers that readers have decrypted; a stream rarely has more sessions than this within its retention.
const MAX_CACHED_HEADERS: usize = 32;

/// How a stream's last session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) at_ms: u64,
    /// Stopped on purpose: readers need not wait for more.
    pub(crate) stopped: bool,
}

/// What changes.
pub(crate) struct State {
    pub(crate) record: Record,
    pub(crate) version: Option<UpdateVersion>,
    /// Nothing of it touches the storage.
    pub(crate) in_memory: bool,
    pub(crate) keys: HashMap<u32, Arc<DataKey>>,
    pub(crate) index: Index,
    /// Open, waiting to be stored, or, without retention, all there is.
    pub(crate) live: BTreeMap<FragmentNumber, Arc<LiveFragment>>,
    pub(crate) headers: HashMap<HeaderId, Bytes>,
    /// There may be headers in the storage that no fragment needs.
    pub(crate) headers_due: bool,
    pub(crate) places: Places,
    pub(crate) readers: usize,
    /// Where each reader is, by the server's clock.
    pub(crate) positions: HashMap<u64, u64>,
    pub(crate) next_reader: u64,
    pub(crate) bytes_rate: Bucket,
    pub(crate) fragments_rate: Bucket,
    pub(crate) ended: Option<Ended>,
    pub(crate) next_counter: u64,
    pub(crate) last_server_ms: u64,
    /// Of the fragment sealed last: how long "the latest chunk" is.
    pub(crate) last_duration_ms: u32,
    /// Of the fragment sealed last.
    pub(crate) contact: String,
}

/// What stands behind a position.
pub(crate) enum Next {
    Live(Arc<LiveFragment>),
    Stored(Entry),
    Nothing,
}

impl State {
    pub(crate) fn new(record: Record, version: Option<UpdateVersion>) -> Self {
        Self {
            next_counter: record.next_counter,
            last_server_ms: record.last_server_ms,
            record,
            version,
            in_memory: false,
            keys: HashMap::new(),
            index: Index::default(),
            live: BTreeMap::new(),
            headers: HashMap::new(),
            headers_due: false,
            places: Places::default(),
            readers: 0,
            positions: HashMap::new(),
            next_reader: 0,
            bytes_rate: Bucket::default(),
            fragments_rate: Bucket::default(),
            ended: None,
            last_duration_ms: 0,
            contact: String::new(),
        }
    }

    /// Which contact the stream is of, as its tags say or else the fragment sealed last; empty: none that is known.
    pub(crate) fn whose(&self) -> String {
        self.record.tags.get("ContactId").unwrap_or(&self.contact).clone()
    }

    pub(crate) fn active(&self) -> bool {
        self.record.status == Status::Active
    }

    /// Takes a number for a fragment and shows it to readers. Numbers and server times never go back.
    pub(crate) fn open_fragment(&mut self, opening: &Opening) -> Arc<LiveFragment> {
        self.last_server_ms = self.last_server_ms.max(opening.server_ms);
        let random = u32::from_be_bytes(crypt::random());
        let number = FragmentNumber::new(self.next_counter, self.last_server_ms, random);
        self.next_counter += 1;
        let live = Arc::new(LiveFragment::new(number, opening.producer_ms, opening.header.clone()));
        self.live.insert(number, live.clone());
        live
    }

    /// The first fragment behind a position.
    pub(crate) fn next(&self, after: FragmentNumber, now_ms: u64) -> Next {
        let live = self.live.range((Bound::Excluded(after), Bound::Unbounded)).next();
        let stored = self.index.after(after).find(|e| !self.expired(e, now_ms));
        match (live, stored) {
            (Some((number, _)), Some(entry)) if entry.number < *number => Next::Stored(*entry),
            (Some((_, live)), _) => Next::Live(live.clone()),
            (None, Some(entry)) => Next::Stored(*entry),
            (None, None) => Next::Nothing,
        }
    }

    /// The same among some contacts' alone. One whose contact is not certain yet is waited for.
    pub(crate) fn next_of(&self, only: &Only, after: FragmentNumber, now_ms: u64) -> Next {
        let first =
            |whose| self.index.of_contact_after(whose, after).find(|e| !self.expired(e, now_ms)).copied();
        let stored = only.all().filter_map(first).min_by_key(|e| e.number);
        let mut live = self.live.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, live)| live);
        // Asked once: what is not certain now may be others' a moment later.
        let live = live.find_map(|live| match only.has_live(live) {
            Some(false) => None,
            certain => Some((live, certain.is_some())),
        });
        match (live, stored) {
            (Some((live, _)), Some(entry)) if entry.number < live.number => Next::Stored(entry),
            (Some((live, true)), _) => Next::Live(live.clone()),
            (Some((_, false)), _) | (None, None) => Next::Nothing,
            (None, Some(entry)) => Next::Stored(entry),
        }
    }

    /// Forgets complete fragments of a contact that are in memory only.
    pub(crate) fn forget_live(&mut self, contact: &str) {
        if self.record.retention_h == 0 {
            self.live.retain(|_, live| live.end().is_none() || live.contact() != Some(contact));
        }
    }

    /// The fragment that a time falls into, or else the first one later than it. An open fragment reaches as far as it has
    /// been open.
    pub(crate) fn at(&self, clock: Clock, at_ms: u64, now_ms: u64) -> Next {
        let stored = self.index.at(clock, at_ms).filter(|e| !self.expired(e, now_ms));
        let stored = stored.or_else(|| {
            // What it falls into has expired: the first one later that has not.
            self.index.since(clock, at_ms, None).find(|e| !self.expired(e, now_ms))
        });
        let within = |live: &&Arc<LiveFragment>| {
            let (start, age) = (live.time_ms(clock), now_ms.saturating_sub(live.number.server_ms()));
            let length = match live.end() {
                Some(End::Complete { duration_ms }) => u64::from(duration_ms),
                _ => age,
            };
            start >= at_ms || at_ms < start + length
        };
        // Two producers may have times of their own: numbers do not say which is first.
        let live = self.live.values().filter(within).min_by_key(|live| (live.time_ms(clock), live.number));
        match (stored, live) {
            (Some(entry), Some(live)) if live.time_ms(clock) < entry.time_ms(clock) => {
                Next::Live(live.clone())
            }
            (Some(entry), _) => Next::Stored(*entry),
            (None, Some(live)) => Next::Live(live.clone()),
            (None, None) => Next::Nothing,
        }
    }

    /// Whether a stored fragment is past its retention: reads do not wait for the sweeper.
    pub(crate) fn expired(&self, entry: &Entry, now_ms: u64) -> bool {
        self.record.expired(entry.number.server_ms(), now_ms)
    }

    /// How far the slowest reader is behind the newest fragment.
    pub(crate) fn reader_lag_ms(&self) -> u64 {
        let newest = self.latest().server_ms();
        self.positions.values().map(|at| newest.saturating_sub(*at)).max().unwrap_or(0)
    }

    /// The newest fragment's number, stored or live.
    pub(crate) fn latest(&self) -> FragmentNumber {
        let live = self.live.keys().next_back().copied();
        let stored = self.index.last().map(|e| e.number);
        live.max(stored).unwrap_or(FragmentNumber::MIN)
    }

    /// Without retention: forgets what is older or more than memory may hold. What is open stays.
    pub(crate) fn trim_memory(&mut self, max_ms: u64, max_bytes: u64, now_ms: u64) {
        if self.record.retention_h > 0 {
            return;
        }
        let mut bytes: u64 = self.live.values().map(|live| live.bytes()).sum();
        while let Some(oldest) = self.live.first_entry() {
            let live = oldest.get();
            let old = live.number.server_ms().saturating_add(max_ms) <= now_ms;
            if live.end().is_none() || !(old || bytes > max_bytes) {
                break;
            }
            bytes -= live.bytes();
            oldest.remove();
        }
    }

    pub(crate) fn cache_header(&mut self, id: HeaderId, bytes: Bytes) {
        if self.headers.len() >= MAX_CACHED_HEADERS {
            self.headers.clear();
        }
        self.headers.insert(id, bytes);
    }
}

impl LiveFragment {
    pub(crate) fn time_ms(&self, clock: Clock) -> u64 {
        match clock {
            Clock::Producer => self.producer_ms,
            Clock::Server => self.number.server_ms(),
        }
    }
}

/// A stream that is open.
pub(crate) struct Stream {
    pub(crate) uid: Uid,
    state: Mutex<State>,
    /// Counts changes; readers wait for the next.
    changed: watch::Sender<u64>,
    /// Read: a fragment is being stored. Write: something that no fragment may pass, as deletion is.
    pub(crate) gate: RwLock<()>,
}

impl Stream {
    pub(crate) fn new(uid: Uid, state: State) -> Self {
        Self { uid, state: Mutex::new(state), changed: watch::Sender::new(0), gate: RwLock::new(()) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding it")
    }

    /// Tells readers that something is new.
    pub(crate) fn wake(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
