//! (dev) Whole rooms under virtual time: the real shard, real WebRTC peers, a simulated network, from a seed.
//!
//! ```
//! use std::time::Duration;
//! use antiphon_base::Source;
//! use antiphon_sim::{Profile, World};
//!
//! let mut world = World::new(1);
//! let anna = world.enter(Profile::new("anna"));
//! let ben = world.enter(Profile::new("ben"));
//! let now = world.now;
//! world.clients[anna].start(now, Source::Camera, 20);
//! world.run(Duration::from_secs(2));
//! let report = world.check();
//! report.assert_sound();
//! assert!(report.of(ben).frames > 20);
//! ```

pub mod check;
pub mod client;
mod dtls;
pub mod entropy;
mod extension;
pub mod net;
pub mod playout;
pub mod seals;
pub mod sender;
pub mod stamp;
pub mod story;
mod trace;
pub mod world;

pub use client::{Client, Offering, Profile};
pub use entropy::seeded;
pub use net::{Conditions, Datagram};
pub use world::{SERVER, World};
