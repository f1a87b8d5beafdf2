//! Pictures between blocks of sound: each at its place on the axis of the sound, in the order of time. No clock, no I/O.
//!
//! Sound stands where it came, which is later than it was captured: it was on its way. Pictures are put off by as
//! much, so that lips and voice stay together, and wait until the sound has come that far. Sound never waits for a picture.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::eyes::Picture;
use crate::gate::{Exit, Gate};

/// How far the sound is behind its capture as long as none was heard: a frame, and a usual way to us.
pub(crate) const USUAL_DELAY_US: u64 = 50_000;
/// The most that is believed: more is a sender's clock that is wrong.
pub(crate) const MAX_DELAY_US: u64 = 2_000_000;
/// How far a picture may be ahead of our clock, for the same reason. It waits here for so long at most, and for what the sound is behind.
const MAX_AHEAD_MS: u64 = 500;
/// Pictures that wait for the sound: a second at 240 in a second.
const MAX_WAITING: usize = 256;
/// Bytes of them: two seconds of 32 Mbit/s.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// Pictures that wait for their place.
pub(crate) struct Interleave {
    waiting: VecDeque<Picture>,
    gate: Gate,
    exit: Exit,
    /// The next one is not before this.
    next_ms: u64,
    dropped: Arc<AtomicU64>,
}

impl Interleave {
    /// On an axis that begins at `start_ms`; counts what is lost.
    pub(crate) fn new(start_ms: u64, dropped: Arc<AtomicU64>) -> Self {
        let gate = Gate::new(MAX_WAITING_BYTES);
        Self { waiting: VecDeque::new(), exit: gate.exit(), gate, next_ms: start_ms, dropped }
    }

    /// Takes a picture, while sound is `delay_us` behind its capture. Of one contact each is later than the one before it.
    pub(crate) fn push(&mut self, mut picture: Picture, delay_us: u64, now_us: u64) {
        let moved_ms = picture.frame.at_ms.saturating_add(delay_us / 1_000);
        picture.frame.at_ms = moved_ms.min(now_us / 1_000 + MAX_AHEAD_MS).max(self.next_ms);
        let next_ms = picture.frame.at_ms + 1;
        let Self { waiting, gate, .. } = self;
        let mut send = |picture| {
            let room = waiting.len() < MAX_WAITING;
            if room {
                waiting.push_back(picture);
            }
            room
        };
        let (bytes, key) = (picture.frame.data.len(), picture.frame.key);
        if gate.pass(bytes, key, || send(picture)) {
            self.next_ms = next_ms;
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that stand before sound of this time, or at it.
    pub(crate) fn until(&mut self, at_ms: u64) -> impl Iterator<Item = Picture> {
        std::iter::from_fn(move || {
            let picture = self.waiting.pop_front_if(|p| p.frame.at_ms <= at_ms)?;
            self.exit.took(picture.frame.data.len());
            Some(picture)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::take::Frame;

    fn picture(at_ms: u64, key: bool, bytes: usize) -> Picture {
        Picture { frame: Frame { at_ms, key, data: vec![0; bytes].into() }, form: None }
    }

    fn times(interleave: &mut Interleave, until_ms: u64) -> Vec<u64> {
        interleave.until(until_ms).map(|p| p.frame.at_ms).collect()
    }

    #[test]
    fn pictures_are_put_off_as_the_sound_is_and_wait_for_it() {
        let mut interleave = Interleave::new(5_000, Arc::default());
        for at_ms in [4_900, 4_933, 5_033, 5_066] {
            interleave.push(picture(at_ms, true, 1), 60_000, 5_100_000);
        }
        // What was captured before the beginning is shown at it; none has the time of another.
        assert_eq!(times(&mut interleave, 5_092), [5_000, 5_001]);
        assert_eq!(times(&mut interleave, 5_093), [5_093]);
        assert_eq!(times(&mut interleave, 5_125), [0; 0]);
        // A clock of tomorrow, and one of yesterday.
        interleave.push(picture(90_000_000, false, 1), 0, 5_200_000);
        interleave.push(picture(5, false, 1), 0, 5_200_000);
        assert_eq!(times(&mut interleave, 9_000), [5_126, 5_700, 5_701]);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_a_key_frame_goes_on() {
        let dropped = Arc::new(AtomicU64::new(0));
        let mut interleave = Interleave::new(0, dropped.clone());
        for i in 0..300 {
            interleave.push(picture(i, false, 1), 0, 1_000_000);
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 300 - MAX_WAITING as u64);
        assert_eq!(times(&mut interleave, 10_000).len(), MAX_WAITING);
        interleave.push(picture(400, false, 1), 0, 1_000_000);
        interleave.push(picture(433, true, MAX_WAITING_BYTES), 0, 1_000_000);
        interleave.push(picture(466, false, 1), 0, 1_000_000);
        interleave.push(picture(500, true, 1), 0, 1_000_000);
        assert_eq!(times(&mut interleave, 10_000), [433]);
        interleave.push(picture(533, true, 1), 0, 1_000_000);
        assert_eq!(times(&mut interleave, 10_000), [533]);
        assert_eq!(dropped.load(Ordering::Relaxed), 300 - MAX_WAITING as u64 + 3);
    }
}
