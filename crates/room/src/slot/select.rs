//! Which layers of the stream that stands in a slot are sent on: its spatial layers up to one (SVC), its temporal layers
//! up to one. What holds:
//!
//! - All packets of a frame are sent or none, late ones included.
//! - Layers change between pictures only. Down at once, as long as everything that the lower layers need was sent; up where
//!   nothing that was left out is referred to: at a key frame, or where the sender says so (the dependency descriptor's
//!   switch indication; U of VP9, RFC 9628; Y of VP8, RFC 7741).
//! - The last packet of what is sent of a picture has the marker.
//!
//! With a dependency descriptor a frame is sent if the decode target needs it, whatever the codec. Without one VP8 and VP9
//! tell layers themselves; of other codecs everything is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use antiphon_wire::rtp::dependency::{Dependency, Indication, Structure};
use antiphon_wire::rtp::{Descriptor, Packet};

/// Frames whose late packets get the verdict of the first one: half a second of three spatial layers.
const MAX_FRAMES: usize = 48;
/// A packet further behind the newest picture, in ticks of 90 kHz, is of another time base: the sender began anew.
const MAX_LATE: u64 = 10 * 90_000;
/// Frame numbers of which it is known that they were left out: longer than a group of pictures refers back, but for
/// long-term references, which are frames of the lowest temporal layer.
const WINDOW: u16 = 256;

/// Spatial and temporal layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Layers {
    pub(super) spatial: u8,
    pub(super) temporal: u8,
}

impl Layers {
    /// All there are.
    pub(super) const ALL: Self = Self { spatial: u8::MAX, temporal: u8::MAX };

    fn holds(self, other: Self) -> bool {
        other.spatial <= self.spatial && other.temporal <= self.temporal
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) sent: bool,
    /// Not sent, and nothing of its picture is.
    pub(super) whole_picture: bool,
    pub(super) marker: bool,
    /// To be told in its dependency descriptor: the decode targets that are sent.
    pub(super) active: Option<u32>,
    /// The structure is to be told with it.
    pub(super) attach: bool,
}

impl Verdict {
    /// What becomes of a packet of this frame.
    fn of(packet: &Packet, frame: Option<Frame>) -> Self {
        Self {
            sent: frame.is_some_and(|f| f.sent),
            whole_picture: frame.is_some_and(|f| f.whole_picture),
            marker: packet.marker || (frame.is_some_and(|f| f.top) && packet.ends_layer_frame()),
            active: None,
            attach: false,
        }
    }

    /// Everything is sent.
    pub(super) fn plain(packet: &Packet) -> Self {
        Self { sent: true, whole_picture: false, marker: packet.marker, active: None, attach: false }
    }
}

/// A frame of one spatial layer, and what became of it.
#[derive(Debug, Clone, Copy)]
struct Frame {
    rtp_time: u64,
    spatial_id: u8,
    sent: bool,
    /// Not sent, and nothing of its picture is.
    whole_picture: bool,
    /// The highest spatial layer that is sent of its picture.
    top: bool,
    /// What was to be sent of its picture: its other layers are judged by that, however late they come.
    layers: Layers,
}

/// Selects of one stream after the other.
#[derive(Debug)]
pub(super) struct Select {
    /// What is wanted.
    pub(super) target: Layers,
    /// What is sent, and what was before the picture of this RTP time.
    now: Layers,
    before: Layers,
    changed: u64,
    /// Spatial layer of what was sent last.
    shown: u8,
    frames: VecDeque<Frame>,
    /// RTP time of the newest picture.
    newest: Option<u64>,
    /// Bit `n`: something that decode target `n` needs of that picture was left out.
    missed: u32,
    targets: Option<Targets>,
}

impl Select {
    pub(super) fn new() -> Self {
        Self {
            target: Layers::ALL,
            now: Layers::ALL,
            before: Layers::ALL,
            changed: 0,
            shown: u8::MAX,
            frames: VecDeque::new(),
            newest: None,
            missed: 0,
            targets: None,
        }
    }

    /// A source begins with its next packet, the first of a key frame.
    pub(super) fn begin(&mut self) {
        *self = Self { target: self.target, now: self.target, ..Self::new() };
    }

    /// The highest spatial layer that is sent.
    pub(super) fn spatial(&self) -> u8 {
        self.now.spatial
    }

    /// A packet is sent. True: it is the first of another spatial layer.
    pub(super) fn shows(&mut self) -> bool {
        std::mem::replace(&mut self.shown, self.now.spatial) != self.now.spatial
    }

    /// A key frame is needed to send what is wanted.
    pub(super) fn waits(&self) -> bool {
        match &self.targets {
            Some(targets) => targets.waits(self.target),
            None => self.now.spatial < self.target.spatial,
        }
    }

    /// Judges a packet of the source.
    pub(super) fn admit(&mut self, packet: &Packet) -> Verdict {
        match (&packet.dependency, &packet.descriptor) {
            (Some(d), _) => self.admit_described(packet, d),
            (None, Descriptor::Vp8(d)) if d.temporal_id.is_some() => self.admit_plain(packet),
            (None, Descriptor::Vp9(d)) if d.layer.is_some() => self.admit_plain(packet),
            _ => Verdict::plain(packet),
        }
    }

    fn admit_described(&mut self, packet: &Packet, d: &Dependency) -> Verdict {
        let known = find(&self.frames, packet);
        let begins = known.is_none() && self.begins_picture(packet);
        let late = self.newest.is_some_and(|newest| packet.rtp_time < newest);
        let other = self.targets.as_ref().is_some_and(|t| !Arc::ptr_eq(&t.structure, &d.structure));
        if late && other {
            // Of before the newest structure: the rest of what was begun.
            let frame = known.filter(|frame| frame.sent);
            return Verdict { sent: frame.is_some(), whole_picture: false, ..Verdict::of(packet, frame) };
        }
        let targets = Targets::of(&mut self.targets, d);
        if begins {
            self.missed = 0;
            targets.consider(d, self.target);
            move_to(&mut self.now, &mut self.before, targets.layers(), || self.changed = packet.rtp_time);
        }
        let (mut target, mut layers) = (targets.now, self.now);
        if packet.rtp_time < self.changed {
            let begun = begun(&self.frames, packet);
            layers = begun.unwrap_or(self.before);
            // What was raised meanwhile may refer to it already.
            let needed = d.indications.get(target) != Indication::NotPresent;
            if !needed || d.spatial_id > layers.spatial {
                target = begun.map_or(targets.before, |layers| targets.within(layers));
            }
        }
        let frame = known.unwrap_or_else(|| Frame {
            rtp_time: packet.rtp_time,
            spatial_id: d.spatial_id,
            sent: targets.pass((target, late), d, &mut self.missed),
            whole_picture: d.temporal_id > layers.temporal,
            top: d.spatial_id == layers.spatial,
            layers,
        });
        let attach = frame.sent && !targets.told;
        targets.told |= frame.sent;
        let active = if frame.sent { targets.tell(d) } else { None };
        if known.is_none() {
            self.remember(frame);
        }
        Verdict { active, attach, ..Verdict::of(packet, Some(frame)) }
    }

    /// VP8 and VP9 by their own payload descriptors.
    fn admit_plain(&mut self, packet: &Packet) -> Verdict {
        let known = find(&self.frames, packet);
        if known.is_none() && self.begins_picture(packet) {
            let next = step(packet, self.now, self.target);
            move_to(&mut self.now, &mut self.before, next, || self.changed = packet.rtp_time);
        }
        let late = packet.rtp_time < self.changed;
        let layers = begun(&self.frames, packet).unwrap_or(if late { self.before } else { self.now });
        let (spatial, temporal) = (packet.spatial_id(), packet.temporal_id().unwrap_or_default());
        let frame = known.unwrap_or(Frame {
            rtp_time: packet.rtp_time,
            spatial_id: spatial,
            sent: layers.holds(Layers { spatial, temporal }),
            whole_picture: temporal > layers.temporal,
            top: spatial == layers.spatial,
            layers,
        });
        if known.is_none() {
            self.remember(frame);
        }
        Verdict::of(packet, Some(frame))
    }

    /// The packet is the first of a newer picture than all before, or of another time base.
    fn begins_picture(&mut self, packet: &Packet) -> bool {
        let newer = self.newest.is_none_or(|newest| packet.rtp_time > newest);
        let anew = self.newest.is_some_and(|newest| newest.saturating_sub(packet.rtp_time) > MAX_LATE);
        if anew {
            self.frames.clear();
            self.changed = 0;
        }
        if newer || anew {
            self.newest = Some(packet.rtp_time);
        }
        newer || anew
    }

    fn remember(&mut self, frame: Frame) {
        if self.frames.len() >= MAX_FRAMES {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
    }
}

/// Other layers are sent from now on.
fn move_to(now: &mut Layers, before: &mut Layers, next: Layers, changed: impl FnOnce()) {
    if *now != next {
        *before = std::mem::replace(now, next);
        changed();
    }
}

/// The frame that a packet is of, if one of its packets was seen. Nearly always the newest.
fn find(frames: &VecDeque<Frame>, packet: &Packet) -> Option<Frame> {
    let spatial_id = packet.spatial_id();
    frames.iter().rev().find(|f| f.rtp_time == packet.rtp_time && f.spatial_id == spatial_id).copied()
}

/// What is sent of the picture that a packet is of, if any of it was seen. Nearly always the newest.
fn begun(frames: &VecDeque<Frame>, packet: &Packet) -> Option<Layers> {
    frames.iter().rev().find(|f| f.rtp_time == packet.rtp_time).map(|f| f.layers)
}

/// The layers to send from the picture on that begins with `packet`.
fn step(packet: &Packet, now: Layers, target: Layers) -> Layers {
    if packet.starts_keyframe() {
        return target;
    }
    let temporal_id = packet.temporal_id().unwrap_or_default();
    let raised = match &packet.descriptor {
        // What follows in upper layers refers to nothing before this picture but what is sent.
        Descriptor::Vp9(d) if d.layer.is_some_and(|l| l.switching_up) && temporal_id <= now.temporal => {
            target.temporal
        }
        // This picture, of the next layer, refers to the lowest layer only.
        Descriptor::Vp8(d) if d.layer_sync && temporal_id == now.temporal.saturating_add(1) => temporal_id,
        _ => now.temporal,
    };
    Layers { spatial: now.spatial.min(target.spatial), temporal: raised.min(target.temporal) }
}

/// Decode targets of a stream with a dependency descriptor, and which of them one can follow.
#[derive(Debug)]
struct Targets {
    structure: Arc<Structure>,
    /// Layers of each target.
    layers: Vec<Layers>,
    /// The target that is sent, and the one before.
    now: u8,
    before: u8,
    /// Bit `n`: everything that target `n` needs was sent since one could begin with it.
    intact: u32,
    /// Bit `n`: what is needed for target `n` is sent.
    covered: u32,
    /// Targets that the sender produces.
    active: u32,
    /// The structure was sent on.
    told: bool,
    /// Other targets than all were told under this structure.
    restricted: bool,
    left_out: LeftOut,
}

impl Targets {
    /// Those of the structure that `d` is of. A new source, or a new structure, is begun anew.
    fn of<'a>(kept: &'a mut Option<Self>, d: &Dependency) -> &'a mut Self {
        if kept.as_ref().is_some_and(|t| Arc::ptr_eq(&t.structure, &d.structure)) {
            return kept.as_mut().expect("it is there");
        }
        let made = Self::new(kept.take(), d);
        kept.insert(made)
    }

    fn new(before: Option<Self>, d: &Dependency) -> Self {
        let layers_of = |target| {
            let (spatial, temporal) = d.structure.layers_of(target);
            Layers { spatial, temporal }
        };
        let layers: Vec<Layers> = (0..d.structure.targets).map(layers_of).collect();
        let shown = before.as_ref().map_or(Layers::ALL, Self::layers);
        let now = best(&layers, |_, l| shown.holds(l)).unwrap_or(0);
        let mut targets = Self {
            structure: Arc::clone(&d.structure),
            layers,
            now,
            before: now,
            // If the packet that told the structure is lost: it goes on where it was.
            intact: if d.attached { 0 } else { 1 << now },
            covered: 0,
            active: d.active,
            told: false,
            restricted: false,
            left_out: before.map_or_else(|| LeftOut::from(d.frame_number), |t| t.left_out),
        };
        targets.covered = targets.cover();
        targets
    }

    fn layers(&self) -> Layers {
        self.layers.get(usize::from(self.now)).copied().unwrap_or(Layers::ALL)
    }

    /// The target that has these layers.
    fn within(&self, layers: Layers) -> u8 {
        best(&self.layers, |_, l| layers.holds(l)).unwrap_or(self.now)
    }

    fn cover(&self) -> u32 {
        (0..self.structure.targets)
            .filter(|t| self.structure.covers(self.now, *t))
            .fold(0, |mask, t| mask | 1 << t)
    }

    /// The best target within what is wanted that the sender produces; the lowest, if none is.
    fn goal(&self, wanted: Layers) -> Option<u8> {
        let active = |t: u8| self.active >> t & 1 == 1;
        best(&self.layers, |t, l| active(t) && wanted.holds(l)).or_else(|| {
            (0..self.structure.targets).filter(|t| active(*t)).min_by_key(|t| self.layers[usize::from(*t)])
        })
    }

    fn waits(&self, wanted: Layers) -> bool {
        let Some(goal) = self.goal(wanted) else { return false };
        let spatial = |t: u8| self.layers.get(usize::from(t)).map(|l| l.spatial);
        spatial(goal) != spatial(self.now) && self.intact >> goal & 1 == 0
    }

    /// A picture begins with frame `d`: moves to the best target that can be followed from here on.
    fn consider(&mut self, d: &Dependency, wanted: Layers) {
        self.active = d.active;
        let begins = self.left_out.decodable(d);
        // With a new structure all targets begin, in this frame or in another one of its picture.
        let can_begin = |t: u8| d.attached || (begins && d.indications.get(t) == Indication::Switch);
        let reachable = |t: u8| self.intact >> t & 1 == 1 || can_begin(t);
        let limit =
            self.goal(wanted).and_then(|t| self.layers.get(usize::from(t)).copied()).unwrap_or(wanted);
        let active = |t: u8| self.active >> t & 1 == 1;
        let Some(next) = best(&self.layers, |t, l| limit.holds(l) && active(t) && reachable(t)) else {
            return;
        };
        if next != self.now {
            self.before = std::mem::replace(&mut self.now, next);
            self.covered = self.cover();
        }
    }

    /// A frame came: whether it is sent for this target. A `late` one begins nothing: what came since may have been left out. Nor does one
    /// begin a target of which something was `missed` in this picture: an upper layer may come first.
    fn pass(&mut self, (target, late): (u8, bool), d: &Dependency, missed: &mut u32) -> bool {
        let sent = d.indications.get(target) != Indication::NotPresent && self.left_out.decodable(d);
        for t in 0..self.structure.targets {
            match d.indications.get(t) {
                Indication::Switch if sent && !late => self.intact |= 1 << t & !*missed,
                Indication::Switch | Indication::Required if !sent => {
                    self.intact &= !(1 << t);
                    *missed |= u32::from(!late) << t;
                }
                _ => {}
            }
        }
        self.left_out.note(d.frame_number, sent);
        sent
    }

    /// What the descriptor of a frame that is sent must tell of active targets. Told again and again: packets get lost.
    fn tell(&mut self, d: &Dependency) -> Option<u32> {
        let mask = self.covered & d.active;
        self.restricted |= mask != self.structure.all_targets();
        let due = d.attached || d.told_active || (d.starts_frame && d.temporal_id == 0);
        Some(mask).filter(|_| self.restricted && due)
    }
}

/// The target of the highest layers of those that `fits`.
fn best(layers: &[Layers], fits: impl Fn(u8, Layers) -> bool) -> Option<u8> {
    let candidates = (0u8..).zip(layers).filter(|(t, l)| fits(*t, **l));
    candidates.max_by_key(|(_, l)| **l).map(|(t, _)| t)
}

/// Which of the newest frames were left out on purpose. Frames not seen yet may still come, and are the receiver's to ask for.
#[derive(Debug)]
struct LeftOut {
    /// The source's first frame.
    first: u16,
    newest: u16,
    /// So many frames are between the two, at least; saturates.
    age: u16,
    /// Bit `i`: frame `newest - i`.
    bits: [u64; WINDOW as usize / 64],
}

impl LeftOut {
    fn from(first: u16) -> Self {
        Self { first, newest: first, age: 0, bits: [0; WINDOW as usize / 64] }
    }

    fn note(&mut self, number: u16, sent: bool) {
        let ahead = number.wrapping_sub(self.newest);
        if ahead < 1 << 15 {
            self.shift(ahead);
            self.newest = number;
            self.age = self.age.saturating_add(ahead);
        }
        let behind = usize::from(self.newest.wrapping_sub(number));
        if let Some(word) = self.bits.get_mut(behind / 64) {
            let bit = 1 << (behind % 64);
            *word = if sent { *word & !bit } else { *word | bit };
        }
    }

    fn shift(&mut self, by: u16) {
        let (words, bits) = (usize::from(by / 64), u32::from(by % 64));
        for i in (0..self.bits.len()).rev() {
            let word = |j: Option<usize>| j.and_then(|j| self.bits.get(j)).copied().unwrap_or(0);
            let (low, carry) = (word(i.checked_sub(words)), word(i.checked_sub(words + 1)));
            self.bits[i] = low << bits | carry.checked_shr(64 - bits).unwrap_or(0);
        }
    }

    /// Nothing that the frame refers to was left out, or lies before the source's first frame.
    fn decodable(&self, d: &Dependency) -> bool {
        let since = d.frame_number.wrapping_sub(self.first);
        d.references.as_slice().iter().all(|distance| {
            let before = self.age < u16::MAX / 2 && *distance > since;
            let number = d.frame_number.wrapping_sub(*distance);
            let behind = usize::from(self.newest.wrapping_sub(number));
            let out = self.bits.get(behind / 64).is_some_and(|word| word >> (behind % 64) & 1 == 1);
            !before && !out
        })
    }
}
