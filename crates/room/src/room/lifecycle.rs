//! Coming, being connected, coming back, going.

use std::time::Instant;

use antiphon_base::{ParticipantKey, Source, VideoCodec};
use antiphon_wire::control::{
    LeaveReason, ParticipantKind, Policy, Presence, ServerMessage, check_display_name,
};

use super::Room;
use crate::allocate::Pace;
use crate::join::{Join, JoinError, SlotPlan};
use crate::output::Output;
use crate::participant::{Intent, Participant, slots};
use crate::timer::Reason;
use crate::wish::Wish;

impl Room {
    /// Somebody enters. If its id is here already, that one is replaced and gets `Closed { Replaced }`.
    pub fn join(&mut self, now: Instant, join: Join) -> Result<ParticipantKey, JoinError> {
        self.at(now);
        let result = self.may_join(&join);
        if let Err(error) = result {
            self.stats.joins_refused += 1;
            return Err(error);
        }
        if let Some(&old) = self.by_id.get(&join.id) {
            self.leave(now, old, LeaveReason::Replaced);
        }
        let key = ParticipantKey(self.next_key);
        self.next_key += 1;
        self.stats.joins += 1;
        self.by_id.insert(join.id.clone(), key);
        if !join.resume_token.is_empty() {
            self.by_token.insert(join.resume_token.clone(), key);
        }
        let participant = Participant::new(self.now, key, join);
        if participant.hidden {
            self.hidden += 1;
        } else {
            self.timers.cancel(Reason::Empty);
        }
        self.participants.insert(key, Box::new(participant));
        self.recording_dirty = true;
        self.announce_joined(key);
        self.dirty.insert(key);
        Ok(key)
    }

    fn may_join(&self, join: &Join) -> Result<(), JoinError> {
        if self.over {
            return Err(JoinError::Over);
        }
        if self.drain_until.is_some() {
            return Err(JoinError::Draining);
        }
        self.check_plan(&join.slots)?;
        check_display_name(&join.name)
            .map_err(|_| JoinError::Limit("the name is too long or has control characters"))?;
        check_policy(&join.policy)?;
        let (there, most) = if join.hidden {
            (self.hidden, self.config.max_hidden)
        } else {
            (self.participants.len() - self.hidden, self.config.max_participants)
        };
        let replaced = self.by_id.get(&join.id).and_then(|key| self.participants.get(key));
        let replaces = usize::from(replaced.is_some_and(|p| p.hidden == join.hidden));
        if there - replaces >= most || self.next_key == u32::MAX {
            return Err(JoinError::RoomFull);
        }
        Ok(())
    }

    fn check_plan(&self, plan: &SlotPlan) -> Result<(), JoinError> {
        if plan.len() > self.config.max_slots || u16::try_from(plan.len()).is_err() {
            return Err(JoinError::TooManySlots);
        }
        Ok(())
    }

    /// Somebody comes back on a new connection: within the resume time after [`Room::disconnected`], or while the old
    /// connection still stands (then that gets [`Output::Dropped`]). Key, id, name, grants and policy stay; tracks start
    /// again with their next packets.
    pub fn resume(
        &mut self,
        now: Instant,
        token: &str,
        plan: SlotPlan,
        decodes: Vec<VideoCodec>,
    ) -> Result<ParticipantKey, JoinError> {
        self.at(now);
        let key = self.may_resume(token, &plan).inspect_err(|_| self.stats.joins_refused += 1)?;
        self.stats.resumes += 1;
        let p = self.participants.get(&key).expect("tokens of those who are here only");
        if p.presence == Presence::Connected {
            self.outputs.push_back(Output::Dropped { key });
        } else {
            // The new connection gets as long again to be there.
            self.timers.set(Reason::Resume(key), self.now + self.config.resume_ttl);
        }
        self.release_slots(key);
        self.forget_outputs(key);
        let p = self.participants.get_mut(&key).expect("found above");
        p.open = false;
        p.slots = slots(&plan);
        p.decodes = decodes;
        p.bandwidth = None;
        p.demand = 0;
        p.pace = Pace::default();
        p.contested = None;
        p.unavailable.clear();
        self.recording_dirty = true;
        self.stop_layers(key);
        self.dirty.insert(key);
        Ok(key)
    }

    /// What was said to the old connection and not taken yet is not for the new one.
    fn forget_outputs(&mut self, key: ParticipantKey) {
        self.outputs.retain(|output| match output {
            Output::Route { subscriber, .. } => *subscriber != key,
            Output::Send { to, .. } => *to != key,
            _ => true,
        });
        let messages = self.outputs.iter().filter(|o| matches!(o, Output::Send { .. }));
        self.queued_messages = messages.count();
    }

    fn may_resume(&self, token: &str, plan: &SlotPlan) -> Result<ParticipantKey, JoinError> {
        if self.over {
            return Err(JoinError::Over);
        }
        self.check_plan(plan)?;
        self.by_token.get(token).copied().ok_or(JoinError::UnknownToken)
    }

    /// The connection stands; with a control channel, it is open: the snapshot goes out. `server_time_us` is the time of
    /// the day, in microseconds since the Unix epoch.
    pub fn connected(&mut self, now: Instant, key: ParticipantKey, server_time_us: u64) {
        self.at(now);
        self.flush_roster();
        let Some(p) = self.participants.get_mut(&key) else { return };
        let resumed = p.presence == Presence::Reconnecting;
        (p.presence, p.up) = (Presence::Connected, true);
        let welcome = ServerMessage::Welcome {
            participant: p.id.clone(),
            key,
            room: self.name.clone(),
            resume_token: p.resume_token.clone(),
            resume_ttl_s: u32::try_from(self.config.resume_ttl.as_secs()).unwrap_or(u32::MAX),
            server_time_us,
        };
        self.timers.cancel(Reason::Resume(key));
        let waits = |s: &crate::participant::SourceState| s.listed() && s.routable().is_none();
        if p.sources.iter().any(waits) {
            self.timers.set(Reason::Restart(key), self.now + self.config.restart_grace);
        }
        if resumed {
            self.roster_dirty.insert(key);
            self.touch_scene();
        }
        self.flush_roster();
        if let Some(p) = self.participants.get_mut(&key) {
            // From here on: deltas follow the snapshot.
            p.open = p.control;
            p.limits = None;
        }
        self.dirty.insert(key);
        self.layers_dirty = true;
        self.recording_dirty = true;
        self.send(key, welcome);
        self.send_snapshot(key);
        let participants = self.dominance.set().iter().filter_map(|k| self.id_of(*k)).collect();
        self.send(key, ServerMessage::Dominant { participants });
        if !self.speakers.is_empty() {
            // A steady voice makes no further message: who comes now must see it, too.
            let speakers = self.speakers.clone();
            self.send(key, ServerMessage::Speakers { speakers });
        }
    }

    /// The connection is lost. The place is kept for the resume time; those who cannot resume (no control channel, bots,
    /// no token) leave at once.
    pub fn disconnected(&mut self, now: Instant, key: ParticipantKey) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&key) else { return };
        let resumable = p.kind == ParticipantKind::WebRtc && p.control && !p.resume_token.is_empty();
        if !resumable {
            return self.leave(now, key, LeaveReason::ConnectionLost);
        }
        p.open = false;
        p.presence = Presence::Reconnecting;
        self.timers.set(Reason::Resume(key), self.now + self.config.resume_ttl);
        self.roster_dirty.insert(key);
        self.recording_dirty = true;
        self.stop_layers(key);
    }

    /// Somebody goes, or is let go. Nothing, if it is not here (any more).
    pub fn leave(&mut self, now: Instant, key: ParticipantKey, reason: LeaveReason) {
        self.at(now);
        if !self.participants.contains_key(&key) {
            return;
        }
        self.flush_roster();
        self.send(key, ServerMessage::Closed { reason });
        self.release_slots(key);
        self.release_taps(key);
        for source in Source::ALL {
            self.forget_feeds(key, source);
        }
        let Some(p) = self.participants.remove(&key) else { return };
        self.forget_recorded(key);
        self.hidden -= usize::from(p.hidden);
        for reason in [Reason::Resume(key), Reason::Restart(key), Reason::Bandwidth(key)] {
            self.timers.cancel(reason);
        }
        if self.by_id.get(&p.id) == Some(&key) {
            self.by_id.remove(&p.id);
        }
        if self.by_token.get(&p.resume_token) == Some(&key) {
            self.by_token.remove(&p.resume_token);
        }
        self.topics.forget(key);
        self.dirty.remove(&key);
        self.roster_dirty.remove(&key);
        self.outputs.push_back(Output::Ended { key, reason });
        self.announce_left(key, &p.id, reason);
        self.silence(key, true);
        if p.publishes() {
            self.touch_scene();
        }
        if !p.hidden && self.participants.len() == self.hidden {
            self.timers.set(Reason::Empty, self.now + self.config.empty_ttl);
        }
    }

    /// No packets flow from `key` until they are seen again.
    fn stop_layers(&mut self, key: ParticipantKey) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        for state in &mut p.sources {
            // A new connection begins with all layers.
            state.wish = Wish::default();
            if let Some(media) = state.media.as_mut() {
                (media.layers, media.paused) = (0, 0);
            }
        }
        self.silence(key, false);
        self.touch_scene();
        self.roster_dirty.insert(key);
    }

    /// The grace after a connection is over: what has not started is not published.
    pub(super) fn end_not_restarted(&mut self, key: ParticipantKey) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        for state in &mut p.sources {
            let sends = state.media.as_ref().is_some_and(|m| m.layers != 0);
            if state.listed() && !state.muted && !sends {
                state.intent = Intent::Auto;
                state.media = None;
            }
        }
        self.roster_dirty.insert(key);
        self.touch_scene();
    }
}

fn check_policy(policy: &Policy) -> Result<(), JoinError> {
    policy.check().map_err(|_| JoinError::Limit("the policy has too many pins or slot heights"))
}
