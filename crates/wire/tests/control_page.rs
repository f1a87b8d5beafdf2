//! `docs/reference/control.md` is true: its JSON blocks are messages, and every message has one.

use std::collections::BTreeSet;

use antiphon_wire::control::{ClientMessage, ServerMessage};

const PAGE: &str = include_str!("../../../docs/reference/control.md");

/// Every type, as in the enums; a new one fails the test until it stands on the page.
const SERVER: [&str; 19] = [
    "welcome",
    "roster",
    "participant_joined",
    "participant_updated",
    "participant_left",
    "screen_started",
    "screen_stopped",
    "slots",
    "speakers",
    "dominant",
    "track_unavailable",
    "layers",
    "limits",
    "muted",
    "data_refused",
    "recording",
    "draining",
    "closed",
    "reply",
];
const CLIENT: [&str; 10] = [
    "mute",
    "publish",
    "policy",
    "rename",
    "mute_other",
    "remove",
    "acknowledge_recording",
    "topics",
    "sync",
    "leave",
];

fn blocks(part: &str) -> Vec<&str> {
    part.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

fn kind(block: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(block).expect("JSON");
    value["type"].as_str().expect("a type").to_owned()
}

/// Fails to compile where a message is added: add it to [`SERVER`] and to the page.
fn server_word(message: &ServerMessage) -> &'static str {
    match message {
        ServerMessage::Welcome { .. } => "welcome",
        ServerMessage::Roster { .. } => "roster",
        ServerMessage::ParticipantJoined { .. } => "participant_joined",
        ServerMessage::ParticipantUpdated { .. } => "participant_updated",
        ServerMessage::ParticipantLeft { .. } => "participant_left",
        ServerMessage::ScreenStarted { .. } => "screen_started",
        ServerMessage::ScreenStopped { .. } => "screen_stopped",
        ServerMessage::Slots { .. } => "slots",
        ServerMessage::Speakers { .. } => "speakers",
        ServerMessage::Dominant { .. } => "dominant",
        ServerMessage::TrackUnavailable { .. } => "track_unavailable",
        ServerMessage::Layers { .. } => "layers",
        ServerMessage::Limits { .. } => "limits",
        ServerMessage::Muted { .. } => "muted",
        ServerMessage::Recording { .. } => "recording",
        ServerMessage::Draining { .. } => "draining",
        ServerMessage::Closed { .. } => "closed",
        ServerMessage::DataRefused { .. } => "data_refused",
        ServerMessage::Reply { .. } => "reply",
    }
}

#[test]
fn the_page_shows_every_message_as_it_is_spoken() {
    let (server, client) = PAGE.split_once("## From the client").expect("two parts");
    let mut seen = BTreeSet::new();
    for block in blocks(server) {
        let message: ServerMessage = serde_json::from_str(block).unwrap_or_else(|e| panic!("{e}: {block}"));
        assert_eq!(server_word(&message), kind(block));
        let (again, page): (serde_json::Value, serde_json::Value) =
            (serde_json::to_value(&message).unwrap(), serde_json::from_str(block).unwrap());
        assert_eq!(again, page, "the page has fields that are not spoken, or leaves some out");
        seen.insert(kind(block));
    }
    assert_eq!(seen, SERVER.iter().map(ToString::to_string).collect());
    let mut asked = BTreeSet::new();
    for block in blocks(client) {
        ClientMessage::parse(block.as_bytes()).unwrap_or_else(|e| panic!("{e}: {block}"));
        asked.insert(kind(block));
    }
    assert_eq!(asked, CLIENT.iter().map(ToString::to_string).collect());
}
