//! Getting in: the address, the token, the WebSocket.

use std::time::Duration;

use antiphon_wire::control::ErrorBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::error::Error;
use crate::options::{Options, TOKEN_VARIABLE};

/// The largest answer to a token request; a token or an error is far smaller.
const MAX_ANSWER_BYTES: u64 = 65_536;

/// The address of a server, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// `host:port` to connect to.
    authority: String,
    /// What stands before `/v1`, without a slash at its end.
    prefix: String,
}

impl Address {
    fn parse(url: &str) -> Result<Self, Error> {
        let bad =
            || Error::Connect(format!("the server's address is like http://localhost:7700, not {url:?}"));
        let rest = match url.split_once("://") {
            Some(("http" | "ws", rest)) => rest,
            Some(("https" | "wss", _)) => {
                let why = "this client speaks plain HTTP only: put a TLS tunnel before it, or use the Python package";
                return Err(Error::Connect(why.to_owned()));
            }
            Some(_) => return Err(bad()),
            None => url,
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty()
            || host.contains(['@', ' ', '?', '#'])
            || path.contains(['?', '#', ' ', '\r', '\n'])
        {
            return Err(bad());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
        let path = path.trim_end_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self { authority, prefix })
    }

    async fn connect(&self) -> Result<TcpStream, Error> {
        let failed = |e| Error::Connect(format!("cannot reach {}: {e}", self.authority));
        let stream = TcpStream::connect(&self.authority).await.map_err(failed)?;
        // 20 ms frames must not wait for one another.
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream)
    }
}

/// Opens the WebSocket of a room.
pub(crate) async fn dial(options: &Options) -> Result<WebSocketStream<TcpStream>, Error> {
    let address = Address::parse(&options.url)?;
    let room = antiphon_base::RoomName::new(&options.room)
        .map_err(|e| Error::Connect(format!("the room's name {e}: {:?}", options.room)))?;
    let token = match options.token.clone().or_else(|| std::env::var(TOKEN_VARIABLE).ok()) {
        Some(token) => token,
        None => guest_token(&address, room.as_str(), options.name.as_deref()).await?,
    };
    let url = format!("ws://{}{}/v1/rooms/{room}/bot", address.authority, address.prefix);
    let mut request = url.as_str().into_client_request().map_err(|e| Error::Connect(e.to_string()))?;
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Error::Misuse("a token has no line breaks or other control characters"))?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let limit = Some(antiphon_wire::frame::MAX_MESSAGE_BYTES);
    let config = WebSocketConfig::default().max_message_size(limit).max_frame_size(limit);
    let stream = address.connect().await?;
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let status = response.status().as_u16();
            Err(refusal(&url, status, response.body().as_deref().unwrap_or_default()))
        }
        Err(e) => Err(Error::Connect(format!("cannot reach {url}: {e}"))),
    }
}

/// Asks the server for a guest's token. HTTP/1.0, so that the answer ends where the connection does.
async fn guest_token(address: &Address, room: &str, name: Option<&str>) -> Result<String, Error> {
    let body = match name {
        Some(name) => serde_json::json!({ "name": name }).to_string(),
        None => "{}".to_owned(),
    };
    let path = format!("{}/v1/rooms/{room}/guest-token", address.prefix);
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        address.authority,
        body.len()
    );
    let failed = |e: std::io::Error| Error::Connect(format!("cannot reach {}{path}: {e}", address.authority));
    let mut stream = address.connect().await?;
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await.map_err(failed)?;
    let (status, body) =
        split_answer(&answer).ok_or_else(|| Error::Connect(format!("{path} did not answer in HTTP")))?;
    let token = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .filter(|_| (200..300).contains(&status))
        .and_then(|v| v.get("token")?.as_str().map(str::to_owned));
    token.ok_or_else(|| refusal(&path, status, body))
}

/// Status and body of a whole HTTP/1 response.
fn split_answer(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.get(end + 4..)?))
}

/// The typed error in a response's body, or the best guess by its status.
fn refusal(url: &str, status: u16, body: &[u8]) -> Error {
    #[derive(serde::Deserialize)]
    struct Envelope {
        error: ErrorBody,
    }
    match serde_json::from_slice::<Envelope>(body) {
        Ok(Envelope { error }) => Error::Refused { kind: error.code, message: error.message },
        Err(_) => Error::Connect(format!("{url} answered {status}: is this an Antiphon server?")),
    }
}

/// The whole of joining in a bounded time.
pub(crate) async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = |_| Err(Error::Connect(format!("the server did not answer within {time:?}")));
    tokio::time::timeout(time, work).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let address = |authority: &str, prefix: &str| {
            Ok(Address { authority: authority.to_owned(), prefix: prefix.to_owned() })
        };
        assert_eq!(Address::parse("http://localhost:7700"), address("localhost:7700", ""));
        assert_eq!(Address::parse("localhost:7700/"), address("localhost:7700", ""));
        assert_eq!(Address::parse("ws://[::1]:7700/calls/"), address("[::1]:7700", "/calls"));
        assert_eq!(Address::parse("http://example"), address("example:80", ""));
        for bad in ["", "http://", "ftp://x", "https://x", "http://a/b?c", "http://u@h", "http://h/a\r\nX: y"]
        {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_are_taken_apart() {
        assert_eq!(split_answer(b"HTTP/1.1 403 Forbidden\r\nA: b\r\n\r\n{}"), Some((403, &b"{}"[..])));
        for bad in [&b""[..], b"HTTP/1.1 200", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 x\r\n\r\n"] {
            assert_eq!(split_answer(bad), None);
        }
    }
}
