//! Which layer of a track a slot shows: by the height of its tile, capped by the subscriber's bandwidth.

use antiphon_base::TrackKey;

use crate::assign::Assignment;
use crate::output::Feed;
use crate::participant::{Participant, Role, SlotState};
use crate::scene::{Scene, SceneTrack};

/// What a voice costs: Opus with its headers.
const AUDIO_BPS: u64 = 50_000;
/// A layer that is routed is kept while the estimate is this share of what it costs, in percent: two decreases of
/// congestion control (85 % each), as a key frame on a line just wide enough brings them about, cost no layer; a line
/// that has really narrowed brings about the third within a second. To raise a layer takes all of its cost.
const KEEP_PERCENT: u64 = 70;

/// Bits per second assumed for a layer of this height: what browsers send by default for simulcast cameras.
pub(crate) fn assumed_bps(height: u16) -> u64 {
    match height {
        0..=240 => 150_000,
        241..=480 => 500_000,
        481..=800 => 1_700_000,
        _ => 3_500_000,
    }
}

/// The lowest of the caps for `track` in `slot`.
fn cap(p: &Participant, slot: &SlotState, track: TrackKey, owner: &SceneTrack) -> Option<u16> {
    let pin = p.policy.pins.iter().find(|pin| pin.participant == owner.owner && pin.source == track.source);
    let tile = p.policy.slot_heights.get(&slot.mid).copied();
    [p.policy.max_height, tile, pin.and_then(|pin| pin.max_height)].into_iter().flatten().min()
}

/// A feed for each slot of the assignment, and what they would cost in bits per second if nothing limited them: 0 where
/// there is no layer to choose.
pub(crate) fn choose(p: &Participant, scene: &Scene, assignment: &Assignment) -> (Vec<Option<Feed>>, u64) {
    let mut feeds: Vec<Option<Feed>> = Vec::with_capacity(p.slots.len());
    for (slot, track) in p.slots.iter().zip(&assignment.tracks) {
        let found = track.and_then(|t| scene.tracks.get(&t));
        feeds.push(found.map(|t| match slot.role {
            Role::Audio => Feed { track: t.key, layer: 0 },
            Role::Video | Role::Screen => t.feed_below(cap(p, slot, t.key, t)),
        }));
    }
    let demand = demand(p, scene, &feeds);
    if let Some(bps) = p.bandwidth {
        fit(p, scene, &assignment.priority, bps, &mut feeds);
    }
    (feeds, demand)
}

fn demand(p: &Participant, scene: &Scene, feeds: &[Option<Feed>]) -> u64 {
    let (mut bps, mut choice) = (0, false);
    for (slot, feed) in p.slots.iter().zip(feeds) {
        let Some((feed, track)) = feed.and_then(|f| Some((f, scene.tracks.get(&f.track)?))) else { continue };
        if slot.role == Role::Audio {
            bps += AUDIO_BPS;
        } else {
            bps += assumed_bps(track.height(feed.layer));
            choice |= track.live().any(|layer| layer < feed.layer);
        }
    }
    if choice { bps } else { 0 }
}

/// Lowers layers until they fit: all start at their lowest, then the most important is raised first, step by step.
/// A layer that is routed now is kept with a little less, so that a slot does not flap at the edge.
fn fit(p: &Participant, scene: &Scene, priority: &[usize], bps: u64, feeds: &mut [Option<Feed>]) {
    let audio = p.slots.iter().zip(feeds.iter()).filter(|(s, f)| s.role == Role::Audio && f.is_some());
    let mut spent = AUDIO_BPS * u64::try_from(audio.count()).unwrap_or(u64::MAX);
    let mut steps: Vec<(usize, Vec<u8>)> = Vec::new();
    for &i in priority {
        let Some(feed) = feeds.get(i).copied().flatten() else { continue };
        let Some(track) = scene.tracks.get(&feed.track) else { continue };
        let live: Vec<u8> = track.live().filter(|l| *l <= feed.layer).collect();
        let lowest = live.first().copied().unwrap_or(feed.layer);
        spent += assumed_bps(track.height(lowest));
        feeds[i] = Some(Feed { layer: lowest, ..feed });
        steps.push((i, live));
    }
    let rounds = steps.iter().map(|(_, live)| live.len()).max().unwrap_or(0);
    for round in 1..rounds {
        for (i, live) in &steps {
            let (Some(&layer), Some(feed)) = (live.get(round), feeds[*i]) else { continue };
            let Some(track) = scene.tracks.get(&feed.track) else { continue };
            if live.get(round - 1) != Some(&feed.layer) {
                continue;
            }
            let more = assumed_bps(track.height(layer)).saturating_sub(assumed_bps(track.height(feed.layer)));
            let now = p.slots[*i].routed.filter(|f| f.track == feed.track).map(|f| f.layer);
            let percent = if now.is_some_and(|n| n >= layer) { KEEP_PERCENT } else { 100 };
            if (spent + more).saturating_mul(percent) <= bps.saturating_mul(100) {
                spent += more;
                feeds[*i] = Some(Feed { layer, ..feed });
            }
        }
    }
}
