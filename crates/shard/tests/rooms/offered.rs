//! Players who answer an offer of the server's (WHEP).

use std::time::Duration;

use antiphon_base::Source;
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::ParticipantKind;

use crate::frames_of;

fn player(only: Option<&str>) -> Profile {
    Profile {
        kind: ParticipantKind::Whep,
        control: false,
        grants: antiphon_shard::Grants { publish: false, subscribe: true, moderate: false },
        only: only.map(|id| antiphon_base::ParticipantId::new(id).unwrap()),
        ..Profile::new("player").listener(1, 1)
    }
}

#[test]
fn a_player_that_answers_gets_media() {
    let mut world = World::new(83);
    world.conditions = Conditions { delay: Duration::from_millis(15), loss: 0.02, ..Conditions::default() };
    let anna = world.enter(Profile::new("anna"));
    world.talk(anna, 20);
    let player = world.play(player(Some("anna")));
    world.run(Duration::from_secs(5));
    assert!(world.clients[player].connected.is_some());
    assert!(frames_of(&world, player, anna, Source::Camera, 0) > 70);
    assert!(frames_of(&world, player, anna, Source::Microphone, 0) > 180);
    world.check().assert_sound();
}

#[test]
fn an_answer_that_does_not_fit_is_refused() {
    let mut world = World::new(84);
    let profile = player(None);
    let request = |world: &mut World| {
        let joined = world.join(profile.clone());
        let id = world.clients[joined].id();
        antiphon_shard::JoinRequest {
            id,
            name: String::new(),
            kind: ParticipantKind::Whep,
            grants: profile.grants,
            policy: antiphon_wire::control::Policy::default(),
            muted: Vec::new(),
            resume: None,
            only: None,
        }
    };
    let request = request(&mut world);
    for answer in ["", "v=0", "v=0\r\nm=audio", "\u{0}\u{1}"] {
        let offered = world.engine.offer(world.now, &world.room, request.clone()).unwrap();
        assert!(world.engine.answer(world.now, offered, answer).is_err(), "{answer:?}");
    }
    // An offer in place of an answer; an answer that takes nothing.
    let offered = world.engine.offer(world.now, &world.room, request.clone()).unwrap();
    let text = offered.text().to_owned();
    assert!(world.engine.answer(world.now, offered, &text).is_err());
}
