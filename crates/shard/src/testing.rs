//! What unit tests of several modules build.

use std::sync::Arc;
use std::time::Instant;

use antiphon_base::{Codec, ParticipantKey, Source, TrackKey};
use antiphon_wire::rtp::{Descriptor, Packet};

/// A packet of the first participant's camera, of one spatial layer; what matters to a test it sets itself.
pub(crate) fn packet(codec: Codec, payload: &[u8]) -> Packet {
    Packet {
        track: TrackKey { participant: ParticipantKey(1), source: Source::Camera },
        layer: 0,
        codec,
        seq: 1,
        rtp_time: 2,
        marker: true,
        descriptor: Descriptor::parse(codec, payload),
        payload: Arc::from(payload),
        arrival: Instant::now(),
        arrival_us: 0,
        capture_us: 0,
        capture_estimated: false,
        audio_level: None,
        dependency: None,
        spatial_layers: 1,
    }
}
