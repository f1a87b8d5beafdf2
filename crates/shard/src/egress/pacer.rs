//! When what was taken may leave: a budget of bytes that grows with the pacing rate, as libwebrtc's `modules/pacing`
//! (`pacing_controller.cc`, `prioritized_packet_queue.cc`) has it, with what a forwarder needs beside.
//!
//! Nothing is queued here while a round's packets fit the budget: they leave at once, in the order in which they came. Else
//! they wait by class, and leave in ticks, so that those of one tick still make a segmented message.

use std::collections::VecDeque;

use antiphon_room::SlotId;
use antiphon_room::slot::Outgoing;

use super::bwe::Pace;

/// What may leave at once after silence (libwebrtc: `kDefaultBurstInterval`): a usual picture is one run of packets.
const BURST_S: f64 = 0.040;
/// Packets that wait leave on a grid of this, so that several subscribers' ticks fall into one round.
const TICK_US: u64 = 5_000;
/// Video does not wait longer (libwebrtc has 2 s for an encoder that slows down, which a forwarder has not). While the path
/// is free the rate grows so that it does not; when the path is full the slot's video is dropped up to the next key frame.
const MAX_WAIT_US: u64 = 300_000;
/// On a full path, but for key frames before it: one that is dropped for its size is followed by one of the same size, and
/// nothing would ever be seen on a line that is too narrow for it. So many times as long as they take alone (voices and
/// retransmissions leave first), up to this.
const KEY_WAIT: f64 = 2.0;
const MAX_KEY_WAIT_US: f64 = 1_500_000.0;
/// What waits of a source that the slot has left is dropped if it would hold up the new one for longer than this.
const SUPERSEDED_US: f64 = 30_000.0;
/// So long after a link has narrowed there are requests for what its queue had no room for: most of it, and more than it carries.
const ASKS_US: u64 = 1_000_000;
/// Places for packets are given back in so many.
const TRIMMED: usize = 16;
/// Header, tag and extensions, about, with the payload.
const OVERHEAD_BYTES: usize = 50;

/// In the order in which they leave. Retransmissions come between the first two; padding takes what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Never waits.
    Audio,
    Screen,
    Video,
}

/// Counts.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Counters {
    /// Packets that had to wait, and the longest time one did.
    pub(crate) paced: u64,
    pub(crate) longest_ms: u64,
    /// Dropped because the slot had left their source, and because they would have waited too long.
    pub(crate) superseded: u64,
    pub(crate) shed: u64,
}

struct Waiting {
    slot: SlotId,
    outgoing: Outgoing,
    since_us: u64,
    /// It is of a key frame.
    is_key: bool,
}

/// A subscriber's budget and what waits for it.
#[derive(Default)]
pub(super) struct Pacer {
    screen: VecDeque<Waiting>,
    video: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Of key frames that had to wait, since nothing did: what came after them waits for them, too.
    key_bytes: usize,
    /// RTP times of the newest key frames that had to wait.
    keys: Vec<(SlotId, u64)>,
    pace: Option<Pace>,
    budget_bytes: f64,
    filled_us: u64,
    held_until_us: u64,
    /// Slots that have left the source for which they were held.
    freed: Vec<SlotId>,
    /// Slots whose video is dropped until a key frame.
    broken: Vec<SlotId>,
    pub(super) counters: Counters,
}

/// What a packet takes.
pub(super) fn size(outgoing: &Outgoing) -> usize {
    outgoing.packet.payload.len() + OVERHEAD_BYTES
}

impl Pacer {
    /// Lets the budget grow until `now_us` at this pace; `None`: nothing is paced.
    pub(super) fn refill(&mut self, now_us: u64, pace: Option<Pace>) {
        let known = self.pace.is_some();
        self.pace = pace;
        let passed_s = now_us.saturating_sub(self.filled_us) as f64 / 1e6;
        self.filled_us = now_us;
        let Some(bytes_per_s) = self.bytes_per_s(now_us) else { return };
        let most = pace.map_or(0.0, |p| p.bps) / 8.0 * BURST_S;
        if !known {
            self.budget_bytes = most;
        }
        self.budget_bytes = (self.budget_bytes + bytes_per_s * passed_s).min(most);
    }

    /// While the path is free, so many that nothing waits for too long.
    fn bytes_per_s(&self, now_us: u64) -> Option<f64> {
        let pace = self.pace?;
        let oldest = self.oldest_us().filter(|_| !pace.full);
        let needed = oldest.map_or(0.0, |since_us| {
            let left_us = (since_us + MAX_WAIT_US).saturating_sub(now_us).max(TICK_US);
            self.waiting_bytes as f64 * 1e6 / left_us as f64
        });
        Some((pace.bps / 8.0).max(needed))
    }

    fn oldest_us(&self) -> Option<u64> {
        [&self.screen, &self.video].into_iter().filter_map(|q| q.front()).map(|w| w.since_us).min()
    }

    /// All of `bytes` may leave at once, and nothing waits that it would overtake.
    pub(super) fn is_free(&self, now_us: u64, bytes: usize) -> bool {
        let fits = self.pace.is_none() || bytes as f64 <= self.budget_bytes;
        fits && self.is_empty() && self.broken.is_empty() && !self.is_held(now_us)
    }

    /// Something may leave that can wait.
    pub(super) fn has_budget(&self) -> bool {
        self.pace.is_none() || self.budget_bytes > 0.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.screen.is_empty() && self.video.is_empty()
    }

    /// Gives back the memory that a burst took. To be called now and then.
    pub(super) fn trim(&mut self) {
        for queue in [&mut self.screen, &mut self.video] {
            queue.shrink_to(queue.len().next_multiple_of(TRIMMED));
        }
    }

    /// Something of a key frame of the slot waits: whoever asks for one now gets it.
    pub(super) fn has_key_frame(&self, slot: SlotId) -> bool {
        self.key_bytes > 0 && self.screen.iter().chain(&self.video).any(|w| w.is_key && w.slot == slot)
    }

    pub(super) fn len(&self) -> usize {
        self.screen.len() + self.video.len()
    }

    /// So much has left.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.budget_bytes -= bytes as f64;
    }

    /// Video waits at least until then, but for that of slots that begin a new source meanwhile.
    pub(super) fn hold(&mut self, until_us: u64) {
        self.held_until_us = self.held_until_us.max(until_us);
        self.freed.clear();
    }

    /// The path has a queue already.
    pub(super) fn is_full(&self) -> bool {
        self.pace.is_some_and(|p| p.full)
    }

    /// It has, or it has narrowed a moment ago.
    pub(super) fn was_full(&self, now_us: u64) -> bool {
        self.is_full() || now_us < self.held_until_us + ASKS_US
    }

    pub(super) fn is_held(&self, now_us: u64) -> bool {
        now_us < self.held_until_us
    }

    /// A packet of a picture has to wait.
    pub(super) fn push(&mut self, now_us: u64, class: Class, slot: SlotId, outgoing: Outgoing) {
        // Layers of one stream change without a key frame, and build on what was before; after one they do not, either.
        let begins = outgoing.packet.starts_keyframe();
        if begins && (outgoing.switched.is_some() || outgoing.packet.spatial_layers > 1) {
            self.leave_source(now_us, slot);
        }
        if let Some(at) = self.broken.iter().position(|s| *s == slot) {
            if !begins {
                self.counters.shed += 1;
                return;
            }
            self.broken.swap_remove(at);
        }
        let is_key = self.is_of_key_frame(slot, &outgoing, begins);
        self.waiting_bytes += size(&outgoing);
        self.key_bytes += if is_key { size(&outgoing) } else { 0 };
        let waiting = Waiting { slot, outgoing, since_us: now_us, is_key };
        match class {
            Class::Screen => self.screen.push_back(waiting),
            Class::Audio | Class::Video => self.video.push_back(waiting),
        }
    }

    fn is_of_key_frame(&mut self, slot: SlotId, outgoing: &Outgoing, begins: bool) -> bool {
        let at = self.keys.iter().position(|(s, _)| *s == slot);
        let time = outgoing.packet.rtp_time;
        match at {
            Some(at) if begins => self.keys[at].1 = time,
            Some(at) => return self.keys[at].1 == time,
            None if begins => self.keys.push((slot, time)),
            None => {}
        }
        begins
    }

    /// A slot begins a new source: what it was held for is over, and on a full path what waits of the old one is of no use to
    /// anybody. On one that has just narrowed it would take the place of the new one.
    fn leave_source(&mut self, now_us: u64, slot: SlotId) {
        if !self.freed.contains(&slot) {
            self.freed.push(slot);
        }
        let us = self.pace.map_or(0.0, |p| self.waiting_bytes as f64 * 8e6 / p.bps.max(1.0));
        if self.is_held(now_us) || (us > SUPERSEDED_US && self.is_full()) {
            self.counters.superseded += self.drop_slot(slot);
        }
    }

    fn drop_slot(&mut self, slot: SlotId) -> u64 {
        let before = self.len();
        for queue in [&mut self.screen, &mut self.video] {
            queue.retain(|w| w.slot != slot);
        }
        let left = || self.screen.iter().chain(&self.video);
        self.waiting_bytes = left().map(|w| size(&w.outgoing)).sum();
        self.key_bytes = left().filter(|w| w.is_key).map(|w| size(&w.outgoing)).sum();
        (before - self.len()) as u64
    }

    /// On a full path, drops what has waited for too long, with all of its slot. Slots that need a key frame now, with
    /// which they go on.
    pub(super) fn shed(&mut self, now_us: u64, mut broken: impl FnMut(SlotId)) {
        if !self.is_full() {
            return;
        }
        while let Some(slot) = self.late_slot(now_us) {
            self.counters.shed += self.drop_slot(slot);
            if !self.broken.contains(&slot) {
                self.broken.push(slot);
            }
            broken(slot);
        }
    }

    /// The screen is what is looked at: it goes last.
    fn late_slot(&self, now_us: u64) -> Option<SlotId> {
        let bps = self.pace.map_or(f64::MAX, |p| p.bps.max(1.0));
        let key_us = micros((self.key_bytes as f64 * 8e6 / bps * KEY_WAIT).min(MAX_KEY_WAIT_US));
        let late = |w: &&Waiting| now_us.saturating_sub(w.since_us) > MAX_WAIT_US + key_us;
        let first = self.video.front().filter(late).or_else(|| self.screen.front().filter(late));
        first.map(|w| w.slot)
    }

    /// The next packet that may leave now.
    pub(super) fn pop(&mut self, now_us: u64) -> Option<(SlotId, Outgoing)> {
        if !self.has_budget() {
            return None;
        }
        let waiting = if self.is_held(now_us) {
            let freed = &self.freed;
            [&mut self.screen, &mut self.video].into_iter().find_map(|queue| {
                let at = queue.iter().position(|w| freed.contains(&w.slot))?;
                queue.remove(at)
            })?
        } else {
            self.screen.pop_front().or_else(|| self.video.pop_front())?
        };
        self.waiting_bytes -= size(&waiting.outgoing);
        if self.is_empty() {
            self.key_bytes = 0;
        }
        let waited_us = now_us.saturating_sub(waiting.since_us);
        self.counters.paced += u64::from(waited_us > 0);
        self.counters.longest_ms = self.counters.longest_ms.max(waited_us / 1_000);
        Some((waiting.slot, waiting.outgoing))
    }

    /// When something that waits may leave; `also`: beside what is here. On the grid of ticks.
    pub(super) fn deadline(&self, now_us: u64, also: bool) -> Option<u64> {
        if self.is_empty() && !also {
            return None;
        }
        let is_freed = |w: &Waiting| self.freed.contains(&w.slot);
        let goes_on = also || self.screen.iter().chain(&self.video).any(is_freed);
        let held = if goes_on { 0 } else { self.held_until_us };
        let bytes_per_s = self.bytes_per_s(now_us).unwrap_or(f64::MAX).max(1.0);
        let refilled_us = now_us + micros((1.0 - self.budget_bytes).max(0.0) * 1e6 / bytes_per_s);
        let at = refilled_us.max(held).max(now_us + 1);
        Some(at.div_ceil(TICK_US) * TICK_US)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is not negative, and more than an hour is an hour"
)]
fn micros(us: f64) -> u64 {
    us.min(3.6e9) as u64
}

#[cfg(test)]
mod tests;
