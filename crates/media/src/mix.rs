//! N-minus-one mixing, 20 ms at a time: each listener hears the chosen participants except itself.
//!
//! A mix is the exact sum of its named inputs, saturated to 16 bits: no gain, no clipping curve, so that a test
//! (and a user) can reproduce it. Listeners whose sets of inputs are equal share one mix, which is summed once
//! and, by the caller, encoded once.

use std::collections::HashMap;
use std::sync::Arc;

use antiphon_base::{ParticipantKey, SpeakerLevel};

/// The most inputs of one tick. As many as a room may have publishers.
pub const MAX_INPUTS: usize = 1024;

/// How many of the ranked participants the default mix has.
pub const DOMINANT: usize = 4;

/// The level that RFC 6464 calls silence.
pub const SILENCE_DBOV: u8 = 127;

/// The level of a frame by RFC 6464, 3: the RMS in -dBov, where 0 is a full-scale square wave and 127 is silence.
pub fn level_dbov(samples: &[i16]) -> u8 {
    if samples.is_empty() {
        return SILENCE_DBOV;
    }
    let energy: u64 = samples.iter().map(|s| u64::from(s.unsigned_abs()).pow(2)).sum();
    #[expect(clippy::cast_precision_loss, reason = "a level has two digits")]
    let mean = energy as f64 / samples.len() as f64 / f64::from(32_768 * 32_768);
    if mean <= 0.0 {
        return SILENCE_DBOV;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=127")]
    let level = (-10.0 * mean.log10()).round().clamp(0.0, 127.0) as u8;
    level
}

/// One participant's frame of this tick. Participants who are silent or absent need not be given.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Whose.
    pub participant: ParticipantKey,
    /// The frame: all inputs of a tick have the same rate and length. A participant with two sources (microphone,
    /// screen audio) gives two inputs.
    pub samples: &'a [i16],
    /// Its level ([`level_dbov`]).
    pub level: u8,
}

/// Whom a listener hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Selection {
    /// The [`DOMINANT`] first of the ranking, the listener not counted.
    #[default]
    Dominant,
    /// Everybody.
    All,
}

/// Who listens, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Who is left out of the mix: the listener itself. `None` for one that publishes nothing.
    pub participant: Option<ParticipantKey>,
    /// Whom it hears.
    pub selection: Selection,
}

/// What one listener, or several with equal sets, hear in one tick.
#[derive(Debug, PartialEq, Eq)]
pub struct Mix {
    /// The sum.
    pub samples: Arc<[i16]>,
    /// Whose voices are in it, loudest first. Inputs at level 127 are summed but not named.
    pub speakers: Vec<SpeakerLevel>,
    /// Every participant in the sum, in ascending order: equal sets share a mix.
    pub inputs: Vec<ParticipantKey>,
}

/// Mixes one tick: one mix per listener, in the listeners' order, shared between listeners with equal sets.
///
/// `ranking` is the room's order of dominance, the most dominant first; participants missing from it come after
/// those in it, by level. Inputs of another length than `frame_len` and those past [`MAX_INPUTS`] are left out
/// (the first must not happen, the second is the room's own limit).
pub fn mix(
    frame_len: usize,
    inputs: &[Input<'_>],
    ranking: &[ParticipantKey],
    listeners: &[Listener],
) -> Vec<Arc<Mix>> {
    let inputs: Vec<_> = inputs.iter().filter(|i| i.samples.len() == frame_len).take(MAX_INPUTS).collect();
    let order = rank(&inputs, ranking);
    let mut made: HashMap<Vec<ParticipantKey>, Arc<Mix>> = HashMap::new();
    let for_listener = |listener: &Listener| {
        let others = order.iter().copied().filter(|p| Some(*p) != listener.participant);
        let mut set: Vec<_> = match listener.selection {
            Selection::Dominant => others.take(DOMINANT).collect(),
            Selection::All => others.collect(),
        };
        set.sort_unstable();
        let made = made.entry(set).or_insert_with_key(|set| Arc::new(sum(frame_len, &inputs, set)));
        Arc::clone(made)
    };
    listeners.iter().map(for_listener).collect()
}

/// The participants of this tick, most dominant first.
fn rank(inputs: &[&Input<'_>], ranking: &[ParticipantKey]) -> Vec<ParticipantKey> {
    let place: HashMap<_, _> = ranking.iter().enumerate().map(|(n, p)| (*p, n)).collect();
    let mut order: Vec<_> = inputs
        .iter()
        .map(|i| (place.get(&i.participant).copied().unwrap_or(usize::MAX), i.level, i.participant))
        .collect();
    order.sort_unstable();
    let mut seen = std::collections::HashSet::new();
    order.into_iter().map(|(_, _, p)| p).filter(|p| seen.insert(*p)).collect()
}

fn sum(frame_len: usize, inputs: &[&Input<'_>], set: &[ParticipantKey]) -> Mix {
    let chosen = || inputs.iter().filter(|i| set.binary_search(&i.participant).is_ok());
    let mut sums = vec![0i32; frame_len];
    let mut levels: HashMap<ParticipantKey, u8> = HashMap::new();
    for input in chosen() {
        for (sum, sample) in sums.iter_mut().zip(input.samples) {
            *sum += i32::from(*sample);
        }
        let level = levels.entry(input.participant).or_insert(SILENCE_DBOV);
        *level = input.level.min(*level);
    }
    let mut speakers: Vec<_> = levels
        .into_iter()
        .filter(|(_, level)| *level < SILENCE_DBOV)
        .map(|(participant, level)| SpeakerLevel { participant, level })
        .collect();
    speakers.sort_unstable_by_key(|s| (s.level, s.participant));
    let saturate = |sum: i32| {
        i16::try_from(sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX))).expect("clamped to i16")
    };
    Mix { samples: sums.into_iter().map(saturate).collect(), speakers, inputs: set.to_vec() }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::synth::Tone;

    fn key(n: u32) -> ParticipantKey {
        ParticipantKey(n)
    }

    fn listener(n: u32, selection: Selection) -> Listener {
        Listener { participant: Some(key(n)), selection }
    }

    #[test]
    fn each_mix_is_the_reference_sum_of_its_named_inputs() {
        let mut rng = StdRng::seed_from_u64(7);
        for round in 0..200 {
            let count = rng.random_range(0..12u32);
            let frames: Vec<Vec<i16>> =
                (0..count).map(|_| (0..320).map(|_| rng.random_range(-12_000..12_000)).collect()).collect();
            let inputs: Vec<_> = (1..)
                .zip(&frames)
                .map(|(n, f)| Input { participant: key(n), samples: f, level: level_dbov(f) })
                .collect();
            let mut ranking: Vec<_> = (1..=count).map(key).collect();
            ranking.rotate_left(round % count.max(1) as usize);
            let listeners: Vec<_> = (1..=count + 1)
                .map(|n| listener(n, if n % 2 == 0 { Selection::All } else { Selection::Dominant }))
                .collect();
            for (l, mixed) in listeners.iter().zip(mix(320, &inputs, &ranking, &listeners)) {
                let want: Vec<_> = ranking.iter().copied().filter(|p| Some(*p) != l.participant).collect();
                let want = if l.selection == Selection::All { &want[..] } else { &want[..want.len().min(4)] };
                assert_eq!(mixed.inputs.len(), want.len());
                assert!(want.iter().all(|p| mixed.inputs.contains(p)));
                for (t, got) in mixed.samples.iter().enumerate() {
                    let sum: i32 = mixed.inputs.iter().map(|p| i32::from(frames[p.0 as usize - 1][t])).sum();
                    assert_eq!(i32::from(*got), sum.clamp(-32_768, 32_767), "sample {t}");
                }
            }
        }
    }

    #[test]
    fn equal_sets_share_one_mix() {
        let (a, b) = ([1000i16; 4], [2000i16; 4]);
        let inputs = [
            Input { participant: key(1), samples: &a, level: 30 },
            Input { participant: key(2), samples: &b, level: 20 },
        ];
        let listeners =
            [listener(1, Selection::All), listener(8, Selection::All), listener(9, Selection::Dominant)];
        let mixes = mix(4, &inputs, &[], &listeners);
        assert_eq!(*mixes[0].samples, b);
        assert!(Arc::ptr_eq(&mixes[1], &mixes[2]));
        let levels: Vec<_> = mixes[1].speakers.iter().map(|s| (s.participant.0, s.level)).collect();
        assert_eq!(levels, [(2, 20), (1, 30)]);
    }

    #[test]
    fn without_a_ranking_the_loudest_four_are_mixed() {
        let frame = [100i16; 4];
        let inputs: Vec<_> =
            (1u8..=6).map(|n| Input { participant: key(n.into()), samples: &frame, level: 10 * n }).collect();
        let mixes =
            mix(4, &inputs, &[key(6)], &[Listener { participant: None, selection: Selection::Dominant }]);
        assert_eq!(mixes[0].inputs, [key(1), key(2), key(3), key(6)]);
    }

    #[test]
    fn an_empty_room_is_silent_and_two_sources_of_one_are_both_heard() {
        let none = mix(4, &[], &[], &[listener(1, Selection::All)]);
        assert_eq!((&none[0].samples[..], none[0].speakers.len()), (&[0i16; 4][..], 0));
        let (voice, screen, short) = ([5i16; 4], [7i16; 4], [9i16; 3]);
        let inputs =
            [&voice[..], &screen, &short].map(|samples| Input { participant: key(2), samples, level: 40 });
        let both = mix(4, &inputs, &[], &[listener(1, Selection::All)]);
        assert_eq!((&both[0].samples[..], both[0].speakers.len()), (&[12i16; 4][..], 1));
    }

    #[test]
    fn levels_are_those_of_rfc_6464() {
        assert_eq!(level_dbov(&[]), 127);
        assert_eq!(level_dbov(&[0; 320]), 127);
        assert_eq!(level_dbov(&[i16::MIN; 320]), 0);
        assert_eq!(level_dbov(&[1; 320]), 90);
        let mut tone = Vec::new();
        Tone::new(16_000, 400.0, 0.0).append(320, &mut tone);
        assert_eq!(level_dbov(&tone), 3);
    }
}
