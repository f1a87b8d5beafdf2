//! One receive slot of one subscriber, on the subscriber's shard: the gate in front of
//! [`SlotRewriter`] (`docs/design/slot-switch.md`).
//!
//! The room says by [`Output::Route`](crate::Output::Route) what the slot shall show ([`Slot::want`]); all packets of both
//! the current and the wanted feed pass [`Slot::admit`]. What holds:
//!
//! - Video begins with the first packet of a key frame of the wanted feed; audio at once, with the marker bit.
//! - The old source goes on until then, and ends at a frame boundary: while a frame of it is unfinished, the new key
//!   frame is held, for a bounded time. If the frame stays unfinished one sequence number is left out, so that the
//!   receiver sees that it is not whole.
//! - After a switch nothing of the old source passes, and nothing of the new one that is older than its key frame.
//! - Another codec in the same feed is another source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antiphon_base::{Codec, MediaKind, ParticipantKey};
use antiphon_wire::rtp::Packet;
use antiphon_wire::rtp::rewrite::{self, Rewritten, SlotRewriter, Start};

use crate::output::Feed;

/// Packets of a new key frame that wait for the old frame to end: a 1080p key frame.
pub const MAX_HELD: usize = 256;
/// How long they wait: a retransmission from a near publisher, and less than two frames.
pub const HOLD: Duration = Duration::from_millis(60);
/// Packets of the wanted feed kept in case that they follow a key frame whose first packet was overtaken, or lost and
/// sent again: half a second of 2.5 Mbit/s.
pub const MAX_EARLY: usize = 128;
/// Missing packets of one frame that are remembered; a frame with more is not waited for.
pub const MAX_MISSING: usize = 64;

/// A packet to send in the slot.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The packet as received.
    pub packet: Arc<Packet>,
    /// Its numbers in the slot.
    pub rewritten: Rewritten,
    /// The first one of a new feed: to be told to the room ([`Room::switched`](crate::Room::switched)).
    pub switched: bool,
    /// The marker bit to send.
    pub marker: bool,
}

/// What a slot did with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Sent on.
    pub sent: u64,
    /// Of a feed that does not stand here, or not yet.
    pub dropped: u64,
    /// Switches that found the old frame unfinished, and left a number out.
    pub torn: u64,
}

/// How far the current source's newest frame has come.
#[derive(Debug, Default)]
struct Progress {
    newest: Option<Arc<Packet>>,
    ended: bool,
    missing: BTreeSet<u64>,
}

impl Progress {
    /// No frame is under way.
    fn settled(&self) -> bool {
        self.newest.is_none() || (self.ended && self.missing.is_empty())
    }

    /// The packet is of a frame after the one under way.
    fn is_beyond(&self, packet: &Packet) -> bool {
        self.newest.as_ref().is_some_and(|n| packet.seq > n.seq && packet.rtp_time != n.rtp_time)
    }

    fn passed(&mut self, packet: &Arc<Packet>) {
        let padding = packet.payload.is_empty();
        let Some(newest) = self.newest.as_ref() else {
            self.newest = Some(Arc::clone(packet));
            self.ended = packet.ends_frame();
            return;
        };
        if packet.seq <= newest.seq {
            self.missing.remove(&packet.seq);
            return;
        }
        let next_frame = packet.rtp_time != newest.rtp_time;
        if next_frame && self.ended {
            self.missing.clear();
        }
        let gap = newest.seq + 1..packet.seq;
        if packet.seq - newest.seq <= MAX_MISSING as u64 {
            self.missing.extend(gap);
        } else {
            self.missing.clear();
        }
        while self.missing.len() > MAX_MISSING {
            self.missing.pop_first();
        }
        self.ended = if padding { self.ended } else { packet.ends_frame() };
        self.newest = Some(Arc::clone(packet));
    }
}

/// The gate of one slot. Owned by the subscriber's shard.
#[derive(Debug)]
pub struct Slot {
    kind: MediaKind,
    rewriter: SlotRewriter,
    current: Option<(Feed, Codec)>,
    want: Option<Feed>,
    /// The highest temporal layer to send on.
    temporal: Option<u8>,
    progress: Progress,
    /// Packets of the wanted feed from its key frame on, until the old frame has ended.
    held: Vec<Arc<Packet>>,
    /// Packets of the wanted feed of one RTP time, before a key frame was seen.
    early: Vec<Arc<Packet>>,
    counters: Counters,
}

fn feed_of(packet: &Packet) -> Feed {
    Feed { track: packet.track, layer: packet.layer }
}

impl Slot {
    /// An empty slot for audio or video, whose numbers begin at `start` (drawn at random by the caller).
    pub fn new(kind: MediaKind, start: Start) -> Self {
        Self {
            kind,
            rewriter: SlotRewriter::new(start),
            current: None,
            want: None,
            temporal: None,
            progress: Progress::default(),
            held: Vec::new(),
            early: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// What the slot shall show. True: it has become empty by this, which the room is to be told
    /// (`switched(.., None, 0)`).
    pub fn want(&mut self, feed: Option<Feed>) -> bool {
        if self.want != feed {
            self.want = feed;
            self.held.clear();
            self.early.clear();
        }
        self.may_stop() && self.stop()
    }

    /// The highest temporal layer to send on; `None`: all.
    pub fn limit_temporal(&mut self, highest: Option<u8>) {
        self.temporal = highest;
    }

    /// What [`Slot::limit_temporal`] said last.
    pub fn temporal_limit(&self) -> Option<u8> {
        self.temporal
    }

    /// What flows now.
    pub fn current(&self) -> Option<Feed> {
        self.current.map(|(feed, _)| feed)
    }

    /// What it shall show.
    pub fn wanted(&self) -> Option<Feed> {
        self.want
    }

    /// The feed of which a key frame is waited for.
    pub fn needs_keyframe(&self) -> Option<Feed> {
        let waits = self.kind == MediaKind::Video && self.held.is_empty();
        self.want.filter(|want| waits && self.current() != Some(*want))
    }

    /// What it did.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What its rewriter did.
    pub fn rewrite_counters(&self) -> rewrite::Counters {
        self.rewriter.counters()
    }

    /// Takes one packet, of any feed; appends what is to be sent to `out`: nothing, this packet, or at a switch the ones
    /// held. True: the slot has become empty, which the room is to be told.
    pub fn admit(&mut self, packet: &Arc<Packet>, out: &mut Vec<Outgoing>) -> bool {
        let is_current = self.current == Some((feed_of(packet), packet.codec));
        let is_wanted = self.want == Some(feed_of(packet));
        match self.kind {
            MediaKind::Audio if is_current => self.forward(packet, false, out),
            MediaKind::Audio if is_wanted => {
                self.held.push(Arc::clone(packet));
                self.switch(out);
            }
            MediaKind::Video if is_current => self.admit_current(packet, out),
            MediaKind::Video if is_wanted => self.admit_wanted(packet, out),
            _ => self.counters.dropped += 1,
        }
        let late = |first: &Arc<Packet>| packet.arrival.saturating_duration_since(first.arrival) >= HOLD;
        if self.held.first().is_some_and(late) || self.held.len() >= MAX_HELD {
            self.switch(out);
        }
        self.may_stop() && self.stop()
    }

    /// Video of the source that stands here: all of it, or, if its end is due, the rest of the frame under way.
    fn admit_current(&mut self, packet: &Arc<Packet>, out: &mut Vec<Outgoing>) {
        let ending = !self.held.is_empty() || self.want.is_none();
        if ending && self.progress.is_beyond(packet) {
            self.counters.dropped += 1;
            // The frame before it has ended, if nothing of it is missing: not everybody sets the marker.
            let next = self.progress.newest.as_ref().is_some_and(|n| packet.seq == n.seq + 1);
            self.progress.ended |= next;
            if self.want.is_none() && !self.progress.settled() {
                self.leave_number_out();
                self.progress = Progress::default();
            }
        } else {
            self.forward(packet, false, out);
        }
        if !self.held.is_empty() && self.progress.settled() {
            self.switch(out);
        }
    }

    /// Video of the source that shall stand here.
    fn admit_wanted(&mut self, packet: &Arc<Packet>, out: &mut Vec<Outgoing>) {
        if let Some(first) = self.held.first() {
            if packet.seq > first.seq {
                self.held.push(Arc::clone(packet));
            } else {
                self.counters.dropped += 1;
            }
            return;
        }
        if !packet.starts_keyframe() {
            if self.early.len() >= MAX_EARLY {
                self.early.remove(0);
                self.counters.dropped += 1;
            }
            self.early.push(Arc::clone(packet));
            return;
        }
        self.held.push(Arc::clone(packet));
        let mut early = std::mem::take(&mut self.early);
        early.sort_unstable_by_key(|e| e.seq);
        let (behind, before): (Vec<_>, Vec<_>) =
            early.into_iter().partition(|e| e.seq > packet.seq && e.codec == packet.codec);
        self.counters.dropped += before.len() as u64;
        self.held.extend(behind);
        if self.current.is_none() || self.progress.settled() {
            self.switch(out);
        }
    }

    /// The held packets begin a new source.
    fn switch(&mut self, out: &mut Vec<Outgoing>) {
        let held = std::mem::take(&mut self.held);
        let Some(first) = held.first() else { return };
        if self.kind == MediaKind::Video && !self.progress.settled() {
            self.leave_number_out();
        }
        self.progress = Progress::default();
        self.early.clear();
        self.rewriter.switch(first);
        self.current = Some((feed_of(first), first.codec));
        for (i, packet) in held.iter().enumerate() {
            self.forward(packet, i == 0, out);
        }
    }

    /// The receiver shall see that the last frame is not whole: one outgoing number is never sent.
    fn leave_number_out(&mut self) {
        self.counters.torn += 1;
        if let Some(newest) = self.progress.newest.as_deref() {
            let next = Packet { seq: newest.seq + 1, ..newest.clone() };
            self.rewriter.rewrite(&next);
        }
    }

    fn forward(&mut self, packet: &Arc<Packet>, switched: bool, out: &mut Vec<Outgoing>) {
        if self.kind == MediaKind::Video {
            self.progress.passed(packet);
        }
        if packet.payload.is_empty() {
            self.rewriter.drop(packet);
            return;
        }
        let Some(rewritten) = self.rewriter.rewrite(packet) else {
            self.counters.dropped += 1;
            return;
        };
        self.counters.sent += 1;
        // RFC 3551, 4.1: in audio the marker begins a talkspurt, which a new voice is.
        let marker = packet.marker || (switched && self.kind == MediaKind::Audio);
        out.push(Outgoing { packet: Arc::clone(packet), rewritten, switched, marker });
    }

    /// It shall be empty, is not, and no frame is under way.
    fn may_stop(&self) -> bool {
        let boundary = self.kind == MediaKind::Audio || self.progress.settled();
        self.want.is_none() && self.current.is_some() && boundary
    }

    /// A publisher begins anew with other numbers (it came back on a new connection): what was under way of it is over,
    /// and nothing of anybody else. True: the slot has become empty, which the room is to be told.
    pub fn cut(&mut self, publisher: ParticipantKey) -> bool {
        let is_of = |feed: Feed| feed.track.participant == publisher;
        if self.want.is_some_and(is_of) {
            self.held.clear();
            self.early.clear();
        }
        if !self.current().is_some_and(is_of) {
            return false;
        }
        if self.kind == MediaKind::Video && !self.progress.settled() {
            self.leave_number_out();
        }
        self.progress = Progress::default();
        self.stop()
    }

    fn stop(&mut self) -> bool {
        self.current = None;
        self.rewriter.clear();
        true
    }
}

#[cfg(test)]
mod tests;
