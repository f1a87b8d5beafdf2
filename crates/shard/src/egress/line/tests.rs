use antiphon_base::VideoCodec;
use antiphon_wire::rtp::dependency::{
    Dependency, Indication, Indications, Patch, Reader, References, Structure, Template,
};
use antiphon_wire::rtp::rewrite::Rewritten;
use antiphon_wire::rtp::{Descriptor, header};

use super::*;
use crate::testing::packet;

fn line() -> Line {
    let vp8 = PayloadType { codec: Codec::Video(VideoCodec::Vp8), number: 96, rtx: Some(97), red: None };
    let plan = LinePlan {
        mid: "1".into(),
        class: Class::Video,
        ssrc: 7,
        rtx_ssrc: Some(8),
        payload_types: vec![vp8],
        mid_extension: None,
        level_extension: None,
        transport_extension: None,
        dependency_extension: None,
        playout_extension: None,
    };
    Line::new(plan, 1)
}

fn write(line: &mut Line, start: Instant, seq: u16, after: Duration) {
    let packet = Arc::new(Packet {
        seq: u64::from(seq),
        marker: false,
        descriptor: Descriptor::Opaque,
        arrival: start + after,
        arrival_us: u64::try_from(after.as_micros()).unwrap(),
        ..packet(Codec::Video(VideoCodec::Vp8), &[0; 20])
    });
    let rewritten =
        Rewritten { seq: u64::from(seq), rtp_time: 0, picture: PicturePatch::None, dependency: None };
    let outgoing = Outgoing { packet, rewritten, switched: None, marker: false };
    line.write(outgoing, 0, &mut Vec::new()).unwrap();
}

#[test]
fn a_packet_and_its_retransmission_say_how_long_pictures_are_kept() {
    let start = Instant::now();
    let mut line = line();
    line.plan.playout_extension = Some(6);
    let extension = |line: &mut Line, seq: u16| {
        write(line, start, seq, Duration::ZERO);
        let mut out = Vec::new();
        line.write_again(start, (seq, Duration::ZERO, false), 0, &mut out).unwrap();
        header::extension(&out, 6).map(<[u8]>::to_vec)
    };
    assert_eq!(extension(&mut line, 1), None);
    line.keep(Duration::from_millis(250));
    assert_eq!(extension(&mut line, 2), Some(vec![0x01, 0x93, 0xe8]));
    line.keep(Duration::ZERO);
    assert_eq!(extension(&mut line, 3), Some(vec![0, 0x03, 0xe8]));
    (4..1_000).for_each(|seq| write(&mut line, start, seq, Duration::ZERO));
    assert_eq!(extension(&mut line, 1_000), None);
}

/// Who asks again before an answer can have come is not answered again.
#[test]
fn what_is_asked_for_again_within_the_round_trip_is_on_its_way() {
    let start = Instant::now();
    let mut line = line();
    write(&mut line, start, 1, Duration::ZERO);
    let ms = Duration::from_millis;
    for (at, round_trip, is_sent) in [
        (100, 80, true),
        (120, 80, false),
        (150, 80, false),
        // Three quarters of it, from the last time that it was sent.
        (164, 80, true),
        (184, 80, false),
        (264, 200, false),
        (320, 200, true),
        // Of a path without a delay: not at once for all that.
        (324, 0, false),
        (336, 0, true),
    ] {
        let again = line.write_again(start + ms(at), (1, ms(round_trip), false), 0, &mut Vec::new());
        assert_eq!(again.is_some(), is_sent, "after {at} ms, round trip {round_trip} ms");
    }
}

#[test]
fn a_second_is_remembered_and_the_memory_of_a_burst_given_back() {
    let (start, ms) = (Instant::now(), Duration::from_millis);
    let mut line = line();
    (0..600).for_each(|seq| write(&mut line, start, seq, ms(100)));
    assert_eq!(line.history.len(), 600);
    // 100 packets per second for three of them.
    (600..900).for_each(|seq| write(&mut line, start, seq, ms(100 + 10 * u64::from(seq - 600))));
    let now = start + ms(3_100);
    let again = |line: &mut Line, seq| line.write_again(now, (seq, ms(50), false), 0, &mut Vec::new());
    assert!(again(&mut line, 599).is_none(), "three seconds old");
    assert!(again(&mut line, 801).is_some(), "just under a second old");
    let len = u32::try_from(line.history.len()).unwrap();
    assert!((100..=101 + FORGET_EACH).contains(&len), "{len}");
    assert!(line.history.capacity() >= 600);
    line.trim();
    assert!(line.history.capacity() < 200, "{}", line.history.capacity());
    assert!(again(&mut line, 899).is_some());
}

/// What was lost of the last picture before a pause is asked for with the first packet after it, and would be padding then.
#[test]
fn what_is_of_before_a_pause_is_not_sent_again() {
    let (start, ms) = (Instant::now(), Duration::from_millis);
    let mut line = line();
    line.plan.transport_extension = Some(3);
    (0..5).for_each(|seq| write(&mut line, start, seq, Duration::ZERO));
    write(&mut line, start, 5, ms(60_000));
    let again = |line: &mut Line, seq| {
        let mut out = Vec::new();
        line.write_again(start + ms(60_010), (seq, ms(50), false), 0, &mut out).map(|_| out)
    };
    assert!(again(&mut line, 4).is_none() && again(&mut line, 5).is_some());
    for _ in 0..5 {
        let mut out = Vec::new();
        let written = line.write_padding(start + ms(60_010), 0, &mut out).unwrap();
        assert_eq!(out[written.header..][..2], [0, 5], "its own number comes first (RFC 4588, 4)");
    }
}

/// Who has lost the last packet of a source would take it for a new one, when it comes as padding long after the source has ended.
#[test]
fn where_all_is_old_padding_is_nothing_else() {
    let (start, ms) = (Instant::now(), Duration::from_millis);
    let mut line = line();
    assert!(line.write_padding(start, 0, &mut Vec::new()).is_none(), "nobody knows of this line");
    line.plan.transport_extension = Some(3);
    assert!(line.write_padding(start, 0, &mut Vec::new()).is_none(), "nothing was sent: of which codec?");
    write(&mut line, start, 5, Duration::ZERO);
    let pad = |line: &mut Line, after| {
        let mut out = Vec::new();
        let written = line.write_padding(start + ms(after), 9, &mut out).unwrap();
        (out, written)
    };
    let (out, first) = pad(&mut line, 5_000);
    assert_eq!(out[first.header..][..2], [0, 5]);
    let (out, second) = pad(&mut line, 5_001);
    let (header, payload) = header::parse(&out).unwrap();
    assert_eq!((header.ssrc, header.payload_type, payload), (8, 97, &[][..]));
    assert_eq!(header::extension(&out, 3), Some(&[0, 9][..]));
    assert_eq!((out[0], out.len()), (0xb1, second.header + 255));
    assert_eq!((second.ssrc, second.index), (8, first.index + 1), "in the numbers of retransmissions");
}

#[test]
fn it_is_bounded_and_a_late_packet_goes_to_its_place() {
    let start = Instant::now();
    let mut line = line();
    (0..3_000).filter(|seq| *seq != 2_990).for_each(|seq| write(&mut line, start, seq, Duration::ZERO));
    write(&mut line, start, 2_990, Duration::ZERO);
    assert!(line.history.len() <= MAX_HISTORY);
    assert!(line.history.iter().is_sorted_by_key(|s| s.seq));
    assert_eq!(line.history.back().unwrap().seq, 2_999);
}

fn described(dependency: Dependency) -> Arc<Packet> {
    let dependency = Some(Arc::new(dependency));
    Arc::new(Packet { dependency, ..packet(Codec::Video(VideoCodec::Av1), &[0x18, 0x0a, 1, 2]) })
}

#[test]
fn a_descriptor_goes_out_with_the_numbers_of_the_slot_also_when_sent_again() {
    let indications = Indications::default().with(0, Indication::Switch);
    let references = References::default();
    let template = Template { spatial_id: 0, temporal_id: 0, indications, references, chains: vec![] };
    let structure = Arc::new(Structure {
        first_template: 3,
        targets: 1,
        templates: vec![template; 20],
        chains: 0,
        protected_by: vec![],
        resolutions: vec![(640, 360)],
    });
    let plan = LinePlan {
        mid: "3".into(),
        class: Class::Video,
        ssrc: 11,
        rtx_ssrc: Some(12),
        payload_types: vec![PayloadType {
            codec: Codec::Video(VideoCodec::Av1),
            number: 45,
            rtx: Some(46),
            red: None,
        }],
        mid_extension: Some(4),
        level_extension: None,
        transport_extension: Some(3),
        dependency_extension: Some(12),
        playout_extension: None,
    };
    let mut line = Line::new(plan.clone(), 1);
    let dependency = Dependency::of_template(&structure, 0, 500, (true, true), true).unwrap();
    let patch = Patch { frame_number: 7, template_shift: 1, active: None, attach: true };
    let rewritten =
        |seq| Rewritten { seq, rtp_time: 5, picture: PicturePatch::None, dependency: Some(patch) };
    let outgoing = Outgoing {
        packet: described(dependency.clone()),
        rewritten: rewritten(100),
        switched: None,
        marker: true,
    };
    let (mut sent, mut again) = (Vec::new(), Vec::new());
    assert!(line.write(outgoing.clone(), 1, &mut sent).is_some());
    let round_trip = Duration::from_millis(1);
    assert!(line.write_again(Instant::now(), (100, round_trip, false), 2, &mut again).is_some());
    for bytes in [&sent, &again] {
        let raw = header::extension(bytes, 12).unwrap();
        assert!(raw.len() > 16, "longer than a one-byte header can say");
        let seen = Reader::new().read(raw).unwrap();
        assert_eq!((seen.frame_number, seen.template, seen.attached), (7, 4, true));
        assert_eq!(header::extension(bytes, 4), Some(&b"3"[..]));
    }
    assert_eq!(header::extension(&again, 3), Some(&[0, 2][..]));
    let mut line = Line::new(LinePlan { dependency_extension: None, ..plan }, 1);
    let mut plain = Vec::new();
    assert!(line.write(outgoing, 1, &mut plain).is_some());
    assert_eq!(header::extension(&plain, 12), None, "not to who did not ask");
    assert_eq!(header::extension(&plain, 3), Some(&[0, 1][..]));
}
