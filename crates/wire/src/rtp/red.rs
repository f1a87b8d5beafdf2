//! Redundant audio (RFC 2198): the primary block, without what the packet repeats of earlier ones.

use super::bits::Bytes;

/// Most redundant blocks of one packet; browsers send one or two.
pub const MAX_BLOCKS: usize = 32;

/// The payload type and bytes of the primary block. `None` if the payload is malformed or the block is empty.
///
/// A slot sends the first packets after a switch this way: what a RED packet repeats was said before the switch,
/// and belongs to nobody the subscriber was told of (`docs/design/slot-switch.md`).
pub fn primary(payload: &[u8]) -> Option<(u8, &[u8])> {
    let mut r = Bytes::new(payload);
    let mut redundant = 0usize;
    for _ in 0..=MAX_BLOCKS {
        let head = r.u8()?;
        if head & 0x80 == 0 {
            r.take(redundant)?;
            return Some((head & 0x7f, r.rest())).filter(|(_, block)| !block.is_empty());
        }
        r.u8()?; // upper bits of the timestamp offset
        redundant += usize::from(r.u16()? & 0x03ff);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_block_stands_last() {
        // One redundant block of 3 bytes, 960 samples back (offset 0x3c0), then the primary of type 111.
        let packet = [0x80 | 111, 0x0f, 0x00, 0x03, 111, 1, 2, 3, 9, 8];
        assert_eq!(primary(&packet), Some((111, &[9, 8][..])));
        assert_eq!(primary(&[111, 7]), Some((111, &[7][..])));
        for len in 0..=8 {
            assert_eq!(primary(&packet[..len]), None, "{len}");
        }
        assert_eq!(primary(&[0xff; 400]), None);
    }
}
