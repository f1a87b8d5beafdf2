//! What the room says, as the bot is to hear it.

use antiphon_base::{ErrorKind, MediaKind, Source};
use antiphon_shard::AttachEvent;
use antiphon_wire::bot::BotEvent;
use antiphon_wire::control::{LeaveReason, ServerMessage};

use super::{Action, HISTORY, Sending, Session};
use crate::transport::{CLOSE_NORMAL, close_code};

impl Session {
    /// An event of the bot's attachment.
    pub(crate) fn room_event(&mut self, event: AttachEvent) {
        if self.is_closed() {
            return;
        }
        match event {
            AttachEvent::Control(message) => self.control(message),
            AttachEvent::Keyframe(source) => self.keyframe(source),
            // Bots record nothing.
            AttachEvent::Recording(_) => {}
            AttachEvent::Data(message) => self.actions.push_back(Action::Data(message)),
        }
    }

    /// A keyframe of what the bot shows is needed.
    pub(super) fn keyframe(&mut self, source: Source) {
        match self.sending[source.index()] {
            Sending::Raw if source.kind() == MediaKind::Video => {
                self.actions.push_back(Action::EncodeKeyframe { source });
            }
            Sending::Encoded if source.kind() == MediaKind::Video => {
                self.tell(BotEvent::KeyframeNeeded { source });
            }
            Sending::Nothing | Sending::Raw | Sending::Encoded => {}
        }
    }

    fn control(&mut self, message: ServerMessage) {
        use ServerMessage as M;
        let event = match message {
            M::Roster { seq, participants } => {
                self.tell(BotEvent::Roster { seq, participants });
                if !std::mem::replace(&mut self.rostered, true) {
                    self.actions.push_back(Action::Listen(self.media.clone()));
                }
                return;
            }
            M::ParticipantJoined { seq, participant } => BotEvent::ParticipantJoined { seq, participant },
            M::ParticipantUpdated { seq, participant } => BotEvent::ParticipantUpdated { seq, participant },
            M::ParticipantLeft { seq, participant, reason } => {
                self.history.retain(|p| *p != participant);
                BotEvent::ParticipantLeft { seq, participant, reason }
            }
            M::ScreenStarted { seq, participant } => BotEvent::ScreenStarted { seq, participant },
            M::ScreenStopped { seq, participant } => BotEvent::ScreenStopped { seq, participant },
            M::Dominant { participants } => {
                if let Some(leader) = self.dominant.first().filter(|l| participants.first() != Some(*l)) {
                    self.history.push_front(leader.clone());
                    self.history.truncate(HISTORY);
                }
                self.dominant.clone_from(&participants);
                BotEvent::Dominant { participants, history: self.history.iter().cloned().collect() }
            }
            M::TrackUnavailable { participant, source, error } => {
                BotEvent::StreamUnavailable { participant, source, error }
            }
            M::DataRefused { topic, count, error } => BotEvent::DataRefused { topic, count, error },
            M::Layers { source, layers } => BotEvent::Layers { source, layers },
            M::Recording { recording, state, consent } => BotEvent::Recording { recording, state, consent },
            M::Draining { deadline_s } => BotEvent::Draining { deadline_s },
            M::Reply { id, error } => match self.pending.remove(&id) {
                Some(id) => BotEvent::Reply { id, error },
                None => return,
            },
            M::Closed { reason } => {
                self.tell(BotEvent::Closed { reason });
                return self.close(leave_code(reason), format!("{reason:?}"));
            }
            // Slots, and how many are served, are for peers; levels stand in every frame; a mute is seen in the roster.
            M::Welcome { .. } | M::Slots { .. } | M::Limits { .. } | M::Speakers { .. } | M::Muted { .. } => {
                return;
            }
        };
        self.tell(event);
    }
}

/// The code a connection closes with when its participant has left for this reason.
fn leave_code(reason: LeaveReason) -> u16 {
    match reason {
        LeaveReason::Left | LeaveReason::RoomClosed => CLOSE_NORMAL,
        LeaveReason::Removed => close_code(ErrorKind::Forbidden),
        LeaveReason::Replaced => close_code(ErrorKind::Conflict),
        LeaveReason::Draining => close_code(ErrorKind::Draining),
        LeaveReason::ConnectionLost | LeaveReason::ProtocolError => close_code(ErrorKind::BadRequest),
    }
}
