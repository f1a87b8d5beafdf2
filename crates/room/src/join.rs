//! Entering a room: who, with what rights, with which receive slots; and why not.

use antiphon_base::{ErrorKind, ParticipantId, Source, VideoCodec};
use antiphon_wire::control::{ParticipantKind, Policy};

/// What a participant may do; from its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grants {
    /// Send tracks.
    pub publish: bool,
    /// Receive tracks.
    pub subscribe: bool,
    /// Mute and remove others.
    pub moderate: bool,
}

/// The receive slots of one connection, by mid. [`SlotId`](crate::SlotId) counts audio, then video, then screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotPlan {
    /// Audio slots. The sound of a screen goes here, too.
    pub audio: Vec<String>,
    /// Camera slots. Without a screen slot, the screen comes here.
    pub video: Vec<String>,
    /// The screen slot.
    pub screen: Option<String>,
}

impl SlotPlan {
    /// Number of slots.
    pub fn len(&self) -> usize {
        self.audio.len() + self.video.len() + usize::from(self.screen.is_some())
    }

    /// No slots: it only publishes, or it taps.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who joins, and how.
#[derive(Debug, Clone)]
pub struct Join {
    /// Its id. Somebody with this id who is there already is replaced.
    pub id: ParticipantId,
    /// Name to show.
    pub name: String,
    /// What it is connected by.
    pub kind: ParticipantKind,
    /// What it may do.
    pub grants: Grants,
    /// What it wants in its slots.
    pub policy: Policy,
    /// Sources muted from the beginning.
    pub muted: Vec<Source>,
    /// Its receive slots.
    pub slots: SlotPlan,
    /// Video codecs it can decode; empty: all (bots).
    pub decodes: Vec<VideoCodec>,
    /// Not in the roster, and no reason for a room to stay open: taps, WHEP players.
    pub hidden: bool,
    /// It receives from this participant only (WHEP of one participant).
    pub only: Option<ParticipantId>,
    /// Secret by which it can come back; randomness is the caller's. Empty: it cannot.
    pub resume_token: String,
    /// It has a control channel. Without one no messages are sent to it, its tracks begin with their first packet
    /// and end when packets stop.
    pub control: bool,
}

/// Why somebody could not enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// As many participants as the room may have.
    #[error("the room is full; try again when somebody has left")]
    RoomFull,
    /// The server stops.
    #[error("the server is stopping; join again to reach another one")]
    Draining,
    /// The room has ended; the caller makes a new one.
    #[error("the room has just ended; join again")]
    Over,
    /// No place is kept for this token (any more).
    #[error("no place is kept for this resume token; join anew without it")]
    UnknownToken,
    /// More slots than [`Config::max_slots`](crate::Config::max_slots), or 64 k of them.
    #[error("too many receive slots were offered")]
    TooManySlots,
    /// Name or policy over a limit of the control channel.
    #[error("{0}")]
    Limit(&'static str),
}

impl JoinError {
    /// The kind of error, as in the API.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::RoomFull => ErrorKind::RoomFull,
            Self::Draining => ErrorKind::Draining,
            Self::Over => ErrorKind::Conflict,
            Self::UnknownToken => ErrorKind::NotFound,
            Self::TooManySlots | Self::Limit(_) => ErrorKind::BadRequest,
        }
    }
}
