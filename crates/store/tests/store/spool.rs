//! An object store that goes away and comes back: nothing that was promised is lost, whatever happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use antiphon_store::{
    Ack, Backend, Config, Depth, Drained, FaultKind, Start, StorageFault, Store, Timecodes, look,
};
use object_store::memory::InMemory;

use crate::faulty::{Cut, Faulty};
use crate::rig::{
    T0, all_acks, assert_whole, cluster, header, keys, list, name, new_stream, persisted, produce, read_all,
};

const ROOM: u64 = 1 << 20;

/// A store far away, and its switch.
fn far(memory: &Arc<InMemory>, folder: &std::path::Path, room: u64) -> (Backend, Arc<AtomicBool>) {
    let faulty = Faulty::new(memory.clone(), i64::MAX, Cut::Before);
    let away = faulty.away.clone();
    (Backend::custom(Arc::new(faulty), true).with_spool(folder, room).unwrap(), away)
}

async fn open(backend: Backend) -> Store {
    let (store, problems) = Store::open(backend, keys(), Config::default(), T0).await.unwrap();
    assert_eq!(problems, []);
    store
}

#[tokio::test]
async fn what_comes_while_the_store_is_away_is_kept_read_and_given_later() {
    let (memory, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let (backend, away) = far(&memory, folder.path(), ROOM);
    let store = open(backend).await;
    let s = name("s");
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let before = produce(&store, &s, &[T0]).await;
    away.store(true, Ordering::SeqCst);
    // Another header, too: it waits as the fragments do.
    let (mut session, acks) = store.open_session(&s, Timecodes::Absolute, T0 + 2000).await.unwrap();
    session.push(&crate::rig::header_of("contact-2"), T0 + 2000).await.unwrap();
    for i in 0..5 {
        session.push(&cluster(T0 + 2000 + i * 1024, 16), T0 + 2000 + i).await.unwrap();
    }
    session.finish(true, T0 + 9000).await;
    let during = persisted(acks).await;
    assert_eq!(during.len(), 5, "promised, and kept here");
    let health = store.health();
    assert!(health.away && health.fault.is_none() && health.spooled == 6, "{health:?}");
    assert!(health.spooled_bytes > 0 && health.spool_max_bytes == ROOM);
    let all = [before, during].concat();
    assert_eq!(list(&store, &s, T0).await, all);
    assert_eq!(store.drain_spool().await, Drained { moved: 0, left: 6 });
    away.store(false, Ordering::SeqCst);
    assert_eq!(store.drain_spool().await, Drained { moved: 6, left: 0 });
    assert!(!store.health().away);
    let documents = read_all(&store, &s, Start::Earliest, T0 + 9000).await;
    assert_eq!(documents.len(), 6);
    documents.iter().for_each(|document| assert_whole(document, 16));
    drop(store);
    // From the store far away alone.
    let backend = Backend::custom(memory, true);
    let report = look(backend, keys(), &Config::default(), Depth::Scrub).await.unwrap();
    assert_eq!((report.problems, report.fragments), (vec![], 6));
}

#[tokio::test]
async fn a_restart_in_between_loses_nothing() {
    let (memory, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let s = name("s");
    let (backend, away) = far(&memory, folder.path(), ROOM);
    let store = open(backend).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let before = produce(&store, &s, &[T0]).await;
    away.store(true, Ordering::SeqCst);
    let during = produce(&store, &s, &[T0 + 2000, T0 + 4000]).await;
    drop(store);
    let (backend, _) = far(&memory, folder.path(), ROOM);
    let store = open(backend).await;
    let all = [before, during].concat();
    assert_eq!(list(&store, &s, T0).await, all, "what waits is listed");
    assert_eq!(read_all(&store, &s, Start::Earliest, T0 + 9000).await.len(), 3, "and read");
    assert!(store.health().away, "until it was given");
    // Numbers go on behind those that wait.
    let after = produce(&store, &s, &[T0 + 6000]).await;
    assert!(after[0] > all[2]);
    assert_eq!(store.drain_spool().await.left, 0);
    drop(store);
    let report = look(Backend::custom(memory, true), keys(), &Config::default(), Depth::Scrub).await.unwrap();
    assert_eq!((report.problems, report.fragments), (vec![], 4));
}

#[tokio::test]
async fn a_full_spool_is_said_and_nothing_is_promised() {
    let (memory, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let (backend, away) = far(&memory, folder.path(), 40_000);
    let store = open(backend).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    produce(&store, &name("s"), &[T0]).await;
    away.store(true, Ordering::SeqCst);
    let (mut session, acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    session.push(&header(), T0).await.unwrap();
    for i in 1..5 {
        session.push(&cluster(T0 + i * 1024, 16), T0 + i).await.unwrap();
    }
    let finished = session.finish(true, T0 + 9000).await;
    assert_eq!((finished.kept, finished.failed), (2, 2), "two of 16 kB fit, and the session goes on");
    let acks = all_acks(acks).await;
    let errors = acks.iter().filter(|a| matches!(a, Ack::Error { kind: FaultKind::Archival, .. }));
    assert_eq!(errors.count(), 2);
    assert_eq!(store.health().fault, Some(StorageFault::Full));
    assert_eq!((store.stats().failed_full, store.stats().fragments_failed), (2, 2));
    away.store(false, Ordering::SeqCst);
    assert_eq!(store.drain_spool().await, Drained { moved: 2, left: 0 });
    assert_eq!(list(&store, &name("s"), T0).await.len(), 3);
}

#[tokio::test]
async fn an_answer_that_was_lost_makes_no_second_fragment() {
    let (memory, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let faulty = Faulty::new(memory.clone(), i64::MAX, Cut::Before);
    let lost = faulty.lost.clone();
    let backend = Backend::custom(Arc::new(faulty), true).with_spool(folder.path(), ROOM).unwrap();
    let store = open(backend).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    produce(&store, &name("s"), &[T0]).await;
    lost.store(true, Ordering::SeqCst);
    let numbers = produce(&store, &name("s"), &[T0 + 2000]).await;
    assert_eq!(numbers.len(), 1);
    assert_eq!(store.health().spooled, 1, "here, and there");
    drop(store);
    let (backend, _) = far(&memory, folder.path(), ROOM);
    let store = open(backend).await;
    assert_eq!(list(&store, &name("s"), T0).await.len(), 2);
    assert_eq!(store.drain_spool().await, Drained { moved: 1, left: 0 });
    assert_eq!(list(&store, &name("s"), T0).await.len(), 2);
}

#[tokio::test]
async fn what_a_store_refuses_is_kept_until_it_does_not() {
    let (memory, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let faulty = Faulty::new(memory.clone(), i64::MAX, Cut::Before);
    let refusing = faulty.refusing.clone();
    let backend = Backend::custom(Arc::new(faulty), true).with_spool(folder.path(), ROOM).unwrap();
    let store = open(backend).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    refusing.store(true, Ordering::SeqCst);
    assert_eq!(produce(&store, &name("s"), &[T0, T0 + 2000]).await.len(), 2, "promised, and kept here");
    let health = store.health();
    assert!(health.away && health.refused && health.fault.is_none(), "{health:?}");
    assert_eq!(store.drain_spool().await, Drained { moved: 0, left: 3 });
    assert!(store.health().refused, "still");
    refusing.store(false, Ordering::SeqCst);
    assert_eq!(store.drain_spool().await, Drained { moved: 3, left: 0 });
    let health = store.health();
    assert!(!health.away && !health.refused, "{health:?}");
    assert_eq!(read_all(&store, &name("s"), Start::Earliest, T0 + 9000).await.len(), 2);
}

#[tokio::test]
async fn a_header_that_is_there_already_does_not_stay_in_the_spool() {
    let (memory, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    // Room for nothing but the header: the fragment behind it fails, and its session's header is written again.
    let (backend, away) = far(&memory, folder.path(), 1024);
    let store = open(backend).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    // The stream's key has to be at hand: it never waits in a spool.
    drop(store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap());
    away.store(true, Ordering::SeqCst);
    assert_eq!(produce(&store, &name("s"), &[T0]).await, []);
    away.store(false, Ordering::SeqCst);
    assert_eq!(store.drain_spool().await, Drained { moved: 1, left: 0 });
    away.store(true, Ordering::SeqCst);
    assert_eq!(produce(&store, &name("s"), &[T0 + 2000]).await, []);
    assert_eq!(store.health().spooled, 1, "sealed anew, for the same place");
    away.store(false, Ordering::SeqCst);
    assert_eq!(store.drain_spool().await, Drained { moved: 1, left: 0 });
}

#[tokio::test]
async fn one_process_has_the_spool() {
    let (memory, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let (_backend, _) = far(&memory, folder.path(), ROOM);
    let second = Backend::custom(memory, true).with_spool(folder.path(), ROOM);
    assert!(matches!(second, Err(antiphon_store::Error::Locked)));
}

#[tokio::test]
async fn what_the_store_has_otherwise_keeps_the_rest_from_nothing() {
    use object_store::{ObjectStore, ObjectStoreExt};
    let (memory, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let (backend, away) = far(&memory, folder.path(), ROOM);
    let store = open(backend).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    produce(&store, &name("s"), &[T0]).await;
    away.store(true, Ordering::SeqCst);
    produce(&store, &name("s"), &[T0 + 2000, T0 + 4000]).await;
    // Another server has written something at the place of the first of them.
    let spooled = std::fs::read_dir(folder.path().join("v1/000000000000")).unwrap().next().unwrap().unwrap();
    let hour = std::fs::read_dir(spooled.path().join("f")).unwrap().next().unwrap().unwrap();
    let mut files: Vec<_> = std::fs::read_dir(hour.path()).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let place = files[0].strip_prefix(folder.path()).unwrap().to_str().unwrap();
    memory.put_opts(&place.into(), "other".into(), Default::default()).await.unwrap();
    away.store(false, Ordering::SeqCst);
    assert_eq!(store.drain_spool().await, Drained { moved: 1, left: 1 });
    assert!(!store.health().away, "it answers");
    assert_eq!(store.drain_spool().await, Drained { moved: 0, left: 1 });
    assert_eq!(read_all(&store, &name("s"), Start::Earliest, T0 + 9000).await.len(), 3, "ours is read");
    assert_eq!(
        memory.get(&place.into()).await.unwrap().bytes().await.unwrap(),
        "other",
        "and theirs is kept"
    );
}
