//! VP9 payload descriptor (RFC 9628, 4.2), flexible and non-flexible mode, with its scalability structure.

use super::bits::Bytes;
use super::vp8::{Field, PictureId};

/// Most reference indices of one frame in flexible mode (RFC 9628, 4.2: up to three P_DIFF).
const MAX_REFERENCES: usize = 3;

/// Why a VP9 payload descriptor did not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The payload ends inside the descriptor or has nothing behind it.
    #[error("VP9 payload ends inside its descriptor")]
    Short,
    /// More than three reference indices.
    #[error("VP9 descriptor has more than three reference indices")]
    References,
}

/// Where a frame stands in its layers (the octets behind L).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// TID.
    pub temporal_id: u8,
    /// U: one may switch up to this temporal layer here.
    pub switching_up: bool,
    /// SID.
    pub spatial_id: u8,
    /// D: predicted from the spatial layer below.
    pub inter_layer: bool,
    /// TL0PICIDX, in non-flexible mode only.
    pub tl0_pic_idx: Option<Field>,
}

/// A parsed payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Bytes of the descriptor; the VP9 data begin here.
    pub header_len: u16,
    /// I.
    pub picture_id: Option<PictureId>,
    /// P: predicted from an earlier picture.
    pub inter_picture: bool,
    /// F: flexible mode.
    pub flexible: bool,
    /// B: a layer frame starts here.
    pub starts_layer_frame: bool,
    /// E: a layer frame ends here.
    pub ends_layer_frame: bool,
    /// Z: not a reference for upper spatial layers.
    pub not_upper_reference: bool,
    /// L.
    pub layer: Option<Layer>,
    /// Width and height of the largest spatial layer, where a scalability structure tells them; without one, on
    /// the first packet of a key picture, those of its frame header.
    pub resolution: Option<(u16, u16)>,
    /// Number of spatial layers, where a scalability structure tells it.
    pub spatial_layers: Option<u8>,
    /// Where in the payload the scalability structure tells sizes.
    sizes_at: Option<u16>,
}

impl Descriptor {
    /// Parses the descriptor; also returns the VP9 data behind it (never empty).
    pub fn parse(payload: &[u8]) -> Result<(Self, &[u8]), Error> {
        let mut r = Bytes::new(payload);
        let first = r.u8().ok_or(Error::Short)?;
        let mut d = Self {
            header_len: 1,
            picture_id: None,
            inter_picture: first & 0x40 != 0,
            flexible: first & 0x10 != 0,
            starts_layer_frame: first & 0x08 != 0,
            ends_layer_frame: first & 0x04 != 0,
            not_upper_reference: first & 0x01 != 0,
            layer: None,
            resolution: None,
            spatial_layers: None,
            sizes_at: None,
        };
        if first & 0x80 != 0 {
            d.picture_id = Some(PictureId::read(&mut r).ok_or(Error::Short)?);
        }
        if first & 0x20 != 0 {
            d.layer = Some(layer(&mut r, d.flexible).ok_or(Error::Short)?);
        }
        if d.flexible && d.inter_picture {
            skip_references(&mut r)?;
        }
        if first & 0x02 != 0 {
            d.read_structure(&mut r).ok_or(Error::Short)?;
        }
        d.header_len = u16::try_from(r.position()).map_err(|_| Error::Short)?;
        let data = r.rest();
        if data.is_empty() {
            return Err(Error::Short);
        }
        if d.starts_keyframe() && d.resolution.is_none() {
            d.resolution = header_resolution(data);
        }
        Ok((d, data))
    }

    fn read_structure(&mut self, r: &mut Bytes<'_>) -> Option<()> {
        let head = r.u8()?;
        let layers = (head >> 5) + 1;
        self.spatial_layers = Some(layers);
        if head & 0x10 != 0 {
            let at = u16::try_from(r.position()).ok()?;
            self.sizes_at = Some(at);
            let mut largest = (0, 0);
            for _ in 0..layers {
                let size = (r.u16()?, r.u16()?);
                if size.1 >= largest.1 {
                    largest = size;
                }
            }
            self.resolution = Some(largest);
        }
        if head & 0x08 != 0 {
            for _ in 0..r.u8()? {
                let references = (r.u8()? >> 2) & 0x03;
                r.take(usize::from(references))?;
            }
        }
        Some(())
    }

    /// Width and height of each spatial layer, lowest first, where the structure in `payload` (from which this was
    /// parsed) tells them.
    pub fn sizes(&self, payload: &[u8]) -> Vec<(u16, u16)> {
        let (Some(at), Some(layers)) = (self.sizes_at, self.spatial_layers) else { return Vec::new() };
        let mut r = Bytes::new(payload.get(usize::from(at)..).unwrap_or(&[]));
        (0..layers).map_while(|_| Some((r.u16()?, r.u16()?))).collect()
    }

    /// First packet of a picture: the start of its lowest spatial layer.
    pub fn starts_frame(&self) -> bool {
        self.starts_layer_frame && self.layer.is_none_or(|l| l.spatial_id == 0)
    }

    /// First packet of a key picture.
    pub fn starts_keyframe(&self) -> bool {
        self.starts_frame() && !self.inter_picture
    }

    /// TL0PICIDX, in non-flexible mode with layers.
    pub fn tl0_pic_idx(&self) -> Option<Field> {
        self.layer.and_then(|l| l.tl0_pic_idx)
    }

    /// Writes other numbers into `payload` (byte-identical to the one parsed), each where it has a place.
    /// A 7-bit picture id takes the low 7 bits. Lengths never change.
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0_pic_idx: Option<u8>) {
        if let Some(field) = self.picture_id {
            field.patch(payload, picture_id);
        }
        if let (Some(field), Some(value)) = (self.tl0_pic_idx(), tl0_pic_idx) {
            field.patch(payload, value);
        }
    }
}

fn layer(r: &mut Bytes<'_>, flexible: bool) -> Option<Layer> {
    let byte = r.u8()?;
    let tl0_pic_idx = if flexible {
        None
    } else {
        let offset = u8::try_from(r.position()).ok()?;
        Some(Field { value: r.u8()?, offset })
    };
    Some(Layer {
        temporal_id: byte >> 5,
        switching_up: byte & 0x10 != 0,
        spatial_id: (byte >> 1) & 0x07,
        inter_layer: byte & 0x01 != 0,
        tl0_pic_idx,
    })
}

fn skip_references(r: &mut Bytes<'_>) -> Result<(), Error> {
    for _ in 0..MAX_REFERENCES {
        if r.u8().ok_or(Error::Short)? & 0x01 == 0 {
            return Ok(());
        }
    }
    Err(Error::References)
}

/// Width and height from the uncompressed header of a key frame of profile 0 (VP9 bitstream specification, 6.2).
fn header_resolution(data: &[u8]) -> Option<(u16, u16)> {
    // frame_marker 2, profile 0, no show_existing_frame, key frame; then the sync code.
    let (first, rest) = data.split_first()?;
    if first & 0xfc != 0x80 {
        return None;
    }
    match *rest.get(..8)? {
        // 3 bits of color_space (7 is RGB, not in profile 0), 1 of color_range, then the sizes less one.
        [0x49, 0x83, 0x42, a, b, c, d, e] if a >> 5 != 7 => {
            let nibbles = |x: u8, y: u8, z: u8| u16::from_be_bytes([x << 4 | y >> 4, y << 4 | z >> 4]);
            Some((nibbles(a, b, c).checked_add(1)?, nibbles(c, d, e).checked_add(1)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_picture_of_three_spatial_layers_tells_the_largest() {
        // I L B V; picture id 0x0102 in 15 bits; TID 0, SID 0; TL0PICIDX 9; SS: 3 layers, Y, G with 2 pictures.
        let mut payload = vec![0xaa, 0x81, 0x02, 0x00, 9, 0x58];
        for (w, h) in [(320u16, 180u16), (640, 360), (1280, 720)] {
            payload.extend(w.to_be_bytes());
            payload.extend(h.to_be_bytes());
        }
        payload.extend([2, 0x04, 1, 0x38, 1, 2, 0xaa]);
        let (d, data) = Descriptor::parse(&payload).unwrap();
        assert_eq!(data, [0xaa]);
        assert_eq!((d.resolution, d.spatial_layers), (Some((1280, 720)), Some(3)));
        assert!(d.starts_keyframe() && !d.flexible);
        assert_eq!(d.sizes(&payload), [(320, 180), (640, 360), (1280, 720)]);
        assert!(d.sizes(&[]).is_empty());
        d.patch(&mut payload, 0x7fff, Some(200));
        assert_eq!(payload[..5], [0xaa, 0xff, 0xff, 0x00, 200]);
        for len in 0..payload.len() {
            assert_eq!(Descriptor::parse(&payload[..len]), Err(Error::Short), "{len}");
        }
    }

    #[test]
    fn flexible_mode_has_references_and_no_tl0() {
        // I P L F B; 7-bit id; TID 2, U, SID 1, D; two references.
        let (d, data) = Descriptor::parse(&[0xf8, 0x15, 0x53, 0x03, 0x04, 1]).unwrap();
        assert_eq!(data, [1]);
        let layer = d.layer.unwrap();
        assert_eq!((layer.temporal_id, layer.spatial_id), (2, 1));
        assert!(layer.switching_up && layer.inter_layer && layer.tl0_pic_idx.is_none());
        assert!(!d.starts_frame(), "an upper spatial layer");
        assert_eq!(Descriptor::parse(&[0x58, 1, 1, 1, 0, 1]), Err(Error::References));
    }
}
