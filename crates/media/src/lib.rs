//! Raw frames in, raw frames out: jitter buffer, codecs, conversion, resampling, mixing.
//!
//! Design, sections 6 and 7; why it is so: `docs/design/media.md`. There is no clock, thread, socket or file here:
//! `now` is an argument, and whoever owns the threads (crate `bot`) calls in. The exception is [`video::process`], which
//! waits for a process that decodes. Unsafe code is there and in [`video`]'s libvpx module.
//!
//! ```
//! use antiphon_base::{AudioCodec, PixelFormat, VideoCodec};
//! use antiphon_media::{convert, picture::Picture, playout::Playout, video};
//!
//! // Audio: packets in as they arrive, one 20 ms frame per tick out.
//! let mut voice = Playout::new(AudioCodec::Opus, 16_000)?;
//! let frame = voice.tick(1_700_000_000_000_000);
//! assert!(frame.silence && frame.samples.len() == 320);
//!
//! // Video: a picture is encoded, decoded, and handed out as RGB at 360 rows.
//! let mut encoder = video::Encoder::new(VideoCodec::Vp8, video::EncoderConfig::for_size(320, 180, 30))?;
//! let unit = encoder.encode(&Picture::black(320, 180)?.view(), 0, true)?.expect("the first is never dropped");
//! let mut decoder = video::Decoder::new(VideoCodec::Vp8)?;
//! let picture = decoder.decode(&unit.data)?.expect("a shown frame");
//! let rgb = convert::Converter::new().convert(&picture, PixelFormat::Rgb24, convert::Fit::Height(360))?;
//! assert_eq!(rgb.data.len(), 640 * 360 * 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod audio;
pub mod convert;
pub mod image;
pub mod jitter;
pub mod mix;
pub mod picture;
pub mod playout;
pub mod resample;
pub mod synth;
pub mod video;
pub mod voice;
pub mod worker;
