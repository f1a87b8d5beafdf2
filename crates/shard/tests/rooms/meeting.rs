//! Two people meet: control messages, sound and pictures both ways, slots as announced.

use std::time::Duration;

use antiphon_base::Source;
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::ServerMessage;

fn two() -> (World, usize, usize) {
    let mut world = World::new(1);
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben"));
    for client in [anna, ben] {
        world.talk(client, 20);
    }
    (world, anna, ben)
}

#[test]
fn two_see_and_hear_each_other() {
    let (mut world, anna, ben) = two();
    world.run(Duration::from_secs(5));
    let report = world.check();
    report.assert_sound();
    for (me, other) in [(anna, ben), (ben, anna)] {
        let got = report.of(me);
        let other = u16::try_from(other).unwrap();
        let mut from = got.from.clone();
        let voice = from.remove(&(other, Source::Microphone.index(), 0)).unwrap_or(0);
        let pictures = from.remove(&(other, Source::Camera.index(), 0)).unwrap_or(0);
        assert!(voice >= 248 && pictures >= 98, "{voice} {pictures}");
        assert!(from.is_empty(), "{from:?}");
        assert_eq!((got.missing, got.incomplete, got.gaps), (0, 0, 0));
    }
}

#[test]
fn the_control_channel_begins_with_welcome_and_roster() {
    let (mut world, anna, ben) = two();
    world.run(Duration::from_secs(2));
    for (me, other) in [(anna, ben), (ben, anna)] {
        let client = &world.clients[me];
        let ServerMessage::Welcome { participant, key, room, resume_token, resume_ttl_s, server_time_us } =
            &client.messages[0].1
        else {
            panic!("{:?}", client.messages[0]);
        };
        assert_eq!((participant, *key), (&client.id(), client.key()));
        assert_eq!((room, *resume_ttl_s), (&world.room, 30));
        assert_eq!(resume_token, &client.joined.resume_token);
        assert!(*server_time_us > antiphon_sim::world::EPOCH_US);
        assert!(matches!(client.messages[1].1, ServerMessage::Roster { .. }), "{:?}", client.messages[1]);
        let theirs = &client.roster[&world.clients[other].id()];
        assert_eq!(theirs.name, world.clients[other].profile.name);
        let sources: Vec<Source> = theirs.tracks.iter().map(|t| t.source).collect();
        assert_eq!(sources, [Source::Microphone, Source::Camera]);
    }
}

#[test]
fn an_audio_slot_and_a_video_slot_share_their_stream() {
    let (world, anna, _) = two();
    let client = &world.clients[anna];
    let stream = |mid: &str| {
        let section = client.answer.split("\r\nm=").find(|s| s.contains(&format!("\r\na=mid:{mid}\r\n")));
        let msid = section.unwrap().lines().find_map(|l| l.strip_prefix("a=msid:")).unwrap();
        msid.split(' ').next().unwrap().to_owned()
    };
    let streams: Vec<String> = client.slots.iter().map(|s| stream(&s.mid)).collect();
    let want = ["slot-0", "slot-1", "slot-2", "slot-0", "slot-1", "slot-2", "slot-screen"];
    assert_eq!(streams, want);
}

#[test]
fn nothing_is_kept_for_those_who_are_still_connecting() {
    let (mut world, anna, _) = two();
    // A far client: its handshake takes seconds.
    world.conditions = Conditions { delay: Duration::from_millis(400), ..Conditions::default() };
    let far = world.enter(Profile::new("far"));
    world.run(Duration::from_secs(3));
    let connected = world.clients[far].connected.unwrap();
    let first = world.clients[far].slots.iter().flat_map(|s| &s.packets).map(|p| p.at).min().unwrap();
    let burst = world.clients[far].slots.iter().flat_map(|s| &s.packets).filter(|p| p.at == first).count();
    assert!(burst <= 3, "{burst} packets at once, {:?} after connecting", first - connected);
    world.check().assert_sound();
    assert!(crate::frames_of(&world, far, anna, Source::Camera, 0) > 20);
}
