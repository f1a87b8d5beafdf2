//! A folder of this machine for what an object store far away does not take at the moment: sealed already, synced to the
//! disk before it counts, bounded, and given to the store as soon as that answers again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path as Folder;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::{Listed, local};
use crate::error::{Error, StorageFault};

/// What is in it.
#[derive(Debug, Default)]
struct Held {
    sizes: BTreeMap<Place, u64>,
    bytes: u64,
    /// Why the store took nothing: until it does again, nobody tries it but the one who empties this.
    away: Option<StorageFault>,
    /// The store has other bytes there: only somebody can say which are right.
    conflicts: BTreeSet<Place>,
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
        Ok(Self { files: local::open(root)?, max_bytes, held: Mutex::default(), _lock: Some(lock) })
    }

    /// To look at only; `None`: there is none.
    pub(super) fn read_only(root: &Folder) -> Result<Option<Self>, Error> {
        if !root.exists() {
            return Ok(None);
        }
        Ok(Some(Self { files: local::open(root)?, max_bytes: 0, held: Mutex::default(), _lock: None }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nothing panics while holding it")
    }

    /// Learns what is in the folder.
    pub(super) async fn load(&self) -> Result<(), Error> {
        let all: Vec<_> = self.files.list(None).try_collect().await?;
        let mut held = self.held();
        // The lock lies beside the objects.
        for meta in all.into_iter().filter(|meta| meta.location.as_ref().starts_with("v1/")) {
            held.bytes += meta.size;
            held.sizes.insert(place(&meta.location), meta.size);
        }
        held.away = (!held.sizes.is_empty()).then_some(StorageFault::Unavailable);
        Ok(())
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
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
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
        let mut rest = rest.filter(|(at, _)| !held.conflicts.contains(at)).peekable();
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
