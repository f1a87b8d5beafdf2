//! A browser-like client: str0m behind the same words as on the server's side, one offer with all lines, synthetic media.

mod offering;
mod profile;
mod receiving;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use antiphon_base::{MediaKind, ParticipantId, ParticipantKey, Source};
use antiphon_shard::{IceParameters, Joined, Transport};
use antiphon_wire::control::{
    ClientMessage, LeaveReason, ParticipantInfo, Request, ServerMessage, SlotAssignment,
};
use antiphon_wire::topic;
use str0m::bwe::Bitrate;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::media::{KeyframeRequestKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Input, Output, Rtc};

pub use self::offering::Offering;
use self::offering::candidate;
pub use self::profile::Profile;
pub use self::receiving::{Received, SlotLog};
use crate::dtls;
use crate::net::{Datagram, Place};
use crate::seals::Seals;
use crate::sender::Sender;

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
    /// Media that came before it had keys: some of it is kept until then, some is lost.
    pub(crate) early: Vec<Place>,
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
                sender.mode = self.profile.mode.filter(|_| source == Source::Camera);
                sender.place = sender.mode.map(|_| 0);
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
        if self.connected.is_none() {
            self.early.extend(Place::of(&datagram.bytes));
        }
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
}

/// Longest that a client waits for its next round while nothing happens.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
