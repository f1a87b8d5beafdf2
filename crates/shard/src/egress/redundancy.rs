//! How often audio is said again (RED, RFC 2198) to a subscriber, by what its line loses. What was lost is not worth a
//! retransmission after a round trip, but worth a few bytes in the next packet.

use super::loss::{CALM_US, LITTLE, MUCH, SOME};

/// The most blocks that a packet repeats.
pub(crate) const MOST: usize = 2;

/// The level in force.
#[derive(Debug, Default)]
pub(super) struct Redundancy {
    level: usize,
    /// Since when little is lost.
    calm_us: Option<u64>,
}

impl Redundancy {
    /// Packets that each packet repeats.
    pub(super) fn level(&self) -> usize {
        self.level
    }

    /// So much was lost lately. From [`SOME`] on each packet repeats the one before it, from [`MUCH`] on the two before it: one of a
    /// hundred is left of ten that are lost, or three of thirty.
    pub(super) fn update(&mut self, now_us: u64, loss: f64) {
        let wanted = usize::from(loss >= SOME) + usize::from(loss >= MUCH);
        self.level = self.level.max(wanted);
        if loss >= LITTLE {
            self.calm_us = None;
        } else if now_us.saturating_sub(*self.calm_us.get_or_insert(now_us)) >= CALM_US {
            self.level = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_at_once_and_goes_late() {
        let mut redundancy = Redundancy::default();
        let mut at = |second: u64, loss| {
            redundancy.update(second * 1_000_000, loss);
            redundancy.level()
        };
        assert_eq!((at(1, 0.02), at(2, 0.05), at(3, 0.3), at(4, 0.05)), (0, 1, 2, 2));
        assert_eq!(
            (at(5, 0.0), at(14, 0.0), at(14, 0.02), at(15, 0.0), at(24, 0.0), at(25, 0.0)),
            (2, 2, 2, 2, 2, 0)
        );
    }
}
