//! Switches, packets and drops of any numbers through one slot.

use antiphon_wire::rtp::rewrite::{SlotRewriter, Start};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let mut slot = SlotRewriter::new(Start { seq: 65_530, rtp_time: u32::MAX, picture_id: 0x7fff, tl0: 255 });
    let mut calls = 0;
    for (action, packet) in crate::packets::read(bytes, None) {
        match action & 0x07 {
            0 => slot.switch(&packet),
            1 => {
                slot.drop(&packet);
                calls += 1;
            }
            _ => {
                if let Some(out) = slot.rewrite(&packet) {
                    let mut payload = packet.payload.to_vec();
                    out.picture.apply(&packet.descriptor, &mut payload);
                }
                calls += 1;
            }
        }
    }
    let c = slot.counters();
    assert_eq!(c.rewritten + c.dropped + c.refused_source + c.refused_old + c.refused_dropped, calls);
}
