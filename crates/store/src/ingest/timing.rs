//! How long a fragment lasts: from the beginning of its first block to the end of its last.

use std::collections::BTreeMap;

use crate::matroska::{Block, Track};

/// One track's blocks within the fragment.
#[derive(Debug, Clone, Copy, Default)]
struct TrackTiming {
    /// When the last block of this fragment began.
    last_ms: Option<f64>,
    /// How long that block says it lasts.
    length_ms: Option<f64>,
    /// Time between the last two blocks, of this fragment or those before.
    delta_ms: Option<f64>,
}

/// Times of a fragment's blocks. Milliseconds as floats: rates need not divide them.
#[derive(Debug, Clone, Default)]
pub(super) struct Timing {
    scale_ns: f64,
    first_ms: Option<f64>,
    latest_ms: f64,
    tracks: BTreeMap<u64, TrackTiming>,
}

impl Timing {
    /// For the fragment after this one: what it knows of block lengths is kept.
    pub(super) fn next_fragment(&self) -> Self {
        let keep = |t: &TrackTiming| TrackTiming { delta_ms: t.delta_ms, ..TrackTiming::default() };
        Self { tracks: self.tracks.iter().map(|(n, t)| (*n, keep(t))).collect(), ..Self::default() }
    }

    pub(super) fn begin(&mut self, scale_ns: u64) {
        self.scale_ns = scale_ns as f64;
    }

    pub(super) fn block(&mut self, block: &Block, track: &Track) {
        let ms = |ticks: f64| ticks * self.scale_ns / 1e6;
        // Only the distance within the fragment matters.
        let start = ms(f64::from(block.relative));
        let said = block.duration.map(|d| ms(d as f64));
        let default = (track.default_duration_ns > 0).then_some(track.default_duration_ns as f64 / 1e6);
        let t = self.tracks.entry(block.track).or_default();
        if let Some(last) = t.last_ms {
            t.delta_ms = Some((start - last).max(0.0));
        }
        t.last_ms = Some(t.last_ms.map_or(start, |last| last.max(start)));
        t.length_ms = said.or_else(|| track.pcm_ms(block.len)).or(default);
        self.first_ms = Some(self.first_ms.map_or(start, |first| first.min(start)));
        self.latest_ms = self.latest_ms.max(start);
    }

    /// Tracks that had a block.
    pub(super) fn tracks(&self) -> usize {
        self.tracks.values().filter(|t| t.last_ms.is_some()).count()
    }

    /// From the first block's beginning to the last one's.
    pub(super) fn span_ms(&self) -> u64 {
        to_ms(self.latest_ms - self.first_ms.unwrap_or(self.latest_ms))
    }

    /// From the first block's beginning to the end of the last.
    pub(super) fn duration_ms(&self) -> u32 {
        let end = |t: &TrackTiming| Some(t.last_ms? + t.length_ms.or(t.delta_ms).unwrap_or(0.0));
        let end = self.tracks.values().filter_map(end).fold(f64::MIN, f64::max);
        self.first_ms.map_or(0, |first| u32::try_from(to_ms(end - first)).unwrap_or(u32::MAX))
    }
}

fn to_ms(ms: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "floats saturate, negative ones to zero")]
    let ms = ms.round() as u64;
    ms
}
