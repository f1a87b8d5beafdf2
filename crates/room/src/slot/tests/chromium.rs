//! The gate with what Chromium sends of scalable video (`testdata/chromium.mjs` of `wire`): whatever is chosen, what comes out
//! can be decoded, by what its dependency descriptors say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antiphon_base::{Codec, VideoCodec};
use antiphon_wire::rtp::dependency::Reader;
use antiphon_wire::rtp::{Descriptor, Packet, header};

use super::{feed, video};
use crate::slot::Outgoing;
use crate::testing::{Random, base};

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../../../wire/src/rtp/testdata/chromium_", $name, ".txt"))
    };
}

/// Codec, spatial and temporal layers, and what was sent.
const FILES: [(VideoCodec, u8, u8, &str); 7] = [
    (VideoCodec::Av1, 1, 3, recorded!("av1_l1t3")),
    (VideoCodec::Av1, 2, 3, recorded!("av1_l3t3")),
    (VideoCodec::Av1, 2, 3, recorded!("av1_l3t3_key")),
    (VideoCodec::Vp9, 2, 3, recorded!("vp9_l3t3_key")),
    (VideoCodec::Vp9, 2, 3, recorded!("vp9_l3t3")),
    (VideoCodec::Vp8, 1, 3, recorded!("vp8_l1t3")),
    (VideoCodec::H264, 1, 2, recorded!("h264_l1t2")),
];

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

/// The packets as ingress makes them; without descriptors, if they are not to be had.
fn packets(codec: VideoCodec, file: &str, described: bool) -> Vec<Arc<Packet>> {
    let (base, codec, mut reader) = (base(), Codec::Video(codec), Reader::new());
    let mut last = None;
    let (mut layers, mut began) = (1, None);
    let mut all = Vec::new();
    for line in file.lines() {
        let bytes = hex(line.strip_prefix("rtp ").unwrap());
        let (head, payload) = header::parse(&bytes).unwrap();
        let seq = last.map_or(u64::from(head.seq) + 65_536, |last: u64| {
            let step = head.seq.wrapping_sub(u16::try_from(last & 0xffff).unwrap()).cast_signed();
            last.wrapping_add_signed(i64::from(step))
        });
        last = Some(seq);
        let raw = header::extension(&bytes, 12).filter(|_| described);
        let dependency = raw.and_then(|raw| reader.read(raw).ok()).map(Arc::new);
        let descriptor = Descriptor::parse(codec, payload);
        let began = *began.get_or_insert(head.rtp_time);
        match (&dependency, &descriptor) {
            (Some(d), _) => layers = d.structure.spatial_layers(),
            (None, Descriptor::Vp9(d)) => layers = d.spatial_layers.unwrap_or(layers),
            _ => {}
        }
        all.push(Arc::new(Packet {
            track: feed(1, 0).track,
            layer: 0,
            codec,
            seq,
            rtp_time: u64::from(head.rtp_time),
            marker: head.marker,
            descriptor,
            payload: payload.into(),
            arrival: base + Duration::from_millis(u64::from(head.rtp_time.wrapping_sub(began)) / 90),
            arrival_us: 0,
            capture_us: 0,
            capture_estimated: false,
            audio_level: None,
            dependency,
            spatial_layers: layers,
        }));
    }
    all
}

/// RTP times of pictures that Chromium itself sent without a marker: it gave up their upper layer too late.
fn unmarked(packets: &[Arc<Packet>]) -> BTreeSet<u64> {
    let marked: BTreeSet<u64> = packets.iter().filter(|p| p.marker).map(|p| p.rtp_time).collect();
    packets.iter().map(|p| p.rtp_time).filter(|time| !marked.contains(time)).collect()
}

/// Everything that leaves, in order, and that it can be decoded.
fn check(out: &[Outgoing], unmarked: &BTreeSet<u64>, what: &str) {
    let mut frames = BTreeSet::new();
    let mut reader = Reader::new();
    let mut ended = None;
    for pair in out.windows(2) {
        assert_eq!(pair[1].rewritten.seq, pair[0].rewritten.seq + 1, "{what}");
        let next = pair[1].rewritten.rtp_time != pair[0].rewritten.rtp_time;
        let ends = next && (pair[0].marker || !unmarked.contains(&pair[0].packet.rtp_time));
        assert_eq!(ends, pair[0].marker, "{what}: the marker stands at the end of a picture");
    }
    for o in out {
        assert_ne!(ended, Some(o.rewritten.rtp_time), "{what}");
        ended = o.marker.then_some(o.rewritten.rtp_time).or(ended);
        let Some(d) = &o.packet.dependency else { continue };
        let mut bytes = Vec::new();
        d.write(&o.rewritten.dependency.unwrap(), &mut bytes);
        let seen = reader.read(&bytes).unwrap();
        for distance in seen.references.as_slice() {
            let number = seen.frame_number.wrapping_sub(*distance);
            assert!(frames.contains(&number), "{what}: a reference is missing");
        }
        frames.insert(seen.frame_number);
    }
}

#[test]
fn what_is_sent_of_chromium_can_be_decoded() {
    for (codec, spatial, temporal, file) in FILES {
        for described in [true, false] {
            if !described && codec != VideoCodec::Vp9 {
                // Nothing else tells its layers: it passes whole. Of VP8, Chromium leaves them out of the payload descriptor then.
                continue;
            }
            let packets = packets(codec, file, described);
            let unmarked = unmarked(&packets);
            assert!(unmarked.len() <= 2, "the last picture may be cut off");
            let first = packets.iter().position(|p| p.starts_keyframe()).unwrap();
            let mut chosen = 0;
            for seed in 0..40 {
                let what = format!("{codec:?} {spatial} {temporal} {described} seed {seed}");
                let mut random = Random(seed);
                let mut slot = video();
                slot.want(Some(feed(1, spatial - 1)));
                let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
                for (i, packet) in packets[first..].iter().enumerate() {
                    if i > 0 && random.below(30) == 0 {
                        slot.want(Some(feed(1, u8::try_from(random.below(spatial.into())).unwrap())));
                        slot.limit_temporal(Some(u8::try_from(random.below(temporal.into())).unwrap()));
                    }
                    slot.admit(packet, &mut out);
                    seen.extend(out.last().map(|o| (o.packet.spatial_id(), o.packet.temporal_id())));
                }
                check(&out, &unmarked, &what);
                chosen += u32::from(slot.counters().left_out > 0 && seen.len() > 1);
            }
            // Seven wishes or so each; they may all be for the same.
            assert!(
                chosen >= 30,
                "{codec:?} {spatial} {temporal} {described}: {chosen} of 40: nothing was chosen"
            );
        }
    }
}
