//! Key-encryption keys: who holds them, and what can be wrong with them.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use futures_util::future::BoxFuture;

/// Bytes of every key here.
pub const KEY_BYTES: usize = 32;
/// AES Key Wrap (RFC 3394) adds eight bytes.
const WRAPPED_BYTES: usize = KEY_BYTES + 8;
/// The version of a key that no version was given of.
const FIRST_VERSION: u32 = 1;
/// What later versions have wrapped begins with their number.
const VERSION_BYTES: usize = 4;

/// Why a key cannot be used. The numbers are those of Kinesis Video Streams (4500 to 4506).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The provider refuses access.
    #[error("access to the key is denied")]
    AccessDenied,
    /// The key is disabled.
    #[error("the key is disabled")]
    Disabled,
    /// The key is not the one that was used, or its name cannot be one.
    #[error("the key does not fit")]
    Validation,
    /// The provider does not answer.
    #[error("the key provider is not available")]
    Unavailable,
    /// The key is for something else.
    #[error("the key is for another use")]
    InvalidUsage,
    /// The key is in a state in which it cannot be used.
    #[error("the key is in a state in which it cannot be used")]
    InvalidState,
    /// No such key.
    #[error("no such key")]
    NotFound,
}

impl KeyError {
    /// The error id of acknowledgements and error documents.
    pub fn id(self) -> u16 {
        match self {
            Self::AccessDenied => 4500,
            Self::Disabled => 4501,
            Self::Validation => 4502,
            Self::Unavailable => 4503,
            Self::InvalidUsage => 4504,
            Self::InvalidState => 4505,
            Self::NotFound => 4506,
        }
    }
}

/// A data key that stays out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; KEY_BYTES]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How a key server does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyServer {
    /// Whether it did not answer the last time, so that it is left alone for a while.
    pub away: bool,
    /// Calls since the start, those included that were refused at once because it is away.
    pub calls: u64,
    /// Of these, those that did not give a key, whatever the reason.
    pub failures: u64,
}

impl KeyServer {
    /// Of two servers: what they do together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            away: self.away || other.away,
            calls: self.calls + other.calls,
            failures: self.failures + other.failures,
        }
    }
}

/// Wraps data keys with named keys that it alone holds. `of` says whose a data key is (the path of its object): a provider that can makes
/// it part of what is wrapped, so that this opens nowhere else.
pub trait KeyProvider: Send + Sync + 'static {
    /// The key of streams that name none.
    fn default_key(&self) -> &str;

    /// Encrypts a data key with the newest version of a key.
    fn wrap<'a>(
        &'a self,
        key: &'a str,
        of: &'a str,
        secret: &'a Secret,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>>;

    /// Decrypts a data key. [`KeyError::Validation`]: another key had wrapped it. [`KeyError::NotFound`]: that key, or that
    /// version of it, is not here.
    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        of: &'a str,
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, Result<Secret, KeyError>>;

    /// Whether the newest version of a key has wrapped this: whether older ones can go as far as this is concerned.
    fn is_newest(&self, key: &str, wrapped: &[u8]) -> bool;

    /// Whether a key may be somewhere else: using it takes time, may fail now and work later, and is not done for each of many.
    fn asks(&self, _key: &str) -> bool {
        false
    }

    /// How the server with the keys does, if there is one; of two, both together.
    fn server(&self) -> Option<KeyServer> {
        None
    }
}

/// Keys given at the start, from files or the environment: AES-256 key wrap (RFC 3394). A key may have several versions; the
/// highest one wraps, all unwrap.
pub struct LocalKeys {
    default: String,
    /// By name and version.
    keys: BTreeMap<String, BTreeMap<u32, Secret>>,
}

impl LocalKeys {
    /// What it makes has no more.
    pub(crate) const MAX_WRAPPED_BYTES: usize = VERSION_BYTES + WRAPPED_BYTES;

    /// With one key, which is the default.
    pub fn new(name: &str, key: Secret) -> Self {
        Self::by_default(name).with(name, key)
    }

    /// Without any yet; `name` will be the default.
    pub fn by_default(name: &str) -> Self {
        Self { default: name.to_owned(), keys: BTreeMap::new() }
    }

    /// With the first version of one more.
    #[must_use]
    pub fn with(self, name: &str, key: Secret) -> Self {
        self.with_version(name, FIRST_VERSION, key)
    }

    /// With a version, from 1 on, of a key.
    #[must_use]
    pub fn with_version(mut self, name: &str, version: u32, key: Secret) -> Self {
        self.keys.entry(name.to_owned()).or_default().insert(version, key);
        self
    }

    /// The newest version of a key, if it is here.
    pub(crate) fn newest(&self, name: &str) -> Option<u32> {
        self.keys.get(name)?.last_key_value().map(|(version, _)| *version)
    }

    fn versions(&self, name: &str) -> Result<&BTreeMap<u32, Secret>, KeyError> {
        self.keys.get(name).ok_or(KeyError::NotFound)
    }
}

fn kek(key: &Secret) -> Result<AesKek, KeyError> {
    AesKek::new(&AES_256, &key.0).map_err(|_| KeyError::InvalidUsage)
}

/// Which version has wrapped this, and what it made. `None`: nothing of ours.
fn version(wrapped: &[u8]) -> Option<(u32, &[u8])> {
    if wrapped.len() == WRAPPED_BYTES {
        return Some((FIRST_VERSION, wrapped));
    }
    let (version, rest) = wrapped.split_first_chunk::<VERSION_BYTES>()?;
    let version = u32::from_be_bytes(*version);
    (rest.len() == WRAPPED_BYTES && version > FIRST_VERSION).then_some((version, rest))
}

impl KeyProvider for LocalKeys {
    fn default_key(&self) -> &str {
        &self.default
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        _: &'a str,
        secret: &'a Secret,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        let wrapped = || {
            let (version, key) = self.versions(key)?.last_key_value().ok_or(KeyError::NotFound)?;
            let mut out = [0; WRAPPED_BYTES];
            let done = kek(key)?.wrap(&secret.0, &mut out).map_err(|_| KeyError::InvalidUsage)?;
            let head = version.to_be_bytes();
            Ok(if *version > FIRST_VERSION { [&head, &*done].concat() } else { done.to_vec() })
        };
        Box::pin(std::future::ready(wrapped()))
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        _: &'a str,
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, Result<Secret, KeyError>> {
        let unwrapped = || {
            // The algorithm checks its input against an integrity value: another key gives an error.
            let mut out = [0; WRAPPED_BYTES];
            let versions = self.versions(key)?;
            let (version, wrapped) = version(wrapped).ok_or(KeyError::Validation)?;
            let key = kek(versions.get(&version).ok_or(KeyError::NotFound)?)?;
            let secret = key.unwrap(wrapped, &mut out).map_err(|_| KeyError::Validation)?;
            Ok(Secret(<[u8; KEY_BYTES]>::try_from(&*secret).map_err(|_| KeyError::Validation)?))
        };
        Box::pin(std::future::ready(unwrapped()))
    }

    fn is_newest(&self, key: &str, wrapped: &[u8]) -> bool {
        let newest = self.keys.get(key).and_then(|versions| versions.last_key_value());
        version(wrapped).is_some_and(|(version, _)| newest.is_some_and(|(newest, _)| *newest == version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: &str = "v1/a/b/dek/0";

    #[tokio::test]
    async fn a_key_comes_back_from_its_own_kek_only() {
        let keys = LocalKeys::new("a", Secret([1; 32])).with("b", Secret([2; 32]));
        let secret = Secret([7; 32]);
        let wrapped = keys.wrap("a", OF, &secret).await.unwrap();
        assert_eq!(keys.unwrap("a", OF, &wrapped).await, Ok(secret));
        assert_eq!(keys.unwrap("b", OF, &wrapped).await, Err(KeyError::Validation));
        assert_eq!(keys.unwrap("c", OF, &wrapped).await, Err(KeyError::NotFound));
        for len in 0..64 {
            assert_eq!(keys.unwrap("a", OF, &vec![0; len]).await, Err(KeyError::Validation), "{len}");
        }
        assert_eq!(format!("{:?}", Secret([7; 32])), "Secret(..)");
    }

    #[tokio::test]
    async fn the_newest_version_wraps_and_all_unwrap() {
        let secret = Secret([7; 32]);
        let one = LocalKeys::new("a", Secret([1; 32]));
        let both = LocalKeys::new("a", Secret([1; 32])).with_version("a", 12, Secret([2; 32]));
        let two = LocalKeys::by_default("a").with_version("a", 12, Secret([2; 32]));
        let (old, new) =
            (one.wrap("a", OF, &secret).await.unwrap(), both.wrap("a", OF, &secret).await.unwrap());
        assert_eq!((both.is_newest("a", &old), both.is_newest("a", &new)), (false, true));
        assert_eq!(
            (both.unwrap("a", OF, &old).await, both.unwrap("a", OF, &new).await),
            (Ok(secret.clone()), Ok(secret.clone()))
        );
        assert_eq!(one.unwrap("a", OF, &new).await, Err(KeyError::NotFound));
        assert_eq!(two.unwrap("a", OF, &old).await, Err(KeyError::NotFound));
        assert_eq!(two.unwrap("a", OF, &new).await, Ok(secret));
        let mixed_up = LocalKeys::new("a", Secret([2; 32])).with_version("a", 12, Secret([1; 32]));
        assert_eq!(mixed_up.unwrap("a", OF, &old).await, Err(KeyError::Validation));
        assert_eq!(mixed_up.unwrap("a", OF, &new).await, Err(KeyError::Validation));
        // The first version says no number: two forms of one thing would be two things to compare.
        let first = [&1_u32.to_be_bytes(), &old[..]].concat();
        assert_eq!(
            (both.unwrap("a", OF, &first).await, both.is_newest("a", &first)),
            (Err(KeyError::Validation), false)
        );
    }
}
