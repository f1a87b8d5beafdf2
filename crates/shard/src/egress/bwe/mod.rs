//! What a subscriber can receive, from its transport-wide feedback: Google congestion control
//! (draft-ietf-rmcat-gcc-02) as libwebrtc has it today. `docs/design/bandwidth.md` names parts, sources and constants.
//!
//! Sans-IO: [`Estimator::sent`] is told each packet, [`Estimator::feedback`] each message, both with the time;
//! [`Estimator::bps`] is the estimate. Probes are sent by whoever owns it: [`Estimator::probe_is_due`] and
//! [`Estimator::probe_deadline`].

mod acked;
mod alr;
mod arrival;
mod busy;
mod history;
mod loss;
mod probe;
mod queue;
mod rate;
#[cfg(test)]
mod tests;
mod trend;

use antiphon_wire::rtcp::transport::Feedback;

use acked::Acked;
use alr::Alr;
use arrival::Groups;
use history::{Arrived, History};
pub(crate) use history::{MAX_PACKETS as MAX_UNANSWERED, Name};
use loss::Loss;
use probe::{Measured, Probes, Situation};
use queue::Queue;
use rate::{Rate, UNQUEUED_MIN_BPS};
use trend::{Trend, Usage};

use crate::prefetch::prefetch;

/// Estimates are kept between what a voice needs (libwebrtc: `kCongestionControllerMinBitrate`) and what no slot wants.
const MIN_BPS: f64 = 5_000.0;
const MAX_BPS: f64 = 50_000_000.0;
/// After so long without feedback groups and trend begin anew (`kStreamTimeOut`).
const TIMEOUT_US: u64 = 2_000_000;
/// Round trip before there is one.
const FIRST_RTT_US: u64 = 100_000;
/// Of feedback, after so much was sent: nothing for this and two round trips means that nothing arrives, or that what
/// tells of it does not; the estimate is lowered to this share, and again after as long (browsers tell each 50 to 250 ms).
const SILENCE_US: u64 = 500_000;
const SILENCE_PACKETS: u32 = 20;
const SILENCE_SHARE: f64 = 0.7;
/// Silence alone does not take the estimate below a voice and the lowest layer.
const SILENCE_MIN_BPS: f64 = 100_000.0;
/// Media leaves at most so much faster than the estimate (libwebrtc: `kDefaultPaceMultiplier`).
const PACING_FACTOR: f64 = 2.5;
/// Media leaves so fast at least: the room sends the lowest layer whatever the estimate is (its `assumed_bps`), and a pace
/// below that only tears it. Estimates are lower where little was sent.
pub(crate) const MIN_PACE_BPS: f64 = 150_000.0;
/// If less than this share of what is sent is known to have arrived, it is too much even so: a third lost, and as much of
/// the feedback, leaves four ninths.
const MIN_ARRIVING: f64 = 0.4;
/// Over so long it is measured what is sent.
const LEFT_US: u64 = 1_000_000;
/// A path whose queue is longer is full: what leaves faster than the estimate only waits there, where nothing can be
/// taken back or overtaken.
const FULL_US: u64 = 60_000;
/// What feedback tells of the path's queue is known for so long.
const FRESH_US: u64 = 500_000;
/// Video is held for the path's queue to drain, not longer than this.
const MAX_HOLD_US: u64 = 250_000;
/// On a path that loses so much over seconds this is told, which is the lowest layers, or less while a queue stands, and no
/// more is looked for: a picture of many packets is rarely whole there.
const MUCH_LOSS: f64 = 0.2;
const MUCH_LOSS_BPS: f64 = 300_000.0;
/// No less is told because of loss alone, where no queue has stood for seconds: the lowest layers, which a path like that loses
/// as it loses everything. What arrives of little is less still, and no measure of the path.
const LOSS_MIN_BPS: f64 = 300_000.0;
/// Where more is lost than this, probes that measure nothing are not sent again soon.
const PROBES_LOSE: f64 = 0.15;
/// What a probe has measured is known for so long.
const MEASURED_US: u64 = 500_000;
/// Of what the link carries when it has too much, the estimate is so much at least, once the queue has drained (GCC's beta).
const CARRIED: f64 = 0.85;
/// A probe does not take the estimate below this share of what arrives (`kProbeDropThroughputFraction`).
const PROBE_DROP: f64 = 0.85;

/// The estimator of one connection.
#[derive(Debug, Default)]
pub(crate) struct Estimator {
    history: History,
    groups: Groups,
    trend: Trend,
    acked: Acked,
    rate: Rate,
    loss: Loss,
    alr: Alr,
    probes: Probes,
    rtt_us: Option<u64>,
    /// When feedback last came.
    heard_us: Option<u64>,
    /// Packets sent since then.
    unanswered: u32,
    /// When the estimate was last lowered for silence.
    silenced_us: u64,
    queue: Queue,
    /// The link has just narrowed: how long its queue is.
    narrowed_us: Option<u64>,
    /// What is sent.
    left: Left,
    /// What the last probe has measured, and when.
    measured: Option<(u64, f64)>,
    /// Packets told missing.
    lost: Vec<(u8, u16, bool)>,
    /// There is something to send for a probe.
    can_probe: bool,
}

/// What is sent, probes among it.
#[derive(Debug, Default)]
struct Left {
    begun_us: u64,
    bytes: u64,
    bps: f64,
}

impl Left {
    fn add(&mut self, now_us: u64, bytes: u32) {
        let passed_us = now_us.saturating_sub(self.begun_us);
        if passed_us >= LEFT_US {
            self.bps = self.bytes as f64 * 8e6 / passed_us as f64;
            (self.begun_us, self.bytes) = (now_us, 0);
        }
        self.bytes += u64::from(bytes);
    }

    /// Bits per second, of the last time that was measured.
    fn bps(&self) -> f64 {
        self.bps
    }
}

/// How fast media may leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    pub(crate) bps: f64,
    /// The path has a queue already.
    pub(crate) full: bool,
}

impl Estimator {
    /// Gives back memory. To be called now and then.
    pub(crate) fn trim(&mut self, now_us: u64) {
        self.history.trim(now_us);
    }

    /// The transport sequence number of the packet that is being written.
    pub(crate) fn next_seq(&self) -> u16 {
        self.history.next_seq()
    }

    /// Asks for what a packet that is sent needs: half of what is here.
    pub(crate) fn prefetch_sending(&self) {
        prefetch(&self.history);
        prefetch(&self.left);
        prefetch(&self.alr);
        prefetch(&self.probes);
        prefetch(&self.rate);
        prefetch(&self.loss);
        prefetch(&self.queue);
        prefetch(&self.heard_us);
    }

    /// Asks for where it is remembered.
    pub(crate) fn prefetch_next(&self) {
        self.history.prefetch_end();
    }

    /// Asks for what the next message of the peer tells of.
    pub(crate) fn prefetch_told(&self) {
        self.history.prefetch_begin();
    }

    /// That packet has left, with so many bytes; what it was is told again by [`Estimator::take_lost`].
    pub(crate) fn sent(&mut self, now_us: u64, bytes: usize, name: Name) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unanswered = self.unanswered.saturating_add(1);
        let cluster = self.probes.sent(now_us, bytes);
        self.history.push(now_us, bytes, cluster, name);
        self.left.add(now_us, bytes);
        if cluster == 0
            && let Some(bps) = self.estimate()
            && self.alr.sent(now_us, bytes, bps)
        {
            self.acked.expect_change();
        }
    }

    /// What the subscriber would be sent if nothing limited it, in bits per second: beyond that nothing is looked for.
    pub(crate) fn set_demand(&mut self, bps: u64) {
        self.probes.set_demand(bps as f64);
        self.rate.set_wants_more(bps > 0);
    }

    /// How fast media may leave; `None`: as it comes, nothing is known of the path.
    pub(crate) fn pace(&self, now_us: u64) -> Option<Pace> {
        let estimate = self.estimate()?;
        let full = self.is_full(now_us);
        // What has arrived lately may be of before the link narrowed.
        let arrives = || self.queue.carried().unwrap_or(f64::MAX).min(self.acked.last_bps());
        let bps = if full { estimate.max(arrives()) } else { self.free(estimate) * PACING_FACTOR };
        Some(Pace { bps: bps.max(MIN_PACE_BPS), full })
    }

    /// What retransmissions may take, in bits per second; `None`: as they come.
    pub(crate) fn resend_bps(&self, now_us: u64) -> Option<u64> {
        let estimate = self.estimate()?;
        Some(whole(if self.is_full(now_us) { estimate } else { self.free(estimate) }))
    }

    fn is_full(&self, now_us: u64) -> bool {
        let fresh = self.heard_us.is_some_and(|at| now_us.saturating_sub(at) < FRESH_US);
        fresh && self.queue.waited_us() > FULL_US
    }

    /// What a path without a queue takes: the estimate may be low because little was to be sent, or because feedback is lost as
    /// well; what is sent is not too much there.
    fn free(&self, estimate: f64) -> f64 {
        let arrived = self.acked.bps().unwrap_or(0.0);
        estimate.max(arrived).max(self.left.bps().min(arrived / MIN_ARRIVING))
    }

    /// The link has narrowed since this was asked last: video is better held for so long, in us.
    pub(crate) fn take_narrowed(&mut self) -> Option<u64> {
        self.narrowed_us.take()
    }

    /// Lowers the estimate where feedback has stopped while packets are sent. `true`: it has changed.
    pub(crate) fn check_silence(&mut self, now_us: u64) -> bool {
        let Some(heard_us) = self.heard_us.filter(|_| self.unanswered >= SILENCE_PACKETS) else {
            return false;
        };
        let quiet_us = now_us.saturating_sub(heard_us.max(self.silenced_us));
        let Some(bps) = self.estimate().filter(|bps| *bps > SILENCE_MIN_BPS) else { return false };
        if quiet_us < SILENCE_US + 2 * self.rtt() {
            return false;
        }
        self.silenced_us = now_us;
        self.rate.set(now_us, (bps * SILENCE_SHARE).max(SILENCE_MIN_BPS));
        true
    }

    /// Packets of which feedback is to tell.
    pub(crate) fn unanswered(&self) -> usize {
        self.history.len()
    }

    /// Packets that the last message told missing: line, sequence number, whether it was sent again.
    pub(crate) fn take_lost(&mut self) -> Vec<(u8, u16, bool)> {
        std::mem::take(&mut self.lost)
    }

    /// Share of the packets lost lately, 0 to 1.
    pub(crate) fn loss(&self) -> f64 {
        self.loss.share()
    }

    /// The same over the last seconds, in percent.
    pub(crate) fn mean_loss_percent(&self) -> u64 {
        whole(self.loss.mean() * 100.0)
    }

    /// A message of the peer has come at all.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard_us.is_some()
    }

    /// The estimate in bits per second; `None`: nothing was measured yet, or nothing limits.
    pub(crate) fn bps(&self) -> Option<u64> {
        let bps = self.estimate()?;
        let free = self.queue.waited_us() <= FULL_US;
        Some(whole(if self.loss.mean() <= MUCH_LOSS {
            let of_the_path = self.loss.is_of_the_path(self.heard_us.unwrap_or_default());
            if free && of_the_path { bps.max(LOSS_MIN_BPS) } else { bps }
        } else if free {
            // Less would lose as much where no queue stands; and a picture that was given up would not come back, since a
            // path like that is not probed.
            MUCH_LOSS_BPS
        } else {
            bps.min(MUCH_LOSS_BPS)
        }))
    }

    fn estimate(&self) -> Option<f64> {
        let bound = self.loss.bound();
        let least = self.rate.bps().map(|rate| bound.map_or(rate, |b| b.min(rate))).or(bound);
        least.map(|bps| bps.clamp(MIN_BPS, MAX_BPS))
    }

    /// Whether there is something to send for a probe; no probe begins before.
    pub(crate) fn set_can_probe(&mut self, can: bool) {
        self.can_probe = can;
        if !can {
            self.probes.give_up();
        }
    }

    /// A packet is to be sent now for a probe. To be asked again after it.
    pub(crate) fn probe_is_due(&mut self, now_us: u64) -> bool {
        if self.heard_us.is_none() && self.can_probe {
            let situation =
                Situation { estimate: None, congested: false, recovered: false, queued: false, loses: false };
            self.probes.consider(now_us, situation);
        }
        self.probes.is_due(now_us)
    }

    /// When that is to be asked next; `None`: after the next feedback.
    pub(crate) fn probe_deadline(&self, now_us: u64) -> Option<u64> {
        self.probes.deadline(now_us)
    }

    /// There is nothing to send for a probe.
    pub(crate) fn no_probe(&mut self) {
        self.probes.give_up();
    }

    /// Takes a message of the peer.
    pub(crate) fn feedback(&mut self, now_us: u64, feedback: &Feedback<'_>) {
        let mut report = self.history.take(now_us, feedback);
        self.lost = std::mem::take(&mut report.lost);
        self.unanswered = 0;
        let silent = self.heard_us.replace(now_us).is_some_and(|at| now_us.saturating_sub(at) > TIMEOUT_US);
        if silent {
            (self.groups, self.trend) = (Groups::default(), Trend::default());
        }
        self.measure_round_trip(now_us, &report.arrived);
        let before = self.trend.usage();
        let (mut overused, mut probed, mut narrowed) = (false, None, None);
        for packet in &report.arrived {
            self.acked.add(packet, self.alr.is_limited());
            self.queue.add(packet);
            // What comes behind packets that a full queue has dropped hides how those before them waited longer and longer.
            narrowed = narrowed.or_else(|| self.estimate().and_then(|bps| self.queue.narrowed(bps)));
            if let Some(delta) = self.groups.add(now_us, packet) {
                self.trend.add(packet.arrival_us, delta);
                overused |= self.trend.usage() == Usage::Over;
            }
            if packet.cluster != 0 {
                probed = self.probes.arrived(packet).or(probed);
            }
        }
        match narrowed {
            Some(bps) => {
                self.narrowed_us = Some(self.queue.waited_us().min(MAX_HOLD_US));
                self.acked.expect_change();
                self.rate.narrow(now_us, bps);
            }
            None => self.control(now_us, overused, probed, !report.arrived.is_empty()),
        }
        if self.queue.waited_us() > FULL_US {
            self.loss.queued(now_us);
        }
        let arrived = i64::try_from(report.arrived.len()).unwrap_or(i64::MAX);
        let told = (arrived, report.missing);
        let carried = self.queue.carried().map(|bps| bps * CARRIED);
        let least = self.acked.bps().map(|acked| acked.max(carried.unwrap_or(0.0)));
        self.loss.update(now_us, told, self.estimate(), least, self.rtt());
        let calm = self.trend.usage() == Usage::Normal && !overused && !self.loss.is_high();
        if let Some(bps) = carried.filter(|_| calm && self.queue.is_empty()) {
            self.rate.raise(now_us, bps);
            self.loss.probed(bps);
        }
        if let Some(rate) = self.rate.bps() {
            self.loss.lift(rate);
        }
        let usage = self.trend.usage();
        let situation = Situation {
            estimate: self.estimate(),
            congested: usage == Usage::Over
                || self.loss.is_high()
                || self.loss.mean() > MUCH_LOSS
                || narrowed.is_some(),
            recovered: before == Usage::Under && usage == Usage::Normal,
            queued: self.queue.carried().is_some(),
            loses: self.loss.mean() > PROBES_LOSE,
        };
        if self.can_probe {
            self.probes.consider(now_us, situation);
        }
    }

    /// From the detector, what arrives and what probes have measured to the rate.
    fn control(&mut self, now_us: u64, overused: bool, probed: Option<Measured>, heard: bool) {
        let (acked, rtt_us) = (self.acked.bps(), self.rtt());
        if overused || self.loss.is_high() {
            // Ours, not libwebrtc's: the path has changed, so the filter of what arrives may move, too. Without it the
            // second decrease after a drop is still taken from the rate before.
            self.acked.expect_change();
        }
        let over = overused || self.trend.usage() == Usage::Over;
        if probed.is_some() && over {
            self.probes.doubt();
        }
        if let Some(free) = probed.filter(|p| !p.full && !over) {
            self.loss.got_through(now_us, free.bps);
        }
        let queued = self.queue.carried().is_some();
        let told = probed.filter(|_| !over).and_then(|probed| self.believe(probed, acked, queued));
        match told {
            Some(bps) => {
                self.measured = Some((now_us, bps));
                self.rate.set(now_us, bps);
                self.loss.probed(bps);
            }
            None if heard => {
                let usage = if overused { Usage::Over } else { self.trend.usage() };
                let acked = if usage == Usage::Over { self.carried(now_us) } else { acked };
                self.rate.update(now_us, usage, acked, rtt_us, queued);
            }
            None => {}
        }
    }

    /// The estimate after a probe, in bits per second; `None`: it tells nothing that was not known.
    ///
    /// Ours, not libwebrtc's, which takes each result: a cluster that left slowly, because the server had no time, shows no
    /// limit; and one that came slowly over a path on which nothing has stood for seconds is a receiver that had none.
    fn believe(&self, probed: Measured, acked: Option<f64>, queued: bool) -> Option<f64> {
        let rate = self.rate.bps();
        let known = rate.unwrap_or(UNQUEUED_MIN_BPS);
        if !probed.full {
            return (probed.bps > known).then(|| probed.bps.min(MAX_BPS));
        }
        let arrives = rate.zip(acked).map_or(0.0, |(rate, acked)| rate.min(acked * PROBE_DROP));
        Some(probed.bps.max(arrives).max(known.min(rate::least(queued))).min(MAX_BPS))
    }

    /// What the link carries at least, when it has too much. A probe's own queue is seen just after it, when little else
    /// arrives: what it has measured is known then (ours, not libwebrtc's).
    fn carried(&self, now_us: u64) -> Option<f64> {
        let recent = self.acked.recent_bps()?.max(self.queue.carried().unwrap_or(0.0));
        let measured = self.measured.filter(|(at, _)| now_us.saturating_sub(*at) < MEASURED_US);
        Some(measured.map_or(recent, |(_, bps)| bps.max(recent)))
    }

    fn rtt(&self) -> u64 {
        self.rtt_us.unwrap_or(FIRST_RTT_US)
    }

    /// The shortest way of a packet and the message about it, less what the packet waited for the newest one; smoothed
    /// as in RFC 6298, section 2.
    fn measure_round_trip(&mut self, now_us: u64, arrived: &[Arrived]) {
        let Some(newest) = arrived.last().map(|a| a.arrival_us) else { return };
        let waited = |a: &Arrived| u64::try_from(newest - a.arrival_us).unwrap_or(0);
        let ways = arrived.iter().map(|a| now_us.saturating_sub(a.sent_us).saturating_sub(waited(a)));
        let Some(way_us) = ways.min() else { return };
        self.rtt_us = Some(self.rtt_us.map_or(way_us, |old| (old * 7 + way_us) / 8));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "none is negative or beyond MAX_BPS"
)]
fn whole(bps: f64) -> u64 {
    bps as u64
}
