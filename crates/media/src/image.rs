//! A picture as an image file: JPEG (baseline, 4:2:0) or PNG, by pure Rust encoders.

use antiphon_base::PixelFormat;

use crate::convert::{Converter, Fit, Scaler};
use crate::picture::{I420, Picture, SizeError};

/// What kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JPEG of this quality, 1 to 100.
    Jpeg(u8),
    /// PNG, 8 bit RGB.
    Png,
}

/// Pixels of the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Size {
    /// The picture's.
    #[default]
    Native,
    /// So many rows, as wide as the picture's shape says.
    Height(u32),
    /// Stretched to this.
    Exactly(u32, u32),
}

/// Why there is no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// A size outside the limits.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The encoder refused: more than 65,535 pixels in a row, which the limits do not let through.
    #[error("the image cannot be encoded")]
    Encoder,
}

/// A file of a picture.
///
/// # Errors
/// See [`ImageError`].
pub fn encode(picture: &I420<'_>, size: Size, format: Format) -> Result<Vec<u8>, ImageError> {
    let native = (picture.width(), picture.height());
    let (width, height) = match size {
        Size::Native => native,
        Size::Height(rows) => Fit::Height(rows).size(native.0, native.1)?,
        Size::Exactly(width, height) => (width, height),
    };
    let rgb = if (width, height) == native {
        Converter::new().convert(picture, PixelFormat::Rgb24, Fit::Native)?
    } else {
        let mut scaled = Picture::black(width, height)?;
        Scaler::default().scale(picture, width, height, &mut scaled)?;
        Converter::new().convert(&scaled.view(), PixelFormat::Rgb24, Fit::Native)?
    };
    match format {
        Format::Jpeg(quality) => jpeg(&rgb.data, width, height, quality),
        Format::Png => png(&rgb.data, width, height),
    }
}

fn jpeg(rgb: &[u8], width: u32, height: u32, quality: u8) -> Result<Vec<u8>, ImageError> {
    let side = |n: u32| u16::try_from(n).map_err(|_| ImageError::Encoder);
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, quality.clamp(1, 100));
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::R_4_2_0);
    let encoded = encoder.encode(rgb, side(width)?, side(height)?, jpeg_encoder::ColorType::Rgb);
    encoded.map(|()| file).map_err(|_| ImageError::Encoder)
}

fn png(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>, ImageError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(|_| ImageError::Encoder)?;
    writer.write_image_data(rgb).map_err(|_| ImageError::Encoder)?;
    writer.finish().map_err(|_| ImageError::Encoder)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left half dark, right half bright.
    fn halves(width: u32, height: u32) -> Picture {
        let mut picture = Picture::black(width, height).unwrap();
        for row in picture.planes_mut()[0].chunks_exact_mut(width as usize) {
            row[width as usize / 2..].fill(235);
        }
        picture
    }

    fn read_png(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn a_png_has_the_pictures_pixels() {
        let picture = halves(64, 32);
        let (width, height, pixels) = read_png(&encode(&picture.view(), Size::Native, Format::Png).unwrap());
        assert_eq!((width, height), (64, 32));
        assert!(pixels[..3].iter().all(|p| *p == 0) && pixels[63 * 3..64 * 3].iter().all(|p| *p == 255));
    }

    #[test]
    fn sizes_are_as_asked() {
        let picture = halves(64, 32);
        let size = |size| {
            let (width, height, _) = read_png(&encode(&picture.view(), size, Format::Png).unwrap());
            (width, height)
        };
        assert_eq!(size(Size::Height(16)), (32, 16));
        assert_eq!(size(Size::Exactly(10, 50)), (10, 50));
        for wrong in
            [Size::Exactly(0, 5), Size::Exactly(8_193, 8_193), Size::Height(0), Size::Height(u32::MAX)]
        {
            assert!(matches!(encode(&picture.view(), wrong, Format::Png), Err(ImageError::Size(_))));
        }
    }

    #[test]
    fn a_jpeg_says_its_size_and_obeys_its_quality() {
        let picture = halves(64, 32);
        let file = |quality| encode(&picture.view(), Size::Native, Format::Jpeg(quality)).unwrap();
        let good = file(100);
        assert!(good.starts_with(&[0xff, 0xd8]) && good.ends_with(&[0xff, 0xd9]));
        // SOF0: length, precision, height, width.
        let frame = good.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        assert_eq!(good[frame + 5..frame + 9], [0, 32, 0, 64]);
        assert!(file(1).len() < good.len());
    }
}
