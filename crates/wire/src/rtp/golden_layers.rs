//! What Chromium sends of scalable video (`testdata/chromium.mjs`): dependency descriptors, and that payload headers agree.

use antiphon_base::{Codec, VideoCodec};

use super::dependency::{Error, Patch, Reader};
use super::golden::lines;
use super::{Descriptor, header};

macro_rules! recorded {
    ($name:literal) => {
        ($name, include_str!(concat!("testdata/chromium_", $name, ".txt")))
    };
}

/// Codec, spatial and temporal layers (Chromium sends two of 640x360, whatever is asked), name and packets.
const FILES: [(VideoCodec, u8, u8, (&str, &str)); 8] = [
    (VideoCodec::Av1, 1, 3, recorded!("av1_l1t3")),
    (VideoCodec::Av1, 2, 3, recorded!("av1_l3t3")),
    (VideoCodec::Av1, 2, 3, recorded!("av1_l3t3_key")),
    (VideoCodec::Vp9, 2, 3, recorded!("vp9_l3t3_key")),
    (VideoCodec::Vp9, 2, 3, recorded!("vp9_l3t3")),
    (VideoCodec::Vp9, 1, 3, recorded!("vp9_l1t3")),
    (VideoCodec::Vp8, 1, 3, recorded!("vp8_l1t3")),
    (VideoCodec::H264, 1, 2, recorded!("h264_l1t2")),
];

#[test]
fn chromium_descriptors_read_and_write_back() {
    for (codec, spatial, temporal, (name, file)) in FILES {
        let (mut reader, mut attached, mut described) = (Reader::new(), 0, 0);
        for bytes in lines(file, "rtp") {
            let Some(raw) = header::extension(&bytes, 12) else { continue };
            let d = match reader.read(raw) {
                Err(Error::Structure) if attached == 0 => continue, // The capture began within a stream.
                read => read.unwrap_or_else(|e| panic!("{name}: {e}: {raw:02x?}")),
            };
            described += 1;
            let patch =
                Patch { frame_number: d.frame_number, template_shift: 0, active: None, attach: false };
            let mut out = Vec::new();
            d.write(&patch, &mut out);
            assert_eq!(out, raw, "{name}");
            if d.attached {
                attached += 1;
                let layers = (d.structure.spatial_layers(), d.structure.temporal_layers());
                assert_eq!(layers, (spatial, temporal), "{name}");
                let heights: Vec<u16> = d.structure.resolutions.iter().map(|r| r.1).collect();
                let expected: &[u16] = match (codec, spatial) {
                    (VideoCodec::H264, _) => &[], // Not told.
                    (_, 2) => &[180, 360],
                    _ => &[360],
                };
                assert_eq!(heights, expected, "{name}");
                let (s, t) = d.structure.layers_of(d.structure.targets - 1);
                assert_eq!((s + 1, t + 1), layers, "{name}: the last target is the highest");
            }
        }
        assert!(attached > 0 && described > 100, "{codec:?} {name}: {attached} {described}");
    }
}

#[test]
fn chromium_payload_headers_agree_with_their_descriptors() {
    for (codec, _, _, (name, file)) in FILES {
        let mut reader = Reader::new();
        for bytes in lines(file, "rtp") {
            let (_, payload) = header::parse(&bytes).unwrap();
            let parsed = Descriptor::parse(Codec::Video(codec), payload);
            let Some(raw) = header::extension(&bytes, 12) else { continue };
            let d = match reader.read(raw) {
                Err(Error::Structure) if reader.structure().is_none() => continue, // Within a stream.
                read => read.unwrap_or_else(|e| panic!("{name}: {e}: {raw:02x?}")),
            };
            // In H.264 each packet of those that can lead counts.
            if d.attached || codec != VideoCodec::H264 {
                assert_eq!(parsed.starts_keyframe(), d.attached, "{name}");
            }
            if let Some(tid) = parsed.temporal_id() {
                assert_eq!(tid, d.temporal_id, "{name}");
            }
            if let Some(sid) = parsed.spatial_id() {
                assert_eq!(sid, d.spatial_id, "{name}");
            }
            if let Descriptor::Vp9(vp9) = parsed {
                let ends = (vp9.starts_layer_frame, vp9.ends_layer_frame);
                assert_eq!(ends, (d.starts_frame, d.ends_frame), "{name}");
            }
        }
    }
}
