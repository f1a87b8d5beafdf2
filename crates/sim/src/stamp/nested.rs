//! Several spatial layers in one stream (SVC): what each frame builds on, and how AV1's dependency descriptor tells it.
//!
//! Names as of W3C's webrtc-svc: `L3T3`, where each upper layer builds on the one below it in each picture, and `L3T3_KEY`, where it does in
//! key pictures only. All layers of a picture are always sent.

use std::sync::{Arc, LazyLock};

use antiphon_wire::rtp::dependency::{Dependency, Indication, Structure, Template};

use super::Stamp;
use super::other::{nested_template, structure};

/// Most spatial layers.
pub const MAX_LAYERS: u8 = 3;
/// Temporal layer by the place in the pattern.
const TEMPORAL: [u8; 4] = [0, 2, 1, 2];

/// How the layers of a stream build on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Spatial layers: two or three.
    pub layers: u8,
    /// An upper layer builds on the lower ones in key pictures only.
    pub key_only: bool,
}

/// What is to be known of a frame of such a stream; its layer is the stamp's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nested {
    /// Of its stream.
    pub mode: Mode,
    /// Counts the frames of all layers.
    pub number: u16,
}

impl Nested {
    pub(super) fn bytes(nested: Option<Self>) -> [u8; 4] {
        let Some(Self { mode, number }) = nested else { return [0; 4] };
        let [high, low] = number.to_be_bytes();
        [mode.layers, u8::from(mode.key_only), high, low]
    }

    pub(super) fn of([layers, key_only, high, low]: [u8; 4]) -> Option<Self> {
        let mode = Mode { layers, key_only: key_only != 0 };
        (layers > 0).then(|| Self { mode, number: u16::from_be_bytes([high, low]) })
    }
}

impl Stamp {
    /// What stands in a slot at a time: publisher, source, and the layer if that is a stream of its own.
    pub fn stream(&self) -> (u16, usize, u8) {
        let layer = if self.nested.is_some() { 0 } else { self.layer };
        (self.publisher, self.source.index(), layer)
    }

    /// Its frame is the first one of its picture, as it was sent.
    pub fn is_lowest(&self) -> bool {
        self.nested.is_none() || self.layer == 0
    }

    /// The frame begins what a receiver is sent of a picture, if the layers below it are not needed.
    pub fn may_begin(&self) -> bool {
        self.index == 0 && (self.is_lowest() || (!self.key && !self.builds_on_lower()))
    }

    /// The layer below is needed.
    pub fn builds_on_lower(&self) -> bool {
        let each = |n: Nested| self.key || !n.mode.key_only;
        self.layer > 0 && self.nested.is_some_and(each)
    }

    /// Number and layer of the frames that this one needs.
    pub fn references(&self) -> impl Iterator<Item = (u32, u8)> + use<> {
        let earlier = self.frame.checked_sub(self.builds_on()).filter(|_| !self.key);
        let lower = self.layer.checked_sub(1).filter(|_| self.builds_on_lower());
        let (frame, layer) = (self.frame, self.layer);
        earlier.map(|earlier| (earlier, layer)).into_iter().chain(lower.map(|lower| (frame, lower)))
    }

    /// Temporal layer.
    pub fn temporal_id(&self) -> u8 {
        self.place.map_or(0, |place| TEMPORAL[usize::from(place % 4)])
    }

    /// By its position, the template in the structure of its stream.
    pub fn template(&self) -> u8 {
        let of_a_layer = if self.place.is_some() { 4 } else { 2 };
        let own = match self.temporal_id() {
            _ if self.key => 0,
            temporal_id => 1 + temporal_id,
        };
        self.layer * of_a_layer + own
    }

    pub(super) fn described(&self, nested: &Nested) -> Dependency {
        static ALL: LazyLock<Vec<(Mode, bool, Arc<Structure>)>> = LazyLock::new(all);
        let is = |(mode, temporal, _): &&(Mode, bool, _)| {
            *mode == nested.mode && *temporal == self.place.is_some()
        };
        let (.., structure) = ALL.iter().find(is).expect("two or three layers");
        let (first, last) = (self.index == 0, self.index + 1 == self.count);
        let attached = self.key && first && self.layer == 0;
        let made =
            Dependency::of_template(structure, self.template(), nested.number, (first, last), attached);
        made.expect("a structure of twelve templates is short enough")
    }
}

/// Width and height of a spatial layer, each half of the next.
pub(super) fn size_of(layer: u8, mode: Mode, (width, height): (u16, u16)) -> (u16, u16) {
    let halves = mode.layers - 1 - layer.min(mode.layers - 1);
    (width >> halves, height >> halves)
}

fn all() -> Vec<(Mode, bool, Arc<Structure>)> {
    let mut all = Vec::new();
    for layers in 2..=MAX_LAYERS {
        for (key_only, temporal) in [(false, false), (false, true), (true, false), (true, true)] {
            let mode = Mode { layers, key_only };
            all.push((mode, temporal, Arc::new(structure_of(mode, temporal))));
        }
    }
    all
}

/// As Chromium has them, without chains.
fn structure_of(mode: Mode, temporal: bool) -> Structure {
    let temporal_layers = if temporal { 3 } else { 1 };
    let distance = |temporal_id: u8| match (temporal, temporal_id) {
        (true, 0) => 4,
        (true, 1) => 2,
        _ => 1,
    };
    let mut templates: Vec<Template> = Vec::new();
    for spatial_id in 0..mode.layers {
        let lower = (spatial_id > 0).then_some(1);
        let indications = indications(mode, temporal_layers, (spatial_id, 0), true);
        templates.push(nested_template((spatial_id, 0), &indications, lower));
        for temporal_id in 0..temporal_layers {
            let indications = self::indications(mode, temporal_layers, (spatial_id, temporal_id), false);
            let earlier = distance(temporal_id) * u16::from(mode.layers);
            let lower = lower.filter(|_| !mode.key_only);
            templates.push(nested_template(
                (spatial_id, temporal_id),
                &indications,
                [Some(earlier), lower].into_iter().flatten(),
            ));
        }
    }
    let mut made = structure(mode.layers * temporal_layers, templates);
    made.resolutions = (0..mode.layers).map(|layer| size_of(layer, mode, (1_280, 720))).collect();
    made
}

/// What a frame is to the targets, which go by spatial, then temporal layer.
fn indications(
    mode: Mode,
    temporal_layers: u8,
    (spatial_id, temporal_id): (u8, u8),
    key: bool,
) -> Vec<Indication> {
    let mut all = Vec::new();
    for spatial in 0..mode.layers {
        for temporal in 0..temporal_layers {
            let needed = spatial == spatial_id || (spatial > spatial_id && (key || !mode.key_only));
            all.push(match () {
                () if !needed || temporal < temporal_id => Indication::NotPresent,
                () if key => Indication::Switch,
                () if spatial > spatial_id => Indication::Required,
                () if temporal_id > 0 && temporal == temporal_id => Indication::Discardable,
                () => Indication::Switch,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use antiphon_base::{Codec, Source, VideoCodec};
    use antiphon_wire::rtp::Descriptor;
    use antiphon_wire::rtp::dependency::Reader;

    use super::*;
    use crate::stamp::Parsed;
    use crate::stamp::other::parse;

    fn stamps(mode: Mode, temporal: bool) -> Vec<Stamp> {
        let mut all = Vec::new();
        for frame in 0..9u32 {
            for layer in 0..mode.layers {
                let number = u16::try_from(frame).unwrap() * u16::from(mode.layers) + u16::from(layer);
                let place = temporal.then_some((frame % 4).to_le_bytes()[0]);
                let (source, key) = (Source::Camera, frame == 0);
                let nested = Some(Nested { mode, number });
                let (index, count) = (0, 1);
                all.push(Stamp { publisher: 3, source, layer, frame, index, count, key, place, nested });
            }
        }
        all
    }

    #[test]
    fn layers_of_a_stream_are_read_here_and_by_the_server() {
        for (mode, temporal, structure) in all() {
            assert_eq!(structure.spatial_layers(), mode.layers);
            assert_eq!(
                structure.layers_of(structure.targets - 1),
                (mode.layers - 1, if temporal { 2 } else { 0 })
            );
            let mut reader = Reader::new();
            for stamp in stamps(mode, temporal) {
                let read = reader.read(stamp.dependency(7).as_bytes()).unwrap();
                let nested = stamp.nested.unwrap();
                let numbers = |(frame, layer): (u32, u8)| frame * u32::from(mode.layers) + u32::from(layer);
                let distances = stamp.references().map(|r| u32::from(nested.number) - numbers(r));
                let told: Vec<u32> = read.references.as_slice().iter().map(|d| u32::from(*d)).collect();
                assert_eq!(told, distances.collect::<Vec<_>>(), "{stamp:?}");
                assert_eq!((read.spatial_id, read.temporal_id), (stamp.layer, stamp.temporal_id()));
                assert_eq!((read.frame_number, read.template), (nested.number, stamp.template()));
                let payload = stamp.video(VideoCodec::Av1, (0, 0), (1_280, 720), 200);
                assert_eq!(parse(VideoCodec::Av1, &payload), Some(Parsed::new(stamp)));
                let payload = stamp.video(VideoCodec::Vp9, (0x7abc, 77), (1_280, 720), 200);
                let parsed = parse(VideoCodec::Vp9, &payload).unwrap();
                let numbers = (parsed.picture_id, parsed.lowest);
                assert_eq!((parsed.stamp, numbers), (stamp, (Some(0x7abc), Some(77))));
                let Descriptor::Vp9(d) = Descriptor::parse(Codec::Video(VideoCodec::Vp9), &payload) else {
                    panic!("VP9 it is")
                };
                let layer = d.layer.unwrap();
                assert_eq!((layer.spatial_id, layer.temporal_id), (stamp.layer, stamp.temporal_id()));
                assert_eq!(layer.inter_layer, stamp.builds_on_lower());
                assert_eq!(d.inter_picture, !stamp.key);
                assert_eq!(d.starts_keyframe(), stamp.key && stamp.layer == 0);
                assert_eq!(d.tl0_pic_idx().map(|f| f.value), parsed.lowest);
                let tells = stamp.key && stamp.layer == 0;
                assert_eq!(d.spatial_layers, tells.then_some(mode.layers));
                assert_eq!(d.sizes(&payload).len(), usize::from(if tells { mode.layers } else { 0 }));
            }
        }
    }
}
