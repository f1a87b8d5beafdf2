//! What a subscriber tells of what it was sent: requests, reports, and feedback of the whole path.

use std::time::Duration;

use antiphon_room::{Bandwidth, KeyframeCause, SlotId};
use antiphon_wire::rtcp::{self, Message, transport};

use super::{Feedback, Line, MAX_QUEUE, Sender, UNLIMITED_BPS};
use crate::egress::Class;

/// Round trips are believed up to here.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(2);
/// Transport-wide feedback messages of one datagram; others send one, and each may name thousands of packets.
const MAX_TRANSPORT: usize = 4;
/// Feedback for so long, nothing to look for more for, and no sign of a limit: there is none.
const UNPROBED_US: u64 = 1_000_000;
/// Upper spatial layers that were sent so lately may have been lost when the link narrows.
const UPPER_US: u64 = 500_000;
/// An estimate that differs by less, in percent, is not told ...
const NOTICEABLE_PERCENT: u64 = 5;
/// ... but for one that has risen by this, after so long: what is kept below the top may need no more.
const RISEN_PERCENT: u64 = 1;
const RISEN_US: u64 = 1_000_000;

impl Sender {
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
                let place = self.line_of(block.ssrc);
                let known = place.is_some();
                let is_audio = place.is_some_and(|p| self.lines[p].plan.class == Class::Audio);
                if is_audio && self.estimator.is_none() {
                    self.on_loss(now_us, f64::from(block.fraction_lost) / 256.0);
                }
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
                    self.want(lost.clone().map(|seq| (place, seq)));
                }
            }
            Message::KeyframeRequest { media } => {
                if let Some(slot) = self.line_of(*media).and_then(|p| u16::try_from(p).ok()) {
                    self.counters.keyframes_requested += 1;
                    let slot = SlotId(slot);
                    if !self.pacer.has_key_frame(slot) {
                        feedback.push(Feedback::KeyframeWanted(slot, KeyframeCause::Repair));
                    }
                }
            }
            Message::MaxBitrate { bps } if self.estimator.is_none() => {
                self.remb_bps = Some(*bps);
                feedback.push(Feedback::Bandwidth(Bandwidth::Measured(*bps)));
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
        let loss = estimator.loss();
        self.counters.loss_percent = estimator.mean_loss_percent();
        let lost = estimator.take_lost();
        let known = estimator.bps().is_some();
        if let Some(us) = estimator.take_narrowed() {
            self.pacer.hold(now_us + us);
            self.begin_anew(now_us);
        }
        self.on_loss(now_us, loss);
        self.repair(&lost);
        self.tell_estimate(now_us);
        if !known && self.demand_bps == 0 {
            let since_us = *self.unprobed_us.get_or_insert(now_us);
            if now_us.saturating_sub(since_us) > UNPROBED_US {
                self.unprobed_us = Some(u64::MAX);
                self.news.push(Feedback::Bandwidth(Bandwidth::Measured(UNLIMITED_BPS)));
            }
        }
        feedback.append(&mut self.news);
    }

    /// Where spatial layers come in one stream a picture of which an upper one is lost is none, and what builds on it is not
    /// shown: lower layers alone do not go on after a link has overflowed. A key frame takes less than what was lost.
    fn begin_anew(&mut self, now_us: u64) {
        let lately = |line: &Line| line.upper_us.is_some_and(|at| now_us.saturating_sub(at) < UPPER_US);
        for (slot, line) in (0u16..).zip(&mut self.lines) {
            if lately(line) {
                line.upper_us = None;
                line.begin_anew();
                self.news.push(Feedback::KeyframeWanted(SlotId(slot), KeyframeCause::Start));
            }
        }
    }

    /// Who has asked for a packet cannot know that it was lost once more, and on a line that loses, requests are lost, too:
    /// what feedback tells missing is sent again without being asked for.
    fn repair(&mut self, lost: &[(u8, u16, bool)]) {
        let all = self.redundancy.level() > 0;
        let again = lost.iter().filter(|(_, _, again)| all || *again);
        self.want(again.map(|(place, seq, _)| (usize::from(*place), *seq)));
    }

    /// These, of a line each, are to be sent again, as far as there is room for them.
    fn want(&mut self, more: impl Iterator<Item = (usize, u16)>) {
        let before = self.wanted.len();
        self.wanted.extend(more.take(MAX_QUEUE.saturating_sub(before)));
        self.asked |= self.wanted.len() > before;
    }

    /// Audio repeats itself by what is lost, and pictures are kept for what is sent again.
    fn on_loss(&mut self, now_us: u64, loss: f64) {
        self.redundancy.update(now_us, loss);
        let level = self.redundancy.level();
        if level != self.counters.redundancy {
            self.counters.redundancy = level;
            self.lines.iter_mut().for_each(|l| l.redundancy = level);
        }
        self.playout.update(now_us, loss, self.round_trip);
        let depth = self.playout.depth();
        let depth_ms = u64::try_from(depth.as_millis()).unwrap_or(u64::MAX);
        if depth_ms != self.counters.playout_ms
            && self.lines.iter().any(|l| l.plan.playout_extension.is_some())
        {
            self.counters.playout_ms = depth_ms;
            self.lines.iter_mut().for_each(|l| l.keep(depth));
        }
    }

    pub(super) fn tell_estimate(&mut self, now_us: u64) {
        let Some(bps) = self.estimator.as_ref().and_then(|e| e.bps()) else { return };
        self.counters.estimate_bps = bps;
        let same = |(at_us, old): (u64, u64)| {
            let quiet = bps < old || now_us.saturating_sub(at_us) < RISEN_US;
            let percent = if quiet { NOTICEABLE_PERCENT } else { RISEN_PERCENT };
            old.abs_diff(bps).saturating_mul(100) < old.saturating_mul(percent)
        };
        if !self.told.is_some_and(same) {
            self.told = Some((now_us, bps));
            self.news.push(Feedback::Bandwidth(Bandwidth::Measured(bps)));
        }
    }

    fn line_of(&self, ssrc: u32) -> Option<usize> {
        self.lines.iter().position(|l| l.plan.ssrc == ssrc)
    }
}
