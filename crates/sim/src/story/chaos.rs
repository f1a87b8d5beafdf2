//! Everything at once: people come, go, vanish, come back, mute, pin, share, speak, on links that break and heal.

use std::time::Duration;

use antiphon_base::{Source, VideoCodec};
use antiphon_wire::control::{Follow, Pin, Policy, Request};
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::client::Profile;
use crate::net::Way;
use crate::world::World;

/// Things that happen in a story.
pub(super) const STEPS: u32 = 40;
/// Most who are there at once: as many names.
pub(super) const NAMES: [&str; 6] = ["anna", "ben", "cleo", "dan", "eva", "finn"];
/// Pictures per second: few, since what is tested is what happens between them.
pub(super) const FPS: u32 = 5;
/// Announcements of the last steps arrive, too.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(4);

pub(super) fn play(world: &mut World, codec: VideoCodec) -> Vec<String> {
    let mut faults = Vec::new();
    let crowd = world.rng.random_range(2..=NAMES.len());
    for _ in 0..2 {
        enter(world, (crowd, codec));
    }
    for _ in 0..STEPS {
        let pause = world.rng.random_range(50..1_500);
        world.run(Duration::from_millis(pause));
        act(world, (crowd, codec));
        faults.extend(world.excess());
    }
    world.run(LAST_WORDS);
    faults
}

/// Comes, or comes back.
pub(super) fn enter(world: &mut World, (crowd, codec): (usize, VideoCodec)) {
    let rng = &mut world.rng;
    let name = *NAMES[..crowd].choose(rng).expect("two at least");
    let mut profile = super::layered(rng, Profile::new(name), codec, 0.5);
    profile.red = rng.random_bool(0.5);
    // Long packets, which are fewer, for most: time is better spent on more that happens.
    profile.packet_time = Duration::from_millis(*[20, 60, 60].choose(rng).expect("three"));
    profile.audio_slots = rng.random_range(1..4);
    profile.video_slots = rng.random_range(1..5);
    let here = world.clients.iter().rposition(|c| c.profile.id == name);
    if let Some(old) = here {
        if world.rng.random_bool(0.7) {
            profile.resume = Some(world.clients[old].joined.resume_token.clone());
        }
        world.vanish(old);
    }
    world.conditions = super::usual(&mut world.rng);
    let shards = world.shards();
    world.shard = Some(world.rng.random_range(0..shards)).filter(|_| shards > 1);
    let client = world.join(profile);
    let now = world.now;
    for source in [Source::Microphone, Source::Camera] {
        if world.rng.random_bool(0.8) {
            world.clients[client].start(now, source, FPS);
        }
    }
    // Few speak at a time: the others' microphones send comfort noise.
    let level = if world.rng.random_bool(0.3) { 40 } else { SILENCE };
    world.clients[client].speak(level);
}

/// -dBov at which Opus stops sending (DTX).
pub(super) const SILENCE: u8 = 110;

/// Those who are there.
pub(super) fn alive(world: &World) -> Vec<usize> {
    let is_here = |c: &usize| !world.clients[*c].vanished && world.clients[*c].closed.is_none();
    (0..world.clients.len()).filter(is_here).collect()
}

pub(super) fn act(world: &mut World, (crowd, codec): (usize, VideoCodec)) {
    let alive = alive(world);
    let Some(&client) = alive.choose(&mut world.rng) else { return enter(world, (crowd, codec)) };
    match world.rng.random_range(0..15) {
        0 | 1 => enter(world, (crowd, codec)),
        2 => world.vanish(client),
        3 => drop(world.say(client, Request::Leave)),
        4..=6 => disturb(world, client),
        7 | 8 => {
            let policy = policy(world);
            world.say(client, Request::Policy { policy });
        }
        other => do_something(world, client, other),
    }
}

fn do_something(world: &mut World, client: usize, what: u32) {
    let source = *Source::ALL.choose(&mut world.rng).expect("four");
    let slot = world.rng.random_range(0..world.clients[client].slots.len());
    let now = world.now;
    match what {
        9 => {
            let muted = world.rng.random_bool(0.5);
            world.say(client, Request::Mute { source, muted });
        }
        10 | 11 => {
            let active = world.rng.random_bool(0.7);
            world.say(client, Request::Publish { source, active, hint: None });
            if active {
                world.clients[client].start(now, source, FPS);
            } else {
                world.clients[client].stop(source);
            }
        }
        12 => {
            let level = *[20, 40, 70, SILENCE].choose(&mut world.rng).expect("four");
            world.clients[client].speak(level);
        }
        13 => {
            let bps = world.rng.random_range(100_000..4_000_000);
            world.clients[client].request_remb(slot, bps);
        }
        _ => world.clients[client].request_keyframe(slot),
    }
}

/// A link goes bad, and heals after a while: some are cut for longer than the server waits.
fn disturb(world: &mut World, client: usize) {
    let address = world.clients[client].address;
    let Some(path) = world.network.paths.get(&address) else { return };
    let good = path.down.conditions().clone();
    let rng = &mut world.rng;
    let way = *[Way::Up, Way::Down, Way::Both].choose(rng).expect("three");
    let (conditions, time) = (super::bad(rng, &good), rng.random_range(100..8_000));
    world.network.change(world.now, address, way, conditions);
    world.network.change(world.now + Duration::from_millis(time), address, way, good.healed());
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
        max_videos: *[None, None, Some(1)].choose(rng).expect("three"),
        ..Policy::default()
    }
}
