//! Packets made by foreign implementations (`testdata/generate.py`: aiortc 1.16 for VP8, H.264 and Opus, FFmpeg's
//! RTP muxer by PyAV 18.1 for VP9, AV1 and multi-slice H.264), and bytes changed at random after them.

use antiphon_base::{AudioCodec, Codec, VideoCodec};

use super::frame::{Assembler, Limits};
use super::packetize::{self, nal_units};
use super::testing::{Random, packet, shared};
use super::{Descriptor, Packet, av1, h264, header, opus, red, vp8, vp9};

/// Codec and packets; all pictures are 64x48.
pub(crate) const FILES: [(Codec, &str); 6] = [
    (Codec::Video(VideoCodec::Vp8), include_str!("testdata/vp8.txt")),
    (Codec::Video(VideoCodec::H264), include_str!("testdata/h264.txt")),
    (Codec::Video(VideoCodec::H264), include_str!("testdata/h264_ffmpeg.txt")),
    (Codec::Video(VideoCodec::Vp9), include_str!("testdata/vp9.txt")),
    (Codec::Video(VideoCodec::Av1), include_str!("testdata/av1.txt")),
    (Codec::Audio(AudioCodec::Opus), include_str!("testdata/opus.txt")),
];

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The lines of one kind.
pub(crate) fn lines(file: &str, kind: &str) -> Vec<Vec<u8>> {
    file.lines().filter_map(|l| l.split_once(' ')).filter(|(k, _)| *k == kind).map(|(_, v)| hex(v)).collect()
}

/// The file's packets, a millisecond apart.
pub(crate) fn packets(codec: Codec, file: &str) -> Vec<Packet> {
    let mut seq = None;
    lines(file, "rtp")
        .iter()
        .zip(0u64..)
        .map(|(bytes, i)| {
            let (head, payload) = header::parse(bytes).unwrap();
            let last = seq.unwrap_or_else(|| 65_535 + u64::from(head.seq));
            assert_eq!(head.seq, u16::try_from((last + 1) & 0xffff).unwrap());
            seq = Some(last + 1);
            let mut p = packet(codec, last + 1, u64::from(head.rtp_time), i * 1000, payload);
            p.marker = head.marker;
            p
        })
        .collect()
}

fn same_unit(codec: Codec, ours: &[u8], theirs: &[u8]) -> bool {
    match codec {
        Codec::Video(VideoCodec::H264) => nal_units(ours).eq(nal_units(theirs)),
        _ => ours == theirs,
    }
}

#[test]
fn foreign_packets_become_the_encoders_access_units() {
    for (codec, file) in FILES {
        let Codec::Video(video) = codec else { continue };
        let mut assembler = Assembler::new(video, Limits::default());
        let mut frames = Vec::new();
        for p in packets(codec, file) {
            assembler.push(&shared(p));
            frames.extend(std::iter::from_fn(|| assembler.poll()));
        }
        let units = lines(file, "au");
        assert_eq!(frames.len(), units.len(), "{codec:?}");
        for (frame, unit) in frames.iter().zip(&units) {
            assert!(same_unit(codec, &frame.data, unit), "{codec:?}: {:02x?} {unit:02x?}", frame.data);
            assert!(!frame.gap);
        }
        assert!(frames[0].key && !assembler.needs_keyframe());
        // FFmpeg never sets VP9's P bit, so that all its pictures look like key pictures.
        assert!(codec == Codec::Video(VideoCodec::Vp9) || frames[1..].iter().all(|f| !f.key), "{codec:?}");
        let counters = assembler.counters();
        assert_eq!((counters.used, counters.dropped()), (counters.packets_in, 0));
    }
}

#[test]
fn foreign_descriptors_say_what_they_should() {
    for (codec, file) in FILES {
        let packets = packets(codec, file);
        let first = &packets[0];
        assert!(first.starts_frame() && first.starts_keyframe(), "{codec:?}");
        match codec {
            Codec::Audio(_) => {
                assert_eq!(first.descriptor, Descriptor::Audio);
                for p in &packets {
                    assert_eq!(opus::samples_48k(&p.payload), Some(960));
                    assert!(!opus::is_dtx(&p.payload) && opus::is_stereo(&p.payload));
                }
            }
            Codec::Video(_) => assert_eq!(first.descriptor.resolution(), Some((64, 48)), "{codec:?}"),
        }
        let ends = packets.iter().filter(|p| p.ends_frame()).count();
        assert_eq!(ends, lines(file, "au").len());
    }
}

#[test]
fn foreign_access_units_survive_our_packetizers() {
    for (codec, file) in FILES {
        for (i, unit) in lines(file, "au").iter().enumerate() {
            for max in [64, 200, 1100] {
                let payloads = match codec {
                    Codec::Video(VideoCodec::Vp8) => {
                        packetize::Vp8::new(0x7fff).packetize(unit, max).unwrap()
                    }
                    Codec::Video(VideoCodec::H264) => packetize::H264.packetize(unit, max).unwrap(),
                    _ => continue,
                };
                let Codec::Video(video) = codec else { continue };
                let mut assembler = Assembler::new(video, Limits::default());
                for (n, payload) in payloads.iter().enumerate() {
                    assert!(payload.data.len() <= max);
                    let mut p = packet(codec, n as u64, 9, n as u64, &payload.data);
                    p.marker = payload.marker;
                    assembler.push(&shared(p));
                }
                let frame = assembler.poll();
                assert_eq!(frame.is_some(), i == 0, "only the first is a key frame");
                assert!(frame.is_none_or(|f| same_unit(codec, &f.data, unit)));
            }
        }
    }
}

/// All that looks at a payload.
fn look_at(payload: &[u8]) {
    for codec in [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1] {
        let d = Descriptor::parse(Codec::Video(codec), payload);
        let _ = (d.starts_frame(), d.starts_keyframe(), d.temporal_id(), d.spatial_id(), d.resolution());
    }
    if let Ok((d, data)) = vp8::Descriptor::parse(payload) {
        assert_eq!(data.len() + usize::from(d.header_len), payload.len());
        let mut copy = payload.to_vec();
        d.patch(&mut copy, 0x1234, Some(0x56));
        let again = vp8::Descriptor::parse(&copy).unwrap().0;
        assert_eq!(again.header_len, d.header_len);
        let id = again.picture_id.map(|p| p.value);
        assert_eq!(id, d.picture_id.map(|p| if p.long { 0x1234 } else { 0x34 }));
        assert_eq!(again.tl0_pic_idx.map(|f| f.value), d.tl0_pic_idx.map(|_| 0x56));
    }
    if let Ok((d, data)) = vp9::Descriptor::parse(payload) {
        assert_eq!(data.len() + usize::from(d.header_len), payload.len());
        let mut copy = payload.to_vec();
        d.patch(&mut copy, 0x1234, Some(0x56));
        let again = vp9::Descriptor::parse(&copy).unwrap().0;
        assert_eq!(again.picture_id.is_some(), d.picture_id.is_some());
        assert_eq!(again.tl0_pic_idx().map(|f| f.value), d.tl0_pic_idx().map(|_| 0x56));
    }
    if let Ok(d) = av1::Descriptor::parse(payload) {
        let mut out = Vec::new();
        for element in d.elements(payload).flatten() {
            av1::append_sized(&mut out, element.data);
        }
    }
    if let Ok(h264::Unit::Aggregate(units)) = h264::Unit::parse(payload) {
        assert!(units.flatten().all(|u| !u.is_empty()));
    }
    h264::sps_resolution(payload);
    let _ = (opus::samples_48k(payload), opus::is_dtx(payload), red::primary(payload));
    let _ = header::parse(payload);
    let _ = packetize::H264.packetize(payload, 100);
    let _ = packetize::Vp8::new(1).packetize(payload, 100);
}

#[test]
fn bytes_of_any_content_do_no_harm() {
    let seeds: Vec<Vec<u8>> = FILES
        .iter()
        .flat_map(|(codec, file)| packets(*codec, file))
        .map(|p| p.payload.get(..300).unwrap_or(&p.payload).to_vec())
        .collect();
    let mut random = Random(1);
    for _ in 0..50_000 {
        let at = random.index(seeds.len());
        look_at(&random.mutate(&seeds[at]));
        look_at(&random.bytes(40));
    }
}

#[test]
fn mutated_streams_keep_the_assemblers_books() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (codec, file) = FILES[random.index(5)];
        let Codec::Video(video) = codec else { unreachable!("the first five are video") };
        let mut assembler = Assembler::new(video, Limits { packets: 64, wait_us: 5_000 });
        let base = packets(codec, file);
        for round in 0..40u64 {
            for p in &base {
                let mut p = p.clone();
                if random.below(8) == 0 {
                    p.payload = random.mutate(&p.payload).into();
                    p.descriptor = Descriptor::parse(codec, &p.payload);
                }
                let jump = if random.below(200) == 0 { random.next() } else { random.below(3) };
                p.seq = p.seq.wrapping_add(round * base.len() as u64).wrapping_add(jump);
                p.rtp_time = p.rtp_time.wrapping_add(round * 9000);
                p.arrival_us += round * 30_000;
                assembler.push(&shared(p));
                while assembler.poll().is_some() {}
                let c = assembler.counters();
                assert_eq!(c.packets_in, c.used + c.dropped() + assembler.held() as u64, "seed {seed}");
                assert!(assembler.held() <= 64);
            }
        }
    }
}
