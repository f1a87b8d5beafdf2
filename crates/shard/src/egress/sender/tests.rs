//! A sender by itself: what leaves in one flush, and in which order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use antiphon_base::{AudioCodec, Codec, VideoCodec};
use antiphon_wire::rtp::rewrite::{PicturePatch, Rewritten};
use antiphon_wire::rtp::{Descriptor, Packet};
use str0m::crypto::dtls::SrtpProfile;

use super::*;
use crate::egress::line::PayloadType;
use crate::net::run_end;
use crate::testing::packet;
use crate::transport::Transport;

const VOICE: SlotId = SlotId(0);
const CAMERA: SlotId = SlotId(1);
const VOICE_SSRC: u32 = 70;
const CAMERA_SSRC: u32 = 80;
const RTX_SSRC: u32 = 81;
/// Some time on the grid of ticks.
const EPOCH_US: u64 = 1_700_000_000_000_000;

/// A subscriber of one voice and one camera, and its half of the keys.
struct Stage {
    sender: Sender,
    peer: Sealer,
    clock: Clock,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        Self::begun(0)
    }

    /// So many microseconds after a tick.
    fn begun(us: u64) -> Self {
        let opus = PayloadType { codec: Codec::Audio(AudioCodec::Opus), number: 111, rtx: None, red: None };
        let vp8 = PayloadType { codec: Codec::Video(VideoCodec::Vp8), number: 96, rtx: Some(97), red: None };
        let line = |class, ssrc: u32, rtx_ssrc, payload_type| LinePlan {
            mid: ssrc.to_string(),
            class,
            ssrc,
            rtx_ssrc,
            payload_types: vec![payload_type],
            mid_extension: None,
            level_extension: None,
            transport_extension: None,
            dependency_extension: None,
            playout_extension: None,
        };
        let plans = vec![
            line(Class::Audio, VOICE_SSRC, None, opus),
            line(Class::Video, CAMERA_SSRC, Some(RTX_SSRC), vp8),
        ];
        let profile = SrtpProfile::AEAD_AES_128_GCM;
        let material: Vec<u8> = vec![5; profile.keying_material_len()];
        let keys = |active| Keys { profile, material: material.clone(), active, listens: false };
        let mut sender = Sender::new(plans, "cname".into());
        sender.arm(&keys(false));
        let now = Instant::now();
        Self {
            sender,
            peer: srtp::contexts(&keys(true)).unwrap().0,
            clock: Clock::at(now, EPOCH_US + us),
            now,
        }
    }

    fn forward(&mut self, slot: SlotId, seq: u64) {
        self.forward_sized(slot, seq, 900);
    }

    fn forward_sized(&mut self, slot: SlotId, seq: u64, bytes: usize) {
        let codec =
            if slot == VOICE { Codec::Audio(AudioCodec::Opus) } else { Codec::Video(VideoCodec::Vp8) };
        let (arrival, arrival_us) = (self.now, self.clock.us(self.now));
        let packet = Packet {
            seq,
            descriptor: Descriptor::Opaque,
            arrival,
            arrival_us,
            ..packet(codec, &vec![0; bytes])
        };
        let rewritten = Rewritten { seq, rtp_time: 0, picture: PicturePatch::None, dependency: None };
        let outgoing = Outgoing { packet: Arc::new(packet), rewritten, switched: None, marker: true };
        self.sender.forward(slot, outgoing);
    }

    /// SSRCs of the RTP that leaves, in order.
    fn flush(&mut self) -> Vec<u32> {
        let arena = self.flush_arena();
        let contents = arena.datagrams().iter().map(|d| arena.contents(d));
        contents.filter_map(ssrc).collect()
    }

    /// How many packets of the camera are in each message that the socket makes of what leaves, and how many bytes.
    fn flush_runs(&mut self) -> Vec<(usize, usize)> {
        let arena = self.flush_arena();
        let (datagrams, mut at, mut runs) = (arena.datagrams(), 0, Vec::new());
        while at < datagrams.len() {
            let run = &datagrams[at..run_end(datagrams, at)];
            at += run.len();
            let camera = run.iter().filter(|d| ssrc(arena.contents(d)) == Some(CAMERA_SSRC));
            let bytes: Vec<usize> = camera.map(|d| d.range.len()).collect();
            runs.push((bytes.len(), bytes.iter().sum()));
        }
        runs.retain(|(packets, _)| *packets > 0);
        runs
    }

    fn flush_arena(&mut self) -> Arena {
        let (ip, mut arena) = (IpAddr::from(Ipv4Addr::LOCALHOST), Arena::default());
        let path = Path { transport: Transport::Udp, source: ip, destination: SocketAddr::new(ip, 9) };
        self.sender.flush(self.now, self.clock, path, &mut arena);
        arena
    }

    /// The peer tells its bandwidth by REMB, in 32 bits per second.
    fn tells(&mut self, bps_32: u16) {
        let [high, low] = bps_32.to_be_bytes();
        let head = [0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0];
        self.says([&head[..], b"REMB", &[1, 5 << 2, high, low], &[0, 0, 0, 80]].concat());
    }

    /// The peer asks for these of the camera, in one packet, each twice (RFC 4585, 6.2.1), or tells its bandwidth.
    fn says(&mut self, mut rtcp: Vec<u8>) {
        self.peer.seal_rtcp(&mut rtcp, 0).unwrap();
        let now_us = self.clock.us(self.now);
        self.sender.on_rtcp(now_us, &rtcp, &mut Vec::new());
        assert_eq!(self.sender.counters.rtcp_refused, 0);
    }

    fn asks_twice_for(&mut self, seqs: &[u16]) {
        let twice = seqs.iter().chain(seqs);
        let mut nack = vec![0x81, 205, 0, 2 + 2 * u8::try_from(seqs.len()).unwrap(), 0, 0, 0, 1];
        nack.extend(CAMERA_SSRC.to_be_bytes());
        nack.extend(twice.flat_map(|seq| [seq.to_be_bytes(), [0, 0]].concat()));
        self.says(nack);
    }
}

/// `None` of RTCP.
fn ssrc(datagram: &[u8]) -> Option<u32> {
    let is_rtp = !(192..=223).contains(&datagram[1]);
    is_rtp.then(|| u32::from_be_bytes(datagram[8..12].try_into().unwrap()))
}

#[test]
fn voices_leave_before_what_was_asked_for_again() {
    let mut stage = Stage::new();
    (1..=3).for_each(|seq| stage.forward(CAMERA, seq));
    stage.flush();
    stage.now += Duration::from_millis(100);
    stage.asks_twice_for(&[1]);
    assert!(stage.sender.waits());
    stage.forward(CAMERA, 4);
    stage.forward(VOICE, 1);
    assert_eq!(stage.flush(), [VOICE_SSRC, RTX_SSRC, CAMERA_SSRC]);
}

#[test]
fn what_is_asked_for_twice_is_sent_once() {
    let mut stage = Stage::new();
    (1..=3).for_each(|seq| stage.forward(CAMERA, seq));
    stage.flush();
    stage.now += Duration::from_millis(100);
    stage.asks_twice_for(&[1, 3]);
    assert_eq!(stage.flush(), [RTX_SSRC; 2]);
    let Counters { resent, not_resent, .. } = stage.sender.counters;
    assert_eq!((resent, not_resent), (2, 0));
}

/// 64 kbit/s by REMB: at two and a half times that, and by no less than the pacer gives, one packet fits at once.
#[test]
fn what_is_asked_for_again_takes_its_part_of_the_budget() {
    let mut stage = Stage::new();
    (1..=20).for_each(|seq| stage.forward(CAMERA, seq));
    stage.flush();
    stage.tells(2_000);
    stage.now += Duration::from_secs(1);
    let all: Vec<u16> = (1..=20).collect();
    stage.asks_twice_for(&all);
    stage.forward(CAMERA, 21);
    let sent = stage.flush();
    assert!(!sent.is_empty() && sent.len() < 4, "{sent:?} left at once");
    assert!(sent.iter().all(|ssrc| *ssrc == RTX_SSRC), "{sent:?}: the picture has to wait behind them");
    assert!(stage.sender.waits() && stage.sender.deadline().is_some());
}

/// 1.6 Mbit/s by REMB make a pace of 4 Mbit/s: 20,000 bytes at once and 2,500 in each tick of 5 ms. What leaves in one tick is one
/// message to the kernel (GSO), though a voice came in the midst of the picture.
#[test]
fn a_key_frame_that_has_to_wait_leaves_in_runs() {
    (0..5_000).step_by(100).for_each(leaves_in_runs);
}

fn leaves_in_runs(phase_us: u64) {
    const PACKETS: usize = 30;
    const LARGEST: usize = 928;
    let mut stage = Stage::begun(phase_us);
    stage.forward(CAMERA, 1);
    stage.flush();
    stage.tells(50_000);
    let begin = stage.now;
    for seq in 2..=PACKETS as u64 {
        stage.forward(CAMERA, seq);
    }
    // Of a picture the last packet is smaller.
    stage.forward(VOICE, 1);
    stage.forward_sized(CAMERA, PACKETS as u64 + 1, 100);
    let (mut sizes, mut bytes) = (Vec::new(), 0);
    while sizes.iter().sum::<usize>() < PACKETS {
        let runs = stage.flush_runs();
        assert!(runs.len() <= 1, "{runs:?} in one round");
        for (packets, length) in runs {
            sizes.push(packets);
            bytes += length;
        }
        let allowed = 20_000 + (stage.now - begin).as_micros() as usize / 2 + LARGEST;
        assert!(bytes <= allowed, "{bytes} bytes after {:?}, {allowed} may be", stage.now - begin);
        stage.now = stage.sender.deadline().expect("something waits");
    }
    assert!(sizes[0] >= 20, "{sizes:?}: the burst");
    // The burst may have ended just before a tick.
    assert!(
        sizes[2..sizes.len() - 1].iter().all(|packets| *packets >= 2),
        "{sizes:?} {phase_us} us after a tick"
    );
    assert!(sizes.len() <= 7, "{sizes:?} {phase_us} us after a tick");
}
