use antiphon_wire::control::{LeaveReason, Presence};

use super::*;

fn info(key: u32, kind: ParticipantKind) -> ParticipantInfo {
    ParticipantInfo {
        id: ParticipantId::new(&format!("p{key}")).unwrap(),
        key: ParticipantKey(key),
        name: "Ann".into(),
        kind,
        presence: Presence::Connected,
        held: false,
        tracks: Vec::new(),
    }
}

fn text(event: &BotEvent) -> Outbound {
    Outbound::Text(event.to_json())
}

fn direction(message: &Inbound) -> Option<Direction> {
    let Inbound::Text(text) = message else { return None };
    match BotMessage::parse(text.as_bytes()).unwrap() {
        BotMessage::Update { session, .. } => session.audio.map(|a| a.direction),
        _ => None,
    }
}

fn joined(demo: &mut Demo) -> Vec<Inbound> {
    let mut say = Vec::new();
    let room = RoomName::new("demo").unwrap();
    let (participant, key) = (ParticipantId::new("p1").unwrap(), ParticipantKey(1));
    demo.hear(&text(&BotEvent::Started { protocol: 1, participant, key, room, epoch_us: 1 }), &mut say);
    let participants = vec![info(1, ParticipantKind::Bot)];
    demo.hear(&text(&BotEvent::Roster { seq: 1, participants }), &mut say);
    assert!(say.is_empty() && !demo.has_company(), "alone it does nothing");
    let participant = info(2, ParticipantKind::WebRtc);
    demo.hear(&text(&BotEvent::ParticipantJoined { seq: 2, participant }), &mut say);
    say
}

#[test]
fn it_greets_listens_and_stops_listening() {
    let mut demo = Demo::default();
    let say = joined(&mut demo);
    assert!(matches!(&say[0], Inbound::Binary(b) if frame::parse(b).unwrap().0.source == Source::Microphone));
    assert_eq!(direction(&say[1]), Some(Direction::Sendrecv));
    assert!(
        matches!(demo.show(), Inbound::Binary(b) if frame::parse(&b).unwrap().0.source == Source::Camera)
    );
    let mut say = Vec::new();
    let left = BotEvent::ParticipantLeft {
        seq: 3,
        participant: ParticipantId::new("p2").unwrap(),
        reason: LeaveReason::Left,
    };
    demo.hear(&text(&left), &mut say);
    assert_eq!(direction(&say[0]), Some(Direction::Sendonly));
}

#[test]
fn it_says_back_after_a_second_what_was_spoken() {
    let mut demo = Demo::default();
    joined(&mut demo);
    demo.chiming = 0;
    let mut said = Vec::new();
    for n in 0..200u8 {
        let format = Format::Pcm { sample_rate: RATE, channels: 1, samples: 960 };
        let mut h = Header::of_bot(Source::Microphone, format);
        if (20..30).contains(&n) {
            h.speakers = vec![antiphon_base::SpeakerLevel { participant: ParticipantKey(2), level: 20 }];
        }
        let mut say = Vec::new();
        let mut head = Vec::new();
        h.write(&mut head);
        demo.hear(&Outbound::Binary { head, payload: vec![n; 1_920].into() }, &mut say);
        for message in say {
            let Inbound::Binary(bytes) = message else { panic!("sound") };
            said.push((n, frame::parse(&bytes).unwrap().1[0]));
        }
    }
    assert_eq!(said.first(), Some(&(70, 20)));
    assert_eq!(said.len(), 10 + HANGOVER as usize - 1);
}
