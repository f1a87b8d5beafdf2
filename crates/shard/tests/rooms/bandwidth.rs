//! Subscribers on narrow lines: transport-wide feedback gives the layer that fits, others notice nothing. All that is random
//! depends on the seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use antiphon_base::Source;
use antiphon_sim::net::Rate;
use antiphon_sim::stamp::Stamp;
use antiphon_sim::{Conditions, Profile, World, seeded};
use antiphon_wire::control::{ContentHint, Request};

/// What the layers of the camera take, a little less than the room assumes of them.
const LAYERS_BPS: [u64; 3] = [140_000, 450_000, 1_500_000];

/// The line to a client, with a queue of 200 ms.
fn narrow(world: &mut World, client: usize, bps: u64) {
    let address = world.clients[client].address;
    let rate = Some(Rate { bps, queue_bytes: bps / 8 / 5 });
    let conditions = Conditions { delay: Duration::from_millis(20), rate, ..Conditions::default() };
    world.network.paths.get_mut(&address).unwrap().down.set(conditions);
}

/// Anna's camera and voice; Ben on a line of `bps`, Cleo on a good one.
fn stage(seed: u64, bps: u64) -> (World, usize, usize) {
    let mut world = World::new(seed);
    let anna = world.enter(Profile::new("anna").simulcast());
    let ben = world.enter(Profile::new("ben").listener(1, 1));
    let cleo = world.enter(Profile::new("cleo").listener(1, 1));
    narrow(&mut world, ben, bps);
    let now = world.now;
    world.clients[anna].start(now, Source::Camera, 20);
    world.clients[anna].start(now, Source::Microphone, 0);
    for sender in world.clients[anna].senders.iter_mut().filter(|s| s.source == Source::Camera) {
        sender.bps = Some(LAYERS_BPS[usize::from(sender.layer)]);
    }
    (world, ben, cleo)
}

/// What came of the camera in the last `ms`.
fn camera(world: &World, client: usize, ms: u64) -> impl Iterator<Item = Stamp> {
    let since = world.now - Duration::from_millis(ms);
    let packets = world.clients[client].slots.iter().flat_map(|s| &s.packets).filter(move |p| p.at >= since);
    packets.filter_map(|p| p.parsed).map(|p| p.stamp).filter(|s| s.source == Source::Camera)
}

/// Layers of it.
fn recent(world: &World, client: usize, ms: u64) -> BTreeSet<u8> {
    camera(world, client, ms).map(|s| s.layer).collect()
}

/// What the server thinks a client can receive, in bits per second.
fn estimate(world: &World, id: &str) -> u64 {
    let stats = world.status(id).unwrap().stats.unwrap();
    stats["transport"]["out"]["estimate_bps"].as_u64().unwrap()
}

/// Layers by second, for who reads a failure.
fn watch(world: &mut World, client: usize, seconds: u32) -> Vec<BTreeSet<u8>> {
    let mut seen = Vec::new();
    for _ in 0..seconds {
        world.run(Duration::from_secs(1));
        seen.push(recent(world, client, 1_000));
    }
    println!("{seen:?}");
    seen
}

fn only(layer: u8) -> BTreeSet<u8> {
    BTreeSet::from([layer])
}

fn nobody_else_noticed(world: &World, client: usize) {
    let got = world.check().of(client);
    assert_eq!((got.missing, got.incomplete), (0, got.cut), "{got:?}");
}

#[test]
fn a_narrow_line_gets_the_layer_that_fits_and_more_when_it_widens() {
    (61..67).for_each(|seed| seeded(seed, || narrow_line(seed)));
}

fn narrow_line(seed: u64) {
    let (mut world, ben, cleo) = stage(seed, 800_000);
    let seen = watch(&mut world, ben, 20);
    let fits = seen.iter().skip(6).filter(|s| **s == only(1)).count();
    assert!(fits >= 12, "{seen:?}");
    assert!(!seen.iter().skip(2).any(|s| s.contains(&2)), "{seen:?}");
    narrow(&mut world, ben, 5_000_000);
    let seen = watch(&mut world, ben, 12);
    assert_eq!(seen.last(), Some(&only(2)), "{seen:?}");
    assert!(seen.iter().position(|s| s.contains(&2)).unwrap() < 10, "{seen:?}");
    world.check().assert_sound();
    nobody_else_noticed(&world, cleo);
    assert_eq!(recent(&world, cleo, 25_000), only(2));
}

#[test]
fn a_line_that_narrows_is_followed_within_a_second() {
    (67..73).for_each(|seed| seeded(seed, || narrowing_line(seed)));
}

fn narrowing_line(seed: u64) {
    let (mut world, ben, cleo) = stage(seed, 2_500_000);
    let seen = watch(&mut world, ben, 10);
    assert_eq!(seen.last(), Some(&only(2)), "{seen:?}");
    narrow(&mut world, ben, 500_000);
    world.run(Duration::from_secs(1));
    let bps = estimate(&world, "ben");
    assert!(bps < 600_000, "{bps}");
    // Within half a second more nothing of the high layer is in the queue; but for what was asked for again.
    world.run(Duration::from_millis(500));
    let seen = watch(&mut world, ben, 15);
    assert!(!seen.iter().skip(1).any(|s| s.contains(&2) || s.is_empty()), "{seen:?}");
    narrow(&mut world, ben, 2_500_000);
    let seen = watch(&mut world, ben, 10);
    assert_eq!(seen.last(), Some(&only(2)), "{seen:?}");
    world.check().assert_sound();
    nobody_else_noticed(&world, cleo);
}

#[test]
fn loss_without_queue_costs_no_layer() {
    (73..79).for_each(|seed| seeded(seed, || lossy_line(seed)));
}

fn lossy_line(seed: u64) {
    let (mut world, ben, _) = stage(seed, 5_000_000);
    let address = world.clients[ben].address;
    let lossy = Conditions { loss: 0.02, ..Conditions::default() };
    world.network.paths.get_mut(&address).unwrap().down.set(lossy);
    let seen = watch(&mut world, ben, 20);
    assert!(seen.iter().skip(3).all(|s| *s == only(2)), "{seen:?}");
    world.check().assert_sound();
}

#[test]
fn who_only_listens_to_voices_is_not_probed() {
    (79..85).for_each(|seed| seeded(seed, || only_listens(seed)));
}

fn only_listens(seed: u64) {
    let (mut world, ..) = stage(seed, 5_000_000);
    world.enter(Profile::new("dan").listener(2, 0));
    world.run(Duration::from_secs(10));
    let stats = world.status("dan").unwrap().stats.unwrap();
    assert_eq!(stats["transport"]["out"]["padding"], 0, "{stats}");
    assert!(stats["transport"]["out"]["packets"].as_u64().unwrap() > 100, "{stats}");
}

/// Where both do not fit, a page of text keeps its lines and a face its movement: as `publish` says.
#[test]
fn a_hint_says_what_a_narrow_line_takes_away() {
    for hint in [ContentHint::Text, ContentHint::Detail, ContentHint::Motion] {
        (85..91).for_each(|seed| seeded(seed, || hinted(seed, hint)));
    }
}

fn hinted(seed: u64, hint: ContentHint) {
    let (mut world, ben, cleo) = stage(seed, 1_300_000);
    let anna = 0;
    world.say(anna, Request::Publish { source: Source::Camera, active: true, hint: Some(hint) });
    world.clients[anna].senders.iter_mut().for_each(|sender| sender.place = Some(0));
    world.run(Duration::from_secs(12));
    let (mut moving, mut sharp) = (0, 0);
    for second in watch_pictures(&mut world, ben, 8) {
        moving += usize::from(second.keys().all(|layer| *layer < 2) && pictures(&second) >= 19);
        sharp += usize::from(second.keys().all(|layer| *layer == 2) && (9..=11).contains(&pictures(&second)));
    }
    let expected = if hint == ContentHint::Motion { (8, 0) } else { (0, 8) };
    assert_eq!((moving, sharp), expected, "{hint:?}");
    narrow(&mut world, ben, 5_000_000);
    let seen = watch_pictures(&mut world, ben, 12);
    let last = &seen[seen.len() - 1];
    assert!(last.keys().eq([&2]) && pictures(last) >= 19, "{hint:?}: {seen:?}");
    world.check().assert_sound();
    nobody_else_noticed(&world, cleo);
}

/// Pictures of the camera that came in each second, by layer.
fn watch_pictures(world: &mut World, client: usize, seconds: u32) -> Vec<BTreeMap<u8, BTreeSet<u32>>> {
    let mut seen = Vec::new();
    for _ in 0..seconds {
        world.run(Duration::from_secs(1));
        let mut layers = BTreeMap::<u8, BTreeSet<u32>>::new();
        for stamp in camera(world, client, 1_000) {
            layers.entry(stamp.layer).or_default().insert(stamp.frame);
        }
        seen.push(layers);
    }
    let counts: Vec<_> =
        seen.iter().map(|s| s.iter().map(|(l, p)| (*l, p.len())).collect::<Vec<_>>()).collect();
    println!("{counts:?}");
    seen
}

fn pictures(second: &BTreeMap<u8, BTreeSet<u32>>) -> usize {
    second.values().flatten().collect::<BTreeSet<_>>().len()
}
