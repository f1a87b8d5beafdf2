use super::*;

fn all(bytes: &[u8]) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    read(bytes, |m| messages.push(m));
    messages
}

#[test]
fn a_report_of_ours_reads_back() {
    let mut out = Vec::new();
    let info = SenderInfo { ssrc: 7, ntp: ntp(1_700_000_000_500_000), rtp_time: 9, packets: 3, bytes: 1_000 };
    write_sender_report(&mut out, &info);
    assert_eq!(out.len(), SENDER_REPORT_BYTES);
    for name in ["", "a", "ab", "abc", "abcd"] {
        let mut with = out.clone();
        write_cname(&mut with, 7, name);
        write_goodbye(&mut with, 7);
        assert_eq!(with.len() % 4, 0);
        assert_eq!(all(&with), [Message::ForReceiver, Message::Other, Message::ForReceiver], "{name}");
    }
}

#[test]
fn ntp_counts_from_1900() {
    let at = ntp(1_500_000);
    assert_eq!(at >> 32, 2_208_988_801);
    assert_eq!(at & 0xffff_ffff, 1 << 31);
    assert_eq!(middle(at) & 0xffff, 0x8000);
}

#[test]
fn a_nack_names_its_packets() {
    // RFC 4585, 6.2.1: PID 65534, and by the mask the second and the sixteenth after it.
    let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xfe, 0x80, 0x02];
    let messages = all(&nack);
    let [Message::Nack { media: 2, lost }] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(lost.clone().collect::<Vec<_>>(), [65_534, 0, 14]);
}

#[test]
fn keyframe_requests_and_bitrates_are_understood() {
    let mut bytes = vec![0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    bytes.extend([0x84, 206, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0]);
    bytes.extend([0, 0, 0, 3, 9, 0, 0, 0, 0, 0, 0, 4, 9, 0, 0, 0]);
    bytes.extend([0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0]);
    bytes.extend(*b"REMB");
    bytes.extend([1, 3 << 2 | 1, 0, 5, 0, 0, 0, 2]);
    let keyframe = |media| Message::KeyframeRequest { media };
    assert_eq!(
        all(&bytes),
        [keyframe(2), keyframe(3), keyframe(4), Message::MaxBitrate { bps: (65_536 + 5) << 3 }]
    );
}

#[test]
fn a_round_trip_is_what_is_left_of_the_delay() {
    let mut bytes = vec![0x81, 201, 0, 7, 0, 0, 0, 1];
    bytes.extend([0, 0, 0, 7, 128, 0, 0, 9, 0, 1, 0, 2, 0, 0, 0, 3]);
    bytes.extend(1_000u32.to_be_bytes());
    bytes.extend(500u32.to_be_bytes());
    let messages = all(&bytes);
    let [Message::Report(block)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((block.ssrc, block.fraction_lost, block.highest_seq, block.jitter), (7, 128, 65_538, 3));
    assert_eq!(block.round_trip(2_000), Some(500));
    assert_eq!(block.round_trip(1_000), None, "from the future");
    assert_eq!(ReportBlock { last_report: 0, ..*block }.round_trip(2_000), None);
}

#[test]
fn nonsense_is_read_without_harm() {
    let mut random = crate::rtp::testing::Random(5);
    for _ in 0..50_000 {
        let mut bytes = random.bytes(64);
        if let [first, kind, high, low, ..] = bytes.as_mut_slice() {
            (*first, *kind, *high) = (0x80 | *first & 0x1f, 200 + *kind % 8, 0);
            *low %= 16;
        }
        let mut lost = 0;
        read(&bytes, |m| {
            if let Message::Nack { lost: l, .. } = m {
                lost += l.count();
            }
        });
        assert!(lost <= 17 * 16, "a NACK of {} bytes names {lost}", bytes.len());
    }
}
