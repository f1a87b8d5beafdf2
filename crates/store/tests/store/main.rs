//! The store from outside: producers, readers, crashes, limits, against a folder, memory, and storage that fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

mod clock;
mod crash;
mod faulty;
mod journal;
mod key_server;
mod large;
mod lifecycle;
mod limits;
mod live;
mod reading;
mod removals;
mod repack;
mod rewrap;
mod rig;
mod secrecy;
mod set_aside;
mod shared;
mod spool;
