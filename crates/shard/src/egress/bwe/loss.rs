//! The bound by loss (draft-ietf-rmcat-gcc-02, section 6), with the intervals of libwebrtc's
//! `modules/bitrate_controller/send_side_bandwidth_estimation.cc`. It only ever bounds the delay-based rate.

/// Below this share of loss the bound grows, above that it shrinks (draft: 2 % and 10 %).
const LOW: f64 = 0.02;
const HIGH: f64 = 0.10;
/// Packets for a share that means something (`kLimitNumPackets`).
const MIN_PACKETS: i64 = 20;
/// Between two decreases: this and a round trip (`kBweDecreaseInterval`).
const DECREASE_US: u64 = 300_000;
/// Growth: so much per second (`kBweIncreaseInterval`).
const INCREASE_US: u64 = 1_000_000;
const GROWTH: f64 = 1.08;
const GROWTH_EXTRA_BPS: f64 = 1_000.0;

/// The bound and what was lost since it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Loss {
    bound: Option<f64>,
    arrived: i64,
    missing: i64,
    decreased_us: u64,
    increased_us: u64,
    share: f64,
}

impl Loss {
    /// `None`: loss does not limit.
    pub(super) fn bound(&self) -> Option<f64> {
        self.bound
    }

    /// More is lost than the path loses by itself.
    pub(super) fn is_high(&self) -> bool {
        self.share > HIGH
    }

    /// A probe got through at this rate.
    pub(super) fn probed(&mut self, bps: f64) {
        self.bound = self.bound.map(|bound| bound.max(bps));
    }

    /// Takes what a message has told. `target`: the estimate until now; `acked`: what arrives, below which random loss
    /// alone does not bring it.
    pub(super) fn update(
        &mut self,
        now_us: u64,
        (arrived, missing): (i64, i64),
        target: Option<f64>,
        acked: Option<f64>,
        rtt_us: u64,
    ) {
        self.arrived += arrived;
        self.missing += missing;
        let all = self.arrived + self.missing;
        if all < MIN_PACKETS {
            return;
        }
        self.share = self.missing.max(0) as f64 / all as f64;
        (self.arrived, self.missing) = (0, 0);
        if self.share > HIGH {
            let Some(from) = target.or(acked) else { return };
            if now_us.saturating_sub(self.decreased_us) >= DECREASE_US + rtt_us {
                let lowered = from * (1.0 - 0.5 * self.share);
                self.bound = Some(acked.map_or(lowered, |acked| lowered.max(acked.min(from))));
                (self.decreased_us, self.increased_us) = (now_us, now_us);
            }
        } else if self.share < LOW
            && let Some(bound) = self.bound
            && now_us.saturating_sub(self.increased_us) >= INCREASE_US
        {
            self.bound = Some(bound * GROWTH + GROWTH_EXTRA_BPS);
            self.increased_us = now_us;
        }
    }

    /// Once it is above the delay-based rate it limits nothing.
    pub(super) fn lift(&mut self, rate: f64) {
        self.bound = self.bound.filter(|bound| *bound < rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(loss: &mut Loss, begin: u64, count: u64, told: (i64, i64), acked: f64) {
        for i in 0..count * 10 {
            let target = loss.bound().or(Some(1e6));
            loss.update((begin * 10 + i) * 100_000, told, target, Some(acked), 50_000);
        }
    }

    #[test]
    fn it_follows_heavy_loss_down_and_grows_back() {
        let mut loss = Loss::default();
        seconds(&mut loss, 1, 5, (98, 2), 5e5);
        assert_eq!(loss.bound(), None);
        seconds(&mut loss, 6, 5, (95, 5), 5e5);
        assert_eq!(loss.bound(), None, "between 2 and 10 % nothing changes");
        seconds(&mut loss, 11, 1, (50, 50), 5e5);
        let bound = loss.bound().unwrap();
        assert!((500_000.0..700_000.0).contains(&bound), "{bound}");
        seconds(&mut loss, 12, 10, (50, 50), 5e5);
        assert_eq!(loss.bound(), Some(5e5), "not below what arrives");
        seconds(&mut loss, 22, 10, (100, 0), 5e5);
        assert!(loss.bound().unwrap() > 9e5);
        loss.lift(8e5);
        assert_eq!(loss.bound(), None);
    }
}
