//! What one layer costs, measured where its packets come in: sums by temporal layer, told once per second.

use std::time::{Duration, Instant};

use antiphon_room::{LayerRate, MAX_TEMPORAL};
use antiphon_wire::rtp::Packet;

/// Over what time a rate is measured: a key frame and the pictures behind it, and two windows of the fastest decision.
const WINDOW: Duration = Duration::from_secs(1);
/// A window longer than this has a pause in it, and says nothing.
const PAUSE: Duration = Duration::from_millis(2_500);
/// What a packet takes beside its payload: IPv4, UDP, RTP, the extensions that subscribers get, the tag.
const OVERHEAD: u64 = 20 + 8 + 12 + 16 + 16;

/// Sums of the current window.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    since: Option<Instant>,
    bytes: [u64; MAX_TEMPORAL],
    highest: u8,
    frames: u64,
}

impl Meter {
    /// Takes a packet; gives the rate when a window is over.
    pub(crate) fn take(&mut self, now: Instant, packet: &Packet) -> Option<LayerRate> {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        let rate = (WINDOW..PAUSE).contains(&elapsed).then(|| self.rate(elapsed));
        if elapsed >= WINDOW {
            *self = Self { since: Some(now), ..Self::default() };
        }
        let temporal = packet.temporal_id().unwrap_or(0);
        self.highest = self.highest.max(temporal);
        self.bytes[usize::from(temporal).min(MAX_TEMPORAL - 1)] += packet.payload.len() as u64 + OVERHEAD;
        self.frames += u64::from(packet.marker);
        rate
    }

    fn rate(&self, elapsed: Duration) -> LayerRate {
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut sum = 0;
        let bps = self.bytes.map(|bytes| {
            sum += bytes;
            sum.saturating_mul(8_000) / ms
        });
        let frames = u8::try_from(self.frames.saturating_mul(1_000) / ms).unwrap_or(u8::MAX);
        LayerRate { bps, temporal_layers: self.highest.saturating_add(1), frames }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use antiphon_base::{Codec, VideoCodec};

    fn packet(arrival: Instant, temporal: u8) -> Packet {
        // RFC 7741, 4.2: X; T; TID, Y and KEYIDX; then a picture.
        let mut payload = vec![0x90, 0x20, temporal << 6];
        payload.resize(1_000 - usize::try_from(OVERHEAD).unwrap(), 0);
        Packet { arrival, ..testing::packet(Codec::Video(VideoCodec::Vp8), &payload) }
    }

    #[test]
    fn rates_are_summed_by_temporal_layer_and_a_pause_is_not_one() {
        let base = Instant::now();
        let mut meter = Meter::default();
        let mut told = Vec::new();
        for i in 0..=50u64 {
            let at = base + Duration::from_millis(i * 40);
            told.extend(meter.take(at, &packet(at, [0, 2, 1, 2][usize::try_from(i % 4).unwrap()])));
        }
        assert_eq!(told.len(), 2);
        let LayerRate { bps, temporal_layers, frames } = told[0];
        assert_eq!((temporal_layers, frames), (3, 25));
        assert_eq!(bps, [56_000, 104_000, 200_000, 200_000]);
        let late = base + Duration::from_secs(60);
        assert_eq!(meter.take(late, &packet(late, 0)), None);
    }
}
