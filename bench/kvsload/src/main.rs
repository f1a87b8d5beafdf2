//! Producers and readers of stored streams against a running server, over plain sockets: `kvsload --url http://127.0.0.1:7710 --token T`.
//!
//! Each session is one PutMedia with two tracks of 8 kHz PCM in blocks of 64 ms, as a call has them, and one GetMedia that follows
//! it. Each block carries when it was handed to the socket; the reader takes the difference. Prints one JSON object.

mod media;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use media::{BLOCK_MS, Stamps, block_pair, cluster, header};

/// What to do.
#[derive(Parser)]
struct Args {
    /// Base URL of the API, with its prefix if it has one
    #[arg(long)]
    url: String,
    /// Bearer token that may create, write and read streams
    #[arg(long)]
    token: String,
    /// Sessions at once
    #[arg(long, default_value_t = 500)]
    sessions: usize,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Readers beside, of the first streams, that open and then read nothing
    #[arg(long, default_value_t = 0)]
    stalled: usize,
    /// The server's process, for its processor time
    #[arg(long)]
    pid: Option<u32>,
    /// Hours of retention; 0: nothing is stored
    #[arg(long, default_value_t = 24)]
    retention: u32,
    /// Delete the streams at the end, one after another
    #[arg(long)]
    delete: bool,
}

/// What all tasks share.
struct Load {
    address: SocketAddr,
    prefix: String,
    token: String,
    begin: Instant,
    end: Instant,
    /// How much of it, at its end, counts.
    measured: Duration,
    /// From here on what is seen counts.
    measuring: AtomicBool,
    persisted: AtomicU64,
    failed: AtomicU64,
    /// Producers that could not hand over a block within its 64 ms.
    late: AtomicU64,
}

impl Load {
    fn request(&self, operation: &str, more: &str) -> String {
        format!(
            "POST {}/{operation} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n{more}\r\n",
            self.prefix, self.address, self.token
        )
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Asks with a JSON body, and leaves the answer to be read.
    async fn ask(&self, operation: &str, body: &str) -> anyhow::Result<TcpStream> {
        self.ask_by(self.connect().await?, operation, body).await
    }

    async fn ask_by(&self, mut stream: TcpStream, operation: &str, body: &str) -> anyhow::Result<TcpStream> {
        let length = body.len();
        let more =
            format!("connection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
        stream.write_all(format!("{}{body}", self.request(operation, &more)).as_bytes()).await?;
        Ok(stream)
    }

    /// Asks with a JSON body; gives the whole answer.
    async fn answer(&self, operation: &str, body: &str) -> anyhow::Result<String> {
        let mut answer = String::new();
        self.ask(operation, body).await?.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{operation}: {answer}");
        Ok(answer)
    }

    /// Gives its ARN.
    async fn create(&self, name: &str, retention: u32) -> anyhow::Result<String> {
        let body = format!("{{\"StreamName\":\"{name}\",\"DataRetentionInHours\":{retention}}}");
        let answer = self.answer("createStream", &body).await?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
        let body: serde_json::Value = serde_json::from_str(body).context("createStream's answer")?;
        Ok(body["StreamARN"].as_str().context("a stream without an ARN")?.to_owned())
    }

    /// Gives how many.
    async fn delete(&self, arns: &[String]) -> anyhow::Result<usize> {
        for arn in arns {
            self.answer("deleteStream", &format!("{{\"StreamARN\":\"{arn}\"}}")).await?;
        }
        Ok(arns.len())
    }
}

/// One call: two tracks, a block of each every 64 ms, a fragment every 16.
async fn produce(load: Arc<Load>, name: String, phase: Duration) -> anyhow::Result<()> {
    let mut stream = load.connect().await?;
    let more = format!(
        "connection: close\r\ntransfer-encoding: chunked\r\nx-amzn-stream-name: {name}\r\n\
         x-amzn-fragment-timecode-type: ABSOLUTE\r\n"
    );
    stream.write_all(load.request("putMedia", &more).as_bytes()).await?;
    let (mut answer, mut body) = stream.into_split();
    let acks = tokio::spawn({
        let load = load.clone();
        async move {
            let (mut buffer, mut first) = (vec![0; 16 << 10], true);
            while let Ok(read @ 1..) = answer.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..read]);
                if std::mem::take(&mut first) && !text.starts_with("HTTP/1.1 200") {
                    eprintln!("PutMedia: {text}");
                }
                let count = |word| text.matches(word).count() as u64;
                load.persisted.fetch_add(count("PERSISTED"), Ordering::Relaxed);
                load.failed.fetch_add(count("ERROR") / 2, Ordering::Relaxed);
            }
        }
    });
    send(&mut body, &header()).await?;
    let mut next = tokio::time::Instant::from_std(load.begin) + phase;
    let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    for block in 0u64.. {
        tokio::time::sleep_until(next).await;
        if load.end <= Instant::now() {
            break;
        }
        let mut chunk = Vec::with_capacity(2200);
        if block % 16 == 0 {
            let at = u64::try_from(epoch.as_millis())? + block * BLOCK_MS;
            chunk.extend(cluster(at));
        }
        chunk.extend(block_pair(block % 16, load.begin.elapsed()));
        send(&mut body, &chunk).await?;
        next += Duration::from_millis(BLOCK_MS);
        load.late.fetch_add(u64::from(next < tokio::time::Instant::now()), Ordering::Relaxed);
    }
    body.write_all(b"0\r\n\r\n").await?;
    acks.await?;
    Ok(())
}

async fn send(body: &mut (impl AsyncWriteExt + Unpin), data: &[u8]) -> anyhow::Result<()> {
    let chunk = [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
    Ok(body.write_all(&chunk).await?)
}

/// Parts of the measured time: the best one's p99 is told too, as a shared machine stalls a core now and then.
const WINDOWS: u32 = 5;
/// Of a reader that reads nothing, in bytes: less than a second of a call.
const STALLED_BUFFER: u32 = 16 << 10;
const STALLED_SEGMENT: u32 = 1_460;
/// A block's window, and its delay in microseconds.
type Delay = (u32, u32);

/// Follows a stream; gives the delays of its blocks.
async fn read(load: Arc<Load>, name: String) -> anyhow::Result<Vec<Delay>> {
    let body = format!("{{\"StreamName\":\"{name}\",\"StartSelector\":{{\"StartSelectorType\":\"NOW\"}}}}");
    let mut stream = load.ask("getMedia", &body).await?;
    let (mut stamps, mut delays, mut buffer) = (Stamps::default(), Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = tokio::time::timeout_at(load.end.into(), stream.read(&mut buffer)).await;
        let Ok(Ok(read @ 1..)) = read else { return Ok(delays) };
        let now = load.begin.elapsed();
        for sent in stamps.find(&buffer[..read]) {
            if load.measuring.load(Ordering::Relaxed) {
                let left = load.end.saturating_duration_since(load.begin + now);
                let window =
                    u32::try_from(left.as_millis() * u128::from(WINDOWS) / load.measured.as_millis())?;
                let delay = u32::try_from(now.saturating_sub(sent).as_micros()).unwrap_or(u32::MAX);
                delays.push((window.min(WINDOWS - 1), delay));
            }
        }
    }
}

/// Opens a reader and reads nothing until the end. Its segments and its buffer are small, as beyond a network: of those of loopback
/// the kernel keeps minutes of a call, and the server would just go on writing.
async fn stall(load: Arc<Load>, name: String) -> anyhow::Result<Vec<Delay>> {
    let body =
        format!("{{\"StreamName\":\"{name}\",\"StartSelector\":{{\"StartSelectorType\":\"EARLIEST\"}}}}");
    let socket = TcpSocket::new_v4()?;
    socket2::SockRef::from(&socket).set_tcp_mss(STALLED_SEGMENT)?;
    socket.set_recv_buffer_size(STALLED_BUFFER)?;
    let _stream = load.ask_by(socket.connect(load.address).await?, "getMedia", &body).await?;
    tokio::time::sleep_until(load.end.into()).await;
    Ok(Vec::new())
}

/// Seconds of processor that a process has used.
fn processor_s(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let rest = args.url.strip_prefix("http://").context("--url begins with http://")?;
    let (host, prefix) = rest.split_once('/').map_or((rest, String::new()), |(h, p)| (h, format!("/{p}")));
    // Time to open everything, and for the first fragments.
    let warm_up = Duration::from_secs(5 + args.sessions as u64 / 200);
    let mut load = Load {
        address: host.parse().context("--url has an address and a port")?,
        prefix,
        token: args.token,
        begin: Instant::now(),
        end: Instant::now(),
        measured: Duration::from_secs(args.seconds.max(1)),
        measuring: AtomicBool::new(false),
        persisted: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        late: AtomicU64::new(0),
    };
    let run = std::process::id();
    let names: Vec<String> = (0..args.sessions).map(|i| format!("load-{run}-{i}")).collect();
    let mut arns = Vec::new();
    for name in &names {
        arns.push(load.create(name, args.retention).await?);
    }
    load.begin = Instant::now() + Duration::from_secs(1);
    load.end = load.begin + warm_up + Duration::from_secs(args.seconds);
    let load = Arc::new(load);
    let (mut readers, mut producers) = (JoinSet::new(), JoinSet::new());
    for (i, name) in names.iter().enumerate() {
        // Calls do not begin at the same millisecond.
        let phase = Duration::from_micros((i as u64 * 1_024_000) / names.len() as u64);
        producers.spawn(produce(load.clone(), name.clone(), phase));
        readers.spawn(read(load.clone(), name.clone()));
        if i < args.stalled {
            readers.spawn(stall(load.clone(), name.clone()));
        }
    }
    tokio::time::sleep_until((load.begin + warm_up).into()).await;
    load.measuring.store(true, Ordering::Relaxed);
    let (before, since) = (args.pid.and_then(processor_s), Instant::now());
    tokio::time::sleep_until(load.end.into()).await;
    let (after, took) = (args.pid.and_then(processor_s), since.elapsed().as_secs_f64());
    let mut delays = Vec::new();
    while let Some(done) = readers.join_next().await {
        delays.extend(done??);
    }
    let mut broken = 0_u64;
    while let Some(done) = producers.join_next().await {
        if let Err(error) = done? {
            eprintln!("a producer: {error}");
            broken += 1;
        }
    }
    ensure!(!delays.is_empty(), "no block came through");
    let deleted = if args.delete { load.delete(&arns).await? } else { 0 };
    let cores = before.zip(after).map(|(before, after)| (after - before) / took);
    let mut report = figures(&delays);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed).into();
    let more: [(&str, serde_json::Value); 8] = [
        ("sessions", args.sessions.into()),
        ("stalled", args.stalled.into()),
        ("cores", cores.into()),
        ("persisted", count(&load.persisted)),
        ("failed", count(&load.failed)),
        ("late", count(&load.late)),
        ("broken", broken.into()),
        ("deleted", deleted.into()),
    ];
    for (name, value) in more {
        report[name] = value;
    }
    println!("{report}");
    Ok(())
}

/// What the delays say.
fn figures(delays: &[Delay]) -> serde_json::Value {
    let of = |window: Option<u32>| {
        let some = delays.iter().filter(|(of, _)| window.is_none_or(|window| window == *of));
        let mut some: Vec<u32> = some.map(|(_, delay)| *delay).collect();
        some.sort_unstable();
        some
    };
    let all = of(None);
    let part = |sorted: &[u32], per_mille: usize| {
        sorted
            .get(sorted.len().saturating_sub(1) * per_mille / 1000)
            .map_or(0.0, |us| f64::from(*us) / 1000.0)
    };
    let at = |per_mille| part(&all, per_mille);
    let best = (0..WINDOWS).map(|window| part(&of(Some(window)), 990)).fold(f64::INFINITY, f64::min);
    serde_json::json!({
        "blocks": all.len(), "p50_ms": at(500), "p99_ms": at(990), "best_window_p99_ms": best,
        "p999_ms": at(999), "max_ms": at(1000),
    })
}
