//! What the engine tells its host.

use std::sync::Arc;

use antiphon_base::{ParticipantKey, TrackKey};
use antiphon_wire::control::{LeaveReason, ServerMessage};
use antiphon_wire::topic;

use crate::recording::RecordingView;

/// The most layers of a track: they are counted in a mask of eight bits.
pub const MAX_LAYERS: u8 = 8;

/// One layer of one track: what a slot shows, a tap takes, a keyframe is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Feed {
    /// Which track.
    pub track: TrackKey,
    /// Simulcast index, or spatial layer of the track's only RTP stream; 0 = lowest; 0 for audio.
    pub layer: u8,
}

/// A receive slot of one participant: the position in its [`SlotPlan`](crate::SlotPlan): audio slots, video slots,
/// screen slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u16);

/// A track wanted by an in-process subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapRequest {
    /// Which track. Need not exist yet.
    pub track: TrackKey,
    /// The highest layer at or below this height, in pixels; `None`: the highest there is.
    pub max_height: Option<u16>,
}

/// Something to do for the host. In order; none may be skipped.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A control message to one participant.
    Send {
        /// To whom.
        to: ParticipantKey,
        /// What.
        message: ServerMessage,
    },
    /// What a slot shall show from now on; the subscriber's [`Slot`](crate::slot::Slot) switches when it can, and the host
    /// says so by [`Room::switched`](crate::Room::switched).
    Route {
        /// Whose slot.
        subscriber: ParticipantKey,
        /// Which.
        slot: SlotId,
        /// What; `None`: nothing.
        feed: Option<Feed>,
        /// The highest temporal layer of it; `None`: all.
        temporal: Option<u8>,
    },
    /// Packets of this feed go to this in-process subscriber, or do not any more. While a tap changes layers both are on
    /// until a keyframe of the new one was seen.
    Tap {
        /// To whom.
        subscriber: ParticipantKey,
        /// What.
        feed: Feed,
        /// Whether.
        on: bool,
    },
    /// Ask the publisher for a keyframe now (PLI). Already coalesced.
    Keyframe {
        /// Of what.
        feed: Feed,
    },
    /// These layers of a track are wanted by somebody; packets of others are dropped at ingress (their audio levels are
    /// still told). Until the first of these for a track, none is.
    Wanted {
        /// Which track.
        track: TrackKey,
        /// Bit `n`: layer `n`.
        layers: u8,
    },
    /// What a subscriber would be sent in its slots if nothing limited it: the host need not look for more bandwidth.
    Demand {
        /// Who.
        subscriber: ParticipantKey,
        /// Bits per second; 0: there is no choice of layers.
        bps: u64,
    },
    /// A publisher without control channel shall send no more than this: nobody watches more. Told again and again by RTCP
    /// until there is another word.
    Bound {
        /// Who.
        publisher: ParticipantKey,
        /// Bits per second of all its media; `None`: as much as it likes.
        bps: Option<u64>,
    },
    /// A message on a topic to these, who may be slow: where it does not fit it is dropped and counted.
    Data {
        /// To whom.
        to: Vec<ParticipantKey>,
        /// What.
        message: Arc<topic::Message>,
    },
    /// What a recorder must know of its recording: first who has to be left out, then the taps.
    Recording {
        /// The recorder.
        to: ParticipantKey,
        /// How it stands.
        view: RecordingView,
    },
    /// A participant is out: close its connection, forget its slots, taps and tracks.
    Ended {
        /// Who.
        key: ParticipantKey,
        /// Why.
        reason: LeaveReason,
    },
    /// A participant came back on a new connection: close the old one, silently.
    Dropped {
        /// Who.
        key: ParticipantKey,
    },
}
