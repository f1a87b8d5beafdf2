//! Calls against a server that is a function: time is virtual.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::client::{HttpError, HttpErrorKind, HttpService};

use tokio::time::Instant;

use super::super::caller::{MAX_ANSWER, MAX_UNDER_WAY};
use super::super::patience::PAUSE;
use super::*;
use crate::key::{KEY_BYTES, KeyProvider, LocalKeys};
use crate::keyring::{Keyring, There};

const TIMEOUT: Duration = Duration::from_secs(3);
const OF: &str = "v1/000000000000/ab/dek/0";

/// What the server does with each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// As it should.
    Well,
    /// Nothing, for ever.
    Hang,
    /// The connection breaks.
    Break,
    /// A status and a `__type`.
    Say(u16, &'static str),
    /// 200 and a body that is none.
    Nonsense,
    /// A body that does not end, under a length that nobody has.
    Flood,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<(HttpHeaders, Value)>>,
    does: Mutex<Vec<Does>>,
    under_way: AtomicU64,
    most: AtomicU64,
}

type HttpHeaders = BTreeMap<String, String>;

#[derive(Debug, Clone)]
struct Fake(Arc<Seen>);

impl Seen {
    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// From now on: these in turn, the last again and again.
    fn will(&self, does: &[Does]) {
        *self.does.lock().unwrap() = does.iter().rev().copied().collect();
    }

    fn next(&self) -> Does {
        let mut does = self.does.lock().unwrap();
        if does.len() > 1 { does.pop().unwrap() } else { does.last().copied().unwrap_or(Does::Well) }
    }
}

/// The context and the key stand before the data key and after it: enough to see what belongs together.
fn well(ask: &Value) -> HttpResponse {
    let text = |name: &str| ask[name].as_str().unwrap_or_default().to_owned();
    let mark = format!("{}|{}|", text("KeyId"), ask["EncryptionContext"][CONTEXT].as_str().unwrap());
    let plain = BASE64.decode(text("Plaintext").as_bytes()).unwrap();
    let answer = if plain.is_empty() {
        let blob = BASE64.decode(text("CiphertextBlob").as_bytes()).unwrap();
        match blob.strip_prefix(mark.as_bytes()).and_then(|plain| plain.get(..KEY_BYTES)) {
            Some(plain) => json!({ "Plaintext": BASE64.encode(plain) }),
            None => return says(400, "IncorrectKeyException"),
        }
    } else {
        let blob = [mark.as_bytes(), &plain, &[0; 40]].concat();
        json!({ "CiphertextBlob": BASE64.encode(&blob), "KeyId": "arn:..." })
    };
    HttpResponse::new(answer.to_string().into())
}

fn says(status: u16, kind: &str) -> HttpResponse {
    let mut answer = HttpResponse::new(json!({ "__type": kind, "message": "m" }).to_string().into());
    *answer.status_mut() = status.try_into().unwrap();
    answer
}

#[async_trait]
impl HttpService for Fake {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let ask: Value = serde_json::from_slice(request.body().as_bytes().unwrap()).unwrap();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = request.headers().iter().map(|(k, v)| (k.to_string(), text(v))).collect();
        let (now, seen) = (self.0.under_way.fetch_add(1, Ordering::Relaxed) + 1, &self.0);
        seen.most.fetch_max(now, Ordering::Relaxed);
        seen.requests.lock().unwrap().push((headers, ask.clone()));
        let _left = Left(&seen.under_way);
        match seen.next() {
            Does::Well => Ok(well(&ask)),
            Does::Hang => std::future::pending().await,
            Does::Break => Err(HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other("reset"))),
            Does::Say(status, kind) => Ok(says(status, kind)),
            Does::Nonsense => Ok(HttpResponse::new("<html>".to_owned().into())),
            Does::Flood => Ok(HttpResponse::new(vec![b' '; MAX_ANSWER + 1].into())),
        }
    }
}

struct Left<'a>(&'a AtomicU64);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn config() -> Config {
    Config {
        region: "eu-west-1".into(),
        endpoint: String::new(),
        access_key_id: "AKID".into(),
        secret_access_key: "hunter2".into(),
        session_token: String::new(),
        allow_http: false,
        timeout: TIMEOUT,
    }
}

fn kms() -> (Kms, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    (Kms::with_client(&config(), HttpClient::new(Fake(seen.clone()))).unwrap(), seen)
}

fn secret() -> Secret {
    Secret([7; KEY_BYTES])
}

async fn took<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (what.await, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_key_comes_back_to_whose_it_is_and_to_nobody_else() {
    let (kms, seen) = kms();
    let blob = kms.encrypt("alias/a", OF, &secret()).await.unwrap();
    assert_eq!(kms.decrypt("alias/a", OF, &blob).await, Ok(secret()));
    assert_eq!(kms.decrypt("alias/a", "v1/000000000000/cd/dek/0", &blob).await, Err(KeyError::Validation));
    assert_eq!(kms.decrypt("alias/b", OF, &blob).await, Err(KeyError::Validation));
    let requests = seen.requests.lock().unwrap();
    let (headers, ask) = &requests[0];
    assert_eq!(
        (headers["x-amz-target"].as_str(), ask["KeyId"].as_str()),
        ("TrentService.Encrypt", Some("alias/a"))
    );
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    let signed = &headers["authorization"];
    assert!(
        signed.starts_with("AWS4-HMAC-SHA256 Credential=AKID/")
            && signed.contains("/eu-west-1/kms/aws4_request")
    );
    assert!(
        signed.contains("SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target"),
        "{signed}"
    );
    assert!(!format!("{headers:?}{kms:?}").contains("hunter2"));
    // Refused is not away, and not repeated.
    assert_eq!((requests.len(), kms.health()), (4, KeyServer { away: false, calls: 4, failures: 2 }));
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_asked_again_a_bounded_number_of_times() {
    let (kms, seen) = kms();
    let busy = Does::Say(400, "ThrottlingException");
    seen.will(&[busy, Does::Break, Does::Well]);
    let (done, time) = took(kms.encrypt("a", OF, &secret())).await;
    assert!(done.is_ok() && seen.count() == 3 && time < Duration::from_millis(501), "{time:?}");
    seen.will(&[busy]);
    let (done, time) = took(kms.encrypt("a", OF, &secret())).await;
    assert_eq!((done, seen.count()), (Err(KeyError::Unavailable), 6));
    // It answers: the next may ask at once.
    assert!(time >= Duration::from_millis(250) && !kms.health().away);
    seen.will(&[Does::Nonsense]);
    assert_eq!(kms.encrypt("a", OF, &secret()).await, Err(KeyError::Unavailable));
    seen.will(&[Does::Flood]);
    assert_eq!(kms.encrypt("a", OF, &secret()).await, Err(KeyError::Unavailable));
    assert!(kms.health().away);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_waited_for_once_and_then_left_alone() {
    let (kms, seen) = kms();
    seen.will(&[Does::Hang]);
    let (done, time) = took(kms.decrypt("a", OF, &[0; 80])).await;
    assert_eq!((done, seen.count()), (Err(KeyError::Unavailable), 3));
    assert!(time >= TIMEOUT * 3 && time <= kms.caller.longest(), "{time:?}");
    // A thousand keys later nothing was waited for.
    let (_, time) = took(async {
        for _ in 0..1000 {
            assert_eq!(kms.decrypt("a", OF, &[0; 80]).await, Err(KeyError::Unavailable));
        }
    })
    .await;
    assert_eq!((time, seen.count(), kms.health().away), (Duration::ZERO, 3, true));
    // It is back: the first who asks after the pause sees it.
    seen.will(&[Does::Well]);
    tokio::time::advance(PAUSE).await;
    assert!(kms.encrypt("a", OF, &secret()).await.is_ok() && !kms.health().away);
}

/// Whoever asks is gone before the answer: others are not shut out for ever.
#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_nothing_with_it() {
    let (kms, seen) = kms();
    seen.will(&[Does::Hang]);
    assert!(kms.encrypt("a", OF, &secret()).await.is_err());
    tokio::time::advance(PAUSE).await;
    drop(tokio::time::timeout(Duration::from_millis(1), kms.encrypt("a", OF, &secret())).await);
    assert_eq!((seen.count(), seen.under_way.load(Ordering::Relaxed)), (4, 0));
    seen.will(&[Does::Well]);
    assert!(kms.encrypt("a", OF, &secret()).await.is_err(), "one is asking, as far as is known");
    tokio::time::advance(kms.caller.longest()).await;
    assert!(kms.encrypt("a", OF, &secret()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_are_bounded_and_who_waits_does_so_for_a_bounded_time() {
    let (kms, seen) = kms();
    seen.will(&[Does::Hang]);
    let kms = Arc::new(kms);
    let calls = (0..100).map(|_| {
        let kms = kms.clone();
        tokio::spawn(async move { took(kms.encrypt("a", OF, &secret())).await })
    });
    let done = futures_util::future::join_all(calls.collect::<Vec<_>>()).await;
    for call in done {
        let (result, time) = call.unwrap();
        assert_eq!(result, Err(KeyError::Unavailable));
        assert!(time <= kms.caller.longest(), "{time:?}");
    }
    assert_eq!((seen.most.load(Ordering::Relaxed), seen.count()), (MAX_UNDER_WAY as u64, 3 * MAX_UNDER_WAY));
}

#[tokio::test(start_paused = true)]
async fn a_local_key_moves_to_the_server_and_back() {
    let (kms, seen) = kms();
    let local = || LocalKeys::new("default", Secret([1; 32])).with_version("default", 3, Secret([3; 32]));
    let before = Keyring::new(LocalKeys::new("default", Secret([1; 32])));
    let there = Keyring::new(LocalKeys::new("default", Secret([1; 32])));
    let there = there.with_kms(kms).with_key("default", 2, There::Kms("alias/a".into())).with_key(
        "own",
        1,
        There::Kms("alias/b".into()),
    );
    let one = before.wrap("default", OF, &secret()).await.unwrap();
    assert!(before.is_newest("default", &one) && !there.is_newest("default", &one));
    assert_eq!((before.asks("default"), there.asks("default"), there.asks("nobody")), (false, true, false));
    assert_eq!(there.unwrap("default", OF, &one).await, Ok(secret()));
    assert_eq!(seen.count(), 0, "a local version asks nobody");
    let two = there.wrap("default", OF, &secret()).await.unwrap();
    assert!(there.is_newest("default", &two) && !before.is_newest("default", &two));
    assert_eq!(there.unwrap("default", OF, &two).await, Ok(secret()));
    // Neither is taken for the other, nor for another version or name.
    assert_eq!(before.unwrap("default", OF, &two).await, Err(KeyError::NotFound));
    assert_eq!(there.unwrap("own", OF, &two).await, Err(KeyError::NotFound));
    assert_eq!(there.unwrap("own", OF, &one).await, Err(KeyError::NotFound));
    let own = there.wrap("own", OF, &secret()).await.unwrap();
    assert_eq!(
        there.unwrap("default", OF, &own).await,
        Err(KeyError::NotFound),
        "there is no version 1 there"
    );
    for len in 0..two.len() {
        let cut = there.unwrap("default", OF, &two[..len]).await;
        let refused = matches!(cut, Err(KeyError::Validation | KeyError::NotFound));
        // The fake one looks at no more than this.
        assert!(refused || len >= two.len() - 40, "{len}: {cut:?}");
    }
    let back = there.with_local(local());
    assert!(!back.is_newest("default", &two));
    let three = back.wrap("default", OF, &back.unwrap("default", OF, &two).await.unwrap()).await.unwrap();
    assert_eq!(Keyring::new(local()).unwrap("default", OF, &three).await, Ok(secret()));
}

#[test]
fn what_a_key_server_cannot_be() {
    let with = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        config.check().and_then(|()| config.url())
    };
    assert_eq!(with(|_| ()).unwrap(), "https://kms.eu-west-1.amazonaws.com/");
    assert_eq!(
        with(|c| c.endpoint = "https://kms.example:8443/".into()).unwrap(),
        "https://kms.example:8443/"
    );
    let http = |c: &mut Config| (c.endpoint, c.allow_http) = ("http://[::1]:5".into(), true);
    assert_eq!(with(http).unwrap(), "http://[::1]:5/");
    for good in ["https://[::1]", "https://10.0.0.1:8443", "https://localhost", "https://kms-1.example"] {
        let kms = Config { endpoint: good.into(), ..config() };
        let kms = Kms::with_client(&kms, HttpClient::new(Fake(Arc::default()))).unwrap();
        assert!(kms.request("TrentService.Encrypt", Bytes::from_static(b"{}")).is_some(), "{good}");
    }
    for bad in [
        |c: &mut Config| c.region = "eu/west".into(),
        |c: &mut Config| c.access_key_id = String::new(),
        |c: &mut Config| c.secret_access_key = String::new(),
        |c: &mut Config| c.access_key_id = "a\nb".into(),
        |c: &mut Config| c.session_token = "ä".into(),
        |c: &mut Config| c.endpoint = "http://kms.example".into(),
        |c: &mut Config| c.endpoint = "kms.example".into(),
        |c: &mut Config| c.endpoint = "https://kms.example/a".into(),
        |c: &mut Config| c.endpoint = "https://u:p@kms.example".into(),
        |c: &mut Config| c.endpoint = "https://".into(),
        |c: &mut Config| c.endpoint = "https://kms.example:99999".into(),
        |c: &mut Config| c.endpoint = "https://kms.example:".into(),
        |c: &mut Config| c.endpoint = "https://1.2.3.999".into(),
        |c: &mut Config| c.endpoint = "https://[::g]".into(),
        |c: &mut Config| c.endpoint = "https://[::1".into(),
        |c: &mut Config| c.endpoint = "https://kms..example".into(),
    ] {
        assert!(with(bad).is_err());
    }
    assert!(is_key_id("arn:aws:kms:eu-west-1:1:key/mrk-1a") && is_key_id("alias/a_b-c") && is_key_id("1-2"));
    assert!(!is_key_id("") && !is_key_id("a b") && !is_key_id(&"a".repeat(2049)));
}
