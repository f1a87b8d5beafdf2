//! The JSON half of a bot's WebSocket: text messages; media travel as binary messages ([`crate::frame`]).
//!
//! The bot opens `GET /v1/rooms/{room}/bot`, sends [`BotMessage::Start`] with its media session and gets
//! [`BotEvent::Started`]. Everything in the session can be changed live by [`BotMessage::Update`].

use antiphon_base::{Codec, ParticipantId, ParticipantKey, PixelFormat, RoomName, Source, VideoCodec};
use serde::{Deserialize, Serialize};

use crate::control::{ControlError, ErrorBody, LayerWish, LeaveReason, ParticipantInfo, RecordingState};

/// The version of the frame protocol and of these messages.
pub const PROTOCOL: u32 = 1;
/// The largest text message from a bot, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 65_536;
/// The longest mark name, in bytes.
pub const MAX_MARK_BYTES: usize = 128;
/// The most participants a session may list by id.
pub const MAX_LISTED: usize = 256;

/// Which way a modality flows, seen from the bot (RFC 4566 words).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Both ways.
    Sendrecv,
    /// The bot listens.
    Recvonly,
    /// The bot speaks.
    Sendonly,
    /// Neither.
    #[default]
    Inactive,
}

impl Direction {
    /// The bot gets media.
    pub fn receives(self) -> bool {
        matches!(self, Self::Sendrecv | Self::Recvonly)
    }

    /// The bot gives media.
    pub fn sends(self) -> bool {
        matches!(self, Self::Sendrecv | Self::Sendonly)
    }
}

/// Whose media a bot wants: `"all"`, `{"top": 3}` (the dominant ones), or `{"ids": ["pa_..."]}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Participants {
    /// Everybody (for video: up to the server's limit of decoded streams, dominant first).
    #[default]
    All,
    /// The most dominant ones.
    Top(u8),
    /// Those listed.
    Ids(Vec<ParticipantId>),
}

/// The mixed stream of an audio session: N-minus-one, without the bot's own voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// The four most dominant speakers.
    Dominant,
    /// Everybody.
    All,
}

/// How received audio comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioForm {
    /// Signed 16 bit little endian.
    #[default]
    Pcm,
    /// As the sender coded it, packet by packet.
    Encoded,
}

/// Audio of a media session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudioSession {
    /// Which way.
    pub direction: Direction,
    /// Samples per second of what is received, and by default of what is sent: 8000, 16000, 24000 or 48000.
    pub sample_rate: u32,
    /// Raw or encoded.
    pub form: AudioForm,
    /// One stream per participant.
    pub unmixed: bool,
    /// One mixed stream besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixed: Option<Mix>,
    /// Whose, unmixed.
    pub participants: Participants,
}

impl Default for AudioSession {
    fn default() -> Self {
        Self {
            direction: Direction::Inactive,
            sample_rate: 16_000,
            form: AudioForm::Pcm,
            unmixed: true,
            mixed: None,
            participants: Participants::All,
        }
    }
}

/// How received video comes, and in what layout raw pictures are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoForm {
    /// Planes Y, U, V.
    I420,
    /// Planes Y, UV.
    Nv12,
    /// Red, green, blue.
    Rgb24,
    /// Blue, green, red.
    Bgr24,
    /// Red, green, blue, alpha.
    Rgba,
    /// As the sender coded it, access unit by access unit.
    Encoded,
}

impl VideoForm {
    /// The layout, unless encoded.
    pub fn pixel_format(self) -> Option<PixelFormat> {
        match self {
            Self::I420 => Some(PixelFormat::I420),
            Self::Nv12 => Some(PixelFormat::Nv12),
            Self::Rgb24 => Some(PixelFormat::Rgb24),
            Self::Bgr24 => Some(PixelFormat::Bgr24),
            Self::Rgba => Some(PixelFormat::Rgba),
            Self::Encoded => None,
        }
    }
}

/// Camera or screen of a media session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VideoSession {
    /// Which way.
    pub direction: Direction,
    /// Layout of received pictures.
    pub form: VideoForm,
    /// Scale to this height (360, 720, 1080), keeping the shape; absent: native size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
    /// Pictures per second at most, 1 to 30.
    pub max_frame_rate: u8,
    /// Whose.
    pub participants: Participants,
    /// What raw pictures of the bot are encoded in for the room; `vp8` reaches every browser.
    pub send_codec: VideoCodec,
    /// Bits per second of the encoder for what the bot sends; absent: by picture size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_bitrate: Option<u32>,
}

impl Default for VideoSession {
    fn default() -> Self {
        Self {
            direction: Direction::Inactive,
            form: VideoForm::I420,
            height: None,
            max_frame_rate: 30,
            participants: Participants::All,
            send_codec: VideoCodec::Vp8,
            send_bitrate: None,
        }
    }
}

/// What a bot wants to get and give. What is left out is inactive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediaSession {
    /// Microphones; the bot's own voice.
    pub audio: AudioSession,
    /// Cameras; the bot's own face.
    pub camera: VideoSession,
    /// Screens; the bot's own.
    pub screen: VideoSession,
    /// Sound of screens; the bot's own.
    pub screen_audio: AudioSession,
}

/// A change: each modality given replaces the old one whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionUpdate {
    /// New audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioSession>,
    /// New camera.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<VideoSession>,
    /// New screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screen: Option<VideoSession>,
    /// New screen audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screen_audio: Option<AudioSession>,
}

/// What a bot says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BotMessage {
    /// The first message, once.
    Start {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Name to show; by default the token's.
        #[serde(default)]
        name: Option<String>,
        /// What it wants.
        #[serde(default)]
        session: MediaSession,
    },
    /// Change the session.
    Update {
        /// Comes back in the reply.
        id: u32,
        /// What changes.
        session: SessionUpdate,
    },
    /// Throw away queued audio or video of one source; playing stops within one frame.
    Flush {
        /// Comes back in [`BotEvent::Flushed`].
        id: u32,
        /// `microphone` or `screen_audio`.
        source: Source,
    },
    /// Tell me when everything queued so far has been played.
    Mark {
        /// Comes back in [`BotEvent::MarkPlayed`].
        name: String,
        /// `microphone` or `screen_audio`.
        source: Source,
    },
    /// Hold the queue; silence goes out.
    Pause {
        /// Comes back in the reply.
        id: u32,
        /// Which.
        source: Source,
    },
    /// Go on playing.
    Resume {
        /// Comes back in the reply.
        id: u32,
        /// Which.
        source: Source,
    },
    /// Mute or unmute what the bot sends.
    Mute {
        /// Comes back in the reply.
        id: u32,
        /// Which.
        source: Source,
        /// Whether.
        muted: bool,
    },
    /// Ask a sender for a keyframe (encoded forms).
    RequestKeyframe {
        /// Comes back in the reply.
        id: u32,
        /// The stream.
        stream: u32,
    },
    /// Listen to these topics, and to no others. Messages come, and go, as binary messages ([`crate::topic`]).
    Topics {
        /// Comes back in the reply.
        id: u32,
        /// `*` stands for all.
        topics: Vec<String>,
    },
    /// The announcement of a recording was heard, as on the control channel.
    AcknowledgeRecording {
        /// Comes back in the reply.
        id: u32,
        /// Which recording.
        recording: String,
        /// Whether whoever the bot speaks for agrees, where the room asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consent: Option<bool>,
    },
    /// Counts of every stream, now.
    Stats {
        /// Comes back in [`BotEvent::Stats`].
        id: u32,
    },
}

/// What the payload of a stream's frames is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamForm {
    /// PCM s16le, mono, 20 ms per frame.
    Pcm {
        /// Samples per second.
        sample_rate: u32,
    },
    /// Raw pictures.
    Picture {
        /// Layout.
        pixel_format: PixelFormat,
    },
    /// Access units.
    Encoded {
        /// Codec.
        codec: Codec,
    },
}

/// Counts of one stream. `received = delivered + dropped + queued`, and `gaps` counts what never arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStats {
    /// The stream.
    pub stream: u32,
    /// Frames that came into being for this bot.
    pub received: u64,
    /// Frames handed to the transport.
    pub delivered: u64,
    /// Frames dropped because the bot was slow.
    pub dropped_slow: u64,
    /// Frames dropped by the rate the bot asked for.
    pub dropped_rate: u64,
    /// Frames dropped because they could not be decoded.
    pub dropped_undecodable: u64,
    /// Frames lost on the way to the server.
    pub gaps: u64,
    /// Frames waiting now.
    pub queued: u64,
}

/// What the server says to a bot. Roster events are those of the control channel, with the same sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BotEvent {
    /// The session runs.
    Started {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The bot's id.
        participant: ParticipantId,
        /// The bot's number.
        key: ParticipantKey,
        /// Where it is.
        room: RoomName,
        /// When `media_us` was 0, in microseconds since the Unix epoch on the server.
        epoch_us: u64,
    },
    /// Everybody, as of `seq`.
    Roster {
        /// Position in the delta sequence.
        seq: u64,
        /// Everybody including the bot.
        participants: Vec<ParticipantInfo>,
    },
    /// Somebody came.
    ParticipantJoined {
        /// Position in the delta sequence.
        seq: u64,
        /// Who.
        participant: ParticipantInfo,
    },
    /// Somebody changed.
    ParticipantUpdated {
        /// Position in the delta sequence.
        seq: u64,
        /// The whole new state.
        participant: ParticipantInfo,
    },
    /// Somebody went.
    ParticipantLeft {
        /// Position in the delta sequence.
        seq: u64,
        /// Who.
        participant: ParticipantId,
        /// Why.
        reason: LeaveReason,
    },
    /// A screen share began.
    ScreenStarted {
        /// Position in the delta sequence.
        seq: u64,
        /// Whose.
        participant: ParticipantId,
    },
    /// A screen share ended.
    ScreenStopped {
        /// Position in the delta sequence.
        seq: u64,
        /// Whose.
        participant: ParticipantId,
    },
    /// The dominant speakers changed; the first leads.
    Dominant {
        /// In order.
        participants: Vec<ParticipantId>,
        /// Earlier leaders, latest first, at most 10.
        history: Vec<ParticipantId>,
    },
    /// Frames with this stream number will follow.
    StreamStarted {
        /// Number in the frame header.
        stream: u32,
        /// Whose; absent for a mix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        participant: Option<ParticipantId>,
        /// What from.
        source: Source,
        /// What the payload is.
        form: StreamForm,
    },
    /// No more frames with this number.
    StreamEnded {
        /// The stream, with its last counts.
        stats: StreamStats,
    },
    /// A stream cannot be delivered as asked.
    StreamUnavailable {
        /// Whose.
        participant: ParticipantId,
        /// What from.
        source: Source,
        /// Why, e.g. `unsupported_codec`.
        error: ErrorBody,
    },
    /// All queued before the mark was played.
    MarkPlayed {
        /// The mark.
        name: String,
        /// Which.
        source: Source,
        /// Number of the first sample after the mark, at the source's sample rate, since the session began to send.
        sample: u64,
        /// The queue was flushed before it was reached.
        flushed: bool,
        /// When, in session media time.
        media_us: u64,
    },
    /// The queue is empty now.
    Flushed {
        /// The request's id.
        id: u32,
        /// Which.
        source: Source,
        /// Samples played until now since the session began to send.
        played: u64,
        /// Samples thrown away.
        discarded: u64,
    },
    /// How much is queued, told when it crosses a water mark: stop at `high`, go on at `low`.
    Queue {
        /// Which.
        source: Source,
        /// Milliseconds queued.
        queued_ms: u32,
        /// `low`, `high`, `empty`, or `overflow` (samples were dropped).
        state: QueueState,
    },
    /// The room needs a keyframe of what the bot sends encoded.
    KeyframeNeeded {
        /// Which.
        source: Source,
    },
    /// Messages that the bot sent on a topic went to nobody; said at most once per second.
    DataRefused {
        /// The topic of the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        /// How many since this was last said.
        count: u32,
        /// Why the last one was.
        error: ErrorBody,
    },
    /// What of a track of the bot is watched: it need not encode the rest.
    Layers {
        /// Which.
        source: Source,
        /// A bot sends one layer, 0.
        layers: Vec<LayerWish>,
    },
    /// Counts.
    Stats {
        /// The request's id.
        id: u32,
        /// Each stream.
        streams: Vec<StreamStats>,
    },
    /// Answer to a request.
    Reply {
        /// The request's id.
        id: u32,
        /// Absent on success.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorBody>,
    },
    /// Something the bot sent was wrong; where `fatal`, the connection closes with a code.
    Error {
        /// What.
        error: ErrorBody,
        /// Whether this ends the connection.
        fatal: bool,
    },
    /// The room is being recorded, or is about to be, or is not any more; as on the control channel.
    Recording {
        /// Which.
        recording: String,
        /// What it is doing.
        state: RecordingState,
        /// The room asks each for consent.
        consent: bool,
    },
    /// The server stops: come back elsewhere before the deadline.
    Draining {
        /// Seconds left.
        deadline_s: u32,
    },
    /// The bot is out of the room; the connection closes after this.
    Closed {
        /// Why.
        reason: LeaveReason,
    },
}

/// State of an injection queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueState {
    /// Less than 200 ms is queued: send more.
    Low,
    /// More than half of the limit is queued: wait.
    High,
    /// Nothing is queued; silence goes out.
    Empty,
    /// Over the limit; samples were dropped.
    Overflow,
}

impl BotMessage {
    /// Parses one text message from a bot and checks its limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(ControlError::TooLarge(bytes.len()));
        }
        let message: Self =
            serde_json::from_slice(bytes).map_err(|e| ControlError::Malformed(e.to_string()))?;
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), ControlError> {
        match self {
            Self::Start { protocol, name, session } => {
                if *protocol != PROTOCOL {
                    return Err(ControlError::Limit("this server speaks protocol 1"));
                }
                name.as_deref().map_or(Ok(()), crate::control::check_display_name)?;
                session.audio.check()?;
                session.screen_audio.check()?;
                session.camera.check()?;
                session.screen.check()
            }
            Self::Update { session, .. } => {
                session.audio.as_ref().map_or(Ok(()), AudioSession::check)?;
                session.screen_audio.as_ref().map_or(Ok(()), AudioSession::check)?;
                session.camera.as_ref().map_or(Ok(()), VideoSession::check)?;
                session.screen.as_ref().map_or(Ok(()), VideoSession::check)
            }
            Self::Topics { topics, .. } => crate::control::check_topics(topics),
            Self::Mark { name, .. } if name.len() > MAX_MARK_BYTES => {
                Err(ControlError::Limit("a mark's name has at most 128 bytes"))
            }
            _ => Ok(()),
        }
    }
}

impl AudioSession {
    fn check(&self) -> Result<(), ControlError> {
        if ![8_000, 16_000, 24_000, 48_000].contains(&self.sample_rate) {
            return Err(ControlError::Limit("sample_rate is one of 8000, 16000, 24000, 48000"));
        }
        self.participants.check()
    }
}

impl VideoSession {
    fn check(&self) -> Result<(), ControlError> {
        if !self.height.is_none_or(|h| [180, 360, 540, 720, 1080].contains(&h)) {
            return Err(ControlError::Limit("height is one of 180, 360, 540, 720, 1080"));
        }
        if !(1..=30).contains(&self.max_frame_rate) {
            return Err(ControlError::Limit("max_frame_rate is 1 to 30"));
        }
        if !matches!(self.send_codec, VideoCodec::Vp8 | VideoCodec::H264) {
            return Err(ControlError::Limit("send_codec is vp8 or h264"));
        }
        if !self.send_bitrate.is_none_or(|b| (30_000..=20_000_000).contains(&b)) {
            return Err(ControlError::Limit("send_bitrate is 30000 to 20000000"));
        }
        self.participants.check()
    }
}

impl Participants {
    fn check(&self) -> Result<(), ControlError> {
        match self {
            Self::Ids(ids) if ids.len() > MAX_LISTED => {
                Err(ControlError::Limit("at most 256 participants are listed"))
            }
            _ => Ok(()),
        }
    }
}

impl BotEvent {
    /// The message as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("no map with non-text keys, no fallible Serialize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_message_reads_as_documented() {
        let text = r#"{"type":"start","protocol":1,"name":"echo","session":{
            "audio":{"direction":"sendrecv","mixed":"dominant","participants":{"top":3}},
            "camera":{"direction":"recvonly","form":"rgb24","height":720,"participants":"all"}}}"#;
        let BotMessage::Start { session, .. } = BotMessage::parse(text.as_bytes()).unwrap() else {
            panic!("start")
        };
        assert_eq!(session.audio.sample_rate, 16_000);
        assert_eq!(session.audio.mixed, Some(Mix::Dominant));
        assert_eq!(session.audio.participants, Participants::Top(3));
        assert_eq!(session.camera.form, VideoForm::Rgb24);
        assert_eq!(session.screen.direction, Direction::Inactive);
    }

    #[test]
    fn limits_are_kept() {
        for bad in [
            r#"{"type":"start","protocol":2}"#,
            r#"{"type":"start","protocol":1,"session":{"audio":{"sample_rate":44100}}}"#,
            r#"{"type":"start","protocol":1,"session":{"camera":{"height":721}}}"#,
            r#"{"type":"start","protocol":1,"session":{"camera":{"max_frame_rate":0}}}"#,
            r#"{"type":"start","protocol":1,"session":{"camera":{"send_codec":"av1"}}}"#,
        ] {
            assert!(matches!(BotMessage::parse(bad.as_bytes()), Err(ControlError::Limit(_))), "{bad}");
        }
        let unknown = r#"{"type":"start","protocol":1,"session":{"audio":{"rate":1}}}"#;
        assert!(matches!(BotMessage::parse(unknown.as_bytes()), Err(ControlError::Malformed(_))));
    }
}
