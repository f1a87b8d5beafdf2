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
//! - Of the source that stands here only the wanted layers are sent (`select.rs`). The spatial layers of one RTP stream
//!   (SVC) are feeds of their track: from one to the other there is no switch of the source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antiphon_base::{Codec, MediaKind, ParticipantKey};
use antiphon_wire::rtp::Packet;
use antiphon_wire::rtp::rewrite::{self, Rewritten, SlotRewriter, Start};

use self::select::{Select, Verdict};
use crate::output::Feed;

mod select;

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
    pub switched: Option<Feed>,
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
    /// Of layers of the source that are not wanted.
    pub left_out: u64,
    /// Sources whose last frame had no end, and after which a number was left out.
    pub torn: u64,
}

/// How far the current source's newest frame has come.
#[derive(Debug, Default)]
struct Progress {
    /// Sequence number and RTP time of the newest packet. Not the packet: what counts references to it waits for all memory
    /// that was asked for before.
    newest: Option<(u64, u64)>,
    /// The newest packet that was sent, and whether it has the marker.
    sent: u64,
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
        self.newest.is_some_and(|(seq, rtp_time)| packet.seq > seq && packet.rtp_time != rtp_time)
    }

    /// The last frame that was sent may have packets that never came, of which no later number tells.
    fn is_open(&self) -> bool {
        let misses_more = || self.missing.last().is_some_and(|last| *last > self.sent);
        self.newest.is_some() && (!self.ended || misses_more())
    }

    /// A packet was sent, with this marker, or left out (`None`).
    fn passed(&mut self, packet: &Packet, marker: Option<bool>) {
        let this = (packet.seq, packet.rtp_time);
        if let Some((seq, rtp_time)) = self.newest {
            if packet.seq <= seq {
                self.missing.remove(&packet.seq);
            } else {
                self.advance(seq, packet.seq, packet.rtp_time != rtp_time);
                self.newest = Some(this);
            }
        } else {
            self.newest = Some(this);
            self.sent = packet.seq;
        }
        if let Some(marker) = marker.filter(|_| packet.seq >= self.sent) {
            (self.sent, self.ended) = (packet.seq, marker);
        }
    }

    fn advance(&mut self, from: u64, to: u64, next_frame: bool) {
        if next_frame && self.ended {
            self.missing.clear();
        }
        if to - from <= MAX_MISSING as u64 {
            self.missing.extend(from + 1..to);
        } else {
            self.missing.clear();
        }
        while self.missing.len() > MAX_MISSING {
            self.missing.pop_first();
        }
    }
}

/// The gate of one slot. Owned by the subscriber's shard.
#[derive(Debug)]
pub struct Slot {
    kind: MediaKind,
    rewriter: SlotRewriter,
    /// The RTP stream that stands here.
    current: Option<(Feed, Codec)>,
    /// It has spatial layers, which are feeds of its track.
    nested: bool,
    /// Nothing of it was sent yet.
    fresh: bool,
    select: Select,
    want: Option<Feed>,
    progress: Progress,
    /// Packets of the wanted feed from its key frame on, until the old frame has ended.
    held: Vec<Arc<Packet>>,
    /// Meanwhile packets of the source that stands here, of frames after that one: they are sent if the other is not wanted any more.
    behind: Vec<Arc<Packet>>,
    /// Packets of the wanted feed of one RTP time, before a key frame was seen.
    early: Vec<Arc<Packet>>,
    counters: Counters,
}

/// The RTP stream of a packet.
fn feed_of(packet: &Packet) -> Feed {
    Feed { track: packet.track, layer: packet.layer }
}

/// The packet is of the RTP stream in which this feed is, or of which it is a spatial layer.
fn carries(packet: &Packet, feed: Feed) -> bool {
    feed_of(packet) == feed || (feed.track == packet.track && packet.spatial_layers > 1)
}

impl Slot {
    /// An empty slot for audio or video, whose numbers begin at `start` (drawn at random by the caller).
    pub fn new(kind: MediaKind, start: Start) -> Self {
        Self {
            kind,
            rewriter: SlotRewriter::new(start),
            current: None,
            nested: false,
            fresh: false,
            select: Select::new(),
            want: None,
            progress: Progress::default(),
            held: Vec::new(),
            behind: Vec::new(),
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
            if feed.is_none() {
                self.forget_behind();
            }
            self.aim();
        }
        self.may_stop() && self.stop()
    }

    /// Sends temporal layers up to this one only; `None`: all.
    pub fn limit_temporal(&mut self, highest: Option<u8>) {
        self.select.target.temporal = highest.unwrap_or(u8::MAX);
    }

    /// What is wanted of the stream that stands here.
    fn aim(&mut self) {
        let Some((stream, _)) = self.current else { return };
        self.select.target.spatial = match self.want {
            _ if !self.nested => u8::MAX,
            Some(want) if want.track == stream.track => want.layer,
            _ => self.select.target.spatial,
        };
    }

    /// What flows now.
    pub fn current(&self) -> Option<Feed> {
        let (stream, _) = self.current?;
        let layer = if self.nested { self.select.spatial() } else { stream.layer };
        Some(Feed { layer, ..stream })
    }

    /// The stream that stands here has what is wanted.
    fn is_served(&self) -> bool {
        let (Some(want), Some((stream, _))) = (self.want, self.current) else { return false };
        want == stream || (self.nested && want.track == stream.track)
    }

    /// What it shall show.
    pub fn wanted(&self) -> Option<Feed> {
        self.want
    }

    /// The feed of which a key frame is waited for.
    pub fn needs_keyframe(&self) -> Option<Feed> {
        let waits = self.kind == MediaKind::Video && self.held.is_empty();
        self.want.filter(|_| waits && (!self.is_served() || (self.nested && self.select.waits())))
    }

    /// Packets kept until it switches: [`MAX_HELD`] and [`MAX_EARLY`] at most.
    pub fn held(&self) -> usize {
        self.held.len() + self.behind.len() + self.early.len()
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
        let is_wanted = self.want.is_some_and(|want| carries(packet, want));
        if self.held.is_empty() && !self.behind.is_empty() {
            self.go_on(out);
        }
        match self.kind {
            MediaKind::Audio if is_current => self.forward(packet, out),
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
        if self.nested != (packet.spatial_layers > 1) {
            self.nested = packet.spatial_layers > 1;
            self.aim();
        }
        let ending = !self.held.is_empty() || self.want.is_none();
        if ending && self.progress.is_beyond(packet) {
            if self.want.is_some() && self.behind.len() < MAX_EARLY {
                self.behind.push(Arc::clone(packet));
            } else {
                self.counters.dropped += 1;
            }
            // The frame before it has ended, if nothing of it is missing: not everybody sets the marker.
            let next = self.progress.newest.is_some_and(|(seq, _)| packet.seq == seq + 1);
            self.progress.ended |= next;
            if self.want.is_none() && !self.progress.settled() {
                self.close_frame();
                self.progress = Progress::default();
            }
        } else {
            self.forward(packet, out);
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
        self.close_frame();
        self.progress = Progress::default();
        self.early.clear();
        self.forget_behind();
        self.rewriter.switch(first);
        self.current = Some((feed_of(first), first.codec));
        self.nested = first.spatial_layers > 1;
        self.aim();
        self.select.begin();
        self.fresh = true;
        for packet in &held {
            self.forward(packet, out);
        }
    }

    /// Nothing else of the source is sent. The receiver shall see that its last frame is not whole: one outgoing number is
    /// never sent.
    fn close_frame(&mut self) {
        if self.kind == MediaKind::Video && self.progress.is_open() {
            self.counters.torn += 1;
            self.rewriter.leave_gap();
        }
    }

    /// The source that stands here has not ended after all.
    fn go_on(&mut self, out: &mut Vec<Outgoing>) {
        for packet in std::mem::take(&mut self.behind) {
            self.forward(&packet, out);
        }
    }

    fn forget_behind(&mut self) {
        self.counters.dropped += self.behind.len() as u64;
        self.behind.clear();
    }

    fn forward(&mut self, packet: &Arc<Packet>, out: &mut Vec<Outgoing>) {
        let verdict = match self.kind {
            MediaKind::Audio => Verdict::plain(packet),
            MediaKind::Video => self.select.admit(packet),
        };
        let padding = packet.payload.is_empty();
        if self.kind == MediaKind::Video {
            self.progress.passed(packet, Some(verdict.marker).filter(|_| verdict.sent && !padding));
        }
        if padding || !verdict.sent {
            self.counters.left_out += u64::from(!padding);
            if padding || verdict.whole_picture {
                self.rewriter.drop(packet);
            } else {
                self.rewriter.drop_part(packet);
            }
            return;
        }
        let Some(mut rewritten) = self.rewriter.rewrite(packet) else {
            self.counters.dropped += 1;
            return;
        };
        if let Some(patch) = &mut rewritten.dependency {
            (patch.active, patch.attach) = (verdict.active, verdict.attach);
        }
        self.counters.sent += 1;
        // RFC 3551, 4.1: in audio the marker begins a talkspurt, which a new voice is.
        let fresh = std::mem::take(&mut self.fresh);
        let marker = verdict.marker || (fresh && self.kind == MediaKind::Audio);
        let moved = self.select.shows() && self.nested;
        let switched = self.current().filter(|_| fresh || moved);
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
        self.close_frame();
        self.progress = Progress::default();
        self.stop()
    }

    fn stop(&mut self) -> bool {
        self.current = None;
        self.forget_behind();
        self.rewriter.clear();
        true
    }
}

#[cfg(test)]
mod tests;
