//! The trend of the queueing delay and whether it means overuse (draft-ietf-rmcat-gcc-02, section 5.4, whose Kalman
//! filter libwebrtc has replaced by a regression): `modules/congestion_controller/goog_cc/trendline_estimator.cc`.

use super::arrival::Delta;

/// Groups of the regression (`kDefaultTrendlineWindowSize`).
const WINDOW: usize = 20;
/// Of the smoothed delay (`kDefaultTrendlineSmoothingCoeff`).
const SMOOTHING: f64 = 0.9;
/// Scales the trend to the threshold (`kDefaultTrendlineThresholdGain`).
const GAIN: f64 = 4.0;
/// Groups beyond which more of them do not scale it further (`kMinNumDeltas`).
const MAX_COUNT: u32 = 60;
/// Beyond this over the threshold it does not adapt (`kMaxAdaptOffsetMs`).
const MAX_ADAPT_MS: f64 = 15.0;
/// Overuse must last this long (`kOverUsingTimeThreshold`).
const OVERUSE_MS: f64 = 10.0;
/// The threshold at first, its bounds, and how fast it moves up and down (draft, section 5.4).
const THRESHOLD_MS: f64 = 12.5;
const MIN_THRESHOLD_MS: f64 = 6.0;
const MAX_THRESHOLD_MS: f64 = 600.0;
const THRESHOLD_UP: f64 = 0.0087;
const THRESHOLD_DOWN: f64 = 0.039;
/// The longest time that the threshold adapts for in one step.
const MAX_STEP_MS: f64 = 100.0;

/// What the delay tells of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Usage {
    /// Queues drain.
    Under,
    #[default]
    Normal,
    /// Queues grow.
    Over,
}

/// Trendline and detector.
#[derive(Debug)]
pub(super) struct Trend {
    count: u32,
    first_arrival_us: Option<i64>,
    accumulated_ms: f64,
    smoothed_ms: f64,
    window: Window,
    slope: f64,
    previous_slope: f64,
    threshold_ms: f64,
    adapted_ms: Option<f64>,
    over_ms: Option<f64>,
    over_count: u32,
    usage: Usage,
}

impl Default for Trend {
    fn default() -> Self {
        Self {
            count: 0,
            first_arrival_us: None,
            accumulated_ms: 0.0,
            smoothed_ms: 0.0,
            window: Window::default(),
            slope: 0.0,
            previous_slope: 0.0,
            threshold_ms: THRESHOLD_MS,
            adapted_ms: None,
            over_ms: None,
            over_count: 0,
            usage: Usage::Normal,
        }
    }
}

impl Trend {
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes the variation of a group that arrived at `arrival_us`.
    pub(super) fn add(&mut self, arrival_us: i64, delta: Delta) {
        self.count = self.count.saturating_add(1);
        let first = *self.first_arrival_us.get_or_insert(arrival_us);
        let at_ms = (arrival_us - first) as f64 / 1e3;
        self.accumulated_ms += delta.arrival_ms - delta.sent_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.accumulated_ms;
        self.window.push((at_ms, self.smoothed_ms));
        self.slope = self.window.slope().unwrap_or(self.slope);
        self.detect(at_ms, delta.sent_ms);
    }

    fn detect(&mut self, at_ms: f64, sent_ms: f64) {
        if self.count < 2 {
            return;
        }
        let scaled = f64::from(self.count.min(MAX_COUNT)) * self.slope * GAIN;
        if scaled > self.threshold_ms {
            // At first half of the time between the groups, on average, was overuse.
            let over_ms = self.over_ms.map_or(sent_ms / 2.0, |ms| ms + sent_ms);
            self.over_ms = Some(over_ms);
            self.over_count += 1;
            if over_ms > OVERUSE_MS && self.over_count > 1 && self.slope >= self.previous_slope {
                self.over_ms = Some(0.0);
                self.over_count = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.over_ms = None;
            self.over_count = 0;
            self.usage = if scaled < -self.threshold_ms { Usage::Under } else { Usage::Normal };
        }
        self.previous_slope = self.slope;
        self.adapt(at_ms, scaled.abs());
    }

    /// The threshold follows the usual variation of the path, so that TCP beside us does not starve us.
    fn adapt(&mut self, at_ms: f64, scaled: f64) {
        let last = self.adapted_ms.replace(at_ms).unwrap_or(at_ms);
        if scaled > self.threshold_ms + MAX_ADAPT_MS {
            return;
        }
        let rate = if scaled < self.threshold_ms { THRESHOLD_DOWN } else { THRESHOLD_UP };
        let step_ms = (at_ms - last).clamp(0.0, MAX_STEP_MS);
        let threshold = self.threshold_ms + rate * (scaled - self.threshold_ms) * step_ms;
        self.threshold_ms = threshold.clamp(MIN_THRESHOLD_MS, MAX_THRESHOLD_MS);
    }
}

/// The last points: arrival and smoothed delay, in ms. Here, and not behind a pointer, it comes with the rest of the estimator.
#[derive(Debug, Default)]
struct Window {
    points: [(f64, f64); WINDOW],
    /// Points that came, up to as many as there are places; and where the next one goes.
    count: usize,
    next: usize,
}

impl Window {
    fn push(&mut self, point: (f64, f64)) {
        self.points[self.next] = point;
        self.next = (self.next + 1) % WINDOW;
        self.count = (self.count + 1).min(WINDOW);
    }

    /// Least squares; `None`: there are too few, or all are at one moment. In one pass, of times since the first point: a sum of
    /// squares of a call's whole time would lose the differences.
    fn slope(&self) -> Option<f64> {
        if self.count < WINDOW {
            return None;
        }
        let (newer, older) = self.points.split_at(self.next);
        let zero = self.points[self.next].0;
        let (mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0);
        for &(at, delay) in older.iter().chain(newer) {
            let at = at - zero;
            x += at;
            y += delay;
            xx += at * at;
            xy += at * delay;
        }
        let count = WINDOW as f64;
        let below = count * xx - x * x;
        (below > 0.0).then(|| (count * xy - x * y) / below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups each 20 ms, with this much more delay each.
    fn after(trend: &mut Trend, begin: i64, groups: i64, more_ms: f64) -> Vec<Usage> {
        let add = |i| {
            trend.add((begin + i) * 20_000, Delta { sent_ms: 20.0, arrival_ms: 20.0 + more_ms });
            trend.usage()
        };
        (0..groups).map(add).collect()
    }

    #[test]
    fn a_growing_queue_is_overuse_and_a_draining_one_underuse() {
        let mut trend = Trend::default();
        assert!(after(&mut trend, 0, 60, 0.0).iter().all(|u| *u == Usage::Normal));
        let got = after(&mut trend, 60, 30, 4.0);
        let first = got.iter().position(|u| *u == Usage::Over).unwrap();
        assert!(first < 15, "after {first} groups");
        assert!(after(&mut trend, 90, 60, -2.0).contains(&Usage::Under));
        assert_eq!(after(&mut trend, 150, 60, 0.0).last(), Some(&Usage::Normal));
    }

    #[test]
    fn jitter_is_not_overuse() {
        let mut trend = Trend::default();
        for i in 0..500 {
            let more = [3.0, -3.0, 5.0, -5.0, 1.0, -1.0][usize::try_from(i % 6).unwrap()];
            trend.add(i * 20_000, Delta { sent_ms: 20.0, arrival_ms: 20.0 + more });
            assert_ne!(trend.usage(), Usage::Over, "{i}");
        }
        assert!(trend.threshold_ms <= THRESHOLD_MS);
    }
}
