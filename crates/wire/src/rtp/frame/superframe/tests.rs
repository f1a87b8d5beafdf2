//! Bytes against the specification, and what Chromium sends.

use super::*;
use crate::rtp::golden::lines;
use crate::rtp::testing::Random;
use crate::rtp::{header as rtp_header, vp9};

/// Writes bits.
#[derive(Default)]
struct Writer(Vec<bool>);

impl Writer {
    fn put(mut self, value: u32, bits: u32) -> Self {
        self.0.extend((0..bits).rev().map(|i| value >> i & 1 != 0));
        self
    }

    /// Quantizers and what follows: no filter deltas, no segments, `tile_bits` for one column, one row; then `data`.
    fn finish(self, tile_bits: u32, data: &[u8]) -> Vec<u8> {
        let w = self.put(0, 2).put(0b1_0101_0100, 9).put(0, 1).put(60, 8).put(0, 3).put(0, 1);
        let bits = w.put(0, tile_bits).put(0, 1).put(77, 16).0;
        let byte =
            |bits: &[bool]| bits.iter().enumerate().fold(0, |b, (i, set)| b | u8::from(*set) << (7 - i));
        let mut out: Vec<u8> = bits.chunks(8).map(byte).collect();
        out.extend_from_slice(data);
        out
    }
}

/// A key frame, error resilient.
fn key(width: u32, data: &[u8]) -> Vec<u8> {
    let w = Writer::default().put(0b1000_0011, 8).put(SYNC_CODE, 24).put(0b0010, 4);
    w.put(width - 1, 16).put(width / 2 - 1, 16).put(0, 1).finish(u32::from(width >= 512), data)
}

/// A frame with references 0, 1 and 2, of the size of the first, or of one it tells; in error resilient mode or not.
fn inter(size: Option<u32>, resilient: bool, refreshed: u32, tile_bits: u32, data: &[u8]) -> Vec<u8> {
    let w = Writer::default().put(0b100_0011, 7).put(u32::from(resilient), 1);
    let w = if resilient { w } else { w.put(0, 2) };
    let w = w.put(refreshed, 8).put(0b0000_0010_0100, 12);
    let w = match size {
        Some(width) => w.put(0, 3).put(width - 1, 16).put(width / 2 - 1, 16),
        None => w.put(1, 1),
    };
    let w = w.put(0, 1).put(1, 1).put(1, 1);
    let w = if resilient { w } else { w.put(0b01, 2) };
    w.finish(tile_bits, data)
}

/// The frames by the index (Annex B): marker, sizes with the least byte first, marker again.
fn split(unit: &[u8]) -> Vec<Vec<u8>> {
    let marker = *unit.last().unwrap();
    assert_eq!(marker >> 5, 0b110, "a superframe");
    let (bytes, count) = (usize::from(marker >> 3 & 3) + 1, usize::from(marker & 7) + 1);
    let (mut rest, index) = unit.split_at(unit.len() - 2 - bytes * count);
    assert_eq!(index[0], marker);
    let sizes = index[1..=bytes * count].chunks(bytes);
    let frames = sizes.map(|size| {
        let len = size.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let (frame, after) = rest.split_at(len);
        rest = after;
        frame.to_vec()
    });
    let frames = frames.collect();
    assert!(rest.is_empty());
    frames
}

fn len_16(frame: &[u8]) -> [u8; 2] {
    u16::try_from(frame.len()).unwrap().to_le_bytes()
}

#[test]
fn layers_become_a_superframe_of_which_the_last_is_shown() {
    let mut superframes = Superframes::default();
    let (low, high) = (key(320, &[1; 200]), inter(Some(640), true, 0b10, 1, &[2; 300]));
    let unit = superframes.join(vec![low.clone(), high.clone()]);
    // Two frames, two bytes each.
    let ([a, b], [c, d]) = (len_16(&low), len_16(&high));
    let index = [0xc9, a, b, c, d, 0xc9];
    assert_eq!(unit[unit.len() - 6..], index);
    let frames = split(&unit);
    // A key frame has the same bits, but one.
    assert_eq!((frames[0][0], &frames[0][1..]), (0b1000_0001, &low[1..]));
    assert_eq!(frames[1], high);
    // The next picture: of 320 by its reference, which is smaller than a second column of tiles would need.
    let (low, high) = (inter(None, true, 1, 0, &[3; 20]), inter(Some(640), true, 0b10, 1, &[4; 30]));
    let frames = split(&superframes.join(vec![low.clone(), high.clone()]));
    assert_eq!(frames[0][..2], [0b1000_0101, low[1] >> 1], "not shown, not intra_only");
    assert_eq!((frames[0].len() - low.len() <= 1, &frames[1]), (true, &high));
    assert!(frames[0].ends_with(&[3; 20]));
    let widths = superframes.widths;
    let (was, _) = header(&low, &widths).unwrap();
    let (is, refreshed) = header(&frames[0], &widths).unwrap();
    assert_eq!((is, refreshed), (Header { shown: false, end: was.end + 1, ..was }, 1));
    assert_eq!(frames[0][is.end.div_ceil(8)..], low[was.end.div_ceil(8)..]);
}

#[test]
fn what_cannot_be_hidden_stays_shown_and_what_needs_no_index_has_none() {
    let begun = || {
        let mut superframes = Superframes::default();
        superframes.join(vec![key(320, &[1; 9])]);
        superframes
    };
    let layer = |resilient| inter(None, resilient, 1, 0, &[5; 9]);
    assert_eq!(begun().join(vec![layer(true)]), layer(true), "one layer");
    // Of the same size, and the upper one may take motion vectors from the lower.
    for (resilient, kept) in [(false, true), (true, false)] {
        let frames = [layer(resilient), layer(resilient)];
        assert_eq!(split(&begun().join(frames.to_vec())) == frames, kept);
    }
    // Another one is shown: frame 3 of the references, which stay as they are.
    let mut superframes = begun();
    assert_eq!(superframes.join(vec![vec![0b1000_1011]]), [0b1000_1011]);
    assert_eq!(superframes.widths, [Some(320); 8]);
    let mut unknown = Superframes::default();
    let frames = [layer(true), layer(true)];
    assert_eq!(split(&unknown.join(frames.to_vec())), frames, "references that were never seen");
    let broken = [vec![0; 5], layer(true)];
    let mut superframes = begun();
    assert_eq!(split(&superframes.join(broken.to_vec())), broken);
    assert_eq!(superframes.widths, [None; 8]);
    let has_one = [layer(true), with_index(&frames)];
    assert_eq!(begun().join(has_one.to_vec()), has_one.concat());
    let nine = vec![layer(true); 9];
    assert_eq!(begun().join(nine.clone()), nine.concat());
}

#[test]
fn anything_is_taken() {
    let seeds = [key(320, &[1; 9]), inter(None, true, 1, 0, &[5; 9]), inter(Some(640), false, 2, 1, &[6; 9])];
    let mut random = Random(5);
    for _ in 0..20_000 {
        let mut superframes = Superframes::default();
        superframes.join(seeds[..1].to_vec());
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for _ in 0..random.below(4) {
            let seed = random.index(3);
            frames.push(random.mutate(&seeds[seed]));
        }
        let len: usize = frames.iter().map(Vec::len).sum();
        let most = len + 3 * frames.len() + 2;
        assert!(superframes.join(frames).len() <= most);
    }
}

/// The first 43 bytes or so of each layer's frame: the header, and the beginning of what follows.
#[test]
fn headers_of_chromium_end_where_the_compressed_ones_begin() {
    for file in [
        include_str!("../../testdata/chromium_vp9_l3t3.txt"),
        include_str!("../../testdata/chromium_vp9_l3t3_key.txt"),
    ] {
        let (mut superframes, mut hidden, mut cut) = (Superframes::default(), 0, 0);
        for packet in lines(file, "rtp") {
            let (_, payload) = rtp_header::parse(&packet).unwrap();
            let (descriptor, frame) = vp9::Descriptor::parse(payload).unwrap();
            if !descriptor.starts_layer_frame {
                continue;
            }
            let widths = superframes.widths;
            if super::header(frame, &widths).is_none() {
                cut += 1; // Longer than what was captured of it.
                continue;
            }
            let header = superframes.read(frame).unwrap();
            let upper = descriptor.layer.is_some_and(|layer| layer.spatial_id == 1);
            assert_eq!(header.width, if upper { 640 } else { 320 });
            assert!(header.shown && header.resilient);
            // Behind it zeros up to the next byte (6.1.1), and the marker bit of a bool decoder, which is 0 (9.2.1).
            let ends = header.end.div_ceil(8);
            assert!((header.end..8 * ends).all(|i| frame[i / 8] & 0x80 >> (i % 8) == 0));
            assert!(frame.get(ends).is_none_or(|next| *next < 0x80));
            let other = hide(frame, header);
            let (again, _) = super::header(&other, &widths).unwrap();
            let end = header.end + usize::from(!header.key);
            assert_eq!(again, Header { shown: false, end, ..header });
            assert_eq!(other[end.div_ceil(8)..], frame[ends..]);
            hidden += 1;
        }
        assert!(hidden > 80 && cut * 4 < hidden, "{hidden} {cut}");
    }
}
