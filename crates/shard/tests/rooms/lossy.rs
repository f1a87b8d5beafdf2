//! Bad networks: what is lost is repaired, what cannot be repaired is seen as such, and nothing is torn.

use std::time::Duration;

use antiphon_base::Source;
use antiphon_sim::net::{Burst, Way};
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::{Pin, Policy, Request};
use rand::seq::SliceRandom;

fn bad() -> Conditions {
    Conditions {
        loss: 0.02,
        delay: Duration::from_millis(100),
        jitter: Duration::from_millis(10),
        reorder: 0.02,
        duplicate: 0.01,
        ..Conditions::default()
    }
}

/// Long enough for a request, the wish for a key frame and the key frame itself, over four times 100 ms.
const PERIOD: Duration = Duration::from_millis(1_500);

/// Four publishers on such links, who change their pins all the time.
fn talk(seed: u64, conditions: Conditions, time: Duration) -> World {
    let mut world = World::new(seed);
    world.conditions = conditions;
    let all = ["anna", "ben", "cleo", "dan"].map(|n| Profile { video_slots: 3, ..Profile::new(n) });
    let all: Vec<usize> = all.into_iter().map(|p| world.enter(p)).collect();
    for client in &all {
        world.talk(*client, 20);
    }
    let mut left = time;
    while let Some(rest) = left.checked_sub(PERIOD) {
        left = rest;
        for client in &all {
            let mut others: Vec<usize> = all.iter().copied().filter(|c| c != client).collect();
            others.shuffle(&mut world.rng);
            let pin = |c: &usize| Pin {
                participant: world.clients[*c].id(),
                source: Source::Camera,
                max_height: None,
            };
            let pins = others.iter().map(pin).take(2).collect();
            let policy = Policy { pins, ..Policy::default() };
            world.say(*client, Request::Policy { policy });
        }
        world.run(PERIOD);
    }
    // Time for the last repairs.
    world.run(Duration::from_secs(1));
    world
}

#[test]
fn two_percent_of_loss_tear_no_picture() {
    let world = talk(11, bad(), Duration::from_secs(15));
    let report = world.check();
    report.assert_sound();
    println!("{}", report.incidents.join("\n"));
    for client in 0..4 {
        let (mut video, mut audio, mut heard) = ((0, 0, 0, 0), (0, 0), 0);
        for slot in &world.clients[client].slots {
            let got = &report.slots[&(world.clients[client].number, slot.mid.clone())];
            if slot.kind == antiphon_base::MediaKind::Video {
                video.0 += got.packets;
                video.1 += got.missing;
                video.2 += got.incomplete;
                video.3 += got.switches;
            } else {
                audio.0 += got.packets;
                audio.1 += got.gaps;
                heard += got.frames;
            }
        }
        let (packets, missing, incomplete, switches) = video;
        println!("client {client}: video {video:?}, audio {audio:?}, heard {heard}");
        // Each of the three others at least; how often layers change is the estimator's affair.
        assert!(switches >= 3, "{switches} switches");
        // Repaired, but for what is late at a switch; without repair it would be four of a hundred.
        assert!(missing * 60 < packets, "{missing} of {packets} video packets missing");
        assert!(incomplete * 100 < packets, "{incomplete} pictures incomplete");
        // Audio is not repaired: two of a hundred, twice, leaves less than six missing.
        assert!(audio.1 * 100 < audio.0 * 6, "{audio:?}");
    }
}

#[test]
fn what_is_lost_is_repaired_both_ways() {
    let mut world = World::new(14);
    world.conditions = bad();
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben").listener(0, 1));
    let now = world.now;
    world.clients[anna].start(now, Source::Camera, 25);
    world.run(Duration::from_secs(30));
    let lost = [anna, ben].map(|c| {
        let path = &world.network.paths[&world.clients[c].address];
        if c == anna { path.up.counters } else { path.down.counters }
    });
    assert!(lost.iter().all(|l| l.lost > 10), "{lost:?}");
    let got = world.check().of(ben);
    println!("{got:?}, {lost:?}");
    assert!(got.missing * 1_000 <= got.packets, "{got:?}");
    assert!(got.gaps * 500 <= got.frames, "{got:?}");
    assert!(got.incomplete * 500 <= got.frames, "{got:?}");
}

#[test]
fn bursts_of_loss_tear_no_picture() {
    let burst = Some(Burst { enter: 0.01, leave: 0.2, loss: 0.8 });
    let world = talk(12, Conditions { loss: 0.0, burst, ..bad() }, Duration::from_secs(8));
    world.check().assert_sound();
    assert!(world.check().of(0).frames > 500);
}

#[test]
fn without_loss_all_of_it_arrives_whatever_the_order() {
    let conditions = Conditions { loss: 0.0, reorder: 0.1, ..bad() };
    let world = talk(13, conditions, Duration::from_secs(6));
    let report = world.check();
    report.assert_sound();
    println!("{}", report.incidents.join("\n"));
    for client in 0..4 {
        let got = report.of(client);
        assert_eq!(got.incomplete, got.cut, "client {client}");
    }
}

/// The first packet after a pause is older than the last before it: a picture that was held up.
#[test]
fn a_picture_that_comes_after_a_pause_behind_a_newer_one_keeps_its_time() {
    let mut world = World::new(15);
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben").listener(0, 1));
    let (now, address) = (world.now, world.clients[anna].address);
    world.clients[anna].start(now, Source::Camera, 5);
    world.run(Duration::from_millis(2_100));
    let held_up = Conditions { reorder: 1.0, reorder_delay: Duration::from_secs(3), ..Conditions::default() };
    world.network.change(world.now, address, Way::Up, held_up);
    // So that it is not asked for.
    world.network.change(world.now, address, Way::Down, Conditions { cut: true, ..Conditions::default() });
    world.run(Duration::from_millis(200));
    world.network.change(world.now, address, Way::Up, Conditions::default());
    world.run(Duration::from_millis(200));
    world.clients[anna].stop(Source::Camera);
    world.run(Duration::from_secs(3));
    let report = world.check();
    report.assert_sound();
    let got = report.of(ben);
    assert_eq!((got.frames, got.missing, got.gaps), (13, 0, 0), "{got:?}");
}
