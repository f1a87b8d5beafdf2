//! A stream's record: its name and settings, encrypted, because names of streams contain those of contacts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::crypt;

/// What a stream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// In use.
    Active,
    /// On its way out; nothing of it can be read any more.
    Deleting,
}

/// What is written to `stream.json`. A field that is not known is an error: a newer version wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) created_ms: u64,
    /// 20 letters and digits, new with each change.
    pub(crate) version: String,
    pub(crate) status: Status,
    pub(crate) media_type: String,
    pub(crate) device_name: String,
    /// Name of the key that wraps the data keys.
    pub(crate) key: String,
    pub(crate) retention_h: u32,
    pub(crate) tags: BTreeMap<String, String>,
    /// The data key in use.
    pub(crate) dek: u32,
    /// The counter of the first fragment that it sealed.
    pub(crate) dek_since: u64,
    /// Counters from here on were never given, as far as the record knows: what is listed may know more.
    pub(crate) next_counter: u64,
    /// No fragment has a later server time, as far as the record knows.
    pub(crate) last_server_ms: u64,
}

impl Record {
    /// Milliseconds for which fragments are kept.
    pub(crate) fn retention_ms(&self) -> u64 {
        u64::from(self.retention_h) * 3_600_000
    }

    /// Whether a fragment of that server time is past its retention.
    pub(crate) fn expired(&self, server_ms: u64, now_ms: u64) -> bool {
        server_ms.saturating_add(self.retention_ms()) <= now_ms
    }
}

/// 20 random letters and digits.
pub(crate) fn new_version() -> String {
    const ALPHABET: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    // 256 is no multiple of 36: some letters are a little likelier, which harms nobody.
    crypt::random::<20>().iter().map(|b| char::from(ALPHABET[usize::from(*b) % 36])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_new_each_time() {
        let (a, b) = (new_version(), new_version());
        assert_ne!(a, b);
        assert!(a.len() == 20 && a.bytes().all(|c| c.is_ascii_alphanumeric()));
    }
}
