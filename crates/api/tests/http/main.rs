//! The API as clients meet it: a real server on a free port of the loopback, real shards, plain sockets.

#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed")]

mod bots;
mod client;
mod contacts;
mod joining;
mod pages;
mod player;
mod tokens;
mod whip;

use std::time::Duration;

use antiphon_api::app::Parts;
use antiphon_api::web::WebFile;
use antiphon_api::{App, Claims, Config, Key};
use antiphon_base::RoomName;
use antiphon_bot::Bots;
use antiphon_shard::Shards;
use tokio::net::TcpListener;
use tokio::sync::watch;

use client::Reply;

/// An offer as a small client sends it: one microphone, one audio slot, one video slot, the control channel.
pub(crate) const OFFER: &str = include_str!("offer.sdp");

static WEB: &[WebFile] = &[
    WebFile { path: "index.html", bytes: b"<!doctype html>hello" },
    WebFile { path: "assets/index-1a2b.js", bytes: b"1" },
];

/// A running server. It stops when this is dropped.
pub(crate) struct Server {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) app: App,
    pub(crate) key: Key,
    _stop: watch::Sender<bool>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default(), |_| {}).await
    }

    pub(crate) async fn with(config: Config, shard: impl FnOnce(&mut antiphon_shard::Config)) -> Self {
        let mut media = antiphon_shard::Config {
            media: "127.0.0.1:0".parse().unwrap(),
            shards: 1,
            // Builds run beside the tests: the machine being busy is not what is tested.
            max_busy: 1.0,
            ..antiphon_shard::Config::default()
        };
        shard(&mut media);
        let shards = Shards::start(media).unwrap();
        let bots = Bots::new(shards.clone(), antiphon_bot::Limits::default());
        let key = Key::new(&[7; 32]);
        let (kvs, recorder, webhooks) = (None, None, None);
        let app =
            App::new(config, Parts { shards, bots, key: key.clone(), web: WEB, kvs, recorder, webhooks });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(antiphon_api::serve(listener, None, app.clone(), stopped));
        Self { address, app, key, _stop: stop }
    }

    /// A token for `room`, changed by `change`.
    pub(crate) fn token(&self, room: &str, change: impl FnOnce(&mut Claims)) -> String {
        let mut claims = Claims::new(RoomName::new(room).unwrap(), Duration::from_secs(60));
        change(&mut claims);
        self.key.sign(&claims)
    }

    /// One request on a connection of its own. `head` are more header lines.
    pub(crate) async fn request(&self, method_and_path: &str, head: &[&str], body: &[u8]) -> Reply {
        client::request(self.address, method_and_path, head, body).await
    }

    /// Joins `room` with `token`.
    pub(crate) async fn join(&self, room: &str, token: &str) -> Reply {
        let authorization = format!("Authorization: Bearer {token}");
        let head = [authorization.as_str(), "Content-Type: application/sdp"];
        self.request(&format!("POST /v1/rooms/{room}/participants"), &head, OFFER.as_bytes()).await
    }
}
