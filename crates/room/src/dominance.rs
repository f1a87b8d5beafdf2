//! Dominant speakers, after I. Volfin and I. Cohen, "Dominant Speaker Identification for Multipoint
//! Videoconferencing" (IEEE 27th Convention of Electrical and Electronics Engineers in Israel, 2012).
//!
//! From the paper: the *local processing* of each speaker scores speech activity over three intervals (immediate, medium,
//! long), each from the number of active units of the interval before it; the score is the log-likelihood ratio of a
//! binomial law (speech) to an exponential one (silence), `speech_score`. The *global decision* switches to a speaker
//! whose scores exceed those of the dominant one in all three intervals by `C1`, `C2`, `C3`; the best in the medium
//! interval wins. The structure and the thresholds `C1`, `C2`, `C3` follow the method as it is published and widely built;
//! the other constants were chosen for our input and are held by the tests, not quoted from the paper.
//!
//! Ours: RFC 6464 levels stand for sub-band activity (13 sub-units are 13 steps of loudness above the speaker's noise
//! floor), packets are laid on a grid of 20 ms by time, and the set around the first speaker: who has been talking for a
//! moment enters it at the end, or in place of a member that has been silent for longest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use antiphon_base::ParticipantKey;

/// Grid of the immediate interval.
const FRAME: Duration = Duration::from_millis(20);
/// Sub-units of one frame (paper: sub-bands).
const N1: u8 = 13;
/// Frames in one medium interval.
const N2: usize = 5;
/// Medium intervals in the long one: one second.
const N3: usize = 10;
const RING: usize = N2 * N3;
/// A frame with more active sub-units than this is active.
const FRAME_THRESHOLD: u8 = 7;
/// A medium interval with at least this many active frames is active: four of five.
const MEDIUM_THRESHOLD: u8 = 4;
/// Parameters of the exponential law, per interval.
const LAMBDA: [f64; 3] = [0.78, 24.0, 47.0];
/// Scores must be positive, their logarithms are compared.
const MIN_SCORE: f64 = 1e-10;
/// Thresholds of the global decision, per interval.
const C1: f64 = 3.0;
const C2: f64 = 2.0;
const C3: f64 = 0.0;

/// dB of one sub-unit: speech some 24 dB above the noise makes a frame active.
const STEP_DB: f32 = 3.0;
/// The noise floor is looked for in this range of dBov. Below is digital silence; above, a steady sound is no noise.
const FLOOR: (f32, f32) = (-80.0, -50.0);
/// Floor of a microphone not heard yet: a quiet room.
const FLOOR_START: f32 = -65.0;
/// How fast the floor rises, per frame: 1 dB per second.
const FLOOR_RISE: f32 = 0.02;
/// Packets this far apart are neighbours (the longest Opus packet is 120 ms); beyond it there was silence (DTX).
const NEIGHBOURS: u64 = 6;

/// Long score (active medium intervals of the last second) with which one counts as talking.
const TALKING: u8 = 3;
/// A member silent for this long makes place for somebody who talks.
const YIELD: Duration = Duration::from_millis(600);
/// A member silent for this long leaves the set; the first stays.
const FORGET: Duration = Duration::from_secs(10);

/// Speech activity of one participant.
#[derive(Debug, Clone)]
struct Activity {
    /// Active sub-units per frame; position is the frame number modulo the length.
    frames: [u8; RING],
    head: u64,
    floor: f32,
    scores: [f64; 3],
    long: u8,
    /// When it was last found talking.
    talked: Option<Instant>,
}

impl Activity {
    fn new(head: u64) -> Self {
        Self { frames: [0; RING], head, floor: FLOOR_START, scores: [MIN_SCORE; 3], long: 0, talked: None }
    }

    /// Moves to frame `to`; frames between get `fill`.
    fn advance(&mut self, to: u64, fill: u8) {
        let missing = to.saturating_sub(self.head).min(RING as u64);
        for i in 0..missing {
            self.frames[at(to - i)] = fill;
        }
        self.head = self.head.max(to);
    }

    fn level(&mut self, frame: u64, level: u8, voice: bool) {
        let dbov = -f32::from(level.min(127));
        self.floor = dbov.min(self.floor + FLOOR_RISE).clamp(FLOOR.0, FLOOR.1);
        // A sender that says "no voice" needs to be clearly above the floor; WebRTC's detector is slow at onsets only.
        let above = dbov - self.floor - if voice { 0.0 } else { STEP_DB };
        let units = sub_units(above / STEP_DB);
        let near = frame.saturating_sub(self.head) <= NEIGHBOURS;
        if frame > self.head {
            self.advance(frame, if near { units } else { 0 });
        }
        let cell = &mut self.frames[at(frame)];
        *cell = (*cell).max(units);
    }

    /// Scores over the three intervals that end at the newest frame.
    fn evaluate(&mut self, now: Instant, frame: u64) {
        let gap = frame.saturating_sub(self.head);
        if gap > NEIGHBOURS {
            self.advance(frame, 0);
        }
        let newest = |n: usize| self.head.saturating_sub(n as u64);
        let immediate = self.frames[at(self.head)];
        let active = |block: usize| -> u8 {
            let frames = (0..N2).map(|i| self.frames[at(newest(block * N2 + i))]);
            frames.map(|units| u8::from(units > FRAME_THRESHOLD)).sum()
        };
        let medium = active(0);
        self.long = (0..N3).map(|block| u8::from(active(block) >= MEDIUM_THRESHOLD)).sum();
        self.scores = [
            speech_score(immediate, N1, LAMBDA[0]),
            speech_score(medium, 5, LAMBDA[1]),
            speech_score(self.long, 10, LAMBDA[2]),
        ];
        if self.long >= TALKING {
            self.talked = Some(now);
        }
    }
}

fn at(frame: u64) -> usize {
    usize::try_from(frame % RING as u64).unwrap_or(0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=13 before the cast"
)]
fn sub_units(units: f32) -> u8 {
    units.clamp(0.0, f32::from(N1)) as u8
}

/// `ln C(n, v) + v ln p + (n - v) ln (1 - p) - ln lambda + lambda v` with p = 1/2, at least [`MIN_SCORE`].
fn speech_score(v: u8, n: u8, lambda: f64) -> f64 {
    let (v, n) = (f64::from(v.min(n)), f64::from(n));
    let mut ln_choose = 0.0;
    let mut i = 1.0;
    while i <= v {
        ln_choose += ((n - v + i) / i).ln();
        i += 1.0;
    }
    (ln_choose + n * 0.5f64.ln() - lambda.ln() + lambda * v).max(MIN_SCORE)
}

/// The dominant speakers of a room. Bounded by the number of participants with a microphone.
#[derive(Debug)]
pub(crate) struct Dominance {
    base: Instant,
    size: usize,
    speakers: BTreeMap<ParticipantKey, Activity>,
    set: Vec<ParticipantKey>,
    /// For each that led: the count of lead changes at which it last did.
    led: BTreeMap<ParticipantKey, u64>,
    changes: u64,
}

impl Dominance {
    pub(crate) fn new(now: Instant, size: usize) -> Self {
        let (speakers, led) = (BTreeMap::new(), BTreeMap::new());
        Self { base: now, size, speakers, set: Vec::new(), led, changes: 0 }
    }

    /// The ordered set; the first leads.
    pub(crate) fn set(&self) -> &[ParticipantKey] {
        &self.set
    }

    /// When each led last, as a growing count.
    pub(crate) fn led(&self) -> &BTreeMap<ParticipantKey, u64> {
        &self.led
    }

    fn frame(&self, now: Instant) -> u64 {
        // Away from zero, so that a whole ring lies before the first frame.
        let frames = now.saturating_duration_since(self.base).as_millis() / FRAME.as_millis();
        u64::try_from(frames).unwrap_or(u64::MAX - 1_000) + RING as u64
    }

    /// The level of one packet of a microphone, -dBov.
    pub(crate) fn level(&mut self, now: Instant, key: ParticipantKey, level: u8, voice: bool) {
        let frame = self.frame(now);
        self.speakers.entry(key).or_insert_with(|| Activity::new(frame)).level(frame, level, voice);
    }

    /// The microphone is gone or muted. Its place in the set goes only with `leave`.
    pub(crate) fn remove(&mut self, key: ParticipantKey, leave: bool) -> bool {
        self.speakers.remove(&key);
        let before = self.set.len();
        if leave {
            self.led.remove(&key);
            self.set.retain(|k| *k != key);
        }
        self.set.len() != before
    }

    /// The global decision. True: the set changed.
    pub(crate) fn decide(&mut self, now: Instant) -> bool {
        let frame = self.frame(now);
        for activity in self.speakers.values_mut() {
            activity.evaluate(now, frame);
        }
        let before = self.set.clone();
        if let Some(leader) = self.challenger() {
            self.set.retain(|k| *k != leader);
            self.set.insert(0, leader);
            self.set.truncate(self.size);
            self.changes += 1;
            self.led.insert(leader, self.changes);
        }
        self.forget_silent(now);
        self.admit_talking(now);
        self.set != before
    }

    /// Who takes the lead.
    fn challenger(&self) -> Option<ParticipantKey> {
        let silent = [MIN_SCORE; 3];
        let first = self.set.first();
        let dominant = first.and_then(|key| self.speakers.get(key)).map_or(silent, |a| a.scores);
        let relevant = |a: &Activity| {
            let c = |i: usize| (a.scores[i] / dominant[i]).ln();
            (c(0) > C1 && c(1) > C2 && c(2) > C3).then(|| c(1))
        };
        let others = self.speakers.iter().filter(|(key, _)| Some(*key) != first);
        let scored = others.filter_map(|(key, a)| relevant(a).map(|c2| (c2, a.scores[2], *key)));
        let best = scored.reduce(|best, next| if (next.0, next.1) > (best.0, best.1) { next } else { best });
        best.map(|(_, _, key)| key)
    }

    fn silence(&self, now: Instant, key: ParticipantKey) -> Duration {
        let talked = self.speakers.get(&key).and_then(|a| a.talked);
        talked.map_or(FORGET, |at| now.saturating_duration_since(at))
    }

    fn forget_silent(&mut self, now: Instant) {
        let first = self.set.first().copied();
        let stays: Vec<ParticipantKey> = self
            .set
            .iter()
            .copied()
            .filter(|k| Some(*k) == first || self.silence(now, *k) < FORGET)
            .collect();
        self.set = stays;
    }

    fn admit_talking(&mut self, now: Instant) {
        let talks = |a: &Activity| a.talked == Some(now);
        let mut talking: Vec<(u8, ParticipantKey)> = self
            .speakers
            .iter()
            .filter(|(key, a)| talks(a) && !self.set.contains(key))
            .map(|(key, a)| (a.long, *key))
            .collect();
        talking.sort_by_key(|(long, key)| (std::cmp::Reverse(*long), *key));
        for (_, key) in talking {
            if self.set.len() < self.size {
                self.set.push(key);
                continue;
            }
            let members = self.set.iter().copied().enumerate().skip(1);
            let quietest = members.map(|(i, k)| (self.silence(now, k), i)).max();
            match quietest {
                Some((silence, i)) if silence >= YIELD => {
                    self.set.remove(i);
                    self.set.push(key);
                }
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::base;

    const SPEECH: u8 = 28;
    const NOISE: u8 = 75;

    /// Each line: from and to in ms, who speaks. Returns the changes: (ms, set).
    fn run(script: &[(u64, u64, u32)], speakers: u32, until: u64) -> Vec<(u64, Vec<u32>)> {
        let base = base();
        let mut dominance = Dominance::new(base, 4);
        let mut changes = Vec::new();
        for ms in (0..until).step_by(20) {
            let now = base + Duration::from_millis(ms);
            for key in 1..=speakers {
                let speaks = script.iter().any(|(from, to, who)| *who == key && (*from..*to).contains(&ms));
                let level = if speaks { SPEECH } else { NOISE };
                dominance.level(now, ParticipantKey(key), level, speaks);
            }
            if ms % 300 == 0 && dominance.decide(now) {
                changes.push((ms, dominance.set().iter().map(|k| k.0).collect()));
            }
        }
        changes
    }

    #[test]
    fn scores_grow_with_activity() {
        assert!(speech_score(0, N1, LAMBDA[0]) <= MIN_SCORE);
        assert!(speech_score(9, N1, LAMBDA[0]) > speech_score(6, N1, LAMBDA[0]));
        assert!((speech_score(5, 5, 24.0) - (5.0 * 0.5f64.ln() - 24.0f64.ln() + 120.0)).abs() < 1e-9);
    }

    #[test]
    fn alternating_speakers_take_the_lead_in_turn() {
        let changes = run(&[(0, 3000, 1), (3000, 6000, 2), (6000, 9000, 1)], 3, 9000);
        let leads: Vec<u32> = changes.iter().map(|(_, set)| set[0]).collect();
        assert_eq!(leads.first(), Some(&1));
        assert_eq!(leads.last(), Some(&1));
        assert!(leads.contains(&2));
        let first_of_2 = changes.iter().find(|(_, set)| set[0] == 2).unwrap().0;
        assert!((3000..=4200).contains(&first_of_2), "{changes:?}");
        assert!(!leads.contains(&3));
    }

    #[test]
    fn a_cough_does_not_take_the_lead() {
        let changes = run(&[(0, 10_000, 1), (4000, 4100, 2)], 2, 10_000);
        assert_eq!(changes, [(300, vec![1])].to_vec(), "{changes:?}");
    }

    #[test]
    fn an_interjection_while_the_first_speaks_enters_the_set_behind() {
        let changes = run(&[(0, 10_000, 1), (4000, 6000, 2)], 2, 9000);
        assert_eq!(changes.last().unwrap().1, [1, 2], "{changes:?}");
    }

    #[test]
    fn six_speakers_in_turn_keep_the_set_at_four() {
        let script: Vec<(u64, u64, u32)> =
            (0..6u32).map(|i| (u64::from(i) * 2000, u64::from(i) * 2000 + 2000, i + 1)).collect();
        let changes = run(&script, 6, 12_300);
        let last = &changes.last().unwrap().1;
        assert_eq!(last.len(), 4);
        assert_eq!(last[0], 6);
        assert!(!last.contains(&1) && !last.contains(&2), "{changes:?}");
    }

    #[test]
    fn silence_after_speech_keeps_the_first_and_forgets_the_others() {
        let changes = run(&[(0, 3000, 1), (3000, 6000, 2)], 2, 20_000);
        assert_eq!(changes.last().unwrap().1, [2], "{changes:?}");
    }

    #[test]
    fn long_packets_and_dtx_count_as_they_sound() {
        let base = base();
        let mut dominance = Dominance::new(base, 4);
        for ms in (0..1500).step_by(60) {
            dominance.level(base + Duration::from_millis(ms), ParticipantKey(1), SPEECH, true);
        }
        dominance.level(base + Duration::from_millis(1500), ParticipantKey(2), NOISE, false);
        assert!(dominance.decide(base + Duration::from_millis(1500)));
        assert_eq!(dominance.set(), [ParticipantKey(1)]);
        dominance.decide(base + Duration::from_millis(4000));
        assert_eq!(dominance.speakers[&ParticipantKey(1)].long, 0);
    }
}
