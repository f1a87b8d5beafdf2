//! Master keys with versions: a new one, keys wrapped anew under it, the old one gone; cut off at every single write on the way.

use std::sync::Arc;

use antiphon_store::key::{KeyError, KeyProvider, LocalKeys, Secret};
use antiphon_store::{
    Backend, Config, Depth, Error, FragmentNumber, NewStream, Rewrapped, Start, Store, Timecodes, look,
    rewrap,
};
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::faulty::{Cut, Faulty};
use crate::rig::{T0, list, name, new_stream, produce, read_all};

fn secret(byte: u8) -> Secret {
    Secret([byte; 32])
}

fn old() -> LocalKeys {
    LocalKeys::new("default", secret(1)).with("tenant", secret(2))
}

fn both() -> LocalKeys {
    old().with_version("default", 2, secret(11)).with_version("tenant", 7, secret(12))
}

fn new() -> LocalKeys {
    let keys = LocalKeys::by_default("default").with_version("default", 2, secret(11));
    keys.with_version("tenant", 7, secret(12))
}

async fn open(backend: Backend, keys: LocalKeys) -> Result<Store, Error> {
    let (store, problems) = Store::open(backend, Arc::new(keys), Config::default(), T0).await?;
    assert_eq!(problems, []);
    Ok(store)
}

/// Two streams under two master keys, one of them with two data keys: four keys with the account's. Gives what is stored.
async fn filled(memory: &Arc<InMemory>) -> [Vec<FragmentNumber>; 2] {
    let store = open(Backend::custom(memory.clone(), true), old()).await.unwrap();
    store.create_stream(new_stream("a", 24), T0).await.unwrap();
    let tenant = NewStream { key: Some("tenant".into()), ..new_stream("b", 24) };
    store.create_stream(tenant, T0).await.unwrap();
    let mut a = produce(&store, &name("a"), &[T0]).await;
    store.rotate_key(&name("a")).await.unwrap();
    a.extend(produce(&store, &name("a"), &[T0 + 2_000]).await);
    [a, produce(&store, &name("b"), &[T0]).await]
}

async fn all_there(store: &Store, stored: &[Vec<FragmentNumber>; 2], step: &str) {
    for (stream, numbers) in ["a", "b"].iter().zip(stored) {
        assert_eq!(&list(store, &name(stream), T0 + 10_000).await, numbers, "{step}");
        let documents = read_all(store, &name(stream), Start::Earliest, T0 + 10_000).await;
        assert_eq!(documents.iter().filter(|d| d.cluster.is_some()).count(), numbers.len(), "{step}");
    }
}

/// Gives whether it was done in so many writes.
async fn cut_at(writes: i64, cut: Cut) -> bool {
    let step = format!("cut {cut:?} write {writes}");
    let memory = Arc::new(InMemory::new());
    let stored = filled(&memory).await;
    let backend = || Backend::custom(memory.clone(), true);
    let faulty = Backend::custom(Arc::new(Faulty::new(memory.clone(), writes, cut)), true);
    let store = open(faulty, both()).await.unwrap();
    let done = store.rewrap_keys().await;
    drop(store);
    // Whatever was reached: with both versions all is there, and the other version of each key is the only one that opens some.
    all_there(&open(backend(), both()).await.expect(&step), &stored, &step).await;
    let report = look(backend(), Arc::new(both()), &Config::default(), Depth::Scrub).await.unwrap();
    assert_eq!(report.problems, [], "{step}");
    // The next run does the rest, and then the old versions can go.
    let rest = rewrap(backend(), Arc::new(both()), &Config::default()).await.expect(&step);
    assert_eq!((rest.rewrapped, &rest.problems), (report.old_keys, &Vec::new()), "{step}");
    assert_eq!(rest.rewrapped + rest.newest, 4, "{step}");
    all_there(&open(backend(), new()).await.expect(&step), &stored, &step).await;
    let report = look(backend(), Arc::new(new()), &Config::default(), Depth::Scrub).await.unwrap();
    assert_eq!((report.old_keys, report.problems.len()), (0, 0), "{step}");
    let with_old = open(backend(), old()).await;
    assert!(matches!(with_old, Err(Error::Key(key)) if key.id() == 4506), "{step}: {with_old:?}");
    done.is_ok()
}

#[tokio::test]
async fn a_new_version_takes_over_and_a_cut_at_any_write_loses_nothing() {
    for cut in [Cut::Before, Cut::After] {
        let mut writes = 0;
        while !cut_at(writes, cut).await {
            writes += 1;
        }
        assert_eq!(writes, 4, "one for each key");
    }
}

#[tokio::test]
async fn who_uses_the_store_meanwhile_notices_nothing() {
    let memory = Arc::new(InMemory::new());
    let stored = filled(&memory).await;
    let store = open(Backend::custom(memory.clone(), true), both()).await.unwrap();
    let (mut session, _acks) = store.open_session(&name("a"), Timecodes::Absolute, T0 + 4_000).await.unwrap();
    session.push(&crate::rig::header(), T0 + 4_000).await.unwrap();
    let done = store.rewrap_keys().await.unwrap();
    assert_eq!(done, Rewrapped { rewrapped: 4, ..Rewrapped::default() });
    session.push(&crate::rig::cluster(T0 + 4_000, 16), T0 + 4_000).await.unwrap();
    assert_eq!(session.finish(true, T0 + 5_000).await.kept, 1);
    assert_eq!(store.rewrap_keys().await.unwrap(), Rewrapped { newest: 4, ..Rewrapped::default() });
    let [mut a, b] = stored;
    a.push(*list(&store, &name("a"), T0 + 10_000).await.last().unwrap());
    assert_eq!(a.len(), 3);
    all_there(&open(Backend::custom(memory, true), new()).await.unwrap(), &[a, b], "afterwards").await;
}

/// A key that does not open stays as it is, is told, and holds up nobody else; one that was destroyed stays destroyed.
#[tokio::test]
async fn what_does_not_open_is_told_and_what_was_destroyed_stays_so() {
    let memory = Arc::new(InMemory::new());
    filled(&memory).await;
    let gone = Path::from(format!("v1/000000000000/{}/dek/0", "ab".repeat(16)));
    let destroyed = bytes::Bytes::from_static(b"{\"key\":\"\",\"wrapped\":\"\"}");
    memory.put(&gone, destroyed.clone().into()).await.unwrap();
    let backend = || Backend::custom(memory.clone(), true);
    let wrong = old().with_version("default", 2, secret(11)).with("tenant", secret(99));
    let wrong = wrong.with_version("tenant", 7, secret(12));
    let done = rewrap(backend(), Arc::new(wrong), &Config::default()).await.unwrap();
    assert_eq!((done.rewrapped, done.newest, done.problems.len()), (3, 0, 1), "{done:?}");
    assert!(done.problems[0].what.contains("does not fit"), "{done:?}");
    assert_eq!(memory.get(&gone).await.unwrap().bytes().await.unwrap(), destroyed);
    let done = rewrap(backend(), Arc::new(both()), &Config::default()).await.unwrap();
    assert_eq!((done.rewrapped, done.newest, done.problems.len()), (1, 3, 0), "{done:?}");
}

/// Keys of which one is destroyed by somebody else at the moment when it was read: a server that deletes a stream of the bucket.
struct Racing {
    keys: LocalKeys,
    bucket: Arc<InMemory>,
    path: Path,
}

impl KeyProvider for Racing {
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
            if key == "tenant" {
                self.bucket.delete(&self.path).await.unwrap();
            }
            self.keys.wrap(key, of, secret).await
        })
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        of: &'a str,
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, Result<Secret, KeyError>> {
        self.keys.unwrap(key, of, wrapped)
    }

    fn is_newest(&self, key: &str, wrapped: &[u8]) -> bool {
        self.keys.is_newest(key, wrapped)
    }
}

#[tokio::test]
async fn a_key_that_is_destroyed_meanwhile_does_not_come_back() {
    let memory = Arc::new(InMemory::new());
    filled(&memory).await;
    let paths: Vec<_> = memory.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    let mut tenants = Vec::new();
    for path in paths.into_iter().filter(|path| path.as_ref().contains("/dek/")) {
        let bytes = memory.get(&path).await.unwrap().bytes().await.unwrap();
        tenants.extend(bytes.windows(6).any(|w| w == b"tenant").then_some(path));
    }
    let [path] = &tenants[..] else { panic!("{tenants:?}") };
    let racing = Racing { keys: both(), bucket: memory.clone(), path: path.clone() };
    let backend = Backend::custom(memory.clone(), true);
    let done = rewrap(backend, Arc::new(racing), &Config::default()).await.unwrap();
    assert_eq!(done, Rewrapped { rewrapped: 3, ..Rewrapped::default() });
    assert!(memory.get(path).await.is_err(), "it is back");
}

/// A lock for one process: what another has open is not touched.
#[tokio::test]
async fn a_folder_is_wrapped_anew_by_one_process_only() {
    let root = tempfile::tempdir().unwrap();
    let store = open(Backend::local(root.path()).unwrap(), old()).await.unwrap();
    assert!(matches!(Backend::local(root.path()), Err(Error::Locked)));
    store.try_key("tenant").await.unwrap();
    assert!(matches!(store.try_key("nobody's").await, Err(Error::Key(key)) if key.id() == 4506));
    drop(store);
    let done = rewrap(Backend::local(root.path()).unwrap(), Arc::new(both()), &Config::default()).await;
    assert_eq!(done.unwrap().rewrapped, 1);
    open(Backend::local(root.path()).unwrap(), new()).await.unwrap();
}
