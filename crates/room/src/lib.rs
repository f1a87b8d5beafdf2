//! The room engine, sans-IO.
mod assign;
mod config;
mod dominance;
mod join;
mod keyframe;
mod layers;
mod loudness;
mod output;
mod participant;
mod room;
mod scene;
pub mod slot;
mod stats;
mod timer;

pub use config::Config;
pub use join::{Grants, Join, JoinError, SlotPlan};
pub use keyframe::{MAX_TRIES as KEYFRAME_MAX_TRIES, QUIET as KEYFRAME_QUIET, REPEAT as KEYFRAME_REPEAT};
pub use output::{Feed, MAX_LAYERS, Output, SlotId, TapRequest};
pub use room::{MAX_QUEUED_MESSAGES, MAX_TAPS, Room};
pub use stats::Stats;
pub use timer::Reason;

#[cfg(test)]
pub(crate) mod testing {
    //! Virtual time for tests.
    use std::time::Instant;

    /// SplitMix64 (Steele, Lea, Flood 2014): numbers from a seed that a failing test prints.
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        pub(crate) fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        pub(crate) fn below(&mut self, limit: u64) -> u64 {
            self.next() % limit.max(1)
        }

        pub(crate) fn index(&mut self, len: usize) -> usize {
            usize::try_from(self.below(len as u64)).unwrap()
        }
    }

    /// Some instant, from which tests count.
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be made by reading the clock; tests add to this one"
    )]
    pub(crate) fn base() -> Instant {
        Instant::now()
    }
}
