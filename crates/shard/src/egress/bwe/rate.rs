//! Additive increase, multiplicative decrease (draft-ietf-rmcat-gcc-02, section 5.5), as in libwebrtc's
//! `modules/remote_bitrate_estimator/aimd_rate_control.cc` and `.../goog_cc/link_capacity_estimator.cc`.

use super::trend::Usage;

/// After overuse: this share of what arrived (draft: beta).
const BETA: f64 = 0.85;
/// Far from the capacity: so much more per second (draft: eta).
const GROWTH_PER_SECOND: f64 = 1.08;
/// Never beyond this multiple of what arrives, and 10 kbit/s (draft: 1.5 times).
const MAX_RATIO: f64 = 1.5;
const MAX_RATIO_EXTRA_BPS: f64 = 10_000.0;
/// Near the capacity at least this much more per second (`kDefaultMinIncreaseRate..`).
const MIN_INCREASE_BPS: f64 = 4_000.0;
/// Near the capacity: a packet per response time; frames of 30 per second in packets of this size (draft, 5.5).
const FRAMES_PER_SECOND: f64 = 30.0;
const PACKET_BITS: f64 = 1_200.0 * 8.0;
/// Added to the round trip: until over-use is seen (draft, 5.5).
const RESPONSE_MS: f64 = 100.0;
/// Between two decreases for one overuse: the round trip, in these bounds.
const MIN_BACKOFF_US: u64 = 10_000;
const MAX_BACKOFF_US: u64 = 200_000;
/// Of the link capacity estimator: smoothing, and bounds of the normalised variance.
const CAPACITY_SMOOTHING: f64 = 0.05;
const MIN_DEVIATION: f64 = 0.4;
const MAX_DEVIATION: f64 = 2.5;
/// A link that has narrowed gives this share of what it carries: its queue is to drain, and it may narrow further.
const NARROWED: f64 = 0.7;
/// Nothing but loss takes it below this where no queue was seen: the lowest layers.
pub(super) const UNQUEUED_MIN_BPS: f64 = 300_000.0;
/// Without overuse what has arrived after this time is the first estimate (`kInitializationTime`).
const FIRST_US: u64 = 5_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    Increase,
    Decrease,
    #[default]
    Hold,
}

/// At which rates overuse was seen.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    kbps: Option<f64>,
    variance: f64,
}

impl Capacity {
    const UNKNOWN: Self = Self { kbps: None, variance: MIN_DEVIATION };

    fn add(&mut self, bps: f64) {
        let sample = bps / 1e3;
        let old = self.kbps.unwrap_or(sample);
        let kbps = (1.0 - CAPACITY_SMOOTHING) * old + CAPACITY_SMOOTHING * sample;
        let error = (kbps - sample) * (kbps - sample) / kbps.max(1.0);
        let variance = (1.0 - CAPACITY_SMOOTHING) * self.variance + CAPACITY_SMOOTHING * error;
        self.kbps = Some(kbps);
        self.variance = variance.clamp(MIN_DEVIATION, MAX_DEVIATION);
    }

    /// Three standard deviations below and above, in bits per second.
    fn bounds(&self) -> Option<(f64, f64)> {
        let kbps = self.kbps?;
        let three = 3.0 * (self.variance * kbps).sqrt();
        Some(((kbps - three).max(0.0) * 1e3, (kbps + three) * 1e3))
    }
}

impl Default for Capacity {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

/// What the estimate is at least, in bits per second. `queued`: a queue was seen in the last seconds.
pub(super) fn least(queued: bool) -> f64 {
    if queued { 0.0 } else { UNQUEUED_MIN_BPS }
}

/// The delay-based rate.
#[derive(Debug, Default)]
pub(super) struct Rate {
    bps: Option<f64>,
    state: State,
    capacity: Capacity,
    changed_us: u64,
    decreased_us: u64,
    first_us: Option<u64>,
    /// There is more to send than arrives: what arrives limits. Otherwise it tells nothing of the path.
    wants_more: bool,
}

impl Rate {
    /// `None`: nothing was measured yet, the path is not known to be limited.
    pub(super) fn bps(&self) -> Option<f64> {
        self.bps
    }

    /// Whether the subscriber is to be sent more than it is.
    pub(super) fn set_wants_more(&mut self, wants_more: bool) {
        self.wants_more = wants_more;
    }

    /// The link carries only `bps` any more.
    pub(super) fn narrow(&mut self, now_us: u64, bps: f64) {
        let bps = bps * NARROWED;
        self.capacity = Capacity::UNKNOWN;
        self.bps = Some(self.bps.map_or(bps, |current| bps.min(current)));
        (self.changed_us, self.decreased_us) = (now_us, now_us);
        self.state = State::Hold;
    }

    /// It is known to be this at least.
    pub(super) fn raise(&mut self, now_us: u64, least: f64) {
        if self.bps.is_some_and(|bps| bps < least) {
            self.set(now_us, least);
        }
    }

    /// A probe has measured it.
    pub(super) fn set(&mut self, now_us: u64, bps: f64) {
        self.forget_capacity(|(_, high)| bps > high);
        self.bps = Some(bps);
        self.changed_us = now_us;
    }

    /// Where overuse was seen tells nothing of a link that carries other rates now.
    fn forget_capacity(&mut self, differs: impl FnOnce((f64, f64)) -> bool) {
        if self.capacity.bounds().is_some_and(differs) {
            self.capacity = Capacity::UNKNOWN;
        }
    }

    /// Takes what the detector says. `acked`: what arrives, in bits per second. `queued`: a queue was seen in the last seconds;
    /// otherwise an overuse is jitter more likely than a limit, and it only does not grow.
    pub(super) fn update(
        &mut self,
        now_us: u64,
        usage: Usage,
        acked: Option<f64>,
        rtt_us: u64,
        queued: bool,
    ) {
        let Some(acked) = acked else {
            return self.halve(now_us, usage, rtt_us);
        };
        let first_us = *self.first_us.get_or_insert(now_us);
        if self.bps.is_none() && usage != Usage::Over {
            if self.wants_more && now_us.saturating_sub(first_us) > FIRST_US {
                self.set(now_us, acked.max(least(queued)));
            }
            return;
        }
        if usage == Usage::Over && !self.may_decrease(now_us, acked, rtt_us) {
            return;
        }
        self.state = match (usage, self.state) {
            (Usage::Over, _) if queued => State::Decrease,
            (Usage::Over | Usage::Under, _) => State::Hold,
            (Usage::Normal, State::Hold) => State::Increase,
            (Usage::Normal, state) => state,
        };
        match self.state {
            State::Increase => self.increase(now_us, acked, rtt_us),
            State::Decrease => self.decrease(now_us, acked),
            State::Hold => self.changed_us = now_us,
        }
    }

    /// Overuse before anything is known of what arrives.
    fn halve(&mut self, now_us: u64, usage: Usage, rtt_us: u64) {
        if let (Usage::Over, Some(bps)) = (usage, self.bps)
            && self.may_decrease(now_us, bps, rtt_us)
        {
            (self.bps, self.changed_us, self.decreased_us) = (Some(bps / 2.0), now_us, now_us);
        }
    }

    fn may_decrease(&self, now_us: u64, acked: f64, rtt_us: u64) -> bool {
        let wait_us = rtt_us.clamp(MIN_BACKOFF_US, MAX_BACKOFF_US);
        let waited = now_us.saturating_sub(self.decreased_us) >= wait_us;
        waited || self.bps.is_none_or(|bps| acked < bps / 2.0)
    }

    fn increase(&mut self, now_us: u64, acked: f64, rtt_us: u64) {
        let Some(bps) = self.bps else { return };
        self.forget_capacity(|(_, high)| acked > high);
        let seconds = now_us.saturating_sub(self.changed_us).min(1_000_000) as f64 / 1e6;
        let more = if self.capacity.kbps.is_some() {
            additive(bps, rtt_us) * seconds
        } else {
            (bps * (GROWTH_PER_SECOND.powf(seconds) - 1.0)).max(1e3 * seconds)
        };
        let limit = MAX_RATIO * acked + MAX_RATIO_EXTRA_BPS;
        self.bps = Some((bps + more).min(limit.max(bps)));
        self.changed_us = now_us;
    }

    fn decrease(&mut self, now_us: u64, acked: f64) {
        self.forget_capacity(|(low, high)| acked < low || acked > high);
        let mut bps = acked * BETA;
        if let Some(current) = self.bps.filter(|current| bps > *current) {
            // The estimate was below what passes: keep to the capacity, if there is one.
            bps = self.capacity.kbps.map_or(current, |k| k * 1e3 * BETA).min(current);
        }
        self.capacity.add(acked);
        self.bps = Some(self.bps.map_or(bps, |current| bps.min(current)));
        (self.changed_us, self.decreased_us) = (now_us, now_us);
        self.state = State::Hold;
    }
}

/// Bits per second more, each second, near the capacity.
fn additive(bps: f64, rtt_us: u64) -> f64 {
    let frame = bps / FRAMES_PER_SECOND;
    let packet = frame / (frame / PACKET_BITS).ceil().max(1.0);
    let response = 2.0 * (rtt_us as f64 / 1e3 + RESPONSE_MS) / 1e3;
    (packet / response).max(MIN_INCREASE_BPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn it_grows_by_eight_percent_and_not_beyond_what_arrives() {
        let mut rate = Rate::default();
        rate.set(0, 500_000.0);
        rate.update(1, Usage::Normal, Some(500_000.0), 50_000, true);
        for i in 1..=10 {
            rate.update(i * SECOND / 10, Usage::Normal, Some(500_000.0), 50_000, true);
        }
        let bps = rate.bps().unwrap();
        assert!((538_000.0..542_000.0).contains(&bps), "{bps}");
        for i in 1..=1_000 {
            rate.update((10 + i) * SECOND / 10, Usage::Normal, Some(500_000.0), 50_000, true);
        }
        assert_eq!(rate.bps(), Some(760_000.0));
        // What was measured does not shrink because less is sent.
        rate.update(200 * SECOND, Usage::Normal, Some(100_000.0), 50_000, true);
        assert_eq!(rate.bps(), Some(760_000.0));
    }

    #[test]
    fn overuse_takes_it_below_what_arrives_once_a_round_trip() {
        let mut rate = Rate::default();
        rate.set(0, 2e6);
        rate.update(SECOND, Usage::Over, Some(1.5e6), 100_000, true);
        assert_eq!(rate.bps(), Some(0.85 * 1.5e6));
        rate.update(SECOND + 50_000, Usage::Over, Some(1.2e6), 100_000, true);
        assert_eq!(rate.bps(), Some(0.85 * 1.5e6));
        rate.update(SECOND + 150_000, Usage::Over, Some(1.2e6), 100_000, true);
        assert_eq!(rate.bps(), Some(0.85 * 1.2e6));
        // Near the capacity it grows slowly.
        rate.update(SECOND + 200_000, Usage::Normal, Some(1.0e6), 100_000, true);
        rate.update(2 * SECOND + 200_000, Usage::Normal, Some(1.0e6), 100_000, true);
        let grown = rate.bps().unwrap() - 0.85 * 1.2e6;
        assert!((4_000.0..40_000.0).contains(&grown), "{grown}");
    }

    #[test]
    fn overuse_without_a_queue_is_no_limit() {
        let mut rate = Rate::default();
        rate.set(0, 2e6);
        for i in 1..=10 {
            rate.update(i * SECOND, Usage::Over, Some(3e5), 50_000, false);
            assert_eq!(rate.bps(), Some(2e6));
        }
        rate.update(11 * SECOND, Usage::Over, Some(3e5), 50_000, true);
        assert_eq!(rate.bps(), Some(0.85 * 3e5));
    }

    #[test]
    fn a_capacity_of_before_is_none_of_a_link_that_has_widened() {
        let over = |rate: &mut Rate, seconds: u64, acked: f64| {
            rate.update(seconds * SECOND, Usage::Over, Some(acked), 50_000, true);
            rate.bps().unwrap()
        };
        let mut rate = Rate::default();
        rate.set(0, 6e5);
        assert_eq!(over(&mut rate, 1, 5e5), 0.85 * 5e5);
        // A probe got through.
        rate.set(2 * SECOND, 2.1e6);
        assert_eq!(over(&mut rate, 3, 2.5e6), 2.1e6);
        // What is near it still is where one goes to.
        assert_eq!(over(&mut rate, 4, 2.55e6), 2.1e6);
    }

    #[test]
    fn where_more_is_wanted_the_first_estimate_is_what_arrives_after_a_while() {
        let mut rate = Rate::default();
        for i in 0..=51 {
            rate.set_wants_more(i > 10);
            rate.update(i * SECOND / 10, Usage::Normal, Some(300_000.0), 50_000, true);
            assert_eq!(rate.bps(), (i > 50).then_some(300_000.0), "{i}");
        }
    }
}
