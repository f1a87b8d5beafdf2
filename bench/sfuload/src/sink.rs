//! A subscriber that does not decrypt: it counts packets by their clear RTP headers, and says what a browser would say of
//! them (receiver reports, transport-wide feedback). Nothing of its media passes str0m, which keeps ICE, DTLS and SCTP.
//!
//! It asks for nothing again: a run with losses does not count.
use crate::engine::{Shared, Window};
use crate::keys::KeySlot;
use crate::rtcp::{self, Block};
use crate::srtcp::Srtcp;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// As libwebrtc at more than 220 kbit/s (`RemoteEstimatorProxy`, 50 ms at least).
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const TRANSPORT_EXTENSION: &str = "transport-wide-cc-extensions-01";

/// What the answer says of the RTP that will come.
#[derive(Default, Clone, Copy)]
pub struct Format {
    /// Id of the transport-wide sequence number, where it was negotiated.
    transport: Option<u8>,
    /// Payload types of retransmissions, one bit each.
    rtx: u128,
}

impl Format {
    pub fn of(answer: &str) -> Format {
        let mut format = Format::default();
        for line in answer.lines() {
            if let Some((id, uri)) = line.strip_prefix("a=extmap:").and_then(|l| l.split_once(' '))
                && uri.trim_end().ends_with(TRANSPORT_EXTENSION)
            {
                format.transport = id.split('/').next().and_then(|id| id.parse().ok());
            }
            if let Some((pt, name)) = line.strip_prefix("a=rtpmap:").and_then(|l| l.split_once(' '))
                && name.starts_with("rtx/")
            {
                format.rtx |= pt.parse::<u32>().map_or(0, |pt| 1 << (pt & 127));
            }
        }
        format
    }
}

/// One SSRC.
struct Stream {
    ssrc: u32,
    rtx: bool,
    /// Extended sequence numbers: the highest, and the one from which the window counts.
    highest: u64,
    first: u64,
    window_first: Option<u64>,
    received: u64,
    window_received: u64,
    /// Expected and received at the last report.
    reported: (u64, u64),
    /// Middle of the NTP time of the last sender report, and when it came.
    sender_report: Option<(u32, u64)>,
}

/// What the window has seen of a sink.
#[derive(Default, Clone, Copy)]
pub struct Counts {
    pub packets: u64,
    pub bytes: u64,
    /// Of the media streams, in the window and the time after it.
    pub expected: u64,
    pub received: u64,
    pub rtx: u64,
}

pub struct Sink {
    keys: KeySlot,
    srtcp: Option<Srtcp>,
    format: Format,
    ssrc: u32,
    streams: Vec<Stream>,
    expected_tracks: usize,
    tracks_seen: usize,
    /// Extended transport sequence numbers and arrival in us, not told yet.
    arrived: Vec<(u64, u64)>,
    transport_highest: u64,
    feedback_count: u8,
    next_feedback: Instant,
    next_report: Instant,
    out: Vec<u8>,
    opened: Vec<u8>,
    counts: Counts,
    pub first_media_ns: Option<u64>,
    pub all_media_ns: Option<u64>,
    pub refused: u64,
}

/// The clear part of an RTP packet.
struct Header {
    payload_type: u8,
    seq: u16,
    ssrc: u32,
    transport: Option<u16>,
}

/// RTCP by its second byte (RFC 5761, section 4).
pub fn is_rtcp(d: &[u8]) -> bool {
    matches!(d, [128..=191, 192..=223, ..])
}

/// RTP or RTCP by the first byte (RFC 7983, section 7).
pub fn is_media(d: &[u8]) -> bool {
    matches!(d, [128..=191, ..])
}

fn parse(d: &[u8], transport_id: Option<u8>) -> Option<Header> {
    let fixed = d.first_chunk::<12>()?;
    let mut header = Header {
        payload_type: fixed[1] & 0x7f,
        seq: u16::from_be_bytes([fixed[2], fixed[3]]),
        ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        transport: None,
    };
    let at = 12 + 4 * usize::from(fixed[0] & 15);
    if fixed[0] & 0x10 != 0 && d.get(at..at + 2)? == [0xbe, 0xde] {
        let words = usize::from(u16::from_be_bytes([*d.get(at + 2)?, *d.get(at + 3)?]));
        let mut elements = d.get(at + 4..at + 4 + 4 * words)?;
        while let [first, rest @ ..] = elements {
            if *first == 0 {
                elements = rest;
                continue;
            }
            let length = usize::from(first & 15) + 1;
            let value = rest.get(..length)?;
            if Some(first >> 4) == transport_id && length == 2 {
                header.transport = Some(u16::from_be_bytes([value[0], value[1]]));
            }
            elements = &rest[length..];
        }
    }
    Some(header)
}

/// The extended number nearest to `near`.
fn extend(near: u64, low: u16) -> u64 {
    let step = low.wrapping_sub(near as u16).cast_signed();
    near.saturating_add_signed(i64::from(step))
}

impl Sink {
    pub fn new(keys: KeySlot, format: Format, expected_tracks: usize, ssrc: u32) -> Sink {
        let now = Instant::now();
        // Whole groups of peers join at once and shall not speak at once.
        let phase = Duration::from_micros(u64::from(ssrc.wrapping_mul(2_654_435_761) >> 8) % 50_000);
        Sink {
            keys,
            srtcp: None,
            format,
            ssrc,
            streams: vec![],
            expected_tracks,
            tracks_seen: 0,
            arrived: vec![],
            transport_highest: 1 << 16,
            feedback_count: 0,
            next_feedback: now + phase,
            next_report: now + phase,
            out: vec![],
            opened: vec![],
            counts: Counts::default(),
            first_media_ns: None,
            all_media_ns: None,
            refused: 0,
        }
    }

    /// All tracks have come: nobody waits for this one's packets any more.
    pub fn is_complete(&self) -> bool {
        self.tracks_seen >= self.expected_tracks
    }

    /// DTLS is up.
    pub fn arm(&mut self) {
        let Some(keys) = self.keys.lock().unwrap().take() else { return };
        match Srtcp::new(&keys) {
            Ok(srtcp) => self.srtcp = Some(srtcp),
            Err(e) => eprintln!("sfuload: {e:#}"),
        }
    }

    /// Takes an RTP or RTCP datagram. `true`: it is media, no retransmission.
    pub fn take(&mut self, d: &[u8], rx_ns: u64, sh: &Shared, win: Window) -> bool {
        if is_rtcp(d) {
            self.on_rtcp(d, rx_ns);
            return false;
        }
        let Some(header) = parse(d, self.format.transport) else {
            self.refused += 1;
            return false;
        };
        if let Some(seq) = header.transport {
            let seq = extend(self.transport_highest, seq);
            self.transport_highest = self.transport_highest.max(seq);
            self.arrived.push((seq, rx_ns / 1000));
        }
        let rtx = self.format.rtx & 1 << header.payload_type != 0;
        let stream = self.stream(&header, rtx, rx_ns, sh);
        let seq = extend(stream.highest, header.seq);
        stream.highest = stream.highest.max(seq);
        stream.received += 1;
        if win.started(rx_ns) {
            // What was on its way when the window began is neither expected nor received.
            let first = *stream.window_first.get_or_insert(seq);
            stream.window_received += u64::from(seq >= first);
        }
        if win.contains(rx_ns) {
            self.counts.packets += u64::from(!rtx);
            self.counts.bytes += if rtx { 0 } else { d.len() as u64 };
            self.counts.rtx += u64::from(rtx);
        }
        !rtx
    }

    fn stream(&mut self, header: &Header, rtx: bool, rx_ns: u64, sh: &Shared) -> &mut Stream {
        if let Some(at) = self.streams.iter().position(|s| s.ssrc == header.ssrc) {
            return &mut self.streams[at];
        }
        if !rtx {
            if self.first_media_ns.is_none() {
                self.first_media_ns = Some(rx_ns);
                sh.first_media.fetch_add(1, Relaxed);
            }
            self.tracks_seen += 1;
            if self.tracks_seen == self.expected_tracks {
                self.all_media_ns = Some(rx_ns);
                sh.all_media.fetch_add(1, Relaxed);
            }
        }
        let first = 1 << 16 | u64::from(header.seq);
        self.streams.push(Stream {
            ssrc: header.ssrc,
            rtx,
            highest: first,
            first,
            window_first: None,
            received: 0,
            window_received: 0,
            reported: (0, 0),
            sender_report: None,
        });
        self.streams.last_mut().expect("just pushed")
    }

    fn on_rtcp(&mut self, d: &[u8], rx_ns: u64) {
        let Some(srtcp) = &self.srtcp else { return };
        if srtcp.open(d, &mut self.opened).is_none() {
            self.refused += 1;
            return;
        }
        for (ssrc, middle) in rtcp::sender_reports(&self.opened) {
            if let Some(s) = self.streams.iter_mut().find(|s| s.ssrc == ssrc) {
                s.sender_report = Some((middle, rx_ns));
            }
        }
    }

    /// Gives sealed RTCP that is due, one datagram after the other.
    pub fn say(&mut self, now: Instant, now_ns: u64) -> Option<&[u8]> {
        let srtcp = self.srtcp.as_mut()?;
        if now >= self.next_report && !self.streams.is_empty() {
            self.next_report = now + REPORT_INTERVAL;
            let blocks: Vec<Block> =
                self.streams.iter_mut().filter(|s| !s.rtx).map(|s| s.report(now_ns)).collect();
            rtcp::write_report(&mut self.out, self.ssrc, &blocks);
        } else if now >= self.next_feedback && !self.arrived.is_empty() {
            self.arrived.sort_unstable();
            let media = self.streams.first()?.ssrc;
            let (ids, count) = ((self.ssrc, media), self.feedback_count);
            let told = rtcp::write_feedback(&mut self.out, ids, count, &self.arrived);
            self.feedback_count = self.feedback_count.wrapping_add(1);
            self.arrived.drain(..told.max(1));
            if self.arrived.is_empty() {
                self.next_feedback = now + FEEDBACK_INTERVAL;
            }
        } else {
            return None;
        }
        srtcp.seal(&mut self.out).ok()?;
        Some(&self.out)
    }

    pub fn counts(&self) -> Counts {
        let media = || self.streams.iter().filter(|s| !s.rtx);
        Counts {
            expected: media().filter_map(|s| Some(s.highest + 1 - s.window_first?)).sum(),
            received: media().map(|s| s.window_received).sum(),
            ..self.counts
        }
    }
}

impl Stream {
    /// The block of a receiver report, of what came since the last one.
    fn report(&mut self, now_ns: u64) -> Block {
        let expected = self.highest + 1 - self.first;
        let (wanted, got) = (expected - self.reported.0, self.received - self.reported.1);
        self.reported = (expected, self.received);
        let lost = wanted.saturating_sub(got);
        let since = self.sender_report.map_or(0, |(_, at)| now_ns.saturating_sub(at));
        Block {
            ssrc: self.ssrc,
            lost_fraction: (lost * 256 / wanted.max(1)).min(255) as u8,
            lost: expected.saturating_sub(self.received) as u32,
            highest: (self.highest - (1 << 16)) as u32,
            last_report: self.sender_report.map_or(0, |(middle, _)| middle),
            since: (since * 65_536 / 1_000_000_000) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(pt: u8, seq: u16, ssrc: u32, transport: u16) -> Vec<u8> {
        let mut d = vec![0x90, pt];
        d.extend(seq.to_be_bytes());
        d.extend([0; 4]);
        d.extend(ssrc.to_be_bytes());
        d.extend([0xbe, 0xde, 0, 2, 0x40, b'1', 0x31]);
        d.extend(transport.to_be_bytes());
        d.extend([0, 0, 0]);
        d.extend([7; 40]);
        d
    }

    #[test]
    fn packets_are_counted_by_their_clear_headers() {
        let answer = "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
            a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n";
        let sh = Shared::new(0);
        let win = Window::of(&sh);
        let mut sink = Sink::new(KeySlot::default(), Format::of(answer), 2, 77);
        assert!(sink.take(&rtp(96, 65_535, 5, 9), 1_000_000, &sh, win));
        assert!(sink.take(&rtp(96, 0, 5, 10), 2_000_000, &sh, win));
        assert!(!sink.take(&rtp(97, 3, 6, 11), 2_000_000, &sh, win), "a retransmission");
        assert!(!sink.is_complete());
        assert!(sink.take(&rtp(111, 3, 7, 13), 3_000_000, &sh, win));
        assert!(sink.is_complete());
        assert_eq!(sink.arrived.iter().map(|a| a.0 & 0xffff).collect::<Vec<_>>(), [9, 10, 11, 13]);
        assert!(!sink.take(&[0x90; 13], 0, &sh, win));
        assert_eq!((sink.refused, sink.streams[0].highest - sink.streams[0].first), (1, 1));
    }
}
