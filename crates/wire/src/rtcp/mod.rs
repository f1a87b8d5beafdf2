//! RTCP as a sender of media needs it: what its receivers tell (RFC 3550 section 6.4, RFC 4585, RFC 5104, REMB,
//! transport-wide feedback), and its own sender reports. Compound packets, decrypted.

use crate::rtp::bits::Bytes;

pub mod transport;

#[cfg(test)]
mod tests;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

/// RFC 3550, 6.4.1: bytes of a report block.
const BLOCK_BYTES: usize = 24;
/// RFC 3550, 6.5: SDES item CNAME.
const CNAME: u8 = 1;

/// What one receiver says of one SSRC (RFC 3550, 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// Of whom.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Extended highest sequence number received.
    pub highest_seq: u32,
    /// Interarrival jitter, in units of the RTP clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; 0: none yet.
    pub last_report: u32,
    /// Delay since that one, in 1/65536 s.
    pub delay: u32,
}

impl ReportBlock {
    /// Round-trip time in 1/65536 s, at `now` (middle 32 bits of NTP time); `None` without a report to go by, or where
    /// the peer's numbers make no sense.
    pub fn round_trip(&self, now: u32) -> Option<u32> {
        let rtt = now.wrapping_sub(self.last_report).wrapping_sub(self.delay);
        (self.last_report != 0 && rtt < 1 << 31).then_some(rtt)
    }
}

/// One message of a compound packet. Unknown types are [`Message::Other`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A block of a sender or receiver report.
    Report(ReportBlock),
    /// Something a receiver of the peer's media must see: sender report, BYE, extended report.
    ForReceiver,
    /// Generic NACK (RFC 4585, 6.2.1).
    Nack {
        /// Of whom packets are missing.
        media: u32,
        /// Which.
        lost: Lost<'a>,
    },
    /// Picture loss indication (RFC 4585, 6.3.1) or full intra request (RFC 5104, 4.3.1).
    KeyframeRequest {
        /// Of whom a key frame is wanted.
        media: u32,
    },
    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
    MaxBitrate {
        /// Bits per second.
        bps: u64,
    },
    /// Which packets of the connection came, and when (transport-wide feedback).
    Transport(transport::Feedback<'a>),
    /// Anything else.
    Other,
}

/// Sequence numbers of a NACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost<'a> {
    entries: &'a [u8],
    current: Option<(u16, u32)>,
}

impl Iterator for Lost<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        loop {
            if let Some((seq, mask)) = self.current.take().filter(|(_, mask)| *mask != 0) {
                let skip = u16::try_from(mask.trailing_zeros()).unwrap_or(0);
                self.current = Some((seq, mask & (mask - 1)));
                return Some(seq.wrapping_add(skip));
            }
            let (entry, rest) = self.entries.split_at_checked(4)?;
            self.entries = rest;
            let word = |i: usize| u16::from_be_bytes([entry[i], entry[i + 1]]);
            self.current = Some((word(0), u32::from(word(2)) << 1 | 1));
        }
    }
}

/// Reads a compound packet. What does not parse ends it: the rest cannot be found.
pub fn read<'a>(compound: &'a [u8], mut take: impl FnMut(Message<'a>)) {
    let mut rest = compound;
    while let Some((packet, tail)) = split(rest) {
        rest = tail;
        let _ = read_packet(packet, &mut take);
    }
}

/// One packet (RFC 3550, 6.4): version 2, length in words less one.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [first, _, high, low, ..] = bytes else { return None };
    if first >> 6 != 2 {
        return None;
    }
    let length = 4 * (usize::from(u16::from_be_bytes([*high, *low])) + 1);
    bytes.split_at_checked(length)
}

fn read_packet<'a>(packet: &'a [u8], take: &mut impl FnMut(Message<'a>)) -> Option<()> {
    let mut r = Bytes::new(packet);
    let first = r.u8()?;
    let kind = r.u8()?;
    r.u16()?;
    let count = first & 0x1f;
    match kind {
        SENDER_REPORT => {
            take(Message::ForReceiver);
            r.take(24)?;
            read_blocks(&mut r, count, take)?;
        }
        RECEIVER_REPORT => {
            r.u32()?;
            read_blocks(&mut r, count, take)?;
        }
        GOODBYE | EXTENDED_REPORT => take(Message::ForReceiver),
        TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => {
            r.u32()?;
            let media = r.u32()?;
            read_feedback(kind, count, media, r.rest(), take);
        }
        _ => take(Message::Other),
    }
    Some(())
}

fn read_blocks<'a>(r: &mut Bytes<'a>, count: u8, take: &mut impl FnMut(Message<'a>)) -> Option<()> {
    for _ in 0..count {
        let mut block = Bytes::new(r.take(BLOCK_BYTES)?);
        let ssrc = block.u32()?;
        let fraction_lost = block.u8()?;
        block.take(3)?;
        take(Message::Report(ReportBlock {
            ssrc,
            fraction_lost,
            highest_seq: block.u32()?,
            jitter: block.u32()?,
            last_report: block.u32()?,
            delay: block.u32()?,
        }));
    }
    Some(())
}

fn read_feedback<'a>(kind: u8, format: u8, media: u32, body: &'a [u8], take: &mut impl FnMut(Message<'a>)) {
    match (kind, format) {
        (TRANSPORT_FEEDBACK, 1) => take(Message::Nack { media, lost: Lost { entries: body, current: None } }),
        (TRANSPORT_FEEDBACK, 15) => {
            take(transport::Feedback::parse(body).map_or(Message::Other, Message::Transport));
        }
        (PAYLOAD_FEEDBACK, 1) => take(Message::KeyframeRequest { media }),
        // A FIR names its media sources in entries of eight bytes.
        (PAYLOAD_FEEDBACK, 4) => {
            for entry in body.chunks_exact(8) {
                let media = u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]);
                take(Message::KeyframeRequest { media });
            }
        }
        (PAYLOAD_FEEDBACK, 15) => take(read_remb(body).unwrap_or(Message::Other)),
        _ => take(Message::Other),
    }
}

/// draft-alvestrand-rmcat-remb-03, section 2.2.
fn read_remb(body: &[u8]) -> Option<Message<'static>> {
    let mut r = Bytes::new(body.strip_prefix(b"REMB")?);
    r.u8()?;
    let high = r.u8()?;
    let low = r.u16()?;
    let mantissa = u64::from(high & 3) << 16 | u64::from(low);
    let exponent = u32::from(high >> 2);
    let bps = if exponent > 46 { u64::MAX } else { mantissa << exponent };
    Some(Message::MaxBitrate { bps })
}

/// What a sender says of one SSRC (RFC 3550, 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// Of whom.
    pub ssrc: u32,
    /// NTP time, 32.32 bits since 1900.
    pub ntp: u64,
    /// The same moment in RTP time.
    pub rtp_time: u32,
    /// Packets sent, modulo 2^32.
    pub packets: u32,
    /// Bytes of payload sent, modulo 2^32.
    pub bytes: u32,
}

/// Bytes of a sender report without blocks.
pub const SENDER_REPORT_BYTES: usize = 28;

/// Appends a sender report without report blocks.
pub fn write_sender_report(out: &mut Vec<u8>, info: &SenderInfo) {
    out.extend([0x80, SENDER_REPORT, 0, 6]);
    out.extend(info.ssrc.to_be_bytes());
    out.extend(info.ntp.to_be_bytes());
    out.extend(info.rtp_time.to_be_bytes());
    out.extend(info.packets.to_be_bytes());
    out.extend(info.bytes.to_be_bytes());
}

/// Appends a source description with a CNAME of at most 255 bytes for one SSRC (RFC 3550, 6.5).
pub fn write_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let cname = cname.as_bytes().get(..255).unwrap_or(cname.as_bytes());
    // Item, then at least one zero byte up to the next word.
    let item = 2 + cname.len();
    let padding = 4 - item % 4;
    let words = u16::try_from((8 + item + padding) / 4 - 1).unwrap_or(0);
    out.extend([0x81, SOURCE_DESCRIPTION]);
    out.extend(words.to_be_bytes());
    out.extend(ssrc.to_be_bytes());
    out.extend([CNAME, u8::try_from(cname.len()).unwrap_or(0)]);
    out.extend_from_slice(cname);
    out.extend(std::iter::repeat_n(0, padding));
}

/// Appends BYE for one SSRC (RFC 3550, 6.6).
pub fn write_goodbye(out: &mut Vec<u8>, ssrc: u32) {
    out.extend([0x81, GOODBYE, 0, 1]);
    out.extend(ssrc.to_be_bytes());
}

/// NTP time, 32.32 bits since 1900, of microseconds since the Unix epoch (RFC 3550, section 4).
pub fn ntp(unix_us: u64) -> u64 {
    const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
    let (seconds, us) = (unix_us / 1_000_000, unix_us % 1_000_000);
    (seconds.wrapping_add(SECONDS_1900_TO_1970) << 32) | ((us << 32) / 1_000_000)
}

/// Middle 32 bits of an NTP time, as reports carry it.
#[expect(clippy::cast_possible_truncation, reason = "the middle bits are what is wanted")]
pub fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}
