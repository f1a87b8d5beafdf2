//! What arrives of fragments that are not stored yet, appended to files of this machine, so that a kill loses a quarter of a
//! second of a call and not the fragment that was open.
//!
//! One file for all: a lane per fragment, a sync for everybody. Producers only hand over what they have (nobody who receives
//! waits for a disk, or for who seals); [`Journal::sync`] seals, appends and syncs, on the thread of whoever calls it. Files
//! are removed as soon as all that began in them are stored or given up. What cannot be written costs the salvage, nothing else.
//!
//! The module `format` has the bytes and why no nonce comes twice; `docs/design/store.md` the rest.

mod format;
pub(crate) mod fuzz;
mod read;
mod segments;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

pub(crate) use format::Begin;
use format::{Kind, Run, Whose, record};
pub(crate) use read::{Found, Left, Scan};
use segments::Segments;

use crate::crypt::{self, DataKey, Sequence};
use crate::layout::Uid;
use crate::stats::Stats;

/// Fragments that are in the journal at a time: more than sessions that a machine stands, each with one open and some waiting.
const MAX_LANES: usize = 65_536;
/// Bytes of one fragment, beside its header: many seconds of sound and video. What is over is not salvaged.
const MAX_FRAGMENT_BYTES: usize = 8 << 20;
/// Bytes that wait for a sync. They are shared with live readers, who hold them longer.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// What is promised: no more than this between two syncs.
const MAX_INTERVAL_MS: u64 = 250;

/// Which fragment begins.
pub(crate) struct New {
    pub(crate) uid: Uid,
    pub(crate) key_id: u32,
    pub(crate) key: Arc<DataKey>,
    pub(crate) begin: Begin,
}

/// A lane between two syncs.
struct Waiting {
    uid: Uid,
    /// Not written yet.
    new: Option<New>,
    chunks: Vec<Bytes>,
    /// Bytes so far.
    bytes: usize,
    /// Takes no more: a bound was met, or something of it could not be written.
    closed: bool,
}

#[derive(Default)]
struct Shared {
    next: u64,
    lanes: HashMap<u64, Waiting>,
    /// Those with something to write.
    dirty: Vec<u64>,
    ended: Vec<u64>,
    bytes: usize,
}

/// A lane that has records on the disk.
struct Written {
    lane: u64,
    key: Sequence,
    /// The segment it begins in.
    first: u64,
}

struct Disk {
    segments: Segments,
    opens: Sequence,
    lanes: HashMap<u64, Written>,
    /// When the last sync was.
    synced_ms: u64,
    /// Of one record, used again and again.
    buffer: Vec<u8>,
}

/// What was taken of a lane, to be written.
struct Taken {
    id: u64,
    new: Option<New>,
    chunks: Vec<Bytes>,
}

/// Numbers for metrics.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) failing: AtomicBool,
    pub(crate) failures: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) salvaged: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// The journal of an open store.
pub(crate) struct Journal {
    folder: PathBuf,
    max_bytes: u64,
    /// The folder is ours.
    usable: bool,
    /// What an earlier run left could not all be stored.
    pub(crate) unfinished: AtomicBool,
    run: Run,
    account: DataKey,
    shared: Mutex<Shared>,
    disk: Mutex<Disk>,
    pub(crate) numbers: Numbers,
}

/// A fragment's place in the journal; it ends when this is dropped.
pub(crate) struct Lane {
    journal: Arc<Journal>,
    id: u64,
}

impl Lane {
    /// Whole elements of the fragment. Never waits for the disk.
    pub(crate) fn push(&self, chunk: Bytes) {
        self.journal.push(self.id, chunk);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.journal.end(self.id);
    }
}

impl Journal {
    /// For files in `folder`. `account`: the account's key for journals. What is not `usable` is never looked at.
    pub(crate) fn new(folder: PathBuf, usable: bool, max_bytes: u64, account: DataKey) -> Self {
        let run = Run(crypt::random());
        let disk = Disk {
            segments: Segments::new(folder.clone(), run),
            opens: account.sequence(&[&run.0]),
            lanes: HashMap::new(),
            synced_ms: u64::MAX,
            buffer: Vec::new(),
        };
        Self {
            folder,
            max_bytes,
            usable,
            unfinished: AtomicBool::new(false),
            run,
            account,
            shared: Mutex::default(),
            disk: Mutex::new(disk),
            numbers: Numbers { failing: AtomicBool::new(!usable), ..Numbers::default() },
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nothing panics while holding it")
    }

    /// Begins a fragment's lane; `None`: there are too many.
    pub(crate) fn open(self: &Arc<Self>, new: New) -> Option<Lane> {
        let mut shared = self.shared();
        if shared.lanes.len() >= MAX_LANES || !self.usable {
            self.given_up(1);
            return None;
        }
        let id = shared.next;
        shared.next += 1;
        let waiting = Waiting { uid: new.uid, new: Some(new), chunks: Vec::new(), bytes: 0, closed: false };
        shared.lanes.insert(id, waiting);
        Some(Lane { journal: self.clone(), id })
    }

    fn given_up(&self, lanes: u64) {
        self.numbers.given_up.fetch_add(lanes, Ordering::Relaxed);
    }

    fn push(&self, id: u64, chunk: Bytes) {
        let mut shared = self.shared();
        let Shared { lanes, dirty, bytes, .. } = &mut *shared;
        let Some(lane) = lanes.get_mut(&id).filter(|lane| !lane.closed) else { return };
        lane.bytes += chunk.len();
        if lane.bytes > MAX_FRAGMENT_BYTES || *bytes + chunk.len() > MAX_WAITING_BYTES {
            // What is there is whole up to here.
            lane.closed = true;
            self.given_up(1);
            return;
        }
        *bytes += chunk.len();
        if lane.chunks.is_empty() {
            dirty.push(id);
        }
        lane.chunks.push(chunk);
    }

    fn end(&self, id: u64) {
        let mut shared = self.shared();
        let Some(lane) = shared.lanes.remove(&id) else { return };
        shared.bytes -= lane.chunks.iter().map(Bytes::len).sum::<usize>();
        // One that was never written leaves nothing.
        if lane.new.is_none() {
            shared.ended.push(id);
        }
    }

    /// Ends all lanes of a stream: it is no longer to be on the disk.
    pub(crate) fn forget(&self, uid: Uid) {
        let all: Vec<u64> = {
            let shared = self.shared();
            shared.lanes.iter().filter(|(_, lane)| lane.uid == uid).map(|(id, _)| *id).collect()
        };
        all.into_iter().for_each(|id| self.end(id));
    }

    /// Writes its numbers down.
    pub(crate) fn tell(&self, stats: &mut Stats) {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let n = &self.numbers;
        stats.journal_fragments = self.shared().lanes.len() as u64;
        stats.journal_bytes = get(&n.bytes);
        stats.journal_failing = n.failing.load(Ordering::Relaxed);
        stats.journal_failures = get(&n.failures);
        stats.journal_given_up = get(&n.given_up);
        stats.journal_late = get(&n.late);
        stats.journal_syncs = get(&n.syncs);
        stats.fragments_salvaged = get(&n.salvaged);
    }

    fn take(&self) -> (Vec<Taken>, Vec<u64>) {
        let mut shared = self.shared();
        let Shared { lanes, dirty, ended, bytes, .. } = &mut *shared;
        *bytes = 0;
        let mut taken = Vec::with_capacity(dirty.len());
        for id in dirty.drain(..) {
            if let Some(lane) = lanes.get_mut(&id) {
                taken.push(Taken { id, new: lane.new.take(), chunks: std::mem::take(&mut lane.chunks) });
            }
        }
        (taken, std::mem::take(ended))
    }

    /// Writes what has come since the last time, and makes it durable. Blocks on the disk.
    pub(crate) fn sync(&self, now_ms: u64) {
        self.write(Some(now_ms));
    }

    /// The same between two of these, whenever: what has ended is said to have.
    pub(crate) fn write_ends(&self) {
        self.write(None);
    }

    fn write(&self, now_ms: Option<u64>) {
        let mut disk = self.disk.lock().expect("nothing panics while holding it");
        let (taken, ended) = self.take();
        if let Some(now_ms) = now_ms {
            let late = now_ms.saturating_sub(disk.synced_ms) > MAX_INTERVAL_MS && !taken.is_empty();
            self.numbers.late.fetch_add(u64::from(late), Ordering::Relaxed);
            disk.synced_ms = now_ms;
        }
        let ids: Vec<u64> = taken.iter().map(|taken| taken.id).collect();
        let wrote = disk.write(self.run, taken, &ended);
        self.note(&wrote);
        if wrote.is_err() {
            // What of these is on the disk has a gap or an end somewhere: more of them would never be read.
            disk.segments.abandon();
            let mut shared = self.shared();
            for id in ids {
                if let Some(lane) = shared.lanes.get_mut(&id) {
                    lane.closed = true;
                    self.given_up(1);
                }
            }
        }
        self.bound(&mut disk);
        self.numbers.bytes.store(disk.segments.bytes(), Ordering::Relaxed);
    }

    fn note(&self, wrote: &io::Result<bool>) {
        let failing = |now| self.numbers.failing.swap(now, Ordering::Relaxed);
        match wrote {
            Ok(false) => {}
            Ok(true) => {
                self.numbers.syncs.fetch_add(1, Ordering::Relaxed);
                if failing(false) {
                    tracing::info!("the journal can be written again");
                }
            }
            Err(error) => {
                self.numbers.failures.fetch_add(1, Ordering::Relaxed);
                if !failing(true) {
                    let folder = self.folder.display();
                    tracing::error!(%error, %folder, "the journal cannot be written: a kill would lose what is open");
                }
            }
        }
    }

    /// Gives up the oldest fragments while there is more than may be: those that have been open, or waiting, for longest.
    fn bound(&self, disk: &mut Disk) {
        while disk.segments.bytes() > self.max_bytes {
            let Some(first) = disk.segments.first() else { return };
            let old = disk.lanes.iter().filter(|(_, lane)| lane.first == first);
            let old: Vec<u64> = old.map(|(id, _)| *id).collect();
            tracing::warn!(fragments = old.len(), "the journal is full: these would be lost by a kill");
            self.given_up(old.len() as u64);
            for id in old {
                disk.lanes.remove(&id);
                disk.segments.unpin(first);
                if let Some(lane) = self.shared().lanes.get_mut(&id) {
                    lane.closed = true;
                }
            }
            disk.segments.trim();
        }
    }

    /// What earlier runs left, for [`Left::read`]. Blocks on the disk. More than the journal may have is not looked at: the oldest
    /// files are then removed.
    pub(crate) fn scan(&self) -> io::Result<Scan> {
        if !self.usable {
            return Ok(Scan::default());
        }
        let mut files = segments::left_over(&self.folder, &self.run)?;
        let mut bytes: u64 = files.iter().map(|(_, size)| size).sum();
        if bytes > self.max_bytes {
            let age = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
            files.sort_by_cached_key(|(path, _)| (age(path), path.clone()));
            files.retain(|(path, size)| {
                let keep = bytes <= self.max_bytes;
                if !keep {
                    bytes -= size;
                    _ = std::fs::remove_file(path);
                }
                keep
            });
            files.sort();
        }
        Scan::new(files.into_iter().map(|(path, _)| path).collect(), &self.account)
    }
}

impl Disk {
    /// Whether anything was written.
    fn write(&mut self, run: Run, taken: Vec<Taken>, ended: &[u64]) -> io::Result<bool> {
        let mut over: Vec<Written> = ended.iter().filter_map(|id| self.lanes.remove(id)).collect();
        over.iter().for_each(|lane| self.segments.unpin(lane.first));
        self.segments.trim();
        // Those whose files are kept by others: so that nobody takes them for open.
        over.retain(|lane| self.segments.has(lane.first));
        let wrote = !(over.is_empty() && taken.is_empty());
        for lane in &mut over {
            self.append(lane, Kind::End, Vec::new())?;
        }
        for Taken { id, new, chunks } in taken {
            if let Some(new) = new {
                let begun = self.begin(run, &new)?;
                self.lanes.insert(id, begun);
            }
            let Some(mut lane) = self.lanes.remove(&id) else { continue };
            let media = chunks.concat();
            let appended = self.append(&mut lane, Kind::Media, media);
            self.lanes.insert(id, lane);
            appended?;
        }
        if wrote {
            self.segments.sync()?;
        }
        Ok(wrote)
    }

    fn begin(&mut self, run: Run, new: &New) -> io::Result<Written> {
        let lane = self.opens.next();
        let mut whose = Whose { uid: new.uid, key_id: new.key_id }.encode();
        self.opens.seal(&Kind::Open.aad(), &mut whose);
        self.buffer.clear();
        record(&mut self.buffer, Kind::Open, lane, &whose);
        let first = self.segments.append(&self.buffer)?;
        self.segments.pin(first);
        let key = new.key.sequence(&[&run.0, &lane.to_be_bytes()]);
        let mut begun = Written { lane, key, first };
        if let Err(error) = self.append(&mut begun, Kind::Begin, new.begin.encode()) {
            self.segments.unpin(first);
            return Err(error);
        }
        Ok(begun)
    }

    fn append(&mut self, lane: &mut Written, kind: Kind, mut body: Vec<u8>) -> io::Result<()> {
        lane.key.seal(&kind.aad(), &mut body);
        self.buffer.clear();
        record(&mut self.buffer, kind, lane.lane, &body);
        self.segments.append(&self.buffer).map(|_| ())
    }
}
