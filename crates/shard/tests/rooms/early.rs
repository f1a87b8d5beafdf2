//! What comes before the packet that it is understood by.

use std::time::Duration;

use antiphon_base::{Source, VideoCodec};
use antiphon_sim::stamp::nested::Mode;
use antiphon_sim::{Conditions, Profile, World};

/// Half of the packets overtake the other half, so the one with the structure of the dependency descriptors is often not the first:
/// everything goes on with its descriptor all the same, without which a receiver cannot tell the layers apart.
#[test]
fn a_key_frame_that_overtakes_its_structure_goes_on_described() {
    let mut overtaken = 0;
    for seed in 0..8 {
        let mut world = World::new(seed);
        let reorder_delay = Duration::from_millis(30);
        world.conditions = Conditions {
            delay: Duration::from_millis(10),
            reorder: 0.5,
            reorder_delay,
            ..Conditions::default()
        };
        let (codec, mode) = (VideoCodec::Av1, Some(Mode { layers: 3, key_only: true }));
        let anna = world.enter(Profile { codec, mode, ..Profile::new("anna") });
        let me = world.enter(Profile { codec, ..Profile::new("me").listener(1, 1) });
        world.run(Duration::from_secs(1));
        let now = world.now;
        world.clients[anna].start(now, Source::Camera, 20);
        world.run(Duration::from_secs(3));
        let packets = world.clients[me].slots.iter().flat_map(|s| &s.packets);
        let mut pictures = packets.filter_map(|p| p.parsed).filter(|p| p.stamp.source == Source::Camera);
        let first = pictures.next().unwrap().described;
        overtaken += u32::from(first.is_none_or(|d| !d.extended));
        let bare = pictures.filter(|p| p.described.is_none()).count();
        assert_eq!((seed, bare), (seed, 0));
        world.check().assert_sound();
    }
    println!("{overtaken} began with another packet than the one with the structure");
}
