//! The RTP header (RFC 3550, 5.1) and one-byte header extensions (RFC 8285, 4.2): written from fields, and read.

use super::bits::Bytes;

/// Most CSRCs of one packet: the header counts them in four bits.
pub const MAX_CSRCS: usize = 15;

/// Fields of an RTP header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Marker.
    pub marker: bool,
    /// Seven bits.
    pub payload_type: u8,
    /// Sequence number as on the wire.
    pub seq: u16,
    /// Timestamp as on the wire.
    pub rtp_time: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Contributing sources; those beyond [`MAX_CSRCS`] are not written.
    pub csrcs: Vec<u32>,
    /// RFC 6464 level and voice flag, with the extension's id (1 to 14).
    pub audio_level: Option<(u8, super::AudioLevel)>,
}

/// Why bytes are not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than its header says.
    #[error("RTP packet ends early")]
    Short,
    /// Version other than 2.
    #[error("RTP version {0}")]
    Version(u8),
    /// More padding than payload.
    #[error("RTP padding is longer than the payload")]
    Padding,
}

/// Writes a packet.
pub fn serialize(header: &Header, payload: &[u8]) -> Vec<u8> {
    let csrcs = header.csrcs.get(..MAX_CSRCS).unwrap_or(&header.csrcs);
    let count = u8::try_from(csrcs.len()).expect("at most fifteen");
    let extension = header.audio_level.filter(|(id, _)| (1..=14).contains(id));
    let mut out = Vec::with_capacity(12 + 4 * csrcs.len() + 8 + payload.len());
    out.push(0x80 | u8::from(extension.is_some()) << 4 | count);
    out.push(u8::from(header.marker) << 7 | header.payload_type & 0x7f);
    out.extend(header.seq.to_be_bytes());
    out.extend(header.rtp_time.to_be_bytes());
    out.extend(header.ssrc.to_be_bytes());
    for csrc in csrcs {
        out.extend(csrc.to_be_bytes());
    }
    if let Some((id, level)) = extension {
        out.extend([0xbe, 0xde, 0, 1, id << 4, u8::from(level.voice) << 7 | level.level & 0x7f, 0, 0]);
    }
    out.extend_from_slice(payload);
    out
}

/// Reads a packet: its header (extensions are skipped) and its payload without padding.
pub fn parse(packet: &[u8]) -> Result<(Header, &[u8]), Error> {
    let first = *packet.first().ok_or(Error::Short)?;
    if first >> 6 != 2 {
        return Err(Error::Version(first >> 6));
    }
    let (header, payload) = read(packet).ok_or(Error::Short)?;
    if first & 0x20 == 0 {
        return Ok((header, payload));
    }
    let padding = usize::from(*payload.last().ok_or(Error::Padding)?);
    match payload.len().checked_sub(padding) {
        Some(len) if padding > 0 => Ok((header, payload.get(..len).unwrap_or(&[]))),
        _ => Err(Error::Padding),
    }
}

fn read(packet: &[u8]) -> Option<(Header, &[u8])> {
    let mut r = Bytes::new(packet);
    let first = r.u8()?;
    let second = r.u8()?;
    let mut header = Header {
        marker: second & 0x80 != 0,
        payload_type: second & 0x7f,
        seq: r.u16()?,
        rtp_time: r.u32()?,
        ssrc: r.u32()?,
        ..Header::default()
    };
    for _ in 0..first & 0x0f {
        header.csrcs.push(r.u32()?);
    }
    if first & 0x10 != 0 {
        r.u16()?;
        let words = usize::from(r.u16()?);
        r.take(4 * words)?;
    }
    Some((header, r.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::AudioLevel;

    #[test]
    fn what_is_written_reads_back() {
        let header = Header {
            marker: true,
            payload_type: 111,
            seq: 65_535,
            rtp_time: 0xdead_beef,
            ssrc: 7,
            csrcs: vec![1, 2],
            audio_level: Some((1, AudioLevel { level: 30, voice: true })),
        };
        let bytes = serialize(&header, b"opus");
        let (read, payload) = parse(&bytes).unwrap();
        assert_eq!(payload, b"opus");
        assert_eq!(read, Header { audio_level: None, ..header });
        assert_eq!(bytes.get(20..28), Some(&[0xbe, 0xde, 0, 1, 0x10, 0x80 | 30, 0, 0][..]));
        for len in 0..28 {
            assert!(parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn padding_is_checked() {
        let mut bytes = serialize(&Header::default(), &[1, 2, 3]);
        bytes[0] |= 0x20;
        assert_eq!(parse(&bytes).unwrap().1, &[] as &[u8]);
        *bytes.last_mut().unwrap() = 4;
        assert_eq!(parse(&bytes), Err(Error::Padding));
        assert_eq!(parse(&[0x40]), Err(Error::Version(1)));
    }
}
