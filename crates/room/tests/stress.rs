//! What subscribers are served when the line, or the server, does not carry all of it; what publishers are told of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod call;

use antiphon_base::{ParticipantKey, Source};
use antiphon_room::{Bandwidth, Config, LayerRate, SlotId};
use antiphon_wire::control::{
    ContentHint, Follow, LayerWish, LimitReason, ParticipantKind, Pin, Policy, Request, ServerMessage,
};

use call::{Call, OPUS, VP8, browser, feed, id, plan, track};

/// Tells one rate for all temporal layers.
fn measure(call: &mut Call, key: ParticipantKey, source: Source, layer: u8, bps: u64) {
    let rate = LayerRate { bps: [bps; 4], temporal_layers: 1, frames: 30 };
    call.room.layer_rate(call.now, feed(key, source, layer), rate);
    call.drain();
}

/// Measures the three layers of a camera.
fn camera(call: &mut Call, key: ParticipantKey, bps: [u64; 3]) {
    for (layer, bps) in (0..).zip(bps) {
        call.seen(key, Source::Camera, layer, VP8);
        measure(call, key, Source::Camera, layer, bps);
    }
}

const USUAL: [u64; 3] = [120_000, 400_000, 1_400_000];

fn watcher(call: &mut Call, videos: usize) -> ParticipantKey {
    let mut join = browser("watcher");
    join.slots = plan(2, videos, true);
    call.join(join)
}

fn bandwidth(call: &mut Call, key: ParticipantKey, bps: u64) {
    call.room.bandwidth(call.now, key, Bandwidth::Measured(bps));
    call.drain();
}

/// Layers of what stands in the video slots and the screen slot, in order of the slots.
fn layers(call: &Call, key: ParticipantKey) -> Vec<u8> {
    let slots = call.routes.range((key, SlotId(2))..=(key, SlotId(u16::MAX)));
    slots.map(|(_, feed)| feed.layer).collect()
}

fn limits(call: &Call, key: ParticipantKey) -> Option<(u16, LimitReason)> {
    call.clients[&key].limits
}

fn told(call: &Call, key: ParticipantKey, source: Source) -> Vec<LayerWish> {
    call.clients[&key].told.get(&source).cloned().unwrap_or_default()
}

fn active(call: &Call, key: ParticipantKey, source: Source) -> u8 {
    0b111 & !call.clients[&key].off.get(&source).copied().unwrap_or(0)
}

#[test]
fn measured_rates_count_not_assumed_ones() {
    let mut call = Call::new(Config::default());
    let me = watcher(&mut call, 1);
    let ada = call.join(browser("ada"));
    camera(&mut call, ada, [50_000, 100_000, 300_000]);
    bandwidth(&mut call, me, 400_000);
    assert_eq!(layers(&call, me), [2], "a still picture is cheap");
    assert_eq!(call.demands[&me], 300_000 * 105 / 100);
    // It begins to move.
    for _ in 0..4 {
        measure(&mut call, ada, Source::Camera, 2, 1_500_000);
    }
    assert_eq!(layers(&call, me), [1]);
    // Noise changes nothing.
    let routes = call.room.stats().routes;
    for bps in [1_400_000, 1_550_000, 1_450_000, 1_500_000] {
        measure(&mut call, ada, Source::Camera, 2, bps);
        call.pass(1_000);
    }
    assert_eq!(call.room.stats().routes, routes);
}

#[test]
fn screens_then_pins_and_leaders_then_others() {
    let mut call = Call::new(Config::default());
    let me = watcher(&mut call, 3);
    // Somebody else watches, too: nobody is squeezed for one bad line.
    call.join(browser("good"));
    let [ada, bob, cleo] = ["ada", "bob", "cleo"].map(|n| call.join(browser(n)));
    for key in [ada, bob, cleo] {
        camera(&mut call, key, USUAL);
    }
    call.seen(cleo, Source::Screen, 0, VP8);
    measure(&mut call, cleo, Source::Screen, 0, 1_000_000);
    let pins = vec![Pin { participant: id("bob"), source: Source::Camera, max_height: None }];
    call.request(me, Request::Policy { policy: Policy { pins, ..Policy::default() } });
    let at = |call: &mut Call, bps| {
        bandwidth(call, me, bps);
        call.pass(8_000);
        let who = |p: ParticipantKey| {
            let mine = call.routes.range((me, SlotId(0))..=(me, SlotId(u16::MAX)));
            mine.map(|(_, f)| f).find(|f| f.track == track(p, Source::Camera)).map(|f| f.layer)
        };
        [who(ada), who(bob), who(cleo)]
    };
    // The screen and three lowest take 1.36 Mbit/s.
    assert_eq!(at(&mut call, 1_400_000), [Some(0), Some(0), Some(0)]);
    assert_eq!(at(&mut call, 1_700_000), [Some(0), Some(1), Some(0)]);
    assert_eq!(at(&mut call, 2_700_000), [Some(0), Some(2), Some(0)]);
    assert_eq!(at(&mut call, 3_300_000), [Some(1), Some(2), Some(1)]);
    assert_eq!(at(&mut call, 9_000_000), [Some(2); 3]);
    assert_eq!(limits(&call, me), None);
    // Not even the lowest fit: the screen stays, then comes who is pinned, then the others.
    assert_eq!(at(&mut call, 900_000), [None; 3]);
    assert_eq!(call.in_slot(me, "s"), Some(("cleo", Source::Screen)));
    assert_eq!(limits(&call, me), Some((1, LimitReason::Bandwidth)));
    assert_eq!(at(&mut call, 1_450_000), [None, Some(1), None]);
    assert_eq!(at(&mut call, 1_600_000), [Some(0), Some(1), None]);
    assert_eq!(at(&mut call, 1_750_000), [Some(0), Some(1), Some(0)]);
}

#[test]
fn who_speaks_is_raised_before_those_who_do_not() {
    for speaks in 0..3 {
        let mut call = Call::new(Config::default());
        let me = watcher(&mut call, 3);
        call.join(browser("good"));
        let people = ["ada", "bob", "cleo"].map(|n| call.join(browser(n)));
        for key in people {
            camera(&mut call, key, USUAL);
            call.seen(key, Source::Microphone, 0, OPUS);
        }
        call.sound(4_000, &[(people[speaks], 20)]);
        // Two lowest layers and the middle one of one take 640 kbit/s, and the voices; another middle one does not fit.
        bandwidth(&mut call, me, 800_000);
        call.sound(8_000, &[(people[speaks], 20)]);
        let shown = people.map(|p| {
            let mine = call.routes.range((me, SlotId(0))..=(me, SlotId(u16::MAX)));
            mine.map(|(_, f)| f).find(|f| f.track == track(p, Source::Camera)).map(|f| f.layer)
        });
        let mut expected = [Some(0); 3];
        expected[speaks] = Some(1);
        assert_eq!(shown, expected);
    }
}

#[test]
fn up_goes_step_by_step_and_slower_where_it_did_not_last() {
    let mut call = Call::new(Config::default());
    let me = watcher(&mut call, 1);
    let ada = call.join(browser("ada"));
    camera(&mut call, ada, USUAL);
    bandwidth(&mut call, me, 200_000);
    assert_eq!(layers(&call, me), [0]);
    call.pass(5_000);
    bandwidth(&mut call, me, 5_000_000);
    assert_eq!(layers(&call, me), [1]);
    call.pass(400);
    assert_eq!(layers(&call, me), [1], "one step at a time");
    call.pass(200);
    assert_eq!(layers(&call, me), [2]);
    // A line that carries less than it seemed, again and again.
    let routes = call.room.stats().routes;
    for _ in 0..30 {
        bandwidth(&mut call, me, 900_000);
        call.pass(500);
        bandwidth(&mut call, me, 1_500_000);
        call.pass(500);
    }
    let switches = call.room.stats().routes - routes;
    assert!(switches <= 20, "{switches} in 30 s");
    // A little less than a layer costs does not take it away.
    bandwidth(&mut call, me, 5_000_000);
    call.pass(6_000);
    assert_eq!(layers(&call, me), [2]);
    bandwidth(&mut call, me, 1_100_000);
    call.pass(6_000);
    assert_eq!(layers(&call, me), [2]);
}

#[test]
fn what_does_not_fit_is_shed_with_a_word_and_voices_stay() {
    let mut call = Call::new(Config::default());
    let me = watcher(&mut call, 4);
    call.join(browser("good"));
    let people: Vec<_> = ["a", "b", "c", "d"].map(|n| call.join(browser(n))).into();
    for key in &people {
        call.seen(*key, Source::Microphone, 0, OPUS);
        camera(&mut call, *key, USUAL);
    }
    bandwidth(&mut call, me, 1_000_000);
    assert_eq!(layers(&call, me).len(), 4);
    bandwidth(&mut call, me, 360_000);
    assert_eq!(layers(&call, me), [0; 4], "a dip sheds nothing");
    call.pass(1_600);
    assert_eq!(limits(&call, me), Some((2, LimitReason::Bandwidth)), "within two seconds");
    assert_eq!(call.shown(me, "v").len(), 2);
    assert_eq!(call.shown(me, "a").len(), 2);
    bandwidth(&mut call, me, 90_000);
    call.pass(1_600);
    assert_eq!(limits(&call, me), Some((0, LimitReason::Bandwidth)));
    assert_eq!((call.shown(me, "v").len(), call.shown(me, "a").len()), (0, 2));
    assert!(call.demands[&me] > 4_000_000, "more is looked for");
    bandwidth(&mut call, me, 1_000_000);
    call.pass(2_900);
    assert_eq!(call.shown(me, "v").len(), 0);
    call.pass(200);
    assert_eq!(call.shown(me, "v").len(), 1, "one at a time");
    call.pass(10_000);
    assert_eq!(limits(&call, me), None);
    assert_eq!(call.shown(me, "v").len(), 4);
    let told = call.count(me, |m| matches!(m, ServerMessage::Limits { .. }));
    assert_eq!(told, 6, "2, 0, 1, 2, 3, all");
    // There is no need to feel the way where there is twice the room.
    bandwidth(&mut call, me, 90_000);
    call.pass(1_600);
    bandwidth(&mut call, me, 3_000_000);
    call.pass(2_900);
    assert_eq!(call.shown(me, "v").len(), 0);
    call.pass(200);
    assert_eq!((call.shown(me, "v").len(), limits(&call, me)), (4, None));
}

#[test]
fn a_busy_server_serves_fewer_videos_and_all_again() {
    let mut call = Call::new(Config::default());
    let me = watcher(&mut call, 4);
    let mut join = browser("small");
    join.slots = plan(1, 1, false);
    let small = call.join(join);
    let people: Vec<_> = ["a", "b", "c", "d"].map(|n| call.join(browser(n))).into();
    for key in &people {
        call.seen(*key, Source::Microphone, 0, OPUS);
        camera(&mut call, *key, USUAL);
    }
    call.seen(people[3], Source::Screen, 0, VP8);
    let load = |call: &mut Call, seconds: usize, permille: u64| {
        for _ in 0..seconds {
            call.pass(1_000);
            call.room.load(call.now, 0, permille);
            call.drain();
        }
    };
    load(&mut call, 5, 790);
    assert_eq!(limits(&call, me), None);
    load(&mut call, 1, 850);
    assert_eq!(limits(&call, me), Some((4, LimitReason::ServerBusy)), "with the screen there were five");
    load(&mut call, 4, 850);
    assert_eq!(limits(&call, me), Some((2, LimitReason::ServerBusy)));
    assert_eq!(call.in_slot(me, "s"), Some(("d", Source::Screen)), "screens first");
    assert_eq!(call.shown(me, "v").len(), 1);
    assert_eq!(call.shown(me, "a").len(), 2);
    assert_eq!(limits(&call, small), None, "who has one video keeps it");
    load(&mut call, 20, 860);
    assert_eq!(limits(&call, me), Some((1, LimitReason::ServerBusy)));
    load(&mut call, 20, 700);
    assert_eq!(limits(&call, me), Some((1, LimitReason::ServerBusy)), "between the limits nothing changes");
    load(&mut call, 3, 600);
    assert_eq!(limits(&call, me), Some((1, LimitReason::ServerBusy)));
    load(&mut call, 30, 600);
    assert_eq!(limits(&call, me), None);
    assert_eq!(call.shown(me, "v").len(), 4);
    load(&mut call, 20, 990);
    assert_eq!(limits(&call, me), Some((0, LimitReason::ServerBusy)), "voices are spared even then");
    assert_eq!(call.shown(me, "a").len(), 2);
}

#[test]
fn only_those_whom_the_busy_shard_serves_get_fewer() {
    let mut call = Call::new(Config::default());
    let (here, there) = (watcher(&mut call, 4), call.join(browser("there")));
    call.room.served_by(call.now, there, 1);
    for name in ["a", "b", "c", "d"] {
        let key = call.join(browser(name));
        camera(&mut call, key, USUAL);
    }
    call.drain();
    for _ in 0..6 {
        call.pass(1_000);
        call.room.load(call.now, 0, 300);
        call.room.load(call.now, 1, 900);
        call.drain();
    }
    assert_eq!(limits(&call, here), None);
    assert_eq!(limits(&call, there), Some((1, LimitReason::ServerBusy)));
    // It comes back where there is room.
    call.room.served_by(call.now, there, 0);
    call.drain();
    assert_eq!(limits(&call, there), None);
}

#[test]
fn pins_and_order_hold_while_few_are_served() {
    let mut call = Call::new(Config::default());
    let me = watcher(&mut call, 4);
    let people: Vec<_> = ["a", "b", "c", "d", "e"].map(|n| call.join(browser(n))).into();
    for key in &people {
        camera(&mut call, *key, USUAL);
    }
    let pins = vec![Pin { participant: id("e"), source: Source::Camera, max_height: None }];
    for (follow, rest) in [(Follow::Joined, ["a", "e"]), (Follow::None, ["e", "e"])] {
        let policy = Policy { pins: pins.clone(), follow, ..Policy::default() };
        call.request(me, Request::Policy { policy });
        for _ in 0..3 {
            call.pass(2_000);
            call.room.load(call.now, 0, 900);
            call.drain();
        }
        assert!(call.shown(me, "v").is_superset(&["e"].into()), "{follow:?}");
        assert!(call.shown(me, "v").is_subset(&rest.into()), "{follow:?}: {:?}", call.shown(me, "v"));
    }
    assert_eq!(limits(&call, me), None, "one was wanted, one is served");
}

/// Of those who were pinned the last goes first, and all others before them.
#[test]
fn pins_go_in_their_order_while_fewer_and_fewer_are_served() {
    let mut call = Call::new(Config::default());
    let me = watcher(&mut call, 4);
    let people: Vec<_> = ["a", "b", "c", "d", "e"].map(|n| call.join(browser(n))).into();
    for key in &people {
        camera(&mut call, *key, USUAL);
    }
    let pin = |who| Pin { participant: id(who), source: Source::Camera, max_height: None };
    let pins = vec![pin("e"), pin("c")];
    let policy = Policy { pins, follow: Follow::Joined, ..Policy::default() };
    call.request(me, Request::Policy { policy });
    let mut seen = vec![call.shown(me, "v").into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for _ in 0..4 {
        call.pass(2_000);
        call.room.load(call.now, 0, 900);
        call.drain();
        seen.push(call.shown(me, "v").into_iter().map(str::to_owned).collect());
    }
    assert_eq!(seen, [vec!["a", "b", "c", "e"], vec!["a", "c", "e"], vec!["c", "e"], vec!["e"], vec!["e"]]);
}

#[test]
fn publishers_hear_what_is_watched() {
    let mut call = Call::new(Config::default());
    let ada = call.join(browser("ada"));
    camera(&mut call, ada, USUAL);
    call.pass(3_000);
    assert_eq!(active(&call, ada, Source::Camera), 0b111, "somebody may come");
    call.pass(1_500);
    assert_eq!(active(&call, ada, Source::Camera), 0, "nobody is here");
    for layer in 0..3 {
        call.room.layer_gone(call.now, feed(ada, Source::Camera, layer));
    }
    call.drain();
    call.pass(50);
    let me = watcher(&mut call, 1);
    assert_eq!(active(&call, ada, Source::Camera), 0b100, "at once");
    assert_eq!(call.routes[&(me, SlotId(2))].layer, 2);
    call.seen(ada, Source::Camera, 2, VP8);
    let policy = Policy { max_height: Some(180), max_frame_rate: Some(15), ..Policy::default() };
    call.request(me, Request::Policy { policy });
    call.pass(600);
    assert_eq!(active(&call, ada, Source::Camera), 0b101);
    assert_eq!(call.routes[&(me, SlotId(2))].layer, 2, "what is sent is shown until the other comes");
    call.seen(ada, Source::Camera, 0, VP8);
    assert_eq!(call.routes[&(me, SlotId(2))].layer, 0);
    call.pass(5_000);
    let wish = told(&call, ada, Source::Camera);
    let limits = |w: &LayerWish| (w.active, w.max_bitrate, w.max_height, w.max_frame_rate);
    assert_eq!(
        wish.iter().map(limits).collect::<Vec<_>>(),
        [(true, None, Some(180), Some(15)), (false, None, None, None), (false, None, None, None),]
    );
    // What does not come back is not waited for.
    call.request(me, Request::Policy { policy: Policy::default() });
    assert_eq!(active(&call, ada, Source::Camera), 0b101);
    call.room.layer_gone(call.now, feed(ada, Source::Camera, 2));
    call.pass(3_100);
    assert_eq!(call.clients[&me].roster[&id("ada")].tracks[0].layers, 2);
    // A new connection begins with all.
    call.resume("token-ada", plan(1, 1, false)).unwrap();
    call.room.connected(call.now, ada, 0);
    for layer in 0..3 {
        call.seen(ada, Source::Camera, layer, VP8);
    }
    call.pass(3_000);
    assert_eq!(active(&call, ada, Source::Camera), 0b111);
    assert_eq!(layers(&call, me), [2]);
}

#[test]
fn messages_to_publishers_are_coalesced() {
    let mut call = Call::new(Config::default());
    let ada = call.join(browser("ada"));
    camera(&mut call, ada, USUAL);
    let me = watcher(&mut call, 1);
    let begin = call.count(ada, |m| matches!(m, ServerMessage::Layers { .. }));
    for i in 0..200 {
        let height = [180, 360, 720][i % 3];
        let policy = Policy { max_height: Some(height), ..Policy::default() };
        if i.is_multiple_of(5) {
            call.request(me, Request::Policy { policy });
        }
        call.pass(50);
    }
    let told = call.count(ada, |m| matches!(m, ServerMessage::Layers { .. })) - begin;
    assert!((2..=21).contains(&told), "{told} in ten seconds");
}

#[test]
fn one_layer_is_squeezed_for_the_best_of_the_bad_lines() {
    let mut call = Call::new(Config::default());
    let ada = call.join(browser("ada"));
    call.seen(ada, Source::Screen, 0, VP8);
    measure(&mut call, ada, Source::Screen, 0, 2_000_000);
    let me = watcher(&mut call, 1);
    bandwidth(&mut call, me, 900_000);
    call.pass(600);
    let max = |call: &Call| told(call, ada, Source::Screen).first().and_then(|w| w.max_bitrate);
    assert_eq!(max(&call), Some(900_000));
    assert!(call.demands[&me] > 1_500_000, "more is looked for");
    // It follows, is not let go, and not shed.
    for _ in 0..8 {
        call.pass(1_000);
        measure(&mut call, ada, Source::Screen, 0, 850_000);
    }
    assert_eq!((max(&call), limits(&call, me)), (Some(900_000), None));
    let mut good = browser("good");
    good.slots = plan(1, 1, true);
    let good = call.join(good);
    call.pass(600);
    assert_eq!(max(&call), None, "a bad line takes nothing from a good one");
    for _ in 0..4 {
        call.pass(1_000);
        measure(&mut call, ada, Source::Screen, 0, 2_000_000);
    }
    assert_eq!(limits(&call, me), Some((0, LimitReason::Bandwidth)));
    assert_eq!(limits(&call, good), None);
}

#[test]
fn who_does_not_follow_is_shed() {
    let mut call = Call::new(Config::default());
    let ada = call.join(browser("ada"));
    call.seen(ada, Source::Camera, 0, VP8);
    let me = watcher(&mut call, 1);
    bandwidth(&mut call, me, 400_000);
    for _ in 0..9 {
        call.pass(1_000);
        measure(&mut call, ada, Source::Camera, 0, 2_000_000);
    }
    assert_eq!(limits(&call, me), Some((0, LimitReason::Bandwidth)));
    call.pass(60_000);
    assert_eq!(limits(&call, me), Some((0, LimitReason::Bandwidth)), "and does not come and go");
}

#[test]
fn whip_publishers_are_told_nothing_and_bots_are() {
    let mut call = Call::new(Config::default());
    let mut whip = browser("obs");
    (whip.kind, whip.control) = (ParticipantKind::Whip, false);
    let mut bot = browser("bot");
    bot.kind = ParticipantKind::Bot;
    let (whip, bot) = (call.join(whip), call.join(bot));
    call.seen(whip, Source::Camera, 0, VP8);
    call.seen(bot, Source::Camera, 0, VP8);
    call.pass(5_000);
    assert!(!call.clients.contains_key(&whip), "nothing is said to who has no control channel");
    call.room.leave(call.now, whip, antiphon_wire::control::LeaveReason::Left);
    call.pass(5_000);
    assert!(!call.clients.contains_key(&whip));
    assert_eq!(told(&call, bot, Source::Camera).iter().map(|w| w.active).collect::<Vec<_>>(), [false]);
}

/// Three temporal layers with 50, 75 and 100 % of the rate.
fn temporal(call: &mut Call, key: ParticipantKey, source: Source, layer: u8, bps: u64) {
    let rate = LayerRate { bps: [bps / 2, bps * 3 / 4, bps, bps], temporal_layers: 3, frames: 30 };
    call.room.layer_rate(call.now, feed(key, source, layer), rate);
    call.drain();
}

#[test]
fn the_frame_rate_of_a_policy_limits_temporal_layers() {
    let mut call = Call::new(Config::default());
    let me = watcher(&mut call, 1);
    let ada = call.join(browser("ada"));
    call.seen(ada, Source::Camera, 0, VP8);
    let highest = |call: &mut Call, fps| {
        call.request(me, Request::Policy { policy: Policy { max_frame_rate: fps, ..Policy::default() } });
        call.temporal.get(&(me, SlotId(2))).copied()
    };
    assert_eq!(highest(&mut call, Some(10)), None, "there are none that are known of");
    temporal(&mut call, ada, Source::Camera, 0, 1_000_000);
    assert_eq!(
        [Some(30), Some(20), Some(15), Some(10), Some(1)].map(|f| highest(&mut call, f)),
        [None, Some(1), Some(1), Some(0), Some(0)]
    );
    assert_eq!(highest(&mut call, None), None);
}

#[test]
fn a_hint_says_what_suffers_first() {
    for (hint, point) in [
        (None, (1, Some(0))),
        (Some(ContentHint::Text), (1, Some(0))),
        (Some(ContentHint::Motion), (0, None)),
    ] {
        let mut call = Call::new(Config::default());
        let me = watcher(&mut call, 1);
        let ada = call.join(browser("ada"));
        call.request(ada, Request::Publish { source: Source::Screen, active: true, hint });
        for (layer, bps) in [(0, 500_000), (1, 1_600_000)] {
            call.seen(ada, Source::Screen, layer, VP8);
            temporal(&mut call, ada, Source::Screen, layer, bps);
        }
        bandwidth(&mut call, me, 820_000);
        call.pass(5_000);
        let slot = (me, SlotId(3));
        assert_eq!((call.routes[&slot].layer, call.temporal.get(&slot).copied()), point, "{hint:?}");
        bandwidth(&mut call, me, 9_000_000);
        call.pass(5_000);
        assert_eq!((call.routes[&slot].layer, call.temporal.get(&slot)), (1, None));
    }
}

#[test]
fn for_what_is_only_assumed_nothing_is_shed() {
    let mut call = Call::new(Config::default());
    let me = watcher(&mut call, 3);
    // Somebody else watches, too: nobody is squeezed for one bad line.
    call.join(browser("good"));
    for name in ["ada", "bob", "cleo"] {
        let key = call.join(browser(name));
        camera(&mut call, key, USUAL);
    }
    call.room.bandwidth(call.now, me, Bandwidth::Assumed(120_000));
    call.drain();
    call.pass(10_000);
    assert_eq!((layers(&call, me), limits(&call, me)), (vec![0; 3], None));
    // The same, now known: a line that is too narrow from its first measurement on.
    bandwidth(&mut call, me, 120_000);
    call.pass(1_400);
    assert_eq!(limits(&call, me), None);
    call.pass(600);
    assert_eq!(limits(&call, me), Some((1, LimitReason::Bandwidth)));
}

#[test]
fn who_has_followed_is_shown_with_all_its_pictures() {
    let mut call = Call::new(Config::default());
    let ada = call.join(browser("ada"));
    call.seen(ada, Source::Camera, 0, VP8);
    temporal(&mut call, ada, Source::Camera, 0, 222_000);
    let me = watcher(&mut call, 1);
    let slot = (me, SlotId(2));
    bandwidth(&mut call, me, 100_000);
    call.pass(1_000);
    assert_eq!(call.temporal.get(&slot), Some(&0), "until it has");
    for _ in 0..2 {
        call.pass(1_000);
        temporal(&mut call, ada, Source::Camera, 0, 90_000);
    }
    call.pass(1_000);
    assert_eq!(call.temporal.get(&slot), None);
}
