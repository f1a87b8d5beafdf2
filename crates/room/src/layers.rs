//! What of each track the slots of one subscriber are to get: by the heights of its tiles and the frame rate it asks
//! for, and by priority where its bandwidth does not carry all of that.
//!
//! Voices come first. Of each video the lowest is served before any is raised: screens, then pins and dominant speakers,
//! then others; then screens are raised to their top, then pins and dominant speakers in turns, step by step, then
//! others. A video of which not even the lowest fits is not served ([`crate::shed`]).

use std::time::Instant;

use antiphon_base::TrackKey;
use antiphon_wire::whep::Selection;

use crate::allocate::{Allocation, Pace, Video};
use crate::assign::Assignment;
use crate::ladder::{Caps, ladder, present};
use crate::output::Feed;
use crate::participant::{Participant, Role, SlotState};
use crate::rates::assumed_bps;
use crate::scene::{Scene, SceneTrack};

/// What a voice costs until it was measured: Opus with its headers.
const AUDIO_BPS: u64 = 50_000;
/// What a silent one may cost at any moment.
const MIN_AUDIO_BPS: u64 = 20_000;
/// Asked for beyond the demand, so that an estimate that is a little low still lets the last step be taken.
const DEMAND_PERCENT: u64 = 105;

/// What one slot is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Target {
    pub(crate) feed: Option<Feed>,
    /// The highest temporal layer; `None`: all.
    pub(crate) temporal: Option<u8>,
    /// It is the lowest there is, and this is what it may take, which is less than it does.
    pub(crate) squeezed: Option<u64>,
}

/// What all slots are to get.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) targets: Vec<Target>,
    /// Bits per second if nothing limited them: what is wanted, served or not; 0 where that is voices only.
    pub(crate) demand: u64,
    pub(crate) pace: Pace,
    /// Videos that were to be served, and those that are.
    pub(crate) videos: (usize, usize),
    /// The bandwidth keeps something below its top.
    pub(crate) tight: bool,
    /// Look again then, even if nothing happens.
    pub(crate) wake: Option<Instant>,
}

/// All caps for `track` in `slot`.
fn caps(p: &Participant, slot: &SlotState, track: &SceneTrack) -> Caps {
    let chosen = slot.selection.as_deref();
    let layer = chosen.and_then(|chosen| match track.nested {
        true => chosen.spatial(),
        false => chosen.encoding_id.as_deref().and_then(|name| track.layer_named(name)),
    });
    Caps {
        height: cap(p, slot, track),
        frame_rate: p.policy.max_frame_rate,
        layer,
        temporal: chosen.and_then(Selection::temporal),
    }
}

/// The lowest of the heights for `track` in `slot`.
pub(crate) fn cap(p: &Participant, slot: &SlotState, track: &SceneTrack) -> Option<u16> {
    let of =
        |pin: &&antiphon_wire::control::Pin| pin.participant == track.owner && pin.source == track.key.source;
    let pin = p.policy.pins.iter().find(of);
    let tile = p.policy.slot_heights.get(&slot.mid).copied();
    let chosen = slot.selection.as_deref().and_then(|chosen| chosen.max_height);
    let all = [p.policy.max_height, tile, pin.and_then(|pin| pin.max_height), chosen];
    all.into_iter().flatten().min()
}

/// A target for each slot of the assignment. `alone`: nobody but `p` watches this track.
pub(crate) fn choose(
    p: &Participant,
    scene: &Scene,
    assignment: &Assignment,
    now: Instant,
    alone: impl Fn(TrackKey) -> bool,
) -> Choice {
    let mut choice =
        Choice { targets: vec![Target::default(); p.slots.len()], pace: p.pace, ..Choice::default() };
    let mut audio = 0;
    for (i, (slot, track)) in p.slots.iter().zip(&assignment.tracks).enumerate() {
        let Some(track) = track.filter(|_| slot.role == Role::Audio).and_then(|t| scene.tracks.get(&t))
        else {
            continue;
        };
        let rates = &track.rates[0];
        audio += if rates.known() { rates.cost(0).max(MIN_AUDIO_BPS) } else { AUDIO_BPS };
        choice.targets[i].feed = Some(Feed { track: track.key, layer: 0 });
    }
    let mut videos = videos(p, scene, assignment, alone);
    match p.bandwidth {
        Some(bandwidth) => Allocation::new(bandwidth, audio, now, &mut choice).run(&mut videos),
        None => {
            for video in &mut videos {
                (video.served, video.at) = (true, video.ladder.len() - 1);
            }
            choice.pace = Pace::default();
        }
    }
    for video in videos.iter().filter(|v| v.served) {
        let (point, target) = (video.ladder[video.at], &mut choice.targets[video.slot]);
        target.feed = Some(Feed { track: video.track, layer: point.layer });
        target.temporal = point.temporal;
    }
    choice.videos = (videos.len(), videos.iter().filter(|v| v.served).count());
    choice.demand = demand(audio, &videos, &choice.targets, scene);
    choice
}

fn videos(
    p: &Participant,
    scene: &Scene,
    assignment: &Assignment,
    alone: impl Fn(TrackKey) -> bool,
) -> Vec<Video> {
    let mut videos = Vec::new();
    for &(slot, tier) in &assignment.priority {
        let (Some(state), Some(Some(track))) = (p.slots.get(slot), assignment.tracks.get(slot)) else {
            continue;
        };
        let Some(track) = scene.tracks.get(track) else { continue };
        let ladder = ladder(track, caps(p, state, track));
        let shown = state.desired.filter(|f| f.track == track.key);
        let present = shown.and_then(|f| present(&ladder, f.layer, state.temporal));
        let elastic = track.told && alone(track.key);
        let lowest = ladder.first().map_or(0, |p| p.layer);
        let squeezed = state.squeezed.filter(|_| shown.is_some()).map(|_| assumed_bps(track.height(lowest)));
        videos.push(Video {
            slot,
            track: track.key,
            tier,
            ladder,
            present,
            elastic,
            squeezed,
            served: false,
            at: 0,
        });
    }
    videos.retain(|v| !v.ladder.is_empty());
    videos
}

/// What the tops cost. A layer that is not sent now, or was told to be small, is worth what such layers are.
fn demand(audio: u64, videos: &[Video], targets: &[Target], scene: &Scene) -> u64 {
    let mut bps = audio;
    for video in videos {
        let (Some(top), Some(track)) = (video.ladder.last(), scene.tracks.get(&video.track)) else {
            continue;
        };
        let squeezed = targets[video.slot].squeezed.is_some();
        let full = if track.flows(top.layer) && !squeezed { 0 } else { assumed_bps(track.height(top.layer)) };
        bps += top.bps.max(full) * DEMAND_PERCENT / 100;
    }
    if videos.is_empty() { 0 } else { bps }
}
