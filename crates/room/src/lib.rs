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

    /// Some instant, from which tests count.
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be made by reading the clock; tests add to this one"
    )]
    pub(crate) fn base() -> Instant {
        Instant::now()
    }
}
