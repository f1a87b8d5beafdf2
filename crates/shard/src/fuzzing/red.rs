//! Redundant audio (RFC 2198): what a line repeats is what it had sent, and who lost it has it again; and any bytes as
//! RED of a publisher.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use antiphon_base::{AudioCodec, Codec};
use antiphon_room::slot::Outgoing;
use antiphon_wire::rtp::red::{self, MAX_OFFSET};
use antiphon_wire::rtp::{Descriptor, Packet, header};

use crate::connection::Counters;
use crate::egress::{Class, Line, LinePlan, MAX_REPEATED, MAX_REPEATED_BYTES, PayloadType};
use crate::happening::RtpIn;
use crate::redundancy::{Heard, MAX_BLOCKS, RESTART, unwrap};

const CODEC: Codec = Codec::Audio(AudioCodec::Opus);
const OPUS: u8 = 111;
const RED: u8 = 63;
/// RTP times of a line are 32 bits of those that are undone here, which are never below what a block reaches back.
const TIME_BASE: u64 = 1 << 32;
/// What a receiver of RED has made of it.
#[derive(Default)]
struct Undone {
    heard: Option<Heard>,
    counters: Counters,
    /// Numbers since the stream began, or began anew.
    numbers: HashSet<u64>,
    newest: Option<u64>,
}

impl Undone {
    /// What a packet is worth: each number once, in order, none later than its own.
    fn take(&mut self, packet: RtpIn) -> Vec<RtpIn> {
        let (seq, rtp_time) = (packet.seq, packet.rtp_time);
        let before = (self.counters.red_recovered, self.counters.red_refused);
        let readable = red::primary(&packet.payload).is_some();
        let all = unwrap(&mut self.heard, Some(OPUS), CODEC, packet, &mut self.counters);
        if readable && self.newest.is_some_and(|newest| newest.saturating_sub(seq) > RESTART) {
            self.numbers.clear();
            self.newest = None;
        }
        assert!(all.len() <= MAX_BLOCKS + 1);
        assert!(all.is_sorted_by(|a, b| a.seq < b.seq), "in order");
        assert!(all.iter().all(|p| p.seq <= seq && p.rtp_time <= rtp_time && !p.payload.is_empty()));
        assert!(all.iter().all(|p| self.numbers.insert(p.seq)), "a number came twice");
        self.newest = self.newest.max(all.last().map(|p| p.seq));
        let own = u64::from(all.last().is_some_and(|p| p.seq == seq));
        assert_eq!(self.counters.red_recovered - before.0, all.len() as u64 - own);
        assert_eq!(self.counters.red_refused - before.1, 1 - own);
        all
    }
}

/// Any payloads as RED of a publisher, with any numbers.
///
/// # Panics
/// Where a number comes twice, or what comes out was not in it.
pub fn undo(all: &[Arc<Packet>]) {
    let mut undone = Undone::default();
    for packet in all {
        let payload = Arc::clone(&packet.payload);
        for out in undone.take(arriving(packet.seq, packet.rtp_time, payload)) {
            assert!(packet.payload.windows(out.payload.len()).any(|bytes| *bytes == *out.payload));
        }
    }
}

/// What a slot has let through, with how many packets each one repeats and whether it is lost on the way to a subscriber that
/// takes RED.
///
/// # Panics
/// Where something comes out that was not sent, or does not that was repeated.
pub fn repeat(all: Vec<(Outgoing, usize, bool)>) {
    let mut line = Line::new(plan(), 1);
    let mut undone = Undone::default();
    // By RTP time: what a receiver plays by. Any two may have the same.
    let mut sent: HashMap<u32, HashSet<Arc<[u8]>>> = HashMap::new();
    // The packet before, if it is among those that are repeated.
    let mut before: Option<(u64, u32)> = None;
    for (outgoing, level, lost) in all {
        line.redundancy = level.min(MAX_REPEATED);
        let (seq, rtp_time) = (outgoing.rewritten.seq, outgoing.rewritten.rtp_time);
        let (payload, switched) = (Arc::clone(&outgoing.packet.payload), outgoing.switched.is_some());
        if switched {
            // What was said before is not said again. By its time, which goes on: numbers are only a receiver's guess.
            sent.clear();
        }
        sent.entry(rtp_time).or_default().insert(Arc::clone(&payload));
        let mut out = Vec::new();
        line.write(outgoing, 0, &mut out).expect("the line has the codec");
        let (fixed, bytes) = header::parse(&out).expect("what we write parses");
        assert_eq!(fixed.payload_type, if line.redundancy > 0 { RED } else { OPUS });
        if line.redundancy > 0 && !lost {
            let missed = before.filter(|(number, time)| {
                let offset = rtp_time.wrapping_sub(*time);
                number + 1 == seq && !switched && (1..=MAX_OFFSET).contains(&offset)
            });
            let missed = missed.filter(|(number, _)| undone.newest.is_some_and(|newest| newest < *number));
            let heard = undone.take(arriving(seq, TIME_BASE + u64::from(rtp_time), bytes.into()));
            for packet in &heard {
                let time = u32::try_from(packet.rtp_time & u64::from(u32::MAX)).expect("32 bits of it");
                assert!(sent.get(&time).is_some_and(|payloads| payloads.contains(&packet.payload)));
            }
            assert!(missed.is_none_or(|(number, _)| heard.iter().any(|p| p.seq == number)), "repeated");
        }
        assert!(line.repeated() <= MAX_REPEATED);
        let said = line.redundancy > 0 && !payload.is_empty() && payload.len() <= MAX_REPEATED_BYTES;
        before = said.then_some((seq, rtp_time));
    }
}

fn arriving(seq: u64, rtp_time: u64, payload: Arc<[u8]>) -> RtpIn {
    RtpIn {
        seq,
        rtp_time,
        marker: false,
        payload,
        capture_us: 0,
        capture_estimated: false,
        audio_level: None,
        descriptor: Descriptor::Opaque,
        dependency: None,
        spatial_layers: 1,
    }
}

fn plan() -> LinePlan {
    let opus = PayloadType { codec: CODEC, number: OPUS, rtx: None, red: Some(RED) };
    LinePlan { class: Class::Audio, payload_types: vec![opus], ..super::line() }
}
