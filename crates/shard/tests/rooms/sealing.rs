//! What leaves is sealed, and no (key, SSRC, index) is used twice: the one mistake that gives a key away (RFC 7714, 8.4).
//!
//! Everything is opened with the clients' own keys before the network has it ([`antiphon_sim::seals`]), so nothing is guessed: what is
//! not sealed with that key at that index is a fault.

use std::collections::BTreeSet;
use std::time::Duration;

use antiphon_base::Source;
use antiphon_shard::{Config, Grants};
use antiphon_sim::seals::Seals;
use antiphon_sim::{Conditions, Profile, World, seeded};
use antiphon_wire::control::{ParticipantKind, Pin, Policy, Request};

use crate::frames_of;

/// Long enough for the sequence numbers to pass 65535, with switches, losses, ICE restarts to other addresses, and one coming back twice.
#[test]
fn no_key_sees_an_index_twice() {
    seeded(71, || seal(World::new(71), false));
}

/// Clients that have no AES-GCM: AES-CM with HMAC-SHA1-80 (RFC 3711, 9.1: there, too, a keystream is used once).
#[test]
fn no_key_sees_an_index_twice_with_sha1() {
    seeded(75, || seal(World::new(75), true));
}

#[test]
fn no_key_sees_an_index_twice_over_two_shards() {
    seeded(72, || seal(World::spread(72, &Config::default(), 2), false));
}

/// Who takes part: two that send fast, one that only listens, one whose lines go both ways, and a player that answered an offer of the
/// server's. For the last two str0m makes streams of its own, which must be taken from it.
struct Cast {
    publishers: [usize; 2],
    watcher: usize,
    both: usize,
    player: usize,
}

fn enter(world: &mut World, legacy: bool) -> Cast {
    let shards = world.shards();
    let publishers = ["anna", "ben"].map(|id| world.enter(publisher(id, legacy)));
    world.shard = Some(shards - 1);
    world.conditions =
        Conditions { delay: Duration::from_millis(20), loss: 0.02, reorder: 0.02, ..Conditions::default() };
    let watcher = world.enter(Profile { legacy, ..Profile::new("watcher").listener(2, 1) });
    let both = Profile { both_ways: true, audio_slots: 1, video_slots: 1, legacy, ..Profile::new("both") };
    let both = world.enter(both);
    let player = world.play(Profile {
        kind: ParticipantKind::Whep,
        control: false,
        grants: Grants { publish: false, subscribe: true, moderate: false },
        ..Profile::new("player").listener(1, 1)
    });
    Cast { publishers, watcher, both, player }
}

/// Sends three layers, and hears one voice.
fn publisher(id: &str, legacy: bool) -> Profile {
    Profile { sends: true, legacy, ..Profile::new(id).listener(1, 0) }.simulcast()
}

fn pin(world: &mut World, client: usize, publisher: usize) {
    let participant = world.clients[publisher].id();
    let pins = vec![Pin { participant, source: Source::Camera, max_height: None }];
    world.say(client, Request::Policy { policy: Policy { pins, ..Policy::default() } });
}

fn seal(mut world: World, legacy: bool) {
    let shards = world.shards();
    world.opens = true;
    let Cast { mut publishers, watcher, both, player } = enter(&mut world, legacy);
    for client in publishers {
        world.talk(client, 60);
    }
    world.talk(both, 10);
    for round in 0..240 {
        world.run(Duration::from_secs(1));
        if round % 5 == 0 {
            pin(&mut world, watcher, publishers[round / 5 % 2]);
            pin(&mut world, both, publishers[round / 5 % 2]);
        }
        if round % 40 == 30 {
            let client = [watcher, publishers[1], both][round / 40 % 3];
            world.moves(client);
            world.restart_ice(client).unwrap();
        }
        if round == 80 || round == 160 {
            let old = publishers[0];
            let resume = Some(world.clients[old].joined.resume_token.clone());
            world.vanish(old);
            world.shard = Some(round / 80 % shards);
            publishers[0] = world.enter(Profile { resume, ..publisher("anna", legacy) });
            world.talk(publishers[0], 60);
        }
    }
    assert_eq!(world.engine.metrics().ice_restarts, 6);
    for (client, least) in [(watcher, 45_000), (both, 40_000), (player, 15_000), (publishers[1], 5_000)] {
        let name = &world.clients[client].profile.id;
        let got = world.check().of(client);
        assert!(got.packets > least, "{name}: {got:?}");
        // One packet of fifty is lost: what is of a picture was sent again.
        assert!(got.incomplete < 20, "{name}: {got:?}");
    }
    // Both ways: by the lines on which it sends, too.
    let own_camera = &world.clients[both].slots[1];
    assert!(own_camera.packets.len() > 10_000, "{}: {}", own_camera.mid, own_camera.packets.len());
    assert!(frames_of(&world, watcher, both, Source::Microphone, 0) > 1_000);
    world.check().assert_sound();
    assert_sealed(&world);
    let profile = if legacy { "SRTP_AES128_CM_SHA1_80" } else { "SRTP_AEAD_AES_256_GCM" };
    // To the player, who answered, the first message of DTLS is the server's: there `legacy` changes nothing.
    let others = world.clients.iter().enumerate().filter(|(client, _)| *client != player);
    assert!(others.map(|(_, c)| c.seals.profile().unwrap().to_string()).all(|said| said == profile));
}

fn assert_sealed(world: &World) {
    // Uniqueness is looked at for each connection: no two have the same keys.
    let keys: BTreeSet<_> = world.clients.iter().filter_map(|client| client.seals.material()).collect();
    assert_eq!(keys.len(), world.clients.len());
    let (mut packets, mut compounds, mut wrapped) = (0, 0, 0);
    for client in &world.clients {
        let (name, seals): (_, &Seals) = (&client.profile.id, &client.seals);
        assert_eq!(seals.faults, Vec::<String>::new(), "{name}");
        assert_eq!(seals.waiting(), 0, "{name}");
        // Whose media is ours, its reports are, too.
        assert_eq!(seals.shared(), Vec::<u32>::new(), "{name}");
        let reported = seals.rtp.keys().filter(|ssrc| seals.rtcp.contains_key(ssrc)).count();
        assert!(reported > 0 && !seals.reports.is_empty(), "{name} was told nothing");
        packets += seals.packets();
        compounds += seals.compounds;
        wrapped +=
            seals.rtp.values().filter(|used| used.last().is_some_and(|newest| *newest > 0xffff)).count();
    }
    assert!(wrapped > 0, "no sequence number has passed 65535");
    assert!(packets > 130_000 && compounds > 1_000, "{packets} {compounds}");
}

/// The server's str0m makes streams for lines on which it both receives and sends, and would report of them and name them as its own.
#[test]
fn lines_that_go_both_ways_have_one_owner() {
    for simulcast in [false, true] {
        let mut world = World::new(74);
        world.opens = true;
        world.conditions = Conditions { delay: Duration::from_millis(10), ..Conditions::default() };
        let anna = world.enter(Profile::new("anna"));
        let both = Profile { both_ways: true, audio_slots: 0, video_slots: 0, ..Profile::new("both") };
        let both = world.enter(if simulcast { both.simulcast() } else { both });
        for client in [anna, both] {
            world.talk(client, 20);
        }
        world.run(Duration::from_secs(10));
        let seals = &world.clients[both].seals;
        assert_eq!((&seals.faults, seals.waiting(), seals.shared()), (&Vec::new(), 0, Vec::new()));
        let sent: Vec<usize> = seals.rtp.values().map(BTreeSet::len).collect();
        assert!(sent.iter().filter(|count| **count > 200).count() == 2, "{sent:?}");
        for (source, least) in [(Source::Microphone, 450), (Source::Camera, 150)] {
            let got = frames_of(&world, both, anna, source, 0);
            // The client's str0m takes no stream without rid on a line that sends with rids; opened above it is.
            assert!(
                got > least || (simulcast && source == Source::Camera),
                "{got} of {source:?}, sent {sent:?}"
            );
            let top = if simulcast && source == Source::Camera { 2 } else { 0 };
            assert!(frames_of(&world, anna, both, source, top) > least / 2);
        }
        world.check().assert_sound();
    }
}

/// Old devices speak no AES-GCM: the other profile, sealed and opened, in both directions.
#[test]
fn a_device_without_gcm_is_sealed_for_with_sha1() {
    let mut world = World::new(73);
    world.opens = true;
    world.conditions = Conditions { delay: Duration::from_millis(10), loss: 0.01, ..Conditions::default() };
    let anna = world.enter(Profile::new("anna").simulcast());
    let old = world.enter(Profile { legacy: true, ..Profile::new("old") });
    for client in [anna, old] {
        world.talk(client, 20);
    }
    world.run(Duration::from_secs(10));
    let profiles = [anna, old].map(|client| world.clients[client].seals.profile().unwrap().to_string());
    assert_eq!(profiles, ["SRTP_AEAD_AES_256_GCM", "SRTP_AES128_CM_SHA1_80"]);
    for (client, publisher) in [(old, anna), (anna, old)] {
        let of = |layer| frames_of(&world, client, publisher, Source::Camera, layer);
        assert!(of(0) + of(1) + of(2) > 150, "{client} got too few pictures");
        assert!(frames_of(&world, client, publisher, Source::Microphone, 0) > 400);
        let seals = &world.clients[client].seals;
        assert_eq!((&seals.faults, seals.waiting(), seals.shared()), (&Vec::new(), 0, Vec::new()));
        assert!(seals.packets() > 500 && seals.compounds > 10, "{} {}", seals.packets(), seals.compounds);
    }
    // Losses were asked for, by SRTCP of that profile, and sent again.
    let resent = world.status("old").unwrap().stats.unwrap()["transport"]["out"]["resent"].as_u64();
    assert!(resent > Some(0), "{resent:?}");
    world.check().assert_sound();
}
