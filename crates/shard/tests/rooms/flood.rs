//! Floods of 20,000 datagrams a second beside a call, in virtual time: the call does not notice, nothing is kept, and
//! little is answered. What a flood costs on a real machine `make bench` measures.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use antiphon_sim::World;
use antiphon_sim::net::Datagram;
use antiphon_sim::world::SERVER;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::hostile::{assert_unaffected, stranger, talking};

/// Datagrams in a millisecond.
const PER_MS: u32 = 20;
const TIME_MS: u32 = 2_000;
/// How much more than it sent a stranger may get, in percent.
const MAX_ANSWER_PERCENT: u64 = 150;

/// What one address sent and got.
#[derive(Default)]
struct Exchange {
    came: u64,
    went: u64,
}

/// Floods the server from many addresses; what each stranger sent and got, in bytes.
fn flood(
    world: &mut World,
    mut make: impl FnMut(&mut SmallRng) -> Vec<u8>,
) -> BTreeMap<SocketAddr, Exchange> {
    let mut rng = SmallRng::seed_from_u64(world.rng.random());
    let mut exchanges: BTreeMap<SocketAddr, Exchange> = BTreeMap::new();
    for _ in 0..TIME_MS {
        for _ in 0..PER_MS {
            let (source, bytes) = (stranger(&mut rng), make(&mut rng));
            exchanges.entry(source).or_default().came += bytes.len() as u64;
            let now = world.now;
            world.engine.handle_datagram(now, source, SERVER, &bytes);
        }
        world.finish();
        world.run(Duration::from_millis(1));
    }
    for stray in &world.strays {
        exchanges.entry(stray.destination).or_default().went += stray.bytes.len() as u64;
    }
    exchanges
}

fn assert_harmless(seed: u64, make: impl FnOnce(&[Datagram]) -> Box<dyn FnMut(&mut SmallRng) -> Vec<u8>>) {
    let (mut world, anna, ben) = talking(seed);
    let captured = world.captured.take().unwrap();
    let before = world.engine.holdings();
    let exchanges = flood(&mut world, make(&captured));
    for (address, Exchange { came, went }) in exchanges {
        assert!(went * 100 <= came * MAX_ANSWER_PERCENT, "{address} sent {came} bytes and got {went}");
    }
    let after = world.engine.holdings();
    let kept = |h: antiphon_shard::Holdings| (h.peers, h.addresses, h.ufrags, h.members, h.feeds, h.routes);
    assert_eq!(kept(before), kept(after));
    assert!(after.timers <= before.timers + 10, "{before:?} {after:?}");
    // Not one frame was lost while it lasted, either.
    assert_unaffected(&mut world, anna, ben);
}

#[test]
fn junk_of_any_first_byte() {
    assert_harmless(91, |_| Box::new(|rng| (0..rng.random_range(1..1_200)).map(|_| rng.random()).collect()));
}

#[test]
fn stun_with_bad_integrity() {
    assert_harmless(92, |captured| {
        let requests: Vec<Vec<u8>> =
            captured.iter().filter(|d| d.bytes[0] == 0 && d.bytes[1] == 1).map(|d| d.bytes.clone()).collect();
        // Who sees a request can name the session, but not seal another transaction.
        Box::new(move |rng| {
            let mut bytes = requests[rng.random_range(0..requests.len())].clone();
            bytes[8..20].fill_with(|| rng.random());
            bytes
        })
    });
}

#[test]
fn client_hellos() {
    assert_harmless(93, |captured| {
        let is_hello = |d: &&Datagram| d.bytes.len() > 60 && d.bytes[0] == 22 && d.bytes[13] == 1;
        let hello = captured.iter().find(is_hello).expect("the peers have sent such").bytes.clone();
        Box::new(move |rng| {
            let mut bytes = hello.clone();
            bytes[27..59].fill_with(|| rng.random());
            bytes
        })
    });
}
