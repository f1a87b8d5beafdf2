//! RTP media (RFC 3550): what a packet's payload says, how its numbers change on the way to a subscriber,
//! and the way from packets to access units and back.
//!
//! - [`Packet`]: one received media packet, shared by everybody who forwards, decodes or stores it.
//! - [`Descriptor`]: what its payload header says, parsed once at ingress ([`vp8`], [`vp9`], [`h264`], [`av1`]).
//! - [`rewrite::SlotRewriter`]: sources switched into one outgoing SSRC (`docs/design/slot-switch.md`).
//! - [`frame::Assembler`]: packets to access units; [`packetize`]: access units to payloads.
//! - [`dependency`]: the dependency descriptor, which tells layers and references whatever the codec.
//! - [`header`], [`dump`]: plain RTP bytes, and a capture file of them.
//!
//! Nothing here reads a clock: every time is an argument or a field of the packet.

pub mod av1;
pub(crate) mod bits;
pub mod dependency;
pub mod dump;
pub mod frame;
pub mod h264;
pub mod header;
pub mod opus;
mod packet;
pub mod packetize;
pub mod red;
pub mod rewrite;
pub mod vp8;
pub mod vp9;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_layers;
#[cfg(test)]
pub(crate) mod testing;

pub use packet::{AudioLevel, Descriptor, Packet};
