//! A folder of this machine for what an object store far away does not take at the moment: sealed already, synced to the
//! disk before it counts, bounded, and given to the store as soon as that answers again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path as Folder, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::{Listed, local};
use crate::error::{Error, StorageFault};
use crate::layout;

/// Refused so often, while others were taken, an object is set aside: somebody should look at it.
const SET_ASIDE: u32 = 3;
/// Drains between two attempts with it, at most: five minutes.
const MAX_PAUSE: u64 = 150;
/// The file that names what is set aside, a path a line.
const SET_ASIDE_FILE: &str = "set-aside";

/// What is in it.
#[derive(Debug, Default)]
struct Held {
    sizes: BTreeMap<Place, u64>,
    bytes: u64,
    /// Why the store took nothing: until it does again, nobody tries it but the one who empties this.
    away: Option<StorageFault>,
    /// The store has other bytes there: only somebody can say which are right.
    conflicts: BTreeSet<Place>,
    /// What the store refuses while it takes others.
    refused: BTreeMap<Place, Refusal>,
    /// The store has taken something that did not wait here, since this was emptied last.
    taken: bool,
    /// Times that this was emptied.
    drains: u64,
    /// Where the last probes of a store that is away have ended.
    probed: Option<Path>,
    /// Who is set aside is not as in the file.
    unsaved: bool,
}

/// How often an object was refused, and the drain with which it is tried again.
#[derive(Debug, Clone, Copy, Default)]
struct Refusal {
    times: u32,
    next: u64,
}

impl Refusal {
    fn is_set_aside(&self) -> bool {
        self.times >= SET_ASIDE
    }
}

impl Held {
    /// Whether it is to be given now.
    fn is_due(&self, at: &Place) -> bool {
        let refused = self.refused.get(at).is_some_and(|refusal| refusal.next > self.drains);
        !refused && !self.conflicts.contains(at) && !self.lacks_header(&at.1)
    }

    /// The store must not have a fragment whose header it has not.
    fn lacks_header(&self, path: &Path) -> bool {
        // They sort first, and as a rule there is none.
        let some = self.sizes.first_key_value().is_some_and(|((fragment, _), _)| !fragment);
        some && layout::header_of(path).is_some_and(|header| self.sizes.contains_key(&(false, header)))
    }

    fn set_aside(&self) -> impl Iterator<Item = &Path> {
        self.refused.iter().filter(|(_, refusal)| refusal.is_set_aside()).map(|((_, path), _)| path)
    }

    fn forget_refusal(&mut self, at: &Place) {
        let refusal = self.refused.remove(at);
        self.unsaved |= refusal.is_some_and(|refusal| refusal.is_set_aside());
    }
}

/// Headers go first, so that the store never has a fragment whose header is missing; then as paths sort, which is in time.
type Place = (bool, Path);

fn place(path: &Path) -> Place {
    (!is_header(path), path.clone())
}

pub(super) fn is_header(path: &Path) -> bool {
    path.as_ref().contains("/hdr/")
}

pub(super) struct Spool {
    root: PathBuf,
    files: LocalFileSystem,
    max_bytes: u64,
    held: Mutex<Held>,
    /// `None`: to look at only.
    _lock: Option<local::Lock>,
}

impl Spool {
    /// With whatever an earlier process left in it.
    pub(super) fn open(root: &Folder, max_bytes: u64) -> Result<Self, Error> {
        let lock = local::Lock::take(root)?;
        local::remove_staging(root)?;
        Ok(Self { max_bytes, _lock: Some(lock), ..Self::new(root)? })
    }

    /// To look at only; `None`: there is none.
    pub(super) fn read_only(root: &Folder) -> Result<Option<Self>, Error> {
        if !root.exists() {
            return Ok(None);
        }
        Self::new(root).map(Some)
    }

    fn new(root: &Folder) -> Result<Self, Error> {
        let files = local::open(root)?;
        let root = root.to_owned();
        Ok(Self { root, files, max_bytes: 0, held: Mutex::default(), _lock: None })
    }

    /// Where it is.
    pub(super) fn root(&self) -> &Folder {
        &self.root
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nothing panics while holding it")
    }

    /// Learns what is in the folder.
    pub(super) async fn load(&self) -> Result<(), Error> {
        let all: Vec<_> = self.files.list(None).try_collect().await?;
        let aside = self.load_set_aside().await;
        let mut held = self.held();
        // The lock lies beside the objects.
        for meta in all.into_iter().filter(|meta| meta.location.as_ref().starts_with("v1/")) {
            held.bytes += meta.size;
            held.sizes.insert(place(&meta.location), meta.size);
        }
        for at in aside.iter().map(place).filter(|at| held.sizes.contains_key(at)).collect::<Vec<_>>() {
            held.refused.insert(at, Refusal { times: SET_ASIDE, next: 0 });
        }
        held.away = (!held.sizes.is_empty()).then_some(StorageFault::Unavailable);
        Ok(())
    }

    /// What an earlier process has set aside; what cannot be read is found out anew.
    async fn load_set_aside(&self) -> Vec<Path> {
        let read = self.get(&Path::from(SET_ASIDE_FILE)).await.unwrap_or_default();
        String::from_utf8_lossy(&read).lines().filter_map(|line| Path::parse(line).ok()).collect()
    }

    /// Writes down what is set aside, where that has changed: for `antiphon store check`, and the next start.
    pub(super) async fn save_set_aside(&self) {
        let lines: String = {
            let mut held = self.held();
            if !std::mem::take(&mut held.unsaved) {
                return;
            }
            held.set_aside().flat_map(|path| [path.as_ref(), "\n"]).collect()
        };
        if let Err(error) = self.files.put(&Path::from(SET_ASIDE_FILE), lines.into()).await {
            tracing::warn!(%error, "what is set aside in the spool cannot be written down");
            self.held().unsaved = true;
        }
    }

    /// What the store has refused too often.
    pub(super) fn set_aside(&self) -> Vec<Path> {
        self.held().set_aside().cloned().collect()
    }

    /// How many that are.
    pub(super) fn count_set_aside(&self) -> u64 {
        self.held().set_aside().count() as u64
    }

    /// The store has taken something without this.
    pub(super) fn set_taken(&self) {
        self.held().taken = true;
    }

    /// Whether it has since this was asked last.
    pub(super) fn take_taken(&self) -> bool {
        std::mem::take(&mut self.held().taken)
    }

    /// Another attempt to empty this.
    pub(super) fn begin_drain(&self) {
        self.held().drains += 1;
    }

    /// What finds out whether a store that is away answers again: others than the last time, as far as there are.
    pub(super) fn probes(&self, most: usize, bytes: u64) -> Vec<Path> {
        let after = self.held().probed.clone();
        let batch = self.batch(after.as_ref(), most, bytes);
        let batch = if batch.is_empty() { self.batch(None, most, bytes) } else { batch };
        self.held().probed = batch.last().cloned();
        batch
    }

    /// The store refuses this one, and takes others: it is tried again later and later.
    pub(super) fn refuse(&self, path: &Path) {
        let mut held = self.held();
        let (at, drains) = (place(path), held.drains);
        if !held.sizes.contains_key(&at) {
            return;
        }
        let refusal = held.refused.entry(at).or_default();
        refusal.times = refusal.times.saturating_add(1);
        let pause = 1u64.checked_shl(refusal.times - 1).unwrap_or(MAX_PAUSE).min(MAX_PAUSE);
        refusal.next = drains + 1 + pause;
        if refusal.times == SET_ASIDE {
            held.unsaved = true;
            tracing::error!(%path, "the object store refuses a spooled object again and again: it is set aside");
        }
    }

    /// It was refused while others were taken.
    pub(super) fn is_refused(&self, path: &Path) -> bool {
        self.held().refused.contains_key(&place(path))
    }

    /// A fragment's header waits here, so the fragment has to.
    pub(super) fn lacks_header(&self, path: &Path) -> bool {
        self.held().lacks_header(path)
    }

    pub(super) fn away(&self) -> Option<StorageFault> {
        self.held().away
    }

    pub(super) fn set_away(&self, away: Option<StorageFault>) {
        self.held().away = away;
    }

    /// Objects and bytes in it.
    pub(super) fn fill(&self) -> (u64, u64) {
        let held = self.held();
        (held.sizes.len() as u64, held.bytes)
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub(super) fn holds(&self, path: &Path) -> bool {
        self.held().sizes.contains_key(&place(path))
    }

    /// Keeps an object; `false`: there is no room.
    pub(super) async fn put(&self, path: &Path, bytes: Bytes) -> Result<bool, Error> {
        let size = bytes.len() as u64;
        {
            let mut held = self.held();
            if held.bytes + size > self.max_bytes {
                return Ok(false);
            }
            // Before it is there: two who come at once must not both find the last room.
            held.bytes += size;
        }
        let options = PutOptions { mode: PutMode::Overwrite, ..PutOptions::default() };
        let put = self.files.put_opts(path, bytes.into(), options).await;
        let mut held = self.held();
        match put {
            Ok(_) => {
                if let Some(before) = held.sizes.insert(place(path), size) {
                    held.bytes -= before;
                }
                Ok(true)
            }
            Err(error) => {
                held.bytes -= size;
                Err(error.into())
            }
        }
    }

    pub(super) async fn get(&self, path: &Path) -> Result<Bytes, Error> {
        Ok(self.files.get(path).await?.bytes().await?)
    }

    /// Forgets an object, then removes it: who finds its file gone finds that it is not held, and looks in the store.
    pub(super) async fn remove(&self, path: &Path) -> Result<(), Error> {
        let size = {
            let mut held = self.held();
            let size = held.sizes.remove(&place(path));
            held.bytes -= size.unwrap_or_default();
            size
        };
        match self.files.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                self.held().forget_refusal(&place(path));
                Ok(())
            }
            Err(error) => {
                let mut held = self.held();
                held.bytes += size.unwrap_or_default();
                held.sizes.extend(size.map(|size| (place(path), size)));
                Err(error.into())
            }
        }
    }

    /// What is to go next, behind this one: at most so many and so many bytes, but one, and of one kind.
    pub(super) fn batch(&self, after: Option<&Path>, most: usize, bytes: u64) -> Vec<Path> {
        let from = after.map_or(Bound::Unbounded, |path| Bound::Excluded(place(path)));
        let held = self.held();
        let rest = held.sizes.range((from, Bound::Unbounded));
        let mut rest = rest.filter(|(at, _)| held.is_due(at)).peekable();
        let kind = rest.peek().map(|(at, _)| at.0);
        let mut taken = 0;
        rest.take_while(|(at, _)| Some(at.0) == kind)
            .take(most)
            .take_while(|(_, size)| {
                let fits = taken == 0 || taken + **size <= bytes;
                taken += **size;
                fits
            })
            .map(|((_, path), _)| path.clone())
            .collect()
    }

    /// Keeps an object here until the next start.
    pub(super) fn conflict(&self, path: &Path) {
        self.held().conflicts.insert(place(path));
    }

    pub(super) fn list(&self, prefix: &Path) -> Vec<Listed> {
        let held = self.held();
        let below = held.sizes.iter().filter(|((_, path), _)| path.prefix_matches(prefix));
        below.map(|((_, path), size)| Listed { path: path.clone(), size: *size }).collect()
    }
}
