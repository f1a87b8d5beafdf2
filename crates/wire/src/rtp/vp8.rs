//! VP8 payload descriptor (RFC 7741, 4.2) and the part of the VP8 frame header that tells key frames and their
//! size (RFC 6386, 9.1). Numbers are rewritten in place: the descriptor remembers where they stand.

use super::bits::Bytes;

/// Why a VP8 payload descriptor did not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The payload ends inside the descriptor or has nothing behind it.
    #[error("VP8 payload ends inside its descriptor")]
    Short,
}

/// A picture id and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// 7 or 15 bits.
    pub value: u16,
    /// Offset in the payload of its first byte.
    pub offset: u8,
    /// 15 bits in two bytes; otherwise 7 bits in one.
    pub long: bool,
}

/// A one-byte field and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The field's value (KEYIDX: the five bits).
    pub value: u8,
    /// Offset in the payload.
    pub offset: u8,
}

impl PictureId {
    pub(crate) fn read(r: &mut Bytes<'_>) -> Option<Self> {
        let offset = u8::try_from(r.position()).ok()?;
        let first = r.u8()?;
        let long = first & 0x80 != 0;
        let high = u16::from(first & 0x7f);
        let value = if long { high << 8 | u16::from(r.u8()?) } else { high };
        Some(Self { value, offset, long })
    }

    /// Writes another id into the field's place in `payload`; a 7-bit field takes the low 7 bits.
    pub fn patch(&self, payload: &mut [u8], value: u16) {
        let [high, low] = (value & 0x7fff).to_be_bytes();
        match payload.get_mut(usize::from(self.offset)..) {
            Some([first, second, ..]) if self.long => (*first, *second) = (0x80 | high, low),
            Some([first, ..]) if !self.long => *first = low & 0x7f,
            _ => {}
        }
    }
}

impl Field {
    /// Writes another value over the whole byte in `payload`.
    pub fn patch(&self, payload: &mut [u8], value: u8) {
        if let Some(byte) = payload.get_mut(usize::from(self.offset)) {
            *byte = value;
        }
    }
}

/// A parsed payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Bytes of the descriptor; the VP8 data begin here.
    pub header_len: u8,
    /// N: no other frame refers to this one.
    pub non_reference: bool,
    /// S: a partition starts here.
    pub starts_partition: bool,
    /// PID: index of the partition.
    pub partition: u8,
    /// I.
    pub picture_id: Option<PictureId>,
    /// L: a running number of the frames of temporal layer 0.
    pub tl0_pic_idx: Option<Field>,
    /// T: temporal layer.
    pub temporal_id: Option<u8>,
    /// Y: this frame refers to frames of temporal layer 0 only.
    pub layer_sync: bool,
    /// K.
    pub key_idx: Option<Field>,
    /// The inverse key frame flag of the frame header says key frame (meaningful at a frame's start only).
    pub key: bool,
    /// Width and height, on the first packet of a key frame.
    pub resolution: Option<(u16, u16)>,
}

impl Descriptor {
    /// Parses the descriptor; also returns the VP8 data behind it (never empty).
    pub fn parse(payload: &[u8]) -> Result<(Self, &[u8]), Error> {
        Self::read(payload).ok_or(Error::Short)
    }

    fn read(payload: &[u8]) -> Option<(Self, &[u8])> {
        let mut r = Bytes::new(payload);
        let first = r.u8()?;
        let mut d = Self {
            header_len: 1,
            non_reference: first & 0x20 != 0,
            starts_partition: first & 0x10 != 0,
            partition: first & 0x07,
            picture_id: None,
            tl0_pic_idx: None,
            temporal_id: None,
            layer_sync: false,
            key_idx: None,
            key: false,
            resolution: None,
        };
        if first & 0x80 != 0 {
            d.read_extension(&mut r)?;
        }
        d.header_len = u8::try_from(r.position()).ok()?;
        let data = r.rest();
        let frame_tag = data.first()?;
        if d.starts_frame() {
            d.key = frame_tag & 0x01 == 0;
            d.resolution = if d.key { resolution(data) } else { None };
        }
        Some((d, data))
    }

    fn read_extension(&mut self, r: &mut Bytes<'_>) -> Option<()> {
        let present = r.u8()?;
        if present & 0x80 != 0 {
            self.picture_id = Some(PictureId::read(r)?);
        }
        if present & 0x40 != 0 {
            let offset = u8::try_from(r.position()).ok()?;
            self.tl0_pic_idx = Some(Field { value: r.u8()?, offset });
        }
        if present & 0x30 != 0 {
            let offset = u8::try_from(r.position()).ok()?;
            let byte = r.u8()?;
            if present & 0x20 != 0 {
                self.temporal_id = Some(byte >> 6);
                self.layer_sync = byte & 0x20 != 0;
            }
            if present & 0x10 != 0 {
                self.key_idx = Some(Field { value: byte & 0x1f, offset });
            }
        }
        Some(())
    }

    /// First packet of a frame: the start of partition 0.
    pub fn starts_frame(&self) -> bool {
        self.starts_partition && self.partition == 0
    }

    /// First packet of a key frame.
    pub fn starts_keyframe(&self) -> bool {
        self.starts_frame() && self.key
    }

    /// Writes other numbers into `payload` (byte-identical to the one parsed), each where it has a place.
    /// A 7-bit picture id takes the low 7 bits. Lengths never change.
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0_pic_idx: Option<u8>) {
        if let Some(field) = self.picture_id {
            field.patch(payload, picture_id);
        }
        if let (Some(field), Some(value)) = (self.tl0_pic_idx, tl0_pic_idx) {
            field.patch(payload, value);
        }
    }
}

/// Width and height from the uncompressed data chunk of a key frame (RFC 6386, 9.1).
fn resolution(data: &[u8]) -> Option<(u16, u16)> {
    match data.get(3..10)? {
        [0x9d, 0x01, 0x2a, w0, w1, h0, h1] => {
            Some((u16::from_le_bytes([*w0, *w1]) & 0x3fff, u16::from_le_bytes([*h0, *h1]) & 0x3fff))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read() {
        // X N S, PID 0; I L T K; 15-bit picture id 0x1234; TL0PICIDX 7; TID 2, Y, KEYIDX 5; key frame of 640x360.
        let payload = [0xb0, 0xf0, 0x92, 0x34, 7, 0xa5, 0x10, 1, 2, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0x68, 0x01];
        let (d, data) = Descriptor::parse(&payload).unwrap();
        assert_eq!(d.picture_id, Some(PictureId { value: 0x1234, offset: 2, long: true }));
        assert_eq!(d.tl0_pic_idx, Some(Field { value: 7, offset: 4 }));
        assert_eq!((d.temporal_id, d.layer_sync), (Some(2), true));
        assert_eq!(d.key_idx, Some(Field { value: 5, offset: 5 }));
        assert!(d.non_reference && d.starts_keyframe());
        assert_eq!(d.resolution, Some((640, 360)), "the upper two bits are the scale");
        assert_eq!(data.len(), 10);
        for len in 0..=6 {
            assert_eq!(Descriptor::parse(&payload[..len]), Err(Error::Short));
        }
    }

    #[test]
    fn short_forms() {
        let (d, _) = Descriptor::parse(&[0x10, 0x00]).unwrap();
        assert!(d.starts_keyframe() && d.picture_id.is_none() && d.resolution.is_none());
        let (d, _) = Descriptor::parse(&[0x11, 0x00]).unwrap();
        assert!(!d.starts_frame(), "the start of a later partition");
        let mut payload = [0x90, 0x80, 0x7f, 0x01];
        let (d, _) = Descriptor::parse(&payload).unwrap();
        assert!(!d.starts_keyframe());
        d.patch(&mut payload, 0x1285, Some(9));
        assert_eq!(payload, [0x90, 0x80, 0x05, 0x01]);
    }
}
