//! The dependency descriptor RTP header extension (RTP Payload Format For AV1, version 1.0, appendix A): which layer a
//! frame is of, which frames it refers to, and which subsets of the stream ("decode targets") need it; whatever the codec.
//!
//! A stream's [`Structure`] travels with the first packet of a key frame and holds until the next one; a [`Reader`]
//! keeps it. A [`Dependency`] is what one packet's descriptor says, read under the structure in force.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

pub use read::{Error, Reader};

/// The extension's name in SDP.
pub const URI: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
/// Bytes that one element of a two-byte header extension can have (RFC 8285, 4.3).
pub const MAX_BYTES: usize = 255;
/// Decode targets are counted in five bits.
pub const MAX_TARGETS: u8 = 32;
/// Templates are numbered in six bits.
pub const MAX_TEMPLATES: usize = 64;
/// References of one frame: AV1 has seven, no codec here has more.
pub const MAX_REFERENCES: usize = 8;
/// Spatial layers: what an AV1 OBU header can number, and what VP9 has in practice.
pub const MAX_SPATIAL: u8 = 4;
/// Temporal layers: what an OBU header can number.
pub const MAX_TEMPORAL: u8 = 8;

/// What a frame is to a decode target (A.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indication {
    /// Not needed.
    NotPresent,
    /// Needed, and nothing of the target refers to it.
    Discardable,
    /// Needed, and one may begin with the target here.
    Switch,
    /// Needed.
    Required,
}

/// The indications of one frame, two bits for each decode target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Indications(u64);

impl Indications {
    /// What the frame is to a target; targets that do not exist are not present.
    pub fn get(self, target: u8) -> Indication {
        if target >= MAX_TARGETS {
            return Indication::NotPresent;
        }
        match self.0 >> (2 * target) & 3 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }

    /// Says what the frame is to a target.
    #[must_use]
    pub fn with(self, target: u8, indication: Indication) -> Self {
        if target >= MAX_TARGETS {
            return self;
        }
        Self(self.0 & !(3 << (2 * target)) | (indication as u64) << (2 * target))
    }
}

/// Distances in frame numbers to the frames that one refers to; each from 1 to 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct References {
    len: u8,
    distances: [u16; MAX_REFERENCES],
}

impl References {
    /// The distances.
    pub fn as_slice(&self) -> &[u16] {
        self.distances.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Adds one; `None`: there are [`MAX_REFERENCES`] already.
    pub fn push(&mut self, distance: u16) -> Option<()> {
        *self.distances.get_mut(usize::from(self.len))? = distance;
        self.len += 1;
        Some(())
    }
}

/// What frames have in common that name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Spatial layer.
    pub spatial_id: u8,
    /// Temporal layer.
    pub temporal_id: u8,
    /// For each decode target.
    pub indications: Indications,
    /// References.
    pub references: References,
    /// For each chain, the distance to its previous frame; four bits.
    pub chains: Vec<u8>,
}

/// A template dependency structure (A.8.3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// Number of the first template, six bits.
    pub first_template: u8,
    /// Number of decode targets, 1 to [`MAX_TARGETS`].
    pub targets: u8,
    /// By number from `first_template` on, modulo 64; ordered by spatial, then temporal layer.
    pub templates: Vec<Template>,
    /// Number of chains.
    pub chains: u8,
    /// For each decode target the chain that protects it; empty without chains.
    pub protected_by: Vec<u8>,
    /// Width and height of each spatial layer; empty where they are not told.
    pub resolutions: Vec<(u16, u16)>,
}

impl Structure {
    /// Number of spatial layers.
    pub fn spatial_layers(&self) -> u8 {
        self.templates.last().map_or(1, |t| t.spatial_id + 1)
    }

    /// Number of temporal layers.
    pub fn temporal_layers(&self) -> u8 {
        self.templates.iter().map(|t| t.temporal_id + 1).max().unwrap_or(1)
    }

    /// Spatial and temporal layer of a decode target: the highest of what it needs (A.8.3.3, decode_target_layers).
    pub fn layers_of(&self, target: u8) -> (u8, u8) {
        let needed = self.templates.iter().filter(|t| t.indications.get(target) != Indication::NotPresent);
        needed.fold((0, 0), |(s, t), template| (s.max(template.spatial_id), t.max(template.temporal_id)))
    }

    /// Everything that decode target `other` needs is needed by `target`, too.
    pub fn covers(&self, target: u8, other: u8) -> bool {
        let needs = |t: &Template, target| t.indications.get(target) != Indication::NotPresent;
        self.templates.iter().all(|t| !needs(t, other) || needs(t, target))
    }

    /// The mask of all decode targets.
    pub fn all_targets(&self) -> u32 {
        u32::MAX >> (MAX_TARGETS - self.targets.clamp(1, MAX_TARGETS))
    }
}

/// What one packet's descriptor says. Behind an `Arc`, with its packet shared by all subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The descriptor as it came.
    pub(crate) raw: Box<[u8]>,
    /// First packet of its frame.
    pub starts_frame: bool,
    /// Last packet of its frame.
    pub ends_frame: bool,
    /// Number of the template, six bits.
    pub template: u8,
    /// Counts the frames of all layers in decoding order.
    pub frame_number: u16,
    /// The structure in force.
    pub structure: Arc<Structure>,
    /// It came with this packet: the first of a key frame.
    pub attached: bool,
    /// Decode targets that the sender produces at present.
    pub active: u32,
    /// This packet told them.
    pub told_active: bool,
    /// Spatial layer.
    pub spatial_id: u8,
    /// Temporal layer.
    pub temporal_id: u8,
    /// What the frame is to each decode target.
    pub indications: Indications,
    /// What it refers to.
    pub references: References,
    /// Written into the descriptor itself, where the template says something else.
    pub(crate) custom: Custom,
}

/// What stands in a descriptor in place of what its template says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Custom {
    pub(crate) indications: bool,
    pub(crate) references: bool,
    pub(crate) chains: Option<Vec<u8>>,
}

/// How a descriptor differs in an outgoing stream from how it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Outgoing frame number.
    pub frame_number: u16,
    /// Added to template numbers, modulo 64: structures that follow one another in a stream use different ones.
    pub template_shift: u8,
    /// Decode targets that are sent on, to be told with this packet.
    pub active: Option<u32>,
    /// The structure is to be told with this packet, even if it did not come with it.
    pub attach: bool,
}

impl Dependency {
    /// A descriptor that says what a template of the structure says, by its position; `attached`: with the structure.
    /// `None`: there is no such template, or the structure is too long for an extension.
    pub fn of_template(
        structure: &Arc<Structure>,
        index: u8,
        frame_number: u16,
        (starts_frame, ends_frame): (bool, bool),
        attached: bool,
    ) -> Option<Self> {
        let template = structure.templates.get(usize::from(index))?;
        let mut made = Self {
            raw: [].into(),
            starts_frame,
            ends_frame,
            template: (structure.first_template + index) % 64,
            frame_number,
            structure: Arc::clone(structure),
            attached,
            active: structure.all_targets(),
            told_active: false,
            spatial_id: template.spatial_id,
            temporal_id: template.temporal_id,
            indications: template.indications,
            references: template.references,
            custom: Custom::default(),
        };
        let mut raw = Vec::new();
        made.write_anew(&Patch { frame_number, template_shift: 0, active: None, attach: false }, &mut raw);
        made.raw = raw.into();
        (made.raw.len() <= MAX_BYTES).then_some(made)
    }

    /// The descriptor as it came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }
}
