//! The bot's WebSocket.

use antiphon_api::Config;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::Server;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const START: &str = r#"{"type":"start","protocol":1,"name":"ear","session":{"audio":{"direction":"recvonly","mixed":"all"}}}"#;

async fn open(server: &Server, header: (&'static str, String)) -> Result<(Socket, Option<String>), Error> {
    let url = format!("ws://{}/v1/rooms/r/bot", server.address);
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert(header.0, header.1.parse().unwrap());
    let (socket, response) = connect_async(request).await?;
    let protocol = response.headers().get("sec-websocket-protocol");
    Ok((socket, protocol.map(|p| p.to_str().unwrap().to_owned())))
}

async fn with_token(server: &Server) -> Socket {
    let token = server.token("r", |_| {});
    open(server, ("authorization", format!("Bearer {token}"))).await.unwrap().0
}

/// Messages until the close, and its code.
async fn until_close(socket: &mut Socket) -> (Vec<Message>, u16) {
    let mut messages = Vec::new();
    while let Some(message) = socket.next().await {
        match message.unwrap() {
            Message::Close(close) => return (messages, close.unwrap().code.into()),
            message => messages.push(message),
        }
    }
    panic!("ended without a close frame after {messages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_starts_and_hears() {
    let server = Server::start().await;
    let mut socket = with_token(&server).await;
    socket.send(Message::text(START)).await.unwrap();
    let mut started = false;
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => started |= text.contains("\"type\":\"started\""),
            Message::Binary(frame) => {
                assert!(started);
                let (header, pcm) = antiphon_wire::frame::parse(&frame).unwrap();
                assert_eq!((pcm.len(), header.mixed), (640, true));
                break;
            }
            _ => {}
        }
    }
    socket.close(None).await.unwrap();
    while socket.next().await.is_some_and(|m| m.is_ok()) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gives_its_token_as_a_subprotocol() {
    let server = Server::start().await;
    let token = server.token("r", |_| {});
    let (_, protocol) =
        open(&server, ("sec-websocket-protocol", format!("antiphon.v1, bearer.{token}"))).await.unwrap();
    assert_eq!(protocol.as_deref(), Some("antiphon.v1"));
    let error = open(&server, ("authorization", "Bearer x".into())).await.unwrap_err();
    let Error::Http(response) = error else { panic!("{error}") };
    assert_eq!(response.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_is_an_error_then_a_close_with_a_code() {
    let server = Server::start().await;
    for bad in [Message::text("{"), Message::text("{\"type\":\"fly\"}"), Message::binary(vec![9; 100])] {
        let mut socket = with_token(&server).await;
        socket.send(bad.clone()).await.unwrap();
        let (messages, code) = until_close(&mut socket).await;
        assert_eq!(code, 4400, "{bad:?} {messages:?}");
        let told =
            |m: &Message| m.to_text().is_ok_and(|t| t.contains("\"error\"") && t.contains("bad_request"));
        assert!(messages.iter().any(told), "{bad:?} {messages:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_sockets() {
    let server = Server::with(Config { max_bot_sockets: 1, ..Config::default() }, |_| {}).await;
    let _first = with_token(&server).await;
    let token = server.token("r", |_| {});
    let error = open(&server, ("authorization", format!("Bearer {token}"))).await.unwrap_err();
    let Error::Http(response) = error else { panic!("{error}") };
    assert_eq!(response.status(), 503);
}
