//! Doors for the fuzz targets to parsers that are not public.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use antiphon_base::{ParticipantId, RoomName};
use antiphon_wire::control::{ParticipantKind, Policy};

use crate::config::Config;
use crate::engine::{Address, Door};
use crate::join::{Grants, JoinRequest};
use crate::reach::Reach;
use crate::stun as parser;

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

/// Any text as an offer; `None`: it was refused.
pub fn offer(text: &str) -> Option<Answered> {
    static DOOR: LazyLock<Door> = LazyLock::new(|| {
        Door::new(&Config { max_slots: MAX_SLOTS, ..Config::default() }).expect("a certificate can be made")
    });
    let local = SocketAddr::from(([10, 0, 0, 1], 7_701));
    let request = JoinRequest {
        id: ParticipantId::new("fuzz").expect("a good id"),
        name: String::new(),
        kind: ParticipantKind::WebRtc,
        grants: Grants { publish: true, subscribe: true, moderate: false },
        policy: Policy::default(),
        muted: Vec::new(),
        resume: None,
        only: None,
    };
    let room = RoomName::new("fuzz").expect("a good name");
    let reach = Arc::new(Reach::new(&[local.ip()], &[], Some(local.port()), Some(local.port())));
    let to = Address { shard: 0, reach: &reach };
    let prepared = DOOR.prepare(to, &room, text, request, Instant::now()).ok()?;
    let slots = &prepared.negotiated.slots;
    let slots = slots.audio.len() + slots.video.len() + usize::from(slots.screen.is_some());
    Some(Answered { answer: prepared.negotiated.answer, slots })
}

/// Any bytes as a datagram of a stranger.
pub fn stun(bytes: &[u8]) {
    let is_stun = parser::is_stun(bytes);
    assert!(is_stun || !parser::nominates(bytes));
    if let Some(ufrag) = parser::local_ufrag(bytes) {
        assert!(ufrag.len() < bytes.len() && !ufrag.contains(':'));
    }
}
