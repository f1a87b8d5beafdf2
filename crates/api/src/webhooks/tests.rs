//! Against real receivers on the loopback, which do what they are told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

use super::*;

const KEY: [u8; 32] = [5; 32];
/// A test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn secret() -> String {
    format!("whsec_{}", BASE64.encode(&KEY))
}

/// A request as it came.
#[derive(Debug)]
struct Got {
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).unwrap()
    }

    /// Looks at the signature as a receiver does, and gives the event.
    fn verified(&self) -> Value {
        let (id, at) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        assert!(now_ms() / 1_000 - at.parse::<u64>().unwrap() < 60);
        let signed = [format!("{id}.{at}.").as_bytes(), &self.body].concat();
        let signature = self.header("webhook-signature").strip_prefix("v1,").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY);
        hmac::verify(&key, &signed, &BASE64.decode(signature.as_bytes()).unwrap()).unwrap();
        let event: Value = serde_json::from_slice(&self.body).unwrap();
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
        event
    }
}

/// A receiver on a free port.
struct Receiver {
    address: SocketAddr,
    got: mpsc::UnboundedReceiver<Got>,
    connections: Arc<AtomicUsize>,
}

/// An answer; `None`: never one.
type Answer = Option<&'static str>;
const OK: Answer = Some("HTTP/1.1 204 No Content\r\n\r\n");

impl Receiver {
    /// Gives these answers, then [`OK`] for ever.
    async fn start(answers: &[Answer], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, got) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (tls, sender, answers) = (tls.clone(), sender.clone(), answers.clone());
                tokio::spawn(async move {
                    match tls {
                        None => receive(stream, sender, answers).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                receive(stream, sender, answers).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, got, connections }
    }

    async fn next(&mut self) -> Got {
        tokio::time::timeout(PATIENCE, self.got.recv()).await.unwrap().unwrap()
    }

    fn target(&self) -> Target {
        target(&format!("http://{}/hook", self.address))
    }
}

async fn receive(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    got: mpsc::UnboundedSender<Got>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let Some(end) = end else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut request = Got { head, body: bytes[end + 4..].to_vec() };
        let length: usize = request.header("content-length").parse().unwrap();
        while request.body.len() < length {
            stream.read_buf(&mut request.body).await.unwrap();
        }
        bytes.clear();
        let answer = answers.lock().unwrap().pop_front().unwrap_or(OK);
        got.send(request).unwrap();
        match answer {
            Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
            None => std::future::pending().await,
        }
    }
}

fn target(url: &str) -> Target {
    let secrets = vec![Secret::parse(&secret()).unwrap()];
    Target { url: url.parse().unwrap(), secrets, events: Kind::ALL.to_vec() }
}

fn config(targets: Vec<Target>) -> Config {
    Config { targets, timeout: Duration::from_millis(500), ..Config::default() }
}

fn send(hooks: &Webhooks, number: u64) {
    hooks.send(&Event::new(Kind::StreamPersisted, now_ms(), json!({ "number": number })));
}

/// Waits until the counts of a target are as wanted: what is seen last is on the panic's line.
async fn counts(hooks: &Webhooks, target: usize, good: impl Fn(&Counts) -> bool) -> Counts {
    let look = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            let counts = hooks.counts()[target];
            if good(&counts) {
                return counts;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{:?}", hooks.counts()))
}

#[tokio::test]
async fn events_are_posted_signed_over_one_connection() {
    let mut receiver = Receiver::start(&[], None).await;
    let hooks = Webhooks::start(&config(vec![receiver.target()]));
    for number in 0..3 {
        send(&hooks, number);
        let got = receiver.next().await;
        assert!(got.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", got.head);
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(got.header("host"), receiver.address.to_string());
        let event = got.verified();
        assert_eq!(
            (&event["type"], &event["data"]),
            (&json!("stream.persisted"), &json!({ "number": number }))
        );
        counts(&hooks, 0, |c| c.delivered == number + 1).await;
    }
    assert_eq!(receiver.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_a_target_does_not_want_it_does_not_get() {
    let mut receiver = Receiver::start(&[], None).await;
    let hooks = Webhooks::start(&config(vec![Target {
        events: vec![Kind::MediaStreamingStopped],
        ..receiver.target()
    }]));
    send(&hooks, 1);
    hooks.send(&Event::new(Kind::MediaStreamingStopped, now_ms(), json!({})));
    assert_eq!(receiver.next().await.verified()["type"], "media_streaming.stopped");
    assert_eq!(counts(&hooks, 0, |c| c.queued == 0).await.delivered, 1);
}

#[tokio::test]
async fn a_failure_is_repeated_with_the_same_id_and_a_new_signature() {
    let broken = Some("HTTP/1.1 500 Broken\r\nContent-Length: 3\r\n\r\nno!");
    let garbage = Some("I am not a web server, and here is proof\r\n\r\n");
    let mut receiver = Receiver::start(&[broken, garbage], None).await;
    let hooks = Webhooks::start(&config(vec![receiver.target()]));
    send(&hooks, 1);
    let (first, second, third) = (receiver.next().await, receiver.next().await, receiver.next().await);
    for again in [&second, &third] {
        assert_eq!(again.header("webhook-id"), first.header("webhook-id"));
        assert_eq!(again.verified(), first.verified());
    }
    let counts = counts(&hooks, 0, |c| c.delivered == 1).await;
    assert!((1..=2).contains(&counts.failed), "{counts:?}");
}

#[tokio::test]
async fn a_target_that_hangs_or_is_not_there_disturbs_no_other() {
    let hanging = Receiver::start(&[None; 50], None).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut good = Receiver::start(&[], None).await;
    let targets = vec![hanging.target(), target(&format!("http://{nobody}/")), good.target()];
    let hooks = Webhooks::start(&config(targets));
    for number in 0..20 {
        send(&hooks, number);
    }
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(good.next().await.verified()["data"]["number"].as_u64().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    for bad in [0, 1] {
        let counts = counts(&hooks, bad, |c| c.failed > 0).await;
        assert_eq!((counts.delivered, counts.queued), (0, 20), "kept for later: {counts:?}");
    }
    let before = Instant::now();
    hooks.stop(Duration::from_millis(100)).await;
    assert!(before.elapsed() < PATIENCE, "the end does not wait for them");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let mut elsewhere = Receiver::start(&[], None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let answer =
        format!("HTTP/1.1 307 Go\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", elsewhere.address);
    let redirecting = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            let _ = stream.read(&mut bytes).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let hooks = Webhooks::start(&config(vec![target(&format!("http://{redirecting}/"))]));
    send(&hooks, 1);
    counts(&hooks, 0, |c| c.failed > 0 && c.queued == 1).await;
    assert!(elsewhere.got.try_recv().is_err() && elsewhere.connections.load(Ordering::Relaxed) == 0);
}

#[tokio::test]
async fn who_is_gone_is_told_nothing_more() {
    let mut receiver = Receiver::start(&[Some("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")], None).await;
    let hooks = Webhooks::start(&config(vec![receiver.target()]));
    send(&hooks, 1);
    counts(&hooks, 0, |c| c.dropped_gone == 1).await;
    send(&hooks, 2);
    assert_eq!(hooks.counts()[0].dropped_gone, 2);
    receiver.next().await;
    assert!(receiver.got.try_recv().is_err());
}

#[tokio::test]
async fn the_end_delivers_what_waits() {
    let mut receiver = Receiver::start(&[], None).await;
    let hooks = Webhooks::start(&config(vec![receiver.target()]));
    for number in 0..10 {
        send(&hooks, number);
    }
    hooks.stop(PATIENCE).await;
    for _ in 0..10 {
        receiver.next().await.verified();
    }
}

/// A certificate for `localhost`, and who believes it.
fn certificate() -> (TlsAcceptor, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), Arc::new(client))
}

#[tokio::test]
async fn https_is_spoken_with_who_is_who_it_says() {
    let (acceptor, believes) = certificate();
    let mut receiver = Receiver::start(&[], Some(acceptor)).await;
    let port = receiver.address.port();
    let targets = ["localhost", "127.0.0.1"].map(|host| target(&format!("https://{host}:{port}/")));
    let hooks = Webhooks::start(&Config { tls: Some(believes), ..config(targets.to_vec()) });
    send(&hooks, 1);
    receiver.next().await.verified();
    counts(&hooks, 0, |c| c.delivered == 1).await;
    counts(&hooks, 1, |c| c.failed > 0 && c.delivered == 0).await;
}
