//! The same store on an S3-compatible server: `ANTIPHON_TEST_S3=http://127.0.0.1:5000 cargo test -p antiphon-store --features s3
//! --test s3 -- --ignored`. The bucket `antiphon-test` has to be there; moto's server will do.

#![cfg(feature = "s3")]
#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed")]

use std::sync::Arc;

use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block};
use antiphon_store::{
    Backend, Config, Depth, Error, NewStream, S3, Start, Step, Store, StreamRef, Timecodes, look,
};

const T0: u64 = 1_700_000_000_000;

fn backend() -> Backend {
    let config = S3 {
        bucket: "antiphon-test".into(),
        region: "us-east-1".into(),
        endpoint: std::env::var("ANTIPHON_TEST_S3").expect("ANTIPHON_TEST_S3 says where the server is"),
        access_key_id: "test".into(),
        secret_access_key: "test".into(),
        allow_http: true,
    };
    Backend::s3(&config).unwrap()
}

fn keys() -> Arc<LocalKeys> {
    Arc::new(LocalKeys::new("default", Secret([7; 32])))
}

async fn open() -> Store {
    let (store, problems) = Store::open(backend(), keys(), Config::default(), T0).await.unwrap();
    assert_eq!(problems, []);
    store
}

async fn read(store: &Store, stream: &StreamRef) -> Vec<u8> {
    let mut reader = store.get_media(stream, Start::Earliest, T0 + 5000).unwrap();
    let mut all = Vec::new();
    while let Step::Bytes(bytes) = reader.next(T0 + 5000).await {
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test]
#[ignore = "needs an S3-compatible server in ANTIPHON_TEST_S3"]
async fn streams_live_in_a_bucket() {
    let (store, s) = (open().await, StreamRef::Name("s".into()));
    let new = NewStream { name: "s".into(), retention_h: 24, ..NewStream::default() };
    store.create_stream(new.clone(), T0).await.unwrap();
    assert!(matches!(store.create_stream(new.clone(), T0).await, Err(Error::StreamExists)));
    let (mut session, _acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    let track = PcmTrack { number: 1, name: "VOICE".into(), rate_hz: 8000, label: PcmLabel::Pcm };
    session.push(&pcm_header("t", &[track], &[]), T0).await.unwrap();
    for i in 0..20u64 {
        let cluster =
            [cluster_start(T0 + i * 64), simple_block(1, 0, &[u8::try_from(i).unwrap(); 1024])].concat();
        session.push(&cluster, T0 + i * 64).await.unwrap();
    }
    let finished = session.finish(true, T0 + 2000).await;
    assert_eq!((finished.kept, finished.failed), (20, 0));
    let before = read(&store, &s).await;
    drop(store);

    let store = open().await;
    assert_eq!(read(&store, &s).await, before);
    // Two who have the store open: the second to change a record is refused, learns of it, and may then.
    let other = open().await;
    let version = store.describe(&s).unwrap().version;
    store.update_stream(&s, &version, Some("a".into()), None).await.unwrap();
    let late = other.update_stream(&s, &version, Some("b".into()), None).await;
    assert!(matches!(late, Err(Error::VersionMismatch)), "{late:?}");
    assert_eq!(other.describe(&s).unwrap().media_type, "a");
    let name_taken = other.create_stream(new, T0).await;
    assert!(matches!(name_taken, Err(Error::StreamExists)));
    drop(other);

    let report = look(backend(), keys(), &Config::default(), Depth::Scrub).await.unwrap();
    assert_eq!((report.problems, report.fragments), (vec![], 20));
    store.delete_stream(&s, None).await.unwrap();
    let report = look(backend(), keys(), &Config::default(), Depth::Scrub).await.unwrap();
    assert_eq!((report.problems, report.streams), (vec![], 0));
}
