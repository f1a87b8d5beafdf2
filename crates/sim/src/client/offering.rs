//! What a client offers before it is one: its lines, its codecs, its extensions.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use antiphon_base::{MediaKind, Source, VideoCodec};
use antiphon_shard::{Joined, Transport};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::config::DtlsCert;
use str0m::media::{Direction, MediaKind as StrKind, Mid, Simulcast, SimulcastLayer};
use str0m::net::TcpType;
use str0m::{Candidate, Rtc};

use super::{Client, Profile, SlotLog};
use crate::dtls::{self, KeySlot};
use crate::extension;
use crate::seals::Seals;

/// Checks of ICE that may stay unanswered: the first ones are close together, later ones three seconds apart.
const PATIENT_CHECKS: usize = 15;

/// A client that has made its offer.
pub struct Offering {
    /// The offer.
    pub offer: String,
    profile: Profile,
    number: u16,
    address: SocketAddr,
    rtc: Rtc,
    keys: KeySlot,
    pending: Option<SdpPendingOffer>,
    lines: BTreeMap<Source, Mid>,
    slots: Vec<SlotLog>,
}

impl Offering {
    /// Answers an offer of the server's; the answer stands where the offer else does.
    pub(crate) fn answering(
        now: Instant,
        (number, address): (u16, SocketAddr),
        certificate: DtlsCert,
        profile: Profile,
        theirs: &str,
    ) -> Self {
        let config = Rtc::builder()
            .set_crypto_provider(dtls::provider(profile.legacy))
            .set_dtls_cert(certificate)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true);
        let (mut rtc, keys) = dtls::watch(|| config.set_rtp_mode(true).set_stats_interval(None).build(now));
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("an address and UDP make one"));
        let slot = |section: &str| {
            let kind = if section.starts_with("audio") { MediaKind::Audio } else { MediaKind::Video };
            let mid = section.lines().find_map(|l| l.strip_prefix("a=mid:")).unwrap_or_default().to_owned();
            SlotLog::new(mid, kind)
        };
        let slots = theirs.split("\r\nm=").skip(1).map(slot).collect();
        let parsed = SdpOffer::from_sdp_string(theirs).expect("our offer parses");
        let offer = rtc.sdp_api().accept_offer(parsed).expect("our offer can be taken").to_sdp_string();
        Self { offer, profile, number, address, rtc, keys, pending: None, lines: BTreeMap::new(), slots }
    }

    /// Makes the offer of a client at `address`.
    ///
    /// # Panics
    /// Where str0m cannot offer what the profile says.
    pub fn new(
        now: Instant,
        number: u16,
        address: SocketAddr,
        certificate: DtlsCert,
        profile: Profile,
    ) -> Self {
        let mut config = Rtc::builder();
        if profile.patience.is_some() {
            config.set_max_stun_retransmits(PATIENT_CHECKS);
        }
        let config = config
            .set_crypto_provider(dtls::provider(profile.legacy))
            .set_dtls_cert(certificate)
            .clear_codecs()
            .enable_opus(true, profile.red)
            .enable_vp8(profile.codec == VideoCodec::Vp8)
            .enable_h264(profile.codec == VideoCodec::H264)
            .enable_vp9(profile.codec == VideoCodec::Vp9)
            .enable_av1(profile.codec == VideoCodec::Av1)
            .set_rtp_mode(true)
            .set_stats_interval(None);
        let config = if profile.transport_feedback {
            extension::with_playout_delay(config)
        } else {
            extension::without_transport_feedback(config)
        };
        let config = match profile.codec {
            VideoCodec::Av1 => config.set_extension(extension::ID, extension::dependency()),
            _ => config,
        };
        let (mut rtc, keys) = dtls::watch(|| config.build(now));
        rtc.add_local_candidate(candidate(address, profile.transport));
        let mut api = rtc.sdp_api();
        let mut lines = BTreeMap::new();
        let mut slots = Vec::new();
        if profile.sends {
            for (kind, source) in [
                (StrKind::Audio, Source::Microphone),
                (StrKind::Audio, Source::ScreenAudio),
                (StrKind::Video, Source::Camera),
                (StrKind::Video, Source::Screen),
            ] {
                let simulcast = (source == Source::Camera && !profile.rids.is_empty()).then(|| {
                    let mut simulcast = Simulcast::new();
                    for rid in &profile.rids {
                        simulcast.add_send_layer(SimulcastLayer::new(rid));
                    }
                    simulcast
                });
                let both = profile.both_ways && matches!(source, Source::Microphone | Source::Camera);
                let direction = if both { Direction::SendRecv } else { Direction::SendOnly };
                let mid = api.add_media(kind, direction, None, None, simulcast);
                if both {
                    slots.push(SlotLog::new(mid.to_string(), source.kind()));
                }
                lines.insert(source, mid);
            }
        }
        for (count, kind, of) in [
            (profile.audio_slots, StrKind::Audio, MediaKind::Audio),
            (profile.video_slots, StrKind::Video, MediaKind::Video),
        ] {
            for _ in 0..count {
                let mid = api.add_media(kind, Direction::RecvOnly, None, None, None).to_string();
                slots.push(SlotLog::new(mid, of));
            }
        }
        if profile.control {
            api.add_channel("control".into());
        }
        let (offer, pending) = api.apply().expect("lines were added");
        let (offer, pending) = (offer.to_sdp_string(), Some(pending));
        Self { offer, profile, number, address, rtc, keys, pending, lines, slots }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn publishes(&self) -> bool {
        self.profile.grants.publish
    }

    /// Takes the answer.
    ///
    /// # Panics
    /// With an answer that does not fit the offer.
    pub fn accept(mut self, now: Instant, joined: Joined) -> Client {
        if let Some(pending) = self.pending {
            let answer = SdpAnswer::from_sdp_string(&joined.answer).expect("our answer parses");
            self.rtc.sdp_api().accept_answer(pending, answer).expect("our answer fits the offer");
        }
        Client {
            number: self.number,
            profile: self.profile,
            address: self.address,
            answer: joined.answer.clone(),
            joined,
            connected: None,
            control_open: None,
            early: Vec::new(),
            closed: None,
            vanished: false,
            vanished_at: None,
            messages: Vec::new(),
            roster: BTreeMap::new(),
            roster_holes: 0,
            assigned: BTreeMap::new(),
            slots: self.slots,
            senders: Vec::new(),
            data: Vec::new(),
            bounds: Vec::new(),
            seals: Seals::new(self.keys),
            rtc: self.rtc,
            deadline: now,
            restarting: None,
            channel: None,
            data_channels: [None; 2],
            data_open: [false; 2],
            publications: VecDeque::new(),
            roster_seq: None,
            last_id: 0,
            pending: Vec::new(),
            blocked: false,
            lines: self.lines,
        }
    }
}

pub(super) fn candidate(address: SocketAddr, transport: Transport) -> Candidate {
    let made = match transport {
        Transport::Udp => Candidate::host(address, "udp"),
        Transport::Tcp => Candidate::builder().tcp().host(address).tcptype(TcpType::Active).build(),
    };
    made.expect("an address and a protocol make one")
}
