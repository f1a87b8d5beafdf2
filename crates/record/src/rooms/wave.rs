//! A recorded track of sound as samples: decoded, each packet at its place, silence where nothing is. RIFF, PCM s16le, one channel.

use antiphon_base::AudioCodec;
use antiphon_media::audio::Decoder;
use bytes::Bytes;

/// Samples per second of the file.
pub(super) const RATE: u32 = 48_000;
const PER_MS: i64 = 48;
/// What a packet may be off its place: times are whole milliseconds, and follow the sender's clock slowly. More is a hole, or an
/// overlap.
const TOLERANCE: i64 = 10 * PER_MS;
/// A hole no longer than this is made up for by the decoder.
const CONCEALED: i64 = 100 * PER_MS;
/// Samples of silence given in one piece: a second.
const MAX_SILENCE: u64 = 48_000;
/// A hole longer than this is a clock that jumped: it is left out.
const MAX_HOLE: i64 = 24 * 3_600 * 1_000 * PER_MS;

/// The samples of a track from a place on.
pub(super) struct Wave {
    decoder: Decoder,
    /// Samples given, those of `hole` included.
    given: i64,
    /// Samples of silence to give first.
    hole: u64,
    ready: Vec<i16>,
    /// Samples that the head promised.
    left: Option<u64>,
}

impl Wave {
    /// `None`: the decoder library does not work. `samples`: how many the file has, where that is known.
    pub(super) fn new(samples: Option<u64>) -> Option<Self> {
        let decoder = Decoder::new(AudioCodec::Opus, RATE).ok()?;
        Some(Self { decoder, given: 0, hole: 0, ready: Vec::new(), left: samples })
    }

    /// A packet at a place in milliseconds, which may be before the beginning.
    pub(super) fn packet(&mut self, at_ms: i64, packet: &[u8]) {
        let at = at_ms.saturating_mul(PER_MS);
        let missing = at.saturating_sub(self.given);
        if missing > MAX_HOLE {
            return;
        }
        let mut samples = Vec::new();
        if missing > TOLERANCE {
            if missing <= CONCEALED && self.given > 0 {
                self.decoder.conceal(usize::try_from(missing).unwrap_or(0), &mut samples);
            } else if self.ready.is_empty() {
                self.hole += missing.unsigned_abs();
                self.given += missing;
            } else {
                samples.resize(usize::try_from(missing).unwrap_or(0), 0);
            }
        }
        if self.decoder.decode(packet, &mut samples).is_err() {
            return;
        }
        // What is before the beginning, or was given already, is decoded for what follows it.
        let early = if missing < -TOLERANCE { missing.unsigned_abs() } else { 0 };
        let skip = usize::try_from(early).unwrap_or(usize::MAX).min(samples.len());
        self.ready.extend_from_slice(&samples[skip..]);
        self.given += i64::try_from(samples.len() - skip).unwrap_or(0);
    }

    /// What is complete. It is to be asked until nothing is.
    pub(super) fn poll(&mut self) -> Option<Bytes> {
        if self.left == Some(0) {
            return None;
        }
        if self.hole > 0 {
            let silence = self.hole.min(MAX_SILENCE);
            self.hole -= silence;
            return Some(self.measured(vec![0; usize::try_from(silence).unwrap_or(0)]));
        }
        let ready = std::mem::take(&mut self.ready);
        (!ready.is_empty()).then(|| self.measured(ready))
    }

    /// What the head promised and is not there, as silence.
    pub(super) fn fill(&mut self) -> Option<Bytes> {
        let left = self.left?.min(MAX_SILENCE);
        (left > 0).then(|| self.measured(vec![0; usize::try_from(left).unwrap_or(0)]))
    }

    /// All that was promised was given.
    pub(super) fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    fn measured(&mut self, mut samples: Vec<i16>) -> Bytes {
        if let Some(left) = &mut self.left {
            samples.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= samples.len() as u64;
        }
        samples.into_iter().flat_map(i16::to_le_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_media::audio::{Encoder, OpusConfig};

    fn packets(count: usize) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(AudioCodec::Opus, RATE, OpusConfig::default()).unwrap();
        let tone = |i: usize| -> Vec<i16> {
            (0..960).map(|n| if ((i * 960 + n) / 24).is_multiple_of(2) { 8_000 } else { -8_000 }).collect()
        };
        let encode = |i| {
            let mut out = Vec::new();
            encoder.encode(&tone(i), &mut out).unwrap();
            out
        };
        (0..count).map(encode).collect()
    }

    fn all(wave: &mut Wave) -> Vec<i16> {
        let pieces: Vec<Bytes> = std::iter::from_fn(|| wave.poll()).collect();
        pieces.concat().chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
    }

    #[test]
    fn each_packet_is_at_its_place_and_holes_are_silence() {
        let mut wave = Wave::new(None).unwrap();
        let packets = packets(6);
        let mut samples = Vec::new();
        for (at_ms, packet) in
            [(1_000, 0), (1_021, 1), (1_039, 2), (3_000, 3)].map(|(at, i)| (at, &packets[i]))
        {
            wave.packet(at_ms, packet);
            samples.extend(all(&mut wave));
        }
        assert_eq!(samples.len(), 3_020 * 48);
        let loud =
            |from_ms: usize, to_ms: usize| samples[from_ms * 48..to_ms * 48].iter().any(|s| s.abs() > 1_000);
        assert!(!loud(0, 995) && loud(1_020, 1_060) && !loud(1_070, 2_995));
        wave.packet(i64::MAX / 100, &packets[4]);
        wave.packet(2_000, &packets[5]);
        assert_eq!(all(&mut wave).len(), 0, "years away, and in the past");
    }

    #[test]
    fn a_file_has_as_many_samples_as_its_head_says() {
        let packets = packets(3);
        for (promised, come) in [(5_000_u64, 1), (960, 3)] {
            let mut wave = Wave::new(Some(promised)).unwrap();
            let mut bytes = 0;
            for (i, packet) in packets.iter().take(come).enumerate() {
                wave.packet(i64::try_from(i).unwrap() * 20 - 5, packet);
                bytes += std::iter::from_fn(|| wave.poll()).map(|b| b.len()).sum::<usize>();
            }
            bytes += std::iter::from_fn(|| wave.fill()).map(|b| b.len()).sum::<usize>();
            assert_eq!(bytes as u64, 2 * promised);
        }
    }
}
