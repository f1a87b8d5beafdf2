//! How peers reach the server: by TCP, behind a NAT. ICE, DTLS and consent hold there as they do by UDP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use antiphon_base::Source;
use antiphon_shard::config::{Reachability, Tcp};
use antiphon_shard::{Config, Transport};
use antiphon_sim::{Profile, SERVER, World};
use rand::Rng;

use crate::frames_of;

const PUBLIC: &str = "203.0.113.7:7701";

fn by(transport: Transport, id: &str) -> Profile {
    Profile { transport, ..Profile::new(id) }
}

fn with(reach: Reachability) -> Config {
    Config { reach, ..Config::default() }
}

/// Anna by TCP and Ben by UDP talk; each is heard and seen by the other.
fn talking(world: &mut World) -> (usize, usize) {
    let anna = world.enter(by(Transport::Tcp, "anna"));
    let ben = world.enter(Profile::new("ben"));
    for client in [anna, ben] {
        world.talk(client, 30);
    }
    world.run(Duration::from_secs(5));
    (anna, ben)
}

/// `(voice, pictures)` that `client` got of `publisher`.
fn got(world: &World, client: usize, publisher: usize) -> (u64, u64) {
    let of = |source| frames_of(world, client, publisher, source, 0);
    (of(Source::Microphone), of(Source::Camera))
}

#[test]
fn media_goes_both_ways_by_tcp() {
    let mut world = World::new(501);
    let (anna, ben) = talking(&mut world);
    for (client, publisher) in [(anna, ben), (ben, anna)] {
        let (voice, pictures) = got(&world, client, publisher);
        assert!(voice > 150 && pictures > 90, "{client} of {publisher}: {voice} {pictures}");
    }
    assert!(world.strays.is_empty(), "nothing goes by the other protocol");
}

#[test]
fn who_may_come_by_tcp_only_is_told_tcp_only() {
    let mut world = World::with(502, with(Reachability { udp: false, ..Reachability::default() }));
    let anna = world.enter(by(Transport::Tcp, "anna"));
    let answer = &world.clients[anna].answer;
    let candidates: BTreeSet<&str> = answer.lines().filter(|l| l.starts_with("a=candidate:")).collect();
    assert!(!candidates.is_empty());
    for line in candidates {
        assert!(line.contains(" tcp ") && line.contains(" tcptype passive"), "{line}");
    }
    let mut world = World::with(503, with(Reachability { tcp: Tcp::Off, ..Reachability::default() }));
    let ben = world.enter(Profile::new("ben"));
    assert!(!world.clients[ben].answer.contains("tcptype"));
}

#[test]
fn a_connection_that_ends_and_comes_again_goes_on() {
    let mut world = World::new(504);
    let (anna, ben) = talking(&mut world);
    let address = world.clients[anna].address;
    world.engine.tcp_ended(address);
    // Nothing is sent to a connection that is not there.
    let (at, before) = (world.now, got(&world, anna, ben));
    world.finish();
    assert_eq!(world.now, at);
    world.run(Duration::from_secs(10));
    let after = got(&world, anna, ben);
    // The next check of the client comes on the new connection, and with it all media.
    assert!(after.0 > before.0 + 150 && after.1 > before.1 + 90, "{before:?} {after:?}");
}

#[test]
fn consent_by_tcp_ends_as_by_udp() {
    let mut world = World::new(505);
    let (anna, ben) = talking(&mut world);
    let address = world.clients[anna].address;
    world.vanish(anna);
    world.run(Duration::from_secs(40));
    assert_eq!(world.engine.ended_tcp(), [address], "its connection is to be closed");
    let seen = world.clients[ben].roster.len();
    assert!(seen <= 1 || world.status("anna").is_some_and(|s| s.state == "reconnecting"), "{seen}");
}

#[test]
fn dtls_and_media_by_tcp_need_a_connection_that_has_passed_ice() {
    let mut world = World::new(506);
    world.captured = Some(Vec::new());
    let (anna, ben) = talking(&mut world);
    let captured = world.captured.take().unwrap();
    let address = world.clients[anna].address;
    let other: SocketAddr = "192.0.2.9:5000".parse().unwrap();
    let unknown = world.engine.metrics().datagrams_unknown;
    let mut thrown = 0;
    for datagram in captured.iter().filter(|d| d.source == address && d.bytes[0] > 3) {
        // From another connection, and from the same address by the other protocol.
        world.engine.handle_tcp(world.now, other, SERVER, &datagram.bytes);
        world.engine.handle_datagram(world.now, address, SERVER, &datagram.bytes);
        thrown += 2;
    }
    assert!(thrown > 500);
    assert_eq!(world.engine.metrics().datagrams_unknown - unknown, thrown);
    // Who replays a valid request on a connection of his own gets its answer, not the media; nor does he push the peer's
    // connection out with many.
    let request = captured.iter().rev().find(|d| d.source == address && d.bytes[0] < 4).unwrap();
    world.engine.handle_tcp(world.now, other, SERVER, &request.bytes);
    for n in 1..20 {
        let another = SocketAddr::new([192, 0, 2, n].into(), 5_001);
        world.engine.handle_tcp(world.now, another, SERVER, &request.bytes);
    }
    assert!(!world.engine.ended_tcp().contains(&address));
    let before = got(&world, anna, ben);
    world.run(Duration::from_secs(5));
    let after = got(&world, anna, ben);
    assert!(after.0 > before.0 + 150 && after.1 > before.1 + 90, "{before:?} {after:?}");
    let stray: usize = world.strays.iter().filter(|d| d.destination == other).map(|d| d.bytes.len()).sum();
    assert!(stray <= request.bytes.len() * 3 / 2, "{stray} bytes to somebody else");
}

#[test]
fn strangers_by_tcp_change_nothing_and_get_nothing() {
    let mut world = World::new(509);
    world.captured = Some(Vec::new());
    let (anna, ben) = talking(&mut world);
    let captured = world.captured.take().unwrap();
    let before = [got(&world, anna, ben), got(&world, ben, anna)];
    for round in 0..20_000_u32 {
        let mut bytes = captured[world.rng.random_range(0..captured.len())].bytes.clone();
        for _ in 0..world.rng.random_range(1..8) {
            let at = world.rng.random_range(0..bytes.len());
            bytes[at] = world.rng.random();
        }
        // A STUN request that is still whole is a replay, which is answered once: see above.
        bytes.truncate(world.rng.random_range(0..bytes.len()));
        let source =
            SocketAddr::new([192, 0, 2, world.rng.random()].into(), world.rng.random_range(1_024..1_100));
        world.engine.handle_tcp(world.now, source, SERVER, &bytes);
        if round % 100 == 0 {
            world.finish();
            world.run(Duration::from_millis(20));
        }
    }
    world.run(Duration::from_secs(1));
    assert!(world.strays.is_empty(), "{} packets to strangers", world.strays.len());
    for ((voice, pictures), (voice_before, pictures_before)) in
        [got(&world, anna, ben), got(&world, ben, anna)].into_iter().zip(before)
    {
        // Five seconds more.
        assert!(voice > voice_before + 200 && pictures > pictures_before + 120, "{voice} {pictures}");
    }
    assert!(world.clients.iter().all(|c| c.closed.is_none()));
}

#[test]
fn what_comes_to_the_private_address_belongs_to_the_public_one() {
    let public: SocketAddr = PUBLIC.parse().unwrap();
    let announce = Reachability { announce: vec![public.ip()], ..Reachability::default() };
    let external = Reachability { external: vec!["203.0.113.7".parse().unwrap()], ..Reachability::default() };
    for (seed, reach, addresses) in [(507, announce, 1), (508, external, 2)] {
        let mut world = World::with(seed, with(reach));
        world.nat = Some(SocketAddr::new(public.ip(), SERVER.port()));
        let (anna, ben) = talking(&mut world);
        let (voice, pictures) = got(&world, anna, ben);
        assert!(voice > 150 && pictures > 90, "{voice} {pictures}");
        let (voice, pictures) = got(&world, ben, anna);
        assert!(voice > 150 && pictures > 90, "{voice} {pictures}");
        let answer = &world.clients[ben].answer;
        let told: BTreeSet<&str> = answer
            .lines()
            .filter(|l| l.starts_with("a=candidate:") && l.contains(" udp "))
            .filter_map(|l| l.split(' ').nth(4))
            .collect();
        assert_eq!(told.len(), addresses, "{told:?}");
        assert!(told.contains("203.0.113.7"), "{told:?}");
    }
}
