//! The roster: a snapshot, and deltas that grow by one. Changes are collected and told once per batch of inputs.

use antiphon_base::{ParticipantId, ParticipantKey, Source};
use antiphon_wire::control::{LeaveReason, ParticipantInfo, ServerMessage};

use super::Room;

impl Room {
    /// Everybody whom others see, as last announced, in order of keys.
    pub fn roster(&self) -> impl Iterator<Item = &ParticipantInfo> {
        self.announced.values()
    }

    /// Position in the delta sequence.
    pub fn roster_seq(&self) -> u64 {
        self.seq
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub(super) fn announce_joined(&mut self, key: ParticipantKey) {
        let Some(p) = self.participants.get(&key).filter(|p| !p.hidden) else { return };
        let participant = p.info();
        self.announced.insert(key, participant.clone());
        let seq = self.next_seq();
        self.broadcast(&ServerMessage::ParticipantJoined { seq, participant });
    }

    pub(super) fn announce_left(&mut self, key: ParticipantKey, id: &ParticipantId, reason: LeaveReason) {
        let Some(old) = self.announced.remove(&key) else { return };
        if has_screen(&old) {
            let seq = self.next_seq();
            self.broadcast(&ServerMessage::ScreenStopped { seq, participant: id.clone() });
        }
        let seq = self.next_seq();
        self.broadcast(&ServerMessage::ParticipantLeft { seq, participant: id.clone(), reason });
    }

    /// Tells what has changed of those marked.
    pub(super) fn flush_roster(&mut self) {
        for key in std::mem::take(&mut self.roster_dirty) {
            self.order_tracks(key);
            let Some(p) = self.participants.get(&key).filter(|p| !p.hidden) else { continue };
            let info = p.info();
            let Some(old) = self.announced.insert(key, info.clone()) else { continue };
            if old == info {
                continue;
            }
            let id = info.id.clone();
            let (had, has) = (has_screen(&old), has_screen(&info));
            let seq = self.next_seq();
            self.broadcast(&ServerMessage::ParticipantUpdated { seq, participant: info });
            if had != has {
                let seq = self.next_seq();
                self.broadcast(&if has {
                    ServerMessage::ScreenStarted { seq, participant: id }
                } else {
                    ServerMessage::ScreenStopped { seq, participant: id }
                });
            }
        }
    }

    /// Gives tracks that have begun their place in the order.
    fn order_tracks(&mut self, key: ParticipantKey) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        for state in &mut p.sources {
            match (state.listed(), state.began) {
                (true, 0) => {
                    self.tracks_begun += 1;
                    state.began = self.tracks_begun;
                }
                (false, 1..) => state.began = 0,
                _ => {}
            }
        }
    }

    /// Roster, recording and slots as they are.
    pub(super) fn send_snapshot(&mut self, key: ParticipantKey) {
        let participants = self.announced.values().cloned().collect();
        self.send(key, ServerMessage::Roster { seq: self.seq, participants });
        self.send_recording(key);
        let Some(p) = self.participants.get(&key) else { return };
        let slots = p.slots.iter().map(|s| s.assignment(|k| self.id_of(k))).collect();
        self.send(key, ServerMessage::Slots { slots });
    }
}

fn has_screen(info: &ParticipantInfo) -> bool {
    info.tracks.iter().any(|t| t.source == Source::Screen)
}
