//! The storage below: an object store, with what the rules of a crash need from it.

mod drain;
mod group;
mod local;
mod s3;
mod spool;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

pub use s3::S3;

use crate::error::{Error, StorageFault};
use crate::layout::Layout;
use crate::listing::Listing;

/// Folders of a disk that are listed at once: each file is asked for its size, which keeps a core busy.
const SIDE_BY_SIDE: usize = 8;

/// Where the objects lie.
pub struct Backend {
    store: Arc<dyn ObjectStore>,
    /// Where a folder of this machine is.
    root: Option<std::path::PathBuf>,
    /// Whether it takes `PutMode::Update`. A local folder does not: there our own lock stands in.
    conditional: bool,
    /// Held as long as the store is open.
    _lock: Option<local::Lock>,
    spool: Option<spool::Spool>,
    journal: Option<JournalFolder>,
    group: Option<Arc<group::Group>>,
}

/// Where a journal lies, on this machine wherever the objects are.
struct JournalFolder {
    path: std::path::PathBuf,
    /// `None`: it cannot be used.
    lock: Option<local::Lock>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({})", self.store)
    }
}

impl Backend {
    /// A folder of this machine, made if it is not there, readable by its owner only. Writes are synced to the disk before
    /// they count. One process at a time.
    ///
    /// # Errors
    /// [`Error::Locked`], or what the file system says.
    pub fn local(root: &std::path::Path) -> Result<Self, Error> {
        let lock = local::Lock::take(root)?;
        local::remove_staging(root)?;
        Ok(Self { _lock: Some(lock), ..Self::folder(root)? })
    }

    /// A folder of this machine, to look at only: no lock is taken, nothing is made or removed.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn local_read_only(root: &std::path::Path) -> Result<Self, Error> {
        Self::folder(root)
    }

    fn folder(root: &std::path::Path) -> Result<Self, Error> {
        Ok(Self { root: Some(root.to_owned()), ..Self::custom(Arc::new(local::open(root)?), false) })
    }

    /// In memory: for tests, and for streams that keep nothing.
    pub fn memory() -> Self {
        Self::custom(Arc::new(object_store::memory::InMemory::new()), true)
    }

    /// Any other object store. `conditional`: it takes `PutMode::Update`. It must take `PutMode::Create`, and what it has
    /// acknowledged must last.
    pub fn custom(store: Arc<dyn ObjectStore>, conditional: bool) -> Self {
        Self { store, root: None, conditional, _lock: None, spool: None, journal: None, group: None }
    }

    /// With a folder of this machine for what is not stored yet, beside the objects. One that cannot be had is told by a metric
    /// and the log; it costs what a journal is for.
    #[must_use]
    pub fn with_journal(mut self, root: &std::path::Path) -> Self {
        let lock = local::Lock::take(root);
        if let Err(error) = &lock {
            tracing::error!(%error, "there is no journal: a kill would lose what is not stored yet");
        }
        self.journal = Some(JournalFolder { path: root.to_owned(), lock: lock.ok() });
        self
    }

    /// With a folder of this machine for at most `max_bytes` of what the store does not take while it is away. Meant for stores
    /// that are somewhere else; one process at a time has the folder.
    ///
    /// # Errors
    /// [`Error::Locked`], or what the file system says.
    pub fn with_spool(mut self, root: &std::path::Path, max_bytes: u64) -> Result<Self, Error> {
        self.spool = Some(spool::Spool::open(root, max_bytes)?);
        Ok(self)
    }

    /// From so many fragments a second on, a folder's are made durable many at a time, by syncs of the whole file system, where that is one that
    /// can be relied on for this; 0: never. What is acknowledged is as durable as by itself, two syncs and some 80 ms later.
    #[must_use]
    pub fn with_group_sync(mut self, from: u32) -> Self {
        if let Some(root) = self.root.as_ref().filter(|_| from > 0) {
            let opened = local::lock_file(root).and_then(|file| group::Group::open(root, file, from));
            self.group = opened.unwrap_or_else(|error| {
                tracing::warn!(%error, "fragments are synced one by one");
                None
            });
        }
        self
    }

    /// With such a folder to look at only, if it is there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn with_spool_read_only(mut self, root: &std::path::Path) -> Result<Self, Error> {
        self.spool = spool::Spool::read_only(root)?;
        Ok(self)
    }

    /// Shows `add` each object below `prefix`, in any order: several folders of a disk at once, each with a `T` of its own.
    async fn gather<T, F>(&self, prefix: &Path, add: F) -> Result<Vec<T>, Error>
    where
        T: Default + Send + 'static,
        F: Fn(&mut T, Found<'_>) + Clone + Send + 'static,
    {
        let Some(root) = &self.root else {
            // A bucket tells a thousand objects with each request, wherever they lie.
            let (mut all, mut objects) = (T::default(), self.store.list(Some(prefix)));
            while let Some(meta) = objects.try_next().await? {
                add(&mut all, Found { key: meta.location.as_ref(), size: meta.size, is_path: true });
            }
            return Ok(vec![all]);
        };
        let look = |folder: String| {
            let (root, add) = (root.clone(), add.clone());
            async move {
                let looking = tokio::task::spawn_blocking(move || {
                    let mut all = T::default();
                    let folders = local::look(&root, &folder, |found| add(&mut all, found))?;
                    Ok::<_, Error>((all, folders))
                });
                looking.await.expect("it does not panic, and the runtime waits for it")
            }
        };
        let (mut all, mut folders) = (Vec::new(), vec![prefix.to_string()]);
        while !folders.is_empty() {
            let level = stream::iter(std::mem::take(&mut folders)).map(look).buffer_unordered(SIDE_BY_SIDE);
            for (found, below) in level.try_collect::<Vec<_>>().await? {
                all.push(found);
                folders.extend(below);
            }
        }
        Ok(all)
    }
}

/// How the storage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// What the last write met; `None`: it succeeded.
    pub fault: Option<StorageFault>,
    /// Since when, in milliseconds since 1970. 0: since the start.
    pub since_ms: u64,
    /// Writes that failed since the start.
    pub failures: u64,
    /// Whether the store is away, so that what comes goes into the spool.
    pub away: bool,
    /// Whether that is because it refuses access: credentials that are wrong or have expired.
    pub refused: bool,
    /// Objects that wait in the spool.
    pub spooled: u64,
    /// Their bytes.
    pub spooled_bytes: u64,
    /// Bytes that may wait there; 0: there is no spool.
    pub spool_max_bytes: u64,
    /// Objects in it that the store has refused again and again while it took others.
    pub set_aside: u64,
    /// Fragments that were made durable with others, since the start.
    pub grouped: u64,
    /// Syncs of the whole file system for these.
    pub group_syncs: u64,
    /// Such syncs that failed.
    pub group_failures: u64,
}

/// What emptying the spool did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Objects that the store has now.
    pub moved: u64,
    /// Objects that still wait.
    pub left: u64,
}

/// Whether a write may wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// It may not: more waits behind it.
    Urgent,
    /// It may, for a tenth of a second or so.
    Patient,
}

/// What became of a write that may not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    Yes,
    Exists,
}

/// An object's path and size.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    pub(crate) path: Path,
    pub(crate) size: u64,
}

/// An object that was met while looking for all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    /// Where it is: as a path, or as the names of folders and file.
    pub(crate) key: &'a str,
    pub(crate) size: u64,
    is_path: bool,
}

impl Found<'_> {
    pub(crate) fn path(&self) -> Path {
        match Path::parse(self.key) {
            Ok(path) if self.is_path => path,
            // Names of files may have what has to be escaped in a path.
            _ => Path::from(self.key),
        }
    }
}

pub(crate) struct Objects {
    backend: Backend,
    health: Mutex<Noted>,
}

/// What writes met.
#[derive(Debug, Clone, Copy, Default)]
struct Noted {
    fault: Option<StorageFault>,
    since_ms: u64,
    failures: u64,
}

impl Objects {
    pub(crate) fn new(backend: Backend) -> Self {
        Self { backend, health: Mutex::default() }
    }

    /// Where a journal lies, and whether it may be used.
    pub(crate) fn journal(&self) -> Option<(std::path::PathBuf, bool)> {
        self.backend.journal.as_ref().map(|folder| (folder.path.clone(), folder.lock.is_some()))
    }

    /// Learns what the spool has from before.
    pub(crate) async fn load_spool(&self) -> Result<(), Error> {
        match &self.backend.spool {
            Some(spool) => spool.load().await,
            None => Ok(()),
        }
    }

    pub(crate) fn health(&self) -> Health {
        let Noted { fault, since_ms, failures } =
            *self.health.lock().expect("nothing panics while holding it");
        let spool = self.backend.spool.as_ref();
        let (spooled, spooled_bytes) = spool.map(spool::Spool::fill).unwrap_or_default();
        let away = spool.and_then(spool::Spool::away);
        let group = |which: fn(&group::Numbers) -> &AtomicU64| {
            let group = self.backend.group.as_ref();
            group.map_or(0, |group| which(&group.numbers).load(Ordering::Relaxed))
        };
        Health {
            fault,
            since_ms,
            failures,
            away: away.is_some(),
            refused: away == Some(StorageFault::Refused),
            spooled,
            spooled_bytes,
            spool_max_bytes: spool.map_or(0, spool::Spool::max_bytes),
            set_aside: spool.map_or(0, spool::Spool::count_set_aside),
            grouped: group(|numbers| &numbers.fragments),
            group_syncs: group(|numbers| &numbers.syncs),
            group_failures: group(|numbers| &numbers.failures),
        }
    }

    /// What waits in the spool because the store refuses it, whatever else it takes.
    pub(crate) fn set_aside(&self) -> Vec<Path> {
        self.backend.spool.as_ref().map(spool::Spool::set_aside).unwrap_or_default()
    }

    /// Notes what a write met.
    pub(crate) fn note(&self, result: Result<(), &Error>, now_ms: u64) {
        let fault = match result {
            Ok(()) => None,
            Err(Error::Storage { fault, .. }) => Some(*fault),
            Err(_) => return,
        };
        let mut health = self.health.lock().expect("nothing panics while holding it");
        health.failures += u64::from(fault.is_some());
        if health.fault != fault {
            *health = Noted { fault, since_ms: now_ms, failures: health.failures };
        }
    }

    /// What the store itself has, whatever the spool has.
    async fn fetch(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        match self.backend.store.get(path).await {
            Ok(found) => {
                let meta = &found.meta;
                let version = UpdateVersion { e_tag: meta.e_tag.clone(), version: meta.version.clone() };
                Ok(Some((found.bytes().await?, version)))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) async fn get(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        if let Some(spool) = self.backend.spool.as_ref().filter(|spool| spool.holds(path)) {
            match spool.get(path).await {
                Ok(bytes) => return Ok(Some((bytes, UpdateVersion { e_tag: None, version: None }))),
                // It has gone to the store since.
                Err(_) if !spool.holds(path) => {}
                Err(error) => return Err(error),
            }
        }
        self.fetch(path).await
    }

    /// Writes a part of a stream's media, which must not be there yet: into the store, or into the spool while that is away. One that
    /// refuses us is away as well: credentials expire in the middle of calls, and what is said meanwhile has a place here.
    pub(crate) async fn create_media(
        &self,
        path: &Path,
        bytes: Bytes,
        haste: Haste,
    ) -> Result<Created, Error> {
        let Some(spool) = &self.backend.spool else { return self.create_here(path, bytes, haste).await };
        let failed = if spool.away().is_some() || spool.lacks_header(path) {
            None
        } else {
            match self.create(path, bytes.clone()).await {
                Err(error @ Error::Storage { fault, .. }) => {
                    tracing::warn!(%error, "the object store does not take it: fragments go into the spool");
                    spool.set_away(Some(fault));
                    Some(error)
                }
                other => {
                    spool.set_taken();
                    return other;
                }
            }
        };
        if spool.put(path, bytes).await? {
            return Ok(Created::Yes);
        }
        let full = || Error::Storage { fault: StorageFault::Full, message: "the spool is full".into() };
        Err(failed.unwrap_or_else(full))
    }

    /// Groups whose syncs a test knows.
    #[cfg(test)]
    pub(crate) fn grouped(root: &std::path::Path) -> Backend {
        let group = group::Group::new(root, 1, Box::new(|| Ok(())));
        Backend { group: Some(Arc::new(group)), ..Backend::local(root).expect("a folder of a test") }
    }

    /// The same without a spool: with others, where many come.
    async fn create_here(&self, path: &Path, bytes: Bytes, haste: Haste) -> Result<Created, Error> {
        let group = self.backend.group.as_ref();
        if let Some(group) = group.filter(|group| haste == Haste::Patient && group.takes()) {
            match group.create(path, bytes.clone()).await {
                group::Outcome::Durable => return Ok(Created::Yes),
                group::Outcome::Nothing => {}
                group::Outcome::Failed(error) => return Err(error),
            }
        }
        self.create(path, bytes).await
    }

    /// Writes what must not be there yet. What is there with the same bytes was written by an attempt whose answer got lost.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<Created, Error> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.backend.store.put_opts(path, bytes.clone().into(), options).await {
            Ok(_) => Ok(Created::Yes),
            Err(object_store::Error::AlreadyExists { .. }) => {
                let same = self.fetch(path).await?.is_some_and(|(there, _)| there == bytes);
                Ok(if same { Created::Yes } else { Created::Exists })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Writes over the version that was read; `None`: whatever is there. Two writers: one gets
    /// [`Error::VersionMismatch`].
    pub(crate) async fn replace(
        &self,
        path: &Path,
        bytes: Bytes,
        version: Option<&UpdateVersion>,
    ) -> Result<UpdateVersion, Error> {
        let mode = match version {
            Some(version) if self.backend.conditional => PutMode::Update(version.clone()),
            _ => PutMode::Overwrite,
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.backend.store.put_opts(path, bytes.into(), options).await {
            Ok(put) => Ok(UpdateVersion { e_tag: put.e_tag, version: put.version }),
            Err(object_store::Error::Precondition { .. }) => Err(Error::VersionMismatch),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes an object; one that is not there is removed.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), Error> {
        if let Some(spool) = self.backend.spool.as_ref().filter(|spool| spool.holds(path)) {
            spool.remove(path).await?;
        }
        match self.backend.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes it last that these were removed: a file system may bring back after a power loss what it was not asked to sync. What a bucket
    /// has removed it has removed.
    pub(crate) async fn settle(&self, removed: &[Path]) -> Result<(), Error> {
        let folder = |path: &Path| path.as_ref().rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let folders: BTreeSet<String> = removed.iter().filter_map(folder).collect();
        let spool = self.backend.spool.as_ref().map(spool::Spool::root);
        let roots: Vec<_> = self.backend.root.iter().cloned().chain(spool.map(ToOwned::to_owned)).collect();
        let syncing = move || roots.iter().try_for_each(|root| local::settle(root, &folders));
        tokio::task::spawn_blocking(syncing).await.expect("it does not panic, and the runtime waits for it")
    }

    /// All objects below a path, in no order.
    pub(crate) async fn list(&self, prefix: &Path) -> Result<Vec<Listed>, Error> {
        let add =
            |all: &mut Vec<_>, found: Found<'_>| all.push(Listed { path: found.path(), size: found.size });
        Ok(self.gather(prefix, add).await?.concat())
    }

    /// All objects, sorted by what they are.
    pub(crate) async fn survey(&self, layout: &Layout) -> Result<Listing, Error> {
        let of = layout.clone();
        let add = move |all: &mut Listing, found: Found<'_>| all.add(&of, found);
        let mut all = Listing::default();
        self.gather(&layout.root(), add).await?.into_iter().for_each(|part| all.append(part));
        Ok(all)
    }

    /// Shows each object to `add` once, whether it is in the store, in the spool, or in both.
    async fn gather<T, F>(&self, prefix: &Path, add: F) -> Result<Vec<T>, Error>
    where
        T: Default + Send + 'static,
        F: Fn(&mut T, Found<'_>) + Clone + Send + 'static,
    {
        // Before the store is asked: what moves in between is then seen twice rather than not at all.
        let spooled = self.backend.spool.as_ref().map(|spool| spool.list(prefix)).unwrap_or_default();
        if spooled.is_empty() {
            return self.backend.gather(prefix, add).await;
        }
        let mut first = T::default();
        for Listed { path, size } in &spooled {
            add(&mut first, Found { key: path.as_ref(), size: *size, is_path: true });
        }
        // An answer that was lost: the store has it, too.
        let twice: Arc<HashSet<_>> = Arc::new(spooled.into_iter().map(|listed| listed.path).collect());
        let once = move |all: &mut T, found: Found<'_>| {
            if !twice.contains(&found.path()) {
                add(all, found);
            }
        };
        let mut all = self.backend.gather(prefix, once).await?;
        all.push(first);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_made_durable_with_others_is_by_itself() {
        let root = tempfile::tempdir().unwrap();
        let fails = || Err(std::io::Error::other("as asked"));
        let group = Arc::new(group::Group::new(root.path(), 1, Box::new(fails)));
        let backend = Backend { group: Some(group), ..Backend::local(root.path()).unwrap() };
        let (objects, path) = (Objects::new(backend), Path::from("v1/a/x"));
        let create = |bytes: &'static str| objects.create_media(&path, bytes.into(), Haste::Patient);
        assert_eq!(create("1").await.unwrap(), Created::Yes);
        assert_eq!((objects.health().grouped, objects.health().group_failures), (0, 1));
        assert_eq!(objects.get(&path).await.unwrap().unwrap().0, "1");
        assert_eq!(create("2").await.unwrap(), Created::Exists);
    }
}
