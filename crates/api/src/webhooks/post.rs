//! One POST to a target, over HTTP/1.1. Connections are kept for the next one; redirects are answers like any other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::queue::MAX_UNDER_WAY;
use super::sign::Signed;
use super::url::Url;

/// Bytes of an answer's head, and of its body, that are read: nothing in them is of use but the status and `Retry-After`.
const MAX_ANSWER: usize = 16 * 1024;

/// How long the body of an answer is waited for: its head has said everything.
const MAX_BODY_WAIT: Duration = Duration::from_secs(1);

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 2xx.
    Delivered,
    /// The target answers, and does not take this.
    Refused { why: &'static str },
    /// The target does not answer, or says that it cannot now.
    Failed { why: &'static str, retry_after: Option<Duration> },
    /// 410: nobody wants this any more.
    Gone,
}

fn failed(why: &'static str) -> Outcome {
    Outcome::Failed { why, retry_after: None }
}

type Connection = SendRequest<Full<Bytes>>;

/// Posts to one target.
pub(super) struct Post {
    url: Url,
    tls: Option<TlsConnector>,
    timeout: Duration,
    /// Connections that are not used now.
    idle: Mutex<Vec<Connection>>,
}

impl Post {
    pub(super) fn new(url: Url, tls: Option<Arc<ClientConfig>>, timeout: Duration) -> Self {
        Self { url, tls: tls.map(TlsConnector::from), timeout, idle: Mutex::default() }
    }

    /// One attempt.
    pub(super) async fn send(&self, signed: &Signed, body: Bytes) -> Outcome {
        let attempt = self.attempt(signed, body);
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(why)) => failed(why),
            Err(_) => failed("it took too long"),
        }
    }

    async fn attempt(&self, signed: &Signed, body: Bytes) -> Result<Outcome, &'static str> {
        if let Some(kept) = self.kept() {
            // Closed by the target while it was not used: that is nobody's fault, and what it has twice it knows by the id.
            if let Ok(outcome) = self.exchange(kept, signed, body.clone()).await {
                return Ok(outcome);
            }
        }
        self.exchange(self.connect().await?, signed, body).await
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        idle.pop()
    }

    async fn exchange(
        &self,
        mut to: Connection,
        signed: &Signed,
        body: Bytes,
    ) -> Result<Outcome, &'static str> {
        to.ready().await.map_err(|_| "the connection was closed")?;
        let request = Request::post(&self.url.path)
            .header(header::HOST, &self.url.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("Antiphon/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &signed.id)
            .header("webhook-timestamp", &signed.timestamp)
            .header("webhook-signature", &signed.signature)
            .body(Full::new(body))
            .map_err(|_| "the request cannot be made")?;
        let response = to.send_request(request).await.map_err(|_| "it gave no answer of HTTP")?;
        let outcome = outcome(&response);
        // A connection is used again only when its answer has been read.
        if tokio::time::timeout(MAX_BODY_WAIT, read(response)).await == Ok(true) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_UNDER_WAY {
                idle.push(to);
            }
        }
        Ok(outcome)
    }

    async fn connect(&self) -> Result<Connection, &'static str> {
        let url = &self.url;
        let tcp =
            TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|_| "it cannot be reached")?;
        let _ = tcp.set_nodelay(true);
        if !url.tls {
            return handshake(tcp).await;
        }
        let tls = self.tls.as_ref().ok_or("there is no TLS")?;
        let name = ServerName::try_from(url.host.clone()).map_err(|_| "its name is not one of TLS")?;
        let stream = tls.connect(name, tcp).await.map_err(|_| "its certificate, or TLS, is not right")?;
        handshake(stream).await
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> Result<Connection, &'static str> {
    let made = Builder::new().max_buf_size(MAX_ANSWER).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = made.map_err(|_| "it does not speak HTTP")?;
    // Ends when the sender is dropped, or the target closes.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn outcome(response: &Response<Incoming>) -> Outcome {
    match response.status() {
        status if status.is_success() => Outcome::Delivered,
        StatusCode::GONE => Outcome::Gone,
        status if status.is_redirection() => Outcome::Refused { why: "a redirect" },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => busy(response),
        status if status.is_server_error() => busy(response),
        _ => Outcome::Refused { why: "its status" },
    }
}

fn busy(response: &Response<Incoming>) -> Outcome {
    let text = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    // A date would need a calendar; who writes one gets our own pauses.
    let retry_after = text.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Outcome::Failed { why: "it is busy or broken", retry_after }
}

/// Whether the answer's body was read to its end, and is short.
async fn read(response: Response<Incoming>) -> bool {
    let (mut body, mut left) = (response.into_body(), MAX_ANSWER);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let len = frame.data_ref().map_or(0, Bytes::len);
        if len > left {
            return false;
        }
        left -= len;
    }
    true
}
