//! Joining by SDP: what the caller gives and gets. `docs/reference/join.md` is the page for users.

use antiphon_base::{ErrorKind, ParticipantId, ParticipantKey, RoomName, Source};
pub use antiphon_room::Grants;
use antiphon_wire::control::{ParticipantKind, Policy};

/// Who joins, and how.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// Its id: the token's identity, or one made by the caller.
    pub id: ParticipantId,
    /// Name to show.
    pub name: String,
    /// By what request it comes.
    pub kind: ParticipantKind,
    /// What it may do.
    pub grants: Grants,
    /// What it wants to receive.
    pub policy: Policy,
    /// What it has muted from the beginning.
    pub muted: Vec<Source>,
    /// Token of an earlier connection whose place it takes.
    pub resume: Option<String>,
    /// Receive from this participant only (WHEP).
    pub only: Option<ParticipantId>,
}

/// A negotiated peer that has not entered yet. Made off the shard threads; can be dropped.
pub struct Prepared {
    pub(crate) room: RoomName,
    /// The shard whose port the answer names.
    pub(crate) shard: usize,
    pub(crate) request: JoinRequest,
    pub(crate) negotiated: crate::sdp::Negotiated,
    pub(crate) resume_token: String,
    pub(crate) ufrag: String,
}

impl Prepared {
    /// The SDP answer.
    pub fn answer(&self) -> &str {
        &self.negotiated.answer
    }
}

/// A peer that has entered.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its id (the earlier one after a resume).
    pub id: ParticipantId,
    /// Its number in the room.
    pub key: ParticipantKey,
    /// Secret by which it can come back.
    pub resume_token: String,
    /// The SDP answer.
    pub answer: String,
}

/// Why somebody could not enter: a kind for programs, a sentence for people that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JoinError {
    /// What kind.
    pub kind: ErrorKind,
    /// What to do.
    pub message: String,
}

impl JoinError {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
