//! `GET /v1/rooms/{room}/bot`: a WebSocket (RFC 6455) between a bot and its media session.
//!
//! Reading is tungstenite's. Writing is ours: a server's frames are not masked, so a picture of 2.7 MB goes from the
//! session's shared buffer to the socket in one vectored write, without a copy; tungstenite would make two.
//! What tungstenite itself wants to say (pongs, the answer to a close) goes to the writer by [`Control`].

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use antiphon_bot::Identity;
use antiphon_bot::transport::{Inbound, Outbound, connection};
use antiphon_wire::frame;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::app::App;
use crate::auth::{Access, Grant};
use crate::error::ApiError;
use crate::join::display_name;

/// The subprotocol of this version, for browsers that must name one beside `bearer.<token>`.
pub(crate) const SUBPROTOCOL: &str = "antiphon.v1";
/// Pongs and close frames waiting for the writer; more pongs than this are left out.
const CONTROL_IN_FLIGHT: usize = 16;
/// A bot is gone after this many pings without a sign of life.
const PINGS: u32 = 3;
/// How long the last message and the close handshake may take each.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// The handler: checks, then hands the connection to a task.
pub(crate) async fn open(
    State(app): State<App>,
    Extension(peer): Extension<SocketAddr>,
    access: Access,
    mut request: Request,
) -> Result<Response, ApiError> {
    access.need(Grant::Bot)?;
    let key = handshake(request.method(), request.headers())?;
    let place = app.admit_bot(peer.ip(), &access.room)?;
    let identity = Identity {
        id: access.identity(&app),
        name: display_name(request.headers(), &access)?,
        grants: access.grants(),
    };
    let named = offers(request.headers(), SUBPROTOCOL);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _place = place;
        match upgrade.await {
            Ok(socket) => run(&app, access, identity, TokioIo::new(socket)).await,
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    });
    Ok(switching(key, named))
}

/// 101, with our subprotocol if the client named it.
pub(crate) fn switching(key: HeaderValue, named: bool) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    if named {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

/// The value of `Sec-WebSocket-Accept` (RFC 6455, 4.2).
pub(crate) fn handshake(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let names = |name, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
    };
    let upgrades = names(header::CONNECTION, "upgrade") && names(header::UPGRADE, "websocket");
    if method != Method::GET || !upgrades {
        return Err(ApiError::http(
            StatusCode::UPGRADE_REQUIRED,
            "This is a WebSocket: open it with a WebSocket client (`Upgrade: websocket`).",
        ));
    }
    if !names(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(ApiError::bad_request("Send `Sec-WebSocket-Version: 13`."));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or_else(|| ApiError::bad_request("Send a `Sec-WebSocket-Key`."))?;
    Ok(HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is ASCII"))
}

pub(crate) fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|p| p.trim() == protocol)
}

/// What the reading side wants to be written.
enum Control {
    /// Whole frames, as tungstenite made them.
    Raw(Bytes),
    /// The peer broke the protocol.
    Close(u16, &'static str),
}

async fn run<S: AsyncRead + AsyncWrite + Send + 'static>(
    app: &App,
    access: Access,
    identity: Identity,
    socket: S,
) {
    let open = &app.metrics().bot_sockets;
    open.inc();
    let ping = app.config().bot_ping;
    let (transport, carrier) = connection();
    let (control, controls) = async_channel::bounded(CONTROL_IN_FLIGHT);
    let (read, write) = tokio::io::split(socket);
    let mut reader = tokio::spawn(read_messages(read, control, carrier.inbound, ping * PINGS));
    let mut writer = tokio::spawn(write_messages(write, controls, carrier.outbound, ping));
    app.bots().serve(access.room, identity, transport).await;
    let _ = tokio::time::timeout(CLOSE_WAIT, &mut writer).await;
    let _ = tokio::time::timeout(CLOSE_WAIT, &mut reader).await;
    writer.abort();
    reader.abort();
    open.dec();
}

/// Carries messages from the peer until it goes, breaks the protocol, or is silent for too long.
async fn read_messages<R: AsyncRead + Unpin>(
    read: R,
    control: async_channel::Sender<Control>,
    inbound: async_channel::Sender<Inbound>,
    silence: Duration,
) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(frame::MAX_MESSAGE_BYTES))
        .max_frame_size(Some(frame::MAX_MESSAGE_BYTES));
    let socket = ReadSide { read, control: control.clone() };
    let mut stream = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    loop {
        let message = match tokio::time::timeout(silence, stream.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => {
                let _ = control.try_send(refusal(&error));
                tracing::debug!(%error, "bot socket ended");
                return;
            }
            Ok(None) => return,
            Err(_) => {
                tracing::debug!("bot is silent");
                let _ = control.try_send(Control::Close(1001, "no answer to pings"));
                return;
            }
        };
        let message = match message {
            Message::Text(text) => Inbound::Text(text.as_str().to_owned()),
            Message::Binary(bytes) => Inbound::Binary(bytes),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => continue,
        };
        if inbound.send(message).await.is_err() {
            // The session has ended; go on reading for the close handshake only.
            continue;
        }
    }
}

fn refusal(error: &Error) -> Control {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Control::Close(1009, "message too large"),
        Error::Utf8(_) => Control::Close(1007, "text is not UTF-8"),
        _ => Control::Close(1002, "not the WebSocket protocol"),
    }
}

/// Carries messages to the peer until the session ends or the peer is gone.
async fn write_messages<W: AsyncWrite + Unpin>(
    mut write: W,
    controls: async_channel::Receiver<Control>,
    outbound: async_channel::Receiver<Outbound>,
    ping: Duration,
) -> io::Result<()> {
    let mut pings = tokio::time::interval(ping);
    loop {
        tokio::select! {
            biased;
            Ok(control) = controls.recv() => match control {
                Control::Raw(frames) => write.write_all(&frames).await?,
                Control::Close(code, reason) => return write_close(&mut write, code, reason).await,
            },
            message = outbound.recv() => match message {
                Ok(Outbound::Text(text)) => write_frame(&mut write, TEXT, text.as_bytes(), &[]).await?,
                Ok(Outbound::Binary { head, payload }) => {
                    write_frame(&mut write, BINARY, &head, &payload).await?;
                }
                Ok(Outbound::Close { code, reason }) => return write_close(&mut write, code, &reason).await,
                Err(_) => return write_close(&mut write, 1000, "").await,
            },
            _ = pings.tick() => write_frame(&mut write, PING, &[], &[]).await?,
        }
    }
}

/// A close frame (RFC 6455, 5.5.1), then the end of the stream.
async fn write_close<W: AsyncWrite + Unpin>(write: &mut W, code: u16, reason: &str) -> io::Result<()> {
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    write_frame(write, CLOSE, &code.to_be_bytes(), &reason.as_bytes()[..end]).await?;
    write.flush().await
}

/// A control frame has at most 125 bytes, two of them the code.
const MAX_REASON_BYTES: usize = 123;

/// One unmasked, unfragmented frame (RFC 6455, 5.2) whose payload is `a` followed by `b`.
async fn write_frame<W: AsyncWrite + Unpin>(write: &mut W, opcode: u8, a: &[u8], b: &[u8]) -> io::Result<()> {
    let (header, length) = frame_header(opcode, a.len() + b.len());
    let mut slices = [IoSlice::new(&header[..length]), IoSlice::new(a), IoSlice::new(b)];
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let n = write.write_vectored(rest).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, n);
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "each arm's pattern bounds the length")]
fn frame_header(opcode: u8, payload: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = 0x80 | opcode;
    match payload {
        0..=125 => {
            header[1] = payload as u8;
            (header, 2)
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
            (header, 4)
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload as u64).to_be_bytes());
            (header, 10)
        }
    }
}

/// The socket as tungstenite sees it: reads are real, writes become [`Control::Raw`].
struct ReadSide<R> {
    read: R,
    control: async_channel::Sender<Control>,
}

impl<R: AsyncRead + Unpin> AsyncRead for ReadSide<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buffer)
    }
}

impl<R: Unpin> AsyncWrite for ReadSide<R> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let _ = self.control.try_send(Control::Raw(Bytes::copy_from_slice(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(a: usize, b: usize) {
        let (client, server) = tokio::io::duplex(1024);
        let (a, b) = (vec![1; a], vec![2; b]);
        let whole = [a.clone(), b.clone()].concat();
        let writing = tokio::spawn(async move {
            let mut server = server;
            write_frame(&mut server, BINARY, &a, &b).await
        });
        let mut reader = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let message = reader.next().await.unwrap().unwrap();
        assert_eq!(message, Message::Binary(whole.into()));
        writing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn frames_read_as_tungstenite_reads_them() {
        for (a, b) in
            [(0, 0), (1, 0), (0, 7), (100, 25), (100, 26), (56, 65_479), (56, 65_480), (64, 300_000)]
        {
            check(a, b).await;
        }
    }

    #[tokio::test]
    async fn a_long_reason_is_cut_between_characters() {
        let (client, mut server) = tokio::io::duplex(1024);
        write_close(&mut server, 4400, &"ä".repeat(100)).await.unwrap();
        let mut reader = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let Message::Close(Some(close)) = reader.next().await.unwrap().unwrap() else { panic!("close") };
        assert_eq!(u16::from(close.code), 4400);
        assert_eq!(close.reason.as_str(), "ä".repeat(61));
    }
}
