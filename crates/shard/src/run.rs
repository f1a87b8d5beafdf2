//! The thread of a shard: wait, read, work, send.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::core::Core;
use crate::inbox::{Inbox, Sender};
use crate::link::Port;
use crate::net::{self, Epoll, Interest, RECV_BATCH, Socket};
use crate::polling::{Polling, Round};
use crate::status::ShardMetrics;
use crate::tcp::Pipes;

/// Until messages are offered again to a shard whose ring was full: it is busy, and has thousands of them.
const RETRY: Duration = Duration::from_millis(1);
/// Longest wait without anything due.
const IDLE: Duration = Duration::from_secs(1);
/// Batches read before the subscribers are finished: beyond this, latency costs more than batching gains.
const MAX_BATCHES: usize = 2;
/// Commands done in one round, so that packets are not held up.
const MAX_COMMANDS: usize = 1_024;
/// Over what time the share of busy time is measured.
const BUSY_WINDOW: Duration = Duration::from_secs(1);

/// Token of the TCP connections in what the thread waits for.
const PIPES: u64 = 2;
/// Token of the RTCP that comes in apart.
const RTCP: u64 = 3;

/// What the thread owns.
pub(crate) struct Runner {
    pub(crate) core: Core,
    pub(crate) socket: Socket,
    pub(crate) pipes: Pipes,
    pub(crate) port: Port,
    pub(crate) inbox: Inbox,
    pub(crate) sender: Sender,
    /// Where metrics are left for readers, once per second.
    pub(crate) metrics: Arc<Mutex<ShardMetrics>>,
}

/// The window over which it is measured how busy the thread is: its processor time, not the time in which it did not wait,
/// which also grows where others take the processor. Serving less would not give that back.
struct Busy {
    since: Instant,
    spent: Duration,
}

impl Busy {
    fn begin(now: Instant) -> Self {
        Self { since: now, spent: net::thread_time() }
    }

    /// The share of the window until `now`, in thousandths.
    fn permille(&self, now: Instant) -> u64 {
        let spent = net::thread_time().saturating_sub(self.spent);
        let window = now.saturating_duration_since(self.since);
        u64::try_from(spent.as_micros() * 1_000 / window.as_micros().max(1)).unwrap_or(1_000)
    }
}

/// The RTCP that comes in apart.
struct Rtcp {
    polling: Polling,
    /// Whether the thread is woken when there is some.
    watched: bool,
}

impl Rtcp {
    /// Lets the thread be woken by it, or not, as is wanted now.
    fn watch(&mut self, epoll: &Epoll, socket: &Socket) -> std::io::Result<()> {
        let (wanted, Some(fd)) = (self.polling.next().is_none(), socket.rtcp_fd()) else { return Ok(()) };
        if wanted != self.watched {
            if wanted { epoll.add(fd, RTCP, Interest::Read) } else { epoll.remove(fd) }?;
            self.watched = wanted;
        }
        Ok(())
    }
}

impl Runner {
    /// Runs until told to stop.
    pub(crate) fn run(mut self) -> std::io::Result<()> {
        let (socket, event) = (self.socket.as_raw_fd(), self.inbox.event().as_raw_fd());
        let epoll = Epoll::new(&[socket, event, self.pipes.as_raw_fd()])?;
        let mut busy = Busy::begin(Instant::now());
        let mut rtcp = Rtcp { polling: Polling::new(Instant::now()), watched: false };
        rtcp.watch(&epoll, &self.socket)?;
        loop {
            let start = Instant::now();
            // What waits for another shard is offered again soon.
            let idle = if self.core.links.waits() { RETRY } else { IDLE };
            let next = [self.core.poll_timeout(), rtcp.polling.next()].into_iter().flatten().min();
            let next = next.map_or(idle, |at| at.saturating_duration_since(start).min(idle));
            // Without a wait nobody has said that there is nothing.
            let (mut pipes_ready, mut rtcp_ready) = (next.is_zero(), next.is_zero());
            if !next.is_zero() {
                for ready in epoll.wait(next) {
                    pipes_ready |= ready.token == PIPES;
                    rtcp_ready |= ready.token == RTCP;
                }
            }
            let woken = Instant::now();
            let rtcp_due = rtcp.polling.is_due(woken, rtcp_ready);
            let go_on = self.round(woken, pipes_ready, rtcp_due.then_some(&mut rtcp.polling));
            rtcp.watch(&epoll, &self.socket)?;
            self.publish(Instant::now(), &mut busy);
            if !go_on {
                return Ok(());
            }
        }
    }

    /// `rtcp` is there where it is to be read.
    fn round(&mut self, now: Instant, pipes_ready: bool, rtcp: Option<&mut Polling>) -> bool {
        let mut go_on = true;
        self.inbox.answer();
        for _ in 0..MAX_COMMANDS {
            let Some(command) = self.inbox.next() else { break };
            match command {
                Command::Pipe(handed) => self.pipes.adopt(now, *handed, &mut self.core),
                command => go_on &= self.core.handle_command(now, command, &self.sender),
            }
        }
        self.port.take(|from, load| self.core.handle_load(now, from, load));
        self.read(now, Socket::recv, MAX_BATCHES);
        if pipes_ready {
            self.pipes.poll(now, &mut self.core);
        }
        self.core.handle_timeout(now);
        self.finish(now);
        // Media does not wait for what is told of earlier media.
        if let Some(polling) = rtcp {
            let now = Instant::now();
            let datagrams = self.read(now, Socket::recv_rtcp, 1);
            let asks = self.core.waits();
            polling.read(now, Round { datagrams, more: datagrams == RECV_BATCH, asks });
            self.finish(now);
        }
        let ended = self.core.take_ended_pipes();
        self.pipes.end_all(&ended, &mut self.core);
        self.pipes.sweep(now, &mut self.core);
        go_on
    }

    /// Sends what there is to send.
    fn finish(&mut self, now: Instant) {
        // Other shards begin with what came in while this one serves its own.
        self.core.flush(&self.port);
        self.core.finish(now, |arena| {
            self.socket.send(arena);
            self.pipes.send(arena);
        });
        self.core.flush(&self.port);
    }

    /// Takes what the socket has, up to so many batches; how many datagrams that were.
    fn read(
        &mut self,
        now: Instant,
        recv: fn(&mut Socket) -> std::io::Result<usize>,
        batches: usize,
    ) -> usize {
        let mut read = 0;
        for _ in 0..batches {
            let n = recv(&mut self.socket).unwrap_or_else(|error| {
                tracing::warn!(%error, "reading from the media socket failed");
                0
            });
            self.handle_batch(now, n);
            read += n;
            if n < RECV_BATCH {
                break;
            }
        }
        read
    }

    /// Gives the datagrams of a batch to their peers, whose state is asked for ahead.
    fn handle_batch(&mut self, now: Instant, n: usize) {
        let mut senders = [None; RECV_BATCH];
        for (i, sender) in senders.iter_mut().enumerate().take(n) {
            *sender = self.socket.received(i).and_then(|received| self.core.sender_of(&received));
        }
        for i in 0..n {
            // Each step needs what the one before it has brought.
            for (step, ahead) in [6, 4, 2].into_iter().enumerate() {
                if let Some(&Some(place)) = senders.get(i + ahead) {
                    self.core.prefetch(place, step);
                }
            }
            if let Some(received) = self.socket.received(i) {
                self.core.handle_datagram(now, &received);
            }
        }
    }

    fn publish(&mut self, now: Instant, busy: &mut Busy) {
        if now.saturating_duration_since(busy.since) < BUSY_WINDOW {
            return;
        }
        self.core.set_load(now, busy.permille(now));
        let metrics = &mut self.core.metrics;
        metrics.send_dropped = self.socket.send_dropped;
        metrics.inbox_dropped = self.inbox.dropped();
        let tcp = self.pipes.counters;
        metrics.tcp_connections = self.pipes.len() as u64;
        (metrics.tcp_accepted, metrics.tcp_refused) = (tcp.accepted, tcp.refused);
        (metrics.tcp_strangers, metrics.tcp_handed) = (tcp.strangers, tcp.handed);
        metrics.tcp_dropped = tcp.dropped;
        if let Ok(mut shared) = self.metrics.lock() {
            *shared = *metrics;
        }
        *busy = Busy::begin(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(20);

    /// Takes the processor for that long, however long it takes to get it.
    fn work() {
        let end = net::thread_time() + WORK;
        while net::thread_time() < end {
            std::hint::black_box((0..1_000_u64).sum::<u64>());
        }
    }

    #[test]
    fn only_the_threads_own_processor_time_is_busy() {
        let now = Instant::now();
        let window = now + 2 * WORK;
        let busy = Busy::begin(now);
        assert!(busy.permille(window) < 100);
        // While others have the processor, or it waits, it is not.
        std::thread::spawn(work).join().unwrap();
        assert!(busy.permille(window) < 200, "{}", busy.permille(window));
        let before = busy.permille(window);
        work();
        let share = busy.permille(window) - before;
        assert!((500..700).contains(&share), "{share}");
    }
}
