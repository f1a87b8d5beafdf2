//! The recording of a room, as far as the room knows of it: what is announced, who has acknowledged it, and so whose tracks may
//! be kept. The room enforces it: its recorder's taps stay shut until then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use antiphon_base::{ParticipantId, ParticipantKey};
use antiphon_wire::control::RecordingState;

/// The longest id of a recording.
pub const MAX_RECORDING_ID: usize = 64;

/// What a recorder, itself a hidden participant, does with the recording that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordingCommand {
    /// Tell everybody, and begin when all have acknowledged it.
    Announce {
        /// The recording's id, at most [`MAX_RECORDING_ID`] bytes.
        id: String,
        /// Ask each for consent.
        consent: bool,
        /// Give up when somebody has not acknowledged (and agreed) by then.
        within: Duration,
    },
    /// Keep nothing for a while.
    Pause,
    /// Go on.
    Resume,
    /// End it.
    Stop,
}

/// Why a recording has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingEnd {
    /// It was stopped, or its recorder has left.
    Stopped,
    /// Somebody did not acknowledge it in time.
    NotAcknowledged,
    /// The room is being recorded already: this one was not announced.
    AlreadyRunning,
}

/// Somebody for whom an announced recording waits, or of whom a running one keeps nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Who.
    pub participant: ParticipantId,
    /// It was asked for consent and has said no.
    pub refused: bool,
}

/// What the recorder is told of its recording whenever that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingView {
    /// Which.
    pub id: String,
    /// What it is doing.
    pub state: RecordingState,
    /// Why it has ended.
    pub end: Option<RecordingEnd>,
    /// Whose tracks may be kept, in order. Taps of others are shut.
    pub cleared: Vec<ParticipantKey>,
    /// Whose may not.
    pub waiting: Vec<Waiting>,
}

/// What somebody has said to the announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) consent: Option<bool>,
}

/// The recording of a room: the one that runs, or the last.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) id: String,
    /// The recorder's number.
    pub(crate) by: ParticipantKey,
    pub(crate) state: RecordingState,
    pub(crate) consent: bool,
    pub(crate) deadline: Instant,
    pub(crate) end: Option<RecordingEnd>,
    /// Of those who are here.
    pub(crate) answers: BTreeMap<ParticipantKey, Answer>,
    /// What the recorder was told last.
    pub(crate) told: Option<RecordingView>,
}

impl Recording {
    pub(crate) fn is_over(&self) -> bool {
        self.state == RecordingState::Stopped
    }

    /// Whether a participant's tracks may be kept. `has_signalling`: it can be told, and can answer.
    pub(crate) fn clears(&self, key: ParticipantKey, has_signalling: bool) -> bool {
        if !has_signalling {
            // Whoever lets an encoder in has to tell whom it shows; consent nobody can give for it.
            return !self.consent;
        }
        let answer = self.answers.get(&key);
        answer.is_some_and(|answer| !self.consent || answer.consent == Some(true))
    }
}
