//! What was sent, by transport sequence number, until the peer has told what became of it. After libwebrtc's
//! `modules/congestion_controller/rtp/transport_feedback_adapter.cc`.

use std::collections::VecDeque;

use antiphon_wire::rtcp::transport::{Feedback, REFERENCE_UNIT_US, REFERENCE_UNITS};

use crate::prefetch::{prefetch, prefetch_behind};

/// Packets remembered: three seconds of 12 Mbit/s without an answer.
pub(crate) const MAX_PACKETS: usize = 4_096;
/// Places for packets that are kept free: some 50 ms until the next message.
const SPARE: usize = 8;
/// What was not answered by then does not count any more.
const MAX_AGE_US: u64 = 3_000_000;

/// Packets that a message tells of, about: 50 ms of 2 Mbit/s.
const TOLD: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    Missing,
    Arrived,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    at_us: u64,
    bytes: u32,
    cluster: u16,
    state: State,
    name: Name,
}

impl Packet {
    fn miss(&mut self, report: &mut Report) {
        self.state = State::Missing;
        report.missing += 1;
        report.lost.extend(self.name);
    }
}

/// What a packet was: its line and its sequence number there, and whether it was sent again; `None`: padding.
pub(crate) type Name = Option<(u8, u16, bool)>;

/// A packet that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrived {
    /// When it was sent, on our clock.
    pub(super) sent_us: u64,
    /// When it arrived, on the peer's clock, whose zero means nothing.
    pub(super) arrival_us: i64,
    pub(super) bytes: u32,
    /// The probe cluster that it belongs to; 0: none.
    pub(super) cluster: u16,
}

/// What one message has told.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// By time of arrival.
    pub(super) arrived: Vec<Arrived>,
    /// Packets that are told missing for the first time, less those that were and have come after all.
    pub(super) missing: i64,
    /// What they were; and what a message told of that was lost itself, which may have come.
    pub(super) lost: Vec<(u8, u16, bool)>,
}

/// Packets in the order of their transport sequence numbers.
#[derive(Debug, Default)]
pub(super) struct History {
    packets: VecDeque<Packet>,
    /// The next packet's extended number.
    next: u64,
    /// The newest reference time, unwrapped, in its units.
    reference: Option<i64>,
    /// The number of the last message, and the first packet behind those that it told of.
    told: Option<(u8, u16)>,
}

impl History {
    /// The number of the packet that is being written.
    pub(super) fn next_seq(&self) -> u16 {
        self.next.to_le_bytes().first_chunk().map_or(0, |b| u16::from_le_bytes(*b))
    }

    /// Packets that are remembered.
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Asks for where the next packet will stand.
    pub(super) fn prefetch_end(&self) {
        if let Some(newest) = self.packets.back() {
            prefetch_behind(newest);
        }
    }

    /// Asks for the packets that the next message tells of.
    pub(super) fn prefetch_begin(&self) {
        self.packets.iter().take(TOLD).step_by(2).for_each(prefetch);
    }

    /// That packet has left.
    pub(super) fn push(&mut self, at_us: u64, bytes: u32, cluster: u16, name: Name) {
        if self.packets.len() >= MAX_PACKETS {
            self.packets.pop_front();
        }
        self.packets.push_back(Packet { at_us, bytes, cluster, state: State::Sent, name });
        self.next += 1;
    }

    /// Forgets the oldest: what has arrived, or was not answered in time.
    fn forget(&mut self, now_us: u64) {
        let old = |p: &Packet| p.state == State::Arrived || now_us.saturating_sub(p.at_us) > MAX_AGE_US;
        while self.packets.front().is_some_and(old) {
            self.packets.pop_front();
        }
    }

    /// Gives back what packets took that waited for the first messages. To be called now and then.
    pub(super) fn trim(&mut self, now_us: u64) {
        self.forget(now_us);
        if self.packets.capacity() > 4 * (self.packets.len() + SPARE) {
            self.packets.shrink_to(2 * (self.packets.len() + SPARE));
        }
    }

    /// Takes a message. Numbers that were never given, or are forgotten, or were answered before do not count.
    pub(super) fn take(&mut self, now_us: u64, feedback: &Feedback<'_>) -> Report {
        self.forget(now_us);
        let base_us = self.unwrap(feedback.reference) * REFERENCE_UNIT_US;
        let most = usize::from(feedback.count).min(self.packets.len());
        let mut report = Report { arrived: Vec::with_capacity(most), ..Report::default() };
        self.take_gap(feedback, &mut report);
        for status in feedback.statuses() {
            let Some(packet) = self.get_mut(status.seq) else { continue };
            match (packet.state, status.arrival_us) {
                (State::Sent, None) => packet.miss(&mut report),
                (State::Sent | State::Missing, Some(arrival_us)) => {
                    report.missing -= i64::from(packet.state == State::Missing);
                    packet.state = State::Arrived;
                    report.arrived.push(Arrived {
                        sent_us: packet.at_us,
                        arrival_us: base_us + arrival_us,
                        bytes: packet.bytes,
                        cluster: packet.cluster,
                    });
                }
                _ => {}
            }
        }
        report.arrived.sort_by_key(|a| a.arrival_us);
        // Now, while they are near.
        self.forget(now_us);
        report
    }

    /// A receiver may begin each message with the first packet that came and end it with the last one (str0m does): then
    /// those between two messages that follow each other were lost, and none tells of them. Where a message is missing, a line
    /// that loses so much has lost some of them; which, nobody knows.
    fn take_gap(&mut self, feedback: &Feedback<'_>, report: &mut Report) {
        let end = feedback.base_seq.wrapping_add(feedback.count);
        let Some((number, from)) = self.told.replace((feedback.number, end)) else { return };
        let between = usize::from(feedback.base_seq.wrapping_sub(from));
        if between > self.packets.len() {
            return;
        }
        let follows = feedback.number == number.wrapping_add(1);
        let mut seq = from;
        while seq != feedback.base_seq {
            match self.get_mut(seq).filter(|p| p.state == State::Sent) {
                Some(packet) if follows => packet.miss(report),
                Some(Packet { name, .. }) => {
                    report.lost.extend(name.map(|(line, seq, _)| (line, seq, false)))
                }
                None => {}
            }
            seq = seq.wrapping_add(1);
        }
    }

    fn get_mut(&mut self, seq: u16) -> Option<&mut Packet> {
        let behind = usize::from(self.next_seq().wrapping_sub(seq));
        let at = self.packets.len().checked_sub(behind).filter(|_| behind > 0)?;
        self.packets.get_mut(at)
    }

    /// The reference time that is nearest to the last one.
    fn unwrap(&mut self, reference: u32) -> i64 {
        let reference = i64::from(reference);
        let last = self.reference.unwrap_or(reference);
        let step = (reference - last).rem_euclid(REFERENCE_UNITS);
        let step = if step >= REFERENCE_UNITS / 2 { step - REFERENCE_UNITS } else { step };
        self.reference = Some(last + step);
        last + step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of packets of one status; the first small delta is 4 ms, the others none.
    fn run(base: u16, count: u16, reference: u32, arrived: bool) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(base.to_be_bytes());
        body.extend(count.to_be_bytes());
        body.extend((reference << 8).to_be_bytes());
        body.extend((count | u16::from(arrived) << 13).to_be_bytes());
        if arrived {
            body.push(16);
            body.extend(std::iter::repeat_n(0, usize::from(count) - 1));
        }
        body
    }

    fn take(history: &mut History, body: &[u8]) -> Report {
        history.take(10_000, &Feedback::parse(body).unwrap())
    }

    #[test]
    fn each_packet_is_told_once_across_the_end_of_the_numbers() {
        let mut history = History { next: 65_530, ..History::default() };
        for i in 0..10 {
            history.push(i * 1_000, 100, 0, None);
        }
        assert_eq!(history.next_seq(), 4);
        let report = take(&mut history, &run(65_530, 4, 0xff_ffff, true));
        assert_eq!((report.arrived.len(), report.missing), (4, 0));
        assert_eq!(report.arrived[3].sent_us, 3_000);
        let first = report.arrived[0].arrival_us;
        assert_eq!(take(&mut history, &run(65_530, 4, 0xff_ffff, true)).arrived.len(), 0);
        let report = take(&mut history, &run(65_530, 6, 0, false));
        assert_eq!((report.arrived.len(), report.missing), (0, 2));
        // They have come after all, one unit of the wrapped reference time later.
        let report = take(&mut history, &run(65_534, 6, 0, true));
        assert_eq!((report.arrived.len(), report.missing), (6, -2));
        assert_eq!(report.arrived[0].arrival_us - first, REFERENCE_UNIT_US);
        // What was never sent.
        assert_eq!(take(&mut history, &run(4, 100, 0, true)).arrived.len(), 0);
    }

    #[test]
    fn what_no_message_of_a_run_tells_of_was_lost() {
        let mut history = History { next: 65_530, ..History::default() };
        for i in 0..30 {
            history.push(i * 1_000, 100, 0, Some((0, 0, i == 5)));
        }
        let mut told = |number: u8, base, count| {
            let mut body = run(base, count, 0, true);
            body[7] = number;
            let report = take(&mut history, &body);
            (report.arrived.len(), report.missing, report.lost)
        };
        assert_eq!(told(255, 65_530, 5), (5, 0, vec![]));
        assert_eq!(told(0, 0, 4), (4, 1, vec![(0, 0, true)]));
        assert_eq!(
            told(2, 6, 4),
            (4, 0, vec![(0, 0, false); 2]),
            "a message was lost: it may have told of them"
        );
        assert_eq!(told(3, 8, 4), (2, 0, vec![]), "it tells again of what the last one told");
        assert_eq!(told(4, 30_000, 1), (0, 0, vec![]), "of what was never sent");
    }

    #[test]
    fn it_is_bounded_without_answers() {
        let mut history = History::default();
        for i in 0..20_000 {
            history.push(i, 100, 0, None);
        }
        assert_eq!(history.packets.len(), MAX_PACKETS);
        history.push(20_000 + MAX_AGE_US, 100, 0, None);
        assert_eq!(history.packets.len(), MAX_PACKETS);
        history.trim(20_000 + MAX_AGE_US);
        assert_eq!(history.packets.len(), 1);
    }
}
