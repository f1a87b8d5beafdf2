//! What is packetized assembles again; sizes hold.

use antiphon_base::VideoCodec;

use super::*;
use crate::rtp::testing::Random;
use crate::rtp::vp8;

#[test]
fn picture_ids_run_through_fifteen_bits() {
    let mut vp8 = Vp8::new(0x7ffe);
    let mut ids = Vec::new();
    for _ in 0..3 {
        for payload in vp8.packetize(&[0; 500], 200).unwrap() {
            let (d, _) = vp8::Descriptor::parse(&payload.data).unwrap();
            ids.push((d.picture_id.unwrap().value, d.starts_frame(), payload.marker));
        }
    }
    let frame = |id| [(id, true, false), (id, false, false), (id, false, true)];
    assert_eq!(ids, [frame(0x7ffe), frame(0x7fff), frame(0)].concat());
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    assert_eq!(Vp8::new(0).packetize(&[], 1100), Err(Error::Empty));
    assert_eq!(H264.packetize(&[1, 2, 3], 1100), Err(Error::Empty));
    assert_eq!(
        H264.packetize(&[0, 0, 1, 0x7c, 0x85, 1], 1100),
        Err(Error::Empty),
        "it would look like a fragment"
    );
    assert_eq!(H264.packetize(&[0, 0, 1, 9], 63), Err(Error::PayloadSize(63)));
    assert_eq!(Vp8::new(0).packetize(&[1], 70_000), Err(Error::PayloadSize(70_000)));
    let large = vec![0; 64 * MAX_PACKETS];
    assert_eq!(Vp8::new(0).packetize(&large, 64), Err(Error::TooLarge(large.len())));
}

#[test]
fn small_units_share_a_packet_and_large_ones_are_cut() {
    let mut unit = vec![0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65];
    unit.extend([7; 300]);
    let payloads = H264.packetize(&unit, 200).unwrap();
    assert_eq!(payloads[0].data, [0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3]);
    assert_eq!(payloads[1].data[..3], [0x7c, 0x85, 7]);
    assert_eq!(payloads[2].data[..3], [0x7c, 0x45, 7]);
    assert_eq!((payloads[1].data.len(), payloads[2].data.len()), (152, 152));
    assert_eq!(payloads.iter().map(|p| p.marker).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(audio(&[1, 2]), Payload { data: vec![1, 2], marker: false });
}

#[test]
fn random_access_units_come_back() {
    use crate::rtp::frame::{Assembler, Limits};
    use crate::rtp::testing::{packet, shared};
    for seed in 0..500 {
        let mut random = Random(seed);
        let mut unit = Vec::new();
        for header in [0x67u8, 0x68, 0x65, 0x65, 0x06] {
            unit.extend([0, 0, 0, 1, header, 0x80]);
            let len = random.below(1500);
            unit.extend((0..len).map(|_| random.byte() | 1));
        }
        let max = MIN_PAYLOAD + random.index(1200);
        let payloads = H264.packetize(&unit, max).unwrap();
        let mut assembler = Assembler::new(VideoCodec::H264, Limits::default());
        for (seq, payload) in (0u64..).zip(&payloads) {
            assert!(payload.data.len() <= max, "seed {seed}");
            let mut p = packet(antiphon_base::Codec::Video(VideoCodec::H264), seq, 0, 0, &payload.data);
            p.marker = payload.marker;
            assembler.push(&shared(p));
        }
        assert_eq!(*assembler.poll().unwrap().data, *unit, "seed {seed}");
    }
}
