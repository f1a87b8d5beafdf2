//! Whether the application sends less than it could ("application limited region"):
//! `modules/congestion_controller/goog_cc/alr_detector.cc` and `modules/pacing/interval_budget.cc` of libwebrtc.

/// Below this share of the estimate (`kDefaultBandwidthUsageRatio`).
const USAGE: f64 = 0.65;
/// Unused budget at which it begins and ends (`kDefaultStartBudgetLevelRatio`, `..Stop..`).
const BEGIN: f64 = 0.80;
const END: f64 = 0.50;
/// The budget holds what may be sent in this (`kWindow`).
const WINDOW_S: f64 = 0.5;

/// A budget of bits that grows with time and shrinks with what is sent.
#[derive(Debug, Default)]
pub(super) struct Alr {
    budget_bits: f64,
    last_us: Option<u64>,
    limited: bool,
}

impl Alr {
    pub(super) fn is_limited(&self) -> bool {
        self.limited
    }

    /// So much was sent while the estimate was `bps`. `true`: the application has just begun to use it.
    pub(super) fn sent(&mut self, now_us: u64, bytes: u32, bps: f64) -> bool {
        let target = bps * USAGE;
        let most = target * WINDOW_S;
        let last_us = self.last_us.replace(now_us).unwrap_or(now_us);
        let passed_s = now_us.saturating_sub(last_us) as f64 / 1e6;
        let grown = self.budget_bits + target * passed_s;
        self.budget_bits = (grown.min(most) - f64::from(bytes) * 8.0).max(-most);
        let level = self.budget_bits / most.max(1.0);
        if level > BEGIN && !self.limited {
            self.limited = true;
        } else if level < END && self.limited {
            self.limited = false;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_little_from_much() {
        let mut alr = Alr::default();
        // 300 kbit/s of 1 Mbit/s, then 900.
        for i in 0..200 {
            alr.sent(i * 10_000, 375, 1e6);
        }
        assert!(alr.is_limited());
        let ended = (200..400).filter(|i| alr.sent(i * 10_000, 1_125, 1e6)).count();
        assert_eq!((ended, alr.is_limited()), (1, false));
    }
}
