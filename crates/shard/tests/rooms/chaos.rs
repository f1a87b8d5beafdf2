//! Everything at once, from seeds: people come, go, vanish, come back, mute, pin, share, speak, on links of all kinds.
//! Whatever they do, what everybody receives is sound.

use std::time::Duration;

use antiphon_base::Source;
use antiphon_shard::Config;
use antiphon_sim::net::{Burst, Rate};
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::{Follow, Pin, Policy, Request};
use rand::Rng;
use rand::seq::{IndexedRandom, IteratorRandom};

const STEPS: u32 = 60;
const NAMES: [&str; 6] = ["anna", "ben", "cleo", "dan", "eva", "finn"];

fn conditions(rng: &mut impl Rng) -> Conditions {
    let delay = Duration::from_millis(rng.random_range(1..120));
    match rng.random_range(0..4) {
        0 => Conditions { delay, ..Conditions::default() },
        1 => Conditions {
            delay,
            loss: rng.random_range(0.0..0.05),
            jitter: Duration::from_millis(rng.random_range(0..30)),
            reorder: rng.random_range(0.0..0.05),
            duplicate: rng.random_range(0.0..0.02),
            ..Conditions::default()
        },
        2 => Conditions {
            delay,
            burst: Some(Burst { enter: 0.005, leave: 0.2, loss: 0.7 }),
            ..Conditions::default()
        },
        _ => Conditions {
            delay,
            rate: Some(Rate { bps: 1_500_000, queue_bytes: 60_000 }),
            ..Conditions::default()
        },
    }
}

fn policy(world: &mut World) -> Policy {
    let ids: Vec<_> = world.publishers.values().map(|p| p.id.clone()).collect();
    let rng = &mut world.rng;
    let heights = [None, Some(180), Some(360), Some(720)];
    let pins = (0..rng.random_range(0..3)).map(|_| Pin {
        participant: ids.choose(rng).expect("somebody has joined").clone(),
        source: *[Source::Camera, Source::Camera, Source::Screen].choose(rng).expect("three"),
        max_height: *heights.choose(rng).expect("four"),
    });
    let pins = pins.collect();
    Policy {
        pins,
        follow: *[Follow::Dominant, Follow::Joined, Follow::None].choose(rng).expect("three"),
        max_height: *heights.choose(rng).expect("four"),
        ..Policy::default()
    }
}

/// Comes, or comes back.
fn enter(world: &mut World) {
    let rng = &mut world.rng;
    let name = *NAMES.choose(rng).expect("six");
    let mut profile = Profile::new(name);
    if rng.random_bool(0.5) {
        profile = profile.simulcast();
    }
    profile.audio_slots = rng.random_range(1..4);
    profile.video_slots = rng.random_range(1..5);
    let here = world.clients.iter().rposition(|c| c.profile.id == name);
    if let Some(old) = here {
        if world.rng.random_bool(0.7) {
            profile.resume = Some(world.clients[old].joined.resume_token.clone());
        }
        world.vanish(old);
    }
    world.conditions = conditions(&mut world.rng);
    let client = world.join(profile);
    let now = world.now;
    for source in [Source::Microphone, Source::Camera] {
        if world.rng.random_bool(0.8) {
            world.clients[client].start(now, source, 15);
        }
    }
}

fn act(world: &mut World) {
    let alive = (0..world.clients.len())
        .filter(|c| !world.clients[*c].vanished && world.clients[*c].closed.is_none());
    let Some(client) = alive.choose(&mut world.rng) else { return enter(world) };
    let source = *Source::ALL.choose(&mut world.rng).expect("four");
    let now = world.now;
    match world.rng.random_range(0..12) {
        0 | 1 => enter(world),
        2 => world.vanish(client),
        3 => drop(world.say(client, Request::Leave)),
        4 => {
            let muted = world.rng.random_bool(0.5);
            world.say(client, Request::Mute { source, muted });
        }
        5 => {
            let active = world.rng.random_bool(0.7);
            world.say(client, Request::Publish { source, active, hint: None });
            if active {
                world.clients[client].start(now, source, 10);
            } else {
                world.clients[client].stop(source);
            }
        }
        6 => {
            let level = world.rng.random_range(10..110);
            world.clients[client].speak(level);
        }
        7 => {
            let bps = world.rng.random_range(100_000..4_000_000);
            let slot = world.rng.random_range(0..world.clients[client].slots.len());
            world.clients[client].request_remb(slot, bps);
        }
        8 => {
            let slot = world.rng.random_range(0..world.clients[client].slots.len());
            world.clients[client].request_keyframe(slot);
        }
        _ => {
            let policy = policy(world);
            world.say(client, Request::Policy { policy });
        }
    }
}

#[test]
fn whatever_they_do_all_is_sound() {
    let mut total = 0;
    // The short form; `make sim SEEDS=30` runs the long one.
    let seeds = std::env::var("ANTIPHON_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8_u64);
    for seed in 100..100 + seeds {
        let consent_timeout = Duration::from_secs(6);
        let config = Config { consent_timeout, resume_ttl: Duration::from_secs(10), ..Config::default() };
        let mut world = World::with(seed, config);
        for _ in 0..3 {
            enter(&mut world);
        }
        for _ in 0..STEPS {
            let pause = world.rng.random_range(50..700);
            world.run(Duration::from_millis(pause));
            act(&mut world);
        }
        // Announcements of the last steps arrive, too.
        world.run(Duration::from_secs(4));
        let report = world.check();
        let packets: u64 = report.slots.values().map(|s| s.packets).sum();
        println!("seed {seed}: {} clients, {packets} packets", world.clients.len());
        report.assert_sound();
        total += packets;
        assert_eq!(world.engine.metrics().room_panics, 0);
    }
    // Guards against a test in which nothing flows; the seeds give some 2,000 each.
    assert!(total > 1_000 * seeds, "{total} packets from {seeds} seeds");
}
