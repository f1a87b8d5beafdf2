//! The storage below: an object store, with what the rules of a crash need from it.

mod local;
#[cfg(feature = "s3")]
mod s3;

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

#[cfg(feature = "s3")]
pub use s3::S3;

use crate::error::{Error, StorageFault};

/// Where the objects lie.
pub struct Backend {
    store: Arc<dyn ObjectStore>,
    /// Whether it takes `PutMode::Update`. A local folder does not: there our own lock stands in.
    conditional: bool,
    /// Held as long as the store is open.
    _lock: Option<local::Lock>,
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
        Ok(Self { store: Arc::new(local::open(root)?), conditional: false, _lock: Some(lock) })
    }

    /// A folder of this machine, to look at only: no lock is taken, nothing is made or removed.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn local_read_only(root: &std::path::Path) -> Result<Self, Error> {
        Ok(Self { store: Arc::new(local::open(root)?), conditional: false, _lock: None })
    }

    /// In memory: for tests, and for streams that keep nothing.
    pub fn memory() -> Self {
        Self::custom(Arc::new(object_store::memory::InMemory::new()), true)
    }

    /// Any other object store. `conditional`: it takes `PutMode::Update`. It must take `PutMode::Create`, and what it has
    /// acknowledged must last.
    pub fn custom(store: Arc<dyn ObjectStore>, conditional: bool) -> Self {
        Self { store, conditional, _lock: None }
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

pub(crate) struct Objects {
    backend: Backend,
    health: Mutex<Health>,
}

impl Objects {
    pub(crate) fn new(backend: Backend) -> Self {
        Self { backend, health: Mutex::new(Health { fault: None, since_ms: 0, failures: 0 }) }
    }

    pub(crate) fn health(&self) -> Health {
        *self.health.lock().expect("nothing panics while holding it")
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
            *health = Health { fault, since_ms: now_ms, failures: health.failures };
        }
    }

    pub(crate) async fn get(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
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

    /// Writes what must not be there yet. What is there with the same bytes was written by an attempt whose answer got lost.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<Created, Error> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.backend.store.put_opts(path, bytes.clone().into(), options).await {
            Ok(_) => Ok(Created::Yes),
            Err(object_store::Error::AlreadyExists { .. }) => {
                let same = self.get(path).await?.is_some_and(|(there, _)| there == bytes);
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
        match self.backend.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// All objects below a path, in no order.
    pub(crate) async fn list(&self, prefix: &Path) -> Result<Vec<Listed>, Error> {
        let all = self.backend.store.list(Some(prefix));
        let all = all.map_ok(|meta| Listed { path: meta.location, size: meta.size });
        Ok(all.try_collect().await?)
    }
}
