//! Reading while it is written: element by element, nothing lost, nothing twice, and an end when there is one.

use antiphon_store::{Ack, Clock, Config, FaultKind, Flags, Reader, Session, Start, Step, Store, Timecodes};

use crate::rig::{
    BLOCK, T0, all_acks, assert_whole, cluster, documents, drain, header, keys, list, name, new_stream, pcm,
    produce, with_stream,
};
use antiphon_store::Backend;
use antiphon_store::matroska::write::{cluster_start, ebml_head, simple_block};

async fn step(reader: &mut Reader, now: u64) -> Vec<u8> {
    drain(reader, now).await.0
}

async fn session(store: &Store) -> Session {
    store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap().0
}

#[tokio::test]
async fn a_reader_sees_each_block_when_it_is_complete() {
    for retention in [0, 24] {
        let (store, s) = with_stream(retention).await;
        let mut producer = session(&store).await;
        let mut reader = store.get_media(&s, Start::Now, T0).unwrap();
        assert_eq!(reader.next(T0).await, Step::Wait);
        producer.push(&header(), T0).await.unwrap();
        producer.push(&cluster_start(T0), T0).await.unwrap();
        let head = step(&mut reader, T0).await;
        assert!(head.starts_with(&header()) && head.ends_with(&[0xa7, 0x10, 0, 0, 1, 0]), "{head:x?}");
        for i in 0..3u64 {
            let block = simple_block(1, (i * 64) as i16, &pcm(T0, i));
            let (first, rest) = block.split_at(block.len() - 1);
            producer.push(first, T0 + i).await.unwrap();
            assert_eq!(reader.next(T0 + i).await, Step::Wait, "not before it is complete");
            producer.push(rest, T0 + i).await.unwrap();
            assert_eq!(step(&mut reader, T0 + i).await, block);
        }
        producer.flush(T0 + 500).await.unwrap();
        let tail = step(&mut reader, T0 + 500).await;
        let tags = antiphon_store::matroska::header::tags(&tail[8..]).unwrap();
        assert_eq!(
            (tags[0].name.as_str(), tags[0].value.as_str()),
            ("AWS_KINESISVIDEO_MILLIS_BEHIND_NOW", "500")
        );
        producer.push(&cluster(T0 + 192, 1), T0 + 600).await.unwrap();
        assert!(!step(&mut reader, T0 + 600).await.is_empty());
    }
}

#[tokio::test]
async fn a_reader_that_waits_is_woken() {
    let (store, s) = with_stream(24).await;
    let mut producer = session(&store).await;
    producer.push(&header(), T0).await.unwrap();
    let mut reader = store.get_media(&s, Start::Now, T0).unwrap();
    let waits = async {
        loop {
            match reader.next(T0).await {
                Step::Bytes(_) => return,
                Step::Wait => reader.changed().await,
                Step::End => panic!("it has not begun"),
            }
        }
    };
    let produces = async {
        tokio::task::yield_now().await;
        producer.push(&cluster_start(T0), T0).await.unwrap();
    };
    tokio::join!(waits, produces);
}

#[tokio::test]
async fn from_stored_to_live_nothing_is_lost_or_doubled() {
    let (store, s) = with_stream(24).await;
    let (mut producer, acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    producer.push(&header(), T0).await.unwrap();
    let mut reader = store.get_media(&s, Start::Earliest, T0).unwrap();
    let mut all = Vec::new();
    let times: Vec<u64> = (0..50).map(|i| T0 + i * 128).collect();
    for (i, time) in times.iter().enumerate() {
        producer.push(&cluster(*time, 2), *time).await.unwrap();
        // Sometimes the reader is behind what is stored, sometimes in the open fragment.
        if i % 7 == 0 {
            for _ in 0..i {
                tokio::task::yield_now().await;
            }
            all.extend(step(&mut reader, *time).await);
        }
    }
    producer.finish(true, T0 + 10_000).await;
    let (rest, ended) = drain(&mut reader, T0 + 10_000).await;
    all.extend(rest);
    assert!(ended, "a stop ends the response at once");
    let read = documents(&all);
    assert_eq!(read.iter().map(|d| d.timecode()).collect::<Vec<_>>(), times);
    read.iter().for_each(|d| assert_whole(d, 2));
    let numbers: Vec<_> = read.iter().map(|d| d.number()).collect();
    assert_eq!(list(&store, &s, T0 + 10_000).await, numbers);
    assert_eq!(crate::rig::persisted(acks).await, numbers);
}

#[tokio::test]
async fn acknowledgements_come_in_order_and_persisted_ones_can_be_listed() {
    let (store, s) = with_stream(24).await;
    let (mut producer, mut acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    producer.push(&[header(), cluster(T0, 2), cluster(T0 + 128, 1)].concat(), T0).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|a| !matches!(a, Ack::Persisted(_))) {
        seen.push(acks.recv().await.unwrap());
    }
    let [Ack::Buffering(a), Ack::Received(b), Ack::Buffering(c), Ack::Persisted(d)] = seen[..] else {
        panic!("{seen:?}")
    };
    assert!(a == b && a == d && a.timecode_ms == T0 && c.timecode_ms == T0 + 128);
    assert_eq!(list(&store, &s, T0).await, [a.number]);
    producer.finish(false, T0).await;
    let rest = all_acks(acks).await;
    assert_eq!(rest, [Ack::Received(c), Ack::Persisted(c)]);
}

#[tokio::test]
async fn a_dropped_fragment_ends_whole_and_says_why() {
    let (store, s) = with_stream(24).await;
    let (mut producer, acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    producer.push(&[header(), cluster(T0, 2)].concat(), T0).await.unwrap();
    let mut reader = store.get_media(&s, Start::Earliest, T0).unwrap();
    let mut all = step(&mut reader, T0).await;
    let fault = producer.push(&simple_block(2, 0, &[0; 10]), T0).await.unwrap_err();
    assert_eq!((fault.kind, fault.timecode_ms), (FaultKind::TrackNumber, Some(T0)));
    assert!(producer.push(&cluster(T0 + 128, 1), T0).await.is_err(), "the session is over");
    assert_eq!(producer.finish(false, T0).await.kept, 0);
    all.extend(step(&mut reader, T0).await);
    let read = documents(&all);
    assert_whole(&read[0], 2);
    assert_eq!((read[1].number(), read[1].tag("AWS_KINESISVIDEO_ERROR_ID")), (read[0].number(), "3002"));
    assert_eq!(read[1].tag("ContactId"), "", "no fragment has said a contact yet");
    let acks = all_acks(acks).await;
    assert!(
        matches!(acks[1], Ack::Error { of: Some(of), kind: FaultKind::TrackNumber } if of.timecode_ms == T0)
    );
    assert_eq!(list(&store, &s, T0).await, []);
}

#[tokio::test]
async fn a_producer_that_vanishes_leaves_a_salvaged_fragment_and_readers_wait_a_little() {
    let (store, s) = with_stream(24).await;
    let (mut producer, _acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    let document = [header(), cluster(T0, 3)].concat();
    producer.push(&document[..document.len() - 10], T0).await.unwrap();
    let finished = producer.finish(false, T0 + 200).await;
    assert_eq!((finished.kept, finished.failed), (1, 0));
    let mut reader = store.get_media(&s, Start::Earliest, T0 + 300).unwrap();
    let (bytes, ended) = drain(&mut reader, T0 + 300).await;
    assert_whole(&documents(&bytes)[0], 2);
    assert!(!ended);
    let deadline = reader.deadline_ms().unwrap();
    assert_eq!(deadline, T0 + 300 + Config::default().idle_close_ms);
    assert_eq!(reader.next(deadline - 1).await, Step::Wait);
    // A producer that comes back keeps the response open.
    let again = session(&store).await;
    assert_eq!(reader.next(deadline).await, Step::Wait);
    assert_eq!(reader.deadline_ms(), None);
    again.finish(false, deadline).await;
    assert_eq!(reader.next(deadline + 3000).await, Step::End);
}

#[tokio::test]
async fn a_reader_of_a_stream_that_never_starts_waits_half_a_minute() {
    let (store, s) = with_stream(24).await;
    let mut reader = store.get_media(&s, Start::Earliest, T0).unwrap();
    assert_eq!(reader.next(T0).await, Step::Wait);
    assert_eq!(reader.deadline_ms(), Some(T0 + 30_000));
    assert_eq!(reader.next(T0 + 30_000).await, Step::End);
}

#[tokio::test]
async fn a_start_in_the_future_waits_for_its_time() {
    let (store, s) = with_stream(24).await;
    let mut producer = session(&store).await;
    producer.push(&[header(), cluster(T0, 1)].concat(), T0).await.unwrap();
    let mut reader = store.get_media(&s, Start::At(Clock::Producer, T0 + 5000), T0).unwrap();
    assert_eq!(reader.next(T0).await, Step::Wait);
    producer.push(&cluster(T0 + 5000, 1), T0 + 5000).await.unwrap();
    producer.finish(true, T0 + 5000).await;
    let read = documents(&step(&mut reader, T0 + 5000).await);
    assert_eq!(read.iter().map(|d| d.timecode()).collect::<Vec<_>>(), [T0 + 5000]);
}

#[tokio::test]
async fn now_takes_the_open_fragment_while_it_is_young() {
    let (store, s) = with_stream(24).await;
    let mut producer = session(&store).await;
    producer.push(&[header(), cluster(T0, 16)].concat(), T0).await.unwrap();
    producer.push(&cluster(T0 + 1024, 4), T0 + 1024).await.unwrap();
    let begins = async |now: u64| {
        let mut reader = store.get_media(&s, Start::Now, now).unwrap();
        !step(&mut reader, now).await.is_empty()
    };
    assert!(begins(T0 + 1024 + 1000).await);
    assert!(!begins(T0 + 1024 + 1025).await, "older than fragments of this stream last");
}

#[tokio::test]
async fn without_retention_memory_is_bounded_by_time_and_bytes() {
    let config = Config { memory_bytes: 30_000, ..Config::default() };
    let (store, _) = Store::open(Backend::memory(), keys(), config, T0).await.unwrap();
    store.create_stream(new_stream("s", 0), T0).await.unwrap();
    let (mut producer, acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    producer.push(&header(), T0).await.unwrap();
    for i in 0..10 {
        producer.push(&cluster(T0 + i * 1024, 16), T0 + i * 1024).await.unwrap();
    }
    producer.finish(true, T0 + 10_240).await;
    assert!(all_acks(acks).await.iter().all(|a| !matches!(a, Ack::Persisted(_) | Ack::Error { .. })));
    let count = async |now| crate::rig::read_all(&store, &name("s"), Start::Earliest, now).await.len();
    assert_eq!(count(T0 + 10_240).await, 1, "30 kB hold one fragment of 16 kB and its successor's room");
    store.sweep(T0 + 9 * 1024 + 300_000).await;
    assert_eq!(count(T0 + 400_000).await, 0);
    assert_eq!(store.stats().fragments, 0);
}

#[tokio::test]
async fn a_tail_flush_ends_the_response_with_one_more_head() {
    let config = Config { tail_flush: true, ..Config::default() };
    let (store, _) = Store::open(Backend::memory(), keys(), config, T0).await.unwrap();
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    produce(&store, &name("s"), &[T0]).await;
    let mut reader = store.get_media(&name("s"), Start::Earliest, T0 + 2000).unwrap();
    let (bytes, ended) = drain(&mut reader, T0 + 2000).await;
    assert!(ended && bytes.ends_with(&ebml_head()));
}

#[tokio::test]
async fn an_anchor_is_a_fragment_before_the_first_sound() {
    let (store, s) = with_stream(24).await;
    let (mut producer, _acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    producer.mark_next(Flags::ANCHOR);
    producer.push(&header(), T0).await.unwrap();
    producer.push(&cluster(T0, 1), T0).await.unwrap();
    producer.flush(T0).await.unwrap();
    producer.push(&cluster(T0 + 64, 2), T0 + 64).await.unwrap();
    let finished = producer.finish(true, T0 + 200).await;
    let (first, last) = (finished.first.unwrap(), finished.last.unwrap());
    assert!(first < last && finished.kept == 2);
    let read = crate::rig::read_all(&store, &s, Start::After(first), T0 + 300).await;
    assert_eq!(
        read.iter().map(|d| d.timecode()).collect::<Vec<_>>(),
        [T0 + 64],
        "exclusive readers lose nothing"
    );
}

#[tokio::test]
async fn what_became_durable_is_told_and_nothing_else() {
    let (store, stream) = with_stream(1).await;
    store.create_stream(new_stream("memory", 0), T0).await.unwrap();
    let mut news = store.news().unwrap();
    assert!(store.news().is_none());
    produce(&store, &name("memory"), &[T0]).await;
    let numbers = produce(&store, &stream, &[T0, T0 + 1024]).await;
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(news.recv().await.unwrap());
    }
    assert_eq!(told.iter().map(|p| p.number).collect::<Vec<_>>(), numbers);
    let of = store.describe(&stream).unwrap();
    for (persisted, at) in told.iter().zip([T0, T0 + 1024]) {
        assert_eq!((persisted.stream.as_str(), &persisted.arn), ("s", &of.arn));
        assert_eq!((persisted.contact.as_str(), persisted.producer_ms), ("contact-1", at));
        assert_eq!((persisted.duration_ms, persisted.bytes > 16 * BLOCK as u64), (1024, true));
    }
    drop(store);
    assert_eq!(news.recv().await, None, "and nothing of what is in memory only");
}
