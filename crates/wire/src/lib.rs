//! Bytes <-> types. No time, no sessions, no I/O.
//!
//! * [`container`]: access units as Matroska and MP4 keep them.
//! * [`control`]: the JSON messages of a participant's `control` data channel (`docs/reference/control.md`).
//! * [`bot`]: the JSON messages of a bot's WebSocket (`docs/reference/bot.md`).
//! * [`frame`]: the binary frame protocol v1 (`docs/reference/frame-protocol.md`).
//! * [`framing`]: packets in a TCP stream.
//! * [`rtcp`]: what receivers tell a sender, and sender reports.
//! * [`rtp`]: payload descriptors, slot rewriting, packetizing and depacketizing.
//! * [`sdpfrag`]: the ICE part of an SDP, as PATCH requests carry it.
//! * [`topic`]: messages that participants send each other on topics (`docs/reference/data.md`).
//! * [`whep`]: the JSON bodies of WHEP's extensions.

pub mod bot;
pub mod container;
pub mod control;
pub mod frame;
pub mod framing;
pub mod rtcp;
pub mod rtp;
pub mod sdpfrag;
pub mod topic;
pub mod whep;
