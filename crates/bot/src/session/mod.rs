//! One bot's session without sockets, threads or clock: messages in, [`Action`]s out.
//!
//! The caller feeds text and binary messages, what its attachment says, and time; after each it takes all actions by
//! [`Session::poll`] and asks [`Session::due`] when to come back.

mod control;
mod inbound;
mod rate;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use antiphon_base::{ErrorKind, ParticipantId, ParticipantKey, RoomName, Source, VideoCodec};
use antiphon_shard::{Grants, JoinError};
use antiphon_wire::bot::{BotEvent, MediaSession, PROTOCOL};
use antiphon_wire::control::{ErrorBody, LeaveReason, Request};
use antiphon_wire::topic;

use crate::inject::picture::RawPicture;
use crate::inject::player::{Notice, Player, RATE, Spoken, Upsample};
use crate::limits::Limits;
use crate::transport::{CLOSE_NORMAL, CLOSE_TOO_SLOW, close_code};
use rate::Bucket;

/// Earlier leaders told in [`BotEvent::Dominant`].
const HISTORY: usize = 10;
/// Requests whose reply has not come yet. A bot that has more in flight is told `rate_limited`.
pub(crate) const PENDING: usize = 256;
/// The longest close reason (RFC 6455, 5.5: a control frame has at most 125 bytes, 2 of them the code).
pub(crate) const MAX_REASON: usize = 120;

/// What the caller has to do.
pub(crate) enum Action {
    /// Attach to the room under this name, and answer with [`Session::attached`].
    Attach { name: Option<String> },
    /// Tell the bot.
    Event(BotEvent),
    /// The session runs, or has changed: serve its streams.
    Listen(MediaSession),
    /// Tell the bot a message on a topic.
    Data(Arc<topic::Message>),
    /// Send a message on a topic.
    Publish(topic::Publication),
    /// Encode and send a frame of sound.
    Speak { source: Source, spoken: Spoken },
    /// Send a packet of sound that the bot has encoded.
    SpeakOpus { source: Source, packet: Vec<u8> },
    /// Encode and send a picture.
    Show { source: Source, codec: VideoCodec, bitrate: Option<u32>, picture: RawPicture },
    /// Send an access unit that the bot has encoded.
    ShowEncoded { source: Source, codec: VideoCodec, unit: bytes::Bytes },
    /// The next raw picture is to be a keyframe.
    EncodeKeyframe { source: Source },
    /// Nothing more is sent from this source: end its track.
    EndTrack { source: Source },
    /// Ask the room; the reply comes as a control message.
    Request { id: u32, request: Request },
    /// Ask the publisher of a received stream for a keyframe; tell the bot the outcome under `id`.
    AskKeyframe { id: u32, stream: u32 },
    /// Tell the counts of every stream.
    Stats { id: u32 },
    /// The end: close the connection and leave.
    Close { code: u16, reason: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No `start` yet.
    New,
    /// Attaching.
    Joining,
    Running,
    Closed,
}

/// What a bot sends of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Nothing,
    Raw,
    Encoded,
}

/// Where the bot is, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) id: ParticipantId,
    pub(crate) key: ParticipantKey,
    pub(crate) room: RoomName,
    /// When `media_us` was 0.
    pub(crate) epoch_us: u64,
}

/// The state of one session.
pub(crate) struct Session {
    limits: Limits,
    grants: Grants,
    phase: Phase,
    /// When media time was 0.
    epoch: Instant,
    media: MediaSession,
    actions: VecDeque<Action>,
    texts: Bucket,
    frames: Bucket,
    bytes: Bucket,
    voice: Player,
    screen_voice: Player,
    sending: [Sending; 4],
    /// A frame for a source that the session does not send was answered with an error since the last change.
    refused: [bool; 4],
    /// Nothing is sent of these; queues play on unheard.
    muted: [bool; 4],
    /// The roster has been told; streams follow it, because they name participants.
    rostered: bool,
    dominant: Vec<ParticipantId>,
    history: VecDeque<ParticipantId>,
    /// Our request number to the bot's.
    pending: BTreeMap<u32, u32>,
    next_request: u32,
}

impl Session {
    /// A session that waits for `start`. `upsample` makes a resampler for each audio source.
    pub(crate) fn new(
        now: Instant,
        limits: Limits,
        grants: Grants,
        upsample: impl Fn() -> Box<dyn Upsample>,
    ) -> Self {
        let player = || Player::new(limits.queued_audio, limits.marks, upsample());
        Self {
            grants,
            phase: Phase::New,
            epoch: now,
            media: MediaSession::default(),
            actions: VecDeque::new(),
            texts: Bucket::new(now, u64::from(limits.texts_per_second), 4),
            frames: Bucket::new(now, u64::from(limits.frames_per_second), 4),
            bytes: Bucket::new(now, limits.bytes_per_second, 2),
            voice: player(),
            screen_voice: player(),
            sending: [Sending::Nothing; 4],
            refused: [false; 4],
            muted: [false; 4],
            rostered: false,
            dominant: Vec::new(),
            history: VecDeque::new(),
            pending: BTreeMap::new(),
            next_request: 1,
            limits,
        }
    }

    /// What to do next.
    pub(crate) fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::New => Some(self.epoch + self.limits.start_timeout),
            Phase::Running => [self.voice.due(), self.screen_voice.due()].into_iter().flatten().min(),
            Phase::Joining | Phase::Closed => None,
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::New if now >= self.epoch + self.limits.start_timeout => {
                let message = "the first message must be start, and come in time".into();
                self.fatal_with(ErrorBody { code: ErrorKind::BadRequest, message }, CLOSE_TOO_SLOW);
            }
            Phase::Running => {
                for source in [Source::Microphone, Source::ScreenAudio] {
                    let spoken = self.player(source).poll(now).filter(|_| !self.muted[source.index()]);
                    self.actions.extend(spoken.map(|spoken| Action::Speak { source, spoken }));
                    self.tell_notices(now, source);
                }
            }
            Phase::New | Phase::Joining | Phase::Closed => {}
        }
    }

    /// The answer to [`Action::Attach`].
    pub(crate) fn attached(&mut self, result: Result<Standing, JoinError>) {
        if self.phase != Phase::Joining {
            return;
        }
        match result {
            Ok(Standing { id, key, room, epoch_us }) => {
                self.phase = Phase::Running;
                self.tell(BotEvent::Started { protocol: PROTOCOL, participant: id, key, room, epoch_us });
            }
            Err(error) => self.fatal(error.kind, error.message),
        }
    }

    /// The attachment's events have ended without a word.
    pub(crate) fn lost(&mut self) {
        if self.phase != Phase::Closed {
            self.tell(BotEvent::Closed { reason: LeaveReason::ConnectionLost });
            self.close(CLOSE_TOO_SLOW, "the room let the bot go".into());
        }
    }

    /// The session has ended; nothing but the remaining actions is left.
    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    fn tell(&mut self, event: BotEvent) {
        self.actions.push_back(Action::Event(event));
    }

    fn reply(&mut self, id: u32, result: Result<(), ErrorBody>) {
        self.tell(BotEvent::Reply { id, error: result.err() });
    }

    fn complain(&mut self, code: ErrorKind, message: impl Into<String>) {
        self.tell(BotEvent::Error { error: ErrorBody { code, message: message.into() }, fatal: false });
    }

    fn fatal(&mut self, code: ErrorKind, message: impl Into<String>) {
        self.fatal_with(ErrorBody { code, message: message.into() }, close_code(code));
    }

    fn fatal_with(&mut self, error: ErrorBody, code: u16) {
        if self.phase == Phase::Closed {
            return;
        }
        let reason = error.message.clone();
        self.tell(BotEvent::Error { error, fatal: true });
        self.close(code, reason);
    }

    fn close(&mut self, code: u16, mut reason: String) {
        self.phase = Phase::Closed;
        let cut = (0..=MAX_REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        reason.truncate(cut);
        self.actions.push_back(Action::Close { code, reason });
    }

    fn player(&mut self, source: Source) -> &mut Player {
        if source == Source::ScreenAudio { &mut self.screen_voice } else { &mut self.voice }
    }

    /// Samples per second in which positions of a source are told.
    fn told_rate(&self, source: Source) -> u32 {
        let audio = if source == Source::ScreenAudio { &self.media.screen_audio } else { &self.media.audio };
        audio.sample_rate
    }

    fn media_us(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn tell_notices(&mut self, now: Instant, source: Source) {
        let rate = self.told_rate(source);
        let told = |samples: u64| samples * u64::from(rate) / u64::from(RATE);
        let media_us = self.media_us(now);
        while let Some(notice) = self.player(source).notice() {
            self.tell(match notice {
                Notice::Mark { name, sample, flushed } => {
                    BotEvent::MarkPlayed { name, source, sample: told(sample), flushed, media_us }
                }
                Notice::Queue { queued, state } => {
                    let queued_ms = u32::try_from(queued / 48).unwrap_or(u32::MAX);
                    BotEvent::Queue { source, queued_ms, state }
                }
            });
        }
    }

    /// The connection has ended from the bot's side.
    pub(crate) fn hung_up(&mut self) {
        if self.phase != Phase::Closed {
            self.close(CLOSE_NORMAL, String::new());
        }
    }
}

#[cfg(test)]
mod tests;
