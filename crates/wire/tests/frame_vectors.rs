//! `docs/reference/frame-vectors.json` is what every SDK's tests read; it is made here, from the Rust writer.
//!
//! After a change: `ANTIPHON_WRITE_VECTORS=1 cargo test -p antiphon-wire --test frame_vectors`, and look at the diff.
//! Times are decimal strings, because they do not fit a JavaScript number.

#![expect(clippy::unwrap_used, reason = "the whole file is a test")]

use antiphon_base::{
    AudioCodec, ClockFlags, Clocks, ParticipantKey, PixelFormat, Source, SpeakerLevel, VideoCodec,
};
use antiphon_wire::frame::{self, Format, FrameError, Header};
use serde_json::{Value, json};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/frame-vectors.json");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn header(format: Format, source: Source) -> Header {
    Header {
        format,
        source,
        stream: 7,
        participant: ParticipantKey(3),
        sequence: 99,
        clocks: Clocks {
            capture_us: 1_763_700_000_123_456,
            arrival_us: 1_763_700_000_145_678,
            media_us: 1_980_000,
            flags: ClockFlags { capture_estimated: false },
        },
        dropped_before: 0,
        silence: false,
        gap: false,
        key: false,
        mixed: false,
        speakers: vec![],
    }
}

fn pcm(sample_rate: u32, channels: u8, samples: u32) -> Format {
    Format::Pcm { sample_rate, channels, samples }
}

fn speaker(participant: u32, level: u8) -> SpeakerLevel {
    SpeakerLevel { participant: ParticipantKey(participant), level }
}

fn audio_cases() -> Vec<(String, Header, Vec<u8>)> {
    let samples: Vec<u8> =
        [0i16, 1, -1, i16::MAX, i16::MIN, 256, -256, 1000].iter().flat_map(|s| s.to_le_bytes()).collect();
    let mut cases = Vec::new();
    let mut one = header(pcm(16_000, 1, 8), Source::Microphone);
    one.speakers = vec![speaker(3, 30)];
    cases.push(("pcm_16k_mono_one_speaker".to_owned(), one, samples.clone()));
    cases.push(("pcm_48k_stereo".to_owned(), header(pcm(48_000, 2, 4), Source::ScreenAudio), samples));
    let mut mix = header(pcm(8_000, 1, 2), Source::Microphone);
    (mix.participant, mix.mixed) = (ParticipantKey(0), true);
    mix.speakers = (0..16).map(|i| speaker(u32::MAX - i, 8 * u8::try_from(i).unwrap())).collect();
    cases.push(("mix_sixteen_speakers".to_owned(), mix, vec![1, 2, 3, 4]));
    let mut silent = header(pcm(24_000, 1, 1), Source::Microphone);
    (silent.silence, silent.clocks.flags.capture_estimated) = (true, true);
    cases.push(("silence_capture_estimated".to_owned(), silent, vec![0, 0]));
    let mut lost = header(pcm(16_000, 1, 0), Source::Microphone);
    (lost.gap, lost.dropped_before, lost.sequence) = (true, 12, u32::MAX);
    lost.clocks.capture_us = 0;
    lost.clocks.arrival_us = u64::MAX;
    cases.push(("gap_dropped_extremes_no_samples".to_owned(), lost, vec![]));
    for codec in [AudioCodec::Opus, AudioCodec::Pcmu, AudioCodec::Pcma, AudioCodec::G722] {
        let channels = if codec == AudioCodec::Opus { 2 } else { 1 };
        let format = Format::EncodedAudio { codec, sample_rate: codec.clock_rate(), channels };
        let mut h = header(format, Source::Microphone);
        h.key = true;
        cases.push((format!("encoded_{}", codec.as_str()), h, vec![0xfc, 0xff, 0xfe]));
    }
    cases
}

fn video_cases() -> Vec<(String, Header, Vec<u8>)> {
    let mut cases = Vec::new();
    let layouts =
        [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Rgb24, PixelFormat::Bgr24, PixelFormat::Rgba];
    for (w, h) in [(4u16, 2u16), (3, 3)] {
        for format in layouts {
            let f = Format::Picture { format, width: w, height: h, source_width: 1280, source_height: 720 };
            let payload = (0..format.bytes(w.into(), h.into())).map(|i| u8::try_from(i).unwrap()).collect();
            cases.push((format!("picture_{}_{w}x{h}", format.as_str()), header(f, Source::Camera), payload));
        }
    }
    for codec in [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1] {
        let mut h = header(Format::EncodedVideo { codec, width: 640, height: 360 }, Source::Screen);
        h.key = codec == VideoCodec::H264;
        cases.push((format!("encoded_{}", codec.as_str()), h, vec![0, 0, 0, 1, 0x65]));
    }
    let unknown = Format::EncodedVideo { codec: VideoCodec::Vp8, width: 0, height: 0 };
    cases.push(("encoded_vp8_size_unknown".to_owned(), header(unknown, Source::Camera), vec![1]));
    cases
}

/// What a reader must make of the message.
fn describe(h: &Header) -> Value {
    let mut v = json!({
        "source": h.source.as_str(), "stream": h.stream, "participant": h.participant.0, "sequence": h.sequence,
        "capture_us": h.clocks.capture_us.to_string(), "arrival_us": h.clocks.arrival_us.to_string(),
        "media_us": h.clocks.media_us.to_string(), "capture_estimated": h.clocks.flags.capture_estimated,
        "dropped_before": h.dropped_before, "silence": h.silence, "gap": h.gap, "key": h.key, "mixed": h.mixed,
        "speakers": h.speakers.iter().map(|s| json!({"participant": s.participant.0, "level": s.level})).collect::<Vec<_>>(),
    });
    v["format"] = match h.format {
        Format::Pcm { sample_rate, channels, samples } => {
            json!({"kind": "pcm", "sample_rate": sample_rate, "channels": channels, "samples": samples})
        }
        Format::Picture { format, width, height, source_width, source_height } => json!({
            "kind": "picture", "pixel_format": format.as_str(), "width": width, "height": height,
            "source_width": source_width, "source_height": source_height,
        }),
        Format::EncodedAudio { codec, sample_rate, channels } => json!({
            "kind": "encoded_audio", "codec": codec.as_str(), "sample_rate": sample_rate, "channels": channels,
        }),
        Format::EncodedVideo { codec, width, height } => {
            json!({"kind": "encoded_video", "codec": codec.as_str(), "width": width, "height": height})
        }
    };
    v
}

fn describe_error(e: FrameError) -> Value {
    match e {
        FrameError::Truncated(at) => json!({"kind": "truncated", "at": at}),
        FrameError::Version(version) => json!({"kind": "version", "version": version}),
        FrameError::Value { offset, value } => json!({"kind": "value", "offset": offset, "value": value}),
        FrameError::PayloadSize { expected, found } => {
            json!({"kind": "payload_size", "expected": expected, "found": found})
        }
    }
}

/// A good PCM message with one speaker, to be spoilt: 64 bytes of head, 8 of payload.
fn good() -> Vec<u8> {
    let mut h = header(pcm(16_000, 1, 4), Source::Microphone);
    h.speakers = vec![speaker(3, 30)];
    h.to_message(&[1, 0, 2, 0, 3, 0, 4, 0])
}

fn with(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut m = good();
    changes.iter().for_each(|&(at, value)| m[at] = value);
    m
}

/// Messages a reader takes although our writer never makes them: what it does not know it does not look at.
fn tolerated() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("unknown_flags_are_ignored", with(&[(3, 0xe0)])),
        ("reserved_bytes_are_ignored", with(&[(47, 9), (61, 1), (62, 2), (63, 3)])),
    ]
}

fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let picture = |format: PixelFormat, w: u16, h: u16| {
        let f = Format::Picture { format, width: w, height: h, source_width: w, source_height: h };
        header(f, Source::Camera).to_message(&[0; 5])
    };
    let encoded = |kind: u8, format: u8, channels: u8| {
        let mut m = with(&[(1, kind), (44, format), (45, channels)]);
        m.truncate(70);
        m
    };
    let mut long = good();
    long.push(0);
    vec![
        ("empty", vec![]),
        ("header_cut", good()[..55].to_vec()),
        ("speakers_cut", good()[..60].to_vec()),
        ("payload_missing", good()[..64].to_vec()),
        ("payload_short", good()[..71].to_vec()),
        ("payload_long", long),
        ("version_0", with(&[(0, 0)])),
        ("version_2", with(&[(0, 2)])),
        ("kind_0", with(&[(1, 0)])),
        ("kind_5", with(&[(1, 5)])),
        ("source_4", with(&[(2, 4)])),
        ("pcm_format_1", with(&[(44, 1)])),
        ("pcm_channels_0", with(&[(45, 0)])),
        ("pcm_channels_3", with(&[(45, 3)])),
        ("speakers_17", with(&[(46, 17)])),
        ("samples_overflow", with(&[(45, 2), (52, 255), (53, 255), (54, 255), (55, 255)])),
        ("picture_format_5", with(&[(1, 2), (44, 5)])),
        ("picture_short", picture(PixelFormat::Rgb24, 2, 1)),
        ("picture_huge", picture(PixelFormat::Rgba, u16::MAX, u16::MAX)),
        ("encoded_audio_codec_0", encoded(3, 0, 1)),
        ("encoded_audio_codec_5", encoded(3, 5, 1)),
        ("encoded_audio_channels_0", encoded(3, 1, 0)),
        ("encoded_video_codec_0", encoded(4, 0, 0)),
        ("encoded_video_codec_5", encoded(4, 5, 0)),
    ]
}

fn vectors() -> Value {
    let mut frames = Vec::new();
    for (name, h, payload) in audio_cases().into_iter().chain(video_cases()) {
        let message = h.to_message(&payload);
        frames.push(json!({
            "name": name, "canonical": true, "header": describe(&h),
            "payload": hex(&payload), "message": hex(&message),
        }));
    }
    for (name, message) in tolerated() {
        let (h, payload) = frame::parse(&message).unwrap();
        frames.push(json!({
            "name": name, "canonical": false, "header": describe(&h),
            "payload": hex(payload), "message": hex(&message),
        }));
    }
    let invalid: Vec<Value> = refused()
        .into_iter()
        .map(|(name, m)| {
            let error = frame::parse(&m).expect_err(name);
            json!({"name": name, "message": hex(&m), "error": describe_error(error)})
        })
        .collect();
    json!({"protocol": frame::VERSION, "frames": frames, "invalid": invalid})
}

#[test]
fn the_checked_in_vectors_are_those_of_the_writer() {
    let made = vectors();
    if std::env::var_os("ANTIPHON_WRITE_VECTORS").is_some() {
        std::fs::write(PATH, format!("{made:#}\n")).unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(PATH).unwrap()).unwrap();
    assert_eq!(kept, made, "run again with ANTIPHON_WRITE_VECTORS=1 and look at the diff");
    for f in kept["frames"].as_array().unwrap() {
        let message = unhex(f["message"].as_str().unwrap());
        let (h, payload) = frame::parse(&message).unwrap();
        assert_eq!(describe(&h), f["header"], "{}", f["name"]);
        assert_eq!(hex(payload), f["payload"].as_str().unwrap());
        assert_eq!(h.to_message(payload) == message, f["canonical"].as_bool().unwrap(), "{}", f["name"]);
    }
}
