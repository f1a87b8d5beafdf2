//! Streams of other encoders, for what we decode but do not encode.
//!
//! Each file holds ten pictures of 160x96 with the numbers 100 to 109 (`crate::synth`) above a gradient with a moving bar;
//! each access unit stands after its length (`u32`, little endian). `testdata/vpx-vp9-160x96.units` was made by PyAV 18.1
//! (libvpx-vp9, realtime, no lag), `testdata/svt-av1-160x96.units` by `testdata/generate.py` with PyAV 18.1 (SVT-AV1 4.1).

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::picture::Picture;
use crate::synth::{draw_frame_number, read_frame_number};

const SIZE: (u32, u32) = (160, 96);

pub(super) const VP9: &[u8] = include_bytes!("testdata/vpx-vp9-160x96.units");
#[cfg(feature = "av1")]
pub(super) const AV1: &[u8] = include_bytes!("testdata/svt-av1-160x96.units");

pub(super) fn units(mut file: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    while let Some((len, rest)) = file.split_first_chunk() {
        let (unit, after) = rest.split_at(u32::from_le_bytes(*len) as usize);
        units.push(unit);
        file = after;
    }
    assert_eq!(units.len(), 10);
    units
}

/// What was encoded.
fn source(n: u16) -> Picture {
    let (width, height) = SIZE;
    let mut picture = Picture::black(width, height).expect("within limits");
    let [y, u, v] = picture.planes_mut();
    for (row, line) in (0u32..).zip(y.chunks_mut(width as usize)) {
        for (column, p) in (0u32..).zip(line) {
            let bar = column / 8 == u32::from(n) * 2 % (width / 8);
            *p = if bar { 235 } else { u8::try_from(40 + (row + column) % 160).expect("below 200") };
        }
    }
    u.fill(100);
    v.fill(150);
    draw_frame_number(&mut picture, 100 + n);
    picture
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let error: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / error.max(1) as f64).log10()
}

/// Decodes a unit, which must give picture `n` at once.
#[track_caller]
pub(super) fn check(decoder: &mut Decoder, unit: &[u8], n: u16) {
    let view = decoder.decode(unit).expect("good").expect("shown at once");
    assert_eq!((view.width(), view.height()), SIZE);
    assert_eq!(read_frame_number(&view), Some(100 + n));
    let quality = psnr(Picture::copy_of(&view).data(), source(n).data());
    println!("frame {n}: {quality:.1} dB");
    assert!(quality > 25.0, "frame {n}: {quality} dB");
}

/// Every unit gives its picture, and after a loss only a key frame helps.
pub(super) fn check_stream(decoder: &mut Decoder, file: &[u8]) {
    let units = units(file);
    assert_eq!(decoder.decode(units[1]).err(), Some(DecodeError::NeedKeyFrame));
    for (n, unit) in (0..).zip(&units) {
        assert_eq!(is_key_frame(decoder.codec(), unit), n == 0, "frame {n}");
        check(decoder, unit, n);
    }
    decoder.lost();
    assert_eq!(decoder.decode(units[2]).err(), Some(DecodeError::NeedKeyFrame));
    check(decoder, units[0], 0);
    check(decoder, units[1], 1);
}

/// One of `units` cut, with some bytes changed, or with a random end.
pub(super) fn corrupt(rng: &mut StdRng, units: &[&[u8]], round: usize) -> Vec<u8> {
    let mut unit = units[rng.random_range(0..units.len())].to_vec();
    match round % 3 {
        0 => unit.truncate(rng.random_range(0..unit.len())),
        1 => (0..rng.random_range(1..8)).for_each(|_| {
            let at = rng.random_range(0..unit.len());
            unit[at] = rng.random();
        }),
        _ => {
            let keep = rng.random_range(0..unit.len());
            unit[keep..].fill_with(|| rng.random());
        }
    }
    unit
}

#[test]
fn vp9_units_give_their_pictures_at_once() {
    check_stream(&mut Decoder::new(VideoCodec::Vp9).expect("supported"), VP9);
}

#[test]
fn corrupt_vp9_units_never_end_the_decoder_and_the_next_key_frame_heals() {
    let mut rng = StdRng::seed_from_u64(0xa1);
    let (units, mut decoder) = (units(VP9), Decoder::new(VideoCodec::Vp9).expect("supported"));
    for round in 0..1000 {
        // Mostly from a good picture, so that broken inter frames reach the library too.
        if round % 4 != 0 {
            assert!(decoder.decode(units[0]).expect("a whole key frame").is_some());
        }
        let _ = decoder.decode(&corrupt(&mut rng, &units, round));
    }
    decoder.lost();
    check(&mut decoder, units[0], 0);
    check(&mut decoder, units[1], 1);
}
