//! A subscriber that decrypts what it gets (by str0m) and reads the stamps: delays, losses, order.
use crate::engine::{PARTS, Shared, Window, delay_histogram};
use crate::media::Stamp;
use crate::net::realtime_ns;
use hdrhistogram::Histogram;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

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

impl SubState {
    pub fn new(publishers: Vec<usize>, expected_tracks: usize) -> SubState {
        let max = publishers.iter().max().copied().unwrap_or(0);
        let mut slots = vec![None; max + 1];
        for (i, p) in publishers.iter().enumerate() {
            slots[*p] = Some(i);
        }
        SubState {
            slots,
            tracks: (0..publishers.len() * 2).map(|_| RxTrack::default()).collect(),
            expected_tracks,
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
        }
    }

    /// Whether all publishers are expected here: an offer of fewer slots than publishers gets some of them.
    pub fn expects_all(&self, kinds: usize) -> bool {
        self.expected_tracks == self.publishers.len() * kinds
    }

    pub fn on_packet(&mut self, payload: &[u8], rx_ns: u64, sh: &Shared, t0: Instant, win: Window) {
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
