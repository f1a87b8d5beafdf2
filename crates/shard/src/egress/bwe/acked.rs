//! The acknowledged bitrate: what really arrives. `modules/congestion_controller/goog_cc/bitrate_estimator.cc` and
//! `acknowledged_bitrate_estimator.cc` of libwebrtc.

use super::history::Arrived;

/// Windows of the first and of later samples (`kInitialRateWindow`, `kRateWindow`).
const FIRST_WINDOW_MS: f64 = 500.0;
const WINDOW_MS: f64 = 150.0;
/// How far a sample is believed; less where the application limits the rate (`uncertainty_scale`, `.._in_alr`).
const UNCERTAINTY: f64 = 10.0;
const UNCERTAINTY_LIMITED: f64 = 20.0;
/// The variance grows by this with each sample, and by this when the rate is known to change.
const VARIANCE_STEP: f64 = 5.0;
const VARIANCE_CHANGE: f64 = 200.0;
const FIRST_VARIANCE: f64 = 50.0;

/// A Bayesian estimate from samples of windows.
#[derive(Debug, Default)]
pub(super) struct Acked {
    kbps: Option<f64>,
    variance: f64,
    window_ms: f64,
    bytes: u64,
    /// The last window's rate.
    sample_kbps: f64,
    last_us: Option<i64>,
}

impl Acked {
    /// Bits per second; `None` before the first window is full.
    pub(super) fn bps(&self) -> Option<f64> {
        self.kbps.map(|k| k * 1e3)
    }

    /// As [`Acked::bps`], or the last window's where more arrived in it. A slot that goes up a layer multiplies its rate
    /// in one step, which the filter follows over a second; what a queue gives out meanwhile is what the link carries.
    pub(super) fn recent_bps(&self) -> Option<f64> {
        self.kbps.map(|k| k.max(self.sample_kbps) * 1e3)
    }

    /// The last window's rate alone.
    pub(super) fn last_bps(&self) -> f64 {
        self.sample_kbps * 1e3
    }

    /// The application has begun to send more: samples are believed sooner.
    pub(super) fn expect_change(&mut self) {
        self.variance += VARIANCE_CHANGE;
    }

    /// Takes a packet that has arrived. `limited`: the application sends less than it could.
    pub(super) fn add(&mut self, packet: &Arrived, limited: bool) {
        let length_ms = if self.kbps.is_some() { WINDOW_MS } else { FIRST_WINDOW_MS };
        let Some(kbps) = self.sample(packet, length_ms) else { return };
        self.sample_kbps = kbps;
        let Some(old) = self.kbps else {
            (self.kbps, self.variance) = (Some(kbps), FIRST_VARIANCE);
            return;
        };
        let scale = if limited && kbps < old { UNCERTAINTY_LIMITED } else { UNCERTAINTY };
        let uncertainty = scale * (old - kbps).abs() / old.max(1.0);
        let sample_variance = uncertainty * uncertainty;
        let predicted = self.variance + VARIANCE_STEP;
        let sum = sample_variance + predicted;
        self.kbps = Some(((sample_variance * old + predicted * kbps) / sum).max(0.0));
        self.variance = sample_variance * predicted / sum;
    }

    /// The rate of a window that is over.
    fn sample(&mut self, packet: &Arrived, length_ms: f64) -> Option<f64> {
        let last_us = self.last_us.replace(packet.arrival_us).unwrap_or(packet.arrival_us);
        let passed_ms = (packet.arrival_us - last_us) as f64 / 1e3;
        if passed_ms < 0.0 {
            (self.bytes, self.window_ms) = (0, 0.0);
        }
        self.window_ms += passed_ms.max(0.0);
        // Nothing for more than a window: that time tells nothing.
        if passed_ms > length_ms {
            self.bytes = 0;
            self.window_ms %= length_ms;
        }
        let sample = (self.window_ms >= length_ms).then(|| {
            self.window_ms -= length_ms;
            8.0 * std::mem::take(&mut self.bytes) as f64 / length_ms
        });
        self.bytes += u64::from(packet.bytes);
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(acked: &mut Acked, begin_ms: i64, time_ms: i64, bytes: u32) {
        for at in (begin_ms..begin_ms + time_ms).step_by(10) {
            let packet = Arrived { sent_us: 0, arrival_us: at * 1_000, bytes, cluster: 0 };
            acked.add(&packet, false);
        }
    }

    #[test]
    fn it_follows_what_arrives() {
        let mut acked = Acked::default();
        send(&mut acked, 0, 490, 1_250);
        assert_eq!(acked.bps(), None);
        send(&mut acked, 490, 1_000, 1_250);
        let bps = acked.bps().unwrap();
        assert!((980_000.0..1_020_000.0).contains(&bps), "{bps}");
        send(&mut acked, 1_490, 1_000, 250);
        let bps = acked.bps().unwrap();
        assert!((190_000.0..400_000.0).contains(&bps), "{bps}");
        // A pause is no rate of zero.
        send(&mut acked, 10_000, 100, 250);
        assert!(acked.bps().unwrap() > 150_000.0);
    }
}
