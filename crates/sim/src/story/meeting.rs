//! A meeting: the same things happen as in `chaos`, but seldom. Between them people are mostly silent, and what is there goes on for
//! minutes: timers, expiries, reports, keepalives, policies of key frames, numbers that wrap.

use std::time::Duration;

use antiphon_base::{Source, VideoCodec};
use antiphon_wire::control::Request;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::chaos::{FPS, LAST_WORDS, NAMES, SILENCE, STEPS, act, alive, enter};
use crate::world::World;

/// After something has happened somebody speaks, with the camera on.
const LIVELY: Duration = Duration::from_secs(4);

pub(super) fn play(world: &mut World, codec: VideoCodec) -> Vec<String> {
    let mut faults = Vec::new();
    let crowd = world.rng.random_range(2..=NAMES.len());
    for _ in 0..STEPS {
        if alive(world).len() < crowd {
            enter(world, (crowd, codec));
        }
        act(world, (crowd, codec));
        speak(world);
        world.run(LIVELY);
        faults.extend(world.excess());
        hush(world);
        let pause = world.rng.random_range(5..90);
        world.run(Duration::from_secs(pause));
        faults.extend(world.excess());
    }
    world.run(LAST_WORDS);
    faults
}

fn speak(world: &mut World) {
    let Some(&client) = alive(world).choose(&mut world.rng) else { return };
    world.clients[client].speak(40);
    world.say(client, Request::Publish { source: Source::Camera, active: true, hint: None });
    let now = world.now;
    world.clients[client].start(now, Source::Camera, FPS);
}

/// Everybody falls silent and turns the camera off.
fn hush(world: &mut World) {
    for client in alive(world) {
        world.clients[client].speak(SILENCE);
        for source in [Source::Camera, Source::Screen] {
            world.say(client, Request::Publish { source, active: false, hint: None });
            world.clients[client].stop(source);
        }
    }
}
