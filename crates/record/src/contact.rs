//! Contacts: one caller's conversation from beginning to end, whatever room and connection carries it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest id of a contact: with the longest prefix and instance its stream's name has 250 of 256 characters.
pub const MAX_CONTACT_BYTES: usize = 100;

/// Why an id of a contact was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has 1 to {MAX_CONTACT_BYTES} letters, digits, and - _ .")]
pub struct ContactIdError;

/// What names a contact. It is part of its stream's name, and is made of what may stand there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContactId(Arc<str>);

impl ContactId {
    /// Checks a text.
    ///
    /// # Errors
    /// Too long, or other characters.
    pub fn new(text: &str) -> Result<Self, ContactIdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let good = (1..=MAX_CONTACT_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        if good { Ok(Self(text.into())) } else { Err(ContactIdError) }
    }

    /// One that nobody else has: a random UUID (RFC 9562, version 4).
    pub fn random() -> Self {
        let mut b = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut b).expect("the system gives random numbers");
        (b[6], b[8]) = (b[6] & 0x0f | 0x40, b[8] & 0x3f | 0x80);
        let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Self(parts.join("-").into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ContactId {
    type Error = ContactIdError;

    fn try_from(text: String) -> Result<Self, ContactIdError> {
        Self::new(&text)
    }
}

impl From<ContactId> for String {
    fn from(id: ContactId) -> Self {
        id.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_no_path_tricks() {
        for bad in ["", "a/b", "a b", "ä", "a\0", "a:b", &"x".repeat(101)] {
            assert_eq!(ContactId::new(bad), Err(ContactIdError), "{bad}");
        }
        assert_ne!(ContactId::random(), ContactId::random());
        assert_eq!(ContactId::new(ContactId::random().as_str()).unwrap().as_str().len(), 36);
    }
}
