//! A participant that only listens: contacts' sound into the store, as it is said. `docs/design/record.md` has the reasons.
//!
//! A [`Recorder`] streams contacts. A *contact* is one caller's conversation, whatever room and connection carries it: [`Recorder::entered`]
//! says where it is, [`Recorder::start`] begins, and from then on there are 20 ms of it each 20 ms until [`Recorder::stop`], or until it
//! has ended. What is written is what programs for a contact centre's streams expect: one Kinesis Video stream per contact, PCM
//! in Matroska, fragments of a second, found by number and by time.
//!
//! - [`Recorder::start`] enters the contact's room unseen, by a [`Door`](antiphon_shard::Door), and taps its microphone.
//! - Packets become 20 ms of PCM per tick (`ears`), those blocks on a time axis (`blocks`), those go by a bounded queue (`writer`) to a
//!   task that feeds a session of the store (`feed`). A store that is slow loses that contact blocks, which are counted, and delays nobody.
//! - Where its camera is asked for, pictures as they were sent (`eyes`) stand between the blocks (`interleave`).
//! - [`Sound`] reads it back.
//!
//! [`rooms`] keeps whole rooms, each track as it was sent.

mod axis;
mod blocks;
mod clock;
mod contact;
mod contacts;
mod documents;
mod ears;
mod error;
mod events;
mod eyes;
mod feed;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod history;
mod in_force;
mod interleave;
mod listen;
mod matroska;
mod options;
mod packets;
mod reading;
mod recorder;
pub mod rooms;
mod settings;
mod shared;
mod sound;
mod streaming;
mod streams;
mod take;
pub mod wav;
mod writer;

/// Fragments are named by these.
pub use antiphon_store::FragmentNumber;
pub use contact::{ContactId, ContactIdError, MAX_CONTACT_BYTES};
pub use error::Error;
pub use events::{Events, Happened, Why};
pub use history::{History, Kept, Run};
pub use in_force::Source;
pub use options::{Form, Options};
pub use recorder::{Entered, Metrics, Recorder};
pub use settings::{Limits, RetentionUnit, Settings};
pub use sound::{Sound, SoundTrack, Sounding};
