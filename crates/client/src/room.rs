//! A bot's place in a room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use antiphon_base::{ParticipantId, ParticipantKey, RoomName, Source};
use antiphon_wire::bot::{BotEvent, BotMessage, MediaSession, PROTOCOL, SessionUpdate, StreamStats};
use antiphon_wire::control::{LeaveReason, ParticipantInfo};
use antiphon_wire::topic::Publication;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::dial::{dial, within};
use crate::error::Error;
use crate::frames::{Data, Event};
use crate::inbox::Item;
use crate::options::Options;
use crate::output::{AudioOutput, VideoOutput};
use crate::pump;
use crate::shared::{MAX_OUTGOING, Shared, lock, text};

/// A place in a room. Dropping it leaves; [`Room::close`] leaves and waits for the goodbye.
pub struct Room {
    /// The bot's own id.
    pub id: ParticipantId,
    /// The bot's own number.
    pub key: ParticipantKey,
    /// The room's name.
    pub name: RoomName,
    /// When `clocks.media_us` was 0: microseconds since the Unix epoch, on the server's clock.
    pub epoch_us: u64,
    shared: Arc<Shared>,
    reader: tokio::task::JoinHandle<()>,
    microphone: AudioOutput,
    screen_audio: AudioOutput,
    camera: VideoOutput,
    screen: VideoOutput,
}

/// Joins a room as a bot; returns when the server has let it in.
pub async fn connect(options: Options) -> Result<Room, Error> {
    within(options.timeout, join(&options)).await
}

async fn join(options: &Options) -> Result<Room, Error> {
    let start = text(&BotMessage::Start {
        protocol: PROTOCOL,
        name: options.name.clone(),
        session: options.session.clone(),
    })?;
    let mut socket = dial(options).await?;
    socket.send(start).await.map_err(|e| Error::ConnectionLost(e.to_string()))?;
    let BotEvent::Started { participant, key, room, epoch_us, .. } = started(&mut socket).await? else {
        return Err(Error::Protocol("the first message is not `started`".to_owned()));
    };
    let (sink, stream) = socket.split();
    let (outgoing, queue) = mpsc::channel(MAX_OUTGOING);
    let shared = Arc::new(Shared::new(outgoing, options.session.clone()));
    tokio::spawn(pump::write(sink, queue));
    let reader = tokio::spawn(pump::read(stream, shared.clone()));
    Ok(Room {
        id: participant,
        key,
        name: room,
        epoch_us,
        microphone: AudioOutput::new(&shared, Source::Microphone),
        screen_audio: AudioOutput::new(&shared, Source::ScreenAudio),
        camera: VideoOutput::new(&shared, Source::Camera),
        screen: VideoOutput::new(&shared, Source::Screen),
        shared,
        reader,
    })
}

async fn started(socket: &mut WebSocketStream<TcpStream>) -> Result<BotEvent, Error> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return match serde_json::from_str(&text).map_err(|e| Error::Protocol(e.to_string()))? {
                    BotEvent::Error { error, .. } => {
                        Err(Error::Refused { kind: error.code, message: error.message })
                    }
                    event => Ok(event),
                };
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(other)) => return Err(Error::ConnectionLost(format!("closed at once: {other:?}"))),
            Some(Err(e)) => return Err(Error::ConnectionLost(e.to_string())),
            None => return Err(Error::ConnectionLost("closed at once".to_owned())),
        }
    }
}

impl Room {
    /// The next frame or event, in the order of arrival; `None` after a goodbye, an error after anything else.
    /// Safe to cancel.
    pub async fn recv(&mut self) -> Result<Option<Event>, Error> {
        loop {
            // Looked at before the inbox, so that nothing put before the end is missed.
            let end = self.shared.ended();
            let item = lock(&self.shared.inbox).take();
            match (item, end) {
                (Some(Item::Event(event)), _) => return Ok(Some(Event::Room(*event))),
                (Some(Item::Frame(frame, lost)), _) => {
                    return Ok(Some(frame.into_event(&lock(&self.shared.roster), lost)));
                }
                (None, Some(Error::Closed(_))) => return Ok(None),
                (None, Some(error)) => return Err(error),
                (Some(Item::Data(message, lost_before)), _) => {
                    let sender = lock(&self.shared.roster).at(message.from);
                    return Ok(Some(Event::Data(Data { sender, message, lost_before })));
                }
                // A permit is kept if something has come meanwhile.
                (None, None) => self.shared.arrived.notified().await,
            }
        }
    }

    /// Everybody, the bot included, in the order of their coming. Empty until the first roster event.
    pub fn participants(&self) -> Vec<Arc<ParticipantInfo>> {
        lock(&self.shared.roster).everybody()
    }

    /// Who leads the conversation, in order.
    pub fn dominant(&self) -> Vec<ParticipantId> {
        lock(&self.shared.roster).dominant.clone()
    }

    /// The bot's voice.
    pub fn microphone(&self) -> &AudioOutput {
        &self.microphone
    }

    /// The sound of the bot's screen.
    pub fn screen_audio(&self) -> &AudioOutput {
        &self.screen_audio
    }

    /// The bot's face.
    pub fn camera(&self) -> &VideoOutput {
        &self.camera
    }

    /// The bot's screen.
    pub fn screen(&self) -> &VideoOutput {
        &self.screen
    }

    /// What the bot gets and gives now.
    pub fn session(&self) -> MediaSession {
        lock(&self.shared.session).clone()
    }

    /// Changes the session: each modality given replaces the old one.
    pub async fn update(&self, change: SessionUpdate) -> Result<(), Error> {
        let session = change.clone();
        self.shared.request(|id| BotMessage::Update { id, session }).await?;
        let mut session = lock(&self.shared.session);
        let now = &mut *session;
        change.audio.into_iter().for_each(|a| now.audio = a);
        change.camera.into_iter().for_each(|c| now.camera = c);
        change.screen.into_iter().for_each(|s| now.screen = s);
        change.screen_audio.into_iter().for_each(|a| now.screen_audio = a);
        Ok(())
    }

    /// Counts of every stream at the server, now.
    pub async fn stats(&self) -> Result<Vec<StreamStats>, Error> {
        match self.shared.request(|id| BotMessage::Stats { id }).await? {
            BotEvent::Stats { streams, .. } => Ok(streams),
            other => Err(Error::Protocol(format!("a question for counts was answered by {other:?}"))),
        }
    }

    /// Asks the sender of an encoded stream for a keyframe.
    pub async fn request_keyframe(&self, stream: u32) -> Result<(), Error> {
        self.shared.request(|id| BotMessage::RequestKeyframe { id, stream }).await.map(drop)
    }

    /// Answers a recording that asks for consent (`BotEvent::Recording`), for whoever the bot speaks for. One that does not ask is
    /// acknowledged by itself.
    pub async fn consent_to_recording(&self, recording: &str, consent: bool) -> Result<(), Error> {
        let (recording, consent) = (recording.to_owned(), Some(consent));
        self.shared.request(|id| BotMessage::AcknowledgeRecording { id, recording, consent }).await.map(drop)
    }

    /// Listens to these topics and no others (`*`: all); messages come by [`Room::recv`].
    pub async fn listen(&self, topics: impl IntoIterator<Item = impl Into<String>>) -> Result<(), Error> {
        let topics = topics.into_iter().map(Into::into).collect();
        self.shared.request(|id| BotMessage::Topics { id, topics }).await.map(drop)
    }

    /// Sends a message to those who listen to its topic. What the server refuses is told by `BotEvent::DataRefused`.
    pub async fn publish(&self, publication: &Publication) -> Result<(), Error> {
        self.shared.send(Message::Binary(publication.to_bytes().into())).await
    }

    /// Why the server let the bot go, once it has.
    pub fn left(&self) -> Option<LeaveReason> {
        *lock(&self.shared.left)
    }

    /// Messages of the server that this version did not understand, and skipped.
    pub fn malformed(&self) -> u64 {
        self.shared.malformed.load(Ordering::Relaxed)
    }

    /// Events dropped because [`Room::recv`] was not called for long.
    pub fn lost_events(&self) -> u64 {
        lock(&self.shared.inbox).lost_events
    }

    /// Leaves, and waits for the server's goodbye.
    pub async fn close(mut self) {
        if self.shared.send(Message::Close(None)).await.is_ok() {
            // The reader ends at the server's answer; a server that does not answer is not waited for.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), &mut self.reader).await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Where the queue is full the server sees the connection break instead.
        let _ = self.shared.outgoing.try_send(Message::Close(None));
        self.shared.end(Error::Closed(None));
        self.reader.abort();
    }
}
