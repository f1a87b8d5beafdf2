//! Hostile input of every kind: none of it ends a session, none of it is amplified, none of it panics.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use antiphon_base::{ErrorKind, ParticipantId, RoomName, Source};
use antiphon_shard::{Config, Engine, Grants, JoinError, JoinRequest};
use antiphon_sim::world::SERVER;
use antiphon_sim::{Profile, World};
use antiphon_wire::control::{ParticipantKind, Policy, ServerMessage};
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};

use crate::frames_of;

/// Offer of Chromium 156 with 2 audio and 2 video lines to send on (the first with three rids) and 12 slots.
const CHROMIUM: &str = include_str!("../data/chromium-156.sdp");

/// Two who talk, and what they have sent so far.
pub(crate) fn talking(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed);
    world.captured = Some(Vec::new());
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben"));
    for client in [anna, ben] {
        world.talk(client, 20);
    }
    world.run(Duration::from_secs(3));
    (world, anna, ben)
}

/// The session goes on as if nothing had been.
pub(crate) fn assert_unaffected(world: &mut World, anna: usize, ben: usize) {
    let before = frames_of(world, anna, ben, Source::Camera, 0);
    let heard = frames_of(world, ben, anna, Source::Microphone, 0);
    world.run(Duration::from_secs(3));
    assert!(frames_of(world, anna, ben, Source::Camera, 0) >= before + 55);
    assert!(frames_of(world, ben, anna, Source::Microphone, 0) >= heard + 140);
    world.check().assert_sound();
    for client in [anna, ben] {
        assert!(world.clients[client].closed.is_none());
        assert_eq!((world.check().of(client).missing, world.check().of(client).gaps), (0, 0));
    }
    assert_eq!((world.engine.metrics().peers, world.engine.metrics().room_panics), (2, 0));
}

fn mutate(rng: &mut SmallRng, bytes: &mut Vec<u8>) {
    match rng.random_range(0..6) {
        0 => bytes.truncate(rng.random_range(0..=bytes.len().saturating_sub(1))),
        1 => bytes.extend((0..rng.random_range(1..64)).map(|_| 0u8)),
        2 => {
            let len = rng.random_range(0..1_500);
            *bytes = (0..len).map(|_| rng.random()).collect();
        }
        _ => {
            for _ in 0..rng.random_range(1..8) {
                let len = bytes.len().min(rng.random_range(1..=1_500));
                if let Some(byte) = bytes.get_mut(..len).and_then(|b| b.iter_mut().choose(rng)) {
                    *byte = rng.random();
                }
            }
        }
    }
}

pub(crate) fn stranger(rng: &mut SmallRng) -> SocketAddr {
    SocketAddr::new(
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, rng.random_range(1..255))),
        rng.random_range(1_024..1_100),
    )
}

/// Throws mutated datagrams of the session at the server from addresses that `from` gives; how many bytes came from
/// whom.
fn bombard(
    world: &mut World,
    count: u32,
    mut from: impl FnMut(&mut SmallRng) -> SocketAddr,
) -> BTreeMap<SocketAddr, u64> {
    let captured = world.captured.take().unwrap();
    assert!(captured.len() > 500);
    let mut rng = SmallRng::seed_from_u64(world.rng.random());
    let mut came: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    for i in 0..count {
        let mut bytes = captured.choose(&mut rng).unwrap().bytes.clone();
        mutate(&mut rng, &mut bytes);
        let source = from(&mut rng);
        *came.entry(source).or_default() += bytes.len() as u64;
        let now = world.now;
        world.engine.handle_datagram(now, source, SERVER, &bytes);
        if i % 100 == 0 {
            world.finish();
            world.run(Duration::from_millis(2));
        }
    }
    world.finish();
    came
}

#[test]
fn strangers_change_nothing_and_get_no_more_than_they_gave() {
    let (mut world, anna, ben) = talking(61);
    let came = bombard(&mut world, 60_000, stranger);
    let mut went: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    for stray in &world.strays {
        *went.entry(stray.destination).or_default() += stray.bytes.len() as u64;
    }
    for (address, bytes) in went {
        let came = came.get(&address).copied().unwrap_or(0);
        assert!(bytes * 2 <= came * 3, "{address} sent {came} bytes and got {bytes}");
    }
    assert_unaffected(&mut world, anna, ben);
}

/// Whoever can forge a peer's address: str0m 0.25 maps an unknown SSRC with a known MID to that line before the packet is
/// authenticated, and would not know the true one any more (`genuine.rs` looks first).
#[test]
fn forged_addresses_end_no_session() {
    let (mut world, anna, ben) = talking(67);
    let known: Vec<SocketAddr> = [anna, ben].map(|c| world.clients[c].address).to_vec();
    bombard(&mut world, 40_000, |rng| *known.choose(rng).unwrap());
    let id = world.say(anna, antiphon_wire::control::Request::Sync);
    world.run(Duration::from_secs(3));
    assert!(world.clients[anna].reply(id).is_some());
    assert!([anna, ben].iter().all(|c| world.clients[*c].closed.is_none()));
    assert_eq!((world.engine.metrics().peers, world.engine.metrics().room_panics), (2, 0));
    assert_unaffected(&mut world, anna, ben);
}

/// Valid checks, said again from elsewhere, are answered there (their integrity does not cover where they come from), and with no more
/// than half as much again.
#[test]
fn a_replayed_check_is_no_amplifier() {
    let (mut world, anna, ben) = talking(69);
    let captured = world.captured.take().unwrap();
    let mut rng = SmallRng::seed_from_u64(69);
    let mut came = 0;
    for check in captured.iter().filter(|d| d.bytes[..2] == [0, 1]) {
        world.engine.handle_datagram(world.now, stranger(&mut rng), SERVER, &check.bytes);
        came += check.bytes.len();
    }
    world.finish();
    let left: usize = world.strays.iter().map(|d| d.bytes.len()).sum();
    assert!(came > 500 && left > 0 && left * 2 <= came * 3, "{left} bytes for {came}");
    assert_unaffected(&mut world, anna, ben);
}

#[test]
fn forged_good_byes_do_not_end_a_session() {
    let (mut world, anna, ben) = talking(62);
    let mut rng = SmallRng::seed_from_u64(62);
    let captured = world.captured.take().unwrap();
    // SSRCs as they stand on the wire.
    let rtp = captured.iter().filter(|d| d.bytes.len() > 12 && d.bytes[0] & 0xc0 == 0x80);
    let ssrcs: Vec<[u8; 4]> = rtp
        .map(|d| {
            let at = if (192..=223).contains(&d.bytes[1]) { 4 } else { 8 };
            [d.bytes[at], d.bytes[at + 1], d.bytes[at + 2], d.bytes[at + 3]]
        })
        .collect();
    let sources: Vec<SocketAddr> = [anna, ben]
        .map(|c| world.clients[c].address)
        .into_iter()
        .chain((0..8).map(|_| stranger(&mut rng)))
        .collect();
    for i in 0..2_000 {
        let ssrc = ssrcs.choose(&mut rng).unwrap();
        let source = *sources.choose(&mut rng).unwrap();
        // BYE, PLI, RTP, a DTLS alert (close_notify, fatal handshake failure), a DTLS client hello's beginning.
        let mut bytes: Vec<u8> = match i % 6 {
            0 => vec![0x81, 203, 0, 1],
            1 => vec![0x81, 206, 0, 2],
            2 => vec![0x80, 111, 0, 1, 0, 0, 0, 1],
            3 => vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0],
            4 => vec![21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40],
            _ => vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        if i % 6 < 3 {
            bytes.extend(ssrc);
            bytes.extend([0u8; 30]);
        }
        let now = world.now;
        world.engine.handle_datagram(now, source, SERVER, &bytes);
        if i % 20 == 0 {
            world.finish();
            world.run(Duration::from_millis(5));
        }
    }
    assert_unaffected(&mut world, anna, ben);
}

#[test]
fn replays_from_elsewhere_take_nothing_over() {
    let (mut world, anna, ben) = talking(63);
    let captured = world.captured.take().unwrap();
    let mut rng = SmallRng::seed_from_u64(63);
    // Everything but STUN: whoever can replay a binding request of the last seconds stands on the path (RFC 8445, 19.2).
    for datagram in captured.iter().filter(|d| d.bytes[0] > 3) {
        let (now, source) = (world.now, stranger(&mut rng));
        world.engine.handle_datagram(now, source, SERVER, &datagram.bytes);
        world.engine.handle_datagram(now, datagram.source, SERVER, &datagram.bytes);
    }
    world.finish();
    assert!(world.strays.is_empty(), "{} datagrams to strangers", world.strays.len());
    assert_unaffected(&mut world, anna, ben);
}

/// A check of one peer, said again from the address of another, is valid: its integrity does not cover where it comes
/// from. It must not make the other's datagrams the first one's.
#[test]
fn a_replayed_check_takes_no_address_from_another_peer() {
    let (mut world, anna, ben) = talking(66);
    let captured = world.captured.take().unwrap();
    let address = |c: usize| world.clients[c].address;
    for (of, from) in [(anna, address(ben)), (ben, address(anna))] {
        let owner = address(of);
        let check = captured.iter().rfind(|d| d.source == owner && d.bytes[..2] == [0, 1]).unwrap();
        world.engine.handle_datagram(world.now, from, SERVER, &check.bytes);
    }
    world.finish();
    assert_unaffected(&mut world, anna, ben);
}

/// Who comes again from the port that it had before, while the server still waits for its old connection, is heard.
#[test]
fn a_new_connection_gets_the_address_of_the_one_before_it() {
    let (mut world, anna, ben) = talking(68);
    world.comes_again(anna, Profile::new("anna-again"));
    world.talk(anna, 20);
    let before = frames_of(&world, ben, anna, Source::Microphone, 0);
    world.run(Duration::from_secs(4));
    assert!(frames_of(&world, ben, anna, Source::Microphone, 0) >= before + 140);
    assert!(frames_of(&world, anna, ben, Source::Camera, 0) >= 55);
}

#[test]
fn garbage_on_the_control_channel_gets_typed_errors() {
    let (mut world, anna, ben) = talking(64);
    let garbage: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        vec![0xff, 0xfe],
        br#"{"id":77,"type":"nope"}"#.to_vec(),
        br#"{"id":-1,"type":"sync"}"#.to_vec(),
        br#"{"id":78,"type":"policy","policy":{"pins":"all"}}"#.to_vec(),
        br#"{"id":79,"type":"policy","policy":{"unknown":1}}"#.to_vec(),
        vec![b'['; 20_000],
        vec![b' '; 70_000],
    ];
    let count = garbage.len();
    for bytes in garbage {
        world.clients[anna].say_bytes(bytes);
    }
    let errors = |w: &World| -> Vec<(u32, ErrorKind)> {
        let replies = w.clients[anna].messages.iter().filter_map(|(_, m)| match m {
            ServerMessage::Reply { id, error: Some(error) } => Some((*id, error.code)),
            _ => None,
        });
        replies.collect()
    };
    world.until(Duration::from_secs(5), "an error for each", |w| errors(w).len() == count);
    let got = errors(&world);
    assert!(got.iter().all(|(_, code)| *code == ErrorKind::BadRequest), "{got:?}");
    assert!([77, 78, 79].iter().all(|id| got.iter().any(|(i, _)| i == id)), "{got:?}");
    assert_unaffected(&mut world, anna, ben);
}

#[test]
fn requests_without_end_are_limited() {
    let (mut world, anna, ben) = talking(65);
    for _ in 0..500 {
        world.say(ben, antiphon_wire::control::Request::Sync);
    }
    world.run(Duration::from_secs(2));
    let limited = world.clients[ben].messages.iter().filter(|(_, m)| {
        matches!(m, ServerMessage::Reply { error: Some(error), .. } if error.code == ErrorKind::RateLimited)
    });
    assert!(limited.count() > 400);
    assert_unaffected(&mut world, anna, ben);
}

fn engine() -> (Engine, std::time::Instant) {
    let now = std::time::Instant::now();
    (Engine::new(Config::default(), SERVER, now, 1).unwrap(), now)
}

fn join(engine: &mut Engine, now: std::time::Instant, offer: &str) -> Result<(), JoinError> {
    let request = JoinRequest {
        id: ParticipantId::new("mallory").unwrap(),
        name: String::new(),
        kind: ParticipantKind::WebRtc,
        grants: Grants { publish: true, subscribe: true, moderate: false },
        policy: Policy::default(),
        muted: Vec::new(),
        resume: None,
        only: None,
    };
    engine.join(now, &RoomName::new("demo").unwrap(), offer, request).map(|_| ())
}

#[test]
fn offers_over_the_limits_are_refused() {
    let (mut engine, now) = engine();
    assert_eq!(join(&mut engine, now, CHROMIUM), Ok(()));
    let many = format!("{CHROMIUM}{}", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:x\r\n".repeat(80));
    assert_eq!(join(&mut engine, now, &many).unwrap_err().kind, ErrorKind::BadSdp);
    let large = format!("{CHROMIUM}{}", "a=x\r\n".repeat(200_000));
    assert_eq!(join(&mut engine, now, &large).unwrap_err().kind, ErrorKind::TooLarge);
    for nonsense in ["", "v=0\r\n", "hello", "m=audio", "\u{0}"] {
        assert_eq!(join(&mut engine, now, nonsense).unwrap_err().kind, ErrorKind::BadSdp, "{nonsense:?}");
    }
    let channel_only = &CHROMIUM[CHROMIUM.find("m=application").unwrap()..];
    let head = &CHROMIUM[..CHROMIUM.find("a=group").unwrap()];
    let error = join(&mut engine, now, &format!("{head}a=group:BUNDLE 16\r\n{channel_only}")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadSdp, "{error}");
}

/// One change of the kinds that break parsers.
fn change(rng: &mut SmallRng, lines: &mut Vec<String>) {
    let at = rng.random_range(0..lines.len());
    match rng.random_range(0..7) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let other = rng.random_range(0..lines.len());
            lines.swap(at, other);
        }
        3 => {
            let cut = lines[at].char_indices().map(|(i, _)| i).choose(rng).unwrap_or(0);
            lines[at].truncate(cut);
        }
        4 => {
            let number: String = ["-1", "0", "65536", "4294967296", "99999999999999999999", "\u{1f980}"]
                .choose(rng)
                .unwrap()
                .to_string();
            let words: Vec<String> = lines[at].split(' ').map(str::to_owned).collect();
            let which = rng.random_range(0..words.len());
            let changed =
                words.into_iter().enumerate().map(|(i, w)| if i == which { number.clone() } else { w });
            lines[at] = changed.collect::<Vec<_>>().join(" ");
        }
        5 => {
            let mut bytes = lines[at].clone().into_bytes();
            if let Some(byte) = bytes.iter_mut().choose(rng) {
                *byte = rng.random_range(0..128);
            }
            lines[at] = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => {
            let upto = (at + rng.random_range(1..40)).min(lines.len());
            let block: Vec<String> = lines[at..upto].to_vec();
            lines.extend(block);
        }
    }
}

#[test]
fn mutated_offers_never_panic() {
    let (mut engine, now) = engine();
    let mut rng = SmallRng::seed_from_u64(66);
    // Every line kind of the capture with fewer codecs: as many ways to break it, ten times as fast.
    let small: Vec<String> = CHROMIUM
        .lines()
        .filter(|l| !["a=rtcp-fb:1", "a=rtcp-fb:3", "a=rtcp-fb:4"].iter().any(|p| l.starts_with(p)))
        .map(str::to_owned)
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..300 {
        let mut lines = small.clone();
        for _ in 0..rng.random_range(1..6) {
            change(&mut rng, &mut lines);
        }
        match join(&mut engine, now, &(lines.join("\r\n") + "\r\n")) {
            Ok(()) => taken += 1,
            Err(error) => {
                refused += 1;
                let typed =
                    [ErrorKind::BadSdp, ErrorKind::NoCommonCodec, ErrorKind::TooLarge, ErrorKind::BadRequest];
                assert!(typed.contains(&error.kind), "{error:?}");
            }
        }
        engine.finish(now, |_| {});
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 0 && refused > 0);
}
