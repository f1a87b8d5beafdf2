//! Announcing a recording, hearing who has acknowledged it, and letting its recorder have what may be kept.
//!
//! Who has signalling has to acknowledge: messages to it are ordered and reliable, so an acknowledgement shows that the
//! announcement came before anything that was kept. Who is in the middle of joining or coming back holds nobody up: it is told in
//! its snapshot, and its tracks begin when it has acknowledged that.

use std::collections::BTreeMap;
use std::time::Instant;

use antiphon_base::{ErrorKind, ParticipantKey, TrackKey};
use antiphon_wire::control::{RecordingState, ServerMessage};

use super::Room;
use super::request::Answer;
use crate::output::Output;
use crate::participant::Participant;
use crate::recording::{
    Answer as Said, MAX_RECORDING_ID, Recording, RecordingCommand, RecordingEnd, RecordingView, Waiting,
};
use crate::timer::Reason;

impl Room {
    /// A recorder says something. Nothing happens unless it is hidden, has control messages, and is the one that records.
    pub fn record(&mut self, now: Instant, by: ParticipantKey, command: RecordingCommand) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&by).filter(|p| p.hidden && p.control) else { return };
        p.records = true;
        match command {
            RecordingCommand::Announce { id, consent, within } => {
                if id.is_empty() || id.len() > MAX_RECORDING_ID {
                    return;
                }
                if self.recording.as_ref().is_some_and(|r| !r.is_over()) {
                    return self.refuse_recording(by, id);
                }
                let deadline = self.now + within;
                self.timers.set(Reason::Recording, deadline);
                self.recording = Some(Recording {
                    id,
                    by,
                    state: RecordingState::Announcing,
                    consent,
                    deadline,
                    end: None,
                    answers: BTreeMap::new(),
                    told: None,
                });
                self.stats.recordings_announced += 1;
                self.tell_recording();
            }
            RecordingCommand::Pause => {
                self.turn_recording(by, RecordingState::Recording, RecordingState::Paused);
            }
            RecordingCommand::Resume => {
                self.turn_recording(by, RecordingState::Paused, RecordingState::Recording);
            }
            RecordingCommand::Stop => self.end_recording(by, RecordingEnd::Stopped),
        }
    }

    fn refuse_recording(&mut self, to: ParticipantKey, id: String) {
        let view = RecordingView {
            id,
            state: RecordingState::Stopped,
            end: Some(RecordingEnd::AlreadyRunning),
            cleared: Vec::new(),
            waiting: Vec::new(),
        };
        self.outputs.push_back(Output::Recording { to, view });
    }

    fn turn_recording(&mut self, by: ParticipantKey, from: RecordingState, to: RecordingState) {
        if let Some(recording) = self.recording.as_mut().filter(|r| r.by == by && r.state == from) {
            recording.state = to;
            self.tell_recording();
        }
    }

    /// The recording that `by` makes ends, if it makes one.
    pub(super) fn end_recording(&mut self, by: ParticipantKey, end: RecordingEnd) {
        let Some(recording) = self.recording.as_mut().filter(|r| r.by == by && !r.is_over()) else { return };
        recording.state = RecordingState::Stopped;
        recording.end = Some(end);
        self.stats.recordings_not_acknowledged += u64::from(end == RecordingEnd::NotAcknowledged);
        self.timers.cancel(Reason::Recording);
        self.tell_recording();
    }

    /// Somebody has not acknowledged in time.
    pub(super) fn recording_timeout(&mut self) {
        let Some(recording) = &self.recording else { return };
        if recording.state == RecordingState::Announcing && recording.deadline <= self.now {
            let by = recording.by;
            self.end_recording(by, RecordingEnd::NotAcknowledged);
        }
    }

    /// Somebody has seen the announcement, or has changed its mind.
    pub(super) fn acknowledge(&mut self, key: ParticipantKey, id: &str, consent: Option<bool>) -> Answer {
        let recording = self.recording.as_mut().filter(|r| r.id == id && !r.is_over());
        let recording = recording.ok_or((ErrorKind::NotFound, "there is no such recording (any more)"))?;
        recording.answers.insert(key, Said { consent });
        self.recording_dirty = true;
        Ok(())
    }

    /// Somebody has gone: what it said goes with it, and so does the recording if it was the recorder.
    pub(super) fn forget_recorded(&mut self, key: ParticipantKey) {
        let Some(recording) = &mut self.recording else { return };
        recording.answers.remove(&key);
        self.recording_dirty = true;
        self.end_recording(key, RecordingEnd::Stopped);
    }

    /// What becomes of the recording that was announced last, if there was one.
    pub fn recording(&self) -> Option<RecordingState> {
        self.recording.as_ref().map(|recording| recording.state)
    }

    fn recording_message(&self) -> Option<ServerMessage> {
        let recording = self.recording.as_ref()?;
        Some(ServerMessage::Recording {
            recording: recording.id.clone(),
            state: recording.state,
            consent: recording.consent,
        })
    }

    fn tell_recording(&mut self) {
        self.recording_dirty = true;
        if let Some(message) = self.recording_message() {
            self.broadcast(&message);
        }
    }

    /// In the snapshot: what is being recorded.
    pub(super) fn send_recording(&mut self, to: ParticipantKey) {
        let running = self.recording.as_ref().is_some_and(|r| !r.is_over());
        if let Some(message) = self.recording_message().filter(|_| running) {
            self.send(to, message);
        }
    }

    /// Whether what a subscriber taps of a track may be given to it: always, but for recorders.
    pub(super) fn may_tap(&self, p: &Participant, track: TrackKey) -> bool {
        if !p.records {
            return true;
        }
        let running = self.recording.as_ref();
        let running = running.filter(|r| r.by == p.key && r.state == RecordingState::Recording);
        let owner = self.participants.get(&track.participant);
        running.zip(owner).is_some_and(|(recording, owner)| recording.clears(owner.key, owner.control))
    }

    /// Begins what everybody has acknowledged, and tells the recorder what has changed.
    pub(super) fn flush_recording(&mut self) {
        if !std::mem::take(&mut self.recording_dirty) {
            return;
        }
        let Some(recording) = &self.recording else { return };
        if recording.told.as_ref().is_some_and(|t| t.state == RecordingState::Stopped) {
            return;
        }
        let seen = self.participants.values().filter(|p| !p.hidden);
        let (mut cleared, mut waiting, mut held_up) = (Vec::new(), Vec::new(), false);
        for p in seen {
            if recording.clears(p.key, p.control) {
                cleared.push(p.key);
                continue;
            }
            // Who cannot be told now holds nobody up, and neither does who has no way to agree.
            held_up |= p.open;
            let refused = recording.answers.get(&p.key).is_some_and(|a| a.consent == Some(false));
            waiting.push(Waiting { participant: p.id.clone(), refused });
        }
        let by = recording.by;
        if recording.state == RecordingState::Announcing && !held_up {
            if let Some(recording) = &mut self.recording {
                recording.state = RecordingState::Recording;
            }
            self.timers.cancel(Reason::Recording);
            self.tell_recording();
            self.recording_dirty = false;
        }
        let Some(recording) = &mut self.recording else { return };
        let (id, state, end) = (recording.id.clone(), recording.state, recording.end);
        let view = RecordingView { id, state, end, cleared, waiting };
        if recording.told.as_ref() != Some(&view) {
            recording.told = Some(view.clone());
            if self.participants.contains_key(&by) {
                self.outputs.push_back(Output::Recording { to: by, view });
                self.dirty.insert(by);
            }
        }
    }
}
