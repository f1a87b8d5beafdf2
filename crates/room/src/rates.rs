//! What layers cost: measured by the publisher's shard where it could be, assumed until then.

use crate::output::MAX_LAYERS;

/// Temporal layers that are told apart: what VP8, VP9 and AV1 are sent with (L1T4 is unheard of in browsers).
pub const MAX_TEMPORAL: usize = 4;

/// Measured rates that differ from those in use by less than this share (in percent) change no decision.
const NOISE_PERCENT: u64 = 15;
/// A cost that has fallen so far, in percent, is told to who waits for a step up: what did not fit while a key frame was in it may
/// fit now.
const FALLEN_PERCENT: u64 = 1;
/// Frames per second where they were not measured: what cameras give.
const ASSUMED_FRAMES: u8 = 30;

/// What the host measured of a layer over about a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerRate {
    /// Bits per second on the wire, by temporal layer, those below included; from the highest one on the same.
    pub bps: [u64; MAX_TEMPORAL],
    /// Temporal layers; 1 where the payload tells of none.
    pub temporal_layers: u8,
    /// Frames per second, of all temporal layers together; 0: not known.
    pub frames: u8,
}

/// Bits per second assumed for a layer of this height: what browsers send by default for simulcast cameras.
pub(crate) fn assumed_bps(height: u16) -> u64 {
    match height {
        0..=240 => 150_000,
        241..=480 => 500_000,
        481..=800 => 1_700_000,
        _ => 3_500_000,
    }
}

/// What is kept of the measurements of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rates {
    /// Follows a rise in halves (a key frame is a short one), a fall slowly.
    cost: [u64; MAX_TEMPORAL],
    /// The latest.
    latest: LayerRate,
    /// What decisions were last made with: the cost, the latest.
    used: [u64; 2],
    /// The highest cost since its fall was told.
    peak: u64,
}

/// What a measurement is to those for whom decisions were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing.
    None,
    /// A cost has fallen: there may be room for a step up that was waited for.
    Fallen,
    /// Any decision may change by it.
    Changed,
}

impl Rates {
    /// Takes a measurement. `slow`: a screen, where a still picture says little about the next one.
    pub(crate) fn take(&mut self, rate: LayerRate, slow: bool) -> News {
        let rate = LayerRate {
            temporal_layers: rate.temporal_layers.clamp(1, u8::try_from(MAX_TEMPORAL).unwrap_or(1)),
            ..rate
        };
        let first = self.latest == LayerRate::default();
        for (cost, new) in self.cost.iter_mut().zip(rate.bps) {
            *cost = match (first, new > *cost) {
                (true, _) => new,
                (_, true) => *cost + (new - *cost) / 2,
                (_, false) => *cost - (*cost - new) / if slow { 16 } else { 4 },
            };
        }
        let layers_differ = rate.temporal_layers != self.latest.temporal_layers;
        let frames_differ = rate.frames.abs_diff(self.latest.frames) > 3;
        self.latest = rate;
        let all = [self.cost[MAX_TEMPORAL - 1], rate.bps[MAX_TEMPORAL - 1]];
        let noise = [NOISE_PERCENT, 2 * NOISE_PERCENT];
        let differs = self.used.iter().zip(all).zip(noise).any(|((used, new), percent)| {
            used.abs_diff(new).saturating_mul(100) > used.saturating_mul(percent)
        });
        if differs {
            self.used = all;
        }
        self.peak = self.peak.max(all[0]);
        let fallen = all[0].saturating_mul(100) <= self.peak.saturating_mul(100 - FALLEN_PERCENT);
        if differs || fallen {
            self.peak = all[0];
        }
        match () {
            () if differs || layers_differ || frames_differ => News::Changed,
            () if fallen => News::Fallen,
            () => News::None,
        }
    }

    /// Something was measured.
    pub(crate) fn known(&self) -> bool {
        self.cost[MAX_TEMPORAL - 1] > 0
    }

    /// Temporal layers, at least 1.
    pub(crate) fn temporal_layers(&self) -> u8 {
        self.latest.temporal_layers.max(1)
    }

    /// Bits per second with temporal layers up to `temporal`.
    pub(crate) fn cost(&self, temporal: u8) -> u64 {
        self.cost[usize::from(temporal).min(MAX_TEMPORAL - 1)]
    }

    /// The same as last measured.
    pub(crate) fn latest(&self, temporal: u8) -> u64 {
        self.latest.bps[usize::from(temporal).min(MAX_TEMPORAL - 1)]
    }

    /// The highest temporal layer with no more frames per second than `cap`, the lowest if there is none. Each layer
    /// doubles the rate of those below.
    pub(crate) fn temporal_below(&self, cap: Option<u8>) -> u8 {
        let top = self.temporal_layers() - 1;
        let Some(cap) = cap else { return top };
        let all = u16::from(if self.latest.frames == 0 { ASSUMED_FRAMES } else { self.latest.frames });
        // A camera of 30 frames per second is measured with 29 to 32.
        let fits = |t: &u8| all >> (top - t) <= u16::from(cap) + u16::from(cap) / 8;
        (0..=top).rev().find(fits).unwrap_or(0)
    }
}

/// Of spatial layers each comes with all below it: what the layers cost together, from what each was measured with alone.
pub(crate) fn stacked(mut rates: [Rates; MAX_LAYERS as usize]) -> [Rates; MAX_LAYERS as usize] {
    // The marker, by which frames are counted, stands at the end of the highest layer.
    let frames = rates.iter().map(|r| r.latest.frames).max().unwrap_or_default();
    let (mut cost, mut latest) = ([0u64; MAX_TEMPORAL], [0u64; MAX_TEMPORAL]);
    for layer in rates.iter_mut().filter(|r| r.known()) {
        for t in 0..MAX_TEMPORAL {
            cost[t] = cost[t].saturating_add(layer.cost[t]);
            latest[t] = latest[t].saturating_add(layer.latest.bps[t]);
        }
        layer.cost = cost;
        layer.latest = LayerRate { bps: latest, frames, ..layer.latest };
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spatial_layers_cost_what_is_below_them_too() {
        let mut rates = [Rates::default(); MAX_LAYERS as usize];
        rates[0].take(rate(100_000, 3, 0), false);
        rates[2].take(rate(400_000, 3, 30), false);
        let stacked = stacked(rates);
        assert_eq!((stacked[0].cost(0), stacked[0].cost(2)), (50_000, 100_000));
        assert_eq!((stacked[2].cost(0), stacked[2].latest(2)), (250_000, 500_000));
        assert!(!stacked[1].known());
        assert_eq!(stacked[0].temporal_below(Some(15)), 1);
    }

    fn rate(all: u64, layers: u8, frames: u8) -> LayerRate {
        LayerRate { bps: [all / 2, all * 3 / 4, all, all], temporal_layers: layers, frames }
    }

    #[test]
    fn a_rise_is_followed_fast_and_noise_not_at_all() {
        let mut rates = Rates::default();
        assert_eq!(rates.take(rate(1_000_000, 3, 30), false), News::Changed);
        assert_eq!((rates.cost(0), rates.cost(2), rates.cost(9)), (500_000, 1_000_000, 1_000_000));
        assert_eq!(rates.take(rate(1_100_000, 3, 31), false), News::None);
        assert_eq!(rates.take(rate(2_000_000, 3, 30), false), News::Changed);
        assert_eq!(rates.cost(2), 1_525_000);
        let mut screen = rates;
        for _ in 0..8 {
            rates.take(rate(0, 3, 30), false);
            screen.take(rate(0, 3, 30), true);
        }
        assert!(rates.cost(2) < 200_000 && screen.cost(2) > 800_000);
    }

    #[test]
    fn what_a_key_frame_has_put_on_top_is_told_as_it_goes() {
        let mut rates = Rates::default();
        rates.take(rate(1_000_000, 3, 30), false);
        assert_eq!(rates.take(rate(1_250_000, 3, 30), false), News::None);
        let fall: Vec<News> = (0..8).map(|_| rates.take(rate(1_000_000, 3, 30), false)).collect();
        // It is told each time that another hundredth has gone, and then no more.
        assert_eq!((fall[0], fall[7]), (News::Fallen, News::None));
        assert!(fall.iter().filter(|news| **news == News::Fallen).count() >= 5, "{fall:?}");
        assert!(rates.cost(2) < 1_030_000);
    }

    #[test]
    fn frame_rates_are_capped_by_temporal_layers() {
        let mut rates = Rates::default();
        assert_eq!(rates.temporal_below(Some(1)), 0);
        rates.take(rate(1, 3, 31), false);
        let below = |cap| rates.temporal_below(cap);
        assert_eq!(
            [below(None), below(Some(60)), below(Some(29)), below(Some(15)), below(Some(7))],
            [2, 2, 2, 1, 0]
        );
        assert_eq!([below(Some(10)), below(Some(1))], [0, 0]);
        rates.take(rate(1, 9, 0), false);
        assert_eq!((rates.temporal_layers(), below_all(&rates)), (4, 2));
    }

    fn below_all(rates: &Rates) -> u8 {
        rates.temporal_below(Some(16))
    }
}
