//! What a contact's streaming shall have, as whoever starts it says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Tags of one contact: with ours they fit among the store's 50.
const MAX_TAGS: usize = 20;
const MAX_TAG_NAME_BYTES: usize = 128;
const MAX_TAG_VALUE_BYTES: usize = 256;
/// Names that the streams themselves use.
const OURS: [&str; 9] = [
    "ContactId",
    "InstanceId",
    "MimeType",
    "AUDIO_FROM_CUSTOMER",
    "AUDIO_TO_CUSTOMER",
    "VIDEO_FROM_CUSTOMER",
    "Events",
    "Room",
    "Source",
];

/// What a contact's sound is kept as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Decoded: what programs for a contact centre's streams expect.
    #[default]
    Pcm,
    /// The packets that were sent.
    Opus,
}

/// Options of a start. All fields may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// What the contact's sound is kept as.
    pub codec: Form,
    /// Samples per second of the PCM: 8000, 16000 or 48000.
    pub sample_rate: u32,
    /// What the contact hears is kept as a second track.
    pub to_customer: bool,
    /// The contact's camera is kept as a further track, as it was sent.
    pub video: bool,
    /// The stream's metadata, in each fragment and on the stream.
    pub tags: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { codec: Form::Pcm, sample_rate: 8_000, to_customer: false, video: false, tags: BTreeMap::new() }
    }
}

/// Whether a tag is one that streams use themselves.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with("AWS") || name.starts_with("Run.") || OURS.contains(&name)
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bad = |what: &str| Err(Error::BadRequest(what.to_owned()));
        if ![8_000, 16_000, 48_000].contains(&self.sample_rate) {
            return bad("sample_rate: 8000, 16000 or 48000");
        }
        if self.codec == Form::Opus && (self.to_customer || self.sample_rate != Self::default().sample_rate) {
            return bad("codec: with opus neither sample_rate nor to_customer, which are of PCM");
        }
        if self.tags.len() > MAX_TAGS {
            return bad("tags: at most 20");
        }
        for (name, value) in &self.tags {
            let length = (1..=MAX_TAG_NAME_BYTES).contains(&name.len()) && value.len() <= MAX_TAG_VALUE_BYTES;
            if !length || name.contains('\0') || value.contains('\0') {
                return bad("tags: names of 1 to 128 bytes, values of at most 256, without NUL");
            }
            if is_ours(name) {
                return bad("tags: names that the stream uses itself are not to be had");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_be_are_refused() {
        Options::default().check().unwrap();
        let tag = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for tags in [
            tag("", ""),
            tag("AWS_X", ""),
            tag("ContactId", "other"),
            tag("VIDEO_FROM_CUSTOMER", "1"),
            tag("Run.0", ""),
            tag("x", &"v".repeat(257)),
            (0..21).map(|i| (i.to_string(), String::new())).collect(),
        ] {
            assert!(Options { tags, ..Options::default() }.check().is_err());
        }
        assert!(Options { sample_rate: 44_100, ..Options::default() }.check().is_err());
        let opus = Options { codec: Form::Opus, ..Options::default() };
        opus.check().unwrap();
        Options { video: true, ..opus.clone() }.check().unwrap();
        assert!(Options { to_customer: true, ..opus }.check().is_err());
        Options { tags: tag("Queue", "sales"), ..Options::default() }.check().unwrap();
    }
}
