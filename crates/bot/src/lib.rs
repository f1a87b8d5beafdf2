//! Bots: media sessions of programs in a room. Design, sections 2 and 6; `docs/design/bot.md`.
//!
//! [`Bots::serve`] runs one connection: a bot's messages come in by a [`Transport`], and what it asked for goes out:
//! sound and pictures of the others, mixed and unmixed, raw and encoded, with events about the room. `api` carries
//! the messages over a WebSocket; [`demo`] is a bot in this process.
//!
//! - A room with bots has one hidden attachment and one thread (`room`); each track is decoded once, sound on that
//!   thread (`hear`), pictures on a thread per track (`see`).
//! - Each bot has a mailbox (`outbox`): events, then sound, then pictures; bounded, counted. A slow bot loses its own
//!   frames, and nobody else's.
//! - What a bot speaks is paced by its session (`inject`), what it shows is encoded on a thread of its own.

mod bots;
pub mod demo;
#[doc(hidden)]
pub mod fuzzing;
mod hear;
mod inject;
mod limits;
mod mailbox;
mod outbox;
mod room;
mod see;
mod serve;
mod session;
pub mod transport;

pub use bots::{BotMetrics, Bots, Identity};
pub use limits::Limits;
pub use transport::{Carrier, Inbound, Outbound, Transport, connection};
