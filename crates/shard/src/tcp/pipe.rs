//! One TCP connection of a peer: its packets in, its bounded queue out.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::time::Instant;

use antiphon_wire::framing::{self, Deframer, LENGTH_BYTES, MAX_PACKET_BYTES};

use super::WRITE_BATCH;
use crate::core::Taken;
use crate::stun;

/// Most that a pipe says before it is known which shard's it is: one packet.
const MAX_FIRST_BYTES: usize = LENGTH_BYTES + MAX_PACKET_BYTES;
/// Packets of a pipe before a valid request must be among them: a browser's first tries.
const MAX_UNPROVEN_PACKETS: u32 = 16;
/// Bytes that wait for a peer that reads slowly: half a second at 2 Mbit/s; what is older is of no use in a call.
pub(super) const MAX_PIPE_BYTES: usize = 128 << 10;

/// What the first packet of a pipe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// It is not complete.
    Waits,
    /// It is no STUN request for one of our peers.
    Nonsense,
    /// It is for a peer of this shard.
    For(usize),
}

/// One connection.
pub(crate) struct Pipe {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) since: Instant,
    /// When something was last heard.
    pub(super) heard: Instant,
    /// What it said while its first packet was not complete; `None` later.
    said: Option<Vec<u8>>,
    frames: Deframer,
    proven: bool,
    packets: u32,
    queue: VecDeque<u8>,
}

impl Pipe {
    pub(super) fn new(
        stream: TcpStream,
        remote: SocketAddr,
        local: SocketAddr,
        said: Vec<u8>,
        since: Instant,
    ) -> Self {
        Self {
            stream,
            remote,
            local,
            since,
            heard: since,
            said: Some(said),
            frames: Deframer::default(),
            proven: false,
            packets: 0,
            queue: VecDeque::new(),
        }
    }

    /// A valid request has come by it.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Bytes that wait for the peer to read.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How much to read at most.
    pub(super) fn read_room(&self) -> usize {
        self.said.as_ref().map_or(usize::MAX, |said| MAX_FIRST_BYTES.saturating_sub(said.len()).max(1))
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.read(into)
    }

    /// Looks at the first packet, of which these are the next bytes. `None`: that was done before.
    pub(super) fn first(&mut self, bytes: &[u8]) -> Option<First> {
        let said = self.said.as_mut()?;
        said.extend_from_slice(bytes);
        Some(match framing::first(said) {
            Ok(None) => First::Waits,
            Ok(Some(packet)) if stun::is_stun(packet) => {
                stun::local_ufrag(packet).and_then(stun::shard).map_or(First::Nonsense, First::For)
            }
            Ok(Some(_)) | Err(_) => First::Nonsense,
        })
    }

    /// What was said until now; from here on packets are given out as they come.
    pub(super) fn take_said(&mut self) -> Vec<u8> {
        self.said.take().unwrap_or_default()
    }

    /// Gives out packets. `false`: it is not what a peer says.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        bytes: &[u8],
        mut give: impl FnMut(&[u8], bool) -> Taken,
    ) -> bool {
        self.heard = now;
        let (proven, packets) = (&mut self.proven, &mut self.packets);
        let flow = self.frames.read(bytes, |packet| {
            let taken = give(packet, *proven);
            *proven |= taken == Taken::Proven;
            *packets = packets.saturating_add(1);
            let is_stranger = taken == Taken::Unknown || (!*proven && *packets >= MAX_UNPROVEN_PACKETS);
            if is_stranger { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        matches!(flow, Ok(ControlFlow::Continue(())))
    }

    /// Writes packets, at most [`WRITE_BATCH`]; what the kernel does not take waits, if no more than `room` bytes do. Gives
    /// how many were dropped.
    pub(super) fn write<'a>(&mut self, packets: impl Iterator<Item = &'a [u8]>, room: usize) -> u64 {
        let mut lengths = [[0; LENGTH_BYTES]; WRITE_BATCH];
        let mut bodies = [&[][..]; WRITE_BATCH];
        let (mut count, mut dropped) = (0, 0);
        for packet in packets.take(WRITE_BATCH) {
            match framing::length(packet) {
                Some(length) => {
                    (lengths[count], bodies[count]) = (length, packet);
                    count += 1;
                }
                None => dropped += 1,
            }
        }
        let limit = MAX_PIPE_BYTES.min(self.queue.len().saturating_add(room));
        let mut written =
            if self.queue.is_empty() { self.write_now(&lengths[..count], &bodies[..count]) } else { 0 };
        for (length, body) in lengths.iter().zip(bodies).take(count) {
            let bytes = LENGTH_BYTES + body.len();
            let begun = written.min(bytes);
            written -= begun;
            if begun == bytes {
                continue;
            }
            // What was begun must go on, or the stream is broken.
            if begun == 0 && self.queue.len() + bytes > limit {
                dropped += 1;
                continue;
            }
            self.queue.extend(length.iter().chain(body).skip(begun));
        }
        dropped
    }

    /// Bytes that the kernel took.
    fn write_now(&mut self, lengths: &[[u8; LENGTH_BYTES]], bodies: &[&[u8]]) -> usize {
        let mut slices = [IoSlice::new(&[]); 2 * WRITE_BATCH];
        for (i, (length, body)) in lengths.iter().zip(bodies).enumerate() {
            slices[2 * i] = IoSlice::new(length);
            slices[2 * i + 1] = IoSlice::new(body);
        }
        // A pipe that has ended is told so when it is read.
        self.stream.write_vectored(&slices[..2 * lengths.len()]).unwrap_or(0)
    }

    /// The kernel has room again.
    pub(super) fn write_on(&mut self) {
        while !self.queue.is_empty() {
            match self.stream.write(self.queue.as_slices().0) {
                Ok(0) => return,
                Ok(n) => drop(self.queue.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.queue.clear(),
            }
        }
        // Its memory, too: most pipes wait rarely.
        self.queue = VecDeque::new();
    }
}
