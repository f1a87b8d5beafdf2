//! Stories: what a room of people may do on networks of all kinds, drawn from a seed, with everything checked.
//!
//! Most seeds tell of people who come, go, vanish, come back, mute, pin, share and speak while their links break and heal
//! (`chaos`); of each eight, one of the same in a meeting of half an hour (`meeting`), and two of a quiet room on whose
//! links something bad happens and ends (`recovery`).

mod chaos;
mod meeting;
mod recovery;

use std::time::Duration;

use antiphon_base::VideoCodec;
use antiphon_shard::{Config, Lag};
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::client::Profile;
use crate::entropy::{seeded, thread_time};
use crate::net::{Burst, Conditions, Rate};
use crate::stamp::nested::{MAX_LAYERS, Mode};
use crate::world::World;

/// What came of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The [fingerprint](World::trace) of the run.
    pub trace: u64,
    /// Each breaks a rule.
    pub faults: Vec<String>,
    /// Media packets that came to somebody.
    pub packets: u64,
    /// How long the room was simulated.
    pub room_time: Duration,
    /// The times of all connections together.
    pub participant_time: Duration,
}

/// Tells the story of a seed. The same seed gives the same outcome, in any process.
pub fn tell(seed: u64) -> Outcome {
    tell_timed(seed).0
}

/// As [`tell`], with the processor time that it took, which is another each time.
pub fn tell_timed(seed: u64) -> (Outcome, Duration) {
    seeded(seed, || (play(seed), thread_time()))
}

/// On a thread of the seed's.
fn play(seed: u64) -> Outcome {
    let is_recovery = seed % 4 == 3;
    // Connections whose peers have gone end soon, so that a story has the end of many; none ends in a recovery.
    let consent_timeout = if is_recovery { recovery::CONSENT } else { Duration::from_secs(6) };
    let resume_ttl = Duration::from_secs(10);
    let config = Config { consent_timeout, resume_ttl, ..Config::default() };
    // Half of the rooms of each kind are spread over two shards: kinds go by the last four bits.
    let shards = if seed & 16 == 0 { 1 } else { 2 };
    let mut world = World::spread(seed, &config, shards);
    if shards > 1 {
        let mut lag = || Duration::from_micros(world.rng.random_range(0..5_000));
        world.engine.lag = Lag { messages: lag(), media: lag() };
    }
    // Half of all stories, so that each kind is there in each codec: kinds go by the last five bits.
    let codec = [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::Vp8, VideoCodec::Av1]
        [usize::try_from(seed / 32 % 4).expect("below four")];
    let mut faults = match seed % 16 {
        _ if is_recovery => recovery::play(&mut world, codec),
        5 | 14 => meeting::play(&mut world, codec),
        _ => chaos::play(&mut world, codec),
    };
    let report = world.check();
    faults.extend(report.faults);
    let metrics = world.engine.metrics();
    if (metrics.room_panics, metrics.relay_dropped, metrics.link_dropped) != (0, 0, 0) {
        faults.push(format!("a room panicked, or shards lost something between them: {metrics:?}"));
    }
    let participant_time = world.clients.iter().map(|c| c.lifetime(world.now)).sum();
    let (trace, room_time) = (world.trace(), world.elapsed());
    let packets = report.slots.values().map(|s| s.packets).sum();
    faults.extend(world.leftovers());
    Outcome { seed, trace, faults, packets, room_time, participant_time }
}

/// A camera whose layers are streams, or not: then those of VP9 and AV1 are spatial layers of its only stream.
fn layered(rng: &mut impl Rng, profile: Profile, codec: VideoCodec, simulcast: f64) -> Profile {
    let profile = Profile { codec, ..profile };
    if rng.random_bool(simulcast) {
        return profile.simulcast();
    }
    if codec == VideoCodec::Vp8 {
        return profile;
    }
    let layers = *[2, MAX_LAYERS].choose(rng).expect("two");
    Profile { mode: Some(Mode { layers, key_only: rng.random_bool(0.5) }), ..profile }
}

/// How people's links are: from perfect to bad, but so that one can talk.
fn usual(rng: &mut impl Rng) -> Conditions {
    let good = Conditions { delay: Duration::from_millis(rng.random_range(1..120)), ..Conditions::default() };
    match rng.random_range(0..6) {
        0 | 1 => good,
        2 => Conditions {
            loss: rng.random_range(0.0..0.05),
            jitter: Duration::from_millis(rng.random_range(0..30)),
            reorder: rng.random_range(0.0..0.05),
            duplicate: rng.random_range(0.0..0.02),
            ..good
        },
        3 => Conditions { burst: Some(Burst { enter: 0.005, leave: 0.2, loss: 0.7 }), ..good },
        4 => Conditions { corrupt: rng.random_range(0.0..0.01), ..good },
        _ => Conditions {
            rate: Some(Rate::with_queue(1_500_000, Duration::from_millis(rng.random_range(50..400)))),
            ..good
        },
    }
}

/// Something bad that happens to a link for a while.
fn bad(rng: &mut impl Rng, good: &Conditions) -> Conditions {
    let good = good.clone();
    match rng.random_range(0..8) {
        0 => Conditions { loss: rng.random_range(0.05..0.4), ..good },
        1 => Conditions { burst: Some(Burst { enter: 0.02, leave: 0.1, loss: 0.9 }), ..good },
        2 => Conditions {
            delay: good.delay + Duration::from_millis(rng.random_range(50..400)),
            jitter: Duration::from_millis(rng.random_range(20..200)),
            ..good
        },
        3 => Conditions { reorder: 0.2, duplicate: 0.3, ..good },
        4 => Conditions { corrupt: rng.random_range(0.01..0.2), ..good },
        5 => {
            let (bps, queue) = (rng.random_range(80_000..600_000), rng.random_range(50..500));
            Conditions { rate: Some(Rate::with_queue(bps, Duration::from_millis(queue))), ..good }
        }
        _ => Conditions { cut: true, ..good },
    }
}
