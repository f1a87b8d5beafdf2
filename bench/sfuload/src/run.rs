//! One run from the first join to the report: publishers, subscribers, the measured window, the end.
use crate::batches::Batches;
use crate::engine::{Peer, Shared};
use crate::join::{Joiner, wait_for};
use crate::net;
use crate::procstat::{self, ProcSample};
use crate::report::{self, Joins};
use crate::signalling::{self, MediaPlan, Signalling, SubSpec};
use crate::{Adapter, Args, Offer, worker};
use anyhow::{Result, bail};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// CPU clocks at one end of the window.
pub struct Clocks {
    pub server: Option<ProcSample>,
    pub loader: (f64, f64),
    pub machine: (f64, f64),
}

impl Clocks {
    fn read(pids: &[u32]) -> Clocks {
        Clocks {
            server: procstat::sample(pids),
            loader: procstat::self_cpu(),
            machine: procstat::machine_busy(),
        }
    }
}

fn signalling_for(args: &Args) -> Result<Arc<dyn Signalling>> {
    Ok(match args.adapter {
        Adapter::Janus => {
            if args.room.len() != 1 || args.offer == Offer::Web {
                bail!("Janus is measured with one room and its own offers");
            }
            let options = serde_json::from_str(&args.janus_room_opts)?;
            Arc::new(signalling::janus::Janus::new(&args.janus_url, args.room[0].parse()?, options))
        }
        Adapter::WhipWhep => {
            let token = |i: usize| args.token.get(i).or(args.token.first()).cloned();
            let rooms = args.room.iter().enumerate().map(|(i, room)| (room.clone(), token(i))).collect();
            let urls = signalling::whip_whep::Urls {
                whip: args.whip_url.clone(),
                whep: args.whep_url.clone(),
                join: (args.offer == Offer::Web).then(|| args.join_url.clone()),
            };
            let screen_line = args.screen_line;
            Arc::new(signalling::whip_whep::WhipWhep::new(urls, rooms, args.publishers, screen_line))
        }
    })
}

/// Said on stderr when the window begins.
const MEASURING: &str = "sfuload: measuring";

/// The window is announced 50 ms ahead, so that every thread sees it in time. Returns the clocks at both ends and
/// how long it really was.
fn measure(args: &Args, sh: &Shared) -> (Clocks, Clocks, f64) {
    let start = net::realtime_ns() + 50_000_000;
    let end = start + (args.duration * 1e9) as u64;
    sh.win_end.store(end, Relaxed);
    sh.win_start.store(start, Relaxed);
    let sleep_until = |t: u64| std::thread::sleep(Duration::from_nanos(t.saturating_sub(net::realtime_ns())));
    sleep_until(start);
    // For whoever does something to the server meanwhile.
    eprintln!("{MEASURING}");
    let before = Clocks::read(&args.server_pid);
    let from = net::realtime_ns();
    sleep_until(end);
    let after = Clocks::read(&args.server_pid);
    (before, after, (net::realtime_ns() - from) as f64 / 1e9)
}

/// Brings everybody in. Returns what the report needs to know about it.
fn join_all(args: &Args, join: &Joiner, sh: &Shared) -> Joins {
    join.publishers(Instant::now());
    let there = args.all_publishers() - join.failed();
    let publishers_failed = join.failed();
    if !wait_for(Duration::from_secs(15), || sh.connected.load(Relaxed) >= there) || there == 0 {
        let connected = sh.connected.load(Relaxed);
        let errors = join.errors.lock().unwrap();
        eprintln!(
            "sfuload: only {connected} of {} publishers connected; errors: {errors:?}",
            args.all_publishers()
        );
    }
    let publishers_connected = sh.connected.load(Relaxed);
    // Let the server's memory settle before it is read.
    std::thread::sleep(Duration::from_millis(500));
    let rss_publishers = procstat::sample(&args.server_pid);

    let mut specs = vec![];
    for room in 0..args.room.len() {
        let publishers: Vec<usize> = (room * args.publishers..(room + 1) * args.publishers).collect();
        let per_subscriber = join.sig.split(&publishers);
        for subscriber in 0..args.subscribers {
            for publishers in &per_subscriber {
                specs.push(SubSpec { subscriber, number: specs.len(), publishers: publishers.clone() });
            }
        }
    }
    let started = Instant::now();
    join.subscribers(&specs);
    let want = specs.len() - (join.failed() - publishers_failed);
    let limit = Duration::from_secs_f64(args.join_timeout);
    let all_joined = wait_for(limit, || sh.all_media.load(Relaxed) >= want);
    Joins {
        publishers_connected,
        rss_publishers,
        subscriber_pcs: specs.len(),
        all_joined,
        wall: started.elapsed(),
    }
}

type Worker = JoinHandle<(Vec<Peer>, Option<Batches>)>;

/// Ends the workers; gives their peers, and writes what they have recorded.
fn collect(workers: Vec<Worker>, args: &Args) -> Result<Vec<Peer>> {
    let (mut peers, mut batches): (Vec<Peer>, Vec<Batches>) = (vec![], vec![]);
    for (own, recorded) in workers.into_iter().map(|w| w.join().unwrap()) {
        peers.extend(own);
        batches.extend(recorded);
    }
    if let Some(path) = &args.batches {
        Batches::write(&batches, path)?;
    }
    Ok(peers)
}

/// Plays the whole run and prints the report.
pub fn run(args: &Args) -> Result<()> {
    let (audio, video) = args.kinds();
    if !audio && !video {
        bail!("nothing to send");
    }
    if args.publishers == 0 {
        bail!("need at least one publisher");
    }
    let sig = signalling_for(args)?;
    let rss_idle = procstat::sample(&args.server_pid);
    if !args.server_pid.is_empty() && rss_idle.is_none() {
        bail!("cannot read /proc for server pid(s) {:?}", args.server_pid);
    }
    sig.prepare(&MediaPlan { publishers: args.all_publishers(), audio, video })?;

    let sh = Arc::new(Shared::new(args.tick_us));
    let mut tx = vec![];
    let mut workers = vec![];
    let record = args.batches.is_some();
    for _ in 0..args.threads.max(1) {
        let (t, r) = channel();
        tx.push(t);
        let sh = sh.clone();
        workers.push(std::thread::spawn(move || worker::worker(r, sh, record)));
    }
    let (stop_keepalive, ended) = channel::<()>();
    let keepalive = {
        let sig = sig.clone();
        std::thread::spawn(move || {
            while ended.recv_timeout(Duration::from_secs(20)) == Err(RecvTimeoutError::Timeout) {
                sig.keepalive();
            }
        })
    };
    let (sessions, errors) = (Mutex::new(vec![]), Mutex::new(vec![]));
    let join = Joiner { args, sig: &*sig, tx, sessions, errors, turn: AtomicUsize::new(0) };
    let joins = join_all(args, &join, &sh);
    std::thread::sleep(Duration::from_secs_f64(args.warmup));

    let (before, after, window_s) = measure(args, &sh);
    // Packets, and retransmissions, still on their way.
    std::thread::sleep(Duration::from_millis(800));
    sh.stop.store(true, Relaxed);
    let peers = collect(workers, args)?;
    drop(stop_keepalive);
    for session in join.sessions.lock().unwrap().iter() {
        sig.close(session);
    }
    sig.finish();
    let _ = keepalive.join();

    let tally = report::Tally::of(&peers, args);
    let errors = join.errors.lock().unwrap();
    let out = report::report(&report::Run {
        args,
        joins: &joins,
        tally: &tally,
        rss_idle,
        before: &before,
        after: &after,
        window_s,
        dead: sh.dead.load(Relaxed),
        errors: &errors,
    });
    if args.pretty {
        println!("{out:#}")
    } else {
        println!("{out}")
    }
    Ok(())
}
