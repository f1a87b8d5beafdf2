//! Joining: negotiations over signalling threads, the made peers dealt out to the engine threads.
use crate::engine::Peer;
use crate::media::{AudioCfg, AudioGen, VideoCfg, VideoGen};
use crate::negotiation::{Negotiation, Side};
use crate::signalling::{Session, Signalling, SubSpec};
use crate::{Args, Offer, Profile};
use anyhow::Result;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Wait until `cond` or timeout; returns whether it became true.
pub fn wait_for(timeout: Duration, cond: impl Fn() -> bool) -> bool {
    let t = Instant::now();
    while t.elapsed() < timeout {
        if cond() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    cond()
}

/// Brings peers in over several signalling threads and hands them to the engine threads.
pub struct Joiner<'a> {
    pub args: &'a Args,
    pub sig: &'a dyn Signalling,
    pub tx: Vec<Sender<Peer>>,
    pub sessions: Mutex<Vec<Session>>,
    pub errors: Mutex<Vec<String>>,
    pub turn: AtomicUsize,
}

impl Joiner<'_> {
    /// Run `jobs` negotiations over the signalling threads.
    fn run<J: Sync>(&self, jobs: &[J], f: impl Fn(&J) -> Result<(Peer, Session)> + Sync) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..self.args.join_concurrency.max(1) {
                s.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Relaxed);
                        let Some(j) = jobs.get(i) else { break };
                        match f(j) {
                            Ok((peer, sess)) => {
                                self.sessions.lock().unwrap().push(sess);
                                let w = self.turn.fetch_add(1, Relaxed) % self.tx.len();
                                let _ = self.tx[w].send(peer);
                            }
                            Err(e) => self.errors.lock().unwrap().push(format!("{e:#}")),
                        }
                        if self.args.join_interval_ms > 0 {
                            std::thread::sleep(Duration::from_millis(self.args.join_interval_ms));
                        }
                    }
                });
            }
        });
    }

    pub fn failed(&self) -> usize {
        self.errors.lock().unwrap().len()
    }

    /// Let all publishers in; they send as soon as they are connected.
    pub fn publishers(&self, epoch: Instant) {
        let (audio, video) = self.args.kinds();
        let all: Vec<usize> = (0..self.args.all_publishers()).collect();
        self.run(&all, |&i| {
            let mut n = Negotiation::new(self.args.sockets(), Side::Publisher(audio, video))?;
            let session = self.sig.publish(i, &mut n)?;
            // Spread the publishers over the frame interval so that they do not send in phase.
            let start = epoch + Duration::from_micros((i as u64 * 7_919) % 33_000);
            let audio = AudioCfg { packet: self.args.audio_packet, ptime_ms: 20 };
            let video = VideoCfg {
                bitrate: self.args.video_kbps * 1000,
                fps: self.args.fps,
                packet: self.args.video_packet,
                key_factor: self.args.key_factor,
                spread: if self.args.profile == Profile::Burst { 0.0 } else { 0.8 },
            };
            let peer = n.into_publisher(
                i,
                || AudioGen::new(audio, start),
                || VideoGen::new(video, start, i as u64 + 1),
            )?;
            Ok((peer, session))
        });
    }

    /// Let all subscribers in.
    pub fn subscribers(&self, specs: &[SubSpec]) {
        let side = if self.args.offer == Offer::Web { Side::WebClient } else { Side::Subscriber };
        self.run(specs, |spec| {
            let mut n = Negotiation::new(self.args.sockets(), side)?;
            let session = self.sig.subscribe(spec, &mut n)?;
            let (number, tracks) = (spec.number as u32, self.args.tracks_of(spec.publishers.len()));
            let decrypts = spec.number % self.args.decrypt_every.max(1) == 0;
            let peer = match decrypts {
                true => n.into_subscriber(number, spec.publishers.clone(), tracks),
                false => n.into_sink(number, tracks),
            };
            Ok((peer, session))
        });
    }
}
