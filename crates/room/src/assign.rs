//! Who stands in which slot of one subscriber: a pure function of the scene, the policy, and what stands there now.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use antiphon_base::{ParticipantKey, Source, TrackKey};
use antiphon_wire::control::Follow;

use crate::participant::{Participant, Role, SlotState};
use crate::scene::Scene;

/// A voice must be louder than the quietest heard one by this ...
const LOUDER_DB: f32 = 3.0;
/// ... for this long to take its slot: longer than a syllable.
pub(crate) const HOLD: Duration = Duration::from_millis(300);

/// Who gets bandwidth first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    Screen,
    /// Pinned, or leading the conversation.
    Leading,
    Other,
}

/// What shall stand in the slots.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    /// One for each slot, in the order of the plan.
    pub(crate) tracks: Vec<Option<TrackKey>>,
    /// Positions of slots with a video, the most important first: who gets bandwidth first.
    pub(crate) priority: Vec<(usize, Tier)>,
    /// Videos that would be shown if the server did not cap their number.
    pub(crate) wanted: usize,
    /// New value of [`Participant::contested`].
    pub(crate) contested: Option<Instant>,
}

/// Assigns all slots of `p`, with at most `cap` videos.
pub(crate) fn assign(p: &Participant, scene: &Scene, now: Instant, cap: Option<usize>) -> Assignment {
    let audio_len = p.slots.iter().filter(|s| s.role == Role::Audio).count();
    let video_len = p.slots.iter().filter(|s| s.role == Role::Video).count();
    let (audio_slots, rest) = p.slots.split_at(audio_len);
    let (video_slots, screen_slot) = rest.split_at(video_len);

    let mut screen = screen_slot.first().and_then(|_| screen(p, scene));
    let mut shown = videos(p, scene, video_slots, screen, usize::MAX);
    let wanted = shown.len() + usize::from(screen.is_some());
    if let Some(cap) = cap.filter(|cap| *cap < wanted) {
        screen = screen.filter(|_| cap > 0);
        shown = videos(p, scene, video_slots, screen, cap - usize::from(screen.is_some()));
    }
    let (heard, contested) = audio(p, scene, audio_slots, now);

    let companion = |slots: &[SlotState]| -> Vec<Option<ParticipantKey>> {
        slots.iter().map(|s| s.routed.map(|f| f.track.participant)).collect()
    };
    let video = place(&shown, video_slots, &companion(audio_slots));
    let video_owners: Vec<_> = video.iter().map(|t| t.map(|t| t.participant)).collect();
    let audio = place(&heard, audio_slots, &video_owners);

    let mut priority: Vec<(usize, Tier)> =
        screen.iter().map(|_| (audio_len + video_len, Tier::Screen)).collect();
    let pins = pinned(p, scene);
    let at = |track: &TrackKey| {
        let slot = video.iter().position(|v| v.as_ref() == Some(track))?;
        Some((audio_len + slot, tier(scene, &pins, *track)))
    };
    priority.extend(shown.iter().filter_map(at));
    priority.sort_by_key(|(_, tier)| *tier);
    let mut tracks = audio;
    tracks.extend(video);
    tracks.extend(screen_slot.iter().map(|_| screen));
    Assignment { tracks, priority, wanted, contested }
}

fn tier(scene: &Scene, pins: &[TrackKey], track: TrackKey) -> Tier {
    if track.source == Source::Screen {
        Tier::Screen
    } else if pins.contains(&track) || scene.dominant.contains(&track.participant) {
        Tier::Leading
    } else {
        Tier::Other
    }
}

fn pinned(p: &Participant, scene: &Scene) -> Vec<TrackKey> {
    let mut pins = Vec::new();
    for pin in &p.policy.pins {
        let Some(&participant) = scene.by_id.get(&pin.participant) else { continue };
        let track = TrackKey { participant, source: pin.source };
        let video = matches!(pin.source, Source::Camera | Source::Screen);
        if video && scene.eligible(p, track).is_some() && !pins.contains(&track) {
            pins.push(track);
        }
    }
    pins
}

/// For the screen slot: a pinned screen, else the latest.
fn screen(p: &Participant, scene: &Scene) -> Option<TrackKey> {
    let pin = pinned(p, scene).into_iter().find(|t| t.source == Source::Screen);
    let latest = || scene.screens.iter().copied().find(|t| scene.eligible(p, *t).is_some());
    pin.or_else(|| if p.policy.follow == Follow::None { None } else { latest() })
}

/// For the video slots, the most important first, at most `cap`.
fn videos(
    p: &Participant,
    scene: &Scene,
    slots: &[SlotState],
    screen_slot: Option<TrackKey>,
    cap: usize,
) -> Vec<TrackKey> {
    let limit = p.policy.max_videos.map_or(slots.len(), |max| slots.len().min(usize::from(max))).min(cap);
    let mut shown: Vec<TrackKey> = pinned(p, scene);
    shown.retain(|t| Some(*t) != screen_slot);
    shown.truncate(limit);
    if p.policy.follow == Follow::None {
        return shown;
    }
    let screens: Vec<TrackKey> =
        scene.screens.iter().copied().filter(|t| scene.eligible(p, *t).is_some()).collect();
    let add = |shown: &mut Vec<TrackKey>, tracks: &[TrackKey]| {
        for track in tracks {
            if shown.len() < limit && !shown.contains(track) && Some(*track) != screen_slot {
                shown.push(*track);
            }
        }
    };
    if screen_slot.is_none() {
        add(&mut shown, screens.get(..1).unwrap_or(&[]));
    }
    let free = limit - shown.len();
    let wanted: Vec<TrackKey> = match p.policy.follow {
        Follow::Joined => cameras(p, scene, &shown).take(free).collect(),
        _ => dominant(p, scene, slots, &shown, free),
    };
    add(&mut shown, &wanted);
    add(&mut shown, &screens);
    shown
}

fn cameras<'a>(
    p: &'a Participant,
    scene: &'a Scene,
    taken: &'a [TrackKey],
) -> impl Iterator<Item = TrackKey> + 'a {
    let free = move |t: &TrackKey| !taken.contains(t) && scene.eligible(p, *t).is_some();
    scene.cameras.iter().copied().filter(free)
}

/// Follows the dominant speakers with hysteresis: who is shown stays, and is displaced only by a leader who is not;
/// then the one goes who has not led for longest.
fn dominant(
    p: &Participant,
    scene: &Scene,
    slots: &[SlotState],
    taken: &[TrackKey],
    free: usize,
) -> Vec<TrackKey> {
    let eligible = |t: &TrackKey| !taken.contains(t) && scene.eligible(p, *t).is_some();
    let camera = |key: &ParticipantKey| TrackKey { participant: *key, source: Source::Camera };
    let leaders: Vec<TrackKey> = scene.dominant.iter().map(camera).filter(eligible).take(free).collect();
    let occupants = slots.iter().filter_map(|s| s.routed).map(|f| f.track);
    let mut keep: Vec<TrackKey> = occupants.filter(|t| t.source == Source::Camera && eligible(t)).collect();
    let least = |keep: &[TrackKey]| {
        let led = |t: &TrackKey| scene.led.get(&t.participant).copied().unwrap_or(0);
        let candidates = keep.iter().enumerate().filter(|(_, t)| !leaders.contains(t));
        candidates.min_by_key(|(_, t)| (led(t), Reverse(t.participant))).map(|(i, _)| i)
    };
    while keep.len() > free {
        let Some(victim) = least(&keep) else { break };
        keep.remove(victim);
    }
    for leader in &leaders {
        if keep.contains(leader) {
            continue;
        }
        if keep.len() >= free {
            let Some(victim) = least(&keep) else { break };
            keep.remove(victim);
        }
        keep.push(*leader);
    }
    let others: Vec<TrackKey> = cameras(p, scene, taken)
        .filter(|t| !keep.contains(t))
        .take(free.saturating_sub(keep.len()))
        .collect();
    // Leaders first: they get bandwidth first.
    let mut order = leaders;
    order.extend(keep.iter().copied().filter(|t| !order.contains(t)).collect::<Vec<_>>());
    order.extend(others);
    order.truncate(free);
    order
}

/// Who is heard: all where there are slots for all; else screen sound and the loudest, with hysteresis.
fn audio(
    p: &Participant,
    scene: &Scene,
    slots: &[SlotState],
    now: Instant,
) -> (Vec<TrackKey>, Option<Instant>) {
    let eligible = |t: &TrackKey| scene.eligible(p, *t).is_some();
    let top: Vec<TrackKey> = scene.audio.iter().copied().filter(eligible).take(slots.len() + 1).collect();
    if top.len() <= slots.len() {
        return (top, None);
    }
    let top = &top[..slots.len()];
    let occupants = slots.iter().filter_map(|s| s.routed).map(|f| f.track);
    let mut keep: Vec<TrackKey> = occupants.filter(eligible).collect();
    let mut contested = None;
    for challenger in top {
        if keep.contains(challenger) {
            continue;
        }
        if keep.len() < slots.len() {
            keep.push(*challenger);
            continue;
        }
        let Some(weakest) = weakest(scene, &keep) else { break };
        let (c, w) = (&scene.tracks[challenger], &scene.tracks[&keep[weakest]]);
        let first = challenger.source == Source::ScreenAudio;
        let louder = c.audible && c.loud >= w.loud + LOUDER_DB;
        if !first && !louder {
            continue;
        }
        let since = p.contested.unwrap_or(now);
        if first || !w.audible || now.saturating_duration_since(since) >= HOLD {
            keep[weakest] = *challenger;
        } else {
            contested = Some(since);
        }
    }
    (keep, contested)
}

/// Position of the quietest voice; the sound of a screen is never displaced.
fn weakest(scene: &Scene, keep: &[TrackKey]) -> Option<usize> {
    let voices = keep.iter().enumerate().filter(|(_, t)| t.source != Source::ScreenAudio);
    voices.min_by(|a, b| scene.tracks[a.1].loud.total_cmp(&scene.tracks[b.1].loud)).map(|(i, _)| i)
}

/// Puts tracks into slots: who is there stays; a newcomer prefers the slot whose companion (the slot of the other kind
/// with the same number, hence the same msid) carries the same participant, then its own old slot, then one without
/// a companion.
fn place(
    tracks: &[TrackKey],
    slots: &[SlotState],
    companions: &[Option<ParticipantKey>],
) -> Vec<Option<TrackKey>> {
    let mut placed: Vec<Option<TrackKey>> =
        slots.iter().map(|s| s.routed.map(|f| f.track).filter(|t| tracks.contains(t))).collect();
    // A track stands in one slot only.
    let mut seen: BTreeMap<TrackKey, ()> = BTreeMap::new();
    for entry in &mut placed {
        if entry.is_some_and(|t| seen.insert(t, ()).is_some()) {
            *entry = None;
        }
    }
    for track in tracks {
        if seen.contains_key(track) {
            continue;
        }
        let score = |i: usize| {
            let companion = companions.get(i).copied().flatten();
            let same = companion == Some(track.participant);
            (same, slots[i].last == Some(*track), companion.is_none(), Reverse(i))
        };
        let free = (0..slots.len()).filter(|i| placed[*i].is_none());
        if let Some(i) = free.max_by_key(|i| score(*i)) {
            placed[i] = Some(*track);
            seen.insert(*track, ());
        }
    }
    placed
}
