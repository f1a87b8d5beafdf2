//! Packets for tests, and a generator of numbers from a seed.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use antiphon_base::{AudioCodec, Codec, ParticipantKey, Source, TrackKey, VideoCodec};

use super::{Descriptor, Packet};

/// SplitMix64 (Steele, Lea, Flood 2014): numbers from a seed that a failing test prints.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub(crate) fn bytes(&mut self, max: usize) -> Vec<u8> {
        (0..self.index(max + 1)).map(|_| self.byte()).collect()
    }

    /// A copy with some bytes changed, cut off or added.
    pub(crate) fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut out = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.index(out.len());
            match self.below(4) {
                0 => out.truncate(at),
                1 => out.insert(at, self.byte()),
                2 if !out.is_empty() => out[at] ^= 1 << self.below(8),
                _ if !out.is_empty() => out[at] = self.byte(),
                _ => {}
            }
        }
        out
    }
}

/// The instant from which tests count.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made in another way; only differences count"
)]
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

pub(crate) const VP8: Codec = Codec::Video(VideoCodec::Vp8);
pub(crate) const OPUS: Codec = Codec::Audio(AudioCodec::Opus);

/// A packet that arrives `at_us` after the [`epoch`].
pub(crate) fn packet(codec: Codec, seq: u64, rtp_time: u64, at_us: u64, payload: &[u8]) -> Packet {
    let source = match codec {
        Codec::Audio(_) => Source::Microphone,
        Codec::Video(_) => Source::Camera,
    };
    Packet {
        track: TrackKey { participant: ParticipantKey(1), source },
        layer: 0,
        codec,
        seq,
        rtp_time,
        marker: false,
        payload: payload.into(),
        arrival: epoch() + Duration::from_micros(at_us),
        arrival_us: 1_700_000_000_000_000 + at_us,
        capture_us: 1_700_000_000_000_000 + at_us,
        capture_estimated: false,
        audio_level: None,
        dependency: None,
        spatial_layers: 1,
        descriptor: Descriptor::parse(codec, payload),
    }
}

/// One-packet VP8 frame: payload descriptor with 15-bit picture id, TL0PICIDX and TID, and a frame tag.
pub(crate) fn vp8_payload(picture_id: u16, tl0: u8, tid: u8, sync: bool, key: bool) -> Vec<u8> {
    let [high, low] = picture_id.to_be_bytes();
    let tag = if key { [0x10, 0, 0, 0x9d, 0x01, 0x2a, 64, 0, 48, 0] } else { [0x11; 10] };
    let mut out = vec![0x90, 0xe0, 0x80 | high, low, tl0, tid << 6 | u8::from(sync) << 5];
    out.extend(tag);
    out
}

pub(crate) fn shared(packet: Packet) -> Arc<Packet> {
    Arc::new(packet)
}
