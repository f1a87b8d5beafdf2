//! No torn picture, where pictures have layers: what a frame builds on came, or is missed by the receiver, too; so layers change where
//! nothing that was left out is needed. And what a dependency descriptor tells of that is still true after it was rewritten.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_base::MediaKind;

use super::{Checker, Frame};
use crate::client::Received;
use crate::stamp::{Described, Stamp};

/// Packet `b` may come after `a` of the same picture, with what is missing between them.
pub(super) fn follows(a: &Received, b: &Received) -> bool {
    let (Some(x), Some(y)) = (a.parsed.map(|p| p.stamp), b.parsed.map(|p| p.stamp)) else { return true };
    let between = b.seq - a.seq;
    if x.layer == y.layer {
        return x.index < y.index && u64::from(y.index - x.index) == between;
    }
    let rest = u64::from(x.count - x.index) + u64::from(y.index);
    let all = x.layer + 1 == y.layer;
    x.nested.is_some() && x.layer < y.layer && (rest == between || (!all && rest < between))
}

/// A picture may end with its packet `at`.
pub(super) fn may_end(frame: &Frame<'_>, at: usize) -> bool {
    let ends = frame.packets[at].parsed.is_some_and(|p| p.stamp.index + 1 == p.stamp.count);
    ends && at + 1 == frame.packets.len()
}

/// There is no further packet of its picture.
pub(super) fn must_end(stamp: Stamp) -> bool {
    stamp.index + 1 == stamp.count && stamp.nested.is_none_or(|n| n.mode.layers == stamp.layer + 1)
}

/// What came of the frame of one layer.
struct Part<'a> {
    stamp: Stamp,
    first: &'a Received,
    last: &'a Received,
}

impl Part<'_> {
    fn place(&self) -> (u32, u8) {
        (self.stamp.frame, self.stamp.layer)
    }

    /// The receiver knows that something is missing between this and what came next.
    fn is_hole_before(&self, next: &Part<'_>) -> bool {
        self.last.seq + 1 != next.first.seq
    }
}

fn parts<'a>(frames: &[Frame<'a>]) -> Vec<Part<'a>> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    for packet in frames.iter().flat_map(|f| &f.packets) {
        let Some(stamp) = packet.parsed.map(|p| p.stamp) else { continue };
        let of = |s: &Stamp| (s.stream(), s.frame, s.layer);
        match parts.last_mut() {
            Some(part) if of(&part.stamp) == of(&stamp) => part.last = packet,
            _ => parts.push(Part { stamp, first: packet, last: packet }),
        }
    }
    parts
}

impl Checker<'_> {
    /// Each frame that another builds on came, or at its place a number is missing.
    pub(super) fn check_references(&mut self, frames: &[Frame<'_>]) {
        if self.slot.kind != MediaKind::Video {
            return;
        }
        let parts = parts(frames);
        let mut came: BTreeSet<((u16, usize, u8), u32, u8)> = BTreeSet::new();
        for (i, part) in parts.iter().enumerate() {
            let stream = part.stamp.stream();
            for needed in part.stamp.references() {
                if came.contains(&(stream, needed.0, needed.1)) {
                    continue;
                }
                let later = |p: &&Part<'_>| p.stamp.stream() == stream && p.place() > needed;
                let since = i - parts[..i].iter().rev().take_while(later).count();
                if since > 0 && !parts[since - 1].is_hole_before(&parts[since]) {
                    self.fault(part.first, &format!("builds on {needed:?}, which was left out"));
                }
            }
            came.insert((stream, part.stamp.frame, part.stamp.layer));
        }
    }

    /// Between two key frames all numbers of frames and templates are moved by the same; then they go on, and the structure is told anew.
    pub(super) fn check_descriptors(&mut self, frames: &[Frame<'_>]) {
        let mut shifts: BTreeMap<(u16, usize, u8), (u16, u8)> = BTreeMap::new();
        let (mut current, mut newest, mut last) = (None, None, None);
        for (frame, packet) in frames.iter().flat_map(|f| f.packets.iter().map(move |p| (f, *p))) {
            let Some(parsed) = packet.parsed else { continue };
            let (Some(described), Some(nested)) = (parsed.described, parsed.stamp.nested) else { continue };
            let Described { template, number, extended } = described;
            let of_template = template.wrapping_sub(parsed.stamp.template()) & 0x3f;
            let shift = (number.wrapping_sub(nested.number), of_template);
            let stream = parsed.stamp.stream();
            let known = shifts.get(&stream).copied().filter(|_| current == Some(stream));
            let begins = parsed.stamp.key && parsed.stamp.index == 0 && parsed.stamp.layer == 0;
            // Where packets are missing, a key frame may be among them.
            let follows = last.replace(packet.seq).is_some_and(|last: u64| packet.seq <= last + 1);
            if known.is_some_and(|known| known != shift) && !frame.first.stamp.key && follows {
                self.fault(
                    packet,
                    &format!("its descriptor is moved by {shift:?}, those before by {known:?}"),
                );
            }
            let behind = |newest: u16| number.wrapping_sub(newest).cast_signed() < 0;
            if newest.is_some_and(behind) || (known.is_none() && newest == Some(number)) {
                self.fault(packet, &format!("frame number {number} after {newest:?}"));
            }
            if begins && !extended {
                self.fault(packet, "a key frame without structure");
            }
            newest = Some(number);
            current = Some(stream);
            shifts.insert(stream, shift);
        }
    }
}
