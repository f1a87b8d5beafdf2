//! Master keys of several kinds by name and version: here, and on a key server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use crate::key::{KeyError, KeyProvider, KeyServer, LocalKeys, Secret};
use crate::kms::Kms;

/// What a key server has wrapped begins with this and the version's number. No local key makes anything as long.
const TAG: &[u8; 4] = b"kms:";

/// All master keys of a store. A name may have versions of both kinds: so a local key moves to a server, and back.
pub struct Keyring {
    local: LocalKeys,
    kms: Option<Arc<Kms>>,
    /// By name and version: what the server calls it.
    there: BTreeMap<String, BTreeMap<u32, String>>,
    /// What came of the last use of each key that is there: an operator is told of changes.
    last: Mutex<BTreeMap<String, KeyError>>,
}

impl Keyring {
    /// With local keys only.
    pub fn new(local: LocalKeys) -> Self {
        Self { local, kms: None, there: BTreeMap::new(), last: Mutex::default() }
    }

    /// With other local keys.
    #[cfg(test)]
    pub(crate) fn with_local(self, local: LocalKeys) -> Self {
        Self { local, ..self }
    }

    /// With a key server, of which no key is used yet.
    #[must_use]
    pub fn with_kms(self, kms: Kms) -> Self {
        Self { kms: Some(Arc::new(kms)), ..self }
    }

    /// With a version, from 1 on, of a key that is on the server.
    #[must_use]
    pub fn with_kms_key(mut self, name: &str, version: u32, id: &str) -> Self {
        self.there.entry(name.to_owned()).or_default().insert(version, id.to_owned());
        self
    }

    /// The newest version of a key, if that is on the server.
    fn newest_there(&self, name: &str) -> Option<(u32, &str)> {
        let (version, id) = self.there.get(name)?.last_key_value()?;
        (self.local.newest(name) < Some(*version)).then_some((*version, id.as_str()))
    }

    fn kms(&self) -> Result<&Kms, KeyError> {
        self.kms.as_deref().ok_or(KeyError::NotFound)
    }

    /// Says when a key of the server cannot be used any more, or can again.
    fn note<T>(&self, key: &str, result: Result<T, KeyError>) -> Result<T, KeyError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &result {
            Ok(_) => last.remove(key),
            Err(error) => last.insert(key.to_owned(), *error),
        };
        match &result {
            Ok(_) if before.is_some() => tracing::info!(key, "the master key can be used again"),
            Err(error) if before != Some(*error) => {
                tracing::warn!(key, id = error.id(), %error, "the master key cannot be used");
            }
            _ => {}
        }
        drop(last);
        result
    }

    async fn wrap_there(
        &self,
        key: &str,
        (version, id): (u32, &str),
        of: &str,
        secret: &Secret,
    ) -> Result<Vec<u8>, KeyError> {
        let blob = self.note(key, self.kms()?.encrypt(id, of, secret).await)?;
        Ok([TAG, &version.to_be_bytes()[..], &blob].concat())
    }

    async fn unwrap_there(
        &self,
        key: &str,
        of: &str,
        (version, blob): (u32, &[u8]),
    ) -> Result<Secret, KeyError> {
        let id = self.there.get(key).and_then(|versions| versions.get(&version)).ok_or(KeyError::NotFound)?;
        self.note(key, self.kms()?.decrypt(id, of, blob).await)
    }
}

/// The version, and what the server made, if one did.
fn parse(wrapped: &[u8]) -> Option<(u32, &[u8])> {
    let (version, blob) = wrapped.strip_prefix(TAG)?.split_first_chunk()?;
    (wrapped.len() > LocalKeys::MAX_WRAPPED_BYTES).then_some((u32::from_be_bytes(*version), blob))
}

impl KeyProvider for Keyring {
    fn default_key(&self) -> &str {
        self.local.default_key()
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        of: &'a str,
        secret: &'a Secret,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        match self.newest_there(key) {
            Some(newest) => Box::pin(self.wrap_there(key, newest, of, secret)),
            None => self.local.wrap(key, of, secret),
        }
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        of: &'a str,
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, Result<Secret, KeyError>> {
        match parse(wrapped) {
            Some(there) => Box::pin(self.unwrap_there(key, of, there)),
            None => self.local.unwrap(key, of, wrapped),
        }
    }

    fn is_newest(&self, key: &str, wrapped: &[u8]) -> bool {
        match self.newest_there(key) {
            Some((newest, _)) => parse(wrapped).is_some_and(|(version, _)| version == newest),
            None => self.local.is_newest(key, wrapped),
        }
    }

    fn asks(&self, key: &str) -> bool {
        self.there.contains_key(key)
    }

    fn server(&self) -> Option<KeyServer> {
        self.kms.as_ref().map(|kms| kms.health())
    }
}
