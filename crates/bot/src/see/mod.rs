//! Seeing: packets of one tapped video track to pictures and access units in bots' mailboxes.
//!
//! One [`worker`] thread per track with a consumer, around a [`pipeline`] without clock or thread: assembled once,
//! decoded once if anybody wants pictures, converted once per wanted format and size.

pub(crate) mod pipeline;
pub(crate) mod worker;

use std::sync::Arc;

use antiphon_base::PixelFormat;
use antiphon_media::convert::Fit;

use crate::mailbox::Mailbox;

/// What a consumer wants of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Access units as they were sent.
    Encoded,
    /// Pictures.
    Raw {
        /// Layout.
        format: PixelFormat,
        /// Size.
        fit: Fit,
        /// At most so many per second.
        max_frame_rate: u8,
    },
}

/// A consumer of a track: one stream of one bot.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) stream: u32,
    pub(crate) output: Output,
}
