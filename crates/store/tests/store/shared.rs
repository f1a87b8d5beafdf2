//! A stream that several contacts share: each one's fragments alone, found, read, and removed, also after the store was opened again.

use std::sync::Arc;

use antiphon_store::{Ack, Backend, Clock, Depth, FragmentNumber, Start, Store, StreamRef, Timecodes, look};
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::rig::{
    T0, assert_whole, cluster, documents, drain, header_of, keys, list, name, new_stream, open, persisted,
};

const LATER: u64 = T0 + 20_000;

/// Fragments of a second each for these contacts, one after another, a session for each.
async fn produce_for(store: &Store, stream: &StreamRef, from: u64, contacts: &[&str]) -> Vec<FragmentNumber> {
    let mut numbers = Vec::new();
    for (i, contact) in contacts.iter().enumerate() {
        let at = T0 + 1024 * (from + i as u64);
        let (mut session, acks) = store.open_session(stream, Timecodes::Absolute, at).await.unwrap();
        session.push(&header_of(contact), at).await.unwrap();
        session.push(&cluster(at, 16), at).await.unwrap();
        session.finish(true, at + 1024).await;
        numbers.extend(persisted(acks).await);
    }
    numbers
}

async fn shared(backend: Backend) -> (Store, StreamRef, Vec<FragmentNumber>) {
    let store = open(backend, T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let numbers = produce_for(&store, &name("s"), 0, &["a", "a", "b", "a", "b"]).await;
    (store, name("s"), numbers)
}

fn only(contact: &str) -> [String; 1] {
    [contact.to_owned()]
}

async fn read_of(store: &Store, stream: &StreamRef, contact: &str, start: Start) -> Vec<FragmentNumber> {
    let mut reader = store.get_media_of(stream, Some(&only(contact)), start, LATER).unwrap();
    let read = documents(&drain(&mut reader, LATER).await.0);
    read.iter().for_each(|document| assert_eq!((document.tag("ContactId"), document.error()), (contact, "")));
    read.iter().map(super::rig::Document::number).collect()
}

fn stretches(store: &Store, contact: &str) -> Vec<(FragmentNumber, FragmentNumber)> {
    let found = store.contact(contact, LATER);
    found.iter().flat_map(|(_, all)| all.iter().map(|s| (s.first, s.last))).collect()
}

async fn is_told_apart(store: &Store, s: &StreamRef, n: &[FragmentNumber]) {
    assert_eq!(stretches(store, "a"), [(n[0], n[1]), (n[3], n[3])]);
    assert_eq!(stretches(store, "b"), [(n[2], n[2]), (n[4], n[4])]);
    assert_eq!(stretches(store, "c"), []);
    let found = &store.contact("a", LATER)[0];
    assert_eq!((found.0.name.as_str(), found.1[0].from_ms, found.1[0].to_ms), ("s", T0, T0 + 2048));
    assert_eq!(read_of(store, s, "a", Start::Earliest).await, [n[0], n[1], n[3]]);
    assert_eq!(read_of(store, s, "b", Start::After(n[0])).await, [n[2], n[4]]);
    assert_eq!(read_of(store, s, "b", Start::At(Clock::Producer, T0 + 10)).await, [n[2], n[4]]);
    assert_eq!(read_of(store, s, "c", Start::Earliest).await, []);
    let page = store.list_fragments_of(s, Some(&only("a")), None, (2, None), LATER).unwrap();
    let next = store.list_fragments_of(s, Some(&only("a")), None, (2, page.next.as_deref()), LATER).unwrap();
    let numbers: Vec<_> = page.fragments.iter().chain(&next.fragments).map(|f| f.number).collect();
    assert_eq!((numbers, next.next), (vec![n[0], n[1], n[3]], None));
    let mut list = store.get_fragments_of(s, Some(&only("a")), vec![n[4], n[3]], LATER).unwrap();
    let mut bytes = Vec::new();
    while let Some(more) = list.next().await {
        bytes.extend_from_slice(&more);
    }
    let read = documents(&bytes);
    assert_eq!((read.len(), read[0].error(), read[0].tag("ContactId")), (2, "FRAGMENT_NOT_FOUND", ""));
    assert_whole(&read[1], 16);
}

#[tokio::test]
async fn contacts_of_one_stream_are_told_apart_also_after_a_restart() {
    let objects = Arc::new(InMemory::new());
    let (store, s, n) = shared(Backend::custom(objects.clone(), true)).await;
    is_told_apart(&store, &s, &n).await;
    drop(store);
    let store = open(Backend::custom(objects, true), LATER).await;
    is_told_apart(&store, &s, &n).await;
}

/// All objects whose path has this in it.
async fn paths(objects: &InMemory, part: &str) -> Vec<object_store::path::Path> {
    let listed: Vec<_> = objects.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    listed.into_iter().filter(|path| path.as_ref().contains(part)).collect()
}

/// Whoever renames a fragment in the storage makes it nobody's.
#[tokio::test]
async fn what_a_path_says_of_a_contact_is_checked_against_what_was_sealed() {
    let objects = Arc::new(InMemory::new());
    let (store, s, n) = shared(Backend::custom(objects.clone(), true)).await;
    drop(store);
    let [of_a, of_b] = [n[0], n[2]].map(|number| number.to_string());
    let (a, b) = (paths(&objects, &of_a).await.remove(0), paths(&objects, &of_b).await.remove(0));
    let [(_, whose), (fragment, _)] = [&a, &b].map(|path| path.as_ref().rsplit_once('.').unwrap());
    objects.rename(&b, &format!("{fragment}.{whose}").into()).await.unwrap();
    let store = open(Backend::custom(objects, true), LATER).await;
    let mut reader = store.get_media_of(&s, Some(&only("a")), Start::Earliest, LATER).unwrap();
    let read = documents(&drain(&mut reader, LATER).await.0);
    let told: Vec<_> = read.iter().map(|d| (d.number(), d.tag("AWS_KINESISVIDEO_ERROR_ID"))).collect();
    assert_eq!(told, [(n[0], ""), (n[1], ""), (n[2], "4000"), (n[3], "")]);
}

#[tokio::test]
async fn removing_a_contact_leaves_the_others_and_no_number_comes_twice() {
    let objects = Arc::new(InMemory::new());
    let (store, s, n) = shared(Backend::custom(objects.clone(), true)).await;
    assert_eq!(paths(&objects, "/hdr/").await.len(), 2);
    assert_eq!(store.remove_contact("b").await.unwrap(), 2);
    assert_eq!(paths(&objects, "/hdr/").await.len(), 1, "what stood before its fragments is gone with them");
    assert_eq!(store.remove_contact("b").await.unwrap(), 0);
    assert_eq!(list(&store, &s, LATER).await, [n[0], n[1], n[3]]);
    assert_eq!((stretches(&store, "a"), stretches(&store, "b")), (vec![(n[0], n[3])], vec![]));
    drop(store);
    let config = antiphon_store::Config::default();
    let report = look(Backend::custom(objects.clone(), true), keys(), &config, Depth::Scrub).await.unwrap();
    assert_eq!((report.fragments, report.problems), (3, vec![]));
    let store = open(Backend::custom(objects, true), LATER).await;
    assert_eq!(list(&store, &s, LATER).await, [n[0], n[1], n[3]]);
    // The newest of all was one of those that went.
    let more = produce_for(&store, &s, 9, &["c"]).await;
    assert!(more[0].counter() > n[4].counter(), "{more:?}");
}

/// Tags behind a cluster may say that it is another contact's: who may read one contact waits for them.
#[tokio::test]
async fn a_fragment_is_given_to_its_contact_when_it_is_certain_whose_it_is() {
    let store = open(Backend::memory(), T0).await;
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    let s = name("s");
    let (mut session, mut acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    let mut a = store.get_media_of(&s, Some(&only("a")), Start::Now, T0).unwrap();
    let mut b = store.get_media_of(&s, Some(&only("b")), Start::Now, T0).unwrap();
    session.push(&header_of("a"), T0).await.unwrap();
    session.push(&cluster(T0, 16), T0).await.unwrap();
    // Another producer's fragment is complete before it is, and behind it all the same.
    let (mut other, mut others) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    other.push(&[header_of("b"), cluster(T0 + 500, 2), cluster(T0 + 628, 2)].concat(), T0).await.unwrap();
    while !matches!(others.recv().await, Some(Ack::Persisted(_))) {}
    for reader in [&mut a, &mut b] {
        assert_eq!(drain(reader, T0).await, (vec![], false));
    }
    session.push(&antiphon_store::matroska::write::tags(&[("ContactId", "b")]), T0).await.unwrap();
    session.push(&cluster(T0 + 1024, 16), T0).await.unwrap();
    while !matches!(acks.recv().await, Some(Ack::Persisted(_))) {}
    assert_eq!(drain(&mut a, T0).await, (vec![], false));
    let read = documents(&drain(&mut b, T0).await.0);
    assert_eq!(read.iter().map(super::rig::Document::timecode).collect::<Vec<_>>(), [T0, T0 + 500]);
    assert_whole(&read[0], 16);
}

#[tokio::test]
async fn a_contact_is_removed_from_memory_too() {
    let store = open(Backend::memory(), T0).await;
    store.create_stream(new_stream("s", 0), T0).await.unwrap();
    let s = name("s");
    produce_for(&store, &s, 0, &["a", "b"]).await;
    let all = async || {
        let mut reader = store.get_media(&s, Start::Earliest, LATER).unwrap();
        documents(&drain(&mut reader, LATER).await.0).len()
    };
    assert_eq!(all().await, 2);
    store.remove_contact("a").await.unwrap();
    assert_eq!(all().await, 1);
}
