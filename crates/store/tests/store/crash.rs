//! The storage stops at every single write, before it happens and after; then the store is opened again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use antiphon_store::{Backend, Config, Depth, FragmentNumber, Status, Store, Timecodes, look};
use object_store::memory::InMemory;

use crate::faulty::{Cut, Faulty};
use crate::rig::{
    HOUR, T0, assert_whole, cluster, documents, header_of, keys, list, media_of, name, new_stream, open,
    persisted,
};

/// What the storage promised before it stopped.
#[derive(Debug, Default)]
struct Promised {
    /// Settings that were written last.
    settings: u8,
    created: bool,
    persisted: Vec<FragmentNumber>,
    swept: bool,
    deleted: bool,
    again: bool,
    /// The whole script ran.
    done: bool,
}

/// When the oldest fragments are past their retention of an hour.
const LATER: u64 = T0 + HOUR + 1;

/// Everything that writes: creation, sessions, rotation, retention, tags, deletion, creation under the same name.
async fn script(store: &Store, promised: &mut Promised) -> Result<(), antiphon_store::Error> {
    let s = name("s");
    for settings in [1, 2] {
        store.write_settings("some", &[settings]).await?;
        promised.settings = settings;
    }
    store.create_stream(new_stream("s", 1), T0).await?;
    promised.created = true;
    session(store, promised, "contact-1", &[T0, T0 + 1024]).await?;
    store.rotate_key(&s).await?;
    session(store, promised, "contact-2", &[T0 + 2048, LATER]).await?;
    let version = store.describe(&s)?.version;
    store.update_stream(&s, &version, Some("audio/L16".into()), None).await?;
    let swept = store.sweep(LATER).await;
    promised.swept = swept.fragments == 2;
    store.delete_stream(&s, None).await?;
    promised.deleted = true;
    store.create_stream(new_stream("s", 2), LATER).await?;
    promised.again = true;
    promised.done = true;
    Ok(())
}

async fn session(
    store: &Store,
    promised: &mut Promised,
    contact: &str,
    times: &[u64],
) -> Result<(), antiphon_store::Error> {
    let (mut session, acks) = store.open_session(&name("s"), Timecodes::Absolute, times[0]).await?;
    session.push(&header_of(contact), times[0]).await.unwrap();
    for time in times {
        session.push(&cluster(*time, 2), *time).await.unwrap();
    }
    session.finish(true, times[times.len() - 1]).await;
    promised.persisted.extend(persisted(acks).await);
    Ok(())
}

/// Opens the store again and holds it to what was promised.
async fn check(memory: Arc<InMemory>, promised: &Promised, step: &str) {
    let backend = || Backend::custom(memory.clone(), true);
    let store = open(backend(), LATER).await;
    let settings = store.read_settings("some").await.expect(step).map_or(0, |s| s[0]);
    assert!([promised.settings, promised.settings + 1].contains(&settings), "{step}: {settings}");
    let s = name("s");
    let found = store.describe(&s).ok();
    let old = found.as_ref().is_some_and(|i| i.retention_h == 1);
    if promised.again {
        assert_eq!(found.as_ref().unwrap().retention_h, 2, "{step}");
    } else if promised.deleted {
        assert!(!old, "{step}: a deleted stream is back");
    } else if promised.created {
        // Deletion may have been decided without being promised.
        assert!(found.is_none_or(|i| i.status == Status::Active), "{step}");
    }
    if old {
        fragments(&store, promised, step).await;
    } else {
        assert_eq!(store.stats().bytes, 0, "{step}");
        if store.describe(&s).is_err() {
            store.create_stream(new_stream("s", 2), LATER).await.expect(step);
        }
    }
    // The account goes on as if nothing had happened, and numbers go up only.
    let mut more = Promised::default();
    session(&store, &mut more, "contact-3", &[LATER + 2048]).await.expect(step);
    assert_eq!(more.persisted.len(), 1, "{step}");
    if old {
        assert!(promised.persisted.iter().all(|n| *n < more.persisted[0]), "{step}: a number went back");
    }
    let report = look(backend(), keys(), &Config::default(), Depth::Scrub).await.expect(step);
    assert_eq!(report.problems, [], "{step}");
}

async fn fragments(store: &Store, promised: &Promised, step: &str) {
    let listed = list(store, &name("s"), LATER).await;
    for number in &promised.persisted {
        if number.server_ms() + HOUR > LATER {
            assert!(listed.contains(number), "{step}: {number:?} was promised");
        } else {
            assert!(!listed.contains(number), "{step}: {number:?} is past its retention");
        }
    }
    if !listed.is_empty() {
        for document in documents(&media_of(store, &name("s"), &listed, LATER).await) {
            assert_whole(&document, 2);
        }
    }
    if promised.swept {
        assert!(listed.len() <= 2, "{step}");
    }
}

async fn cut_at(writes: i64, cut: Cut) -> bool {
    let memory = Arc::new(InMemory::new());
    let mut promised = Promised::default();
    let faulty = Faulty::new(memory.clone(), writes, cut);
    let opened = Store::open(Backend::custom(Arc::new(faulty), true), keys(), Config::default(), T0).await;
    if let Ok((store, _)) = opened {
        let ended = script(&store, &mut promised).await;
        assert_eq!(ended.is_ok(), promised.done);
    }
    check(memory, &promised, &format!("cut {cut:?} write {writes}: {promised:?}")).await;
    promised.done
}

#[tokio::test]
async fn whatever_was_promised_is_there_after_a_cut_at_any_write() {
    for cut in [Cut::Before, Cut::After] {
        let mut writes = 0;
        while !cut_at(writes, cut).await {
            writes += 1;
        }
        assert!(writes > 25, "the script writes more than {writes} times");
    }
}

/// A removal need not last: after a power loss the whole stream is back, except what was overwritten.
#[tokio::test]
async fn a_deleted_stream_that_reappears_cannot_be_read() {
    let memory = Arc::new(InMemory::new());
    let faulty = Faulty::new(memory.clone(), i64::MAX, Cut::Before);
    let left = faulty.left.clone();
    let store = open(Backend::custom(Arc::new(faulty), true), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let numbers = crate::rig::produce(&store, &name("s"), &[T0]).await;
    assert_eq!(numbers.len(), 1);
    let before = snapshot(&memory).await;
    // Cut off behind the record that says so, and what comes next: a key that can be used no more, while all it sealed is there.
    left.store(2, Ordering::SeqCst);
    assert!(store.delete_stream(&name("s"), None).await.is_err());
    drop(store);
    let of = |all: &[(object_store::path::Path, bytes::Bytes)], part: &str| {
        let found = all.iter().find(|(path, _)| path.as_ref().contains(part));
        found.map(|(_, bytes)| bytes.clone()).unwrap()
    };
    let cut_off = snapshot(&memory).await;
    assert_eq!((cut_off.len(), of(&cut_off, "/f/")), (before.len(), of(&before, "/f/")));
    let destroyed = of(&cut_off, "/dek/");
    assert_ne!(destroyed, of(&before, "/dek/"));
    drop(open(Backend::custom(memory.clone(), true), T0).await);
    assert_eq!(snapshot(&memory).await.len(), 1, "only the account's key is left");
    // All objects are back as they were, but for the destroyed key: its overwrite was synced.
    for (path, bytes) in before {
        let bytes = if path.as_ref().contains("/dek/") { destroyed.clone() } else { bytes };
        object_store::ObjectStoreExt::put(&*memory, &path, bytes.into()).await.unwrap();
    }
    let backend = || Backend::custom(memory.clone(), true);
    let (store, problems) = Store::open(backend(), keys(), Config::default(), T0).await.unwrap();
    assert!(!problems.is_empty(), "it is told");
    let response = media_of(&store, &name("s"), &numbers, T0).await;
    assert_eq!(documents(&response)[0].error(), "FRAGMENT_NOT_FOUND");
    let report = look(backend(), keys(), &Config::default(), Depth::Check).await.unwrap();
    assert!(report.problems.iter().any(|p| p.what.contains("destroyed")), "{:?}", report.problems);
}

async fn snapshot(memory: &InMemory) -> Vec<(object_store::path::Path, bytes::Bytes)> {
    use futures_util::TryStreamExt;
    use object_store::{ObjectStore, ObjectStoreExt};
    let listed: Vec<_> = memory.list(None).try_collect().await.unwrap();
    let mut all = Vec::new();
    for meta in listed {
        let bytes = memory.get(&meta.location).await.unwrap().bytes().await.unwrap();
        all.push((meta.location, bytes));
    }
    all
}
