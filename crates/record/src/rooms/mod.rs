//! Recordings of rooms: every track as it was sent, and a timeline beside them, in the same store as contacts' streams.
//!
//! - [`Recordings::start`] enters the room unseen and announces the recording. The room (`antiphon_room`) waits until everybody has
//!   acknowledged that, and gives no packet of who has not; nothing is stored before.
//! - Each track is a stream of its own (`keep`), made of packets without decoding (`take`), at its place on one time axis (`axis`).
//! - [`Recordings::track`] reads one back as WebM, Matroska or WAV, also while it grows; [`Recordings::timeline`] what happened.

mod file;
mod footage;
mod keep;
mod manage;
mod names;
mod options;
mod run;
mod timeline;
mod wave;

use std::collections::BTreeMap;

use antiphon_base::{Codec, RoomName, Source, VideoCodec};
use antiphon_shard::{RecordingEnd, Waiting};
use antiphon_wire::control::RecordingState;
use serde_json::{Value, json};

pub use file::{Cut, File, FileKind, TimelineFile};
pub use manage::{RecordingMetrics, Recordings};
pub use options::{Consent, Policy, StartRecording};

#[doc(hidden)]
pub use file::fuzz;

/// A recorded track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// From 1 on, in the order in which they began.
    pub number: usize,
    /// Whose.
    pub participant: String,
    /// The name that it had when the track began.
    pub name: String,
    /// What it comes from.
    pub source: Source,
    /// As it was sent.
    pub codec: Codec,
    /// When it began to be kept, in milliseconds since 1970.
    pub start_ms: u64,
    /// When it ended.
    pub stop_ms: Option<u64>,
}

impl Track {
    /// Whether WebM takes it.
    pub fn fits_webm(&self) -> bool {
        self.codec != Codec::Video(VideoCodec::H264)
    }

    /// As the API shows it; times are counted from `start_ms`.
    pub fn to_json(&self, start_ms: u64) -> Value {
        let mut files = vec!["mkv"];
        if self.fits_webm() {
            files.insert(0, "webm");
        }
        if matches!(self.codec, Codec::Audio(_)) {
            files.push("wav");
        }
        let mut value = json!({
            "track": self.number,
            "participant": self.participant,
            "name": self.name,
            "source": self.source,
            "codec": self.codec,
            "from_ms": self.start_ms.saturating_sub(start_ms),
            "files": files,
        });
        if let Some(ms) = self.stop_ms {
            value["to_ms"] = ms.saturating_sub(start_ms).into();
        }
        value
    }
}

/// How a running recording stands.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    state: RecordingState,
    end: Option<RecordingEnd>,
    waiting: Vec<Waiting>,
    /// The room has answered.
    announced: bool,
    start_ms: Option<u64>,
    stop_ms: Option<u64>,
    tracks: Vec<Track>,
    /// Everything is stored.
    done: bool,
}

impl Status {
    fn new() -> Self {
        Self {
            state: RecordingState::Announcing,
            end: None,
            waiting: Vec::new(),
            announced: false,
            start_ms: None,
            stop_ms: None,
            tracks: Vec::new(),
            done: false,
        }
    }
}

/// A recording, as it stands now.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its id.
    pub id: String,
    /// The room that is, or was, recorded.
    pub room: RoomName,
    /// `None`: it was interrupted, as by the end of the server.
    pub state: Option<RecordingState>,
    /// Why it has ended, where that is known.
    pub end: Option<RecordingEnd>,
    /// Each was asked for consent.
    pub consent: bool,
    /// Whom an announced one waits for; of whom a running one keeps nothing.
    pub waiting: Vec<Waiting>,
    /// When the first byte could be kept, in milliseconds since 1970: the zero of its time axis.
    pub start_ms: Option<u64>,
    /// When it ended.
    pub stop_ms: Option<u64>,
    /// Hours for which it is kept.
    pub retention_h: u32,
    /// Those of whoever started it.
    pub tags: BTreeMap<String, String>,
    /// Its tracks.
    pub tracks: Vec<Track>,
}

impl Recording {
    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        let waiting = |w: &Waiting| json!({"participant": w.participant, "refused": w.refused});
        let mut value = json!({
            "id": self.id,
            "room": self.room,
            "state": self.state.map_or_else(|| json!("interrupted"), |state| json!(state)),
            "consent": if self.consent { "required" } else { "announced" },
            "waiting": self.waiting.iter().map(waiting).collect::<Vec<_>>(),
            "retention_h": self.retention_h,
            "tags": self.tags,
            "tracks": self.tracks.len(),
        });
        let times = [("start_time_ms", self.start_ms), ("stop_time_ms", self.stop_ms)];
        for (name, ms) in times.into_iter().filter_map(|(name, ms)| Some((name, ms?))) {
            value[name] = ms.into();
        }
        let reason = match self.end {
            Some(RecordingEnd::NotAcknowledged) => Some("not_acknowledged"),
            Some(RecordingEnd::AlreadyRunning) => Some("already_running"),
            Some(RecordingEnd::Stopped) | None => None,
        };
        if let Some(reason) = reason {
            value["reason"] = reason.into();
        }
        value
    }

    /// Its tracks, as the API shows them.
    pub fn tracks_json(&self) -> Value {
        let start_ms = self.start_ms.unwrap_or(0);
        json!({"tracks": self.tracks.iter().map(|t| t.to_json(start_ms)).collect::<Vec<_>>()})
    }
}
