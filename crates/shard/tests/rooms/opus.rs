//! What Opus has against loss and for silence goes through a shard as it was sent.

use std::time::Duration;

use antiphon_base::Source;
use antiphon_sim::{Profile, World};

/// SILK, 20 ms of a wide band, one frame (RFC 6716, 3.1).
const TOC: u8 = 9 << 3;
/// The first bits of a SILK frame (RFC 6716, 4.2.3): there is a voice, and LBRR is there: the packet before it once more, coarser.
const VOICE_WITH_FEC: u8 = 0b1100_0000;
const PACKETS: u8 = 50;

/// As libopus' `opus_packet_has_lbrr` looks.
fn has_fec(payload: &[u8]) -> bool {
    payload.get(1).is_some_and(|first| first >> 6 & 1 == 1)
}

#[test]
fn in_band_fec_and_dtx_go_through_bit_by_bit() {
    let mut world = World::new(7);
    let [ada, ben, cleo] = [("ada", true), ("ben", false), ("cleo", true)].map(|(id, red)| {
        let profile = Profile::new(id);
        world.enter(if id == "ada" { profile } else { Profile { red, ..profile.listener(1, 1) } })
    });
    let spoken: Vec<Vec<u8>> = (0..PACKETS)
        .map(|n| match n % 5 {
            // Nothing to say: a frame of no bytes (RFC 6716, 3.1 and RFC 7587, 3.1.3).
            4 => vec![TOC],
            _ => [&[TOC, VOICE_WITH_FEC | (n % 64)][..], &vec![n; 30 + 2 * usize::from(n)]].concat(),
        })
        .collect();
    assert_eq!(spoken.iter().filter(|payload| has_fec(payload)).count(), 40);
    let now = world.now;
    world.clients[ada].start(now, Source::Microphone, 0);
    world.run(Duration::from_secs(2));
    world.clients[ada].senders[0].payloads.extend(spoken.iter().cloned());
    world.run(Duration::from_secs(10));
    for client in [ben, cleo] {
        let packets = world.clients[client].slots.iter().flat_map(|slot| &slot.packets);
        let heard: Vec<Vec<u8>> = packets.filter_map(|p| p.other.clone()).collect();
        assert!(heard == spoken, "{} of {PACKETS} packets: {heard:02x?}", heard.len());
    }
}
