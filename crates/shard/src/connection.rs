//! One WebRTC connection: str0m behind our own words. Nothing of str0m leaves this file and [`crate::sdp`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use antiphon_base::{Codec, MediaKind, Source};
use antiphon_room::SlotId;
use antiphon_room::slot::Outgoing;
use antiphon_wire::rtp::rewrite::PicturePatch;
use str0m::bwe::BweKind;
use str0m::channel::ChannelId;
use str0m::media::{ExtensionValues, KeyframeRequestKind, Mid, Pt, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite, Ssrc, Vp8Descriptor, Vp8Patch};
use str0m::{Event, IceConnectionState, Input, Output, Rtc};

use crate::clock::Clock;
use crate::egress::{Arena, Egress};
use crate::net::{Datagram, Received};

/// Label of the control channel.
const CONTROL_LABEL: &str = "control";
/// Events between two drains of the shard: one datagram gives a handful.
const MAX_EVENTS: usize = 4_096;
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

/// What a receiving line of the client is for.
#[derive(Debug, Clone)]
pub(crate) struct OutLine {
    pub(crate) mid: Mid,
    pub(crate) ssrc: Ssrc,
    /// Payload types the client takes on this line.
    pub(crate) payload_types: Vec<(Codec, Pt)>,
}

/// One connection.
pub(crate) struct Connection {
    rtc: Rtc,
    inputs: Vec<InLine>,
    outputs: Vec<OutLine>,
    streams: Vec<Stream>,
    codecs: Vec<(Pt, Codec)>,
    events: VecDeque<Happening>,
    control: Option<ChannelId>,
    clock: Clock,
    /// When the last valid binding request came.
    consent: Instant,
    /// Smallest seen difference between our clock and the sender's NTP clock, in us: see [`Connection::on_report`].
    ntp_offset_us: Option<i64>,
    /// Where this peer is, once known.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) counters: Counters,
}

/// Counts of one connection.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Counters {
    pub(crate) packets_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) keyframes_requested_of_peer: u64,
    pub(crate) keyframes_requested_by_peer: u64,
    /// Packets for a slot whose line has no payload type for their codec.
    pub(crate) no_payload_type: u64,
    pub(crate) events_dropped: u64,
}

/// A source layer as it comes in, found by its SSRC.
struct Stream {
    ssrc: Ssrc,
    source: Source,
    layer: u8,
}

/// A media packet that came in.
pub(crate) struct Ingress {
    pub(crate) source: Source,
    pub(crate) layer: u8,
    pub(crate) codec: Codec,
    pub(crate) packet: RtpIn,
}

/// The parts of a packet that the shard makes its own packet of.
pub(crate) struct RtpIn {
    pub(crate) seq: u64,
    pub(crate) rtp_time: u64,
    pub(crate) marker: bool,
    pub(crate) payload: Arc<[u8]>,
    pub(crate) capture_us: u64,
    pub(crate) capture_estimated: bool,
    pub(crate) audio_level: Option<(u8, bool)>,
}

/// What happened on a connection.
pub(crate) enum Happening {
    /// ICE and DTLS are up.
    Connected,
    /// The control channel is open.
    ControlOpen,
    /// A control message.
    Control(Vec<u8>),
    /// Media.
    Media(Box<Ingress>),
    /// The peer asks for a keyframe in a slot.
    KeyframeWanted(SlotId),
    /// The peer tells how much it can receive.
    Bandwidth(u64),
    /// The connection is over.
    Closed,
}

impl Connection {
    pub(crate) fn new(
        rtc: Rtc,
        inputs: Vec<InLine>,
        outputs: Vec<OutLine>,
        codecs: Vec<(Pt, Codec)>,
        now: Instant,
    ) -> Self {
        Self {
            rtc,
            inputs,
            outputs,
            streams: Vec::new(),
            codecs,
            events: VecDeque::new(),
            control: None,
            clock: Clock::new(now),
            consent: now,
            ntp_offset_us: None,
            remote: None,
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
        if self.rtc.close().is_err() {
            self.rtc.disconnect();
        }
    }

    /// Writes a control message. `false`: the channel is not open or its buffer is full.
    pub(crate) fn write_control(&mut self, text: &str) -> bool {
        let Some(id) = self.control else { return false };
        let Some(mut channel) = self.rtc.channel(id) else { return false };
        channel.write(false, text.as_bytes()).unwrap_or(false)
    }

    /// Asks the peer for a keyframe of a layer it sends. `false`: that layer has not been seen.
    pub(crate) fn request_keyframe(&mut self, source: Source, layer: u8) -> bool {
        let Some(stream) = self.streams.iter().find(|s| s.source == source && s.layer == layer) else {
            return false;
        };
        let ssrc = stream.ssrc;
        let mut api = self.rtc.direct_api();
        let Some(rx) = api.stream_rx(&ssrc) else { return false };
        rx.request_keyframe(KeyframeRequestKind::Pli);
        self.counters.keyframes_requested_of_peer += 1;
        true
    }

    /// Lets everything out that the last input gave; gives when it wants to be called again.
    pub(crate) fn settle(&mut self, now: Instant, arena: &mut Arena) -> Instant {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => return at,
                Ok(Output::Transmit(t)) => {
                    let contents = Vec::from(t.contents);
                    if contents.starts_with(&STUN_BINDING_SUCCESS) {
                        self.consent = now;
                    }
                    self.remote = Some(t.destination);
                    arena.push(Datagram { source: t.source.ip(), destination: t.destination, contents });
                }
                Ok(Output::Event(event)) => self.on_event(event),
                Err(error) => {
                    tracing::debug!(%error, "connection failed");
                    self.rtc.disconnect();
                    self.push(Happening::Closed);
                    return now + Duration::from_secs(3_600);
                }
            }
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
            Event::Connected => self.push(Happening::Connected),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                self.push(Happening::Closed);
            }
            Event::ChannelOpen(id, label) if label == CONTROL_LABEL && self.control.is_none() => {
                self.control = Some(id);
                self.push(Happening::ControlOpen);
            }
            Event::ChannelData(data) if Some(data.id) == self.control => {
                self.push(Happening::Control(data.data))
            }
            Event::ChannelClose(id) if Some(id) == self.control => self.control = None,
            Event::RtpPacket(packet) => self.on_rtp(packet),
            Event::KeyframeRequest(request) => {
                self.counters.keyframes_requested_by_peer += 1;
                if let Some(slot) = self.slot_of(request.mid) {
                    self.push(Happening::KeyframeWanted(slot));
                }
            }
            Event::EgressBitrateEstimate(BweKind::Remb { estimate, .. }) => {
                self.push(Happening::Bandwidth(estimate.as_u64()));
            }
            Event::SenderFeedback(report) => {
                self.on_report(report.received_at, report.sender_info.ntp_time);
            }
            _ => {}
        }
    }

    fn slot_of(&self, mid: Mid) -> Option<SlotId> {
        let place = self.outputs.iter().position(|o| o.mid == mid)?;
        u16::try_from(place).ok().map(SlotId)
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
        self.counters.packets_in += 1;
        self.counters.bytes_in += packet.payload.len() as u64;
        let Some((source, layer)) = self.stream_of(packet.header.ssrc) else { return };
        let Some(&(_, codec)) = self.codecs.iter().find(|(pt, _)| *pt == packet.header.payload_type) else {
            return;
        };
        let (capture_us, capture_estimated) = self.capture_time(&packet);
        let ext = &packet.header.ext_vals;
        let audio_level =
            ext.audio_level.map(|l| (l.unsigned_abs().min(127), ext.voice_activity.unwrap_or(false)));
        let rtp = RtpIn {
            seq: *packet.seq_no,
            rtp_time: packet.time.numer(),
            marker: packet.header.marker,
            payload: packet.payload,
            capture_us,
            capture_estimated,
            audio_level,
        };
        self.push(Happening::Media(Box::new(Ingress { source, layer, codec, packet: rtp })));
    }

    fn stream_of(&mut self, ssrc: Ssrc) -> Option<(Source, u8)> {
        if let Some(s) = self.streams.iter().find(|s| s.ssrc == ssrc) {
            return Some((s.source, s.layer));
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
        let source = line.source;
        self.streams.retain(|s| (s.source, s.layer) != (source, layer));
        self.streams.push(Stream { ssrc, source, layer });
        Some((source, layer))
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

    fn write(&mut self, slot: SlotId, outgoing: &Outgoing) -> Option<()> {
        let line = self.outputs.get(usize::from(slot.0))?;
        let packet = &outgoing.packet;
        let Some(&(_, pt)) = line.payload_types.iter().find(|(codec, _)| *codec == packet.codec) else {
            self.counters.no_payload_type += 1;
            return None;
        };
        let mut api = self.rtc.direct_api();
        let tx = api.stream_tx(&line.ssrc)?;
        let mut payload = packet.payload.clone();
        let mut patch = None;
        match &outgoing.rewritten.picture {
            PicturePatch::Vp8 { picture_id, tl0 } => {
                patch = vp8_patch(&payload, *picture_id, *tl0);
            }
            PicturePatch::None => {}
            other => {
                let mut copy = payload.to_vec();
                other.apply(&packet.descriptor, &mut copy);
                payload = copy.into();
            }
        }
        let wallclock = self.clock.instant(packet.capture_us);
        let mut write =
            RtpWrite::new(pt, outgoing.rewritten.seq.into(), outgoing.rewritten.rtp_time, wallclock, payload)
                .marker(outgoing.marker)
                .nackable(packet.codec.kind() == MediaKind::Video)
                .csrc(&[packet.track.participant.0]);
        if let Some(patch) = patch {
            write = write.vp8_patch(patch);
        }
        if let Some(level) = packet.audio_level {
            let ext = ExtensionValues {
                audio_level: Some(-i8::try_from(level.level.min(127)).unwrap_or(127)),
                voice_activity: Some(level.voice),
                ..ExtensionValues::default()
            };
            write = write.ext_vals(ext);
        }
        self.counters.packets_out += 1;
        self.counters.bytes_out += packet.payload.len() as u64;
        tx.write_rtp(write);
        Some(())
    }
}

/// str0m's form of a VP8 patch; a 7-bit picture id takes the low bits.
fn vp8_patch(payload: &[u8], picture_id: u16, tl0: Option<u8>) -> Option<Vp8Patch> {
    let descriptor = Vp8Descriptor::parse(payload).ok()?;
    let build = |id: u16| {
        let mut builder = descriptor.patch();
        if descriptor.picture_id().is_some() {
            builder = builder.picture_id(id);
        }
        if let (Some(tl0), Some(_)) = (tl0, descriptor.tl0_pic_idx()) {
            builder = builder.tl0_pic_idx(tl0);
        }
        builder.build()
    };
    build(picture_id).or_else(|_| build(picture_id & 0x7f)).ok()
}

/// Microseconds from `from` to the packet's own RTP time.
fn ticks_between(packet: &RtpPacket, from: str0m::media::MediaTime) -> Option<i64> {
    let (a, b) = (i128::from(packet.time.numer()), i128::from(from.numer()));
    // The report carries 32 bits only: take the difference that is nearest.
    let wrapped = (a - b).rem_euclid(1 << 32);
    let ticks = if wrapped >= 1 << 31 { wrapped - (1 << 32) } else { wrapped };
    let rate = i128::from(packet.time.denom());
    i64::try_from(ticks.checked_mul(1_000_000)?.checked_div(rate)?).ok()
}

impl Egress for Connection {
    fn forward(&mut self, slot: SlotId, outgoing: &Outgoing) {
        let _ = self.write(slot, outgoing);
    }

    fn finish_peer(&mut self, now: Instant, arena: &mut Arena) -> Instant {
        if let Err(error) = self.rtc.handle_input(Input::Timeout(now)) {
            tracing::debug!(%error, "connection failed");
            self.rtc.disconnect();
            self.push(Happening::Closed);
        }
        self.settle(now, arena)
    }

    fn on_datagram(&mut self, now: Instant, received: &Received<'_>) -> bool {
        let parsed = Receive::new(Protocol::Udp, received.source, received.destination, received.bytes);
        let Ok(receive) = parsed else { return false };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            return false;
        }
        if let Err(error) = self.rtc.handle_input(input) {
            tracing::debug!(%error, "datagram refused");
        }
        true
    }
}
