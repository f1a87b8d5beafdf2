//! A browser-like client: str0m behind the same words as on the server's side, one offer with all lines, synthetic media.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use antiphon_base::{MediaKind, ParticipantId, ParticipantKey, Source, VideoCodec};
use antiphon_shard::{Grants, IceParameters, JoinRequest, Joined, Transport};
use antiphon_wire::control::{
    ClientMessage, LeaveReason, ParticipantInfo, ParticipantKind, Policy, Request, ServerMessage,
    SlotAssignment,
};
use antiphon_wire::topic;
use str0m::bwe::{Bitrate, BweKind};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::config::DtlsCert;
use str0m::media::{
    Direction, KeyframeRequestKind, MediaKind as StrKind, Mid, Pt, Simulcast, SimulcastLayer,
};
use str0m::net::{Protocol, Receive, TcpType};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};

use crate::dtls::{self, KeySlot};
use crate::extension;
use crate::net::Datagram;
use crate::playout::Decoder;
use crate::seals::Seals;
use crate::sender::Sender;
use crate::stamp;

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

/// A packet that came in a slot.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// Extended sequence number.
    pub seq: u64,
    /// RTP time, 32 bits.
    pub rtp_time: u32,
    /// Marker bit.
    pub marker: bool,
    /// First CSRC.
    pub csrc: Option<u32>,
    /// RFC 6464 level as -dBov.
    pub level: Option<u8>,
    /// How long pictures shall be kept from here on (`playout-delay`).
    pub kept: Option<Duration>,
    /// What is in it; `None`: not made by [`crate::stamp`].
    pub parsed: Option<stamp::Parsed>,
    /// What it repeats of earlier packets (RED).
    pub repeated: Vec<stamp::Parsed>,
    /// Bytes of payload.
    pub bytes: usize,
}

/// A receive line and everything that came on it.
#[derive(Debug)]
pub struct SlotLog {
    /// The m-line.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// In order of arrival.
    pub packets: Vec<Received>,
    /// Of the newest packet.
    pub ssrc: Option<u32>,
    decoder: Decoder,
    asked: Option<Instant>,
}

impl SlotLog {
    fn new(mid: String, kind: MediaKind) -> Self {
        Self { mid, kind, packets: Vec::new(), ssrc: None, decoder: Decoder::default(), asked: None }
    }
}

/// One client.
pub struct Client {
    /// Its number; the publisher in its stamps.
    pub number: u16,
    /// What it is like.
    pub profile: Profile,
    /// Where it is.
    pub address: SocketAddr,
    /// What the server said at joining.
    pub joined: Joined,
    /// The server's answer.
    pub answer: String,
    /// ICE and DTLS are up since.
    pub connected: Option<Instant>,
    /// The control channel is open since.
    pub control_open: Option<Instant>,
    /// The connection has ended.
    pub closed: Option<Instant>,
    /// Neither hears nor says anything any more.
    pub vanished: bool,
    /// Since when.
    pub vanished_at: Option<Instant>,
    /// Control messages with the times of their arrival.
    pub messages: Vec<(Instant, ServerMessage)>,
    /// The roster as told.
    pub roster: BTreeMap<ParticipantId, ParticipantInfo>,
    /// Holes seen in the roster's sequence.
    pub roster_holes: u32,
    /// What stands in the slots as told, by mid.
    pub assigned: BTreeMap<String, SlotAssignment>,
    /// Its receive lines, audio first.
    pub slots: Vec<SlotLog>,
    /// Tracks that it sends.
    pub senders: Vec<Sender>,
    /// Messages on topics with the times of their arrival, and how many were lost before each.
    pub data: Vec<(Instant, topic::Message, u32)>,
    /// How much it was told by REMB to send at most, in bits per second, with the times.
    pub bounds: Vec<(Instant, u64)>,
    /// What the server has sealed for it, where [`crate::World::opens`].
    pub seals: Seals,
    rtc: Rtc,
    deadline: Instant,
    restarting: Option<SdpPendingOffer>,
    channel: Option<ChannelId>,
    /// For messages on topics: reliable, lossy.
    data_channels: [Option<ChannelId>; 2],
    data_open: [bool; 2],
    publications: VecDeque<topic::Publication>,
    roster_seq: Option<u64>,
    last_id: u32,
    pending: Vec<Vec<u8>>,
    /// The channel takes no more until something is heard.
    blocked: bool,
    lines: BTreeMap<Source, Mid>,
}

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

fn candidate(address: SocketAddr, transport: Transport) -> Candidate {
    let made = match transport {
        Transport::Udp => Candidate::host(address, "udp"),
        Transport::Tcp => Candidate::builder().tcp().host(address).tcptype(TcpType::Active).build(),
    };
    made.expect("an address and a protocol make one")
}

/// Checks of ICE that may stay unanswered: the first ones are close together, later ones three seconds apart.
const PATIENT_CHECKS: usize = 15;
/// The payload type of RED, as browsers offer it.
const RED: u8 = 63;

impl Client {
    /// How long it has been connected until `now`, or was.
    pub fn lifetime(&self, now: Instant) -> Duration {
        let end = self.closed.or(self.vanished_at).unwrap_or(now);
        self.connected.map_or(Duration::ZERO, |since| end.saturating_duration_since(since))
    }

    /// Its id.
    pub fn id(&self) -> ParticipantId {
        self.joined.id.clone()
    }

    /// Its number in the room.
    pub fn key(&self) -> ParticipantKey {
        self.joined.key
    }

    /// Begins to send a source; video at `fps`. A camera sends all its layers.
    pub fn start(&mut self, now: Instant, source: Source, fps: u32) {
        let mid = *self.lines.get(&source).expect("the client has offered that line");
        let media = self.rtc.media(mid).expect("the answer has that line");
        let pt = *media.remote_pts().first().expect("the server takes that line");
        let red = self.profile.red && source.kind() == MediaKind::Audio;
        let rids: Vec<Option<&'static str>> = match source {
            Source::Camera if !self.profile.rids.is_empty() => {
                self.profile.rids.iter().copied().map(Some).collect()
            }
            _ => vec![None],
        };
        for (layer, rid) in (0..).zip(rids) {
            let old = self.senders.iter_mut().find(|s| (s.source, s.layer) == (source, layer));
            if let Some(old) = old {
                old.resume(now);
            } else {
                let interval = match source.kind() {
                    MediaKind::Audio => self.profile.packet_time,
                    MediaKind::Video => Duration::from_secs(1) / fps,
                };
                let mut sender = Sender::new(self.number, (source, layer), rid, (mid, pt), now, interval);
                sender.codec = self.profile.codec;
                sender.red = red.then(|| Pt::from(RED));
                self.senders.push(sender);
            }
        }
    }

    /// Stops sending a source.
    pub fn stop(&mut self, source: Source) {
        for sender in self.senders.iter_mut().filter(|s| s.source == source) {
            sender.stopped = true;
        }
    }

    /// How loud its microphone is, -dBov.
    pub fn speak(&mut self, level: u8) {
        for sender in self.senders.iter_mut().filter(|s| s.source == Source::Microphone) {
            sender.level = level;
        }
    }

    /// Sends a request; gives its id.
    pub fn say(&mut self, request: Request) -> u32 {
        self.last_id += 1;
        let message = ClientMessage { id: self.last_id, request };
        let bytes = serde_json::to_vec(&message).expect("no map with non-text keys");
        self.say_bytes(bytes);
        self.last_id
    }

    /// Sends anything on the control channel, at its next round.
    pub fn say_bytes(&mut self, bytes: Vec<u8>) {
        self.pending.push(bytes);
    }

    /// Opens the channels for messages on topics, as a browser does once it is connected.
    pub fn open_data(&mut self) {
        for (channel, (label, reliability)) in self.data_channels.iter_mut().zip([
            ("data", Reliability::Reliable),
            ("data-lossy", Reliability::MaxRetransmits { retransmits: 0 }),
        ]) {
            let ordered = reliability == Reliability::Reliable;
            let config =
                ChannelConfig { label: label.to_owned(), ordered, reliability, ..ChannelConfig::default() };
            *channel = Some(self.rtc.direct_api().create_data_channel(config));
        }
    }

    /// Sends a message on a topic as soon as its channel is open.
    pub fn publish(&mut self, publication: topic::Publication) {
        self.publications.push_back(publication);
    }

    fn flush_data(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        while let Some(next) = self.publications.front() {
            let place = usize::from(next.lossy);
            let Some(id) = self.data_channels[place].filter(|_| self.data_open[place]) else { return };
            let Some(mut channel) = self.rtc.channel(id) else { return };
            if !channel.write(true, &next.to_bytes()).unwrap_or(false) {
                return;
            }
            self.publications.pop_front();
            self.drain(now, out);
        }
    }

    /// The reply to a request.
    pub fn reply(&self, id: u32) -> Option<&ServerMessage> {
        let is = |m: &&ServerMessage| matches!(m, ServerMessage::Reply { id: got, .. } if *got == id);
        self.messages.iter().map(|(_, m)| m).find(is)
    }

    /// Why the server let it go.
    pub fn closed_reason(&self) -> Option<LeaveReason> {
        self.messages.iter().find_map(|(_, m)| match m {
            ServerMessage::Closed { reason } => Some(*reason),
            _ => None,
        })
    }

    /// Asks for a key frame in a slot.
    pub fn request_keyframe(&mut self, slot: usize) {
        if let Some(ssrc) = self.slots[slot].ssrc
            && let Some(rx) = self.rtc.direct_api().stream_rx(&ssrc.into())
        {
            rx.request_keyframe(KeyframeRequestKind::Pli);
        }
    }

    /// Tells the server by REMB how much it can receive. `false`: nothing has come in that slot yet.
    pub fn request_remb(&mut self, slot: usize, bps: u64) -> bool {
        let Some(ssrc) = self.slots[slot].ssrc else { return false };
        let mut api = self.rtc.direct_api();
        let Some(rx) = api.stream_rx(&ssrc.into()) else { return false };
        rx.request_remb(Bitrate::bps(bps));
        true
    }

    /// Begins an ICE restart; gives its new user fragment and password.
    pub fn begin_restart(&mut self) -> (String, String) {
        let mut api = self.rtc.sdp_api();
        let credentials = api.ice_restart(false);
        let (_, pending) = api.apply().expect("a restart is to be negotiated");
        self.restarting = Some(pending);
        (credentials.ufrag, credentials.pass)
    }

    /// Takes the server's parameters of the restart that was begun.
    pub fn end_restart(&mut self, theirs: &IceParameters) {
        let Some(pending) = self.restarting.take() else { return };
        let line = |l: &str| match l.split_once(':') {
            Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{}\r\n", theirs.ufrag),
            Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{}\r\n", theirs.pwd),
            // What is of another session is passed over.
            _ if l.starts_with("a=candidate:") => String::new(),
            _ => format!("{l}\r\n"),
        };
        self.answer = self.answer.lines().map(line).collect();
        let answer = SdpAnswer::from_sdp_string(&self.answer).expect("the answer still parses");
        self.rtc
            .sdp_api()
            .accept_answer(pending, answer)
            .expect("it is the answer of before with other credentials");
        for candidate in &theirs.candidates {
            let candidate = Candidate::from_sdp_string(candidate).expect("the server's candidates parse");
            self.rtc.add_remote_candidate(candidate);
        }
        self.rtc.add_local_candidate(candidate(self.address, self.profile.transport));
    }

    /// Ends the connection with good-bye.
    pub fn close(&mut self) {
        let _ = self.rtc.close();
    }

    /// When to call [`Client::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.vanished || self.closed.is_some() {
            return None;
        }
        let media = self.senders.iter().filter(|s| self.connected.is_some() && !s.stopped).map(|s| s.next);
        media.chain([self.deadline]).min()
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &Datagram, out: &mut Vec<Datagram>) {
        let protocol = match self.profile.transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        };
        let receive = Receive::new(protocol, datagram.source, self.address, &datagram.bytes);
        let Ok(receive) = receive else { return };
        if self.vanished || self.closed.is_some() {
            return;
        }
        self.blocked = false;
        if self.rtc.handle_input(Input::Receive(now, receive)).is_err() {
            self.closed = Some(now);
        }
        self.drain(now, out);
    }

    /// Sends media that is due, and lets str0m do what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        if self.connected.is_some() {
            for sender in self.senders.iter_mut().filter(|s| !s.stopped) {
                sender.send_due(now, &mut self.rtc);
            }
        }
        if self.rtc.handle_input(Input::Timeout(now)).is_err() {
            self.closed = Some(now);
        }
        self.drain(now, out);
        if !self.pending.is_empty() {
            self.flush(now, out);
        }
        self.flush_data(now, out);
    }

    /// Something waits to be said: do it now.
    pub fn is_waiting(&self) -> bool {
        let speaks = self.publications.front().is_some_and(|p| self.data_open[usize::from(p.lossy)]);
        speaks || (!self.pending.is_empty() && self.control_open.is_some() && !self.blocked)
    }

    fn flush(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        let Some(id) = self.channel else { return };
        while let Some(bytes) = self.pending.first() {
            let Some(mut channel) = self.rtc.channel(id) else { return };
            if !channel.write(false, bytes).unwrap_or(false) {
                self.blocked = true;
                return;
            }
            self.pending.remove(0);
            self.drain(now, out);
        }
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.deadline = at;
                    return;
                }
                Ok(Output::Transmit(t)) => out.push(Datagram {
                    source: self.address,
                    destination: t.destination,
                    bytes: match self.profile.legacy {
                        true => dtls::legacy::offer(&t.contents),
                        false => t.contents.to_vec(),
                    },
                }),
                Ok(Output::Event(event)) => self.on_event(now, event),
                Err(_) => {
                    self.closed = Some(now);
                    return;
                }
            }
        }
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected => self.connected = self.connected.or(Some(now)),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                self.closed = self.closed.or(Some(now));
            }
            Event::ChannelOpen(id, _) if self.data_channels.contains(&Some(id)) => {
                let opened = self.data_channels.map(|c| c == Some(id));
                self.data_open = [self.data_open[0] | opened[0], self.data_open[1] | opened[1]];
            }
            Event::ChannelData(data) if self.data_channels.contains(&Some(data.id)) => {
                let (message, lost) = topic::Message::parse(&data.data).expect("the server's messages parse");
                self.data.push((now, message, lost));
            }
            Event::ChannelOpen(id, _) => {
                self.channel = Some(id);
                self.control_open = Some(now);
            }
            Event::ChannelData(data) => {
                let message: ServerMessage =
                    serde_json::from_slice(&data.data).expect("the server's messages parse");
                self.on_message(&message);
                self.messages.push((now, message));
            }
            Event::KeyframeRequest(request) => {
                let rid = request.rid.map(|r| r.to_string());
                for sender in self.senders.iter_mut().filter(|s| s.mid() == request.mid) {
                    if rid.is_none() || rid.as_deref() == sender.rid {
                        sender.keyframe_requests.push(now);
                        sender.keyframe_wanted = true;
                    }
                }
            }
            Event::RtpPacket(packet) => self.on_rtp(now, &packet),
            Event::EgressBitrateEstimate(BweKind::Remb { estimate, .. }) => {
                self.bounds.push((now, estimate.as_u64()));
            }
            _ => {}
        }
    }

    fn on_rtp(&mut self, now: Instant, packet: &RtpPacket) {
        let ssrc = packet.header.ssrc;
        let mid = self.rtc.direct_api().stream_rx(&ssrc).map(|rx| rx.mid().to_string());
        let Some(slot) = self.slots.iter_mut().find(|s| Some(&s.mid) == mid.as_ref()) else { return };
        slot.ssrc = Some(*ssrc);
        let header = &packet.header;
        let mut blocks = vec![&packet.payload[..]];
        if *header.payload_type == RED {
            blocks = stamp::red_blocks(&packet.payload).unwrap_or_default();
        }
        let primary = blocks.pop().unwrap_or_default();
        let parsed = match slot.kind {
            MediaKind::Audio => stamp::parse(primary),
            MediaKind::Video => {
                let raw = header.ext_vals.user_values.get::<extension::Raw>().map(|raw| &*raw.0);
                stamp::other::parse(self.profile.codec, primary).map(|parsed| parsed.numbered(raw))
            }
        };
        slot.packets.push(Received {
            at: now,
            seq: *packet.seq_no,
            rtp_time: header.timestamp,
            marker: header.marker,
            csrc: (header.csrc_count > 0).then(|| header.csrc[0]),
            level: header.ext_vals.audio_level.map(i8::unsigned_abs),
            kept: header.ext_vals.play_delay_min.map(Duration::from),
            parsed,
            repeated: blocks.into_iter().filter_map(stamp::parse).collect(),
            bytes: packet.payload.len(),
        });
        let Some(patience) = self.profile.patience.filter(|_| slot.kind == MediaKind::Video) else { return };
        slot.packets.last().into_iter().for_each(|p| slot.decoder.add(p));
        let since = slot.decoder.stuck().max(slot.asked);
        if slot.decoder.stuck().is_some() && since.is_some_and(|at| now - at > patience) {
            slot.asked = Some(now);
            if let Some(rx) = self.rtc.direct_api().stream_rx(&ssrc) {
                rx.request_keyframe(KeyframeRequestKind::Pli);
            }
        }
    }

    fn on_message(&mut self, message: &ServerMessage) {
        let seq = match message {
            ServerMessage::Roster { seq, participants } => {
                self.roster = participants.iter().map(|p| (p.id.clone(), p.clone())).collect();
                self.roster_seq = Some(*seq);
                return;
            }
            ServerMessage::ParticipantJoined { seq, participant }
            | ServerMessage::ParticipantUpdated { seq, participant } => {
                self.roster.insert(participant.id.clone(), participant.clone());
                *seq
            }
            ServerMessage::ParticipantLeft { seq, participant, .. } => {
                self.roster.remove(participant);
                *seq
            }
            ServerMessage::ScreenStarted { seq, .. } | ServerMessage::ScreenStopped { seq, .. } => *seq,
            ServerMessage::Slots { slots } => {
                for slot in slots {
                    self.assigned.insert(slot.mid.clone(), slot.clone());
                }
                return;
            }
            _ => return,
        };
        self.roster_holes += u32::from(self.roster_seq.is_none_or(|old| old + 1 != seq));
        self.roster_seq = Some(seq);
    }
}

/// Longest that a client waits for its next round while nothing happens.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
