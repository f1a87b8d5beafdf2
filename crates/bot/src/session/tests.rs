use std::time::Duration;

use antiphon_base::{AudioCodec, PixelFormat};
use antiphon_shard::AttachEvent;
use antiphon_wire::bot::QueueState;
use antiphon_wire::control::ServerMessage;
use antiphon_wire::frame::{self, Format, Header};

use super::*;
use crate::fuzzing::Hold;

const ALL: Grants = Grants { publish: true, subscribe: true, moderate: false };

fn session(grants: Grants) -> (Session, Instant) {
    let now = Instant::now();
    (Session::new(now, Limits::default(), grants, || Box::new(Hold)), now)
}

const START: &str = r#"{"type":"start","protocol":1,"session":{
    "audio":{"direction":"sendrecv"},"camera":{"direction":"sendonly"}}}"#;

fn running() -> (Session, Instant) {
    let (mut s, now) = session(ALL);
    s.text(now, START);
    assert!(matches!(s.poll(), Some(Action::Attach { name: None })));
    s.attached(Ok(Standing {
        id: id("bot"),
        key: ParticipantKey(7),
        room: RoomName::new("demo").unwrap(),
        epoch_us: 1,
    }));
    assert!(matches!(s.poll(), Some(Action::Event(BotEvent::Started { .. }))));
    // Streams are told after the roster, also when they are changed before it comes.
    s.text(now, r#"{"type":"update","id":1,"session":{}}"#);
    assert!(matches!(s.poll(), Some(Action::Event(BotEvent::Reply { id: 1, error: None }))));
    assert!(s.poll().is_none());
    let roster = || AttachEvent::Control(ServerMessage::Roster { seq: 1, participants: Vec::new() });
    s.room_event(roster());
    assert!(matches!(s.poll(), Some(Action::Event(BotEvent::Roster { .. }))));
    assert!(matches!(s.poll(), Some(Action::Listen(_))));
    s.room_event(roster());
    assert!(matches!(s.poll(), Some(Action::Event(BotEvent::Roster { .. }))));
    assert!(s.poll().is_none());
    (s, now)
}

fn id(name: &str) -> ParticipantId {
    ParticipantId::new(name).unwrap()
}

fn message(source: Source, format: Format, payload: &[u8]) -> bytes::Bytes {
    Header::of_bot(source, format).to_message(payload).into()
}

fn pcm(samples: u32) -> bytes::Bytes {
    let format = Format::Pcm { sample_rate: 16_000, channels: 1, samples };
    message(Source::Microphone, format, &vec![1; 2 * samples as usize])
}

fn events(s: &mut Session) -> Vec<BotEvent> {
    std::iter::from_fn(|| s.poll())
        .filter_map(|a| if let Action::Event(e) = a { Some(e) } else { None })
        .collect()
}

/// The error and the code with which the session ended.
fn end(s: &mut Session) -> Option<(ErrorKind, u16)> {
    let mut kind = None;
    while let Some(action) = s.poll() {
        match action {
            Action::Event(BotEvent::Error { error, fatal: true }) => kind = Some(error.code),
            Action::Close { code, .. } => {
                assert!(s.is_closed());
                return Some((kind?, code));
            }
            _ => {}
        }
    }
    None
}

#[test]
fn malformed_messages_end_the_session_with_a_code() {
    let bad_frame = {
        let mut m = pcm(320).to_vec();
        m.pop();
        m
    };
    let vp8_voice = message(
        Source::Microphone,
        Format::EncodedVideo { codec: VideoCodec::Vp8, width: 0, height: 0 },
        &[1],
    );
    let odd_rate =
        message(Source::Microphone, Format::Pcm { sample_rate: 44_100, channels: 1, samples: 1 }, &[0; 2]);
    for binary in [&b""[..], b"abc", &bad_frame, &vp8_voice, &odd_rate] {
        let (mut s, now) = running();
        s.binary(now, &bytes::Bytes::copy_from_slice(binary));
        assert_eq!(end(&mut s), Some((ErrorKind::BadRequest, 4400)));
        s.binary(now, &pcm(1));
        s.text(now, "{}");
        assert!(s.poll().is_none(), "nothing is heard after the end");
    }
    for text in ["", "{}", r#"{"type":"mute"}"#, START] {
        let (mut s, now) = running();
        s.text(now, text);
        assert_eq!(end(&mut s), Some((ErrorKind::BadRequest, 4400)), "{text}");
    }
    let (mut s, now) = running();
    s.text(now, &" ".repeat(70_000));
    assert_eq!(end(&mut s), Some((ErrorKind::TooLarge, 4413)));
    let (mut s, now) = running();
    s.binary(now, &vec![0; frame::MAX_MESSAGE_BYTES + 1].into());
    assert_eq!(end(&mut s), Some((ErrorKind::TooLarge, 4413)));
}

#[test]
fn the_first_message_is_start_and_comes_in_time() {
    let (mut s, now) = session(ALL);
    s.text(now, r#"{"type":"stats","id":1}"#);
    assert_eq!(end(&mut s), Some((ErrorKind::BadRequest, 4400)));
    let (mut s, now) = session(ALL);
    assert_eq!(s.due(), Some(now + Limits::default().start_timeout));
    s.handle_timeout(now + Duration::from_secs(9));
    assert!(!s.is_closed());
    s.handle_timeout(now + Duration::from_secs(10));
    assert_eq!(end(&mut s), Some((ErrorKind::BadRequest, 4408)));
}

#[test]
fn too_many_messages_end_the_session() {
    let (mut s, now) = running();
    (0..1_000).for_each(|n| s.text(now, &format!(r#"{{"type":"stats","id":{n}}}"#)));
    assert_eq!(end(&mut s), Some((ErrorKind::RateLimited, 4429)));
    let (mut s, now) = running();
    (0..10_000).for_each(|_| s.binary(now, &pcm(1)));
    assert_eq!(end(&mut s), Some((ErrorKind::RateLimited, 4429)));
}

#[test]
fn a_token_without_the_grant_is_refused() {
    let (mut s, now) = session(Grants { publish: false, subscribe: true, moderate: false });
    s.text(now, START);
    assert_eq!(end(&mut s), Some((ErrorKind::Forbidden, 4403)));
    let (mut s, now) = session(Grants { publish: true, subscribe: false, moderate: false });
    s.text(now, r#"{"type":"start","protocol":1,"session":{"audio":{"direction":"sendonly"}}}"#);
    assert!(matches!(s.poll(), Some(Action::Attach { .. })));
    s.attached(Err(JoinError::new(ErrorKind::RoomFull, "full")));
    assert_eq!(end(&mut s), Some((ErrorKind::RoomFull, 4503)));
}

#[test]
fn sound_is_paced_flushed_and_marked() {
    let (mut s, now) = running();
    s.binary(now, &pcm(16_000));
    s.text(now, r#"{"type":"mark","name":"a","source":"microphone"}"#);
    let mut spoken = 0;
    while let Some(due) = s.due().filter(|d| *d < now + Duration::from_millis(500)) {
        s.handle_timeout(due);
        spoken += std::iter::from_fn(|| s.poll()).filter(|a| matches!(a, Action::Speak { .. })).count();
    }
    assert_eq!(spoken, 25);
    s.text(now + Duration::from_millis(500), r#"{"type":"flush","id":3,"source":"microphone"}"#);
    let told = events(&mut s);
    let mark = BotEvent::MarkPlayed {
        name: "a".into(),
        source: Source::Microphone,
        sample: 8_000,
        flushed: true,
        media_us: 500_000,
    };
    assert_eq!(told[0], mark);
    let flushed = BotEvent::Flushed { id: 3, source: Source::Microphone, played: 8_000, discarded: 8_000 };
    assert_eq!(told[1], flushed);
    s.text(now, r#"{"type":"flush","id":4,"source":"camera"}"#);
    assert!(matches!(&events(&mut s)[0], BotEvent::Reply { id: 4, error: Some(_) }));
}

#[test]
fn water_marks_are_told_in_milliseconds() {
    let (mut s, now) = running();
    s.binary(now, &pcm(31 * 16_000));
    let event = BotEvent::Queue { source: Source::Microphone, queued_ms: 31_000, state: QueueState::High };
    assert!(events(&mut s).contains(&event));
}

#[test]
fn updates_end_tracks_and_what_is_not_sent_is_refused_once() {
    let (mut s, now) = running();
    let format =
        Format::Picture { format: PixelFormat::I420, width: 2, height: 2, source_width: 2, source_height: 2 };
    s.binary(now, &message(Source::Camera, format, &[0; 6]));
    assert!(matches!(s.poll(), Some(Action::Show { source: Source::Camera, codec: VideoCodec::Vp8, .. })));
    s.room_event(AttachEvent::Keyframe(Source::Camera));
    assert!(matches!(s.poll(), Some(Action::EncodeKeyframe { source: Source::Camera })));
    s.text(now, r#"{"type":"update","id":5,"session":{"camera":{"direction":"recvonly"}}}"#);
    assert!(matches!(s.poll(), Some(Action::EndTrack { source: Source::Camera })));
    assert!(matches!(s.poll(), Some(Action::Listen(m)) if m.camera.direction.receives()));
    assert!(matches!(s.poll(), Some(Action::Event(BotEvent::Reply { id: 5, error: None }))));
    for _ in 0..3 {
        s.binary(now, &message(Source::Camera, format, &[0; 6]));
    }
    assert!(matches!(&events(&mut s)[..], [BotEvent::Error { fatal: false, .. }]));
    assert!(!s.is_closed());
}

#[test]
fn after_a_track_has_ended_no_silence_follows() {
    let (mut s, now) = running();
    s.binary(now, &pcm(1_600));
    s.handle_timeout(now);
    assert!(matches!(s.poll(), Some(Action::Speak { .. })));
    s.text(now, r#"{"type":"update","id":5,"session":{"audio":{"direction":"recvonly"}}}"#);
    assert!(matches!(s.poll(), Some(Action::EndTrack { source: Source::Microphone })));
    // It would begin the track again, which nobody would end.
    while let Some(due) = s.due() {
        s.handle_timeout(due);
    }
    assert!(std::iter::from_fn(|| s.poll()).all(|a| !matches!(a, Action::Speak { .. })));
}

#[test]
fn opus_takes_the_place_of_raw_sound_that_is_queued() {
    let (mut s, now) = running();
    s.binary(now, &pcm(16_000));
    s.text(now, r#"{"type":"mark","name":"a","source":"microphone"}"#);
    s.handle_timeout(now);
    assert!(matches!(s.poll(), Some(Action::Speak { .. })));
    let opus = Format::EncodedAudio { codec: AudioCodec::Opus, sample_rate: 48_000, channels: 1 };
    s.binary(now, &message(Source::Microphone, opus, &[0xf8, 1, 2]));
    let is_flushed =
        |a: &Action| matches!(a, Action::Event(BotEvent::MarkPlayed { flushed: true, sample: 320, .. }));
    let actions: Vec<_> = std::iter::from_fn(|| s.poll()).collect();
    assert!(actions.iter().any(is_flushed));
    assert!(actions.iter().any(|a| matches!(a, Action::SpeakOpus { .. })));
    while let Some(due) = s.due() {
        s.handle_timeout(due);
    }
    assert!(std::iter::from_fn(|| s.poll()).all(|a| !matches!(a, Action::Speak { .. })));
}

#[test]
fn encoded_media_pass_and_keyframes_are_asked_of_the_bot() {
    let (mut s, now) = running();
    let unit = |codec| message(Source::Camera, Format::EncodedVideo { codec, width: 0, height: 0 }, &[1, 2]);
    s.binary(now, &unit(VideoCodec::H264));
    assert!(matches!(s.poll(), Some(Action::ShowEncoded { codec: VideoCodec::H264, .. })));
    s.room_event(AttachEvent::Keyframe(Source::Camera));
    assert_eq!(events(&mut s), [BotEvent::KeyframeNeeded { source: Source::Camera }]);
    s.binary(now, &unit(VideoCodec::Av1));
    assert!(matches!(&events(&mut s)[..], [BotEvent::Error { fatal: false, .. }]));
}

#[test]
fn the_room_is_told_with_history_and_replies_find_their_way() {
    let (mut s, now) = running();
    s.text(now, r#"{"type":"mute","id":77,"source":"camera","muted":true}"#);
    let Some(Action::Request { id: ours, .. }) = s.poll() else { panic!("a request") };
    let control = |s: &mut Session, m| s.room_event(AttachEvent::Control(m));
    control(&mut s, ServerMessage::Reply { id: ours, error: None });
    control(&mut s, ServerMessage::Reply { id: 12_345, error: None });
    assert_eq!(events(&mut s), [BotEvent::Reply { id: 77, error: None }]);
    for leaders in [["a", "b"], ["b", "a"], ["b", "c"], ["c", "b"]] {
        control(&mut s, ServerMessage::Dominant { participants: leaders.map(id).to_vec() });
    }
    let last = events(&mut s).pop();
    let history = ["b", "a"].map(id).to_vec();
    assert_eq!(last, Some(BotEvent::Dominant { participants: ["c", "b"].map(id).to_vec(), history }));
    control(&mut s, ServerMessage::Closed { reason: LeaveReason::Replaced });
    assert!(matches!(s.poll(), Some(Action::Event(BotEvent::Closed { reason: LeaveReason::Replaced }))));
    assert!(matches!(s.poll(), Some(Action::Close { code: 4409, .. })));
}

#[test]
fn what_is_muted_is_not_sent_and_begins_again_with_a_keyframe() {
    let (mut s, now) = running();
    let unit = message(
        Source::Camera,
        Format::EncodedVideo { codec: VideoCodec::Vp8, width: 0, height: 0 },
        &[1, 2],
    );
    let mute = |muted| format!(r#"{{"type":"mute","id":1,"source":"camera","muted":{muted}}}"#);
    s.binary(now, &unit);
    assert!(matches!(s.poll(), Some(Action::ShowEncoded { .. })));
    s.text(now, &mute(true));
    assert!(matches!(s.poll(), Some(Action::Request { .. })));
    s.binary(now, &unit);
    assert!(s.poll().is_none());
    s.text(now, &mute(false));
    assert_eq!(events(&mut s), [BotEvent::KeyframeNeeded { source: Source::Camera }]);
    s.binary(now, &unit);
    assert!(matches!(s.poll(), Some(Action::ShowEncoded { .. })));
    s.text(now, r#"{"type":"mute","id":2,"source":"microphone","muted":true}"#);
    s.binary(now, &pcm(320));
    s.handle_timeout(now);
    assert!(std::iter::from_fn(|| s.poll()).all(|a| !matches!(a, Action::Speak { .. })));
}
