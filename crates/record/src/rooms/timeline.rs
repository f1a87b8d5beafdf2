//! The timeline beside the tracks: who was there, who spoke, who was muted or on hold, when nothing was kept. Events with their place on the axis
//! that the tracks share; nothing of whom may not be kept, and nothing of a pause.

use std::collections::BTreeMap;

use antiphon_base::{ParticipantKey, Source};
use antiphon_wire::control::{ParticipantInfo, Speaker};
use serde_json::{Value, json};

/// What of a participant is told.
#[derive(Debug, Clone, PartialEq)]
struct Person {
    id: String,
    name: String,
    held: bool,
    /// Published sources, and whether they are muted.
    sources: BTreeMap<Source, bool>,
}

impl Person {
    fn new(info: &ParticipantInfo) -> Self {
        let sources = info.tracks.iter().map(|t| (t.source, t.muted)).collect();
        Self { id: info.id.to_string(), name: info.name.clone(), held: info.held, sources }
    }
}

/// What has been written, so that only changes are.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    people: BTreeMap<ParticipantKey, Person>,
    dominant: Vec<String>,
    speakers: Value,
}

impl Timeline {
    /// The events that make of what was written what is so now. `people`: those who may be kept.
    pub(crate) fn sync<'a>(&mut self, people: impl Iterator<Item = &'a ParticipantInfo>) -> Vec<Value> {
        let now: BTreeMap<ParticipantKey, Person> = people.map(|p| (p.key, Person::new(p))).collect();
        let mut events = Vec::new();
        for (key, person) in &self.people {
            if !now.contains_key(key) {
                events.push(json!({"event": "participant_left", "participant": person.id}));
            }
        }
        for (key, person) in &now {
            let before = self.people.get(key);
            if before.is_none() {
                let (id, name) = (&person.id, &person.name);
                events.push(json!({"event": "participant_joined", "participant": id, "name": name}));
            } else if before.is_some_and(|b| b.name != person.name) {
                let (id, name) = (&person.id, &person.name);
                events.push(json!({"event": "participant_renamed", "participant": id, "name": name}));
            }
            if before.is_some_and(|b| b.held) != person.held {
                let event = if person.held { "held" } else { "unheld" };
                events.push(json!({"event": event, "participant": person.id}));
            }
            for (source, muted) in &person.sources {
                let known = before.and_then(|b| b.sources.get(source)).copied();
                if known.unwrap_or(false) != *muted {
                    let event = if *muted { "muted" } else { "unmuted" };
                    events.push(json!({"event": event, "participant": person.id, "source": source}));
                }
            }
        }
        self.people = now;
        events
    }

    fn kept(&self, id: &str) -> bool {
        self.people.values().any(|p| p.id == id)
    }

    /// Who is heard, the loudest first; `None`: as before.
    pub(crate) fn speakers(&mut self, speakers: &[Speaker]) -> Option<Value> {
        let kept = speakers.iter().filter(|s| self.kept(s.participant.as_str()));
        let levels: Vec<Value> =
            kept.map(|s| json!({"participant": s.participant, "level": s.level})).collect();
        let event = json!({"event": "speakers", "speakers": levels});
        if event == self.speakers {
            return None;
        }
        self.speakers = event.clone();
        Some(event)
    }

    /// Who leads the conversation; `None`: as before.
    pub(crate) fn dominant(&mut self, ids: impl Iterator<Item = String>) -> Option<Value> {
        let ids: Vec<String> = ids.filter(|id| self.kept(id)).collect();
        if ids == self.dominant {
            return None;
        }
        self.dominant.clone_from(&ids);
        Some(json!({"event": "dominant", "participants": ids}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_base::{AudioCodec, Codec, ParticipantId};
    use antiphon_wire::control::{ParticipantKind, Presence, TrackInfo};

    fn person(key: u32, name: &str, muted: bool) -> ParticipantInfo {
        let codec = Codec::Audio(AudioCodec::Opus);
        ParticipantInfo {
            id: ParticipantId::new(&format!("p{key}")).unwrap(),
            key: ParticipantKey(key),
            name: name.into(),
            kind: ParticipantKind::WebRtc,
            presence: Presence::Connected,
            held: false,
            tracks: vec![TrackInfo { source: Source::Microphone, codec, muted, layers: 1 }],
        }
    }

    #[test]
    fn only_changes_are_events_and_only_of_those_who_are_kept() {
        let mut timeline = Timeline::default();
        let words = |events: Vec<Value>| -> Vec<String> {
            events.iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect()
        };
        let all = [person(1, "Ada", false), person(2, "Ben", true)];
        assert_eq!(words(timeline.sync(all.iter())), ["participant_joined", "participant_joined", "muted"]);
        assert_eq!(words(timeline.sync(all.iter())), [""; 0]);
        assert_eq!(
            words(timeline.sync([person(1, "Ada L.", false)].iter())),
            ["participant_left", "participant_renamed"]
        );
        let held = |held| ParticipantInfo { held, ..person(1, "Ada L.", false) };
        assert_eq!(words(timeline.sync([held(true)].iter())), ["held"]);
        assert_eq!(words(timeline.sync([held(false)].iter())), ["unheld"]);
        let speaker = |id: &str| Speaker { participant: ParticipantId::new(id).unwrap(), level: 30 };
        let told = timeline.speakers(&[speaker("p2"), speaker("p1")]).unwrap();
        assert_eq!(timeline.speakers(&[speaker("p1")]), None);
        assert_eq!(told["speakers"], json!([{"participant": "p1", "level": 30}]));
        assert!(timeline.dominant(["p1".to_owned(), "p2".to_owned()].into_iter()).is_some());
        assert_eq!(timeline.dominant(["p1".to_owned()].into_iter()), None);
    }
}
