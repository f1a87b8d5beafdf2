//! Media engine: one thread per worker, many str0m peers per worker, no async runtime.
use crate::media::{AudioGen, Kind, Stamp, VideoGen};
use crate::net::{self, Epoll, RecvBatch, realtime_ns};
use crate::signalling::SdpPeer;
use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};

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
    fn of(sh: &Shared) -> Window {
        Window { start: sh.win_start.load(Relaxed), end: sh.win_end.load(Relaxed) }
    }

    fn is_set(self) -> bool {
        self.start != u64::MAX
    }

    fn contains(self, ns: u64) -> bool {
        (self.start..self.end).contains(&ns)
    }

    /// Which part a moment inside the window falls into.
    fn part(self, ns: u64) -> usize {
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

pub fn rtc_config() -> str0m::RtcConfig {
    Rtc::builder()
        .clear_codecs()
        .enable_opus(true, false)
        .enable_vp8(true)
        .set_rtp_mode(true)
        .set_reordering_size_audio(1)
        .set_reordering_size_video(1)
}

/// One track being sent.
pub struct TxTrack {
    kind: Kind,
    mid: Mid,
    pt: Pt,
    seq: u64,
    ctr: u32,
    generator: Gen,
    pub sent: u64,
    pub sent_in_window: u64,
    pub bytes_in_window: u64,
}

enum Gen {
    Audio(AudioGen),
    Video(VideoGen),
}

/// Per (subscriber peer, publisher, kind).
#[derive(Default)]
pub struct RxTrack {
    seen: Vec<u64>,
    pub total: u64,
    pub unique_in_window: u64,
    pub dups: u64,
    pub ooo: u64,
    highest: Option<u32>,
}

pub struct SubState {
    /// publisher index -> slot
    slots: Vec<Option<usize>>,
    pub tracks: Vec<RxTrack>,
    expected_tracks: usize,
    tracks_seen: usize,
    pub publishers: Vec<usize>,
    /// Packets whose kernel receive time is inside the window.
    pub rx_in_window: u64,
    pub rx_bytes_in_window: u64,
    pub alien: u64,
    /// One per part of the window.
    pub delay_us: [Histogram<u32>; PARTS],
    pub delay_app_us: Histogram<u32>,
    pub first_media: Option<Duration>,
    pub all_media: Option<Duration>,
    pub last_rx_ns: u64,
    pub max_gap_ms: f64,
}

pub enum Role {
    Publisher { index: usize, tracks: Vec<TxTrack> },
    Subscriber(Box<SubState>),
}

pub struct Peer {
    rtc: Rtc,
    sock: UdpSocket,
    local: SocketAddr,
    pub role: Role,
    deadline: Instant,
    t0: Instant,
    pub signalled: Duration,
    pub connected: Option<Duration>,
    pub dead: bool,
    pub drops: u32,
}

/// A peer connection under negotiation; lent to signalling adapters as `SdpPeer`.
pub struct Negotiation {
    rtc: Rtc,
    sock: UdpSocket,
    local: SocketAddr,
    pending: Option<SdpPendingOffer>,
    publish: Option<(bool, bool)>,
    mids: Vec<(Kind, Mid)>,
    t0: Instant,
}

impl Negotiation {
    pub fn new(ip: Ipv4Addr, rcvbuf: usize, publish: Option<(bool, bool)>) -> Result<Self> {
        let sock = net::bind_udp(ip, rcvbuf).context("bind udp")?;
        let local = sock.local_addr()?;
        let t0 = Instant::now();
        let mut rtc = rtc_config().build(t0);
        rtc.add_local_candidate(Candidate::host(local, "udp")?);
        let mut n = Negotiation { rtc, sock, local, pending: None, publish, mids: vec![], t0 };
        n.settle();
        Ok(n)
    }

    /// Drain outputs between mutations; nothing can be sent before the SDP exchange is over.
    fn settle(&mut self) {
        while let Ok(o) = self.rtc.poll_output() {
            match o {
                Output::Timeout(_) => break,
                Output::Transmit(t) => {
                    let _ = self.sock.send_to(&t.contents, t.destination);
                }
                Output::Event(_) => {}
            }
        }
    }

    fn finish(self, role: Role) -> Peer {
        let now = Instant::now();
        Peer {
            rtc: self.rtc,
            sock: self.sock,
            local: self.local,
            role,
            deadline: now,
            t0: self.t0,
            signalled: now - self.t0,
            connected: None,
            dead: false,
            drops: 0,
        }
    }

    pub fn into_publisher(
        mut self,
        index: usize,
        mut audio: impl FnMut() -> AudioGen,
        mut video: impl FnMut() -> VideoGen,
    ) -> Result<Peer> {
        let mut tracks = vec![];
        for (kind, mid) in std::mem::take(&mut self.mids) {
            let m = self.rtc.media(mid).ok_or_else(|| anyhow!("no media {mid}"))?;
            let pt = *m.remote_pts().first().ok_or_else(|| anyhow!("m-line {mid} rejected"))?;
            tracks.push(TxTrack {
                kind,
                mid,
                pt,
                seq: 1000 + index as u64 * 7,
                ctr: 0,
                generator: match kind {
                    Kind::Audio => Gen::Audio(audio()),
                    Kind::Video => Gen::Video(video()),
                },
                sent: 0,
                sent_in_window: 0,
                bytes_in_window: 0,
            });
        }
        Ok(self.finish(Role::Publisher { index, tracks }))
    }

    pub fn into_subscriber(self, publishers: Vec<usize>, kinds: usize) -> Peer {
        let max = publishers.iter().max().copied().unwrap_or(0);
        let mut slots = vec![None; max + 1];
        for (i, p) in publishers.iter().enumerate() {
            slots[*p] = Some(i);
        }
        let n = publishers.len();
        let st = SubState {
            slots,
            tracks: (0..n * 2).map(|_| RxTrack::default()).collect(),
            expected_tracks: n * kinds,
            tracks_seen: 0,
            publishers,
            rx_in_window: 0,
            rx_bytes_in_window: 0,
            alien: 0,
            delay_us: std::array::from_fn(|_| delay_histogram()),
            delay_app_us: delay_histogram(),
            first_media: None,
            all_media: None,
            last_rx_ns: 0,
            max_gap_ms: 0.0,
        };
        self.finish(Role::Subscriber(Box::new(st)))
    }
}

impl SdpPeer for Negotiation {
    fn make_offer(&mut self, audio: usize, video: usize) -> Result<String> {
        let mut api = self.rtc.sdp_api();
        match self.publish {
            Some((a, v)) => {
                // One stream id per publisher, so a conforming receiver can lip-sync.
                let sid = Some(format!("s{}", self.local.port()));
                if a {
                    let m = api.add_media(MediaKind::Audio, Direction::SendOnly, sid.clone(), None, None);
                    self.mids.push((Kind::Audio, m));
                }
                if v {
                    let m = api.add_media(MediaKind::Video, Direction::SendOnly, sid, None, None);
                    self.mids.push((Kind::Video, m));
                }
            }
            None => {
                for _ in 0..audio {
                    api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
                }
                for _ in 0..video {
                    api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
                }
            }
        }
        let (offer, pending) = api.apply().ok_or_else(|| anyhow!("nothing to offer"))?;
        self.pending = Some(pending);
        self.settle();
        Ok(offer.to_sdp_string())
    }

    fn accept_answer(&mut self, sdp: &str) -> Result<()> {
        let answer = SdpAnswer::from_sdp_string(sdp).context("parse answer")?;
        let pending = self.pending.take().ok_or_else(|| anyhow!("no pending offer"))?;
        self.rtc.sdp_api().accept_answer(pending, answer).context("accept answer")?;
        self.settle();
        Ok(())
    }

    fn accept_offer(&mut self, sdp: &str) -> Result<String> {
        if self.publish.is_some() {
            bail!("publisher cannot be the answerer");
        }
        let offer = SdpOffer::from_sdp_string(sdp).context("parse offer")?;
        let answer = self.rtc.sdp_api().accept_offer(offer).context("accept offer")?;
        self.settle();
        Ok(answer.to_sdp_string())
    }
}

impl SubState {
    fn on_packet(&mut self, payload: &[u8], rx_ns: u64, sh: &Shared, t0: Instant, win: Window) {
        let Some(st) = Stamp::read(payload) else {
            self.alien += 1;
            return;
        };
        let Some(slot) = self.slots.get(st.publisher as usize).copied().flatten() else {
            self.alien += 1;
            return;
        };
        if self.first_media.is_none() {
            self.first_media = Some(t0.elapsed());
            sh.first_media.fetch_add(1, Relaxed);
        }
        let t = &mut self.tracks[slot * 2 + st.kind as usize];
        if t.total == 0 {
            self.tracks_seen += 1;
            if self.tracks_seen == self.expected_tracks {
                self.all_media = Some(t0.elapsed());
                sh.all_media.fetch_add(1, Relaxed);
            }
        }
        t.total += 1;
        if win.contains(rx_ns) {
            self.rx_in_window += 1;
            self.rx_bytes_in_window += payload.len() as u64;
            let d = rx_ns.saturating_sub(st.send_ns) / 1000;
            let _ = self.delay_us[win.part(rx_ns)].record(d.clamp(1, 59_000_000));
            let a = realtime_ns().saturating_sub(st.send_ns) / 1000;
            let _ = self.delay_app_us.record(a.clamp(1, 59_000_000));
            if self.last_rx_ns != 0 {
                let gap = rx_ns.saturating_sub(self.last_rx_ns) as f64 / 1e6;
                self.max_gap_ms = self.max_gap_ms.max(gap);
            }
            self.last_rx_ns = rx_ns;
        }
        let (w, b) = ((st.ctr / 64) as usize, st.ctr % 64);
        if t.seen.len() <= w {
            t.seen.resize(w + 64, 0);
        }
        if t.seen[w] & (1 << b) != 0 {
            t.dups += 1;
            return;
        }
        t.seen[w] |= 1 << b;
        if win.contains(st.send_ns) {
            t.unique_in_window += 1;
            if t.highest.is_some_and(|h| st.ctr < h) {
                t.ooo += 1;
            }
        }
        t.highest = Some(t.highest.map_or(st.ctr, |h| h.max(st.ctr)));
    }
}

impl Peer {
    /// Poll the Rtc until it has nothing more to say.
    fn drain(&mut self, sh: &Shared, rx_ns: u64, win: Window) {
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
                Ok(Output::Transmit(t)) => {
                    let _ = self.sock.send_to(&t.contents, t.destination);
                }
                Ok(Output::Event(e)) => match e {
                    Event::RtpPacket(p) => {
                        if let Role::Subscriber(s) = &mut self.role {
                            s.on_packet(&p.payload, rx_ns, sh, self.t0, win);
                        }
                    }
                    Event::Connected if self.connected.is_none() => {
                        self.connected = Some(self.t0.elapsed());
                        sh.connected.fetch_add(1, Relaxed);
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

    fn input(&mut self, input: Input, sh: &Shared, rx_ns: u64, win: Window) {
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

    /// Send everything that is due. Returns the next due time.
    fn pump(&mut self, sh: &Shared, win: Window) -> Option<Instant> {
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
                self.drain(sh, 0, win);
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

/// One engine thread: its peers and how it waits.
struct Worker {
    peers: Vec<Peer>,
    publishers: Vec<usize>,
    epoll: Epoll,
    batch: RecvBatch,
    next_pub: Instant,
    next_tick: Instant,
    next_scan: Instant,
}

/// Worker thread body; gives back the peers with what they counted.
pub fn worker(rx: Receiver<Peer>, sh: Arc<Shared>) -> Vec<Peer> {
    let now = Instant::now();
    let mut w = Worker {
        peers: vec![],
        publishers: vec![],
        epoll: Epoll::new().expect("epoll"),
        batch: RecvBatch::new(),
        next_pub: now,
        next_tick: now,
        next_scan: now,
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
            // Keep the senders on time even when many subscribers are readable.
            w.send_due(&sh, win);
        }
        w.run_timers(&sh, win);
    }
    w.say_goodbye();
    w.peers
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
            self.next_tick = Instant::now() + Duration::from_micros(sh.tick_us);
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

    fn receive(&mut self, i: usize, sh: &Shared, win: Window) {
        let p = &mut self.peers[i];
        let n = self.batch.recv(p.sock.as_raw_fd()).unwrap_or(0);
        for d in (0..n).map(|k| self.batch.get(k)) {
            p.drops = d.drops.unwrap_or(p.drops);
            let Ok(contents) = d.data.try_into() else { continue };
            if p.dead {
                continue;
            }
            let rx_ns = if d.rx_ns == 0 { realtime_ns() } else { d.rx_ns };
            let datagram = Receive { proto: Protocol::Udp, source: d.from, destination: p.local, contents };
            p.input(Input::Receive(Instant::now(), datagram), sh, rx_ns, win);
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
