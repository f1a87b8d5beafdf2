//! Writing descriptors: mostly the bytes that came with another frame number; anew where more is to be told.

use super::read::{MANDATORY, NO_MORE};
use super::{Dependency, Indications, Patch, References, Structure};

impl Dependency {
    /// Writes the descriptor as it goes out behind what stands in `out`. Gives its length: nothing (0) is written if what
    /// is to be told has no room in an extension.
    pub fn write(&self, patch: &Patch, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        if self.attached || patch.attach || patch.active.is_some() {
            self.write_anew(patch, out);
        } else {
            out.extend_from_slice(&self.raw);
            let [high, low] = patch.frame_number.to_be_bytes();
            if let Some([first, second, third, ..]) = out.get_mut(start..) {
                (*first, *second, *third) = (*first & 0xc0 | self.outgoing_template(patch), high, low);
            }
        }
        if out.len() - start > super::MAX_BYTES {
            out.truncate(start);
            if patch.active.is_some() {
                // The structure, without which nothing can be read, before the targets.
                return self.write(&Patch { active: None, ..*patch }, out);
            }
        }
        out.len() - start
    }

    /// [`Dependency::write`] may give more than the 16 bytes of a one-byte header.
    pub fn is_long(&self, patch: &Patch) -> bool {
        self.attached || patch.attach || patch.active.is_some() || self.raw.len() > 16
    }

    fn outgoing_template(&self, patch: &Patch) -> u8 {
        (self.template + patch.template_shift) % 64
    }

    pub(super) fn write_anew(&self, patch: &Patch, out: &mut Vec<u8>) {
        let mut b = Writer { out, used: 0 };
        b.bits(1, self.starts_frame.into());
        b.bits(1, self.ends_frame.into());
        b.bits(6, self.outgoing_template(patch).into());
        b.bits(16, patch.frame_number.into());
        debug_assert_eq!(MANDATORY * 8, 24, "what was written until here");
        let attach = self.attached || patch.attach;
        let active = patch.active.or(Some(self.active).filter(|_| self.told_active || attach));
        // A structure alone says that all are active.
        let active = active.filter(|a| !attach || *a != self.structure.all_targets());
        b.bits(1, attach.into());
        b.bits(1, active.is_some().into());
        b.bits(1, self.custom.indications.into());
        b.bits(1, self.custom.references.into());
        b.bits(1, self.custom.chains.is_some().into());
        if attach {
            structure(&self.structure, patch.template_shift, &mut b);
        }
        if let Some(active) = active {
            b.bits(self.structure.targets.into(), active & self.structure.all_targets());
        }
        if self.custom.indications {
            indications(self.indications, self.structure.targets, &mut b);
        }
        if self.custom.references {
            references(&self.references, &mut b);
        }
        for distance in self.custom.chains.iter().flatten() {
            b.bits(8, (*distance).into());
        }
    }
}

fn structure(s: &Structure, template_shift: u8, b: &mut Writer<'_>) {
    b.bits(6, ((s.first_template + template_shift) % 64).into());
    b.bits(5, u32::from(s.targets.max(1) - 1));
    for pair in s.templates.windows(2) {
        let [this, next] = pair else { continue };
        b.bits(
            2,
            match (next.spatial_id > this.spatial_id, next.temporal_id > this.temporal_id) {
                (true, _) => 2,
                (false, true) => 1,
                (false, false) => 0,
            },
        );
    }
    b.bits(2, NO_MORE);
    for template in &s.templates {
        indications(template.indications, s.targets, b);
    }
    for template in &s.templates {
        for distance in template.references.as_slice() {
            b.bits(1, 1);
            b.bits(4, u32::from(*distance) - 1);
        }
        b.bits(1, 0);
    }
    b.non_symmetric(u32::from(s.targets) + 1, s.chains.into());
    if s.chains > 0 {
        for chain in &s.protected_by {
            b.non_symmetric(s.chains.into(), (*chain).into());
        }
        for distance in s.templates.iter().flat_map(|t| &t.chains) {
            b.bits(4, (*distance).into());
        }
    }
    b.bits(1, u32::from(!s.resolutions.is_empty()));
    for (width, height) in &s.resolutions {
        b.bits(16, u32::from(*width) - 1);
        b.bits(16, u32::from(*height) - 1);
    }
}

fn indications(all: Indications, targets: u8, b: &mut Writer<'_>) {
    for target in 0..targets {
        b.bits(2, all.get(target) as u32);
    }
}

fn references(all: &References, b: &mut Writer<'_>) {
    for distance in all.as_slice() {
        let less_one = u32::from(*distance) - 1;
        let size = match less_one {
            0..16 => 1,
            16..256 => 2,
            _ => 3,
        };
        b.bits(2, size);
        b.bits(4 * size, less_one);
    }
    b.bits(2, 0);
}

/// Bits behind what stands in a buffer, most significant first; the last byte is filled with zeros.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Bits used of the last byte; 0: it is full.
    used: u32,
}

impl Writer<'_> {
    fn bits(&mut self, count: u32, value: u32) {
        for i in (0..count).rev() {
            if self.used == 0 {
                self.out.push(0);
            }
            if let Some(last) = self.out.last_mut()
                && value >> i & 1 == 1
            {
                *last |= 0x80 >> self.used;
            }
            self.used = (self.used + 1) % 8;
        }
    }

    /// ns(n) (AV1 specification, 4.10.7).
    fn non_symmetric(&mut self, n: u32, value: u32) {
        let width = n.ilog2() + 1;
        let short = (1 << width) - n;
        if value < short {
            self.bits(width - 1, value);
        } else {
            self.bits(width, value + short);
        }
    }
}
