//! Deadlines, each with the reason why the engine wants to wake.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use antiphon_base::ParticipantKey;

use crate::output::Feed;

/// Why the engine wants to be called at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The resume time of a lost participant ends.
    Resume(ParticipantKey),
    /// Tracks that did not start again after a resume end.
    Restart(ParticipantKey),
    /// Loudness, speakers, dominant speakers are looked at.
    Audio,
    /// Tracks of publishers without control channel are looked at.
    Idle,
    /// A keyframe was asked for and has not come, or a request waits.
    Keyframe(Feed),
    /// A subscriber's videos may be raised, or are to be shed.
    Bandwidth(ParticipantKey),
    /// Publishers are to be told which layers are wanted.
    Layers,
    /// An announced recording waits no longer.
    Recording,
    /// The time for leaving a stopping server is over.
    Drain,
    /// The room has been empty for long enough.
    Empty,
}

/// At most one deadline for each reason. Bounded by participants and feeds.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: BTreeMap<Reason, Instant>,
    order: BTreeSet<(Instant, Reason)>,
}

impl Timers {
    pub(crate) fn set(&mut self, reason: Reason, at: Instant) {
        self.cancel(reason);
        self.at.insert(reason, at);
        self.order.insert((at, reason));
    }

    pub(crate) fn is_set(&self, reason: Reason) -> bool {
        self.at.contains_key(&reason)
    }

    pub(crate) fn cancel(&mut self, reason: Reason) {
        if let Some(at) = self.at.remove(&reason) {
            self.order.remove(&(at, reason));
        }
    }

    pub(crate) fn first(&self) -> Option<(Instant, Reason)> {
        self.order.first().copied()
    }

    /// Takes the earliest deadline that has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Reason> {
        let (at, reason) = self.first()?;
        if at > now {
            return None;
        }
        self.cancel(reason);
        Some(reason)
    }
}
