//! A key server that speaks the JSON API of AWS KMS: master keys that never leave it (`Encrypt`, `Decrypt`).
//!
//! Requests are signed (Signature Version 4) and sent by what the buckets use already. Each call is bounded: how long, how often, and how
//! many at a time; while the server is away calls fail at once, so that who goes through many keys does not wait for each.

mod answer;
mod patience;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::StreamExt;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpResponse, ReqwestConnector};
use object_store::{ClientOptions, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::crypt;
use crate::error::Error;
use crate::key::{KEY_BYTES, KeyError, KeyServer, Secret};
use answer::Failure;
use patience::Patience;

/// Requests of one call. The pauses between them are a tenth of a second, then four.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Calls under way at a time: each is one small request. A server that hangs holds no more than so many connections.
const MAX_UNDER_WAY: usize = 16;
/// Bytes of an answer that are read; one that wraps a key has some hundred.
const MAX_ANSWER: usize = 64 * 1024;
/// What an id, an alias or an ARN of a key has at most, as Amazon has it.
const MAX_ID_BYTES: usize = 2048;
/// 12 bytes of nonce, the key, 16 of tag: nothing shorter is an authenticated ciphertext of it.
const MIN_BLOB_BYTES: usize = 12 + KEY_BYTES + 16;
/// Amazon's are about 180.
const MAX_BLOB_BYTES: usize = 6144;
/// The pair of the encryption context: which object of the store the key is for.
const CONTEXT: &str = "antiphon:object";

/// Where the key server is and who we are there.
#[derive(Clone)]
pub struct Config {
    /// Its region.
    pub region: String,
    /// Base URL of one that is not Amazon's; empty: Amazon's.
    pub endpoint: String,
    /// Access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// With temporary credentials: their token; else empty.
    pub session_token: String,
    /// Whether plain HTTP will do, for a server in the same network. Data keys pass in it.
    pub allow_http: bool,
    /// How long one request may take. A call has up to three.
    pub timeout: Duration,
}

impl Config {
    /// Whether it can be, without asking the server.
    ///
    /// # Errors
    /// What cannot, by its name.
    pub fn check(&self) -> Result<(), String> {
        let region = (1..=32).contains(&self.region.len())
            && self.region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !region {
            return Err("region: 1 to 32 letters, digits and -".into());
        }
        let graphic = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if self.access_key_id.is_empty() || self.secret_access_key.is_empty() {
            return Err("set both access_key_id and secret_access_key".into());
        }
        if !graphic(&self.access_key_id) || !graphic(&self.session_token) {
            return Err("access_key_id, session_token: visible ASCII characters".into());
        }
        self.url().map(drop)
    }

    fn url(&self) -> Result<String, String> {
        if self.endpoint.is_empty() {
            return Ok(format!("https://kms.{}.amazonaws.com/", self.region));
        }
        let base = self.endpoint.trim_end_matches('/');
        let host = match base.split_once("://") {
            Some(("https", host)) => host,
            Some(("http", host)) if self.allow_http => host,
            Some(("http", _)) => return Err("endpoint: https://, or allow_http".into()),
            _ => return Err("endpoint: https://HOST[:PORT]".into()),
        };
        if !is_authority(host) {
            return Err("endpoint: a host and a port, nothing behind them".into());
        }
        Ok(format!("{base}/"))
    }
}

/// Whether that is a host, with or without a port: what signs does not bear anything else.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "443"),
    };
    let good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => {
            let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let number = host.rsplit('.').next().is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit()));
            host.split('.').all(label) && (!number || host.parse::<Ipv4Addr>().is_ok())
        }
    };
    good && port.parse::<u16>().is_ok()
}

/// Whether a text can name a key there: an id, an alias (`alias/...`) or the ARN of either.
pub fn is_key_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/_-:".contains(&b);
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

/// A key server.
pub struct Kms {
    url: String,
    region: String,
    credential: AwsCredential,
    client: HttpClient,
    timeout: Duration,
    under_way: Semaphore,
    patience: Mutex<Patience>,
    numbers: Numbers,
}

#[derive(Default)]
struct Numbers {
    calls: AtomicU64,
    failures: AtomicU64,
}

impl std::fmt::Debug for Kms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kms({})", self.region)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: String,
}

fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.as_bytes()).ok()
}

impl Kms {
    /// Does not connect yet.
    ///
    /// # Errors
    /// The configuration cannot be.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let agent = HeaderValue::from_static(concat!("Antiphon/", env!("CARGO_PKG_VERSION")));
        let options = ClientOptions::new()
            .with_timeout(config.timeout)
            .with_connect_timeout(config.timeout)
            .with_user_agent(agent)
            .with_allow_http(config.allow_http);
        Self::with_client(config, ReqwestConnector::default().connect(&options)?)
    }

    fn with_client(config: &Config, client: HttpClient) -> Result<Self, Error> {
        config.check().map_err(Error::InvalidArgument)?;
        let url = config.url().map_err(Error::InvalidArgument)?;
        let credential = AwsCredential {
            key_id: config.access_key_id.clone(),
            secret_key: config.secret_access_key.clone(),
            token: Some(config.session_token.clone()).filter(|token| !token.is_empty()),
        };
        Ok(Self {
            url,
            region: config.region.clone(),
            credential,
            client,
            timeout: config.timeout,
            under_way: Semaphore::new(MAX_UNDER_WAY),
            patience: Mutex::default(),
            numbers: Numbers::default(),
        })
    }

    /// Has a key encrypt a data key. `of` is part of it: nothing else opens under another one.
    pub(crate) async fn encrypt(&self, id: &str, of: &str, secret: &Secret) -> Result<Vec<u8>, KeyError> {
        let ask = json!({ "KeyId": id, "Plaintext": BASE64.encode(&secret.0), "EncryptionContext": { CONTEXT: of } });
        let answer: Encrypted = self.call("TrentService.Encrypt", &ask).await?;
        let blob = base64(&answer.ciphertext_blob).ok_or(KeyError::Unavailable)?;
        // A key that answers otherwise is no key of ours, whatever it is.
        if (MIN_BLOB_BYTES..=MAX_BLOB_BYTES).contains(&blob.len()) {
            Ok(blob)
        } else {
            Err(KeyError::Validation)
        }
    }

    /// Has that key decrypt it again. The key is named: what another has encrypted does not open, even if that one would.
    pub(crate) async fn decrypt(&self, id: &str, of: &str, blob: &[u8]) -> Result<Secret, KeyError> {
        let ask = json!({ "KeyId": id, "CiphertextBlob": BASE64.encode(blob), "EncryptionContext": { CONTEXT: of } });
        let answer: Decrypted = self.call("TrentService.Decrypt", &ask).await?;
        let plain = base64(&answer.plaintext).ok_or(KeyError::Unavailable)?;
        Ok(Secret(<[u8; KEY_BYTES]>::try_from(plain).map_err(|_| KeyError::Validation)?))
    }

    /// How it does.
    pub(crate) fn health(&self) -> KeyServer {
        KeyServer {
            away: self.patience().is_away(),
            calls: self.numbers.calls.load(Ordering::Relaxed),
            failures: self.numbers.failures.load(Ordering::Relaxed),
        }
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a call may take: all its requests, and the pauses between them.
    fn longest(&self) -> Duration {
        self.timeout * ATTEMPTS + FIRST_PAUSE * 4 * ATTEMPTS
    }

    fn may_ask(&self) -> Result<(), KeyError> {
        let may = self.patience().may_ask(Instant::now(), self.longest());
        if may { Ok(()) } else { Err(KeyError::Unavailable) }
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        target: &'static str,
        ask: &Value,
    ) -> Result<T, KeyError> {
        self.numbers.calls.fetch_add(1, Ordering::Relaxed);
        let done = self.bounded(target, ask).await;
        let parsed = done.and_then(|body| serde_json::from_slice(&body).map_err(|_| KeyError::Unavailable));
        if let Err(error) = &parsed {
            self.numbers.failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, target, "the key server did not do it");
        }
        parsed
    }

    async fn bounded(&self, target: &'static str, ask: &Value) -> Result<Bytes, KeyError> {
        if self.patience().is_waiting(Instant::now()) {
            return Err(KeyError::Unavailable);
        }
        let turn = tokio::time::timeout(self.timeout, self.under_way.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(KeyError::Unavailable) };
        self.may_ask()?;
        let body = Bytes::from(ask.to_string());
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let failure = match self.attempt(target, body.clone()).await {
                Ok(answer) => {
                    self.heard(None);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            if let Failure::Refused(error) = failure {
                self.heard(None);
                return Err(error);
            }
            if attempt == ATTEMPTS {
                self.heard(Some(failure));
                return Err(KeyError::Unavailable);
            }
            tokio::time::sleep(pause.mul_f64(spread())).await;
            pause *= 4;
        }
        Err(KeyError::Unavailable)
    }

    /// Notes what came of a call, and says so when that is new.
    fn heard(&self, failure: Option<Failure>) {
        let away = failure == Some(Failure::Silent);
        let changed = self.patience().heard(Instant::now(), away);
        match changed {
            true if away => {
                tracing::warn!("the key server does not answer: streams under its keys wait for it")
            }
            true => tracing::info!("the key server answers again"),
            false => {}
        }
    }

    async fn attempt(&self, target: &'static str, body: Bytes) -> Result<Bytes, Failure> {
        tokio::time::timeout(self.timeout, self.exchange(target, body)).await.unwrap_or(Err(Failure::Silent))
    }

    async fn exchange(&self, target: &'static str, body: Bytes) -> Result<Bytes, Failure> {
        let request = self.request(target, body).ok_or(Failure::Refused(KeyError::Validation))?;
        let answer = self.client.execute(request).await.map_err(|_| Failure::Silent)?;
        let (status, named) = (answer.status().as_u16(), header(&answer));
        let body = read(answer).await.ok_or(Failure::Silent)?;
        if status == 200 { Ok(body) } else { Err(Failure::of(status, named.as_deref(), &body)) }
    }

    fn request(&self, target: &'static str, body: Bytes) -> Option<HttpRequest> {
        let mut request = HttpRequest::new(body.into());
        *request.method_mut() = "POST".parse().ok()?;
        *request.uri_mut() = self.url.parse().ok()?;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert("x-amz-target", HeaderValue::from_static(target));
        AwsAuthorizer::new(&self.credential, "kms", &self.region).try_authorize(&mut request, None).ok()?;
        Some(request)
    }
}

/// From a half to one: those who were refused together do not come back together.
fn spread() -> f64 {
    let [byte] = crypt::random();
    0.5 + f64::from(byte) / 512.0
}

fn header(answer: &HttpResponse) -> Option<String> {
    answer.headers().get("x-amzn-errortype")?.to_str().ok().map(str::to_owned)
}

/// The body, if it comes whole and is short.
async fn read(answer: HttpResponse) -> Option<Bytes> {
    let (mut all, mut pieces) = (Vec::new(), answer.into_body().bytes_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        if all.len() + piece.len() > MAX_ANSWER {
            return None;
        }
        all.extend_from_slice(&piece);
    }
    Some(all.into())
}
