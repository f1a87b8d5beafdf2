//! Every bound, what happens at it, and that it is seen.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use antiphon_store::{Ack, Backend, Config, Error, FaultKind, Limit, Start, StorageFault, Store, Timecodes};
use object_store::memory::InMemory;

use crate::faulty::{Cut, Faulty};
use crate::rig::{
    T0, all_acks, cluster, header, keys, list, name, new_stream, persisted, read_all, with_stream,
};

async fn store_with(config: Config) -> Store {
    let (store, _) = Store::open(Backend::memory(), keys(), config, T0).await.unwrap();
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    store
}

#[tokio::test]
async fn streams_sessions_and_readers_are_counted() {
    let config = Config { max_streams: 1, max_sessions: 1, max_readers: 1, ..Config::default() };
    let store = store_with(config).await;
    let over = store.create_stream(new_stream("t", 1), T0).await;
    assert!(matches!(over, Err(Error::Limit(Limit::Streams))));
    let session = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    let over = store.open_session(&name("s"), Timecodes::Absolute, T0).await;
    assert!(matches!(over.err(), Some(Error::Limit(Limit::Sessions))));
    let reader = store.get_media(&name("s"), Start::Now, T0).unwrap();
    let over = store.get_media(&name("s"), Start::Now, T0);
    assert!(matches!(over.err(), Some(Error::Limit(Limit::Readers))));
    assert_eq!((store.stats().sessions, store.stats().readers, store.stats().streams), (1, 1, 1));
    drop((session, reader));
    store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    store.get_media(&name("s"), Start::Now, T0).unwrap();
}

/// A session that goes on after a fragment found no room, and what it was told.
async fn over_quota(config: Config) -> Vec<Ack> {
    let store = store_with(config).await;
    let (mut session, acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    session.push(&header(), T0).await.unwrap();
    for i in 0..3 {
        session.push(&cluster(T0 + i * 1024, 16), T0 + i * 1024).await.unwrap();
    }
    let finished = session.finish(true, T0).await;
    assert_eq!((finished.kept, finished.failed), (1, 2));
    assert_eq!(store.stats().fragments_failed, 2);
    assert_eq!(list(&store, &name("s"), T0 + 5000).await, [finished.first.unwrap()]);
    all_acks(acks).await
}

#[tokio::test]
async fn a_quota_refuses_the_fragment_and_not_the_call() {
    for config in [
        Config { max_stream_bytes: 20_000, ..Config::default() },
        Config { max_total_bytes: 20_000, ..Config::default() },
    ] {
        let acks = over_quota(config).await;
        let errors: Vec<_> = acks
            .iter()
            .filter_map(|a| if let Ack::Error { kind, .. } = a { Some(*kind) } else { None })
            .collect();
        assert_eq!(errors, [FaultKind::Archival; 2]);
        assert_eq!(FaultKind::Archival.id(), 5001);
    }
    let store = store_with(Config { max_total_bytes: 1, ..Config::default() }).await;
    store.open_session(&name("s"), Timecodes::Absolute, T0).await.expect("nothing is stored yet");
}

#[tokio::test]
async fn a_full_disk_is_said_and_over_when_there_is_room_again() {
    let faulty = Faulty::new(Arc::new(InMemory::new()), i64::MAX, Cut::Before);
    let full = faulty.full.clone();
    let backend = Backend::custom(Arc::new(faulty), true);
    let (store, _) = Store::open(backend, keys(), Config::default(), T0).await.unwrap();
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    assert_eq!(store.health().fault, None);
    let (mut session, acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    session.push(&header(), T0).await.unwrap();
    full.store(true, Ordering::SeqCst);
    session.push(&cluster(T0, 2), T0).await.unwrap();
    session.push(&cluster(T0 + 128, 2), T0 + 1).await.unwrap();
    while store.health().fault.is_none() {
        tokio::task::yield_now().await;
    }
    let health = store.health();
    assert_eq!((health.fault, health.since_ms, health.failures), (Some(StorageFault::Full), T0 + 1, 1));
    let refused = store.create_stream(new_stream("t", 1), T0).await;
    assert!(matches!(refused, Err(Error::Storage { fault: StorageFault::Full, .. })));
    full.store(false, Ordering::SeqCst);
    let finished = session.finish(true, T0 + 300).await;
    assert_eq!((finished.kept, finished.failed), (1, 1), "the session goes on");
    assert_eq!(store.health().fault, None);
    let acks = all_acks(acks).await;
    assert!(acks.iter().any(|a| matches!(a, Ack::Error { kind: FaultKind::Archival, .. })));
    assert_eq!(acks.iter().filter(|a| matches!(a, Ack::Persisted(_))).count(), 1);
    let read = read_all(&store, &name("s"), Start::Earliest, T0 + 300).await;
    assert_eq!(read.len(), 1, "only what was stored can be read later");
}

#[tokio::test]
async fn acknowledgements_that_nobody_reads_are_dropped_and_counted() {
    let (store, s) = with_stream(24).await;
    let (mut session, acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    session.push(&header(), T0).await.unwrap();
    for i in 0..400 {
        session.push(&cluster(T0 + i * 64, 1), T0 + i).await.unwrap();
    }
    session.push(&[0xff; 9], T0 + 500).await.unwrap_err();
    let finished = session.finish(true, T0 + 500).await;
    assert_eq!(finished.kept, 399, "all but the one that was broken off is stored all the same");
    let acks = all_acks(acks).await;
    assert!(
        acks.iter().any(|ack| matches!(ack, Ack::Error { kind: FaultKind::InvalidMkv, .. })),
        "errors have room"
    );
    // The places for errors but one stay empty.
    assert_eq!(acks.len(), 1024 - 128 + 1);
    assert_eq!(acks.len() as u64 + store.stats().acks_dropped, 400 + 2 * 399 + 1);
}

#[tokio::test]
async fn a_producer_faster_than_the_storage_waits() {
    // One fragment has room: each push waits for the one before, and nothing is lost.
    let store = store_with(Config { max_in_flight_bytes: 20_000, ..Config::default() }).await;
    let (mut session, acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    session.push(&header(), T0).await.unwrap();
    for i in 0..20 {
        session.push(&cluster(T0 + i * 1024, 16), T0 + i * 1024).await.unwrap();
    }
    session.finish(true, T0 + 30_000).await;
    assert_eq!(persisted(acks).await.len(), 20);
}

#[tokio::test]
async fn a_reader_that_never_reads_changes_nothing_for_its_producer() {
    let (store, s) = with_stream(24).await;
    let _stalled: Vec<_> = (0..50).map(|_| store.get_media(&s, Start::Earliest, T0).unwrap()).collect();
    let (mut session, acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    session.push(&header(), T0).await.unwrap();
    for i in 0..50 {
        session.push(&cluster(T0 + i * 128, 2), T0 + i * 128).await.unwrap();
    }
    assert_eq!(session.finish(true, T0 + 7000).await.kept, 50);
    assert_eq!(persisted(acks).await.len(), 50);
}

#[tokio::test]
async fn a_key_that_is_not_there_stops_a_session_before_it_begins() {
    let memory = Arc::new(InMemory::new());
    let backend = || Backend::custom(memory.clone(), true);
    let (store, _) = Store::open(backend(), keys(), Config::default(), T0).await.unwrap();
    let new = antiphon_store::NewStream { key: Some("other".into()), ..new_stream("s", 24) };
    store.create_stream(new, T0).await.unwrap();
    let missing = antiphon_store::NewStream { key: Some("nobody".into()), ..new_stream("t", 24) };
    let Err(Error::Key(key)) = store.create_stream(missing, T0).await else { panic!("no such key") };
    assert_eq!(key.id(), 4506);
    crate::rig::produce(&store, &name("s"), &[T0]).await;
    drop(store);
    // The provider has lost that key, and only the streams under it suffer.
    let only = antiphon_store::key::LocalKeys::new("default", antiphon_store::key::Secret([7; 32]));
    let (store, _) = Store::open(backend(), Arc::new(only), Config::default(), T0).await.unwrap();
    let begun = store.open_session(&name("s"), Timecodes::Absolute, T0).await;
    assert!(matches!(begun.err(), Some(Error::Key(key)) if key.id() == 4506));
    let read = read_all(&store, &name("s"), Start::Earliest, T0 + 100).await;
    assert_eq!((read[0].tag("AWS_KINESISVIDEO_ERROR_ID"), read[0].error()), ("4506", "KMS_KEY_NOT_FOUND"));
    store.create_stream(new_stream("t", 24), T0).await.unwrap();
}
