//! The bot of the demo room: it greets with a chime, says back what it hears a second later, and shows a picture with
//! everybody's level meter. An ordinary bot, only in this process: everything passes through [`Bots::serve`].

mod chime;
mod picture;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use antiphon_base::{ErrorKind, ParticipantId, ParticipantKey, RoomName, Source};
use antiphon_wire::bot::{
    AudioSession, BotEvent, BotMessage, Direction, MediaSession, Mix, PROTOCOL, SessionUpdate, VideoSession,
};
use antiphon_wire::control::{ParticipantInfo, ParticipantKind, RecordingState};
use antiphon_wire::frame::{self, Format, Header};

use crate::bots::{Bots, Identity};
use crate::transport::{Carrier, Inbound, Outbound, close_code, connection};
use picture::{Face, Meter};

/// Samples per second that it hears and speaks.
const RATE: u32 = 48_000;
/// Frames between hearing and saying: one second.
const DELAY: usize = 50;
/// Pictures per second.
const PICTURES: u32 = 15;
/// Frames said after the last one in which somebody was heard, so that no word loses its end.
const HANGOVER: u32 = 15;
/// How long a lost bot waits before it comes again.
const RETRY: Duration = Duration::from_secs(2);
/// Frames between two chimes at least: whoever comes in a crowd is greeted with it.
const CHIME_SPACING: u32 = 150;
/// Pictures for which a greeting stands: five seconds.
const GREETING: u32 = 5 * PICTURES;

/// Runs the demo bot of a room until the server drains. Alone it costs nothing but its place in the roster.
pub async fn run(bots: Bots, room: RoomName, identity: Identity) {
    loop {
        let (transport, carrier) = connection();
        let serving = bots.serve(room.clone(), identity.clone(), transport);
        // Ends with the connection that it serves.
        let (again, ()) = tokio::join!(attend(carrier), serving);
        if !again {
            tracing::info!("the demo bot goes");
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One connection of the bot; whether it is to come again.
async fn attend(carrier: Carrier) -> bool {
    let mut demo = Demo::default();
    let mut clock = tokio::time::interval(Duration::from_secs(1) / PICTURES);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut say = vec![Demo::start()];
    loop {
        for message in say.drain(..) {
            if carrier.inbound.send(message).await.is_err() {
                return true;
            }
        }
        tokio::select! {
            message = carrier.outbound.recv() => match message {
                // Somebody else came under its name.
                Ok(Outbound::Close { code, .. }) => return code != close_code(ErrorKind::Conflict),
                Ok(message) => demo.hear(&message, &mut say),
                Err(_) => return true,
            },
            _ = clock.tick(), if demo.has_company() => say.push(demo.show()),
        }
        if demo.draining {
            return false;
        }
    }
}

/// What the bot knows.
#[derive(Default)]
struct Demo {
    key: Option<ParticipantKey>,
    others: BTreeMap<ParticipantKey, ParticipantInfo>,
    levels: BTreeMap<ParticipantKey, u8>,
    /// What was heard in the last second, and whether somebody spoke in it.
    heard: VecDeque<(bool, Vec<u8>)>,
    hangover: u32,
    /// Frames until the bot is free to say something again.
    chiming: u32,
    since_chime: u32,
    greeting: Option<(String, u32)>,
    listening: bool,
    update: u32,
    face: Face,
    /// The server stops.
    draining: bool,
}

fn audio(direction: Direction) -> AudioSession {
    AudioSession {
        direction,
        sample_rate: RATE,
        unmixed: false,
        mixed: Some(Mix::All),
        ..AudioSession::default()
    }
}

impl Demo {
    /// The first message: nothing is heard until somebody is there.
    fn start() -> Inbound {
        let session = MediaSession {
            audio: audio(Direction::Sendonly),
            camera: VideoSession { direction: Direction::Sendonly, ..VideoSession::default() },
            ..MediaSession::default()
        };
        Inbound::message(&BotMessage::Start { protocol: PROTOCOL, name: None, session })
    }

    fn has_company(&self) -> bool {
        !self.others.is_empty()
    }

    fn hear(&mut self, message: &Outbound, say: &mut Vec<Inbound>) {
        match message {
            Outbound::Text(_) => {
                if let Some(event) = message.event() {
                    self.event(event, say);
                }
            }
            Outbound::Binary { head, payload } => {
                let mut bytes = head.clone();
                bytes.extend_from_slice(payload);
                if let Ok((header, pcm)) = frame::parse(&bytes) {
                    self.frame(&header, pcm, say);
                }
            }
            Outbound::Close { .. } => {}
        }
    }

    fn event(&mut self, event: BotEvent, say: &mut Vec<Inbound>) {
        match event {
            BotEvent::Started { key, .. } => self.key = Some(key),
            BotEvent::Roster { participants, .. } => {
                self.others.clear();
                for participant in participants {
                    self.add(participant, say);
                }
            }
            BotEvent::ParticipantJoined { participant, .. }
            | BotEvent::ParticipantUpdated { participant, .. } => self.add(participant, say),
            BotEvent::ParticipantLeft { participant, .. } => self.remove(&participant),
            BotEvent::Recording { recording, state, .. } if state != RecordingState::Stopped => {
                self.update += 1;
                let (id, consent) = (self.update, Some(true));
                say.push(Inbound::message(&BotMessage::AcknowledgeRecording { id, recording, consent }));
            }
            BotEvent::Draining { .. } => self.draining = true,
            _ => return,
        }
        // Nobody there: nothing is decoded.
        if self.listening != self.has_company() {
            self.listening = self.has_company();
            self.heard.clear();
            self.update += 1;
            let direction = if self.listening { Direction::Sendrecv } else { Direction::Sendonly };
            let session = SessionUpdate { audio: Some(audio(direction)), ..SessionUpdate::default() };
            say.push(Inbound::message(&BotMessage::Update { id: self.update, session }));
        }
    }

    fn add(&mut self, participant: ParticipantInfo, say: &mut Vec<Inbound>) {
        if Some(participant.key) == self.key || participant.kind == ParticipantKind::Whep {
            return;
        }
        let name = participant.name.clone();
        let is_new = self.others.insert(participant.key, participant).is_none();
        if !is_new {
            return;
        }
        self.greeting = Some((name, GREETING));
        if self.chiming == 0 && (self.since_chime == 0 || self.since_chime >= CHIME_SPACING) {
            let chime = chime::chime(RATE);
            self.chiming = u32::try_from(chime.len() / (RATE as usize / 50)).unwrap_or(0) + 1;
            self.since_chime = 1;
            say.push(pcm(&chime));
        }
    }

    fn remove(&mut self, id: &ParticipantId) {
        self.others.retain(|_, p| p.id != *id);
        self.levels.retain(|key, _| self.others.contains_key(key));
    }

    /// 20 ms of what the others say.
    fn frame(&mut self, header: &Header, payload: &[u8], say: &mut Vec<Inbound>) {
        self.levels = header.speakers.iter().map(|s| (s.participant, s.level)).collect();
        self.chiming = self.chiming.saturating_sub(1);
        self.since_chime = self.since_chime.saturating_add(1);
        self.heard.push_back((!header.speakers.is_empty(), payload.to_vec()));
        if self.heard.len() <= DELAY {
            return;
        }
        let Some((spoken, samples)) = self.heard.pop_front() else { return };
        self.hangover = if spoken { HANGOVER } else { self.hangover.saturating_sub(1) };
        if self.hangover > 0 && self.chiming == 0 {
            let samples: Vec<i16> =
                samples.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
            say.push(pcm(&samples));
        }
    }

    /// The next picture.
    fn show(&mut self) -> Inbound {
        if let Some((_, left)) = &mut self.greeting {
            *left -= 1;
        }
        if self.greeting.as_ref().is_some_and(|(_, left)| *left == 0) {
            self.greeting = None;
        }
        let meters: Vec<Meter<'_>> = self
            .others
            .values()
            .map(|p| Meter {
                key: p.key,
                name: &p.name,
                level: self.levels.get(&p.key).copied().unwrap_or(127),
            })
            .collect();
        let greeting = self.greeting.as_ref().map(|(name, _)| name.as_str());
        let picture = self.face.draw(greeting, &meters);
        let (width, height) = (short(picture.width()), short(picture.height()));
        let format = Format::Picture {
            format: antiphon_base::PixelFormat::I420,
            width,
            height,
            source_width: width,
            source_height: height,
        };
        Inbound::frame(&Header::of_bot(Source::Camera, format), picture.data())
    }
}

fn short(pixels: u32) -> u16 {
    u16::try_from(pixels).unwrap_or(u16::MAX)
}

fn pcm(samples: &[i16]) -> Inbound {
    let count = u32::try_from(samples.len()).unwrap_or(0);
    let format = Format::Pcm { sample_rate: RATE, channels: 1, samples: count };
    let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    Inbound::frame(&Header::of_bot(Source::Microphone, format), &bytes)
}

#[cfg(test)]
mod tests;
