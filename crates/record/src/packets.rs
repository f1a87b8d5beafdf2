//! One Opus track as it was sent: its packets in order, each at its place in the 20 ms that are due. The jitter buffer says what
//! plays when, as for what is decoded; nothing is decoded here. RFC 6716; RFC 7845, 5.1 (`OpusHead`).

use std::sync::Arc;

use antiphon_base::{AudioCodec, Codec};
use antiphon_media::audio::packet_duration;
use antiphon_media::jitter::{Buffer, Playout};
use antiphon_media::voice;
use antiphon_wire::rtp::Packet;

/// RTP ticks of 20 ms.
const FRAME: u32 = 960;
/// RTP ticks of a millisecond.
const TICKS_PER_MS: u32 = 48;
/// The most pieces of 20 ms: packets of 2.5 ms would be 8. A broken stream that needs more gets nothing.
const MAX_PIECES: usize = 16;

/// 20 ms of nothing: CELT, full band, one channel, one frame.
pub(crate) const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// What a decoder needs first: version 1, two channels (packets of one are decoded too), no skip, 48 kHz, no gain, family 0.
pub(crate) fn opus_head() -> [u8; 19] {
    let mut head = *b"OpusHead\x01\x02\0\0\0\0\0\0\0\0\0";
    head[12..16].copy_from_slice(&48_000_u32.to_le_bytes());
    head
}

/// A packet, and how many milliseconds into the 20 it begins.
pub(crate) type Placed = (u64, Arc<[u8]>);

/// 20 ms of nothing, placed.
pub(crate) fn nothing() -> Vec<Placed> {
    vec![(0, Arc::from(SILENCE))]
}

/// Those of two tracks in the same 20 ms, the former first where they begin together; silence only where neither has anything.
pub(crate) fn merged(mut packets: Vec<Placed>, rest: Vec<Placed>) -> Vec<Placed> {
    if is_nothing(&packets) && is_nothing(&rest) {
        return packets;
    }
    packets.extend(rest);
    packets.retain(|placed| !is_silence(placed));
    packets.sort_by_key(|(at_ms, _)| *at_ms);
    packets
}

/// Nothing is heard. Where there is no packet at all, a longer one from before still is.
fn is_nothing(packets: &[Placed]) -> bool {
    !packets.is_empty() && packets.iter().all(is_silence)
}

fn is_silence((_, packet): &Placed) -> bool {
    **packet == SILENCE
}

/// One track.
pub(crate) struct Packets {
    buffer: Buffer,
    /// Ticks of the next 20 ms that a longer packet has covered.
    carry: u32,
    newest: Option<(u64, u64)>,
}

impl Packets {
    /// Each packet waits so long for those before it.
    pub(crate) fn new(patience_us: u64) -> Self {
        Self { buffer: Buffer::patient(AudioCodec::Opus, patience_us), carry: 0, newest: None }
    }

    /// Nothing that has come is still to be placed.
    pub(crate) fn is_drained(&self) -> bool {
        self.buffer.is_empty() && self.carry == 0
    }

    /// A packet came.
    pub(crate) fn packet(&mut self, packet: &Packet) {
        if !packet.payload.is_empty() && packet.codec == Codec::Audio(AudioCodec::Opus) {
            self.buffer.push(voice::to_jitter(packet));
        }
    }

    /// The next 20 ms, due at `due_us`.
    pub(crate) fn tick(&mut self, due_us: u64) -> Vec<Placed> {
        let mut filled = std::mem::take(&mut self.carry);
        self.newest = None;
        let mut out: Vec<Placed> = Vec::new();
        for _ in 0..MAX_PIECES {
            if filled >= FRAME {
                break;
            }
            let at_ms = u64::from(filled / TICKS_PER_MS);
            match self.buffer.pop(due_us, FRAME - filled) {
                Playout::Packet(packet) => {
                    self.newest = Some((at_ms * 1_000, packet.capture_us));
                    filled += packet_duration(AudioCodec::Opus, &packet.payload);
                    out.push((at_ms, packet.payload));
                }
                // Who listens later is in no hurry: it is kept, at the place of the next one.
                Playout::Skip(packet) => out.push((at_ms, packet.payload)),
                Playout::Lost { ticks, .. } | Playout::Late { ticks } | Playout::Silence { ticks, .. } => {
                    if ticks == FRAME {
                        out.push((at_ms, Arc::from(SILENCE)));
                    }
                    filled += ticks;
                }
            }
        }
        self.carry = filled.saturating_sub(FRAME);
        out
    }

    /// Of the newest packet of the last tick: how many microseconds into it it begins, and when it was captured.
    pub(crate) fn newest(&self) -> Option<(u64, u64)> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_tracks_the_former_comes_first_and_silence_only_where_neither_has_anything() {
        let placed = |of: &[(u64, u8)]| -> Vec<Placed> {
            of.iter().map(|(at_ms, byte)| (*at_ms, Arc::from([*byte]))).collect()
        };
        let long = Vec::new;
        assert_eq!(merged(nothing(), nothing()), nothing());
        assert_eq!(merged(placed(&[(0, 1)]), nothing()), placed(&[(0, 1)]));
        assert_eq!(merged(nothing(), placed(&[(5, 2)])), placed(&[(5, 2)]));
        assert_eq!((merged(long(), nothing()), merged(nothing(), long())), (long(), long()));
        let both = merged(placed(&[(0, 1), (10, 3)]), placed(&[(0, 2), (10, 4)]));
        assert_eq!(both, placed(&[(0, 1), (0, 2), (10, 3), (10, 4)]));
    }

    #[test]
    fn silence_is_a_packet_of_20_ms() {
        assert_eq!(packet_duration(AudioCodec::Opus, &SILENCE), FRAME);
        let mut packets = Packets::new(300_000);
        for i in 0..10 {
            assert_eq!(packets.tick(i * 20_000), nothing());
        }
    }
}
