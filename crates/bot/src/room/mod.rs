//! The media of one room with bots: one hidden attachment (the tap), each track decoded once, frames to all bots.
//!
//! [`core`] decides who gets which stream and which tracks are tapped, without clock or thread; [`run`] is the thread.

pub(crate) mod core;
pub(crate) mod run;
mod wants;
