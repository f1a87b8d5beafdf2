//! Frame numbers and template numbers of dependency descriptors, source after source.
//!
//! Within a source frame numbers keep their gaps, also where frames are left out on purpose: a frame's references and
//! chains are distances in them.

use crate::rtp::dependency::{Dependency, Patch};

/// How a source's numbers become the slot's.
#[derive(Debug, Clone)]
pub(super) struct FrameNumbers {
    /// Outgoing less incoming of the current source; `None`: nothing of it was seen.
    shift: Option<Shift>,
    /// Newest outgoing frame number.
    newest: u16,
    /// The outgoing template number after those of the newest structure.
    free_template: u8,
}

#[derive(Debug, Clone, Copy)]
struct Shift {
    frame: u16,
    template: u8,
}

impl Default for FrameNumbers {
    fn default() -> Self {
        // The first frame is number 0.
        Self { shift: None, newest: u16::MAX, free_template: 0 }
    }
}

impl FrameNumbers {
    /// Another source begins.
    pub(super) fn restart(&mut self) {
        self.shift = None;
    }

    pub(super) fn map(&mut self, d: &Dependency) -> Patch {
        let shift = *self.shift.get_or_insert(Shift {
            frame: self.newest.wrapping_add(1).wrapping_sub(d.frame_number),
            // Other numbers than those of the structure before: a descriptor of this one is never read by that.
            template: (64 + self.free_template - d.structure.first_template % 64) % 64,
        });
        let frame_number = d.frame_number.wrapping_add(shift.frame);
        if frame_number.wrapping_sub(self.newest) < 1 << 15 {
            self.newest = frame_number;
            let used = u8::try_from(d.structure.templates.len() % 64).unwrap_or(0);
            self.free_template = (d.structure.first_template + shift.template + used) % 64;
        }
        Patch { frame_number, template_shift: shift.template, active: None, attach: false }
    }
}
