//! Reading descriptors (A.8.2). The order of fields is that of the specification's syntax tables.

use std::sync::Arc;

use super::{
    Custom, Dependency, Indication, Indications, MAX_BYTES, MAX_SPATIAL, MAX_TEMPLATES, MAX_TEMPORAL,
    References, Structure, Template,
};
use crate::rtp::bits::Bits;

/// Bytes of the fields that every descriptor has.
pub(super) const MANDATORY: usize = 3;
/// `next_layer_idc` of the last template.
pub(super) const NO_MORE: u32 = 3;

/// Why a dependency descriptor was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends early, or is longer than an extension can be.
    #[error("dependency descriptor of a wrong length")]
    Length,
    /// More templates, references or layers than there can be.
    #[error("dependency descriptor with too many of something")]
    TooMany,
    /// No structure came yet, or not the one that this descriptor is of.
    #[error("dependency descriptor of an unknown structure")]
    Structure,
}

/// Reads the descriptors of one RTP stream.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    structure: Option<Arc<Structure>>,
    active: u32,
    /// Frame that told the newest structure: descriptors of frames before it do not change what is active.
    since: u16,
}

impl Reader {
    /// A stream of which nothing was seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// The structure in force.
    pub fn structure(&self) -> Option<&Arc<Structure>> {
        self.structure.as_ref()
    }

    /// Reads one packet's descriptor. A structure that comes with it is in force from then on; after an error everything
    /// is as before.
    pub fn read(&mut self, raw: &[u8]) -> Result<Dependency, Error> {
        if !(MANDATORY..=MAX_BYTES).contains(&raw.len()) {
            return Err(Error::Length);
        }
        let mut b = Bits::plain(raw);
        let mut head = Head::read(&mut b).ok_or(Error::Length)?;
        let attached = head.structure;
        let structure = match (attached, &self.structure) {
            (true, _) => Arc::new(structure(&mut b)?),
            (false, Some(known)) => Arc::clone(known),
            (false, None) => return Err(Error::Structure),
        };
        let told =
            if head.active { Some(b.bits(structure.targets.into()).ok_or(Error::Length)?) } else { None };
        let index = (64 + head.template - structure.first_template) % 64;
        let template = structure.templates.get(usize::from(index)).ok_or(Error::Structure)?;
        let indications = if head.custom.indications {
            indications(&mut b, structure.targets).ok_or(Error::Length)?
        } else {
            template.indications
        };
        let references = if head.custom.references { references(&mut b)? } else { template.references };
        if head.chains {
            let chains = (0..structure.chains).map(|_| byte(&mut b, 8)).collect::<Option<Vec<u8>>>();
            head.custom.chains = Some(chains.ok_or(Error::Length)?);
        }
        let (spatial_id, temporal_id) = (template.spatial_id, template.temporal_id);
        if attached {
            self.since = head.frame_number;
            self.structure = Some(Arc::clone(&structure));
            self.active = structure.all_targets();
        }
        if let Some(told) = told.filter(|_| head.frame_number.wrapping_sub(self.since) < 1 << 15) {
            self.active = told;
        }
        Ok(Dependency {
            raw: raw.into(),
            starts_frame: head.starts,
            ends_frame: head.ends,
            template: head.template,
            frame_number: head.frame_number,
            structure,
            attached,
            active: self.active,
            told_active: told.is_some(),
            spatial_id,
            temporal_id,
            indications,
            references,
            custom: head.custom,
        })
    }
}

/// The fields before the structure.
struct Head {
    starts: bool,
    ends: bool,
    template: u8,
    frame_number: u16,
    structure: bool,
    active: bool,
    chains: bool,
    custom: Custom,
}

impl Head {
    fn read(b: &mut Bits<'_>) -> Option<Self> {
        let mut head = Self {
            starts: b.bit()?,
            ends: b.bit()?,
            template: byte(b, 6)?,
            frame_number: u16::try_from(b.bits(16)?).ok()?,
            structure: false,
            active: false,
            chains: false,
            custom: Custom::default(),
        };
        // Nothing more: the template says it all.
        if let Some(structure) = b.bit() {
            head.structure = structure;
            head.active = b.bit()?;
            head.custom.indications = b.bit()?;
            head.custom.references = b.bit()?;
            head.chains = b.bit()?;
        }
        Some(head)
    }
}

fn structure(b: &mut Bits<'_>) -> Result<Structure, Error> {
    let first_template = byte(b, 6).ok_or(Error::Length)?;
    let targets = byte(b, 5).ok_or(Error::Length)? + 1;
    let mut templates = layers(b)?;
    for template in &mut templates {
        template.indications = indications(b, targets).ok_or(Error::Length)?;
    }
    for template in &mut templates {
        while b.bit().ok_or(Error::Length)? {
            let distance = b.bits(4).and_then(|d| u16::try_from(d + 1).ok()).ok_or(Error::Length)?;
            template.references.push(distance).ok_or(Error::TooMany)?;
        }
    }
    let mut structure = Structure {
        first_template,
        targets,
        templates,
        chains: 0,
        protected_by: vec![],
        resolutions: vec![],
    };
    chains(b, &mut structure).ok_or(Error::Length)?;
    if b.bit().ok_or(Error::Length)? {
        for _ in 0..structure.spatial_layers() {
            structure.resolutions.push(resolution(b).ok_or(Error::Length)?);
        }
    }
    Ok(structure)
}

/// The templates with their layers only.
fn layers(b: &mut Bits<'_>) -> Result<Vec<Template>, Error> {
    let mut templates = Vec::new();
    let (mut spatial_id, mut temporal_id) = (0, 0);
    loop {
        if templates.len() >= MAX_TEMPLATES || spatial_id >= MAX_SPATIAL || temporal_id >= MAX_TEMPORAL {
            return Err(Error::TooMany);
        }
        let (indications, references, chains) = (Indications::default(), References::default(), Vec::new());
        templates.push(Template { spatial_id, temporal_id, indications, references, chains });
        match b.bits(2).ok_or(Error::Length)? {
            0 => {}
            1 => temporal_id += 1,
            2 => (spatial_id, temporal_id) = (spatial_id + 1, 0),
            _ => return Ok(templates),
        }
    }
}

fn indications(b: &mut Bits<'_>, targets: u8) -> Option<Indications> {
    let mut all = Indications::default();
    for target in 0..targets {
        let indication = match b.bits(2)? {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        };
        all = all.with(target, indication);
    }
    Some(all)
}

/// The references of one frame, where its template has others.
fn references(b: &mut Bits<'_>) -> Result<References, Error> {
    let mut all = References::default();
    loop {
        let size = b.bits(2).ok_or(Error::Length)?;
        if size == 0 {
            return Ok(all);
        }
        let distance = b.bits(4 * size).and_then(|d| u16::try_from(d + 1).ok()).ok_or(Error::Length)?;
        all.push(distance).ok_or(Error::TooMany)?;
    }
}

fn chains(b: &mut Bits<'_>, structure: &mut Structure) -> Option<()> {
    structure.chains = non_symmetric(b, u32::from(structure.targets) + 1)?;
    if structure.chains == 0 {
        return Some(());
    }
    for _ in 0..structure.targets {
        structure.protected_by.push(non_symmetric(b, structure.chains.into())?);
    }
    for template in &mut structure.templates {
        template.chains = (0..structure.chains).map(|_| byte(b, 4)).collect::<Option<_>>()?;
    }
    Some(())
}

fn resolution(b: &mut Bits<'_>) -> Option<(u16, u16)> {
    let mut less_one = || u16::try_from(b.bits(16)? + 1).ok();
    Some((less_one()?, less_one()?))
}

/// ns(n): a value below `n` in about log2(n) bits (AV1 specification, 4.10.7).
fn non_symmetric(b: &mut Bits<'_>, n: u32) -> Option<u8> {
    let width = n.ilog2() + 1;
    let short = (1 << width) - n;
    let value = b.bits(width - 1)?;
    let value = if value < short { value } else { (value << 1) - short + b.bits(1)? };
    u8::try_from(value).ok()
}

fn byte(b: &mut Bits<'_>, bits: u32) -> Option<u8> {
    u8::try_from(b.bits(bits)?).ok()
}
