//! Raw frames in, raw frames out: codecs, conversion, resampling, mixing, the jitter buffer.
//!
//! Design, sections 6 and 7. There is no clock, thread, socket or file here: `now` is an argument, and whoever
//! owns the threads (crate `bot`) calls in. Unsafe code is in [`video`]'s libvpx module alone.

pub mod audio;
pub mod convert;
pub mod mix;
pub mod picture;
pub mod resample;
pub mod synth;
pub mod video;
