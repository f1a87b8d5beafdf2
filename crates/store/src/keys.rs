//! Wrapped keys in the storage: the account's, and the streams' data keys.

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::crypt::{self, DataKey, hex};
use crate::error::Error;
use crate::key::{KeyProvider, Secret};
use crate::layout::Layout;
use crate::object::{Created, Objects};

/// What a destroyed key's object says until it is removed: a removal need not last, an overwrite does.
const DESTROYED: &[u8] = b"{\"key\":\"\",\"wrapped\":\"\"}";

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
    pub(crate) async fn wrap(keys: &dyn KeyProvider, name: &str, secret: &Secret) -> Result<Self, Error> {
        let wrapped = keys.wrap(name, secret).await?;
        Ok(Self { key: name.to_owned(), wrapped: hex(&wrapped) })
    }

    pub(crate) async fn create(&self, objects: &Objects, path: &Path) -> Result<(), Error> {
        let bytes = serde_json::to_vec(self).expect("two strings have a JSON form");
        match objects.create(path, bytes.into()).await? {
            Created::Yes => Ok(()),
            Created::Exists => Err(Error::Damaged { path: path.to_string(), what: "a key is there already" }),
        }
    }

    pub(crate) async fn load(objects: &Objects, path: &Path) -> Result<Self, Error> {
        let damaged = |what| Error::Damaged { path: path.to_string(), what };
        let (bytes, _) = objects.get(path).await?.ok_or_else(|| damaged("the key is missing"))?;
        let key: Self = serde_json::from_slice(&bytes).map_err(|_| damaged("not a wrapped key"))?;
        if key.wrapped.is_empty() {
            return Err(damaged("the key was destroyed"));
        }
        Ok(key)
    }

    pub(crate) async fn unwrap(&self, keys: &dyn KeyProvider) -> Result<Secret, Error> {
        let bytes = unhex(&self.wrapped).ok_or(crate::key::KeyError::Validation)?;
        Ok(keys.unwrap(&self.key, &bytes).await?)
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
            let wrapped = WrappedKey::wrap(keys, keys.default_key(), &Secret(crypt::random())).await?;
            wrapped.create(objects, &path).await?;
        }
        let secret = WrappedKey::load(objects, &path).await?.unwrap(keys).await?;
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
