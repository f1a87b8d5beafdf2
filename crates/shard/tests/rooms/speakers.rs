//! More publishers than slots: who is heard, who leads, whom the pictures follow.

use std::collections::BTreeSet;
use std::time::Duration;

use antiphon_base::{MediaKind, ParticipantId};
use antiphon_sim::{Profile, World};
use antiphon_wire::control::ServerMessage;

const NAMES: [&str; 6] = ["anna", "ben", "cleo", "dan", "eva", "finn"];
const SILENT: u8 = 100;

/// Six publishers, and a listener with two audio slots, two camera slots and one for the screen.
fn stage(seed: u64) -> (World, Vec<usize>, usize) {
    let mut world = World::new(seed);
    let all: Vec<usize> = NAMES.iter().map(|n| world.enter(Profile::new(n))).collect();
    let listener = world.enter(Profile::new("listener").listener(2, 3));
    for client in &all {
        world.talk(*client, 10);
        world.clients[*client].speak(SILENT);
    }
    world.run(Duration::from_secs(1));
    (world, all, listener)
}

/// Who came in the slots of a kind in the last half second.
fn present(world: &World, client: usize, kind: MediaKind) -> BTreeSet<usize> {
    let since = world.now - Duration::from_millis(500);
    let slots = world.clients[client].slots.iter().filter(|s| s.kind == kind);
    let packets = slots.flat_map(|s| &s.packets).filter(|p| p.at >= since);
    packets.filter_map(|p| p.parsed).map(|p| usize::from(p.stamp.publisher)).collect()
}

fn leader(world: &World, client: usize) -> Option<ParticipantId> {
    let told = world.clients[client].messages.iter().rev().find_map(|(_, m)| match m {
        ServerMessage::Dominant { participants } => Some(participants.first().cloned()),
        _ => None,
    });
    told.flatten()
}

#[test]
fn the_loudest_are_heard() {
    let (mut world, all, listener) = stage(21);
    for (a, b) in [(0, 1), (2, 3), (4, 5), (0, 5)] {
        for client in &all {
            world.clients[*client].speak(if [a, b].contains(client) { 25 } else { SILENT });
        }
        world.run(Duration::from_secs(2));
        assert_eq!(present(&world, listener, MediaKind::Audio), BTreeSet::from([all[a], all[b]]));
    }
    world.check().assert_sound();
}

#[test]
fn pictures_follow_the_dominant_speaker_and_do_not_flap() {
    let (mut world, all, listener) = stage(22);
    for speaker in [3, 4, 5] {
        for client in &all {
            world.clients[*client].speak(if *client == all[speaker] { 25 } else { SILENT });
        }
        world.run(Duration::from_secs(4));
        assert_eq!(leader(&world, listener), Some(world.clients[all[speaker]].id()));
        assert!(present(&world, listener, MediaKind::Video).contains(&all[speaker]));
    }
    // Two talk across each other, in pieces too short to lead by.
    let before = world.check().of(listener).switches;
    for round in 0..40 {
        let speaker = [all[4], all[5]][round % 2];
        for client in [all[4], all[5]] {
            world.clients[client].speak(if client == speaker { 25 } else { 35 });
        }
        world.run(Duration::from_millis(200));
    }
    let report = world.check();
    report.assert_sound();
    assert!(report.of(listener).switches - before <= 2, "{} then {before}", report.of(listener).switches);
    assert_eq!(present(&world, listener, MediaKind::Video), BTreeSet::from([all[4], all[5]]));
}

#[test]
fn who_speaks_is_told_by_name_and_level() {
    let (mut world, all, listener) = stage(23);
    world.clients[all[2]].speak(20);
    world.run(Duration::from_secs(2));
    let told = world.clients[listener].messages.iter().rev().find_map(|(_, m)| match m {
        ServerMessage::Speakers { speakers } => Some(speakers.clone()),
        _ => None,
    });
    let told = told.expect("somebody speaks");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].participant, world.clients[all[2]].id());
    assert!((18..24).contains(&told[0].level), "{}", told[0].level);
    // Five times per second at most.
    let times: Vec<_> = world.clients[listener]
        .messages
        .iter()
        .filter(|(_, m)| matches!(m, ServerMessage::Speakers { .. }))
        .map(|(at, _)| *at)
        .collect();
    assert!(times.windows(2).all(|w| w[1] - w[0] >= Duration::from_millis(150)));
}

#[test]
fn a_slot_of_sound_and_the_slot_of_its_picture_have_one_number() {
    let (mut world, all, listener) = stage(24);
    for (i, client) in all.iter().enumerate() {
        world.clients[*client].speak(if i < 2 { 25 } else { SILENT });
    }
    world.run(Duration::from_secs(5));
    let shows = |slot: usize| {
        let slot = &world.clients[listener].slots[slot];
        slot.packets.last().and_then(|p| p.parsed).map(|p| p.stamp.publisher)
    };
    let (audio, video) = ([shows(0), shows(1)], [shows(2), shows(3)]);
    let both: BTreeSet<_> = audio.iter().chain(&video).collect();
    assert_eq!(both.len(), 2, "{audio:?} {video:?}");
    assert_eq!(audio, video);
}
