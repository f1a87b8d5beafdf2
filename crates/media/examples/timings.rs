//! Prints what the codecs cost on this machine: `cargo run -p antiphon-media --example timings`.
#![allow(clippy::disallowed_methods, reason = "it measures; the crate itself has no clock")]

use std::time::Instant;

use antiphon_base::{AudioCodec, PixelFormat, VideoCodec};
use antiphon_media::audio::{self, OpusConfig};
use antiphon_media::convert::{Converter, Fit, to_i420};
use antiphon_media::picture::Picture;
use antiphon_media::synth::{self, Canvas, Tone};
use antiphon_media::video::{Decoder, Encoder, EncoderConfig};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    for codec in [VideoCodec::Vp8, VideoCodec::H264] {
        video(codec)?;
    }
    conversions()?;
    audio()
}

fn report(what: &str, since: Instant, count: u32) {
    println!("{what}: {:.1} us", since.elapsed().as_secs_f64() * 1e6 / f64::from(count));
}

/// A moving 720p picture with noise-like texture.
fn scene(number: u32) -> Result<Picture, Failure> {
    let mut picture = Picture::black(1280, 720)?;
    let [y, ..] = picture.planes_mut();
    for (row, line) in (0u32..).zip(y.chunks_mut(1280)) {
        for (column, p) in (0u32..).zip(line) {
            let value = 60 + (row / 3 + (column + number * 4) / 5) % 90 + (row * 31 + column * 17) % 7;
            *p = u8::try_from(value)?;
        }
    }
    synth::draw_frame_number(&mut picture, u16::try_from(number)?);
    Canvas::new(&mut picture).text((100, 300), 6, synth::WHITE, "ANTIPHON");
    Ok(picture)
}

fn video(codec: VideoCodec) -> Result<(), Failure> {
    let scenes = (0..60).map(scene).collect::<Result<Vec<_>, _>>()?;
    let mut encoder = Encoder::new(codec, EncoderConfig::for_size(1280, 720, 30))?;
    let mut units = Vec::new();
    let start = Instant::now();
    for (n, scene) in (0u64..).zip(&scenes) {
        units.extend(encoder.encode(&scene.view(), n * 3000, false)?);
    }
    report(&format!("{} 720p encode", codec.as_str()), start, 60);
    let mut decoder = Decoder::new(codec)?;
    let start = Instant::now();
    for unit in &units {
        decoder.decode(&unit.data)?;
    }
    report(&format!("{} 720p decode", codec.as_str()), start, u32::try_from(units.len())?);
    Ok(())
}

fn conversions() -> Result<(), Failure> {
    let scene = scene(1)?;
    for (format, fit) in [
        (PixelFormat::Rgb24, Fit::Native),
        (PixelFormat::Nv12, Fit::Native),
        (PixelFormat::Rgb24, Fit::Height(360)),
        (PixelFormat::Rgb24, Fit::Height(1080)),
    ] {
        let mut converter = Converter::new();
        converter.convert(&scene.view(), format, fit)?;
        let start = Instant::now();
        for _ in 0..100 {
            converter.convert(&scene.view(), format, fit)?;
        }
        report(&format!("720p I420 to {} {fit:?}", format.as_str()), start, 100);
    }
    let rgb = Converter::new().convert(&scene.view(), PixelFormat::Rgb24, Fit::Native)?;
    let mut back = Picture::black(1280, 720)?;
    let start = Instant::now();
    for _ in 0..100 {
        to_i420(PixelFormat::Rgb24, (1280, 720), &rgb.data, &mut back)?;
    }
    report("720p RGB24 to I420", start, 100);
    Ok(())
}

fn audio() -> Result<(), Failure> {
    let mut tone = Tone::new(48_000, 300.0, -12.0);
    let mut encoder = audio::Encoder::new(AudioCodec::Opus, 48_000, OpusConfig::default())?;
    let mut frames = Vec::new();
    for _ in 0..500 {
        let mut pcm = Vec::new();
        tone.append(960, &mut pcm);
        frames.push(pcm);
    }
    let mut packets = Vec::new();
    let start = Instant::now();
    for frame in &frames {
        let mut packet = Vec::new();
        encoder.encode(frame, &mut packet)?;
        packets.push(packet);
    }
    report("Opus 20 ms encode from 48 kHz", start, 500);
    let mut decoder = audio::Decoder::new(AudioCodec::Opus, 16_000)?;
    let mut pcm = Vec::new();
    let start = Instant::now();
    for packet in &packets {
        pcm.clear();
        decoder.decode(packet, &mut pcm)?;
    }
    report("Opus 20 ms decode to 16 kHz", start, 500);
    let mut resampler = antiphon_media::resample::Resampler::new(48_000, 16_000)?;
    let start = Instant::now();
    for frame in &frames {
        pcm.clear();
        resampler.process(frame, &mut pcm);
    }
    report("resample 20 ms 48 to 16 kHz", start, 500);
    Ok(())
}
