//! What can be seen and heard in a room at one moment: the ground on which slots are assigned.

use std::collections::BTreeMap;
use std::sync::Arc;

use antiphon_base::{Codec, MediaKind, ParticipantId, ParticipantKey, Source, TrackKey};
use antiphon_wire::control::{ContentHint, ParticipantKind};

use crate::output::{Feed, MAX_LAYERS};
use crate::participant::{Media, Participant};
use crate::rates::{Rates, stacked};

/// Height assumed for the top layer while no keyframe has told one.
const ASSUMED_TOP: u16 = 720;

/// A track that flows.
#[derive(Debug, Clone)]
pub(crate) struct SceneTrack {
    pub(crate) key: TrackKey,
    pub(crate) owner: ParticipantId,
    /// Its owner is on hold.
    held: bool,
    pub(crate) codec: Codec,
    /// Layers that can be had: sent, or paused because nobody wanted them.
    pub(crate) layers: u8,
    /// Those that are sent.
    flowing: u8,
    pub(crate) rates: [Rates; MAX_LAYERS as usize],
    pub(crate) hint: ContentHint,
    /// What its publisher calls its layers, the lowest first.
    pub(crate) names: Arc<[String]>,
    /// They are spatial layers of one stream.
    pub(crate) nested: bool,
    /// Its publisher hears what is wanted of it, and follows.
    pub(crate) told: bool,
    /// Measured or assumed, in pixels.
    pub(crate) heights: [u16; MAX_LAYERS as usize],
    pub(crate) loud: f32,
    pub(crate) audible: bool,
}

impl SceneTrack {
    fn new(owner: &Participant, key: TrackKey, media: &Media) -> Self {
        let by_source = if key.source == Source::Screen { ContentHint::Detail } else { ContentHint::Motion };
        let browser = owner.control && owner.kind == ParticipantKind::WebRtc;
        Self {
            key,
            owner: owner.id.clone(),
            held: owner.held,
            codec: media.codec,
            layers: media.available(),
            flowing: media.layers,
            rates: if media.nested { stacked(media.rates) } else { media.rates },
            hint: owner.sources[key.source.index()].hint.unwrap_or(by_source),
            names: Arc::clone(&owner.sources[key.source.index()].names),
            nested: media.nested,
            // Of spatial layers in one stream it could follow none by itself.
            told: browser && !media.deaf && !media.nested,
            heights: heights(media.available(), &media.heights),
            loud: media.loudness.loud(),
            audible: media.loudness.audible(),
        }
    }

    /// Its packets come.
    pub(crate) fn flows(&self, layer: u8) -> bool {
        u32::from(self.flowing) & 1u32.checked_shl(u32::from(layer)).unwrap_or(0) != 0
    }

    /// Layers that can be had, lowest first.
    pub(crate) fn live(&self) -> impl DoubleEndedIterator<Item = u8> + '_ {
        (0..MAX_LAYERS).filter(|layer| self.layers & (1 << layer) != 0)
    }

    pub(crate) fn height(&self, layer: u8) -> u16 {
        self.heights.get(usize::from(layer)).copied().unwrap_or(ASSUMED_TOP)
    }

    /// The layer that its publisher calls so.
    pub(crate) fn layer_named(&self, name: &str) -> Option<u8> {
        self.names.iter().position(|n| n == name).and_then(|at| u8::try_from(at).ok())
    }

    /// The highest layer at or below `cap`; the lowest if there is none.
    pub(crate) fn layer_below(&self, cap: Option<u16>) -> u8 {
        let fits = |layer: &u8| cap.is_none_or(|cap| self.height(*layer) <= cap);
        self.live().rev().find(fits).or_else(|| self.live().next()).unwrap_or(0)
    }

    pub(crate) fn feed_below(&self, cap: Option<u16>) -> Feed {
        Feed { track: self.key, layer: self.layer_below(cap) }
    }
}

/// Unknown heights are those of layers that are halves of each other.
pub(crate) fn heights(layers: u8, known: &[Option<u16>; MAX_LAYERS as usize]) -> [u16; MAX_LAYERS as usize] {
    let top = u16::try_from(7 - layers.leading_zeros().min(7)).unwrap_or(0);
    let anchor = known.iter().zip(0u16..).find_map(|(height, layer)| height.map(|h| (layer, h)));
    let (layer, height) = anchor.unwrap_or((top, ASSUMED_TOP));
    std::array::from_fn(|i| {
        known[i].unwrap_or_else(|| {
            let i = u16::try_from(i).unwrap_or(0);
            let assumed =
                if i >= layer { u32::from(height) << (i - layer) } else { u32::from(height) >> (layer - i) };
            u16::try_from(assumed).unwrap_or(u16::MAX)
        })
    })
}

/// All tracks that flow, and the orders in which they are considered.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    pub(crate) tracks: BTreeMap<TrackKey, SceneTrack>,
    /// Screen sound first, then by loudness.
    pub(crate) audio: Vec<TrackKey>,
    /// Those in use.
    pub(crate) codecs: Vec<Codec>,
    /// By time of joining.
    pub(crate) cameras: Vec<TrackKey>,
    /// The latest first.
    pub(crate) screens: Vec<TrackKey>,
    /// The dominant speakers, in order.
    pub(crate) dominant: Vec<ParticipantKey>,
    /// When each led last; those who never did are absent.
    pub(crate) led: BTreeMap<ParticipantKey, u64>,
    /// Publishers by name, for pins.
    pub(crate) by_id: BTreeMap<ParticipantId, ParticipantKey>,
}

impl Scene {
    pub(crate) fn build<'a>(
        participants: impl Iterator<Item = &'a Participant>,
        dominant: &[ParticipantKey],
        led: &BTreeMap<ParticipantKey, u64>,
    ) -> Self {
        let mut scene = Self { dominant: dominant.to_vec(), led: led.clone(), ..Self::default() };
        let mut screens = Vec::new();
        for p in participants {
            for source in Source::ALL {
                let state = &p.sources[source.index()];
                let Some(media) = state.routable() else { continue };
                let key = p.track(source);
                scene.tracks.insert(key, SceneTrack::new(p, key, media));
                scene.by_id.insert(p.id.clone(), p.key);
                if !scene.codecs.contains(&media.codec) {
                    scene.codecs.push(media.codec);
                }
                match source {
                    Source::Microphone | Source::ScreenAudio => scene.audio.push(key),
                    Source::Camera => scene.cameras.push(key),
                    Source::Screen => screens.push((state.began, key)),
                }
            }
        }
        screens.sort_unstable_by(|a, b| b.cmp(a));
        scene.screens = screens.into_iter().map(|(_, key)| key).collect();
        let tracks = &scene.tracks;
        let rank = |key: &TrackKey| (key.source != Source::ScreenAudio, -tracks[key].loud);
        scene.audio.sort_by(|a, b| {
            let (ra, rb) = (rank(a), rank(b));
            ra.0.cmp(&rb.0).then(ra.1.total_cmp(&rb.1)).then(a.cmp(b))
        });
        scene
    }

    /// Whether `p` may be shown this track, its codec aside.
    pub(crate) fn reachable(&self, p: &Participant, track: &SceneTrack) -> bool {
        // Who is unseen and only taps is not somebody from whom to be kept apart.
        let apart = (p.held || track.held) && !(p.hidden && p.slots.is_empty());
        p.grants.subscribe
            && !apart
            && track.key.participant != p.key
            && p.only.as_ref().is_none_or(|only| *only == track.owner)
    }

    /// The track, where `p` may be shown it and can decode it.
    pub(crate) fn eligible(&self, p: &Participant, key: TrackKey) -> Option<&SceneTrack> {
        self.tracks.get(&key).filter(|t| self.reachable(p, t) && p.decodes(t.codec))
    }

    /// Video tracks that `p` could be shown if it could decode them.
    pub(crate) fn undecodable(&self, p: &Participant) -> Vec<&SceneTrack> {
        if self.codecs.iter().all(|codec| p.decodes(*codec)) {
            return Vec::new();
        }
        self.tracks
            .values()
            .filter(|t| {
                t.key.source.kind() == MediaKind::Video && !p.decodes(t.codec) && self.reachable(p, t)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_heights_are_halves() {
        let none = [None; 8];
        assert_eq!(heights(0b111, &none)[..3], [180, 360, 720]);
        assert_eq!(heights(0b1, &none)[..1], [720]);
        let mut known = none;
        known[0] = Some(270);
        assert_eq!(heights(0b111, &known)[..3], [270, 540, 1080]);
        known[2] = Some(1000);
        assert_eq!(heights(0b111, &known)[..3], [270, 540, 1000]);
        known[0] = Some(u16::MAX);
        assert_eq!(heights(0b111, &known)[1], u16::MAX);
    }
}
