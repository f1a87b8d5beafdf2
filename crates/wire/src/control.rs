//! The control channel: JSON text messages on the data channel labelled `control` (reliable, ordered).
//!
//! One closed set in each direction. The roster is a snapshot followed by deltas whose `seq` grows by one;
//! a client that sees a hole asks with [`Request::Sync`]. Requests carry an `id`; each gets one [`ServerMessage::Reply`].
//! `docs/reference/control.md` is the page for users; a test there keeps the examples in step with these types.

use std::collections::BTreeMap;

use antiphon_base::{Codec, ErrorKind, ParticipantId, ParticipantKey, RoomName, Source};
use serde::{Deserialize, Serialize};

use crate::topic;

/// The largest control message in either direction, in bytes: a roster of 200 with names fits.
pub const MAX_MESSAGE_BYTES: usize = 65_536;
/// The longest display name, in characters.
pub const MAX_DISPLAY_NAME: usize = 64;
/// The most pins a policy may have: more than any grid shows.
pub const MAX_PINS: usize = 64;

/// A typed error, as everywhere in the API: `{"code":"forbidden","message":"..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What kind of error; programs look at this.
    pub code: ErrorKind,
    /// What to do about it; people look at this.
    pub message: String,
}

/// What a participant is connected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParticipantKind {
    /// The join request: a browser or anything that speaks it.
    WebRtc,
    /// WHIP: publishes only.
    Whip,
    /// WHEP: receives only, and is not shown in rosters.
    Whep,
    /// A program.
    Bot,
}

/// Whether a participant's connection is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Media can flow.
    Connected,
    /// Its connection was lost; its place is kept for the resume time.
    Reconnecting,
}

/// One published track, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackInfo {
    /// What it comes from.
    pub source: Source,
    /// What it is coded in.
    pub codec: Codec,
    /// The publisher has muted it: no packets are expected.
    pub muted: bool,
    /// Number of simulcast layers seen (1 without simulcast).
    pub layers: u8,
}

/// One participant, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantInfo {
    /// Stable id.
    pub id: ParticipantId,
    /// Number in this room; the CSRC of its media in slots, and the participant number in the frame protocol.
    pub key: ParticipantKey,
    /// Name to show.
    pub name: String,
    /// What it is connected by.
    pub kind: ParticipantKind,
    /// Whether its connection is there.
    pub presence: Presence,
    /// It is on hold: it gets nothing of the others, and they get nothing of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// What it publishes now.
    pub tracks: Vec<TrackInfo>,
}

/// Why somebody left or was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// Asked to.
    Left,
    /// Did not come back in the resume time.
    ConnectionLost,
    /// A moderator or the API removed it.
    Removed,
    /// The same identity joined again.
    Replaced,
    /// The server stops.
    Draining,
    /// The peer broke the protocol.
    ProtocolError,
    /// The room ended.
    RoomClosed,
}

/// What stands in one receive slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotAssignment {
    /// The m-line of the slot.
    pub mid: String,
    /// Whose track; absent: the slot is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<ParticipantId>,
    /// Which track of that participant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// CSRC of its packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrc: Option<u32>,
    /// RTP timestamp, in this slot, of its first packet: messages race media, and earlier packets are the predecessor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp_time: Option<u32>,
}

/// A participant's loudness now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// Who.
    pub participant: ParticipantId,
    /// -dBov as in RFC 6464: 0 loudest, 127 silence.
    pub level: u8,
}

/// Whom the free video slots follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Follow {
    /// The dominant speakers first, then by time of joining.
    #[default]
    Dominant,
    /// By time of joining.
    Joined,
    /// Only pins are shown.
    None,
}

/// A track somebody wants to see whatever happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Whose.
    pub participant: ParticipantId,
    /// Which track.
    #[serde(default = "camera")]
    pub source: Source,
    /// Cap for this one, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u16>,
}

fn camera() -> Source {
    Source::Camera
}

/// Declares what a subscriber wants in its slots; the server evaluates it. All fields may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Shown first, in this order.
    pub pins: Vec<Pin>,
    /// Who gets the rest.
    pub follow: Follow,
    /// The highest layer wanted in any video slot, in pixels; absent: the highest there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u16>,
    /// Frames per second wanted at most: temporal layers above it are not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frame_rate: Option<u8>,
    /// How many camera slots to fill; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_videos: Option<u8>,
    /// Per slot (by mid), a lower cap: the height of the tile on the screen.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub slot_heights: BTreeMap<String, u16>,
}

/// What a picture is like, and so what may suffer where bandwidth is short (the `contentHint` of a browser's track).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentHint {
    /// Resolution before frame rate: slides, documents.
    Detail,
    /// Frame rate before resolution: films, games, faces.
    Motion,
    /// As `detail`.
    Text,
}

/// What a publisher is to send of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerWish {
    /// Which: 0 = lowest, in the order of the rids of the offer.
    pub layer: u8,
    /// Somebody watches it.
    pub active: bool,
    /// More bits per second than this get through to none of those who watch it; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u64>,
    /// More lines than this are shown by none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u16>,
    /// More frames per second than this are taken by none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_frame_rate: Option<u8>,
}

/// Why fewer videos are served than were wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitReason {
    /// The server has too much to do.
    ServerBusy,
    /// The way to the subscriber does not carry more.
    Bandwidth,
}

/// What a recording of the room is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// It has been announced, and waits until everybody has acknowledged that. Nothing is kept.
    Announcing,
    /// What those publish who have acknowledged it is kept.
    Recording,
    /// Nothing is kept for a while.
    Paused,
    /// It has ended.
    Stopped,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The first message on a channel.
    Welcome {
        /// Your id.
        participant: ParticipantId,
        /// Your number.
        key: ParticipantKey,
        /// Where you are.
        room: RoomName,
        /// Give this in `Antiphon-Resume` to come back to the same place.
        resume_token: String,
        /// How long the place is kept, in seconds.
        resume_ttl_s: u32,
        /// Microseconds since the Unix epoch on the server, at sending.
        server_time_us: u64,
    },
    /// Everybody, as of `seq`. Deltas follow from `seq + 1`.
    Roster {
        /// Position in the delta sequence.
        seq: u64,
        /// Everybody including yourself.
        participants: Vec<ParticipantInfo>,
    },
    /// Somebody came.
    ParticipantJoined {
        /// Position in the delta sequence.
        seq: u64,
        /// Who.
        participant: ParticipantInfo,
    },
    /// Something about somebody changed: name, tracks, mute, presence.
    ParticipantUpdated {
        /// Position in the delta sequence.
        seq: u64,
        /// The whole new state.
        participant: ParticipantInfo,
    },
    /// Somebody went.
    ParticipantLeft {
        /// Position in the delta sequence.
        seq: u64,
        /// Who.
        participant: ParticipantId,
        /// Why.
        reason: LeaveReason,
    },
    /// A screen share began.
    ScreenStarted {
        /// Position in the delta sequence.
        seq: u64,
        /// Whose.
        participant: ParticipantId,
    },
    /// A screen share ended.
    ScreenStopped {
        /// Position in the delta sequence.
        seq: u64,
        /// Whose.
        participant: ParticipantId,
    },
    /// What stands in the named slots now; others are unchanged.
    Slots {
        /// Changed slots.
        slots: Vec<SlotAssignment>,
    },
    /// Who is heard now, loudest first; sent when it changes, at most five times per second.
    Speakers {
        /// Those above silence.
        speakers: Vec<Speaker>,
    },
    /// The ordered set of dominant speakers changed; the first leads the conversation.
    Dominant {
        /// At most as many as the room keeps (4).
        participants: Vec<ParticipantId>,
    },
    /// A track cannot be shown to you.
    TrackUnavailable {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        source: Source,
        /// Why, e.g. `no_common_codec`.
        error: ErrorBody,
    },
    /// What of your track is watched; told when it changes, to save encoding the rest. Layers that are not named are
    /// as they were told last, at first wanted.
    Layers {
        /// Which of your tracks.
        source: Source,
        /// Every layer seen of it.
        layers: Vec<LayerWish>,
    },
    /// So many videos are served at most, fewer than your policy wants. Without the fields: all are served (again).
    Limits {
        /// How many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_n: Option<u16>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<LimitReason>,
    },
    /// The server, or a moderator, muted you.
    Muted {
        /// Which of your tracks.
        source: Source,
        /// Who did it.
        by: ParticipantId,
    },
    /// Messages that you sent on a topic went to nobody; said at most once per second.
    DataRefused {
        /// The topic of the last one; absent where it could not be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        /// How many since this was last said.
        count: u32,
        /// Why the last one was.
        error: ErrorBody,
    },
    /// The room is being recorded, or is about to be, or is not any more. It also stands behind the roster of a snapshot, where there
    /// is a recording. To be shown, and answered by [`Request::AcknowledgeRecording`] unless it has stopped.
    Recording {
        /// Which.
        recording: String,
        /// What it is doing.
        state: RecordingState,
        /// The room asks each for consent: an acknowledgement without it is not enough.
        consent: bool,
    },
    /// The server stops: join elsewhere before the deadline.
    Draining {
        /// Seconds left.
        deadline_s: u32,
    },
    /// You are out; the connection closes after this.
    Closed {
        /// Why.
        reason: LeaveReason,
    },
    /// Answer to a request.
    Reply {
        /// The request's id.
        id: u32,
        /// Absent on success.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorBody>,
    },
}

/// What a client sends: `{"id": 7, "type": "mute", ...}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientMessage {
    /// Chosen by the client; comes back in the reply.
    pub id: u32,
    /// The request.
    #[serde(flatten)]
    pub request: Request,
}

/// A request. Each is authorised against the connection's own identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Mute or unmute one of your own tracks. A muted track stays in the roster.
    Mute {
        /// Which.
        source: Source,
        /// Whether.
        muted: bool,
    },
    /// You are going to send, or have stopped sending, this source. A screen share begins and ends with this.
    Publish {
        /// Which.
        source: Source,
        /// `false` takes the track out of the roster.
        active: bool,
        /// What it shows; absent: `detail` for a screen, `motion` for a camera.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<ContentHint>,
    },
    /// Replace your policy.
    Policy {
        /// The new one.
        policy: Policy,
    },
    /// Change your display name.
    Rename {
        /// At most [`MAX_DISPLAY_NAME`] characters.
        name: String,
    },
    /// Mute somebody else (grant `moderate`).
    MuteOther {
        /// Whom.
        participant: ParticipantId,
        /// Which track.
        source: Source,
    },
    /// Remove somebody (grant `moderate`).
    Remove {
        /// Whom.
        participant: ParticipantId,
    },
    /// The announcement of a recording has been shown, or its answer changes. Before it nothing that you publish is kept.
    AcknowledgeRecording {
        /// Which.
        recording: String,
        /// Whether you agree, where the room asks for that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consent: Option<bool>,
    },
    /// Listen to these topics, and to no others. `*` stands for all.
    Topics {
        /// At most [`MAX_SUBSCRIPTIONS`](crate::topic::MAX_SUBSCRIPTIONS).
        topics: Vec<String>,
    },
    /// Send the roster and all slots again.
    Sync,
    /// Leave the room.
    Leave,
}

/// Why a control message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Over [`MAX_MESSAGE_BYTES`].
    #[error("message has {0} bytes, more than {MAX_MESSAGE_BYTES}")]
    TooLarge(usize),
    /// Not JSON of a known shape.
    #[error("{0}")]
    Malformed(String),
    /// A field over its limit.
    #[error("{0}")]
    Limit(&'static str),
}

impl ClientMessage {
    /// Parses one message from a peer and checks its limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(ControlError::TooLarge(bytes.len()));
        }
        let message: Self =
            serde_json::from_slice(bytes).map_err(|e| ControlError::Malformed(e.to_string()))?;
        message.request.check()?;
        Ok(message)
    }
}

impl Request {
    fn check(&self) -> Result<(), ControlError> {
        match self {
            Self::Policy { policy } => policy.check(),
            Self::Rename { name } => check_display_name(name),
            Self::Topics { topics } => check_topics(topics),
            _ => Ok(()),
        }
    }
}

/// Checks a display name's length and characters.
pub fn check_display_name(name: &str) -> Result<(), ControlError> {
    if name.chars().count() > MAX_DISPLAY_NAME {
        return Err(ControlError::Limit("a name has at most 64 characters"));
    }
    if name.chars().any(char::is_control) {
        return Err(ControlError::Limit("a name has no control characters"));
    }
    Ok(())
}

/// Checks a set of topics to listen to.
pub fn check_topics(topics: &[String]) -> Result<(), ControlError> {
    if topics.len() > topic::MAX_SUBSCRIPTIONS {
        return Err(ControlError::Limit("at most 64 topics are listened to"));
    }
    if topics.iter().any(|t| t != topic::EVERY_TOPIC && !topic::is_topic(t)) {
        return Err(ControlError::Limit("a topic has 1 to 64 bytes and no control characters"));
    }
    Ok(())
}

impl Policy {
    /// Checks the limits of a policy that came from a peer.
    pub fn check(&self) -> Result<(), ControlError> {
        if self.pins.len() > MAX_PINS {
            return Err(ControlError::Limit("a policy has at most 64 pins"));
        }
        if self.slot_heights.len() > MAX_PINS {
            return Err(ControlError::Limit("a policy has at most 64 slot heights"));
        }
        Ok(())
    }
}

impl ServerMessage {
    /// The message as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("no map with non-text keys, no fallible Serialize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_as_documented() {
        let m =
            ClientMessage::parse(br#"{"id":7,"type":"mute","source":"microphone","muted":true}"#).unwrap();
        assert_eq!(m.id, 7);
        assert_eq!(m.request, Request::Mute { source: Source::Microphone, muted: true });
        let m = ClientMessage::parse(
            br#"{"id":8,"type":"policy","policy":{"pins":[{"participant":"pa_1"}],"max_height":360}}"#,
        )
        .unwrap();
        let Request::Policy { policy } = m.request else { panic!("policy") };
        assert_eq!(policy.pins[0].source, Source::Camera);
        assert_eq!(policy.max_height, Some(360));
    }

    #[test]
    fn hostile_requests_are_typed_errors() {
        for bad in [
            &b"{"[..],
            b"[]",
            b"{\"id\":1}",
            b"{\"id\":-1,\"type\":\"sync\"}",
            b"{\"id\":1,\"type\":\"nope\"}",
            b"\xff",
        ] {
            assert!(matches!(ClientMessage::parse(bad), Err(ControlError::Malformed(_))));
        }
        let long = vec![b' '; MAX_MESSAGE_BYTES + 1];
        assert!(matches!(ClientMessage::parse(&long), Err(ControlError::TooLarge(_))));
        let name = "x".repeat(65);
        let rename = format!(r#"{{"id":1,"type":"rename","name":"{name}"}}"#);
        assert!(matches!(ClientMessage::parse(rename.as_bytes()), Err(ControlError::Limit(_))));
    }

    #[test]
    fn messages_round_trip() {
        let message = ServerMessage::Slots {
            slots: vec![SlotAssignment {
                mid: "4".into(),
                participant: None,
                source: None,
                csrc: None,
                rtp_time: None,
            }],
        };
        assert_eq!(message.to_json(), r#"{"type":"slots","slots":[{"mid":"4"}]}"#);
        let back: ServerMessage = serde_json::from_str(&message.to_json()).unwrap();
        assert_eq!(back, message);
    }
}
