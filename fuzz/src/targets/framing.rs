//! Any bytes as a TCP stream: in one piece and in small ones it holds the same packets, and little is kept meanwhile.
//! The first byte is the size of the pieces.

use std::ops::ControlFlow;

use antiphon_wire::framing::{Deframer, LENGTH_BYTES, MAX_PACKET_BYTES, TooLong};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&size, stream)) = bytes.split_first() else { return };
    let pieces = found(stream.chunks(usize::from(size).max(1)));
    assert_eq!(pieces, found(std::iter::once(stream)));
}

fn found<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, TooLong> {
    let (mut deframer, mut packets) = (Deframer::default(), Vec::new());
    for piece in pieces {
        let _ = deframer.read(piece, |packet| {
            packets.push(packet.to_vec());
            ControlFlow::<()>::Continue(())
        })?;
        assert!(deframer.waiting() < LENGTH_BYTES + MAX_PACKET_BYTES, "a packet at most is kept");
    }
    Ok(packets)
}
