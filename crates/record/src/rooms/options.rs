//! What a recording shall have, as whoever starts it says; and what the operator decides.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Tags of a recording: with ours they fit among the store's 50.
const MAX_TAGS: usize = 20;
const MAX_TAG_NAME_BYTES: usize = 64;
const MAX_TAG_VALUE_BYTES: usize = 256;
/// Patterns of rooms that ask for consent.
const MAX_PATTERNS: usize = 1_000;

/// Whether each is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Everybody is told.
    #[default]
    Announced,
    /// Everybody is told, and has to agree.
    Required,
}

/// Options of a start. All fields may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartRecording {
    /// Keep sound.
    pub audio: bool,
    /// Keep pictures.
    pub video: bool,
    /// Hours for which it is kept; absent: as the operator says.
    pub retention_h: Option<u32>,
    /// Ask each for consent, also where the room does not. What a room asks for cannot be left out.
    pub consent: Option<Consent>,
    /// What whoever starts it wants to find with it.
    pub tags: BTreeMap<String, String>,
}

impl Default for StartRecording {
    fn default() -> Self {
        Self { audio: true, video: true, retention_h: None, consent: None, tags: BTreeMap::new() }
    }
}

impl StartRecording {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bad = |what: &str| Err(Error::BadRequest(what.to_owned()));
        if !self.audio && !self.video {
            return bad("audio, video: one of them at least");
        }
        if self.retention_h.is_some_and(|h| !(1..=antiphon_store::MAX_RETENTION_H).contains(&h)) {
            return bad("retention_h: hours from 1 on; what is not to be kept is not to be recorded");
        }
        if self.tags.len() > MAX_TAGS {
            return bad("tags: at most 20");
        }
        for (name, value) in &self.tags {
            let length = (1..=MAX_TAG_NAME_BYTES).contains(&name.len()) && value.len() <= MAX_TAG_VALUE_BYTES;
            if !length || name.contains('\0') || value.contains('\0') {
                return bad("tags: names of 1 to 64 bytes, values of at most 256, without NUL");
            }
        }
        Ok(())
    }
}

/// What the operator decides about recordings of rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Rooms that are recorded at a time; at it, starting is refused and calls go on.
    pub running: usize,
    /// Tracks of one recording, from its beginning to its end; further ones are not kept, which is counted.
    pub tracks: usize,
    /// For how long a recording is kept, unless its start says otherwise.
    pub retention_h: u32,
    /// How long an announced recording waits for acknowledgements, which programs give.
    pub acknowledge_within: Duration,
    /// How long it waits for consent, which people give.
    pub consent_within: Duration,
    /// What rooms ask for.
    pub consent: Consent,
    /// Rooms that ask for consent whatever `consent` says; `*` at the end stands for anything.
    pub consent_rooms: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            running: 20,
            tracks: 1_000,
            retention_h: 7 * 24,
            acknowledge_within: Duration::from_secs(10),
            consent_within: Duration::from_secs(120),
            consent: Consent::Announced,
            consent_rooms: Vec::new(),
        }
    }
}

impl Policy {
    /// Looks at what types cannot say.
    ///
    /// # Errors
    /// The field, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=antiphon_store::MAX_RETENTION_H).contains(&self.retention_h) {
            return Err(format!("retention_h: 1 to {}", antiphon_store::MAX_RETENTION_H));
        }
        if self.consent_rooms.len() > MAX_PATTERNS {
            return Err(format!("consent_rooms: at most {MAX_PATTERNS}"));
        }
        Ok(())
    }

    /// What is asked in a room, where the start asks for `asked`: the stricter.
    pub(crate) fn consent_in(&self, room: &str, asked: Option<Consent>) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => room.starts_with(beginning),
            None => room == pattern,
        };
        self.consent == Consent::Required
            || asked == Some(Consent::Required)
            || self.consent_rooms.iter().any(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_can_ask_for_more_and_not_for_less() {
        let policy = Policy { consent_rooms: vec!["board".into(), "hr-*".into()], ..Policy::default() };
        let asks = |room, asked| policy.consent_in(room, asked);
        assert!(!asks("sales", None) && asks("sales", Some(Consent::Required)));
        assert!(asks("board", Some(Consent::Announced)) && asks("hr-1", None));
        assert!(!asks("boardroom", None) && !asks("hr", None));
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        StartRecording::default().check().unwrap();
        let tags = BTreeMap::from([(String::new(), String::new())]);
        for bad in [
            StartRecording { audio: false, video: false, ..StartRecording::default() },
            StartRecording { retention_h: Some(0), ..StartRecording::default() },
            StartRecording { tags, ..StartRecording::default() },
        ] {
            assert!(bad.check().is_err());
        }
    }
}
