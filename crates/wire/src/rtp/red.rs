//! Redundant audio (RFC 2198): a packet that carries earlier ones beside its own, read and written.
//!
//! A block's head is `1|PT(7)|offset(14)|length(10)`, the primary's `0|PT(7)`; then the blocks' bytes, primary last.

use super::bits::Bytes;

/// Most redundant blocks of one packet; browsers send one or two.
pub const MAX_BLOCKS: usize = 32;
/// The longest redundant block: ten bits (RFC 2198, section 3).
pub const MAX_BLOCK_BYTES: usize = 0x3ff;
/// How far back a block may be, in RTP time: fourteen bits.
pub const MAX_OFFSET: u32 = 0x3fff;

/// What a packet repeats of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// RTP payload type of `data`.
    pub payload_type: u8,
    /// How much earlier than the packet it is, in RTP time.
    pub offset: u32,
    /// Its payload.
    pub data: &'a [u8],
}

/// Reads a payload: the payload type and bytes of the primary block. `each` gets the redundant ones, oldest first.
/// `None` if it is malformed or the primary block is empty; `each` was not called then.
pub fn read<'a>(payload: &'a [u8], mut each: impl FnMut(Block<'a>)) -> Option<(u8, &'a [u8])> {
    let mut heads = Bytes::new(payload);
    let (mut count, mut redundant) = (0, 0usize);
    let payload_type = loop {
        let head = heads.u8()?;
        if head & 0x80 == 0 {
            break head;
        }
        count += 1;
        if count > MAX_BLOCKS {
            return None;
        }
        heads.u8()?;
        redundant += usize::from(heads.u16()? & 0x03ff);
    };
    let mut bodies = heads;
    heads.take(redundant)?;
    let primary = Some(heads.rest()).filter(|block| !block.is_empty())?;
    let mut again = Bytes::new(payload);
    for _ in 0..count {
        let payload_type = again.u8()? & 0x7f;
        let (high, low) = (u32::from(again.u8()?), u32::from(again.u16()?));
        let (offset, length) = (high << 6 | low >> 10, low & 0x03ff);
        let data = bodies.take(usize::try_from(length).ok()?)?;
        each(Block { payload_type, offset, data });
    }
    Some((payload_type, primary))
}

/// The payload type and bytes of the primary block alone.
pub fn primary(payload: &[u8]) -> Option<(u8, &[u8])> {
    read(payload, |_| {})
}

/// Writes the heads and the redundant blocks behind what stands in `out`; the primary's payload, of `payload_type`,
/// follows by the caller. Blocks that are too long or too far back are left out; `blocks` are given oldest first.
pub fn write_head(payload_type: u8, blocks: &[Block<'_>], out: &mut Vec<u8>) {
    let fits = |b: &&Block<'_>| b.data.len() <= MAX_BLOCK_BYTES && b.offset <= MAX_OFFSET && b.offset > 0;
    for block in blocks.iter().filter(fits) {
        let length = u32::try_from(block.data.len()).unwrap_or(0);
        let head = u32::from(0x80 | block.payload_type) << 24 | block.offset << 10 | length;
        out.extend(head.to_be_bytes());
    }
    out.push(payload_type & 0x7f);
    for block in blocks.iter().filter(fits) {
        out.extend_from_slice(block.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_block_stands_last() {
        // One redundant block of 3 bytes, 960 samples back (offset 0x3c0), then the primary of type 111.
        let packet = [0x80 | 111, 0x0f, 0x00, 0x03, 111, 1, 2, 3, 9, 8];
        assert_eq!(primary(&packet), Some((111, &[9, 8][..])));
        let mut seen = Vec::new();
        read(&packet, |block| seen.push(block));
        assert_eq!(seen, [Block { payload_type: 111, offset: 960, data: &[1, 2, 3] }]);
        assert_eq!(primary(&[111, 7]), Some((111, &[7][..])));
        for len in 0..=8 {
            let mut called = false;
            assert_eq!(read(&packet[..len], |_| called = true), None, "{len}");
            assert!(!called);
        }
        assert_eq!(primary(&[0xff; 400]), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let long = [7; MAX_BLOCK_BYTES + 1];
        let block = |offset, data| Block { payload_type: 111, offset, data };
        let good = [block(1_920, &[1, 2][..]), block(960, &[][..]), block(MAX_OFFSET, &long[1..])];
        let bad = [block(0, &[1][..]), block(MAX_OFFSET + 1, &[1][..]), block(960, &long[..])];
        let all: Vec<_> = good.into_iter().chain(bad).collect();
        let mut packet = Vec::new();
        write_head(111, &all, &mut packet);
        packet.extend([9, 9, 9]);
        let mut seen = Vec::new();
        assert_eq!(read(&packet, |b| seen.push(b)), Some((111, &[9, 9, 9][..])));
        assert_eq!(seen, good);
    }

    #[test]
    fn any_bytes_do_no_harm() {
        let mut random = crate::rtp::testing::Random(2_198);
        let seed = [0x80 | 111, 0x0f, 0x00, 0x03, 0x80 | 111, 0x07, 0x80, 0x02, 111, 1, 2, 3, 4, 5, 9];
        for _ in 0..20_000 {
            let bytes = random.mutate(&seed);
            let mut sum = 0;
            if let Some((_, primary)) = read(&bytes, |block| sum += 4 + block.data.len()) {
                assert_eq!(sum + 1 + primary.len(), bytes.len());
            }
        }
    }
}
