//! Real workers: this test program again, with the ignored tests at the end as their `main`.

use std::os::fd::AsFd;

use super::*;

fn launch(worker: &str) -> Launch {
    Launch::this_program(&[&format!("video::process::tests::{worker}"), "--exact", "--ignored"])
}

fn decoder(worker: &str, patience: Duration) -> Decoder {
    Decoder { patience, ..Decoder::new(VideoCodec::Av1, launch(worker)) }
}

/// A worker's end.
fn socket() -> UnixStream {
    std::io::stdin().as_fd().try_clone_to_owned().expect("a socket").into()
}

#[track_caller]
fn death(worker: &str, patience: Duration) -> Death {
    let mut decoder = decoder(worker, patience);
    let Err(DecodeError::WorkerDied(death)) = decoder.decode(b"unit") else { panic!("{worker} lives") };
    let workers = decoder.launch.workers();
    assert_eq!(workers, Workers { running: 0, started: 1, died: 1 });
    death
}

#[test]
fn a_worker_that_ends_hangs_or_talks_nonsense_is_an_error_and_leaves_nothing_behind() {
    assert_eq!(death("worker_that_aborts", PATIENCE), Death::Signal(libc::SIGABRT));
    assert_eq!(death("worker_that_exits", PATIENCE), Death::Exited(7));
    assert_eq!(death("worker_that_hangs", Duration::from_millis(50)), Death::Hung);
    assert_eq!(death("worker_that_talks_nonsense", PATIENCE), Death::Malformed);
    let program = "/nonexistent".into();
    let mut decoder = Decoder::new(VideoCodec::Av1, Launch { program, ..launch("worker") });
    assert_eq!(decoder.decode(b"unit").err(), Some(DecodeError::WorkerDied(Death::NotStarted)));
    assert_eq!(decoder.launch.workers(), Workers { running: 0, started: 0, died: 1 });
}

#[test]
fn a_worker_that_keeps_dying_is_not_started_for_ever() {
    let mut decoder = decoder("worker_that_exits", PATIENCE);
    for _ in 0..=MAX_RESTARTS {
        assert!(matches!(decoder.decode(b"unit"), Err(DecodeError::WorkerDied(_))));
    }
    for _ in 0..10 {
        assert_eq!(decoder.decode(b"unit").err(), Some(DecodeError::GaveUp));
    }
    assert_eq!(decoder.launch.workers().started, 1 + MAX_RESTARTS as u64);
}

#[test]
fn deaths_are_forgotten_after_a_while() {
    let (mut deaths, start) = (Deaths::default(), clock());
    for n in 0..100 {
        let now = start + n * RESTART_WINDOW / 3;
        assert!(deaths.allow_another(now), "three in ten seconds are allowed");
        deaths.add(now);
    }
    let now = start + 33 * RESTART_WINDOW;
    deaths.add(now);
    assert!(!deaths.allow_another(now));
    assert!(!deaths.allow_another(now + RESTART_WINDOW / 2 - Duration::from_secs(2)));
    assert!(deaths.allow_another(now + RESTART_WINDOW / 2));
}

#[test]
fn there_is_a_limit_to_workers() {
    let counts = Arc::default();
    let mut seats: Vec<Seat> = std::iter::from_fn(|| Seat::take(&counts)).collect();
    assert_eq!(seats.len(), MAX_WORKERS);
    seats.pop();
    assert!(Seat::take(&counts).is_some());
}

#[test]
fn a_worker_that_does_not_listen_ends_with_the_server_too() {
    let server = Command::new("/proc/self/exe")
        .args(["video::process::tests::server_that_is_killed", "--exact", "--ignored"])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(server.status.signal(), Some(libc::SIGABRT));
    let said = String::from_utf8_lossy(&server.stdout).into_owned();
    let pid = said.lines().find_map(|line| line.strip_prefix("worker ")).expect("it says who");
    let deadline = clock() + PATIENCE;
    // Where nobody waits for it, it stays as a zombie.
    while let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        && !stat.contains(") Z ")
    {
        assert!(clock() < deadline, "it is still there: {stat}");
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "the server of another test"]
fn server_that_is_killed() {
    let mut running = launch("worker_that_does_not_listen").start().expect("it starts");
    // It says so when it is confined.
    running.read(&mut [0], clock() + PATIENCE).expect("it is confined");
    writeln!(std::io::stdout(), "\nworker {}", running.child.id()).expect("a reader");
    std::process::abort();
}

#[test]
#[ignore = "a worker of the other tests"]
fn worker_that_does_not_listen() {
    serve::confine().expect("allowed");
    socket().write_all(&[0]).expect("a reader");
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "a worker of the other tests"]
fn worker_that_aborts() {
    std::process::abort();
}

#[test]
#[ignore = "a worker of the other tests"]
fn worker_that_exits() {
    std::process::exit(7);
}

#[test]
#[ignore = "a worker of the other tests"]
fn worker_that_hangs() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("a socket");
}

#[test]
#[ignore = "a worker of the other tests"]
fn worker_that_talks_nonsense() {
    socket().write_all(&[9, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).expect("a reader");
    worker_that_hangs();
}

#[cfg(feature = "av1")]
mod av1 {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::video::recorded::{AV1, check, check_stream, corrupt, units};
    use crate::video::{Decoders, Decoding};

    fn decoder() -> crate::video::Decoder {
        Decoders::with_workers(launch("av1::worker")).open(VideoCodec::Av1).expect("supported")
    }

    fn inner(decoder: &mut crate::video::Decoder) -> &mut Decoder {
        let Decoding::Process(inner) = &mut decoder.inner else { panic!("AV1 has a process") };
        inner
    }

    #[test]
    fn units_give_their_pictures_at_once() {
        let mut decoder = decoder();
        check_stream(&mut decoder, AV1);
        assert_eq!(inner(&mut decoder).launch.workers(), Workers { running: 1, started: 1, died: 0 });
    }

    #[test]
    fn a_killed_worker_is_replaced_at_the_next_key_frame() {
        let (units, mut decoder) = (units(AV1), decoder());
        check(&mut decoder, units[0], 0);
        inner(&mut decoder).running.as_mut().expect("it runs").child.kill().expect("ours");
        let died = DecodeError::WorkerDied(Death::Signal(libc::SIGKILL));
        assert_eq!(decoder.decode(units[1]).err(), Some(died));
        assert_eq!(decoder.decode(units[2]).err(), Some(DecodeError::NeedKeyFrame));
        check(&mut decoder, units[0], 0);
        check(&mut decoder, units[1], 1);
        assert_eq!(inner(&mut decoder).launch.workers(), Workers { running: 1, started: 2, died: 1 });
    }

    #[test]
    fn a_worker_ends_with_its_decoder() {
        let (units, mut decoder) = (units(AV1), decoder());
        check(&mut decoder, units[0], 0);
        let launch = inner(&mut decoder).launch.clone();
        let pid = inner(&mut decoder).running.as_ref().expect("it runs").child.id();
        let process = PathBuf::from(format!("/proc/{pid}"));
        assert!(process.exists());
        drop(decoder);
        assert!(!process.exists());
        assert_eq!(launch.workers().running, 0);
    }

    #[test]
    fn corrupt_units_never_end_us_and_the_next_key_frame_heals() {
        let mut rng = StdRng::seed_from_u64(0xa1);
        let (units, mut decoder) = (units(AV1), decoder());
        for round in 0..900 {
            // Mostly from a good picture, so that broken inter frames reach the library too.
            if round % 4 != 0 {
                assert!(decoder.decode(units[0]).expect("a whole key frame").is_some());
            }
            let _ = decoder.decode(&corrupt(&mut rng, &units, round));
        }
        decoder.lost();
        check(&mut decoder, units[0], 0);
        check(&mut decoder, units[1], 1);
        println!("{:?}", inner(&mut decoder).launch.workers());
    }

    #[test]
    #[ignore = "the worker of the other tests"]
    fn worker() {
        serve().expect("started by a test");
    }
}
