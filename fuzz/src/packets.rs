//! Bytes read as a list of packets: 16 bytes of numbers each, and a payload.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use antiphon_base::{AudioCodec, Codec, ParticipantKey, Source, TrackKey, VideoCodec};
use antiphon_wire::rtp::{Descriptor, Packet};

/// Packets with a byte that says what to do with each. Without `codec` the bytes choose it.
pub(crate) fn read(mut bytes: &[u8], codec: Option<Codec>) -> Vec<(u8, Packet)> {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let epoch = *EPOCH.get_or_init(Instant::now);
    let (mut packets, mut seq, mut rtp_time, mut at_us) = (Vec::new(), 0u64, 0u64, 0u64);
    while let Some((head, rest)) = bytes.split_first_chunk::<16>() {
        let [action, kind, step, s0, s1, t0, t1, t2, a0, a1, a2, who, len, flags, ..] = *head;
        let len = usize::from(len).min(rest.len());
        let (payload, rest) = rest.split_at(len);
        bytes = rest;
        seq = match step & 0x03 {
            0 => u64::from_le_bytes([s0, s1, t0, t1, t2, a0, a1, a2]),
            1 => seq.wrapping_sub(u64::from(s0)),
            2 => seq.wrapping_add(u64::from(u16::from_le_bytes([s0, s1]))),
            _ => seq.wrapping_add(1),
        };
        rtp_time = rtp_time.wrapping_add(u64::from(u32::from_le_bytes([t0, t1, t2, 0])) << (step >> 3));
        at_us += u64::from(u32::from_le_bytes([a0, a1, a2, 0]));
        let codec = codec.unwrap_or(match kind & 0x07 {
            0 => Codec::Audio(AudioCodec::Opus),
            1 => Codec::Audio(AudioCodec::Pcmu),
            2 | 3 => Codec::Video(VideoCodec::Vp9),
            4 => Codec::Video(VideoCodec::H264),
            _ => Codec::Video(VideoCodec::Vp8),
        });
        let track = TrackKey { participant: ParticipantKey(u32::from(who & 1)), source: Source::Camera };
        let packet = Packet {
            track,
            layer: who >> 7,
            codec,
            seq,
            rtp_time,
            marker: flags & 1 != 0,
            payload: payload.into(),
            arrival: epoch + Duration::from_micros(at_us),
            arrival_us: at_us,
            capture_us: at_us,
            capture_estimated: false,
            audio_level: None,
            dependency: None,
            spatial_layers: 1,
            descriptor: Descriptor::parse(codec, payload),
        };
        packets.push((action, packet));
    }
    packets
}
