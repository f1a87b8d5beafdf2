//! AV1 by rav1d, in this process. Only a codec worker may hold one (`process::serve`): rav1d answers a corrupt access
//! unit with an error, but what it overlooks is a panic that cannot be caught, inside an `extern "C"` function.

use antiphon_base::VideoCodec;
use re_rav1d::pixel::{MatrixCoefficients, YUVRange};
use re_rav1d::{Error, PixelLayout, PlanarImageComponent, Plane, Settings};

use super::DecodeError;
use crate::picture::{Colour, I420, MAX_PIXELS, Matrix, SizeError};

/// One rav1d decoder, on the caller's thread alone; made anew after an error.
pub(super) struct Decoder {
    library: re_rav1d::Decoder,
    /// The last picture's planes, lent until the next call.
    planes: Option<[Plane; 3]>,
    broken: bool,
}

fn library() -> Result<re_rav1d::Decoder, DecodeError> {
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    // No delay: the picture of an access unit comes with it.
    settings.set_max_frame_delay(1);
    // Of spatial layers the highest only.
    settings.set_all_layers(false);
    settings.set_frame_size_limit(u32::try_from(MAX_PIXELS).expect("below 2^24"));
    re_rav1d::Decoder::with_settings(&settings).map_err(|_| DecodeError::Library)
}

impl Decoder {
    pub(super) fn new() -> Result<Self, DecodeError> {
        Ok(Self { library: library()?, planes: None, broken: false })
    }

    /// Decodes a temporal unit.
    pub(super) fn decode(&mut self, unit: &[u8]) -> Result<Option<I420<'_>>, DecodeError> {
        if std::mem::take(&mut self.broken) {
            self.library = library()?;
        }
        self.planes = None;
        let picture = self.feed(unit).inspect_err(|_| self.broken = true)?;
        picture.map(|picture| self.lend(&picture)).transpose()
    }

    /// The last picture of a temporal unit; there is more than one in a broken stream only.
    fn feed(&mut self, unit: &[u8]) -> Result<Option<re_rav1d::Picture>, DecodeError> {
        // No data would mean "flush".
        if unit.is_empty() {
            return Err(DecodeError::Corrupt);
        }
        let mut last = None;
        let mut sent = self.library.send_data(unit.to_vec(), None, None, None);
        loop {
            let picture = match self.library.get_picture() {
                Ok(picture) => Some(picture),
                Err(Error::Again) => None,
                Err(error) => return Err(failure(&error)),
            };
            match sent {
                Ok(()) if picture.is_none() => return Ok(last),
                Ok(()) => {}
                // A picture was in the way of the rest.
                Err(Error::Again) if picture.is_some() => sent = self.library.send_pending_data(),
                Err(Error::Again) => return Err(DecodeError::Corrupt),
                Err(error) => return Err(failure(&error)),
            }
            last = picture.or(last);
        }
    }

    fn lend(&mut self, picture: &re_rav1d::Picture) -> Result<I420<'_>, DecodeError> {
        if picture.pixel_layout() != PixelLayout::I420 || picture.bit_depth() != 8 {
            return Err(DecodeError::Unsupported(VideoCodec::Av1));
        }
        let parts = [PlanarImageComponent::Y, PlanarImageComponent::U, PlanarImageComponent::V];
        let planes = self.planes.insert(parts.map(|part| picture.plane(part)));
        let matrix = match picture.matrix_coefficients() {
            MatrixCoefficients::BT709 => Matrix::Bt709,
            _ => Matrix::Bt601,
        };
        let colour = Colour { matrix, full_range: picture.color_range() == YUVRange::Full };
        let strides = parts.map(|part| picture.stride(part));
        let size = (picture.width(), picture.height());
        I420::new(size, [&planes[0], &planes[1], &planes[2]], strides, colour).map_err(|error| match error {
            SizeError::Limits { .. } => DecodeError::TooLarge,
            SizeError::Plane { .. } => DecodeError::Corrupt,
        })
    }
}

fn failure(error: &Error) -> DecodeError {
    match error {
        Error::UnsupportedBitstream => DecodeError::Unsupported(VideoCodec::Av1),
        Error::NotEnoughMemory => DecodeError::Library,
        // ERANGE: over the frame size limit, and nothing else.
        Error::UnknownError(_) => DecodeError::TooLarge,
        _ => DecodeError::Corrupt,
    }
}
