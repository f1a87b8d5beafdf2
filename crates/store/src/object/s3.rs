//! An S3-compatible object store.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::{ClientOptions, RetryConfig};

use super::Backend;
use crate::error::Error;

/// A fragment is reported as failed rather than retried for minutes: its session waits meanwhile.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_RETRIES: usize = 4;

/// Where it is and who we are there.
#[derive(Clone)]
pub struct S3 {
    /// The bucket's name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Base URL of a store that is not Amazon's; empty: Amazon's.
    pub endpoint: String,
    /// Access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// Whether plain HTTP will do, for a store in the same network.
    pub allow_http: bool,
    /// How long a request may take: longer than a fragment takes on that line. One that hangs holds its session as long.
    pub timeout: Duration,
}

impl Backend {
    /// An S3-compatible store with conditional writes (`If-Match`, `If-None-Match`): Amazon's, MinIO, Garage, Ceph.
    ///
    /// # Errors
    /// The configuration cannot be.
    pub fn s3(config: &S3) -> Result<Self, Error> {
        let retry =
            RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let client = ClientOptions::new().with_timeout(config.timeout);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_access_key_id(&config.access_key_id)
            .with_secret_access_key(&config.secret_access_key)
            .with_client_options(client)
            .with_allow_http(config.allow_http)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retry);
        if !config.endpoint.is_empty() {
            builder = builder.with_endpoint(&config.endpoint);
        }
        Ok(Self::custom(Arc::new(builder.build()?), true))
    }
}
