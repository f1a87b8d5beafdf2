use antiphon_base::{ParticipantKey, Source, TrackKey, VideoCodec};
use antiphon_wire::rtp::Descriptor;
use antiphon_wire::rtp::rewrite::Rewritten;

use super::*;

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
    };
    Line::new(plan, 1)
}

fn write(line: &mut Line, start: Instant, seq: u16, after: Duration) {
    let packet = Arc::new(Packet {
        track: TrackKey { participant: ParticipantKey(1), source: Source::Camera },
        layer: 0,
        codec: Codec::Video(VideoCodec::Vp8),
        seq: u64::from(seq),
        rtp_time: 0,
        marker: false,
        payload: Arc::from(&[0; 20][..]),
        arrival: start + after,
        arrival_us: u64::try_from(after.as_micros()).unwrap(),
        capture_us: 0,
        capture_estimated: true,
        audio_level: None,
        descriptor: Descriptor::Opaque,
    });
    let rewritten = Rewritten { seq: u64::from(seq), rtp_time: 0, picture: PicturePatch::None };
    let outgoing = Outgoing { packet, rewritten, switched: false, marker: false };
    line.write(outgoing, 0, &mut Vec::new()).unwrap();
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
