//! The keyframe coalescer: many subscribers want keyframes, the publisher pays for each one.
//!
//! Per feed: the first request goes out at once. While it is outstanding further ones are absorbed, and it is repeated
//! (a PLI may be lost). For a while after a keyframe requests wait and are then served by one. So a hundred joins within
//! a second cost a publisher two keyframes per layer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use antiphon_base::TrackKey;

use crate::output::Feed;

/// An unanswered request is repeated after this: a round trip of a bad mobile network and the encoder's frame time.
pub const REPEAT: Duration = Duration::from_millis(300);
/// Requests after a keyframe are collected for this long.
pub const QUIET: Duration = Duration::from_millis(500);
/// An unanswered request is sent this often; then the next subscriber's request begins anew. The publisher is not sending.
pub const MAX_TRIES: u8 = 10;

/// What is to be done for a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Step {
    /// Ask the publisher now.
    pub(crate) ask: bool,
    /// Look again at this time.
    pub(crate) wake: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    asked: Option<Instant>,
    tries: u8,
    seen: Option<Instant>,
    deferred: bool,
}

impl State {
    fn ask(&mut self, now: Instant) -> Step {
        self.asked = Some(now);
        self.tries += 1;
        self.deferred = false;
        Step { ask: true, wake: Some(now + REPEAT) }
    }
}

/// Coalescers of all feeds of a room. Bounded by [`Coalescer::forget`] with the tracks.
#[derive(Debug, Default)]
pub(crate) struct Coalescer {
    feeds: BTreeMap<Feed, State>,
    /// Requests that cost no keyframe of their own.
    pub(crate) absorbed: u64,
}

impl Coalescer {
    /// Somebody needs a keyframe.
    pub(crate) fn wanted(&mut self, now: Instant, feed: Feed) -> Step {
        let state = self.feeds.entry(feed).or_default();
        if let Some(asked) = state.asked {
            self.absorbed += 1;
            return Step { ask: false, wake: Some(asked + REPEAT) };
        }
        match state.seen {
            Some(seen) if now < seen + QUIET => {
                self.absorbed += u64::from(state.deferred);
                state.deferred = true;
                Step { ask: false, wake: Some(seen + QUIET) }
            }
            _ => {
                state.tries = 0;
                state.ask(now)
            }
        }
    }

    /// A keyframe came: whoever waited has it.
    pub(crate) fn seen(&mut self, now: Instant, feed: Feed) {
        let state = self.feeds.entry(feed).or_default();
        *state = State { seen: Some(now), ..State::default() };
    }

    /// The time of an earlier step has come. `needed`: somebody still wants the feed.
    pub(crate) fn due(&mut self, now: Instant, feed: Feed, needed: bool) -> Step {
        let Some(state) = self.feeds.get_mut(&feed) else { return Step::default() };
        let waiting = state.asked.is_some() || state.deferred;
        if !waiting {
            return Step::default();
        }
        if !needed || state.tries >= MAX_TRIES {
            *state = State { seen: state.seen, ..State::default() };
            return Step::default();
        }
        state.ask(now)
    }

    /// The track is gone.
    pub(crate) fn forget(&mut self, track: TrackKey) -> Vec<Feed> {
        let gone: Vec<Feed> = self.feeds.keys().copied().filter(|f| f.track == track).collect();
        for feed in &gone {
            self.feeds.remove(feed);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_base::{ParticipantKey, Source};

    fn feed() -> Feed {
        Feed { track: TrackKey { participant: ParticipantKey(1), source: Source::Camera }, layer: 0 }
    }

    /// Steps in milliseconds; asks made.
    fn run(script: &[(u64, &str)], until: u64) -> Vec<u64> {
        let base = crate::testing::base();
        let mut coalescer = Coalescer::default();
        let mut wake: Option<Instant> = None;
        let mut asks = Vec::new();
        for ms in 0..=until {
            let now = base + Duration::from_millis(ms);
            let mut steps = Vec::new();
            if wake.is_some_and(|w| w <= now) {
                wake = None;
                steps.push(coalescer.due(now, feed(), true));
            }
            for (_, what) in script.iter().filter(|(at, _)| *at == ms) {
                match *what {
                    "want" => steps.push(coalescer.wanted(now, feed())),
                    _ => {
                        coalescer.seen(now, feed());
                        wake = None;
                    }
                }
            }
            for step in steps {
                if step.ask {
                    asks.push(ms);
                }
                wake = step.wake.or(wake);
            }
        }
        asks
    }

    #[test]
    fn the_first_goes_out_at_once_and_is_repeated_until_seen() {
        assert_eq!(run(&[(0, "want"), (10, "want"), (700, "seen")], 2000), [0, 300, 600]);
    }

    #[test]
    fn requests_after_a_keyframe_are_served_once() {
        let script = [(0, "want"), (30, "seen"), (31, "want"), (100, "want"), (529, "want"), (560, "seen")];
        assert_eq!(run(&script, 2000), [0, 530]);
    }

    #[test]
    fn a_hundred_joins_in_a_second_cost_two() {
        let mut script: Vec<(u64, &str)> = (0..100).map(|i| (i * 10, "want")).collect();
        script.extend([(31, "seen"), (561, "seen")]);
        let asks = run(&script, 1000);
        assert_eq!(asks.len(), 2, "{asks:?}");
    }

    #[test]
    fn a_dead_publisher_is_not_asked_for_ever() {
        assert_eq!(run(&[(0, "want")], 20_000).len(), usize::from(MAX_TRIES));
    }
}
