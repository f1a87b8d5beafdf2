//! One engine thread: its peers and how it waits.
use crate::batches::Batches;
use crate::engine::{Peer, Role, Shared, Window};
use crate::net::{Epoll, RecvBatch, realtime_ns};
use crate::sink;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use str0m::net::{Protocol, Receive};
use str0m::{Input, Output};

/// How often the socket of a sink that has all its tracks is read. The kernel stamps what comes, so nothing is measured
/// by it; feedback goes out at twice this.
const QUIET_INTERVAL: Duration = Duration::from_millis(25);

/// Its state.
struct Worker {
    peers: Vec<Peer>,
    publishers: Vec<usize>,
    epoll: Epoll,
    batch: RecvBatch,
    next_pub: Instant,
    next_tick: Instant,
    next_scan: Instant,
    /// Sinks with all their tracks: read in turn, evenly over the interval, and waited for by nobody.
    quiet: Vec<usize>,
    next_quiet: usize,
    quiet_since: Instant,
    batches: Option<Batches>,
}

/// Worker thread body; gives back the peers with what they counted, and the messages recorded if `record`.
pub fn worker(rx: Receiver<Peer>, sh: Arc<Shared>, record: bool) -> (Vec<Peer>, Option<Batches>) {
    let now = Instant::now();
    let mut w = Worker {
        peers: vec![],
        publishers: vec![],
        epoll: Epoll::new().expect("epoll"),
        batch: RecvBatch::new(),
        next_pub: now,
        next_tick: now,
        next_scan: now,
        quiet: vec![],
        next_quiet: 0,
        quiet_since: now,
        batches: record.then(Batches::default),
    };
    let mut ready = vec![];
    while !sh.stop.load(Relaxed) {
        let win = Window::of(&sh);
        while let Ok(peer) = rx.try_recv() {
            w.add(peer, &sh, win);
        }
        w.wait(&sh, win, &mut ready);
        w.send_due(&sh, win);
        for &i in &ready {
            w.receive(i, &sh, win);
            w.retire(i);
            // Keep the senders on time even when many subscribers are readable.
            w.send_due(&sh, win);
        }
        w.visit_quiet(&sh, win);
        w.run_timers(&sh, win);
    }
    w.say_goodbye();
    (w.peers, w.batches)
}

impl Worker {
    fn add(&mut self, mut peer: Peer, sh: &Shared, win: Window) {
        self.epoll.add(peer.sock.as_raw_fd(), self.peers.len() as u64).expect("epoll add");
        if matches!(peer.role, Role::Publisher { .. }) {
            self.publishers.push(self.peers.len());
        }
        peer.drain(sh, 0, win);
        self.peers.push(peer);
    }

    fn wait(&mut self, sh: &Shared, win: Window, ready: &mut Vec<usize>) {
        let now = Instant::now();
        if win.is_set() && sh.tick_us > 0 {
            // Coalesce wakeups: cheaper, and delays are taken from kernel timestamps anyway.
            let sends = !self.publishers.is_empty();
            let until = if sends { self.next_tick.min(self.next_pub) } else { self.next_tick };
            std::thread::sleep(until.saturating_duration_since(now));
            let now = Instant::now();
            if now < self.next_tick {
                return ready.clear();
            }
            self.next_tick = now + Duration::from_micros(sh.tick_us);
            return self.epoll.wait(0, ready);
        }
        let limit_ms = match self.publishers.is_empty() {
            true => 2,
            false => self.next_pub.saturating_duration_since(now).as_millis().min(2) as i32,
        };
        self.epoll.wait(limit_ms, ready);
    }

    fn send_due(&mut self, sh: &Shared, win: Window) {
        let now = Instant::now();
        if self.publishers.is_empty() || now < self.next_pub {
            return;
        }
        let mut next = now + Duration::from_millis(5);
        for &i in &self.publishers {
            if let Some(t) = self.peers[i].pump(sh, win) {
                next = next.min(t);
            }
        }
        self.next_pub = next;
    }

    /// Reads one batch; gives whether there may be more.
    fn receive(&mut self, i: usize, sh: &Shared, win: Window) -> bool {
        let p = &mut self.peers[i];
        let n = self.batch.recv(p.sock.as_raw_fd()).unwrap_or(0);
        for m in (0..n).map(|k| self.batch.get(k)) {
            p.drops = m.drops.unwrap_or(p.drops);
            if p.dead {
                continue;
            }
            let rx_ns = if m.rx_ns == 0 { realtime_ns() } else { m.rx_ns };
            let subscribes = !matches!(p.role, Role::Publisher { .. });
            if let Some(batches) = self.batches.as_mut().filter(|_| subscribes && win.contains(rx_ns))
                && sink::is_media(m.data)
                && !sink::is_rtcp(m.data)
            {
                batches.push(rx_ns, p.number, m.datagrams().map(<[u8]>::len));
            }
            for d in m.datagrams() {
                match &mut p.role {
                    Role::Sink(sink) if sink::is_media(d) => {
                        p.remote = Some(m.from);
                        sink.take(d, rx_ns, sh, win);
                    }
                    _ => {
                        let Ok(contents) = d.try_into() else { continue };
                        let (proto, source) = (Protocol::Udp, m.from);
                        let datagram = Receive { proto, source, destination: p.local, contents };
                        p.input(Input::Receive(Instant::now(), datagram), sh, rx_ns, win);
                    }
                }
            }
        }
        n == crate::net::BATCH
    }

    /// A sink that has all its tracks is not waited for any more.
    fn retire(&mut self, i: usize) {
        let p = &self.peers[i];
        if let Role::Sink(sink) = &p.role
            && sink.is_complete()
            && p.connected.is_some()
        {
            self.epoll.remove(p.sock.as_raw_fd());
            self.quiet.push(i);
        }
    }

    fn visit_quiet(&mut self, sh: &Shared, win: Window) {
        if self.quiet.is_empty() {
            return;
        }
        let now = Instant::now();
        let passed = now - self.quiet_since;
        let share = passed.as_secs_f64() / QUIET_INTERVAL.as_secs_f64();
        let due = ((share * self.quiet.len() as f64) as usize).min(self.quiet.len());
        if due == 0 {
            return;
        }
        self.quiet_since = now;
        for _ in 0..due {
            self.next_quiet = (self.next_quiet + 1) % self.quiet.len();
            let i = self.quiet[self.next_quiet];
            while self.receive(i, sh, win) {}
            let p = &mut self.peers[i];
            if let (Role::Sink(sink), Some(remote)) = (&mut p.role, p.remote) {
                while let Some(d) = sink.say(now, realtime_ns()) {
                    let _ = p.sock.send_to(d, remote);
                }
            }
            self.send_due(sh, win);
        }
    }

    fn run_timers(&mut self, sh: &Shared, win: Window) {
        let now = Instant::now();
        if now < self.next_scan {
            return;
        }
        self.next_scan = now + Duration::from_millis(5);
        for p in self.peers.iter_mut().filter(|p| !p.dead && p.deadline <= now) {
            p.input(Input::Timeout(now), sh, realtime_ns(), win);
        }
    }

    /// So that the server frees its side even without signalling.
    fn say_goodbye(&mut self) {
        for p in self.peers.iter_mut().filter(|p| !p.dead) {
            let _ = p.rtc.close();
            for _ in 0..16 {
                match p.rtc.poll_output() {
                    Ok(Output::Transmit(t)) => {
                        let _ = p.sock.send_to(&t.contents, t.destination);
                    }
                    Ok(Output::Event(_)) => {}
                    _ => break,
                }
            }
        }
    }
}
