//! The packet threads: UDP sockets, WebRTC peers (str0m), timers; they host the room engines.
//!
//! A [`Shards`] is the running set. A WebRTC peer enters by [`Shards::prepare`] (SDP, on the caller's thread) and
//! [`Shards::join`]; a program in this process enters by [`Shards::attach`]. No SDP, no codec, no async runtime and no
//! blocking call is on a shard thread.

pub mod attach;
mod clock;
mod command;
pub mod config;
mod connection;
mod core;
mod dump;
mod egress;
pub mod engine;
mod enter;
mod handle;
mod host;
mod inbox;
pub mod join;
mod load;
mod meter;
mod net;
mod outputs;
mod peer;
mod run;
mod sdp;
pub mod status;
mod stun;
mod timers;

pub use attach::{
    AttachCommand, AttachEvent, AttachRequest, AttachSender, Attachment, OutPacket, TapRequest,
};
pub use config::Config;
pub use engine::Engine;
pub use handle::Shards;
pub use join::{Grants, JoinError, JoinRequest, Joined, Prepared};
pub use status::{Metrics, ParticipantStatus, RoomStatus, ShardMetrics};
