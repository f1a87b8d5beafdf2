//! Players choose layers and hear of what they play (WHEP's extensions); publishers without control channel hear by REMB
//! what is watched of them.

use std::collections::BTreeSet;
use std::time::Duration;

use antiphon_base::{ParticipantId, Source};
use antiphon_shard::{Grants, SelectError, WatchError};
use antiphon_sim::net::Rate;
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::ParticipantKind;
use antiphon_wire::whep::{Event, Selection};

/// Bits per second of payload of each layer.
const RATES: [u64; 3] = [120_000, 400_000, 1_300_000];

fn player(id: &str, only: Option<&str>) -> Profile {
    Profile {
        kind: ParticipantKind::Whep,
        control: false,
        grants: Grants { publish: false, subscribe: true, moderate: false },
        only: only.map(|id| ParticipantId::new(id).unwrap()),
        ..Profile::new(id).listener(1, 1)
    }
}

fn encoder(id: &str) -> Profile {
    Profile {
        kind: ParticipantKind::Whip,
        control: false,
        grants: Grants { publish: true, subscribe: false, moderate: false },
        audio_slots: 0,
        video_slots: 0,
        ..Profile::new(id).simulcast()
    }
}

/// An encoder with three layers, and players.
fn stage(seed: u64, players: usize) -> (World, usize, Vec<usize>) {
    let mut world = World::new(seed);
    let anna = world.enter(encoder("anna"));
    world.talk(anna, 20);
    for sender in world.clients[anna].senders.iter_mut().filter(|s| s.source == Source::Camera) {
        sender.bps = Some(RATES[usize::from(sender.layer)]);
    }
    let players = (0..players).map(|i| world.enter(player(&format!("player-{i}"), Some("anna")))).collect();
    (world, anna, players)
}

/// Layers that came in the last second.
fn recent(world: &World, client: usize) -> BTreeSet<u8> {
    let since = world.now - Duration::from_secs(1);
    let video = world.clients[client].slots.iter().filter(|s| s.kind == antiphon_base::MediaKind::Video);
    let packets = video.flat_map(|s| &s.packets).filter(|p| p.at >= since);
    packets.filter_map(|p| p.parsed).map(|p| p.stamp.layer).collect()
}

fn select(world: &mut World, client: usize, json: &str) -> Result<(), SelectError> {
    let selection = Selection::parse(json.as_bytes()).unwrap();
    let id = world.clients[client].id();
    let room = world.room.clone();
    world.engine.select(world.now, &room, &id, &selection)
}

#[test]
fn a_player_gets_the_encoding_that_it_chooses() {
    let (mut world, anna, players) = stage(301, 2);
    let [me, other] = players[..] else { panic!("two") };
    world.run(Duration::from_secs(4));
    assert_eq!(recent(&world, me), BTreeSet::from([2]));
    // By index of the m-line: sound is the first.
    for (body, layer) in [
        (r#"{"encodingId":"q"}"#, 0),
        (r#"{"mediaId":"1","encodingId":"h"}"#, 1),
        (r#"{"rid":"f"}"#, 2),
        (r#"{"maxHeight":200}"#, 0),
        ("{}", 2),
        (r#"{"encodingId":"q","maxTemporalLayerId":0}"#, 0),
        (r#"{"mediaId":"1"}"#, 2),
    ] {
        assert_eq!(select(&mut world, me, body), Ok(()), "{body}");
        world.run(Duration::from_secs(4));
        assert_eq!(recent(&world, me), BTreeSet::from([layer]), "{body}");
        assert_eq!(recent(&world, other), BTreeSet::from([2]), "the neighbour sees nothing of it");
    }
    let report = world.check();
    report.assert_sound();
    assert!(report.of(me).switches >= 7);
    let asked: usize = world.clients[anna].senders.iter().map(|s| s.keyframe_requests.len()).sum();
    assert!(asked <= 16, "{asked}");
}

#[test]
fn what_is_not_there_cannot_be_chosen() {
    let (mut world, anna, players) = stage(302, 1);
    let me = players[0];
    world.run(Duration::from_secs(3));
    for (body, error) in [
        (r#"{"encodingId":"x"}"#, SelectError::UnknownEncoding),
        (r#"{"mediaId":"0","encodingId":"q"}"#, SelectError::UnknownMedia),
        (r#"{"mediaId":"7","encodingId":"q"}"#, SelectError::UnknownMedia),
        (r#"{"mediaId":"7"}"#, SelectError::UnknownMedia),
        (r#"{"spatialLayerId":1}"#, SelectError::UnknownLayer),
        (r#"{"temporalLayerId":1}"#, SelectError::UnknownLayer),
    ] {
        assert_eq!(select(&mut world, me, body), Err(error), "{body}");
    }
    // A maximum above what there is says nothing.
    assert_eq!(select(&mut world, me, r#"{"maxSpatialLayerId":3,"maxTemporalLayerId":3}"#), Ok(()));
    assert_eq!(select(&mut world, anna, "{}"), Err(SelectError::Gone), "no player");
    world.run(Duration::from_secs(2));
    assert_eq!(recent(&world, me), BTreeSet::from([2]));
    // Choosing all the time is bounded.
    let results: Vec<_> = (0..100).map(|_| select(&mut world, me, r#"{"encodingId":"q"}"#)).collect();
    assert!(results.contains(&Err(SelectError::TooOften)) && results[0] == Ok(()));
    world.run(Duration::from_secs(2));
    for sender in &mut world.clients[anna].senders {
        sender.stopped = true;
    }
    world.run(Duration::from_secs(4));
    assert_eq!(select(&mut world, me, r#"{"encodingId":"q"}"#), Err(SelectError::NothingShown));
    assert_eq!(select(&mut world, me, "{}"), Ok(()));
    world.check().assert_sound();
}

#[test]
fn bandwidth_has_the_last_word() {
    let (mut world, _, _) = stage(303, 0);
    let narrow =
        Conditions { rate: Some(Rate { bps: 700_000, queue_bytes: 17_500 }), ..Conditions::default() };
    world.conditions = narrow;
    let me = world.enter(player("narrow", Some("anna")));
    world.run(Duration::from_secs(6));
    assert_eq!(select(&mut world, me, r#"{"encodingId":"f"}"#), Ok(()));
    world.run(Duration::from_secs(6));
    assert!(recent(&world, me).iter().all(|layer| *layer < 2), "{:?}", recent(&world, me));
    assert!(!recent(&world, me).is_empty());
    assert_eq!(select(&mut world, me, r#"{"encodingId":"q"}"#), Ok(()));
    world.run(Duration::from_secs(4));
    assert_eq!(recent(&world, me), BTreeSet::from([0]));
    world.check().assert_sound();
}

/// What a stream has told since it was asked last.
fn told(events: &async_channel::Receiver<Event>) -> Vec<Event> {
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

fn watch(world: &mut World, client: usize) -> Result<async_channel::Receiver<Event>, WatchError> {
    let (room, id) = (world.room.clone(), world.clients[client].id());
    world.engine.watch(world.now, &room, &id)
}

#[test]
fn a_player_hears_what_there_is_to_choose_and_who_else_plays() {
    let (mut world, anna, players) = stage(304, 1);
    let me = players[0];
    world.run(Duration::from_secs(4));
    let events = watch(&mut world, me).unwrap();
    let first = told(&events);
    let [Event::Active, Event::Layers(layers), Event::ViewerCount(1)] = &first[..] else {
        panic!("{first:?}")
    };
    let layers = &layers["1"];
    let names: Vec<_> = layers.layers.iter().map(|l| l.encoding_id.as_deref().unwrap()).collect();
    assert_eq!(names, ["f", "h", "q"]);
    assert_eq!((layers.layers[2].width, layers.layers[2].height), (Some(320), Some(180)));
    assert_eq!((layers.active.len(), layers.inactive.len()), (3, 0));
    let bitrate = layers.active[0].bitrate.unwrap();
    assert!((1_200_000..1_700_000).contains(&bitrate), "{bitrate}");
    world.run(Duration::from_secs(3));
    assert_eq!(told(&events), [], "nothing has changed");
    // Who plays somebody else, or the room, is no viewer of this one.
    let _second = world.enter(player("second", Some("anna")));
    let _room = world.enter(player("room", None));
    world.run(Duration::from_secs(1));
    assert_eq!(told(&events), [Event::ViewerCount(2)]);
    world.clients[anna].senders.iter_mut().filter(|s| s.layer == 2).for_each(|s| s.stopped = true);
    world.run(Duration::from_secs(3));
    let now = told(&events);
    let Some(Event::Layers(layers)) = now.last() else { panic!("{now:?}") };
    assert_eq!(layers["1"].inactive[0].id.as_deref(), Some("f"));
    assert_eq!(layers["1"].layers.len(), 2);
    // The publication ends, then begins again; then the player goes.
    let (room, id) = (world.room.clone(), world.clients[anna].id());
    assert!(world.engine.remove(world.now, &room, &id, antiphon_wire::control::LeaveReason::Left));
    world.run(Duration::from_secs(1));
    let now = told(&events);
    assert!(now.contains(&Event::Inactive), "{now:?}");
    let id = world.clients[me].id();
    assert!(world.engine.remove(world.now, &room, &id, antiphon_wire::control::LeaveReason::Left));
    world.run(Duration::from_millis(600));
    assert!(events.is_closed());
    assert_eq!(watch(&mut world, me).unwrap_err(), WatchError::Unknown);
    assert_eq!(watch(&mut world, anna).unwrap_err(), WatchError::Unknown);
}

#[test]
fn who_never_reads_disturbs_nobody() {
    let (mut world, anna, players) = stage(305, 2);
    let [idle, busy] = players[..] else { panic!("two") };
    world.run(Duration::from_secs(2));
    let (never, always) = (watch(&mut world, idle).unwrap(), watch(&mut world, busy).unwrap());
    let mut heard = told(&always).len();
    for round in 0..60 {
        for sender in world.clients[anna].senders.iter_mut().filter(|s| s.source == Source::Camera) {
            sender.size.1 = 100 + round;
            sender.keyframe_wanted = true;
        }
        world.run(Duration::from_millis(600));
        heard += told(&always).len();
    }
    assert!(heard >= 50, "{heard}");
    assert!(never.len() <= 32, "{}", never.len());
    assert!(world.engine.metrics().player_events_dropped > 10);
    assert_eq!(recent(&world, idle), BTreeSet::from([2]));
    world.check().assert_sound();
}

/// An encoder that follows what it is told by REMB: as many layers from the lowest as fit.
fn obey(world: &mut World, anna: usize, time: Duration) {
    let end = world.now + time;
    while world.now < end {
        world.run(Duration::from_millis(50));
        let now = world.now;
        let client = &mut world.clients[anna];
        let bound = client.bounds.last().map_or(u64::MAX, |(_, bps)| *bps);
        let mut sum = 0;
        for sender in client.senders.iter_mut().filter(|s| s.source == Source::Camera) {
            sum += RATES[usize::from(sender.layer)];
            let stops = sender.layer > 0 && sum > bound;
            if sender.stopped && !stops {
                (sender.next, sender.keyframe_wanted) = (now, true);
            }
            sender.stopped = stops;
        }
    }
}

fn sent(world: &World, anna: usize) -> Vec<u8> {
    let video = world.clients[anna].senders.iter().filter(|s| s.source == Source::Camera && !s.stopped);
    video.map(|s| s.layer).collect()
}

#[test]
fn an_encoder_that_nobody_watches_is_told_to_be_small_and_comes_back_at_once() {
    let (mut world, anna, _) = stage(306, 0);
    let unbounded =
        |world: &World| world.clients[anna].bounds.last().is_none_or(|(_, bps)| *bps > 10_000_000);
    obey(&mut world, anna, Duration::from_secs(3));
    assert!(unbounded(&world), "not before nobody has watched for a while");
    obey(&mut world, anna, Duration::from_secs(5));
    let (_, floor) = *world.clients[anna].bounds.last().unwrap();
    assert!((150_000..500_000).contains(&floor), "{floor}");
    assert_eq!(sent(&world, anna), [0], "the lowest goes on");
    // Somebody comes: the picture is there at once, the best one within two seconds.
    let me = world.join(player("me", Some("anna")));
    obey(&mut world, anna, Duration::from_millis(2_000));
    assert!(unbounded(&world));
    assert_eq!(recent(&world, me).last(), Some(&2));
    // Who watches the lowest only needs no more.
    assert_eq!(select(&mut world, me, r#"{"encodingId":"q"}"#), Ok(()));
    obey(&mut world, anna, Duration::from_secs(7));
    let (_, low) = *world.clients[anna].bounds.last().unwrap();
    assert!(low > RATES[0] && low < 1_000_000, "{low}");
    assert_eq!(recent(&world, me), BTreeSet::from([0]));
    assert_eq!(select(&mut world, me, r#"{"encodingId":"h"}"#), Ok(()));
    obey(&mut world, anna, Duration::from_secs(2));
    let (_, middle) = *world.clients[anna].bounds.last().unwrap();
    assert!(middle > RATES[0] + RATES[1], "{middle}");
    assert_eq!(recent(&world, me), BTreeSet::from([1]));
    assert_eq!(select(&mut world, me, "{}"), Ok(()));
    obey(&mut world, anna, Duration::from_secs(2));
    assert!(unbounded(&world));
    assert_eq!(recent(&world, me).last(), Some(&2));
    world.check().assert_sound();
}

#[test]
fn an_encoder_that_does_not_listen_is_watched_as_ever() {
    let (mut world, anna, _) = stage(307, 0);
    world.run(Duration::from_secs(8));
    let (_, floor) = *world.clients[anna].bounds.last().unwrap();
    assert!(floor < 500_000, "{floor}");
    let me = world.enter(player("me", Some("anna")));
    world.run(Duration::from_secs(3));
    assert_eq!(recent(&world, me), BTreeSet::from([2]));
    assert_eq!(select(&mut world, me, r#"{"encodingId":"h"}"#), Ok(()));
    world.run(Duration::from_secs(7));
    assert_eq!(recent(&world, me), BTreeSet::from([1]));
    world.check().assert_sound();
}

#[test]
fn a_bound_that_was_lost_on_the_way_is_said_again() {
    let mut world = World::new(308);
    world.conditions = Conditions { loss: 0.3, ..Conditions::default() };
    let anna = world.enter(encoder("anna"));
    world.talk(anna, 20);
    // Said each three seconds, of which the line takes some, and the handshake its time.
    world.run(Duration::from_secs(40));
    let bounds = &world.clients[anna].bounds;
    assert!(bounds.len() >= 5, "{bounds:?}");
    world.conditions = Conditions::default();
    // Participants with a control channel are told by message, and by nothing else.
    let ben = world.enter(Profile::new("ben").simulcast());
    world.talk(ben, 20);
    world.run(Duration::from_secs(8));
    assert_eq!(world.clients[ben].bounds, []);
}

#[test]
fn players_and_encoders_on_other_shards_than_the_rooms_are_served_alike() {
    let mut world = World::spread(309, &antiphon_shard::Config::default(), 3);
    let home = world.engine.home(&world.room.clone());
    world.shard = Some((home + 1) % 3);
    let anna = world.enter(encoder("anna"));
    world.talk(anna, 20);
    for sender in world.clients[anna].senders.iter_mut().filter(|s| s.source == Source::Camera) {
        sender.bps = Some(RATES[usize::from(sender.layer)]);
    }
    obey(&mut world, anna, Duration::from_secs(8));
    assert_eq!(sent(&world, anna), [0]);
    world.shard = Some((home + 2) % 3);
    let me = world.enter(player("me", Some("anna")));
    let events = watch(&mut world, me).unwrap();
    obey(&mut world, anna, Duration::from_secs(4));
    assert_eq!(recent(&world, me), BTreeSet::from([2]));
    assert_eq!(select(&mut world, me, r#"{"encodingId":"h"}"#), Ok(()));
    obey(&mut world, anna, Duration::from_secs(4));
    assert_eq!(recent(&world, me), BTreeSet::from([1]));
    let told = told(&events);
    assert!(told.contains(&Event::Active) && told.contains(&Event::ViewerCount(1)), "{told:?}");
    world.check().assert_sound();
}
