//! What people do in a room besides talking: share screens, mute, rename, moderate; and what the operator does.

use std::time::Duration;

use antiphon_base::{ErrorKind, ParticipantId, Source};
use antiphon_shard::Grants;
use antiphon_sim::{Profile, World};
use antiphon_wire::control::{LeaveReason, Request, ServerMessage};

use crate::{frames_of, until_told};

fn three(seed: u64) -> (World, usize, usize, usize) {
    let mut world = World::new(seed);
    let grants = Grants { publish: true, subscribe: true, moderate: true };
    let anna = world.enter(Profile { grants, ..Profile::new("anna") });
    let ben = world.enter(Profile::new("ben"));
    let cleo = world.enter(Profile::new("cleo"));
    for client in [anna, ben, cleo] {
        world.talk(client, 10);
    }
    world.run(Duration::from_secs(1));
    (world, anna, ben, cleo)
}

/// Says something and gives the error in the reply.
fn ask(world: &mut World, client: usize, request: Request) -> Option<ErrorKind> {
    let id = world.say(client, request);
    world.until(Duration::from_secs(5), "a reply", |w| w.clients[client].reply(id).is_some());
    match world.clients[client].reply(id) {
        Some(ServerMessage::Reply { error, .. }) => error.as_ref().map(|e| e.code),
        _ => unreachable!("it was just there"),
    }
}

#[test]
fn a_screen_share_begins_and_ends_for_all() {
    let (mut world, anna, ben, cleo) = three(51);
    let id = world.clients[ben].id();
    assert_eq!(
        ask(&mut world, ben, Request::Publish { source: Source::Screen, active: true, hint: None }),
        None
    );
    let now = world.now;
    world.clients[ben].start(now, Source::Screen, 10);
    world.clients[ben].start(now, Source::ScreenAudio, 0);
    world.run(Duration::from_secs(3));
    for client in [anna, cleo] {
        until_told(
            &mut world,
            client,
            "the share has begun",
            |m| matches!(m, ServerMessage::ScreenStarted { participant, .. } if *participant == id),
        );
        let screen = world.clients[client].slots.last().unwrap();
        let assigned = &world.clients[client].assigned[&screen.mid];
        assert_eq!((assigned.participant.as_ref(), assigned.source), (Some(&id), Some(Source::Screen)));
        assert!(frames_of(&world, client, ben, Source::Screen, 0) > 15);
        assert!(frames_of(&world, client, ben, Source::ScreenAudio, 0) > 100);
    }
    world.clients[ben].stop(Source::Screen);
    assert_eq!(
        ask(&mut world, ben, Request::Publish { source: Source::Screen, active: false, hint: None }),
        None
    );
    for client in [anna, cleo] {
        until_told(
            &mut world,
            client,
            "the share has ended",
            |m| matches!(m, ServerMessage::ScreenStopped { participant, .. } if *participant == id),
        );
        world.run(Duration::from_secs(1));
        let screen = world.clients[client].slots.last().unwrap();
        assert_eq!(world.clients[client].assigned[&screen.mid].participant, None);
    }
    world.check().assert_sound();
}

#[test]
fn a_muted_track_stays_in_the_roster_and_leaves_the_slots() {
    let (mut world, anna, ben, _) = three(52);
    let (id, mic) = (world.clients[ben].id(), Source::Microphone);
    assert_eq!(ask(&mut world, ben, Request::Mute { source: mic, muted: true }), None);
    world.run(Duration::from_secs(1));
    let track = world.clients[anna].roster[&id].tracks.iter().find(|t| t.source == mic).cloned();
    assert!(track.expect("it is still listed").muted);
    let before = frames_of(&world, anna, ben, mic, 0);
    world.run(Duration::from_secs(1));
    assert_eq!(frames_of(&world, anna, ben, mic, 0), before, "who forgets to stop sending is not heard");
    assert_eq!(ask(&mut world, ben, Request::Mute { source: mic, muted: false }), None);
    world.run(Duration::from_secs(1));
    assert!(frames_of(&world, anna, ben, mic, 0) > before + 30);
    world.check().assert_sound();
}

#[test]
fn only_moderators_moderate() {
    let (mut world, anna, ben, cleo) = three(53);
    let id = world.clients[cleo].id();
    let remove = Request::Remove { participant: id.clone() };
    let mute = Request::MuteOther { participant: id.clone(), source: Source::Camera };
    assert_eq!(ask(&mut world, ben, remove.clone()), Some(ErrorKind::Forbidden));
    assert_eq!(ask(&mut world, ben, mute.clone()), Some(ErrorKind::Forbidden));
    let nobody = ParticipantId::new("nobody").unwrap();
    assert_eq!(ask(&mut world, anna, Request::Remove { participant: nobody }), Some(ErrorKind::NotFound));
    assert_eq!(ask(&mut world, anna, mute), None);
    let by = world.clients[anna].id();
    until_told(&mut world, cleo, "cleo is muted", |m| {
        *m == ServerMessage::Muted { source: Source::Camera, by: by.clone() }
    });
    assert_eq!(ask(&mut world, anna, remove), None);
    world.run(Duration::from_secs(2));
    assert_eq!(world.clients[cleo].closed_reason(), Some(LeaveReason::Removed));
    assert!(world.clients[cleo].closed.is_some());
    for client in [anna, ben] {
        let left = |m: &ServerMessage| matches!(m, ServerMessage::ParticipantLeft { reason: LeaveReason::Removed, participant, .. } if *participant == id);
        until_told(&mut world, client, "cleo has left", left);
    }
    assert_eq!(world.status("cleo").unwrap().reason, Some(LeaveReason::Removed));
    world.check().assert_sound();
}

#[test]
fn who_may_not_publish_is_not_heard() {
    let (mut world, anna, _, _) = three(54);
    let grants = Grants { publish: false, subscribe: true, moderate: false };
    let dan = world.enter(Profile { grants, ..Profile::new("dan") });
    let now = world.now;
    world.clients[dan].start(now, Source::Microphone, 0);
    world.clients[dan].speak(10);
    world.run(Duration::from_secs(2));
    let publish = Request::Publish { source: Source::Screen, active: true, hint: None };
    assert_eq!(ask(&mut world, dan, publish), Some(ErrorKind::Forbidden));
    assert!(frames_of(&world, dan, anna, Source::Microphone, 0) > 50);
    world.check().assert_sound();
    assert!(world.clients[anna].roster[&world.clients[dan].id()].tracks.is_empty());
}

#[test]
fn a_new_name_is_told() {
    let (mut world, anna, ben, _) = three(55);
    assert_eq!(ask(&mut world, ben, Request::Rename { name: "Benjamin".into() }), None);
    assert_eq!(ask(&mut world, ben, Request::Rename { name: "x".repeat(65) }), Some(ErrorKind::BadRequest));
    world.run(Duration::from_secs(1));
    assert_eq!(world.clients[anna].roster[&world.clients[ben].id()].name, "Benjamin");
}

#[test]
fn a_draining_server_tells_all_and_takes_nobody() {
    let (mut world, anna, ben, cleo) = three(56);
    let now = world.now;
    world.engine.drain(now, Duration::from_secs(5));
    for client in [anna, ben, cleo] {
        until_told(&mut world, client, "draining", |m| *m == ServerMessage::Draining { deadline_s: 5 });
    }
    let error = world.try_join(Profile::new("dan")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Draining);
    world.run(Duration::from_secs(7));
    for client in [anna, ben, cleo] {
        assert_eq!(world.clients[client].closed_reason(), Some(LeaveReason::Draining));
    }
    assert_eq!((world.engine.metrics().peers, world.engine.metrics().rooms), (0, 0));
}

#[test]
fn the_api_removes_and_sees() {
    let (mut world, anna, ben, _) = three(57);
    let status = world.status("ben").unwrap();
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!((json["state"].as_str(), json["presence"].as_str()), (Some("connected"), Some("connected")));
    let stats = &json["stats"];
    assert_eq!(stats["connected"], true);
    assert!(stats["transport"]["in"]["packets"].as_u64().unwrap() > 50, "{stats}");
    assert!(stats["transport"]["out"]["packets"].as_u64().unwrap() > 50, "{stats}");
    assert_eq!(stats["slots"].as_array().unwrap().len(), 7);
    assert!(!stats["events"].as_array().unwrap().is_empty());
    let (now, room, id) = (world.now, world.room.clone(), world.clients[ben].id());
    assert!(world.engine.remove(now, &room, &id, LeaveReason::Removed));
    // At once, in the same round: whoever asks next finds it gone, not unknown.
    assert_eq!(world.status("ben").map(|s| (s.state, s.reason)), Some(("gone", Some(LeaveReason::Removed))));
    assert!(!world.engine.remove(now, &room, &id, LeaveReason::Removed));
    world.finish();
    until_told(&mut world, anna, "ben has left", |m| matches!(m, ServerMessage::ParticipantLeft { .. }));
    assert!(world.status("nobody").is_none());
    assert_eq!(world.status("ben").unwrap().state, "gone");
}
