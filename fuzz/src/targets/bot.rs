//! Any bytes as a text message of a bot, and of the server to one: taken or refused, and what is taken survives being written.

use antiphon_wire::bot::{BotEvent, BotMessage, MAX_LISTED, MAX_MARK_BYTES, MAX_MESSAGE_BYTES, Participants};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(message) = BotMessage::parse(bytes) {
        assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        keeps_the_limits(&message);
        let again = serde_json::to_vec(&message).expect("no map with non-text keys");
        assert_eq!(BotMessage::parse(&again).expect("what was written parses"), message);
    }
    if let Ok(event) = serde_json::from_slice::<BotEvent>(bytes) {
        let again: BotEvent = serde_json::from_str(&event.to_json()).expect("what was written parses");
        assert_eq!(event, again);
    }
}

/// What the session behind it builds on: what it allocates and how often it works.
fn keeps_the_limits(message: &BotMessage) {
    let (sound, pictures) = match message {
        BotMessage::Start { session, .. } => {
            (vec![&session.audio, &session.screen_audio], vec![&session.camera, &session.screen])
        }
        BotMessage::Update { session, .. } => (
            [&session.audio, &session.screen_audio].into_iter().flatten().collect(),
            [&session.camera, &session.screen].into_iter().flatten().collect(),
        ),
        BotMessage::Mark { name, .. } => return assert!(name.len() <= MAX_MARK_BYTES),
        _ => return,
    };
    let whose = sound.iter().map(|s| &s.participants).chain(pictures.iter().map(|p| &p.participants));
    for participants in whose {
        assert!(!matches!(participants, Participants::Ids(ids) if ids.len() > MAX_LISTED));
    }
    assert!(sound.iter().all(|s| (8_000..=48_000).contains(&s.sample_rate)));
    assert!(pictures.iter().all(|p| (1..=30).contains(&p.max_frame_rate)));
    assert!(pictures.iter().all(|p| p.height.is_none_or(|height| (180..=1_080).contains(&height))));
}
