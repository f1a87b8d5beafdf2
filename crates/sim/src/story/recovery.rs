//! A quiet room in which something bad happens to one link, and ends: then all is as before, soon.

use std::time::Duration;

use antiphon_base::{Source, VideoCodec};
use rand::Rng;

use crate::check::recovery;
use crate::client::Profile;
use crate::net::{Conditions, Way};
use crate::world::World;

/// Until the estimates of the bandwidth have found what the links carry.
const WARM_UP: Duration = Duration::from_secs(12);
/// Bits per second of the camera's layers.
const LAYERS_BPS: [u64; 3] = [100_000, 250_000, 600_000];
const FPS: u32 = 12;
/// Longer than any sign of life is missing: a link is cut for up to five seconds, as much as three after the last check of
/// the peer's ICE, and the first check after it may come three seconds later.
pub(super) const CONSENT: Duration = Duration::from_secs(12);

pub(super) fn play(world: &mut World, codec: VideoCodec) -> Vec<String> {
    let rng = &mut world.rng;
    let simulcast = if codec == VideoCodec::Vp8 { 0.7 } else { 0.3 };
    let anna = super::layered(rng, Profile::new("anna").listener(1, 1), codec, simulcast);
    let watchers = rng.random_range(1..=2);
    let delay = Duration::from_millis(rng.random_range(5..80));
    let good = Conditions { delay, ..Conditions::default() };
    world.conditions = good.clone();
    place(world);
    let anna = world.enter(Profile { sends: true, ..anna });
    for name in ["ben", "cleo"].into_iter().take(watchers) {
        place(world);
        world.enter(Profile { codec, ..Profile::new(name).listener(1, 1) });
    }
    let now = world.now;
    world.clients[anna].start(now, Source::Camera, FPS);
    world.clients[anna].start(now, Source::Microphone, 0);
    for sender in world.clients[anna].senders.iter_mut().filter(|s| s.source == Source::Camera) {
        sender.bps = Some(match sender.mode {
            Some(_) => LAYERS_BPS.iter().sum(),
            None => LAYERS_BPS[usize::from(sender.layer)],
        });
    }
    world.run(WARM_UP);

    let victim = world.rng.random_range(0..world.clients.len());
    let way = if victim == anna { Way::Up } else { Way::Down };
    let address = world.clients[victim].address;
    let from = world.now;
    let (bad, ms) = (super::bad(&mut world.rng, &good), world.rng.random_range(300..5_000));
    let to = from + Duration::from_millis(ms);
    let what = format!("{:?} {way:?} {bad:?}", world.clients[victim].profile.id);
    world.network.change(from, address, way, bad);
    world.network.change(to, address, way, good);
    world.run(to - from + recovery::WITHIN);

    let mut faults = world.excess();
    let id = world.clients[victim].profile.id.clone();
    let state = world.status(&id).map_or("forgotten", |status| status.state);
    if state != "connected" {
        faults.push(format!("{id} is {state}; bad was {what}"));
    }
    for client in 1..world.clients.len() {
        let mut found = recovery::check(world, client, from, to);
        if client != victim && victim != anna {
            found = found.or_else(|| recovery::unaffected(world, client, from, to));
        }
        faults.extend(found.map(|fault| format!("{fault}; bad was {what}")));
    }
    faults
}

/// The next one may come to any shard.
fn place(world: &mut World) {
    let shards = world.shards();
    world.shard = (shards > 1).then(|| world.rng.random_range(0..shards));
}
