//! The API as a whole, without sockets: requests with bearer tokens into the router, over a store in memory.

#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed")]

mod absent;
mod clock;
mod control;
mod images;
mod keys;
mod playback;
mod put;
mod rig;
mod tokens;
