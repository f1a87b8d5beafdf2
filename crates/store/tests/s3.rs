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

fn config() -> S3 {
    S3 {
        bucket: "antiphon-test".into(),
        region: "us-east-1".into(),
        endpoint: std::env::var("ANTIPHON_TEST_S3").expect("ANTIPHON_TEST_S3 says where the server is"),
        access_key_id: "test".into(),
        secret_access_key: "test".into(),
        allow_http: true,
    }
}

fn backend() -> Backend {
    Backend::s3(&config()).unwrap()
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

/// Carries bytes between the store and the server, and none while it is cut.
struct Line {
    address: std::net::SocketAddr,
    cut: tokio::sync::watch::Sender<bool>,
}

impl Line {
    async fn to(server: &str) -> Self {
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, cut) = (listener.local_addr().unwrap(), tokio::sync::watch::Sender::new(false));
        let switch = cut.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut switch) = (server.clone(), switch.clone());
                tokio::spawn(async move {
                    if *switch.borrow() {
                        return;
                    }
                    let Ok(mut far) = tokio::net::TcpStream::connect(server).await else { return };
                    // A cut breaks what is under way: some requests arrived whose answers never will.
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = switch.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Self { address, cut }
    }
}

/// The line to the bucket is cut ten times at random moments while a producer goes on: all that was acknowledged is there.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3-compatible server in ANTIPHON_TEST_S3"]
async fn nothing_acknowledged_is_lost_when_the_bucket_goes_away() {
    use antiphon_store::Ack;
    use std::time::Duration;

    let endpoint = std::env::var("ANTIPHON_TEST_S3").expect("ANTIPHON_TEST_S3 says where the server is");
    let (line, spool) = (Line::to(&endpoint).await, tempfile::tempdir().unwrap());
    let through = S3 { endpoint: format!("http://{}", line.address), ..config() };
    let settings = Config { account: "outage".into(), ..Config::default() };
    let through = Backend::s3(&through).unwrap().with_spool(spool.path(), 1 << 26).unwrap();
    let (store, _) = Store::open(through, keys(), settings.clone(), T0).await.unwrap();
    let s = StreamRef::Name("s".into());
    let new = NewStream { name: "s".into(), retention_h: 24, ..NewStream::default() };
    store.create_stream(new, T0).await.unwrap();
    let (mut session, mut acks) = store.open_session(&s, Timecodes::Absolute, T0).await.unwrap();
    let track = PcmTrack { number: 1, name: "VOICE".into(), rate_hz: 8000, label: PcmLabel::Pcm };
    session.push(&pcm_header("t", &[track], &[]), T0).await.unwrap();
    let persisted = tokio::spawn(async move {
        let mut persisted = Vec::new();
        while let Some(ack) = acks.recv().await {
            if let Ack::Persisted(of) = ack {
                persisted.push(of.number);
            }
        }
        persisted
    });
    let mut spooled = 0;
    for i in 0..400u64 {
        if i % 40 == 13 {
            line.cut.send_replace(true);
        } else if i % 40 == 31 {
            spooled = spooled.max(store.health().spooled);
            line.cut.send_replace(false);
            while store.drain_spool().await.left > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let block = simple_block(1, 0, &i.to_be_bytes().repeat(128));
        session.push(&[cluster_start(T0 + i * 64), block].concat(), T0 + i * 64).await.unwrap();
    }
    let finished = session.finish(true, T0 + 26_000).await;
    assert_eq!((finished.kept, finished.failed), (400, 0));
    assert!(spooled > 0, "the cuts were felt");
    let persisted = persisted.await.unwrap();
    while store.drain_spool().await.left > 0 {}
    drop(store);
    // From the bucket alone.
    let (store, problems) = Store::open(backend(), keys(), settings.clone(), T0).await.unwrap();
    assert_eq!(problems, []);
    for (number, i) in persisted.iter().zip(0u64..) {
        let media = store.media(&s, *number, T0 + 26_000).await.unwrap().unwrap();
        assert_eq!(media.frames[0].data, i.to_be_bytes().repeat(128), "fragment {i}");
    }
    assert_eq!(persisted.len(), 400);
    drop(store);
    let report = look(backend(), keys(), &settings, Depth::Scrub).await.unwrap();
    assert_eq!((report.problems, report.fragments), (vec![], 400));
}
