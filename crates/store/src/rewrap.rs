//! Master keys get new versions; what the old ones have wrapped is wrapped anew, without touching any media. Each key's object is replaced
//! whole, so one that was not reached is under its old version, and a second run goes on.

use std::sync::Arc;

use object_store::path::Path;
use tokio::sync::Mutex;

use crate::config::Config;
use crate::error::Error;
use crate::key::KeyProvider;
use crate::keys::{Rewrap, WrappedKey};
use crate::layout::{Kind, Layout};
use crate::object::{Backend, Listed, Objects};
use crate::recover::Problem;
use crate::store::Store;

/// What re-wrapping did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Keys that are under the newest version of their master key now.
    pub rewrapped: u64,
    /// Keys that were so already.
    pub newest: u64,
    /// Keys that do not open, and stay as they are: the version that they need has to stay, too.
    pub problems: Vec<Problem>,
}

impl Rewrapped {
    fn count(&mut self, path: &Path, result: Result<Rewrap, Error>) -> Result<(), Error> {
        match result {
            Ok(Rewrap::Done) => self.rewrapped += 1,
            Ok(Rewrap::Newest) => self.newest += 1,
            Ok(Rewrap::Gone) => {}
            // Without the storage nothing goes on.
            Err(error @ Error::Storage { .. }) => return Err(error),
            Err(error) => self.problems.push(Problem::new(path, error)),
        }
        Ok(())
    }
}

/// The account's key and all data keys.
fn keys_of(layout: &Layout, listed: Vec<Listed>) -> impl Iterator<Item = Path> {
    let key = |path: &Path| matches!(layout.kind(path), Kind::Account | Kind::Dek(..));
    listed.into_iter().map(|listed| listed.path).filter(key)
}

/// Does it in a store that no process has open, or in a bucket: one with conditional writes.
///
/// # Errors
/// The storage: what was not reached stays as it is.
pub async fn rewrap(
    backend: Backend,
    keys: Arc<dyn KeyProvider>,
    config: &Config,
) -> Result<Rewrapped, Error> {
    let (objects, layout) = (Objects::new(backend), Layout::new(&config.account));
    let mut all = Rewrapped::default();
    let alone = Mutex::new(());
    for path in keys_of(&layout, objects.list(&layout.root()).await?) {
        all.count(&path, WrappedKey::rewrap(&objects, keys.as_ref(), &path, &alone).await)?;
    }
    Ok(all)
}

impl Store {
    /// Has all keys wrapped by the newest versions of their master keys; who uses the store meanwhile notices nothing. Then
    /// older versions are needed no more, unless there are problems.
    ///
    /// # Errors
    /// The storage: what was not reached stays as it is.
    pub async fn rewrap_keys(&self) -> Result<Rewrapped, Error> {
        let inner = &self.0;
        let mut all = Rewrapped::default();
        for path in keys_of(&inner.layout, inner.objects.list(&inner.layout.root()).await?) {
            // Whoever destroys a key holds this lock: none comes back.
            let done = WrappedKey::rewrap(&inner.objects, inner.keys.as_ref(), &path, &inner.admin).await;
            all.count(&path, done)?;
        }
        Ok(all)
    }

    /// Whether a key wraps: whether a stream can be made under it.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub async fn try_key(&self, name: &str) -> Result<(), Error> {
        let secret = crate::key::Secret(crate::crypt::random());
        Ok(self.0.keys.wrap(name, self.0.layout.root().as_ref(), &secret).await.map(drop)?)
    }
}
