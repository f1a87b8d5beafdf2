//! `[vault]`: a Vault with master keys.

use std::path::PathBuf;
use std::time::Duration;

use antiphon_store::key_server::vault;
use serde::{Deserialize, Serialize};

/// A server that speaks the API of Vault's transit secrets engine; see `default.toml`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Vault {
    pub(crate) address: String,
    pub(crate) mount: String,
    pub(crate) namespace: String,
    pub(crate) token: String,
    pub(crate) token_file: PathBuf,
    pub(crate) ca_file: PathBuf,
    pub(crate) allow_http: bool,
    pub(crate) timeout_s: u64,
}

impl Default for Vault {
    fn default() -> Self {
        Self {
            address: String::new(),
            mount: "transit".into(),
            namespace: String::new(),
            token: String::new(),
            token_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            allow_http: false,
            timeout_s: 3,
        }
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of whatever prints a configuration.
        f.debug_struct("Vault").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Vault {
    /// As the store takes it.
    pub(crate) fn settings(&self) -> vault::Config {
        vault::Config {
            address: self.address.clone(),
            mount: self.mount.clone(),
            namespace: self.namespace.clone(),
            token: self.token.clone(),
            token_file: self.token_file.clone(),
            ca_file: self.ca_file.clone(),
            allow_http: self.allow_http,
            timeout: Duration::from_secs(self.timeout_s),
        }
    }
}
