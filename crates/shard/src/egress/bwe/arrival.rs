//! Inter-group delay variation (draft-ietf-rmcat-gcc-02, section 5.2 and 5.3), as in libwebrtc's
//! `modules/congestion_controller/goog_cc/inter_arrival_delta.cc`.

use super::history::Arrived;

/// Packets sent within this are one group (`kSendTimeGroupLength`).
const GROUP_US: u64 = 5_000;
/// Packets that arrive within this, closer than they were sent, are one burst (`kBurstDeltaThreshold`).
const BURST_GAP_US: i64 = 5_000;
/// The longest burst (`kMaxBurstDuration`).
const MAX_BURST_US: i64 = 100_000;
/// Arrival and our clock drift apart by this in one step: the peer's clock has jumped (`kArrivalTimeOffsetThreshold`).
const CLOCK_JUMP_US: i64 = 3_000_000;
/// So many groups in a row that arrive before the ones before them begin anew (`kReorderedResetThreshold`).
const MAX_REORDERED: u32 = 3;

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent_us: u64,
    last_sent_us: u64,
    first_arrival_us: i64,
    last_arrival_us: i64,
    /// When we were told, on our clock.
    told_us: u64,
}

/// Two groups compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Delta {
    pub(super) sent_ms: f64,
    pub(super) arrival_ms: f64,
}

/// Forms groups of what arrives.
#[derive(Debug, Default)]
pub(super) struct Groups {
    current: Option<Group>,
    previous: Option<Group>,
    reordered: u32,
}

impl Groups {
    /// Takes a packet; gives the variation between two groups when one is complete.
    pub(super) fn add(&mut self, now_us: u64, packet: &Arrived) -> Option<Delta> {
        let begin = Group {
            first_sent_us: packet.sent_us,
            last_sent_us: packet.sent_us,
            first_arrival_us: packet.arrival_us,
            last_arrival_us: packet.arrival_us,
            told_us: now_us,
        };
        let Some(current) = self.current.as_mut() else {
            self.current = Some(begin);
            return None;
        };
        if packet.sent_us < current.first_sent_us {
            return None; // Reordered.
        }
        if !begins_group(current, packet) {
            current.last_sent_us = current.last_sent_us.max(packet.sent_us);
            current.last_arrival_us = packet.arrival_us;
            current.told_us = now_us;
            return None;
        }
        let complete = *current;
        self.current = Some(begin);
        let previous = self.previous.replace(complete)?;
        self.compare(&previous, &complete)
    }

    fn compare(&mut self, previous: &Group, complete: &Group) -> Option<Delta> {
        let arrival_us = complete.last_arrival_us - previous.last_arrival_us;
        let told_us = complete.told_us.saturating_sub(previous.told_us).cast_signed();
        if arrival_us - told_us >= CLOCK_JUMP_US {
            *self = Self::default();
            return None;
        }
        if arrival_us < 0 {
            self.reordered += 1;
            if self.reordered >= MAX_REORDERED {
                *self = Self::default();
            }
            return None;
        }
        self.reordered = 0;
        let sent_us = complete.last_sent_us.saturating_sub(previous.last_sent_us);
        Some(Delta { sent_ms: sent_us as f64 / 1e3, arrival_ms: arrival_us as f64 / 1e3 })
    }
}

fn begins_group(current: &Group, packet: &Arrived) -> bool {
    let arrival_us = packet.arrival_us - current.last_arrival_us;
    let sent_us = packet.sent_us.saturating_sub(current.last_sent_us).cast_signed();
    let is_burst = sent_us == 0
        || (arrival_us < sent_us
            && arrival_us <= BURST_GAP_US
            && packet.arrival_us - current.first_arrival_us < MAX_BURST_US);
    !is_burst && packet.sent_us - current.first_sent_us > GROUP_US
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(packets: &[(u64, i64)]) -> Vec<(f64, f64)> {
        let mut groups = Groups::default();
        let add = |(sent_ms, arrival_ms): &(u64, i64)| {
            let (sent_us, arrival_us) = (sent_ms * 1_000, arrival_ms * 1_000);
            groups.add(sent_us + 50_000, &Arrived { sent_us, arrival_us, bytes: 1_000, cluster: 0 })
        };
        packets.iter().filter_map(add).map(|d| (d.sent_ms, d.arrival_ms)).collect()
    }

    #[test]
    fn groups_are_compared_by_their_last_packets() {
        // Three groups of two packets, the second delayed by 7 ms.
        let got = all(&[(0, 10), (2, 12), (20, 37), (22, 39), (40, 50), (42, 52), (60, 70)]);
        assert_eq!(got, [(20.0, 27.0), (20.0, 13.0)]);
    }

    #[test]
    fn a_burst_is_one_group() {
        // Held up and let go at once: 6 ms apart when sent, 1 ms when they arrive.
        let got = all(&[(0, 40), (6, 41), (12, 42), (40, 60), (80, 100)]);
        assert_eq!(got, [(28.0, 18.0)]);
    }

    #[test]
    fn reordered_packets_and_jumps_are_left_out() {
        assert_eq!(all(&[(0, 10), (20, 30), (5, 31), (40, 50), (60, 70)]), [(20.0, 20.0), (20.0, 20.0)]);
        assert_eq!(all(&[(0, 10), (20, 9_000), (40, 9_020), (60, 9_040)]), []);
    }
}
