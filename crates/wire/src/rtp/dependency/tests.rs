//! Descriptors from a seed and back, and bytes of any content.

use std::sync::Arc;

use super::*;
use crate::rtp::testing::Random;

fn below(random: &mut Random, limit: u64) -> u8 {
    u8::try_from(random.below(limit)).unwrap()
}

fn some_indications(random: &mut Random, targets: u8) -> Indications {
    let all = [Indication::NotPresent, Indication::Discardable, Indication::Switch, Indication::Required];
    (0..targets).fold(Indications::default(), |i, target| i.with(target, all[random.index(4)]))
}

fn some_references(random: &mut Random, furthest: u64) -> References {
    let mut references = References::default();
    for _ in 0..random.below(4) {
        references.push(u16::try_from(1 + random.below(furthest)).unwrap()).unwrap();
    }
    references
}

fn some_structure(random: &mut Random) -> Structure {
    let targets = 1 + below(random, 32);
    let chains = below(random, u64::from(targets) + 1);
    let (mut spatial_id, mut temporal_id) = (0, 0);
    let mut templates = Vec::new();
    for _ in 0..=random.below(12) {
        // The first is of the lowest layers.
        match random.below(4) {
            _ if templates.is_empty() => {}
            0 if spatial_id < 3 => (spatial_id, temporal_id) = (spatial_id + 1, 0),
            1 if temporal_id < 7 => temporal_id += 1,
            _ => {}
        }
        templates.push(Template {
            spatial_id,
            temporal_id,
            indications: some_indications(random, targets),
            references: some_references(random, 16),
            chains: (0..chains).map(|_| below(random, 16)).collect(),
        });
    }
    let told = random.below(2) == 0;
    let size = |random: &mut Random| u16::try_from(1 + random.below(65_535)).unwrap();
    let resolutions = (0..=spatial_id).filter(|_| told).map(|_| (size(random), size(random))).collect();
    let protected_by =
        (0..targets).filter(|_| chains > 0).map(|_| below(random, u64::from(chains))).collect();
    Structure { first_template: below(random, 64), targets, templates, chains, protected_by, resolutions }
}

/// A descriptor as a sender would make it, not yet serialized.
fn some_dependency(random: &mut Random, structure: &Arc<Structure>, attached: bool) -> Dependency {
    let index = random.index(structure.templates.len());
    let template = &structure.templates[index];
    let custom = Custom {
        indications: random.below(4) == 0,
        references: random.below(4) == 0,
        chains: (random.below(4) == 0).then(|| (0..structure.chains).map(|_| random.byte()).collect()),
    };
    let indications =
        if custom.indications { some_indications(random, structure.targets) } else { template.indications };
    let references = if custom.references { some_references(random, 4096) } else { template.references };
    Dependency {
        raw: [].into(),
        starts_frame: attached || random.below(2) == 0,
        ends_frame: random.below(2) == 0,
        template: (structure.first_template + u8::try_from(index).unwrap()) % 64,
        frame_number: u16::try_from(random.below(65_536)).unwrap(),
        structure: Arc::clone(structure),
        attached,
        active: structure.all_targets(),
        told_active: false,
        spatial_id: template.spatial_id,
        temporal_id: template.temporal_id,
        indications,
        references,
        custom,
    }
}

/// What a receiver would see, without how it was written.
fn seen(d: &Dependency) -> Dependency {
    Dependency { raw: [].into(), told_active: false, ..d.clone() }
}

#[test]
fn what_is_written_reads_back() {
    let mut long = 0;
    for seed in 0..3_000 {
        let mut random = Random(seed);
        let structure = Arc::new(some_structure(&mut random));
        let (mut ingress, mut egress) = (Reader::new(), Reader::new());
        let shift = below(&mut random, 64);
        for n in 0..4 {
            let mut sent = some_dependency(&mut random, &structure, n == 0);
            let same =
                Patch { frame_number: sent.frame_number, template_shift: 0, active: None, attach: true };
            let mut bytes = Vec::new();
            if sent.write(&same, &mut bytes) == 0 {
                long += 1; // More than an extension can hold: that structure cannot be sent at all.
                break;
            }
            let mut received = ingress.read(&bytes).unwrap();
            sent.attached = true;
            assert_eq!(seen(&received), seen(&sent), "seed {seed}");
            assert_eq!(*received.raw, *bytes);
            // Now on to a subscriber, with other numbers and fewer targets.
            received.attached = n == 0;
            let active = (random.below(2) == 0).then(|| u32::try_from(random.below(1 << 32)).unwrap());
            let patch =
                Patch { frame_number: 77, template_shift: shift, active, attach: random.below(4) == 0 };
            let mut forwarded = vec![1, 2, 3];
            let length = received.write(&patch, &mut forwarded);
            assert_eq!(forwarded.len(), 3 + length);
            if length == 0 || (n > 0 && !patch.attach && patch.active.is_none()) {
                continue;
            }
            assert!(received.is_long(&patch));
            let Ok(last) = egress.read(&forwarded[3..]) else { panic!("seed {seed}") };
            assert_eq!((last.frame_number, last.template), (77, (received.template + shift) % 64));
            assert_eq!((last.indications, last.references), (received.indications, received.references));
            // Where it would be too long with it, it goes without.
            if let Some(active) = active.filter(|_| length + 5 <= MAX_BYTES) {
                assert_eq!(last.active, active & structure.all_targets(), "seed {seed}");
            }
        }
    }
    assert!(long < 1_500, "{long}: the test would prove nothing");
}

#[test]
fn a_plain_descriptor_keeps_its_bytes_but_for_the_numbers() {
    let mut reader = Reader::new();
    let structure = Arc::new(some_structure(&mut Random(7)));
    let first = some_dependency(&mut Random(8), &structure, true);
    let mut bytes = Vec::new();
    let patch = Patch { frame_number: 1, template_shift: 0, active: None, attach: false };
    first.write(&patch, &mut bytes);
    reader.read(&bytes).unwrap();
    let number = structure.first_template;
    let plain = reader.read(&[0x80 | number, 0x12, 0x34]).unwrap();
    assert_eq!((plain.frame_number, plain.starts_frame, plain.ends_frame), (0x1234, true, false));
    let mut out = Vec::new();
    let patch = Patch { frame_number: 0xfffe, template_shift: 63, active: None, attach: false };
    assert_eq!(plain.write(&patch, &mut out), 3);
    assert_eq!(out, [0x80 | ((number + 63) % 64), 0xff, 0xfe]);
    assert!(!plain.is_long(&patch));
}

#[test]
fn what_is_not_known_is_refused() {
    let mut reader = Reader::new();
    assert_eq!(reader.read(&[]), Err(Error::Length));
    assert_eq!(reader.read(&[0x80, 0]), Err(Error::Length));
    assert_eq!(reader.read(&[0x80, 0, 1]), Err(Error::Structure));
    assert_eq!(reader.read(&[0x80; 256]), Err(Error::Length));
    // A structure whose layers never end: all next_layer_idc are 1.
    assert_eq!(reader.read(&[0x80, 0, 1, 0x80, 0x00, 0x55, 0x55, 0x55, 0x55]), Err(Error::TooMany));
    assert!(reader.structure().is_none(), "an error changes nothing");
}

#[test]
fn bytes_of_any_content_do_no_harm() {
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let mut reader = Reader::new();
        let structure = Arc::new(some_structure(&mut random));
        let mut bytes = Vec::new();
        let patch = Patch { frame_number: 9, template_shift: 0, active: Some(1), attach: false };
        some_dependency(&mut random, &structure, true).write(&patch, &mut bytes);
        for _ in 0..40 {
            let hostile = if bytes.is_empty() || random.below(4) == 0 {
                random.bytes(64)
            } else {
                random.mutate(&bytes)
            };
            if let Ok(d) = reader.read(&hostile) {
                look_at(&d, &mut random);
            }
        }
    }
}

fn look_at(d: &Dependency, random: &mut Random) {
    let s = &d.structure;
    assert!(d.spatial_id < s.spatial_layers() && d.temporal_id < s.temporal_layers());
    for target in 0..=MAX_TARGETS {
        let _ = (s.layers_of(target), s.covers(target, 0), d.indications.get(target));
    }
    let patch = Patch {
        frame_number: 5,
        template_shift: below(random, 64),
        active: Some(3).filter(|_| random.below(2) == 0),
        attach: random.below(2) == 0,
    };
    let mut out = Vec::new();
    assert!(d.write(&patch, &mut out) <= MAX_BYTES);
}
