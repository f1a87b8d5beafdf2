//! Wrapped keys in the storage: the account's, and the streams' data keys.

use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::crypt::{self, DataKey, hex};
use crate::error::Error;
use crate::key::{KeyError, KeyProvider, Secret};
use crate::layout::Layout;
use crate::object::{Created, Objects};

/// What a destroyed key's object says until it is removed: a removal need not last, an overwrite does.
const DESTROYED: &[u8] = b"{\"key\":\"\",\"wrapped\":\"\"}";

/// A key changes twice in its life under one's hands: wrapped anew by another, and destroyed.
const REWRAP_ATTEMPTS: usize = 3;

/// What became of a key that was to be wrapped anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rewrap {
    /// It was.
    Done,
    /// The newest version has wrapped it already.
    Newest,
    /// It was destroyed.
    Gone,
}

/// A key as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrappedKey {
    /// Name of the key that wraps it.
    key: String,
    /// Hexadecimal.
    wrapped: String,
}

impl WrappedKey {
    /// Has a key wrapped that will lie at `path`.
    pub(crate) async fn wrap(
        keys: &dyn KeyProvider,
        name: &str,
        path: &Path,
        secret: &Secret,
    ) -> Result<Self, Error> {
        let wrapped = keys.wrap(name, path.as_ref(), secret).await?;
        Ok(Self { key: name.to_owned(), wrapped: hex(&wrapped) })
    }

    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("two strings have a JSON form")
    }

    fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |what| Error::Damaged { path: path.to_string(), what };
        serde_json::from_slice(bytes).map_err(|_| damaged("not a wrapped key"))
    }

    pub(crate) async fn create(&self, objects: &Objects, path: &Path) -> Result<(), Error> {
        match objects.create(path, self.to_bytes().into()).await? {
            Created::Yes => Ok(()),
            Created::Exists => Err(Error::Damaged { path: path.to_string(), what: "a key is there already" }),
        }
    }

    pub(crate) async fn load(objects: &Objects, path: &Path) -> Result<Self, Error> {
        let damaged = |what| Error::Damaged { path: path.to_string(), what };
        let (bytes, _) = objects.get(path).await?.ok_or_else(|| damaged("the key is missing"))?;
        let key = Self::from_bytes(path, &bytes)?;
        if key.wrapped.is_empty() {
            return Err(damaged("the key was destroyed"));
        }
        Ok(key)
    }

    fn wrapped(&self) -> Result<Vec<u8>, KeyError> {
        unhex(&self.wrapped).ok_or(KeyError::Validation)
    }

    pub(crate) async fn unwrap(&self, keys: &dyn KeyProvider, path: &Path) -> Result<Secret, Error> {
        Ok(keys.unwrap(&self.key, path.as_ref(), &self.wrapped()?).await?)
    }

    /// The same where it must not open to anything but this: before something is kept under it.
    pub(crate) async fn check(
        &self,
        keys: &dyn KeyProvider,
        path: &Path,
        secret: &Secret,
    ) -> Result<(), Error> {
        let same = self.unwrap(keys, path).await? == *secret;
        if same { Ok(()) } else { Err(KeyError::Validation.into()) }
    }

    /// Whether the newest version of its key has wrapped it.
    pub(crate) fn is_newest(&self, keys: &dyn KeyProvider) -> bool {
        self.wrapped().is_ok_and(|wrapped| keys.is_newest(&self.key, &wrapped))
    }

    /// Has a key wrapped by the newest version of the one that wraps it. `admin` is what who destroys it holds; it is held here only
    /// while the object is replaced, not while a provider is asked. A store with conditional writes does without.
    pub(crate) async fn rewrap(
        objects: &Objects,
        keys: &dyn KeyProvider,
        path: &Path,
        admin: &Mutex<()>,
    ) -> Result<Rewrap, Error> {
        for _ in 0..REWRAP_ATTEMPTS {
            let Some((bytes, version)) = objects.get(path).await? else { return Ok(Rewrap::Gone) };
            if bytes == DESTROYED {
                return Ok(Rewrap::Gone);
            }
            let old = Self::from_bytes(path, &bytes)?;
            if old.is_newest(keys) {
                return Ok(Rewrap::Newest);
            }
            let secret = old.unwrap(keys, path).await?;
            let new = Self::wrap(keys, &old.key, path, &secret).await?;
            // It takes the place of the only copy: it has to open.
            new.check(keys, path, &secret).await?;
            let _admin = admin.lock().await;
            // A folder replaces whatever is there.
            if objects.get(path).await?.is_none_or(|(now, _)| now != bytes) {
                continue;
            }
            match objects.replace(path, new.to_bytes().into(), Some(&version)).await {
                // Somebody destroyed it meanwhile, or wrapped it anew: look again.
                Err(Error::VersionMismatch) => {}
                replaced => return replaced.map(|_| Rewrap::Done),
            }
        }
        Err(Error::VersionMismatch)
    }

    /// Makes a key useless, then removes it.
    pub(crate) async fn destroy(objects: &Objects, path: &Path) -> Result<(), Error> {
        if objects.get(path).await?.is_some() {
            objects.replace(path, DESTROYED.into(), None).await?;
            objects.delete(path).await?;
        }
        Ok(())
    }

    /// Whether the key is there and was not destroyed.
    pub(crate) async fn alive(objects: &Objects, path: &Path) -> Result<bool, Error> {
        Ok(objects.get(path).await?.is_some_and(|(bytes, _)| bytes != DESTROYED))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// The account's own secret: names and records are under keys derived from it.
pub(crate) struct Account {
    secret: Secret,
    names: DataKey,
}

impl Account {
    /// Opens the account's key; makes one if the account is `new`.
    pub(crate) async fn load(
        objects: &Objects,
        keys: &dyn KeyProvider,
        layout: &Layout,
        new: bool,
    ) -> Result<Self, Error> {
        let path = layout.account_key();
        if new {
            let secret = Secret(crypt::random());
            let wrapped = WrappedKey::wrap(keys, keys.default_key(), &path, &secret).await?;
            wrapped.check(keys, &path, &secret).await?;
            wrapped.create(objects, &path).await?;
        }
        let secret = WrappedKey::load(objects, &path).await?.unwrap(keys, &path).await?;
        let names = DataKey::new(&secret, "names");
        Ok(Self { secret, names })
    }

    pub(crate) fn key(&self, purpose: &str) -> DataKey {
        DataKey::new(&self.secret, purpose)
    }

    /// A stream's name as it stands in the storage.
    pub(crate) fn hide(&self, name: &str) -> String {
        self.names.name(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways() {
        assert_eq!(unhex(&hex(&[0, 1, 0xfe])), Some(vec![0, 1, 0xfe]));
        for bad in ["0", "0g", "é"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_destroyed_key_is_one() {
        let key: WrappedKey = serde_json::from_slice(DESTROYED).unwrap();
        assert!(key.wrapped.is_empty());
    }
}
