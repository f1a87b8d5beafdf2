//! Any bytes as an RTP packet and as a payload of each codec.

use antiphon_base::{Codec, VideoCodec};
use antiphon_wire::rtp::{Descriptor, av1, h264, header, opus, red, vp8, vp9};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let payload = header::parse(bytes).map_or(bytes, |(_, payload)| payload);
    for codec in [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1] {
        let d = Descriptor::parse(Codec::Video(codec), payload);
        let _ = (d.starts_frame(), d.starts_keyframe(), d.temporal_id(), d.spatial_id(), d.resolution());
    }
    let mut copy = payload.to_vec();
    if let Ok((d, _)) = vp8::Descriptor::parse(payload) {
        d.patch(&mut copy, 0x1234, Some(0x56));
        assert_eq!(
            vp8::Descriptor::parse(&copy).expect("the patch keeps its shape").0.header_len,
            d.header_len
        );
    }
    copy.copy_from_slice(payload);
    if let Ok((d, _)) = vp9::Descriptor::parse(payload) {
        d.patch(&mut copy, 0x1234, Some(0x56));
        assert_eq!(
            vp9::Descriptor::parse(&copy).expect("the patch keeps its shape").0.header_len,
            d.header_len
        );
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
    let _ = (opus::samples_48k(payload), opus::is_dtx(payload));
    let mut sum = 0;
    if let Some((_, primary)) = red::read(payload, |block| sum += 4 + block.data.len()) {
        assert_eq!(sum + 1 + primary.len(), payload.len());
    }
}
