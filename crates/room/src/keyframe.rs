//! The keyframe coalescer: many subscribers want keyframes, the publisher pays for each one.
//!
//! Per feed: the first request goes out at once. While it is outstanding further ones are absorbed, and it is repeated
//! (a PLI may be lost). For a while after a keyframe requests wait and are then served by one: shortly for who sees
//! nothing yet, longer for who has lost a picture (a bad line must not cost the others their quality), and longest for a
//! crowd. So a hundred joins spread over a second cost a publisher two keyframes per layer, and a single one waits for
//! none.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use antiphon_base::TrackKey;

use crate::output::Feed;

/// An unanswered request is repeated after this: a round trip of a bad mobile network and the encoder's frame time.
pub(crate) const REPEAT: Duration = Duration::from_millis(300);
/// Requests of those who see nothing yet are collected for this long after a keyframe.
pub(crate) const QUIET_START: Duration = Duration::from_millis(200);
/// Requests of those who have lost a picture are.
pub(crate) const QUIET_REPAIR: Duration = Duration::from_millis(500);
/// Any requests are, once they are more than [`FEW`]: those who come within a second, and the time to connect.
pub(crate) const QUIET_CROWD: Duration = Duration::from_millis(1_250);
/// So many may be served early.
pub(crate) const FEW: u32 = 3;
/// An unanswered request is sent this often so soon: then the publisher is not sending, or has no time for it ...
pub(crate) const MAX_TRIES: u8 = 10;
/// ... and is asked after this, for as long as somebody waits: whose picture depends on it would never see one otherwise.
pub(crate) const SLOW_REPEAT: Duration = Duration::from_secs(3);

/// Why a keyframe is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyframeCause {
    /// A slot or tap shows nothing of the feed yet.
    Start,
    /// A receiver has lost a picture (PLI, FIR).
    Repair,
}

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
    /// Requests since `seen` that wait.
    waiting: u32,
    /// One of them is a [`KeyframeCause::Start`].
    starting: bool,
}

impl State {
    fn ask(&mut self, now: Instant) -> Step {
        self.asked = Some(now);
        self.tries = self.tries.saturating_add(1);
        (self.waiting, self.starting) = (0, false);
        Step { ask: true, wake: Some(now + self.interval()) }
    }

    /// Until an unanswered request is repeated.
    fn interval(&self) -> Duration {
        if self.tries < MAX_TRIES { REPEAT } else { SLOW_REPEAT }
    }

    fn quiet(&self) -> Duration {
        match (self.waiting, self.starting) {
            (count, _) if count > FEW => QUIET_CROWD,
            (_, true) => QUIET_START,
            (_, false) => QUIET_REPAIR,
        }
    }

    /// Serves those who wait, or says when.
    fn serve(&mut self, now: Instant) -> Step {
        match self.seen.map(|seen| seen + self.quiet()) {
            Some(at) if now < at => Step { ask: false, wake: Some(at) },
            _ => {
                self.tries = 0;
                self.ask(now)
            }
        }
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
    pub(crate) fn wanted(&mut self, now: Instant, feed: Feed, cause: KeyframeCause) -> Step {
        let state = self.feeds.entry(feed).or_default();
        if let Some(asked) = state.asked {
            self.absorbed += 1;
            return Step { ask: false, wake: Some(asked + state.interval()) };
        }
        self.absorbed += u64::from(state.waiting > 0);
        state.waiting = state.waiting.saturating_add(1);
        state.starting |= cause == KeyframeCause::Start;
        state.serve(now)
    }

    /// A keyframe came: whoever waited has it.
    pub(crate) fn seen(&mut self, now: Instant, feed: Feed) {
        let state = self.feeds.entry(feed).or_default();
        *state = State { seen: Some(now), ..State::default() };
    }

    /// The time of an earlier step has come. `needed`: somebody still wants the feed.
    pub(crate) fn due(&mut self, now: Instant, feed: Feed, needed: bool) -> Step {
        let Some(state) = self.feeds.get_mut(&feed) else { return Step::default() };
        if state.asked.is_none() && state.waiting == 0 {
            return Step::default();
        }
        if !needed {
            *state = State { seen: state.seen, ..State::default() };
            return Step::default();
        }
        if state.asked.is_some() { state.ask(now) } else { state.serve(now) }
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
                    "join" => steps.push(coalescer.wanted(now, feed(), KeyframeCause::Start)),
                    "lost" => steps.push(coalescer.wanted(now, feed(), KeyframeCause::Repair)),
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
        assert_eq!(run(&[(0, "join"), (10, "join"), (700, "seen")], 2000), [0, 300, 600]);
    }

    #[test]
    fn who_has_lost_a_picture_waits_longer_than_who_has_none() {
        let script = [(0, "lost"), (30, "seen"), (31, "lost"), (100, "lost"), (560, "seen")];
        assert_eq!(run(&script, 2000), [0, 530]);
        let script = [(0, "lost"), (30, "seen"), (31, "lost"), (100, "join"), (250, "seen"), (800, "join")];
        assert_eq!(run(&script, 1000), [0, 230, 800]);
    }

    #[test]
    fn a_hundred_joins_in_a_second_cost_two() {
        let mut script: Vec<(u64, &str)> = (0..100).map(|i| (i * 10, "join")).collect();
        script.extend([(31, "seen"), (1_311, "seen")]);
        assert_eq!(run(&script, 5000), [0, 1_281]);
    }

    #[test]
    fn a_dead_publisher_is_asked_slowly() {
        let asks = run(&[(0, "join"), (4_000, "join")], 20_000);
        let soon = u64::from(MAX_TRIES) - 1;
        assert_eq!(asks.len(), usize::from(MAX_TRIES) + 5);
        assert_eq!(
            asks[usize::from(MAX_TRIES) - 1..][..3],
            [300 * soon, 300 * soon + 3_000, 300 * soon + 6_000]
        );
    }
}
