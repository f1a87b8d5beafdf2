//! Paths that are cut and come back: what was to be said meanwhile.

use std::time::Duration;

use antiphon_base::Source;
use antiphon_sim::net::Way;
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::{Request, ServerMessage};

const ONE_WAY: Duration = Duration::from_millis(25);

/// How long after an outage of so many seconds a client hears what was said in it; `media`: it is sent some. `deaf`: for so long before its
/// end the way to the client is good already.
fn told_after(seconds: u64, way: Way, media: bool, deaf: Duration) -> Duration {
    let mut world = World::new(400 + seconds);
    world.conditions = Conditions { delay: ONE_WAY, ..Conditions::default() };
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben").listener(1, 1));
    world.talk(anna, 20);
    world.run(Duration::from_secs(5));
    if !media {
        world.clients[anna].stop(Source::Microphone);
        world.clients[anna].stop(Source::Camera);
    }
    world.run(Duration::from_secs(5));
    let (address, good) = (world.clients[ben].address, world.conditions.clone());
    world.network.change(world.now, address, way, Conditions { cut: true, ..good.clone() });
    world.run(Duration::from_millis(500));
    world.say(anna, Request::Mute { source: Source::Microphone, muted: true });
    world.run(Duration::from_secs(seconds) - deaf);
    world.network.change(world.now, address, Way::Down, good.clone());
    let begin = world.now;
    world.run(deaf);
    if !deaf.is_zero() {
        world.say(anna, Request::Mute { source: Source::Microphone, muted: false });
        world.run(ONE_WAY);
    }
    world.network.change(world.now, address, Way::Up, good);
    let (back, said) = (world.now, 1 + usize::from(!deaf.is_zero()));
    let is_of_it = |(at, message): &(_, ServerMessage)| {
        *at > begin && matches!(message, ServerMessage::ParticipantUpdated { .. })
    };
    let limit = Duration::from_secs(30);
    world.until(limit, "ben hears all of it", |w| {
        w.clients[ben].messages.iter().filter(|m| is_of_it(m)).count() == said
    });
    let after = world.now.saturating_duration_since(back);
    world.run(Duration::from_secs(2));
    world.check().assert_sound();
    after
}

/// By SCTP alone it is up to seven seconds here: its pauses are as long as the outage was.
#[test]
fn what_was_said_in_an_outage_comes_as_soon_as_the_path_does() {
    for seconds in 2..=10 {
        // What comes from the peer brings it at once; where that never ended, it was tried each half second.
        for (way, media, limit) in [
            (Way::Both, true, Duration::from_millis(200)),
            (Way::Down, true, Duration::from_millis(700)),
            (Way::Both, false, Duration::from_millis(500)),
        ] {
            let after = told_after(seconds, way, media, Duration::ZERO);
            assert!(after <= limit, "{after:?} after {seconds} s, {way:?}, media: {media}");
        }
    }
}

/// The way to the client comes back first. SCTP's repetition arrives, its acknowledgement is lost, and what is said then waits for the
/// next one; the last datagram tells the client nothing new.
#[test]
fn a_lost_acknowledgement_is_asked_for_by_what_was_lost_before_it() {
    for seconds in 4..=10 {
        for deaf in [500, 1_000, 2_000] {
            // What was sent just before is not sent again at once.
            let after = told_after(seconds, Way::Both, true, Duration::from_millis(deaf));
            assert!(
                after <= Duration::from_millis(700),
                "{after:?} after {seconds} s, {deaf} ms of them deaf"
            );
        }
    }
}
