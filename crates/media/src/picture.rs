//! Pictures in planar YUV 4:2:0: a borrowed view with strides, and an owned tight one.

/// The most pixels of a picture we decode, scale or encode: H.264 level 5.2, above 4K UHD's 3840x2160.
pub const MAX_PIXELS: u64 = 4096 * 2304;

/// The longest side: what libvpx and OpenH264 take, and small enough that no `u32` product overflows.
pub const MAX_SIDE: u32 = 8192;

/// A picture's size is zero, too large, or its planes are shorter than it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Zero, over [`MAX_SIDE`] or over [`MAX_PIXELS`].
    #[error("a picture of {width}x{height} is outside 1x1 to {MAX_PIXELS} pixels")]
    Limits {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// A plane holds fewer bytes than stride and height ask for, or a stride is below the width.
    #[error("plane {plane} is too short for {width}x{height}")]
    Plane {
        /// 0 = Y, 1 = U, 2 = V; of packed formats always 0.
        plane: u8,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
}

/// Checks a size against [`MAX_PIXELS`] and [`MAX_SIDE`].
pub fn check_size(width: u32, height: u32) -> Result<(), SizeError> {
    let pixels = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(SizeError::Limits { width, height });
    }
    Ok(())
}

/// The matrix between YUV and RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matrix {
    /// ITU-R BT.601: what WebRTC senders mean when they say nothing.
    #[default]
    Bt601,
    /// ITU-R BT.709.
    Bt709,
}

/// How the numbers in the planes are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Colour {
    /// YUV to RGB.
    pub matrix: Matrix,
    /// Y from 0 to 255 instead of 16 to 235.
    pub full_range: bool,
}

/// A borrowed I420 picture. Chroma is halved both ways, rounded up. Strides are in bytes.
#[derive(Debug, Clone, Copy)]
pub struct I420<'a> {
    width: u32,
    height: u32,
    planes: [&'a [u8]; 3],
    strides: [u32; 3],
    colour: Colour,
}

impl<'a> I420<'a> {
    /// Checks sizes; planes may be longer than needed.
    pub fn new(
        (width, height): (u32, u32),
        planes: [&'a [u8]; 3],
        strides: [u32; 3],
        colour: Colour,
    ) -> Result<Self, SizeError> {
        check_size(width, height)?;
        let chroma = (width.div_ceil(2), height.div_ceil(2));
        let sizes = [(width, height), chroma, chroma];
        let mut cut = planes;
        for (index, ((w, h), plane)) in (0u8..).zip(sizes.into_iter().zip(&mut cut)) {
            let stride = strides[usize::from(index)];
            let need = stride as usize * (h as usize - 1) + w as usize;
            match plane.get(..need) {
                Some(rows) if stride >= w => *plane = rows,
                _ => return Err(SizeError::Plane { plane: index, width, height }),
            }
        }
        Ok(Self { width, height, planes: cut, strides, colour })
    }

    /// A view of tight planes that follow each other ([`antiphon_base::PixelFormat::I420`]).
    pub fn from_tight(width: u32, height: u32, data: &'a [u8], colour: Colour) -> Result<Self, SizeError> {
        check_size(width, height)?;
        let half = width.div_ceil(2);
        let luma = width as usize * height as usize;
        let chroma = half as usize * height.div_ceil(2) as usize;
        let missing = SizeError::Plane { plane: 0, width, height };
        let y = data.get(..luma).ok_or(missing)?;
        let u = data.get(luma..luma + chroma).ok_or(missing)?;
        let v = data.get(luma + chroma..luma + 2 * chroma).ok_or(missing)?;
        Self::new((width, height), [y, u, v], [width, half, half], colour)
    }

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Plane 0 = Y, 1 = U, 2 = V, cut to what the picture needs.
    pub fn planes(&self) -> [&'a [u8]; 3] {
        self.planes
    }

    /// Bytes from row to row, per plane.
    pub fn strides(&self) -> [u32; 3] {
        self.strides
    }

    /// Colour meaning.
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// Width and height of a plane.
    pub fn plane_size(&self, plane: usize) -> (u32, u32) {
        if plane == 0 { (self.width, self.height) } else { (self.width.div_ceil(2), self.height.div_ceil(2)) }
    }

    /// Rows of a plane without padding.
    pub fn rows(&self, plane: usize) -> impl Iterator<Item = &'a [u8]> {
        let width = self.plane_size(plane).0 as usize;
        let stride = self.strides[plane] as usize;
        self.planes[plane].chunks(stride).map(move |row| &row[..width])
    }

    /// Appends the tight planes to `out`.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        for plane in 0..3 {
            for row in self.rows(plane) {
                out.extend_from_slice(row);
            }
        }
    }
}

/// An owned I420 picture with tight planes that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    data: Vec<u8>,
    colour: Colour,
}

impl Picture {
    /// A black picture (BT.601, limited range).
    pub fn black(width: u32, height: u32) -> Result<Self, SizeError> {
        check_size(width, height)?;
        let luma = width as usize * height as usize;
        let chroma = width.div_ceil(2) as usize * height.div_ceil(2) as usize;
        let mut data = vec![16; luma];
        data.resize(luma + 2 * chroma, 128);
        Ok(Self { width, height, data, colour: Colour::default() })
    }

    /// A copy of a view.
    pub fn copy_of(view: &I420<'_>) -> Self {
        let mut data = Vec::with_capacity(view.planes.iter().map(|p| p.len()).sum());
        view.copy_to(&mut data);
        Self { width: view.width, height: view.height, data, colour: view.colour }
    }

    /// Copies a view into this picture, keeping the allocation.
    pub fn copy_from(&mut self, view: &I420<'_>) {
        self.data.clear();
        view.copy_to(&mut self.data);
        (self.width, self.height, self.colour) = (view.width, view.height, view.colour);
    }

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The planes Y, U, V, tight.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The planes Y, U, V, tight, to draw on.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let luma = self.width as usize * self.height as usize;
        let chroma = self.width.div_ceil(2) as usize * self.height.div_ceil(2) as usize;
        let (y, rest) = self.data.split_at_mut(luma);
        let (u, v) = rest.split_at_mut(chroma);
        [y, u, v]
    }

    /// Says what the numbers mean.
    pub fn set_colour(&mut self, colour: Colour) {
        self.colour = colour;
    }

    /// As a view.
    pub fn view(&self) -> I420<'_> {
        I420::from_tight(self.width, self.height, &self.data, self.colour)
            .expect("the planes were laid out for this size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_limited() {
        assert!(check_size(4096, 2304).is_ok());
        for (w, h) in [(0, 1), (1, 0), (4097, 2304), (8193, 1), (u32::MAX, u32::MAX)] {
            assert_eq!(check_size(w, h), Err(SizeError::Limits { width: w, height: h }));
        }
    }

    #[test]
    fn short_planes_and_narrow_strides_are_refused() {
        let data = [0u8; 64];
        let colour = Colour::default();
        assert!(I420::new((4, 4), [&data[..16], &data[..4], &data[..4]], [4, 2, 2], colour).is_ok());
        assert!(I420::new((4, 4), [&data[..15], &data[..4], &data[..4]], [4, 2, 2], colour).is_err());
        assert!(I420::new((4, 4), [&data[..16], &data[..4], &data[..4]], [4, 1, 2], colour).is_err());
        assert!(I420::from_tight(4, 4, &data[..23], colour).is_err());
    }

    #[test]
    fn a_view_with_padding_copies_tight_and_back() {
        let padded: Vec<u8> = (0..=255).collect();
        let view =
            I420::new((3, 3), [&padded[..], &padded[100..], &padded[200..]], [8, 4, 4], Colour::default());
        let picture = Picture::copy_of(&view.expect("fits"));
        assert_eq!(picture.data(), [0, 1, 2, 8, 9, 10, 16, 17, 18, 100, 101, 104, 105, 200, 201, 204, 205]);
        assert_eq!(Picture::copy_of(&picture.view()), picture);
    }
}
