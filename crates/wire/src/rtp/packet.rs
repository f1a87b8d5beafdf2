//! The packet as everybody behind ingress sees it, and the common questions about its payload.

use std::sync::Arc;
use std::time::Instant;

use antiphon_base::{Codec, TrackKey, VideoCodec};

use super::dependency::Dependency;
use super::{av1, h264, vp8, vp9};

/// One received media packet, decrypted. Behind an `Arc`, shared by all who forward, decode or store it.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Whose medium it is.
    pub track: TrackKey,
    /// Simulcast index, 0 = lowest; always 0 for audio.
    pub layer: u8,
    /// Codec of `payload`.
    pub codec: Codec,
    /// Extended sequence number of the source layer.
    pub seq: u64,
    /// Unwrapped RTP time of the source layer, in the codec's clock.
    pub rtp_time: u64,
    /// RTP marker: the last packet of a picture (RFC 3551, 4.1 for audio: the first of a talkspurt).
    pub marker: bool,
    /// RTP payload, with its payload header. Empty for a packet of padding only.
    pub payload: Arc<[u8]>,
    /// Arrival at the server, monotonic.
    pub arrival: Instant,
    /// Arrival at the server, microseconds since the Unix epoch.
    pub arrival_us: u64,
    /// Capture at the sender on the server's clock, microseconds since the Unix epoch.
    pub capture_us: u64,
    /// No sender report yet: `capture_us` was derived from the arrival.
    pub capture_estimated: bool,
    /// RFC 6464, audio only.
    pub audio_level: Option<AudioLevel>,
    /// What the payload header says.
    pub descriptor: Descriptor,
    /// What the dependency descriptor says, where the sender writes one.
    pub dependency: Option<Arc<Dependency>>,
    /// How many spatial layers its RTP stream has, as the newest key frame told; 1 where it does not tell.
    pub spatial_layers: u8,
}

impl Packet {
    /// The packet is one that a frame can begin with.
    pub fn starts_frame(&self) -> bool {
        self.descriptor.starts_frame()
    }

    /// The last packet of its frame.
    pub fn ends_frame(&self) -> bool {
        self.descriptor.ends_frame(self.marker)
    }

    /// The first packet of a frame at which a decoder can start. A payload that tells nothing (it is encrypted end to end)
    /// is believed its dependency descriptor.
    pub fn starts_keyframe(&self) -> bool {
        match (&self.descriptor, &self.dependency) {
            (Descriptor::Opaque, Some(d)) => d.starts_frame && d.attached,
            (descriptor, _) => descriptor.starts_keyframe(),
        }
    }

    /// The last packet of the frame of its spatial layer: of the picture, if this is the highest layer that is sent.
    pub fn ends_layer_frame(&self) -> bool {
        match (&self.dependency, &self.descriptor) {
            (Some(d), _) => d.ends_frame,
            (None, Descriptor::Vp9(d)) => d.ends_layer_frame,
            (None, _) => self.ends_frame(),
        }
    }

    /// Spatial layer; 0 where nothing tells it.
    pub fn spatial_id(&self) -> u8 {
        match &self.dependency {
            Some(d) => d.spatial_id,
            None => self.descriptor.spatial_id().unwrap_or(0),
        }
    }

    /// Temporal layer, where something tells it.
    pub fn temporal_id(&self) -> Option<u8> {
        match &self.dependency {
            Some(d) => Some(d.temporal_id),
            None => self.descriptor.temporal_id(),
        }
    }
}

/// How loud a packet's audio is (RFC 6464).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
    /// The sender's own voice activity detection.
    pub voice: bool,
}

/// What a payload header says. [`Descriptor::parse`] never fails: what does not parse is [`Descriptor::Opaque`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descriptor {
    /// Any audio codec: each packet is a frame of its own.
    Audio,
    /// RFC 7741.
    Vp8(vp8::Descriptor),
    /// RFC 9628.
    Vp9(vp9::Descriptor),
    /// RFC 6184.
    H264(h264::Descriptor),
    /// AV1 RTP specification.
    Av1(av1::Descriptor),
    /// Video whose payload header is malformed or empty (padding). No frame starts or ends here.
    Opaque,
}

impl Descriptor {
    /// Parses the payload header of `payload`.
    pub fn parse(codec: Codec, payload: &[u8]) -> Self {
        match codec {
            Codec::Audio(_) => Self::Audio,
            Codec::Video(VideoCodec::Vp8) => {
                vp8::Descriptor::parse(payload).map_or(Self::Opaque, |(d, _)| Self::Vp8(d))
            }
            Codec::Video(VideoCodec::Vp9) => {
                vp9::Descriptor::parse(payload).map_or(Self::Opaque, |(d, _)| Self::Vp9(d))
            }
            Codec::Video(VideoCodec::H264) => {
                h264::Descriptor::parse(payload).map_or(Self::Opaque, Self::H264)
            }
            Codec::Video(VideoCodec::Av1) => av1::Descriptor::parse(payload).map_or(Self::Opaque, Self::Av1),
        }
    }

    /// A frame (VP9: a picture of all its spatial layers) can begin with this packet. H.264 and AV1 do not mark
    /// the first packet; there it may be true for several packets of one frame, which share an RTP time.
    pub fn starts_frame(&self) -> bool {
        match self {
            Self::Audio => true,
            Self::Vp8(d) => d.starts_frame(),
            Self::Vp9(d) => d.starts_frame(),
            Self::H264(d) => d.starts_frame,
            Self::Av1(d) => d.starts_frame(),
            Self::Opaque => false,
        }
    }

    /// This is the last packet of its frame; `marker` is the RTP header's bit.
    pub fn ends_frame(&self, marker: bool) -> bool {
        match self {
            Self::Audio => true,
            Self::Vp8(_) | Self::Vp9(_) | Self::H264(_) | Self::Av1(_) => marker,
            Self::Opaque => false,
        }
    }

    /// The first packet of a frame at which a decoder can start. Always true for audio.
    /// In H.264, where parameter sets and slices travel in packets of their own, true for each that can lead.
    pub fn starts_keyframe(&self) -> bool {
        match self {
            Self::Audio => true,
            Self::Vp8(d) => d.starts_keyframe(),
            Self::Vp9(d) => d.starts_keyframe(),
            Self::H264(d) => d.starts_keyframe,
            Self::Av1(d) => d.starts_keyframe(),
            Self::Opaque => false,
        }
    }

    /// Temporal layer, where the payload header tells it.
    pub fn temporal_id(&self) -> Option<u8> {
        match self {
            Self::Vp8(d) => d.temporal_id,
            Self::Vp9(d) => d.layer.map(|l| l.temporal_id),
            Self::Av1(d) => d.temporal_id,
            Self::Audio | Self::H264(_) | Self::Opaque => None,
        }
    }

    /// Spatial layer, where the payload header tells it.
    pub fn spatial_id(&self) -> Option<u8> {
        match self {
            Self::Vp9(d) => d.layer.map(|l| l.spatial_id),
            Self::Av1(d) => d.spatial_id,
            Self::Audio | Self::Vp8(_) | Self::H264(_) | Self::Opaque => None,
        }
    }

    /// Width and height in pixels, where a key frame's first packet tells them: VP8 frame header, H.264 SPS, AV1
    /// sequence header, the largest spatial layer of a VP9 scalability structure or its frame header.
    pub fn resolution(&self) -> Option<(u32, u32)> {
        let (w, h) = match self {
            Self::Vp8(d) => d.resolution?,
            Self::Vp9(d) => d.resolution?,
            Self::H264(d) => d.resolution?,
            Self::Av1(d) => d.resolution?,
            Self::Audio | Self::Opaque => return None,
        };
        Some((u32::from(w), u32::from(h)))
    }
}
