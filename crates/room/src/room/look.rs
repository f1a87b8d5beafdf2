//! Looking into a room without changing it: for the host's `GET`s.

use antiphon_base::{ParticipantId, ParticipantKey};
use antiphon_wire::control::ParticipantInfo;

use super::Room;

impl Room {
    /// A participant as it is now, hidden ones included.
    pub fn participant(&self, key: ParticipantKey) -> Option<ParticipantInfo> {
        self.participants.get(&key).map(crate::participant::Participant::info)
    }

    /// The number of the participant with this id.
    pub fn key_of(&self, id: &ParticipantId) -> Option<ParticipantKey> {
        self.by_id.get(id).copied()
    }
}
