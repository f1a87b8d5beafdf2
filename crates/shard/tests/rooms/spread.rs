//! A room over two shards: what is said and shown crosses between them, each packet is decrypted once, and what goes wrong on
//! one shard stays there.

use std::time::{Duration, Instant};

use antiphon_base::{ErrorKind, MediaKind, ParticipantId, Source, TrackKey};
use antiphon_shard::{AttachCommand, AttachRequest, Attachment, Config, Grants, Lag, TapRequest};
use antiphon_sim::{Profile, World};
use antiphon_wire::control::{LeaveReason, ParticipantKind, Pin, Policy, Presence, Request, ServerMessage};

use crate::{frames_of, until_told};

/// Without a sign of life for this long a connection is lost.
const CONSENT: Duration = Duration::from_secs(5);

/// A world of two shards, between which things take their time, and the home of its room.
fn world(seed: u64) -> (World, usize) {
    patient_world(seed, CONSENT)
}

fn patient_world(seed: u64, consent_timeout: Duration) -> (World, usize) {
    let config = Config { consent_timeout, ..Config::default() };
    let mut world = World::spread(seed, &config, 2);
    // A packet may be overtaken by what is said about it, and the other way round.
    world.engine.lag = match seed % 3 {
        0 => Lag::default(),
        1 => Lag { messages: Duration::from_millis(3), media: Duration::from_millis(1) },
        _ => Lag { messages: Duration::from_millis(1), media: Duration::from_millis(4) },
    };
    let home = world.engine.home(&world.room);
    (world, home)
}

fn enter(world: &mut World, shard: usize, profile: Profile) -> usize {
    world.shard = Some(shard);
    world.enter(profile)
}

/// Two on the home and one on the other shard, who talk.
fn talking(seed: u64) -> (World, usize, [usize; 3]) {
    talk(world(seed))
}

fn talk((mut world, home): (World, usize)) -> (World, usize, [usize; 3]) {
    let clients = [("anna", home), ("ben", home), ("cleo", 1 - home)]
        .map(|(name, shard)| enter(&mut world, shard, Profile::new(name)));
    for client in clients {
        world.talk(client, 20);
    }
    world.run(Duration::from_secs(3));
    (world, home, clients)
}

/// Everybody goes on seeing and hearing everybody of them.
fn assert_flows(world: &mut World, clients: &[usize]) {
    let pairs: Vec<(usize, usize)> =
        clients.iter().flat_map(|a| clients.iter().filter(move |b| a != *b).map(move |b| (*a, *b))).collect();
    let count = |world: &World| -> Vec<(u64, u64)> {
        let of = |(a, b): &(usize, usize), source| frames_of(world, *a, *b, source, 0);
        pairs.iter().map(|pair| (of(pair, Source::Camera), of(pair, Source::Microphone))).collect()
    };
    let before = count(world);
    world.run(Duration::from_secs(3));
    for (((seen, heard), (now_seen, now_heard)), pair) in before.iter().zip(count(world)).zip(&pairs) {
        assert!(
            now_seen >= seen + 55 && now_heard >= heard + 140,
            "{pair:?}: {seen} {now_seen} {heard} {now_heard}"
        );
    }
    world.check().assert_sound();
}

#[test]
fn everybody_sees_and_hears_everybody() {
    for seed in [201, 202, 203] {
        let (mut world, home, clients) = talking(seed);
        assert_flows(&mut world, &clients);
        let [at_home, away] = [home, 1 - home].map(|shard| world.engine.metrics_of(shard));
        assert_eq!((at_home.peers, at_home.rooms, at_home.branches), (2, 1, 0));
        assert_eq!((away.peers, away.rooms, away.branches), (1, 0, 1));
        // Each shard has decrypted what its own peers have sent, once, and handed it over once.
        let sent = |who: &[usize]| -> u64 {
            who.iter().flat_map(|c| &world.clients[*c].senders).map(|s| s.packets).sum()
        };
        for (metrics, whose) in [(at_home, &clients[..2]), (away, &clients[2..])] {
            // The last ones are under way.
            let sent = sent(whose);
            assert!((sent - 10..=sent).contains(&metrics.packets_in), "{sent} sent, {metrics:?}");
        }
        for metrics in [at_home, away] {
            let share = metrics.packets_relayed * 100 / metrics.packets_in;
            assert!((90..=100).contains(&share), "{metrics:?}");
        }
        assert_eq!(
            (at_home.relay_dropped, at_home.link_dropped, away.relay_dropped, away.link_dropped),
            (0, 0, 0, 0)
        );
        // Who speaks there is told here.
        until_told(&mut world, clients[0], "cleo speaks", |m| {
            matches!(m, ServerMessage::Speakers { speakers }
                if speakers.iter().any(|s| s.participant.as_str() == "cleo"))
        });
    }
}

#[test]
fn a_room_on_one_shard_costs_the_other_nothing() {
    let (mut world, home) = world(204);
    let clients = ["anna", "ben"].map(|name| enter(&mut world, home, Profile::new(name)));
    for client in clients {
        world.talk(client, 20);
    }
    assert_flows(&mut world, &clients);
    let metrics = world.engine.metrics();
    assert_eq!((metrics.packets_relayed, metrics.branches), (0, 0));
    assert_eq!(world.engine.metrics_of(1 - home).datagrams_in, 0);
}

#[test]
fn who_leaves_is_not_relayed_any_more() {
    let (mut world, home, clients) = talking(205);
    world.say(clients[2], Request::Leave);
    world.run(Duration::from_secs(2));
    assert_eq!(world.clients[clients[2]].closed_reason(), Some(LeaveReason::Left));
    let status = world.status("cleo").unwrap();
    assert_eq!((status.state, status.reason), ("gone", Some(LeaveReason::Left)));
    assert!(status.stats.is_some(), "its last counts have come from the other shard");
    let before = world.engine.metrics().packets_relayed;
    assert_flows(&mut world, &clients[..2]);
    assert_eq!(world.engine.metrics().packets_relayed, before);
    let away = world.engine.metrics_of(1 - home);
    assert_eq!((away.peers, away.branches), (0, 0));
}

#[test]
fn who_comes_back_on_another_shard_has_its_place_again() {
    for (seed, rude) in [(206, true), (207, false), (208, true)] {
        let (mut world, home, clients) = talking(seed);
        let mut cleo = clients[2];
        // To the home, and back again.
        for shard in [home, 1 - home] {
            let token = world.clients[cleo].joined.resume_token.clone();
            let (id, key) = (world.clients[cleo].id(), world.clients[cleo].key());
            world.vanish(cleo);
            if rude {
                world.run(CONSENT + Duration::from_secs(3));
                assert_eq!(world.status("cleo").unwrap().state, "reconnecting");
                assert_eq!(world.clients[clients[0]].roster[&id].presence, Presence::Reconnecting);
            }
            cleo = enter(&mut world, shard, Profile { resume: Some(token), ..Profile::new("cleo") });
            assert_eq!((world.clients[cleo].id(), world.clients[cleo].key()), (id, key));
            world.talk(cleo, 20);
            world.run(Duration::from_secs(2));
            assert_flows(&mut world, &[clients[0], clients[1], cleo]);
            assert_eq!(world.engine.metrics_of(shard).peers, if shard == home { 3 } else { 1 });
            assert_eq!(world.engine.metrics().peers, 3);
        }
        assert_eq!(world.status("cleo").unwrap().state, "connected");
    }
}

#[test]
fn moderators_reach_over_shards() {
    let (mut world, home) = world(209);
    let grants = Grants { moderate: true, ..Profile::new("").grants };
    let cleo = enter(&mut world, 1 - home, Profile { grants, ..Profile::new("cleo") });
    let anna = enter(&mut world, home, Profile::new("anna"));
    world.talk(anna, 20);
    world.run(Duration::from_secs(2));
    let participant = world.clients[anna].id();
    world.say(cleo, Request::MuteOther { participant: participant.clone(), source: Source::Camera });
    until_told(&mut world, anna, "anna is muted", |m| matches!(m, ServerMessage::Muted { .. }));
    // What is under way arrives; then nothing more does.
    world.run(Duration::from_millis(200));
    let seen = frames_of(&world, cleo, anna, Source::Camera, 0);
    world.run(Duration::from_secs(1));
    assert_eq!(frames_of(&world, cleo, anna, Source::Camera, 0), seen);
    let id = world.say(cleo, Request::Remove { participant });
    world.run(Duration::from_secs(1));
    assert!(world.clients[cleo].reply(id).is_some());
    assert_eq!(world.clients[anna].closed_reason(), Some(LeaveReason::Removed));
    // And from outside, the other way.
    let (now, room, cleo_id) = (world.now, world.room.clone(), world.clients[cleo].id());
    assert!(world.engine.remove(now, &room, &cleo_id, LeaveReason::Removed));
    world.run(Duration::from_secs(1));
    assert_eq!(world.clients[cleo].closed_reason(), Some(LeaveReason::Removed));
    assert_eq!(world.engine.metrics().peers, 0);
}

#[test]
fn all_are_told_before_a_stop() {
    let (mut world, _, clients) = talking(210);
    let now = world.now;
    world.engine.drain(now, Duration::from_secs(2));
    for client in clients {
        until_told(&mut world, client, "it is draining", |m| matches!(m, ServerMessage::Draining { .. }));
    }
    world.run(Duration::from_secs(3));
    for client in clients {
        assert_eq!(world.clients[client].closed_reason(), Some(LeaveReason::Draining));
    }
    let metrics = world.engine.metrics();
    assert_eq!((metrics.peers, metrics.rooms, metrics.branches), (0, 0, 0));
}

/// Wherever a room fails, it ends for all who are in it, and nobody else notices.
#[test]
fn a_failing_room_ends_on_all_shards_and_alone() {
    for (seed, at_home) in [(211, true), (212, false)] {
        let (mut world, home, clients) = talking(seed);
        let room = world.room.clone();
        // Another room with the same home.
        let names = (0..64).map(|i| antiphon_base::RoomName::new(&format!("other-{i}")).unwrap());
        world.room = names.into_iter().find(|name| world.engine.home(name) == home).unwrap();
        let others = [("dora", home), ("emil", 1 - home)]
            .map(|(name, shard)| enter(&mut world, shard, Profile::new(name)));
        for client in others {
            world.talk(client, 20);
        }
        world.run(Duration::from_secs(1));
        let (now, shard) = (world.now, if at_home { home } else { 1 - home });
        world.engine.fail_room(now, shard, &room);
        world.run(Duration::from_secs(2));
        for client in clients {
            assert_eq!(world.clients[client].closed_reason(), Some(LeaveReason::RoomClosed));
        }
        let metrics = world.engine.metrics();
        assert_eq!((metrics.peers, metrics.rooms, metrics.branches, metrics.room_panics), (2, 1, 1, 1));
        assert_flows(&mut world, &others);
    }
}

/// A shard that gets no processor for a while takes nothing from those who do not depend on it.
#[test]
fn a_stalled_shard_loses_its_own() {
    let (mut world, home, clients) = talk(patient_world(213, 6 * CONSENT));
    // More layers, so that the ring fills.
    let dan = enter(&mut world, home, Profile::new("dan"));
    for source in [Source::Camera, Source::Screen] {
        let now = world.now;
        world.clients[dan].start(now, source, 60);
        for sender in world.clients[dan].senders.iter_mut().filter(|s| s.source == source) {
            sender.bps = Some(20_000_000);
        }
    }
    world.run(Duration::from_secs(1));
    world.stall(1 - home, true);
    let before = frames_of(&world, clients[0], clients[1], Source::Camera, 0);
    world.run(Duration::from_secs(2));
    let metrics = world.engine.metrics_of(home);
    assert!(metrics.relay_dropped > 1_000, "{metrics:?}");
    let frames = frames_of(&world, clients[0], clients[1], Source::Camera, 0) - before;
    assert!(frames >= 36, "{frames}");
    world.stall(1 - home, false);
    // What was shed, while no feedback came and 40 Mbit/s were wanted, is served again one by one.
    world.run(Duration::from_secs(6));
    // Its peers see pictures again, whole ones.
    assert_flows(&mut world, &clients);
    assert_eq!((world.engine.metrics().peers, world.engine.metrics().link_dropped), (4, 0));
}

/// While a home does nothing, its peers elsewhere are dropped when they have said too much to it, and no others.
#[test]
fn who_says_too_much_to_a_stalled_home_is_dropped() {
    let (mut world, home, [anna, ben, cleo]) = talk(patient_world(214, 6 * CONSENT));
    let dan = enter(&mut world, 1 - home, Profile::new("dan"));
    world.stall(home, true);
    // A ring and a budget full, and some.
    for _ in 0..6_000 {
        world.say(dan, Request::Sync);
    }
    world.run(Duration::from_secs(3));
    let away = world.engine.metrics_of(1 - home);
    assert_eq!((away.link_dropped, away.peers), (1, 1), "{away:?}");
    world.stall(home, false);
    world.run(Duration::from_secs(2));
    assert_eq!(world.status("dan").unwrap().state, "reconnecting");
    assert_flows(&mut world, &[anna, ben, cleo]);
}

/// While a shard does nothing, and much waits for it, nobody enters a room that has peers there: of whoever comes and goes it would
/// have to be told. Who is there goes on.
#[test]
fn nobody_enters_while_much_waits_for_a_stalled_shard() {
    let (mut world, home, clients) = talk(patient_world(216, 6 * CONSENT));
    let ghost = || AttachRequest {
        id: ParticipantId::new("ghost").unwrap(),
        name: String::new(),
        kind: ParticipantKind::Bot,
        grants: Grants { publish: false, subscribe: true, moderate: false },
        hidden: true,
    };
    world.stall(1 - home, true);
    let room = world.room.clone();
    // Each takes the place of the one before it, who is to be forgotten.
    let come = |world: &mut World| {
        let came = world.engine.attach(world.now, &room, ghost()).map(drop);
        world.finish();
        came
    };
    let refused = (0..40_000).find_map(|n| come(&mut world).err().map(|e| (n, e)));
    let (came, error) = refused.expect("there is a bound");
    assert_eq!(error.kind, ErrorKind::Overloaded, "after {came}");
    assert!(came > 10_000, "{came}");
    world.stall(1 - home, false);
    assert_flows(&mut world, &clients);
    assert!(come(&mut world).is_ok());
    assert_eq!((world.engine.metrics().peers, world.engine.metrics().link_dropped), (3, 0));
}

/// A publisher is lost, then the one on the other shard leaves to whom its packets went: nothing of that stays, though its
/// place is kept.
#[test]
fn nothing_is_relayed_of_one_who_is_lost() {
    for (seed, at_home) in [(219, true), (220, false)] {
        let (mut world, home) = world(seed);
        let (here, there) = if at_home { (home, 1 - home) } else { (1 - home, home) };
        let anna = enter(&mut world, here, Profile::new("anna"));
        let cleo = enter(&mut world, there, Profile::new("cleo").listener(1, 1));
        world.talk(anna, 20);
        world.run(Duration::from_secs(2));
        assert!(frames_of(&world, cleo, anna, Source::Camera, 0) > 20);
        world.vanish(anna);
        world.run(CONSENT + Duration::from_secs(3));
        world.say(cleo, Request::Leave);
        world.run(Duration::from_secs(2));
        assert_eq!(world.status("anna").unwrap().state, "reconnecting");
        let held = world.engine.holdings();
        assert_eq!((held.peers, held.routes), (0, 0), "{held:?}");
    }
}

/// The longest time without video in what came to a client since then.
fn longest_pause(world: &World, client: usize, since: Instant) -> Duration {
    let slots = world.clients[client].slots.iter().filter(|s| s.kind == MediaKind::Video);
    let mut times: Vec<Instant> = slots.flat_map(|s| &s.packets).map(|p| p.at).collect();
    times.retain(|at| *at >= since);
    times.sort_unstable();
    times.push(world.now);
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

/// A layer, or a person, that nobody on a shard has seen until now: the picture before stands until its key frame comes.
#[test]
fn a_switch_to_what_is_new_on_a_shard_is_no_freeze() {
    for seed in [216, 217, 218] {
        let (mut world, home) = world(seed);
        // Between the request and the key frame many other packets come.
        world.conditions.delay = Duration::from_millis(150);
        let [anna, ben] = ["anna", "ben"].map(|name| enter(&mut world, home, Profile::new(name).simulcast()));
        let policy = |whom: &str, height| {
            let participant = ParticipantId::new(whom).unwrap();
            let pin = Pin { participant, source: Source::Camera, max_height: Some(height) };
            Policy { pins: vec![pin], ..Policy::default() }
        };
        let cleo = Profile { policy: policy("anna", 180), ..Profile::new("cleo").listener(1, 1) };
        let cleo = enter(&mut world, 1 - home, cleo);
        for client in [anna, ben] {
            let now = world.now;
            world.clients[client].start(now, Source::Camera, 20);
        }
        world.run(Duration::from_secs(4));
        for (whom, height, layer) in
            [("anna", 360, 1), ("anna", 180, 0), ("anna", 360, 1), ("ben", 360, 1), ("anna", 180, 0)]
        {
            let (since, number) = (world.now, if whom == "anna" { anna } else { ben });
            let before = frames_of(&world, cleo, number, Source::Camera, layer);
            world.say(cleo, Request::Policy { policy: policy(whom, height) });
            world.run(Duration::from_secs(3));
            let seen = frames_of(&world, cleo, number, Source::Camera, layer) - before;
            assert!(seen > 30, "{whom} {height}: {seen}");
            let pause = longest_pause(&world, cleo, since);
            assert!(pause < Duration::from_millis(125), "{seed} {whom} {height}: {pause:?}");
        }
        world.check().assert_sound();
    }
}

fn bot(world: &mut World) -> Attachment {
    let request = AttachRequest {
        id: ParticipantId::new("bot").unwrap(),
        name: "A bot".into(),
        kind: ParticipantKind::Bot,
        grants: Grants { publish: true, subscribe: true, moderate: false },
        hidden: false,
    };
    world.attach(1_000, request)
}

#[test]
fn bots_hear_who_is_on_another_shard() {
    let (mut world, home) = world(215);
    let cleo = enter(&mut world, 1 - home, Profile::new("cleo"));
    world.talk(cleo, 20);
    let bot = bot(&mut world);
    world.run(Duration::from_secs(1));
    let participant = world.clients[cleo].key();
    let taps = [Source::Microphone, Source::Camera]
        .map(|source| TapRequest { track: TrackKey { participant, source }, max_height: None });
    bot.sender().send(AttachCommand::Tap(taps.to_vec()));
    let now = world.now;
    world.engine.handle_timeout(now);
    world.run(Duration::from_secs(3));
    let mut counts = [0; 4];
    while let Ok(packet) = bot.media.try_recv() {
        counts[packet.track.source.index()] += 1;
    }
    assert!(counts[Source::Microphone.index()] > 140, "{counts:?}");
    assert!(counts[Source::Camera.index()] > 55, "{counts:?}");
    drop(bot);
    world.run(Duration::from_secs(1));
    let before = world.engine.metrics().packets_relayed;
    world.run(Duration::from_secs(1));
    assert_eq!(world.engine.metrics().packets_relayed, before);
}
