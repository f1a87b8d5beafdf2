//! The floor under forwarding: each packet that comes in is encrypted for each receiver (AES-128-GCM, aws-lc, a key
//! per receiver, RFC 7714 sizes) and sent over loopback. No parsing, no peers, no timers, no bookkeeping.
//!
//! One thread does that at the pace of the run it stands beside, and its CPU time (user and system) is divided by the
//! packets sent. Another drains the receiving sockets, so that the kernel delivers instead of dropping.

mod send;

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use clap::Parser;
use send::{Batch, Mode};

/// RTP header with the extensions a browser negotiates: sent in clear, authenticated.
const HEADER_BYTES: usize = 28;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// Datagrams drained per call by the receiving thread.
const DRAIN_BUFFER: usize = 2048;

/// What to send, as `sfuload` reports it under `ingress`.
#[derive(Parser)]
#[command(version, about = "CPU per packet of encrypting and sending alone")]
struct Args {
    /// Receivers of each packet.
    #[arg(long, default_value_t = 100)]
    receivers: usize,
    /// Video packets that come in per second.
    #[arg(long, default_value_t = 150.0)]
    video_rate: f64,
    /// Bytes of their payload.
    #[arg(long, default_value_t = 1000)]
    video_bytes: usize,
    /// Audio packets that come in per second.
    #[arg(long, default_value_t = 50.0)]
    audio_rate: f64,
    /// Bytes of their payload.
    #[arg(long, default_value_t = 100)]
    audio_bytes: usize,
    /// Packets of one kind that come in per wake-up.
    #[arg(long, default_value_t = 1)]
    per_wakeup: usize,
    /// How the packets of a wake-up are given to the kernel.
    #[arg(long, value_enum, default_value_t = Mode::Gso)]
    mode: Mode,
    /// Measured seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// One subscriber: its key, its address, its packet counter.
struct Receiver {
    key: LessSafeKey,
    to: libc::sockaddr_in,
    sent: u64,
}

impl Receiver {
    fn new(index: usize, socket: &UdpSocket) -> Receiver {
        let mut key = [0x5a; 16];
        key[..8].copy_from_slice(&(index as u64).to_be_bytes());
        let key = UnboundKey::new(&AES_128_GCM, &key).expect("16 bytes are an AES-128 key");
        let port = socket.local_addr().expect("bound").port();
        Receiver { key: LessSafeKey::new(key), to: send::loopback(port), sent: 0 }
    }

    /// Appends one protected packet to `out`.
    fn protect(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.sent += 1;
        let start = out.len();
        out.extend_from_slice(&[0x80; HEADER_BYTES]);
        out[start + 2..start + 10].copy_from_slice(&self.sent.to_be_bytes());
        out.extend_from_slice(payload);
        let mut nonce = [0; NONCE_BYTES];
        nonce[4..].copy_from_slice(&self.sent.to_be_bytes());
        let (header, body) = out[start..].split_at_mut(HEADER_BYTES);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*header), body)
            .expect("a packet is shorter than GCM's limit");
        out.extend_from_slice(tag.as_ref());
    }
}

/// Moments at which packets of one kind come in.
struct Arrivals {
    next: Instant,
    every: Duration,
    payload: Vec<u8>,
}

impl Arrivals {
    fn new(rate: f64, per_wakeup: usize, bytes: usize, start: Instant) -> Option<Arrivals> {
        let every = Duration::from_secs_f64(per_wakeup as f64 / rate.max(1e-3));
        (rate > 0.0).then(|| Arrivals { next: start, every, payload: vec![0xa5; bytes] })
    }
}

fn thread_cpu() -> Duration {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut ts) };
    Duration::new(ts.tv_sec.unsigned_abs(), u32::try_from(ts.tv_nsec).unwrap_or(0))
}

/// Sends for `args.seconds`; gives packets sent and the CPU time of this thread.
fn send_all(args: &Args, receivers: &mut [Receiver], fd: RawFd) -> (u64, Duration) {
    let start = Instant::now();
    let kinds = [(args.video_rate, args.video_bytes), (args.audio_rate, args.audio_bytes)];
    let mut arrivals: Vec<Arrivals> = kinds
        .into_iter()
        .filter_map(|(rate, bytes)| Arrivals::new(rate, args.per_wakeup, bytes, start))
        .collect();
    let end = start + Duration::from_secs_f64(args.seconds);
    let mut batch = Batch::new(args.mode);
    let (mut packets, before) = (0, thread_cpu());
    while let Some(due) = arrivals.iter_mut().min_by_key(|a| a.next)
        && due.next < end
    {
        std::thread::sleep(due.next.saturating_duration_since(Instant::now()));
        due.next += due.every;
        let size = HEADER_BYTES + due.payload.len() + TAG_BYTES;
        batch.start(size, args.per_wakeup);
        for r in receivers.iter_mut() {
            (0..args.per_wakeup).for_each(|_| r.protect(&due.payload, batch.buffer()));
            batch.close_receiver(r.to);
        }
        packets += batch.send(fd);
    }
    (packets, thread_cpu() - before)
}

fn drain(sockets: &[UdpSocket], stop: &AtomicBool) {
    let mut buffer = [0; DRAIN_BUFFER];
    while !stop.load(Relaxed) {
        for s in sockets {
            while s.recv(&mut buffer).is_ok() {}
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let bind = || UdpSocket::bind("127.0.0.1:0").and_then(|s| s.set_nonblocking(true).map(|()| s));
    let sockets = (0..args.receivers).map(|_| bind()).collect::<Result<Vec<_>, _>>()?;
    let mut receivers: Vec<Receiver> = sockets.iter().enumerate().map(|(i, s)| Receiver::new(i, s)).collect();
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    let stop = AtomicBool::new(false);
    let (packets, cpu) = std::thread::scope(|scope| {
        scope.spawn(|| drain(&sockets, &stop));
        let result = send_all(&args, &mut receivers, sender.as_raw_fd());
        stop.store(true, Relaxed);
        result
    });
    let us = cpu.as_secs_f64() * 1e6 / packets.max(1) as f64;
    println!(
        "{{\"packets\": {packets}, \"cpu_s\": {:.3}, \"cpu_us_per_packet\": {us:.3}}}",
        cpu.as_secs_f64()
    );
    Ok(())
}
