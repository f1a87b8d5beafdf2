//! Requests on a control channel, each authorised against the one who makes it.

use std::time::Instant;

use antiphon_base::{ErrorKind, ParticipantId, ParticipantKey, Source};
use antiphon_wire::control::{
    ClientMessage, ContentHint, ErrorBody, LeaveReason, Request, ServerMessage, check_display_name,
};

use super::Room;
use crate::participant::Intent;

pub(super) type Answer = Result<(), (ErrorKind, &'static str)>;

impl Room {
    /// Answers a request by `Reply`; one of a participant without control channel is ignored. The message has passed [`ClientMessage::parse`].
    pub fn request(&mut self, now: Instant, key: ParticipantKey, message: ClientMessage) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&key).filter(|p| p.control) else { return };
        self.stats.requests += 1;
        let ClientMessage { id, request } = message;
        let allowed = p.may_request(now, self.config.requests_per_second);
        let leaves = allowed && request == Request::Leave;
        let answer = if allowed {
            self.perform(key, request)
        } else {
            Err((ErrorKind::RateLimited, "too many requests; wait a second"))
        };
        let error = answer.err().map(|(code, message)| ErrorBody { code, message: message.to_owned() });
        self.stats.requests_refused += u64::from(error.is_some());
        self.send(key, ServerMessage::Reply { id, error });
        if leaves {
            self.leave(now, key, LeaveReason::Left);
        }
    }

    fn perform(&mut self, key: ParticipantKey, request: Request) -> Answer {
        match request {
            Request::Mute { source, muted } => {
                self.set_muted(key, source, muted);
                Ok(())
            }
            Request::Publish { source, active, hint } => self.publish(key, source, active, hint),
            Request::Policy { policy } => {
                policy.check().map_err(|_| (ErrorKind::BadRequest, "the policy is over a limit"))?;
                let p = self.participants.get_mut(&key).ok_or(GONE)?;
                p.policy = policy;
                self.dirty.insert(key);
                self.layers_dirty = true;
                Ok(())
            }
            Request::Rename { name } => {
                check_display_name(&name)
                    .map_err(|_| (ErrorKind::BadRequest, "a name has at most 64 printable characters"))?;
                self.participants.get_mut(&key).ok_or(GONE)?.name = name;
                self.roster_dirty.insert(key);
                Ok(())
            }
            Request::MuteOther { participant, source } => self.mute_other(key, &participant, source),
            Request::Remove { participant } => {
                let other = self.moderate(key, &participant)?;
                self.leave(self.now, other, LeaveReason::Removed);
                Ok(())
            }
            Request::AcknowledgeRecording { recording, consent } => {
                self.acknowledge(key, &recording, consent)
            }
            Request::Topics { topics } => self.listen(key, &topics),
            Request::Sync => {
                self.flush_roster();
                self.send_snapshot(key);
                Ok(())
            }
            Request::Leave => Ok(()),
        }
    }

    fn publish(
        &mut self,
        key: ParticipantKey,
        source: Source,
        active: bool,
        hint: Option<ContentHint>,
    ) -> Answer {
        let p = self.participants.get(&key).ok_or(GONE)?;
        if active && !p.grants.publish {
            return Err((ErrorKind::Forbidden, "your token does not grant publishing"));
        }
        if let Some(p) = self.participants.get_mut(&key) {
            p.sources[source.index()].hint = hint;
        }
        self.set_intent(key, source, if active { Intent::On } else { Intent::Off });
        Ok(())
    }

    fn mute_other(&mut self, key: ParticipantKey, whom: &ParticipantId, source: Source) -> Answer {
        let other = self.moderate(key, whom)?;
        let by = self.id_of(key).ok_or(GONE)?;
        self.set_muted(other, source, true);
        self.send(other, ServerMessage::Muted { source, by });
        Ok(())
    }

    /// The key of `whom`, where `key` may moderate.
    fn moderate(
        &self,
        key: ParticipantKey,
        whom: &ParticipantId,
    ) -> Result<ParticipantKey, (ErrorKind, &'static str)> {
        let p = self.participants.get(&key).ok_or(GONE)?;
        if !p.grants.moderate {
            return Err((ErrorKind::Forbidden, "your token does not grant moderating"));
        }
        let other = self.by_id.get(whom).copied();
        other.ok_or((ErrorKind::NotFound, "nobody of this id is in the room"))
    }
}

pub(super) const GONE: (ErrorKind, &str) = (ErrorKind::NotFound, "you are not in the room");
