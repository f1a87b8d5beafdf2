//! The bot's WebSocket, blocking, over any stream.

use std::io::{Read, Write};

use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

/// It hears the mix: that stream starts once the bot stands in the room with all that belongs to it.
const START: &str = r#"{"type":"start","protocol":1,"session":{"audio":{"direction":"recvonly","mixed":"all","unmixed":false}}}"#;

/// A bot that has said `start`.
pub(crate) struct Bot<S: Read + Write>(WebSocket<S>);

impl<S: Read + Write> Bot<S> {
    pub(crate) fn join(stream: S, room: &str, token: &str) -> Self {
        let mut request = format!("ws://localhost/v1/rooms/{room}/bot").into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let (mut socket, _) = client(request, stream).map_err(|e| e.to_string()).unwrap();
        socket.send(Message::text(START)).unwrap();
        Self(socket)
    }

    /// Waits for the next message of this type.
    pub(crate) fn message(&mut self, kind: &str) -> String {
        let kind = format!("\"type\":\"{kind}\"");
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) if text.contains(&kind) => return text.as_str().to_owned(),
                Message::Close(close) => panic!("closed before {kind}: {close:?}"),
                _ => {}
            }
        }
    }

    /// Waits for the end; its close code.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(close) = self.0.read().unwrap() {
                return close.unwrap().code.into();
            }
        }
    }
}
