//! Lost connections: coming back to the same place, not coming back, being let go for silence.

use std::time::Duration;

use antiphon_base::Source;
use antiphon_shard::Config;
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::{LeaveReason, Presence, ServerMessage};

use crate::{frames_of, until_told};

const CONSENT: Duration = Duration::from_secs(5);

/// Two, of whom the first goes without a word; the server has noticed.
fn lost() -> (World, usize, usize) {
    let mut world = World::with(31, Config { consent_timeout: CONSENT, ..Config::default() });
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben"));
    for client in [anna, ben] {
        world.talk(client, 20);
    }
    world.run(Duration::from_secs(2));
    world.vanish(anna);
    world.until(CONSENT + Duration::from_secs(2), "the server misses anna", |w| {
        let state = w.clients[ben].roster.values().find(|p| p.id.as_str() == "anna");
        state.is_some_and(|p| p.presence == Presence::Reconnecting)
    });
    (world, anna, ben)
}

#[test]
fn who_comes_back_has_its_place_again() {
    let (mut world, anna, ben) = lost();
    assert_eq!(world.status("anna").unwrap().state, "reconnecting");
    world.run(Duration::from_secs(20));
    let token = world.clients[anna].joined.resume_token.clone();
    // By another id: the token alone says whose place it is.
    let again = world.enter(Profile { resume: Some(token.clone()), ..Profile::new("anna-again") });
    assert_eq!(world.clients[again].id(), world.clients[anna].id());
    assert_eq!(world.clients[again].key(), world.clients[anna].key());
    assert_eq!(world.clients[again].joined.resume_token, token);
    world.talk(again, 20);
    world.run(Duration::from_secs(3));
    world.check().assert_sound();
    let anna_id = world.clients[anna].id();
    assert_eq!(world.clients[ben].roster[&anna_id].presence, Presence::Connected);
    assert_eq!(world.clients[ben].roster[&anna_id].tracks.len(), 2);
    assert_eq!(world.status("anna").unwrap().state, "connected");
    assert!(frames_of(&world, ben, again, Source::Camera, 0) > 50);
    assert!(frames_of(&world, again, ben, Source::Camera, 0) > 50);
    assert!(frames_of(&world, again, ben, Source::Microphone, 0) > 130);
    let left = |m: &ServerMessage| matches!(m, ServerMessage::ParticipantLeft { .. });
    assert!(!world.clients[ben].messages.iter().any(|(_, m)| left(m)));
}

#[test]
fn who_does_not_come_back_has_left() {
    let (mut world, anna, ben) = lost();
    let told = |w: &World| {
        w.clients[ben].messages.iter().any(|(_, m)| {
            matches!(m, ServerMessage::ParticipantLeft { reason: LeaveReason::ConnectionLost, .. })
        })
    };
    world.run(Duration::from_secs(29));
    assert!(!told(&world));
    world.run(Duration::from_secs(2));
    assert!(told(&world));
    let status = world.status("anna").unwrap();
    assert_eq!((status.state, status.reason), ("gone", Some(LeaveReason::ConnectionLost)));
    // The token is worth nothing any more: it is a new participant.
    let token = world.clients[anna].joined.resume_token.clone();
    let again = world.enter(Profile { resume: Some(token.clone()), ..Profile::new("anna") });
    assert_ne!(world.clients[again].key(), world.clients[anna].key());
    assert_ne!(world.clients[again].joined.resume_token, token);
}

#[test]
fn who_comes_back_before_it_was_missed_takes_over() {
    let mut world = World::new(32);
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben"));
    let now = world.now;
    world.clients[anna].start(now, Source::Camera, 20);
    world.clients[ben].start(now, Source::Camera, 20);
    world.run(Duration::from_secs(2));
    world.vanish(anna);
    let token = world.clients[anna].joined.resume_token.clone();
    let again = world.enter(Profile { resume: Some(token), ..Profile::new("anna") });
    let now = world.now;
    world.clients[again].start(now, Source::Camera, 20);
    world.run(Duration::from_secs(3));
    world.check().assert_sound();
    assert_eq!(world.clients[again].key(), world.clients[anna].key());
    assert!(frames_of(&world, ben, again, Source::Camera, 0) > 50);
    assert!(frames_of(&world, again, ben, Source::Camera, 0) > 50);
    assert_eq!(world.engine.metrics().peers, 2);
}

#[test]
fn the_same_id_without_token_replaces() {
    let mut world = World::new(33);
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben"));
    let again = world.enter(Profile::new("anna"));
    world.run(Duration::from_secs(1));
    assert_eq!(world.clients[anna].closed_reason(), Some(LeaveReason::Replaced));
    assert_ne!(world.clients[again].key(), world.clients[anna].key());
    assert_eq!(world.clients[ben].roster.len(), 2);
    assert_eq!(world.engine.metrics().peers, 2);
}

#[test]
fn silence_is_not_absence() {
    let mut world = World::new(34);
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben"));
    world.run(Duration::from_secs(300));
    for client in [anna, ben] {
        assert!(world.clients[client].closed.is_none());
    }
    assert_eq!(world.status("anna").unwrap().state, "connected");
    // Ticking costs packets: consent checks and keepalives only.
    let sent = world.engine.metrics().datagrams_out;
    assert!(sent < 2_000, "{sent} datagrams for two idle peers in five minutes");
}

#[test]
fn who_never_connects_is_let_go() {
    let mut world = World::new(35);
    let ben = world.enter(Profile::new("ben"));
    world.conditions = Conditions { loss: 1.0, ..Conditions::default() };
    world.join(Profile::new("anna"));
    world.run(Duration::from_secs(60));
    assert_eq!(world.status("anna").unwrap().state, "gone");
    assert_eq!(world.engine.metrics().peers, 1);
    until_told(&mut world, ben, "anna has left", |m| matches!(m, ServerMessage::ParticipantLeft { .. }));
}

#[test]
fn a_good_bye_is_understood() {
    let mut world = World::new(36);
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben"));
    world.say(anna, antiphon_wire::control::Request::Leave);
    until_told(&mut world, ben, "anna has left", |m| {
        matches!(m, ServerMessage::ParticipantLeft { reason: LeaveReason::Left, .. })
    });
    assert_eq!(world.clients[anna].closed_reason(), Some(LeaveReason::Left));
    world.run(Duration::from_secs(2));
    assert!(world.clients[anna].closed.is_some(), "the connection was closed");
    assert_eq!(world.engine.metrics().peers, 1);
}
