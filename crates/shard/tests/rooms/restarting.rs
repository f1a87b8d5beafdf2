//! ICE restarts: media goes on by another way, the old session is good until the new one is used, and nobody else can do it.

use std::time::Duration;

use antiphon_shard::{IceError, IceMatch, IceRequest, IceUpdate, Transport};
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::Request;

fn call() -> (World, usize, usize) {
    call_by(Transport::Udp)
}

/// Two who send to each other, for two seconds; Anna comes by this protocol.
fn call_by(transport: Transport) -> (World, usize, usize) {
    let mut world = World::new(47);
    world.conditions = Conditions { delay: Duration::from_millis(20), ..Conditions::default() };
    let anna = world.enter(Profile { transport, ..Profile::new("anna") });
    let ben = world.enter(Profile::new("ben"));
    for client in [anna, ben] {
        world.talk(client, 20);
    }
    world.run(Duration::from_secs(2));
    (world, anna, ben)
}

/// Media packets that a client has got.
fn packets(world: &World, client: usize) -> usize {
    world.clients[client].slots.iter().map(|s| s.packets.len()).sum()
}

/// Media flows both ways, and so does control.
fn assert_flows(world: &mut World, (anna, ben): (usize, usize)) {
    let before = [anna, ben].map(|c| packets(world, c));
    let asked = [anna, ben].map(|c| world.say(c, Request::Sync));
    world.run(Duration::from_secs(2));
    for (at, client) in [anna, ben].into_iter().enumerate() {
        let got = packets(world, client) - before[at];
        assert!(got > 120, "client {client} got {got} packets in 2 s");
        assert!(world.clients[client].reply(asked[at]).is_some(), "client {client} got no reply");
    }
}

#[test]
fn media_goes_on_by_another_way() {
    goes_on(call(), false);
}

#[test]
fn media_goes_on_by_another_tcp_connection() {
    // The old one falls silent, or is seen to end.
    for ends in [false, true] {
        goes_on(call_by(Transport::Tcp), ends);
    }
}

fn goes_on((mut world, anna, ben): (World, usize, usize), old_ends: bool) {
    for _ in 0..3 {
        let old = world.clients[anna].address;
        world.moves(anna);
        if old_ends {
            world.engine.tcp_ended(old);
        }
        world.restart_ice(anna).unwrap();
        world.run(Duration::from_millis(500));
        assert_flows(&mut world, (anna, ben));
    }
    assert_eq!(world.engine.metrics().ice_restarts, 3);
    assert_eq!(world.status("anna").unwrap().state, "connected");
    // Longer than the agent keeps a way that it does not hear of, and than consent lasts.
    world.run(Duration::from_secs(40));
    assert_flows(&mut world, (anna, ben));
    world.check().assert_sound();
}

#[test]
fn a_restart_without_another_address_changes_nothing_that_is_seen() {
    let (mut world, anna, ben) = call();
    world.restart_ice(anna).unwrap();
    assert_flows(&mut world, (anna, ben));
    world.run(Duration::from_secs(40));
    assert_flows(&mut world, (anna, ben));
    world.check().assert_sound();
}

/// The answer may never come: who asked goes on as before, as long as it wants.
#[test]
fn the_old_session_is_good_until_the_new_one_is_used() {
    let (mut world, anna, ben) = call();
    let id = world.clients[anna].id();
    for n in 0..5 {
        let remote = Some((format!("peer{n}"), "p".repeat(22)));
        let request = IceRequest { session: IceMatch::Any, remote };
        let update = world.engine.ice(world.now, &world.room, &id, &request).unwrap();
        assert!(matches!(update, IceUpdate::Restarted(_)));
    }
    world.run(Duration::from_secs(40));
    assert_flows(&mut world, (anna, ben));
    // And a restart that is carried out still works.
    world.moves(anna);
    world.restart_ice(anna).unwrap();
    world.run(Duration::from_millis(500));
    assert_flows(&mut world, (anna, ben));
    world.check().assert_sound();
}

/// Checks of the old session, caught on the way and sent from elsewhere, move nothing.
#[test]
fn the_old_sessions_checks_are_worth_nothing_after_it() {
    let (mut world, anna, ben) = call();
    world.captured = Some(Vec::new());
    world.run(Duration::from_secs(6));
    let caught = world.captured.take().unwrap();
    let from_anna = world.clients[anna].address;
    world.moves(anna);
    world.restart_ice(anna).unwrap();
    world.run(Duration::from_millis(500));
    let unknown = world.engine.metrics().datagrams_unknown;
    let checks = caught.into_iter().filter(|d| d.source == from_anna && d.bytes.starts_with(&[0, 1]));
    let mut replayed = 0;
    for check in checks {
        let elsewhere = "10.9.9.9:9999".parse().unwrap();
        world.engine.handle_datagram(world.now, elsewhere, check.destination, &check.bytes);
        replayed += 1;
    }
    assert!(replayed > 0);
    assert_eq!(world.engine.metrics().datagrams_unknown - unknown, replayed);
    assert_flows(&mut world, (anna, ben));
}

#[test]
fn who_is_not_there_cannot_restart() {
    let (mut world, anna, ben) = call();
    let remote = Some(("peer".to_owned(), "p".repeat(22)));
    let request = IceRequest { session: IceMatch::Any, remote };
    let nobody = antiphon_base::ParticipantId::new("nobody").unwrap();
    assert_eq!(world.engine.ice(world.now, &world.room, &nobody, &request), Err(IceError::Unknown));
    let id = world.clients[anna].id();
    world.say(anna, Request::Leave);
    world.run(Duration::from_secs(1));
    assert_eq!(world.engine.ice(world.now, &world.room, &id, &request), Err(IceError::Gone));
    world.vanish(ben);
    world.run(Duration::from_secs(40));
    let id = world.clients[ben].id();
    assert_eq!(world.engine.ice(world.now, &world.room, &id, &request), Err(IceError::NoConnection));
}
