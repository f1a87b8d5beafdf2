//! What must hold of everything that a client receives, found out without asking the code under test.

mod flow;
mod holdings;
mod pictures;
mod reasons;
pub mod recovery;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use antiphon_base::MediaKind;
use antiphon_wire::control::{ServerMessage, SlotAssignment, TrackInfo};

use crate::client::{Client, Received, SlotLog};
use crate::net::Link;
use crate::stamp::Parsed;
use crate::world::{Publisher, World};

/// An announcement may come after the media that it announces: by a few repetitions, each later than the one before.
const TOLD_WITHIN: Duration = Duration::from_secs(4);
/// Where nothing was lost or held up it comes beside it, or when what was said before has been acknowledged: after 200 ms
/// (RFC 9260, 6.2) and a round trip.
const TOLD_SOON: Duration = Duration::from_millis(300);
/// What is missing of a picture is asked for so long, about.
const LATE: Duration = Duration::from_millis(2_500);
/// What was lost last in a slot is asked for when the next packet comes, and the server has it for so long.
const ASKED_FOR: Duration = Duration::from_millis(5_500);

/// Ticks by which the first packet that came may be later than the first one sent: ten seconds of video. What was sent first may be a
/// packet of a key frame that was lost and is sent again when its publisher goes on after a pause, in which its clock went on.
const MAX_LATER: u32 = 900_000;

/// What came in one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotReport {
    /// Different packets.
    pub packets: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Sequence numbers between the first and the last that never came.
    pub missing: u64,
    /// Whole pictures, or audio packets.
    pub frames: u64,
    /// Pictures of which a packet never came.
    pub incomplete: u64,
    /// Those among them that were the last before a switch, a stop or the end: a slot does not wait for ever.
    pub cut: u64,
    /// Switches from one track or layer to another.
    pub switches: u64,
    /// Frames of a source that never came, between others of it that did.
    pub gaps: u64,
    /// By publisher, source index and layer: frames.
    pub from: BTreeMap<(u16, usize, u8), u64>,
}

/// What everybody received, and what was wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    /// By client and mid.
    pub slots: BTreeMap<(u16, String), SlotReport>,
    /// Each breaks a rule.
    pub faults: Vec<String>,
    /// Pictures that are not whole: no fault by themselves.
    pub incidents: Vec<String>,
}

impl Report {
    /// Fails where a rule was broken.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(
            self.faults.is_empty(),
            "{} faults:\n{}",
            self.faults.len(),
            self.faults[..self.faults.len().min(20)].join("\n")
        );
    }

    /// All slots of a client taken together.
    pub fn of(&self, client: usize) -> SlotReport {
        let mut sum = SlotReport::default();
        for ((_, _), slot) in self.slots.iter().filter(|((c, _), _)| usize::from(*c) == client) {
            sum.packets += slot.packets;
            sum.duplicates += slot.duplicates;
            sum.missing += slot.missing;
            sum.frames += slot.frames;
            sum.incomplete += slot.incomplete;
            sum.cut += slot.cut;
            sum.switches += slot.switches;
            sum.gaps += slot.gaps;
            for (from, frames) in &slot.from {
                *sum.from.entry(*from).or_default() += frames;
            }
        }
        sum
    }
}

/// One frame as it came: packets of one RTP time next to each other.
struct Frame<'a> {
    packets: Vec<&'a Received>,
    first: Parsed,
}

impl Frame<'_> {
    fn source(&self) -> (u16, usize, u8) {
        self.first.stamp.stream()
    }

    fn seqs(&self) -> (u64, u64) {
        (self.packets[0].seq, self.packets[self.packets.len() - 1].seq)
    }

    /// A receiver misses nothing between its first and last packet.
    fn has_no_hole(&self) -> bool {
        let (first, last) = self.seqs();
        last - first + 1 == self.packets.len() as u64
    }

    /// Its first packet came, as far as lower layers are needed.
    fn begins(&self) -> bool {
        self.first.stamp.may_begin()
    }

    /// All packets of the picture, in order, without a hole.
    fn is_whole(&self) -> bool {
        let last = self.packets[self.packets.len() - 1];
        let ends = last.parsed.is_some_and(|p| p.stamp.index + 1 == p.stamp.count);
        // Of spatial layers so many are sent as it takes: the marker tells which is the last.
        let all = self.first.stamp.nested.is_none() || last.marker;
        self.begins() && ends && all && self.has_no_hole()
    }
}

struct Checker<'a> {
    world: &'a World,
    client: &'a Client,
    slot: &'a SlotLog,
    report: SlotReport,
    faults: Vec<String>,
    incidents: Vec<String>,
}

/// Checks everybody.
pub fn check(world: &World) -> Report {
    let mut report = Report::default();
    for client in &world.clients {
        if client.roster_holes > 0 {
            report.faults.push(format!("{}: {} holes in the roster", client.profile.id, client.roster_holes));
        }
        for slot in &client.slots {
            let mut checker = Checker {
                world,
                client,
                slot,
                report: SlotReport::default(),
                faults: Vec::new(),
                incidents: Vec::new(),
            };
            checker.run();
            report.faults.append(&mut checker.faults);
            report.incidents.append(&mut checker.incidents);
            report.slots.insert((client.number, slot.mid.clone()), checker.report);
        }
    }
    report
}

impl<'a> Checker<'a> {
    fn fault(&mut self, packet: &Received, what: &str) {
        let at = packet.at - self.world.base;
        let stamp = packet.parsed.map(|p| p.stamp);
        self.faults.push(format!(
            "{} mid {} at {at:?}, seq {}, time {}, {stamp:?}: {what}",
            self.client.profile.id, self.slot.mid, packet.seq, packet.rtp_time
        ));
    }

    fn run(&mut self) {
        let packets = self.in_order();
        self.report.packets = packets.len() as u64;
        if let (Some(first), Some(last)) = (packets.first(), packets.last()) {
            self.report.missing = last.seq - first.seq + 1 - packets.len() as u64;
        }
        for packet in &packets {
            self.check_packet(packet);
        }
        let frames = self.frames(&packets);
        for frame in &frames {
            self.check_frame(frame);
        }
        for pair in frames.windows(2) {
            self.check_pair(&pair[0], &pair[1]);
        }
        self.check_references(&frames);
        self.check_descriptors(&frames);
        if let Some(first) = frames.first() {
            self.check_start(first, false);
        }
        self.report.cut += u64::from(frames.last().is_some_and(|f| !f.is_whole()));
        // The client's str0m drops what is older than the first packet that came.
        self.report.cut += u64::from(frames.first().is_some_and(|f| !f.begins()));
        self.count_gaps(&frames);
        self.check_flow();
    }

    /// By sequence number, without those that came again.
    fn in_order(&mut self) -> Vec<&'a Received> {
        let mut sorted: Vec<&Received> = self.slot.packets.iter().collect();
        sorted.sort_by_key(|p| p.seq);
        let mut all: Vec<&'a Received> = Vec::with_capacity(sorted.len());
        for packet in sorted {
            match all.last() {
                Some(old) if old.seq == packet.seq => {
                    self.report.duplicates += 1;
                    if old.parsed != packet.parsed || old.rtp_time != packet.rtp_time {
                        self.fault(packet, "two packets of one number");
                    }
                }
                _ => all.push(packet),
            }
        }
        all
    }

    fn check_packet(&mut self, packet: &Received) {
        let Some(parsed) = packet.parsed else { return self.fault(packet, "not a packet of ours") };
        let stamp = parsed.stamp;
        let Some(publisher) = self.world.publishers.get(&stamp.publisher) else {
            return self.fault(packet, "of nobody");
        };
        if stamp.source.kind() != self.slot.kind {
            self.fault(packet, "of the other kind");
        }
        if packet.csrc != Some(publisher.key.0) {
            self.fault(packet, &format!("CSRC {:?} is not {}", packet.csrc, publisher.key.0));
        }
        if publisher.key == self.client.key() {
            self.fault(packet, "its own media");
        }
        if !self.client.profile.grants.subscribe || !publisher.may_publish {
            self.fault(packet, "not granted");
        }
        if self.client.profile.only.as_ref().is_some_and(|only| *only != publisher.id) {
            self.fault(packet, "not of the only one wanted");
        }
        for repeated in &packet.repeated {
            let of = |s: crate::stamp::Stamp| (s.publisher, s.source, s.layer);
            if of(repeated.stamp) != of(stamp) || repeated.stamp.frame >= stamp.frame {
                self.fault(packet, &format!("repeats {:?}", repeated.stamp));
            }
        }
        if !self.was_told(packet) && self.could_know(packet) {
            let told = self.announcements();
            self.fault(packet, &format!("was not announced; told were {told:?}"));
        }
    }

    fn frames(&mut self, packets: &[&'a Received]) -> Vec<Frame<'a>> {
        let mut frames: Vec<Frame<'a>> = Vec::new();
        for packet in packets {
            let Some(parsed) = packet.parsed else { continue };
            match frames.last_mut() {
                Some(frame) if frame.packets[0].rtp_time == packet.rtp_time => frame.packets.push(packet),
                _ => frames.push(Frame { packets: vec![packet], first: parsed }),
            }
        }
        frames
    }

    fn check_frame(&mut self, frame: &Frame<'_>) {
        let (a, first) = (frame.first.stamp, frame.packets[0]);
        for (i, packet) in frame.packets.iter().enumerate() {
            let Some(b) = packet.parsed else { continue };
            if (a.stream(), a.frame) != (b.stamp.stream(), b.stamp.frame) {
                self.fault(packet, "a picture made of two");
            } else if i > 0 && !pictures::follows(frame.packets[i - 1], packet) {
                self.fault(packet, "packets of a picture in the wrong places");
            }
            let numbers = |p: Parsed| (p.picture_id, p.lowest);
            if numbers(b) != numbers(frame.first) {
                let (x, y) = (numbers(frame.first), numbers(b));
                self.fault(packet, &format!("two picture ids in a picture: {x:?} and {y:?}"));
            }
            if self.slot.kind == MediaKind::Video && packet.marker && !pictures::may_end(frame, i) {
                self.fault(packet, "marker at the wrong place");
            }
            if self.slot.kind == MediaKind::Video && !packet.marker && pictures::must_end(b.stamp) {
                self.fault(packet, "marker at the wrong place");
            }
            if self.slot.kind == MediaKind::Audio && i > 0 {
                self.fault(packet, "two audio packets of one time");
            }
        }
        if frame.is_whole() {
            self.report.frames += 1;
            *self.report.from.entry(frame.source()).or_default() += 1;
        } else {
            self.report.incomplete += 1;
            let got: Vec<_> =
                frame.packets.iter().map(|p| (p.seq, p.parsed.map(|p| p.stamp.index))).collect();
            let (who, mid, at) = (&self.client.profile.id, &self.slot.mid, first.at - self.world.base);
            self.incidents.push(format!("{who} mid {mid} at {at:?}: {a:?} not whole: {got:?}"));
        }
    }

    /// Two frames that follow each other.
    fn check_pair(&mut self, a: &Frame<'_>, b: &Frame<'_>) {
        let (first, next) = (a.packets[a.packets.len() - 1], b.packets[0]);
        if next.rtp_time.wrapping_sub(first.rtp_time) > 1 << 31 {
            self.fault(next, "RTP time went back");
        }
        self.check_gap(a, b);
        let adjacent = a.seqs().1 + 1 == b.seqs().0;
        let switched = a.source() != b.source();
        let restarted = b.first.stamp.key && a.first.stamp.frame + 1 != b.first.stamp.frame;
        self.report.cut += u64::from(!a.is_whole() && (switched || restarted));
        if adjacent {
            // A receiver takes both as whole: nothing between them is missing.
            if a.begins()
                && a.has_no_hole()
                && !a.is_whole()
                && a.first.stamp.source.kind() == MediaKind::Video
            {
                let got: Vec<_> =
                    a.packets.iter().map(|p| (p.seq, p.parsed.map(|p| p.stamp.index))).collect();
                let what = format!("before it {:?}, of which {got:?} came, looks whole", a.first.stamp);
                self.fault(next, &what);
            }
            if !b.begins() {
                self.fault(next, "a picture begins in its middle");
            }
            if let (Some(x), Some(y)) = (a.first.picture_id, b.first.picture_id)
                && (x + 1) & 0x7fff != y
            {
                self.fault(next, &format!("picture id {y} after {x}"));
            }
            if let (Some(x), Some(y)) = (a.first.lowest, b.first.lowest)
                && x.wrapping_add(u8::from(b.first.stamp.temporal_id() == 0)) != y
            {
                self.fault(next, &format!("TL0PICIDX {y} after {x}"));
            }
            if !switched && !b.first.stamp.may_follow(&a.first.stamp) && !b.first.stamp.key {
                self.fault(next, &format!("frame {} after {}", b.first.stamp.frame, a.first.stamp.frame));
            }
        }
        if switched {
            self.report.switches += 1;
            self.check_start(b, adjacent);
        }
    }

    /// The first frame of a source in a slot; `exact`: nothing is missing before it.
    fn check_start(&mut self, frame: &Frame<'_>, exact: bool) {
        let packet = frame.packets[0];
        let told_within = |slack: u32| {
            self.told().any(|(_, s)| {
                let later = |told: u32| packet.rtp_time.wrapping_sub(told) <= slack;
                s.csrc == packet.csrc && s.rtp_time.is_some_and(later)
            })
        };
        // Where the first packets were lost, what came first is a little later, and no key frame.
        let is_first = exact || told_within(0);
        let told = told_within(if exact { 0 } else { MAX_LATER });
        if self.slot.kind == MediaKind::Video && !frame.first.stamp.key && is_first {
            self.fault(packet, "a source begins without key frame");
        }
        if !frame.begins() || !self.could_know(packet) {
            return;
        }
        if !told && !self.frames_before(packet) && !self.was_gone(packet) {
            let told = self.announcements();
            self.fault(packet, &format!("its first RTP time was not told; told were {told:?}"));
        }
    }

    /// When whom the client was told to stand in the slot, from which RTP time on.
    fn announcements(&self) -> Vec<(Duration, Option<u32>, Option<u32>)> {
        self.told().map(|(at, slot)| (at - self.world.base, slot.csrc, slot.rtp_time)).collect()
    }

    /// What the client was told of the slot, and when.
    fn told(&self) -> impl Iterator<Item = (Instant, &SlotAssignment)> {
        self.client.messages.iter().filter_map(|(at, message)| match message {
            ServerMessage::Slots { slots } => slots.iter().find(|s| s.mid == self.slot.mid).map(|s| (*at, s)),
            _ => None,
        })
    }

    /// How far an announcement may be from its media: on a link that was clean, not far.
    fn slack(&self, packet: &Received) -> Duration {
        let (from, to) = (packet.at - TOLD_WITHIN, packet.at + TOLD_WITHIN);
        let clean = |link: &Link| !link.did_harm(from, to) && !link.was_full(from, to);
        let stalled = self.world.stalls.iter().any(|s| s.from <= to && s.to.is_none_or(|end| end >= from));
        let path = self.world.network.path(self.client.address);
        match path.filter(|p| clean(&p.up) && clean(&p.down) && !stalled) {
            Some(path) => TOLD_SOON + path.round_trip(),
            None => TOLD_WITHIN,
        }
    }

    /// The slot's announcement at that time named its source, or one that came a little before or after did.
    fn was_told(&self, packet: &Received) -> bool {
        let slack = self.slack(packet);
        let near = |at: Instant| {
            at.saturating_duration_since(packet.at).max(packet.at.saturating_duration_since(at)) <= slack
        };
        let mut standing = false;
        for (at, slot) in self.told() {
            let names = slot.csrc == packet.csrc
                && packet.parsed.is_some_and(|parsed| slot.source == Some(parsed.stamp.source));
            if names && near(at) {
                return true;
            }
            if at <= packet.at {
                // Until this message the one before it stood.
                if standing && near(at) {
                    return true;
                }
                standing = names;
            }
        }
        standing || self.stood(packet) || self.was_begun(packet) || self.was_gone(packet)
    }

    /// Its picture began while its source stood in the slot: what was lost of it on the way to the server completes it later.
    fn stood(&self, packet: &Received) -> bool {
        let told: Vec<_> = self.told().collect();
        let per_s = if self.slot.kind == MediaKind::Audio { 48_000.0 } else { 90_000.0 };
        let after = |since: u32| Duration::from_secs_f64(f64::from(since) / per_s);
        // What came first may have come late; what came just before it, less so.
        let before = self.slot.packets.iter().rev().find(|p| p.csrc == packet.csrc && p.seq < packet.seq);
        let newer = self.slot.packets.iter().find(|p| p.seq > packet.seq);
        let beside = before.map(|p| p.at + after(packet.rtp_time.wrapping_sub(p.rtp_time)));
        told.iter().enumerate().any(|(i, (at, slot))| {
            let Some(since) = slot.rtp_time.map(|first| packet.rtp_time.wrapping_sub(first)) else {
                return false;
            };
            let sent = beside.map_or(*at + after(since), |beside| beside.min(*at + after(since)));
            let stood = told.get(i + 1).is_none_or(|(end, _)| sent <= *end);
            let was_last = newer.is_some_and(|newer| newer.csrc != packet.csrc && newer.at <= packet.at);
            let limit = if was_last { ASKED_FOR } else { LATE };
            slot.csrc == packet.csrc && stood && sent <= packet.at && packet.at - sent <= limit
        })
    }

    /// Its picture began before anything was told.
    fn was_begun(&self, packet: &Received) -> bool {
        let same = |p: &&Received| (p.rtp_time, p.csrc) == (packet.rtp_time, packet.csrc);
        let first = self.slot.packets.iter().find(same);
        first.is_some_and(|first| !self.could_know(first) && packet.at - first.at <= LATE)
    }

    /// Its source has gone about then, so that nobody could be named: the slot stood as empty, or was told to be. Or it came back on another
    /// connection, and what was under way of the old one was of nobody any more.
    fn was_gone(&self, packet: &Received) -> bool {
        let Some(stamp) = packet.parsed.map(|parsed| parsed.stamp) else { return false };
        let Some(publisher) = self.world.publishers.get(&stamp.publisher) else { return false };
        let slack = self.slack(packet);
        let near = |at: Instant| at + slack >= packet.at && at <= packet.at + slack;
        let shows = |track: &TrackInfo| track.source == stamp.source && !track.muted;
        let gone =
            self.client.messages.iter().filter(|(at, _)| near(*at)).any(|(_, message)| match message {
                ServerMessage::ParticipantLeft { participant, .. } => *participant == publisher.id,
                ServerMessage::ParticipantUpdated { participant, .. } => {
                    participant.key == publisher.key && !participant.tracks.iter().any(shows)
                }
                _ => false,
            });
        let replaces = |other: &Publisher| {
            other.key == publisher.key && other.since > publisher.since && near(other.since)
        };
        let gone = gone || self.world.publishers.values().any(replaces);
        let before = self.told().take_while(|(at, _)| *at <= packet.at).last();
        let after = self.told().find(|(at, _)| *at > packet.at).filter(|(at, _)| near(*at));
        gone && [before, after].into_iter().flatten().any(|(_, slot)| slot.csrc.is_none())
    }

    /// There was a control channel before, and time enough for a message to come, lost ones being sent again.
    fn could_know(&self, packet: &Received) -> bool {
        let open = self.client.messages.first().is_some_and(|(at, _)| *at <= packet.at);
        let end = self.client.closed.unwrap_or(self.world.now);
        // While one direction is cut, media may come and messages do not: they wait for acknowledgements.
        let path = self.world.network.path(self.client.address);
        let hard = path.is_some_and(|p| p.was_hard(packet.at - TOLD_WITHIN, packet.at + TOLD_WITHIN));
        open && !hard && !self.client.vanished && end.saturating_duration_since(packet.at) >= TOLD_WITHIN
    }

    /// The same participant's track stood there just before (another layer, or the first packet was lost).
    fn frames_before(&self, packet: &Received) -> bool {
        self.slot
            .packets
            .iter()
            .any(|p| p.csrc == packet.csrc && p.seq < packet.seq && p.seq + 64 >= packet.seq)
    }

    fn count_gaps(&mut self, frames: &[Frame<'_>]) {
        for pair in frames.windows(2) {
            if pair[0].source() == pair[1].source() {
                let (a, b) = (pair[0].first.stamp.frame, pair[1].first.stamp.frame);
                self.report.gaps += u64::from(b.saturating_sub(a).saturating_sub(1));
            }
        }
    }
}
