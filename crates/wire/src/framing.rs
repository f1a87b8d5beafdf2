//! Packets in a byte stream, each behind its length in 16 bits (RFC 4571, section 2); so ICE, DTLS and media run over TCP
//! (RFC 6544, section 3).

use std::ops::ControlFlow;

/// Bytes of the length.
pub const LENGTH_BYTES: usize = 2;
/// Longest packet taken, as for UDP: above the MTU of Ethernet; what is longer is not WebRTC.
pub const MAX_PACKET_BYTES: usize = 2_048;

/// A packet announced with more than [`MAX_PACKET_BYTES`]: the stream cannot be one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// The length announced.
    pub bytes: usize,
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a packet of {} bytes, more than {MAX_PACKET_BYTES}", self.bytes)
    }
}

impl std::error::Error for TooLong {}

/// The length to write before a packet. `None`: it is too long to be framed.
pub fn length(packet: &[u8]) -> Option<[u8; LENGTH_BYTES]> {
    u16::try_from(packet.len()).ok().map(u16::to_be_bytes)
}

/// The length that `bytes` begin with; `None`: it is not complete.
fn announced(bytes: &[u8]) -> Result<Option<usize>, TooLong> {
    let Some(&[high, low]) = bytes.get(..LENGTH_BYTES) else { return Ok(None) };
    let bytes = usize::from(u16::from_be_bytes([high, low]));
    if bytes > MAX_PACKET_BYTES { Err(TooLong { bytes }) } else { Ok(Some(bytes)) }
}

/// The first packet of `bytes`; `None`: it is not complete.
///
/// # Errors
/// [`TooLong`].
pub fn first(bytes: &[u8]) -> Result<Option<&[u8]>, TooLong> {
    Ok(announced(bytes)?.and_then(|length| bytes.get(LENGTH_BYTES..LENGTH_BYTES + length)))
}

/// Takes a stream apart. Holds at most one packet.
#[derive(Debug, Default)]
pub struct Deframer {
    /// The beginning of a packet whose end has not come.
    partial: Vec<u8>,
}

impl Deframer {
    /// The next bytes of the stream, and whole packets for `take`, until it breaks. Empty packets are left out.
    ///
    /// # Errors
    /// [`TooLong`]; nothing of the stream can be found after that.
    pub fn read<B>(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, TooLong> {
        while !self.partial.is_empty() {
            let wanted = LENGTH_BYTES + announced(&self.partial)?.unwrap_or(0);
            let missing = wanted.saturating_sub(self.partial.len());
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.partial.extend_from_slice(now);
            bytes = later;
            match first(&self.partial)? {
                None if bytes.is_empty() => return Ok(ControlFlow::Continue(())),
                None => {}
                Some(packet) => {
                    let flow = if packet.is_empty() { ControlFlow::Continue(()) } else { take(packet) };
                    self.partial.clear();
                    if flow.is_break() {
                        return Ok(flow);
                    }
                }
            }
        }
        while let Some(packet) = first(bytes)? {
            bytes = &bytes[LENGTH_BYTES + packet.len()..];
            if !packet.is_empty()
                && let flow @ ControlFlow::Break(_) = take(packet)
            {
                return Ok(flow);
            }
        }
        self.partial.extend_from_slice(bytes);
        Ok(ControlFlow::Continue(()))
    }

    /// Bytes of a packet whose end has not come.
    pub fn waiting(&self) -> usize {
        self.partial.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::testing::Random;

    fn framed(packets: &[&[u8]]) -> Vec<u8> {
        packets.iter().flat_map(|p| [&length(p).unwrap()[..], p].concat()).collect()
    }

    /// Packets found in a stream that comes in these pieces.
    fn found(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, TooLong> {
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

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        let long = vec![7; MAX_PACKET_BYTES];
        let packets: [&[u8]; 5] = [b"one", b"", b"three", &long, b"five"];
        let wanted: Vec<&[u8]> = packets.into_iter().filter(|p| !p.is_empty()).collect();
        let stream = framed(&packets);
        for cut in 0..=stream.len() {
            assert_eq!(found(&[&stream[..cut], &stream[cut..]]).unwrap(), wanted, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(found(&bytes).unwrap(), wanted);
    }

    #[test]
    fn what_is_too_long_ends_the_stream() {
        let error = TooLong { bytes: MAX_PACKET_BYTES + 1 };
        assert_eq!(found(&[&[8, 1, 0]]), Err(error));
        assert_eq!(found(&[&[8], &[1]]), Err(error));
        assert!(length(&vec![0; 65_536]).is_none());
    }

    /// The short form of the fuzz target `framing`.
    #[test]
    fn mutated_streams_are_the_same_however_they_come() {
        let genuine = framed(&[b"one", &[1; 40], b"", &[2; 1_200], b"five"]);
        let mut random = Random(11);
        for round in 0..20_000 {
            let stream = if round % 4 == 0 { random.bytes(64) } else { random.mutate(&genuine) };
            let whole = found(&[&stream]);
            let mut pieces = Vec::new();
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(1 + random.index(rest.len()));
                pieces.push(piece);
                rest = later;
            }
            assert_eq!(found(&pieces), whole, "round {round}: {stream:?}");
        }
    }

    #[test]
    fn who_has_enough_is_given_no_more() {
        let mut seen = 0;
        let flow = Deframer::default().read(&framed(&[b"a", b"b"]), |_| {
            seen += 1;
            ControlFlow::Break("enough")
        });
        assert_eq!((flow, seen), (Ok(ControlFlow::Break("enough")), 1));
    }
}
