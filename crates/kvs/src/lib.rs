//! The Kinesis Video Streams API (`kinesisvideo`, version 2017-09-30, protocol rest-json) over the stored streams.
//!
//! [`Kvs::router`] is mounted by `api` under a prefix. Requests are authenticated by AWS Signature Version 4 as real clients
//! make it ([`sigv4`]). Absent by design: policies per key, storage, media formats.

mod control;
mod error;
mod get;
mod metrics;
mod model;
mod put;
pub mod sigv4;
mod time;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_store::Store;
use axum::Router;
use axum::routing::{any, post};
use tokio::sync::{Semaphore, watch};

pub use metrics::Metric;
pub use sigv4::Credentials;

/// Producers' requests at a time, over all streams: what waits for their end when the server stops.
const MAX_PRODUCERS: usize = 10_000;

/// Settings of the API.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who may use it.
    pub credentials: Vec<Credentials>,
    /// Base URL that `GetDataEndpoint` answers with, without a slash at its end; empty: how the client reached us.
    pub endpoint: String,
    /// Path under which the API is mounted, such as `/kvs`; empty: at the root.
    pub prefix: String,
    /// Whether clients reach us by TLS.
    pub tls: bool,
    /// How far a client's clock may be off.
    pub skew: Duration,
    /// A producer that sends nothing for this long is gone.
    pub producer_timeout: Duration,
    /// How often a producer that sends nothing is told that the connection lives.
    pub idle_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            credentials: Vec::new(),
            endpoint: String::new(),
            prefix: "/kvs".into(),
            tls: false,
            skew: Duration::from_secs(300),
            producer_timeout: Duration::from_secs(30),
            idle_interval: Duration::from_secs(10),
        }
    }
}

/// The API of one store. Cloning it is a reference count.
#[derive(Clone)]
pub struct Kvs(Arc<Inner>);

struct Inner {
    store: Store,
    config: Config,
    stop: watch::Sender<bool>,
    producers: Arc<Semaphore>,
}

impl Kvs {
    /// Over an open store.
    pub fn new(store: Store, config: Config) -> Self {
        let producers = Arc::new(Semaphore::new(MAX_PRODUCERS));
        Self(Arc::new(Inner { store, config, stop: watch::Sender::new(false), producers }))
    }

    /// The routes, prefix included. Requests carry their peer's [`SocketAddr`] as an extension.
    pub fn router(&self) -> Router {
        // Not nested: handlers see the path as it was signed.
        let at = |operation: &str| format!("{}/{operation}", self.0.config.prefix);
        Router::new()
            .route(&at("createStream"), post(control::create_stream))
            .route(&at("describeStream"), post(control::describe_stream))
            .route(&at("listStreams"), post(control::list_streams))
            .route(&at("deleteStream"), post(control::delete_stream))
            .route(&at("updateDataRetention"), post(control::update_data_retention))
            .route(&at("updateStream"), post(control::update_stream))
            .route(&at("tagStream"), post(control::tag_stream))
            .route(&at("untagStream"), post(control::untag_stream))
            .route(&at("listTagsForStream"), post(control::list_tags_for_stream))
            .route(&at("getDataEndpoint"), post(control::get_data_endpoint))
            .route(&at("putMedia"), post(put::put_media))
            .route(&at("getMedia"), post(get::get_media))
            .route(&at("listFragments"), post(get::list_fragments))
            .route(&at("getMediaForFragmentList"), post(get::get_media_for_fragment_list))
            .route(&at("{*operation}"), any(control::unknown))
            .with_state(self.clone())
    }

    /// Ends the producers' requests, so that what they sent is stored, and waits for that.
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        let all = u32::try_from(MAX_PRODUCERS).expect("small");
        let _ = self.0.producers.acquire_many(all).await;
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.0.stop.subscribe()
    }

    pub(crate) fn producers(&self) -> Arc<Semaphore> {
        self.0.producers.clone()
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether what is sent can be read by nobody on the way.
pub(crate) fn private(config: &Config, peer: Option<&SocketAddr>) -> bool {
    config.tls || peer.is_some_and(|peer| peer.ip().is_loopback())
}
