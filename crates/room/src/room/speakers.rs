//! Who is heard: levels in, `speakers` and `dominant` out, on one clock of 100 ms that runs while audio flows.

use std::time::{Duration, Instant};

use antiphon_base::{ParticipantKey, Source, TrackKey};
use antiphon_wire::control::{ServerMessage, Speaker};

use super::Room;
use crate::participant::Role;
use crate::timer::Reason;

/// Loudness is looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between `speakers` messages: five per second at most.
const SPEAKERS_TICKS: u32 = 2;
/// Ticks between decisions on dominant speakers: 300 ms, as in the paper.
const DECISION_TICKS: u32 = 3;
/// A level change below this many dB is not told.
const TOLD_DB: u8 = 3;
/// Speakers told at most: more are not told apart by ear.
const MAX_SPEAKERS: usize = 16;
/// Without audio for this long the clock stops: all that follows from silence has been told.
const STOP: Duration = Duration::from_secs(12);

impl Room {
    /// The level of one audio packet (RFC 6464): -dBov, and the sender's voice flag. For every packet of every audio
    /// track, those that nobody wants included. Tracks that are not published, or muted, are ignored.
    pub fn audio_level(&mut self, now: Instant, track: TrackKey, level: u8, voice: bool) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&track.participant) else { return };
        let state = &mut p.sources[track.source.index()];
        if state.muted || !state.listed() {
            return;
        }
        let Some(media) = state.media.as_mut() else { return };
        if media.loudness.level(now, level, voice) {
            self.onset = true;
        }
        if track.source == Source::Microphone && !p.held {
            self.dominance.level(now, track.participant, level, voice);
        }
        if !self.timers.is_set(Reason::Audio) {
            self.timers.set(Reason::Audio, self.now + TICK);
        }
    }

    pub(super) fn audio_tick(&mut self, now: Instant) {
        self.audio_ticks = self.audio_ticks.wrapping_add(1);
        let mut flows = false;
        for p in self.participants.values_mut() {
            for media in p.sources.iter_mut().filter_map(|s| s.media.as_mut()) {
                media.loudness.tick(now);
                let recent = |at: Instant| now.saturating_duration_since(at) < STOP;
                flows |= media.loudness.last().is_some_and(recent);
            }
        }
        self.onset = true;
        if self.audio_ticks.is_multiple_of(SPEAKERS_TICKS) {
            self.tell_speakers();
        }
        if self.audio_ticks.is_multiple_of(DECISION_TICKS) && self.dominance.decide(now) {
            self.tell_dominant();
        }
        if flows {
            self.timers.set(Reason::Audio, now + TICK);
        }
    }

    /// Marks those for whom loudness decides what they hear.
    pub(super) fn mark_contested(&mut self) {
        if !std::mem::take(&mut self.onset) {
            return;
        }
        let voices = self.scene.audio.len();
        let slots =
            |p: &crate::participant::Participant| p.slots.iter().filter(|s| s.role == Role::Audio).count();
        let contested = self.participants.values().filter(|p| (1..voices).contains(&slots(p)));
        let keys: Vec<ParticipantKey> = contested.map(|p| p.key).collect();
        if !keys.is_empty() {
            self.scene_stale = true;
            self.dirty.extend(keys);
        }
    }

    fn tell_speakers(&mut self) {
        let mut speakers: Vec<Speaker> = Vec::new();
        for p in self.participants.values().filter(|p| !p.hidden && !p.held) {
            let media = p.sources[Source::Microphone.index()].routable();
            if let Some(loudness) = media.map(|m| m.loudness).filter(|l| l.audible()) {
                speakers.push(Speaker { participant: p.id.clone(), level: loudness.dbov() });
            }
        }
        // Stable: equally loud ones stand in order of joining.
        speakers.sort_by_key(|s| s.level);
        speakers.truncate(MAX_SPEAKERS);
        let same = |(a, b): (&Speaker, &Speaker)| {
            a.participant == b.participant && a.level.abs_diff(b.level) < TOLD_DB
        };
        if speakers.len() == self.speakers.len() && speakers.iter().zip(&self.speakers).all(same) {
            return;
        }
        self.speakers.clone_from(&speakers);
        self.broadcast(&ServerMessage::Speakers { speakers });
    }

    fn tell_dominant(&mut self) {
        self.stats.dominant_changes += 1;
        let participants = self.dominance.set().iter().filter_map(|k| self.id_of(*k)).collect();
        self.broadcast(&ServerMessage::Dominant { participants });
        self.touch_scene();
    }

    /// The microphone of `key` is not heard any more; with `leave` it leaves the set of dominant speakers, too.
    pub(super) fn silence(&mut self, key: ParticipantKey, leave: bool) {
        if self.dominance.remove(key, leave) {
            self.tell_dominant();
        }
    }

    /// The dominant speakers, in order.
    pub fn dominant(&self) -> &[ParticipantKey] {
        self.dominance.set()
    }
}
