//! Reading what is stored: every start, listings, lists of fragments, damage.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use antiphon_store::{Backend, Clock, Depth, Error, FragmentNumber, Range, Start, Store, Timecodes, look};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::faulty::{Cut, Faulty};
use crate::rig::{
    HOUR, T0, assert_whole, cluster, documents, drain, header, keys, list, media_of, name, new_stream, open,
    persisted, produce, read_all, with_stream,
};

const TIMES: [u64; 4] = [T0, T0 + 1024, T0 + 2048, T0 + 10_000];
const LATER: u64 = T0 + 20_000;

#[tokio::test]
async fn a_fragment_is_read_with_all_that_amazon_says_around_it() {
    let (store, s) = with_stream(24).await;
    let numbers = produce(&store, &s, &TIMES).await;
    let mut reader = store.get_media(&s, Start::Earliest, LATER).unwrap();
    let (bytes, _) = drain(&mut reader, LATER).await;
    let read = documents(&bytes);
    assert_eq!(read.len(), 4);
    for (document, number) in read.iter().zip(&numbers) {
        assert_whole(document, 16);
        let names: Vec<&str> = document.tags.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(
            names,
            [
                "ContactId",
                "AWS_KINESISVIDEO_FRAGMENT_NUMBER",
                "AWS_KINESISVIDEO_SERVER_TIMESTAMP",
                "AWS_KINESISVIDEO_PRODUCER_TIMESTAMP",
                "AWS_KINESISVIDEO_MILLIS_BEHIND_NOW",
                "AWS_KINESISVIDEO_CONTINUATION_TOKEN"
            ]
        );
        assert_eq!(document.number(), *number);
        assert_eq!(document.tag("AWS_KINESISVIDEO_CONTINUATION_TOKEN"), number.to_string());
    }
    assert_eq!(read[3].tag("AWS_KINESISVIDEO_PRODUCER_TIMESTAMP"), "1700000010.000");
    assert_eq!(read[3].tag("AWS_KINESISVIDEO_MILLIS_BEHIND_NOW"), "10000");
    // Header and cluster are the producer's own bytes.
    let at = |part: &[u8]| bytes.windows(part.len()).position(|w| w == part).unwrap();
    assert_eq!(at(&header()), 0);
    assert!(at(&cluster(T0, 16)) < at(&cluster(T0 + 1024, 16)));
}

#[tokio::test]
async fn every_start_finds_its_fragment() {
    let (store, s) = with_stream(24).await;
    let n = produce(&store, &s, &TIMES).await;
    let check = async |start: Start, expected: &[u64]| {
        let read = read_all(&store, &s, start, LATER).await;
        let times: Vec<u64> = read.iter().map(|d| d.timecode()).collect();
        assert_eq!(times, expected, "{start:?}");
    };
    check(Start::Earliest, &TIMES).await;
    check(Start::Now, &[]).await;
    check(Start::After(n[0]), &TIMES[1..]).await;
    check(Start::After(FragmentNumber::MIN), &TIMES).await;
    check(Start::After(FragmentNumber::MAX), &[]).await;
    check(Start::After(n[3]), &[]).await;
    for clock in [Clock::Server, Clock::Producer] {
        check(Start::At(clock, 0), &TIMES).await;
        check(Start::At(clock, T0 + 1023), &TIMES).await;
        check(Start::At(clock, T0 + 1024), &TIMES[1..]).await;
        check(Start::At(clock, T0 + 5000), &TIMES[3..]).await;
        check(Start::At(clock, T0 + 11_024), &[]).await;
    }
}

#[tokio::test]
async fn a_start_that_has_expired_begins_with_what_is_left() {
    let (store, s) = with_stream(1).await;
    let n = produce(&store, &s, &[T0, T0 + 1024, T0 + HOUR]).await;
    let now = T0 + HOUR + 1024;
    for start in [Start::Earliest, Start::After(n[0]), Start::At(Clock::Server, T0 + 10)] {
        let read = read_all(&store, &s, start, now).await;
        assert_eq!(read[0].timecode(), T0 + HOUR, "{start:?}");
    }
}

#[tokio::test]
async fn listings_come_in_pages_by_either_clock() {
    let (store, s) = with_stream(24).await;
    let numbers = produce(&store, &s, &TIMES).await;
    for clock in [Clock::Server, Clock::Producer] {
        let range = Some(Range { clock, start_ms: T0 + 1, end_ms: T0 + 10_000 });
        let first = store.list_fragments(&s, range, 2, None, LATER).unwrap();
        let second = store.list_fragments(&s, None, 2, first.next.as_deref(), LATER).unwrap();
        let all: Vec<_> = first.fragments.iter().chain(&second.fragments).map(|f| f.number).collect();
        assert_eq!(all, numbers[1..]);
        assert_eq!(second.next, None);
    }
    let page = store.list_fragments(&s, None, 1000, None, LATER).unwrap();
    let first = page.fragments[0];
    assert_eq!((first.producer_ms, first.server_ms, first.duration_ms), (T0, T0, 1024));
    assert_eq!(first.size, cluster(T0, 16).len() as u64);
    let error = |range: Range, now| store.list_fragments(&s, Some(range), 10, None, now).unwrap_err();
    let before = Range { clock: Clock::Server, start_ms: 0, end_ms: T0 };
    let message = format!("End timestamp {T0} is outside of the stream retention period.");
    assert_eq!(error(before, T0 + 24 * HOUR).to_string(), message);
    let backwards = Range { clock: Clock::Server, start_ms: 2, end_ms: 1 };
    assert!(matches!(error(backwards, T0), Error::InvalidArgument(_)));
    let token = store.list_fragments(&s, None, 10, Some("zz"), T0);
    assert!(matches!(token, Err(Error::InvalidArgument(_))));
}

#[tokio::test]
async fn equal_producer_times_are_paged_without_loss() {
    let (store, s) = with_stream(24).await;
    for i in 0..5 {
        let (mut session, acks) = store.open_session(&s, Timecodes::Absolute, T0 + i).await.unwrap();
        session.push(&[header(), cluster(T0, 1)].concat(), T0 + i).await.unwrap();
        session.finish(true, T0 + i).await;
        assert_eq!(persisted(acks).await.len(), 1);
    }
    let range = Some(Range { clock: Clock::Producer, start_ms: T0, end_ms: T0 });
    let (mut token, mut all) = (None, Vec::new());
    loop {
        let page = store.list_fragments(&s, range, 2, token.as_deref(), LATER).unwrap();
        all.extend(page.fragments.iter().map(|f| f.number));
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert!(all.len() == 5 && all.is_sorted_by(|a, b| a < b), "{all:?}");
}

#[tokio::test]
async fn a_list_of_fragments_comes_in_its_order_and_says_what_is_missing() {
    let (store, s) = with_stream(24).await;
    let n = produce(&store, &s, &TIMES).await;
    let asked = [n[2], FragmentNumber::MIN, n[0]];
    let read = documents(&media_of(&store, &s, &asked, LATER).await);
    assert_eq!((read[0].timecode(), read[2].timecode()), (TIMES[2], TIMES[0]));
    assert_eq!((read[1].error(), read[1].tag("AWS_KINESISVIDEO_ERROR_ID")), ("FRAGMENT_NOT_FOUND", "3000"));
    assert_eq!(read[1].tag("ContactId"), "contact-1", "whose it would have been");
    assert_eq!(read[0].tag("AWS_KINESISVIDEO_CONTINUATION_TOKEN"), "", "only GetMedia says where to go on");
    for count in [0, 1001] {
        let list = store.get_fragments(&s, vec![n[0]; count], LATER);
        assert!(matches!(list.err(), Some(Error::InvalidArgument(_))));
    }
}

#[tokio::test]
async fn error_documents_name_the_contact_that_the_stream_is_tagged_with() {
    let memory = Arc::new(InMemory::new());
    let backend = || Backend::custom(memory.clone(), true);
    let tags = std::collections::BTreeMap::from([("ContactId".to_owned(), "contact-2".to_owned())]);
    let new = antiphon_store::NewStream { tags, ..new_stream("s", 24) };
    let store = open(backend(), T0).await;
    store.create_stream(new, T0).await.unwrap();
    drop(store);
    let store = open(backend(), T0).await;
    let read = documents(&media_of(&store, &name("s"), &[FragmentNumber::MIN], LATER).await);
    assert_eq!((read[0].error(), read[0].tag("ContactId")), ("FRAGMENT_NOT_FOUND", "contact-2"));
}

#[tokio::test]
async fn what_is_damaged_is_told_and_the_rest_is_read() {
    let memory = Arc::new(InMemory::new());
    let backend = || Backend::custom(memory.clone(), true);
    let store = open(backend(), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let numbers = produce(&store, &name("s"), &TIMES).await;
    let broken = path_of(&memory, &numbers[1].to_string()).await;
    let mut bytes = memory.get(&broken).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[200] ^= 1;
    memory.put(&broken, bytes.into()).await.unwrap();
    let read = read_all(&store, &name("s"), Start::Earliest, LATER).await;
    assert_eq!(read.iter().map(|d| d.cluster.is_some()).collect::<Vec<_>>(), [true, false, true, true]);
    assert_eq!((read[1].number(), read[1].tag("AWS_KINESISVIDEO_ERROR_ID")), (numbers[1], "4000"));
    assert_eq!(store.stats().fragments_damaged, 1);
    assert_eq!(list(&store, &name("s"), LATER).await, numbers, "it is not hidden");
}

/// One that nobody has read yet is named by a scrub, which changes nothing; who reads it sets it aside, as it was found, and it is told
/// from there on: by a check, at each start, and to each reader, until its retention ends.
#[tokio::test]
async fn what_is_damaged_is_set_aside_and_told_until_its_retention_ends() {
    let memory = Arc::new(InMemory::new());
    let backend = || Backend::custom(memory.clone(), true);
    let config = antiphon_store::Config::default();
    let store = open(backend(), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let n = produce(&store, &name("s"), &TIMES).await;
    let broken = path_of(&memory, &n[1].to_string()).await;
    let mut bytes = memory.get(&broken).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[200] ^= 1;
    memory.put(&broken, bytes.clone().into()).await.unwrap();
    let problems = async |depth| {
        let report = look(backend(), keys(), &config, depth).await.unwrap();
        assert_eq!((report.fragments, report.streams), (4, 1));
        report.problems.into_iter().map(|p| p.path).collect::<Vec<_>>()
    };
    assert_eq!(problems(Depth::Check).await, [""; 0]);
    assert_eq!(problems(Depth::Scrub).await, [broken.as_ref()]);
    read_all(&store, &name("s"), Start::Earliest, LATER).await;
    let aside = object_store::path::Path::from(broken.as_ref().replacen("/f/", "/q/", 1));
    assert_eq!(memory.get(&aside).await.unwrap().bytes().await.unwrap(), bytes, "as it was found");
    assert!(memory.get(&broken).await.is_err());
    for depth in [Depth::Check, Depth::Scrub] {
        assert_eq!(problems(depth).await, [aside.as_ref()]);
    }
    drop(store);
    let opened = Store::open(backend(), keys(), config.clone(), LATER).await.unwrap();
    let (store, told) = opened;
    assert_eq!(told.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), [aside.as_ref()]);
    let read = read_all(&store, &name("s"), Start::Earliest, LATER).await;
    let ids: Vec<_> = read.iter().map(|d| d.tag("AWS_KINESISVIDEO_ERROR_ID")).collect();
    assert_eq!(ids, ["", "4000", "", ""]);
    assert_eq!(list(&store, &name("s"), LATER).await, n, "it is not hidden");
    store.sweep(LATER + 24 * HOUR).await;
    assert!(memory.get(&aside).await.is_err(), "it is kept as long as the others");
}

/// What came with a wrong bit once is told to who asked, and read once more before it counts as damaged: twice the same bytes, or it was
/// the way. Two readings are all that it takes.
#[tokio::test]
async fn what_was_damaged_on_its_way_stays_where_it_is() {
    let memory = Arc::new(InMemory::new());
    let faulty = Faulty::new(memory.clone(), i64::MAX, Cut::Before);
    let (reads, bent) = (faulty.reads.clone(), faulty.bent.clone());
    let store = open(Backend::custom(Arc::new(faulty), true), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let n = produce(&store, &name("s"), &TIMES[..1]).await;
    let path = path_of(&memory, &n[0].to_string()).await;
    let read = async |expected: &str, times: u64| {
        reads.store(0, Ordering::SeqCst);
        let read = read_all(&store, &name("s"), Start::Earliest, LATER).await;
        assert_eq!(read[0].tag("AWS_KINESISVIDEO_ERROR_ID"), expected);
        assert_eq!(reads.load(Ordering::SeqCst), times);
        read[0].clone()
    };
    for wrong in [1, 2] {
        bent.store(wrong, Ordering::SeqCst);
        read("4000", 2).await;
        assert!(memory.get(&path).await.is_ok(), "it lies where it lay");
        assert_whole(&read("", 1).await, 16);
    }
    assert_eq!(store.stats().fragments_damaged, 1, "counted once");
    // Where it is damaged itself, the second reading finds the same.
    damage(&memory, &path).await;
    read("4000", 2).await;
    assert!(memory.get(&path).await.is_err());
    read("4000", 0).await;
}

/// The newest fragment of a stream, which a crash may have caught, is looked at by each start.
#[tokio::test]
async fn the_newest_fragment_is_looked_at_by_a_start() {
    let memory = Arc::new(InMemory::new());
    let backend = || Backend::custom(memory.clone(), true);
    let store = open(backend(), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let n = produce(&store, &name("s"), &TIMES).await;
    drop(store);
    for number in [&n[1], &n[3]] {
        let path = path_of(&memory, &number.to_string()).await;
        damage(&memory, &path).await;
    }
    let config = antiphon_store::Config::default();
    let (store, told) = Store::open(backend(), keys(), config, LATER).await.unwrap();
    assert_eq!(told.len(), 1, "the others are looked at when they are read: {told:?}");
    assert!(told[0].path.contains(&n[3].to_string()));
    let aside = path_of(&memory, &n[3].to_string()).await;
    assert!(aside.as_ref().contains("/q/"), "{aside}");
    let read = read_all(&store, &name("s"), Start::Earliest, LATER).await;
    let ids: Vec<_> = read.iter().map(|d| d.tag("AWS_KINESISVIDEO_ERROR_ID")).collect();
    assert_eq!(ids, ["", "4000", "", "4000"]);
}

/// A crash between the copy and the removal leaves both: it is told once, and the rest is done when it is read again.
#[tokio::test]
async fn one_that_was_being_set_aside_is_when_it_is_read_again() {
    let memory = Arc::new(InMemory::new());
    let backend = || Backend::custom(memory.clone(), true);
    let store = open(backend(), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let n = produce(&store, &name("s"), &TIMES).await;
    drop(store);
    let broken = path_of(&memory, &n[1].to_string()).await;
    let aside = object_store::path::Path::from(broken.as_ref().replacen("/f/", "/q/", 1));
    for path in [&broken, &aside] {
        memory.put(path, "x".into()).await.unwrap();
    }
    let config = antiphon_store::Config::default();
    let (store, _) = Store::open(backend(), keys(), config, LATER).await.unwrap();
    let read = read_all(&store, &name("s"), Start::Earliest, LATER).await;
    assert_eq!(read.iter().filter(|d| d.error() == "FRAGMENT_NOT_FOUND").count(), 1);
    assert_eq!(list(&store, &name("s"), LATER).await, n);
    assert!(memory.get(&broken).await.is_err() && memory.get(&aside).await.is_ok());
}

#[tokio::test]
async fn a_check_finds_what_is_missing_and_what_does_not_belong() {
    let memory = Arc::new(InMemory::new());
    let backend = || Backend::custom(memory.clone(), true);
    let store = open(backend(), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    produce(&store, &name("s"), &TIMES).await;
    let header = path_of(&memory, "/hdr/").await;
    memory.delete(&header).await.unwrap();
    let stray = object_store::path::Path::from("v1/000000000000/hello");
    memory.put(&stray, "x".into()).await.unwrap();
    let name = object_store::path::Path::from("v1/000000000000/names/0123");
    memory.put(&name, "x".into()).await.unwrap();
    let report = look(backend(), keys(), &antiphon_store::Config::default(), Depth::Check).await.unwrap();
    let mut paths: Vec<_> = report.problems.iter().map(|p| p.path.clone()).collect();
    paths.sort();
    let mut expected = [header.to_string(), stray.to_string(), name.to_string()];
    expected.sort();
    assert_eq!(paths, expected);
    // Another account in the same place is none of ours.
    let other = antiphon_store::Config { account: "1".into(), ..Default::default() };
    assert_eq!(look(backend(), keys(), &other, Depth::Scrub).await.unwrap().streams, 0);
}

/// Turns over a bit of a stored object.
async fn damage(memory: &InMemory, path: &object_store::path::Path) {
    let mut bytes = memory.get(path).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[200] ^= 1;
    memory.put(path, bytes.into()).await.unwrap();
}

async fn path_of(memory: &InMemory, part: &str) -> object_store::path::Path {
    use futures_util::TryStreamExt;
    let listed: Vec<_> = memory.list(None).try_collect().await.unwrap();
    let found = listed.into_iter().find(|m| m.location.as_ref().contains(part));
    found.unwrap().location
}
