//! What is what on a port that everything shares.

use std::ops::RangeInclusive;

/// First byte of DTLS (RFC 7983, section 7).
const DTLS: RangeInclusive<u8> = 20..=63;
/// First byte of RTP and RTCP (RFC 7983, section 7).
pub(crate) const MEDIA: RangeInclusive<u8> = 128..=191;
/// Second byte of RTCP (RFC 5761, section 4).
pub(crate) const RTCP: RangeInclusive<u8> = 192..=223;

pub(crate) fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram, [first, ..] if DTLS.contains(first))
}

pub(crate) fn is_rtp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, second, ..] if MEDIA.contains(first) && !RTCP.contains(second))
}

pub(crate) fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, second, ..] if MEDIA.contains(first) && RTCP.contains(second))
}
