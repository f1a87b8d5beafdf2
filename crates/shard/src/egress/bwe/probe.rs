//! Probing: clusters of packets faster than the estimate. When to send one:
//! `modules/congestion_controller/goog_cc/probe_controller.cc` of libwebrtc; how fast: `modules/pacing/bitrate_prober.cc`;
//! what it has measured: `modules/congestion_controller/goog_cc/probe_bitrate_estimator.cc`.

use std::collections::VecDeque;

use super::history::Arrived;

/// Where the first clusters start from (libwebrtc: `kDefaultStartBitrateBps`).
const START_BPS: f64 = 300_000.0;
/// The first two clusters (`first_exponential_probe_scale`, `second_..`).
const FIRST: [f64; 2] = [3.0, 6.0];
/// After one that got through, and periodically (`further_exponential_probe_scale`, `alr_scale`).
const FURTHER: f64 = 2.0;
/// It got through if the estimate is above this share of it (`further_probe_threshold`).
const THROUGH: f64 = 0.7;
/// A result is waited for this long (`kMaxWaitingTimeForProbingResult`).
const WAIT_US: u64 = 1_000_000;
/// Between periodic clusters (`alr_probing_interval`).
const INTERVAL_US: u64 = 5_000_000;
/// A drop to this share is a large one (`kBitrateDropThreshold`), remembered so long (`kBitrateDropTimeout`), and tried
/// again at this share of the rate before (`kProbeFractionAfterDrop`), not more often than that
/// (`kMinTimeBetweenAlrProbes`).
const LARGE_DROP: f64 = 0.66;
const DROP_US: u64 = 5_000_000;
const AFTER_DROP: f64 = 0.85;
const RECOVERY_US: u64 = 5_000_000;
/// A cluster's length and least number of packets (`min_probe_duration`, `min_probe_packets_sent`).
const DURATION_S: f64 = 0.015;
const MIN_PACKETS: u32 = 5;
/// Smaller packets are none of a cluster's (libwebrtc begins none with them: `min_packet_size`): its packets leave as far apart
/// as the one before is long, so a voice at its end arrives as if the link were slow.
const MIN_PACKET_BYTES: u32 = 200;
/// Its packets leave at least so far apart, several at a time if need be (`min_probe_delta`).
const STEP_US: u64 = 2_000;
/// Later than this a cluster is given up: it would be a burst (`max_probe_delay`).
const MAX_LATE_US: u64 = 20_000;
/// Of packets and bytes, so much must arrive (`kMinReceivedProbesRatio`, `kMinReceivedBytesRatio`).
const MIN_ARRIVED: f64 = 0.8;
/// It cannot arrive faster than it was sent by more than this (`kMaxValidRatio`).
const MAX_RATIO: f64 = 2.0;
/// Below this share of the sent rate the link was full (`kMinRatioForUnsaturatedLink`); then so much of it is used
/// (`kTargetUtilizationFraction`).
const FULL: f64 = 0.9;
const UTILIZATION: f64 = 0.95;
/// The longest cluster (`kMaxProbeInterval`).
const MAX_SPAN_US: u64 = 1_000_000;
/// Clusters whose answers are waited for.
const MAX_CLUSTERS: usize = 4;
/// The longest gap in what arrives of a cluster, if its packet came so many times more slowly than the rest, is none of a full
/// link, which brings each at its own rate, but a receiver that had no time.
const STALL: f64 = 2.5;
/// The room raises a layer with so much to spare, so that is looked for.
const HEADROOM: f64 = 1.25;

/// A cluster that is being sent.
#[derive(Debug)]
struct Active {
    id: u16,
    bps: f64,
    begun_us: u64,
    sent_bytes: u32,
    packets: u32,
    next_us: u64,
}

/// What a cluster has measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Bits per second.
    pub(super) bps: f64,
    /// It arrived more slowly than it left: the path carries no more. Otherwise it carries this at least, and how much more the
    /// cluster could not tell: a server that had no time sends it slowly.
    pub(super) full: bool,
}

/// A cluster whose answers come in.
#[derive(Debug)]
struct Cluster {
    id: u16,
    bps: f64,
    bytes: u32,
    packets: u32,
    first_sent_us: u64,
    last_sent_us: u64,
    last_sent_bytes: u32,
    first_arrival_us: i64,
    last_arrival_us: i64,
    first_arrival_bytes: u32,
    longest_gap_us: i64,
    /// Of the packet that ended it.
    gap_bytes: u32,
}

/// What a probe controller must know of the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub(super) estimate: Option<f64>,
    /// Delay grows, or much is lost: no time for experiments.
    pub(super) congested: bool,
    /// The delay has just become normal again.
    pub(super) recovered: bool,
    /// The path had a queue in the last seconds: what it carries is known.
    pub(super) queued: bool,
    /// Most clusters lose too much here to measure anything.
    pub(super) loses: bool,
}

/// Clusters to come, under way, and answered.
#[derive(Debug, Default)]
pub(super) struct Probes {
    queue: VecDeque<f64>,
    active: Option<Active>,
    clusters: VecDeque<Cluster>,
    /// Of the last cluster.
    count: u16,
    /// It has measured something.
    answered: bool,
    /// What the subscriber would be sent if nothing limited it.
    demand: f64,
    begun: bool,
    /// Above this estimate the last cluster got through; until when that is looked at.
    further: Option<(f64, u64)>,
    last_us: Option<u64>,
    last_estimate: Option<f64>,
    /// The last large drop: when, and the rate before.
    drop: Option<(u64, f64)>,
    recovery_us: Option<u64>,
}

impl Probes {
    /// What the subscriber would be sent, in bits per second, if nothing limited it.
    pub(super) fn set_demand(&mut self, bps: f64) {
        self.demand = bps;
    }

    fn enough(&self, estimate: Option<f64>) -> bool {
        estimate.map_or(self.demand <= 0.0, |bps| bps >= self.demand * HEADROOM)
    }

    /// Decides whether a cluster is to be sent.
    pub(super) fn consider(&mut self, now_us: u64, situation: Situation) {
        let estimate = situation.estimate;
        self.notice_drop(now_us, estimate);
        if situation.congested {
            self.queue.clear();
            return;
        }
        if self.enough(estimate) || self.active.is_some() || !self.queue.is_empty() {
            return;
        }
        if !self.begun {
            self.begun = true;
            let scales = if estimate.is_some() { &FIRST[..0] } else { &FIRST };
            self.enqueue(now_us, scales.iter().map(|scale| scale * START_BPS));
        }
        if let Some((threshold, until_us)) = self.further
            && let Some(bps) = estimate.filter(|bps| *bps > threshold && now_us <= until_us)
        {
            self.enqueue(now_us, [bps * FURTHER]);
        }
        let quiet = |since: Option<u64>, time| since.is_none_or(|at| now_us.saturating_sub(at) >= time);
        if situation.recovered
            && let Some((_, before)) = self.drop.filter(|(at, _)| now_us.saturating_sub(*at) < DROP_US)
            && quiet(self.recovery_us, RECOVERY_US)
        {
            self.recovery_us = Some(now_us);
            self.enqueue(now_us, [before * AFTER_DROP]);
        }
        // Ours: what has measured nothing is sent again soon, and so it is below what is wanted on a path that has shown no
        // limit.
        let below = estimate.is_some_and(|bps| bps < self.demand) && !situation.queued;
        let soon = estimate.is_none() || (below || !self.answered) && !situation.loses;
        let interval = if soon { WAIT_US } else { INTERVAL_US };
        if quiet(self.last_us, interval) {
            self.enqueue(now_us, [estimate.unwrap_or(START_BPS) * FURTHER]);
        }
    }

    fn notice_drop(&mut self, now_us: u64, estimate: Option<f64>) {
        if let (Some(old), Some(new)) = (self.last_estimate, estimate)
            && new < LARGE_DROP * old
        {
            self.drop = Some((now_us, old));
        }
        self.last_estimate = estimate;
    }

    fn enqueue(&mut self, now_us: u64, rates: impl IntoIterator<Item = f64>) {
        for bps in rates {
            let bps = bps.min(FURTHER * self.demand * HEADROOM);
            self.queue.push_back(bps);
            self.further = Some((bps * THROUGH, now_us + WAIT_US));
            self.last_us = Some(now_us);
            self.answered = false;
        }
    }

    /// What the last cluster has measured is not believed.
    pub(super) fn doubt(&mut self) {
        self.answered = false;
    }

    /// The cluster to which a packet that leaves now belongs; 0: none.
    pub(super) fn sent(&mut self, now_us: u64, bytes: u32) -> u16 {
        self.give_up_late(now_us);
        let Some(active) = self.active.as_mut().filter(|_| bytes >= MIN_PACKET_BYTES) else { return 0 };
        active.sent_bytes = active.sent_bytes.saturating_add(bytes);
        active.packets += 1;
        let id = active.id;
        if active.packets >= MIN_PACKETS && f64::from(active.sent_bytes) * 8.0 >= active.bps * DURATION_S {
            self.active = None;
        }
        id
    }

    /// When the next packet of a cluster is due; `None`: there is no cluster.
    pub(super) fn deadline(&self, now_us: u64) -> Option<u64> {
        self.active.as_ref().map(|a| a.next_us).or_else(|| (!self.queue.is_empty()).then_some(now_us))
    }

    /// A packet of a cluster is to be sent now, beside what is sent anyway.
    pub(super) fn is_due(&mut self, now_us: u64) -> bool {
        self.give_up_late(now_us);
        if self.active.is_none() {
            let Some(bps) = self.queue.pop_front() else { return false };
            self.begin(now_us, bps);
        }
        let Some(active) = self.active.as_mut() else { return false };
        if now_us < active.next_us {
            return false;
        }
        // What should have left by the end of this step.
        let planned_us = f64::from(active.sent_bytes) * 8e6 / active.bps.max(1.0);
        let passed_us = now_us.saturating_sub(active.begun_us) as f64;
        if planned_us < passed_us + STEP_US as f64 {
            return true;
        }
        active.next_us = active.begun_us + micros(planned_us);
        false
    }

    /// Nobody had time for the cluster's next packet. What leaves now is none of it: it would be as slow as that.
    fn give_up_late(&mut self, now_us: u64) {
        if self.active.as_ref().is_some_and(|a| now_us.saturating_sub(a.next_us) > MAX_LATE_US) {
            self.active = None;
        }
    }

    fn begin(&mut self, now_us: u64, bps: f64) {
        self.count = self.count.checked_add(1).unwrap_or(1);
        let id = self.count;
        self.active = Some(Active { id, bps, begun_us: now_us, sent_bytes: 0, packets: 0, next_us: now_us });
        if self.clusters.len() == MAX_CLUSTERS {
            self.clusters.pop_front();
        }
        self.clusters.push_back(Cluster {
            id,
            bps,
            bytes: 0,
            packets: 0,
            first_sent_us: u64::MAX,
            last_sent_us: 0,
            last_sent_bytes: 0,
            first_arrival_us: i64::MAX,
            last_arrival_us: i64::MIN,
            first_arrival_bytes: 0,
            longest_gap_us: 0,
            gap_bytes: 0,
        });
    }

    /// There is nothing to make a cluster of.
    pub(super) fn give_up(&mut self) {
        self.active = None;
        self.queue.clear();
    }

    /// A packet of a cluster has arrived: what it has measured so far.
    pub(super) fn arrived(&mut self, packet: &Arrived) -> Option<Measured> {
        let cluster = self.clusters.iter_mut().find(|c| c.id == packet.cluster)?;
        let measured = cluster.add(packet)?;
        self.answered |= measured.full || measured.bps >= cluster.bps * THROUGH;
        Some(measured)
    }
}

impl Cluster {
    fn add(&mut self, packet: &Arrived) -> Option<Measured> {
        self.bytes = self.bytes.saturating_add(packet.bytes);
        self.packets += 1;
        self.first_sent_us = self.first_sent_us.min(packet.sent_us);
        if packet.sent_us >= self.last_sent_us {
            (self.last_sent_us, self.last_sent_bytes) = (packet.sent_us, packet.bytes);
        }
        if packet.arrival_us < self.first_arrival_us {
            (self.first_arrival_us, self.first_arrival_bytes) = (packet.arrival_us, packet.bytes);
        }
        if self.packets > 1 && packet.arrival_us - self.last_arrival_us > self.longest_gap_us {
            (self.longest_gap_us, self.gap_bytes) = (packet.arrival_us - self.last_arrival_us, packet.bytes);
        }
        self.last_arrival_us = self.last_arrival_us.max(packet.arrival_us);
        let enough = f64::from(self.packets) >= f64::from(MIN_PACKETS) * MIN_ARRIVED
            && f64::from(self.bytes) >= self.bps * DURATION_S / 8.0 * MIN_ARRIVED;
        if enough { self.result() } else { None }
    }

    fn result(&self) -> Option<Measured> {
        let sent_us = self.last_sent_us.saturating_sub(self.first_sent_us);
        let arrival_us = u64::try_from(self.last_arrival_us - self.first_arrival_us).ok()?;
        if !(1..=MAX_SPAN_US).contains(&sent_us) || !(1..=MAX_SPAN_US).contains(&arrival_us) {
            return None;
        }
        // The last packet's time to send, and the first one's to arrive, are not in the spans.
        let rate = |less: u32, us: u64| f64::from(self.bytes.saturating_sub(less)) * 8e6 / us as f64;
        let (sent, arrived) =
            (rate(self.last_sent_bytes, sent_us), rate(self.first_arrival_bytes, arrival_us));
        if sent <= 0.0 || arrived / sent > MAX_RATIO {
            return None;
        }
        let full = arrived < FULL * sent;
        if full && self.has_stalled() {
            return None;
        }
        Some(Measured { bps: if full { UTILIZATION * arrived } else { sent.min(arrived) }, full })
    }

    /// Whether most of the time in which it arrived was one gap.
    fn has_stalled(&self) -> bool {
        let span_us = self.last_arrival_us - self.first_arrival_us;
        let rest = self.bytes.saturating_sub(self.first_arrival_bytes).saturating_sub(self.gap_bytes);
        let rest_us = span_us.saturating_sub(self.longest_gap_us);
        let (gap, gap_us) = (f64::from(self.gap_bytes), self.longest_gap_us as f64);
        f64::from(rest) * gap_us > STALL * gap * rest_us as f64
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; `as` saturates")]
fn micros(us: f64) -> u64 {
    us as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Situation =
        Situation { estimate: None, congested: false, recovered: false, queued: true, loses: false };

    /// Sends what is due, in packets of 1,000 bytes: when each left.
    fn run(probes: &mut Probes, begin_us: u64, end_us: u64) -> Vec<(u64, u16)> {
        let mut sent = Vec::new();
        let mut now = begin_us;
        while now < end_us {
            while probes.is_due(now) {
                sent.push((now, probes.sent(now, 1_000)));
            }
            now = probes.deadline(now).map_or(end_us, |at| at.max(now + 1));
        }
        probes.answered = true;
        sent
    }

    #[test]
    fn a_cluster_is_spread_over_its_time() {
        let mut probes = Probes::default();
        probes.consider(0, CALM);
        assert_eq!(probes.deadline(0), None, "nobody wants anything");
        probes.set_demand(4e6);
        probes.consider(0, CALM);
        let sent = run(&mut probes, 0, 1_000_000);
        let of = |id| sent.iter().filter(move |(_, c)| *c == id).map(|(at, _)| *at).collect::<Vec<_>>();
        let (first, second) = (of(1), of(2));
        assert_eq!((first.len(), second.len()), (5, 5));
        // 900 kbit/s: a packet each 8.9 ms.
        assert!(first.windows(2).all(|w| (8_000..10_000).contains(&(w[1] - w[0]))), "{first:?}");
        assert!(second.windows(2).all(|w| (4_000..5_000).contains(&(w[1] - w[0]))), "{second:?}");
    }

    #[test]
    fn what_got_through_is_doubled_until_there_is_enough() {
        let mut probes = Probes::default();
        probes.set_demand(4e6);
        probes.consider(0, CALM);
        run(&mut probes, 0, 100_000);
        probes.consider(100_000, Situation { estimate: Some(1.8e6), ..CALM });
        assert_eq!(run(&mut probes, 100_000, 200_000).len(), 7);
        probes.consider(200_000, Situation { estimate: Some(2e6), ..CALM });
        assert_eq!(run(&mut probes, 200_000, 300_000).len(), 0, "it did not get through");
        probes.consider(4_000_000, Situation { estimate: Some(2e6), ..CALM });
        assert_eq!(run(&mut probes, 4_000_000, 4_100_000).len(), 0, "not so often");
        probes.consider(5_200_000, Situation { estimate: Some(2e6), congested: true, ..CALM });
        assert_eq!(run(&mut probes, 5_200_000, 5_300_000).len(), 0, "not while it is full");
        probes.consider(5_300_000, Situation { estimate: Some(2e6), ..CALM });
        assert!(run(&mut probes, 5_300_000, 5_400_000).len() >= 5);
        probes.consider(11_000_000, Situation { estimate: Some(5.1e6), ..CALM });
        assert_eq!(run(&mut probes, 11_000_000, 11_100_000).len(), 0, "it is enough");
    }

    #[test]
    fn what_has_measured_nothing_is_sent_again_soon() {
        let mut probes = Probes { begun: true, answered: true, last_us: Some(0), ..Probes::default() };
        probes.set_demand(4e6);
        let calm = Situation { estimate: Some(3e6), ..CALM };
        probes.consider(5_000_000, calm);
        assert!(probes.is_due(5_000_000));
        probes.sent(5_000_000, 1_000);
        // Nobody had time for the rest of it.
        assert_eq!(probes.sent(5_100_000, 1_000), 0);
        assert!(!probes.is_due(5_100_000));
        probes.consider(5_900_000, calm);
        assert_eq!(probes.deadline(5_900_000), None);
        probes.consider(6_000_000, calm);
        assert!(run(&mut probes, 6_000_000, 6_100_000).len() > 5);
        probes.consider(10_000_000, calm);
        assert_eq!(probes.deadline(10_000_000), None);
        // Below what is wanted it is not waited so long, if no queue was seen.
        probes.consider(10_000_000, calm);
        assert_eq!(probes.deadline(10_000_000), None);
        probes.consider(10_000_000, Situation { estimate: Some(4e6), queued: false, ..CALM });
        assert_eq!(probes.deadline(10_000_000), None);
        probes.consider(10_000_000, Situation { queued: false, ..calm });
        assert!(probes.deadline(10_000_000).is_some());
    }

    /// The result of a first cluster without its first packets, by when each of the others arrives.
    fn arrive(lost: i64, at_us: impl Fn(i64) -> i64) -> Option<Measured> {
        let mut probes = Probes::default();
        probes.set_demand(4e6);
        probes.consider(0, CALM);
        let sent = run(&mut probes, 0, 100_000);
        let mut result = None;
        for (i, (at, cluster)) in (0..).zip(sent).filter(|(i, (_, c))| *c == 1 && *i >= lost) {
            let arrival_us = 1_000_000 + at_us(i);
            let packet = Arrived { sent_us: at, arrival_us, bytes: 1_000, cluster };
            result = probes.arrived(&packet).or(result);
        }
        result
    }

    #[test]
    fn a_full_link_is_measured_by_what_arrives() {
        let measure = |arrival_gap_us: i64, lost: i64| arrive(lost, |i| i * arrival_gap_us);
        let close = |got: Option<Measured>, bps: f64, full: bool| {
            let got = got.unwrap();
            (got.bps - bps).abs() < bps * 0.03 && got.full == full
        };
        assert!(close(measure(8_889, 0), 900_000.0, false));
        assert!(close(measure(16_000, 0), 0.95 * 500_000.0, true));
        assert_eq!(measure(16_000, 2), None, "too little has arrived");
        assert_eq!(measure(2_000, 0), None, "faster than it was sent");
    }

    #[test]
    fn a_receiver_that_stalled_is_no_full_link() {
        let after = |begun: i64| move |i: i64| i * 4_000 + if i >= begun { 100_000 } else { 0 };
        for begun in 1..=4 {
            assert_eq!(arrive(0, after(begun)), None, "{begun}");
        }
        // Each a little late is one.
        let uneven = |i: i64| i * 16_000 + [0, 4_000, -3_000, 5_000, 0][usize::try_from(i).unwrap()];
        assert!(arrive(0, uneven).unwrap().full);
    }

    #[test]
    fn a_large_drop_is_tried_again_when_the_queue_is_empty() {
        let mut probes = Probes { begun: true, answered: true, last_us: Some(0), ..Probes::default() };
        probes.set_demand(4e6);
        probes.consider(100_000, Situation { estimate: Some(2e6), ..CALM });
        probes.consider(
            200_000,
            Situation { estimate: Some(5e5), congested: true, recovered: false, queued: true, loses: false },
        );
        probes.consider(400_000, Situation { estimate: Some(5e5), ..CALM });
        assert!(probes.queue.is_empty());
        probes.consider(
            600_000,
            Situation { estimate: Some(5e5), congested: false, recovered: true, queued: true, loses: false },
        );
        assert_eq!(probes.queue, [1.7e6]);
    }
}
