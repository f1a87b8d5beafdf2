//! Calls of a key server: bounded in time, in number, and in how many are under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::client::{HttpClient, HttpRequest, HttpResponse};
use reqwest::{Certificate, redirect};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::patience::Patience;
use crate::crypt;
use crate::error::Error;
use crate::key::{KeyError, KeyServer};

/// Requests of one call. The pauses between them are a tenth of a second, then four.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Calls under way at a time: each is one small request. A server that hangs holds no more than so many connections.
pub(super) const MAX_UNDER_WAY: usize = 16;
/// Bytes of an answer that are read; one that wraps a key has some hundred.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// Why a request was not answered with what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It will not, and the next time neither.
    Refused(KeyError),
    /// It answers that it cannot now: asked too often, or an error of its own.
    Busy,
    /// No answer of a key server.
    Silent,
}

/// One question to a key server, as it wants to be asked.
pub(super) trait Ask: Sync {
    /// What logs call it.
    fn what(&self) -> &str;

    /// Made anew for each attempt. `None`: it cannot be put.
    fn request(&self) -> Option<HttpRequest>;

    /// Of an answer whose status is not 200, and of its body.
    fn failure(&self, answer: &HttpResponse, body: &[u8]) -> Failure;
}

/// A client of one key server.
pub(super) struct Caller {
    /// What logs call the server.
    name: &'static str,
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

impl Caller {
    pub(super) fn new(name: &'static str, client: HttpClient, timeout: Duration) -> Self {
        Self {
            name,
            client,
            timeout,
            under_way: Semaphore::new(MAX_UNDER_WAY),
            patience: Mutex::default(),
            numbers: Numbers::default(),
        }
    }

    /// How the server does.
    pub(super) fn health(&self) -> KeyServer {
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
    pub(super) fn longest(&self) -> Duration {
        self.timeout * ATTEMPTS + FIRST_PAUSE * 4 * ATTEMPTS
    }

    fn may_ask(&self) -> Result<(), KeyError> {
        let may = self.patience().may_ask(Instant::now(), self.longest());
        if may { Ok(()) } else { Err(KeyError::Unavailable) }
    }

    /// Counts a call that could not be put.
    pub(super) fn refused(&self, error: KeyError) -> KeyError {
        self.numbers.calls.fetch_add(1, Ordering::Relaxed);
        self.numbers.failures.fetch_add(1, Ordering::Relaxed);
        error
    }

    /// Asks, and gives what `read` makes of the answer.
    pub(super) async fn call<T: DeserializeOwned, R>(
        &self,
        ask: &impl Ask,
        read: impl FnOnce(T) -> Result<R, KeyError>,
    ) -> Result<R, KeyError> {
        self.numbers.calls.fetch_add(1, Ordering::Relaxed);
        let done = self.bounded(ask).await;
        let parsed = done.and_then(|body| serde_json::from_slice(&body).map_err(|_| KeyError::Unavailable));
        let result = parsed.and_then(read);
        if let Err(error) = &result {
            self.numbers.failures.fetch_add(1, Ordering::Relaxed);
            let (server, what) = (self.name, ask.what());
            tracing::debug!(%error, server, what, "the key server did not do it");
        }
        result
    }

    async fn bounded(&self, ask: &impl Ask) -> Result<Bytes, KeyError> {
        if self.patience().is_waiting(Instant::now()) {
            return Err(KeyError::Unavailable);
        }
        let turn = tokio::time::timeout(self.timeout, self.under_way.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(KeyError::Unavailable) };
        self.may_ask()?;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let failure = match self.attempt(ask).await {
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
        let (away, server) = (failure == Some(Failure::Silent), self.name);
        let changed = self.patience().heard(Instant::now(), away);
        match changed {
            true if away => {
                tracing::warn!(server, "the key server does not answer: streams under its keys wait for it")
            }
            true => tracing::info!(server, "the key server answers again"),
            false => {}
        }
    }

    async fn attempt(&self, ask: &impl Ask) -> Result<Bytes, Failure> {
        tokio::time::timeout(self.timeout, self.exchange(ask)).await.unwrap_or(Err(Failure::Silent))
    }

    async fn exchange(&self, ask: &impl Ask) -> Result<Bytes, Failure> {
        let request = ask.request().ok_or(Failure::Refused(KeyError::Validation))?;
        let answer = self.client.execute(request).await.map_err(|_| Failure::Silent)?;
        let (answer, body) = read(answer).await.ok_or(Failure::Silent)?;
        if answer.status() == 200 { Ok(body) } else { Err(ask.failure(&answer, &body)) }
    }
}

/// What sends the requests. It believes whom the system believes, and these.
pub(super) fn client(
    timeout: Duration,
    allow_http: bool,
    certificates: Vec<Certificate>,
) -> Result<HttpClient, Error> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("Antiphon/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .connect_timeout(timeout)
        .https_only(!allow_http)
        // Nobody else gets a token or a data key: a redirect is no answer.
        .redirect(redirect::Policy::none());
    // A proxy would see both where they are not encrypted.
    let client = if allow_http { client.no_proxy() } else { client };
    let client = if certificates.is_empty() { client } else { client.tls_certs_merge(certificates) };
    client.build().map(HttpClient::new).map_err(|e| Error::InvalidArgument(e.to_string()))
}

/// From a half to one: those who were refused together do not come back together.
fn spread() -> f64 {
    let [byte] = crypt::random();
    0.5 + f64::from(byte) / 512.0
}

/// The answer without its body, and the body, if it comes whole and is short.
async fn read(answer: HttpResponse) -> Option<(HttpResponse, Bytes)> {
    let (head, body) = answer.into_parts();
    let (mut all, mut pieces) = (Vec::new(), body.bytes_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        if all.len() + piece.len() > MAX_ANSWER {
            return None;
        }
        all.extend_from_slice(&piece);
    }
    Some((HttpResponse::from_parts(head, Bytes::new().into()), all.into()))
}
