//! Who is in the room: a snapshot, then deltas.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use antiphon_base::{ParticipantId, ParticipantKey};
use antiphon_wire::bot::BotEvent;
use antiphon_wire::control::ParticipantInfo;

/// How many who left are still known by number: frames of theirs may be waiting.
const MAX_GONE: usize = 256;

/// Participants by number; a room has few enough to look for an id one by one.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    present: HashMap<ParticipantKey, Arc<ParticipantInfo>>,
    gone: VecDeque<Arc<ParticipantInfo>>,
    pub(crate) dominant: Vec<ParticipantId>,
}

impl Roster {
    /// Whoever has, or lately had, this number.
    pub(crate) fn at(&self, key: ParticipantKey) -> Option<Arc<ParticipantInfo>> {
        let gone = || self.gone.iter().rev().find(|p| p.key == key);
        self.present.get(&key).or_else(gone).cloned()
    }

    /// Everybody, in the order of their numbers, which is that of their coming.
    pub(crate) fn everybody(&self) -> Vec<Arc<ParticipantInfo>> {
        let mut all: Vec<_> = self.present.values().cloned().collect();
        all.sort_by_key(|p| p.key);
        all
    }

    /// Follows an event.
    pub(crate) fn follow(&mut self, event: &BotEvent) {
        match event {
            BotEvent::Roster { participants, .. } => {
                self.present = participants.iter().map(|p| (p.key, Arc::new(p.clone()))).collect();
            }
            BotEvent::ParticipantJoined { participant, .. }
            | BotEvent::ParticipantUpdated { participant, .. } => {
                self.present.insert(participant.key, Arc::new(participant.clone()));
            }
            BotEvent::ParticipantLeft { participant, .. } => self.remove(participant),
            BotEvent::Dominant { participants, .. } => self.dominant.clone_from(participants),
            _ => {}
        }
    }

    fn remove(&mut self, id: &ParticipantId) {
        let key = self.present.values().find(|p| &p.id == id).map(|p| p.key);
        if let Some(left) = key.and_then(|k| self.present.remove(&k)) {
            self.gone.push_back(left);
            if self.gone.len() > MAX_GONE {
                self.gone.pop_front();
            }
        }
        self.dominant.retain(|d| d != id);
    }
}
