//! How much a publisher without control channel shall send, by what is watched of it: said by REMB, which knows one number
//! only. What is watched is never short of it: whose highest layer somebody watches has no bound.

use antiphon_base::{MediaKind, Source};

use crate::output::MAX_LAYERS;
use crate::participant::{Media, Participant, SourceState};
use crate::rates::assumed_bps;
use crate::scene::heights;

/// For video, watched or not: an encoder goes on with its lowest layer, so its track does not end for silence, a key frame
/// is there at once, and what comes back begins with a picture.
const FLOOR_BPS: u64 = 150_000;
/// For each voice, at least.
const AUDIO_BPS: u64 = 100_000;
/// Of the most that was measured, or is assumed, in percent: key frames, retransmissions, an encoder that overshoots.
const HEADROOM_PERCENT: u64 = 150;
/// Bounds that differ by less, in percent, are not told.
const NOISE_PERCENT: u64 = 10;

/// Bits per second of all that `p` sends; `None`: no bound.
pub(crate) fn bound(p: &Participant) -> Option<u64> {
    let (mut video, mut bps) = (false, FLOOR_BPS);
    for source in Source::ALL {
        let state = &p.sources[source.index()];
        let Some(media) = state.media.as_ref().filter(|_| state.listed()) else { continue };
        if source.kind() == MediaKind::Audio {
            bps += with_headroom(media.peaks[0]).max(AUDIO_BPS);
        } else {
            video = true;
            bps += watched(state, media)?;
        }
    }
    video.then_some(bps)
}

/// A bound that is worth telling.
pub(crate) fn differs(old: Option<u64>, new: Option<u64>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.abs_diff(new).saturating_mul(100) > old.saturating_mul(NOISE_PERCENT),
        (old, new) => old != new,
    }
}

/// What the layers up to the highest one that is watched take: an encoder with little to spend serves the lowest first.
/// `None`: the highest of all is watched.
fn watched(state: &SourceState, media: &Media) -> Option<u64> {
    if state.muted {
        return Some(0);
    }
    let available = if media.nested { 1 } else { media.available() };
    let there = |layer: &u8| available & (1 << layer) != 0;
    let top = (0..MAX_LAYERS).rev().find(there)?;
    let watched = (0..=top).rev().filter(there).find(|layer| state.wish.is_on(*layer));
    if watched == Some(top) {
        return None;
    }
    let heights = heights(available, &media.heights);
    let most = |layer: u8| {
        let layer = usize::from(layer);
        with_headroom(media.peaks[layer].max(assumed_bps(heights[layer])))
    };
    Some(watched.map_or(0, |watched| (0..=watched).map(most).sum()))
}

fn with_headroom(bps: u64) -> u64 {
    bps.saturating_mul(HEADROOM_PERCENT) / 100
}
