//! Synthetic streams: Opus-like audio and VP8-like video, with a stamp inside every payload.
//!
//! The stamp (20 bytes at payload offset 16) is: magic, send time (CLOCK_REALTIME ns),
//! publisher index, kind and a per-track packet counter. Loss, duplicates, order and delay are
//! computed from the stamp, so they hold even if the server rewrites RTP headers.
use std::time::{Duration, Instant};

pub const STAMP_OFFSET: usize = 16;
pub const STAMP_LEN: usize = 20;
const MAGIC: &[u8; 4] = b"SFUL";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Audio = 0,
    Video = 1,
}

#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub send_ns: u64,
    pub publisher: u16,
    pub kind: Kind,
    pub ctr: u32,
}

impl Stamp {
    pub fn write(&self, p: &mut [u8]) {
        let s = &mut p[STAMP_OFFSET..STAMP_OFFSET + STAMP_LEN];
        s[0..4].copy_from_slice(MAGIC);
        s[4..12].copy_from_slice(&self.send_ns.to_be_bytes());
        s[12..14].copy_from_slice(&self.publisher.to_be_bytes());
        s[14] = self.kind as u8;
        s[15] = 0;
        s[16..20].copy_from_slice(&self.ctr.to_be_bytes());
    }
    pub fn read(p: &[u8]) -> Option<Stamp> {
        let s = p.get(STAMP_OFFSET..STAMP_OFFSET + STAMP_LEN)?;
        if &s[0..4] != MAGIC {
            return None;
        }
        Some(Stamp {
            send_ns: u64::from_be_bytes(s[4..12].try_into().unwrap()),
            publisher: u16::from_be_bytes(s[12..14].try_into().unwrap()),
            kind: if s[14] == 0 { Kind::Audio } else { Kind::Video },
            ctr: u32::from_be_bytes(s[16..20].try_into().unwrap()),
        })
    }
}

#[derive(Debug, Clone, Copy)]
pub struct VideoCfg {
    pub bitrate: u64,
    pub fps: u32,
    pub packet: usize,
    /// Keyframe size as a multiple of the average frame.
    pub key_factor: f64,
    /// Over what share of the frame interval its packets are spread: 0 is a burst.
    pub spread: f64,
}

#[derive(Debug, Clone, Copy)]
pub struct AudioCfg {
    pub packet: usize,
    pub ptime_ms: u64,
}

/// One RTP packet due to be sent.
pub struct Due {
    pub rtp_time: u32,
    pub marker: bool,
    pub payload: Vec<u8>,
}

pub struct VideoGen {
    cfg: VideoCfg,
    next_frame: Instant,
    frame_no: u32,
    picture_id: u16,
    /// Packets left in the current frame: (due, size, start, end)
    pending: std::collections::VecDeque<(Instant, usize, bool, bool)>,
    cur_key: bool,
    force_key: bool,
    last_key: Option<Instant>,
    pub keyframes: u64,
    pub key_requests: u64,
    lcg: u64,
}

impl VideoGen {
    pub fn new(cfg: VideoCfg, start: Instant, seed: u64) -> Self {
        VideoGen {
            cfg,
            next_frame: start,
            frame_no: 0,
            picture_id: (seed as u16).wrapping_mul(977) & 0x7fff,
            pending: Default::default(),
            cur_key: true,
            force_key: true,
            last_key: None,
            keyframes: 0,
            key_requests: 0,
            lcg: seed.wrapping_mul(0x9E3779B97F4A7C15) | 1,
        }
    }

    pub fn request_key(&mut self) {
        self.key_requests += 1;
        self.force_key = true;
    }

    fn rnd(&mut self) -> f64 {
        self.lcg = self.lcg.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.lcg >> 33) as f64) / ((1u64 << 31) as f64)
    }

    pub fn next_due(&self) -> Instant {
        self.pending.front().map(|p| p.0).unwrap_or(self.next_frame)
    }

    pub fn poll(&mut self, now: Instant) -> Option<Due> {
        if self.pending.is_empty() {
            if now < self.next_frame {
                return None;
            }
            // If we were stalled, do not try to catch up more than 200 ms of frames.
            if now > self.next_frame + Duration::from_millis(200) {
                self.next_frame = now;
            }
            let interval = Duration::from_secs_f64(1.0 / self.cfg.fps as f64);
            // An encoder answers PLI at most every 300 ms.
            let may_key = self.last_key.is_none_or(|t| now >= t + Duration::from_millis(300));
            self.cur_key = self.force_key && may_key;
            let avg = self.cfg.bitrate as f64 / 8.0 / self.cfg.fps as f64;
            let size = if self.cur_key {
                self.force_key = false;
                self.last_key = Some(now);
                self.keyframes += 1;
                avg * self.cfg.key_factor
            } else {
                avg * (0.75 + 0.5 * self.rnd())
            } as usize;
            let n = size.div_ceil(self.cfg.packet).max(1);
            let per = (size / n).max(STAMP_OFFSET + STAMP_LEN + 4);
            let start = self.next_frame;
            for i in 0..n {
                let at = start + interval.mul_f64(self.cfg.spread * i as f64 / n as f64);
                self.pending.push_back((at, per, i == 0, i + 1 == n));
            }
            self.next_frame += interval;
            self.frame_no = self.frame_no.wrapping_add(1);
            self.picture_id = (self.picture_id + 1) & 0x7fff;
        }
        let &(at, size, first, last) = self.pending.front()?;
        if now < at {
            return None;
        }
        self.pending.pop_front();
        let mut p = vec![0u8; size];
        // VP8 payload descriptor: X=1, S on first packet; I=1 with 15-bit PictureID.
        p[0] = 0x80 | if first { 0x10 } else { 0 };
        p[1] = 0x80;
        p[2] = 0x80 | (self.picture_id >> 8) as u8;
        p[3] = self.picture_id as u8;
        if first {
            // VP8 frame tag; bit 0 clear = keyframe. 640x360.
            p[4] = if self.cur_key { 0x10 } else { 0x11 };
            if self.cur_key {
                p[7..14].copy_from_slice(&[0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
            }
        }
        // Non-constant filler.
        let mut x = self.lcg;
        for b in p[STAMP_OFFSET + STAMP_LEN..].iter_mut() {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1);
            *b = (x >> 56) as u8;
        }
        self.lcg = x | 1;
        let rtp_time = self.frame_no.wrapping_mul(90_000 / self.cfg.fps);
        Some(Due { rtp_time, marker: last, payload: p })
    }
}

pub struct AudioGen {
    cfg: AudioCfg,
    next: Instant,
    n: u32,
}

impl AudioGen {
    pub fn new(cfg: AudioCfg, start: Instant) -> Self {
        AudioGen { cfg, next: start, n: 0 }
    }
    pub fn next_due(&self) -> Instant {
        self.next
    }
    pub fn poll(&mut self, now: Instant) -> Option<Due> {
        if now < self.next {
            return None;
        }
        if now > self.next + Duration::from_millis(200) {
            self.next = now;
        }
        self.next += Duration::from_millis(self.cfg.ptime_ms);
        self.n = self.n.wrapping_add(1);
        let mut p = vec![0x5a; self.cfg.packet.max(STAMP_OFFSET + STAMP_LEN)];
        p[0] = 0x78; // Opus TOC: CELT-only FB 20 ms mono, one frame
        Some(Due {
            rtp_time: self.n.wrapping_mul(48 * self.cfg.ptime_ms as u32),
            marker: self.n == 1,
            payload: p,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_round_trip() {
        let mut p = vec![0; 64];
        let s = Stamp { send_ns: 0x0123456789abcdef, publisher: 513, kind: Kind::Video, ctr: 99 };
        s.write(&mut p);
        let r = Stamp::read(&p).unwrap();
        assert_eq!((r.send_ns, r.publisher, r.kind, r.ctr), (s.send_ns, s.publisher, s.kind, s.ctr));
        assert!(Stamp::read(&p[..30]).is_none());
        assert!(Stamp::read(&[0; 64]).is_none());
    }

    #[test]
    fn video_rate_size_and_keyframes() {
        let cfg = VideoCfg { bitrate: 1_200_000, fps: 30, packet: 1100, key_factor: 6.0, spread: 0.8 };
        let t0 = Instant::now();
        let mut g = VideoGen::new(cfg, t0, 1);
        let (mut bytes, mut markers, mut keys, mut packets) = (0, 0, 0, 0);
        for ms in 0..10_000u64 {
            if ms == 5_000 {
                g.request_key();
                g.request_key();
            }
            while let Some(d) = g.poll(t0 + Duration::from_millis(ms)) {
                assert!(d.payload.len() <= 1100 && d.payload.len() >= STAMP_OFFSET + STAMP_LEN);
                bytes += d.payload.len();
                packets += 1;
                markers += d.marker as u32;
                // S bit and P bit clear: first packet of a keyframe.
                keys += (d.payload[0] & 0x10 != 0 && d.payload[4] & 1 == 0) as u32;
            }
        }
        assert!((295..=300).contains(&markers), "{markers} frames");
        assert_eq!(keys, 2);
        assert_eq!(g.keyframes, 2);
        let kbps = bytes as f64 * 8.0 / 10_000.0;
        assert!((1150.0..1300.0).contains(&kbps), "{kbps} kbit/s");
        assert!((1200..1700).contains(&packets), "{packets} packets");
    }

    #[test]
    fn audio_is_50_per_second() {
        let t0 = Instant::now();
        let mut g = AudioGen::new(AudioCfg { packet: 100, ptime_ms: 20 }, t0);
        let n = (0..10_000u64)
            .filter_map(|ms| g.poll(t0 + Duration::from_millis(ms)))
            .inspect(|d| assert_eq!(d.payload.len(), 100))
            .count();
        assert_eq!(n, 500);
    }
}
