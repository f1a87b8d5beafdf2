//! Many fragments made durable at once. A file of its own costs two syncs, some five hundred microseconds of a core, however small it is; a
//! server that stores hundreds each second asks for the whole file system instead, at most twenty-five times a second (syncfs(2)).
//!
//! A fragment is written under a name that is no object's, and gets its own after a sync that came behind its bytes; it counts after
//! one more, which came behind its name. So a power loss leaves what it leaves of a single one: all of it under its name, or nothing.
//! Where few fragments come, where such a sync takes long (others write much to the same file system, and it waits for that too), or where
//! one fails, each is synced by itself.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::statfs::{self, FsType};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::local;
use crate::error::Error;

/// How long fragments are gathered for a sync. One waits for two of them.
const GATHER: Duration = Duration::from_millis(40);
/// A sync that takes longer has waited for what others write.
const SLOW: Duration = Duration::from_millis(250);
/// After a slow one, or one that failed, for so long each fragment is synced by itself.
const PAUSE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// Since Linux 5.8 syncfs(2) tells of bytes that could not be written, since 5.17 of what the file system itself met.
const LINUX: (u32, u32) = (5, 17);
/// File systems whose syncfs(2) writes bytes and names for about what one fsync(2) costs: ext4 and XFS. (Not among them: overlays, which
/// tell no errors; Btrfs, which commits its trees; what is mounted from elsewhere.)
const SYSTEMS: [FsType; 2] = [statfs::EXT4_SUPER_MAGIC, FsType(0x5846_5342)];

/// Makes durable all that was written to a file system, names and bytes.
type Sync = Box<dyn Fn() -> io::Result<()> + Send + std::marker::Sync>;

/// What became of a fragment.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is durable.
    Durable,
    /// Nothing of it is there: it has to be written in another way, which finds out what is wrong.
    Nothing,
    /// Something of it may be there.
    Failed(Error),
}

/// A fragment that was written, not under its name yet, or not durably.
struct Waiting {
    staged: PathBuf,
    place: PathBuf,
    /// Syncs that had failed when it was begun.
    failures: u64,
    answer: oneshot::Sender<Outcome>,
}

impl Waiting {
    fn answer(self, outcome: Outcome) {
        // Nobody waits who was stopped meanwhile.
        _ = self.answer.send(outcome);
    }

    /// Takes back one that has no name yet.
    fn withdraw(self) {
        let outcome = remove(&self.staged).map_or_else(Outcome::Failed, |()| Outcome::Nothing);
        self.answer(outcome);
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(local::io("cannot remove", path, &e)),
        _ => Ok(()),
    }
}

/// How many fragments came in a second.
#[derive(Debug)]
struct Rate {
    since: Instant,
    count: u32,
    /// In the second before.
    before: u32,
}

impl Rate {
    /// One more; the larger of this second's number and the last's.
    fn count(&mut self, now: Instant) -> u32 {
        let passed = now - self.since;
        if passed >= SECOND {
            self.before = if passed < 2 * SECOND { self.count } else { 0 };
            (self.since, self.count) = (now, 0);
        }
        self.count += 1;
        self.count.max(self.before)
    }
}

struct Shared {
    rate: Rate,
    /// Until then each is synced by itself.
    pause: Option<Instant>,
    /// Whether somebody syncs.
    running: bool,
    /// Since when the sync that is under way is.
    syncing: Option<Instant>,
    /// Sessions store one fragment after another: one of each at most.
    staged: Vec<Waiting>,
}

/// Numbers for metrics.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) fragments: AtomicU64,
    pub(super) syncs: AtomicU64,
    /// Grows under the lock of what is staged only.
    pub(super) failures: AtomicU64,
}

/// The fragments of one folder.
pub(super) struct Group {
    root: PathBuf,
    sync: Sync,
    /// Fragments a second from which they are synced together.
    from: u32,
    names: AtomicU64,
    shared: Mutex<Shared>,
    pub(super) numbers: Numbers,
}

impl Group {
    /// For a folder whose file system can do it. `file`: a regular one there. Blocks on the disk: what a process that was killed had
    /// written is made durable before anybody takes it for stored.
    pub(super) fn open(root: &Path, file: File, from: u32) -> io::Result<Option<Arc<Self>>> {
        let system = statfs::fstatfs(&file)?.filesystem_type();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        if !SYSTEMS.contains(&system) || !tells_errors(&release) {
            tracing::info!(
                ?system,
                release = release.trim(),
                "fragments are synced one by one: group_sync_from needs ext4 or XFS"
            );
            return Ok(None);
        }
        let sync = move || {
            // The same descriptor each time: it is told what has failed since the last.
            nix::unistd::syncfs(&file)?;
            // This one fails where the file system has given up, which the first may not tell; and it empties the disk's own cache, also of
            // what ext4 without a journal writes behind that.
            file.sync_all()
        };
        if let Err(error) = sync() {
            tracing::warn!(%error, "something on the store's file system could not be written before this start");
        }
        Ok(Some(Arc::new(Self::new(root, from, Box::new(sync)))))
    }

    pub(super) fn new(root: &Path, from: u32, sync: Sync) -> Self {
        let rate = Rate { since: Instant::now(), count: 0, before: 0 };
        let shared = Shared { rate, pause: None, running: false, syncing: None, staged: Vec::new() };
        let (root, names, numbers) = (root.to_owned(), AtomicU64::new(0), Numbers::default());
        Self { root, sync, from, names, shared: Mutex::new(shared), numbers }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nothing panics while holding it")
    }

    /// Syncs that failed.
    fn failures(&self) -> u64 {
        self.numbers.failures.load(Ordering::Relaxed)
    }

    /// Counts a fragment that may wait; whether it is to go through [`Self::create`].
    pub(super) fn takes(&self) -> bool {
        let (now, mut shared) = (Instant::now(), self.shared());
        let many = shared.rate.count(now) >= self.from;
        let quick = shared.syncing.is_none_or(|since| now - since <= SLOW);
        many && quick && shared.pause.is_none_or(|until| now >= until)
    }

    /// Stores what must not be there yet.
    pub(super) async fn create(self: &Arc<Self>, path: &object_store::path::Path, bytes: Bytes) -> Outcome {
        let place = self.root.join(path.as_ref());
        let staged = local::staging(&place, self.names.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { staged: staged.clone(), place, failures: self.failures(), answer };
        match tokio::task::spawn_blocking(move || stage(&staged, &bytes)).await {
            Ok(Ok(())) => self.wait(waiting),
            _ => waiting.withdraw(),
        }
        answered.await.unwrap_or_else(|_| Outcome::Failed(local::stopped()))
    }

    fn wait(self: &Arc<Self>, waiting: Waiting) {
        let mut shared = self.shared();
        // Of a sync that failed since it was begun nobody knows whether it was about this one, and the next will not say it again.
        if waiting.failures != self.failures() {
            drop(shared);
            return waiting.withdraw();
        }
        shared.staged.push(waiting);
        if !std::mem::replace(&mut shared.running, true) {
            drop(tokio::spawn(self.clone().run()));
        }
    }

    /// Syncs until nothing waits.
    async fn run(self: Arc<Self>) {
        let mut stopped = Stopped(Some(self.clone()));
        let mut named = Vec::new();
        loop {
            tokio::time::sleep(GATHER).await;
            let staged = {
                let mut shared = self.shared();
                if shared.staged.is_empty() && named.is_empty() {
                    shared.running = false;
                    stopped.0 = None;
                    return;
                }
                shared.syncing = Some(Instant::now());
                std::mem::take(&mut shared.staged)
            };
            let group = self.clone();
            let round = tokio::task::spawn_blocking(move || group.round(staged, named));
            // It does not panic; it is not begun where the runtime ends.
            let Ok(now) = round.await else { return };
            named = now;
        }
    }

    /// One sync: it makes the bytes of `staged` durable and the names of `named`. Gives those that got their names. Blocks on the disk.
    fn round(&self, staged: Vec<Waiting>, named: Vec<Waiting>) -> Vec<Waiting> {
        let since = Instant::now();
        let synced = (self.sync)();
        self.numbers.syncs.fetch_add(1, Ordering::Relaxed);
        let took = since.elapsed();
        {
            let mut shared = self.shared();
            shared.syncing = None;
            if took > SLOW {
                shared.pause = Some(since + took + PAUSE);
            }
        }
        if took > SLOW {
            tracing::info!(
                ?took,
                "a sync of the whole file system was slow: fragments are synced one by one for a minute"
            );
        }
        if let Err(error) = synced {
            self.failed(&error, staged, named);
            return Vec::new();
        }
        self.numbers.fragments.fetch_add(named.len() as u64, Ordering::Relaxed);
        named.into_iter().for_each(|waiting| waiting.answer(Outcome::Durable));
        staged.into_iter().filter_map(name).collect()
    }

    /// Which files it was is not known, and is not said again: all that were begun before are taken back, and whoever wrote them writes them
    /// again, each with its own sync.
    fn failed(&self, error: &io::Error, staged: Vec<Waiting>, named: Vec<Waiting>) {
        tracing::error!(%error, "a sync of the whole file system failed: fragments are synced one by one for a minute");
        let later = {
            let mut shared = self.shared();
            self.numbers.failures.fetch_add(1, Ordering::Relaxed);
            shared.pause = Some(Instant::now() + PAUSE);
            std::mem::take(&mut shared.staged)
        };
        staged.into_iter().chain(later).for_each(Waiting::withdraw);
        let removed: Vec<_> = named.into_iter().map(|waiting| (remove(&waiting.place), waiting)).collect();
        // That they are gone is to last: a fragment that was told as failed must not come back.
        let lasting = self.settle(removed.iter().map(|(_, waiting)| waiting.place.as_path()));
        for (gone, waiting) in removed {
            let outcome = match (gone, &lasting) {
                (Err(error), _) => Outcome::Failed(error),
                (_, Err(error)) => Outcome::Failed(local::io("cannot sync below", &self.root, error)),
                _ => Outcome::Nothing,
            };
            waiting.answer(outcome);
        }
    }

    /// Syncs the folders of these, and those above, which may be as new.
    fn settle<'a>(&self, places: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        let folders: BTreeSet<_> = places.flat_map(|place| place.ancestors().skip(1)).collect();
        let mut ours = folders.into_iter().filter(|folder| folder.starts_with(&self.root));
        ours.try_for_each(|folder| File::open(folder)?.sync_all())
    }
}

/// Where [`Group::run`] is stopped before its end, nobody waits for it for ever.
struct Stopped(Option<Arc<Group>>);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            let mut shared = group.shared();
            (shared.running, shared.syncing) = (false, None);
            shared.staged.clear();
        }
    }
}

/// Whether a kernel's syncfs(2) does.
fn tells_errors(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version >= LINUX)
}

/// Writes a file that is no object yet, and not durable.
fn stage(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let make = || OpenOptions::new().create_new(true).write(true).open(path);
    let file = match make() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            make()
        }
        made => made,
    };
    file?.write_all(bytes)
}

/// Gives it its name, which must not be there yet.
fn name(waiting: Waiting) -> Option<Waiting> {
    if fs::hard_link(&waiting.staged, &waiting.place).is_err() {
        waiting.withdraw();
        return None;
    }
    // One that stays is no object, and goes with the next start.
    _ = fs::remove_file(&waiting.staged);
    Some(waiting)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// What a folder has: names of objects, and of those that are staged.
    type Look = (BTreeSet<String>, BTreeSet<String>);

    fn look(root: &Path) -> Look {
        let (mut names, mut staged) = Look::default();
        for file in fs::read_dir(root.join("v1/a")).into_iter().flatten() {
            let name = file.unwrap().file_name().into_string().unwrap();
            match name.split_once('#') {
                Some((name, _)) => staged.insert(name.to_owned()),
                None => names.insert(name),
            };
        }
        (names, staged)
    }

    fn only(names: &[&str]) -> Look {
        (names.iter().map(|name| (*name).to_owned()).collect(), BTreeSet::new())
    }

    /// A group whose syncs are seen and can fail.
    struct Seen {
        group: Arc<Group>,
        root: tempfile::TempDir,
        /// What each sync found.
        syncs: Arc<Mutex<Vec<Look>>>,
        /// Whether the next ones fail; those behind do not.
        fails: Arc<Mutex<VecDeque<bool>>>,
    }

    fn seen() -> Seen {
        let root = tempfile::tempdir().unwrap();
        let (syncs, fails) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<VecDeque<_>>>::default());
        let (folder, log, failing) = (root.path().to_owned(), syncs.clone(), fails.clone());
        let sync = move || {
            log.lock().unwrap().push(look(&folder));
            let fails = failing.lock().unwrap().pop_front().unwrap_or_default();
            if fails { Err(io::Error::other("as asked")) } else { Ok(()) }
        };
        let group = Arc::new(Group::new(root.path(), 1, Box::new(sync)));
        Seen { group, root, syncs, fails }
    }

    fn path(name: &str) -> object_store::path::Path {
        format!("v1/a/{name}").into()
    }

    #[tokio::test]
    async fn bytes_before_names_and_names_before_answers() {
        let seen = seen();
        let names = ["a", "b", "c"];
        let creating = names.map(|name| {
            let (group, syncs) = (seen.group.clone(), seen.syncs.clone());
            tokio::spawn(async move {
                let created = group.create(&path(name), Bytes::from(name)).await;
                let last = syncs.lock().unwrap().last().cloned().unwrap();
                assert!(matches!(created, Outcome::Durable) && last.0.contains(name), "{name}: {last:?}");
            })
        });
        for created in creating {
            created.await.unwrap();
        }
        assert_eq!(look(seen.root.path()), only(&names));
        let syncs = seen.syncs.lock().unwrap().clone();
        assert_eq!(syncs[0].0, BTreeSet::new());
        for pair in syncs.windows(2) {
            // What has a name now had its bytes in the sync before.
            let new: BTreeSet<_> = pair[1].0.difference(&pair[0].0).cloned().collect();
            assert!(new.is_subset(&pair[0].1), "{syncs:?}");
        }
        assert_eq!(fs::read(seen.root.path().join("v1/a/b")).unwrap(), b"b");
        assert_eq!(seen.group.numbers.fragments.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn what_is_there_is_not_replaced() {
        let seen = seen();
        assert!(matches!(seen.group.create(&path("x"), Bytes::from("1")).await, Outcome::Durable));
        assert!(matches!(seen.group.create(&path("x"), Bytes::from("2")).await, Outcome::Nothing));
        assert_eq!(fs::read(seen.root.path().join("v1/a/x")).unwrap(), b"1");
        assert_eq!(look(seen.root.path()), only(&["x"]));
        // Where it cannot be written at all.
        fs::write(seen.root.path().join("v1/file"), "").unwrap();
        let outcome = seen.group.create(&"v1/file/x".into(), Bytes::from("3")).await;
        assert!(!matches!(outcome, Outcome::Durable), "{outcome:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sync_that_fails_leaves_nothing_and_is_not_tried_again_at_once() {
        let seen = seen();
        assert!(seen.group.takes());
        seen.fails.lock().unwrap().push_back(true);
        assert!(matches!(seen.group.create(&path("x"), Bytes::from("1")).await, Outcome::Nothing));
        assert_eq!(look(seen.root.path()), only(&[]));
        assert!(!seen.group.takes());
        tokio::time::advance(PAUSE).await;
        assert!(seen.group.takes());
        // The second sync of a fragment: it has its name, and loses it.
        seen.fails.lock().unwrap().extend([false, true]);
        assert!(matches!(seen.group.create(&path("y"), Bytes::from("2")).await, Outcome::Nothing));
        assert_eq!(seen.syncs.lock().unwrap().last().unwrap(), &only(&["y"]));
        assert_eq!(look(seen.root.path()), only(&[]));
        assert_eq!(seen.group.numbers.failures.load(Ordering::Relaxed), 2);
        assert!(matches!(seen.group.create(&path("y"), Bytes::from("2")).await, Outcome::Durable));
    }

    /// The failure may have been of its bytes, and is told once.
    #[tokio::test]
    async fn who_was_writing_while_a_sync_failed_is_not_believed_to_be_written() {
        let seen = seen();
        let (answer, answered) = oneshot::channel();
        let place = seen.root.path().join("v1/a/late");
        let staged = local::staging(&place, 7);
        stage(&staged, b"x").unwrap();
        let late = Waiting { staged, place, failures: seen.group.failures(), answer };
        seen.fails.lock().unwrap().push_back(true);
        assert!(matches!(seen.group.create(&path("x"), Bytes::from("1")).await, Outcome::Nothing));
        seen.group.wait(late);
        assert!(matches!(answered.await.unwrap(), Outcome::Nothing));
        assert_eq!(look(seen.root.path()), only(&[]));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_sync_that_panicked() {
        let root = tempfile::tempdir().unwrap();
        let group = Arc::new(Group::new(root.path(), 1, Box::new(|| panic!("as asked"))));
        for name in ["x", "y"] {
            assert!(matches!(group.create(&path(name), Bytes::from("1")).await, Outcome::Failed(_)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_synced_one_by_one() {
        let root = tempfile::tempdir().unwrap();
        let group = Group::new(root.path(), 100, Box::new(|| Ok(())));
        let taken = |count: u32| (0..count).filter(|_| group.takes()).count();
        assert_eq!(taken(120), 21);
        tokio::time::advance(SECOND).await;
        assert_eq!(taken(50), 50, "there were many in the second before");
        tokio::time::advance(SECOND).await;
        assert_eq!(taken(50), 0);
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(taken(100), 1);
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(taken(1), 0);
        // Nor while a sync takes long.
        assert_eq!(taken(200), 102);
        group.shared().syncing = Some(Instant::now());
        assert_eq!(taken(1), 1);
        tokio::time::advance(SLOW + Duration::from_millis(1)).await;
        assert_eq!(taken(1), 0);
    }

    #[test]
    fn kernels_and_file_systems() {
        for (release, tells) in
            [("5.17.0", true), ("6.1.0-13-amd64", true), ("5.16.19", false), ("4.19", false), ("x", false)]
        {
            assert_eq!(tells_errors(release), tells, "{release}");
        }
        let file = File::open("/proc/self/stat").unwrap();
        assert!(Group::open(Path::new("/proc"), file, 1).unwrap().is_none());
    }
}
