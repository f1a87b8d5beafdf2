//! A key provider that does not answer: only those wait who need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use antiphon_store::key::{KeyError, KeyProvider, LocalKeys, Secret};
use antiphon_store::{Backend, Config, Depth, Error, NewStream, Start, Store, Timecodes, look};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use object_store::memory::InMemory;
use tokio::sync::Semaphore;

use crate::rig::{T0, cluster, header, list, name, new_stream, persisted, produce, read_all};

/// "far" hangs while it has no leave; "default" is here.
struct Far {
    keys: LocalKeys,
    leave: Semaphore,
    asked: AtomicU64,
    /// It encrypts, and does not decrypt.
    one_way: AtomicBool,
}

impl Far {
    fn new(leave: usize) -> Arc<Self> {
        let keys = LocalKeys::new("default", Secret([1; 32])).with("far", Secret([2; 32]));
        let (asked, one_way) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { keys, leave: Semaphore::new(leave), asked, one_way })
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    async fn ask(&self, key: &str) {
        if self.asks(key) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.leave.acquire().await.unwrap().forget();
        }
    }
}

impl KeyProvider for Far {
    fn default_key(&self) -> &str {
        self.keys.default_key()
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        of: &'a str,
        secret: &'a Secret,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(async move {
            self.ask(key).await;
            self.keys.wrap(key, of, secret).await
        })
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        of: &'a str,
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, Result<Secret, KeyError>> {
        Box::pin(async move {
            self.ask(key).await;
            if self.asks(key) && self.one_way.load(Ordering::Relaxed) {
                return Err(KeyError::AccessDenied);
            }
            self.keys.unwrap(key, of, wrapped).await
        })
    }

    fn is_newest(&self, key: &str, _: &[u8]) -> bool {
        !self.asks(key)
    }

    fn asks(&self, key: &str) -> bool {
        key == "far"
    }
}

async fn open(memory: &Arc<InMemory>, keys: Arc<Far>) -> Store {
    let backend = Backend::custom(memory.clone(), true);
    let (store, problems) = Store::open(backend, keys, Config::default(), T0).await.unwrap();
    assert_eq!(problems, []);
    store
}

fn far(name: &str) -> NewStream {
    NewStream { key: Some("far".into()), ..new_stream(name, 24) }
}

/// All that others do to streams as a whole. Who would wait for the key server would wait for ever.
async fn others_go_on(store: &Store, step: &str) {
    tokio::time::timeout(Duration::from_secs(60), all_that_others_do(store, step)).await.expect(step);
}

async fn all_that_others_do(store: &Store, step: &str) {
    store.create_stream(new_stream("other", 24), T0).await.expect(step);
    produce(store, &name("other"), &[T0]).await;
    store.tag(&name("slow"), [("a".into(), step.into())].into(), &[]).await.expect(step);
    let version = store.describe(&name("slow")).unwrap().version;
    store.update_retention(&name("slow"), &version, 25, T0).await.expect(step);
    assert_eq!(store.sweep(T0).await.failed, 0, "{step}");
    store.delete_stream(&name("other"), None).await.expect(step);
}

#[tokio::test]
async fn a_key_that_hangs_is_in_nobodys_way() {
    let (memory, keys) = (Arc::new(InMemory::new()), Far::new(100));
    let store = open(&memory, keys.clone()).await;
    store.create_stream(far("slow"), T0).await.unwrap();
    produce(&store, &name("slow"), &[T0]).await;
    assert_eq!(keys.asked(), 2, "wrapped, and looked whether it opens");
    // Whatever was begun before, the API goes on.
    let keys = Far::new(0);
    let store = open(&memory, keys.clone()).await;
    assert_eq!(keys.asked(), 0, "a start asks for no stream's key");
    assert_eq!(list(&store, &name("slow"), T0 + 2_000).await.len(), 1);
    let slow = name("slow");
    let mut rewraps = Box::pin(store.rewrap_keys());
    let mut creates = Box::pin(store.create_stream(far("new"), T0));
    let mut rotates = Box::pin(store.rotate_key(&slow));
    let mut begins = Box::pin(store.open_session(&slow, Timecodes::Absolute, T0));
    assert!(rewraps.as_mut().now_or_never().is_none());
    assert!(creates.as_mut().now_or_never().is_none());
    assert!(rotates.as_mut().now_or_never().is_none());
    assert!(begins.as_mut().now_or_never().is_none());
    assert_eq!(keys.asked(), 4);
    others_go_on(&store, "while four wait").await;
    keys.leave.add_permits(100);
    assert_eq!(rewraps.await.unwrap().rewrapped, 1);
    creates.await.unwrap();
    rotates.await.unwrap();
    assert!(begins.await.is_ok());
    assert_eq!(store.describe(&name("new")).unwrap().key, "far");
    produce(&store, &name("slow"), &[T0 + 2_000]).await;
    assert_eq!(read_all(&store, &name("slow"), Start::Earliest, T0 + 9_000).await.len(), 2);
}

/// A stream that kept nothing begins to while it is written, so the key that its fragment needs is not in memory: nobody who waits for that
/// fragment's gate waits for the key server.
#[tokio::test]
async fn a_fragment_that_waits_for_its_key_is_in_nobodys_way() {
    let memory = Arc::new(InMemory::new());
    let store = open(&memory, Far::new(100)).await;
    store.create_stream(NewStream { retention_h: 0, ..far("slow") }, T0).await.unwrap();
    drop(store);
    let keys = Far::new(0);
    let store = open(&memory, keys.clone()).await;
    let (mut session, acks) = store.open_session(&name("slow"), Timecodes::Absolute, T0).await.unwrap();
    let version = store.describe(&name("slow")).unwrap().version;
    store.update_retention(&name("slow"), &version, 24, T0).await.unwrap();
    assert_eq!(keys.asked(), 0);
    session.push(&[header(), cluster(T0, 16), cluster(T0 + 1_024, 16)].concat(), T0 + 1_024).await.unwrap();
    while keys.asked() == 0 {
        tokio::task::yield_now().await;
    }
    others_go_on(&store, "while a fragment waits").await;
    keys.leave.add_permits(100);
    assert_eq!(session.finish(true, T0 + 4_000).await.kept, 2);
    assert_eq!(persisted(acks).await.len(), 2);
}

#[tokio::test]
async fn what_runs_goes_on_with_the_key_it_has() {
    let (memory, keys) = (Arc::new(InMemory::new()), Far::new(2));
    let store = open(&memory, keys.clone()).await;
    store.create_stream(far("slow"), T0).await.unwrap();
    let (mut session, _acks) = store.open_session(&name("slow"), Timecodes::Absolute, T0).await.unwrap();
    session.push(&header(), T0).await.unwrap();
    for i in 0..3 {
        session.push(&cluster(T0 + i * 1_024, 16), T0 + i * 1_024).await.unwrap();
    }
    others_go_on(&store, "while it is written").await;
    assert_eq!(session.finish(true, T0 + 4_000).await.kept, 3);
    assert_eq!(read_all(&store, &name("slow"), Start::Earliest, T0 + 9_000).await.len(), 3);
    assert_eq!(keys.asked(), 2);
}

/// Made twice at once: one is, and the other's data key is nowhere.
#[tokio::test]
async fn of_two_streams_of_one_name_one_is_made() {
    let (memory, keys) = (Arc::new(InMemory::new()), Far::new(0));
    let store = open(&memory, keys.clone()).await;
    let mut one = Box::pin(store.create_stream(far("s"), T0));
    let mut two = Box::pin(store.create_stream(far("s"), T0));
    assert!(one.as_mut().now_or_never().is_none() && two.as_mut().now_or_never().is_none());
    keys.leave.add_permits(100);
    let (one, two) = tokio::join!(one, two);
    assert!(one.is_ok() && matches!(two, Err(Error::StreamExists)), "{one:?} {two:?}");
    produce(&store, &name("s"), &[T0]).await;
    let (backend, config) = (Backend::custom(memory, true), Config::default());
    let report = look(backend, Far::new(100), &config, Depth::Scrub).await.unwrap();
    assert_eq!(report.problems, []);
}

/// Who may encrypt but not decrypt would store what nobody can read after a restart.
#[tokio::test]
async fn what_cannot_be_unwrapped_is_not_used() {
    let (memory, keys) = (Arc::new(InMemory::new()), Far::new(100));
    let store = open(&memory, keys.clone()).await;
    store.create_stream(far("s"), T0).await.unwrap();
    keys.one_way.store(true, Ordering::Relaxed);
    let denied = |e: Result<(), Error>| matches!(e, Err(Error::Key(KeyError::AccessDenied)));
    assert!(denied(store.create_stream(far("t"), T0).await.map(drop)));
    assert!(denied(store.rotate_key(&name("s")).await));
    assert!(store.describe(&name("t")).is_err());
    produce(&store, &name("s"), &[T0]).await;
    let done = store.rewrap_keys().await.unwrap();
    assert_eq!((done.rewrapped, done.problems.len()), (0, 1), "{done:?}");
}
