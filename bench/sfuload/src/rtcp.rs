//! The RTCP of a sink: receiver reports (RFC 3550, 6.4.2) and transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1) written, sender reports read.

/// Microseconds in a unit of the reference time, and of a receive delta.
const REFERENCE_UNIT_US: u64 = 64_000;
const DELTA_UNIT_US: i64 = 250;
/// Symbols of two bits in a status vector chunk.
const CHUNK: usize = 7;
/// Packets that one message may report; a gap that is longer ends it.
const MAX_STATUSES: u64 = 2_048;

/// One report block.
pub struct Block {
    pub ssrc: u32,
    pub lost_fraction: u8,
    pub lost: u32,
    pub highest: u32,
    pub last_report: u32,
    /// In 1/65536 s.
    pub since: u32,
}

/// Begins a packet of `format` (report count or feedback type) and `kind`; its length is filled in by [`end`].
fn begin(out: &mut Vec<u8>, format: u8, kind: u8, ssrc: u32) {
    out.clear();
    out.extend([0x80 | format, kind, 0, 0]);
    out.extend(ssrc.to_be_bytes());
}

fn end(out: &mut [u8]) {
    let words = u16::try_from(out.len() / 4 - 1).expect("a datagram is short");
    out[2..4].copy_from_slice(&words.to_be_bytes());
}

/// Writes a receiver report.
pub fn write_report(out: &mut Vec<u8>, ssrc: u32, blocks: &[Block]) {
    let blocks = &blocks[..blocks.len().min(31)];
    begin(out, blocks.len() as u8, 201, ssrc);
    for b in blocks {
        out.extend(b.ssrc.to_be_bytes());
        out.extend((u32::from(b.lost_fraction) << 24 | b.lost.min(0x7f_ffff)).to_be_bytes());
        out.extend(b.highest.to_be_bytes());
        out.extend(0u32.to_be_bytes());
        out.extend(b.last_report.to_be_bytes());
        out.extend(b.since.to_be_bytes());
    }
    end(out);
}

/// Writes one feedback message about the front of `arrived` (extended transport sequence numbers, ascending, and arrival
/// in microseconds); gives how many of them it tells of.
pub fn write_feedback(
    out: &mut Vec<u8>,
    (ssrc, media): (u32, u32),
    count: u8,
    arrived: &[(u64, u64)],
) -> usize {
    let Some(&(base, first_us)) = arrived.first() else { return 0 };
    let reference = first_us / REFERENCE_UNIT_US;
    let mut last_us = (reference * REFERENCE_UNIT_US).cast_signed();
    let (mut symbols, mut deltas, mut told) = (Vec::new(), Vec::new(), 0);
    for &(seq, us) in arrived.iter().take_while(|(seq, _)| seq - base < MAX_STATUSES) {
        let units = (us.cast_signed() - last_us).div_euclid(DELTA_UNIT_US);
        let Ok(large) = i16::try_from(units) else { break };
        symbols.resize((seq - base) as usize, 0u8);
        match u8::try_from(units) {
            Ok(small) => {
                symbols.push(1);
                deltas.push(small);
            }
            Err(_) => {
                symbols.push(2);
                deltas.extend(large.to_be_bytes());
            }
        }
        // What rounding leaves is told with the next one.
        last_us += units * DELTA_UNIT_US;
        told += 1;
    }
    begin(out, 15, 205, ssrc);
    out.extend(media.to_be_bytes());
    out.extend((base as u16).to_be_bytes());
    out.extend((symbols.len() as u16).to_be_bytes());
    out.extend(((reference as u32) << 8 | u32::from(count)).to_be_bytes());
    for chunk in symbols.chunks(CHUNK) {
        let bits = chunk.iter().enumerate().fold(0xc000u16, |b, (i, s)| b | u16::from(*s) << (12 - 2 * i));
        out.extend(bits.to_be_bytes());
    }
    out.extend(deltas);
    out.resize(out.len().next_multiple_of(4), 0);
    end(out);
    told
}

/// SSRC and the middle of the NTP time of each sender report in a compound packet.
pub fn sender_reports(compound: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        let head = rest.get(..4)?;
        let (kind, words) = (head[1], usize::from(u16::from_be_bytes([head[2], head[3]])));
        let packet = rest.get(..4 + 4 * words)?;
        rest = &rest[packet.len()..];
        Some((kind, packet))
    })
    .filter(|(kind, packet)| *kind == 200 && packet.len() >= 28)
    .map(|(_, p)| (word(&p[4..]), word(&p[10..])))
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_tells_of_gaps_and_long_deltas() {
        let mut out = vec![];
        // 64 ms is the reference; 66 ms of it, 1 ms on, a gap of two, then 100 ms on.
        let arrived = [(65_535, 66_000), (65_536, 67_000), (65_539, 167_000)];
        assert_eq!(write_feedback(&mut out, (1, 2), 7, &arrived), 3);
        let want = [
            0x8f, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0, 5, 0, 0, 1, 7, 0xd4, 0x20, 8, 4, 1, 144,
            0, 0,
        ];
        // Symbols 1 1 0 0 2.
        let bits: u16 = 0xc000 | 1 << 12 | 1 << 10 | 2 << 4;
        let mut want = want.to_vec();
        want[20..22].copy_from_slice(&bits.to_be_bytes());
        assert_eq!(out, want);
        assert_eq!(write_feedback(&mut out, (1, 2), 0, &[]), 0);
        // What is too far ahead is for the next message.
        assert_eq!(write_feedback(&mut out, (1, 2), 0, &[(1, 0), (5_000, 1)]), 1);
    }

    #[test]
    fn reports() {
        let mut out = vec![];
        let block = Block { ssrc: 9, lost_fraction: 1, lost: 2, highest: 3, last_report: 4, since: 5 };
        write_report(&mut out, 8, &[block]);
        assert_eq!((out.len(), &out[..4]), (32, &[0x81, 201, 0, 7][..]));
        let mut sr = vec![0x80, 200, 0, 6];
        sr.extend(7u32.to_be_bytes());
        sr.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        sr.resize(28, 0);
        out.extend(sr);
        assert_eq!(sender_reports(&out).collect::<Vec<_>>(), [(7, 0x03_04_05_06)]);
        assert_eq!(sender_reports(&out[..40]).count(), 0);
    }
}
