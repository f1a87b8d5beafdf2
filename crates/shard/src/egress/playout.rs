//! How long a subscriber shall keep pictures before it shows them, by what its line loses: the header extension
//! `playout-delay` (libwebrtc, `docs/native-code/rtp-hdrext/playout-delay`).
//!
//! A player makes its buffer as deep as the jitter that it has seen, which is less than a retransmission takes: on a line that
//! loses a third, a fifth of the pictures came whole, but too late (`docs/design/bandwidth.md`).

use std::time::Duration;

use super::loss::{CALM_US, LITTLE, MUCH, SOME};

/// Its name in a session description.
pub(crate) const URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// What a request and its answer take beside round trips: feedback comes each 50 to 100 ms.
const EXTRA: Duration = Duration::from_millis(100);
/// In steps of this, so that a round trip which wanders moves nothing.
const STEP: Duration = Duration::from_millis(50);
/// More is no conversation.
const MOST: Duration = Duration::from_millis(400);
/// A link that narrows loses for less than this, and fills its queue: that is no round trip to wait for.
const RAISE_US: u64 = 1_500_000;
/// What else a player may want: 10 s, as libwebrtc has it where nothing is said.
const UPPER: u32 = 1_000;
/// A depth that is no longer wanted is taken back with so many packets.
const TAKEN_BACK: u32 = 500;

/// What is asked for, by loss and round trip.
#[derive(Debug, Default)]
pub(super) struct Playout {
    depth: Duration,
    /// Since when more is wanted, and the least of it since.
    more: Option<(u64, Duration)>,
    /// Since when less is wanted, and the most of it since.
    less: Option<(u64, Duration)>,
}

impl Playout {
    /// The depth in force.
    pub(super) fn depth(&self) -> Duration {
        self.depth
    }

    /// So much was lost lately, and so long is the way there and back.
    pub(super) fn update(&mut self, now_us: u64, loss: f64, round_trip: Duration) {
        let wanted = self.wanted(loss, round_trip);
        let lasts = |held: Option<(u64, Duration)>, extreme: fn(Duration, Duration) -> Duration| {
            let (since, depth) = held.unwrap_or((now_us, wanted));
            (since, extreme(depth, wanted))
        };
        self.more = (wanted > self.depth).then(|| lasts(self.more, Duration::min));
        self.less = (wanted < self.depth).then(|| lasts(self.less, Duration::max));
        let due = |held: Option<(u64, Duration)>, after: u64| {
            held.filter(|(since, _)| now_us.saturating_sub(*since) >= after).map(|(_, depth)| depth)
        };
        if let Some(depth) = due(self.more, RAISE_US).or_else(|| due(self.less, CALM_US)) {
            (self.depth, self.more, self.less) = (depth, None, None);
        }
    }

    /// From [`SOME`] on a packet can wait for one retransmission, from [`MUCH`] on for two.
    fn wanted(&self, loss: f64, round_trip: Duration) -> Duration {
        let depth = match loss {
            _ if loss < LITTLE => return Duration::ZERO,
            _ if loss < SOME && self.depth.is_zero() => return Duration::ZERO,
            _ if loss < MUCH => round_trip * 2 + EXTRA,
            _ => round_trip * 3 + EXTRA,
        };
        let steps = u32::try_from(depth.as_millis().div_ceil(STEP.as_millis())).unwrap_or(u32::MAX);
        STEP.saturating_mul(steps).min(MOST)
    }
}

/// What the packets of a line say of it. A player keeps to what it was told last.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// In 10 ms.
    least: u32,
    /// Packets that are still to say that nothing is asked for any more.
    left: u32,
}

impl Said {
    /// What packets say from here on.
    pub(super) fn set(&mut self, depth: Duration) {
        let least = u32::try_from(depth.as_millis() / 10).unwrap_or(0).min(UPPER);
        if least == 0 && self.least > 0 {
            self.left = TAKEN_BACK;
        }
        self.least = least;
    }

    /// A packet was written with what [`Said::value`] gave for it.
    pub(super) fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Least and most, 12 bits of 10 ms each. `None`: there is nothing to say.
    pub(super) fn value(&self) -> Option<[u8; 3]> {
        let [_, value @ ..] = (self.least << 12 | UPPER).to_be_bytes();
        (self.least > 0 || self.left > 0).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn loss_that_lasts_asks_for_round_trips() {
        let mut playout = Playout::default();
        let mut at = |ms_: u64, loss, round_trip| {
            playout.update(ms_ * 1_000, loss, ms(round_trip));
            playout.depth()
        };
        assert_eq!((at(0, 0.3, 50), at(1_400, 0.3, 50), at(1_500, 0.3, 50)), (ms(0), ms(0), ms(250)));
        // The round trip wanders; then it is longer for good.
        assert_eq!((at(3_000, 0.3, 48), at(4_000, 0.3, 50)), (ms(250), ms(250)));
        assert_eq!((at(5_000, 0.3, 90), at(6_500, 0.3, 80)), (ms(250), ms(350)));
        assert_eq!((at(7_000, 0.3, 900), at(9_000, 0.3, 900)), (ms(350), ms(400)));
        // Less of it, and a while without any: what was asked for stays until ten seconds of less, and then is the most of them.
        assert_eq!(
            (at(10_000, 0.05, 50), at(19_000, 0.0, 50), at(20_000, 0.0, 50)),
            (ms(400), ms(400), ms(200))
        );
        assert_eq!(
            (at(21_000, 0.02, 50), at(22_000, 0.0, 50), at(31_999, 0.0, 50)),
            (ms(200), ms(200), ms(200))
        );
        assert_eq!(at(32_000, 0.0, 50), ms(0));
    }

    #[test]
    fn a_link_that_narrows_and_bursts_ask_for_nothing() {
        let mut playout = Playout::default();
        for (at, loss) in
            [(0, 0.2), (1_000, 0.2), (1_400, 0.02), (2_000, 0.02), (3_000, 0.1), (4_000, 0.0), (5_000, 0.02)]
        {
            playout.update(at * 1_000, loss, ms(240));
            assert_eq!(playout.depth(), ms(0), "{at}");
        }
    }

    #[test]
    fn a_packet_says_it_in_tens_of_milliseconds() {
        let mut said = Said::default();
        assert_eq!(said.value(), None);
        said.set(ms(250));
        said.count();
        assert_eq!(said.value(), Some([0x01, 0x93, 0xe8]));
        said.set(ms(0));
        for _ in 0..TAKEN_BACK {
            assert_eq!(said.value(), Some([0, 0x03, 0xe8]));
            said.count();
        }
        assert_eq!(said.value(), None);
    }
}
