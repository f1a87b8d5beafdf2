//! Simulcast: who gets which layer, what becomes of the others, what many joins cost the publisher.

use std::collections::BTreeSet;
use std::time::Duration;

use antiphon_base::{Source, VideoCodec};
use antiphon_shard::Config;
use antiphon_sim::stamp::nested::Mode;
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::{Policy, Request};

fn capped(height: Option<u16>) -> Policy {
    Policy { max_height: height, ..Policy::default() }
}

/// A publisher with three layers and listeners with these caps.
fn stage(seed: u64, caps: &[Option<u16>]) -> (World, usize, Vec<usize>) {
    let mut world = World::new(seed);
    let anna = world.enter(Profile::new("anna").simulcast());
    let listener = |i: usize| Profile::new(&format!("listener-{i}")).listener(1, 1);
    let listeners = caps
        .iter()
        .enumerate()
        .map(|(i, cap)| world.enter(Profile { policy: capped(*cap), ..listener(i) }))
        .collect();
    let now = world.now;
    world.clients[anna].start(now, Source::Camera, 20);
    (world, anna, listeners)
}

/// On a line that loses, fifteen times the lowest, the middle and the highest layer are asked for, until `is_shown` says that they are.
fn switched_under_loss(
    seed: u64,
    anna: Profile,
    place: Option<u8>,
    is_shown: impl Fn(&BTreeSet<u8>, u8) -> bool,
) -> (World, usize) {
    let mut world = World::new(seed);
    world.conditions = Conditions { delay: Duration::from_millis(15), loss: 0.03, ..Conditions::default() };
    let (codec, top) = (anna.codec, anna.mode.map_or(2, |mode| mode.layers - 1));
    let what = format!("{codec:?} {:?} {place:?}", anna.mode);
    let anna = world.enter(anna);
    let me = world.enter(Profile { codec, ..Profile::new("me").listener(1, 1) });
    world.talk(anna, 20);
    world.clients[anna].senders.iter_mut().for_each(|sender| sender.place = place);
    let rounds = [(None, top), (Some(180), 0), (Some(400), top - 1), (None, top), (Some(180), 0)];
    for (round, (cap, layer)) in rounds.into_iter().cycle().take(15).enumerate() {
        world.say(me, Request::Policy { policy: capped(cap) });
        world.run(Duration::from_secs(2));
        let what = format!("{what} round {round}: layer {layer}");
        world.until(Duration::from_secs(8), &what, |w| is_shown(&recent(w, me), layer));
    }
    let report = world.check();
    report.assert_sound();
    assert!(report.of(me).frames > 1_500, "{what}: {:?}", report.of(me));
    (world, me)
}

/// By rid in H.264 and in AV1 with dependency descriptors: layers change at key frames, pictures are whole, and numbers go on
/// ([`antiphon_sim::check`]).
#[test]
fn layers_of_h264_and_av1_are_switched_under_loss() {
    for codec in [VideoCodec::H264, VideoCodec::Av1] {
        for place in [None, Some(0)] {
            let anna = Profile { codec, ..Profile::new("anna").simulcast() };
            let only = |came: &BTreeSet<u8>, layer| *came == BTreeSet::from([layer]);
            let (world, me) = switched_under_loss(8, anna, place, only);
            let switches = world.check().of(me).switches;
            assert!(switches >= 12, "{codec:?} {place:?}: {switches}");
            let numbered =
                world.clients[me].slots[1].packets.iter().any(|p| p.parsed.unwrap().picture_id.is_some());
            assert_eq!(numbered, codec == VideoCodec::Av1 && place.is_none());
        }
    }
}

/// Of one stream in VP9 and in AV1 with dependency descriptors: up at key frames, down at once, and what a picture builds on comes.
#[test]
fn spatial_layers_of_one_stream_are_switched_under_loss() {
    for codec in [VideoCodec::Vp9, VideoCodec::Av1] {
        for (layers, key_only) in [(2, false), (2, true), (3, false), (3, true)] {
            let anna = Profile { codec, mode: Some(Mode { layers, key_only }), ..Profile::new("anna") };
            // What upper layers do not build on is left out, where a descriptor tells it.
            let with_below = |came: &BTreeSet<u8>, layer| {
                came.last() == Some(&layer) && (key_only || came.len() == usize::from(layer) + 1)
            };
            switched_under_loss(9, anna, None, with_below);
        }
    }
}

/// Layers of cameras that came in the last second.
fn recent(world: &World, client: usize) -> BTreeSet<u8> {
    let since = world.now - Duration::from_secs(1);
    let packets = world.clients[client].slots.iter().flat_map(|s| &s.packets);
    let stamps = packets.filter(|p| p.at >= since).filter_map(|p| p.parsed).map(|p| p.stamp);
    stamps.filter(|stamp| stamp.source == Source::Camera).map(|stamp| stamp.layer).collect()
}

#[test]
fn each_gets_the_layer_for_its_height_and_only_that() {
    let (mut world, _, listeners) = stage(2, &[Some(180), Some(360), Some(720), None, Some(500), Some(10)]);
    world.run(Duration::from_secs(4));
    world.check().assert_sound();
    let got: Vec<Vec<u8>> = listeners.iter().map(|l| recent(&world, *l).into_iter().collect()).collect();
    assert_eq!(got, [[0], [1], [2], [2], [1], [0]]);
    assert_eq!(world.check().of(listeners[0]).missing, 0);
}

#[test]
fn unwanted_layers_end_at_the_door() {
    let (mut world, _, listeners) = stage(3, &[Some(180)]);
    world.run(Duration::from_secs(2));
    let before = world.engine.metrics();
    world.run(Duration::from_secs(4));
    let after = world.engine.metrics();
    let unwanted = after.packets_unwanted - before.packets_unwanted;
    let (came, forwarded) =
        (after.packets_in - before.packets_in, after.packets_forwarded - before.packets_forwarded);
    assert_eq!(came, unwanted + forwarded);
    assert!(unwanted > 4 * forwarded / 2, "{unwanted} of {came}, {forwarded} forwarded");
    assert_eq!(recent(&world, listeners[0]), BTreeSet::from([0]));
}

#[test]
fn a_new_policy_changes_the_layer_at_a_key_frame() {
    let (mut world, anna, listeners) = stage(4, &[None]);
    let me = listeners[0];
    world.run(Duration::from_secs(3));
    for (cap, layer) in [(Some(180), 0), (Some(400), 1), (None, 2), (Some(180), 0)] {
        world.say(me, Request::Policy { policy: capped(cap) });
        world.run(Duration::from_secs(3));
        assert_eq!(recent(&world, me), BTreeSet::from([layer]), "{cap:?}");
    }
    let mid = world.clients[me].slots[1].mid.clone();
    let policy = Policy { slot_heights: [(mid, 360)].into(), ..Policy::default() };
    world.say(me, Request::Policy { policy });
    world.run(Duration::from_secs(3));
    assert_eq!(recent(&world, me), BTreeSet::from([1]));
    let report = world.check();
    report.assert_sound();
    assert!(report.of(me).switches >= 5);
    // Nobody is asked for more key frames than it takes.
    let asked: usize = world.clients[anna].senders.iter().map(|s| s.keyframe_requests.len()).sum();
    assert!(asked <= 12, "{asked}");
}

#[test]
fn bandwidth_told_by_remb_caps_the_layer() {
    let (mut world, anna, _) = stage(5, &[]);
    for sender in &mut world.clients[anna].senders {
        sender.bps = Some([150_000, 500_000, 1_500_000][usize::from(sender.layer)]);
    }
    let me = world.enter(Profile { transport_feedback: false, ..Profile::new("ben").listener(1, 1) });
    world.run(Duration::from_secs(3));
    assert_eq!(recent(&world, me), BTreeSet::from([2]));
    for (bps, layer) in [(800_000, 1), (200_000, 0), (5_000_000, 2)] {
        assert!(world.clients[me].request_remb(1, bps));
        world.run(Duration::from_secs(4));
        assert_eq!(recent(&world, me), BTreeSet::from([layer]), "{bps}");
    }
    world.check().assert_sound();
}

#[test]
fn a_layer_that_stops_gives_way_to_one_that_flows() {
    let (mut world, anna, listeners) = stage(6, &[None]);
    world.run(Duration::from_secs(3));
    assert_eq!(recent(&world, listeners[0]), BTreeSet::from([2]));
    world.clients[anna].senders[2].stopped = true;
    world.run(Duration::from_secs(4));
    assert_eq!(recent(&world, listeners[0]), BTreeSet::from([1]));
    world.check().assert_sound();
}

#[test]
fn a_hundred_joins_in_a_second_cost_two_key_frames_a_layer() {
    crowd(World::new(7));
}

/// Those who come on the other shard ask by way of the home.
#[test]
fn a_hundred_joins_over_two_shards_cost_no_more() {
    crowd(World::spread(8, &Config::default(), 2));
}

fn crowd(mut world: World) {
    let heights = [Some(180), Some(360), None];
    let anna = world.enter(Profile::new("anna").simulcast());
    for (i, height) in heights.into_iter().enumerate() {
        let first = Profile::new(&format!("first-{i}")).listener(1, 1);
        world.enter(Profile { policy: capped(height), ..first });
    }
    let now = world.now;
    world.clients[anna].start(now, Source::Camera, 20);
    world.run(Duration::from_secs(3));
    let begin = world.now;
    let made = |world: &World| world.clients[anna].senders.iter().map(|s| s.keyframes).collect::<Vec<_>>();
    let before = made(&world);
    let (shards, mut listeners) = (world.shards(), Vec::new());
    for i in 0..100 {
        world.shard = Some(i % shards);
        let profile = Profile::new(&format!("guest-{i}")).listener(1, 1);
        listeners.push(world.join(Profile { policy: capped(heights[i % 3]), ..profile }));
        world.run(Duration::from_millis(10));
    }
    world.run(Duration::from_secs(3));
    let after = made(&world);
    for (i, sender) in world.clients[anna].senders.iter().enumerate() {
        let asked = sender.keyframe_requests.iter().filter(|at| **at >= begin).count();
        let made = after[i] - before[i];
        assert!(
            asked <= 2 && (1..=2).contains(&made),
            "layer {}: {asked} asked for, {made} made",
            sender.layer
        );
    }
    for (i, listener) in listeners.iter().enumerate() {
        assert_eq!(recent(&world, *listener), BTreeSet::from([[0, 1, 2][i % 3]]), "guest {i}");
    }
    world.check().assert_sound();
}

/// Pictures of a camera that came to a client in the last two seconds: of each temporal layer.
fn pictures(world: &World, client: usize) -> [usize; 3] {
    let since = world.now - Duration::from_secs(2);
    let packets = world.clients[client].slots.iter().flat_map(|s| &s.packets).filter(|p| p.at >= since);
    let stamps = packets.filter_map(|p| p.parsed).map(|p| p.stamp);
    let of_cameras = stamps.filter(|stamp| stamp.source == Source::Camera);
    // Of the pattern 0, 2, 1, 2.
    let frames: BTreeSet<_> = of_cameras.filter_map(|stamp| Some((stamp.frame, stamp.place?))).collect();
    let mut of = [0; 3];
    frames.into_iter().for_each(|(_, place)| of[[0, 2, 1, 2][usize::from(place)]] += 1);
    of
}

/// The highest frame rate of a policy leaves out upper temporal layers of whom it is said for, without a hole in the numbers, until it
/// is lifted.
#[test]
fn a_frame_rate_leaves_out_temporal_layers() {
    for (codec, mode) in [
        (VideoCodec::Vp8, None),
        (VideoCodec::Vp9, Some(Mode { layers: 2, key_only: false })),
        (VideoCodec::Av1, Some(Mode { layers: 2, key_only: false })),
    ] {
        let mut world = World::new(10);
        let anna = world.enter(Profile { codec, mode, ..Profile::new("anna") });
        let listener = |name| Profile { codec, ..Profile::new(name).listener(1, 1) };
        let [me, other] = ["me", "other"].map(|name| world.enter(listener(name)));
        world.talk(anna, 20);
        world.clients[anna].senders.iter_mut().for_each(|sender| sender.place = Some(0));
        for (limit, expected) in [
            (None, [10, 10, 20]),
            (Some(10), [10, 10, 0]),
            (Some(5), [10, 0, 0]),
            (Some(15), [10, 10, 0]),
            (None, [10, 10, 20]),
        ] {
            let policy = Policy { max_frame_rate: limit, ..Policy::default() };
            world.say(me, Request::Policy { policy });
            world.run(Duration::from_secs(5));
            for (client, expected) in [(me, expected), (other, [10, 10, 20])] {
                let came = pictures(&world, client);
                let is_near = came.iter().zip(expected).all(|(came, wanted)| came.abs_diff(wanted) <= 1);
                assert!(is_near, "{codec:?} {limit:?}: {came:?}, not {expected:?}");
            }
        }
        let report = world.check();
        report.assert_sound();
        assert_eq!(
            [me, other].map(|c| (report.of(c).missing, report.of(c).incomplete)),
            [(0, 0); 2],
            "{codec:?}"
        );
    }
}
