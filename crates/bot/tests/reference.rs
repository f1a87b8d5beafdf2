//! The examples of `docs/reference/bot.md` are messages.

use antiphon_wire::bot::{BotEvent, BotMessage, MediaSession};

const PAGE: &str = include_str!("../../../docs/reference/bot.md");

fn examples() -> Vec<serde_json::Value> {
    let blocks = PAGE.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let values = |block: &str| {
        let parsed: Result<Vec<_>, _> = serde_json::Deserializer::from_str(block).into_iter().collect();
        parsed.unwrap_or_else(|error| panic!("{error} in {block}"))
    };
    blocks.flat_map(values).collect()
}

#[test]
fn every_example_reads_as_a_message_or_an_event_and_loses_no_field() {
    let examples = examples();
    assert!(examples.len() > 25);
    for example in &examples {
        let message: Option<serde_json::Value> = serde_json::from_value::<BotMessage>(example.clone())
            .ok()
            .filter(|_| BotMessage::parse(example.to_string().as_bytes()).is_ok())
            .map(|m| serde_json::to_value(m).expect("JSON"));
        let event: Option<serde_json::Value> = serde_json::from_value::<BotEvent>(example.clone())
            .ok()
            .map(|e| serde_json::to_value(e).expect("JSON"));
        let covers = |back: &serde_json::Value| {
            let fields = example.as_object().expect("an object");
            fields.keys().all(|key| back.get(key).is_some())
        };
        assert!([message, event].iter().flatten().any(covers), "{example}");
    }
}

#[test]
fn the_defaults_are_those_of_the_page() {
    let all =
        examples().into_iter().find(|e| e.pointer("/session/screen_audio").is_some()).expect("the example");
    let said: MediaSession = serde_json::from_value(all["session"].clone()).expect("a session");
    assert_eq!(said, MediaSession::default());
}
