//! What a stored fragment costs while retention removes as many: `cargo test --release -p antiphon-store --test store as_many -- --ignored
//! --nocapture`, a step of `make bench`. The folder is below TMPDIR: what it costs is the file system's.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use antiphon_store::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block};
use antiphon_store::{Ack, Acks, Backend, Config, Session, Store, Swept, Timecodes};

use crate::rig::{BLOCK, HOUR, T0, keys, name, new_stream};

/// The calls of `bench/kvs.py`: two tracks, 16 blocks of each in a fragment.
const STREAMS: u64 = 500;
const BLOCKS: u64 = 16;
const FRAGMENT: Duration = Duration::from_millis(64 * BLOCKS);
const WINDOW: Duration = Duration::from_secs(10);
/// The server looks every minute what is past its retention.
const SWEEP: usize = 6;
/// So many windows end before anything is removed; in the middle of them an hour passes in no time. Then what a minute brought goes.
const BEFORE: usize = 2 * SWEEP;
const AFTER: usize = SWEEP - 1;
/// The first ones do not count: everything is new.
const WARM_UP: usize = 2;

/// Two tracks of one sound.
fn cluster(timecode: u64) -> Vec<u8> {
    let sound = [0x55; BLOCK];
    let blocks = (0..BLOCKS).flat_map(|i| [1, 2].map(|track| simple_block(track, (i * 64) as i16, &sound)));
    cluster_start(timecode).into_iter().chain(blocks.flatten()).collect()
}

fn header() -> Vec<u8> {
    let track = |number| PcmTrack { number, name: "VOICE".into(), rate_hz: 8000, label: PcmLabel::Pcm };
    pcm_header("t", &[track(1), track(2)], &[])
}

/// Time as the store is told it.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now_ms(self) -> u64 {
        let since = self.0.elapsed();
        let later = since.checked_sub(WINDOW * SWEEP as u32).map(|since| Duration::from_millis(HOUR) + since);
        T0 + later.unwrap_or(since).as_millis() as u64
    }
}

/// One call, until the end: how long each fragment took from its end until it was promised.
async fn call(
    (mut session, mut acks): (Session, Acks),
    clock: Clock,
    phase: Duration,
    took: Arc<Mutex<Vec<Duration>>>,
) {
    let end = clock.0 + WINDOW * (BEFORE + AFTER) as u32;
    session.push(&header(), clock.now_ms()).await.unwrap();
    let mut next = clock.0 + phase;
    let mut complete = false;
    while next < end {
        tokio::time::sleep_until(next.into()).await;
        let now = clock.now_ms();
        let (bytes, since) = (cluster(now), Instant::now());
        session.push(&bytes, now).await.unwrap();
        if complete {
            promised(&mut acks).await;
            took.lock().unwrap().push(since.elapsed());
        }
        (complete, next) = (true, next + FRAGMENT);
    }
}

async fn promised(acks: &mut Acks) {
    loop {
        match acks.recv().await.unwrap() {
            Ack::Persisted(_) => return,
            Ack::Error { kind, .. } => panic!("{kind:?}"),
            _ => {}
        }
    }
}

/// Seconds of processor: this process, and the machine.
fn processor_s() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let own: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let all = std::fs::read_to_string("/proc/stat").unwrap();
    let all: Vec<u64> =
        all.lines().next().unwrap().split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
    // Idle and waiting are no work; what guests take is in the first fields already.
    let busy = all[..8].iter().sum::<u64>() - all[3] - all[4];
    (own as f64 / 100.0, busy as f64 / 100.0)
}

/// Of one window.
#[derive(Debug, Clone, Copy)]
struct Figures {
    stored: usize,
    removed: u64,
    /// Microseconds of processor for each fragment: of this process, of the machine.
    own_us: f64,
    all_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Figures {
    fn new(mut took: Vec<Duration>, removed: u64, (own, all): (f64, f64)) -> Self {
        took.sort_unstable();
        let each = |s: f64| s * 1e6 / took.len() as f64;
        let at = |per_cent: usize| took[(took.len() - 1) * per_cent / 100].as_secs_f64() * 1e3;
        let (stored, p50_ms, p99_ms) = (took.len(), at(50), at(99));
        Self { stored, removed, own_us: each(own), all_us: each(all), p50_ms, p99_ms }
    }
}

fn middle(windows: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut all: Vec<f64> = windows.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn show(when: &str, w: &[Figures]) {
    let removed: u64 = w.iter().map(|f| f.removed).sum();
    let (stored, own, all) =
        (middle(w, |f| f.stored as f64), middle(w, |f| f.own_us), middle(w, |f| f.all_us));
    let (p50, p99) = (middle(w, |f| f.p50_ms), middle(w, |f| f.p99_ms));
    println!(
        "{when} ({removed} removed): {stored:.0} stored in 10 s, for each {own:.0} us of processor ({all:.0} of the machine), \
         p50 {p50:.2} ms, p99 {p99:.2} ms"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "stores for almost three minutes"]
async fn as_many_are_removed_as_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::local(folder.path()).unwrap();
    let (store, _) = Store::open(backend, keys(), Config::default(), T0).await.unwrap();
    let mut sessions = Vec::new();
    for i in 0..STREAMS {
        let stream = format!("s{i}");
        store.create_stream(new_stream(&stream, 1), T0).await.unwrap();
        sessions.push(store.open_session(&name(&stream), Timecodes::Absolute, T0).await.unwrap());
    }
    let clock = Clock(Instant::now());
    let took = Arc::default();
    for (i, session) in sessions.into_iter().enumerate() {
        let phase = FRAGMENT * i as u32 / STREAMS as u32;
        tokio::spawn(call(session, clock, phase, Arc::clone(&took)));
    }
    let mut windows = Vec::new();
    for i in 0..BEFORE + AFTER {
        let (own, all) = processor_s();
        let swept = if i % SWEEP == 0 { store.sweep(clock.now_ms()).await } else { Swept::default() };
        assert_eq!(swept.failed, 0);
        tokio::time::sleep_until((clock.0 + WINDOW * (i + 1) as u32).into()).await;
        let spent = (processor_s().0 - own, processor_s().1 - all);
        let figures = Figures::new(std::mem::take(&mut *took.lock().unwrap()), swept.fragments, spent);
        println!("{figures:.2?}");
        windows.push(figures);
    }
    let (before, after) = windows.split_at(BEFORE);
    show("before", &before[WARM_UP..]);
    show("after", after);
    // A minute's, but for those at its borders.
    let minute = STREAMS * (WINDOW * SWEEP as u32).as_secs() * 1000 / FRAGMENT.as_millis() as u64;
    assert!(after[0].removed > minute - 2 * STREAMS, "{windows:?}");
}
