//! The sending half of a subscriber: our own way from a routed packet to a sealed datagram (`docs/design/egress.md`).
//!
//! str0m keeps ICE, DTLS, SCTP and what comes in. Media, its retransmissions and its sender reports are written here:
//! [`Sender::forward`] queues what a slot gives, [`Sender::flush`] writes it all into the [`Arena`] in one go,
//! [`Sender::on_rtcp`] takes what the peer says of it.

pub(crate) mod arena;
mod bwe;
pub(crate) mod keys;
mod lazy;
mod line;
mod loss;
mod pacer;
pub(crate) mod peer_key;
pub(crate) mod playout;
mod redundancy;
mod sender;
pub(crate) mod srtp;

pub(crate) use arena::{Arena, Path};
pub(crate) use bwe::MAX_UNANSWERED;
pub(crate) use line::{Line, LinePlan, MAX_HISTORY, MAX_REPEATED_BYTES, PayloadType};
pub(crate) use pacer::Class;
pub(crate) use redundancy::MOST as MAX_REPEATED;
pub(crate) use sender::{Feedback, MAX_PADDING, MAX_QUEUE, Sender};
