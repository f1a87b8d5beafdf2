//! A session from beginning to end, against a server in this process that speaks the bot protocol.

#![expect(clippy::unwrap_used, reason = "the whole file is a test")]

use std::future::Future;
use std::time::Duration;

use antiphon_base::{ClockFlags, Clocks, ErrorKind, ParticipantKey, PixelFormat, Source, SpeakerLevel};
use antiphon_client::{
    AudioFrame, BotEvent, Error, Event, LeaveReason, MediaSession, Options, Publication, Room, SessionUpdate,
    VideoFrame, connect,
};
use antiphon_wire::frame::{self, Format, Header};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// The server's end of one connection.
struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn frame(&mut self, header: &Header, payload: &[u8]) {
        self.0.send(Message::binary(header.to_message(payload))).await.unwrap();
    }

    async fn text(&mut self) -> Value {
        let message = self.0.next().await.unwrap().unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    async fn binary(&mut self) -> (Header, Vec<u8>) {
        let message = self.0.next().await.unwrap().unwrap().into_data();
        let (header, payload) = frame::parse(&message).unwrap();
        (header, payload.to_vec())
    }

    async fn close(mut self) {
        self.0.close(None).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

fn info(key: u32, name: &str) -> Value {
    json!({"id": format!("pa_{name}"), "key": key, "name": name, "kind": "web_rtc", "presence": "connected", "tracks": []})
}

fn header(format: Format, source: Source, stream: u32) -> Header {
    Header {
        format,
        source,
        stream,
        participant: ParticipantKey(3),
        sequence: 1,
        clocks: Clocks {
            capture_us: 1,
            arrival_us: 2,
            media_us: 3,
            flags: ClockFlags { capture_estimated: true },
        },
        dropped_before: 0,
        silence: false,
        gap: false,
        key: false,
        mixed: false,
        speakers: vec![SpeakerLevel { participant: ParticipantKey(3), level: 30 }],
    }
}

const PCM: Format = Format::Pcm { sample_rate: 16_000, channels: 1, samples: 2 };
const PICTURE: Format =
    Format::Picture { format: PixelFormat::Rgb24, width: 2, height: 1, source_width: 4, source_height: 2 };

/// Runs a scripted server and a client with one end; both must come to theirs.
async fn check<S, C>(
    server: impl FnOnce(Peer, Value) -> S,
    client: impl FnOnce(Room) -> C,
    session: MediaSession,
) where
    S: Future<Output = ()>,
    C: Future<Output = ()>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut peer = Peer(accept_async(socket).await.unwrap());
        let start = peer.text().await;
        peer.say(json!({"type": "started", "protocol": 1, "participant": "pa_me", "key": 9, "room": "demo", "epoch_us": 5})).await;
        peer.say(json!({"type": "roster", "seq": 5, "participants": [info(3, "ann"), info(9, "me")]})).await;
        server(peer, start).await;
    };
    let join = async {
        let mut options = Options::new(url, "demo").name("Echo").token(Some("t0".to_owned()));
        options.session = session;
        client(connect(options).await.unwrap()).await;
    };
    let both = async { tokio::join!(serve, join) };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("both come to their end");
}

async fn frames(room: &mut Room) -> (Vec<AudioFrame>, Vec<VideoFrame>, Vec<BotEvent>) {
    let (mut audio, mut video, mut events) = (vec![], vec![], vec![]);
    while let Some(event) = room.recv().await.unwrap() {
        match event {
            Event::Audio(f) => audio.push(f),
            Event::Video(f) => video.push(f),
            Event::Encoded(_) | Event::Data(_) => panic!("{event:?} was not sent"),
            Event::Room(e) => events.push(e),
        }
    }
    (audio, video, events)
}

#[tokio::test]
async fn hears_sees_and_knows_who() {
    let session = Options::new("", "").hear_and_speak().see().session;
    let server = |mut peer: Peer, start: Value| async move {
        assert_eq!((&start["type"], &start["protocol"]), (&json!("start"), &json!(1)));
        assert_eq!(start["session"]["audio"]["direction"], "sendrecv");
        assert_eq!(start["session"]["camera"]["form"], "rgb24");
        peer.frame(&header(PCM, Source::Microphone, 1), &[1, 0, 255, 255]).await;
        peer.frame(&header(PICTURE, Source::Camera, 2), &[1, 2, 3, 4, 5, 6]).await;
        peer.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
        peer.0.send(Message::text("{}")).await.unwrap();
        peer.say(json!({"type": "participant_left", "seq": 6, "participant": "pa_ann", "reason": "left"}))
            .await;
        peer.say(json!({"type": "closed", "reason": "room_closed"})).await;
        peer.close().await;
    };
    let client = |mut room: Room| async move {
        assert_eq!((room.id.as_str(), room.key, room.epoch_us), ("pa_me", ParticipantKey(9), 5));
        let (audio, video, events) = frames(&mut room).await;
        assert_eq!(audio[0].samples, [1, -1]);
        assert!(audio[0].meta.clocks.flags.capture_estimated);
        assert_eq!(audio[0].speakers[0].level, 30);
        assert_eq!(audio[0].meta.participant.as_ref().unwrap().name, "ann", "known although it left");
        assert_eq!((&video[0].data[..], video[0].source_width), (&[1, 2, 3, 4, 5, 6][..], 4));
        assert_eq!(events.len(), 3);
        assert_eq!(room.participants().len(), 1);
        assert_eq!((room.malformed(), room.left()), (2, Some(LeaveReason::RoomClosed)));
        assert_eq!(room.stats().await, Err(Error::Closed(Some(LeaveReason::RoomClosed))));
    };
    check(server, client, session).await;
}

#[tokio::test]
async fn a_slow_program_loses_its_own_pictures_and_learns_how_many() {
    let server = |mut peer: Peer, _| async move {
        for _ in 0..10 {
            peer.frame(&header(PICTURE, Source::Camera, 2), &[0; 6]).await;
        }
        peer.frame(&header(PCM, Source::Microphone, 1), &[0; 4]).await;
        let request = peer.text().await;
        peer.say(json!({"type": "reply", "id": request["id"]})).await;
        peer.close().await;
    };
    let client = |mut room: Room| async move {
        // The answer comes after all frames, and nothing was taken until then.
        room.camera().mute(true).await.unwrap();
        let (audio, video, _) = frames(&mut room).await;
        assert_eq!((audio.len(), video.len()), (1, 4));
        assert_eq!(video.iter().map(|f| f.meta.dropped_before).collect::<Vec<_>>(), [6, 0, 0, 0]);
    };
    check(server, client, MediaSession::default()).await;
}

#[tokio::test]
async fn speaks_and_shows() {
    let server = |mut peer: Peer, _| async move {
        let (head, payload) = peer.binary().await;
        assert_eq!(head.format, Format::Pcm { sample_rate: 48_000, channels: 1, samples: 3 });
        assert_eq!(payload, [1, 0, 2, 0, 3, 0]);
        let (head, payload) = peer.binary().await;
        assert_eq!((head.source, payload.len()), (Source::Screen, 6));
        let mark = peer.text().await;
        assert_eq!((&mark["type"], &mark["name"]), (&json!("mark"), &json!("end")));
        peer.say(json!({"type": "mark_played", "name": "end", "source": "microphone", "sample": 3, "flushed": false, "media_us": 7})).await;
        let flush = peer.text().await;
        peer.say(json!({"type": "flushed", "id": flush["id"], "source": "microphone", "played": 3, "discarded": 0})).await;
        let update = peer.text().await;
        assert_eq!(update["session"]["audio"]["direction"], "recvonly");
        peer.say(
            json!({"type": "reply", "id": update["id"], "error": {"code": "conflict", "message": "not now"}}),
        )
        .await;
        while let Some(Ok(_)) = peer.0.next().await {}
    };
    let client = |room: Room| async move {
        room.microphone().push(&[1, 2, 3], 48_000).await.unwrap();
        room.screen().push(PixelFormat::Rgb24, 2, 1, &[0; 6]).await.unwrap();
        assert!(matches!(room.screen().push(PixelFormat::Rgb24, 2, 1, &[0; 5]).await, Err(Error::Misuse(_))));
        assert!(matches!(room.microphone().push(&[1], 44_100).await, Err(Error::Misuse(_))));
        assert!(matches!(room.microphone().mark(Some(&"x".repeat(129))).await, Err(Error::Misuse(_))));
        assert_eq!(room.microphone().mark(Some("end")).await.unwrap().sample, 3);
        assert_eq!(room.microphone().flush().await.unwrap().played, 3);
        let hear = Options::new("", "").hear().session.audio;
        let refused =
            room.update(SessionUpdate { audio: Some(hear), ..SessionUpdate::default() }).await.unwrap_err();
        assert_eq!(refused, Error::Refused { kind: ErrorKind::Conflict, message: "not now".to_owned() });
        assert_eq!(room.session(), MediaSession::default());
        room.close().await;
    };
    check(server, client, MediaSession::default()).await;
}

#[tokio::test]
async fn a_long_speech_is_sent_two_seconds_ahead_and_a_flush_ends_it() {
    let server = |mut peer: Peer, _| async move {
        let mut samples = 0;
        let flush = loop {
            match peer.0.next().await.unwrap().unwrap() {
                Message::Binary(m) => samples += (m.len() - frame::HEADER_BYTES) / 2,
                other => break serde_json::from_str::<Value>(other.to_text().unwrap()).unwrap(),
            }
        };
        assert!((32_000..=36_000).contains(&samples), "{samples}");
        peer.say(json!({"type": "flushed", "id": flush["id"], "source": "microphone", "played": 0, "discarded": samples})).await;
        while let Some(Ok(_)) = peer.0.next().await {}
    };
    let client = |room: Room| async move {
        let voice = room.microphone().clone();
        let minute = tokio::spawn(async move { voice.push(&vec![0; 16_000 * 60], 16_000).await });
        while room.microphone().queued() < Duration::from_millis(1_950) {
            tokio::task::yield_now().await;
        }
        assert!(!minute.is_finished());
        room.microphone().flush().await.unwrap();
        minute.await.unwrap().unwrap();
    };
    check(server, client, MediaSession::default()).await;
}

#[tokio::test]
async fn what_ends_a_session_is_told_to_all_who_wait() {
    let fatal = Error::Refused { kind: ErrorKind::RateLimited, message: "slower".to_owned() };
    let server = |mut peer: Peer, _| async move {
        peer.text().await;
        peer.say(
            json!({"type": "error", "fatal": true, "error": {"code": "rate_limited", "message": "slower"}}),
        )
        .await;
        while let Some(Ok(_)) = peer.0.next().await {}
    };
    let client = |mut room: Room| async move {
        assert_eq!(room.microphone().mark(None).await, Err(fatal.clone()));
        assert!(matches!(room.recv().await, Ok(Some(Event::Room(BotEvent::Roster { .. })))));
        assert_eq!(room.recv().await.unwrap_err(), fatal);
        assert_eq!(room.microphone().push(&[0], 16_000).await, Err(fatal));
    };
    check(server, client, MediaSession::default()).await;
    let broken = |mut peer: Peer, _| async move {
        peer.text().await;
    };
    let client = |mut room: Room| async move {
        assert!(matches!(room.microphone().mark(None).await, Err(Error::ConnectionLost(_))));
        room.recv().await.unwrap();
        assert!(matches!(room.recv().await, Err(Error::ConnectionLost(_))));
    };
    check(broken, client, MediaSession::default()).await;
}

#[tokio::test]
async fn refusals_are_typed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = async {
        let (mut asked, _) = listener.accept().await.unwrap();
        let request = read_request(&mut asked).await;
        assert!(request.starts_with("POST /v1/rooms/demo/guest-token HTTP/1.0\r\n"), "{request}");
        answer(asked, "200 OK", r#"{"token":"guest","expires_in":3600}"#).await;
        let (mut opened, _) = listener.accept().await.unwrap();
        let request = read_request(&mut opened).await;
        assert!(request.starts_with("GET /v1/rooms/demo/bot HTTP/1.1\r\n"), "{request}");
        assert!(request.to_ascii_lowercase().contains("authorization: bearer guest\r\n"), "{request}");
        answer(opened, "403 Forbidden", r#"{"error":{"code":"forbidden","message":"no bots"}}"#).await;
        drop(listener);
    };
    let (refused, ()) = tokio::join!(connect(Options::new(url.clone(), "demo").name("Echo")), serve);
    let forbidden = Error::Refused { kind: ErrorKind::Forbidden, message: "no bots".to_owned() };
    assert_eq!(refused.err(), Some(forbidden));
    let nobody = connect(Options::new(url, "demo")).await.err();
    assert!(matches!(nobody, Some(Error::Connect(_))), "{nobody:?}");
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = vec![0; 4_096];
    let size = socket.read(&mut request).await.unwrap();
    String::from_utf8_lossy(&request[..size]).into_owned()
}

async fn answer(mut socket: TcpStream, status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    socket.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn messages_on_topics_come_and_go() {
    let server = |mut peer: Peer, _start: Value| async move {
        let request = peer.text().await;
        assert_eq!((&request["type"], &request["topics"]), (&json!("topics"), &json!(["chat"])));
        peer.say(json!({"type": "reply", "id": request["id"]})).await;
        let message = [&[1, 5, 1, 4, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0][..], b"chathello"].concat();
        peer.0.send(Message::binary(message)).await.unwrap();
        peer.0.send(Message::binary(vec![1, 5, 0])).await.unwrap();
        let Some(Ok(Message::Binary(said))) = peer.0.next().await else { panic!("a binary message") };
        assert_eq!(
            said[..],
            [&[1, 5, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0][..], b"chathi"].concat()
        );
        peer.close().await;
    };
    let client = |mut room: Room| async move {
        room.listen(["chat"]).await.unwrap();
        let data = loop {
            match room.recv().await.unwrap() {
                Some(Event::Data(data)) => break data,
                Some(_) => {}
                None => panic!("it ended"),
            }
        };
        let sender = data.sender.unwrap();
        assert_eq!((sender.id.as_str(), data.lost_before, data.message.lossy), ("pa_ann", 2, true));
        assert_eq!((&*data.message.topic, &*data.message.payload), ("chat", &b"hello"[..]));
        let (topic, payload) = ("chat".into(), b"hi".as_slice().into());
        room.publish(&Publication { lossy: false, to: vec![sender.key], topic, payload }).await.unwrap();
        while let Ok(Some(_)) = room.recv().await {}
        assert_eq!(room.malformed(), 1);
    };
    check(server, client, Options::new("", "").session).await;
}
