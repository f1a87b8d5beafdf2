//! Doors for the fuzz targets to parsers that are not public.

pub mod red;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use antiphon_base::{AudioCodec, Codec, ParticipantId, RoomName, VideoCodec};
use antiphon_room::SlotId;
use antiphon_room::slot::Outgoing;
use antiphon_wire::control::{ParticipantKind, Policy};
use antiphon_wire::rtp::header;
use dimpl::crypto::{HashAlgorithm, SignatureAlgorithm};
use str0m::crypto::dtls::SrtpProfile;

use crate::clock::Clock;
use crate::config::Config;
use crate::egress::keys::Keys;
use crate::egress::peer_key;
use crate::egress::srtp::{self, Opener, Sealer};
use crate::egress::{Arena, Class, LinePlan, Path, PayloadType, Sender};
use crate::engine::{Address, Door};
use crate::join::{Grants, JoinRequest};
use crate::reach::Reach;
use crate::stun as parser;
use crate::transport::Transport;

/// Receive slots that an offer may have here.
pub const MAX_SLOTS: usize = 16;

/// What was made of an offer.
#[derive(Debug)]
pub struct Answered {
    /// The SDP answer.
    pub answer: String,
    /// Receive slots in it.
    pub slots: usize,
}

static DOOR: LazyLock<Door> = LazyLock::new(|| {
    Door::new(&Config { max_slots: MAX_SLOTS, ..Config::default() }).expect("a certificate can be made")
});

fn request(kind: ParticipantKind) -> JoinRequest {
    // As the requests are made, whatever a token grants.
    let (publish, subscribe) = (kind != ParticipantKind::Whep, kind != ParticipantKind::Whip);
    JoinRequest {
        id: ParticipantId::new("fuzz").expect("a good id"),
        name: String::new(),
        kind,
        grants: Grants { publish, subscribe, moderate: false },
        policy: Policy::default(),
        muted: Vec::new(),
        resume: None,
        only: None,
    }
}

fn reach() -> Arc<Reach> {
    let local = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    Arc::new(Reach::new(&[local], &[], Some(7_701), Some(7_701)))
}

/// Any text as an offer of such a participant; `None`: it was refused.
pub fn offer(kind: ParticipantKind, text: &str) -> Option<Answered> {
    let (room, reach) = (RoomName::new("fuzz").expect("a good name"), reach());
    let to = Address { shard: 0, reach: &reach };
    let prepared = DOOR.prepare(to, &room, text, request(kind), Instant::now()).ok()?;
    let slots = prepared.negotiated.slots.len();
    Some(Answered { answer: prepared.negotiated.answer, slots })
}

/// Any text as the answer to an offer of ours, in which `MID0` and `MID1` stand for the mids of its lines. The slots that came of it;
/// `None`: it was refused.
pub fn answer(text: &str) -> Option<usize> {
    let (room, reach) = (RoomName::new("fuzz").expect("a good name"), reach());
    let to = Address { shard: 0, reach: &reach };
    let offered = DOOR.offer(to, &room, request(ParticipantKind::Whep), Instant::now()).ok()?;
    let mids = crate::sdp::mids(offered.text());
    let text = (0..).zip(&mids).fold(text.to_owned(), |text, (i, mid)| text.replace(&format!("MID{i}"), mid));
    Some(offered.accept(&text).ok()?.negotiated.slots.len())
}

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::AES128_CM_SHA1_80, SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM];

/// Both sides of a connection: what the peer seals with, and what our side opens and seals with.
fn contexts(profile: SrtpProfile) -> (Sealer, Opener, Keys) {
    let keys =
        |active| Keys { profile, material: vec![5; profile.keying_material_len()], active, listens: false };
    let context = |active| srtp::contexts(&keys(active)).expect("the material has the profile's length");
    (context(true).0, context(false).1, keys(false))
}

/// Bytes as SRTCP: nothing opens that the peer did not seal, and what it did comes out once and unchanged.
///
/// # Panics
/// Where that does not hold.
pub fn srtcp(bytes: &[u8]) {
    let [profile, change, rest @ ..] = bytes else { return };
    let (mut peer, mut opener, _) = contexts(PROFILES[usize::from(*profile) % PROFILES.len()]);
    let mut opened = Vec::new();
    assert_eq!(opener.open_rtcp(rest, &mut opened), None, "nobody guesses a seal");
    let mut sealed = rest.to_vec();
    if peer.seal_rtcp(&mut sealed, 0).is_err() {
        return;
    }
    let at = usize::from(*change) % sealed.len();
    sealed[at] ^= 1;
    assert_eq!(opener.open_rtcp(&sealed, &mut opened), None, "byte {at} was changed");
    sealed[at] ^= 1;
    assert_eq!(opener.open_rtcp(&sealed, &mut opened), Some(rest));
    assert_eq!(opener.open_rtcp(&sealed, &mut opened), None, "twice");
}

const SSRC: u32 = 80;
const RTX_SSRC: u32 = 81;
/// Bytes around a payload at the most: fixed header with one CSRC, extensions with a dependency descriptor, tag, and RTX number.
const AROUND: usize = 16 + 4 + 255 + 40 + 16 + 2;

/// What a slot has let through, sent to a subscriber that then says any RTCP. All that leaves is RTP of its line, or of its
/// retransmissions, or RTCP.
///
/// # Panics
/// Where that does not hold.
pub fn egress(all: Vec<Outgoing>, rtcp: &[u8]) {
    let (mut peer, _, keys) = contexts(SrtpProfile::AEAD_AES_128_GCM);
    let mut sender = Sender::new(vec![line()], "fuzz".into());
    sender.arm(&keys);
    let mut now = all.iter().map(|o| o.packet.arrival).max().unwrap_or_else(Instant::now);
    let clock = Clock::new(now);
    let largest = all.iter().map(|o| o.packet.payload.len()).max().unwrap_or(0);
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let path = Path { transport: Transport::Udp, source: ip, destination: SocketAddr::new(ip, 9) };
    let mut arena = Arena::default();
    for outgoing in all {
        sender.forward(SlotId(0), outgoing);
    }
    sender.flush(now, clock, path, &mut arena);
    let mut sealed = rtcp.to_vec();
    if peer.seal_rtcp(&mut sealed, 0).is_ok() {
        sender.on_rtcp(clock.us(now), &sealed, &mut Vec::new());
    }
    for _ in 0..3 {
        now += Duration::from_millis(400);
        sender.flush(now, clock, path, &mut arena);
    }
    for datagram in arena.datagrams().iter().map(|d| arena.contents(d)) {
        if matches!(datagram, [_, 192..=223, ..]) {
            continue;
        }
        let (fixed, payload) = header::parse(datagram).expect("what we write parses");
        assert!(fixed.ssrc == SSRC || fixed.ssrc == RTX_SSRC);
        assert!(datagram.len() <= largest + AROUND, "{} bytes, {} of payload", datagram.len(), payload.len());
    }
}

/// Of all codecs, with all extensions; without RED.
fn line() -> LinePlan {
    let codecs = [
        Codec::Audio(AudioCodec::Opus),
        Codec::Video(VideoCodec::Vp8),
        Codec::Video(VideoCodec::Vp9),
        Codec::Video(VideoCodec::H264),
        Codec::Video(VideoCodec::Av1),
    ];
    let payload_type = |(number, codec)| PayloadType { codec, number, rtx: Some(number + 1), red: None };
    LinePlan {
        mid: "1".into(),
        class: Class::Video,
        ssrc: SSRC,
        rtx_ssrc: Some(RTX_SSRC),
        payload_types: (96..).step_by(2).zip(codecs).map(payload_type).collect(),
        mid_extension: Some(4),
        level_extension: Some(1),
        transport_extension: Some(3),
        dependency_extension: Some(12),
        playout_extension: Some(6),
    }
}

/// Any bytes as a datagram of a stranger.
pub fn stun(bytes: &[u8]) {
    let is_stun = parser::is_stun(bytes);
    assert!(is_stun || !parser::nominates(bytes));
    if let Some(ufrag) = parser::local_ufrag(bytes) {
        assert!(ufrag.len() < bytes.len() && !ufrag.contains(':'));
    }
}

/// By OpenSSL, with a key of `secp224r1`.
const CERTIFICATE: &[u8] = include_bytes!("../tests/data/p224-certificate.der");
/// [`SIGNED`], signed with its key.
const SIGNATURE: &[u8] = include_bytes!("../tests/data/p224-signature.der");
const SIGNED: &[u8] = b"the data";

/// Any bytes as the certificate of a peer that has signed with a P-224 key, or as a signature by that key: only what the key has signed
/// is taken for signed. The first byte says which, and by which hash.
///
/// # Panics
/// Where that does not hold.
pub fn peer_key(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let (certificate, signature) = if how & 1 == 0 { (bytes, SIGNATURE) } else { (CERTIFICATE, bytes) };
    let hash = [HashAlgorithm::SHA256, HashAlgorithm::SHA384, HashAlgorithm::SHA1][usize::from(how >> 1) % 3];
    let verifier = peer_key::provider().signature_verification;
    let is_signed = |data: &[u8]| {
        verifier.verify_signature(certificate, data, signature, hash, SignatureAlgorithm::ECDSA).is_ok()
    };
    if is_signed(SIGNED) {
        assert_eq!(
            peer_key::p224_key(certificate),
            peer_key::p224_key(CERTIFICATE),
            "another key has signed"
        );
        assert_eq!(hash, HashAlgorithm::SHA256, "another hash was signed");
        assert!(!is_signed(b"the date"), "something else was signed");
    }
}
