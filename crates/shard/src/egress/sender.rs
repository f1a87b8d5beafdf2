//! All that is sent to one subscriber beside ICE, DTLS and SCTP.

use std::time::{Duration, Instant};

use antiphon_room::SlotId;
use antiphon_room::slot::Outgoing;
use antiphon_wire::rtcp::{self, Message, transport};
use rand::Rng;

use super::arena::{Arena, Path};
use super::bwe::Estimator;
use super::keys::Keys;
use super::line::{Line, LinePlan, Written};
use super::srtp::{self, Opener, Sealer};
use crate::clock::Clock;

/// Packets queued for one flush: a key frame of 4 Mbit/s and the voices beside it. Beyond it they are dropped and counted.
const MAX_QUEUE: usize = 1_024;
/// Places of the queue that are kept: what comes in a round without a key frame.
const SMALL_QUEUE: usize = 8;
/// Sender reports of lines with traffic (RFC 3550, 6.2 allows what is below 5 % of the bandwidth).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The first report of a line comes soon: without it a player cannot align sound and picture.
const FIRST_REPORT: Duration = Duration::from_millis(100);
/// Bytes of sender reports in one datagram.
const MAX_REPORT_BYTES: usize = 1_100;
/// Before the first report block: a usual distance.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(50);
/// Round trips are believed up to here.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(2);
/// Bytes of retransmission that may be saved up while nothing is lost; beyond, as much as is sent anew.
const MAX_RESEND_CREDIT: usize = 256 * 1024;

/// Retransmissions take no more than the estimate, over this time (libwebrtc: `kRetransmitWindowSizeMs`): a narrowed
/// link that is full of them has no room for what is sent anew.
const RESEND_WINDOW_US: u64 = 500_000;
/// Packets of padding in one flush: a probe of 40 Mbit/s for the two milliseconds between them.
const MAX_PADDING: usize = 64;
/// Transport-wide feedback messages of one datagram; others send one, and each may name thousands of packets.
const MAX_TRANSPORT: usize = 4;
/// An estimate that differs by less, in percent, is not told.
const NOTICEABLE_PERCENT: u64 = 5;

/// What a peer said that others must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// It needs a key frame in a slot.
    KeyframeWanted(SlotId),
    /// How much it can receive, in bits per second: as estimated from its transport-wide feedback, or as it tells by REMB
    /// where that was not negotiated.
    Bandwidth(u64),
}

/// Counts.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Counters {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Sent again on request, and requests for what was not there, was just sent, or beyond the credit.
    pub(crate) resent: u64,
    pub(crate) not_resent: u64,
    /// Packets for a slot whose line has no payload type for their codec.
    pub(crate) no_payload_type: u64,
    /// Packets beyond [`MAX_QUEUE`], or before there were keys.
    pub(crate) dropped: u64,
    /// RTCP that did not open.
    pub(crate) rtcp_refused: u64,
    pub(crate) keyframes_requested: u64,
    pub(crate) round_trip_ms: u64,
    /// Packets sent as padding for probes.
    pub(crate) padding: u64,
    /// Transport-wide feedback that came, and the estimate by it, in bits per second; 0: none.
    pub(crate) transport_feedback: u64,
    pub(crate) estimate_bps: u64,
}

/// One subscriber's sending half.
pub(crate) struct Sender {
    lines: Vec<Line>,
    queue: Vec<(SlotId, Outgoing)>,
    /// Numbers that the peer asks for again, by line.
    wanted: Vec<(usize, u16)>,
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    cname: String,
    report_at: Option<Instant>,
    round_trip: Duration,
    resend_credit: usize,
    /// When the window of retransmissions began, and bytes in it.
    resend_window: (u64, u64),
    opened: Vec<u8>,
    /// Of the bandwidth, where transport-wide feedback was negotiated.
    estimator: Option<Box<Estimator>>,
    /// The estimate as last told.
    told_bps: Option<u64>,
    /// When the next packet of a probe is due.
    probe_at: Option<Instant>,
    /// Feedback has begun a probe.
    probe_waits: bool,
    pub(crate) counters: Counters,
}

impl Sender {
    /// Lines in the order of the slots.
    pub(crate) fn new(plans: Vec<LinePlan>, cname: String) -> Self {
        let mut rng = rand::rng();
        let estimates = plans.iter().any(LinePlan::can_be_probed);
        Self {
            lines: plans.into_iter().map(|p| Line::new(p, rng.random_range(1..0x7fff))).collect(),
            queue: Vec::new(),
            wanted: Vec::new(),
            sealer: None,
            opener: None,
            cname,
            report_at: None,
            round_trip: DEFAULT_ROUND_TRIP,
            resend_credit: MAX_RESEND_CREDIT,
            resend_window: (0, 0),
            opened: Vec::new(),
            estimator: estimates.then(Box::default),
            told_bps: None,
            probe_at: None,
            probe_waits: false,
            counters: Counters::default(),
        }
    }

    /// DTLS has given the keys: from now on media can leave. Once only: new keys are a new connection's.
    pub(crate) fn arm(&mut self, keys: &Keys) {
        if self.sealer.is_some() {
            return;
        }
        match srtp::contexts(keys) {
            Ok((sealer, opener)) => (self.sealer, self.opener) = (Some(sealer), Some(opener)),
            Err(_) => tracing::warn!("DTLS gave SRTP keys of an unknown kind"),
        }
    }

    /// The peer's half of the keys.
    pub(crate) fn opener(&self) -> Option<&Opener> {
        self.opener.as_ref()
    }

    /// Takes a packet for a slot. Nothing leaves before [`Sender::flush`].
    pub(crate) fn forward(&mut self, slot: SlotId, outgoing: Outgoing) {
        if self.queue.len() >= MAX_QUEUE || self.sealer.is_none() {
            self.counters.dropped += 1;
            return;
        }
        self.queue.push((slot, outgoing));
    }

    /// Everything taken leaves into the arena, retransmissions first, and reports that are due.
    pub(crate) fn flush(&mut self, now: Instant, clock: Clock, path: Path, arena: &mut Arena) {
        let Some(mut sealer) = self.sealer.take() else { return };
        let now_us = clock.us(now);
        self.flush_wanted((now, now_us), &sealer, path, arena);
        let mut queue = std::mem::take(&mut self.queue);
        for (slot, outgoing) in queue.drain(..) {
            self.send(now_us, (slot, outgoing), &sealer, path, arena);
        }
        self.queue = queue;
        self.probe((now, now_us), &sealer, path, arena);
        if self.lines.iter().any(|l| l.active) && self.report_at.is_none() {
            self.report_at = Some(now + FIRST_REPORT);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report(now_us, &mut sealer, path, arena);
            self.report_at = Some(now + REPORT_INTERVAL);
        }
        self.sealer = Some(sealer);
    }

    /// Something was asked for again, or a probe begins: [`Sender::flush`] is wanted.
    pub(crate) fn waits(&self) -> bool {
        !self.wanted.is_empty() || self.probe_waits
    }

    /// What the subscriber would be sent if nothing limited it, in bits per second; 0: it has no choice of layers.
    pub(crate) fn set_demand(&mut self, bps: u64) {
        if let Some(estimator) = &mut self.estimator {
            estimator.set_demand(bps);
        }
    }

    /// When [`Sender::flush`] is wanted without new packets.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.report_at, self.probe_at].into_iter().flatten().min()
    }

    /// The transport sequence number of the next packet.
    fn transport_seq(&self) -> u16 {
        self.estimator.as_ref().map_or(0, |e| e.next_seq())
    }

    fn send(
        &mut self,
        now_us: u64,
        (slot, outgoing): (SlotId, Outgoing),
        sealer: &Sealer,
        path: Path,
        arena: &mut Arena,
    ) {
        let transport = self.transport_seq();
        let Some(line) = self.lines.get_mut(usize::from(slot.0)) else { return };
        let Some(written) = line.write(outgoing, transport, arena.buffer()) else {
            self.counters.no_payload_type += 1;
            return;
        };
        if let Some(length) = seal(&written, sealer, path, arena) {
            self.counters.packets += 1;
            self.counters.bytes += length as u64;
            self.resend_credit = (self.resend_credit + length).min(MAX_RESEND_CREDIT);
            account(&mut self.estimator, line, now_us, length);
        }
    }

    /// Packets of a probe that are due, of the line that sent last.
    fn probe(&mut self, (now, now_us): (Instant, u64), sealer: &Sealer, path: Path, arena: &mut Arena) {
        self.probe_waits = false;
        let Some(estimator) = self.estimator.as_mut() else { return };
        let line = self.lines.iter_mut().filter(|l| l.pads_since().is_some()).max_by_key(|l| l.pads_since());
        estimator.set_can_probe(line.is_some());
        let Some(line) = line else { return self.probe_at = None };
        for _ in 0..MAX_PADDING {
            if !estimator.probe_is_due(now_us) {
                break;
            }
            let written = line.write_padding(estimator.next_seq(), arena.buffer());
            let Some(length) = written.and_then(|w| seal(&w, sealer, path, arena)) else {
                estimator.no_probe();
                break;
            };
            self.counters.padding += 1;
            estimator.sent(now_us, length);
        }
        let due_us = estimator.probe_deadline(now_us);
        self.probe_at = due_us.map(|at| now + Duration::from_micros(at.saturating_sub(now_us)));
    }

    /// Bytes that may be sent again in the current window.
    fn resend_room(&mut self, now_us: u64) -> u64 {
        if now_us.saturating_sub(self.resend_window.0) >= RESEND_WINDOW_US {
            self.resend_window = (now_us, 0);
        }
        let Some(bps) = self.estimator.as_ref().and_then(|e| e.bps()) else { return u64::MAX };
        (bps / 8 * RESEND_WINDOW_US / 1_000_000).saturating_sub(self.resend_window.1)
    }

    fn flush_wanted(
        &mut self,
        (now, now_us): (Instant, u64),
        sealer: &Sealer,
        path: Path,
        arena: &mut Arena,
    ) {
        let mut wanted = std::mem::take(&mut self.wanted);
        for (place, seq) in wanted.drain(..) {
            let (transport, room) = (self.transport_seq(), self.resend_room(now_us));
            let Some(line) = self.lines.get_mut(place) else { continue };
            let asked = (seq, self.round_trip);
            let allowed = self.resend_credit > 0 && room > 0;
            let written =
                if allowed { line.write_again(now, asked, transport, arena.buffer()) } else { None };
            let length = written.and_then(|w| seal(&w, sealer, path, arena));
            match length {
                Some(length) => {
                    self.counters.resent += 1;
                    self.resend_credit = self.resend_credit.saturating_sub(length);
                    self.resend_window.1 += length as u64;
                    account(&mut self.estimator, line, now_us, length);
                }
                None => self.counters.not_resent += 1,
            }
        }
        self.wanted = wanted;
    }

    /// One compound packet with the reports of all lines that sent something (RFC 3550, 6.1), in as many datagrams as needed.
    fn report(&mut self, now_us: u64, sealer: &mut Sealer, path: Path, arena: &mut Arena) {
        let mut first = None;
        self.queue.shrink_to(SMALL_QUEUE);
        for line in self.lines.iter_mut().filter(|l| l.active) {
            line.trim();
            let Some(info) = line.report(now_us) else { continue };
            line.active = false;
            rtcp::write_sender_report(arena.buffer(), &info);
            let ssrc = *first.get_or_insert(info.ssrc);
            if arena.buffer().len() - arena.start() >= MAX_REPORT_BYTES {
                finish_report(ssrc, &self.cname, sealer, path, arena);
                first = None;
            }
        }
        if let Some(ssrc) = first {
            finish_report(ssrc, &self.cname, sealer, path, arena);
        }
    }

    /// Takes a sealed RTCP packet of the peer. `true`: there is something in it for whoever receives the peer's media.
    pub(crate) fn on_rtcp(&mut self, now_us: u64, sealed: &[u8], feedback: &mut Vec<Feedback>) -> bool {
        let mut opened = std::mem::take(&mut self.opened);
        let Some(opener) = self.opener.as_mut() else { return true };
        let (mut for_receiver, mut transport) = (false, 0);
        match opener.open_rtcp(sealed, &mut opened) {
            Some(compound) => rtcp::read(compound, |message| match message {
                Message::ForReceiver => for_receiver = true,
                Message::Transport(_) if transport == MAX_TRANSPORT => {}
                other => {
                    transport += usize::from(matches!(other, Message::Transport(_)));
                    self.on_message(now_us, &other, feedback);
                }
            }),
            None => self.counters.rtcp_refused += 1,
        }
        self.opened = opened;
        for_receiver
    }

    fn on_message(&mut self, now_us: u64, message: &Message<'_>, feedback: &mut Vec<Feedback>) {
        match message {
            Message::Report(block) => {
                let known = self.line_of(block.ssrc).is_some();
                let rtt = block.round_trip(rtcp::middle(rtcp::ntp(now_us))).filter(|_| known);
                if let Some(rtt) = rtt {
                    let rtt = Duration::from_micros((u64::from(rtt) * 1_000_000) >> 16).min(MAX_ROUND_TRIP);
                    // Smoothed as in RFC 6298, section 2.
                    self.round_trip = (self.round_trip * 7 + rtt) / 8;
                    self.counters.round_trip_ms =
                        u64::try_from(self.round_trip.as_millis()).unwrap_or(u64::MAX);
                }
            }
            Message::Nack { media, lost } => {
                if let Some(place) = self.line_of(*media) {
                    let room = MAX_QUEUE.saturating_sub(self.wanted.len());
                    self.wanted.extend(lost.clone().take(room).map(|seq| (place, seq)));
                }
            }
            Message::KeyframeRequest { media } => {
                if let Some(slot) = self.line_of(*media).and_then(|p| u16::try_from(p).ok()) {
                    self.counters.keyframes_requested += 1;
                    feedback.push(Feedback::KeyframeWanted(SlotId(slot)));
                }
            }
            Message::MaxBitrate { bps } if self.estimator.is_none() => {
                feedback.push(Feedback::Bandwidth(*bps));
            }
            Message::Transport(told) => self.estimate(now_us, told, feedback),
            Message::MaxBitrate { .. } | Message::ForReceiver | Message::Other => {}
        }
    }

    fn estimate(&mut self, now_us: u64, told: &transport::Feedback<'_>, feedback: &mut Vec<Feedback>) {
        let Some(estimator) = self.estimator.as_mut() else { return };
        self.counters.transport_feedback += 1;
        estimator.feedback(now_us, told);
        self.probe_waits = estimator.probe_deadline(now_us).is_some_and(|at| at <= now_us);
        let Some(bps) = estimator.bps() else { return };
        self.counters.estimate_bps = bps;
        let same = |old: u64| old.abs_diff(bps).saturating_mul(100) < old.saturating_mul(NOTICEABLE_PERCENT);
        if !self.told_bps.is_some_and(same) {
            self.told_bps = Some(bps);
            feedback.push(Feedback::Bandwidth(bps));
        }
    }

    fn line_of(&self, ssrc: u32) -> Option<usize> {
        self.lines.iter().position(|l| l.plan.ssrc == ssrc)
    }

    /// Says good-bye for every line that has sent something. Nothing leaves after that.
    pub(crate) fn goodbye(&mut self, now_us: u64, path: Path, arena: &mut Arena) {
        let Some(mut sealer) = self.sealer.take() else { return };
        self.probe_at = None;
        for info in self.lines.iter().filter_map(|l| l.report(now_us)) {
            rtcp::write_sender_report(arena.buffer(), &info);
            rtcp::write_cname(arena.buffer(), info.ssrc, &self.cname);
            rtcp::write_goodbye(arena.buffer(), info.ssrc);
            finish_rtcp(&mut sealer, path, arena);
        }
    }
}

/// A packet with a transport sequence number has left.
fn account(estimator: &mut Option<Box<Estimator>>, line: &Line, now_us: u64, length: usize) {
    if let Some(estimator) = estimator.as_mut().filter(|_| line.plan.transport_extension.is_some()) {
        estimator.sent(now_us, length);
    }
}

fn seal(written: &Written, sealer: &Sealer, path: Path, arena: &mut Arena) -> Option<usize> {
    let start = arena.start();
    match sealer.seal_rtp(arena.buffer(), start, written.header, written.ssrc, written.index) {
        Ok(()) => Some(arena.commit(path)),
        Err(_) => {
            arena.abandon();
            None
        }
    }
}

fn finish_report(ssrc: u32, cname: &str, sealer: &mut Sealer, path: Path, arena: &mut Arena) {
    rtcp::write_cname(arena.buffer(), ssrc, cname);
    finish_rtcp(sealer, path, arena);
}

fn finish_rtcp(sealer: &mut Sealer, path: Path, arena: &mut Arena) {
    let start = arena.start();
    match sealer.seal_rtcp(arena.buffer(), start) {
        Ok(()) => drop(arena.commit(path)),
        Err(_) => arena.abandon(),
    }
}
