//! Stamped payloads of VP9 (RFC 9628), non-flexible mode: of one layer, of temporal ones, of spatial ones in one stream.

use super::nested::size_of;
use super::{Parsed, Stamp};

/// The first octet: picture id, inter-picture, layers, start and end of a frame, structure, no reference for upper layers.
const I: u8 = 0x80;
const P: u8 = 0x40;
const L: u8 = 0x20;
const B: u8 = 0x08;
const E: u8 = 0x04;
const V: u8 = 0x02;
const Z: u8 = 0x01;
/// One may switch up: what follows in upper temporal layers refers to nothing before this picture but lower ones.
const U: u8 = 0x10;
/// The structure tells sizes.
const Y: u8 = 0x10;

impl Stamp {
    /// A VP9 payload of `bytes` bytes, with this picture id and TL0PICIDX.
    pub fn vp9(&self, (picture_id, lowest): (u16, u8), size: (u16, u16), bytes: usize) -> Vec<u8> {
        let flag = |bit: u8, set: bool| if set { bit } else { 0 };
        let layered = self.nested.is_some() || self.place.is_some();
        let tells = self.key && self.index == 0 && self.is_lowest();
        let is_top = self.nested.is_none_or(|n| self.layer + 1 == n.mode.layers);
        let alone = is_top || (!self.key && self.nested.is_some_and(|n| n.mode.key_only));
        let [high, low] = picture_id.to_be_bytes();
        let first = I
            | flag(P, !self.key)
            | flag(L, layered)
            | flag(B, self.index == 0)
            | flag(E, self.index + 1 == self.count)
            | flag(V, tells)
            | flag(Z, alone);
        let mut out = vec![first, 0x80 | high, low];
        if layered {
            let spatial_id = if self.nested.is_some() { self.layer } else { 0 };
            out.extend([
                self.temporal_id() << 5 | U | spatial_id << 1 | u8::from(self.builds_on_lower()),
                lowest,
            ]);
        }
        if tells {
            let layers = self.nested.map_or(1, |n| n.mode.layers);
            out.push((layers - 1) << 5 | Y);
            for layer in 0..layers {
                let (width, height) = self.nested.map_or(size, |n| size_of(layer, n.mode, size));
                out.extend(width.to_be_bytes());
                out.extend(height.to_be_bytes());
            }
        }
        self.write(&mut out);
        out.resize(bytes.max(out.len()), 0x55);
        out
    }
}

/// Reads a payload made by [`Stamp::vp9`].
pub fn parse(payload: &[u8]) -> Option<Parsed> {
    let [first, high, low] = *payload.first_chunk()?;
    let mut at = 3;
    let mut lowest = None;
    if first & L != 0 {
        lowest = payload.get(4).copied();
        at = 5;
    }
    if first & V != 0 {
        at += 1 + 4 * (usize::from(payload.get(at)? >> 5) + 1);
    }
    let stamp = Stamp::read(payload.get(at..)?)?;
    let picture_id = Some(u16::from_be_bytes([high & 0x7f, low]));
    Some(Parsed { picture_id, lowest, ..Parsed::new(stamp) })
}
