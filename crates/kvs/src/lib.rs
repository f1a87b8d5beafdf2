//! The Kinesis Video Streams API (`kinesisvideo`, version 2017-09-30, protocol rest-json) over the stored streams.
//!
//! [`Kvs::router`] is mounted by `api`, under a prefix or at the root of a port of its own. Requests are authenticated by AWS
//! Signature Version 4 as real clients make it ([`sigv4`]) or by a bearer token ([`tokens`]), and allowed by the policy of the
//! key or token ([`access`]). Absent by design: storage, decoding.

mod absent;
pub mod access;
mod control;
mod cross_origin;
mod error;
mod flow;
#[doc(hidden)]
pub mod fuzzing;
mod get;
mod images;
mod metrics;
mod model;
mod playback;
mod put;
pub mod sigv4;
mod tags;
mod time;
pub mod tokens;
mod valid;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_store::{Error, FragmentInfo, FragmentNumber, Store, StreamRef};
use axum::Router;
use axum::body::Body;
use axum::middleware;
use axum::routing::{any, post};
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};

pub use access::{Key, Policy};
/// What is told of each fragment that became durable.
pub use antiphon_store::{News, Persisted};
pub use images::{Imager, Shape, Wanted};
pub use metrics::Metric;
pub use sigv4::Credentials;
pub use time::to_iso_8601_ms;
pub use tokens::Tokens;

/// The operations that a policy can name: Amazon's that this server has, and its own two at the end.
pub const OPERATIONS: &[&str] = &[
    "CreateStream",
    "DescribeStream",
    "ListStreams",
    "DeleteStream",
    "UpdateStream",
    "UpdateDataRetention",
    "TagStream",
    "UntagStream",
    "ListTagsForStream",
    "TagResource",
    "UntagResource",
    "ListTagsForResource",
    "GetDataEndpoint",
    "DescribeStreamStorageConfiguration",
    "UpdateStreamStorageConfiguration",
    "PutMedia",
    "GetMedia",
    "ListFragments",
    "GetMediaForFragmentList",
    "GetClip",
    "GetHLSStreamingSessionURL",
    "GetDASHStreamingSessionURL",
    "GetImages",
    "CreateToken",
    "RotateKey",
    "RewrapKeys",
];

/// Producers' requests at a time, over all streams: what waits for their end when the server stops.
const MAX_PRODUCERS: usize = 10_000;

/// What time of day it is for what is stored, in milliseconds since 1970: the same for who stores, reads and removes.
#[derive(Clone)]
pub struct TimeOfDay(Arc<dyn Fn() -> u64 + Send + Sync>);

impl TimeOfDay {
    /// As this function says.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }
}

impl std::fmt::Debug for TimeOfDay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TimeOfDay({})", (self.0)())
    }
}

/// Settings of the API.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who may use it, beside the bearers of tokens.
    pub keys: Vec<Key>,
    /// Base URL that `GetDataEndpoint` answers with, without a slash at its end; empty: how the client reached us.
    pub endpoint: String,
    /// Whether clients reach us by TLS.
    pub tls: bool,
    /// How far a client's clock may be off.
    pub skew: Duration,
    /// A producer that sends nothing for this long is gone.
    pub producer_timeout: Duration,
    /// A reader that takes nothing for this long, although something is there, is gone: it has 64 kB to take.
    pub reader_timeout: Duration,
    /// How long one request of a producer may last; 0: as long as it likes.
    pub max_connection: Duration,
    /// Whether each fragment of a producer has to have a block of each track.
    pub every_track: bool,
    /// How often a producer that sends nothing is told that the connection lives.
    pub idle_interval: Duration,
    /// What goes for what is stored. Signatures and tokens go by the machine's clock.
    pub time: TimeOfDay,
    /// Makes images of stored pictures; without it GetImages is not here.
    pub images: Option<Arc<dyn Imager>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            endpoint: String::new(),
            tls: false,
            skew: Duration::from_secs(300),
            producer_timeout: Duration::from_secs(30),
            reader_timeout: Duration::from_secs(30),
            max_connection: Duration::ZERO,
            every_track: false,
            idle_interval: Duration::from_secs(10),
            time: TimeOfDay::new(now_ms),
            images: None,
        }
    }
}

/// The API of one store. Cloning it is a reference count.
#[derive(Clone)]
pub struct Kvs(Arc<Inner>);

struct Inner {
    store: Store,
    config: Config,
    tokens: Tokens,
    stop: watch::Sender<bool>,
    producers: Arc<Semaphore>,
    sessions: playback::SessionKey,
    segments: Arc<Semaphore>,
    clips: Arc<Semaphore>,
    images: Semaphore,
    images_made: AtomicU64,
    images_failed: AtomicU64,
    readers_stuck: AtomicU64,
}

impl Kvs {
    /// Over an open store.
    pub fn new(store: Store, tokens: Tokens, config: Config) -> Self {
        let producers = Arc::new(Semaphore::new(MAX_PRODUCERS));
        Self(Arc::new(Inner {
            store,
            config,
            sessions: tokens.playback(),
            tokens,
            stop: watch::Sender::new(false),
            producers,
            segments: Arc::new(Semaphore::new(playback::MAX_SEGMENTS_AT_ONCE)),
            clips: Arc::new(Semaphore::new(playback::MAX_CLIPS_AT_ONCE)),
            images: Semaphore::new(images::MAX_AT_ONCE),
            images_made: AtomicU64::new(0),
            images_failed: AtomicU64::new(0),
            readers_stuck: AtomicU64::new(0),
        }))
    }

    /// The routes, under a path such as `/kvs`, or at the root if that is empty. Requests carry their peer's [`SocketAddr`] as an
    /// extension.
    pub fn router(&self, prefix: &str) -> Router {
        // Not nested: handlers see the path as it was signed.
        let at = |operation: &str| format!("{prefix}/{operation}");
        let mut routes = Router::new()
            .route(&at("createStream"), post(control::create_stream))
            .route(&at("describeStream"), post(control::describe_stream))
            .route(&at("listStreams"), post(control::list_streams))
            .route(&at("deleteStream"), post(control::delete_stream))
            .route(&at("updateDataRetention"), post(control::update_data_retention))
            .route(&at("updateStream"), post(control::update_stream))
            .route(&at("tagStream"), post(tags::tag_stream))
            .route(&at("untagStream"), post(tags::untag_stream))
            .route(&at("listTagsForStream"), post(tags::list_tags_for_stream))
            .route(&at("TagResource"), post(tags::tag_resource))
            .route(&at("UntagResource"), post(tags::untag_resource))
            .route(&at("ListTagsForResource"), post(tags::list_tags_for_resource))
            .route(&at("getDataEndpoint"), post(control::get_data_endpoint))
            .route(&at("describeStreamStorageConfiguration"), post(absent::describe_stream_storage))
            .route(&at("updateStreamStorageConfiguration"), post(absent::update_stream_storage))
            .route(&at("putMedia"), post(put::put_media))
            .route(&at("getMedia"), post(get::get_media))
            .route(&at("listFragments"), post(get::list_fragments))
            .route(&at("getImages"), post(images::get_images))
            .route(&at("getMediaForFragmentList"), post(get::get_media_for_fragment_list))
            .route(&at("{*operation}"), any(control::unknown));
        for (operation, path, absent) in absent::ALL {
            let kvs = self.clone();
            let handler = move |request| absent.answer(kvs.clone(), operation, request);
            routes = routes.route(&at(path), post(handler));
        }
        // Ours, at one place whatever the prefix.
        let own = Router::new()
            .route("/v1/tokens", post(tokens::create))
            .route("/v1/streams/{name}/key:rotate", post(control::rotate_key))
            .route("/v1/keys:rewrap", post(control::rewrap_keys));
        let routes = routes.merge(own).merge(playback::routes(prefix));
        routes.layer(middleware::from_fn(cross_origin::allow)).with_state(self.clone())
    }

    /// Ends the producers' requests, so that what they sent is stored, and waits for that.
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        let all = u32::try_from(MAX_PRODUCERS).expect("small");
        let _ = self.0.producers.acquire_many(all).await;
    }

    /// Each fragment that becomes durable from now on; `None` if somebody reads that already.
    pub fn news(&self) -> Option<News> {
        self.store().news()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.0.config.time.0)()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    pub(crate) fn sessions(&self) -> &playback::SessionKey {
        &self.0.sessions
    }

    /// Has the keys of fragments in memory before a place is taken: nobody waits for a key server with what others need.
    pub(crate) async fn unlock(&self, stream: &StreamRef, fragments: &[FragmentInfo]) -> Result<(), Error> {
        let mut last = None;
        for fragment in fragments {
            // Fragments with one header are under one key.
            if last.replace(fragment.header) != Some(fragment.header) {
                self.unlock_one(stream, fragment.number).await?;
            }
        }
        Ok(())
    }

    /// The same for one fragment.
    pub(crate) async fn unlock_one(&self, stream: &StreamRef, number: FragmentNumber) -> Result<(), Error> {
        match self.store().header(stream, number).await {
            Err(error @ Error::Key(_)) => Err(error),
            // Whatever else is wrong shows where it is read.
            _ => Ok(()),
        }
    }

    /// A place to hold a fragment in.
    pub(crate) async fn segment_place(&self) -> OwnedSemaphorePermit {
        self.0.segments.clone().acquire_owned().await.expect("it is never closed")
    }

    /// A place to hold a clip in.
    pub(crate) async fn clip_place(&self) -> OwnedSemaphorePermit {
        self.0.clips.clone().acquire_owned().await.expect("it is never closed")
    }

    /// A place to decode in.
    pub(crate) async fn image_place(&self) -> SemaphorePermit<'_> {
        self.0.images.acquire().await.expect("it is never closed")
    }

    /// Counts an image, or one that could not be made.
    pub(crate) fn imaged(&self, made: bool) {
        let counter = if made { &self.0.images_made } else { &self.0.images_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Images that were made, and that could not be.
    pub(crate) fn images(&self) -> (u64, u64) {
        (self.0.images_made.load(Ordering::Relaxed), self.0.images_failed.load(Ordering::Relaxed))
    }

    /// An answer of what a stream's reader gives, here and in APIs beside this one: who takes nothing for as long as `patience` although
    /// something is there loses it, the reader's place is free, and it is counted. Needs a tokio runtime.
    pub fn body(&self, patience: Duration, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
        flow::body(self, patience, pieces)
    }

    /// For how long a reader of what is live may take nothing.
    pub fn reader_timeout(&self) -> Duration {
        self.0.config.reader_timeout
    }

    /// Answers that were given up because nobody read them.
    pub(crate) fn readers_stuck(&self) -> u64 {
        self.0.readers_stuck.load(Ordering::Relaxed)
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.0.stop.subscribe()
    }

    pub(crate) fn producers(&self) -> Arc<Semaphore> {
        self.0.producers.clone()
    }
}

/// Milliseconds since 1970, as the machine says.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether what is sent can be read by nobody on the way.
pub(crate) fn private(config: &Config, peer: Option<&SocketAddr>) -> bool {
    config.tls || peer.is_some_and(|peer| peer.ip().is_loopback())
}
