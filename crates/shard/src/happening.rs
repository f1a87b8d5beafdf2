//! What has happened on a connection, for the shard to look at.

use std::sync::Arc;

use antiphon_base::{Codec, Source};
use antiphon_room::{Bandwidth, KeyframeCause, SlotId};
use antiphon_wire::rtp::Descriptor;
use antiphon_wire::rtp::dependency::Dependency;

use crate::egress::Feedback;

/// A media packet that came in.
pub(crate) struct Ingress {
    pub(crate) source: Source,
    pub(crate) layer: u8,
    pub(crate) codec: Codec,
    pub(crate) packet: RtpIn,
}

/// The parts of a packet that the shard makes its own packet of.
pub(crate) struct RtpIn {
    pub(crate) seq: u64,
    pub(crate) rtp_time: u64,
    pub(crate) marker: bool,
    pub(crate) payload: Arc<[u8]>,
    pub(crate) capture_us: u64,
    pub(crate) capture_estimated: bool,
    pub(crate) audio_level: Option<(u8, bool)>,
    pub(crate) descriptor: Descriptor,
    pub(crate) dependency: Option<Arc<Dependency>>,
    pub(crate) spatial_layers: u8,
}

/// What happened on a connection.
pub(crate) enum Happening {
    /// ICE and DTLS are up.
    Connected,
    /// The control channel is open.
    ControlOpen,
    /// A control message.
    Control(Vec<u8>),
    /// A message on a topic, as it came.
    Data(Vec<u8>),
    /// A channel for messages on topics takes more.
    DataReady,
    /// Media.
    Media(Box<Ingress>),
    /// A keyframe is needed in a slot.
    KeyframeWanted(SlotId, KeyframeCause),
    /// How much the peer can receive.
    Bandwidth(Bandwidth),
    /// The connection is over.
    Closed,
}

impl From<Feedback> for Happening {
    fn from(said: Feedback) -> Self {
        match said {
            Feedback::KeyframeWanted(slot, cause) => Self::KeyframeWanted(slot, cause),
            Feedback::Bandwidth(bandwidth) => Self::Bandwidth(bandwidth),
        }
    }
}
