//! Packets of any layers through a slot and out to a subscriber that says any RTCP: what leaves is well-formed.

use std::sync::Arc;

use antiphon_base::{Codec, MediaKind, VideoCodec};
use antiphon_room::Feed;
use antiphon_room::slot::Slot;
use antiphon_wire::rtp::dependency::Reader;
use antiphon_wire::rtp::rewrite::Start;

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let start = Start { seq: 65_530, rtp_time: u32::MAX, picture_id: 0x7fff, tl0: 255 };
    let (mut slot, mut reader, mut out) = (Slot::new(MediaKind::Video, start), Reader::new(), Vec::new());
    let (length, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let (rtcp, bytes) = bytes.split_at(usize::from(*length).min(bytes.len()));
    for (action, mut packet) in crate::packets::read(bytes, None) {
        if packet.codec.kind() == MediaKind::Audio {
            packet.codec = Codec::Video(VideoCodec::Av1);
        }
        if action & 1 != 0
            && let Ok(dependency) = reader.read(&packet.payload)
        {
            packet.spatial_layers = dependency.structure.spatial_layers();
            packet.dependency = Some(Arc::new(dependency));
        }
        slot.want(Some(Feed { track: packet.track, layer: action >> 6 }));
        slot.admit(&Arc::new(packet), &mut out);
    }
    antiphon_shard::fuzzing::egress(out, rtcp);
}
