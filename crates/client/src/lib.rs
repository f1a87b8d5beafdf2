//! Antiphon for Rust programs: join a room as a bot, hear and see each participant, speak and show.
//!
//! ```no_run
//! use antiphon_client::{Event, Options, connect};
//! # async fn run() -> Result<(), antiphon_client::Error> {
//! let options = Options::new("http://localhost:7700", "demo").name("Echo").hear_and_speak().see();
//! let mut room = connect(options).await?;
//! while let Some(event) = room.recv().await? {
//!     match event {
//!         Event::Audio(frame) => room.microphone().push(&frame.samples, frame.sample_rate).await?,
//!         Event::Video(frame) => println!("{} x {}", frame.width, frame.height),
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! The names are those of the Python package. Two tasks pump the connection, so a room's methods may be awaited
//! inside the `recv` loop. A program that is too slow loses its own frames: each frame says how many went before it.
//! There is no automatic reconnect; an [`Error`] says what happened. Protocol: `docs/reference/frame-protocol.md`.

mod dial;
mod error;
mod frames;
mod inbox;
mod options;
mod output;
mod pace;
mod pump;
mod room;
mod roster;
mod shared;

pub use antiphon_base::{
    AudioCodec, Clocks, Codec, ErrorKind, ParticipantId, ParticipantKey, PixelFormat, RoomName, Source,
    VideoCodec,
};
pub use antiphon_wire::bot::{
    AudioForm, AudioSession, BotEvent, Direction, MediaSession, Mix, Participants, QueueState, SessionUpdate,
    StreamForm, StreamStats, VideoForm, VideoSession,
};
pub use antiphon_wire::control::{LeaveReason, ParticipantInfo, ParticipantKind, Presence, TrackInfo};

pub use antiphon_wire::topic::{Message, Publication};
pub use error::Error;
pub use frames::{AudioFrame, Data, EncodedFrame, Event, Meta, Speaker, VideoFrame};
pub use options::{Options, TOKEN_VARIABLE};
pub use output::{AudioOutput, Flushed, MarkPlayed, VideoOutput};
pub use room::{Room, connect};
