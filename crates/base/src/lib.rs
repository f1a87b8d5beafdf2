//! The vocabulary of Antiphon: ids, media formats, frames with their clocks, error kinds.
//!
//! Nothing here does I/O, reads a clock, or is async. Every other crate may use it; it uses none of ours.

pub mod clock;
pub mod error;
pub mod format;
pub mod frame;
pub mod id;

pub use clock::{ClockFlags, Clocks};
pub use error::ErrorKind;
pub use format::{AudioCodec, Codec, MediaKind, PixelFormat, Source, VideoCodec};
pub use frame::{AudioFrame, EncodedFrame, SpeakerLevel, VideoFrame};
pub use id::{ParticipantId, ParticipantKey, RoomName, TrackKey};
