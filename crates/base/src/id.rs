//! Identifiers. Names are what people and tokens say; keys are small numbers that a room hands out.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// The longest room name or participant identity, in bytes. Long enough for a UUID with a prefix.
pub const MAX_NAME_BYTES: usize = 128;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Nothing, or longer than [`MAX_NAME_BYTES`].
    Length,
    /// A character other than ASCII letters, digits, `-`, `_`, `.`, `:`, `@`, or a leading dot.
    Character,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "must have 1 to {MAX_NAME_BYTES} characters"),
            Self::Character => f.write_str("may only have letters, digits and - _ . : @, and no leading dot"),
        }
    }
}

impl std::error::Error for NameError {}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(NameError::Length);
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-_.:@".contains(&c);
    if name.starts_with('.') || !name.bytes().all(allowed) {
        return Err(NameError::Character);
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name. Cloning it later is a reference count.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check(name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type! {
    /// A room's name: what stands in the URL and in tokens.
    RoomName
}

name_type! {
    /// A participant's id: unique in the world, stable over a resume, visible to everybody in the room.
    ParticipantId
}

/// A participant's number in its room: never 0, never given twice in a room's life.
///
/// It is also the CSRC (RFC 3550) of every packet that carries this participant's media to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ParticipantKey(pub u32);

impl fmt::Display for ParticipantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A track is named by who publishes it and from what source; there is at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrackKey {
    /// Who publishes it.
    pub participant: ParticipantKey,
    /// What it shows or sounds.
    pub source: crate::format::Source,
}

impl fmt::Display for TrackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.participant, self.source.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(RoomName::new("demo").is_ok());
        assert_eq!(RoomName::new(""), Err(NameError::Length));
        assert_eq!(RoomName::new(&"x".repeat(129)), Err(NameError::Length));
        for bad in ["../etc", "a/b", "a b", "a\0", ".hidden", "ä"] {
            assert_eq!(RoomName::new(bad), Err(NameError::Character), "{bad}");
        }
    }
}
