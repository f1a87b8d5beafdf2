//! What comes before the packet that it is understood by.

use std::time::Duration;

use antiphon_base::{Source, VideoCodec};
use antiphon_sim::stamp::nested::Mode;
use antiphon_sim::{Conditions, Profile, World};

/// Half of the packets overtake the other half, and who sends comes again on new connections, for which a slot waits already: the
/// packet with the structure of the dependency descriptors is often not the first. All goes on with its descriptor all the same,
/// without which a receiver cannot tell layers apart.
#[test]
fn a_key_frame_that_overtakes_its_structure_goes_on_described() {
    let mut world = World::new(11);
    world.conditions = Conditions {
        delay: Duration::from_millis(10),
        reorder: 0.5,
        reorder_delay: Duration::from_millis(30),
        ..Conditions::default()
    };
    let (codec, mode) = (VideoCodec::Av1, Some(Mode { layers: 3, key_only: true }));
    let profile = Profile { codec, mode, ..Profile::new("anna") };
    let mut anna = world.enter(profile.clone());
    let me = world.enter(Profile { codec, ..Profile::new("me").listener(1, 1) });
    let token = world.clients[anna].joined.resume_token.clone();
    for _ in 0..12 {
        let now = world.now;
        world.clients[anna].start(now, Source::Camera, 20);
        world.run(Duration::from_secs(2));
        anna = world.enter(Profile { resume: Some(token.clone()), ..profile.clone() });
    }
    let packets = world.clients[me].slots.iter().flat_map(|s| &s.packets);
    let pictures = packets.filter_map(|p| p.parsed).filter(|p| p.stamp.source == Source::Camera);
    let (described, bare): (Vec<_>, Vec<_>) = pictures.partition(|p| p.described.is_some());
    assert!(described.len() > 1_000, "{}", described.len());
    assert_eq!(bare, []);
    world.check().assert_sound();
}
