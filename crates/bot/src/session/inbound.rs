//! What the bot says and sends. Input is hostile until parsed; a broken message ends the session, nothing else.

use std::time::Instant;

use antiphon_base::{AudioCodec, ErrorKind, MediaKind, Source, VideoCodec};
use antiphon_wire::bot::{AudioSession, BotEvent, BotMessage, MediaSession, SessionUpdate, VideoSession};
use antiphon_wire::control::{ControlError, ErrorBody, Request};
use antiphon_wire::frame::{self, Format};
use antiphon_wire::topic;

use super::{Action, PENDING, Phase, Sending, Session};
use crate::inject::picture::RawPicture;

impl Session {
    /// A text message came.
    pub(crate) fn text(&mut self, now: Instant, text: &str) {
        if self.phase == Phase::Closed {
            return;
        }
        if !self.texts.take(now, 1) {
            return self.fatal(ErrorKind::RateLimited, "too many text messages: send fewer per second");
        }
        let message = match BotMessage::parse(text.as_bytes()) {
            Ok(message) => message,
            Err(error @ ControlError::TooLarge(_)) => {
                return self.fatal(ErrorKind::TooLarge, error.to_string());
            }
            Err(error) => return self.fatal(ErrorKind::BadRequest, error.to_string()),
        };
        match (self.phase, message) {
            (Phase::New, BotMessage::Start { name, session, .. }) => {
                if let Err(error) = self.permitted(&session) {
                    return self.fatal(error.code, error.message);
                }
                self.media = session;
                self.phase = Phase::Joining;
                self.actions.push_back(Action::Attach { name });
            }
            (Phase::New, _) => self.fatal(ErrorKind::BadRequest, "the first message must be start"),
            (_, BotMessage::Start { .. }) => {
                self.fatal(ErrorKind::BadRequest, "start comes once: use update");
            }
            (_, message) => self.message(now, message),
        }
    }

    fn message(&mut self, now: Instant, message: BotMessage) {
        match message {
            BotMessage::Start { .. } => {}
            BotMessage::Update { id, session } => {
                let result = self.update(session);
                self.reply(id, result);
            }
            BotMessage::Flush { id, source } => match audio_only(source) {
                Ok(()) => self.flush(now, id, source),
                Err(error) => self.reply(id, Err(error)),
            },
            BotMessage::Mark { name, source } => match audio_only(source) {
                Ok(()) if self.player(source).mark(name) => self.tell_notices(now, source),
                Ok(()) => self.complain(ErrorKind::RateLimited, "too many marks wait"),
                Err(error) => self.complain(error.code, error.message),
            },
            BotMessage::Pause { id, source } => self.pause(now, id, source, true),
            BotMessage::Resume { id, source } => self.pause(now, id, source, false),
            BotMessage::Mute { id, source, muted } => self.mute(id, source, muted),
            BotMessage::RequestKeyframe { id, stream } => {
                self.actions.push_back(Action::AskKeyframe { id, stream });
            }
            BotMessage::Topics { id, topics } => self.ask(id, Request::Topics { topics }),
            BotMessage::AcknowledgeRecording { id, recording, consent } => {
                self.ask(id, Request::AcknowledgeRecording { recording, consent });
            }
            BotMessage::Stats { id } => self.actions.push_back(Action::Stats { id }),
        }
    }

    fn flush(&mut self, now: Instant, id: u32, source: Source) {
        let (played, discarded) = self.player(source).flush();
        self.tell_notices(now, source);
        let rate = u64::from(self.told_rate(source));
        let told = |samples: u64| samples * rate / 48_000;
        self.tell(BotEvent::Flushed { id, source, played: told(played), discarded: told(discarded) });
    }

    fn pause(&mut self, now: Instant, id: u32, source: Source, paused: bool) {
        let result = audio_only(source);
        if result.is_ok() {
            self.player(source).pause(now, paused);
        }
        self.reply(id, result);
    }

    fn mute(&mut self, id: u32, source: Source, muted: bool) {
        if std::mem::replace(&mut self.muted[source.index()], muted) && !muted {
            // Those who saw nothing of it cannot decode what refers to it.
            self.keyframe(source);
        }
        self.ask(id, Request::Mute { source, muted });
    }

    /// Passes a request on to the room; its reply goes back under the bot's id.
    fn ask(&mut self, id: u32, request: Request) {
        if self.pending.len() >= PENDING {
            let message = "too many requests wait for their reply".into();
            return self.reply(id, Err(ErrorBody { code: ErrorKind::RateLimited, message }));
        }
        let ours = self.next_request;
        self.next_request = self.next_request.wrapping_add(1);
        self.pending.insert(ours, id);
        self.actions.push_back(Action::Request { id: ours, request });
    }

    /// Whether the token allows a session.
    fn permitted(&self, media: &MediaSession) -> Result<(), ErrorBody> {
        let directions = [
            media.audio.direction,
            media.camera.direction,
            media.screen.direction,
            media.screen_audio.direction,
        ];
        let refuse = |message: &str| {
            Err(ErrorBody {
                code: ErrorKind::Forbidden,
                message: format!("the token does not grant {message}"),
            })
        };
        if !self.grants.subscribe && directions.iter().any(|d| d.receives()) {
            return refuse("subscribe: ask for sendonly or inactive");
        }
        if !self.grants.publish && directions.iter().any(|d| d.sends()) {
            return refuse("publish: ask for recvonly or inactive");
        }
        Ok(())
    }

    fn update(&mut self, update: SessionUpdate) -> Result<(), ErrorBody> {
        let old = &self.media;
        let new = MediaSession {
            audio: update.audio.unwrap_or_else(|| old.audio.clone()),
            camera: update.camera.unwrap_or_else(|| old.camera.clone()),
            screen: update.screen.unwrap_or_else(|| old.screen.clone()),
            screen_audio: update.screen_audio.unwrap_or_else(|| old.screen_audio.clone()),
        };
        self.permitted(&new)?;
        self.media = new;
        self.refused = [false; 4];
        for source in Source::ALL {
            if !self.sends(source) && self.sending[source.index()] != Sending::Nothing {
                self.sending[source.index()] = Sending::Nothing;
                if source.kind() == MediaKind::Audio {
                    self.player(source).end();
                }
                self.actions.push_back(Action::EndTrack { source });
            }
        }
        if self.phase == Phase::Running && self.rostered {
            self.actions.push_back(Action::Listen(self.media.clone()));
        }
        Ok(())
    }

    fn audio(&self, source: Source) -> Option<&AudioSession> {
        match source {
            Source::Microphone => Some(&self.media.audio),
            Source::ScreenAudio => Some(&self.media.screen_audio),
            Source::Camera | Source::Screen => None,
        }
    }

    fn video(&self, source: Source) -> Option<&VideoSession> {
        match source {
            Source::Camera => Some(&self.media.camera),
            Source::Screen => Some(&self.media.screen),
            Source::Microphone | Source::ScreenAudio => None,
        }
    }

    fn sends(&self, source: Source) -> bool {
        self.audio(source).is_some_and(|a| a.direction.sends())
            || self.video(source).is_some_and(|v| v.direction.sends())
    }

    /// A binary message came.
    pub(crate) fn binary(&mut self, now: Instant, message: &bytes::Bytes) {
        match self.phase {
            Phase::Closed => return,
            Phase::New => return self.fatal(ErrorKind::BadRequest, "the first message must be start"),
            Phase::Joining | Phase::Running => {}
        }
        let len = message.len();
        if len > frame::MAX_MESSAGE_BYTES {
            let text = format!("a frame of {len} bytes is over the limit of {}", frame::MAX_MESSAGE_BYTES);
            return self.fatal(ErrorKind::TooLarge, text);
        }
        if !self.frames.take(now, 1) || !self.bytes.take(now, len as u64) {
            return self.fatal(ErrorKind::RateLimited, "too many frames: send less per second");
        }
        if message.get(1) == Some(&topic::KIND) {
            return match topic::parse(message) {
                Ok(publication) => self.actions.push_back(Action::Publish(publication)),
                Err(error) => self.fatal(ErrorKind::BadRequest, error.to_string()),
            };
        }
        let (header, payload) = match frame::parse(message) {
            Ok(parsed) => parsed,
            Err(error) => return self.fatal(ErrorKind::BadRequest, error.to_string()),
        };
        let (source, payload_at) = (header.source, len - payload.len());
        let is_audio = matches!(header.format, Format::Pcm { .. } | Format::EncodedAudio { .. });
        if is_audio != (source.kind() == MediaKind::Audio) {
            let text = format!("the frame's kind does not fit its source {}", source.as_str());
            return self.fatal(ErrorKind::BadRequest, text);
        }
        if !self.sends(source) {
            if !std::mem::replace(&mut self.refused[source.index()], true) {
                let text = format!("the session does not send {}: update its direction", source.as_str());
                self.complain(ErrorKind::Conflict, text);
            }
            return;
        }
        self.frame(now, source, header.format, &message.slice(payload_at..), message);
    }

    fn frame(
        &mut self,
        now: Instant,
        source: Source,
        format: Format,
        payload: &bytes::Bytes,
        message: &bytes::Bytes,
    ) {
        let payload_at = message.len() - payload.len();
        let (codec, bitrate) =
            self.video(source).map_or((VideoCodec::Vp8, None), |v| (v.send_codec, v.send_bitrate));
        let unsupported =
            |what: &str| format!("{what} cannot be taken: send raw media, or {}", "opus, vp8, h264");
        let muted = self.muted[source.index()];
        let sending = match format {
            Format::Pcm { sample_rate, channels, .. } => {
                if ![8_000, 16_000, 24_000, 48_000].contains(&sample_rate) {
                    let text = format!("{sample_rate} samples per second: use 8000, 16000, 24000 or 48000");
                    return self.fatal(ErrorKind::BadRequest, text);
                }
                let samples = mono(payload, channels);
                self.player(source).push(now, sample_rate, samples);
                self.tell_notices(now, source);
                Sending::Raw
            }
            Format::Picture { format, width, height, .. } => {
                let (width, height) = (u32::from(width), u32::from(height));
                let picture = RawPicture { format, width, height, message: message.clone(), payload_at };
                let show = Action::Show { source, codec, bitrate, picture };
                self.actions.extend((!muted).then_some(show));
                Sending::Raw
            }
            Format::EncodedAudio { codec: AudioCodec::Opus, .. } => {
                if payload.is_empty() || payload.len() > 1_200 {
                    return self.fatal(ErrorKind::BadRequest, "an opus packet has 1 to 1200 bytes");
                }
                if self.sending[source.index()] == Sending::Raw {
                    // With what is queued of raw sound its track would end and begin at each frame.
                    self.player(source).end();
                    self.tell_notices(now, source);
                }
                let speak = Action::SpeakOpus { source, packet: payload.to_vec() };
                self.actions.extend((!muted).then_some(speak));
                Sending::Encoded
            }
            Format::EncodedVideo { codec: codec @ (VideoCodec::Vp8 | VideoCodec::H264), .. } => {
                let show = Action::ShowEncoded { source, codec, unit: payload.clone() };
                self.actions.extend((!muted).then_some(show));
                Sending::Encoded
            }
            Format::EncodedAudio { codec, .. } => {
                return self.complain(ErrorKind::UnsupportedCodec, unsupported(codec.as_str()));
            }
            Format::EncodedVideo { codec, .. } => {
                return self.complain(ErrorKind::UnsupportedCodec, unsupported(codec.as_str()));
            }
        };
        self.sending[source.index()] = sending;
    }
}

fn audio_only(source: Source) -> Result<(), ErrorBody> {
    if source.kind() == MediaKind::Audio {
        return Ok(());
    }
    let message = format!("{} has no queue: use microphone or screen_audio", source.as_str());
    Err(ErrorBody { code: ErrorKind::BadRequest, message })
}

/// Samples of one channel; two are averaged.
fn mono(payload: &[u8], channels: u8) -> Vec<i16> {
    let sample = |b: &[u8]| i16::from_le_bytes([b[0], b[1]]);
    if channels == 2 {
        let average = |b: &[u8]| i16::midpoint(sample(&b[..2]), sample(&b[2..]));
        return payload.chunks_exact(4).map(average).collect();
    }
    payload.chunks_exact(2).map(sample).collect()
}
