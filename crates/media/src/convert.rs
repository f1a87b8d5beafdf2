//! Pictures between I420 and what programs want: NV12, RGB24, BGR24, RGBA, and another size.
//!
//! Scaling happens on the I420 planes, before colour conversion: half the bytes. RGB follows the stream's own
//! [`Colour`] (BT.601 limited where it says nothing); I420 and NV12 are handed on as they are.
//! Buffers are reused: a delivered picture's memory is taken again once all its readers have dropped it.

use std::sync::Arc;

use antiphon_base::PixelFormat;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use yuv::{
    BufferStoreMut, YuvConversionMode, YuvPlanarImage, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
};

use crate::picture::{Colour, I420, Matrix, Picture, SizeError, check_size};

/// How many delivered buffers a converter remembers for reuse: one with the reader, one on its way, one being
/// filled, and one spare. More are freed when their readers drop them.
const MAX_POOLED: usize = 4;

/// The size a reader asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// As the sender sends it; may change from frame to frame.
    #[default]
    Native,
    /// This many rows; columns follow the aspect ratio, rounded to the nearest even number. Smaller pictures are
    /// scaled up, so that a reader's frames have one size while the aspect ratio stays.
    Height(u32),
}

impl Fit {
    /// The size of a `width` x `height` picture after fitting.
    pub fn size(self, width: u32, height: u32) -> Result<(u32, u32), SizeError> {
        check_size(width, height)?;
        let Self::Height(target) = self else { return Ok((width, height)) };
        let halves = (u64::from(width) * u64::from(target) + u64::from(height)) / (2 * u64::from(height));
        let across = u32::try_from(2 * halves.max(1)).unwrap_or(u32::MAX);
        check_size(across, target)?;
        Ok((across, target))
    }
}

/// A picture in the asked format and size.
#[derive(Debug, Clone)]
pub struct Converted {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// [`PixelFormat::bytes`] bytes.
    pub data: Arc<[u8]>,
}

/// Converts and scales; keeps its scratch memory. One per reader format.
#[derive(Default)]
pub struct Converter {
    scaler: Scaler,
    scaled: Option<Picture>,
    pool: Vec<Arc<[u8]>>,
}

impl Converter {
    /// An empty converter.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scales by `fit` and converts to `format`.
    pub fn convert(
        &mut self,
        picture: &I420<'_>,
        format: PixelFormat,
        fit: Fit,
    ) -> Result<Converted, SizeError> {
        let (width, height) = fit.size(picture.width(), picture.height())?;
        let mut data = self.buffer(format.bytes(width, height));
        let out = Arc::get_mut(&mut data).expect("a pooled buffer is taken only when nobody else holds it");
        if (width, height) == (picture.width(), picture.height()) {
            write(picture, format, out);
        } else {
            let mut scaled = self.scaled.take().map_or_else(|| Picture::black(width, height), Ok)?;
            self.scaler.scale(picture, width, height, &mut scaled)?;
            write(&scaled.view(), format, out);
            self.scaled = Some(scaled);
        }
        if self.pool.len() < MAX_POOLED {
            self.pool.push(Arc::clone(&data));
        }
        Ok(Converted { width, height, data })
    }

    /// A buffer that only we hold. Those of another size are forgotten.
    fn buffer(&mut self, len: usize) -> Arc<[u8]> {
        self.pool.retain(|buffer| buffer.len() == len);
        let free = self.pool.iter().position(|buffer| Arc::strong_count(buffer) == 1);
        free.map_or_else(|| std::iter::repeat_n(0, len).collect(), |index| self.pool.swap_remove(index))
    }
}

/// Scales I420 pictures; keeps its scratch memory.
#[derive(Default)]
pub struct Scaler {
    resizer: Resizer,
    tight: Vec<u8>,
}

impl Scaler {
    /// Scales into `out`, which takes the new size and the colour of `picture`.
    pub fn scale(
        &mut self,
        picture: &I420<'_>,
        width: u32,
        height: u32,
        out: &mut Picture,
    ) -> Result<(), SizeError> {
        check_size(width, height)?;
        if (out.width(), out.height()) != (width, height) {
            *out = Picture::black(width, height)?;
        }
        out.set_colour(picture.colour());
        let sizes = [(width, height), (width.div_ceil(2), height.div_ceil(2))];
        for (plane, target) in out.planes_mut().into_iter().enumerate() {
            self.scale_plane(picture, plane, target, sizes[plane.min(1)]);
        }
        Ok(())
    }

    fn scale_plane(&mut self, picture: &I420<'_>, plane: usize, out: &mut [u8], (width, height): (u32, u32)) {
        let (from_width, from_height) = picture.plane_size(plane);
        let source = if picture.strides()[plane] == from_width {
            picture.planes()[plane]
        } else {
            self.tight.clear();
            picture.rows(plane).for_each(|row| self.tight.extend_from_slice(row));
            &self.tight
        };
        let source = ImageRef::new(from_width, from_height, source, PixelType::U8).expect("rows are tight");
        let mut target =
            Image::from_slice_u8(width, height, out, PixelType::U8).expect("the plane was laid out for this");
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        self.resizer.resize(&source, &mut target, &options).expect("both images are U8 and not empty");
    }
}

/// Writes `picture` in `format` to `out`, which has [`PixelFormat::bytes`] bytes.
fn write(picture: &I420<'_>, format: PixelFormat, out: &mut [u8]) {
    match format {
        PixelFormat::I420 => {
            let mut rest = out;
            for plane in 0..3 {
                rest = write_plane(picture, plane, rest);
            }
        }
        PixelFormat::Nv12 => {
            let chroma = write_plane(picture, 0, out);
            let width = picture.plane_size(1).0 as usize;
            let rows = chroma.chunks_exact_mut(2 * width).zip(picture.rows(1).zip(picture.rows(2)));
            for (row, (us, vs)) in rows {
                for (pair, (u, v)) in row.chunks_exact_mut(2).zip(us.iter().zip(vs)) {
                    (pair[0], pair[1]) = (*u, *v);
                }
            }
        }
        PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::Rgba => write_rgb(picture, format, out),
    }
}

fn write_plane<'o>(picture: &I420<'_>, plane: usize, out: &'o mut [u8]) -> &'o mut [u8] {
    let (width, height) = picture.plane_size(plane);
    let (target, rest) = out.split_at_mut(width as usize * height as usize);
    for (to, from) in target.chunks_exact_mut(width as usize).zip(picture.rows(plane)) {
        to.copy_from_slice(from);
    }
    rest
}

fn write_rgb(picture: &I420<'_>, format: PixelFormat, out: &mut [u8]) {
    let [y_plane, u_plane, v_plane] = picture.planes();
    let [y_stride, u_stride, v_stride] = picture.strides();
    let (width, height) = (picture.width(), picture.height());
    let image = YuvPlanarImage { y_plane, y_stride, u_plane, u_stride, v_plane, v_stride, width, height };
    let (range, matrix) = (range(picture.colour()), matrix(picture.colour()));
    match format {
        PixelFormat::Bgr24 => yuv::yuv420_to_bgr(&image, out, 3 * width, range, matrix),
        PixelFormat::Rgba => yuv::yuv420_to_rgba(&image, out, 4 * width, range, matrix),
        _ => yuv::yuv420_to_rgb(&image, out, 3 * width, range, matrix),
    }
    .expect("I420 checked the planes and `out` has the format's size");
}

fn range(colour: Colour) -> YuvRange {
    if colour.full_range { YuvRange::Full } else { YuvRange::Limited }
}

fn matrix(colour: Colour) -> YuvStandardMatrix {
    match colour.matrix {
        Matrix::Bt601 => YuvStandardMatrix::Bt601,
        Matrix::Bt709 => YuvStandardMatrix::Bt709,
    }
}

/// Reads a raw picture in any format into `out` (BT.601, limited range), as for injection by a bot.
/// `data` must have exactly [`PixelFormat::bytes`] bytes.
pub fn to_i420(
    format: PixelFormat,
    (width, height): (u32, u32),
    data: &[u8],
    out: &mut Picture,
) -> Result<(), SizeError> {
    check_size(width, height)?;
    if data.len() != format.bytes(width, height) {
        return Err(SizeError::Plane { plane: 0, width, height });
    }
    if (out.width(), out.height()) != (width, height) {
        *out = Picture::black(width, height)?;
    }
    out.set_colour(Colour::default());
    let [y, u, v] = out.planes_mut();
    match format {
        PixelFormat::I420 => {
            let (luma, chroma) = data.split_at(y.len());
            y.copy_from_slice(luma);
            u.copy_from_slice(&chroma[..u.len()]);
            v.copy_from_slice(&chroma[u.len()..]);
        }
        PixelFormat::Nv12 => {
            let (luma, chroma) = data.split_at(y.len());
            y.copy_from_slice(luma);
            for (pair, (u, v)) in chroma.chunks_exact(2).zip(u.iter_mut().zip(v)) {
                (*u, *v) = (pair[0], pair[1]);
            }
        }
        PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::Rgba => {
            read_rgb(format, (width, height), data, [y, u, v]);
        }
    }
    Ok(())
}

fn read_rgb(format: PixelFormat, (width, height): (u32, u32), data: &[u8], [y, u, v]: [&mut [u8]; 3]) {
    let half = width.div_ceil(2);
    let mut image = YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: width,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: half,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: half,
        width,
        height,
    };
    let (range, matrix, mode) = (YuvRange::Limited, YuvStandardMatrix::Bt601, YuvConversionMode::Balanced);
    match format {
        PixelFormat::Bgr24 => yuv::bgr_to_yuv420(&mut image, data, 3 * width, range, matrix, mode),
        PixelFormat::Rgba => yuv::rgba_to_yuv420(&mut image, data, 4 * width, range, matrix, mode),
        _ => yuv::rgb_to_yuv420(&mut image, data, 3 * width, range, matrix, mode),
    }
    .expect("the planes and `data` have the size's length");
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [PixelFormat; 5] =
        [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Rgb24, PixelFormat::Bgr24, PixelFormat::Rgba];

    /// Smooth in luma and chroma, so that 4:2:0 loses little.
    fn gradient(width: u32, height: u32) -> Picture {
        let mut picture = Picture::black(width, height).expect("small");
        let half = width.div_ceil(2) as usize;
        let [y, u, v] = picture.planes_mut();
        for (i, p) in y.iter_mut().enumerate() {
            *p = 60 + u8::try_from((i % width as usize * 120) / width as usize).expect("below 120");
        }
        for (i, (u, v)) in u.iter_mut().zip(v).enumerate() {
            *u = 110 + u8::try_from(i % half * 30 / half).expect("below 30");
            *v = 140 - u8::try_from(i % half * 30 / half).expect("below 30");
        }
        picture
    }

    #[test]
    fn every_format_round_trips_at_even_and_odd_sizes() {
        for (width, height) in [(64, 48), (33, 17), (1, 1), (2, 3)] {
            let picture = gradient(width, height);
            for format in FORMATS {
                let converted =
                    Converter::new().convert(&picture.view(), format, Fit::Native).expect("within limits");
                assert_eq!(converted.data.len(), format.bytes(width, height));
                let mut back = Picture::black(1, 1).expect("small");
                to_i420(format, (width, height), &converted.data, &mut back).expect("right length");
                let worst = back.data().iter().zip(picture.data()).map(|(a, b)| a.abs_diff(*b)).max();
                let allowed = if matches!(format, PixelFormat::I420 | PixelFormat::Nv12) { 0 } else { 4 };
                assert!(worst <= Some(allowed), "{format:?} {width}x{height}: off by {worst:?}");
            }
        }
    }

    #[test]
    fn primary_colours_are_those_of_bt601() {
        for (rgb, yuv) in
            [([255, 0, 0], [81, 90, 240]), ([0, 255, 0], [145, 54, 34]), ([0, 0, 255], [41, 240, 110])]
        {
            let mut picture = Picture::black(4, 4).expect("small");
            for (plane, value) in picture.planes_mut().into_iter().zip(yuv) {
                plane.fill(value);
            }
            let out =
                Converter::new().convert(&picture.view(), PixelFormat::Rgb24, Fit::Native).expect("small");
            for (got, want) in out.data.iter().zip(rgb.iter().cycle()) {
                assert!(got.abs_diff(*want) <= 3, "{rgb:?}: {:?}", &out.data[..3]);
            }
        }
    }

    #[test]
    fn fitting_keeps_the_aspect_ratio_with_even_widths() {
        for (from, rows, to) in [
            ((1280, 720), 360, (640, 360)),
            ((640, 480), 720, (960, 720)),
            ((1366, 768), 720, (1280, 720)),
            ((720, 1280), 360, (202, 360)),
            ((1, 8000), 360, (2, 360)),
        ] {
            assert_eq!(Fit::Height(rows).size(from.0, from.1), Ok(to));
        }
        assert_eq!(Fit::Native.size(33, 17), Ok((33, 17)));
        assert!(Fit::Height(0).size(10, 10).is_err());
        assert!(Fit::Height(1080).size(8000, 1).is_err());
    }

    #[test]
    fn scaling_keeps_a_gradient_from_a_strided_source() {
        let picture = gradient(128, 64);
        let view = picture.view();
        let crop = I420::new((64, 64), view.planes(), view.strides(), view.colour()).expect("a left half");
        let mut converter = Converter::new();
        let out = converter.convert(&crop, PixelFormat::I420, Fit::Height(32)).expect("small");
        assert_eq!((out.width, out.height), (32, 32));
        for (x, value) in out.data[..32].iter().enumerate() {
            let want = 60 + (2 * x * 120) / 128;
            assert!(usize::from(*value).abs_diff(want) <= 2, "column {x}: {value} not {want}");
        }
    }

    #[test]
    fn a_dropped_picture_s_memory_is_used_again_and_a_held_one_s_is_not() {
        let picture = gradient(16, 16);
        let mut converter = Converter::new();
        let mut next =
            || converter.convert(&picture.view(), PixelFormat::Rgb24, Fit::Native).expect("small").data;
        let first = next();
        let second = next();
        assert_ne!(first.as_ptr(), second.as_ptr());
        let address = first.as_ptr();
        drop(first);
        assert_eq!(next().as_ptr(), address);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let mut out = Picture::black(1, 1).expect("small");
        for format in FORMATS {
            assert!(to_i420(format, (4, 4), &[0; 7], &mut out).is_err());
            assert!(to_i420(format, (0, 4), &[], &mut out).is_err());
        }
    }
}
