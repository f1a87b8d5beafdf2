//! How long packets wait on the path, and whether the path has narrowed: one picture that takes much longer to arrive than
//! it should tells more than the trend of many. Ours, not libwebrtc's, whose encoder would follow within the second that
//! its detector takes; a forwarder has no encoder to slow down, and each 100 ms too late is a queue on the link.

use std::collections::VecDeque;

use super::busy::Busy;
use super::history::Arrived;

/// The shortest way of a packet is looked for in this and the span before: a path that becomes longer is known as such
/// after two.
const BASE_SPAN_US: i64 = 10_000_000;
/// Packets that wait longer stand in a queue; less is a picture's own length on a narrow link, or jitter.
const STANDING_US: i64 = 30_000;
/// What arrives while a queue stands is what the link carries, if it comes for this long, in so many packets, and in no
/// larger pieces than this share of the time: a link that stalled and goes on gives all out at once.
const SPAN_US: i64 = 36_000;
const MIN_PACKETS: usize = 4;
const MAX_GAP_SHARE: f64 = 0.6;
/// Of the newest packets, which are few: two that are late would look like a link that has narrowed.
const MAX_NEWEST_GAP_SHARE: f64 = 0.4;
/// And if it was sent faster than it comes: this share of the time is more waiting. A path that has become longer has none.
const MIN_GROWTH: f64 = 0.5;
/// Below this share of the estimate it is another link than the one we knew.
const NARROWED: f64 = 0.6;
/// Packets of a queue that are looked at: those of the last messages.
const MAX_PACKETS: usize = 64;
const WINDOW_US: i64 = 200_000;

#[derive(Debug, Clone, Copy)]
struct Seen {
    arrival_us: i64,
    bytes: u32,
    waited_us: i64,
}

/// The path's queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The shortest way in this span and the one before, in the mixed units of both clocks.
    base: Option<(i64, i64)>,
    span_begun_us: i64,
    /// The newest packets, as long as all of them have stood in a queue: nearly always none, so that a message of a path
    /// that is free needs no memory that lies far away.
    standing: VecDeque<Seen>,
    /// How long the newest packet waited.
    waited_us: i64,
    busy: Busy,
}

impl Queue {
    /// Takes a packet that has arrived.
    pub(super) fn add(&mut self, packet: &Arrived) {
        let way_us = packet.arrival_us - packet.sent_us.cast_signed();
        let (current, before) = self.base.unwrap_or((way_us, way_us));
        let over = packet.arrival_us - self.span_begun_us;
        self.base = Some(if self.base.is_none() || !(0..BASE_SPAN_US).contains(&over) {
            self.span_begun_us = packet.arrival_us;
            (way_us, current)
        } else {
            (current.min(way_us), before)
        });
        let Some((current, before)) = self.base else { return };
        self.waited_us = way_us - current.min(before);
        self.busy.add(packet.arrival_us, packet.bytes, self.waited_us);
        if self.is_empty() {
            self.standing = VecDeque::new();
        } else {
            self.stand(packet.arrival_us, packet.bytes);
        }
    }

    fn stand(&mut self, arrival_us: i64, bytes: u32) {
        let old = |s: &Seen| arrival_us - s.arrival_us > WINDOW_US || s.arrival_us > arrival_us;
        while self.standing.len() >= MAX_PACKETS || self.standing.front().is_some_and(old) {
            self.standing.pop_front();
        }
        self.standing.push_back(Seen { arrival_us, bytes, waited_us: self.waited_us });
    }

    /// How long the newest packet waited.
    pub(super) fn waited_us(&self) -> u64 {
        self.waited_us.max(0).cast_unsigned()
    }

    /// What the link carried in the last seconds, in bits per second, if it had too much in them.
    pub(super) fn carried(&self) -> Option<f64> {
        self.busy.carried()
    }

    /// Nothing stands on the path.
    pub(super) fn is_empty(&self) -> bool {
        self.waited_us < STANDING_US
    }

    /// What the link carries, in bits per second, if that is much less than `estimate`.
    pub(super) fn narrowed(&mut self, estimate: f64) -> Option<f64> {
        let most = self.standing.len().checked_sub(MIN_PACKETS)?;
        let last_us = self.standing.back()?.arrival_us;
        let is_long = |s: &Seen| last_us - s.arrival_us >= SPAN_US;
        // A queue may have stood before the link narrowed: the newest part that is long enough is not of both.
        let newest = (0..=most).rev().find(|at| is_long(&self.standing[*at]));
        let runs = [(newest?, MAX_NEWEST_GAP_SHARE), (0, MAX_GAP_SHARE)];
        let told = runs.into_iter().filter_map(|(begin, share)| self.told_from(begin, share));
        let bps = told.filter(|bps| *bps < estimate * NARROWED).reduce(f64::min)?;
        self.standing.clear();
        self.busy.narrowed(bps);
        Some(bps)
    }

    /// What those from this place on tell of the link, in bits per second, if they are many and even enough.
    fn told_from(&self, begin: usize, gap_share: f64) -> Option<f64> {
        let run = self.standing.range(begin..);
        let (first, last) = (run.clone().next()?, self.standing.back()?);
        let span_us = last.arrival_us - first.arrival_us;
        let growth_us = last.waited_us - first.waited_us;
        if (growth_us as f64) < span_us as f64 * MIN_GROWTH {
            return None;
        }
        let gaps = run.clone().zip(run.clone().skip(1)).map(|(a, b)| b.arrival_us - a.arrival_us);
        if gaps.max()? as f64 > span_us as f64 * gap_share {
            return None;
        }
        let bits: f64 = run.skip(1).map(|s| f64::from(s.bytes) * 8.0).sum();
        Some(bits * 1e6 / span_us as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of nine packets each 50 ms; each packet takes `gap_us` on the link.
    fn pictures(queue: &mut Queue, begin: i64, count: i64, gap_us: i64) -> Option<f64> {
        let mut free_us = 0;
        for picture in begin..begin + count {
            let sent_us = picture * 50_000;
            for _ in 0..9 {
                free_us = free_us.max(sent_us) + gap_us;
                let arrival_us = free_us + 20_000;
                queue.add(&Arrived {
                    sent_us: sent_us.cast_unsigned(),
                    arrival_us,
                    bytes: 1_100,
                    cluster: 0,
                });
            }
            if let Some(bps) = queue.narrowed(2e6) {
                return Some(bps);
            }
        }
        None
    }

    #[test]
    fn a_picture_tells_that_the_link_has_narrowed() {
        let mut queue = Queue::default();
        assert_eq!(pictures(&mut queue, 0, 100, 4_400), None);
        assert!(queue.waited_us() < 40_000);
        let bps = pictures(&mut queue, 100, 1, 17_600).unwrap();
        assert!((4.9e5..5.1e5).contains(&bps), "{bps}");
    }

    #[test]
    fn what_stood_on_the_link_before_is_no_part_of_what_it_carries_now() {
        let (mut queue, mut free_us, mut narrow) = (Queue::default(), 0, 0);
        // A little too much for the link, until a queue stands all the time.
        for packet in 0..1_100i64 {
            let sent_us = packet / 11 * 50_000;
            let is_narrow = packet >= 900;
            free_us = free_us.max(sent_us) + if is_narrow { 17_600 } else { 4_600 };
            let arrival_us = free_us + 20_000;
            let sent_us = sent_us.cast_unsigned();
            queue.add(&Arrived { sent_us, arrival_us, bytes: 1_100, cluster: 0 });
            narrow += usize::from(is_narrow);
            if let Some(bps) = queue.narrowed(2.2e6) {
                assert!((4.9e5..5.1e5).contains(&bps), "{bps} after {narrow}");
                return assert!((3..8).contains(&narrow), "{narrow}");
            }
        }
        panic!("it was not seen");
    }

    #[test]
    fn a_stall_is_no_narrow_link() {
        let mut queue = Queue::default();
        assert_eq!(pictures(&mut queue, 0, 100, 2_000), None);
        // Nothing for 150 ms, then three pictures at once.
        for i in 0..27 {
            let sent_us = (5_000_000 + i / 9 * 50_000i64).cast_unsigned();
            queue.add(&Arrived { sent_us, arrival_us: 5_170_000 + i * 500, bytes: 1_100, cluster: 0 });
            assert_eq!(queue.narrowed(2e6), None, "{i}");
        }
    }

    #[test]
    fn a_longer_path_is_no_queue_after_a_while() {
        let mut queue = Queue::default();
        for i in 0..4_000i64 {
            let way_us = if i < 500 { 20_000 } else { 80_000 };
            let sent_us = (i * 10_000).cast_unsigned();
            queue.add(&Arrived { sent_us, arrival_us: i * 10_000 + way_us, bytes: 100, cluster: 0 });
            assert_eq!(queue.narrowed(2e6), None, "{i}");
        }
        assert_eq!(queue.waited_us(), 0);
    }
}
