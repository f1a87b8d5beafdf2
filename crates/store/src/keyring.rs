//! Master keys of several kinds by name and version: here, and on key servers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;

use crate::key::{KeyError, KeyProvider, KeyServer, LocalKeys, Secret};
use crate::key_server::kms::Kms;
use crate::key_server::vault::Vault;

/// What a key server has wrapped begins with its kind and the version's number. No local key makes anything as long.
const TAG_BYTES: usize = 4;
const KMS: &[u8; TAG_BYTES] = b"kms:";
const VAULT: &[u8; TAG_BYTES] = b"vlt:";

/// Which server has a key, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum There {
    /// An id, an alias or an ARN.
    Kms(String),
    /// The name of a key of the transit engine.
    Vault(String),
}

impl There {
    fn tag(&self) -> &'static [u8; TAG_BYTES] {
        match self {
            Self::Kms(_) => KMS,
            Self::Vault(_) => VAULT,
        }
    }
}

/// All master keys of a store. A name may have versions of all kinds: so a local key moves to a server, and back.
pub struct Keyring {
    local: LocalKeys,
    kms: Option<Kms>,
    vault: Option<Vault>,
    /// By name and version.
    there: BTreeMap<String, BTreeMap<u32, There>>,
    /// What came of the last use of each version of a key that is there: an operator is told of changes.
    last: Mutex<BTreeMap<(String, u32), KeyError>>,
}

impl Keyring {
    /// With local keys only.
    pub fn new(local: LocalKeys) -> Self {
        Self { local, kms: None, vault: None, there: BTreeMap::new(), last: Mutex::default() }
    }

    /// With other local keys.
    #[cfg(test)]
    pub(crate) fn with_local(self, local: LocalKeys) -> Self {
        Self { local, ..self }
    }

    /// With a key server, of which no key is used yet.
    #[must_use]
    pub fn with_kms(self, kms: Kms) -> Self {
        Self { kms: Some(kms), ..self }
    }

    /// With a Vault, of which no key is used yet.
    #[must_use]
    pub fn with_vault(self, vault: Vault) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// With a version, from 1 on, of a key that is on a server.
    #[must_use]
    pub fn with_key(mut self, name: &str, version: u32, there: There) -> Self {
        self.there.entry(name.to_owned()).or_default().insert(version, there);
        self
    }

    /// The newest version of a key, if that is on a server.
    fn newest_there(&self, name: &str) -> Option<(u32, &There)> {
        let (version, there) = self.there.get(name)?.last_key_value()?;
        (self.local.newest(name) < Some(*version)).then_some((*version, there))
    }

    fn kms(&self) -> Result<&Kms, KeyError> {
        self.kms.as_ref().ok_or(KeyError::NotFound)
    }

    fn vault(&self) -> Result<&Vault, KeyError> {
        self.vault.as_ref().ok_or(KeyError::NotFound)
    }

    /// Says when a key of a server cannot be used any more, or can again.
    fn note<T>(&self, key: &str, version: u32, result: Result<T, KeyError>) -> Result<T, KeyError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &result {
            Ok(_) => last.remove(&(key.to_owned(), version)),
            Err(error) => last.insert((key.to_owned(), version), *error),
        };
        match &result {
            Ok(_) if before.is_some() => tracing::info!(key, version, "the master key can be used again"),
            Err(error) if before != Some(*error) => {
                tracing::warn!(key, version, id = error.id(), %error, "the master key cannot be used");
            }
            _ => {}
        }
        drop(last);
        result
    }

    async fn wrap_there(
        &self,
        key: &str,
        (version, there): (u32, &There),
        of: &str,
        secret: &Secret,
    ) -> Result<Vec<u8>, KeyError> {
        let done = match there {
            There::Kms(id) => self.kms()?.encrypt(id, of, secret).await,
            There::Vault(name) => self.vault()?.encrypt(name, of, secret).await,
        };
        let blob = self.note(key, version, done)?;
        Ok([there.tag(), &version.to_be_bytes()[..], &blob].concat())
    }

    async fn unwrap_there(&self, key: &str, of: &str, wrapped: Wrapped<'_>) -> Result<Secret, KeyError> {
        let there = self.there.get(key).and_then(|versions| versions.get(&wrapped.version));
        // A version of another kind has not wrapped this, whatever its number.
        let there = there.filter(|there| there.tag() == wrapped.tag).ok_or(KeyError::NotFound)?;
        let done = match there {
            There::Kms(id) => self.kms()?.decrypt(id, of, wrapped.blob).await,
            There::Vault(name) => self.vault()?.decrypt(name, of, wrapped.blob).await,
        };
        self.note(key, wrapped.version, done)
    }
}

/// What a server made.
struct Wrapped<'a> {
    tag: &'a [u8; TAG_BYTES],
    version: u32,
    blob: &'a [u8],
}

impl<'a> Wrapped<'a> {
    /// `None`: no server made it.
    fn parse(wrapped: &'a [u8]) -> Option<Self> {
        let (tag, rest) = wrapped.split_first_chunk()?;
        let (version, blob) = rest.split_first_chunk()?;
        let of_a_server = [KMS, VAULT].contains(&tag);
        (of_a_server && wrapped.len() > LocalKeys::MAX_WRAPPED_BYTES).then_some(Self {
            tag,
            version: u32::from_be_bytes(*version),
            blob,
        })
    }
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
        match Wrapped::parse(wrapped) {
            Some(wrapped) => Box::pin(self.unwrap_there(key, of, wrapped)),
            None => self.local.unwrap(key, of, wrapped),
        }
    }

    fn is_newest(&self, key: &str, wrapped: &[u8]) -> bool {
        match self.newest_there(key) {
            Some((newest, there)) => {
                Wrapped::parse(wrapped).is_some_and(|w| (w.version, w.tag) == (newest, there.tag()))
            }
            None => self.local.is_newest(key, wrapped),
        }
    }

    fn asks(&self, key: &str) -> bool {
        self.there.contains_key(key)
    }

    fn server(&self) -> Option<KeyServer> {
        let all = [self.kms.as_ref().map(Kms::health), self.vault.as_ref().map(Vault::health)];
        all.into_iter().flatten().reduce(KeyServer::and)
    }
}
