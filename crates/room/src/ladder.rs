//! The steps in which one track can be had: layers and temporal layers, each with what it costs.

use antiphon_wire::control::ContentHint;

use crate::rates::assumed_bps;
use crate::scene::SceneTrack;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) layer: u8,
    /// The highest temporal layer; `None`: all.
    pub(crate) temporal: Option<u8>,
    pub(crate) bps: u64,
}

/// How high somebody may, or wants to, stand on a ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Caps {
    pub(crate) height: Option<u16>,
    pub(crate) frame_rate: Option<u8>,
    pub(crate) layer: Option<u8>,
    pub(crate) temporal: Option<u8>,
}

/// The steps of `track`, the lowest first, up to these caps; empty if nothing of it is sent.
///
/// Where motion matters a layer comes whole or not at all, but for the lowest; where detail does, all layers come at their
/// lowest frame rate first.
pub(crate) fn ladder(track: &SceneTrack, caps: Caps) -> Vec<Point> {
    let top = track.layer_below(caps.height).min(caps.layer.unwrap_or(u8::MAX));
    let mut layers: Vec<u8> = track.live().filter(|layer| *layer <= top).collect();
    if layers.is_empty() {
        // What was chosen is not sent: the lowest is nearest.
        layers.extend(track.live().next());
    }
    let limit = caps.temporal.unwrap_or(u8::MAX);
    let highest = |layer: u8| track.rates[usize::from(layer)].temporal_below(caps.frame_rate).min(limit);
    let point = |layer: u8, temporal: u8| {
        let rates = &track.rates[usize::from(layer)];
        let bps = if rates.known() { rates.cost(temporal) } else { assumed_bps(track.height(layer)) };
        let all = temporal + 1 >= rates.temporal_layers();
        // Before it is measured how many there are, a choice holds all the same.
        Point { layer, temporal: (!all).then_some(temporal).or(caps.temporal), bps }
    };
    let (Some(&first), Some(&last)) = (layers.first(), layers.last()) else { return Vec::new() };
    let motion = track.hint == ContentHint::Motion;
    let mut ladder: Vec<Point> = Vec::new();
    if motion {
        ladder.extend((0..highest(first)).map(|t| point(first, t)));
        ladder.extend(layers.iter().map(|layer| point(*layer, highest(*layer))));
    } else {
        ladder.extend(layers.iter().map(|layer| point(*layer, 0)));
        ladder.extend((1..=highest(last)).map(|t| point(last, t)));
    }
    squeeze(track, &mut ladder);
    ladder
}

/// The lowest layer counts as last measured: a publisher that was told to send less has followed, or has not.
fn squeeze(track: &SceneTrack, ladder: &mut [Point]) {
    let Some(lowest) = ladder.first().map(|p| p.layer) else { return };
    let rates = &track.rates[usize::from(lowest)];
    if !rates.known() || !track.told {
        return;
    }
    for point in ladder.iter_mut().take_while(|p| p.layer == lowest) {
        point.bps = point.bps.min(rates.latest(point.temporal.unwrap_or(u8::MAX)));
    }
}

/// Where on the ladder this layer and temporal layer stand: the highest step that is not above them.
pub(crate) fn present(ladder: &[Point], layer: u8, temporal: Option<u8>) -> Option<usize> {
    let all = |t: Option<u8>| t.unwrap_or(u8::MAX);
    ladder
        .iter()
        .rposition(|p| p.layer < layer || (p.layer == layer && all(p.temporal) <= all(temporal)))
        .or((!ladder.is_empty()).then_some(0))
}
