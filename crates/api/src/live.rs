//! `GET /v1/streams/{name}/live`: a WebSocket (RFC 6455) by which a stream's sound comes as it is written: text messages say
//! what follows, binary ones are PCM.

use std::time::Duration;

use antiphon_record::wav::{Wanted, Weave};
use antiphon_record::{FragmentNumber, Sound, Sounding};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::app::App;
use crate::auth::{AnyRoom, Grant};
use crate::bot;
use crate::contacts;
use crate::error::ApiError;

/// A client has nothing to say but pongs and a close.
const MAX_MESSAGE_BYTES: usize = 1_024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Who listens.
struct Listener {
    to: SplitSink<Socket, Message>,
    /// How long it may take to take a message: it holds a place among the stream's readers.
    patience: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiveQuery {
    track: Option<String>,
    after: Option<String>,
}

/// The handler: checks, then hands the connection to a task.
pub(crate) async fn open(
    State(app): State<App>,
    AnyRoom(claims): AnyRoom,
    Path(name): Path<String>,
    query: Result<Query<LiveQuery>, QueryRejection>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|e| contacts::bad_query(&e))?;
    let recorder = contacts::recorder(&app)?;
    if !claims.has(Grant::Admin) {
        let contact = recorder.contact_of_stream(&name).ok_or(antiphon_record::Error::NoContact)?;
        contacts::may(recorder, &claims, &contact)?;
    }
    let wanted = contacts::wanted(query.track.as_deref())?;
    let number = |text: &String| text.parse::<FragmentNumber>();
    let after = query.after.as_ref().map(number).transpose();
    let after = after.map_err(|e| ApiError::bad_request(format!("after: {e}.")))?;
    let key = bot::handshake(request.method(), request.headers())?;
    let sound = recorder.live(&name, after)?;
    let named = bot::offers(request.headers(), bot::SUBPROTOCOL);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(socket) => run(TokioIo::new(socket), sound, wanted, app.reader_timeout()).await,
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    });
    Ok(bot::switching(key, named))
}

async fn run(socket: TokioIo<Upgraded>, mut sound: Sound, wanted: Wanted, patience: Duration) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    let (to, mut from) = socket.split();
    let mut listener = Listener { to, patience };
    tokio::select! {
        sent = listener.send(&mut sound, wanted) => if sent.is_none() { return },
        () = drain(&mut from) => return,
    }
    let frame = CloseFrame { code: CloseCode::Normal, reason: "the stream has ended".into() };
    let _ = listener.say(Message::Close(Some(frame))).await;
}

/// Until the client goes. What it says is not looked at.
async fn drain(from: &mut SplitStream<Socket>) {
    while let Some(Ok(_)) = from.next().await {}
}

impl Listener {
    /// `None`: it has gone, or does not read.
    async fn say(&mut self, message: Message) -> Option<()> {
        tokio::time::timeout(self.patience, self.to.send(message)).await.ok()?.ok()
    }

    async fn event(&mut self, event: &Value) -> Option<()> {
        self.say(Message::text(event.to_string())).await
    }

    /// Sends all there is. `None`: it has gone, or does not read.
    async fn send(&mut self, sound: &mut Sound, wanted: Wanted) -> Option<()> {
        let mut weave: Option<Weave> = None;
        let (mut rate, mut tracks) = (0, Vec::new());
        while let Some(sounding) = sound.next().await {
            match sounding {
                Sounding::Fragment { number, tracks: now } => {
                    self.event(&json!({ "event": "fragment", "number": number.to_string() })).await?;
                    let now_rate = now.first().map_or(0, |t| t.rate);
                    if now_rate != rate {
                        (rate, weave) = (now_rate, None);
                    }
                    if let Some(weave) = &mut weave {
                        weave.fragment(&now);
                    }
                    tracks = now;
                }
                Sounding::Block { track, at_ms, pcm } => {
                    if weave.is_none() {
                        let mut new = Weave::new(wanted, at_ms, rate);
                        if !new.fragment(&tracks) {
                            self.event(
                                &json!({ "event": "error", "message": "the stream has no such track" }),
                            )
                            .await?;
                            return Some(());
                        }
                        let channels = wanted.channels();
                        let start = json!({
                            "event": "start", "sample_rate": rate, "channels": channels, "time_ms": at_ms,
                        });
                        self.event(&start).await?;
                        weave = Some(new);
                    }
                    let weave = weave.as_mut()?;
                    weave.block(track, at_ms, &pcm);
                    while let Some(bytes) = weave.poll() {
                        self.say(Message::Binary(bytes)).await?;
                    }
                }
                Sounding::Missing => self.event(&json!({ "event": "missing" })).await?,
            }
        }
        self.event(&json!({ "event": "end" })).await
    }
}
