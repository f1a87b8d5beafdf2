//! HTTP: join, bots, WHIP and WHEP, guest tokens, health, metrics, the web client's files.
//!
//! With `kvs`, the only crate with HTTP handlers. An [`App`] holds the running shards and bots, the signing key and the limits;
//! [`serve()`] accepts connections for it. `docs/reference/http.md` and `docs/reference/join.md` are the pages for users.
//! Absent by design: SDP (that is `shard`'s, called from blocking threads), media, files, environment.

mod admission;
pub mod app;
pub mod auth;
mod body;
mod bot;
pub mod config;
mod contacts;
mod error;
mod events;
pub mod fuzzing;
mod guest;
mod health;
mod ice;
mod ice_server;
mod id;
mod join;
mod layers;
mod live;
mod metrics;
mod offers;
mod options;
mod participant;
mod player;
mod proxy;
mod recordings;
mod rooms;
pub mod serve;
pub mod web;
pub mod webhooks;
mod whip;

pub use app::App;
pub use auth::{Claims, Grant, Key};
pub use config::Config;
pub use ice_server::{IceServer, SharedSecret};
pub use serve::{serve, serve_streams};
pub use webhooks::Webhooks;
