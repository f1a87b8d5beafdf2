//! The bound by loss (draft-ietf-rmcat-gcc-02, section 6), with the intervals of libwebrtc's
//! `modules/bitrate_controller/send_side_bandwidth_estimation.cc`. It only ever bounds the delay-based rate.
//!
//! What a path loses however little is sent is no congestion: less would not help, and the subscriber would starve. So the
//! least loss of the last seconds is taken off (ours; libwebrtc's `loss_based_bwe_v2` has an "inherent loss" for the same
//! reason). Where congestion loses, each decrease, down to what arrives, brings that least loss back to nothing.
//!
//! And a link that is full has a queue first. What is lost while none stands is the path's (or a policer's).

use std::collections::VecDeque;

/// Below this share of loss the bound grows, above that it shrinks (draft: 2 % and 10 %).
const LOW: f64 = 0.02;
const HIGH: f64 = 0.10;
/// Packets for a share that means something (`kLimitNumPackets`).
const MIN_PACKETS: i64 = 20;
/// Inherent loss is the least of so many windows of this length and so many packets.
const WINDOWS: usize = 8;
const WINDOW_US: u64 = 1_000_000;
const WINDOW_PACKETS: i64 = 50;
/// More than this is not believed to be inherent.
const MAX_INHERENT: f64 = 0.35;
/// Between two decreases: this and a round trip (`kBweDecreaseInterval`).
const DECREASE_US: u64 = 300_000;
/// Growth: so much per second (`kBweIncreaseInterval`).
const INCREASE_US: u64 = 1_000_000;
const GROWTH: f64 = 1.08;
const GROWTH_EXTRA_BPS: f64 = 1_000.0;
/// A probe that got through lifts the bound when it was not lowered for so long. A path that is policed lets one through, too, and
/// then loses again: where it was lowered so soon after that, the next waits twice as long, up to a bound.
const LIFT_US: u64 = 2_000_000;
const REGRET_US: u64 = 4_000_000;
const MAX_LIFT_US: u64 = 64_000_000;

/// The bound and what was lost since it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Loss {
    bound: Option<f64>,
    arrived: i64,
    missing: i64,
    decreased_us: u64,
    increased_us: u64,
    share: f64,
    /// Shares of past windows; what of them is asked for with each message is kept beside it.
    windows: VecDeque<f64>,
    past: Option<Past>,
    window: Window,
    /// When a queue last stood on the path.
    queued_us: Option<u64>,
    /// When a probe has lifted the bound, and how long it has to stand before the next does.
    lifted_us: Option<u64>,
    patience_us: Option<u64>,
}

/// Of past windows: the last one's share, the least and the mean.
#[derive(Debug, Clone, Copy)]
struct Past {
    last: f64,
    least: f64,
    mean: f64,
}

/// The window under way.
#[derive(Debug, Default)]
struct Window {
    begun_us: u64,
    arrived: i64,
    missing: i64,
}

impl Loss {
    /// `None`: loss does not limit.
    pub(super) fn bound(&self) -> Option<f64> {
        self.bound
    }

    /// More is lost than the path loses by itself.
    pub(super) fn is_high(&self) -> bool {
        self.share > HIGH + self.inherent()
    }

    /// What is lost, in the last packets told.
    pub(super) fn share(&self) -> f64 {
        self.past.map_or(self.share, |past| past.last)
    }

    /// What was lost over the last seconds.
    pub(super) fn mean(&self) -> f64 {
        self.past.map_or(self.share, |past| past.mean)
    }

    fn inherent(&self) -> f64 {
        self.past.map_or(0.0, |past| past.least)
    }

    /// A queue stands on the path.
    pub(super) fn queued(&mut self, now_us: u64) {
        self.queued_us = Some(now_us);
    }

    /// Something is lost, over seconds in which no queue stood: not because too much was sent.
    pub(super) fn is_of_the_path(&self, now_us: u64) -> bool {
        let seconds = WINDOW_US * WINDOWS as u64;
        self.mean() > LOW && self.queued_us.is_none_or(|at| now_us.saturating_sub(at) > seconds)
    }

    fn take_window(&mut self, now_us: u64, (arrived, missing): (i64, i64)) {
        let window = &mut self.window;
        window.arrived += arrived;
        window.missing += missing;
        let all = window.arrived + window.missing;
        if all < WINDOW_PACKETS || now_us.saturating_sub(window.begun_us) < WINDOW_US {
            return;
        }
        let share = window.missing.max(0) as f64 / all as f64;
        *window = Window { begun_us: now_us, arrived: 0, missing: 0 };
        if self.windows.len() == WINDOWS {
            self.windows.pop_front();
        }
        self.windows.push_back(share);
        let least = self.windows.iter().copied().fold(MAX_INHERENT, f64::min);
        let mean = self.windows.iter().sum::<f64>() / self.windows.len() as f64;
        self.past = Some(Past { last: share, least, mean });
    }

    /// A probe got through at this rate.
    pub(super) fn probed(&mut self, bps: f64) {
        self.bound = self.bound.map(|bound| bound.max(bps));
    }

    /// A probe got through at this rate, below the rate by delay: what was lost may be over. (libwebrtc takes every probe's result for
    /// the estimate: `SendSideBandwidthEstimation::SetSendBitrate`.)
    pub(super) fn got_through(&mut self, now_us: u64, bps: f64) {
        let stood_us = now_us.saturating_sub(self.decreased_us);
        let calm = self.share < LOW && self.share() < LOW;
        if calm && stood_us >= self.patience_us.unwrap_or(LIFT_US) && self.bound.is_some_and(|b| b < bps) {
            self.bound = Some(bps);
            self.lifted_us = Some(now_us);
        }
    }

    /// The bound is lowered: whether it was lifted in vain.
    fn regret(&mut self, now_us: u64) {
        if let Some(at) = self.lifted_us.take() {
            let in_vain = now_us.saturating_sub(at) < REGRET_US;
            let longer = self.patience_us.unwrap_or(LIFT_US) * 2;
            self.patience_us = in_vain.then_some(longer.min(MAX_LIFT_US));
        }
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
        self.take_window(now_us, (arrived, missing));
        self.arrived += arrived;
        self.missing += missing;
        let all = self.arrived + self.missing;
        if all < MIN_PACKETS {
            return;
        }
        self.share = self.missing.max(0) as f64 / all as f64;
        (self.arrived, self.missing) = (0, 0);
        let inherent = self.inherent();
        if self.share > HIGH + inherent {
            let Some(from) = target.or(acked) else { return };
            if now_us.saturating_sub(self.decreased_us) >= DECREASE_US + rtt_us {
                let lowered = from * (1.0 - 0.5 * (self.share - inherent));
                self.bound = Some(acked.map_or(lowered, |acked| lowered.max(acked.min(from))));
                (self.decreased_us, self.increased_us) = (now_us, now_us);
                self.regret(now_us);
            }
        } else if self.share < LOW + inherent
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

    #[test]
    fn a_probe_lifts_it_when_loss_is_over_and_more_rarely_where_that_was_in_vain() {
        let mut loss = Loss::default();
        seconds(&mut loss, 1, 5, (98, 2), 5e5);
        seconds(&mut loss, 6, 2, (50, 50), 5e5);
        let low = loss.bound().unwrap();
        loss.got_through(8_000_000, 2e6);
        assert_eq!(loss.bound(), Some(low), "it loses still");
        let mut lifted = Vec::new();
        for second in 8..60 {
            // A policed line: what is above its rate is lost.
            let told = if loss.bound().is_some_and(|b| b > 1.5e6) { (50, 50) } else { (100, 0) };
            seconds(&mut loss, second, 1, told, 5e5);
            let before = loss.bound();
            loss.got_through((second + 1) * 1_000_000, 2e6);
            lifted.extend((loss.bound() > before).then_some(second));
        }
        let pauses: Vec<_> = lifted.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.windows(2).all(|pair| pair[1] > pair[0]), "{lifted:?}");
        assert!((3..6).contains(&lifted.len()), "{lifted:?}");
    }

    #[test]
    fn what_is_lost_while_no_queue_stands_is_the_paths() {
        let mut loss = Loss::default();
        seconds(&mut loss, 1, 10, (90, 10), 5e5);
        assert!(loss.is_of_the_path(11_000_000));
        loss.queued(11_000_000);
        seconds(&mut loss, 11, 8, (90, 10), 5e5);
        assert!(!loss.is_of_the_path(19_000_000));
        seconds(&mut loss, 19, 1, (90, 10), 5e5);
        assert!(loss.is_of_the_path(20_000_000));
        seconds(&mut loss, 20, 9, (99, 1), 5e5);
        assert!(!loss.is_of_the_path(29_000_000), "it is nearly nothing");
    }

    #[test]
    fn what_is_lost_however_little_is_sent_does_not_bound() {
        let mut loss = Loss::default();
        seconds(&mut loss, 1, 10, (70, 30), 7e5);
        assert!(!loss.is_high());
        loss.lift(6e5);
        seconds(&mut loss, 11, 10, (70, 30), 7e5);
        assert_eq!(loss.bound(), None);
        // Twice as much is something else.
        seconds(&mut loss, 21, 1, (40, 60), 4e5);
        assert!(loss.is_high() && loss.bound().is_some());
    }
}
