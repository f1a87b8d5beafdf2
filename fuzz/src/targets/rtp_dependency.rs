//! Any bytes as the dependency descriptors of one stream, each behind its length; what is forwarded reads back.

use antiphon_wire::rtp::dependency::{MAX_BYTES, Patch, Reader};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let (mut ingress, mut egress) = (Reader::new(), Reader::new());
    let mut rest = bytes;
    while let Some(([length, template_shift, flags], behind)) = rest.split_first_chunk::<3>() {
        let (raw, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        let Ok(d) = ingress.read(raw) else { continue };
        let patch = Patch {
            frame_number: d.frame_number.wrapping_add(7),
            template_shift: template_shift % 64,
            active: Some(u32::from(*flags)).filter(|_| flags & 1 == 1),
            attach: flags & 2 == 2,
        };
        let mut out = Vec::new();
        if d.write(&patch, &mut out) == 0 || !(d.attached || patch.attach) {
            continue;
        }
        assert!(out.len() <= MAX_BYTES);
        let seen = egress.read(&out).expect("it has its structure with it");
        assert_eq!((seen.spatial_id, seen.temporal_id), (d.spatial_id, d.temporal_id));
        assert_eq!((seen.indications, seen.references), (d.indications, d.references));
        assert_eq!(seen.structure.templates, d.structure.templates);
        let told = patch.active.map_or(d.active, |active| active & d.structure.all_targets());
        // With no room left for the targets, the structure goes without.
        let fits = patch.active.is_none() || out.len() + 5 <= MAX_BYTES;
        assert!(seen.active == told || (!fits && seen.active == d.active));
    }
}
