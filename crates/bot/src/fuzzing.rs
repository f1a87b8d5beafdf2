//! A door for the fuzz target of a session: any sequence of messages, frames and time, as a bot could send them over its socket, with
//! what the room says between them. What must hold is judged by what the session says to do, not by what it keeps.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use antiphon_base::{
    AudioCodec, Codec, ErrorKind, MediaKind, ParticipantId, ParticipantKey, PixelFormat, RoomName, Source,
    VideoCodec,
};
use antiphon_shard::{AttachEvent, Grants, JoinError};
use antiphon_wire::bot::{BotEvent, BotMessage, MediaSession};
use antiphon_wire::control::{LeaveReason, ServerMessage};
use antiphon_wire::frame::{self, Format, Header};
use antiphon_wire::topic;

use crate::inject::player::{FRAME, MAX_LATE, RATE, TICK, Upsample};
use crate::limits::Limits;
use crate::session::{Action, MAX_REASON, PENDING, Session, Standing};
use crate::transport::{CLOSE_TOO_SLOW, close_code};

/// Milliseconds of sound that may be queued here, and marks: little, so that inputs come to the bounds.
const QUEUED_MS: u64 = 400;
const MARKS: usize = 6;
/// What one message, or a moment, leads to at the most beside the marks that it ends.
const MOST_ACTIONS: usize = 16;

/// Repeats samples.
pub(crate) struct Hold;

impl Upsample for Hold {
    fn upsample(&mut self, rate: u32, input: &[i16], out: &mut Vec<i16>) {
        input.iter().for_each(|s| out.extend(std::iter::repeat_n(*s, (RATE / rate) as usize)));
    }

    fn reset(&mut self) {}
}

/// What came last: it decides what may be answered.
enum Came {
    Text(Result<BotMessage, ()>),
    /// Whether it is a frame, or a message on a topic.
    Binary(bool),
    /// Time, or something of the room.
    Other,
}

/// A session and what it has said until now.
struct Run {
    session: Session,
    begin: Instant,
    now: Instant,
    grants: Grants,
    media: Option<MediaSession>,
    muted: [bool; 4],
    /// Requests whose reply has not come.
    asked: BTreeSet<u32>,
    /// Marks that wait, and frames spoken, by source.
    marks: [usize; 4],
    spoken: [u64; 4],
    closed: bool,
}

/// Runs one input: the first byte says what the token grants, then each thing that happens begins with a byte that says what, and one
/// more. No panic; each wrong message is answered with an error that says what kind it is, and ends the session with the code of that
/// kind; each message with an id is answered under it, once; nothing is sent that is not granted, asked for or audible; sound leaves
/// in real time; what waits has its bounds; after the end there is nothing.
///
/// # Panics
/// Where that does not hold.
pub fn session(bytes: &[u8]) {
    let Some((&granted, mut rest)) = bytes.split_first() else { return };
    let mut run =
        Run::new(Grants { publish: granted & 1 == 0, subscribe: granted & 2 == 0, moderate: false });
    while let [what, with, tail @ ..] = rest {
        let taken = run.happen(*what, *with, tail);
        rest = tail.get(taken..).unwrap_or_default();
    }
}

impl Run {
    fn new(grants: Grants) -> Self {
        let limits = Limits {
            queued_audio: Duration::from_millis(QUEUED_MS),
            marks: MARKS,
            bytes_per_second: 20_000,
            ..Limits::default()
        };
        let now = Instant::now();
        Self {
            session: Session::new(now, limits, grants, || Box::new(Hold)),
            begin: now,
            now,
            grants,
            media: None,
            muted: [false; 4],
            asked: BTreeSet::new(),
            marks: [0; 4],
            spoken: [0; 4],
            closed: false,
        }
    }

    /// One thing happens; gives how many of `tail`'s bytes it took.
    fn happen(&mut self, what: u8, with: u8, tail: &[u8]) -> usize {
        let payload = &tail[..tail.len().min(usize::from(with))];
        let source = Source::ALL[usize::from(with & 3)];
        match what % 16 {
            0 => {
                self.text(&String::from_utf8_lossy(payload));
                return payload.len();
            }
            1 => {
                self.binary(payload);
                return payload.len();
            }
            2 => self.pass(Duration::from_millis(u64::from(with) * 4)),
            3 => self.attached(with),
            4 => self.replied(with),
            5 => self.text(&format!(r#"{{"type":"start","protocol":1,"session":{}}}"#, directions(with))),
            6 => self.text(&format!(r#"{{"type":"update","id":{with},"session":{}}}"#, directions(with))),
            7 => self.text(&about(source, with)),
            8 => self.text(&format!(r#"{{"type":"mark","name":"m","source":"{}"}}"#, source.as_str())),
            9 => self.binary(&pcm(source, with)),
            10 => {
                let (width, height, source_width, source_height) = (2, 2, 2, 2);
                let format = PixelFormat::I420;
                let format = Format::Picture { format, width, height, source_width, source_height };
                self.binary(&message(source, format, &[0; 6]));
            }
            11 => {
                let payload = &tail[..tail.len().min(8)];
                self.binary(&message(source, encoded(with), payload));
                return payload.len();
            }
            12 => self.room(AttachEvent::Keyframe(source)),
            13 => self.text(&other(with)),
            14 => {
                let (lossy, topic) = (with & 1 == 1, "chat".into());
                let said = topic::Publication { lossy, to: Vec::new(), topic, payload: payload.into() };
                self.binary(&said.to_bytes());
                return payload.len();
            }
            _ => self.said(with),
        }
        0
    }

    fn text(&mut self, text: &str) {
        let parsed = BotMessage::parse(text.as_bytes()).map_err(drop);
        self.session.text(self.now, text);
        self.look(&Came::Text(parsed));
    }

    fn binary(&mut self, bytes: &[u8]) {
        let sound = frame::parse(bytes).is_ok() || topic::parse(bytes).is_ok();
        self.session.binary(self.now, &bytes::Bytes::copy_from_slice(bytes));
        self.look(&Came::Binary(sound));
    }

    /// Time passes, and the session is called when it wants to be.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        // Each source has a frame in 20 ms at most, and catches up with those that it missed; the start has a deadline.
        let most = 3 + 2 * (time + MAX_LATE).as_millis() / TICK.as_millis();
        for _ in 0..=most {
            let Some(due) = self.session.due().filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            self.look(&Came::Other);
        }
        assert!(self.session.due().is_none_or(|due| due > end), "it wants to be called again and again");
        self.now = end;
    }

    /// The answer to `Attach`, wanted or not.
    fn attached(&mut self, with: u8) {
        let result = if with == 255 {
            Err(JoinError::new(ErrorKind::RoomFull, "full"))
        } else {
            Ok(Standing {
                id: ParticipantId::new("bot").expect("a good id"),
                key: ParticipantKey(7),
                room: RoomName::new("fuzz").expect("a good name"),
                epoch_us: 1,
            })
        };
        self.session.attached(result);
        self.look(&Came::Other);
    }

    /// The room answers a request, or one that nobody made.
    fn replied(&mut self, with: u8) {
        let known = self.asked.iter().nth(usize::from(with)).or(self.asked.first()).copied();
        let id = known.unwrap_or(u32::from(with));
        self.session.room_event(AttachEvent::Control(ServerMessage::Reply { id, error: None }));
        let told = self.look(&Came::Other);
        let replies = told.iter().filter(|a| matches!(a, Action::Event(BotEvent::Reply { .. }))).count();
        assert_eq!(replies, usize::from(self.asked.remove(&id) && !told.is_empty()));
    }

    fn room(&mut self, event: AttachEvent) {
        self.session.room_event(event);
        self.look(&Came::Other);
    }

    /// Other things that a room says, and ends.
    fn said(&mut self, with: u8) {
        let who = |name: &str| ParticipantId::new(name).expect("a good id");
        match with % 16 {
            0..8 => self.room(AttachEvent::Control(ServerMessage::Roster { seq: 1, participants: vec![] })),
            8..12 => {
                let names = [who("a"), who("b"), who("c")];
                let participants = names[usize::from(with >> 4) % 3..].to_vec();
                self.room(AttachEvent::Control(ServerMessage::Dominant { participants }));
            }
            12 => self.room(AttachEvent::Control(ServerMessage::Closed { reason: LeaveReason::Removed })),
            13 => {
                self.session.lost();
                self.look(&Came::Other);
            }
            14 => {
                self.session.hung_up();
                self.look(&Came::Other);
            }
            _ => self.room(AttachEvent::Control(ServerMessage::Draining { deadline_s: 1 })),
        }
    }

    /// Takes what the session says to do, and judges it.
    fn look(&mut self, came: &Came) -> Vec<Action> {
        let all: Vec<Action> = std::iter::from_fn(|| self.session.poll()).collect();
        assert!(!self.closed || all.is_empty(), "something after the end");
        assert!(all.len() <= MOST_ACTIONS + 4 * MARKS, "{} actions", all.len());
        let end = ending(&all);
        assert_eq!(self.session.is_closed(), self.closed || end.is_some());
        match came {
            _ if self.closed => {}
            Came::Text(Err(())) | Came::Binary(false) => {
                let kind = end.flatten().expect("what is malformed ends the session with an error");
                let kinds = [ErrorKind::BadRequest, ErrorKind::TooLarge, ErrorKind::RateLimited];
                assert!(kinds.contains(&kind), "{kind:?}");
            }
            Came::Text(Ok(message)) if end.is_none() => self.answered(message, &all),
            Came::Binary(true) => assert!(all.iter().filter(|a| is_media(a)).count() <= 1),
            Came::Text(Ok(_)) => {
                assert!(end.flatten().is_some(), "a message ends the session without an error")
            }
            Came::Other => {}
        }
        all.iter().for_each(|action| self.judge(action, matches!(came, Came::Binary(true))));
        assert!(self.marks.iter().all(|marks| *marks <= MARKS), "{:?} marks wait", self.marks);
        self.closed |= end.is_some();
        all
    }

    /// A message that was taken is answered under its id, once; and changes what is known of the session.
    fn answered(&mut self, message: &BotMessage, all: &[Action]) {
        let refused = |id: u32| {
            let is = |a: &Action| matches!(a, Action::Event(BotEvent::Reply { id: of, error: Some(_) }) if *of == id);
            all.iter().any(is)
        };
        let id = match message {
            BotMessage::Start { session, .. } => {
                assert!(matches!(all, [Action::Attach { .. }]));
                self.media = Some(session.clone());
                return;
            }
            BotMessage::Mark { source, .. } => {
                let complains = |a: &Action| matches!(a, Action::Event(BotEvent::Error { fatal: false, .. }));
                let refused = all.iter().any(complains);
                assert!(!refused || source.kind() == MediaKind::Video || self.marks[source.index()] == MARKS);
                self.marks[source.index()] += usize::from(!refused);
                return;
            }
            BotMessage::Update { id, session } => {
                if let Some(media) = self.media.as_mut().filter(|_| !refused(*id)) {
                    let new = session.clone();
                    media.audio = new.audio.unwrap_or_else(|| media.audio.clone());
                    media.camera = new.camera.unwrap_or_else(|| media.camera.clone());
                    media.screen = new.screen.unwrap_or_else(|| media.screen.clone());
                    media.screen_audio = new.screen_audio.unwrap_or_else(|| media.screen_audio.clone());
                }
                id
            }
            BotMessage::Mute { id, source, muted } => {
                self.muted[source.index()] = *muted;
                id
            }
            BotMessage::Flush { id, .. }
            | BotMessage::Pause { id, .. }
            | BotMessage::Resume { id, .. }
            | BotMessage::RequestKeyframe { id, .. }
            | BotMessage::Topics { id, .. }
            | BotMessage::AcknowledgeRecording { id, .. }
            | BotMessage::Stats { id } => id,
        };
        assert_eq!(all.iter().filter(|a| answers(a, *id)).count(), 1, "{message:?}");
    }

    /// One action; `framed`: it may be about a frame that came just now.
    fn judge(&mut self, action: &Action, framed: bool) {
        match action {
            Action::Speak { source, .. } => {
                self.may_send(*source, MediaKind::Audio);
                let spoken = &mut self.spoken[source.index()];
                *spoken += 1;
                let (spoken, most) = (*spoken, self.ticks());
                assert!(spoken <= most, "{spoken} frames in the time of {most}");
            }
            Action::SpeakOpus { source, packet } => {
                assert!(framed && !packet.is_empty() && packet.len() <= 1_200);
                self.may_send(*source, MediaKind::Audio);
            }
            Action::Show { source, .. } | Action::ShowEncoded { source, .. } => {
                assert!(framed);
                self.may_send(*source, MediaKind::Video);
            }
            Action::Publish(_) => assert!(framed),
            Action::Request { id, .. } => {
                assert!(self.asked.insert(*id), "two requests have one number");
                assert!(self.asked.len() <= PENDING);
            }
            Action::Event(BotEvent::MarkPlayed { source, .. }) => {
                let marks = &mut self.marks[source.index()];
                *marks = marks.checked_sub(1).expect("a mark is told that was set, once");
            }
            Action::Event(BotEvent::Queue { queued_ms, .. }) => {
                assert!(u64::from(*queued_ms) <= QUEUED_MS, "{queued_ms} ms are queued");
            }
            Action::Event(BotEvent::Flushed { played, discarded, .. }) => {
                assert!(*discarded <= QUEUED_MS * 48, "{discarded} samples were queued");
                assert!(*played <= self.ticks() * FRAME as u64, "{played} samples were played");
            }
            Action::Event(BotEvent::Error { error, .. }) => assert!(!error.message.is_empty()),
            _ => {}
        }
    }

    /// Frames that can have been played by now.
    fn ticks(&self) -> u64 {
        let ticks = (self.now - self.begin).as_millis() / TICK.as_millis();
        u64::try_from(ticks).unwrap_or(u64::MAX) + 1
    }

    /// Nothing is sent that the token does not grant, that the bot did not say that it sends, or has muted.
    fn may_send(&self, source: Source, kind: MediaKind) {
        assert!(self.grants.publish && source.kind() == kind);
        let media = self.media.as_ref().expect("there was a start");
        let direction = match source {
            Source::Microphone => media.audio.direction,
            Source::Camera => media.camera.direction,
            Source::Screen => media.screen.direction,
            Source::ScreenAudio => media.screen_audio.direction,
        };
        assert!(direction.sends(), "{source:?} is not sent");
        assert!(!self.muted[source.index()], "{source:?} is muted");
    }
}

/// How the session ends by these, if it does: the error that is told, if one is. The end is the last of them, and has the code of the
/// error.
fn ending(all: &[Action]) -> Option<Option<ErrorKind>> {
    let at = all.iter().position(|a| matches!(a, Action::Close { .. }))?;
    assert_eq!(at + 1, all.len(), "something after the end");
    let Action::Close { code, reason } = &all[at] else { return None };
    assert!(reason.len() <= MAX_REASON);
    let told = at.checked_sub(1).map(|before| &all[before]);
    if let Some(Action::Event(BotEvent::Error { error, fatal: true })) = told {
        assert!(*code == close_code(error.code) || *code == CLOSE_TOO_SLOW);
        return Some(Some(error.code));
    }
    Some(None)
}

fn is_media(action: &Action) -> bool {
    use Action as A;
    matches!(action, A::SpeakOpus { .. } | A::Show { .. } | A::ShowEncoded { .. } | A::Publish(_))
}

/// It is the answer to the message of that id, or passes it on.
fn answers(action: &Action, id: u32) -> bool {
    match action {
        Action::Event(BotEvent::Reply { id: of, .. } | BotEvent::Flushed { id: of, .. })
        | Action::AskKeyframe { id: of, .. }
        | Action::Stats { id: of } => *of == id,
        // Under a number of ours.
        Action::Request { .. } => true,
        _ => false,
    }
}

/// A session, two bits for each source.
fn directions(with: u8) -> String {
    let word = |shift: u8| ["sendrecv", "recvonly", "sendonly", "inactive"][usize::from(with >> shift & 3)];
    let (audio, camera, screen, sound) = (word(0), word(2), word(4), word(6));
    format!(
        r#"{{"audio":{{"direction":"{audio}"}},"camera":{{"direction":"{camera}"}},
            "screen":{{"direction":"{screen}"}},"screen_audio":{{"direction":"{sound}"}}}}"#
    )
}

fn about(source: Source, with: u8) -> String {
    let source = source.as_str();
    match with >> 2 & 3 {
        0 => format!(r#"{{"type":"flush","id":{with},"source":"{source}"}}"#),
        1 => format!(r#"{{"type":"pause","id":{with},"source":"{source}"}}"#),
        2 => format!(r#"{{"type":"resume","id":{with},"source":"{source}"}}"#),
        _ => format!(r#"{{"type":"mute","id":{with},"source":"{source}","muted":{}}}"#, with & 16 == 0),
    }
}

fn other(with: u8) -> String {
    match with & 3 {
        0 => format!(r#"{{"type":"request_keyframe","id":{with},"stream":1}}"#),
        1 => format!(r#"{{"type":"topics","id":{with},"topics":["*"]}}"#),
        2 => format!(r#"{{"type":"acknowledge_recording","id":{with},"recording":"rec_1"}}"#),
        _ => format!(r#"{{"type":"stats","id":{with}}}"#),
    }
}

/// Up to 175 ms of sound, at a rate that may be none, of one channel or two.
fn pcm(source: Source, with: u8) -> Vec<u8> {
    let rates = [8_000, 16_000, 24_000, 48_000, 44_100];
    let (sample_rate, channels) = (rates[usize::from(with >> 2 & 7) % 5], 1 + u8::from(with & 16 != 0));
    let samples = u32::from(with >> 5) * sample_rate / 40;
    let payload = vec![1; 2 * usize::from(channels) * samples as usize];
    message(source, Format::Pcm { sample_rate, channels, samples }, &payload)
}

fn encoded(with: u8) -> Format {
    let codecs = [
        Codec::Audio(AudioCodec::Opus),
        Codec::Audio(AudioCodec::Pcmu),
        Codec::Video(VideoCodec::Vp8),
        Codec::Video(VideoCodec::H264),
        Codec::Video(VideoCodec::Av1),
    ];
    match codecs[usize::from(with >> 2) % codecs.len()] {
        Codec::Audio(codec) => Format::EncodedAudio { codec, sample_rate: 48_000, channels: 1 },
        Codec::Video(codec) => Format::EncodedVideo { codec, width: 0, height: 0 },
    }
}

fn message(source: Source, format: Format, payload: &[u8]) -> Vec<u8> {
    Header::of_bot(source, format).to_message(payload)
}
