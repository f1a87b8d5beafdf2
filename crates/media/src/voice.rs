//! One audio track of a room: its packets in, decoded once per tick, resampled once per rate that is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use antiphon_base::{AudioCodec, Codec};
use antiphon_wire::rtp::Packet;

use crate::audio::Error;
use crate::jitter;
use crate::playout::{Frame, Playout};
use crate::resample::Resampler;

/// 20 ms of one track, at each rate that is wanted.
pub struct Heard {
    /// At the rate of the decoder.
    pub frame: Frame,
    rates: BTreeMap<u32, Vec<i16>>,
    rate: u32,
}

impl Heard {
    /// The samples at a rate that was set; none at others.
    pub fn samples(&self, rate: u32) -> &[i16] {
        if rate == self.rate { &self.frame.samples } else { self.rates.get(&rate).map_or(&[], Vec::as_slice) }
    }
}

/// One track being decoded.
pub struct Voice {
    rate: u32,
    playout: Playout,
    resamplers: BTreeMap<u32, Resampler>,
}

impl Voice {
    /// A track of this codec, decoded at `rate` ([`crate::resample::RATES`]).
    ///
    /// # Errors
    /// The codec library fails.
    pub fn new(codec: AudioCodec, rate: u32) -> Result<Self, Error> {
        Ok(Self { rate, playout: Playout::new(codec, rate)?, resamplers: BTreeMap::new() })
    }

    /// The same in no hurry: each packet waits so long, see [`jitter::Buffer::patient`].
    ///
    /// # Errors
    /// The codec library fails.
    pub fn patient(codec: AudioCodec, rate: u32, patience_us: u64) -> Result<Self, Error> {
        let playout = Playout::patient(codec, rate, patience_us)?;
        Ok(Self { rate, playout, resamplers: BTreeMap::new() })
    }

    /// Nothing that has come is still to be heard.
    pub fn is_drained(&self) -> bool {
        self.playout.is_drained()
    }

    /// The codec it was made for.
    pub fn codec(&self) -> AudioCodec {
        self.playout.codec()
    }

    /// The rate it was made for.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// The whole set of rates wanted.
    pub fn set_rates(&mut self, rates: &BTreeSet<u32>) {
        self.resamplers.retain(|rate, _| rates.contains(rate));
        for rate in rates.iter().filter(|rate| **rate != self.rate) {
            if let Ok(resampler) = Resampler::new(self.rate, *rate) {
                self.resamplers.entry(*rate).or_insert(resampler);
            }
        }
    }

    /// A packet came.
    pub fn packet(&mut self, packet: &Arc<Packet>) {
        if packet.payload.is_empty() || packet.codec != Codec::Audio(self.playout.codec()) {
            return;
        }
        self.playout.push(to_jitter(packet));
    }

    /// The next 20 ms, due at `due_us` since the Unix epoch.
    pub fn tick(&mut self, due_us: u64) -> Heard {
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

/// A room's packet as the jitter buffer takes it.
pub fn to_jitter(packet: &Packet) -> jitter::Packet {
    jitter::Packet {
        seq_ext: packet.seq,
        rtp_time: packet.rtp_time,
        payload: Arc::clone(&packet.payload),
        arrival_us: packet.arrival_us,
        capture_us: packet.capture_us,
        capture_estimated: packet.capture_estimated,
        level: packet.audio_level.map(|l| l.level),
    }
}
