//! The packet threads: UDP sockets, WebRTC peers (str0m), timers; they host the room engines.
//!
//! A [`Shards`] is the running set. A WebRTC peer enters by [`Shards::prepare`] (SDP, on the caller's thread) and
//! [`Shards::join`]; a program in this process enters by [`Shards::attach`]. No SDP, no codec, no async runtime and no
//! blocking call is on a shard thread.

pub mod attach;
pub mod config;
pub mod join;
pub mod status;

pub use attach::{AttachCommand, AttachEvent, AttachRequest, Attachment, OutPacket};
pub use config::Config;
pub use join::{Grants, JoinError, JoinRequest, Joined, Prepared};
pub use status::{Metrics, ParticipantStatus, ShardMetrics};
