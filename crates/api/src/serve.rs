//! Accepting connections: TCP, TLS where configured, HTTP/1.1, each within its limits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tower_service::Service;

use crate::app::App;
use crate::metrics::Refused;
use crate::proxy;

/// Bytes of a request's header at most: a policy of 64 pins and a token fit twice.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How long answers under way may take once the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// After `accept` failed (no file descriptors, as a rule), let some close before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\n\
    connection: close\r\ncontent-length: 101\r\n\r\n\
    {\"error\":{\"code\":\"overloaded\",\"message\":\"This server has too many connections. Try again shortly.\"}}\n";

/// Serves `app` on `listener` until `stop` becomes true or its sender is gone.
///
/// WebSockets are tasks of their own and end with their bots.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    app: App,
    stop: watch::Receiver<bool>,
) {
    let router = app.router();
    accept(listener, tls, (app, router), stop).await;
}

/// As [`serve`], for a port that has the Kinesis Video Streams API alone.
pub async fn serve_streams(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    app: App,
    stop: watch::Receiver<bool>,
) {
    let router = app.streams_router();
    accept(listener, tls, (app, router), stop).await;
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    (app, router): (App, Router),
    mut stop: watch::Receiver<bool>,
) {
    let tls = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = app.connections().try_acquire_owned() else {
            app.metrics().refused(Refused::Connections);
            refuse(&stream, tls.is_some());
            continue;
        };
        let connection =
            Connection { app: app.clone(), router: router.clone(), peer, stop: stop.clone(), _place: place };
        connections.spawn(connection.run(stream, tls.clone()));
    }
    let rest = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_ANSWERS, rest).await;
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Says no without waiting for anything.
fn refuse(stream: &TcpStream, tls: bool) {
    if !tls {
        let _ = stream.try_write(BUSY);
    }
}

struct Connection {
    app: App,
    router: Router,
    peer: SocketAddr,
    stop: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let _ = stream.set_nodelay(true);
        let open = self.app.metrics().connections.clone();
        open.inc();
        match tls {
            None => self.http(stream).await,
            Some(acceptor) => {
                let limit = self.app.config().header_timeout;
                match tokio::time::timeout(limit, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => self.http(stream).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_) => tracing::debug!("TLS handshake took too long"),
                }
            }
        }
        open.dec();
    }

    async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self { app, router, peer, mut stop, _place } = self;
        let trusted = app.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let client = proxy::client(peer.ip(), request.headers(), &trusted.config().trusted_proxies);
            request.extensions_mut().insert(SocketAddr::new(client, peer.port()));
            router.clone().call(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(app.config().header_timeout)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            result = connection.as_mut() => Some(result),
            () = stopped(&mut stop) => None,
        };
        let result = match ended {
            Some(result) => result,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_answer_has_the_length_it_says() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        assert!(body.starts_with("{\"error\":{\"code\":\"overloaded\""));
    }
}
