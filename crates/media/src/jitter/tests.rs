//! On virtual time: a sender, a path, a tick every 20 ms.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const FRAME: u32 = 960;

/// What came out of a run, in order, one letter per 20 ms (or packet): P, S(kip), L(ost), W(ait: late), . (silence).
struct Outcome {
    letters: String,
    /// For each played packet: sequence number and how long it waited.
    waits: Vec<(u64, u64)>,
    fec: usize,
    buffer: Buffer,
}

/// 20 ms Opus packets (a CELT TOC byte and filler) by (sequence, RTP time, arrival).
fn packet(seq: u64, rtp_time: u64, arrival_us: u64, bytes: usize) -> Packet {
    let mut payload = vec![0u8; bytes];
    payload[0] = 0x78; // configuration 15: hybrid, 20 ms
    Packet {
        seq_ext: seq,
        rtp_time,
        payload: payload.into(),
        arrival_us,
        capture_us: arrival_us,
        capture_estimated: false,
        level: Some(30),
    }
}

/// Runs `seconds` of ticks at 20 ms from `phase_us` against packets sorted here by arrival.
fn run(packets: Vec<Packet>, seconds: u64, phase_us: u64) -> Outcome {
    run_with(Buffer::new(AudioCodec::Opus), packets, seconds, phase_us)
}

fn run_with(buffer: Buffer, mut packets: Vec<Packet>, seconds: u64, phase_us: u64) -> Outcome {
    packets.sort_by_key(|p| p.arrival_us);
    let mut incoming = packets.into_iter().peekable();
    let mut out = Outcome { letters: String::new(), waits: Vec::new(), fec: 0, buffer };
    for tick in 0..seconds * 50 {
        let now = 1_000_000 + phase_us + tick * 20_000;
        while let Some(packet) = incoming.next_if(|p| p.arrival_us <= now) {
            out.buffer.push(packet);
        }
        let mut filled = 0;
        while filled < FRAME {
            let (letter, ticks) = match out.buffer.pop(now, FRAME - filled) {
                Playout::Packet(p) => {
                    out.waits.push((p.seq_ext, now - p.arrival_us));
                    ('P', audio::packet_duration(AudioCodec::Opus, &p.payload))
                }
                Playout::Skip(_) => ('S', 0),
                Playout::Lost { ticks, next } => {
                    out.fec += usize::from(next.is_some());
                    ('L', ticks)
                }
                Playout::Late { ticks } => ('W', ticks),
                Playout::Silence { ticks, .. } => ('.', ticks),
            };
            assert!(ticks > 0 || letter == 'S');
            out.letters.push(letter);
            filled += ticks;
        }
    }
    let s = out.buffer.stats();
    let sum = s.played + s.skipped + s.late + s.duplicates + s.discarded + out.buffer.len() as u64;
    assert_eq!(s.received, sum, "{s:?}");
    out
}

fn ideal(seconds: u64) -> Vec<Packet> {
    (0..seconds * 50).map(|n| packet(n, n * 960, 1_000_000 + n * 20_000, 60)).collect()
}

fn count(out: &Outcome, letter: char) -> usize {
    out.letters.chars().filter(|l| *l == letter).count()
}

#[test]
fn an_ideal_sender_is_played_whole_and_soon() {
    for phase in (0..20_000).step_by(1_700) {
        let out = run(ideal(20), 20, phase);
        let voice = out.letters.trim_start_matches('.');
        assert!(out.letters.len() - voice.len() <= 2);
        assert!(voice.chars().all(|l| l == 'P' || l == 'S'), "{phase}: {voice}");
        let worst = out.waits.iter().map(|w| w.1).max().expect("played");
        assert!(worst <= 25_000, "{phase}: {worst}");
        let late = out.waits.iter().skip(150).map(|w| w.1).max().expect("played");
        assert!(late <= 22_000, "{phase}: {late}");
    }
}

#[test]
fn a_minute_of_losses_gives_3000_frames_and_the_right_counts() {
    let mut rng = StdRng::seed_from_u64(2);
    let mut packets = ideal(60);
    packets.retain(|p| p.seq_ext < 10 || p.seq_ext > 2980 || rng.random_range(0..50) != 0);
    let lost = 3000 - packets.len();
    let out = run(packets, 60, 3_000);
    assert_eq!(out.letters.len() - count(&out, 'S'), 3000);
    assert_eq!(out.buffer.stats().lost, lost as u64);
    // Each single loss was offered the next packet's redundancy, or was concealed before that had come.
    assert!(count(&out, 'L') + count(&out, 'W') <= lost + 2, "{}", out.letters);
    assert_eq!(out.buffer.stats().played + out.buffer.stats().skipped, 3000 - lost as u64);
}

#[test]
fn reordering_within_the_delay_is_undone_and_duplicates_are_dropped() {
    let mut packets = ideal(10);
    for n in (100..400).step_by(10) {
        // Sent again, and the one before it comes 3 ms after it.
        let again = packets[n].clone();
        packets[n - 1].arrival_us = packets[n].arrival_us + 3_000;
        packets.push(Packet { arrival_us: again.arrival_us + 1_000, ..again });
    }
    let out = run(packets, 10, 4_000);
    let order: Vec<_> = out.waits.iter().map(|w| w.0).collect();
    assert!(order.is_sorted());
    let stats = out.buffer.stats();
    assert_eq!(stats.duplicates, 30);
    // The delay grew once or twice and then covered it.
    assert!(stats.late <= 3 && stats.lost == 0, "{stats:?}");
    assert!(count(&out, 'L') + count(&out, 'W') <= 8, "{}", out.letters);
}

#[test]
fn jitter_is_covered_after_a_few_steps() {
    let mut rng = StdRng::seed_from_u64(3);
    for spread in [10_000, 40_000, 90_000] {
        let mut packets = ideal(60);
        let mut last = 0;
        for p in &mut packets {
            // A queue: never overtaking.
            last = (p.arrival_us + rng.random_range(0..spread)).max(last);
            p.arrival_us = last;
        }
        let out = run(packets, 60, 7_000);
        let tail = &out.letters[out.letters.len() - 2_000..];
        let bad = tail.chars().filter(|l| *l != 'P' && *l != 'S').count();
        assert!(bad <= 40, "{spread}: {bad} of 2000");
        let worst = out.waits[1000..].iter().map(|w| w.1).max().expect("played");
        assert!(worst <= spread + 45_000, "{spread}: {worst}");
    }
}

#[test]
fn dtx_is_silence_and_not_loss() {
    // One second of speech, three of DTX with an update each 400 ms, one of speech.
    let mut packets = Vec::new();
    let mut seq = 0;
    for n in 0..250u64 {
        let dtx = (50..200).contains(&n);
        if !dtx || n % 20 == 10 {
            packets.push(packet(seq, n * 960, 1_000_000 + n * 20_000, if dtx { 1 } else { 60 }));
            seq += 1;
        }
    }
    // The packet that says DTX begins.
    packets[49].payload = vec![0x78].into();
    let out = run(packets, 5, 5_000);
    let stats = out.buffer.stats();
    assert_eq!((stats.lost, stats.late, count(&out, 'L'), count(&out, 'W')), (0, 0, 0, 0), "{}", out.letters);
    assert!(count(&out, '.') > 130);
    assert_eq!(stats.played + stats.skipped, seq);
}

#[test]
fn a_mute_is_concealed_briefly_and_then_silence() {
    let packets: Vec<_> = ideal(6).into_iter().filter(|p| !(100..200).contains(&p.seq_ext)).collect();
    // After the mute sequence numbers go on without a hole.
    let packets = packets.into_iter().map(|mut p| {
        p.seq_ext -= if p.seq_ext >= 200 { 100 } else { 0 };
        p
    });
    let out = run(packets.collect(), 6, 5_000);
    assert_eq!(count(&out, 'W'), 5, "{}", out.letters);
    assert!((90..=97).contains(&out.letters[50..250].matches('.').count()), "{}", out.letters);
    assert_eq!(out.buffer.stats().lost, 0);
}

#[test]
fn a_restarted_source_is_heard_again_at_once() {
    for (seq, rtp) in [(5u64, 77u64), (90, 5_000_000_000), (1_000_000, 3), (100_000, 100 * 960 + 1)] {
        let mut packets = ideal(2);
        for n in 0..100u64 {
            packets.push(packet(seq + n, rtp + n * 960, 3_000_000 + n * 20_000, 60));
        }
        let out = run(packets, 4, 5_000);
        let after = &out.letters[100..];
        let heard = after.matches('P').count();
        assert!(heard >= 85, "{seq} {rtp}: {after}");
        assert!(after[20..95].chars().all(|l| l == 'P' || l == 'S'), "{seq} {rtp}: {after}");
    }
}

#[test]
fn drift_is_followed_in_both_directions() {
    for ppm in [-300i64, 300] {
        let packets = (0..15_000u64).map(|n| {
            let sent = n * 20_000;
            let drift = sent.cast_signed() * ppm / 1_000_000;
            packet(n, n * 960, 1_000_000 + sent.saturating_add_signed(drift), 60)
        });
        let out = run(packets.collect(), 300, 6_000);
        let worst = out.waits.iter().map(|w| w.1).max().expect("played");
        assert!(worst <= 26_000, "{ppm}: {worst}");
        // 90 ms in five minutes are four or five frames.
        let (skips, waits) = (count(&out, 'S'), count(&out, 'W'));
        assert!(skips + waits <= 12, "{ppm}: {skips} skips, {waits} waits");
        assert!(if ppm < 0 { skips >= 3 } else { waits >= 3 }, "{ppm}: {skips} skips, {waits} waits");
    }
}

#[test]
fn a_stall_s_burst_is_played_and_the_delay_comes_down_again() {
    let mut packets = ideal(20);
    for p in &mut packets[200..215] {
        p.arrival_us = 1_000_000 + 215 * 20_000;
    }
    let out = run(packets, 20, 5_000);
    let stats = out.buffer.stats();
    assert_eq!(stats.lost, 0);
    let worst = out.waits[900 - 60..].iter().map(|w| w.1).max().expect("played");
    assert!(worst <= 45_000, "{worst} {stats:?}");
}

#[test]
fn packets_of_10_and_60_ms_fill_frames_of_20() {
    // CELT 10 ms (configuration 30), SILK 60 ms (configuration 3).
    for (toc, ms) in [(30u8 << 3, 10u64), (3 << 3, 60)] {
        let packets = (0..6_000 / ms).map(|n| {
            let mut p = packet(n, n * ms * 48, 1_000_000 + n * ms * 1_000, 60);
            p.payload = [&[toc][..], &[0; 40]].concat().into();
            p
        });
        let packets: Vec<_> = packets.filter(|p| p.seq_ext != 50).collect();
        let mut buffer = Buffer::new(AudioCodec::Opus);
        let (mut incoming, mut filled, mut lost) = (packets.into_iter().peekable(), 0u64, 0);
        for tick in 0..295u64 {
            let now = 1_004_000 + tick * 20_000;
            while let Some(p) = incoming.next_if(|p| p.arrival_us <= now) {
                buffer.push(p);
            }
            let end = (tick + 1) * 960;
            while filled < end {
                filled += match buffer.pop(now, u32::try_from(end - filled).expect("a frame")) {
                    Playout::Packet(p) => u64::from(audio::packet_duration(AudioCodec::Opus, &p.payload)),
                    Playout::Skip(_) => 0,
                    Playout::Lost { ticks, .. } | Playout::Late { ticks } => {
                        lost += ticks;
                        u64::from(ticks)
                    }
                    Playout::Silence { ticks, .. } => u64::from(ticks),
                };
            }
        }
        assert_eq!(buffer.stats().lost, 1, "{ms} ms");
        assert!(u64::from(lost) >= ms * 48 && u64::from(lost) <= ms * 48 + 2 * 960, "{ms} ms: {lost}");
    }
}

#[test]
fn nothing_grows_without_bound_whatever_comes() {
    let mut rng = StdRng::seed_from_u64(4);
    let mut buffer = Buffer::new(AudioCodec::Opus);
    let mut now = 1_000_000;
    for round in 0..100_000u64 {
        let wild = rng.random_range(0..20) == 0;
        let seq = if wild { rng.random() } else { round };
        let rtp = if rng.random_range(0..20) == 0 { rng.random() } else { round * 960 };
        let bytes = rng.random_range(1..4);
        let seq = seq & (u64::MAX >> 8);
        buffer.push(packet(seq, rtp & (u64::MAX >> 8), now, bytes));
        assert!(buffer.len() <= MAX_PACKETS);
        if round % 3 == 0 {
            buffer.pop(now, FRAME);
        }
        now += rng.random_range(0..30_000);
    }
    let s = buffer.stats();
    let sum = s.played + s.skipped + s.late + s.duplicates + s.discarded + buffer.len() as u64;
    assert_eq!(s.received, sum, "{s:?}");
}

const PATIENCE_US: u64 = 300_000;

fn run_patiently(packets: Vec<Packet>, seconds: u64) -> Outcome {
    run_with(Buffer::patient(AudioCodec::Opus, PATIENCE_US), packets, seconds, 7_000)
}

/// Speech of a second, DTX of a second, and so on; each packet on its way for up to `spread_us`, so that they overtake each other.
fn spurts(seconds: u64, spread_us: u64, rng: &mut StdRng) -> Vec<Packet> {
    let spoken = (0..seconds * 50).filter(|n| n / 50 % 2 == 0);
    let sent = (0u64..).zip(spoken);
    sent.map(|(seq, n)| {
        let dtx = n % 50 == 49;
        packet(
            seq,
            n * 960,
            1_000_000 + n * 20_000 + rng.random_range(0..=spread_us),
            if dtx { 1 } else { 60 },
        )
    })
    .collect()
}

#[test]
fn whatever_comes_within_the_patience_is_played_at_its_place() {
    let mut rng = StdRng::seed_from_u64(5);
    for spread_us in [0, 50_000, 150_000, 280_000] {
        let packets = spurts(20, spread_us, &mut rng);
        let sent = packets.len() as u64;
        let out = run_patiently(packets, 21);
        let stats = out.buffer.stats();
        assert_eq!(
            (stats.played, stats.lost, stats.late, stats.skipped),
            (sent, 0, 0, 0),
            "{spread_us}: {stats:?}"
        );
        assert!(out.waits.iter().map(|w| w.0).is_sorted());
        assert_eq!(count(&out, 'L') + count(&out, 'W'), 0, "{spread_us}: {}", out.letters);
        // 20 ms a letter: each is where it was sent, later by the patience and a step of the clock.
        let played: Vec<_> = out.letters.match_indices('P').map(|(at, _)| at).collect();
        let offsets = (0..1_000).filter(|n| n / 50 % 2 == 0).zip(&played).map(|(n, at)| at - n);
        let (least, most) = offsets.fold((usize::MAX, 0), |(a, b), o| (a.min(o), b.max(o)));
        assert!((14..=16).contains(&least) && most - least <= 1, "{spread_us}: {least} to {most}");
    }
}

#[test]
fn what_is_lost_or_comes_too_late_moves_nothing_for_a_patient_buffer() {
    let mut packets = ideal(10);
    packets[100].arrival_us += PATIENCE_US + 50_000;
    packets.remove(200);
    let out = run_patiently(packets, 11);
    let stats = out.buffer.stats();
    assert_eq!((stats.played, stats.lost, stats.late, stats.skipped), (498, 1, 1, 0), "{stats:?}");
    let voice = out.letters.trim_matches(|l| l == '.' || l == 'W');
    assert_eq!((voice.len(), voice.matches('L').count()), (500, 2), "{voice}");
}

#[test]
fn a_stall_longer_than_the_patience_costs_no_word_and_is_made_up_for_in_a_quiet_passage() {
    let mut packets = ideal(30);
    for p in &mut packets[200..225] {
        p.arrival_us = 1_000_000 + 225 * 20_000;
    }
    for p in &mut packets[800..1_200] {
        p.level = Some(90);
    }
    let out = run_patiently(packets, 31);
    let stats = out.buffer.stats();
    assert_eq!((stats.lost, stats.late, stats.discarded), (0, 0, 0), "{stats:?}");
    let loud_skipped = out.letters[..800].matches('S').count();
    assert_eq!(loud_skipped, 0, "{}", out.letters);
    let waits =
        |seqs: std::ops::Range<u64>| out.waits.iter().filter(move |w| seqs.contains(&w.0)).map(|w| w.1);
    assert!(waits(400..700).min().expect("played") > PATIENCE_US + 80_000);
    assert!(waits(1_300..1_450).max().expect("played") <= PATIENCE_US + SLACK_US + 60_000);
}

#[test]
fn drift_is_made_up_for_in_quiet_passages_by_a_patient_buffer() {
    for ppm in [-300i64, 300] {
        let packets = (0..15_000u64).map(|n| {
            let sent = n * 20_000;
            let drift = sent.cast_signed() * ppm / 1_000_000;
            let mut packet = packet(n, n * 960, 1_000_000 + sent.saturating_add_signed(drift), 60);
            packet.level = Some(if n / 100 % 10 == 9 { 100 } else { 20 });
            packet
        });
        let out = run_patiently(packets.collect(), 300);
        let (least, most) = out.waits.iter().fold((u64::MAX, 0), |(a, b), w| (a.min(w.1), b.max(w.1)));
        let about = PATIENCE_US - SLACK_US - 30_000..=PATIENCE_US + SLACK_US + 50_000;
        assert!(about.contains(&least) && about.contains(&most), "{ppm}: {least} to {most}");
        assert_eq!((out.buffer.stats().lost, out.buffer.stats().discarded), (0, 0));
    }
}

#[test]
fn timestamps_that_stood_still_in_a_silence_are_no_stall() {
    // A mute of 700 ms in which the sender's clock did not go on; then jitter.
    let mut rng = StdRng::seed_from_u64(6);
    let mut packets = ideal(10);
    for p in &mut packets[100..] {
        p.arrival_us += 700_000 + rng.random_range(0..250_000);
    }
    let out = run_patiently(packets, 12);
    let stats = out.buffer.stats();
    assert_eq!((stats.played, stats.late, stats.skipped), (500, 0, 0), "{stats:?}");
    let after = out.letters[150..].trim_matches(|l| l == '.' || l == 'W');
    assert_eq!(after, "P".repeat(400));
}
