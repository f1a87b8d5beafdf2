//! A kill, and what the journal gives back: the folder is copied as it is at that moment, and opened as a restart does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::matroska::write::{cluster_start, simple_block};
use antiphon_store::{
    Ack, Acks, Backend, Config, Error, Journaled, NewStream, Problem, Session, Start, Store, Timecodes,
};
use object_store::memory::InMemory;

use crate::faulty::{Cut, Faulty};
use crate::rig::{
    HOUR, T0, all_acks, assert_whole, cluster, documents, header, header_of, keys, list, media_of, name,
    new_stream, pcm, produce, read_all,
};

fn backend(root: &Path) -> Backend {
    Backend::local(&root.join("store")).unwrap().with_journal(&root.join("journal"))
}

async fn open_with(backend: Backend, config: Config) -> (Store, Vec<Problem>) {
    Store::open(backend, keys(), config, T0).await.unwrap()
}

async fn open(root: &Path) -> Store {
    let (store, problems) = open_with(backend(root), Config::default()).await;
    assert_eq!(problems, []);
    store
}

/// The journal's files.
fn files(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root.join("journal")) else { return Vec::new() };
    let all = entries.map(|e| e.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| path.file_name().unwrap() != "lock").collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// All files.
fn below(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    all.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

/// What a process finds that is started after a kill right now.
fn killed(root: &Path) -> tempfile::TempDir {
    let after = tempfile::tempdir().unwrap();
    copy(root, after.path());
    after
}

async fn contact(store: &Store) -> (Session, Acks) {
    let (mut session, acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    session.of_a_contact();
    session.push(&header(), T0).await.unwrap();
    (session, acks)
}

/// Some blocks of a cluster that goes on.
async fn blocks(session: &mut Session, timecode: u64, which: std::ops::Range<u64>) {
    for i in which {
        let block = simple_block(1, (i * 64) as i16, &pcm(timecode, i));
        session.push(&block, timecode + i * 64).await.unwrap();
    }
}

/// A stream with a fragment that is stored and one that is open, of which five blocks are synced and two are not.
async fn call(root: &Path) -> (Store, Session, Acks) {
    let store = open(root).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let (mut session, mut acks) = contact(&store).await;
    session.push(&cluster(T0, 16), T0).await.unwrap();
    session.push(&cluster_start(T0 + 1024), T0 + 1024).await.unwrap();
    while !matches!(acks.recv().await, Some(Ack::Persisted(_))) {}
    blocks(&mut session, T0 + 1024, 0..5).await;
    store.sync_journal(T0 + 1400);
    blocks(&mut session, T0 + 1024, 5..7).await;
    (store, session, acks)
}

#[tokio::test]
async fn a_kill_loses_what_came_after_the_last_sync() {
    let root = tempfile::tempdir().unwrap();
    let (_store, _session, _acks) = call(root.path()).await;
    let after = killed(root.path());
    for round in 0..2 {
        let store = open(after.path()).await;
        assert_eq!(store.stats().fragments_salvaged, u64::from(round == 0));
        let numbers = list(&store, &name("s"), T0 + 2000).await;
        assert_eq!(numbers.iter().map(|n| n.counter()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(numbers[1].server_ms(), T0 + 1024, "the number that it had");
        let found = store.fragment(&name("s"), numbers[1]).unwrap().unwrap();
        let path = format!("{}.{:013}.320.{}.2.", found.number, found.producer_ms, found.header);
        assert!(
            below(after.path()).iter().any(|p| p.to_string_lossy().contains(&path)),
            "it is flagged: {path}"
        );
        assert_eq!((found.producer_ms, found.duration_ms), (T0 + 1024, 5 * 64));
        let read = documents(&media_of(&store, &name("s"), &numbers, T0 + 2000).await);
        assert_whole(&read[0], 16);
        assert_whole(&read[1], 5);
        assert_eq!(read[1].tag("ContactId"), "contact-1");
        assert_eq!(read_all(&store, &name("s"), Start::Earliest, T0 + 2000).await.len(), 2);
        assert!(files(after.path()).is_empty(), "nothing is left of it");
    }
    let store = open(after.path()).await;
    let more = produce(&store, &name("s"), &[T0 + 4096]).await;
    assert_eq!(more[0].counter(), 3, "numbers go on");
}

#[tokio::test]
async fn what_was_stored_is_not_stored_again() {
    let root = tempfile::tempdir().unwrap();
    let (store, session, acks) = call(root.path()).await;
    session.finish(true, T0 + 2000).await;
    all_acks(acks).await;
    assert!(!files(root.path()).is_empty(), "it does not know yet");
    let before = killed(root.path());
    store.sync_journal(T0 + 2000);
    assert!(files(root.path()).is_empty(), "and is gone as soon as it does");
    assert_eq!((store.stats().journal_bytes, store.stats().journal_fragments), (0, 0));
    for root in [before.path(), killed(root.path()).path()] {
        let store = open(root).await;
        assert_eq!(store.stats().fragments_salvaged, 0);
        let numbers = list(&store, &name("s"), T0 + 2000).await;
        let read = documents(&media_of(&store, &name("s"), &numbers, T0 + 2000).await);
        assert_eq!(read.len(), 2);
        assert_whole(&read[1], 7);
    }
}

#[tokio::test]
async fn a_fragment_that_failed_does_not_come_back() {
    let root = tempfile::tempdir().unwrap();
    let (store, mut session, _acks) = call(root.path()).await;
    let (mut other, _) = contact(&store).await;
    other.push(&cluster_start(T0 + 9000), T0 + 9000).await.unwrap();
    blocks(&mut other, T0 + 9000, 0..1).await;
    store.sync_journal(T0 + 9000);
    session.push(&[0; 64], T0 + 9000).await.unwrap_err();
    // The other's lane keeps the file, so the end has to be in it.
    store.sync_journal(T0 + 9200);
    let after = killed(root.path());
    let store = open(after.path()).await;
    let numbers = list(&store, &name("s"), T0 + 9999).await;
    assert_eq!(numbers.iter().map(|n| n.counter()).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn only_whose_it_is_for_and_never_without_retention() {
    let everything = [Journaled::Nothing, Journaled::Contacts, Journaled::Everything];
    for (journal, of_a_contact, retention_h, in_memory, kept) in everything.into_iter().flat_map(|j| {
        let of = move |c| {
            [
                (j, c, 24, false, j == Journaled::Everything || c && j == Journaled::Contacts),
                (j, c, 0, false, false),
                (j, c, 0, true, false),
            ]
        };
        of(false).into_iter().chain(of(true))
    }) {
        let root = tempfile::tempdir().unwrap();
        let config = Config { journal, ..Config::default() };
        let (store, _) = open_with(backend(root.path()), config).await;
        let new = NewStream { in_memory, ..new_stream("s", retention_h) };
        store.create_stream(new, T0).await.unwrap();
        let (mut session, _acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
        if of_a_contact {
            session.of_a_contact();
        }
        session.push(&header(), T0).await.unwrap();
        session.push(&cluster(T0, 5), T0).await.unwrap();
        store.sync_journal(T0);
        assert_eq!(
            files(root.path()).len(),
            usize::from(kept),
            "{journal:?} {of_a_contact} {retention_h} {in_memory}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_keeps_no_more_leaves_the_journal() {
    let root = tempfile::tempdir().unwrap();
    let (store, mut session, _acks) = call(root.path()).await;
    let version = store.describe(&name("s")).unwrap().version;
    store.update_retention(&name("s"), &version, 0, T0 + 1500).await.unwrap();
    blocks(&mut session, T0 + 1024, 7..9).await;
    store.sync_journal(T0 + 1600);
    assert!(files(root.path()).is_empty());
}

/// A contact that was removed is in no journal any more when that is answered: nothing would say after a kill that its fragments had been stored.
#[tokio::test]
async fn a_contact_that_was_removed_does_not_come_back() {
    let root = tempfile::tempdir().unwrap();
    let (store, session, acks) = call(root.path()).await;
    let (mut other, _acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    other.of_a_contact();
    other.push(&[header_of("contact-2"), cluster(T0 + 1100, 2)].concat(), T0 + 1100).await.unwrap();
    store.sync_journal(T0 + 1500);
    session.finish(true, T0 + 2000).await;
    all_acks(acks).await;
    let late = store.stats().journal_late;
    assert_eq!(store.remove_contact("contact-1").await.unwrap(), 2);
    assert_eq!(store.stats().journal_late, late);
    let after = killed(root.path());
    let store = open(after.path()).await;
    assert_eq!(store.stats().fragments_salvaged, 1, "the other contact's");
    assert!(store.contact("contact-1", T0 + 2000).is_empty());
    assert_eq!(list(&store, &name("s"), T0 + 2000).await.len(), 1);
}

#[tokio::test]
async fn what_was_deleted_or_is_too_old_stays_away() {
    let root = tempfile::tempdir().unwrap();
    let (store, _session, _acks) = call(root.path()).await;
    let (kept, gone) = (killed(root.path()), killed(root.path()));
    {
        // The journal is that of before the deletion.
        let (other, later) = (tempfile::tempdir().unwrap(), gone.path().join("journal"));
        std::fs::rename(&later, other.path().join("journal")).unwrap();
        let store = open(gone.path()).await;
        store.delete_stream(&name("s"), None).await.unwrap();
        drop(store);
        std::fs::remove_dir_all(&later).unwrap();
        std::fs::rename(other.path().join("journal"), later).unwrap();
    }
    let (gone_store, old) = (open(gone.path()).await, T0 + 25 * HOUR);
    let (old_store, problems) =
        Store::open(backend(kept.path()), keys(), Config::default(), old).await.unwrap();
    assert_eq!(problems, []);
    for (store, root) in [(gone_store, gone.path()), (old_store, kept.path())] {
        assert_eq!(store.stats().fragments_salvaged, 0);
        assert!(files(root).is_empty());
    }
    drop(store);
}

#[tokio::test]
async fn without_its_key_it_waits() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    let new = NewStream { key: Some("other".into()), ..new_stream("s", 24) };
    store.create_stream(new, T0).await.unwrap();
    let (mut session, _acks) = contact(&store).await;
    session.push(&cluster(T0, 5), T0).await.unwrap();
    store.sync_journal(T0);
    let after = killed(root.path());
    {
        let without = Arc::new(LocalKeys::new("default", Secret([7; 32])));
        let opened = Store::open(backend(after.path()), without, Config::default(), T0).await;
        let (store, problems) = opened.unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(store.sweep(T0).await.failed, 1, "it is tried again");
        assert_eq!(files(after.path()).len(), 1);
    }
    let store = open(after.path()).await;
    assert_eq!(list(&store, &name("s"), T0).await.len(), 1);
    assert!(files(after.path()).is_empty());
}

#[tokio::test]
async fn a_key_that_is_replaced_in_between_does_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let (store, mut session, _acks) = call(root.path()).await;
    store.rotate_key(&name("s")).await.unwrap();
    session.push(&cluster(T0 + 2048, 3), T0 + 2048).await.unwrap();
    store.sync_journal(T0 + 2048);
    let after = killed(root.path());
    let store = open(after.path()).await;
    let numbers = list(&store, &name("s"), T0 + 3000).await;
    let read = documents(&media_of(&store, &name("s"), &numbers, T0 + 3000).await);
    assert_eq!(read.len(), 3);
    assert_whole(&read[2], 3);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_costs_the_salvage_only() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("journal"), "a file").unwrap();
    let (store, problems) = open_with(backend(root.path()), Config::default()).await;
    assert!(problems.is_empty() && store.stats().journal_failing);
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let (mut session, acks) = contact(&store).await;
    session.push(&cluster(T0, 5), T0).await.unwrap();
    store.sync_journal(T0);
    assert_eq!(session.finish(true, T0).await.kept, 1);
    drop(acks);
    assert!(store.stats().journal_failing && store.stats().journal_given_up == 1);
}

#[tokio::test]
async fn a_folder_that_goes_away_is_told_and_the_next_fragment_is_there_again() {
    let root = tempfile::tempdir().unwrap();
    let (store, mut session, _acks) = call(root.path()).await;
    let folder = root.path().join("journal");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in its place").unwrap();
    // Six syncs: the file that is open is given up for a new one.
    for i in 0..6 {
        blocks(&mut session, T0 + 1024, 7 + i..8 + i).await;
        store.sync_journal(T0 + 1500);
    }
    let stats = store.stats();
    assert!(stats.journal_failing && stats.journal_failures == 1 && stats.journal_given_up == 1, "{stats:?}");
    std::fs::remove_file(&folder).unwrap();
    session.push(&cluster(T0 + 2048, 3), T0 + 2048).await.unwrap();
    store.sync_journal(T0 + 2048);
    assert!(!store.stats().journal_failing, "{:?}", store.stats());
    assert_eq!(files(root.path()).len(), 1);
}

#[tokio::test]
async fn the_oldest_are_given_up_when_it_is_full() {
    let root = tempfile::tempdir().unwrap();
    let config = Config { max_journal_bytes: 100_000, ..Config::default() };
    let (store, _) = open_with(backend(root.path()), config).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let (mut long, _acks) = contact(&store).await;
    long.push(&cluster_start(T0), T0).await.unwrap();
    for i in 0..300 {
        blocks(&mut long, T0, i..i + 1).await;
        store.sync_journal(T0 + i);
        let bytes: u64 = files(root.path()).iter().map(|f| f.metadata().unwrap().len()).sum();
        assert!(bytes <= 100_000 && bytes == store.stats().journal_bytes, "{bytes}");
    }
    assert_eq!(store.stats().journal_given_up, 1);
    assert_eq!(long.finish(true, T0).await.kept, 1);
}

#[tokio::test]
async fn a_sync_that_comes_late_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let (store, mut session, _acks) = call(root.path()).await;
    for (after_ms, late) in [(0, 0), (250, 0), (251, 1)] {
        store.sync_journal(T0 + 10_000);
        blocks(&mut session, T0 + 1024, 7..8).await;
        store.sync_journal(T0 + 10_000 + after_ms);
        // The first is late itself: nothing was synced for seconds.
        assert_eq!(store.stats().journal_late - 1, late, "{after_ms} ms");
    }
}

/// Salvaging is cut off at every write, and done again.
#[tokio::test]
async fn salvaging_may_be_cut_anywhere() {
    let root = tempfile::tempdir().unwrap();
    let memory = Arc::new(InMemory::new());
    let journal = root.path().join("journal");
    let with =
        |store: Arc<dyn object_store::ObjectStore>| Backend::custom(store, true).with_journal(&journal);
    let (store, _) = open_with(with(memory.clone()), Config::default()).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let (mut one, _acks) = contact(&store).await;
    let (mut two, _acks) = contact(&store).await;
    one.push(&cluster_start(T0), T0).await.unwrap();
    blocks(&mut one, T0, 0..3).await;
    two.push(&cluster_start(T0), T0).await.unwrap();
    blocks(&mut two, T0, 0..3).await;
    store.sync_journal(T0);
    let (left, objects) = (killed(root.path()), memory.fork());
    drop((one, two, store));
    for cut in [Cut::Before, Cut::After] {
        for writes in 0.. {
            _ = std::fs::remove_dir_all(&journal);
            copy(&left.path().join("journal"), &journal);
            let memory = Arc::new(objects.fork());
            let opened = {
                let faulty = Faulty::new(memory.clone(), writes, cut);
                let (store, problems) = open_with(with(Arc::new(faulty)), Config::default()).await;
                assert_eq!(files(root.path()).is_empty(), problems.is_empty());
                drop(store);
                problems
            };
            let (store, problems) = open_with(with(memory), Config::default()).await;
            assert_eq!(problems, [], "{cut:?} {writes}");
            let numbers = list(&store, &name("s"), T0).await;
            assert_eq!(numbers.iter().map(|n| n.counter()).collect::<Vec<_>>(), [1, 2], "{cut:?} {writes}");
            for document in documents(&media_of(&store, &name("s"), &numbers, T0).await) {
                assert_whole(&document, 3);
            }
            assert!(files(root.path()).is_empty());
            if opened.is_empty() {
                assert!(writes >= 3, "a header and two fragments");
                break;
            }
        }
    }
}

#[tokio::test]
async fn salvaged_fragments_are_told_to_who_asks_after_the_start() {
    let root = tempfile::tempdir().unwrap();
    let (_store, _session, _acks) = call(root.path()).await;
    let after = killed(root.path());
    let store = open(after.path()).await;
    let mut news = store.news().unwrap();
    let told = news.try_recv().unwrap();
    assert_eq!(
        (told.stream.as_str(), told.contact.as_str(), told.number.server_ms()),
        ("s", "contact-1", T0 + 1024)
    );
}

#[tokio::test]
async fn two_do_not_share_a_journal() {
    let root = tempfile::tempdir().unwrap();
    let _one = open(root.path()).await;
    assert!(matches!(Backend::local(&root.path().join("store")), Err(Error::Locked)));
    let (two, _) =
        open_with(Backend::memory().with_journal(&root.path().join("journal")), Config::default()).await;
    assert!(two.stats().journal_failing);
}
