//! Media kinds, sources, codecs, raw formats.

use serde::{Deserialize, Serialize};

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// What a track comes from. A participant publishes at most one track of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The voice.
    Microphone,
    /// The face.
    Camera,
    /// A shared screen.
    Screen,
    /// The sound of a shared screen.
    ScreenAudio,
}

impl Source {
    /// All sources, in the order of their wire numbers (`frame-protocol.md`).
    pub const ALL: [Self; 4] = [Self::Microphone, Self::Camera, Self::Screen, Self::ScreenAudio];

    /// Audio or video.
    pub fn kind(self) -> MediaKind {
        match self {
            Self::Microphone | Self::ScreenAudio => MediaKind::Audio,
            Self::Camera | Self::Screen => MediaKind::Video,
        }
    }

    /// The word used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Microphone => "microphone",
            Self::Camera => "camera",
            Self::Screen => "screen",
            Self::ScreenAudio => "screen_audio",
        }
    }

    /// Position in [`Source::ALL`], which is its wire number.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Audio codecs that pass through a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioCodec {
    /// RFC 6716; RTP clock 48 kHz.
    Opus,
    /// G.711 mu-law, 8 kHz.
    Pcmu,
    /// G.711 A-law, 8 kHz.
    Pcma,
    /// G.722, sampled at 16 kHz, RTP clock 8 kHz (RFC 3551, 4.5.2).
    G722,
}

/// Video codecs that pass through a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoCodec {
    /// RFC 7741.
    Vp8,
    /// RFC 6184.
    H264,
    /// RFC 9628.
    Vp9,
    /// AV1 RTP specification 1.0.
    Av1,
}

/// Any codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Codec {
    /// An audio codec.
    Audio(AudioCodec),
    /// A video codec.
    Video(VideoCodec),
}

impl AudioCodec {
    /// RTP clock in Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
        }
    }

    /// The word used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Pcmu => "pcmu",
            Self::Pcma => "pcma",
            Self::G722 => "g722",
        }
    }
}

impl VideoCodec {
    /// The word used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vp8 => "vp8",
            Self::H264 => "h264",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
        }
    }
}

impl Codec {
    /// Audio or video.
    pub fn kind(self) -> MediaKind {
        match self {
            Self::Audio(_) => MediaKind::Audio,
            Self::Video(_) => MediaKind::Video,
        }
    }

    /// RTP clock in Hz; 90 kHz for video.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Audio(a) => a.clock_rate(),
            Self::Video(_) => 90_000,
        }
    }

    /// The word used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio(a) => a.as_str(),
            Self::Video(v) => v.as_str(),
        }
    }
}

/// Layout of a raw picture in memory. Planes follow each other without padding; rows are tight (stride = width).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelFormat {
    /// Planes Y, U, V; chroma halved both ways (rounded up). BT.601 limited range unless said otherwise.
    I420,
    /// Plane Y, then U and V interleaved.
    Nv12,
    /// Three bytes: red, green, blue.
    Rgb24,
    /// Three bytes: blue, green, red.
    Bgr24,
    /// Four bytes: red, green, blue, alpha (255).
    Rgba,
}

impl PixelFormat {
    /// Bytes of a picture of `width` x `height` pixels.
    pub fn bytes(self, width: u32, height: u32) -> usize {
        let (w, h) = (width as usize, height as usize);
        match self {
            Self::I420 | Self::Nv12 => w * h + 2 * w.div_ceil(2) * h.div_ceil(2),
            Self::Rgb24 | Self::Bgr24 => 3 * w * h,
            Self::Rgba => 4 * w * h,
        }
    }

    /// The word used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::I420 => "i420",
            Self::Nv12 => "nv12",
            Self::Rgb24 => "rgb24",
            Self::Bgr24 => "bgr24",
            Self::Rgba => "rgba",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_sizes_are_those_of_the_field() {
        assert_eq!(PixelFormat::Rgb24.bytes(1280, 720), 2_764_800);
        assert_eq!(PixelFormat::Nv12.bytes(1280, 720), 1_382_400);
        assert_eq!(PixelFormat::I420.bytes(3, 3), 9 + 8);
    }

    #[test]
    fn words_are_those_of_serde() {
        for s in Source::ALL {
            assert_eq!(Source::ALL[s.index()], s);
        }
    }
}
