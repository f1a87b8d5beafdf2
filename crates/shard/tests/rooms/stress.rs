//! A busy shard and lines that do not carry all: fewer videos, all voices; rates as they are measured.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use antiphon_base::Source;
use antiphon_shard::Config;
use antiphon_sim::net::Rate;
use antiphon_sim::{Conditions, Profile, World, seeded};
use antiphon_wire::control::{LimitReason, ServerMessage};

/// Three with voice and camera, and one who watches.
fn stage(seed: u64) -> (World, usize) {
    let mut world = World::new(seed);
    let people = ["anna", "ben", "cleo"].map(|name| world.enter(Profile::new(name).simulcast()));
    let me = world.enter(Profile::new("dan").listener(3, 4));
    let now = world.now;
    for person in people {
        world.clients[person].start(now, Source::Camera, 20);
        world.clients[person].start(now, Source::Microphone, 0);
        for sender in world.clients[person].senders.iter_mut().filter(|s| s.source == Source::Camera) {
            sender.bps = Some([140_000, 450_000, 1_500_000][usize::from(sender.layer)]);
        }
    }
    (world, me)
}

/// Whose tracks of `source` came in the last second.
fn recent(world: &World, client: usize, source: Source) -> usize {
    let since = world.now - Duration::from_secs(1);
    let packets = world.clients[client].slots.iter().flat_map(|s| &s.packets);
    let stamps = packets.filter(|p| p.at >= since).filter_map(|p| p.parsed).map(|p| p.stamp);
    stamps.filter(|s| s.source == source).map(|s| s.publisher).collect::<BTreeSet<_>>().len()
}

/// What the client was told of its videos, in order.
fn limits(world: &World, client: usize) -> Vec<Option<(u16, LimitReason)>> {
    let told = world.clients[client].messages.iter().filter_map(|(_, m)| match m {
        ServerMessage::Limits { last_n, reason } => Some(last_n.zip(*reason)),
        _ => None,
    });
    told.collect()
}

/// When the client was told of its first limit.
fn first_limit(world: &World, client: usize) -> Option<Instant> {
    let mut messages = world.clients[client].messages.iter();
    messages.find(|(_, m)| matches!(m, ServerMessage::Limits { .. })).map(|(at, _)| *at)
}

#[test]
fn a_busy_shard_serves_fewer_videos_within_two_seconds_and_all_voices() {
    seeded(81, busy_shard);
}

fn busy_shard() {
    let (mut world, me) = stage(81);
    world.run(Duration::from_secs(4));
    assert_eq!((recent(&world, me, Source::Camera), recent(&world, me, Source::Microphone)), (3, 3));
    // A shard tells its load of each second at the end of it. It gets busy with the beginning of one.
    world.engine.set_load(world.now, 0, 300);
    let begins = world.now;
    for second in 1..=6 {
        world.run(Duration::from_secs(1));
        if second == 3 {
            // In the third second nothing comes of what was too much.
            assert_eq!((recent(&world, me, Source::Camera), recent(&world, me, Source::Microphone)), (2, 3));
        }
        world.engine.set_load(world.now, 0, 900);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(limits(&world, me)[0], Some((2, LimitReason::ServerBusy)));
    let told = first_limit(&world, me).unwrap() - begins;
    assert!(told <= Duration::from_secs(2), "told after {told:?}");
    assert_eq!(limits(&world, me).last(), Some(&Some((1, LimitReason::ServerBusy))));
    assert_eq!((recent(&world, me, Source::Camera), recent(&world, me, Source::Microphone)), (1, 3));
    for _ in 0..20 {
        world.run(Duration::from_secs(1));
        world.engine.set_load(world.now, 0, 400);
    }
    assert_eq!(limits(&world, me).last(), Some(&None));
    assert_eq!((recent(&world, me, Source::Camera), recent(&world, me, Source::Microphone)), (3, 3));
    world.check().assert_sound();
}

#[test]
fn a_line_too_narrow_for_all_lowest_layers_keeps_the_voices() {
    // At different moments between two pictures, and between two messages of feedback.
    for seed in 82..88 {
        seeded(seed, || narrow_line(seed));
    }
}

fn narrow_line(seed: u64) {
    let (mut world, me) = stage(seed);
    // Somebody else watches, too: nobody can be squeezed for one bad line.
    let good = world.enter(Profile::new("eve").listener(3, 4));
    world.run(Duration::from_secs(6) + Duration::from_millis((seed - 82) * 17));
    let address = world.clients[me].address;
    let line = |bps: u64| Conditions {
        delay: Duration::from_millis(20),
        rate: Some(Rate { bps, queue_bytes: bps / 8 / 5 }),
        ..Conditions::default()
    };
    world.network.paths.get_mut(&address).unwrap().down.set(line(330_000));
    let narrowed = world.now;
    world.run(Duration::from_secs(8));
    let told = first_limit(&world, me).unwrap() - narrowed;
    println!("told after {told:?}");
    assert!(told <= Duration::from_secs(2), "told after {told:?}");
    assert!(
        matches!(limits(&world, me).last(), Some(Some((0..=2, LimitReason::Bandwidth)))),
        "{:?}",
        limits(&world, me)
    );
    assert!(recent(&world, me, Source::Camera) < 3);
    assert_eq!(recent(&world, me, Source::Microphone), 3);
    assert_eq!(limits(&world, good), []);
    world.network.paths.get_mut(&address).unwrap().down.set(line(8_000_000));
    world.run(Duration::from_secs(25));
    assert_eq!(limits(&world, me).last(), Some(&None), "{:?}", limits(&world, me));
    assert_eq!(recent(&world, me, Source::Camera), 3);
    world.check().assert_sound();
}

#[test]
fn whom_another_shard_serves_loses_nothing() {
    let mut world = World::spread(83, &Config::default(), 2);
    let home = world.engine.home(&world.room);
    let mut enter = |shard, profile: Profile| {
        world.shard = Some(shard);
        world.enter(profile)
    };
    let people = ["anna", "ben", "cleo"].map(|name| enter(home, Profile::new(name)));
    let here = enter(home, Profile::new("dan").listener(3, 4));
    let there = enter(1 - home, Profile::new("eve").listener(3, 4));
    let now = world.now;
    for person in people {
        world.clients[person].start(now, Source::Camera, 20);
    }
    world.run(Duration::from_secs(4));
    // The home's second begins just after that of the other shard, which gets busy: it does not wait for the end of its own.
    world.engine.set_load(world.now, 1 - home, 300);
    let begins = world.now;
    world.run(Duration::from_millis(100));
    for _ in 0..4 {
        world.engine.set_load(world.now, home, 300);
        world.run(Duration::from_millis(900));
        world.engine.set_load(world.now, 1 - home, 900);
        world.run(Duration::from_millis(100));
    }
    let told = first_limit(&world, there).unwrap() - begins;
    assert!(told <= Duration::from_millis(1_200), "told after {told:?}");
    world.run(Duration::from_secs(1));
    assert_eq!((recent(&world, here, Source::Camera), recent(&world, there, Source::Camera)), (3, 1));
    assert_eq!(limits(&world, here), []);
    assert_eq!(limits(&world, there).last(), Some(&Some((1, LimitReason::ServerBusy))));
    world.check().assert_sound();
}
