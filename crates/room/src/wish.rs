//! What one publisher is told of one track: which layers are watched, and what they may take.

use std::time::{Duration, Instant};

use antiphon_wire::control::LayerWish;

use crate::output::MAX_LAYERS;

/// Between two messages about one track.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// A layer that nobody wants any more is told after this: people come and go, and to begin again costs a key frame.
pub(crate) const OFF_DELAY: Duration = Duration::from_secs(4);
/// A layer that was told to be wanted again and is not sent after this is not going to be.
pub(crate) const RESUME_GRACE: Duration = Duration::from_secs(3);
/// Bitrates that differ by less than this share (in percent) are not told.
const NOISE_PERCENT: u64 = 15;
/// A publisher has this long to follow a bitrate ...
const OBEY_AFTER: Duration = Duration::from_secs(4);
/// ... and may be this share above it, in percent.
const OBEY_PERCENT: u64 = 150;

/// What somebody wants of a layer; of several: what all of them together do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Want {
    pub(crate) max_bitrate: Option<u64>,
    pub(crate) max_height: Option<u16>,
    pub(crate) max_frame_rate: Option<u8>,
}

impl Want {
    /// Both are to be content.
    pub(crate) fn and(self, other: Self) -> Self {
        let most = |(a, b): (Option<u64>, Option<u64>)| Some(a?.max(b?));
        Self {
            max_bitrate: most((self.max_bitrate, other.max_bitrate)),
            max_height: self.max_height.zip(other.max_height).map(|(a, b)| a.max(b)),
            max_frame_rate: self.max_frame_rate.zip(other.max_frame_rate).map(|(a, b)| a.max(b)),
        }
    }

    fn near(self, other: Self) -> bool {
        let bitrate = match (self.max_bitrate, other.max_bitrate) {
            (Some(a), Some(b)) => a.abs_diff(b).saturating_mul(100) < a.saturating_mul(NOISE_PERCENT),
            (a, b) => a == b,
        };
        bitrate && Self { max_bitrate: None, ..self } == Self { max_bitrate: None, ..other }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Layer {
    /// Told to be off.
    off: bool,
    told: Want,
    /// Since when nobody wants it.
    unwanted: Option<Instant>,
    /// When it was told to be on again, until it is seen.
    resumed: Option<Instant>,
}

/// What one publisher knows of one track. A fresh one: all layers are wanted, without limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    layers: [Layer; MAX_LAYERS as usize],
    /// When it was told last.
    at: Option<Instant>,
}

impl Wish {
    /// The publisher was told that nobody wants it, or that somebody does again and has not followed yet.
    pub(crate) fn may_pause(&self, layer: u8) -> bool {
        self.layers.get(usize::from(layer)).is_some_and(|l| l.off || l.resumed.is_some())
    }

    /// The publisher may send it, as far as it was told.
    pub(crate) fn is_on(&self, layer: u8) -> bool {
        self.layers.get(usize::from(layer)).is_some_and(|l| !l.off)
    }

    /// Its packets come.
    pub(crate) fn seen(&mut self, layer: u8) {
        if let Some(layer) = self.layers.get_mut(usize::from(layer)) {
            layer.resumed = None;
        }
    }

    /// Layers that were to come back and have not.
    pub(crate) fn overdue(&mut self, now: Instant) -> u8 {
        let mut mask = 0;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            if layer.resumed.is_some_and(|at| now.saturating_duration_since(at) >= RESUME_GRACE) {
                layer.resumed = None;
                mask |= 1 << i;
            }
        }
        mask
    }

    /// A layer that is sent with this many bits per second is one of a publisher that does not follow.
    pub(crate) fn is_ignored(&self, now: Instant, layer: u8, bps: u64) -> bool {
        let Some(max) = self.layers.get(usize::from(layer)).and_then(|l| l.told.max_bitrate) else {
            return false;
        };
        let long = self.at.is_some_and(|at| now.saturating_duration_since(at) >= OBEY_AFTER);
        long && bps.saturating_mul(100) > max.saturating_mul(OBEY_PERCENT)
    }

    /// What is to be told now of the `known` layers, given what is wanted of each; and when to look again.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        known: u8,
        want: impl Fn(u8) -> Option<Want>,
    ) -> (Option<Vec<LayerWish>>, Option<Instant>) {
        let mut wake: Option<Instant> = None;
        let mut later = |at: Instant| wake = Some(wake.map_or(at, |old| old.min(at)));
        let mut next = self.layers;
        let mut news = false;
        for number in (0..MAX_LAYERS).filter(|n| known & (1 << n) != 0) {
            let layer = &mut next[usize::from(number)];
            match want(number) {
                Some(want) => {
                    layer.unwanted = None;
                    let wakes = std::mem::take(&mut layer.off);
                    if wakes {
                        layer.resumed = Some(now);
                    }
                    if wakes || !layer.told.near(want) {
                        layer.told = want;
                        news = true;
                    }
                    if let Some(at) = layer.resumed {
                        later(at + RESUME_GRACE);
                    }
                }
                None if layer.off => {}
                None => {
                    let since = *layer.unwanted.get_or_insert(now);
                    if now.saturating_duration_since(since) >= OFF_DELAY {
                        (layer.off, layer.resumed, layer.told, news) = (true, None, Want::default(), true);
                    } else {
                        later(since + OFF_DELAY);
                    }
                }
            }
        }
        if news && let Some(at) = self.at.map(|at| at + MIN_INTERVAL).filter(|at| *at > now) {
            // Not told yet: only how long nobody has wanted a layer is remembered.
            for (layer, next) in self.layers.iter_mut().zip(&next) {
                layer.unwanted = next.unwanted;
            }
            return (None, Some(wake.map_or(at, |old| old.min(at))));
        }
        self.layers = next;
        if !news {
            return (None, wake);
        }
        self.at = Some(now);
        let said = (0..MAX_LAYERS).filter(|n| known & (1 << n) != 0).map(|number| {
            let Layer { off, told, .. } = self.layers[usize::from(number)];
            let Want { max_bitrate, max_height, max_frame_rate } = told;
            LayerWish { layer: number, active: !off, max_bitrate, max_height, max_frame_rate }
        });
        (Some(said.collect()), wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three layers; each step: milliseconds, the mask of what is wanted, its bitrate. What is told after each: the mask of
    /// what is active.
    fn run(script: &[(u64, u8, Option<u64>)]) -> Vec<Option<u8>> {
        let mut wish = Wish::default();
        let mut now = crate::testing::base();
        let steps = script.iter().map(|(ms, mask, max_bitrate)| {
            now += Duration::from_millis(*ms);
            let want = Want { max_bitrate: *max_bitrate, ..Want::default() };
            let (told, _) = wish.update(now, 0b111, |n| (mask & (1 << n) != 0).then_some(want));
            told.map(|layers| layers.iter().filter(|l| l.active).fold(0, |m, l| m | 1 << l.layer))
        });
        steps.collect()
    }

    #[test]
    fn off_is_told_late_and_on_at_once() {
        let told = run(&[(0, 0b111, None), (100, 0b001, None), (3_900, 0b001, None), (100, 0b001, None)]);
        assert_eq!(told, [None, None, None, Some(0b001)]);
        let told = run(&[
            (0, 0, None),
            (4_000, 0, None),
            (9_000, 0b100, None),
            (10, 0b110, None),
            (490, 0b110, None),
        ]);
        assert_eq!(told, [None, Some(0), Some(0b100), None, Some(0b110)]);
    }

    #[test]
    fn what_is_wanted_again_soon_is_not_told_at_all() {
        assert_eq!(run(&[(0, 0b011, None), (3_000, 0b111, None), (3_000, 0b011, None)]), [None; 3]);
    }

    #[test]
    fn bitrates_are_told_when_they_differ() {
        let some = |bps| Some(bps);
        let told = run(&[
            (0, 0b111, some(100_000)),
            (900, 0b111, some(110_000)),
            (900, 0b111, some(120_000)),
            (900, 0b111, None),
        ]);
        assert_eq!(told, [Some(7), None, Some(7), Some(7)]);
    }

    #[test]
    fn who_does_not_follow_is_found() {
        let mut wish = Wish::default();
        let now = crate::testing::base();
        let want = Want { max_bitrate: Some(100_000), ..Want::default() };
        wish.update(now, 1, |_| Some(want));
        assert!(!wish.is_ignored(now + Duration::from_secs(3), 0, 900_000));
        assert!(wish.is_ignored(now + Duration::from_secs(4), 0, 151_000));
        assert!(!wish.is_ignored(now + Duration::from_secs(4), 0, 150_000));
    }

    #[test]
    fn what_does_not_come_back_is_given_up() {
        let mut wish = Wish::default();
        let base = crate::testing::base();
        let at = |ms| base + Duration::from_millis(ms);
        wish.update(at(0), 0b11, |_| None);
        wish.update(at(4_000), 0b11, |_| None);
        assert!(wish.may_pause(0) && wish.may_pause(1) && !wish.may_pause(2));
        let (_, wake) = wish.update(at(9_000), 0b11, |_| Some(Want::default()));
        assert_eq!(wake, Some(at(12_000)));
        wish.seen(1);
        assert_eq!(
            (wish.overdue(at(11_999)), wish.overdue(at(12_000)), wish.overdue(at(13_000))),
            (0, 0b01, 0)
        );
    }
}
