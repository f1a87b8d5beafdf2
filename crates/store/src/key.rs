//! Key-encryption keys: who holds them, and what can be wrong with them.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use futures_util::future::BoxFuture;

/// Bytes of every key here.
pub const KEY_BYTES: usize = 32;
/// AES Key Wrap (RFC 3394) adds eight bytes.
const WRAPPED_BYTES: usize = KEY_BYTES + 8;

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

/// Wraps data keys with named keys that it alone holds.
pub trait KeyProvider: Send + Sync + 'static {
    /// The key of streams that name none.
    fn default_key(&self) -> &str;

    /// Encrypts a data key.
    fn wrap<'a>(&'a self, key: &'a str, secret: &'a Secret) -> BoxFuture<'a, Result<Vec<u8>, KeyError>>;

    /// Decrypts a data key. [`KeyError::Validation`]: another key had wrapped it.
    fn unwrap<'a>(&'a self, key: &'a str, wrapped: &'a [u8]) -> BoxFuture<'a, Result<Secret, KeyError>>;
}

/// Keys given at the start, from files or the environment: AES-256 key wrap (RFC 3394).
///
/// The first one is the default.
pub struct LocalKeys {
    default: String,
    keys: BTreeMap<String, Secret>,
}

impl LocalKeys {
    /// With one key.
    pub fn new(name: &str, key: Secret) -> Self {
        Self { default: name.to_owned(), keys: BTreeMap::from([(name.to_owned(), key)]) }
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, name: &str, key: Secret) -> Self {
        self.keys.insert(name.to_owned(), key);
        self
    }

    fn kek(&self, name: &str) -> Result<AesKek, KeyError> {
        let key = self.keys.get(name).ok_or(KeyError::NotFound)?;
        AesKek::new(&AES_256, &key.0).map_err(|_| KeyError::InvalidUsage)
    }
}

impl KeyProvider for LocalKeys {
    fn default_key(&self) -> &str {
        &self.default
    }

    fn wrap<'a>(&'a self, key: &'a str, secret: &'a Secret) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        let wrapped = || {
            let mut out = [0; WRAPPED_BYTES];
            let done = self.kek(key)?.wrap(&secret.0, &mut out).map_err(|_| KeyError::InvalidUsage)?;
            Ok(done.to_vec())
        };
        Box::pin(std::future::ready(wrapped()))
    }

    fn unwrap<'a>(&'a self, key: &'a str, wrapped: &'a [u8]) -> BoxFuture<'a, Result<Secret, KeyError>> {
        let unwrapped = || {
            // The algorithm checks its input against an integrity value: another key gives an error.
            let mut out = [0; WRAPPED_BYTES];
            let key = self.kek(key)?.unwrap(wrapped, &mut out).map_err(|_| KeyError::Validation)?;
            Ok(Secret(<[u8; KEY_BYTES]>::try_from(&*key).map_err(|_| KeyError::Validation)?))
        };
        Box::pin(std::future::ready(unwrapped()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_comes_back_from_its_own_kek_only() {
        let keys = LocalKeys::new("a", Secret([1; 32])).with("b", Secret([2; 32]));
        let secret = Secret([7; 32]);
        let wrapped = keys.wrap("a", &secret).await.unwrap();
        assert_eq!(keys.unwrap("a", &wrapped).await, Ok(secret));
        assert_eq!(keys.unwrap("b", &wrapped).await, Err(KeyError::Validation));
        assert_eq!(keys.unwrap("c", &wrapped).await, Err(KeyError::NotFound));
        for len in 0..64 {
            assert_eq!(keys.unwrap("a", &vec![0; len]).await, Err(KeyError::Validation), "{len}");
        }
        assert_eq!(format!("{:?}", Secret([7; 32])), "Secret(..)");
    }
}
