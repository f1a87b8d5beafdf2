//! All that is sent to one subscriber beside ICE, DTLS and SCTP.

mod feedback;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use antiphon_room::slot::Outgoing;
use antiphon_room::{Bandwidth, KeyframeCause, SlotId};
use antiphon_wire::rtcp;
use rand::Rng;

use super::arena::{Arena, Path};
use super::bwe::{Estimator, MIN_PACE_BPS, Name, Pace};
use super::keys::Keys;
use super::line::{Line, LinePlan, Written};
use super::pacer::{self, Class, Pacer};
use super::playout::Playout;
use super::redundancy::Redundancy;
use super::srtp::{self, Opener, Sealer};
use crate::clock::Clock;
use crate::holdings::Holdings;
use crate::prefetch::{prefetch, prefetch_next};

/// Packets queued for one flush: a key frame of 4 Mbit/s and the voices beside it. Beyond it they are dropped and counted.
pub(crate) const MAX_QUEUE: usize = 1_024;
/// Places of the queue that are kept: what comes in a round without a key frame.
const SMALL_QUEUE: usize = 8;
/// Sender reports of lines with traffic (RFC 3550, 6.2 allows what is below 5 % of the bandwidth).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// It waits so long for media to go with: to wake for it costs more than to write it.
const REPORT_PATIENCE: Duration = Duration::from_millis(50);
/// The first report of a line comes soon: without it a player cannot align sound and picture.
const FIRST_REPORT: Duration = Duration::from_millis(100);
/// Bytes of sender reports in one datagram.
const MAX_REPORT_BYTES: usize = 1_100;
/// Before the first report block: a usual distance.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(50);
/// Bytes of retransmission that may be saved up while nothing is lost; beyond, as much as is sent anew.
const MAX_RESEND_CREDIT: usize = 256 * 1024;

/// Retransmissions take no more than the estimate, or on a path without a queue than what is sent, over this time (libwebrtc: `kRetransmitWindowSizeMs`): a narrowed
/// link that is full of them has no room for what is sent anew.
const RESEND_WINDOW_US: u64 = 500_000;
/// Packets of padding in one flush: a probe of 40 Mbit/s for the two milliseconds between them.
pub(crate) const MAX_PADDING: usize = 64;
/// What a subscriber is thought to be able to receive before anything was measured (libwebrtc:
/// `kDefaultStartBitrateBps`): the lowest layers, while the first probes look for more.
const START: Bandwidth = Bandwidth::Assumed(300_000);
/// A peer that has agreed to transport-wide feedback and gives none for so long, while it is sent media, gives none at
/// all: nothing limits what it is sent, as without.
const UNHEARD_US: u64 = 2_000_000;
/// What is told then.
const UNLIMITED_BPS: u64 = 50_000_000;
/// Media leaves so much faster than what a peer tells by REMB.
const REMB_FACTOR: f64 = 2.5;

/// What a peer said that others must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// It needs a key frame in a slot.
    KeyframeWanted(SlotId, KeyframeCause),
    /// How much it can receive: as estimated from its transport-wide feedback, or as it tells by REMB where that was not
    /// negotiated.
    Bandwidth(Bandwidth),
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
    /// Of what was sent in the last seconds, so much was lost.
    pub(crate) loss_percent: u64,
    /// Earlier packets that each audio packet repeats, where the peer takes RED.
    pub(crate) redundancy: usize,
    /// How long the peer is asked to keep pictures before it shows them, where it takes that.
    pub(crate) playout_ms: u64,
}

/// All counts of a sender.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Stats {
    #[serde(flatten)]
    pub(crate) counters: Counters,
    /// What had to wait, or could not.
    pub(crate) pacer: pacer::Counters,
}

/// What was taken. In this order it is written and read in the same pieces: one that is read across two writes waits until
/// all that was written before is in the cache.
#[repr(C)]
struct Queued {
    outgoing: Outgoing,
    slot: SlotId,
}

/// One subscriber's sending half.
pub(crate) struct Sender {
    lines: Vec<Line>,
    queue: Vec<Queued>,
    queue_bytes: usize,
    pacer: Pacer,
    pace_at: Option<Instant>,
    /// Numbers that the peer asks for again, by line.
    wanted: Vec<(usize, u16)>,
    /// Since the last flush there are more.
    asked: bool,
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
    /// When the estimate was last told, and what it was.
    told: Option<(u64, u64)>,
    /// The line that sent last of those in which a probe can be padded.
    padder: Option<SlotId>,
    /// When the next packet of a probe is due.
    probe_at: Option<Instant>,
    /// Feedback has begun a probe.
    probe_waits: bool,
    /// What the peer has told by REMB.
    remb_bps: Option<u64>,
    /// Since when media is sent without any feedback.
    unheard_us: Option<u64>,
    /// Since when there was feedback, and nothing to look for more for.
    unprobed_us: Option<u64>,
    demand_bps: u64,
    redundancy: Redundancy,
    playout: Playout,
    /// What a flush has found out.
    news: Vec<Feedback>,
    counters: Counters,
}

impl Sender {
    /// Lines in the order of the slots.
    pub(crate) fn new(plans: Vec<LinePlan>, cname: String) -> Self {
        let mut rng = rand::rng();
        let estimates = plans.iter().any(LinePlan::can_be_probed);
        Self {
            lines: plans.into_iter().map(|p| Line::new(p, rng.random_range(1..0x7fff))).collect(),
            queue: Vec::new(),
            queue_bytes: 0,
            pacer: Pacer::default(),
            pace_at: None,
            wanted: Vec::new(),
            asked: false,
            sealer: None,
            opener: None,
            cname,
            report_at: None,
            round_trip: DEFAULT_ROUND_TRIP,
            resend_credit: MAX_RESEND_CREDIT,
            resend_window: (0, 0),
            opened: Vec::new(),
            estimator: estimates.then(Box::default),
            told: None,
            padder: None,
            probe_at: None,
            probe_waits: false,
            remb_bps: None,
            unheard_us: None,
            unprobed_us: None,
            demand_bps: 0,
            redundancy: Redundancy::default(),
            playout: Playout::default(),
            news: Vec::new(),
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

    /// What the peer is thought to be able to receive before anything was measured; `None`: it is not measured.
    pub(crate) fn start(&self) -> Option<Bandwidth> {
        self.estimator.as_ref().map(|_| START)
    }

    /// What was counted.
    pub(crate) fn stats(&self) -> Stats {
        Stats { counters: self.counters, pacer: self.pacer.counters }
    }

    /// The peer's half of the keys.
    pub(crate) fn opener(&self) -> Option<&Opener> {
        self.opener.as_ref()
    }

    /// Asks for what [`Sender::forward`] needs.
    pub(crate) fn prefetch_queue(&self) {
        prefetch(&self.queue);
        prefetch(&self.queue_bytes);
        prefetch(&self.sealer);
    }

    /// Asks for the place in which the next packet is queued; what leads there comes by [`Sender::prefetch_queue`].
    pub(crate) fn prefetch_place(&self) {
        prefetch_next(&self.queue);
    }

    /// Asks for what leads to what feedback of the peer needs.
    pub(crate) fn prefetch_estimator(&self) {
        if let Some(estimator) = self.estimator.as_deref() {
            prefetch(estimator);
        }
    }

    /// Asks for what feedback of the peer needs, with [`Sender::prefetch_estimator`] before.
    pub(crate) fn prefetch_told(&self) {
        if let Some(opener) = &self.opener {
            opener.prefetch();
        }
        if let Some(estimator) = self.estimator.as_deref() {
            estimator.prefetch_told();
        }
    }

    /// Asks for the lines that something waits for, and what of the estimator is needed for it.
    pub(crate) fn prefetch_lines(&self) {
        if let Some(estimator) = self.estimator.as_deref() {
            estimator.prefetch_sending();
        }
        self.queued_lines().for_each(prefetch);
    }

    /// Asks for where packets are remembered.
    pub(crate) fn prefetch_histories(&self) {
        if let Some(estimator) = self.estimator.as_deref() {
            estimator.prefetch_next();
        }
        self.queued_lines().for_each(Line::prefetch_history);
    }

    /// The lines of what was taken: of a picture's packets one.
    fn queued_lines(&self) -> impl Iterator<Item = &Line> {
        let ends = [self.queue.first(), self.queue.last()];
        ends.into_iter().flatten().filter_map(|q| self.lines.get(usize::from(q.slot.0)))
    }

    /// Takes a packet for a slot. Nothing leaves before [`Sender::flush`].
    pub(crate) fn forward(&mut self, slot: SlotId, outgoing: Outgoing) {
        if self.queue.len() + self.pacer.len() >= MAX_QUEUE || self.sealer.is_none() {
            self.counters.dropped += 1;
            return;
        }
        self.queue_bytes += pacer::size(&outgoing);
        self.queue.push(Queued { outgoing, slot });
    }

    /// Everything taken that may leave by now goes into the arena, and reports that are due. What was found out is in
    /// [`Sender::take_news`].
    pub(crate) fn flush(&mut self, now: Instant, clock: Clock, path: Path, arena: &mut Arena) {
        let Some(mut sealer) = self.sealer.take() else { return };
        let now_us = clock.us(now);
        let pace = self.pace(now_us);
        self.pacer.refill(now_us, pace);
        let mut queue = std::mem::take(&mut self.queue);
        let queue_bytes = std::mem::take(&mut self.queue_bytes);
        // What was asked for again has its place between the others, and its part of the budget.
        if self.wanted.is_empty() && self.pacer.is_free(now_us, queue_bytes) {
            for packet in queue.drain(..) {
                self.send(now_us, packet, &sealer, path, arena);
            }
        } else {
            self.flush_paced((now, now_us), &mut queue, &sealer, path, arena);
        }
        self.queue = queue;
        let also = !self.wanted.is_empty();
        let pace_us = self.pacer.deadline(now_us, also);
        self.pace_at = pace_us.map(|at| now + Duration::from_micros(at.saturating_sub(now_us)));
        self.probe((now, now_us), &sealer, path, arena);
        // Lines are looked at last: a browser's dozen is in no cache.
        if self.report_at.is_none() && self.lines.iter().any(|l| l.active) {
            self.report_at = Some(now + FIRST_REPORT);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report(now_us, &mut sealer, path, arena);
            self.report_at = Some(now + REPORT_INTERVAL);
        }
        self.sealer = Some(sealer);
    }

    /// Audio, then retransmissions, then pictures, as far as the budget goes.
    fn flush_paced(
        &mut self,
        (now, now_us): (Instant, u64),
        queue: &mut Vec<Queued>,
        sealer: &Sealer,
        path: Path,
        arena: &mut Arena,
    ) {
        for packet in queue.drain(..) {
            match self.class(packet.slot) {
                Class::Audio => self.send(now_us, packet, sealer, path, arena),
                class => self.pacer.push(now_us, class, packet.slot, packet.outgoing),
            }
        }
        self.flush_wanted((now, now_us), sealer, path, arena);
        let news = &mut self.news;
        self.pacer.shed(now_us, |slot| news.push(Feedback::KeyframeWanted(slot, KeyframeCause::Repair)));
        while let Some((slot, outgoing)) = self.pacer.pop(now_us) {
            self.send(now_us, Queued { outgoing, slot }, sealer, path, arena);
        }
    }

    fn class(&self, slot: SlotId) -> Class {
        self.lines.get(usize::from(slot.0)).map_or(Class::Video, |l| l.plan.class)
    }

    /// What the path allows, and what its silence tells.
    fn pace(&mut self, now_us: u64) -> Option<Pace> {
        let Some(estimator) = self.estimator.as_mut() else {
            let told = self.remb_bps?;
            return Some(Pace { bps: (told as f64 * REMB_FACTOR).max(MIN_PACE_BPS), full: false });
        };
        if estimator.check_silence(now_us) {
            self.tell_estimate(now_us);
        } else if !estimator.has_heard() && self.lines.iter().any(|l| l.active) {
            let since_us = *self.unheard_us.get_or_insert(now_us);
            if now_us.saturating_sub(since_us) > UNHEARD_US {
                self.unheard_us = Some(u64::MAX);
                self.news.push(Feedback::Bandwidth(Bandwidth::Measured(UNLIMITED_BPS)));
            }
        }
        let estimator = self.estimator.as_mut()?;
        estimator.pace(now_us)
    }

    /// What flushes have found out since this was asked last.
    pub(crate) fn take_news(&mut self) -> Vec<Feedback> {
        std::mem::take(&mut self.news)
    }

    /// Something was asked for again, or a probe begins: [`Sender::flush`] is wanted.
    pub(crate) fn waits(&self) -> bool {
        !self.wanted.is_empty() || self.probe_waits
    }

    /// What the subscriber would be sent if nothing limited it, in bits per second; 0: it has no choice of layers.
    pub(crate) fn set_demand(&mut self, bps: u64) {
        let Some(estimator) = &mut self.estimator else { return };
        estimator.set_demand(bps);
        let begins = std::mem::replace(&mut self.demand_bps, bps) == 0 && bps > 0;
        let lifted = self.unprobed_us.take() == Some(u64::MAX);
        if begins && lifted && estimator.bps().is_none() {
            // Now there is a choice, and still nothing is known.
            self.news.push(Feedback::Bandwidth(START));
        }
    }

    /// When [`Sender::flush`] is wanted without new packets.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let report_at = self.report_at.map(|at| at + REPORT_PATIENCE);
        [report_at, self.probe_at, self.pace_at].into_iter().flatten().min()
    }

    /// The transport sequence number of the next packet.
    fn transport_seq(&self) -> u16 {
        self.estimator.as_ref().map_or(0, |e| e.next_seq())
    }

    fn send(
        &mut self,
        now_us: u64,
        Queued { outgoing, slot }: Queued,
        sealer: &Sealer,
        path: Path,
        arena: &mut Arena,
    ) {
        let transport = self.transport_seq();
        let Some(line) = self.lines.get_mut(usize::from(slot.0)) else { return };
        if outgoing.packet.spatial_id() > 0 {
            line.upper_us = Some(now_us);
        }
        let Some(written) = line.write(outgoing, transport, arena.buffer()) else {
            self.counters.no_payload_type += 1;
            return;
        };
        if line.pads() {
            self.padder = Some(slot);
        }
        let name =
            name(usize::from(slot.0), written.index, false).filter(|_| line.plan.class != Class::Audio);
        if let Some(length) = seal(&written, sealer, path, arena) {
            self.counters.packets += 1;
            self.counters.bytes += length as u64;
            self.pacer.spend(length);
            self.resend_credit = (self.resend_credit + length).min(MAX_RESEND_CREDIT);
            account(&mut self.estimator, line, now_us, length, name);
        }
    }

    /// Packets of a probe that are due, of the line that sent last.
    fn probe(&mut self, (now, now_us): (Instant, u64), sealer: &Sealer, path: Path, arena: &mut Arena) {
        self.probe_waits = false;
        let Some(estimator) = self.estimator.as_mut() else { return };
        estimator.set_can_probe(self.padder.is_some());
        let Some(padder) = self.padder else { return self.probe_at = None };
        for _ in 0..MAX_PADDING {
            if !estimator.probe_is_due(now_us) {
                break;
            }
            let line = self.lines.get_mut(usize::from(padder.0));
            let written = line.and_then(|l| l.write_padding(now, estimator.next_seq(), arena.buffer()));
            let Some(length) = written.and_then(|w| seal(&w, sealer, path, arena)) else {
                estimator.no_probe();
                self.padder = None;
                break;
            };
            self.counters.padding += 1;
            estimator.sent(now_us, length, None);
        }
        let due_us = estimator.probe_deadline(now_us);
        self.probe_at = due_us.map(|at| now + Duration::from_micros(at.saturating_sub(now_us)));
    }

    /// Bytes that may be sent again in the current window.
    fn resend_room(&mut self, now_us: u64) -> u64 {
        if now_us.saturating_sub(self.resend_window.0) >= RESEND_WINDOW_US {
            self.resend_window = (now_us, 0);
        }
        let Some(bps) = self.estimator.as_ref().and_then(|e| e.resend_bps(now_us)) else { return u64::MAX };
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
        if self.pacer.is_held(now_us) {
            // The queue of the path shall drain; who still needs them then asks again.
            self.counters.not_resent += wanted.len() as u64;
            wanted.clear();
        }
        if std::mem::take(&mut self.asked) && wanted.len() > 1 {
            // Feedback and a request may name the same one, and so may two requests.
            let mut seen = HashSet::with_capacity(wanted.len());
            wanted.retain(|one| seen.insert(*one));
        }
        let mut done = 0;
        for &(place, seq) in &wanted {
            if !self.pacer.has_budget() {
                break;
            }
            done += 1;
            let (transport, room) = (self.transport_seq(), self.resend_room(now_us));
            let Some(line) = self.lines.get_mut(place) else { continue };
            let asked = (seq, self.round_trip, self.pacer.was_full(now_us));
            let allowed = self.resend_credit > 0 && room > 0;
            let written =
                if allowed { line.write_again(now, asked, transport, arena.buffer()) } else { None };
            let length = written.and_then(|w| seal(&w, sealer, path, arena));
            match length {
                Some(length) => {
                    self.counters.resent += 1;
                    self.resend_credit = self.resend_credit.saturating_sub(length);
                    self.resend_window.1 += length as u64;
                    self.pacer.spend(length);
                    let name = name(place, u64::from(seq), true);
                    account(&mut self.estimator, line, now_us, length, name);
                }
                None => self.counters.not_resent += 1,
            }
        }
        wanted.drain(..done);
        self.wanted = wanted;
    }

    /// One compound packet with the reports of all lines that sent something (RFC 3550, 6.1), in as many datagrams as needed.
    fn report(&mut self, now_us: u64, sealer: &mut Sealer, path: Path, arena: &mut Arena) {
        let mut first = None;
        self.queue.shrink_to(SMALL_QUEUE);
        self.pacer.trim();
        if let Some(estimator) = &mut self.estimator {
            estimator.trim(now_us);
        }
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

    /// Adds what it holds.
    pub(crate) fn count(&self, held: &mut Holdings) {
        held.queued.add(self.queue.len() + self.pacer.len());
        held.wanted.add(self.wanted.len());
        held.unanswered.add(self.estimator.as_ref().map_or(0, |e| e.unanswered()));
        for line in &self.lines {
            held.resendable.add(line.remembered());
            held.repeated.add(line.repeated());
        }
    }

    /// Says good-bye for every line that has sent something. Nothing leaves after that.
    pub(crate) fn goodbye(&mut self, now_us: u64, path: Path, arena: &mut Arena) {
        let Some(mut sealer) = self.sealer.take() else { return };
        (self.probe_at, self.pace_at) = (None, None);
        for info in self.lines.iter().filter_map(|l| l.report(now_us)) {
            rtcp::write_sender_report(arena.buffer(), &info);
            rtcp::write_cname(arena.buffer(), info.ssrc, &self.cname);
            rtcp::write_goodbye(arena.buffer(), info.ssrc);
            finish_rtcp(&mut sealer, path, arena);
        }
    }
}

/// A packet with a transport sequence number has left.
fn account(estimator: &mut Option<Box<Estimator>>, line: &Line, now_us: u64, length: usize, name: Name) {
    if let Some(estimator) = estimator.as_mut().filter(|_| line.plan.transport_extension.is_some()) {
        estimator.sent(now_us, length, name);
    }
}

/// What feedback tells of a packet is told by this.
fn name(place: usize, seq: u64, again: bool) -> Name {
    let [low, high, ..] = seq.to_le_bytes();
    Some((u8::try_from(place).ok()?, u16::from_le_bytes([low, high]), again))
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

#[cfg(test)]
mod tests;
