//! Any bytes as a TCP stream: in one piece and in small ones it holds the same packets, and little is kept meanwhile.
#![no_main]

use std::ops::ControlFlow;

use antiphon_wire::framing::{Deframer, LENGTH_BYTES, MAX_PACKET_BYTES, TooLong};
use libfuzzer_sys::fuzz_target;

fn found<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, TooLong> {
    let (mut deframer, mut packets) = (Deframer::default(), Vec::new());
    for piece in pieces {
        let _ = deframer.read(piece, |packet| {
            packets.push(packet.to_vec());
            ControlFlow::<()>::Continue(())
        })?;
        assert!(deframer.waiting() < LENGTH_BYTES + MAX_PACKET_BYTES);
    }
    Ok(packets)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, stream) = input;
    let pieces = found(stream.chunks(usize::from(size).max(1)));
    assert_eq!(pieces, found(std::iter::once(stream)));
});
