//! Packets of any layers, with any dependency descriptors, through a slot whose wishes change.

use std::sync::Arc;

use antiphon_base::{Codec, MediaKind, VideoCodec};
use antiphon_room::Feed;
use antiphon_room::slot::Slot;
use antiphon_wire::rtp::Packet;
use antiphon_wire::rtp::dependency::{MAX_BYTES, Reader};
use antiphon_wire::rtp::rewrite::Start;

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let start = Start { seq: 65_530, rtp_time: u32::MAX, picture_id: 0x7fff, tl0: 255 };
    let mut slot = Slot::new(MediaKind::Video, start);
    let (mut reader, mut out) = (Reader::new(), Vec::new());
    for (action, mut packet) in crate::packets::read(bytes, None) {
        let layer = action >> 3 & 3;
        match action & 7 {
            0 => drop(slot.want(None)),
            1 => drop(slot.want(Some(Feed { track: packet.track, layer }))),
            2 => slot.limit_temporal(Some(layer)),
            3 => slot.limit_temporal(None),
            _ => {}
        }
        if packet.codec.kind() == MediaKind::Audio {
            packet.codec = Codec::Video(VideoCodec::Av1);
        }
        packet.spatial_layers = 1 + layer;
        if action & 0x80 != 0
            && let Ok(dependency) = reader.read(&packet.payload)
        {
            packet.spatial_layers = dependency.structure.spatial_layers();
            packet.dependency = Some(Arc::new(dependency));
        }
        slot.admit(&Arc::new(packet), &mut out);
        let _ = (slot.current(), slot.needs_keyframe());
    }
    assert_eq!(u64::try_from(out.len()).ok(), Some(slot.counters().sent));
    for outgoing in &out {
        let packet: &Packet = &outgoing.packet;
        let mut payload = packet.payload.to_vec();
        outgoing.rewritten.picture.apply(&packet.descriptor, &mut payload);
        assert_eq!(payload.len(), packet.payload.len());
        if let (Some(dependency), Some(patch)) = (&packet.dependency, &outgoing.rewritten.dependency) {
            let mut descriptor = Vec::new();
            assert!(dependency.write(patch, &mut descriptor) <= MAX_BYTES);
        }
    }
}
