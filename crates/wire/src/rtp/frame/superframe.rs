//! VP9 pictures of several spatial layers as one superframe (bitstream specification 0.6, Annex B), of which only the last frame is shown.
//!
//! Encoders mark each layer's frame as shown, and browsers show the last one of a picture. Other decoders show what is marked, so
//! the mark is taken from those below. In the header of a frame that is not shown there is a bit more (6.2: `intra_only`), so what
//! follows moves by one bit, up to the header's end; to find it, the sizes of the references have to be known.

use crate::rtp::bits::Bits;

/// The most frames that an index has room for.
const MAX_FRAMES: usize = 8;
/// `frame_sync_code`.
const SYNC_CODE: u32 = 0x49_83_42;
/// Bits and sign of the features of a segment (6.2.11).
const FEATURES: [(u32, bool); 4] = [(8, true), (6, true), (2, false), (0, false)];

/// Where a frame's uncompressed header has what, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    key: bool,
    shown: bool,
    resilient: bool,
    width: u32,
    /// `show_frame`. Behind it is `error_resilient_mode`, then, in a frame that is neither shown nor key, `intra_only`.
    shown_at: usize,
    /// Behind `header_size_in_bytes`.
    end: usize,
}

/// Makes superframes of the pictures of a stream.
#[derive(Debug, Default)]
pub(super) struct Superframes {
    /// Of each reference, where it is known.
    widths: [Option<u32>; 8],
}

impl Superframes {
    /// The next picture, its layers' frames from the lowest on, as one access unit.
    pub(super) fn join(&mut self, frames: Vec<Vec<u8>>) -> Vec<u8> {
        // A layer that has an index of its own stays as it is: nothing says how one would be inside another.
        if frames.iter().any(|frame| has_index(frame)) {
            self.widths = [None; 8];
            return behind_each_other(frames);
        }
        let headers: Vec<Option<Header>> = frames.iter().map(|frame| self.read(frame)).collect();
        if !(2..=MAX_FRAMES).contains(&frames.len()) {
            return behind_each_other(frames);
        }
        let hidden = hidden(&frames, &headers);
        with_index(&hidden.unwrap_or(frames))
    }

    fn read(&mut self, frame: &[u8]) -> Option<Header> {
        // It replaces none.
        if shows_another(frame) == Some(true) {
            return None;
        }
        let Some((header, refreshed)) = header(frame, &self.widths) else {
            // Which references a frame replaces that cannot be read is not known.
            self.widths = [None; 8];
            return None;
        };
        for (bit, width) in self.widths.iter_mut().enumerate() {
            if refreshed & 1 << bit != 0 {
                *width = Some(header.width);
            }
        }
        Some(header)
    }
}

/// The frames, of which only the last is shown. `None`: that cannot be said without changing what they mean.
fn hidden(frames: &[Vec<u8>], headers: &[Option<Header>]) -> Option<Vec<Vec<u8>>> {
    let headers: Vec<Header> = headers.iter().copied().collect::<Option<_>>()?;
    let (last, below) = headers.split_last()?;
    // A frame takes motion vectors from the one before it if that was shown and has its size (6.1.2, UsePrevFrameMvs).
    let depends = |w: &[Header]| w[0].shown && !w[1].resilient && w[0].width == w[1].width;
    if !last.shown || headers.windows(2).any(depends) {
        return None;
    }
    let mut out: Vec<Vec<u8>> =
        frames.iter().zip(below).map(|(frame, header)| hide(frame, *header)).collect();
    out.push(frames.last()?.clone());
    Some(out)
}

/// The frame, not shown.
fn hide(frame: &[u8], header: Header) -> Vec<u8> {
    if !header.shown {
        return frame.to_vec();
    }
    let mut frame = frame.to_vec();
    frame[header.shown_at / 8] &= !(0x80 >> (header.shown_at % 8));
    if header.key {
        return frame;
    }
    let at = header.shown_at + 2;
    let rest = frame.split_off(header.end.div_ceil(8));
    let bit = |i: usize| frame[i / 8] & 0x80 >> (i % 8) != 0;
    let mut out = vec![0; (header.end + 1).div_ceil(8)];
    for i in (0..header.end).filter(|i| bit(*i)) {
        let to = i + usize::from(i >= at);
        out[to / 8] |= 0x80 >> (to % 8);
    }
    out.extend(rest);
    out
}

/// The frames without an index; one alone is not copied.
fn behind_each_other(mut frames: Vec<Vec<u8>>) -> Vec<u8> {
    if frames.len() == 1 { frames.remove(0) } else { frames.concat() }
}

/// Up to eight frames behind each other, and where each ends.
fn with_index(frames: &[Vec<u8>]) -> Vec<u8> {
    let largest = frames.iter().map(Vec::len).max().unwrap_or_default();
    let width = (1..4_u8).find(|bytes| largest >> (8 * bytes) == 0).unwrap_or(4);
    let count = u8::try_from(frames.len()).expect("eight at most");
    let marker = 0xc0 | (width - 1) << 3 | (count - 1);
    let mut out = frames.concat();
    out.push(marker);
    for frame in frames {
        out.extend(&frame.len().to_le_bytes()[..usize::from(width)]);
    }
    out.push(marker);
    out
}

/// Whether data end in an index.
fn has_index(data: &[u8]) -> bool {
    let Some(marker) = data.last().filter(|last| **last & 0xe0 == 0xc0) else { return false };
    let len = 2 + usize::from(marker >> 3 & 3).saturating_add(1) * usize::from((marker & 7) + 1);
    data.len().checked_sub(len).is_some_and(|start| data[start] == *marker)
}

/// `show_existing_frame`; `None`: the header is broken.
fn shows_another(frame: &[u8]) -> Option<bool> {
    let mut b = Bits::plain(frame);
    profile(&mut b)?;
    b.bit()
}

/// `frame_marker` and the profile.
fn profile(b: &mut Bits<'_>) -> Option<u32> {
    if b.bits(2)? != 2 {
        return None;
    }
    let profile = b.bits(1)? | b.bits(1)? << 1;
    let reserved = profile == 3 && b.bit()?;
    (!reserved).then_some(profile)
}

/// `uncompressed_header` (6.2), with the references that the frame replaces. `None`: it is broken, or shows another frame.
fn header(frame: &[u8], widths: &[Option<u32>; 8]) -> Option<(Header, u32)> {
    let mut b = Bits::plain(frame);
    let profile = profile(&mut b)?;
    if b.bit()? {
        return None; // show_existing_frame
    }
    let key = !b.bit()?;
    let shown_at = b.position();
    let (shown, resilient) = (b.bit()?, b.bit()?);
    let (refreshed, width) = match key {
        true => (0xff, intra(&mut b, profile)?),
        false => inter(&mut b, profile, (shown, resilient), widths)?,
    };
    if !resilient {
        b.bits(2)?; // refresh_frame_context, frame_parallel_decoding_mode
    }
    b.bits(2)?; // frame_context_idx
    loop_filter(&mut b)?;
    quantization(&mut b)?;
    segmentation(&mut b)?;
    tiles(&mut b, width)?;
    if b.bits(16)? == 0 {
        return None;
    }
    Some((Header { key, shown, resilient, width, shown_at, end: b.position() }, refreshed))
}

/// What a key frame says up to its size; its width.
fn intra(b: &mut Bits<'_>, profile: u32) -> Option<u32> {
    if b.bits(24)? != SYNC_CODE {
        return None;
    }
    color(b, profile)?;
    let width = size(b)?;
    render_size(b)?;
    Some(width)
}

/// What another frame says up to its filters: the references it replaces, its width.
fn inter(
    b: &mut Bits<'_>,
    profile: u32,
    (shown, resilient): (bool, bool),
    widths: &[Option<u32>; 8],
) -> Option<(u32, u32)> {
    let intra_only = !shown && b.bit()?;
    if !resilient {
        b.bits(2)?; // reset_frame_context
    }
    if intra_only {
        if b.bits(24)? != SYNC_CODE {
            return None;
        }
        if profile > 0 {
            color(b, profile)?;
        }
        let refreshed = b.bits(8)?;
        let width = size(b)?;
        render_size(b)?;
        return Some((refreshed, width));
    }
    let refreshed = b.bits(8)?;
    let mut references = [0; 3];
    for reference in &mut references {
        *reference = usize::try_from(b.bits(3)?).ok()?;
        b.bit()?; // ref_frame_sign_bias
    }
    let mut width = None;
    for reference in references {
        if b.bit()? {
            width = Some(widths[reference]?);
            break;
        }
    }
    let width = match width {
        Some(width) => width,
        None => size(b)?,
    };
    render_size(b)?;
    b.bit()?; // allow_high_precision_mv
    if !b.bit()? {
        b.bits(2)?; // raw_interpolation_filter
    }
    Some((refreshed, width))
}

fn color(b: &mut Bits<'_>, profile: u32) -> Option<()> {
    if profile >= 2 {
        b.bit()?; // ten_or_twelve_bit
    }
    let subsampled = profile == 1 || profile == 3;
    let rgb = b.bits(3)? == 7;
    match (rgb, subsampled) {
        (true, true) => b.bits(1)?,
        (true, false) => return None,
        (false, true) => b.bits(4)?,
        (false, false) => b.bits(1)?,
    };
    Some(())
}

/// `frame_size`; the width.
fn size(b: &mut Bits<'_>) -> Option<u32> {
    let width = b.bits(16)? + 1;
    b.bits(16)?;
    Some(width)
}

fn render_size(b: &mut Bits<'_>) -> Option<()> {
    if b.bit()? {
        b.bits(32)?;
    }
    Some(())
}

/// A bit that says whether a value follows; `bits` of it, sign included.
fn optional(b: &mut Bits<'_>, bits: u32) -> Option<()> {
    if b.bit()? {
        b.bits(bits)?;
    }
    Some(())
}

fn loop_filter(b: &mut Bits<'_>) -> Option<()> {
    b.bits(9)?; // level, sharpness
    if b.bit()? && b.bit()? {
        for _ in 0..6 {
            optional(b, 7)?;
        }
    }
    Some(())
}

fn quantization(b: &mut Bits<'_>) -> Option<()> {
    b.bits(8)?;
    for _ in 0..3 {
        optional(b, 5)?;
    }
    Some(())
}

fn segmentation(b: &mut Bits<'_>) -> Option<()> {
    if !b.bit()? {
        return Some(());
    }
    if b.bit()? {
        for _ in 0..7 {
            optional(b, 8)?;
        }
        let temporal_update = b.bit()?;
        for _ in 0..3 {
            if temporal_update {
                optional(b, 8)?;
            }
        }
    }
    if b.bit()? {
        b.bit()?; // segmentation_abs_or_delta_update
        for (bits, signed) in [FEATURES; 8].into_iter().flatten() {
            optional(b, bits + u32::from(signed))?;
        }
    }
    Some(())
}

fn tiles(b: &mut Bits<'_>, width: u32) -> Option<()> {
    let columns = width.div_ceil(64);
    let mut columns_log2 = (0..).find(|log2| 64 << log2 >= columns)?;
    let most = (1..).find(|log2| columns >> log2 < 4)? - 1;
    while columns_log2 < most && b.bit()? {
        columns_log2 += 1;
    }
    if b.bit()? {
        b.bit()?; // increment_tile_rows_log2
    }
    Some(())
}

#[cfg(test)]
mod tests;
