//! One audio track: jitter buffer and decoder, 20 ms per tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use antiphon_base::AudioCodec;
use antiphon_media::mix::SILENCE_DBOV;
use antiphon_media::resample::Resampler;
use antiphon_wire::rtp::Packet;

/// 20 ms of one track, at each rate that is wanted.
pub(super) struct Heard {
    rates: BTreeMap<u32, Vec<i16>>,
    pub(super) silence: bool,
    pub(super) gap: bool,
    /// -dBov.
    pub(super) level: u8,
    pub(super) capture_us: u64,
    pub(super) capture_estimated: bool,
    pub(super) arrival_us: u64,
}

impl Heard {
    /// The samples at a rate that was set; none at others.
    pub(super) fn samples(&self, rate: u32) -> &[i16] {
        self.rates.get(&rate).map_or(&[], Vec::as_slice)
    }
}

/// One track being decoded.
pub(super) struct Voice {
    codec: AudioCodec,
    rate: u32,
    resamplers: BTreeMap<u32, Resampler>,
}

impl Voice {
    pub(super) fn new(codec: AudioCodec, rate: u32) -> Self {
        Self { codec, rate, resamplers: BTreeMap::new() }
    }

    pub(super) fn codec(&self) -> AudioCodec {
        self.codec
    }

    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// The whole set of rates wanted.
    pub(super) fn set_rates(&mut self, rates: &BTreeSet<u32>) {
        self.resamplers.retain(|rate, _| rates.contains(rate));
        for rate in rates {
            if let Ok(resampler) = Resampler::new(self.rate, *rate) {
                self.resamplers.entry(*rate).or_insert(resampler);
            }
        }
    }

    pub(super) fn packet(&mut self, packet: &Arc<Packet>) {
        let _ = packet;
    }

    pub(super) fn tick(&mut self, _due: Instant, due_us: u64) -> Heard {
        let samples = vec![0; (self.rate / 50) as usize];
        let mut rates = BTreeMap::new();
        for (rate, resampler) in &mut self.resamplers {
            let mut out = Vec::with_capacity((rate / 50) as usize);
            resampler.process(&samples, &mut out);
            rates.insert(*rate, out);
        }
        Heard {
            rates,
            silence: true,
            gap: false,
            level: SILENCE_DBOV,
            capture_us: due_us,
            capture_estimated: true,
            arrival_us: due_us,
        }
    }
}
