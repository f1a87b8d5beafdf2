//! What comes to a client: media in its slots, events of its connection, messages on its channels.

use std::time::{Duration, Instant};

use antiphon_base::MediaKind;
use antiphon_wire::control::ServerMessage;
use antiphon_wire::topic;
use str0m::bwe::BweKind;
use str0m::media::KeyframeRequestKind;
use str0m::rtp::RtpPacket;
use str0m::{Event, IceConnectionState};

use super::{Client, RED};
use crate::playout::Decoder;
use crate::{extension, stamp};

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
    /// Its payload, or the primary block of it (RED), where that was not made by [`crate::stamp`].
    pub other: Option<Vec<u8>>,
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
    /// Of its media.
    pub ssrc: Option<u32>,
    decoder: Decoder,
    asked: Option<Instant>,
}

impl SlotLog {
    pub(super) fn new(mid: String, kind: MediaKind) -> Self {
        Self { mid, kind, packets: Vec::new(), ssrc: None, decoder: Decoder::default(), asked: None }
    }
}

impl Client {
    pub(super) fn on_event(&mut self, now: Instant, event: Event) {
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
        // What is sent again has another, and never comes first.
        slot.ssrc = slot.ssrc.or(Some(*ssrc));
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
            other: parsed.is_none().then(|| primary.to_vec()),
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
