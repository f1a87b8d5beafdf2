//! The binary as an operator meets it.

#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed")]

mod bot;
mod logs;
mod server;
mod start;
mod stop;
mod tls;
