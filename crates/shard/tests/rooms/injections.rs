//! A thousand forged datagrams of each kind, half of them from the peers' own addresses: no session ends, no picture is
//! lost.

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_sim::net::Datagram;
use antiphon_sim::world::SERVER;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::hostile::{assert_unaffected, stranger, talking};

/// Injections of each kind.
const COUNT: u32 = 1_000;

/// How a datagram of a kind is forged, from what the peers have sent until now.
type Forge = fn(&mut SmallRng, &[Datagram]) -> Vec<u8>;

fn is_rtp(bytes: &[u8]) -> bool {
    bytes.len() > 12 && bytes[0] & 0xc0 == 0x80 && !(192..=223).contains(&bytes[1])
}

/// One that the peers have sent and for which `is` holds.
fn one(rng: &mut SmallRng, captured: &[Datagram], is: fn(&[u8]) -> bool) -> Vec<u8> {
    let all: Vec<&Datagram> = captured.iter().filter(|d| is(&d.bytes)).collect();
    all.choose(rng).expect("the peers have sent such").bytes.clone()
}

fn ssrc(rng: &mut SmallRng, captured: &[Datagram]) -> [u8; 4] {
    one(rng, captured, is_rtp)[8..12].try_into().expect("four bytes")
}

fn random(rng: &mut SmallRng, length: usize) -> Vec<u8> {
    (0..length).map(|_| rng.random()).collect()
}

/// A genuine ClientHello of another session would have: new randomness, and now and then other versions and lengths.
fn client_hello(rng: &mut SmallRng, captured: &[Datagram]) -> Vec<u8> {
    // Handshake record, message type 1.
    let mut bytes = one(rng, captured, |b| b.len() > 60 && b[0] == 22 && b[13] == 1);
    bytes[27..59].fill_with(|| rng.random());
    match rng.random_range(0..4) {
        // A new epoch or record number.
        0 => bytes[rng.random_range(3..11)] = rng.random(),
        // Another message number, fragment or length.
        1 => bytes[rng.random_range(14..25)] = rng.random(),
        2 => bytes.truncate(rng.random_range(14..60)),
        _ => {}
    }
    bytes
}

/// Of a track that there is, or of one of its line that there is not.
fn rtp(rng: &mut SmallRng, captured: &[Datagram]) -> Vec<u8> {
    let mut bytes = one(rng, captured, is_rtp);
    if rng.random_bool(0.5) {
        bytes[8..12].fill_with(|| rng.random());
    } else {
        let seq = u16::from_be_bytes([bytes[2], bytes[3]]).wrapping_add(rng.random_range(1..4_000));
        bytes[2..4].copy_from_slice(&seq.to_be_bytes());
    }
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bytes
}

fn rtcp(rng: &mut SmallRng, captured: &[Datagram]) -> Vec<u8> {
    // Reports, NACK, transport-wide feedback, PLI, REMB, SDES: clear, as of somebody without keys, or with a seal that is not one.
    let (first, kind) =
        *[(0x81, 200), (0x81, 201), (0x81, 205), (0x8f, 205), (0x81, 206), (0x8f, 206), (0x81, 202)]
            .choose(rng)
            .expect("seven");
    let length = rng.random_range(1..20_u8) * 4;
    let mut bytes = vec![first, kind, 0, length / 4];
    bytes.extend(ssrc(rng, captured));
    bytes.extend(random(rng, usize::from(length) - 4));
    if rng.random_bool(0.5) {
        bytes.extend(random(rng, 16));
        bytes.extend([0x80, 0, 0, rng.random()]);
    }
    bytes
}

fn goodbye(rng: &mut SmallRng, captured: &[Datagram]) -> Vec<u8> {
    let mut bytes = match rng.random_range(0..4) {
        0 => vec![0x81, 203, 0, 1],
        1 => [vec![0x80, 201, 0, 1], ssrc(rng, captured).to_vec(), vec![0x81, 203, 0, 1]].concat(),
        // DTLS: close_notify and a fatal alert, clear and in the epoch of the keys.
        2 => return vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, rng.random(), 0, 2, 1, 0],
        _ => {
            return vec![21, 0xfe, 0xfd, 0, rng.random_range(0..2), 0, 0, 0, 0, 0, rng.random(), 0, 2, 2, 40];
        }
    };
    bytes.extend(ssrc(rng, captured));
    if rng.random_bool(0.5) {
        bytes.extend(random(rng, 14));
        bytes.extend([0x80, 0, 0, rng.random()]);
    }
    bytes
}

/// A binding request of a peer with something changed, so that its integrity does not hold; or with an error for one.
fn stun(rng: &mut SmallRng, captured: &[Datagram]) -> Vec<u8> {
    let mut bytes = one(rng, captured, |b| b.len() > 28 && b[0] < 2);
    match rng.random_range(0..4) {
        // Success, error, indication instead of a request.
        0 => (bytes[0], bytes[1]) = *[(1, 1), (1, 0x11), (0, 0x11)].choose(rng).expect("three"),
        // Another transaction.
        1 => bytes[8..20].fill_with(|| rng.random()),
        2 => bytes.truncate(rng.random_range(20..28)),
        _ => {
            // Before the fingerprint, which the integrity does not cover: without that it were a replay.
            let at = rng.random_range(20..bytes.len() - 8);
            bytes[at] ^= 1 << rng.random_range(0..8);
        }
    }
    bytes
}

fn inject(seed: u64, forge: Forge) {
    let (mut world, anna, ben) = talking(seed);
    let captured = world.captured.take().unwrap();
    let known: [SocketAddr; 2] = [anna, ben].map(|c| world.clients[c].address);
    let mut rng = SmallRng::seed_from_u64(seed);
    for i in 0..COUNT {
        let source = if i % 2 == 0 { known[rng.random_range(0..2)] } else { stranger(&mut rng) };
        let bytes = forge(&mut rng, &captured);
        let now = world.now;
        world.engine.handle_datagram(now, source, SERVER, &bytes);
        if i % 10 == 0 {
            world.finish();
            world.run(Duration::from_millis(20));
        }
    }
    world.finish();
    assert!(world.strays.is_empty(), "{} datagrams to strangers", world.strays.len());
    assert_unaffected(&mut world, anna, ben);
}

#[test]
fn forged_client_hellos_end_no_session() {
    inject(81, client_hello);
}

#[test]
fn forged_rtp_ends_no_session() {
    inject(82, rtp);
}

#[test]
fn forged_rtcp_ends_no_session() {
    inject(83, rtcp);
}

#[test]
fn forged_stun_ends_no_session() {
    inject(84, stun);
}

#[test]
fn forged_good_byes_end_no_session() {
    inject(85, goodbye);
}
