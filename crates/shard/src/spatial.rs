//! Which layers of its track a packet is of: a simulcast layer, or spatial layers of the track's only stream.

use antiphon_room::{Feed, MAX_LAYERS};
use antiphon_wire::rtp::{Descriptor, Packet};

/// The spatial layers of a stream as far as packets have told of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spatial {
    count: u8,
    heights: [Option<u16>; MAX_LAYERS as usize],
}

impl Spatial {
    /// What a packet tells.
    pub(crate) fn of(packet: &Packet) -> Self {
        let told: Vec<(u16, u16)> = match (&packet.dependency, &packet.descriptor) {
            (Some(d), _) if !d.structure.resolutions.is_empty() => d.structure.resolutions.clone(),
            (_, Descriptor::Vp9(d)) => d.sizes(&packet.payload),
            _ => Vec::new(),
        };
        let count = packet.spatial_layers.clamp(1, MAX_LAYERS);
        let mut heights = [None; MAX_LAYERS as usize];
        for (known, (_, height)) in heights.iter_mut().zip(told).take(usize::from(count)) {
            *known = Some(height);
        }
        Self { count, heights }
    }

    /// With what `before` knew and this does not tell anew.
    pub(crate) fn or(mut self, before: Option<Self>) -> Self {
        if let Some(before) = before.filter(|b| b.count == self.count) {
            for (height, known) in self.heights.iter_mut().zip(before.heights) {
                *height = height.or(known);
            }
        }
        self
    }

    /// By layer, lowest first.
    pub(crate) fn heights(&self) -> &[Option<u16>] {
        self.heights.get(..usize::from(self.count)).unwrap_or(&self.heights)
    }
}

/// The layer of its track that a packet is of.
pub(crate) fn feed_of(packet: &Packet) -> Feed {
    let layer = if packet.spatial_layers > 1 { packet.spatial_id() } else { packet.layer };
    Feed { track: packet.track, layer }
}

/// The layers of which a packet is a part: whoever listens to one of them gets it. Of spatial layers each slot gets all,
/// also those that it leaves out: it closes their numbers.
pub(crate) fn layers_with(packet: &Packet) -> impl Iterator<Item = Feed> + use<> {
    let track = packet.track;
    let (first, count) =
        if packet.spatial_layers > 1 { (0, packet.spatial_layers) } else { (packet.layer, 1) };
    (first..first.saturating_add(count)).map(move |layer| Feed { track, layer })
}

/// The packet tells what spatial layers its stream has.
pub(crate) fn tells_layers(packet: &Packet) -> bool {
    match (&packet.dependency, &packet.descriptor) {
        (Some(d), _) => d.attached,
        (None, Descriptor::Vp9(d)) => d.spatial_layers.is_some(),
        _ => false,
    }
}
