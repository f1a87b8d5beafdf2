//! PutMedia as producers live: silent, vanished and back again, too long, byte by byte; and readers that do not read. Time is virtual.

use std::sync::Arc;
use std::time::Duration;

use antiphon_kvs::{Config, Kvs, TimeOfDay};
use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block};
use antiphon_store::{Backend, Store};
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::rig::{Rig, now_ms};

const T0: u64 = 1_700_000_000_000;

pub(crate) fn header() -> Vec<u8> {
    let track = PcmTrack { number: 1, name: "VOICE".into(), rate_hz: 8000, label: PcmLabel::Pcm };
    pcm_header("t", &[track], &[("ContactId", "contact-1")])
}

/// A cluster of one block of so many bytes.
pub(crate) fn cluster(at_ms: u64, bytes: usize) -> Vec<u8> {
    [cluster_start(T0 + at_ms), simple_block(1, 0, &vec![7; bytes])].concat()
}

/// A PutMedia connection: what is sent, and what comes back.
struct Producer {
    sender: mpsc::UnboundedSender<Bytes>,
    answer: Body,
}

impl Producer {
    async fn connect(rig: &Rig, token: &str) -> Result<Self, (u16, String)> {
        let (sender, sent) = mpsc::unbounded_channel::<Bytes>();
        let body = stream::unfold(sent, |mut sent| async move {
            Some((Ok::<_, std::convert::Infallible>(sent.recv().await?), sent))
        });
        let request = Request::post("/kvs/putMedia")
            .header("authorization", format!("Bearer {token}"))
            .header("x-amzn-stream-name", "s")
            .header("x-amzn-fragment-timecode-type", "ABSOLUTE");
        let response = rig.send(request.body(Body::from_stream(body)).unwrap()).await;
        if response.status() != 200 {
            let kind = response.headers()["x-amzn-errortype"].to_str().unwrap();
            return Err((response.status().as_u16(), kind.split(':').next().unwrap().to_owned()));
        }
        Ok(Self { sender, answer: response.into_body() })
    }

    fn send(&self, bytes: impl Into<Bytes>) {
        // One whose request has ended takes nothing more.
        let _ = self.sender.send(bytes.into());
    }

    /// The next acknowledgement; `None` at the end.
    async fn ack(&mut self) -> Option<Value> {
        let line = self.answer.frame().await?.unwrap().into_data().unwrap();
        Some(serde_json::from_slice(&line).unwrap())
    }

    /// All that come until the response ends: their events, errors with their id and code.
    async fn acks(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(ack) = self.ack().await {
            let text = |field: &str| ack[field].as_str().unwrap_or_default().to_owned();
            let error = || format!("ERROR {} {}", ack["ErrorId"], text("ErrorCode"));
            all.push(if ack["EventType"] == "ERROR" { error() } else { text("EventType") });
        }
        all
    }
}

async fn rig(config: Config) -> Rig {
    let rig = Rig::with(config).await;
    rig.create("s", 24).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn a_silent_producer_is_told_that_it_is_idle_and_ended_after_half_a_minute() {
    let rig = rig(Config { idle_interval: Duration::from_secs(8), ..Config::default() }).await;
    let mut producer = Producer::connect(&rig, &rig.token).await.unwrap();
    let began = tokio::time::Instant::now();
    producer.send([header(), cluster(0, 1024)].concat());
    let acks = producer.acks().await;
    assert_eq!(acks, ["BUFFERING", "IDLE", "IDLE", "IDLE", "RECEIVED", "PERSISTED"]);
    assert_eq!(began.elapsed().as_secs(), 30);
}

/// By not reading what it sends: TCP does the rest.
#[tokio::test(start_paused = true)]
async fn a_producer_beyond_its_rate_is_let_wait_and_loses_nothing() {
    let keys = Arc::new(LocalKeys::new("default", Secret([7; 32])));
    let limited =
        antiphon_store::Config { max_stream_bytes_per_s: 10_000, ..antiphon_store::Config::default() };
    let (store, _) = Store::open(Backend::memory(), keys, limited, now_ms()).await.unwrap();
    // A time that goes as the virtual one does.
    let (began, epoch_ms) = (tokio::time::Instant::now(), now_ms());
    let time = TimeOfDay::new(move || epoch_ms + u64::try_from(began.elapsed().as_millis()).unwrap());
    let rig = Rig::of(store, Config { time, ..Config::default() });
    rig.create("s", 24).await;
    let mut producer = Producer::connect(&rig, &rig.token).await.unwrap();
    producer.send(header());
    for i in 0..5 {
        producer.send(cluster(i * 1000, 20_000));
    }
    producer.sender = mpsc::unbounded_channel().0;
    let acks = producer.acks().await;
    assert_eq!(acks.iter().filter(|ack| *ack == "PERSISTED").count(), 5, "{acks:?}");
    // 100,000 bytes, of which a second's worth at once; behind the last nobody waits.
    assert_eq!(began.elapsed().as_secs(), 9);
    assert!(rig.store.stats().throttled_ms >= 7_000, "{}", rig.store.stats().throttled_ms);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_gives_back_what_it_holds() {
    let rig = rig(Config::default()).await;
    let kvs = Kvs::new(rig.store.clone(), rig.tokens.clone(), Config::default());
    let held = Arc::new(());
    let pieces = stream::unfold(held.clone(), |held| async { Some((Bytes::from_static(b"piece"), held)) });
    let mut answer = kvs.body(Duration::from_secs(600), pieces);
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "piece");
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert_eq!(Arc::strong_count(&held), 2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(Arc::strong_count(&held), 1);
    while let Some(Ok(_)) = answer.frame().await {}
    // Who goes on reading loses nothing, however slowly.
    let few = stream::iter((0..4).map(|i| Bytes::from(vec![i; 3])));
    let mut answer = kvs.body(Duration::from_secs(600), few);
    let mut read = Vec::new();
    while let Some(piece) = answer.frame().await {
        read.extend(piece.unwrap().into_data().unwrap());
        tokio::time::sleep(Duration::from_secs(599)).await;
    }
    assert_eq!(read, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_too_long_ends_with_what_is_complete() {
    let rig = rig(Config { max_connection: Duration::from_secs(5), ..Config::default() }).await;
    let mut talking = Producer::connect(&rig, &rig.token).await.unwrap();
    talking.send([header(), cluster(0, 1024)].concat());
    // It stops in the middle of an element, which is not kept.
    talking.send(cluster(64, 1024)[..600].to_vec());
    let began = tokio::time::Instant::now();
    let acks = talking.acks().await;
    let mut sorted = acks.clone();
    sorted.sort();
    // PERSISTED of what was complete may come before or after the error.
    let over = "ERROR 4003 MAX_CONNECTION_DURATION_REACHED";
    let expected = ["BUFFERING", "BUFFERING", over, "PERSISTED", "PERSISTED", "RECEIVED", "RECEIVED"];
    assert_eq!(sorted, expected, "{acks:?}");
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(rig.store.stats().sessions_failed, 0, "it was not its fault");
}

/// Reads until the response has these bytes.
async fn read_until(body: &mut Body, seen: &mut Vec<u8>, wanted: &[u8]) {
    while !seen.windows(wanted.len()).any(|window| window == wanted) {
        seen.extend_from_slice(&body.frame().await.expect("it goes on").unwrap().into_data().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_is_back_holds_up_no_reader() {
    let rig = rig(Config::default()).await;
    let lost = Producer::connect(&rig, &rig.token).await.unwrap();
    lost.send([header(), cluster(0, 1024)].concat());
    let get = json!({ "StreamName": "s", "StartSelector": { "StartSelectorType": "EARLIEST" } });
    let request = Request::post("/kvs/getMedia").header("authorization", format!("Bearer {}", rig.token));
    let mut body = rig.send(request.body(Body::from(get.to_string())).unwrap()).await.into_body();
    let mut seen = Vec::new();
    read_until(&mut body, &mut seen, &[7; 1024]).await;
    // Its network is gone, nothing says so, and it connects again.
    let began = tokio::time::Instant::now();
    let again = Producer::connect(&rig, &rig.token).await.unwrap();
    again.send([header(), [cluster_start(T0 + 9000), simple_block(1, 0, &[9; 512])].concat()].concat());
    read_until(&mut body, &mut seen, &[9; 512]).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop((lost, again));
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_comes_again_and_again_is_let_in_and_others_are_not_pushed_out() {
    let rig = rig(Config::default()).await;
    let mut first = Producer::connect(&rig, &rig.token).await.unwrap();
    first.send([header(), cluster(0, 1024)].concat());
    assert_eq!(first.ack().await.unwrap()["EventType"], "BUFFERING");
    let mut more = Vec::new();
    for _ in 0..4 {
        more.push(Producer::connect(&rig, &rig.token).await.expect("it is its own place"));
    }
    let acks = first.acks().await;
    assert_eq!(acks[0], "RECEIVED", "what was complete is kept");
    assert!(acks.contains(&"PERSISTED".to_owned()), "{acks:?}");
    assert!(acks.contains(&"ERROR 4000 STREAM_READ_ERROR".to_owned()), "{acks:?}");
    let other = rig.limited(&["PutMedia"], &["s"]);
    let refused = Producer::connect(&rig, &other).await.err().unwrap();
    assert_eq!(refused, (400, "ConnectionLimitExceededException".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn two_that_share_a_stream_both_go_on() {
    let rig = rig(Config::default()).await;
    let other = rig.limited(&["PutMedia"], &["s"]);
    let (mut a, mut b) =
        (Producer::connect(&rig, &rig.token).await.unwrap(), Producer::connect(&rig, &other).await.unwrap());
    for at in [0, 10_000, 20_000] {
        for producer in [&a, &b] {
            producer.send(if at == 0 { [header(), cluster(at, 64)].concat() } else { cluster(at, 64) });
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    for producer in [&mut a, &mut b] {
        producer.sender = mpsc::unbounded_channel().0;
        let acks = producer.acks().await;
        assert_eq!(acks.iter().filter(|ack| *ack == "PERSISTED").count(), 3, "{acks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_in_chunks_of_one_byte_is_the_same_body() {
    let document = [header(), cluster(0, 200), cluster(25, 200)].concat();
    let mut answers = Vec::new();
    for size in [1, document.len()] {
        let rig = rig(Config::default()).await;
        let mut producer = Producer::connect(&rig, &rig.token).await.unwrap();
        for piece in document.chunks(size) {
            producer.send(piece.to_vec());
        }
        producer.sender = mpsc::unbounded_channel().0;
        let mut acks = producer.acks().await;
        acks.sort();
        let listed = rig.call("listFragments", json!({ "StreamName": "s" })).await.json();
        let sizes: Vec<_> = listed["Fragments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["FragmentSizeInBytes"].clone())
            .collect();
        answers.push((acks, sizes));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].1.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_loses_its_place() {
    let rig = rig(Config::default()).await;
    let mut producer = Producer::connect(&rig, &rig.token).await.unwrap();
    // More than two sockets hold.
    producer.send(header());
    for i in 0..32u64 {
        producer.send(cluster(i * 1000, 1 << 20));
    }
    producer.sender = mpsc::unbounded_channel().0;
    assert_eq!(producer.acks().await.iter().filter(|ack| *ack == "PERSISTED").count(), 32);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, rig.router.clone()).into_future());
    let body = json!({ "StreamName": "s", "StartSelector": { "StartSelectorType": "EARLIEST" } }).to_string();
    let head = format!(
        "POST /kvs/getMedia HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        rig.token,
        body.len()
    );
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 15];
    socket.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    assert_eq!(rig.store.stats().readers, 1);
    // The clock goes on by itself while nothing else happens.
    let began = tokio::time::Instant::now();
    while rig.store.stats().readers > 0 {
        assert!(began.elapsed() < Duration::from_secs(120), "it still has its place");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap_or_default();
    assert!(rest.len() < 32 << 20 && !rest.ends_with(b"0\r\n\r\n"), "cut off, and not as if it were whole");
    server.abort();
}
