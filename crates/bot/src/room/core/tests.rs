use antiphon_base::{AudioCodec, Source};
use antiphon_wire::bot::{AudioForm, AudioSession, Direction, Mix, Participants, VideoForm};
use antiphon_wire::control::{LeaveReason, ParticipantKind, Presence, TrackInfo};

use antiphon_base::ParticipantId;
use antiphon_wire::control::ParticipantInfo;

use super::*;
use crate::transport::Outbound;

const BOT: ParticipantKey = ParticipantKey(100);

fn id(key: u32) -> ParticipantId {
    ParticipantId::new(&format!("p{key}")).unwrap()
}

fn person(key: u32, camera: VideoCodec) -> ParticipantInfo {
    let track = |source, codec| TrackInfo { source, codec, muted: false, layers: 1 };
    ParticipantInfo {
        id: id(key),
        key: ParticipantKey(key),
        name: String::new(),
        kind: ParticipantKind::WebRtc,
        presence: Presence::Connected,
        held: false,
        tracks: vec![
            track(Source::Microphone, Codec::Audio(AudioCodec::Opus)),
            track(Source::Camera, Codec::Video(camera)),
        ],
    }
}

fn room(people: impl IntoIterator<Item = ParticipantInfo>) -> Room {
    let mut room = Room::new(Limits::default(), Decoders::default(), Box::new(|| Box::new(|_, _| {})));
    let participants = people.into_iter().collect();
    room.control(ServerMessage::Roster { seq: 1, participants });
    room
}

fn recv(audio: AudioSession, camera: VideoSession) -> MediaSession {
    let direction = Direction::Recvonly;
    MediaSession {
        audio: AudioSession { direction, ..audio },
        camera: VideoSession { direction, ..camera },
        ..MediaSession::default()
    }
}

fn mailbox() -> Arc<Mailbox> {
    Arc::new(Mailbox::new(Limits::default(), 1))
}

fn events(mailbox: &Mailbox) -> Vec<BotEvent> {
    std::iter::from_fn(|| mailbox.with(|o| o.pop())).filter_map(|m| Outbound::event(&m)).collect()
}

fn started(mailbox: &Mailbox) -> Vec<(Option<ParticipantId>, Source)> {
    let of = |e| {
        if let BotEvent::StreamStarted { participant, source, .. } = e {
            Some((participant, source))
        } else {
            None
        }
    };
    events(mailbox).into_iter().filter_map(of).collect()
}

fn tapped(room: &mut Room) -> Vec<(u32, Source, Option<u16>)> {
    let taps = room.settle().expect("the taps have changed");
    taps.iter().map(|t| (t.track.participant.0, t.track.source, t.max_height)).collect()
}

#[test]
fn in_a_room_of_two_the_other_comes_without_asking() {
    let (mut room, mailbox) = (room([person(1, VideoCodec::Vp8), person(100, VideoCodec::Vp8)]), mailbox());
    room.listen(1, BOT, recv(AudioSession::default(), VideoSession::default()), &mailbox);
    assert_eq!(tapped(&mut room), [(1, Source::Microphone, None), (1, Source::Camera, None)]);
    assert_eq!(started(&mailbox), [(Some(id(1)), Source::Microphone), (Some(id(1)), Source::Camera)]);
    assert!(room.ticks());
    room.leave(1);
    assert!(tapped(&mut room).is_empty(), "no consumer, no decoder");
    assert!(!room.ticks());
}

#[test]
fn top_follows_the_dominant_speakers_and_limits_hold() {
    let people = (1..=20).map(|key| person(key, VideoCodec::Vp8));
    let (mut room, mailbox) = (room(people), mailbox());
    let camera = VideoSession { height: Some(360), ..VideoSession::default() };
    let audio = AudioSession { participants: Participants::Top(2), ..AudioSession::default() };
    room.listen(1, BOT, recv(audio, camera), &mailbox);
    let taps = tapped(&mut room);
    assert_eq!(taps.iter().filter(|t| t.1 == Source::Camera).count(), Limits::default().cameras_per_bot);
    assert!(taps.iter().all(|t| t.1 == Source::Microphone || t.2 == Some(360)));
    events(&mailbox);
    room.control(ServerMessage::Dominant { participants: vec![id(7), id(1)] });
    room.settle();
    let told = events(&mailbox);
    assert!(matches!(&told[0], BotEvent::StreamEnded { stats } if stats.stream == 2), "{told:?}");
    assert!(matches!(&told[1], BotEvent::StreamStarted { participant, .. } if *participant == Some(id(7))));
    assert_eq!(told.len(), 2);
}

#[test]
fn what_cannot_be_decoded_is_told_once_and_passes_encoded() {
    let (mut room, mailbox) = (room([person(1, VideoCodec::Av1)]), mailbox());
    let mut media = recv(
        AudioSession { direction: Direction::Inactive, ..AudioSession::default() },
        VideoSession::default(),
    );
    media.audio.direction = Direction::Inactive;
    room.listen(1, BOT, media.clone(), &mailbox);
    assert!(room.settle().is_none());
    room.control(ServerMessage::ParticipantUpdated { seq: 2, participant: person(1, VideoCodec::Av1) });
    room.settle();
    assert!(matches!(&events(&mailbox)[..],
        [BotEvent::StreamUnavailable { error, .. }] if error.code == ErrorKind::UnsupportedCodec));
    media.camera.form = VideoForm::Encoded;
    room.listen(1, BOT, media, &mailbox);
    assert_eq!(tapped(&mut room), [(1, Source::Camera, None)]);
    assert_eq!(started(&mailbox), [(Some(id(1)), Source::Camera)]);
    assert!(room.ask_keyframe(1, 1) && !room.ask_keyframe(1, 2));
}

#[test]
fn sessions_change_live_and_two_bots_share_the_highest_tap() {
    let (mut room, [a, b]) =
        (room([person(1, VideoCodec::Vp8), person(2, VideoCodec::H264)]), [mailbox(), mailbox()]);
    let camera = |height, ids: &[u32]| VideoSession {
        height,
        participants: Participants::Ids(ids.iter().map(|k| id(*k)).collect()),
        ..VideoSession::default()
    };
    let audio = AudioSession { mixed: Some(Mix::All), unmixed: false, ..AudioSession::default() };
    room.listen(1, BOT, recv(audio.clone(), camera(Some(360), &[1])), &a);
    room.listen(2, ParticipantKey(101), recv(audio.clone(), camera(Some(720), &[1, 2])), &b);
    let taps = tapped(&mut room);
    assert!(taps.contains(&(1, Source::Camera, Some(720))) && taps.contains(&(2, Source::Camera, Some(720))));
    assert_eq!(started(&a), [(None, Source::Microphone), (Some(id(1)), Source::Camera)]);
    let encoded = AudioSession { form: AudioForm::Encoded, unmixed: true, mixed: None, ..audio };
    room.listen(1, BOT, recv(encoded, camera(None, &[2])), &a);
    assert!(tapped(&mut room).contains(&(2, Source::Camera, None)));
    let left = ServerMessage::ParticipantLeft { seq: 5, participant: id(1), reason: LeaveReason::Left };
    room.control(left);
    assert!(tapped(&mut room).iter().all(|t| t.0 == 2));
}
