//! H.264 by OpenH264: constrained baseline out, what OpenH264 decodes in (baseline, main and high, no interlace).

use openh264::decoder::{Decoder as Library, DecoderConfig};
use openh264::encoder::{
    BitRate, Complexity, Encoder as LibraryEncoder, EncoderConfig as LibraryConfig, FrameRate, FrameType,
    IntraFramePeriod, Profile, RateControlMode, SpsPpsStrategy, UsageType,
};
use openh264::formats::YUVSource;
use openh264::{OpenH264API, Timestamp};

use super::{DecodeError, EncodeError, EncodedPicture, EncoderConfig};
use crate::picture::{Colour, I420, Picture, SizeError};

/// One OpenH264 decoder, made anew after it failed: its state after corrupt input is not to be trusted.
pub(super) struct Decoder {
    library: Library,
    /// The last picture: the wrapper's planes cannot be lent on, so they are copied (0.1 ms at 720p).
    picture: Option<Picture>,
    broken: bool,
}

fn library() -> Result<Library, DecodeError> {
    Library::with_api_config(OpenH264API::from_source(), DecoderConfig::new())
        .map_err(|_| DecodeError::Library)
}

impl Decoder {
    pub(super) fn new() -> Result<Self, DecodeError> {
        Ok(Self { library: library()?, picture: None, broken: false })
    }

    pub(super) fn decode(&mut self, unit: &[u8]) -> Result<Option<I420<'_>>, DecodeError> {
        if std::mem::take(&mut self.broken) {
            self.library = library()?;
        }
        let Ok(decoded) = self.library.decode(unit) else {
            self.broken = true;
            return Err(DecodeError::Corrupt);
        };
        let Some(yuv) = decoded else { return Ok(None) };
        let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let ((width, height), (y, u, v)) = (yuv.dimensions(), yuv.strides());
        let planes = [yuv.y(), yuv.u(), yuv.v()];
        let view =
            I420::new((side(width), side(height)), planes, [side(y), side(u), side(v)], Colour::default())
                .map_err(|error| match error {
                    SizeError::Limits { .. } => DecodeError::TooLarge,
                    SizeError::Plane { .. } => DecodeError::Corrupt,
                })?;
        let picture = match self.picture.take() {
            Some(mut picture) => {
                picture.copy_from(&view);
                picture
            }
            None => Picture::copy_of(&view),
        };
        Ok(Some(self.picture.insert(picture).view()))
    }
}

/// One OpenH264 encoder: realtime, one thread, no B frames, key frames on demand only.
pub(super) struct Encoder {
    library: LibraryEncoder,
}

impl Encoder {
    pub(super) fn new(config: &EncoderConfig) -> Result<Self, EncodeError> {
        let (width, height) = (config.width, config.height);
        if width % 2 != 0 || height % 2 != 0 || width < 16 || height < 16 {
            return Err(SizeError::Limits { width, height }.into());
        }
        #[expect(clippy::cast_precision_loss, reason = "frames per second are below 2^23")]
        let fps = config.fps.clamp(1, 120) as f32;
        let settings = LibraryConfig::new()
            .bitrate(BitRate::from_bps(config.bitrate_bps))
            .max_frame_rate(FrameRate::from_hz(fps))
            .rate_control_mode(RateControlMode::Bitrate)
            .usage_type(UsageType::CameraVideoRealTime)
            .profile(Profile::Baseline)
            .complexity(Complexity::Low)
            .sps_pps_strategy(SpsPpsStrategy::ConstantId)
            .intra_frame_period(IntraFramePeriod::from_num_frames(0))
            .scene_change_detect(false)
            .background_detection(false)
            .skip_frames(true)
            .num_threads(1);
        let library =
            LibraryEncoder::with_api_config(OpenH264API::from_source(), settings).map_err(refused)?;
        Ok(Self { library })
    }

    pub(super) fn encode(
        &mut self,
        picture: &I420<'_>,
        pts_90k: u64,
        force_key: bool,
    ) -> Result<Option<EncodedPicture>, EncodeError> {
        if force_key {
            self.library.force_intra_frame();
        }
        let [_, u, v] = picture.strides();
        let time = Timestamp::from_millis(pts_90k / 90);
        // OpenH264 has one chroma stride.
        let stream = if u == v {
            self.library.encode_at(&Source(*picture), time)
        } else {
            self.library.encode_at(&Source(Picture::copy_of(picture).view()), time)
        }
        .map_err(refused)?;
        let key = match stream.frame_type() {
            FrameType::IDR | FrameType::I => true,
            FrameType::Skip | FrameType::Invalid => return Ok(None),
            _ => false,
        };
        let data = stream.to_vec();
        Ok((!data.is_empty()).then_some(EncodedPicture { data, key }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the argument of map_err")]
fn refused(error: openh264::Error) -> EncodeError {
    EncodeError::Library(format!("openh264: {error}"))
}

/// Our view as OpenH264's source; [`I420`] has checked the planes against the strides.
struct Source<'a>(I420<'a>);

impl YUVSource for Source<'_> {
    fn dimensions(&self) -> (usize, usize) {
        (self.0.width() as usize, self.0.height() as usize)
    }

    fn strides(&self) -> (usize, usize, usize) {
        let [y, u, v] = self.0.strides();
        (y as usize, u as usize, v as usize)
    }

    fn y(&self) -> &[u8] {
        self.0.planes()[0]
    }

    fn u(&self) -> &[u8] {
        self.0.planes()[1]
    }

    fn v(&self) -> &[u8] {
        self.0.planes()[2]
    }
}
