//! An object store that refuses single objects for good: nothing waits behind them, nothing of theirs is lost, and it is said.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use antiphon_store::{Ack, Backend, Config, Depth, Session, Start, Store, Timecodes, look};
use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::faulty::{Cut, Faulty};
use crate::rig::{T0, cluster, files, header_of, keys, list, name, new_stream, open, produce, read_all};

const ROOM: u64 = 1 << 20;
/// Drains within which everything that is tried with growing pauses was tried several times.
const MANY: usize = 40;

/// A store far away, with its switches.
struct Far {
    memory: Arc<InMemory>,
    folder: tempfile::TempDir,
    away: Arc<AtomicBool>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Far {
    fn new() -> (Self, Backend) {
        let (memory, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
        let far = Self { memory, folder, away: Arc::default(), refused: Arc::default() };
        let backend = far.again();
        (far, backend)
    }

    /// The same, for another process.
    fn again(&self) -> Backend {
        let mut faulty = Faulty::new(self.memory.clone(), i64::MAX, Cut::Before);
        (faulty.away, faulty.refused) = (self.away.clone(), self.refused.clone());
        Backend::custom(Arc::new(faulty), true).with_spool(self.folder.path(), ROOM).unwrap()
    }

    fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn refuse(&self, parts: &[&str]) {
        *self.refused.lock().unwrap() = parts.iter().map(|part| (*part).to_owned()).collect();
    }

    /// File names of what waits here, by what their paths contain.
    fn waiting(&self, part: &str) -> Vec<String> {
        let found = files(self.folder.path());
        let paths = found.iter().map(|path| path.to_str().unwrap()).filter(|path| path.contains(part));
        let mut names: Vec<_> = paths.map(last).collect();
        names.sort();
        names
    }

    /// File names of fragments that the store has.
    async fn fragments(&self) -> Vec<String> {
        let all: Vec<_> = self.memory.list(None).try_collect().await.unwrap();
        let paths = all.iter().map(|meta| meta.location.to_string());
        paths.filter(|path| path.contains("/f/")).map(|path| last(&path)).collect()
    }

    fn set_aside(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("set-aside")).unwrap_or_default();
        text.lines().map(last).collect()
    }
}

fn last(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

/// A store that has gone away after a first fragment, so that keys and headers are there.
async fn gone() -> (Far, Store) {
    let (far, backend) = Far::new();
    let store = open(backend, T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    assert_eq!(produce(&store, &name("s"), &[T0]).await.len(), 1);
    far.away(true);
    (far, store)
}

async fn drain_until(store: &Store, done: impl Fn(&antiphon_store::Health) -> bool) -> usize {
    for drains in 0..MANY {
        if done(&store.health()) {
            return drains;
        }
        store.drain_spool().await;
    }
    panic!("after {MANY} drains: {:?}", store.health());
}

#[tokio::test]
async fn one_of_many_is_passed_over_set_aside_said_and_given_when_it_may() {
    let (far, store) = gone().await;
    let times: Vec<u64> = (1..6).map(|i| T0 + i * 2000).collect();
    assert_eq!(produce(&store, &name("s"), &times).await.len(), 5);
    let waiting = far.waiting("/f/");
    assert_eq!(waiting.len(), 5);
    far.refuse(&[&waiting[1]]);
    far.away(false);
    let drained = store.drain_spool().await;
    assert_eq!((drained.moved, drained.left), (4, 1));
    let health = store.health();
    assert!(!health.away && health.set_aside == 0, "once is nothing: {health:?}");
    // What comes now goes to the store.
    produce(&store, &name("s"), &[T0 + 20_000]).await;
    assert_eq!(store.health().spooled, 1);
    let drains = drain_until(&store, |health| health.set_aside == 1).await;
    assert!(drains >= 4, "pauses grow: {drains}");
    assert!(!store.health().away);
    assert_eq!(far.set_aside(), [waiting[1].clone()]);
    assert_eq!(
        read_all(&store, &name("s"), Start::Earliest, T0 + 30_000).await.len(),
        7,
        "it is read from here"
    );
    // Whoever looks at the store is told; so is the next process.
    let looked = Backend::custom(far.memory.clone(), true).with_spool_read_only(far.folder.path()).unwrap();
    let report = look(looked, keys(), &Config::default(), Depth::Scrub).await.unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert!(report.problems[0].path.ends_with(&waiting[1]) && report.problems[0].what.contains("refuses"));
    drop(store);
    let store = open(far.again(), T0).await;
    assert_eq!(store.health().set_aside, 1);
    far.refuse(&[]);
    drain_until(&store, |health| health.spooled == 0).await;
    assert!(store.health().set_aside == 0 && far.set_aside().is_empty());
    drop(store);
    let alone = Backend::custom(far.memory.clone(), true);
    let report = look(alone, keys(), &Config::default(), Depth::Scrub).await.unwrap();
    assert_eq!((report.problems, report.fragments), (vec![], 7));
}

#[tokio::test]
async fn no_fragment_is_given_before_a_header_that_is_refused() {
    let (far, store) = gone().await;
    let (mut session, mut acks) =
        store.open_session(&name("s"), Timecodes::Absolute, T0 + 2000).await.unwrap();
    session.push(&header_of("contact-2"), T0 + 2000).await.unwrap();
    fragment(&mut session, T0 + 2000).await;
    fragment(&mut session, T0 + 4000).await;
    fragment(&mut session, T0 + 6000).await;
    let mut stored = 0;
    while stored < 2 {
        stored += usize::from(matches!(acks.recv().await, Some(Ack::Persisted(_))));
    }
    // The third is open still; another session's fragment waits, too.
    produce(&store, &name("s"), &[T0 + 8000]).await;
    let header = far.waiting("/hdr/");
    let before = far.waiting("/f/");
    assert_eq!((header.len(), before.len()), (1, 3), "{before:?}");
    far.refuse(&[&format!("/hdr/{}", header[0])]);
    far.away(false);
    drain_until(&store, |health| !health.away).await;
    let theirs = |files: Vec<String>| files.iter().filter(|file| file.contains(&header[0])).count();
    assert_eq!(theirs(far.fragments().await), 0);
    assert_eq!(far.waiting("/f/").len(), 2, "the other session's has gone");
    // The session goes on while the store takes others.
    fragment(&mut session, T0 + 10_000).await;
    session.finish(true, T0 + 12_000).await;
    assert_eq!(theirs(far.fragments().await), 0, "not past its header");
    assert_eq!(list(&store, &name("s"), T0).await.len(), 6);
    far.refuse(&[]);
    drain_until(&store, |health| health.spooled == 0).await;
    drop(store);
    let alone = Backend::custom(far.memory.clone(), true);
    let report = look(alone, keys(), &Config::default(), Depth::Scrub).await.unwrap();
    assert_eq!((report.problems, report.fragments), (vec![], 6));
}

async fn fragment(session: &mut Session, time: u64) {
    session.push(&cluster(time, 16), time).await.unwrap();
}

#[tokio::test]
async fn a_store_that_goes_away_while_some_are_refused_is_away() {
    let (far, store) = gone().await;
    produce(&store, &name("s"), &[T0 + 2000, T0 + 4000]).await;
    let refused = far.waiting("/f/")[0].clone();
    far.refuse(&[&refused]);
    far.away(false);
    drain_until(&store, |health| !health.away).await;
    far.away(true);
    produce(&store, &name("s"), &[T0 + 6000, T0 + 8000]).await;
    for _ in 0..MANY {
        assert_eq!(store.drain_spool().await.moved, 0);
        assert!(store.health().away);
    }
    assert_eq!(store.health().set_aside, 0, "it was refused by nobody who was there");
    far.away(false);
    drain_until(&store, |health| !health.away && health.spooled == 1).await;
    assert_eq!(far.waiting("/f/"), [refused]);
}

#[tokio::test]
async fn a_crowd_that_is_refused_holds_nobody_up() {
    let (far, store) = gone().await;
    let times: Vec<u64> = (1..60).map(|i| T0 + i * 2000).collect();
    let early = produce(&store, &name("s"), &times[..30]).await;
    let refused = far.waiting("/f/");
    produce(&store, &name("s"), &times[30..]).await;
    far.refuse(&refused.iter().map(String::as_str).collect::<Vec<_>>());
    far.away(false);
    drain_until(&store, |health| health.spooled == refused.len() as u64).await;
    assert!(!store.health().away);
    assert_eq!(far.waiting("/f/"), refused);
    assert_eq!(early.len(), refused.len());
}

#[tokio::test]
async fn what_is_removed_is_not_set_aside_any_more() {
    let (far, store) = gone().await;
    produce(&store, &name("s"), &[T0 + 2000, T0 + 4000]).await;
    far.refuse(&[&far.waiting("/f/")[0]]);
    far.away(false);
    drain_until(&store, |health| health.set_aside == 1).await;
    store.delete_stream(&name("s"), None).await.unwrap();
    store.sweep(T0 + 10_000).await;
    store.drain_spool().await;
    let health = store.health();
    assert_eq!((health.spooled, health.spooled_bytes, health.set_aside), (0, 0, 0));
    assert!(far.set_aside().is_empty());
}
