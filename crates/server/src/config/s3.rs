//! `[s3]`: a bucket for the stored streams.

use serde::{Deserialize, Serialize};

/// An S3-compatible object store instead of a folder.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct S3 {
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) endpoint: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) allow_http: bool,
    pub(crate) timeout_s: u64,
    /// 0: no spool.
    pub(crate) spool_bytes: u64,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            region: "us-east-1".into(),
            endpoint: String::new(),
            access_key_id: String::new(),
            secret_access_key: String::new(),
            allow_http: false,
            timeout_s: 60,
            spool_bytes: 1 << 30,
        }
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of whatever prints a configuration.
        f.debug_struct("S3").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}
