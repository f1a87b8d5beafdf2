//! Raw and encoded frames. Payloads are shared (`Arc`): cloning a frame never copies media.

use std::sync::Arc;

use crate::clock::Clocks;
use crate::format::{Codec, PixelFormat};
use crate::id::{ParticipantKey, TrackKey};

/// One stretch of PCM, 20 ms unless said otherwise, mono, signed 16 bit in native byte order.
#[derive(Debug, Clone)]
pub struct AudioFrame {
    /// Whose voice; `None` in a mix.
    pub track: Option<TrackKey>,
    /// Samples per second.
    pub sample_rate: u32,
    /// Interleaved samples; `samples.len() / channels` per channel.
    pub samples: Arc<[i16]>,
    /// 1 or 2.
    pub channels: u8,
    /// When.
    pub clocks: Clocks,
    /// Nothing was sent (mute, DTX, not yet started): the samples are zero or comfort noise.
    pub silence: bool,
    /// Something was sent and lost: the samples are concealment.
    pub gap: bool,
    /// Who is heard in this frame, loudest first (a mix), or the one speaker with its level.
    pub speakers: Vec<SpeakerLevel>,
}

/// A participant heard in an audio frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeakerLevel {
    /// Who.
    pub participant: ParticipantKey,
    /// Level in -dBov as in RFC 6464: 0 is the loudest, 127 is silence.
    pub level: u8,
}

/// One raw picture.
#[derive(Debug, Clone)]
pub struct VideoFrame {
    /// Whose picture.
    pub track: TrackKey,
    /// Pixels across, as delivered.
    pub width: u32,
    /// Pixels down, as delivered.
    pub height: u32,
    /// Pixels across before scaling.
    pub source_width: u32,
    /// Pixels down before scaling.
    pub source_height: u32,
    /// Layout of `data`, which has [`PixelFormat::bytes`] bytes.
    pub format: PixelFormat,
    /// The picture.
    pub data: Arc<[u8]>,
    /// When.
    pub clocks: Clocks,
    /// Frames were lost before this one since the last delivered picture.
    pub gap: bool,
}

/// One encoded access unit: an Opus packet, an Annex B H.264 picture, a VP8/VP9 frame, an AV1 temporal unit.
#[derive(Debug, Clone)]
pub struct EncodedFrame {
    /// Whose.
    pub track: TrackKey,
    /// Codec of `data`.
    pub codec: Codec,
    /// RTP timestamp in the codec's clock, unwrapped to 64 bit.
    pub rtp_time: u64,
    /// A decoder can start here (always true for audio).
    pub key: bool,
    /// Bytes of the access unit.
    pub data: Arc<[u8]>,
    /// When.
    pub clocks: Clocks,
    /// Packets were lost between the previous delivered frame and this one.
    pub gap: bool,
}
