//! A frame number in the picture that survives lossy coding and scaling.
//!
//! Geometry (the web tests draw and read the same from a canvas): a strip at the top of the picture, **height/10**
//! high, of **20 blocks** from left to right, each **width/20** wide. Block edges are at `round(k * width / 20)` and
//! `round(height / 10)`.
//!
//! | block | content |
//! |---|---|
//! | 0 | white, the reference |
//! | 1 | black, the reference |
//! | 2 to 17 | 16 bits of the number, the most significant first: white = 1 |
//! | 18 | even parity of the number's upper eight bits: white when an odd number of them is 1 |
//! | 19 | even parity of its lower eight bits |
//!
//! White is Y = 235, black Y = 16, both with U = V = 128 (RGB 255 and 0). A reader takes the mean luma of the middle
//! half (both ways) of each block, and the threshold halfway between the two references, which must differ by 64.

use crate::picture::{I420, Picture};

/// Bits of the number: it wraps at 65,536, after 36 minutes at 30 pictures per second.
pub const NUMBER_BITS: u32 = 16;

const BLOCKS: u32 = 20;

/// The references must differ by this much, or there is no strip.
const MIN_CONTRAST: u32 = 64;

fn edge(block: u32, length: u32, parts: u32) -> u32 {
    (2 * block * length + parts) / (2 * parts)
}

fn parities(number: u16) -> [bool; 2] {
    [(number >> 8).count_ones() % 2 == 1, (number & 0xff).count_ones() % 2 == 1]
}

/// Draws the strip. The picture must be at least 40 x 20 pixels for it to be readable.
pub fn draw_frame_number(picture: &mut Picture, number: u16) {
    let bits = (0..NUMBER_BITS).rev().map(|bit| number >> bit & 1 == 1);
    let blocks: Vec<bool> = [true, false].into_iter().chain(bits).chain(parities(number)).collect();
    let (width, rows) = (picture.width(), edge(1, picture.height(), 10));
    let [y, u, v] = picture.planes_mut();
    for row in y.chunks_mut(width as usize).take(rows as usize) {
        for (block, white) in (0..).zip(&blocks) {
            let (from, to) = (edge(block, width, BLOCKS) as usize, edge(block + 1, width, BLOCKS) as usize);
            row[from..to].fill(if *white { 235 } else { 16 });
        }
    }
    let half = width.div_ceil(2) as usize;
    for plane in [u, v] {
        plane[..half * rows.div_ceil(2) as usize].fill(128);
    }
}

/// Reads the strip; `None` where there is none or a parity is wrong.
pub fn read_frame_number(picture: &I420<'_>) -> Option<u16> {
    let white = block_luma(picture, 0)?;
    let black = block_luma(picture, 1)?;
    if white < black + MIN_CONTRAST {
        return None;
    }
    let threshold = u32::midpoint(white, black);
    let bit = |block: u32| block_luma(picture, block).map(|luma| luma > threshold);
    let mut number = 0u16;
    for block in 0..NUMBER_BITS {
        number = number << 1 | u16::from(bit(2 + block)?);
    }
    (parities(number) == [bit(18)?, bit(19)?]).then_some(number)
}

/// The mean luma of the middle of a block.
fn block_luma(picture: &I420<'_>, block: u32) -> Option<u32> {
    let (left, right) = (edge(block, picture.width(), BLOCKS), edge(block + 1, picture.width(), BLOCKS));
    let bottom = edge(1, picture.height(), 10);
    let (skip_x, skip_y) = ((right - left) / 4, bottom / 4);
    let columns = (left + skip_x) as usize..(right - skip_x) as usize;
    let rows = picture.rows(0).skip(skip_y as usize).take((bottom - 2 * skip_y) as usize);
    let (mut sum, mut count) = (0u32, 0u32);
    for row in rows {
        let part = row.get(columns.clone())?;
        sum += part.iter().map(|p| u32::from(*p)).sum::<u32>();
        count += u32::try_from(part.len()).ok()?;
    }
    sum.checked_div(count)
}

#[cfg(test)]
mod tests {
    use antiphon_base::{PixelFormat, VideoCodec};

    use super::*;
    use crate::convert::{Converter, Fit};
    use crate::video::{Decoder, Encoder, EncoderConfig};

    #[test]
    fn numbers_are_read_back_at_many_sizes_and_after_scaling() {
        for (width, height) in [(1280, 720), (640, 360), (320, 180), (333, 187), (40, 20)] {
            let mut picture = Picture::black(width, height).expect("within limits");
            for number in [0, 1, 0x5555, 0xaaaa, 0xffff, 12_345] {
                draw_frame_number(&mut picture, number);
                assert_eq!(read_frame_number(&picture.view()), Some(number), "{width}x{height}");
                if height < 180 {
                    continue;
                }
                let small = Converter::new()
                    .convert(&picture.view(), PixelFormat::I420, Fit::Height(120))
                    .expect("within limits");
                let colour = picture.view().colour();
                let view = I420::from_tight(small.width, small.height, &small.data, colour);
                assert_eq!(read_frame_number(&view.expect("tight")), Some(number), "{width}x{height} scaled");
            }
        }
    }

    #[test]
    fn numbers_survive_coding() {
        for codec in [VideoCodec::Vp8, VideoCodec::H264] {
            let mut encoder = Encoder::new(codec, EncoderConfig::for_size(320, 180, 30)).expect("supported");
            let mut decoder = Decoder::new(codec).expect("supported");
            let mut picture = Picture::black(320, 180).expect("small");
            let mut read = 0;
            for number in 1000..1030u16 {
                draw_frame_number(&mut picture, number);
                let unit =
                    encoder.encode(&picture.view(), u64::from(number) * 3000, false).expect("right size");
                let Some(unit) = unit else { continue };
                let view = decoder.decode(&unit.data).expect("good").expect("shown");
                assert_eq!(read_frame_number(&view), Some(number), "{codec:?}");
                read += 1;
            }
            assert!(read >= 25, "{codec:?}: {read}");
        }
    }

    #[test]
    fn a_picture_without_a_strip_has_no_number() {
        assert_eq!(read_frame_number(&Picture::black(320, 180).expect("small").view()), None);
        assert_eq!(read_frame_number(&Picture::black(2, 2).expect("small").view()), None);
        let mut picture = Picture::black(320, 180).expect("small");
        draw_frame_number(&mut picture, 7);
        picture.planes_mut()[0].chunks_mut(320).take(18).for_each(|row| row[288..304].fill(235));
        assert_eq!(read_frame_number(&picture.view()), None);
    }
}
