//! What a client is like and how it joins.

use std::time::Duration;

use antiphon_base::{ParticipantId, Source, VideoCodec};
use antiphon_shard::{Grants, JoinRequest, Transport};
use antiphon_wire::control::{ParticipantKind, Policy};

use crate::stamp::nested::Mode;

/// What a client is like and how it joins.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its id.
    pub id: String,
    /// Name to show.
    pub name: String,
    /// By what request it comes.
    pub kind: ParticipantKind,
    /// What it may do.
    pub grants: Grants,
    /// What it wants to receive.
    pub policy: Policy,
    /// Muted from the beginning.
    pub muted: Vec<Source>,
    /// Rids of the camera, lowest layer first; empty: no simulcast.
    pub rids: Vec<&'static str>,
    /// Spatial layers of the camera in one stream, with three temporal ones; not with rids.
    pub mode: Option<Mode>,
    /// Offers sending lines.
    pub sends: bool,
    /// It also receives on the lines of its microphone and its camera, as lines do that nobody gave a direction.
    pub both_ways: bool,
    /// What its video is sent in, and all that it decodes. Of AV1 it also speaks the dependency descriptor.
    pub codec: VideoCodec,
    /// It speaks no AES-GCM in SRTP, as old devices.
    pub legacy: bool,
    /// Receive lines for audio.
    pub audio_slots: usize,
    /// Receive lines for video; the last of several is for the screen.
    pub video_slots: usize,
    /// Offers a control channel.
    pub control: bool,
    /// Token of an earlier connection.
    pub resume: Option<String>,
    /// Receive from this one only (WHEP).
    pub only: Option<ParticipantId>,
    /// Offers transport-wide feedback; as browsers do.
    pub transport_feedback: bool,
    /// By which protocol it comes.
    pub transport: Transport,
    /// Offers audio with redundancy (RED), as Chromium does.
    pub red: bool,
    /// How much of a voice is in a packet: 20 ms as browsers send by default, up to 60 ms.
    pub packet_time: Duration,
    /// Asks for a key frame when pictures cannot be decoded for so long, and does not give up its way for half a minute
    /// (RFC 7675, 5.1), as browsers; `None`: never asks, and str0m's nine checks.
    pub patience: Option<Duration>,
}

impl Profile {
    /// A participant like the web client: all sending lines, three audio and four video slots.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: format!("Name of {id}"),
            kind: ParticipantKind::WebRtc,
            grants: Grants { publish: true, subscribe: true, moderate: false },
            policy: Policy::default(),
            muted: Vec::new(),
            rids: Vec::new(),
            mode: None,
            sends: true,
            both_ways: false,
            codec: VideoCodec::Vp8,
            legacy: false,
            audio_slots: 3,
            video_slots: 4,
            control: true,
            resume: None,
            only: None,
            transport_feedback: true,
            transport: Transport::Udp,
            red: false,
            packet_time: Duration::from_millis(20),
            patience: None,
        }
    }

    /// With a camera of three layers.
    #[must_use]
    pub fn simulcast(mut self) -> Self {
        self.rids = vec!["q", "h", "f"];
        self
    }

    /// Receives only, in these slots.
    #[must_use]
    pub fn listener(mut self, audio_slots: usize, video_slots: usize) -> Self {
        self.sends = false;
        self.audio_slots = audio_slots;
        self.video_slots = video_slots;
        self
    }

    /// What the server is told of it.
    ///
    /// # Panics
    /// With an id that is none.
    pub fn request(&self) -> JoinRequest {
        JoinRequest {
            id: ParticipantId::new(&self.id).expect("tests use good ids"),
            name: self.name.clone(),
            kind: self.kind,
            grants: self.grants,
            policy: self.policy.clone(),
            muted: self.muted.clone(),
            resume: self.resume.clone(),
            only: self.only.clone(),
        }
    }
}
