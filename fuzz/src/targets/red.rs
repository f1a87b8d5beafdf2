//! Audio packets as RED of a publisher, and through a slot out to a subscriber that loses some and is told them again.

use std::sync::Arc;

use antiphon_base::{AudioCodec, Codec, MediaKind};
use antiphon_room::Feed;
use antiphon_room::slot::Slot;
use antiphon_shard::fuzzing::red::{repeat, undo};
use antiphon_wire::rtp::rewrite::Start;

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let start = Start { seq: 65_530, rtp_time: u32::MAX, picture_id: 0x7fff, tl0: 255 };
    let mut slot = Slot::new(MediaKind::Audio, start);
    let (mut all, mut out, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for (action, mut packet) in crate::packets::read(bytes, Some(Codec::Audio(AudioCodec::Opus))) {
        if action & 0x10 != 0 {
            // Longer than is repeated.
            packet.payload = packet.payload.repeat(2).into();
        }
        if action & 0x20 != 0 {
            slot.want(Some(Feed { track: packet.track, layer: 0 }));
        }
        let packet = Arc::new(packet);
        slot.admit(&packet, &mut out);
        sent.extend(out.drain(..).map(|outgoing| (outgoing, usize::from(action & 3), action & 0x0c == 0x0c)));
        all.push(packet);
    }
    undo(&all);
    repeat(sent);
}
