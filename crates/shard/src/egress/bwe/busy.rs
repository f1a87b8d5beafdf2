//! What the link carries, seen while it is busy. What arrives over some fixed time is less than that where pictures come now
//! and then, and a decrease to a share of it starves who was sent little. Ours, not libwebrtc's, whose encoders send evenly.

/// A packet that waited longer stood in a queue: less may be jitter.
const WAITED_US: i64 = 30_000;
/// A measurement takes so long, so many packets, and no gap of more than this share of it: a link that stalled and goes on
/// gives all out at once.
const SPAN_US: i64 = 36_000;
const MIN_PACKETS: u32 = 4;
const MAX_GAP_SHARE: f64 = 0.6;
/// Nor does it bring packets at once: what comes so soon after another one may be half of the bytes. Otherwise it is a receiver
/// that had no time to read them.
const AT_ONCE_US: i64 = 500;
/// Measured anew after so long, however long the queue stands.
const MAX_SPAN_US: i64 = 200_000;
/// What a run counts beside those before it: its share of this time. On a busy machine one in three is wrong by a half, and
/// the short ones are not nothing.
const SURE_US: f64 = 400_000.0;
const MIN_SHARE: f64 = 0.1;
/// Known for so long. A link that has too much again is measured again at once.
const KNOWN_US: i64 = 5_000_000;

/// Packets that left the link one right after the other.
#[derive(Debug, Clone, Copy)]
struct Run {
    begun_us: i64,
    last_us: i64,
    /// Without the first, whose time is not in the span.
    bytes: u64,
    packets: u32,
    longest_gap_us: i64,
    at_once: u64,
}

impl Run {
    fn span_us(&self) -> i64 {
        self.last_us - self.begun_us
    }

    /// Bits per second, if it is long and even enough to tell.
    fn bps(&self) -> Option<f64> {
        let span_us = self.span_us() as f64;
        let even = self.longest_gap_us as f64 <= span_us * MAX_GAP_SHARE && self.at_once * 2 <= self.bytes;
        let tells = self.span_us() >= SPAN_US && self.packets >= MIN_PACKETS && even;
        tells.then(|| self.bytes as f64 * 8e6 / span_us)
    }
}

/// The run under way, and what was measured last.
#[derive(Debug, Default)]
pub(super) struct Busy {
    run: Option<Run>,
    carried: Option<(i64, f64)>,
    newest_us: i64,
}

impl Busy {
    /// Takes a packet that has waited for so long in the path's queue.
    pub(super) fn add(&mut self, arrival_us: i64, bytes: u32, waited_us: i64) {
        self.newest_us = arrival_us;
        let begin = Run {
            begun_us: arrival_us,
            last_us: arrival_us,
            bytes: 0,
            packets: 1,
            longest_gap_us: 0,
            at_once: 0,
        };
        // It was there before the one before it had left.
        let follows =
            |run: &Run| (0..=waited_us).contains(&(arrival_us - run.last_us)) && waited_us >= WAITED_US;
        let Some(mut run) = self.run.filter(follows) else {
            self.finish();
            return self.run = Some(begin);
        };
        let gap_us = arrival_us - run.last_us;
        run.longest_gap_us = run.longest_gap_us.max(gap_us);
        run.last_us = arrival_us;
        run.bytes += u64::from(bytes);
        run.at_once += if gap_us < AT_ONCE_US { u64::from(bytes) } else { 0 };
        run.packets += 1;
        self.run = Some(run);
        let is_long = run.span_us() > MAX_SPAN_US;
        let measured = (is_long || self.carried().is_none()) && self.finish();
        if measured || is_long {
            self.run = Some(begin);
        }
    }

    /// Takes what the run has measured. `true`: it has measured something.
    fn finish(&mut self) -> bool {
        let Some((run, bps)) = self.run.and_then(|run| Some((run, run.bps()?))) else { return false };
        let known = self.carried().unwrap_or(bps);
        let share = (run.span_us() as f64 / SURE_US).clamp(MIN_SHARE, 0.5);
        self.carried = Some((run.last_us, known + (bps - known) * share));
        true
    }

    /// The link is another one now.
    pub(super) fn narrowed(&mut self, bps: f64) {
        (self.carried, self.run) = (Some((self.newest_us, bps)), None);
    }

    /// Bits per second, if it was measured lately.
    pub(super) fn carried(&self) -> Option<f64> {
        let known = |(at, _): &(i64, f64)| (0..KNOWN_US).contains(&(self.newest_us - at));
        self.carried.filter(known).map(|(_, bps)| bps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of six packets each 200 ms on a link on which a packet takes `gap_us`.
    fn pictures(busy: &mut Busy, begin_us: i64, count: i64, gap_us: i64) {
        for picture in 0..count {
            for packet in 1..=6 {
                let waited_us = gap_us * packet;
                busy.add(begin_us + picture * 200_000 + waited_us, 1_250, waited_us);
            }
        }
    }

    #[test]
    fn it_is_the_links_rate_however_little_is_sent() {
        let mut busy = Busy::default();
        // 300 kbit/s on a link of 500.
        pictures(&mut busy, 0, 5, 20_000);
        let bps = busy.carried().unwrap();
        assert!((4.9e5..5.1e5).contains(&bps), "{bps}");
        busy.add(6_200_000, 100, 0);
        assert_eq!(busy.carried(), None, "it was long ago");
        busy.narrowed(2e5);
        assert_eq!(busy.carried(), Some(2e5));
        busy = Busy::default();
        // Nothing stands on a wide one.
        pictures(&mut busy, 7_000_000, 5, 2_000);
        assert_eq!(busy.carried(), None);
    }

    #[test]
    fn a_stall_is_no_link() {
        let mut busy = Busy::default();
        busy.add(0, 1_250, 0);
        for i in 0..10 {
            busy.add(150_000 + i * 500, 1_250, 150_000 - i * 10_000);
        }
        // And a receiver that reads each 60 ms.
        for i in 0..100 {
            let sent_us = 1_000_000 + i * 10_000;
            let arrival_us = (sent_us / 60_000 + 1) * 60_000;
            busy.add(arrival_us, 1_250, arrival_us - sent_us);
        }
        assert_eq!(busy.carried(), None);
    }
}
