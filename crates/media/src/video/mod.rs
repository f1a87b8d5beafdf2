//! Video codecs: encoded access units to pictures and back, one frame at a time, realtime settings.
//!
//! VP8 and VP9 by libvpx, H.264 by OpenH264, AV1 by rav1d in a process of its own (feature `av1`). Access units come from
//! strangers: a decoder answers every byte string with a picture, nothing, or a [`DecodeError`], and after an error takes
//! up again at the next key frame. The FFI is in `vpx` alone; `openh264` and `re_rav1d` bring their own safe wrappers.

#[cfg(feature = "av1")]
mod av1;
mod h264;
mod header;
pub mod process;
mod vpx;

use antiphon_base::{ErrorKind, VideoCodec};

use crate::picture::{I420, SizeError, check_size};

use process::{Death, Launch};

pub use header::is_key_frame;

/// The longest access unit we decode: 4 MiB is a 4K key frame at the best quality; past it is an attack.
pub const MAX_ACCESS_UNIT_BYTES: usize = 4 << 20;

/// Why an access unit gave no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// This build has no decoder for the codec, or the stream uses a profile other than 8 bit 4:2:0.
    #[error("{0:?} of this kind cannot be decoded by this build")]
    Unsupported(VideoCodec),
    /// The decoder needs a key frame first: ask the sender for one. Not counted as corruption.
    #[error("waiting for a key frame")]
    NeedKeyFrame,
    /// The bytes are not what the codec's specification allows. The decoder waits for a key frame.
    #[error("corrupt access unit")]
    Corrupt,
    /// Longer than [`MAX_ACCESS_UNIT_BYTES`] or larger than the pixel limits.
    #[error("access unit or picture is too large")]
    TooLarge,
    /// The codec library could not be started (memory).
    #[error("the codec library failed to start")]
    Library,
    /// The process that decodes died of this access unit. The next key frame starts another.
    #[error("the codec worker {0}")]
    WorkerDied(Death),
    /// It died so often that none is started for some seconds, or there are [`process::MAX_WORKERS`] already.
    #[error("decoding is given up for a while")]
    GaveUp,
}

impl DecodeError {
    /// The kind that crosses crate borders.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported(_) => ErrorKind::UnsupportedCodec,
            Self::NeedKeyFrame | Self::Corrupt => ErrorKind::BadRequest,
            Self::TooLarge => ErrorKind::TooLarge,
            Self::Library | Self::WorkerDied(_) => ErrorKind::Internal,
            Self::GaveUp => ErrorKind::Overloaded,
        }
    }
}

/// Why a picture was not encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// This build has no encoder for the codec.
    #[error("{0:?} cannot be encoded by this build")]
    Unsupported(VideoCodec),
    /// A size outside the limits, or of a picture other than the encoder was made for.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The codec library refused; the text is its own.
    #[error("the codec library failed: {0}")]
    Library(String),
}

/// What this process decodes, and how. Without a codec worker that is all but AV1.
#[derive(Debug, Clone, Default)]
pub struct Decoders {
    launch: Option<Launch>,
}

impl Decoders {
    /// With AV1, where this build has it.
    pub fn with_workers(launch: Launch) -> Self {
        Self { launch: Some(launch).filter(|_| cfg!(feature = "av1")) }
    }

    /// Whether [`Decoders::open`] takes the codec.
    pub fn can_decode(&self, codec: VideoCodec) -> bool {
        codec != VideoCodec::Av1 || self.launch.is_some()
    }

    /// A decoder that waits for its first key frame.
    pub fn open(&self, codec: VideoCodec) -> Result<Decoder, DecodeError> {
        match (&self.launch, codec) {
            (Some(launch), VideoCodec::Av1) => {
                let worker = process::Decoder::new(codec, launch.clone());
                Ok(Decoder { codec, inner: Decoding::Process(worker), needs_key: true })
            }
            _ => Decoder::new(codec),
        }
    }

    /// What became of the codec workers.
    pub fn workers(&self) -> process::Workers {
        self.launch.as_ref().map(Launch::workers).unwrap_or_default()
    }
}

/// Whether [`Encoder::new`] takes the codec in this build.
pub fn can_encode(codec: VideoCodec) -> bool {
    matches!(codec, VideoCodec::Vp8 | VideoCodec::H264)
}

enum Decoding {
    Vpx(vpx::Decoder),
    H264(h264::Decoder),
    Process(process::Decoder),
}

/// Access units in, pictures out.
pub struct Decoder {
    codec: VideoCodec,
    inner: Decoding,
    /// A frame was lost or corrupt: what follows refers to what we do not have.
    needs_key: bool,
}

impl Decoder {
    /// A decoder that waits for its first key frame, in this process: not for AV1 (see [`Decoders`]).
    pub fn new(codec: VideoCodec) -> Result<Self, DecodeError> {
        let inner = match codec {
            VideoCodec::Vp8 => Decoding::Vpx(vpx::Decoder::new(false)?),
            VideoCodec::Vp9 => Decoding::Vpx(vpx::Decoder::new(true)?),
            VideoCodec::H264 => Decoding::H264(h264::Decoder::new()?),
            VideoCodec::Av1 => return Err(DecodeError::Unsupported(codec)),
        };
        Ok(Self { codec, inner, needs_key: true })
    }

    /// The codec.
    pub fn codec(&self) -> VideoCodec {
        self.codec
    }

    /// Tells the decoder that an access unit is missing before the next: it skips to the next key frame,
    /// rather than show a torn picture.
    pub fn lost(&mut self) {
        self.needs_key = true;
    }

    /// Whether only a key frame helps now.
    pub fn needs_key(&self) -> bool {
        self.needs_key
    }

    /// Decodes one access unit. `Ok(None)`: the frame is not to be shown.
    /// The picture lives in the decoder's memory until the next call.
    pub fn decode(&mut self, unit: &[u8]) -> Result<Option<I420<'_>>, DecodeError> {
        if unit.len() > MAX_ACCESS_UNIT_BYTES {
            self.needs_key = true;
            return Err(DecodeError::TooLarge);
        }
        let key = match header::inspect(self.codec, unit) {
            Ok(key) => key,
            Err(error) => {
                self.needs_key = true;
                return Err(error);
            }
        };
        if let Decoding::Process(worker) = &mut self.inner
            && let Err(error) = worker.ready()
        {
            self.needs_key = true;
            return Err(error);
        }
        if self.needs_key && !key {
            return Err(DecodeError::NeedKeyFrame);
        }
        // Until the decoder has said yes.
        self.needs_key = true;
        let picture = match &mut self.inner {
            Decoding::Vpx(decoder) => decoder.decode(self.codec, unit),
            Decoding::H264(decoder) => decoder.decode(unit),
            Decoding::Process(decoder) => decoder.decode(unit),
        }?;
        self.needs_key = false;
        Ok(picture)
    }
}

/// What an encoder makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderConfig {
    /// Pixels across; even for H.264.
    pub width: u32,
    /// Pixels down; even for H.264.
    pub height: u32,
    /// Frames per second the bitrate is divided by.
    pub fps: u32,
    /// Target in bits per second.
    pub bitrate_bps: u32,
}

impl EncoderConfig {
    /// About what browsers send at this size: 0.1 bits per pixel at 30 frames per second, 150 kbit/s to 8 Mbit/s.
    pub fn for_size(width: u32, height: u32, fps: u32) -> Self {
        let rate = u64::from(width) * u64::from(height) * u64::from(fps) / 15;
        let bitrate_bps = u32::try_from(rate.clamp(150_000, 8_000_000)).expect("clamped below");
        Self { width, height, fps, bitrate_bps }
    }
}

/// One encoded access unit: a VP8 frame, or H.264 in Annex B with its parameter sets before each key frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPicture {
    /// The bytes.
    pub data: Vec<u8>,
    /// A decoder can start here.
    pub key: bool,
}

enum Encoding {
    Vp8(vpx::Encoder),
    H264(Box<h264::Encoder>),
}

/// Pictures in, access units out. Key frames come first and on demand only.
pub struct Encoder {
    config: EncoderConfig,
    inner: Encoding,
}

impl Encoder {
    /// An encoder for pictures of one size.
    pub fn new(codec: VideoCodec, config: EncoderConfig) -> Result<Self, EncodeError> {
        check_size(config.width, config.height)?;
        let inner = match codec {
            VideoCodec::Vp8 => Encoding::Vp8(vpx::Encoder::new(&config)?),
            VideoCodec::H264 => Encoding::H264(Box::new(h264::Encoder::new(&config)?)),
            VideoCodec::Vp9 | VideoCodec::Av1 => return Err(EncodeError::Unsupported(codec)),
        };
        Ok(Self { config, inner })
    }

    /// What it was made for.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Encodes one picture, which must have the configured size. `pts_90k` must grow from call to call.
    /// `None`: the rate control dropped the frame.
    pub fn encode(
        &mut self,
        picture: &I420<'_>,
        pts_90k: u64,
        force_key: bool,
    ) -> Result<Option<EncodedPicture>, EncodeError> {
        let (width, height) = (picture.width(), picture.height());
        if (width, height) != (self.config.width, self.config.height) {
            return Err(SizeError::Limits { width, height }.into());
        }
        match &mut self.inner {
            Encoding::Vp8(encoder) => encoder.encode(picture, pts_90k, force_key),
            Encoding::H264(encoder) => encoder.encode(picture, pts_90k, force_key),
        }
    }

    /// Changes the target, as the subscribers' estimates ask. H.264 starts anew with a key frame.
    pub fn set_bitrate(&mut self, bitrate_bps: u32) -> Result<(), EncodeError> {
        self.config.bitrate_bps = bitrate_bps;
        match &mut self.inner {
            Encoding::Vp8(encoder) => encoder.set_bitrate(bitrate_bps),
            Encoding::H264(encoder) => {
                **encoder = h264::Encoder::new(&self.config)?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
