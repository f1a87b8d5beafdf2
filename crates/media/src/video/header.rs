//! What must be known of an access unit before a decoder sees it: is it a key frame, and how large are its pictures.
//!
//! VP8: RFC 6386, 9.1. VP9: bitstream specification 0.6, 6.2 and Annex B. H.264: Annex B NAL unit types. AV1:
//! specification 1.0.0 with errata 1, 5.3 and 5.9.2. The size is checked here because libvpx allocates what a header asks
//! for, up to 65536 x 65536; rav1d has a limit of its own.

use antiphon_base::VideoCodec;

use super::DecodeError;
use crate::picture::check_size;

/// The most frames in a VP9 superframe (Annex B: three bits plus one).
const MAX_SUPERFRAME: usize = 8;

/// Whether a decoder can start at this access unit. Anything that does not parse is not a key frame.
pub fn is_key_frame(codec: VideoCodec, unit: &[u8]) -> bool {
    inspect(codec, unit).unwrap_or(false)
}

/// Whether the unit is a key frame; an error where its header is broken or asks for too much.
pub(super) fn inspect(codec: VideoCodec, unit: &[u8]) -> Result<bool, DecodeError> {
    match codec {
        VideoCodec::Vp8 => vp8(unit),
        VideoCodec::Vp9 => vp9(unit),
        VideoCodec::H264 => Ok(h264_has_idr(unit)),
        VideoCodec::Av1 => av1(unit),
    }
}

fn size(width: u32, height: u32) -> Result<(), DecodeError> {
    check_size(width, height).map_err(|_| DecodeError::TooLarge)
}

fn vp8(unit: &[u8]) -> Result<bool, DecodeError> {
    let first = *unit.first().ok_or(DecodeError::Corrupt)?;
    if first & 1 != 0 {
        return Ok(false);
    }
    let Some([0x9d, 0x01, 0x2a, w0, w1, h0, h1]) = unit.get(3..10) else {
        return Err(DecodeError::Corrupt);
    };
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    size(side(*w0, *w1), side(*h0, *h1))?;
    Ok(true)
}

/// NAL unit type 5 (IDR slice) after any start code.
fn h264_has_idr(unit: &[u8]) -> bool {
    unit.windows(4).any(|w| w[..3] == [0, 0, 1] && w[3] & 0x1f == 5)
}

/// A superframe is a key frame if its first frame is one; every frame's size is checked.
fn vp9(unit: &[u8]) -> Result<bool, DecodeError> {
    let mut key = None;
    for frame in vp9_frames(unit)? {
        let this = vp9_frame(frame)?;
        key.get_or_insert(this);
    }
    key.ok_or(DecodeError::Corrupt)
}

fn vp9_frames(unit: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    let marker = *unit.last().ok_or(DecodeError::Corrupt)?;
    let (frames, bytes) = (usize::from(marker & 7) + 1, usize::from(marker >> 3 & 3) + 1);
    let index_len = 2 + frames * bytes;
    let start = unit.len().checked_sub(index_len);
    let index = match start {
        Some(start) if marker & 0xe0 == 0xc0 && unit[start] == marker => &unit[start + 1..unit.len() - 1],
        _ => return Ok(vec![unit]),
    };
    let mut rest = &unit[..unit.len() - index_len];
    let mut out = Vec::with_capacity(MAX_SUPERFRAME);
    for entry in index.chunks(bytes) {
        let len = entry.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
        let (frame, after) = rest.split_at_checked(len).ok_or(DecodeError::Corrupt)?;
        // A frame of no bytes is allowed and skipped.
        if !frame.is_empty() {
            out.push(frame);
        }
        rest = after;
    }
    Ok(out)
}

/// uncompressed_header() as far as the frame size.
fn vp9_frame(frame: &[u8]) -> Result<bool, DecodeError> {
    let mut bits = Bits { data: frame, at: 0 };
    if bits.take(2)? != 2 {
        return Err(DecodeError::Corrupt);
    }
    if bits.take(2)? != 0 {
        return Err(DecodeError::Unsupported(VideoCodec::Vp9));
    }
    if bits.flag()? {
        return Ok(false); // show_existing_frame
    }
    let inter = bits.flag()?;
    let shown = bits.flag()?;
    let resilient = bits.flag()?;
    if !inter {
        bits.sync_code()?;
        // color_space, color_range; RGB is not allowed in profile 0.
        if bits.take(3)? == 7 {
            return Err(DecodeError::Corrupt);
        }
        bits.take(1)?;
        return bits.frame_size().map(|()| true);
    }
    let intra_only = !shown && bits.flag()?;
    if !resilient {
        bits.take(2)?; // reset_frame_context
    }
    if intra_only {
        bits.sync_code()?;
        bits.take(8)?; // refresh_frame_flags
        return bits.frame_size().map(|()| false);
    }
    bits.take(8)?; // refresh_frame_flags
    bits.take(12)?; // three times ref_frame_idx and sign bias
    for _ in 0..3 {
        if bits.flag()? {
            return Ok(false); // the size of a reference
        }
    }
    bits.frame_size().map(|()| false)
}

/// OBU types (AV1, 6.2.2).
mod obu {
    pub(super) const SEQUENCE_HEADER: u8 = 1;
    pub(super) const FRAME_HEADER: u8 = 3;
    pub(super) const FRAME: u8 = 6;
}

/// A key frame is a sequence header before a frame of that type. The first frame decides: that of the lowest layer.
fn av1(unit: &[u8]) -> Result<bool, DecodeError> {
    let (mut rest, mut sequence, mut reduced) = (unit, false, false);
    while let Some((head, after)) = rest.split_first() {
        let (forbidden, kind) = (head & 0x80 != 0, head >> 3 & 15);
        let (extension, has_size) = (head & 4 != 0, head & 2 != 0);
        if forbidden {
            return Err(DecodeError::Corrupt);
        }
        let after = after.get(usize::from(extension)..).ok_or(DecodeError::Corrupt)?;
        let (size, after) = if has_size { leb128(after)? } else { (after.len(), after) };
        let (payload, next) = after.split_at_checked(size).ok_or(DecodeError::Corrupt)?;
        let mut bits = Bits { data: payload, at: 0 };
        match kind {
            obu::SEQUENCE_HEADER => {
                sequence = true;
                bits.take(4)?; // seq_profile, still_picture
                reduced = bits.flag()?;
            }
            // Its header says nothing: it can only be a key frame.
            obu::FRAME_HEADER | obu::FRAME if reduced => return Ok(true),
            obu::FRAME_HEADER | obu::FRAME => {
                let (existing, frame_type) = (bits.flag()?, bits.take(2)?);
                return Ok(sequence && !existing && frame_type == 0);
            }
            _ => {}
        }
        rest = next;
    }
    Ok(false)
}

/// leb128() of AV1, 4.10.5, and what follows it.
fn leb128(bytes: &[u8]) -> Result<(usize, &[u8]), DecodeError> {
    let mut value = 0;
    for (n, byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            let value = usize::try_from(value).map_err(|_| DecodeError::Corrupt)?;
            return Ok((value, &bytes[n + 1..]));
        }
    }
    Err(DecodeError::Corrupt)
}

/// Most significant bit first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Result<u32, DecodeError> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.data.get(self.at / 8).ok_or(DecodeError::Corrupt)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn flag(&mut self) -> Result<bool, DecodeError> {
        Ok(self.take(1)? == 1)
    }

    fn sync_code(&mut self) -> Result<(), DecodeError> {
        if self.take(24)? == 0x49_83_42 { Ok(()) } else { Err(DecodeError::Corrupt) }
    }

    fn frame_size(&mut self) -> Result<(), DecodeError> {
        let (width, height) = (self.take(16)? + 1, self.take(16)? + 1);
        size(width, height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vp8_key_frames_are_known_by_tag_and_start_code() {
        let key = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01];
        assert_eq!(vp8(&key), Ok(true));
        assert_eq!(vp8(&[0x11]), Ok(false));
        assert_eq!(vp8(&key[..9]), Err(DecodeError::Corrupt));
        let huge = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f];
        assert_eq!(vp8(&huge), Err(DecodeError::TooLarge));
    }

    #[test]
    fn vp9_sizes_are_checked_in_every_frame_of_a_superframe() {
        // Key frame, shown, 65536 x 65536.
        let huge = [0x82, 0x49, 0x83, 0x42, 0x0f, 0xff, 0xff, 0xff, 0xf0];
        assert_eq!(vp9(&huge), Err(DecodeError::TooLarge));
        // Key frame 16 x 16.
        let small = [0x82, 0x49, 0x83, 0x42, 0x00, 0x00, 0xf0, 0x00, 0xf0];
        assert_eq!(vp9(&small), Ok(true));
        let (marker, mut both) = (0xc0 | 1, [small, huge].concat());
        both.extend([marker, 9, 9, marker]);
        assert_eq!(vp9(&both), Err(DecodeError::TooLarge));
        assert_eq!(vp9(&[0x92, 0]), Err(DecodeError::Unsupported(VideoCodec::Vp9)));
    }

    #[test]
    fn av1_key_frames_have_a_sequence_header_before_a_frame_of_that_type() {
        let delimiter = [0x12, 0];
        let sequence = [0x0a, 1, 0x00];
        let (key, inter, existing) = ([0x32, 1, 0x10], [0x32, 1, 0x30], [0x1a, 1, 0x80]);
        let check = |parts: &[&[u8]]| av1(&parts.concat());
        assert_eq!(check(&[&delimiter, &sequence, &key]), Ok(true));
        assert_eq!(check(&[&delimiter, &sequence, &key, &inter]), Ok(true), "the lowest layer decides");
        assert_eq!(check(&[&delimiter, &sequence, &inter]), Ok(false));
        assert_eq!(check(&[&delimiter, &sequence, &existing]), Ok(false));
        assert_eq!(check(&[&delimiter, &key]), Ok(false), "no decoder can start here");
        assert_eq!(check(&[&[0x0a, 1, 0x18], &[0x32, 1, 0xff]]), Ok(true), "a still picture");
        assert_eq!(check(&[&sequence, &[0x36, 0x08, 1, 0x10]]), Ok(true), "with an extension byte");
        assert_eq!(check(&[&sequence, &[0x30, 0x10]]), Ok(true), "without a size");
        assert_eq!(check(&[&delimiter]), Ok(false));
        for bad in [
            &[0x92, 0][..],
            &[0x0a, 2, 0],
            &[0x36],
            &[0x32, 0],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(av1(bad), Err(DecodeError::Corrupt), "{bad:x?}");
        }
    }

    #[test]
    fn h264_key_frames_are_idr_slices() {
        assert!(is_key_frame(VideoCodec::H264, &[0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x65, 3]));
        assert!(!is_key_frame(VideoCodec::H264, &[0, 0, 0, 1, 0x41, 0x65, 0, 0, 1]));
    }
}
