//! Who is in a room, for programs attached to it: the roster that its control messages add up to.

use std::collections::BTreeMap;

use antiphon_base::{Codec, ParticipantId, ParticipantKey, TrackKey};
use antiphon_wire::control::{ParticipantInfo, ServerMessage};

/// Who is in the room, as far as media go.
#[derive(Debug, Default)]
pub struct Roster {
    participants: BTreeMap<ParticipantKey, ParticipantInfo>,
    dominant: Vec<ParticipantKey>,
}

impl Roster {
    /// Takes a control message; whether it changed anything.
    pub fn update(&mut self, message: ServerMessage) -> bool {
        match message {
            ServerMessage::Roster { participants, .. } => {
                self.participants = participants.into_iter().map(|p| (p.key, p)).collect();
            }
            ServerMessage::ParticipantJoined { participant, .. }
            | ServerMessage::ParticipantUpdated { participant, .. } => {
                self.participants.insert(participant.key, participant);
            }
            ServerMessage::ParticipantLeft { participant, .. } => {
                self.participants.retain(|_, p| p.id != participant);
            }
            ServerMessage::Dominant { participants } => {
                self.dominant = participants.iter().filter_map(|id| self.key(id)).collect();
            }
            _ => return false,
        }
        true
    }

    /// The number behind an id.
    pub fn key(&self, id: &ParticipantId) -> Option<ParticipantKey> {
        self.participants.values().find(|p| p.id == *id).map(|p| p.key)
    }

    /// The id behind a number.
    pub fn id(&self, key: ParticipantKey) -> Option<&ParticipantId> {
        self.participants.get(&key).map(|p| &p.id)
    }

    /// The codec of a track, if it is published.
    pub fn codec(&self, track: TrackKey) -> Option<Codec> {
        let tracks = &self.participants.get(&track.participant)?.tracks;
        let found = tracks.iter().find(|t| t.source == track.source && t.codec.kind() == t.source.kind());
        found.map(|t| t.codec)
    }

    /// Everybody, in the order of their numbers.
    pub fn participants(&self) -> impl Iterator<Item = &ParticipantInfo> {
        self.participants.values()
    }

    /// The dominant speakers, in their order.
    pub fn dominant(&self) -> impl Iterator<Item = ParticipantKey> + '_ {
        self.dominant.iter().copied()
    }

    /// Everybody: the dominant speakers in their order, then the others as they came.
    pub fn order(&self) -> impl Iterator<Item = ParticipantKey> + '_ {
        let present = self.dominant.iter().copied().filter(|k| self.participants.contains_key(k));
        present.chain(self.participants.keys().copied().filter(|k| !self.dominant.contains(k)))
    }
}
