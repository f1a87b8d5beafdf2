//! Fragments taken apart, the newest of them, quotas of rate, and what is counted.

use antiphon_store::matroska::id;
use antiphon_store::matroska::write::Writer;
use antiphon_store::{Backend, Clock, Config, Start, Store, Timecodes};

use crate::rig::{
    BLOCK, T0, cluster, drain, header, keys, name, new_stream, pcm, persisted, produce, with_stream,
};

#[tokio::test]
async fn a_fragment_is_taken_apart() {
    let (store, s) = with_stream(24).await;
    let (mut session, acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    session.push(&header(), T0).await.unwrap();
    let mut media = cluster(T0, 2);
    let mut group = Writer::new();
    group.master(id::BLOCK_GROUP, |w| {
        w.binary(id::BLOCK, &[0x81, 0, 200, 0, 7, 8, 9]).uint(id::BLOCK_DURATION, 5);
        w.uint(id::REFERENCE_BLOCK, 1);
    });
    media.extend(group.into_bytes());
    session.push(&media, T0).await.unwrap();
    session.finish(true, T0).await;
    let number = persisted(acks).await[0];
    let media = store.media(&s, number, T0).await.unwrap().unwrap();
    assert_eq!((media.info.number, media.header.tracks[0].name.as_str()), (number, "VOICE"));
    let frames: Vec<_> = media.frames.iter().map(|f| (f.at_ns / 1_000_000, f.key, f.data.len())).collect();
    assert_eq!(frames, [(0, true, BLOCK), (64, true, BLOCK), (200, false, 3)]);
    assert_eq!((media.frames[1].data.to_vec(), media.frames[2].duration_ns), (pcm(T0, 1), Some(5_000_000)));
    assert_eq!(media.frames[2].data, &[7, 8, 9][..]);
    assert_eq!(store.header(&s, number).await.unwrap().unwrap(), media.header);
    let nobody = "1".parse().unwrap();
    assert!(store.media(&s, nobody, T0).await.unwrap().is_none());
    assert!(store.header(&s, nobody).await.unwrap().is_none());
    assert!(store.media(&s, number, T0 + 25 * 3_600_000).await.unwrap().is_none(), "past its retention");
}

#[tokio::test]
async fn the_newest_come_oldest_first() {
    let (store, s) = with_stream(24).await;
    let numbers = produce(&store, &s, &[T0, T0 + 2000, T0 + 4000, T0 + 6000]).await;
    let newest = |clock, since, max| {
        let found = store.newest_fragments(&s, clock, since, max, T0 + 6000).unwrap();
        found.into_iter().map(|f| f.number).collect::<Vec<_>>()
    };
    for clock in [Clock::Server, Clock::Producer] {
        assert_eq!(newest(clock, 0, 2), numbers[2..]);
        assert_eq!(newest(clock, T0 + 1, 9), numbers[1..]);
    }
    produce(&store, &s, &[T0 + 8000]).await;
    let last = newest(Clock::Server, 0, 1)[0];
    let headers = store.breaks(&s, (numbers[0], last), &|a, b| a.header != b.header).unwrap();
    assert_eq!(headers, 0, "the same header is the same document");
    let gaps = store.breaks(&s, (numbers[0], last), &|a, b| b.server_ms > a.server_ms + 1024).unwrap();
    assert_eq!(gaps, 4);
}

async fn store_with(config: Config) -> Store {
    let (store, _) = Store::open(Backend::memory(), keys(), config, T0).await.unwrap();
    store.create_stream(new_stream("s", 24), T0).await.unwrap();
    store
}

#[tokio::test]
async fn who_sends_faster_than_allowed_is_asked_to_wait() {
    let config = Config { max_stream_bytes_per_s: 16_000, ..Config::default() };
    let store = store_with(config).await;
    let (mut session, _acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    assert_eq!(session.pace(16_000, T0), 0);
    assert_eq!(session.pace(8_000, T0), 500);
    assert_eq!(session.pace(0, T0 + 500), 0);
    assert_eq!(store.stats().throttled_ms, 500);

    let config =
        Config { max_stream_fragments_per_s: 2, max_total_bytes_per_s: 1 << 40, ..Config::default() };
    let store = store_with(config).await;
    let (mut session, _acks) = store.open_session(&name("s"), Timecodes::Absolute, T0).await.unwrap();
    session.push(&header(), T0).await.unwrap();
    for i in 0..5 {
        session.push(&cluster(T0 + i * 64, 1), T0).await.unwrap();
    }
    assert_eq!(session.pace(0, T0), 1000, "four are sealed, two may be in a second");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_seen() {
    let (store, s) = with_stream(24).await;
    produce(&store, &s, &[T0, T0 + 1000]).await;
    let mut reader = store.get_media(&s, Start::Earliest, T0).unwrap();
    drain(&mut reader, T0 + 1000).await;
    assert_eq!(store.stats().reader_lag_ms, 0);
    produce(&store, &s, &[T0 + 9000]).await;
    assert_eq!(store.stats().reader_lag_ms, 8000);
    drop(reader);
    assert_eq!(store.stats().reader_lag_ms, 0);
}

#[tokio::test]
async fn sweeps_and_faults_are_counted() {
    let (store, s) = with_stream(24).await;
    store.sweep(T0 + 5).await;
    assert_eq!(
        (store.stats().sweeps, store.stats().last_sweep_ms, store.stats().sweep_failures),
        (1, T0 + 5, 0)
    );
    let (mut session, _acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    session.push(b"no Matroska at all", T0).await.unwrap_err();
    assert_eq!(store.stats().sessions_failed, 1);
}
