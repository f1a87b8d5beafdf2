//! Scripted calls under virtual time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod call;

use std::time::Duration;

use antiphon_base::{ErrorKind, Source, VideoCodec};
use antiphon_room::{Bandwidth, Config, Grants, Join, JoinError, KeyframeCause, SlotId, TapRequest};
use antiphon_wire::control::{
    Follow, LeaveReason, ParticipantKind, Pin, Policy, Presence, Request, ServerMessage,
};

use call::{Call, H264, OPUS, VP8, browser, feed, id, plan, track};

fn call() -> Call {
    Call::new(Config::default())
}

fn code(reply: Option<ServerMessage>) -> Option<ErrorKind> {
    match reply.expect("a reply") {
        ServerMessage::Reply { error, .. } => error.map(|e| e.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_messages_are_welcome_roster_slots_dominant() {
    let mut call = call();
    let ada = call.join(browser("ada"));
    let messages = &call.clients[&ada].messages;
    assert!(
        matches!(&messages[0], ServerMessage::Welcome { key, resume_ttl_s: 30, server_time_us: 1, .. } if *key == ada)
    );
    assert!(
        matches!(&messages[1], ServerMessage::Roster { seq: 1, participants } if participants.len() == 1)
    );
    assert!(matches!(&messages[2], ServerMessage::Slots { slots } if slots.len() == 8));
    assert!(matches!(&messages[3], ServerMessage::Dominant { participants } if participants.is_empty()));
    assert_eq!(messages.len(), 4);
}

#[test]
fn two_people_hear_and_see_each_other_in_companion_slots() {
    let mut call = call();
    let (ada, bob) = (call.join(browser("ada")), call.join(browser("bob")));
    call.prompt = false;
    call.send(ada);
    call.send(bob);
    assert_eq!(call.in_slot(bob, "v0"), None, "nothing is told before the switch");
    assert_eq!(call.wanted[&track(ada, Source::Camera)], 1);
    call.prompt = true;
    call.drain();
    assert_eq!(call.in_slot(bob, "v0"), Some(("ada", Source::Camera)));
    assert_eq!(call.in_slot(bob, "a0"), Some(("ada", Source::Microphone)));
    assert_eq!(call.in_slot(ada, "a0"), Some(("bob", Source::Microphone)));
    let slot = &call.clients[&bob].slots["v0"];
    assert_eq!((slot.csrc, slot.rtp_time), (Some(ada.0), Some(4711)));
    let info = &call.clients[&bob].roster[&id("ada")];
    assert_eq!(
        info.tracks.iter().map(|t| t.source).collect::<Vec<_>>(),
        [Source::Microphone, Source::Camera]
    );

    call.room.leave(call.now, ada, LeaveReason::Left);
    call.drain();
    assert_eq!(call.in_slot(bob, "v0"), None);
    assert!(!call.clients[&bob].roster.contains_key(&id("ada")));
    assert_eq!(call.ended, [(ada, LeaveReason::Left)]);
}

#[test]
fn newcomers_take_the_slot_beside_their_own_voice() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let people: Vec<_> = ["a", "b", "c"].map(|n| call.join(browser(n))).into();
    for key in [people[0], people[1], people[2]] {
        call.seen(key, Source::Microphone, 0, OPUS);
    }
    for key in [people[2], people[0], people[1]] {
        call.seen(key, Source::Camera, 0, VP8);
    }
    for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(call.in_slot(watcher, &format!("a{i}")), Some((name, Source::Microphone)));
        assert_eq!(call.in_slot(watcher, &format!("v{i}")), Some((name, Source::Camera)));
    }
}

#[test]
fn with_more_voices_than_slots_the_loudest_are_heard_without_flapping() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let p: Vec<_> = ["a", "b", "c", "d", "e"].map(|n| call.join(browser(n))).into();
    for key in &p {
        call.seen(*key, Source::Microphone, 0, OPUS);
    }
    let level = |l: [u8; 5]| -> Vec<_> { p.iter().copied().zip(l).collect() };
    call.sound(1000, &level([30, 30, 30, 90, 90]));
    assert_eq!(call.shown(watcher, "a"), ["a", "b", "c"].into());
    // A little louder is not enough ...
    let routes = call.room.stats().routes;
    call.sound(3000, &level([30, 30, 30, 29, 28]));
    assert_eq!(call.room.stats().routes, routes);
    // ... much louder takes a moment ...
    call.sound(200, &level([30, 30, 30, 15, 90]));
    assert_eq!(call.shown(watcher, "a"), ["a", "b", "c"].into());
    call.sound(400, &level([30, 30, 30, 15, 90]));
    assert!(call.shown(watcher, "a").contains("d"));
    // ... but who speaks into a silence is heard at once.
    call.sound(4000, &level([30, 90, 90, 30, 90]));
    call.sound(60, &level([30, 90, 90, 30, 30]));
    assert_eq!(call.shown(watcher, "a"), ["a", "d", "e"].into());
}

#[test]
fn the_sound_of_a_screen_has_precedence() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let p: Vec<_> = ["a", "b", "c", "d"].map(|n| call.join(browser(n))).into();
    for key in &p {
        call.seen(*key, Source::Microphone, 0, OPUS);
    }
    call.sound(1000, &p.iter().map(|k| (*k, 20)).collect::<Vec<_>>());
    call.seen(p[3], Source::ScreenAudio, 0, OPUS);
    let heard: Vec<_> = (0..3).filter_map(|i| call.in_slot(watcher, &format!("a{i}"))).collect();
    assert!(heard.contains(&("d", Source::ScreenAudio)), "{heard:?}");
}

#[test]
fn video_follows_who_leads_and_the_least_recent_leader_goes() {
    let mut call = call();
    let mut join = browser("watcher");
    join.slots = plan(8, 2, false);
    let watcher = call.join(join);
    let p: Vec<_> = ["a", "b", "c", "d"].map(|n| call.join(browser(n))).into();
    for key in &p {
        call.send(*key);
    }
    assert_eq!(call.shown(watcher, "v"), ["a", "b"].into());
    let speaks = |who: usize| -> Vec<_> {
        p.iter().enumerate().map(|(i, k)| (*k, if i == who { 25 } else { 80 })).collect()
    };
    call.sound(3000, &speaks(0));
    call.sound(3000, &speaks(2));
    assert_eq!(call.shown(watcher, "v"), ["a", "c"].into());
    assert_eq!(call.room.dominant().first(), Some(&p[2]));
    call.sound(3000, &speaks(3));
    assert_eq!(call.shown(watcher, "v"), ["c", "d"].into());
    let slots = call.clients[&watcher].slots.clone();
    call.sound(3000, &speaks(2));
    assert_eq!(call.clients[&watcher].slots, slots, "who is shown does not move when it leads again");
    // The leader itself sees the others.
    assert!(!call.shown(p[2], "v").contains("c"));
    let told = call.count(watcher, |m| matches!(m, ServerMessage::Speakers { .. }));
    assert!((4..=12 * 5).contains(&told), "{told} in 12 s");
}

#[test]
fn pins_come_first_and_manual_subscription_is_pins_only() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let p: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|n| call.join(browser(n))).into();
    for key in &p {
        call.send(*key);
    }
    assert_eq!(call.shown(watcher, "v"), ["a", "b", "c", "d"].into());
    let pin = |name: &str| Pin { participant: id(name), source: Source::Camera, max_height: None };
    let policy = Policy { pins: vec![pin("f"), pin("nobody")], max_videos: Some(2), ..Policy::default() };
    call.request(watcher, Request::Policy { policy });
    assert!(call.shown(watcher, "v").contains("f"));
    assert_eq!(call.shown(watcher, "v").len(), 2);
    let policy = Policy { pins: vec![pin("e"), pin("watcher")], follow: Follow::None, ..Policy::default() };
    call.request(watcher, Request::Policy { policy });
    assert_eq!(call.shown(watcher, "v"), ["e"].into());
    let policy = Policy { follow: Follow::Joined, ..Policy::default() };
    call.request(watcher, Request::Policy { policy });
    assert_eq!(call.shown(watcher, "v"), ["a", "b", "c", "d"].into());
}

#[test]
fn three_layers_are_published_and_one_is_wanted() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let ada = call.join(browser("ada"));
    for layer in 0..3 {
        call.seen(ada, Source::Camera, layer, VP8);
    }
    let wanted = |call: &Call| call.wanted[&track(ada, Source::Camera)];
    assert_eq!(wanted(&call), 0b100);
    let policy = Policy { max_height: Some(360), ..Policy::default() };
    call.request(watcher, Request::Policy { policy });
    assert_eq!(wanted(&call), 0b010);
    // Measured heights count, not assumed ones.
    call.room.layer_resolution(call.now, feed(ada, Source::Camera, 1), 960, 540);
    call.drain();
    assert_eq!(wanted(&call), 0b001);
    let heights = [("v0".to_owned(), 1080)].into();
    call.request(watcher, Request::Policy { policy: Policy { slot_heights: heights, ..Policy::default() } });
    assert_eq!(wanted(&call), 0b100);
    call.room.bandwidth(call.now, watcher, Bandwidth::Measured(800_000));
    call.drain();
    assert_eq!(wanted(&call), 0b001, "540 lines are 1.7 Mbit/s");
    call.room.bandwidth(call.now, watcher, Bandwidth::Measured(2_500_000));
    call.pass(900);
    assert_eq!(wanted(&call), 0b001, "up is slower than down");
    call.pass(200);
    assert_eq!(wanted(&call), 0b010);
    call.room.layer_gone(call.now, feed(ada, Source::Camera, 1));
    call.drain();
    assert_eq!(wanted(&call) & 0b001, 0b001);
}

#[test]
fn the_old_layer_stays_wanted_until_the_switch() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let ada = call.join(browser("ada"));
    for layer in 0..2 {
        call.seen(ada, Source::Camera, layer, VP8);
    }
    call.prompt = false;
    let policy = Policy { max_height: Some(360), ..Policy::default() };
    call.request(watcher, Request::Policy { policy });
    assert_eq!(call.wanted[&track(ada, Source::Camera)], 0b11);
    call.switch(watcher, SlotId(3), Some(feed(ada, Source::Camera, 0)));
    call.drain();
    assert_eq!(call.wanted[&track(ada, Source::Camera)], 0b01);
}

#[test]
fn a_screen_has_its_slot_and_events_of_its_own() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let mut small = browser("small");
    small.slots = plan(1, 1, false);
    let small = call.join(small);
    let (ada, bob) = (call.join(browser("ada")), call.join(browser("bob")));
    call.send(ada);
    call.request(ada, Request::Publish { source: Source::Screen, active: true, hint: None });
    assert_eq!(call.count(watcher, |m| matches!(m, ServerMessage::ScreenStarted { .. })), 1);
    call.seen(ada, Source::Screen, 0, VP8);
    assert_eq!(call.in_slot(watcher, "s"), Some(("ada", Source::Screen)));
    assert_eq!(
        call.in_slot(small, "v0"),
        Some(("ada", Source::Screen)),
        "without a screen slot: first video"
    );
    call.request(bob, Request::Publish { source: Source::Screen, active: true, hint: None });
    call.seen(bob, Source::Screen, 0, VP8);
    assert_eq!(call.in_slot(watcher, "s"), Some(("bob", Source::Screen)), "the latest");
    assert!(call.shown(watcher, "v").contains("ada"), "the other one takes a free slot");
    let pin = Pin { participant: id("ada"), source: Source::Screen, max_height: None };
    call.request(watcher, Request::Policy { policy: Policy { pins: vec![pin], ..Policy::default() } });
    assert_eq!(call.in_slot(watcher, "s"), Some(("ada", Source::Screen)), "a pin chooses");
    call.request(ada, Request::Publish { source: Source::Screen, active: false, hint: None });
    assert_eq!(call.in_slot(watcher, "s"), Some(("bob", Source::Screen)));
    assert_eq!(call.count(watcher, |m| matches!(m, ServerMessage::ScreenStopped { .. })), 1);
    call.seen(ada, Source::Screen, 0, VP8);
    assert_eq!(
        call.count(watcher, |m| matches!(m, ServerMessage::ScreenStarted { .. })),
        2,
        "late packets do not publish"
    );
}

#[test]
fn an_undecodable_track_is_said_once_and_the_slot_goes_to_another() {
    let mut call = call();
    let mut join = browser("firefox");
    join.decodes = vec![VideoCodec::Vp8];
    join.slots = plan(1, 1, false);
    let firefox = call.join(join);
    let (ada, bob) = (call.join(browser("ada")), call.join(browser("bob")));
    call.seen(ada, Source::Camera, 0, H264);
    call.seen(bob, Source::Camera, 0, VP8);
    call.seen(ada, Source::Camera, 1, H264);
    assert_eq!(call.in_slot(firefox, "v0"), Some(("bob", Source::Camera)));
    let unavailable = |m: &ServerMessage| matches!(m, ServerMessage::TrackUnavailable { error, .. } if error.code == ErrorKind::NoCommonCodec);
    assert_eq!(call.count(firefox, unavailable), 1);
    call.seen(ada, Source::Camera, 0, VP8);
    call.room.leave(call.now, bob, LeaveReason::Left);
    call.drain();
    assert_eq!(call.in_slot(firefox, "v0"), Some(("ada", Source::Camera)));
}

#[test]
fn a_muted_track_goes_nowhere_and_comes_back_to_its_slot() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let (ada, bob) = (call.join(browser("ada")), call.join(browser("bob")));
    call.send(ada);
    call.send(bob);
    assert_eq!(call.in_slot(watcher, "v1"), Some(("bob", Source::Camera)));
    call.request(ada, Request::Mute { source: Source::Camera, muted: true });
    assert_eq!(call.in_slot(watcher, "v0"), None);
    assert_eq!(call.wanted[&track(ada, Source::Camera)], 0);
    assert!(call.clients[&watcher].roster[&id("ada")].tracks[1].muted, "it stays in the roster");
    call.request(ada, Request::Mute { source: Source::Camera, muted: false });
    assert_eq!(call.in_slot(watcher, "v0"), Some(("ada", Source::Camera)));
}

/// One slot; ada flows in it, and is muted; cleo takes her place, of whom nothing comes; she goes, and ada is back.
fn back_before_the_other_came(emptied: bool) {
    let mut call = call();
    let [ada, cleo, watcher] = ["ada", "cleo", "watcher"].map(|name| {
        let join = browser(name);
        call.join(Join { slots: plan(1, 1, false), ..join })
    });
    call.seen(ada, Source::Camera, 0, VP8);
    assert_eq!(call.in_slot(watcher, "v0"), Some(("ada", Source::Camera)));
    call.seen(cleo, Source::Camera, 0, VP8);
    call.prompt = false;
    let mute = |muted| Request::Mute { source: Source::Camera, muted };
    call.request(ada, mute(true));
    assert_eq!(call.in_slot(watcher, "v0"), None, "ada is not there, cleo not yet");
    let mine = |p: &&(_, SlotId, _)| p.0 == watcher;
    let routes: Vec<_> = call.pending.iter().filter(mine).map(|p| p.2).collect();
    let of_cleo = Some(feed(cleo, Source::Camera, 0));
    assert_eq!(routes, [None, of_cleo], "nothing more of a muted track flows");
    if emptied {
        let slot = call.pending.iter().find(mine).unwrap().1;
        call.switch(watcher, slot, None);
    }
    call.pending.clear();
    call.request(cleo, mute(true));
    call.request(ada, mute(false));
    call.prompt = true;
    call.drain();
    assert_eq!(call.in_slot(watcher, "v0"), Some(("ada", Source::Camera)));
}

#[test]
fn who_is_back_before_the_next_one_came_is_announced_again() {
    back_before_the_other_came(true);
}

#[test]
fn who_never_stopped_flowing_is_announced_again() {
    back_before_the_other_came(false);
}

/// One slot; ada is routed to it, then cleo, and only then it is heard that ada's first packet has left; nothing comes of cleo.
#[test]
fn a_switch_that_a_newer_route_has_overtaken_is_announced() {
    let mut call = call();
    let [ada, cleo, watcher] = ["ada", "cleo", "watcher"].map(|name| {
        let join = browser(name);
        call.join(Join { slots: plan(1, 1, false), ..join })
    });
    let pin = |name: &str| {
        let pin = Pin { participant: id(name), source: Source::Camera, max_height: None };
        Request::Policy { policy: Policy { pins: vec![pin], follow: Follow::None, ..Policy::default() } }
    };
    call.prompt = false;
    call.request(watcher, pin("ada"));
    call.seen(ada, Source::Camera, 0, VP8);
    call.seen(cleo, Source::Camera, 0, VP8);
    let slot = call.pending.iter().find(|p| p.0 == watcher).unwrap().1;
    call.request(watcher, pin("cleo"));
    call.room.switched(call.now, watcher, slot, Some(feed(ada, Source::Camera, 0)), 4711);
    call.drain();
    assert_eq!(call.in_slot(watcher, "v0"), Some(("ada", Source::Camera)), "she is what is seen");
    call.request(watcher, pin("ada"));
    assert_eq!(call.in_slot(watcher, "v0"), Some(("ada", Source::Camera)), "no switch will be told");
    call.request(watcher, pin("cleo"));
    call.request(ada, Request::Mute { source: Source::Camera, muted: true });
    call.room.switched(call.now, watcher, slot, Some(feed(ada, Source::Camera, 0)), 4711);
    call.drain();
    assert_eq!(call.in_slot(watcher, "v0"), None, "she is muted");
}

/// One slot in which cleo flows; ada is routed to it, her first packet leaves, she is muted, and only then it is heard that it has left.
#[test]
fn a_switch_to_who_is_muted_by_now_names_nobody() {
    let mut call = call();
    let [ada, cleo, watcher] = ["ada", "cleo", "watcher"].map(|name| {
        let join = browser(name);
        call.join(Join { slots: plan(1, 1, false), ..join })
    });
    let pins =
        ["ada", "cleo"].map(|name| Pin { participant: id(name), source: Source::Camera, max_height: None });
    let policy = Policy { pins: pins.to_vec(), follow: Follow::None, ..Policy::default() };
    call.request(watcher, Request::Policy { policy });
    call.seen(cleo, Source::Camera, 0, VP8);
    assert_eq!(call.in_slot(watcher, "v0"), Some(("cleo", Source::Camera)));
    call.prompt = false;
    call.seen(ada, Source::Camera, 0, VP8);
    let slot = call.pending.iter().find(|p| p.0 == watcher).unwrap().1;
    call.request(ada, Request::Mute { source: Source::Camera, muted: true });
    call.room.switched(call.now, watcher, slot, Some(feed(ada, Source::Camera, 0)), 4711);
    call.drain();
    assert_eq!(call.in_slot(watcher, "v0"), None, "what came last is hers, and she is muted");
    call.room.switched(call.now, watcher, slot, Some(feed(cleo, Source::Camera, 0)), 4712);
    call.drain();
    assert_eq!(call.in_slot(watcher, "v0"), Some(("cleo", Source::Camera)));
}

#[test]
fn a_lost_connection_resumes_in_the_same_place() {
    let mut call = call();
    let (ada, bob) = (call.join(browser("ada")), call.join(browser("bob")));
    call.send(ada);
    call.send(bob);
    call.room.disconnected(call.now, ada);
    call.drain();
    assert_eq!(call.clients[&bob].roster[&id("ada")].presence, Presence::Reconnecting);
    assert_eq!(call.in_slot(bob, "v0"), None);
    call.pass(20_000);
    assert_eq!(call.resume("wrong", plan(1, 1, false)), Err(JoinError::UnknownToken));
    assert_eq!(call.resume("token-ada", plan(1, 1, false)), Ok(ada));
    assert!(call.dropped.is_empty());
    call.room.connected(call.now, ada, 2);
    call.drain();
    assert_eq!(call.in_slot(ada, "v0"), Some(("bob", Source::Camera)));
    call.send(ada);
    assert_eq!(call.in_slot(bob, "v0"), Some(("ada", Source::Camera)));
    assert_eq!(call.clients[&bob].roster[&id("ada")].presence, Presence::Connected);
    // While the connection stands: the old one is dropped. Tracks that do not start again end.
    assert_eq!(call.resume("token-ada", plan(3, 4, true)), Ok(ada));
    assert_eq!(call.dropped, [ada]);
    call.room.connected(call.now, ada, 3);
    call.seen(ada, Source::Microphone, 0, OPUS);
    call.pass(6_000);
    assert_eq!(call.clients[&bob].roster[&id("ada")].tracks.len(), 1);
    call.room.disconnected(call.now, ada);
    call.pass(29_900);
    assert!(call.ended.is_empty());
    call.pass(200);
    assert_eq!(call.ended, [(ada, LeaveReason::ConnectionLost)]);
    assert_eq!(call.resume("token-ada", plan(1, 1, false)), Err(JoinError::UnknownToken));
}

#[test]
fn the_same_identity_replaces_itself_and_keys_are_never_reused() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let first = call.join(browser("ada"));
    let second = call.join(browser("ada"));
    assert_eq!((first.0, second.0), (2, 3));
    assert_eq!(call.ended, [(first, LeaveReason::Replaced)]);
    assert_eq!(call.clients[&watcher].roster[&id("ada")].key, second);
}

#[test]
fn rooms_fill_drain_and_end() {
    let mut call = Call::new(Config { max_participants: 2, ..Config::default() });
    let ada = call.join(browser("ada"));
    call.join(browser("bob"));
    assert_eq!(call.try_join(browser("carol")), Err(JoinError::RoomFull));
    assert_eq!(JoinError::RoomFull.kind(), ErrorKind::RoomFull);
    assert!(call.try_join(browser("bob")).is_ok(), "replacing needs no place");
    call.room.drain(call.now, Duration::from_secs(10));
    call.drain();
    assert_eq!(call.count(ada, |m| *m == ServerMessage::Draining { deadline_s: 10 }), 1);
    assert_eq!(call.try_join(browser("ada")), Err(JoinError::Draining));
    call.pass(9_900);
    assert!(!call.room.is_over());
    call.pass(200);
    assert!(call.room.is_over());
    assert_eq!(call.ended.last().map(|e| e.1), Some(LeaveReason::Draining));
    assert_eq!(call.room.poll_timeout(), None);
}

#[test]
fn hidden_ones_are_not_seen_and_do_not_keep_a_room() {
    let mut call = call();
    let mut tap = browser("tap");
    (tap.hidden, tap.kind) = (true, ParticipantKind::Bot);
    let tap = call.join(tap);
    let ada = call.join(browser("ada"));
    assert_eq!(call.clients[&ada].roster.len(), 1);
    assert_eq!(call.clients[&tap].roster.len(), 1);
    call.room.leave(call.now, ada, LeaveReason::Left);
    call.pass(31_000);
    assert!(call.room.is_over());
    assert_eq!(call.ended.last(), Some(&(tap, LeaveReason::RoomClosed)));
    assert_eq!(call.try_join(browser("late")), Err(JoinError::Over));
}

#[test]
fn tracks_of_a_publisher_without_control_follow_its_packets() {
    let mut call = call();
    let watcher = call.join(browser("watcher"));
    let mut join = browser("obs");
    (join.kind, join.control) = (ParticipantKind::Whip, false);
    let obs = call.join(join);
    call.send(obs);
    for _ in 0..10 {
        call.pass(1000);
        call.room.activity(call.now, track(obs, Source::Camera));
        call.sound(100, &[(obs, 30)]);
    }
    assert_eq!(call.in_slot(watcher, "v0"), Some(("obs", Source::Camera)));
    call.pass(3000);
    assert!(call.clients[&watcher].roster[&id("obs")].tracks.is_empty());
    assert_eq!(call.in_slot(watcher, "v0"), None);
    call.room.activity(call.now, track(obs, Source::Camera));
    call.drain();
    assert_eq!(call.in_slot(watcher, "v0"), Some(("obs", Source::Camera)));
    call.room.disconnected(call.now, obs);
    call.drain();
    assert_eq!(call.ended, [(obs, LeaveReason::ConnectionLost)]);
}

#[test]
fn without_the_grant_packets_and_requests_are_refused() {
    let mut call = call();
    let mut join = browser("guest");
    join.grants = Grants { publish: false, subscribe: true, moderate: false };
    let guest = call.join(join);
    let mut join = browser("host");
    join.grants.moderate = true;
    let host = call.join(join);
    call.send(guest);
    assert_eq!(call.room.stats().layers_refused, 2);
    assert!(call.clients[&host].roster[&id("guest")].tracks.is_empty());
    let publish = Request::Publish { source: Source::Camera, active: true, hint: None };
    assert_eq!(code(call.request(guest, publish)), Some(ErrorKind::Forbidden));
    let remove = Request::Remove { participant: id("host") };
    assert_eq!(code(call.request(guest, remove)), Some(ErrorKind::Forbidden));
    let mute = Request::MuteOther { participant: id("nobody"), source: Source::Microphone };
    assert_eq!(code(call.request(host, mute)), Some(ErrorKind::NotFound));
    let long = Request::Rename { name: "x".repeat(65) };
    assert_eq!(code(call.request(guest, long)), Some(ErrorKind::BadRequest));
    call.seen(host, Source::Microphone, 0, OPUS);
    assert_eq!(
        code(call.request(host, Request::MuteOther { participant: id("host"), source: Source::Microphone })),
        None
    );
    assert_eq!(call.count(host, |m| matches!(m, ServerMessage::Muted { by, .. } if *by == id("host"))), 1);
    assert_eq!(call.in_slot(guest, "a0"), None);
    let refused =
        (0..100).filter(|_| code(call.request(guest, Request::Sync)) == Some(ErrorKind::RateLimited));
    assert!(refused.count() >= 60);
    assert_eq!(code(call.request(host, Request::Remove { participant: id("guest") })), None);
    assert_eq!(call.ended, [(guest, LeaveReason::Removed)]);
}

#[test]
fn a_tap_takes_its_layer_and_changes_at_a_key_frame() {
    let mut call = call();
    let mut join = browser("bot");
    (join.kind, join.slots, join.decodes) = (ParticipantKind::Bot, plan(0, 0, false), vec![]);
    let bot = call.join(join);
    let ada = call.join(browser("ada"));
    let camera = track(ada, Source::Camera);
    let tap = |max_height| vec![TapRequest { track: camera, max_height }];
    call.room.set_taps(call.now, bot, tap(None));
    call.drain();
    assert!(call.taps.is_empty(), "the track need not exist yet");
    for layer in [2, 1, 0] {
        call.seen(ada, Source::Camera, layer, VP8);
    }
    let on = |call: &Call| call.taps.iter().map(|(_, f)| f.layer).collect::<Vec<_>>();
    assert_eq!(on(&call), [2]);
    call.room.set_taps(call.now, bot, tap(Some(360)));
    call.drain();
    assert_eq!(on(&call), [1, 2]);
    assert_eq!(call.wanted[&camera], 0b110);
    assert_eq!(call.keyframes.last().map(|k| k.1.layer), Some(1));
    // Another wish before that key frame: what is shown goes on, what has shown nothing does not.
    call.room.set_taps(call.now, bot, tap(Some(180)));
    call.drain();
    assert_eq!(on(&call), [0, 2]);
    call.room.set_taps(call.now, bot, tap(None));
    call.drain();
    assert_eq!(on(&call), [2]);
    call.room.set_taps(call.now, bot, tap(Some(360)));
    call.drain();
    assert_eq!(on(&call), [1, 2]);
    call.room.keyframe_seen(call.now, feed(ada, Source::Camera, 1));
    call.drain();
    assert_eq!(on(&call), [1]);
    call.room.set_taps(
        call.now,
        bot,
        vec![TapRequest { track: track(bot, Source::Camera), max_height: None }],
    );
    call.drain();
    assert!(call.taps.is_empty());
    assert_eq!(call.wanted[&camera], 0);
}

#[test]
fn a_hundred_joins_cost_two_key_frames() {
    let mut call = call();
    let ada = call.join(browser("ada"));
    call.seen(ada, Source::Camera, 0, VP8);
    let camera = feed(ada, Source::Camera, 0);
    for i in 0..300 {
        if i < 100 {
            call.join(browser(&format!("p{i}")));
            call.room.keyframe_wanted(call.now, camera, KeyframeCause::Start);
            call.drain();
        }
        let answer = call.keyframes.last().map(|(at, _)| call.base + *at + Duration::from_millis(30));
        if answer.is_some_and(|at| at <= call.now && call.now < at + Duration::from_millis(10)) {
            call.room.keyframe_seen(call.now, camera);
        }
        call.pass(10);
    }
    assert_eq!(call.keyframes.len(), 2, "{:?}", call.keyframes);
}

#[test]
fn a_player_of_one_participant_gets_that_one_only() {
    let mut call = call();
    let mut join = browser("player");
    (join.kind, join.hidden, join.control) = (ParticipantKind::Whep, true, false);
    join.only = Some(id("bob"));
    let player = call.join(join);
    let (ada, bob) = (call.join(browser("ada")), call.join(browser("bob")));
    call.send(ada);
    call.send(bob);
    let got: Vec<_> =
        call.routes.iter().filter(|((k, _), _)| *k == player).map(|(_, f)| f.track.participant).collect();
    assert_eq!(got, [bob, bob]);
    assert!(!call.clients.contains_key(&player), "no control channel, no messages");
}

#[test]
fn spatial_layers_of_one_stream_are_layers_with_one_key_frame() {
    let mut call = call();
    let (ada, ben, cleo) = (call.join(browser("ada")), call.join(browser("ben")), call.join(browser("cleo")));
    let camera = track(ada, Source::Camera);
    call.request(ben, Request::Policy { policy: Policy { max_height: Some(200), ..Policy::default() } });
    call.seen(ada, Source::Camera, 0, VP8);
    call.room.spatial_seen(call.now, camera, &[Some(180), Some(360), Some(720)]);
    call.drain();
    for layer in 1..3 {
        call.seen(ada, Source::Camera, layer, VP8);
    }
    let routed = |call: &Call, who| call.room.routed(who, SlotId(3)).map(|f| f.layer);
    assert_eq!((routed(&call, ben), routed(&call, cleo)), (Some(0), Some(2)));
    call.room.keyframe_seen(call.now, feed(ada, Source::Camera, 0));
    call.drain();
    call.pass(2_000);
    call.keyframes.clear();
    for layer in [0, 2] {
        call.room.keyframe_wanted(call.now, feed(ada, Source::Camera, layer), KeyframeCause::Start);
        call.drain();
    }
    let asked: Vec<u8> = call.keyframes.iter().map(|k| k.1.layer).collect();
    assert_eq!(asked, [0], "one for all");
    // The sender goes over to one layer: nobody waits for the others.
    call.room.spatial_seen(call.now, camera, &[Some(720)]);
    call.drain();
    assert_eq!((routed(&call, ben), routed(&call, cleo)), (Some(0), Some(0)));
}

#[test]
fn who_is_on_hold_is_kept_apart_but_from_who_taps_unseen() {
    let mut call = call();
    let people = ["ada", "bob", "cy"].map(|name| call.join(browser(name)));
    let [ada, bob, cy] = people;
    people.into_iter().for_each(|key| call.send(key));
    let unseen =
        Join { hidden: true, slots: plan(0, 0, false), kind: ParticipantKind::Bot, ..browser("tap") };
    let tap = call.join(unseen);
    let bot = call.join(Join { slots: plan(0, 0, false), kind: ParticipantKind::Bot, ..browser("bot") });
    let wanted = TapRequest { track: track(ada, Source::Microphone), max_height: None };
    for key in [tap, bot] {
        call.room.set_taps(call.now, key, vec![wanted]);
    }
    call.drain();
    let voice = feed(ada, Source::Microphone, 0);
    assert!(call.taps.contains(&(tap, voice)) && call.taps.contains(&(bot, voice)));

    call.room.set_held(call.now, ada, true);
    call.drain();
    assert!(call.clients[&bob].roster[&id("ada")].held && call.clients[&ada].roster[&id("ada")].held);
    assert!(call.shown(ada, "a").is_empty() && call.shown(ada, "v").is_empty(), "it gets nothing");
    for other in [bob, cy] {
        assert!(!call.shown(other, "a").contains("ada") && !call.shown(other, "v").contains("ada"));
        assert_eq!(call.shown(other, "a").len(), 1, "the others go on");
    }
    assert!(call.taps.contains(&(tap, voice)) && !call.taps.contains(&(bot, voice)));
    assert_eq!(call.wanted[&track(ada, Source::Camera)], 0, "nobody sees it");
    call.sound(3_000, &[(ada, 10)]);
    assert!(call.room.dominant().is_empty(), "it leads no conversation");

    // A lost connection does not end it.
    call.room.disconnected(call.now, ada);
    call.drain();
    call.resume("token-ada", plan(3, 4, true)).unwrap();
    call.room.connected(call.now, ada, 2);
    call.drain();
    call.send(ada);
    assert!(!call.shown(bob, "a").contains("ada") && call.shown(ada, "a").is_empty());

    call.room.set_held(call.now, ada, false);
    call.drain();
    assert!(!call.clients[&bob].roster[&id("ada")].held);
    assert!(call.shown(bob, "a").contains("ada") && call.shown(bob, "v").contains("ada"));
    assert_eq!(call.shown(ada, "a").len(), 2);
    assert!(call.taps.contains(&(bot, voice)));
}
