//! Round trips, corrupt input, recovery.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::picture::{Colour, Picture};

const ENCODED: [VideoCodec; 2] = [VideoCodec::Vp8, VideoCodec::H264];

/// A picture with edges and a moving bar.
fn picture(width: u32, height: u32, number: u32) -> Picture {
    let mut picture = Picture::black(width, height).expect("within limits");
    let [y, u, v] = picture.planes_mut();
    for (row, line) in (0u32..).zip(y.chunks_mut(width as usize)) {
        for (column, p) in (0u32..).zip(line) {
            let bar = column / 8 == (number * 2) % (width / 8);
            let value = if bar { 235 } else { 40 + (row + column) % 160 };
            *p = u8::try_from(value).expect("below 236");
        }
    }
    u.fill(100);
    v.fill(150);
    picture
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let error: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / error.max(1) as f64).log10()
}

fn encode(codec: VideoCodec, (width, height): (u32, u32), frames: u32, keys: &[u32]) -> Vec<EncodedPicture> {
    let mut config = EncoderConfig::for_size(width, height, 30);
    config.bitrate_bps *= 4;
    let mut encoder = Encoder::new(codec, config).expect("supported");
    let encode = |n: u32| {
        let source = picture(width, height, n);
        let unit =
            encoder.encode(&source.view(), u64::from(n) * 3000, keys.contains(&n)).expect("right size");
        unit.expect("the rate control drops nothing")
    };
    (0..frames).map(encode).collect()
}

#[test]
fn pictures_survive_coding_and_keys_come_first_and_on_demand() {
    for codec in ENCODED {
        let size = (320, 176);
        let units = encode(codec, size, 20, &[12]);
        let mut decoder = Decoder::new(codec).expect("supported");
        for (n, unit) in (0u32..).zip(&units) {
            assert_eq!(unit.key, n == 0 || n == 12, "{codec:?} frame {n}");
            assert_eq!(is_key_frame(codec, &unit.data), unit.key);
            let view = decoder.decode(&unit.data).expect("good").expect("shown");
            assert_eq!((view.width(), view.height()), size);
            let quality = psnr(Picture::copy_of(&view).data(), picture(size.0, size.1, n).data());
            assert!(quality > 30.0, "{codec:?} frame {n}: {quality} dB");
        }
    }
}

#[test]
fn h264_is_constrained_baseline_with_parameter_sets() {
    let units = encode(VideoCodec::H264, (64, 64), 1, &[]);
    let sps = units[0].data.windows(4).find(|w| w[..3] == [0, 0, 1] && w[3] & 0x1f == 7);
    assert!(sps.is_some());
    let at = units[0].data.windows(4).position(|w| Some(w) == sps).expect("found");
    let profile = &units[0].data[at + 4..at + 6];
    assert_eq!((profile[0], profile[1] & 0x40), (66, 0x40), "{profile:x?}");
}

#[test]
fn after_a_loss_nothing_is_shown_before_the_next_key_frame() {
    for codec in ENCODED {
        let units = encode(codec, (160, 96), 9, &[6]);
        let mut decoder = Decoder::new(codec).expect("supported");
        assert_eq!(decoder.decode(&units[1].data).err(), Some(DecodeError::NeedKeyFrame));
        assert!(decoder.decode(&units[0].data).expect("key").is_some());
        decoder.lost();
        for n in [3, 4, 5] {
            assert_eq!(
                decoder.decode(&units[n].data).err(),
                Some(DecodeError::NeedKeyFrame),
                "{codec:?} {n}"
            );
        }
        for n in [6, 7, 8] {
            let view = decoder.decode(&units[n as usize].data).expect("good").expect("shown");
            let quality = psnr(Picture::copy_of(&view).data(), picture(160, 96, n).data());
            assert!(quality > 30.0, "{codec:?} frame {n}: {quality} dB");
        }
    }
}

#[test]
fn corrupt_units_are_errors_and_the_next_key_frame_heals() {
    let mut rng = StdRng::seed_from_u64(0xbad);
    for codec in ENCODED {
        let units = encode(codec, (160, 96), 6, &[]);
        let mut decoder = Decoder::new(codec).expect("supported");
        for round in 0..600 {
            let mut unit = units[round % units.len()].data.clone();
            match round % 3 {
                0 => unit.truncate(rng.random_range(0..unit.len())),
                1 => (0..8).for_each(|_| {
                    let at = rng.random_range(0..unit.len());
                    unit[at] = rng.random();
                }),
                _ => unit = (0..rng.random_range(0..600)).map(|_| rng.random()).collect(),
            }
            if let Ok(Some(view)) = decoder.decode(&unit) {
                assert!(view.width() > 0);
            }
        }
        decoder.lost();
        assert!(decoder.decode(&units[0].data).expect("a whole key frame").is_some(), "{codec:?}");
        assert!(decoder.decode(&units[1].data).expect("follows").is_some(), "{codec:?}");
    }
}

#[test]
fn random_bytes_with_plausible_headers_never_end_a_decoder() {
    let mut rng = StdRng::seed_from_u64(9);
    let heads: [(VideoCodec, &[u8]); 3] = [
        (VideoCodec::Vp8, &[0x10, 2, 0, 0x9d, 0x01, 0x2a, 0x40, 0, 0x40, 0]),
        (VideoCodec::Vp9, &[0x82, 0x49, 0x83, 0x42, 0x00, 0x03, 0xf0, 0x03, 0xf0]),
        (VideoCodec::H264, &[0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xda]),
    ];
    for (codec, head) in heads {
        let mut decoder = Decoder::new(codec).expect("supported");
        for _ in 0..300 {
            let mut unit = head.to_vec();
            unit.extend((0..rng.random_range(0..500)).map(|_| rng.random::<u8>()));
            let _ = decoder.decode(&unit);
        }
    }
}

#[test]
fn sizes_and_codecs_outside_the_limits_are_refused() {
    let config = EncoderConfig::for_size(5000, 3000, 30);
    assert!(matches!(Encoder::new(VideoCodec::Vp8, config), Err(EncodeError::Size(_))));
    let odd = EncoderConfig::for_size(33, 32, 30);
    assert!(matches!(Encoder::new(VideoCodec::H264, odd), Err(EncodeError::Size(_))));
    assert!(matches!(Encoder::new(VideoCodec::Vp9, odd), Err(EncodeError::Unsupported(_))));
    assert_eq!(Decoder::new(VideoCodec::Av1).err(), Some(DecodeError::Unsupported(VideoCodec::Av1)));
    let mut decoder = Decoder::new(VideoCodec::Vp8).expect("supported");
    assert_eq!(decoder.decode(&vec![0; MAX_ACCESS_UNIT_BYTES + 1]).err(), Some(DecodeError::TooLarge));
    let mut encoder = Encoder::new(VideoCodec::Vp8, EncoderConfig::for_size(32, 32, 30)).expect("supported");
    assert!(encoder.encode(&picture(64, 64, 0).view(), 0, false).is_err());
}

#[test]
fn an_odd_sized_strided_picture_is_encoded_by_vp8() {
    let source = picture(48, 32, 3);
    let view = source.view();
    let crop = I420::new((33, 17), view.planes(), view.strides(), Colour::default()).expect("a corner");
    let mut encoder = Encoder::new(VideoCodec::Vp8, EncoderConfig::for_size(33, 17, 30)).expect("supported");
    let unit = encoder.encode(&crop, 0, true).expect("right size").expect("a frame");
    let mut decoder = Decoder::new(VideoCodec::Vp8).expect("supported");
    let out = decoder.decode(&unit.data).expect("good").expect("shown");
    let quality = psnr(Picture::copy_of(&out).data(), Picture::copy_of(&crop).data());
    assert!(quality > 25.0, "{quality}");
}

#[test]
fn the_bitrate_can_be_changed_on_the_way() {
    for codec in ENCODED {
        let mut encoder = Encoder::new(codec, EncoderConfig::for_size(320, 176, 30)).expect("supported");
        let mut decoder = Decoder::new(codec).expect("supported");
        let mut shown = 0;
        for n in 0..10 {
            if n == 5 {
                encoder.set_bitrate(100_000).expect("plausible");
            }
            let unit = encoder.encode(&picture(320, 176, n).view(), u64::from(n) * 3000, false);
            // The rate control may leave a frame out.
            let Some(unit) = unit.expect("right size") else { continue };
            shown += u32::from(decoder.decode(&unit.data).expect("good").is_some());
        }
        assert!(shown >= 6, "{codec:?}: {shown}");
    }
}
