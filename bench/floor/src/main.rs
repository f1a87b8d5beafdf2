//! The floor under forwarding: the packets of a recorded run, encrypted for each receiver and sent over loopback with the
//! same sizes, at the same moments and in the same batches for each peer. No parsing, no peers, no timers, no bookkeeping.
//!
//! `sfuload --batches` records what reached its subscribers. One thread does likewise with AES-GCM by aws-lc (a key per
//! receiver, RFC 7714 sizes), and its CPU time, user and system, is divided by the packets sent. Another drains the
//! receiving sockets, so that the kernel delivers instead of dropping.

mod recording;
mod send;

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use clap::Parser;
use recording::Wakeup;
use send::{Batch, Mode};

/// RTP header with CSRC and the extensions a browser negotiates: sent in clear, authenticated.
const HEADER_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// Messages sent before the next packets are encrypted: a burst to many receivers stays in the second-level cache.
const ARENA_BYTES: usize = 256 * 1024;
/// Bytes of a received message: joined datagrams have at most the length of one.
const DRAIN_BUFFER: usize = 1 << 16;

/// What to do likewise.
#[derive(Parser)]
#[command(version, about = "CPU per packet of encrypting and sending alone")]
struct Args {
    /// What `sfuload --batches` has written.
    recording: PathBuf,
    /// How the packets of a batch are given to the kernel.
    #[arg(long, value_enum, default_value_t = Mode::Gso)]
    mode: Mode,
    /// AES key bits of the run.
    #[arg(long, default_value_t = 256)]
    key_bits: u16,
    /// Leave UDP receive offload off, as in the run.
    #[arg(long)]
    no_gro: bool,
    /// Seconds of the recording that are played.
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
    fn new(index: usize, socket: &UdpSocket, key_bits: u16) -> Receiver {
        let (algorithm, bytes) = if key_bits == 128 { (&AES_128_GCM, 16) } else { (&AES_256_GCM, 32) };
        let mut key = [0x5a; 32];
        key[..8].copy_from_slice(&(index as u64).to_be_bytes());
        let key = UnboundKey::new(algorithm, &key[..bytes]).expect("a key of the algorithm's length");
        let port = socket.local_addr().expect("bound").port();
        Receiver { key: LessSafeKey::new(key), to: send::loopback(port), sent: 0 }
    }

    /// Appends one protected packet of `size` bytes to `out`. The payload is copied from where all receivers' is.
    fn protect(&mut self, size: usize, payload: &[u8], out: &mut Vec<u8>) {
        self.sent += 1;
        let start = out.len();
        out.extend_from_slice(&[0x90; HEADER_BYTES]);
        out[start + 2..start + 10].copy_from_slice(&self.sent.to_be_bytes());
        out.extend_from_slice(&payload[..size.saturating_sub(HEADER_BYTES + TAG_BYTES)]);
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

fn thread_cpu() -> Duration {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut ts) };
    Duration::new(ts.tv_sec.unsigned_abs(), u32::try_from(ts.tv_nsec).unwrap_or(0))
}

/// Plays the recording; gives packets sent and the CPU time of this thread.
fn play(wakeups: &[Wakeup], mode: Mode, receivers: &mut [Receiver], fd: RawFd) -> (u64, Duration) {
    let payload = vec![0xa5; DRAIN_BUFFER];
    let mut batch = Batch::new(mode);
    let (start, before) = (Instant::now(), thread_cpu());
    let mut packets = 0;
    for wakeup in wakeups {
        let due = start + Duration::from_nanos(wakeup.at_ns - wakeups[0].at_ns);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for (peer, sizes) in &wakeup.batches {
            let r = &mut receivers[*peer];
            for size in sizes {
                let size = usize::from(*size);
                r.protect(size, &payload, batch.buffer());
                batch.close_packet(r.to);
            }
            if batch.buffer().len() >= ARENA_BYTES {
                packets += batch.send(fd);
            }
        }
        packets += batch.send(fd);
    }
    (packets, thread_cpu() - before)
}

fn drain(sockets: &[UdpSocket], stop: &AtomicBool) {
    let mut buffer = vec![0; DRAIN_BUFFER];
    while !stop.load(Relaxed) {
        for s in sockets {
            while s.recv(&mut buffer).is_ok() {}
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let recording = recording::read(&args.recording, args.seconds)?;
    let bind = || {
        let s = UdpSocket::bind("127.0.0.1:0")?;
        s.set_nonblocking(true)?;
        send::prepare_receiver(s.as_raw_fd(), !args.no_gro);
        Ok::<_, std::io::Error>(s)
    };
    let sockets = (0..recording.peers).map(|_| bind()).collect::<Result<Vec<_>, _>>()?;
    let mut receivers: Vec<Receiver> =
        sockets.iter().enumerate().map(|(i, s)| Receiver::new(i, s, args.key_bits)).collect();
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    let stop = AtomicBool::new(false);
    let (packets, cpu) = std::thread::scope(|scope| {
        scope.spawn(|| drain(&sockets, &stop));
        let result = play(&recording.wakeups, args.mode, &mut receivers, sender.as_raw_fd());
        stop.store(true, Relaxed);
        result
    });
    let us = cpu.as_secs_f64() * 1e6 / packets.max(1) as f64;
    let batches: usize = recording.wakeups.iter().map(|w| w.batches.len()).sum();
    println!(
        "{{\"packets\": {packets}, \"cpu_s\": {:.3}, \"cpu_us_per_packet\": {us:.3}, \"wakeups\": {}, \
         \"packets_per_batch\": {:.2}, \"batches_per_wakeup\": {:.1}}}",
        cpu.as_secs_f64(),
        recording.wakeups.len(),
        packets as f64 / batches.max(1) as f64,
        batches as f64 / recording.wakeups.len().max(1) as f64,
    );
    Ok(())
}
