//! One audio track: decoded once per tick, resampled once per rate that is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use antiphon_base::{AudioCodec, Codec};
use antiphon_media::jitter;
use antiphon_media::playout::{Frame, Playout};
use antiphon_media::resample::Resampler;
use antiphon_wire::rtp::Packet;

/// 20 ms of one track, at each rate that is wanted.
pub(super) struct Heard {
    /// At the rate of the decoder.
    pub(super) frame: Frame,
    rates: BTreeMap<u32, Vec<i16>>,
    rate: u32,
}

impl Heard {
    /// The samples at a rate that was set; none at others.
    pub(super) fn samples(&self, rate: u32) -> &[i16] {
        if rate == self.rate { &self.frame.samples } else { self.rates.get(&rate).map_or(&[], Vec::as_slice) }
    }
}

/// One track being decoded.
pub(super) struct Voice {
    rate: u32,
    playout: Playout,
    resamplers: BTreeMap<u32, Resampler>,
}

impl Voice {
    /// A track of this codec, decoded at `rate`; `None` where the codec library fails.
    pub(super) fn new(codec: AudioCodec, rate: u32) -> Option<Self> {
        let playout = Playout::new(codec, rate).inspect_err(|error| tracing::error!(%error, "no decoder"));
        Some(Self { rate, playout: playout.ok()?, resamplers: BTreeMap::new() })
    }

    /// The codec it was made for.
    pub(super) fn codec(&self) -> AudioCodec {
        self.playout.codec()
    }

    /// The rate it was made for.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// The whole set of rates wanted.
    pub(super) fn set_rates(&mut self, rates: &BTreeSet<u32>) {
        self.resamplers.retain(|rate, _| rates.contains(rate));
        for rate in rates.iter().filter(|rate| **rate != self.rate) {
            if let Ok(resampler) = Resampler::new(self.rate, *rate) {
                self.resamplers.entry(*rate).or_insert(resampler);
            }
        }
    }

    /// A packet came.
    pub(super) fn packet(&mut self, packet: &Arc<Packet>) {
        if packet.payload.is_empty() || packet.codec != Codec::Audio(self.playout.codec()) {
            return;
        }
        self.playout.push(jitter::Packet {
            seq_ext: packet.seq,
            rtp_time: packet.rtp_time,
            payload: Arc::clone(&packet.payload),
            arrival_us: packet.arrival_us,
            capture_us: packet.capture_us,
            capture_estimated: packet.capture_estimated,
            level: packet.audio_level.map(|l| l.level),
        });
    }

    /// The next 20 ms, due at `due_us` since the Unix epoch.
    pub(super) fn tick(&mut self, due_us: u64) -> Heard {
        let frame = self.playout.tick(due_us);
        let mut rates = BTreeMap::new();
        for (rate, resampler) in &mut self.resamplers {
            let mut out = Vec::with_capacity((rate / 50) as usize);
            resampler.process(&frame.samples, &mut out);
            rates.insert(*rate, out);
        }
        Heard { frame, rates, rate: self.rate }
    }
}
