//! Audio codecs: packets to mono PCM at the reader's rate and back.
//!
//! Opus (RFC 6716) by libopus, which decodes straight at 8, 12, 16, 24 or 48 kHz; G.711 and G.722 decode at 8 and
//! 16 kHz and are resampled. A decoder answers any bytes with samples or an [`Error`], and goes on after it.

mod g7xx;
mod opus;

use antiphon_base::{AudioCodec, ErrorKind};

use crate::resample::UnsupportedRate;

pub use self::opus::EncoderConfig as OpusConfig;

/// The longest packet we decode: Opus never has more than 1275 bytes per frame and 48 frames; real packets are
/// below 1500 bytes.
pub const MAX_PACKET_BYTES: usize = 8192;

/// The most samples a packet may hold, per second of rate: Opus' limit of 120 ms, and ours for G.711 and G.722.
pub const MAX_PACKET_MS: u32 = 120;

/// Why a packet gave no samples, or samples no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not what the codec's specification allows, or too many.
    #[error("corrupt audio packet")]
    Corrupt,
    /// The rate is not one of ours.
    #[error(transparent)]
    Rate(#[from] UnsupportedRate),
    /// An encoder was given other than 10, 20, 40 or 60 ms.
    #[error("cannot encode a frame of {0} samples")]
    FrameLength(usize),
    /// The codec library failed by itself.
    #[error("the codec library failed")]
    Library,
}

impl Error {
    /// The kind that crosses crate borders.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt | Self::Rate(_) | Self::FrameLength(_) => ErrorKind::BadRequest,
            Self::Library => ErrorKind::Internal,
        }
    }
}

/// How much RTP time a packet covers, in its codec's RTP clock (48 kHz for Opus, 8 kHz for the others).
/// 0 for an empty or broken packet.
pub fn packet_duration(codec: AudioCodec, packet: &[u8]) -> u32 {
    match codec {
        AudioCodec::Opus => opus::packet_duration(packet),
        // One byte is one tick of the 8 kHz clock, for G.722 too (RFC 3551, 4.5.2).
        AudioCodec::Pcmu | AudioCodec::Pcma | AudioCodec::G722 => {
            u32::try_from(packet.len()).unwrap_or(0).min(MAX_PACKET_MS * 8)
        }
    }
}

/// An Opus packet that says "nothing to hear": DTX packets have at most two bytes (RFC 6716, 2.1.9; RFC 7587, 3.1.3).
pub fn is_dtx(codec: AudioCodec, packet: &[u8]) -> bool {
    codec == AudioCodec::Opus && packet.len() <= 2
}

enum Decoding {
    Opus(opus::Decoder),
    G7xx(g7xx::Decoder),
}

/// Packets of one stream in, mono PCM out.
pub struct Decoder {
    codec: AudioCodec,
    rate: u32,
    inner: Decoding,
}

impl Decoder {
    /// `rate`: of the samples that come out, one of [`crate::resample::RATES`].
    pub fn new(codec: AudioCodec, rate: u32) -> Result<Self, Error> {
        let inner = match codec {
            AudioCodec::Opus => Decoding::Opus(opus::Decoder::new(rate)?),
            _ => Decoding::G7xx(g7xx::Decoder::new(codec, rate)?),
        };
        Ok(Self { codec, rate, inner })
    }

    /// The codec.
    pub fn codec(&self) -> AudioCodec {
        self.codec
    }

    /// Samples per second that come out.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Appends a packet's samples to `out`; returns how many. On an error `out` is as before.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<usize, Error> {
        if packet.is_empty() || packet.len() > MAX_PACKET_BYTES {
            return Err(Error::Corrupt);
        }
        match &mut self.inner {
            Decoding::Opus(decoder) => decoder.decode(packet, out),
            Decoding::G7xx(decoder) => decoder.decode(packet, out),
        }
    }

    /// Appends `samples` samples of concealment for something lost.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) {
        match &mut self.inner {
            Decoding::Opus(decoder) => decoder.conceal(samples, out),
            Decoding::G7xx(decoder) => decoder.conceal(samples, out),
        }
    }

    /// Appends `samples` samples for the lost packet just before `next`, from the redundancy in `next` where it has
    /// any (Opus in-band FEC), otherwise concealment. `next` is to be decoded afterwards as usual.
    pub fn decode_fec(&mut self, next: &[u8], samples: usize, out: &mut Vec<i16>) {
        match &mut self.inner {
            Decoding::Opus(decoder) => decoder.decode_fec(next, samples, out),
            Decoding::G7xx(decoder) => decoder.conceal(samples, out),
        }
    }
}

enum Encoding {
    Opus(opus::Encoder),
    G7xx(g7xx::Encoder),
}

/// Mono PCM in, packets of one stream out.
pub struct Encoder {
    codec: AudioCodec,
    inner: Encoding,
}

impl Encoder {
    /// `rate`: of the samples that go in, one of [`crate::resample::RATES`]. `opus` matters for Opus only.
    pub fn new(codec: AudioCodec, rate: u32, opus: OpusConfig) -> Result<Self, Error> {
        let inner = match codec {
            AudioCodec::Opus => Encoding::Opus(opus::Encoder::new(rate, opus)?),
            _ => Encoding::G7xx(g7xx::Encoder::new(codec, rate)?),
        };
        Ok(Self { codec, inner })
    }

    /// The codec.
    pub fn codec(&self) -> AudioCodec {
        self.codec
    }

    /// Appends the packet for 10, 20, 40 or 60 ms of samples to `out`; returns its length.
    /// With DTX a length of 2 or less means that nothing needs to be sent.
    pub fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) -> Result<usize, Error> {
        match &mut self.inner {
            Encoding::Opus(encoder) => encoder.encode(samples, out),
            Encoding::G7xx(encoder) => Ok(encoder.encode(samples, out)),
        }
    }
}

#[cfg(test)]
mod tests;
