//! Peers of the load: str0m, a socket, what is sent or received. One thread per worker, many peers per worker, no async
//! runtime.
use crate::decrypting::SubState;
use crate::media::{AudioGen, Kind, Stamp, VideoGen};
use crate::net::{self, realtime_ns};
use crate::sink::Sink;
use hdrhistogram::Histogram;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use str0m::media::{Mid, Pt};
use str0m::rtp::RtpWrite;
use str0m::{Event, IceConnectionState, Input, Output, Rtc};

/// State shared between the main thread and the workers.
pub struct Shared {
    /// The window in CLOCK_REALTIME ns; u64::MAX while not set.
    pub win_start: AtomicU64,
    pub win_end: AtomicU64,
    pub stop: AtomicBool,
    pub connected: AtomicUsize,
    pub first_media: AtomicUsize,
    pub all_media: AtomicUsize,
    pub dead: AtomicUsize,
    /// Batch wakeups inside the measurement window (µs; 0 = wake per packet).
    pub tick_us: u64,
}

/// Into how many parts the window is cut: a p99 is that of the best part (stalls from outside spoil one or two).
pub const PARTS: usize = 5;

/// The measurement window, CLOCK_REALTIME ns.
#[derive(Clone, Copy)]
pub struct Window {
    start: u64,
    end: u64,
}

impl Window {
    pub fn of(sh: &Shared) -> Window {
        Window { start: sh.win_start.load(Relaxed), end: sh.win_end.load(Relaxed) }
    }

    pub fn is_set(self) -> bool {
        self.start != u64::MAX
    }

    /// It, or the time after it.
    pub fn started(self, ns: u64) -> bool {
        ns >= self.start
    }

    pub fn contains(self, ns: u64) -> bool {
        (self.start..self.end).contains(&ns)
    }

    /// Which part a moment inside the window falls into.
    pub fn part(self, ns: u64) -> usize {
        let share = (ns - self.start) as f64 / (self.end - self.start) as f64;
        ((share * PARTS as f64) as usize).min(PARTS - 1)
    }
}

/// Delays in microseconds, 1 % precise.
pub fn delay_histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, 60_000_000, 2).expect("constant bounds are good")
}

impl Shared {
    pub fn new(tick_us: u64) -> Shared {
        Shared {
            win_start: AtomicU64::new(u64::MAX),
            win_end: AtomicU64::new(u64::MAX),
            stop: AtomicBool::new(false),
            connected: AtomicUsize::new(0),
            first_media: AtomicUsize::new(0),
            all_media: AtomicUsize::new(0),
            dead: AtomicUsize::new(0),
            tick_us,
        }
    }
}

/// One track being sent.
pub struct TxTrack {
    pub kind: Kind,
    pub mid: Mid,
    pub pt: Pt,
    pub seq: u64,
    pub ctr: u32,
    pub generator: Gen,
    pub sent: u64,
    pub sent_in_window: u64,
    pub bytes_in_window: u64,
}

pub enum Gen {
    Audio(AudioGen),
    Video(VideoGen),
}

pub enum Role {
    Publisher {
        index: usize,
        tracks: Vec<TxTrack>,
    },
    /// Decrypts what it gets.
    Subscriber(Box<SubState>),
    /// Only counts it.
    Sink(Box<Sink>),
}

pub struct Peer {
    pub rtc: Rtc,
    pub sock: UdpSocket,
    pub local: SocketAddr,
    pub remote: Option<SocketAddr>,
    pub role: Role,
    /// Number among the subscribers of the run.
    pub number: u32,
    pub deadline: Instant,
    pub t0: Instant,
    /// The same moment, CLOCK_REALTIME ns.
    pub t0_ns: u64,
    /// Sent together at the end of a pump.
    pub outbox: Vec<(SocketAddr, Vec<u8>)>,
    pub signalled: Duration,
    pub connected: Option<Duration>,
    pub dead: bool,
    pub drops: u32,
}

impl Peer {
    /// Poll the Rtc until it has nothing more to say.
    pub fn drain(&mut self, sh: &Shared, rx_ns: u64, win: Window) {
        self.poll(sh, rx_ns, win);
        self.flush();
    }

    fn flush(&mut self) {
        match &self.outbox[..] {
            [] => return,
            [(to, d)] => drop(self.sock.send_to(d, to)),
            _ => net::send_all(self.sock.as_raw_fd(), &mut self.outbox),
        }
        self.outbox.clear();
    }

    fn poll(&mut self, sh: &Shared, rx_ns: u64, win: Window) {
        let mut now = Instant::now();
        let mut spins = 0;
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(t)) => {
                    if t <= now && spins < 8 {
                        spins += 1;
                        if self.rtc.handle_input(Input::Timeout(now)).is_err() {
                            return self.die(sh);
                        }
                        now = Instant::now();
                        continue;
                    }
                    self.deadline = t;
                    return;
                }
                Ok(Output::Transmit(t)) => self.outbox.push((t.destination, t.contents.to_vec())),
                Ok(Output::Event(e)) => match e {
                    Event::RtpPacket(p) => {
                        if let Role::Subscriber(s) = &mut self.role {
                            s.on_packet(&p.payload, rx_ns, sh, self.t0, win);
                        }
                    }
                    Event::Connected if self.connected.is_none() => {
                        self.connected = Some(self.t0.elapsed());
                        sh.connected.fetch_add(1, Relaxed);
                        if let Role::Sink(sink) = &mut self.role {
                            sink.arm();
                        }
                    }
                    Event::KeyframeRequest(k) => {
                        if let Role::Publisher { tracks, .. } = &mut self.role {
                            for t in tracks.iter_mut().filter(|t| t.mid == k.mid) {
                                if let Gen::Video(v) = &mut t.generator {
                                    v.request_key();
                                }
                            }
                        }
                    }
                    Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                        return self.die(sh);
                    }
                    _ => {}
                },
                Err(_) => return self.die(sh),
            }
        }
    }

    pub fn input(&mut self, input: Input, sh: &Shared, rx_ns: u64, win: Window) {
        match self.rtc.handle_input(input) {
            Ok(()) => self.drain(sh, rx_ns, win),
            Err(_) => self.die(sh),
        }
    }

    fn die(&mut self, sh: &Shared) {
        if !self.dead {
            self.dead = true;
            sh.dead.fetch_add(1, Relaxed);
            self.deadline = Instant::now() + Duration::from_secs(3600);
        }
    }

    /// Send everything that is due, together. Returns the next due time.
    pub fn pump(&mut self, sh: &Shared, win: Window) -> Option<Instant> {
        let next = self.write_due(sh, win);
        self.flush();
        next
    }

    fn write_due(&mut self, sh: &Shared, win: Window) -> Option<Instant> {
        if self.dead || self.connected.is_none() {
            return None;
        }
        let mut next: Option<Instant> = None;
        let ntracks = match &self.role {
            Role::Publisher { tracks, .. } => tracks.len(),
            _ => return None,
        };
        for i in 0..ntracks {
            loop {
                let Role::Publisher { index, tracks } = &mut self.role else { return None };
                let t = &mut tracks[i];
                let now = Instant::now();
                let due = match &mut t.generator {
                    Gen::Audio(g) => g.poll(now),
                    Gen::Video(g) => g.poll(now),
                };
                let Some(mut d) = due else {
                    let nd = match &t.generator {
                        Gen::Audio(g) => g.next_due(),
                        Gen::Video(g) => g.next_due(),
                    };
                    next = Some(next.map_or(nd, |n| n.min(nd)));
                    break;
                };
                let send_ns = realtime_ns();
                Stamp { send_ns, publisher: *index as u16, kind: t.kind, ctr: t.ctr }.write(&mut d.payload);
                t.ctr += 1;
                t.seq += 1;
                t.sent += 1;
                if win.contains(send_ns) {
                    t.sent_in_window += 1;
                    t.bytes_in_window += d.payload.len() as u64;
                }
                let mut w = RtpWrite::new(t.pt, t.seq.into(), d.rtp_time, now, d.payload)
                    .marker(d.marker)
                    .nackable(t.kind == Kind::Video);
                if t.kind == Kind::Audio {
                    w = w.ext_vals(str0m::rtp::ExtensionValues {
                        audio_level: Some(-30),
                        voice_activity: Some(true),
                        ..Default::default()
                    });
                }
                let mid = t.mid;
                let mut api = self.rtc.direct_api();
                if let Some(tx) = api.stream_tx_by_mid(mid, None) {
                    tx.write_rtp(w);
                }
                self.poll(sh, 0, win);
                if self.dead {
                    return None;
                }
            }
        }
        next
    }

    pub fn keyframes(&self) -> (u64, u64) {
        let mut r = (0, 0);
        if let Role::Publisher { tracks, .. } = &self.role {
            for t in tracks {
                if let Gen::Video(v) = &t.generator {
                    r.0 += v.keyframes;
                    r.1 += v.key_requests;
                }
            }
        }
        r
    }
}

impl TxTrack {
    pub fn kind(&self) -> Kind {
        self.kind
    }
}
