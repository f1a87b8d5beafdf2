//! Audio that came with redundancy (RED, RFC 2198) as plain packets, those that were lost and repeated among them: who
//! forwards, decodes or stores it need not know of RED. Towards subscribers it is made anew, by what their own lines lose
//! (`egress`), so that a switched slot never carries what somebody else said before.

use std::sync::Arc;

use antiphon_base::Codec;
use antiphon_wire::rtp::red;

use crate::connection::Counters;
use crate::happening::RtpIn;

/// Blocks of one packet that are looked at, from the newest on: browsers send one or two.
pub(crate) const MAX_BLOCKS: usize = 8;
/// Numbers remembered: more than blocks reach back.
const WINDOW: u64 = 64;
/// A number so far back is a source that begins anew (RFC 3550, A.1: MAX_DROPOUT).
pub(crate) const RESTART: u64 = 3_000;

/// The newest sequence number of a stream, and which of those before it were heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    newest: u64,
    /// Bit `n`: the newest less `n`.
    mask: u64,
}

impl Heard {
    /// `seq` is expected next; what was before it is not missed.
    fn before(seq: u64) -> Self {
        Self { newest: seq.saturating_sub(1), mask: if seq == 0 { !1 } else { u64::MAX } }
    }

    fn restart(&mut self, seq: u64) {
        if self.newest.saturating_sub(seq) > RESTART {
            *self = Self::before(seq);
        }
    }

    /// `false`: it was heard, or is too old to know. Who takes a number twice would send it twice.
    fn mark(&mut self, seq: u64) -> bool {
        if seq > self.newest {
            let step = u32::try_from(seq - self.newest).unwrap_or(u32::MAX);
            self.mask = self.mask.checked_shl(step).unwrap_or(0) | 1;
            self.newest = seq;
            return true;
        }
        let behind = self.newest - seq;
        if behind >= WINDOW || self.mask >> behind & 1 == 1 {
            return false;
        }
        self.mask |= 1 << behind;
        true
    }
}

/// The packets that `packet` is worth, in order: lost ones that it repeats, and its own; none if its own was repeated
/// before. `primary`: it is RED of this payload type; `None`: it is plain, in a stream that also has RED.
pub(crate) fn unwrap(
    heard: &mut Option<Heard>,
    primary: Option<u8>,
    codec: Codec,
    packet: RtpIn,
    counters: &mut Counters,
) -> Vec<RtpIn> {
    let mut all = Vec::new();
    let Some(primary) = primary else {
        let mark = |h: &mut Heard| {
            h.restart(packet.seq);
            h.mark(packet.seq)
        };
        match heard.as_mut().map(mark) {
            Some(false) => counters.red_refused += 1,
            _ => all.push(packet),
        }
        return all;
    };
    let payload = Arc::clone(&packet.payload);
    let mut blocks = Vec::new();
    let Some((payload_type, own)) = red::read(&payload, |block| blocks.push(block)) else {
        counters.red_refused += 1;
        return all;
    };
    let heard = heard.get_or_insert_with(|| Heard::before(packet.seq));
    heard.restart(packet.seq);
    // Each block is one packet further back; what is of another codec still takes its place.
    let back = (1..).zip(blocks.iter().rev()).take(MAX_BLOCKS);
    for (behind, block) in back {
        let (Some(seq), Some(rtp_time)) =
            (packet.seq.checked_sub(behind), packet.rtp_time.checked_sub(u64::from(block.offset)))
        else {
            continue;
        };
        let usable = block.payload_type == primary && !block.data.is_empty() && block.offset > 0;
        if usable && heard.mark(seq) {
            counters.red_recovered += 1;
            let before_us = u64::from(block.offset) * 1_000_000 / u64::from(codec.clock_rate());
            all.push(RtpIn {
                seq,
                rtp_time,
                marker: false,
                payload: block.data.into(),
                capture_us: packet.capture_us.saturating_sub(before_us),
                capture_estimated: packet.capture_estimated,
                audio_level: None,
                descriptor: packet.descriptor,
                dependency: None,
                spatial_layers: packet.spatial_layers,
            });
        }
    }
    all.reverse();
    if payload_type == primary && heard.mark(packet.seq) {
        all.push(RtpIn { payload: own.into(), ..packet });
    } else {
        counters.red_refused += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use antiphon_base::AudioCodec;
    use antiphon_wire::rtp::Descriptor;

    use super::*;

    const OPUS: u8 = 111;

    fn packet(seq: u64, payload: &[u8]) -> RtpIn {
        RtpIn {
            seq,
            rtp_time: 100_000 + seq * 960,
            marker: false,
            payload: payload.into(),
            capture_us: seq * 20_000,
            capture_estimated: false,
            audio_level: Some((30, true)),
            descriptor: Descriptor::Opaque,
            dependency: None,
            spatial_layers: 1,
        }
    }

    /// RED of a packet whose payload is its number, with the `back` ones before it.
    fn red(seq: u64, back: u64) -> RtpIn {
        let bytes: Vec<[u8; 1]> = (seq - back..=seq).map(|s| [s.to_le_bytes()[0]]).collect();
        let block = |i: usize| {
            let offset = u32::try_from((back - i as u64) * 960).unwrap();
            red::Block { payload_type: OPUS, offset, data: &bytes[i] }
        };
        let blocks: Vec<_> = (0..bytes.len() - 1).map(block).collect();
        let mut payload = Vec::new();
        red::write_head(OPUS, &blocks, &mut payload);
        payload.extend(bytes[bytes.len() - 1]);
        packet(seq, &payload)
    }

    struct Stream(Option<Heard>, Counters);

    impl Stream {
        fn take(&mut self, primary: Option<u8>, packet: RtpIn) -> Vec<u64> {
            let codec = Codec::Audio(AudioCodec::Opus);
            let got = unwrap(&mut self.0, primary, codec, packet, &mut self.1);
            for p in &got {
                assert_eq!(*p.payload, [p.seq.to_le_bytes()[0]]);
                assert_eq!((p.rtp_time, p.capture_us), (100_000 + p.seq * 960, p.seq * 20_000));
            }
            got.iter().map(|p| p.seq).collect()
        }

        fn red(&mut self, seq: u64, back: u64) -> Vec<u64> {
            self.take(Some(OPUS), red(seq, back))
        }
    }

    #[test]
    fn lost_packets_come_once_and_in_order() {
        let mut stream = Stream(None, Counters::default());
        assert_eq!(stream.red(10, 2), [10], "what was before the first is not missed");
        assert_eq!(stream.red(11, 2), [11]);
        assert_eq!(stream.red(14, 2), [12, 13, 14]);
        assert_eq!(stream.red(13, 2), [0; 0], "it comes after all");
        assert_eq!(stream.red(17, 1), [16, 17]);
        assert_eq!(stream.red(15, 1), [15], "late, not repeated before");
        assert_eq!(stream.take(None, packet(16, &[16])), [0; 0], "plain, and repeated before");
        assert_eq!(stream.take(None, packet(18, &[18])), [18]);
        assert_eq!((stream.1.red_recovered, stream.1.red_refused), (3, 2));
    }

    #[test]
    fn a_stream_may_begin_anew_and_be_nonsense() {
        let mut stream = Stream(None, Counters::default());
        assert_eq!(stream.red(9_000, 1), [9_000]);
        assert_eq!(stream.red(5, 1), [5]);
        assert_eq!(stream.red(7, 1), [6, 7]);
        assert_eq!(stream.take(Some(OPUS), packet(8, &[0xff; 9])), [0; 0]);
        assert_eq!(stream.take(Some(96), red(9, 1)), [0; 0], "of another codec");
        assert!(Heard::before(0).mark(0));
    }
}
