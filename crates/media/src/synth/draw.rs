//! Boxes, level meters and text on I420 pictures.

use crate::mix::SILENCE_DBOV;
use crate::picture::Picture;

/// A colour in BT.601, limited range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    /// Luma, 16 to 235.
    pub y: u8,
    /// Blue difference, 16 to 240.
    pub u: u8,
    /// Red difference, 16 to 240.
    pub v: u8,
}

/// Black.
pub const BLACK: Colour = Colour { y: 16, u: 128, v: 128 };
/// White.
pub const WHITE: Colour = Colour { y: 235, u: 128, v: 128 };
/// A dark grey.
pub const GREY: Colour = Colour { y: 60, u: 128, v: 128 };
/// A calm green.
pub const GREEN: Colour = Colour { y: 145, u: 80, v: 60 };
/// Yellow.
pub const YELLOW: Colour = Colour { y: 190, u: 40, v: 150 };
/// Red.
pub const RED: Colour = Colour { y: 81, u: 90, v: 240 };

/// Draws on a picture. What lies outside is cut off.
pub struct Canvas<'a> {
    picture: &'a mut Picture,
}

impl<'a> Canvas<'a> {
    /// Draws on `picture`.
    pub fn new(picture: &'a mut Picture) -> Self {
        Self { picture }
    }

    /// Fills everything.
    pub fn clear(&mut self, colour: Colour) {
        let [y, u, v] = self.picture.planes_mut();
        y.fill(colour.y);
        u.fill(colour.u);
        v.fill(colour.v);
    }

    /// Fills a box from (`x`, `y`), `width` x `height` pixels.
    pub fn fill(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colour: Colour) {
        let all = (self.picture.width(), self.picture.height());
        let (x, y) = (x.min(all.0), y.min(all.1));
        let (right, bottom) = (x.saturating_add(width).min(all.0), y.saturating_add(height).min(all.1));
        if x >= right || y >= bottom {
            return;
        }
        let half = all.0.div_ceil(2);
        let [luma, u, v] = self.picture.planes_mut();
        fill_plane(luma, all.0, (x..right, y..bottom), colour.y);
        let chroma = (x / 2..right.div_ceil(2), y / 2..bottom.div_ceil(2));
        fill_plane(u, half, chroma.clone(), colour.u);
        fill_plane(v, half, chroma, colour.v);
    }

    /// A horizontal level meter: green, yellow, red over a grey ground, from -60 dBov (left) to 0.
    /// `level`: -dBov as in RFC 6464.
    pub fn meter(&mut self, at: (u32, u32), (width, height): (u32, u32), level: u8) {
        const SPAN_DB: u32 = 60;
        self.fill(at, (width, height), GREY);
        if level >= SILENCE_DBOV {
            return;
        }
        let lit = SPAN_DB.saturating_sub(level.into());
        for (from, to, colour) in [(0, 40, GREEN), (40, 54, YELLOW), (54, SPAN_DB, RED)] {
            let end = lit.min(to);
            if end > from {
                let (left, right) = (from * width / SPAN_DB, end * width / SPAN_DB);
                self.fill((at.0.saturating_add(left), at.1), (right - left, height), colour);
            }
        }
    }

    /// Text in a 5x7 font, each dot `scale` pixels, each letter 6 dots wide. Letters are shown as capitals;
    /// characters the font lacks as a box.
    pub fn text(&mut self, (x, y): (u32, u32), scale: u32, colour: Colour, text: &str) {
        for (n, character) in (0u32..).zip(text.chars()) {
            let left = x.saturating_add(n.saturating_mul(6 * scale));
            if left >= self.picture.width() {
                return;
            }
            for (row, dots) in (0u32..).zip(glyph(character)) {
                for column in (0u32..5).filter(|column| dots >> (4 - column) & 1 == 1) {
                    let at = (left + column * scale, y.saturating_add(row * scale));
                    self.fill(at, (scale, scale), colour);
                }
            }
        }
    }

    /// The width of `text` in pixels.
    pub fn text_width(scale: u32, text: &str) -> u32 {
        u32::try_from(text.chars().count()).unwrap_or(u32::MAX).saturating_mul(6 * scale)
    }
}

fn fill_plane(
    plane: &mut [u8],
    stride: u32,
    (columns, rows): (std::ops::Range<u32>, std::ops::Range<u32>),
    value: u8,
) {
    let lines = plane.chunks_mut(stride as usize).take(rows.end as usize).skip(rows.start as usize);
    for line in lines {
        line[columns.start as usize..columns.end as usize].fill(value);
    }
}

/// Seven rows of five dots, the leftmost dot in bit 4.
fn glyph(character: char) -> [u8; 7] {
    match character.to_ascii_uppercase() {
        ' ' => [0; 7],
        '0' => [0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e],
        '1' => [0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e],
        '2' => [0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f],
        '3' => [0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e],
        '4' => [0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02],
        '5' => [0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e],
        '6' => [0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e],
        '7' => [0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08],
        '8' => [0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e],
        '9' => [0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c],
        'A' => [0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
        'B' => [0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e],
        'C' => [0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e],
        'D' => [0x1c, 0x12, 0x11, 0x11, 0x11, 0x12, 0x1c],
        'E' => [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f],
        'F' => [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x10],
        'G' => [0x0e, 0x11, 0x10, 0x17, 0x11, 0x11, 0x0f],
        'H' => [0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
        'I' => [0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e],
        'J' => [0x07, 0x02, 0x02, 0x02, 0x02, 0x12, 0x0c],
        'K' => [0x11, 0x12, 0x14, 0x18, 0x14, 0x12, 0x11],
        'L' => [0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f],
        'M' => [0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11],
        'N' => [0x11, 0x11, 0x19, 0x15, 0x13, 0x11, 0x11],
        'O' => [0x0e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e],
        'P' => [0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10],
        'Q' => [0x0e, 0x11, 0x11, 0x11, 0x15, 0x12, 0x0d],
        'R' => [0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11],
        'S' => [0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e],
        'T' => [0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04],
        'U' => [0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e],
        'V' => [0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04],
        'W' => [0x11, 0x11, 0x11, 0x15, 0x15, 0x15, 0x0a],
        'X' => [0x11, 0x11, 0x0a, 0x04, 0x0a, 0x11, 0x11],
        'Y' => [0x11, 0x11, 0x11, 0x0a, 0x04, 0x04, 0x04],
        'Z' => [0x1f, 0x01, 0x02, 0x04, 0x08, 0x10, 0x1f],
        '.' => [0, 0, 0, 0, 0, 0x0c, 0x0c],
        ',' => [0, 0, 0, 0, 0x0c, 0x04, 0x08],
        ':' => [0, 0x0c, 0x0c, 0, 0x0c, 0x0c, 0],
        '-' => [0, 0, 0, 0x1f, 0, 0, 0],
        '_' => [0, 0, 0, 0, 0, 0, 0x1f],
        '+' => [0, 0x04, 0x04, 0x1f, 0x04, 0x04, 0],
        '/' => [0, 0x01, 0x02, 0x04, 0x08, 0x10, 0],
        '%' => [0x18, 0x19, 0x02, 0x04, 0x08, 0x13, 0x03],
        '!' => [0x04, 0x04, 0x04, 0x04, 0, 0, 0x04],
        '?' => [0x0e, 0x11, 0x01, 0x02, 0x04, 0, 0x04],
        '\'' => [0x0c, 0x04, 0x08, 0, 0, 0, 0],
        '(' => [0x02, 0x04, 0x08, 0x08, 0x08, 0x04, 0x02],
        ')' => [0x08, 0x04, 0x02, 0x02, 0x02, 0x04, 0x08],
        _ => [0x1f, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1f],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lit(picture: &Picture, value: u8) -> usize {
        picture.view().planes()[0].iter().filter(|p| **p == value).count()
    }

    #[test]
    fn boxes_are_cut_at_the_border() {
        let mut picture = Picture::black(31, 17).expect("small");
        let mut canvas = Canvas::new(&mut picture);
        canvas.fill((28, 15), (100, 100), WHITE);
        canvas.fill((31, 0), (5, 5), WHITE);
        canvas.fill((u32::MAX, u32::MAX), (u32::MAX, 5), WHITE);
        canvas.text((29, 14), u32::MAX / 64, WHITE, "AB");
        assert!(lit(&picture, 235) >= 6);
    }

    #[test]
    fn a_meter_is_longer_for_a_louder_level() {
        let length = |level| {
            let mut picture = Picture::black(120, 8).expect("small");
            Canvas::new(&mut picture).meter((0, 0), (120, 8), level);
            120 * 8 - lit(&picture, GREY.y)
        };
        assert_eq!((length(127), length(60), length(30), length(0)), (0, 0, 60 * 8, 120 * 8));
    }

    #[test]
    fn text_draws_its_dots() {
        let mut picture = Picture::black(64, 16).expect("small");
        Canvas::new(&mut picture).text((0, 0), 2, WHITE, "I-");
        // An I has 11 dots, a dash 5; each is 2 x 2.
        assert_eq!(lit(&picture, 235), (11 + 5) * 4);
        assert_eq!(Canvas::text_width(2, "I-"), 24);
    }
}
