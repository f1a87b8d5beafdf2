use antiphon_base::Codec;
use antiphon_media::audio::{Encoder, OpusConfig};
use antiphon_media::synth::{Tone, frequency};
use antiphon_wire::bot::StreamForm;
use antiphon_wire::frame::{self, Header};
use antiphon_wire::rtp::{AudioLevel, Descriptor};

use super::*;
use crate::limits::Limits;
use crate::outbox::{Lane, StreamInfo};
use crate::transport::Outbound;

const EPOCH: u64 = 1_700_000_000_000_000;

fn track(participant: u32) -> TrackKey {
    TrackKey { participant: ParticipantKey(participant), source: Source::Microphone }
}

/// A sender of a tone in 20 ms Opus packets.
struct Talker {
    track: TrackKey,
    tone: Tone,
    encoder: Encoder,
    n: u64,
}

impl Talker {
    fn new(participant: u32, freq: f64) -> Self {
        let encoder = Encoder::new(AudioCodec::Opus, 48_000, OpusConfig::default()).unwrap();
        Self { track: track(participant), tone: Tone::new(48_000, freq, -15.0), encoder, n: 0 }
    }

    fn packet(&mut self, arrival_us: u64) -> Arc<Packet> {
        self.packet_if(true, arrival_us)
    }

    /// The tone, or silence that is sent.
    fn packet_if(&mut self, speaks: bool, arrival_us: u64) -> Arc<Packet> {
        let (mut pcm, mut opus) = (Vec::new(), Vec::new());
        self.tone.append(960, &mut pcm);
        if !speaks {
            pcm.fill(0);
        }
        self.encoder.encode(&pcm, &mut opus).unwrap();
        self.n += 1;
        Arc::new(Packet {
            track: self.track,
            layer: 0,
            codec: Codec::Audio(AudioCodec::Opus),
            seq: 1_000 + self.n,
            rtp_time: 48_000 + 960 * self.n,
            marker: false,
            payload: opus.into(),
            arrival: std::time::Instant::now(),
            arrival_us,
            capture_us: arrival_us - 30_000,
            capture_estimated: false,
            audio_level: Some(AudioLevel { level: 18, voice: true }),
            dependency: None,
            spatial_layers: 1,
            descriptor: Descriptor::Audio,
        })
    }
}

fn mailbox() -> Arc<Mailbox> {
    let limits = Limits { audio_frames: 100_000, ..Limits::default() };
    Arc::new(Mailbox::new(limits, EPOCH - 1))
}

fn stream(mailbox: &Arc<Mailbox>) -> u32 {
    let form = StreamForm::Pcm { sample_rate: 16_000 };
    let info = StreamInfo { participant: None, source: Source::Microphone, form, lane: Lane::Audio };
    mailbox.with(|o| o.start(info))
}

fn ear(track: TrackKey, rate: Option<u32>, mailbox: &Arc<Mailbox>) -> Ear {
    Ear { track, rate, mailbox: Arc::clone(mailbox), stream: stream(mailbox) }
}

fn frames(mailbox: &Arc<Mailbox>) -> Vec<(Header, Vec<i16>)> {
    let mut out = Vec::new();
    while let Some(message) = mailbox.with(|o| o.pop()) {
        if let Outbound::Binary { mut head, payload } = message {
            head.extend_from_slice(&payload);
            let (header, pcm) = frame::parse(&head).unwrap();
            out.push((header, pcm.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()));
        }
    }
    out
}

fn codecs(tracks: &[TrackKey]) -> BTreeMap<TrackKey, AudioCodec> {
    tracks.iter().map(|t| (*t, AudioCodec::Opus)).collect()
}

#[test]
fn fifty_frames_a_second_through_mute_and_loss_with_the_tone_in_them() {
    let (mut hearing, mailbox) = (Hearing::default(), mailbox());
    let mut talker = Talker::new(1, 440.0);
    hearing.set(vec![ear(track(1), Some(16_000), &mailbox)], vec![], codecs(&[track(1)]), vec![]);
    assert_eq!(hearing.tracks().collect::<Vec<_>>(), [track(1)]);
    for tick in 0..3_000u64 {
        let due = EPOCH + tick * 20_000;
        // Ten seconds of mute, and each 50th packet lost.
        if !(1_000..1_500).contains(&tick) {
            let packet = talker.packet(due - 7_000);
            if tick % 50 != 49 {
                hearing.packet(&packet);
            }
        } else {
            talker.n += u64::from(tick == 1_499) * 500;
            // The sequence goes on without a hole after a mute.
        }
        hearing.tick(due);
    }
    let frames = frames(&mailbox);
    assert_eq!(frames.len(), 3_000);
    for (n, (h, pcm)) in frames.iter().enumerate() {
        assert_eq!(pcm.len(), 320);
        assert_eq!(h.sequence as usize, n);
        assert_eq!(h.clocks.media_us, 1 + 20_000 * n as u64, "no drift");
        assert!(h.clocks.capture_us > 0 && h.clocks.arrival_us > 0);
        assert_eq!(h.speakers[0].participant, ParticipantKey(1));
    }
    let steady: Vec<i16> = frames[100..140].iter().flat_map(|(_, pcm)| pcm.iter().copied()).collect();
    let measured = frequency(&steady, 16_000).expect("a tone");
    assert!((measured - 440.0).abs() < 4.4, "{measured}");
    assert!(frames[1_100..1_400].iter().all(|(h, _)| h.silence && h.speakers[0].level == 127));
    let gaps = frames[..1_000].iter().filter(|(h, _)| h.gap).count();
    assert!((15..=60).contains(&gaps), "{gaps}");
    let age = frames[100..140].iter().map(|(h, _)| h.clocks.media_us + EPOCH - 1 - h.clocks.arrival_us).max();
    assert!(age.unwrap() <= 30_000, "{age:?}");
}

#[test]
fn a_mix_is_the_sum_of_the_others_and_names_them() {
    let (mut hearing, mailbox) = (Hearing::default(), mailbox());
    let tracks = [track(1), track(2), track(9)];
    let mut ears: Vec<Ear> = tracks.iter().map(|t| ear(*t, Some(16_000), &mailbox)).collect();
    // Somebody else wants more: everything is decoded at 48 kHz then.
    ears.push(ear(track(1), Some(48_000), &mailbox));
    let mixed = MixEar {
        source: Source::Microphone,
        rate: 16_000,
        all: false,
        without: ParticipantKey(9),
        mailbox: Arc::clone(&mailbox),
        stream: stream(&mailbox),
    };
    let mix_stream = mixed.stream;
    hearing.set(ears, vec![mixed], codecs(&tracks), vec![ParticipantKey(2)]);
    let mut talkers = [Talker::new(1, 300.0), Talker::new(2, 700.0), Talker::new(9, 1_100.0)];
    for tick in 0..100u64 {
        let due = EPOCH + tick * 20_000;
        talkers.iter_mut().for_each(|t| hearing.packet(&t.packet(due - 10_000)));
        hearing.tick(due);
    }
    let frames = frames(&mailbox);
    let of = |stream: u32| frames.iter().filter(move |(h, _)| h.stream == stream).collect::<Vec<_>>();
    let (one, two, mix) = (of(1), of(2), of(mix_stream));
    assert_eq!((one.len(), mix.len()), (100, 100));
    for n in 20..100 {
        for t in 0..320 {
            let sum = i32::from(one[n].1[t]) + i32::from(two[n].1[t]);
            assert_eq!(i32::from(mix[n].1[t]), sum);
        }
        let mut named: Vec<u32> = mix[n].0.speakers.iter().map(|s| s.participant.0).collect();
        named.sort_unstable();
        assert_eq!(named, [1, 2]);
    }
    assert_eq!(of(4)[50].1.len(), 960);
}

#[test]
fn packets_pass_as_they_are_in_their_order() {
    let (mut hearing, mailbox) = (Hearing::default(), mailbox());
    hearing.set(vec![ear(track(1), None, &mailbox)], vec![], codecs(&[track(1)]), vec![]);
    let mut talker = Talker::new(1, 440.0);
    let packets: Vec<_> = (0..10).map(|n| talker.packet(EPOCH + n * 20_000)).collect();
    for n in [0usize, 2, 1, 3, 5, 5, 6, 7, 8, 9] {
        hearing.packet(&packets[n]);
    }
    hearing.tick(EPOCH + 400_000);
    let mut got = Vec::new();
    while let Some(message) = mailbox.with(|o| o.pop()) {
        if let Outbound::Binary { mut head, payload } = message {
            head.extend_from_slice(&payload);
            got.push((frame::parse(&head).unwrap().0.gap, payload));
        }
    }
    let expected: Vec<_> = [0usize, 1, 2, 3, 5, 6, 7, 8, 9]
        .iter()
        .map(|n| (*n == 5, Arc::clone(&packets[*n].payload)))
        .collect();
    assert_eq!(got, expected);
}

/// Who speaks in each second.
const SCRIPT: [&[u32]; 12] =
    [&[1], &[2], &[3], &[1, 2], &[], &[3], &[2, 3], &[1, 2, 3], &[], &[2], &[1], &[1, 3]];

#[test]
fn the_active_set_follows_alternating_tones() {
    let (mut hearing, mailbox) = (Hearing::default(), mailbox());
    let tracks = [track(1), track(2), track(3)];
    let mixed = MixEar {
        source: Source::Microphone,
        rate: 16_000,
        all: true,
        without: ParticipantKey(9),
        mailbox: Arc::clone(&mailbox),
        stream: stream(&mailbox),
    };
    hearing.set(vec![], vec![mixed], codecs(&tracks), vec![]);
    let mut talkers = [Talker::new(1, 300.0), Talker::new(2, 700.0), Talker::new(3, 1_100.0)];
    let ticks = 50 * SCRIPT.len();
    for tick in 0..ticks {
        let due = EPOCH + tick as u64 * 20_000;
        for talker in &mut talkers {
            let speaks = SCRIPT[tick / 50].contains(&talker.track.participant.0);
            hearing.packet(&talker.packet_if(speaks, due - 10_000));
        }
        hearing.tick(due);
    }
    let frames = frames(&mailbox);
    assert_eq!(frames.len(), ticks);
    let right = frames.iter().enumerate().filter(|(n, (header, _))| {
        let mut heard: Vec<u32> = header.speakers.iter().map(|s| s.participant.0).collect();
        heard.sort_unstable();
        heard == SCRIPT[n / 50]
    });
    let right = right.count();
    assert!(right * 100 >= ticks * 95, "{right} of {ticks} frames name the right speakers");
}
