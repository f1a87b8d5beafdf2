//! One WebRTC connection: str0m behind our own words. Nothing of str0m leaves this file, [`crate::stream`] and [`crate::sdp`].

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use antiphon_base::{Codec, MediaKind, Source};
use antiphon_room::slot::Outgoing;
use antiphon_room::{Bandwidth, SlotId};
use antiphon_wire::rtp::Descriptor;
use antiphon_wire::rtp::dependency::Dependency;
use str0m::bwe::Bitrate;
use str0m::channel::ChannelId;
use str0m::media::{KeyframeRequestKind, Mid, Pt, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, Ssrc};
use str0m::{Event, IceConnectionState, Input, Output, Rtc};

use crate::clock::Clock;
use crate::demux::{is_rtcp, is_rtp};
use crate::egress::keys::KeySlot;
use crate::egress::{Arena, Feedback, Path, Sender};
use crate::extension::RawDependency;
use crate::genuine::Genuine;
use crate::happening::{Happening, Ingress, RtpIn};
use crate::holdings::Holdings;
use crate::last_said::LastSaid;
use crate::net::Received;
use crate::peer::MAX_ADDRESSES;
use crate::prefetch::prefetch;
use crate::reach::Reach;
use crate::redundancy;
use crate::restart::Sessions;
use crate::stream::Stream;
use crate::stun;
use crate::transport::{Remote, Transport};

/// Label of the control channel.
const CONTROL_LABEL: &str = "control";
/// Labels of the channels for messages on topics: reliable ones, and those that may be lost.
const DATA_LABEL: &str = "data";
const LOSSY_LABEL: &str = "data-lossy";
/// Bytes of messages on topics that wait in SCTP, by lossy or not. What is lossy waits where the freshest wins; what is
/// reliable leaves room for control messages.
const DATA_BUFFERED: [usize; 2] = [64 * 1024, 4 * 1024];
/// Events between two drains of the shard: one datagram gives a handful.
pub(crate) const MAX_EVENTS: usize = 4_096;
/// A way by which no binding request came for so long is given up for another: browsers check at least every 6 s
/// (RFC 7675, 5.1).
const PATH_SILENCE: Duration = Duration::from_secs(7);
/// What a peer is told that shall send as much as it likes: more than any browser does.
const UNBOUNDED_BPS: u64 = 50_000_000;
/// What str0m wants to do for who only listens (ICE, DTLS, SCTP; seconds in between) waits so long for a packet to be sent.
const RTC_PATIENCE: Duration = Duration::from_millis(25);
/// How often a bound is said.
const BOUND_INTERVAL: Duration = Duration::from_secs(1);
/// A STUN binding success response (RFC 8489, section 5), by which we know that a request was valid.
const STUN_BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];

/// What a sending line of the client is for.
#[derive(Debug, Clone)]
pub(crate) struct InLine {
    pub(crate) mid: Mid,
    pub(crate) source: Source,
    /// Simulcast rids as offered, lowest layer first; empty without simulcast.
    pub(crate) rids: Vec<Rid>,
}

/// What the payload types of what comes in mean.
#[derive(Debug, Clone, Default)]
pub(crate) struct Codecs {
    pub(crate) plain: Vec<(Pt, Codec)>,
    /// RED (RFC 2198), and what it is of.
    pub(crate) red: Vec<(Pt, Pt)>,
}

/// One connection.
pub(crate) struct Connection {
    rtc: Rtc,
    /// Credentials of ICE.
    pub(crate) sessions: Sessions,
    /// When str0m wants to be called, or at once.
    rtc_deadline: Instant,
    rtc_waits: bool,
    inputs: Vec<InLine>,
    /// Everything sent but ICE, DTLS and SCTP.
    pub(crate) sender: Sender,
    keys: KeySlot,
    /// What its candidates are.
    reach: Arc<Reach>,
    /// The way to the peer that it has nominated.
    path: Option<Path>,
    /// When a valid binding request last came by it.
    path_seen: Instant,
    /// DTLS is up.
    connected: bool,
    /// The way that the datagram at hand came.
    at: Option<Path>,
    /// It nominates that way.
    nominates: bool,
    /// str0m has answered it: it was a valid binding request.
    answered: bool,
    /// Ways by which valid binding requests came, the latest last.
    ways: Vec<Path>,
    closing: bool,
    genuine: Genuine,
    feedback: Vec<Feedback>,
    streams: Vec<Stream>,
    codecs: Codecs,
    events: VecDeque<Happening>,
    control: Option<ChannelId>,
    /// For messages on topics, reliable and lossy.
    data: [Option<ChannelId>; 2],
    last_said: LastSaid,
    clock: Clock,
    /// When the last valid binding request came.
    consent: Instant,
    /// What it was told to send at most (`None`: as much as it likes), if it was told anything, and when.
    bound: Option<Option<u64>>,
    bound_told: Option<Instant>,
    /// Smallest seen difference between our clock and the sender's NTP clock, in us: see [`Connection::on_report`].
    ntp_offset_us: Option<i64>,
    pub(crate) counters: Counters,
}

/// Counts of one connection.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Counters {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) keyframes_requested: u64,
    pub(crate) events_dropped: u64,
    /// RTP of an SSRC not heard before that is not sealed with the peer's key.
    pub(crate) forged: u64,
    /// Packets for a TCP connection that has ended.
    pub(crate) lost_ways: u64,
    /// Lost audio that a later packet repeated; RED that did not parse, or repeated what had come.
    pub(crate) red_recovered: u64,
    pub(crate) red_refused: u64,
    /// What the peer was told to send at most, in bits per second; 0: nothing was.
    pub(crate) bound_bps: u64,
}

impl Connection {
    /// `sender` has all lines that `rtc` sends on, and `rtc` no stream of its own for them; its keys come by `keys`.
    pub(crate) fn new(
        (rtc, keys): (Rtc, KeySlot),
        (sessions, reach): (Sessions, Arc<Reach>),
        inputs: Vec<InLine>,
        sender: Sender,
        codecs: Codecs,
        now: Instant,
    ) -> Self {
        Self {
            rtc,
            sessions,
            rtc_deadline: now,
            rtc_waits: true,
            inputs,
            sender,
            keys,
            reach,
            path: None,
            path_seen: now,
            connected: false,
            at: None,
            nominates: false,
            answered: false,
            ways: Vec::new(),
            closing: false,
            genuine: Genuine::default(),
            feedback: Vec::new(),
            streams: Vec::new(),
            codecs,
            events: VecDeque::new(),
            control: None,
            data: [None; 2],
            last_said: LastSaid::default(),
            clock: Clock::new(now),
            consent: now,
            bound: None,
            bound_told: None,
            ntp_offset_us: None,
            counters: Counters::default(),
        }
    }

    /// The shard's clock replaces the one of the preparing thread.
    pub(crate) fn enter(&mut self, clock: Clock, now: Instant) {
        self.clock = clock;
        self.consent = now;
    }

    pub(crate) fn next_event(&mut self) -> Option<Happening> {
        self.events.pop_front()
    }

    /// Time of the last valid binding request (RFC 7675 has no other meaning for an ICE-lite server).
    pub(crate) fn consent(&self) -> Instant {
        self.consent
    }

    /// Begins an orderly end: BYE, SCTP shutdown, close_notify leave with the next finish.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.rtc_waits = true;
        if self.rtc.close().is_err() {
            self.rtc.disconnect();
        }
    }

    /// Writes a control message. `false`: the channel is not open or its buffer is full.
    pub(crate) fn write_control(&mut self, text: &str) -> bool {
        let Some(id) = self.control else { return false };
        self.rtc_waits = true;
        let Some(mut channel) = self.rtc.channel(id) else { return false };
        channel.write(false, text.as_bytes()).unwrap_or(false)
    }

    fn open_data(&mut self, id: ChannelId, lossy: bool) {
        self.data[usize::from(lossy)] = Some(id);
        if let Some(mut channel) = self.rtc.channel(id) {
            channel.set_buffered_amount_low_threshold(DATA_BUFFERED[usize::from(lossy)] / 2);
        }
        self.push(Happening::DataReady);
    }

    fn forget_channel(&mut self, id: ChannelId) {
        for known in self.data.iter_mut().chain([&mut self.control]).filter(|known| **known == Some(id)) {
            *known = None;
        }
    }

    /// Writes a message on a topic. `false`: there is no channel for it, or enough waits in it.
    pub(crate) fn write_data(&mut self, lossy: bool, bytes: &[u8]) -> bool {
        // Who opened one channel only gets everything by it.
        let Some(id) = self.data[usize::from(lossy)].or(self.data[usize::from(!lossy)]) else { return false };
        self.rtc_waits = true;
        let Some(mut channel) = self.rtc.channel(id) else { return false };
        let waiting = channel.buffered_amount();
        if waiting > 0 && waiting + bytes.len() > DATA_BUFFERED[usize::from(lossy)] {
            return false;
        }
        channel.write(true, bytes).unwrap_or(false)
    }

    /// Asks the peer for a keyframe of a layer it sends. `false`: that layer has not been seen.
    pub(crate) fn request_keyframe(&mut self, source: Source, layer: u8) -> bool {
        let carries = |s: &&Stream| {
            let nested = s.spatial_layers > 1 && s.spatial_layers > layer;
            s.source == source && (s.layer == layer || nested)
        };
        let Some(stream) = self.streams.iter().find(carries) else { return false };
        let ssrc = stream.ssrc;
        let mut api = self.rtc.direct_api();
        let Some(rx) = api.stream_rx(&ssrc) else { return false };
        rx.request_keyframe(KeyframeRequestKind::Pli);
        self.rtc_waits = true;
        self.counters.keyframes_requested += 1;
        true
    }

    /// Lets everything out that str0m has; it tells when it wants to be called again.
    fn settle(&mut self, now: Instant, arena: &mut Arena) {
        self.rtc_waits = false;
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.rtc_deadline = at;
                    return;
                }
                Ok(Output::Transmit(t)) => {
                    let is_answer = t.contents.starts_with(&STUN_BINDING_SUCCESS);
                    let remote = Remote { transport: transport(t.proto), address: t.destination };
                    let Some(path) = self.way_to(remote, is_answer) else {
                        self.counters.lost_ways += 1;
                        continue;
                    };
                    if is_answer {
                        self.consent = now;
                        self.learn(path);
                    } else if self.connected {
                        self.last_said.keep(now, &t.contents);
                    }
                    self.follow(now, path, !is_answer);
                    arena.push(path, &t.contents);
                }
                Ok(Output::Event(event)) => self.on_event(event),
                Err(error) => {
                    tracing::debug!(%error, "connection failed");
                    self.rtc.disconnect();
                    self.push(Happening::Closed);
                    self.rtc_deadline = now + Duration::from_secs(3_600);
                    return;
                }
            }
        }
    }

    /// Where what str0m wants to send there leaves, which of our candidates it names: the machine may have another address,
    /// and str0m can go on with a TCP connection that has ended. `None`: there is no way any more.
    fn way_to(&self, remote: Remote, is_answer: bool) -> Option<Path> {
        let leads = |p: &&Path| p.transport == remote.transport && p.destination == remote.address;
        if remote.transport == Transport::Tcp && !is_answer && self.path.is_some() {
            return self.path;
        }
        let known = self.at.as_ref().filter(leads).or_else(|| self.ways.iter().find(leads)).copied();
        let any: IpAddr = match remote.address.is_ipv4() {
            true => Ipv4Addr::UNSPECIFIED.into(),
            false => Ipv6Addr::UNSPECIFIED.into(),
        };
        let guess = Path { transport: Transport::Udp, source: any, destination: remote.address };
        known.or(Some(guess).filter(|_| remote.transport == Transport::Udp))
    }

    /// A valid binding request came by this way.
    fn learn(&mut self, path: Path) {
        self.answered = true;
        if self.ways.last() == Some(&path) {
            return;
        }
        self.ways.retain(|w| *w != path);
        self.ways.push(path);
        if self.ways.len() > MAX_ADDRESSES {
            self.ways.remove(0);
        }
    }

    /// Where media goes.
    pub(crate) fn remote(&self) -> Option<Remote> {
        self.path.map(|p| Remote { transport: p.transport, address: p.destination })
    }

    /// Where media goes, if the peer was heard of there lately.
    pub(crate) fn live_remote(&self, now: Instant) -> Option<Remote> {
        let live = self.connected && now.saturating_duration_since(self.path_seen) <= PATH_SILENCE;
        self.remote().filter(|_| live)
    }

    /// A TCP connection of the peer has ended: media waits until the peer has chosen another way.
    pub(crate) fn lose_way(&mut self, remote: Remote) {
        self.ways.retain(|p| p.transport != remote.transport || p.destination != remote.address);
        if self.remote() == Some(remote) {
            self.path = None;
        }
    }

    /// str0m does not tell the way that was nominated, so it is seen: what is not an answer to a binding request goes that
    /// way. Once media flows another way is taken only when nothing came by the old one for a while: who replays a
    /// peer's binding request from elsewhere must not turn its media away.
    fn follow(&mut self, now: Instant, path: Path, is_nominated: bool) {
        if self.path == Some(path) {
            if !is_nominated {
                self.path_seen = now;
            }
            return;
        }
        let free = self.live_remote(now).is_none() || self.sessions.is_settling(now);
        if (is_nominated || self.nominates) && free {
            self.path = Some(path);
            self.path_seen = now;
        }
    }

    fn push(&mut self, happening: Happening) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(happening);
        } else {
            self.counters.events_dropped += 1;
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected => {
                if let Some(keys) = self.keys.take() {
                    self.sender.arm(&keys);
                }
                self.connected = true;
                self.push(Happening::Connected);
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                self.push(Happening::Closed);
            }
            Event::ChannelOpen(id, label) if label == CONTROL_LABEL && self.control.is_none() => {
                self.control = Some(id);
                self.push(Happening::ControlOpen);
            }
            Event::ChannelOpen(id, label) if label == DATA_LABEL && self.data[0].is_none() => {
                self.open_data(id, false);
            }
            Event::ChannelOpen(id, label) if label == LOSSY_LABEL && self.data[1].is_none() => {
                self.open_data(id, true);
            }
            Event::ChannelData(data) if Some(data.id) == self.control => {
                self.push(Happening::Control(data.data))
            }
            Event::ChannelData(data) if self.data.contains(&Some(data.id)) => {
                self.push(Happening::Data(data.data));
            }
            Event::ChannelBufferedAmountLow(id) if self.data.contains(&Some(id)) => {
                self.push(Happening::DataReady);
            }
            Event::ChannelClose(id) => self.forget_channel(id),
            Event::RtpPacket(packet) => self.on_rtp(packet),
            Event::SenderFeedback(report) => {
                self.on_report(report.received_at, report.sender_info.ntp_time);
            }
            _ => {}
        }
    }

    /// A sender report: arrival less NTP time is clock difference plus one-way delay. The smallest seen is the best
    /// guess; it may grow by 1 ms a report, so that a drifting or stepped clock is followed.
    fn on_report(&mut self, received: Instant, ntp: SystemTime) {
        let Ok(ntp) = ntp.duration_since(UNIX_EPOCH) else { return };
        let (Ok(ours), Ok(theirs)) = (i64::try_from(self.clock.us(received)), i64::try_from(ntp.as_micros()))
        else {
            return;
        };
        let sample = ours.saturating_sub(theirs);
        let kept = self.ntp_offset_us.map_or(sample, |old| sample.min(old.saturating_add(1_000)));
        self.ntp_offset_us = Some(kept);
    }

    fn on_rtp(&mut self, packet: RtpPacket) {
        self.counters.packets += 1;
        self.counters.bytes += packet.payload.len() as u64;
        let Some(stream) = self.stream_of(packet.header.ssrc) else { return };
        let Some(raw) = raw_dependency(&packet) else { return self.take(packet, None) };
        let (at, read) = ((*packet.seq_no, packet.timestamp), stream.read(raw));
        let (packet, waited) = stream.early.admit(at, read.as_ref().map_err(|e| *e), packet);
        if let Some(packet) = packet {
            self.take(packet, read.ok());
        }
        for packet in waited {
            let stream = self.stream_of(packet.header.ssrc);
            let read = stream.zip(raw_dependency(&packet)).and_then(|(s, raw)| s.read(raw).ok());
            self.take(packet, read);
        }
    }

    /// Takes a packet with what its dependency descriptor says.
    fn take(&mut self, packet: RtpPacket, dependency: Option<Dependency>) {
        let pt = packet.header.payload_type;
        let red = self.codecs.red.iter().find(|(red, _)| *red == pt).map(|(_, primary)| *primary);
        let plain = red.unwrap_or(pt);
        let Some(&(_, codec)) = self.codecs.plain.iter().find(|(pt, _)| *pt == plain) else { return };
        let (capture_us, capture_estimated) = self.capture_time(&packet);
        let Some(stream) = self.stream_of(packet.header.ssrc) else { return };
        let (seq, rtp_time) = (*packet.seq_no, stream.extend(packet.header.timestamp));
        let mut descriptor = Descriptor::parse(codec, &packet.payload);
        stream.begin((rtp_time, seq), &mut descriptor);
        let described = raw_dependency(&packet).is_some();
        let spatial_layers = stream.layers(described, dependency.as_ref(), &descriptor);
        let (source, layer) = (stream.source, stream.layer);
        let ext = &packet.header.ext_vals;
        let audio_level =
            ext.audio_level.map(|l| (l.unsigned_abs().min(127), ext.voice_activity.unwrap_or(false)));
        let rtp = RtpIn {
            seq,
            rtp_time,
            marker: packet.header.marker,
            payload: packet.payload,
            capture_us,
            capture_estimated,
            audio_level,
            descriptor,
            dependency: dependency.map(Arc::new),
            spatial_layers,
        };
        let ssrc = packet.header.ssrc;
        match self.streams.iter_mut().find(|s| s.ssrc == ssrc) {
            Some(stream) if red.is_some() || stream.heard.is_some() => {
                let red = red.map(|pt| *pt);
                for packet in redundancy::unwrap(&mut stream.heard, red, codec, rtp, &mut self.counters) {
                    self.push(Happening::Media(Box::new(Ingress { source, layer, codec, packet })));
                }
            }
            _ => self.push(Happening::Media(Box::new(Ingress { source, layer, codec, packet: rtp }))),
        }
    }

    fn stream_of(&mut self, ssrc: Ssrc) -> Option<&mut Stream> {
        if let Some(known) = self.streams.iter().position(|s| s.ssrc == ssrc) {
            return self.streams.get_mut(known);
        }
        let mut api = self.rtc.direct_api();
        let rx = api.stream_rx(&ssrc)?;
        let (mid, rid) = (rx.mid(), rx.rid());
        let line = self.inputs.iter().find(|l| l.mid == mid)?;
        let layer = match rid {
            Some(rid) => u8::try_from(line.rids.iter().position(|r| *r == rid)?).ok()?,
            None => 0,
        };
        // A layer has one SSRC at a time: a new one replaces the old, so the list is bounded by lines and rids.
        let (source, alone) = (line.source, line.rids.len() <= 1);
        self.streams.retain(|s| (s.source, s.layer) != (source, layer));
        self.streams.push(Stream::new(ssrc, (source, layer), alone));
        self.streams.last_mut()
    }

    /// Capture time on our clock, and whether it had to be taken from the arrival.
    fn capture_time(&self, packet: &RtpPacket) -> (u64, bool) {
        let arrival_us = self.clock.us(packet.timestamp);
        let mapped = self.ntp_offset_us.and_then(|offset| {
            let ntp = match (&packet.header.ext_vals.abs_capture_time, &packet.last_sender_info) {
                (Some(abs), _) => {
                    i64::try_from(abs.capture_time.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?
                }
                (None, Some(info)) => {
                    let base =
                        i64::try_from(info.ntp_time.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?;
                    base.checked_add(ticks_between(packet, info.rtp_time)?)?
                }
                (None, None) => return None,
            };
            u64::try_from(ntp.checked_add(offset)?).ok()
        });
        // A capture after the arrival, or long before it, is a sender's nonsense.
        match mapped {
            Some(us) if us <= arrival_us + 1_000 && arrival_us - us.min(arrival_us) < 10_000_000 => {
                (us.min(arrival_us), false)
            }
            _ => (arrival_us, true),
        }
    }
}

fn raw_dependency(packet: &RtpPacket) -> Option<&[u8]> {
    packet.header.ext_vals.user_values.get::<RawDependency>().map(|raw| &*raw.0)
}

fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Udp => Transport::Udp,
        _ => Transport::Tcp,
    }
}

/// Microseconds from `from` to the packet's own RTP time.
fn ticks_between(packet: &RtpPacket, from: str0m::media::MediaTime) -> Option<i64> {
    let (a, b) = (i128::from(packet.header.timestamp), i128::from(from.numer()));
    // The report carries 32 bits only: take the difference that is nearest.
    let wrapped = (a - b).rem_euclid(1 << 32);
    let ticks = if wrapped >= 1 << 31 { wrapped - (1 << 32) } else { wrapped };
    let rate = i128::from(packet.time.denom());
    i64::try_from(ticks.checked_mul(1_000_000)?.checked_div(rate)?).ok()
}

impl Connection {
    /// Takes a packet for a slot. Nothing leaves before [`Connection::finish`].
    pub(crate) fn forward(&mut self, slot: SlotId, outgoing: Outgoing) {
        match self.path {
            Some(_) => self.sender.forward(slot, outgoing),
            // Old when there is a way again.
            None => self.counters.lost_ways += 1,
        }
    }

    /// Asks for what each round needs.
    pub(crate) fn prefetch(&self) {
        prefetch(&self.path);
        prefetch(&self.rtc_deadline);
        prefetch(&self.events);
        prefetch(&self.sender);
    }

    /// Asks for what [`Connection::forward`] needs.
    pub(crate) fn prefetch_queue(&self) {
        prefetch(&self.path);
        self.sender.prefetch_queue();
    }

    /// Everything taken leaves into `arena`, and what str0m has, if it is due.
    pub(crate) fn finish(&mut self, now: Instant, arena: &mut Arena) {
        if let Some(path) = self.path {
            self.sender.flush(now, self.clock, path, arena);
            for said in self.sender.take_news() {
                self.push(Happening::from(said));
            }
            if self.closing {
                self.sender.goodbye(self.clock.us(now), path, arena);
            }
        }
        if !self.rtc_waits && now < self.rtc_deadline {
            return;
        }
        if let Err(error) = self.rtc.handle_input(Input::Timeout(now)) {
            tracing::debug!(%error, "connection failed");
            self.rtc.disconnect();
            self.push(Happening::Closed);
        }
        self.settle(now, arena);
    }

    /// Adds what it holds.
    pub(crate) fn count(&self, held: &mut Holdings) {
        self.sender.count(held);
        self.streams.iter().for_each(|stream| held.early.add(stream.early.len()));
        held.happenings.add(self.events.len());
    }

    /// When [`Connection::finish`] is wanted without new input.
    pub(crate) fn deadline(&self) -> Instant {
        // Without a way nothing of the sender's leaves, however late it is.
        let sender = self.sender.deadline().filter(|_| self.path.is_some());
        // Who only listens has no deadline in str0m that must be kept to the millisecond: a packet that is sent in time takes it along.
        let listens = self.connected && self.streams.is_empty();
        let rtc = if listens { self.rtc_deadline + RTC_PATIENCE } else { self.rtc_deadline };
        sender.map_or(rtc, |at| at.min(rtc))
    }

    /// A datagram of this peer: feedback, ICE, DTLS, media of its own. `true`: it was a valid binding request.
    pub(crate) fn on_datagram(&mut self, now: Instant, received: &Received<'_>, arena: &mut Arena) -> bool {
        if is_rtcp(received.bytes) && self.sender.opener().is_some() {
            let is_for_receiver = self.on_rtcp(now, received.bytes);
            self.on_heard(now, arena);
            if !is_for_receiver {
                return false;
            }
        } else if is_rtp(received.bytes) && !self.is_genuine(received.bytes) {
            self.counters.forged += 1;
            return false;
        }
        let in_next = stun::is_stun(received.bytes)
            && self.sessions.choose(&mut self.rtc, stun::local_ufrag(received.bytes));
        let (transport, source) = (received.transport, received.destination.ip());
        self.at = Some(Path { transport, source, destination: received.source });
        self.nominates = stun::nominates(received.bytes);
        let mut valid = self.give(now, received, arena);
        if in_next && self.nominates && valid {
            self.sessions.commit(now, &mut self.rtc);
            valid = self.give(now, received, arena);
        }
        self.nominates = false;
        self.at = None;
        if valid {
            self.on_heard(now, arena);
        }
        valid
    }

    /// The path is there: what waits for an acknowledgement does not wait for SCTP's next repetition.
    fn on_heard(&mut self, now: Instant, arena: &mut Arena) {
        let channels = self.control.into_iter().chain(self.data.into_iter().flatten());
        let rtc = &mut self.rtc;
        let mut waiting = channels.filter(|id| rtc.channel(*id).is_some_and(|mut c| c.buffered_amount() > 0));
        self.last_said.on_heard(now, self.path, || waiting.next().is_some(), arena);
    }

    /// Gives str0m a datagram. `true`: it was a valid binding request.
    fn give(&mut self, now: Instant, received: &Received<'_>, arena: &mut Arena) -> bool {
        let protocol = match received.transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        };
        let to = match stun::is_stun(received.bytes) {
            true => self.reach.candidate(received.transport, received.destination),
            false => received.destination,
        };
        let parsed = Receive::new(protocol, received.source, to, received.bytes);
        let Ok(receive) = parsed else { return false };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            return false;
        }
        self.answered = false;
        if let Err(error) = self.rtc.handle_input(input) {
            tracing::debug!(%error, "datagram refused");
        }
        self.settle(now, arena);
        self.answered
    }

    /// `true`: str0m must see it, too.
    fn on_rtcp(&mut self, now: Instant, sealed: &[u8]) -> bool {
        let mut feedback = std::mem::take(&mut self.feedback);
        let for_receiver = self.sender.on_rtcp(self.clock.us(now), sealed, &mut feedback);
        for said in feedback.drain(..) {
            self.push(Happening::from(said));
        }
        self.feedback = feedback;
        // Who only watches has nothing to be received; str0m would open it once more, and keep room for it.
        for_receiver && !self.inputs.is_empty()
    }

    /// str0m takes an SSRC that it does not know as a new one of the line that the packet names, before it looks at
    /// the seal: who can forge the peer's address would silence its tracks. So the seal of such packets is looked at
    /// here.
    fn is_genuine(&mut self, packet: &[u8]) -> bool {
        let Some(opener) = self.sender.opener() else { return true };
        let Some(Ok(ssrc)) = packet.get(8..12).map(<[u8; 4]>::try_from) else { return false };
        let ssrc = u32::from_be_bytes(ssrc);
        if self.genuine.knows(ssrc) {
            return true;
        }
        if !opener.is_genuine_rtp(packet) {
            return false;
        }
        let streams = &self.streams;
        self.genuine.add(ssrc, |known| streams.iter().any(|s| *s.ssrc == known));
        true
    }

    /// Counts for the participant's stats.
    pub(crate) fn stats(&self) -> serde_json::Value {
        serde_json::json!({ "in": self.counters, "out": self.sender.stats() })
    }

    /// What the subscriber would be sent if nothing limited it, in bits per second.
    pub(crate) fn set_demand(&mut self, bps: u64) {
        self.sender.set_demand(bps);
    }

    /// What the peer shall send at most, in bits per second; `None`: as much as it likes. Leaves with the next finish.
    pub(crate) fn bound(&mut self, now: Instant, bps: Option<u64>) {
        self.bound = Some(bps);
        self.tell_bound(now);
    }

    /// Says the bound again, if it is time: packets get lost, and what came last holds. `true`: something leaves.
    pub(crate) fn repeat_bound(&mut self, now: Instant) -> bool {
        let due = self.bound_told.is_none_or(|at| now.saturating_duration_since(at) >= BOUND_INTERVAL);
        due && self.tell_bound(now)
    }

    /// By REMB (draft-alvestrand-rmcat-remb-03), which is of all that the peer sends, whichever stream it names.
    fn tell_bound(&mut self, now: Instant) -> bool {
        let Some(bps) = self.bound else { return false };
        let stream = self.streams.iter().find(|s| s.source.kind() == MediaKind::Video);
        let Some(ssrc) = stream.map(|s| s.ssrc) else { return false };
        let mut api = self.rtc.direct_api();
        let Some(rx) = api.stream_rx(&ssrc) else { return false };
        let bps = bps.unwrap_or(UNBOUNDED_BPS);
        rx.request_remb(Bitrate::from(bps));
        self.rtc_waits = true;
        self.bound_told = Some(now);
        self.counters.bound_bps = bps;
        true
    }

    /// Rids of the lines that the peer sends on, the lowest layer first.
    pub(crate) fn layer_names(&self) -> Vec<(Source, Vec<String>)> {
        let lines = self.inputs.iter().filter(|line| !line.rids.is_empty());
        lines.map(|line| (line.source, line.rids.iter().map(ToString::to_string).collect())).collect()
    }

    /// What the peer is thought to be able to receive before anything was measured; `None`: it is not measured.
    pub(crate) fn start(&self) -> Option<Bandwidth> {
        self.sender.start()
    }

    /// It has something to send beside what str0m has.
    pub(crate) fn waits(&self) -> bool {
        self.sender.waits()
    }
}
