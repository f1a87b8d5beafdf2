//! A capture file that Wireshark opens: classic pcap (draft-ietf-opsawg-pcap), link type RAW, whose packets get
//! made-up IPv4 and UDP headers. "Decode as RTP" on the ports then shows plain RTP.

/// LINKTYPE_RAW: a record begins with its IP header.
const LINKTYPE_RAW: u32 = 101;

/// Longest packet: what an IPv4 header can say, less the two headers.
pub const MAX_RTP_BYTES: usize = 65_535 - HEADERS;

const IPV4: usize = 20;
const UDP: usize = 8;
const HEADERS: usize = IPV4 + UDP;

/// The file's first 24 bytes.
pub fn pcap_header() -> [u8; 24] {
    let mut out = [0; 24];
    out[0..4].copy_from_slice(&0xa1b2_c3d4_u32.to_le_bytes()); // microseconds, little endian
    out[4..6].copy_from_slice(&2u16.to_le_bytes());
    out[6..8].copy_from_slice(&4u16.to_le_bytes());
    out[16..20].copy_from_slice(&65_535u32.to_le_bytes());
    out[20..24].copy_from_slice(&LINKTYPE_RAW.to_le_bytes());
    out
}

/// One record: `rtp` as a datagram between two ports of 127.0.0.1, at `time_us` since the Unix epoch
/// (the format's 32-bit seconds wrap in 2106). A longer packet than [`MAX_RTP_BYTES`] is cut, and says so
/// in the record's original length.
pub fn pcap_record(time_us: u64, src_port: u16, dst_port: u16, rtp: &[u8]) -> Vec<u8> {
    let kept = rtp.get(..MAX_RTP_BYTES).unwrap_or(rtp);
    let udp_len = u16::try_from(UDP + kept.len()).expect("cut to fit");
    let ip_len = u16::try_from(HEADERS + kept.len()).expect("cut to fit");
    let original = u32::try_from(HEADERS + rtp.len()).unwrap_or(u32::MAX);
    let seconds = u32::try_from((time_us / 1_000_000) & 0xffff_ffff).expect("masked");
    let micros = u32::try_from(time_us % 1_000_000).expect("below a million");

    let mut out = Vec::with_capacity(16 + usize::from(ip_len));
    out.extend(seconds.to_le_bytes());
    out.extend(micros.to_le_bytes());
    out.extend(u32::from(ip_len).to_le_bytes());
    out.extend(original.to_le_bytes());

    let ip_at = out.len();
    out.extend([0x45, 0]);
    out.extend(ip_len.to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, 17, 0, 0]); // don't fragment, TTL 64, UDP, checksum below
    out.extend([127, 0, 0, 1, 127, 0, 0, 1]);
    let sum = checksum(out.get(ip_at..).unwrap_or(&[]));
    out.splice(ip_at + 10..ip_at + 12, sum.to_be_bytes());

    out.extend(src_port.to_be_bytes());
    out.extend(dst_port.to_be_bytes());
    out.extend(udp_len.to_be_bytes());
    out.extend([0, 0]); // no UDP checksum (RFC 768)
    out.extend_from_slice(kept);
    out
}

/// RFC 1071 over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.as_chunks::<2>().0 {
        sum += u32::from(u16::from_be_bytes(*pair));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_valid_datagram() {
        let record = pcap_record(1_700_000_000_123_456, 7701, 40_000, b"rtp!");
        assert_eq!(record.len(), 16 + 28 + 4);
        assert_eq!(record[0..4], 1_700_000_000u32.to_le_bytes());
        assert_eq!(record[4..8], 123_456u32.to_le_bytes());
        assert_eq!(record[8..12], record[12..16]);
        assert_eq!(checksum(&record[16..36]), 0, "the IP header sums to zero with its checksum");
        assert_eq!(record[36..38], 7701u16.to_be_bytes());
        assert_eq!(record.get(44..), Some(&b"rtp!"[..]));
        let long = pcap_record(u64::MAX, 1, 2, &vec![0; 70_000]);
        assert_eq!(long.len(), 16 + 65_535);
        assert_eq!(long[12..16], 70_028u32.to_le_bytes());
    }
}
