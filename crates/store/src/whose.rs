//! Whose a fragment is, as its path says it: an HMAC of the contact's id, so that a listing tells which fragments of a stream are one
//! contact's, and nobody without the account's key who that is. Of another stream the same contact's is another.

use std::fmt;

use crate::crypt::DataKey;
use crate::keys::Account;
use crate::layout::Uid;

/// A contact of a stream, or nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Whose(pub(crate) u64);

impl Whose {
    /// No contact is named in the fragment, or it was stored by a version that did not say it in the path.
    pub(crate) const NOBODY: Self = Self(0);

    /// The account's key that names are made with.
    pub(crate) fn key(account: &Account) -> DataKey {
        account.key("contacts")
    }

    /// A contact's, in a stream.
    pub(crate) fn of(key: &DataKey, uid: Uid, contact: &str) -> Self {
        if contact.is_empty() {
            return Self::NOBODY;
        }
        // As a fragment keeps it.
        let contact = &contact.as_bytes()[..contact.len().min(crate::sealed::MAX_CONTACT_BYTES)];
        let name = key.name(&[&uid.0, contact].concat());
        let half = u64::from_str_radix(&name[..16], 16).expect("hexadecimal digits");
        Self(half.max(1))
    }

    /// `None`: nobody's.
    pub(crate) fn known(self) -> Option<Self> {
        (self != Self::NOBODY).then_some(self)
    }

    /// As a path has it, and no other way.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let canonical = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        canonical.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self).and_then(Self::known)
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
