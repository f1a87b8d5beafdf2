//! `[kms]`: a key server with master keys.

use std::time::Duration;

use antiphon_store::key_server::kms;
use serde::{Deserialize, Serialize};

/// A server that speaks the API of AWS KMS; see `default.toml`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Kms {
    pub(crate) region: String,
    pub(crate) endpoint: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
    pub(crate) allow_http: bool,
    pub(crate) timeout_s: u64,
}

impl Default for Kms {
    fn default() -> Self {
        Self {
            region: "us-east-1".into(),
            endpoint: String::new(),
            access_key_id: String::new(),
            secret_access_key: String::new(),
            session_token: String::new(),
            allow_http: false,
            timeout_s: 3,
        }
    }
}

impl std::fmt::Debug for Kms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secrets stay out of whatever prints a configuration.
        f.debug_struct("Kms").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Kms {
    /// As the store takes it.
    pub(crate) fn settings(&self) -> kms::Config {
        kms::Config {
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
            session_token: self.session_token.clone(),
            allow_http: self.allow_http,
            timeout: Duration::from_secs(self.timeout_s),
        }
    }
}
