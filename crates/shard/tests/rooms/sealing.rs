//! What leaves is sealed, and no (key, SSRC, index) is used twice: the one mistake that gives a key away (RFC 7714, 8.4).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antiphon_base::Source;
use antiphon_shard::Config;
use antiphon_sim::net::Datagram;
use antiphon_sim::{Conditions, Profile, World, seeded};
use antiphon_wire::control::{Pin, Policy, Request};

/// Bytes of an AES-GCM tag; SRTCP's index follows it.
const INDEX_BYTES: usize = 4;

/// What was sealed so far. A connection (an IP address of its own here, whose port changes at an ICE restart) has one key for each direction.
#[derive(Default)]
struct Seals {
    /// By connection and SSRC: the newest extended sequence number, and the last ones used.
    rtp: BTreeMap<(IpAddr, u32), (u64, BTreeSet<u64>)>,
    rtcp: BTreeSet<(IpAddr, u32, u32)>,
    packets: u64,
    reports: u64,
    repeated: Vec<String>,
}

impl Seals {
    fn take(&mut self, datagram: &Datagram) {
        let bytes = &datagram.bytes;
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let to = datagram.destination.ip();
        match bytes.as_slice() {
            [128..=191, 192..=223, ..] => {
                let index = word(bytes.len() - INDEX_BYTES);
                assert_ne!(index >> 31, 0, "an RTCP packet is not encrypted");
                self.reports += 1;
                if !self.rtcp.insert((to, word(4), index)) {
                    self.repeated.push(format!("SRTCP {to} {} {index}", word(4)));
                }
            }
            [128..=191, ..] => self.take_rtp(to, word(8), u16::from_be_bytes([bytes[2], bytes[3]])),
            _ => {}
        }
    }

    fn take_rtp(&mut self, to: IpAddr, ssrc: u32, seq: u16) {
        self.packets += 1;
        let (newest, used) = self.rtp.entry((to, ssrc)).or_insert((u64::from(seq), BTreeSet::new()));
        // Nearest to the newest, as a receiver guesses the rollover counter (RFC 3711, 3.3.1).
        let low = u16::try_from(*newest & 0xffff).unwrap();
        let index = newest.checked_add_signed(i64::from(seq.wrapping_sub(low).cast_signed())).unwrap();
        *newest = index.max(*newest);
        if !used.insert(index) {
            self.repeated.push(format!("SRTP {to} {ssrc} {index}"));
        }
    }
}

/// Long enough for the sequence numbers to pass 65535, with switches, losses, ICE restarts to other addresses, and one coming back twice.
#[test]
fn no_key_sees_an_index_twice() {
    seeded(71, || seal(World::new(71)));
}

#[test]
fn no_key_sees_an_index_twice_over_two_shards() {
    seeded(72, || seal(World::spread(72, &Config::default(), 2)));
}

fn seal(mut world: World) {
    let shards = world.shards();
    let seals = Arc::new(Mutex::new(Seals::default()));
    let watcher = seals.clone();
    world.watch = Some(Box::new(move |datagram| watcher.lock().unwrap().take(datagram)));
    let mut publishers: Vec<usize> =
        vec![world.enter(Profile::new("anna").simulcast()), world.enter(Profile::new("ben").simulcast())];
    world.shard = Some(shards - 1);
    world.conditions =
        Conditions { delay: Duration::from_millis(20), loss: 0.02, reorder: 0.02, ..Conditions::default() };
    let watcher = world.enter(Profile::new("watcher").listener(2, 1));
    let begin = |world: &mut World, client: usize| {
        world.talk(client, 60);
    };
    for client in &publishers {
        begin(&mut world, *client);
    }
    for round in 0..360 {
        world.run(Duration::from_secs(1));
        if round % 5 == 0 {
            let participant = world.clients[publishers[round / 5 % 2]].id();
            let pins = vec![Pin { participant, source: Source::Camera, max_height: None }];
            world.say(watcher, Request::Policy { policy: Policy { pins, ..Policy::default() } });
        }
        if round % 40 == 30 {
            let client = if round % 80 == 30 { watcher } else { publishers[1] };
            world.moves(client);
            world.restart_ice(client).unwrap();
        }
        if round == 120 || round == 240 {
            let old = publishers[0];
            let resume = Some(world.clients[old].joined.resume_token.clone());
            world.vanish(old);
            world.shard = Some(round / 120 % shards);
            publishers[0] = world.enter(Profile { resume, ..Profile::new("anna").simulcast() });
            begin(&mut world, publishers[0]);
        }
    }
    assert_eq!(world.engine.metrics().ice_restarts, 9);
    let seals = seals.lock().unwrap();
    assert_eq!(seals.repeated, Vec::<String>::new());
    let wrapped = seals.rtp.values().filter(|(newest, _)| *newest > 0xffff).count();
    let newest: Vec<u64> = seals.rtp.values().map(|(newest, _)| *newest).collect();
    assert!(wrapped > 0, "no sequence number has passed 65535: {newest:?}, {}", seals.packets);
    assert!(seals.packets > 200_000 && seals.reports > 500, "{} {}", seals.packets, seals.reports);
    // The receivers' SRTP opens them all: their indices are ours. What is missing was lost on the way, twice and more, or was
    // under way to an address that had been left.
    let report = world.check();
    report.assert_sound();
    let of_watcher = report.of(watcher);
    assert!(of_watcher.packets > 65_000, "{of_watcher:?}");
    assert!(of_watcher.missing * 60 < of_watcher.packets, "{of_watcher:?}");
}
