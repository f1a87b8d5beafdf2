//! What the operator decides about media streaming, for the whole deployment. Defaults are here and nowhere else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::contact::ContactId;
use crate::rooms::Policy;

const MAX_PREFIX_BYTES: usize = 100;
const MAX_INSTANCE_BYTES: usize = 32;
const MAX_KEY_BYTES: usize = 128;
const HOURS_PER_DAY: u32 = 24;

/// What a retention counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionUnit {
    /// Hours.
    #[default]
    Hours,
    /// Days.
    Days,
}

/// Settings as contact centres know them. They hold for what starts from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether streaming can be started.
    pub enabled: bool,
    /// What streams' names begin with: 1 to 100 of `A-Z a-z 0-9 _ . -`.
    pub prefix: String,
    /// This deployment, in streams' names and tags: 1 to 32 of the same.
    pub instance: String,
    /// Name of the key that protects new streams; empty: the key provider's default.
    pub key: String,
    /// For how long fragments are kept, in `retention_unit`; 0: nothing is kept, and nothing touches the storage.
    pub retention: u32,
    /// What `retention` counts.
    pub retention_unit: RetentionUnit,
    /// Labels PCM tracks `A_AAC`, as Amazon Connect does. Only for programs that insist on it: players show nothing.
    pub connect_strict_codec: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            prefix: "antiphon".into(),
            instance: "default".into(),
            key: String::new(),
            retention: 24,
            retention_unit: RetentionUnit::Hours,
            connect_strict_codec: false,
        }
    }
}

impl Settings {
    /// Looks at what types cannot say.
    ///
    /// # Errors
    /// The field, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        for (name, text, most) in
            [("prefix", &self.prefix, MAX_PREFIX_BYTES), ("instance", &self.instance, MAX_INSTANCE_BYTES)]
        {
            if !(1..=most).contains(&text.len()) || !text.bytes().all(allowed) {
                return Err(format!("{name}: 1 to {most} letters, digits, and _ . -"));
            }
        }
        if self.key.len() > MAX_KEY_BYTES {
            return Err(format!("key: at most {MAX_KEY_BYTES} bytes"));
        }
        if self.retention_h() > antiphon_store::MAX_RETENTION_H {
            return Err(format!("retention: at most {} hours", antiphon_store::MAX_RETENTION_H));
        }
        Ok(())
    }

    /// The retention in hours; 0: none.
    pub fn retention_h(&self) -> u32 {
        match self.retention_unit {
            RetentionUnit::Hours => self.retention,
            RetentionUnit::Days => self.retention.saturating_mul(HOURS_PER_DAY),
        }
    }

    /// The name of a contact's stream: the shape that programs for Amazon Connect know. A further one (`number` 2 and up) has its
    /// number where such programs take neither the contact's id nor the beginning of the name from.
    pub(crate) fn stream_name(&self, contact: &ContactId, number: u32) -> String {
        let further = if number > 1 { format!(".{number}") } else { String::new() };
        format!("{}-connect-{}{further}-contact-{contact}", self.prefix, self.instance)
    }
}

/// What recording may take. `server` fills it from its config.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Contacts that are streamed at a time, each into a stream of its own; at it, starting is refused and calls go on.
    pub streams: usize,
    /// How long a contact may be in no room before it has ended: a move between rooms, or a new connection.
    pub absence: Duration,
    /// Contacts that are remembered, streamed or not: 20 MB. Over it those are forgotten that are not streamed, the longest
    /// known first.
    pub contacts: usize,
    /// Recordings of rooms.
    pub recordings: Policy,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 100,
            absence: Duration::from_secs(30),
            contacts: 65_536,
            recordings: Policy::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_are_named() {
        Settings::default().check().unwrap();
        let bad = |change: fn(&mut Settings), part: &str| {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.check().unwrap_err();
            assert!(error.starts_with(part), "{error}");
        };
        bad(|s| s.prefix = "a/b".into(), "prefix");
        bad(|s| s.prefix = "x".repeat(101), "prefix");
        bad(|s| s.instance.clear(), "instance");
        bad(|s| s.key = "x".repeat(129), "key");
        bad(|s| (s.retention, s.retention_unit) = (3_651, RetentionUnit::Days), "retention");
        bad(|s| (s.retention, s.retention_unit) = (u32::MAX, RetentionUnit::Days), "retention");
    }

    #[test]
    fn the_longest_name_is_one_that_a_stream_may_have() {
        let (prefix, instance) = ("p".repeat(100), "i".repeat(32));
        let settings = Settings { prefix, instance, ..Settings::default() };
        settings.check().unwrap();
        assert!(settings.stream_name(&ContactId::new(&"c".repeat(100)).unwrap(), 8).len() <= 256);
    }
}
