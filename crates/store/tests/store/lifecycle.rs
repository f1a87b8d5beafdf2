//! Streams as a whole: names, versions, retention, and a store that is closed and opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use antiphon_store::{Arn, Backend, Config, Depth, Error, Limit, Start, Store, StreamRef, Timecodes, look};
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::faulty::{Cut, Faulty};
use crate::rig::{
    HOUR, T0, cluster, header, keys, list, name, new_stream, open, persisted, produce, read_all, with_stream,
};

#[tokio::test]
async fn names_are_unique_and_streams_are_found_by_both_names() {
    let (store, s) = with_stream(24).await;
    assert!(matches!(store.create_stream(new_stream("s", 1), T0).await, Err(Error::StreamExists)));
    let info = store.describe(&s).unwrap();
    let arn = info.arn.as_str();
    assert_eq!(arn, format!("arn:aws:kinesisvideo:us-east-1:000000000000:stream/s/{T0}"));
    let by_arn = StreamRef::Arn(arn.parse().unwrap());
    assert_eq!(store.describe(&by_arn).unwrap(), info);
    let other: Arn = format!("{arn}1").parse().unwrap();
    assert!(matches!(store.describe(&StreamRef::Arn(other)), Err(Error::StreamNotFound)));
    for bad in ["", "a/b", "a b"] {
        let created = store.create_stream(new_stream(bad, 1), T0).await;
        assert!(matches!(created, Err(Error::InvalidArgument(_))), "{bad}");
    }
}

#[tokio::test]
async fn the_arn_of_a_deleted_stream_is_nobody_elses() {
    let (store, s) = with_stream(24).await;
    let old = StreamRef::Arn(store.describe(&s).unwrap().arn);
    store.delete_stream(&s, None).await.unwrap();
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    assert!(store.describe(&s).is_ok(), "one of the same name, made in the same millisecond");
    assert!(matches!(store.describe(&old), Err(Error::StreamNotFound)));
}

#[tokio::test]
async fn streams_are_listed_in_pages_by_name() {
    let store = open(Backend::memory(), T0).await;
    for name in ["b", "a-2", "a-1", "a-3"] {
        store.create_stream(new_stream(name, 1), T0).await.unwrap();
    }
    let names = |prefix: &str, after: &str, max| -> Vec<String> {
        store.list_streams(prefix, after, max).into_iter().map(|i| i.name).collect()
    };
    assert_eq!(names("", "", 10), ["a-1", "a-2", "a-3", "b"]);
    assert_eq!(names("a", "a-1", 1), ["a-2"]);
    assert_eq!(names("a", "a-2", 10), ["a-3"]);
}

#[tokio::test]
async fn changes_need_the_version_they_were_made_for() {
    let (store, s) = with_stream(24).await;
    let version = store.describe(&s).unwrap().version;
    store.update_stream(&s, &version, Some("audio/L16".into()), None).await.unwrap();
    let again = store.update_stream(&s, &version, None, Some("d".into())).await;
    assert!(matches!(again, Err(Error::VersionMismatch)));
    assert!(matches!(store.update_retention(&s, &version, 2, T0).await, Err(Error::VersionMismatch)));
    assert!(matches!(store.delete_stream(&s, Some(&version)).await, Err(Error::VersionMismatch)));
    let info = store.describe(&s).unwrap();
    assert_eq!((info.media_type.as_str(), info.device_name.as_str()), ("audio/L16", ""));
    store.delete_stream(&s, Some(&info.version)).await.unwrap();
    assert!(matches!(store.describe(&s), Err(Error::StreamNotFound)));
}

#[tokio::test]
async fn a_change_whose_answer_got_lost_does_not_lock_the_stream() {
    let faulty = Faulty::new(Arc::new(InMemory::new()), i64::MAX, Cut::Before);
    let lost = faulty.lost.clone();
    let store = open(Backend::custom(Arc::new(faulty), true), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let s = name("s");
    let version = store.describe(&s).unwrap().version;
    lost.store(true, Ordering::SeqCst);
    let change =
        async |version: &str, to: &str| store.update_stream(&s, version, Some(to.into()), None).await;
    assert!(matches!(change(&version, "a").await, Err(Error::Storage { .. })));
    // It has happened all the same: the next one learns of it, and the one after goes on from there.
    assert!(matches!(change(&version, "b").await, Err(Error::VersionMismatch)));
    let info = store.describe(&s).unwrap();
    assert_eq!(info.media_type, "a");
    change(&info.version, "b").await.unwrap();
    assert_eq!(store.describe(&s).unwrap().media_type, "b");
}

#[tokio::test]
async fn tags_are_kept_up_to_their_limit() {
    let (store, s) = with_stream(24).await;
    let tags = (0..50).map(|i| (format!("k{i}"), "v".to_owned())).collect();
    store.tag(&s, tags, &[]).await.unwrap();
    let one = [("more".to_owned(), "v".to_owned())];
    let over = store.tag(&s, one.clone().into(), &[]).await;
    assert!(matches!(over, Err(Error::Limit(Limit::Tags))));
    store.tag(&s, one.into(), &["k0".into()]).await.unwrap();
    let tags = store.tags(&s).unwrap();
    assert!(tags.len() == 50 && tags.contains_key("more") && !tags.contains_key("k0"));
}

#[tokio::test]
async fn what_was_stored_is_there_when_the_store_is_opened_again() {
    let root = tempfile::tempdir().unwrap();
    let store = open(Backend::local(root.path()).unwrap(), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let numbers = produce(&store, &name("s"), &[T0, T0 + 1024, T0 + 2048]).await;
    let before = store.describe(&name("s")).unwrap();
    let read = read_all(&store, &name("s"), Start::Earliest, T0 + 5000).await;
    drop(store);
    let store = open(Backend::local(root.path()).unwrap(), T0 + 5000).await;
    assert_eq!(store.describe(&name("s")).unwrap(), before);
    assert_eq!(list(&store, &name("s"), T0 + 5000).await, numbers);
    assert_eq!(read_all(&store, &name("s"), Start::Earliest, T0 + 5000).await, read);
    // The clock has gone back: numbers and server times have not.
    let more = produce(&store, &name("s"), &[T0 - HOUR]).await;
    assert!(more[0] > numbers[2] && more[0].server_ms() == numbers[2].server_ms());
}

#[tokio::test]
async fn two_processes_cannot_have_one_folder() {
    let root = tempfile::tempdir().unwrap();
    let _first = Backend::local(root.path()).unwrap();
    assert!(matches!(Backend::local(root.path()), Err(Error::Locked)));
}

#[tokio::test]
async fn retention_ends_for_readers_at_once_and_for_the_storage_at_the_sweep() {
    let (store, s) = with_stream(1).await;
    let numbers = produce(&store, &s, &[T0, T0 + 1000]).await;
    let edge = T0 + HOUR;
    assert_eq!(list(&store, &s, edge - 1).await, numbers);
    assert_eq!(list(&store, &s, edge).await, numbers[1..]);
    assert_eq!(read_all(&store, &s, Start::Earliest, edge).await.len(), 1);
    assert_eq!(store.stats().fragments, 2);
    assert_eq!(store.sweep(edge).await.fragments, 1);
    assert_eq!(store.sweep(edge + 1000).await.fragments, 1);
    assert_eq!((store.stats().fragments, store.stats().bytes, store.stats().fragments_expired), (0, 0, 2));
    let late = produce(&store, &s, &[edge + 2000]).await;
    assert!(late[0] > numbers[1]);
    assert_eq!(
        read_all(&store, &s, Start::Earliest, edge + 2000).await.len(),
        1,
        "its header is there again"
    );
}

#[tokio::test]
async fn what_a_sweep_could_not_remove_the_next_one_does() {
    let memory = Arc::new(InMemory::new());
    let faulty = Faulty::new(memory.clone(), i64::MAX, Cut::Before);
    let away = faulty.away.clone();
    let store = open(Backend::custom(Arc::new(faulty), true), T0).await;
    store.create_stream(new_stream("s", 1), T0).await.unwrap();
    // The last one stays: a sweep that removes it writes down the numbers first.
    produce(&store, &name("s"), &[T0, T0 + HOUR]).await;
    let objects = async || memory.list(None).try_collect::<Vec<_>>().await.unwrap().len();
    let before = objects().await;
    away.store(true, Ordering::SeqCst);
    let swept = store.sweep(T0 + HOUR).await;
    assert_eq!((swept.fragments, swept.failed, objects().await), (0, 1, before));
    assert_eq!((store.stats().fragments, store.stats().fragments_expired), (2, 0));
    assert_eq!(list(&store, &name("s"), T0 + HOUR).await.len(), 1, "nobody reads it meanwhile");
    away.store(false, Ordering::SeqCst);
    assert_eq!(store.sweep(T0 + HOUR).await.fragments, 1);
    assert_eq!((store.stats().fragments, objects().await), (1, before - 1));
    // A header that was left by a sweep that was cut off, of a stream that is opened later.
    drop(store);
    let header = memory.list(None).try_collect::<Vec<_>>().await.unwrap();
    let header = header.into_iter().find(|meta| meta.location.as_ref().contains("/hdr/")).unwrap().location;
    let stale =
        object_store::path::Path::from(format!("{}0000", &header.as_ref()[..header.as_ref().len() - 4]));
    memory.copy(&header, &stale).await.unwrap();
    let store = open(Backend::custom(memory.clone(), true), T0 + HOUR).await;
    assert_eq!(store.sweep(T0 + HOUR).await.failed, 0);
    assert!(memory.head(&stale).await.is_err() && memory.head(&header).await.is_ok());
}

#[tokio::test]
async fn numbers_go_on_after_all_fragments_have_expired() {
    let root = tempfile::tempdir().unwrap();
    let store = open(Backend::local(root.path()).unwrap(), T0).await;
    store.create_stream(new_stream("s", 1), T0).await.unwrap();
    let numbers = produce(&store, &name("s"), &[T0, T0 + 1024]).await;
    store.sweep(T0 + 2 * HOUR).await;
    drop(store);
    let store = open(Backend::local(root.path()).unwrap(), T0).await;
    let more = produce(&store, &name("s"), &[T0]).await;
    assert!(more[0] > numbers[1], "{more:?} {numbers:?}");
}

#[tokio::test]
async fn retention_can_be_changed_on_a_stream_that_exists() {
    let (store, s) = with_stream(24).await;
    produce(&store, &s, &[T0, T0 + HOUR]).await;
    let version = store.describe(&s).unwrap().version;
    store.update_retention(&s, &version, 1, T0 + HOUR + 1).await.unwrap();
    assert_eq!(store.stats().fragments, 1, "what is past the shorter retention goes at once");
    let version = store.describe(&s).unwrap().version;
    assert!(matches!(store.update_retention(&s, &version, 87_601, T0).await, Err(Error::InvalidArgument(_))));
    store.update_retention(&s, &version, 0, T0 + HOUR + 2).await.unwrap();
    assert_eq!(store.stats().fragments, 0);
    let listed = store.list_fragments(&s, None, 10, None, T0);
    assert!(matches!(listed, Err(Error::NoDataRetention)));
    assert!(matches!(store.get_fragments(&s, vec![], T0), Err(Error::NoDataRetention)));
}

#[tokio::test]
async fn a_stream_that_is_deleted_ends_its_producer_and_its_readers() {
    let (store, s) = with_stream(24).await;
    let (mut session, acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    session.push(&[header(), cluster(T0, 2)].concat(), T0).await.unwrap();
    let mut reader = store.get_media(&s, Start::Earliest, T0).unwrap();
    store.delete_stream(&s, None).await.unwrap();
    let fault = session.push(&cluster(T0 + 128, 1), T0).await.unwrap_err();
    assert_eq!((fault.kind.id(), fault.kind.code()), (4507, "STREAM_DELETED"));
    let finished = session.finish(true, T0).await;
    assert_eq!(finished.kept, 0);
    assert_eq!(persisted(acks).await, []);
    assert!(crate::rig::drain(&mut reader, T0).await.1, "the response ends");
    assert!(matches!(store.get_media(&s, Start::Now, T0), Err(Error::StreamNotFound)));
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    assert_eq!(list(&store, &s, T0).await, []);
}

#[tokio::test]
async fn settings_last_and_are_nobody_elses() {
    let root = tempfile::tempdir().unwrap();
    let store = open(Backend::local(root.path()).unwrap(), T0).await;
    assert_eq!(store.read_settings("some").await.unwrap(), None);
    store.write_settings("some", b"first").await.unwrap();
    store.write_settings("some", b"second").await.unwrap();
    store.write_settings("more", b"third").await.unwrap();
    assert!(matches!(store.write_settings("some", &[0; 65_537]).await, Err(Error::InvalidArgument(_))));
    drop(store);
    let store = open(Backend::local(root.path()).unwrap(), T0).await;
    assert_eq!(store.read_settings("some").await.unwrap().as_deref(), Some(&b"second"[..]));
    // Neither in another's place nor changed: each is told, here and by a check.
    let folder = root.path().join("v1/000000000000/settings");
    std::fs::copy(folder.join("more"), folder.join("some")).unwrap();
    assert!(matches!(store.read_settings("some").await, Err(Error::Key(_))));
    std::fs::write(folder.join("more"), "{}").unwrap();
    assert!(matches!(store.read_settings("more").await, Err(Error::Damaged { .. })));
    let (config, looked_at) = (Config::default(), Backend::local_read_only(root.path()).unwrap());
    let looked = look(looked_at, keys(), &config, Depth::Check);
    assert_eq!(looked.await.unwrap().problems.len(), 2);
}

#[tokio::test]
async fn a_wrong_account_key_opens_nothing() {
    let root = tempfile::tempdir().unwrap();
    drop(open(Backend::local(root.path()).unwrap(), T0).await);
    let wrong = antiphon_store::key::LocalKeys::new("default", antiphon_store::key::Secret([9; 32]));
    let backend = Backend::local(root.path()).unwrap();
    let opened = Store::open(backend, std::sync::Arc::new(wrong), Config::default(), T0).await;
    let Err(Error::Key(key)) = opened else { panic!("{opened:?}") };
    assert_eq!(key.id(), 4502);
    let bad = Config { account: "../x".into(), ..Config::default() };
    let opened = Store::open(Backend::memory(), keys(), bad, T0).await;
    assert!(matches!(opened, Err(Error::InvalidArgument(_))));
}
