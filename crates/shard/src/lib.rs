//! The packet threads: sockets, WebRTC peers (str0m), timers; they host the room engines.
//!
//! A [`Shards`] is the running set. A WebRTC peer enters by [`Shards::prepare`] (SDP, on the caller's thread) and
//! [`Shards::join`]; a program in this process enters by [`Shards::attach`]. No SDP, no codec, no async runtime and no
//! blocking call is on a shard thread.

mod announce;
pub mod attach;
mod branch;
mod clock;
mod command;
pub mod config;
mod connection;
mod core;
mod demux;
mod door;
mod dump;
mod egress;
pub mod engine;
mod enter;
mod extension;
mod forward;
pub mod fuzzing;
mod genuine;
mod handle;
mod happening;
pub mod holdings;
mod home;
mod host;
mod inbox;
pub mod join;
mod last_said;
mod link;
mod load;
mod mapping;
mod meter;
mod net;
mod obey;
pub mod offer;
mod outputs;
mod peer;
mod polling;
mod prefetch;
mod pressure;
mod reach;
mod redundancy;
pub mod restart;
mod roster;
mod run;
mod sdp;
mod seam;
pub mod spatial;
mod status;
mod stream;
mod stun;
mod table;
mod tcp;
#[cfg(test)]
mod testing;
mod timers;
mod topics;
mod transport;
mod watch;

pub use antiphon_room::SelectError;
pub use attach::{
    AttachCommand, AttachEvent, AttachRequest, AttachSender, Attachment, OutPacket, RecordingCommand,
    RecordingEnd, RecordingView, TapRequest, Waiting,
};
pub use clock::Clock;
pub use config::Config;
pub use door::{Attaching, Door, Place, Say};
pub use engine::{Engine, Lag, Transmit};
pub use handle::Shards;
pub use holdings::Holdings;
pub use join::{Grants, JoinError, JoinRequest, Joined, Prepared};
pub use offer::Offered;
pub use restart::{IceError, IceMatch, IceParameters, IceRequest, IceUpdate};
pub use roster::Roster;
pub use status::{Metrics, ParticipantStatus, RoomStatus, ShardMetrics};
pub use topics::TopicQueue;
pub use transport::Transport;
pub use watch::WatchError;
