//! What every handler can reach, and the table of routes.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use antiphon_base::{ErrorKind, RoomName};
use antiphon_bot::Bots;
use antiphon_kvs::Kvs;
use antiphon_record::Recorder;
use antiphon_shard::Shards;
use axum::Router;
use axum::body::Body;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::{Buckets, network};
use crate::auth::Key;
use crate::config::Config;
use crate::error::ApiError;
use crate::events::EventStreams;
use crate::metrics::{Metrics, Refused};
use crate::offers::Offers;
use crate::web::WebFiles;
use crate::webhooks::Webhooks;
use crate::{
    bot, contacts, guest, health, ice, join, layers, options, participant, player, recordings, rooms, web,
    whip,
};

/// Where the Kinesis Video Streams API is on the main port.
const KVS_PREFIX: &str = "/kvs";
/// How long who reads a file of something stored may take nothing: a browser's player, whose memory is full, or that is paused.
const FILE_PATIENCE: Duration = Duration::from_secs(600);

/// The HTTP side of a node. Cloning it is a reference count.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    config: Config,
    key: Key,
    shards: Shards,
    bots: Bots,
    web: WebFiles,
    kvs: Option<Kvs>,
    recorder: Option<Recorder>,
    metrics: Metrics,
    draining: AtomicBool,
    joins: Buckets<IpAddr>,
    room_joins: Buckets<RoomName>,
    guest_tokens: Buckets<IpAddr>,
    joins_in_progress: Arc<Semaphore>,
    negotiating: Arc<Semaphore>,
    offers: Offers,
    event_streams: EventStreams,
    bot_sockets: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// The running parts that HTTP gives access to.
pub struct Parts {
    /// The packet threads.
    pub shards: Shards,
    /// The media sessions.
    pub bots: Bots,
    /// Signs and verifies tokens.
    pub key: Key,
    /// The web client.
    pub web: WebFiles,
    /// The Kinesis Video Streams API, where streams are stored.
    pub kvs: Option<Kvs>,
    /// Streams contacts, where streams are stored.
    pub recorder: Option<Recorder>,
    /// Tells others, where the configuration names some.
    pub webhooks: Option<Webhooks>,
}

impl App {
    /// Puts the parts together.
    pub fn new(config: Config, parts: Parts) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Inner {
            joins: Buckets::new(config.joins),
            room_joins: Buckets::new(config.room_joins),
            guest_tokens: Buckets::new(config.guest_tokens),
            joins_in_progress: Arc::new(Semaphore::new(config.max_joins_in_progress)),
            // One negotiation takes a core for about 9 ms: more at a time only make each other late.
            negotiating: Arc::new(Semaphore::new(cores)),
            offers: Offers::default(),
            event_streams: EventStreams::default(),
            bot_sockets: Arc::new(Semaphore::new(config.max_bot_sockets)),
            connections: Arc::new(Semaphore::new(config.max_connections)),
            metrics: Metrics::new(&parts),
            draining: AtomicBool::new(false),
            config,
            key: parts.key,
            shards: parts.shards,
            bots: parts.bots,
            web: parts.web,
            kvs: parts.kvs,
            recorder: parts.recorder,
        }))
    }

    /// An answer of what a stream's reader gives, which goes on for as long as it is `live`. Who does not take it loses it, and the reader's place.
    pub(crate) fn reading(&self, live: bool, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
        match &self.0.kvs {
            Some(kvs) => kvs.body(if live { self.reader_timeout() } else { FILE_PATIENCE }, pieces),
            None => Body::from_stream(pieces.map(Ok::<_, Infallible>)),
        }
    }

    /// How long who reads what is live may take nothing of it.
    pub(crate) fn reader_timeout(&self) -> Duration {
        self.0.kvs.as_ref().map_or(FILE_PATIENCE, |kvs| kvs.reader_timeout())
    }

    /// From now on `/readyz` says no and joins are refused; what is there goes on.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn key(&self) -> &Key {
        &self.0.key
    }

    pub(crate) fn shards(&self) -> &Shards {
        &self.0.shards
    }

    pub(crate) fn bots(&self) -> &Bots {
        &self.0.bots
    }

    /// Where streams are stored.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.0.recorder.as_ref()
    }

    pub(crate) fn web(&self) -> &WebFiles {
        &self.0.web
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn offers(&self) -> &Offers {
        &self.0.offers
    }

    pub(crate) fn event_streams(&self) -> &EventStreams {
        &self.0.event_streams
    }

    pub(crate) fn negotiating(&self) -> Arc<Semaphore> {
        self.0.negotiating.clone()
    }

    pub(crate) fn connections(&self) -> Arc<Semaphore> {
        self.0.connections.clone()
    }

    /// A place among the joins in progress, or the error that says why not.
    pub(crate) fn admit_join(
        &self,
        address: IpAddr,
        room: &RoomName,
    ) -> Result<OwnedSemaphorePermit, ApiError> {
        self.refuse_often(address, room)?;
        self.0.joins_in_progress.clone().try_acquire_owned().map_err(|_| {
            self.metrics().refused(Refused::JoinsInProgress);
            ApiError::new(
                ErrorKind::Overloaded,
                "Too many are joining at this moment. Try again in a second.",
            )
        })
    }

    /// Until no bot has a WebSocket. For who has said [`App::drain`]: nobody new comes meanwhile.
    pub async fn bots_closed(&self) {
        let all = u32::try_from(self.0.config.max_bot_sockets).unwrap_or(u32::MAX);
        let _ = self.0.bot_sockets.acquire_many(all).await;
    }

    /// A place among the bots' sockets.
    pub(crate) fn admit_bot(
        &self,
        address: IpAddr,
        room: &RoomName,
    ) -> Result<OwnedSemaphorePermit, ApiError> {
        self.refuse_often(address, room)?;
        self.0.bot_sockets.clone().try_acquire_owned().map_err(|_| {
            self.metrics().refused(Refused::BotSockets);
            ApiError::new(
                ErrorKind::Overloaded,
                "This server has as many bots as `bots.sockets` allows. Try again later.",
            )
        })
    }

    pub(crate) fn admit_guest(&self, address: IpAddr) -> Result<(), ApiError> {
        if self.0.guest_tokens.take(network(address), Instant::now()) {
            return Ok(());
        }
        self.metrics().refused(Refused::GuestRate);
        Err(too_often("guest tokens from this address"))
    }

    /// The address first: who is over its own limit takes nothing from the room's.
    fn refuse_often(&self, address: IpAddr, room: &RoomName) -> Result<(), ApiError> {
        self.refuse_if_draining()?;
        let now = Instant::now();
        if !self.0.joins.take(network(address), now) {
            self.metrics().refused(Refused::JoinRate);
            return Err(too_often("joins from this address"));
        }
        if !self.0.room_joins.take(room.clone(), now) {
            self.metrics().refused(Refused::RoomJoinRate);
            return Err(too_often("joins of this room"));
        }
        Ok(())
    }

    fn refuse_if_draining(&self) -> Result<(), ApiError> {
        if self.draining() {
            return Err(ApiError::new(ErrorKind::Draining, "This server is stopping. Join again elsewhere."));
        }
        Ok(())
    }

    /// The routes, with everything around them.
    pub(crate) fn router(&self) -> Router {
        let participant = "/v1/rooms/{room}/participants/{id}";
        let api = Router::new()
            .route("/v1/rooms", get(rooms::list))
            .route("/v1/rooms/{room}", get(rooms::show))
            .route("/v1/rooms/{room}/guest-token", post(guest::token))
            .route("/v1/rooms/{room}/participants", post(join::join).options(options::endpoint))
            .route(
                participant,
                get(participant::show)
                    .patch(ice::patch)
                    .delete(participant::remove)
                    .options(options::session),
            )
            .route(&format!("{participant}/stats"), get(participant::stats))
            .route(&format!("{participant}/dump"), get(participant::dump))
            .route("/v1/rooms/{room}/bot", get(bot::open))
            .merge(whip::routes())
            .merge(player::routes())
            .merge(contacts::routes())
            .merge(recordings::routes())
            .method_not_allowed_fallback(wrong_method)
            .layer(middleware::from_fn(layers::cross_origin));
        let pages = Router::new()
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .route("/metrics", get(health::metrics))
            .route("/", get(web::index))
            .route("/r/{room}", get(web::index))
            .method_not_allowed_fallback(wrong_method);
        let ours = api
            .merge(pages)
            .fallback_service(web::file.with_state(self.clone()))
            .layer(middleware::from_fn_with_state(self.clone(), layers::limit_time))
            .with_state(self.clone());
        // A producer's request lasts as long as its call: no limit of time around those.
        let all = match &self.0.kvs {
            Some(kvs) => ours.merge(kvs.router(KVS_PREFIX)),
            None => ours,
        };
        all.layer(middleware::from_fn_with_state(self.clone(), layers::count))
    }

    /// The routes of a port that has the Kinesis Video Streams API alone, at its root.
    pub(crate) fn streams_router(&self) -> Router {
        let routes = self.0.kvs.as_ref().map(|kvs| kvs.router("")).unwrap_or_default();
        routes.layer(middleware::from_fn_with_state(self.clone(), layers::count))
    }
}

fn too_often(what: &str) -> ApiError {
    ApiError::new(ErrorKind::RateLimited, format!("Too many {what}. Try again in a second."))
}

async fn wrong_method() -> ApiError {
    ApiError::http(
        StatusCode::METHOD_NOT_ALLOWED,
        "This resource does not take that method; the header `Allow` lists those it takes.",
    )
}
