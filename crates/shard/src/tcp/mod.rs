//! TCP for peers whose network lets no UDP out: we listen, they connect (RFC 6544), packets are framed (RFC 4571).
//!
//! A [`Pipe`] is one connection. Who it belongs to is said by the first packet, a STUN request; it may be another shard's,
//! which then gets the connection. Until such a request was found valid a pipe gets nothing and costs little: its time,
//! its packets, and the pipes of one source are bounded. What a slow peer does not read is dropped and counted; nobody
//! waits for it. Everything here is I/O and its bounds; the core sees packets with their addresses, as from UDP.

mod admission;
mod pipe;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::core::{Core, Taken};
use crate::egress::Arena;
use crate::egress::arena::Datagram;
use crate::inbox::Sender;
use crate::net::{self, Epoll, Interest, Received};
use crate::transport::Transport;

use admission::Admission;
use pipe::{First, Pipe};

/// Bytes read of one pipe before the others have their turn.
const READ_BYTES: usize = 16 << 10;
/// Connections accepted in one round.
const MAX_ACCEPTS: usize = 64;
/// Bytes that wait for all slow peers of a shard together; with the bound of each pipe the memory is theirs, not all of it.
const MAX_QUEUED_BYTES: usize = 64 << 20;
/// How often pipes that have to end are looked for.
const SWEEP: Duration = Duration::from_millis(500);
/// After the system had no descriptor left: the next try.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// Token of the listener; pipes have their place.
const LISTENER: u64 = u64::MAX;
/// Packets written by one call.
const WRITE_BATCH: usize = 32;

/// A connection that was accepted elsewhere, with what it said so far.
pub(crate) struct Handed {
    stream: TcpStream,
    remote: SocketAddr,
    local: SocketAddr,
    said: Vec<u8>,
    since: Instant,
}

/// The inboxes of all shards.
pub(crate) type Others = Arc<[Sender]>;

/// What happened to TCP connections since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: u64,
    /// Refused or ended because of a bound.
    pub(crate) refused: u64,
    /// Ended because they did not say what a peer says.
    pub(crate) strangers: u64,
    /// Given to other shards.
    pub(crate) handed: u64,
    /// Packets that a slow peer did not get.
    pub(crate) dropped: u64,
}

/// All TCP connections of a shard.
pub(crate) struct Pipes {
    shard: usize,
    listener: Option<TcpListener>,
    /// The listener is not looked at until then.
    resting: Option<Instant>,
    max: usize,
    epoll: Epoll,
    others: Others,
    pipes: Vec<Option<Box<Pipe>>>,
    free: Vec<usize>,
    by_remote: HashMap<SocketAddr, usize>,
    admission: Admission,
    queued: usize,
    next_sweep: Instant,
    scratch: Box<[u8]>,
    pub(crate) counters: Counters,
}

impl Pipes {
    /// `listener` may be shared with other shards.
    pub(crate) fn new(
        shard: usize,
        listener: Option<TcpListener>,
        max: usize,
        others: Others,
        now: Instant,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(&[])?;
        if let Some(listener) = &listener {
            epoll.add(listener.as_raw_fd(), LISTENER, Interest::Shared)?;
        }
        Ok(Self {
            shard,
            listener,
            resting: None,
            max,
            epoll,
            others,
            pipes: Vec::new(),
            free: Vec::new(),
            by_remote: HashMap::new(),
            admission: Admission::new(max),
            queued: 0,
            next_sweep: now,
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            counters: Counters::default(),
        })
    }

    /// Pipes there are.
    pub(crate) fn len(&self) -> usize {
        self.by_remote.len()
    }

    /// Does what is ready: accepts, reads, writes on. Gives packets to `core`.
    pub(crate) fn poll(&mut self, now: Instant, core: &mut Core) {
        for ready in self.epoll.wait(Duration::ZERO) {
            if ready.token == LISTENER {
                self.accept(now);
                continue;
            }
            let Ok(place) = usize::try_from(ready.token) else { continue };
            if ready.writable {
                self.write_on(place);
            }
            self.read(now, place, core);
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..MAX_ACCEPTS {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => {
                    self.counters.accepted += 1;
                    // Whose address cannot be told has gone already.
                    let Ok((remote, local)) = addresses(&stream) else { continue };
                    self.enter(Handed { stream, remote, local, said: Vec::new(), since: now });
                }
                Err(e) => match e.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    // Out of descriptors or memory: the connection would be told of again and again.
                    _ => {
                        tracing::warn!(error = %e, "accepting TCP connections of peers failed");
                        let _ = self.epoll.remove(listener.as_raw_fd());
                        self.resting = Some(now + ACCEPT_REST);
                        return;
                    }
                },
            }
        }
    }

    /// A new pipe, if the bounds allow it. Gives its place.
    fn enter(&mut self, handed: Handed) -> Option<usize> {
        let Handed { stream, remote, local, said, since } = handed;
        let full = self.by_remote.len() >= self.max || self.by_remote.contains_key(&remote);
        if full || net::prepare_stream(&stream).is_err() || !self.admission.enter(remote.ip()) {
            self.counters.refused += 1;
            return None;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.pipes.push(None);
            self.pipes.len() - 1
        });
        if self.epoll.add(stream.as_raw_fd(), place as u64, Interest::Read).is_err() {
            self.admission.leave(remote.ip());
            self.free.push(place);
            self.counters.refused += 1;
            return None;
        }
        self.pipes[place] = Some(Box::new(Pipe::new(stream, remote, local, said, since)));
        self.by_remote.insert(remote, place);
        if let Some(oldest) = self.admission.wait(place, since) {
            self.counters.refused += u64::from(self.end_stranger(oldest.place, oldest.since));
        }
        Some(place)
    }

    /// A connection that another shard accepted.
    pub(crate) fn adopt(&mut self, now: Instant, handed: Handed, core: &mut Core) {
        if let Some(place) = self.enter(handed) {
            self.hear(now, place, 0, core);
        }
    }

    fn read(&mut self, now: Instant, place: usize, core: &mut Core) {
        let Some(pipe) = self.pipes.get_mut(place).and_then(Option::as_deref_mut) else { return };
        let room = pipe.read_room().min(self.scratch.len());
        match pipe.read(&mut self.scratch[..room]) {
            Ok(0) => self.end(place, core),
            Ok(n) => self.hear(now, place, n, core),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.end(place, core),
        }
    }

    /// Takes `n` bytes out of the scratch buffer.
    fn hear(&mut self, now: Instant, place: usize, n: usize, core: &mut Core) {
        let Some(mut pipe) = self.pipes.get_mut(place).and_then(Option::take) else { return };
        let (shard, admission) = (self.shard, &mut self.admission);
        let bytes = &self.scratch[..n];
        let go_on = match pipe.first(bytes) {
            Some(First::Waits) => true,
            Some(First::Nonsense) => false,
            Some(First::For(other)) if other != shard => {
                self.hand_over(place, pipe, other);
                return;
            }
            Some(First::For(_)) => {
                let said = pipe.take_said();
                give(now, &mut pipe, &said, core, admission)
            }
            None => give(now, &mut pipe, bytes, core, admission),
        };
        self.pipes[place] = Some(pipe);
        if !go_on {
            self.counters.strangers += 1;
            self.end(place, core);
        }
    }

    /// It belongs to another shard.
    fn hand_over(&mut self, place: usize, mut pipe: Box<Pipe>, to: usize) {
        self.forget(place, &pipe);
        let said = pipe.take_said();
        let Pipe { stream, remote, local, since, .. } = *pipe;
        let _ = self.epoll.remove(stream.as_raw_fd());
        let Some(other) = self.others.get(to) else {
            self.counters.strangers += 1;
            return;
        };
        self.counters.handed += 1;
        if !other.send(Command::Pipe(Box::new(Handed { stream, remote, local, said, since }))) {
            self.counters.refused += 1;
        }
    }

    /// Bookkeeping of a pipe that is taken out.
    fn forget(&mut self, place: usize, pipe: &Pipe) {
        self.by_remote.remove(&pipe.remote);
        self.free.push(place);
        self.queued -= pipe.queued();
        if !pipe.is_proven() {
            self.admission.leave(pipe.remote.ip());
        }
    }

    /// Ends a pipe; whose it was is told.
    fn end(&mut self, place: usize, core: &mut Core) {
        let Some(pipe) = self.pipes.get_mut(place).and_then(Option::take) else { return };
        self.forget(place, &pipe);
        core.pipe_ended(pipe.remote);
    }

    /// Ends a pipe that nobody has proven to be theirs, if that is what still stands in that place.
    fn end_stranger(&mut self, place: usize, since: Instant) -> bool {
        let is = |l: &mut Box<Pipe>| !l.is_proven() && l.since == since;
        let pipe = self.pipes.get_mut(place).and_then(|l| l.take_if(is));
        if let Some(pipe) = &pipe {
            self.forget(place, pipe);
        }
        pipe.is_some()
    }

    /// Ends pipes whose peers are gone. What they were told before lies in the kernel and still leaves.
    pub(crate) fn end_all(&mut self, remotes: &[SocketAddr], core: &mut Core) {
        for remote in remotes {
            if let Some(&place) = self.by_remote.get(remote) {
                self.end(place, core);
            }
        }
    }

    /// Ends what has had its time. To be called in each round; does something twice per second.
    pub(crate) fn sweep(&mut self, now: Instant, core: &mut Core) {
        if let Some(listener) = &self.listener
            && self.resting.is_some_and(|until| until <= now)
            && self.epoll.add(listener.as_raw_fd(), LISTENER, Interest::Shared).is_ok()
        {
            self.resting = None;
        }
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP;
        while let Some(late) = self.admission.late(now) {
            self.counters.refused += u64::from(self.end_stranger(late.place, late.since));
        }
        let silence = core.config.consent_timeout;
        for place in 0..self.pipes.len() {
            let is_silent = |l: &Pipe| l.is_proven() && now.saturating_duration_since(l.heard) > silence;
            if self.pipes[place].as_deref().is_some_and(is_silent) {
                self.end(place, core);
            }
        }
    }

    /// Writes what goes by TCP; what a pipe does not take waits in its queue or is dropped.
    pub(crate) fn send(&mut self, arena: &Arena) {
        let mut rest = arena.by_tcp();
        while let Some(first) = rest.first() {
            let same = |d: &&Datagram| d.destination == first.destination;
            let count = rest.iter().take(WRITE_BATCH).take_while(same).count();
            let (batch, later) = rest.split_at(count);
            rest = later;
            self.send_batch(first.destination, batch, arena);
        }
    }

    fn send_batch(&mut self, to: SocketAddr, batch: &[Datagram], arena: &Arena) {
        let place = self.by_remote.get(&to).copied();
        let pipe = place.and_then(|p| Some((p, self.pipes.get_mut(p)?.as_deref_mut()?)));
        let Some((place, pipe)) = pipe else {
            self.counters.dropped += batch.len() as u64;
            return;
        };
        let before = pipe.queued();
        let room = MAX_QUEUED_BYTES.saturating_sub(self.queued);
        self.counters.dropped += pipe.write(batch.iter().map(|d| arena.contents(d)), room);
        self.queued = self.queued - before + pipe.queued();
        if before == 0 && pipe.queued() > 0 {
            // Where it fails the pipe is told to have ended, too.
            let _ = self.epoll.change(pipe.stream.as_raw_fd(), place as u64, Interest::Write);
        }
    }

    fn write_on(&mut self, place: usize) {
        let Some(pipe) = self.pipes.get_mut(place).and_then(Option::as_deref_mut) else { return };
        let before = pipe.queued();
        pipe.write_on();
        self.queued = self.queued - before + pipe.queued();
        if before > 0 && pipe.queued() == 0 {
            let _ = self.epoll.change(pipe.stream.as_raw_fd(), place as u64, Interest::Read);
        }
    }
}

impl AsRawFd for Pipes {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

/// Gives packets of a pipe to the core. `false`: the pipe has to end.
fn give(now: Instant, pipe: &mut Pipe, bytes: &[u8], core: &mut Core, admission: &mut Admission) -> bool {
    let (remote, local) = (pipe.remote, pipe.local);
    pipe.hear(now, bytes, |packet, proven| {
        let received =
            Received { transport: Transport::Tcp, bytes: packet, source: remote, destination: local };
        let taken = core.handle_datagram(now, &received);
        if taken == Taken::Proven && !proven {
            admission.leave(remote.ip());
        }
        taken
    })
}

/// Both ends, as candidates write them.
fn addresses(stream: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
    let plain = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    Ok((plain(stream.peer_addr()?), plain(stream.local_addr()?)))
}

/// Whose pipes are counted together: an address, or the network that a household has (RFC 6177).
fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            IpAddr::V6(octets.into())
        }
    }
}

#[cfg(test)]
mod tests;
