//! The room engine, sans-IO: who is here, what they publish, and what stands in everybody's slots.
//!
//! # The contract
//!
//! A [`Room`] takes inputs (method calls) and gives outputs ([`Room::poll_output`]) and a deadline with its reason
//! ([`Room::poll_timeout`]). It reads no clock: `now` is an argument, and does not go back. It has no socket, thread,
//! lock, randomness, and the same inputs give the same outputs.
//!
//! The host (a shard)
//! - drains [`Room::poll_output`] to `None` after each input or batch of inputs, and does every [`Output`] in order;
//! - calls [`Room::handle_timeout`] at [`Room::poll_timeout`];
//! - owns one [`slot::Slot`] for each receive slot, tells it each [`Output::Route`], and says back by
//!   [`Room::switched`] what really flows, emptied slots and other layers of the same track included;
//! - tells of media what the engine needs: [`Room::layer_seen`], [`Room::spatial_seen`], [`Room::layer_resolution`], [`Room::keyframe_seen`],
//!   [`Room::layer_rate`] (about once per second), [`Room::audio_level`] (each audio packet), [`Room::activity`]. It calls
//!   `layer_seen` anew after [`Room::resume`] and after [`Room::layer_gone`];
//! - tells its load by [`Room::load`], about once per second;
//! - hands a recorder's commands in by [`Room::record`], and what the room says of its recording out ([`Output::Recording`]);
//! - says what publishers call their layers ([`Room::name_layers`]), for players to choose by ([`Room::select`]), and which of those without
//!   control channel can be told how much to send ([`Room::may_bound`], [`Output::Bound`]).
//!
//! What holds after each drain: nobody is routed its own track, a track that is not there, is muted, or cannot be
//! decoded; a recorder gets nothing of who has not acknowledged that it records; a track stands in one slot of a subscriber at most; replaying the roster deltas gives the roster; the
//! [`Output::Wanted`] masks are the union of what slots show, shall show, and taps take. `docs/design/room.md` says why
//! it is like this.
//!
//! ```
//! use antiphon_base::{ParticipantId, RoomName};
//! use antiphon_room::{Config, Grants, Join, Output, Room, SlotPlan};
//! use antiphon_wire::control::{ParticipantKind, Policy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # #[expect(clippy::disallowed_methods, reason = "the host reads the clock")]
//! let now = std::time::Instant::now();
//! let mut room = Room::new(RoomName::new("demo")?, Config::default(), now);
//! let slots = SlotPlan { audio: vec!["0".into()], video: vec!["1".into()], screen: None };
//! let grants = Grants { publish: true, subscribe: true, moderate: false };
//! let (kind, policy) = (ParticipantKind::WebRtc, Policy::default());
//! let (name, resume_token) = ("Ada".to_owned(), "secret".to_owned());
//! let (muted, decodes, only, hidden, control) = (vec![], vec![], None, false, true);
//! let id = ParticipantId::new("ada")?;
//! let ada = room.join(now, Join { id, name, kind, grants, policy, muted, slots, decodes, hidden, only, resume_token, control })?;
//! room.connected(now, ada, 0);
//! while let Some(output) = room.poll_output() {
//!     assert!(matches!(output, Output::Send { to, .. } if to == ada)); // welcome, roster, slots, dominant
//! }
//! # Ok(())
//! # }
//! ```

mod allocate;
mod assign;
mod bandwidth;
mod bound;
mod config;
mod dominance;
mod join;
mod keyframe;
mod ladder;
mod layers;
mod load;
mod loudness;
mod output;
mod participant;
mod playing;
mod rates;
mod recording;
mod room;
mod scene;
mod shed;
pub mod slot;
mod stats;
mod timer;
mod topics;
mod wish;

pub use bandwidth::Bandwidth;
pub use config::{Config, DataRates};
pub use join::{Grants, Join, JoinError, SlotPlan};
pub use keyframe::KeyframeCause;
pub use output::{Feed, MAX_LAYERS, Output, SlotId, TapRequest};
pub use playing::{Playing, SelectError};
pub use rates::{LayerRate, MAX_TEMPORAL};
pub use recording::{MAX_RECORDING_ID, RecordingCommand, RecordingEnd, RecordingView, Waiting};
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
