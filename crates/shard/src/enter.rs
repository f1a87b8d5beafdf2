//! Commands from other threads: entering, leaving, looking.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use antiphon_base::{ErrorKind, ParticipantId, ParticipantKey, RoomName, TrackKey};
use antiphon_room::{Feed, Join, KeyframeCause, Room, SlotPlan};
use antiphon_wire::control::{ClientMessage, LeaveReason, ParticipantKind, Policy, Presence};
use antiphon_wire::rtp::{AudioLevel, Descriptor, Packet};

use crate::attach::{
    AttachCommand, AttachRequest, AttachSender, Attachment, EVENT_RING, MEDIA_RING, OutPacket,
};
use crate::command::Command;
use crate::core::Core;
use crate::host::{Attached, Host, Member};
use crate::inbox;
use crate::join::{JoinError, Joined, Prepared};
use crate::peer::{Entry, Peer};
use crate::status::{ParticipantStatus, RoomStatus};

/// Largest payload an attachment may send: what fits into one datagram with everything around it.
const MAX_PAYLOAD_BYTES: usize = 1_200;

impl Core {
    /// Does a command. `false`: the shard shall stop.
    pub(crate) fn handle_command(&mut self, now: Instant, command: Command, inbox: &inbox::Sender) -> bool {
        // A reply that nobody waits for any more is not an error.
        match command {
            Command::Join { prepared, reply } => {
                let _ = reply.try_send(self.join(now, *prepared));
            }
            Command::Attach { room, request, reply } => {
                let _ = reply.try_send(self.attach(now, &room, request, inbox));
            }
            Command::Attached { room, key, command } => self.attached(now, &room, key, command),
            Command::Status { room, id, detail, reply } => {
                // Who left in this round is remembered when the room's outputs are taken.
                if let Some(&place) = self.by_name.get(&room) {
                    self.pump(now, place);
                }
                let _ = reply.try_send(self.status(now, &room, &id, detail));
            }
            Command::Remove { room, id, reason, reply } => {
                let _ = reply.try_send(self.remove(now, &room, &id, reason));
            }
            Command::Dump { room, id, reply } => {
                let _ = reply.try_send(self.dump(&room, &id));
            }
            Command::Rooms { reply } => {
                let _ = reply.try_send(self.rooms());
            }
            Command::Drain { deadline } => {
                self.draining = Some(deadline);
                for room in 0..self.hosts.len() {
                    self.with_host(now, room, |host| host.room.drain(now, deadline));
                }
            }
            Command::Stop => return false,
        }
        true
    }

    /// May anybody enter?
    fn admit(&self) -> Result<(), JoinError> {
        if self.draining.is_some() {
            return Err(JoinError::new(
                ErrorKind::Draining,
                "this server is stopping; join again to reach another one",
            ));
        }
        #[expect(clippy::cast_precision_loss, reason = "thousandths")]
        let busy = self.metrics.busy_permille as f64 / 1_000.0;
        if busy > self.config.max_busy {
            return Err(JoinError::new(
                ErrorKind::Overloaded,
                "this server is busy; try again in a few seconds",
            ));
        }
        Ok(())
    }

    /// The room of that name; made if it is not there.
    fn open_room(&mut self, now: Instant, name: &RoomName) -> Result<usize, JoinError> {
        if let Some(&place) = self.by_name.get(name) {
            if self.hosts.get(place).and_then(Option::as_deref).is_some_and(|h| !h.room.is_over()) {
                return Ok(place);
            }
            if let Some(host) = self.hosts.get_mut(place) {
                *host = None;
                self.free_hosts.push(place);
                self.metrics.rooms = self.metrics.rooms.saturating_sub(1);
            }
        }
        if self.by_name.len() >= self.config.max_rooms {
            return Err(JoinError::new(
                ErrorKind::Overloaded,
                "this server has as many rooms as it may; use another",
            ));
        }
        let config = antiphon_room::Config {
            max_participants: self.config.max_participants_per_room,
            max_slots: self.config.max_slots,
            resume_ttl: self.config.resume_ttl,
            ..antiphon_room::Config::default()
        };
        let host = Some(Box::new(Host::new(name.clone(), Room::new(name.clone(), config, now))));
        let place = match self.free_hosts.pop() {
            Some(place) => {
                self.hosts[place] = host;
                place
            }
            None => {
                self.hosts.push(host);
                self.hosts.len() - 1
            }
        };
        self.by_name.insert(name.clone(), place);
        self.metrics.rooms += 1;
        Ok(place)
    }

    pub(crate) fn join(&mut self, now: Instant, prepared: Prepared) -> Result<Joined, JoinError> {
        self.admit()?;
        if self.metrics.peers >= self.config.max_peers as u64 {
            return Err(JoinError::new(
                ErrorKind::Overloaded,
                "this server has as many peers as it may; use another",
            ));
        }
        let room = self.open_room(now, &prepared.room)?;
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else {
            return Err(JoinError::new(ErrorKind::Internal, "the room could not be opened"));
        };
        let Prepared { request, negotiated, resume_token, ufrag, .. } = prepared;
        let resumed = request.resume.as_deref().and_then(|token| {
            host.room.resume(now, token, negotiated.slots.clone(), negotiated.decodes.clone()).ok()
        });
        let key = match resumed {
            Some(key) => key,
            None => host
                .room
                .join(
                    now,
                    room_join(
                        &request,
                        negotiated.slots.clone(),
                        negotiated.decodes.clone(),
                        negotiated.control,
                        &resume_token,
                    ),
                )
                .map_err(|e| JoinError::new(e.kind(), e.to_string()))?,
        };
        let id = host.room.participant(key).map_or_else(|| request.id.clone(), |p| p.id);
        // Who came back keeps its token.
        let token = request.resume.filter(|_| resumed.is_some()).unwrap_or(resume_token);
        host.restart_feeds(key, now, &mut self.peers);
        let mut connection = negotiated.connection;
        connection.enter(self.clock, now);
        let entry = Entry {
            connection,
            room,
            key,
            id: id.clone(),
            grants: request.grants,
            has_control: negotiated.control,
            ufrag: ufrag.clone(),
            plan: negotiated.slots,
        };
        let place = self.place_peer(Peer::new(entry, now));
        self.by_ufrag.insert(ufrag, place);
        let host =
            self.hosts[room].as_deref_mut().expect("it was there three lines ago and nothing removed it");
        let old = host.members.insert(key, Member::Peer(place));
        if let Some(Member::Peer(old)) = old {
            host.forget_peer(old);
            self.take_down(now, old);
        }
        self.mark(room);
        self.touch(place);
        Ok(Joined { id, key, resume_token: token, answer: negotiated.answer })
    }

    fn place_peer(&mut self, peer: Peer) -> usize {
        self.metrics.peers += 1;
        let peer = Some(Box::new(peer));
        match self.free_peers.pop() {
            Some(place) => {
                self.peers[place] = peer;
                place
            }
            None => {
                self.peers.push(peer);
                self.peers.len() - 1
            }
        }
    }

    pub(crate) fn attach(
        &mut self,
        now: Instant,
        name: &RoomName,
        request: AttachRequest,
        inbox: &inbox::Sender,
    ) -> Result<Attachment, JoinError> {
        self.admit()?;
        let room = self.open_room(now, name)?;
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else {
            return Err(JoinError::new(ErrorKind::Internal, "the room could not be opened"));
        };
        let may_publish = request.grants.publish;
        let join = Join {
            id: request.id.clone(),
            name: request.name,
            kind: request.kind,
            grants: request.grants,
            policy: Policy::default(),
            muted: Vec::new(),
            slots: SlotPlan::default(),
            decodes: Vec::new(),
            hidden: request.hidden,
            only: None,
            resume_token: String::new(),
            control: true,
        };
        let key = host.room.join(now, join).map_err(|e| JoinError::new(e.kind(), e.to_string()))?;
        let (events, events_out) = async_channel::bounded(EVENT_RING);
        let (media, media_out) = async_channel::bounded(MEDIA_RING);
        let dropped = Arc::new(AtomicU64::new(0));
        let attached = Attached { events, media, dropped: dropped.clone(), may_publish };
        host.members.insert(key, Member::Attached(attached));
        host.room.connected(now, key, self.clock.us(now));
        self.metrics.attachments += 1;
        self.mark(room);
        Ok(Attachment {
            id: request.id,
            key,
            room: name.clone(),
            events: events_out,
            media: media_out,
            media_dropped: dropped,
            sender: AttachSender { key, room: name.clone(), inbox: inbox.clone() },
        })
    }

    fn attached(&mut self, now: Instant, name: &RoomName, key: ParticipantKey, command: AttachCommand) {
        let Some(&room) = self.by_name.get(name) else { return };
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let Some(Member::Attached(attached)) = host.members.get(&key) else { return };
        match command {
            AttachCommand::Send(out) => {
                if attached.may_publish && out.payload.len() <= MAX_PAYLOAD_BYTES {
                    let packet = self.own_packet(now, key, out);
                    self.metrics.packets_in += 1;
                    self.route(now, room, packet);
                }
            }
            AttachCommand::Tap(taps) => self.with_host(now, room, |h| h.room.set_taps(now, key, taps)),
            AttachCommand::Request { id, request } => {
                self.with_host(now, room, |h| h.room.request(now, key, ClientMessage { id, request }));
            }
            AttachCommand::Keyframe { track, layer } => {
                if host.is_tapped(key, track, layer) {
                    self.with_host(now, room, |h| {
                        h.room.keyframe_wanted(now, Feed { track, layer }, KeyframeCause::Repair);
                    });
                }
            }
            AttachCommand::Leave => self.with_host(now, room, |h| h.room.leave(now, key, LeaveReason::Left)),
        }
    }

    fn own_packet(&self, now: Instant, key: ParticipantKey, out: OutPacket) -> Packet {
        Packet {
            track: TrackKey { participant: key, source: out.source },
            layer: 0,
            codec: out.codec,
            seq: out.seq,
            rtp_time: out.rtp_time,
            marker: out.marker,
            descriptor: Descriptor::parse(out.codec, &out.payload),
            payload: out.payload,
            arrival: now,
            arrival_us: self.clock.us(now),
            capture_us: out.capture_us,
            capture_estimated: false,
            audio_level: out.audio_level.map(|level| AudioLevel { level, voice: level < 127 }),
            dependency: None,
            spatial_layers: 1,
        }
    }

    fn find(&self, name: &RoomName, id: &ParticipantId) -> Option<(usize, ParticipantKey)> {
        let room = *self.by_name.get(name)?;
        let host = self.hosts.get(room)?.as_deref()?;
        Some((room, host.room.key_of(id)?))
    }

    pub(crate) fn status(
        &self,
        now: Instant,
        name: &RoomName,
        id: &ParticipantId,
        detail: bool,
    ) -> Option<ParticipantStatus> {
        let Some((room, key)) = self.find(name, id) else {
            let found = self.gone.iter().rev().find(|(n, s)| n == name && s.id == *id)?;
            let mut status = found.1.clone();
            if !detail {
                status.stats = None;
            }
            return Some(status);
        };
        let host = self.hosts.get(room)?.as_deref()?;
        let presence = host.room.participant(key)?.presence;
        let peer = match host.members.get(&key) {
            Some(Member::Peer(place)) => self.peers.get(*place).and_then(Option::as_deref),
            _ => None,
        };
        let state = match (presence, peer) {
            (Presence::Reconnecting, _) => "reconnecting",
            (Presence::Connected, Some(peer)) if !peer.connected => "new",
            (Presence::Connected, _) => "connected",
        };
        let stats = if detail { peer.map(|p| p.stats(now)) } else { None };
        Some(ParticipantStatus { id: id.clone(), key, state, presence: Some(presence), reason: None, stats })
    }

    fn remove(&mut self, now: Instant, name: &RoomName, id: &ParticipantId, reason: LeaveReason) -> bool {
        let Some((room, key)) = self.find(name, id) else { return false };
        self.with_host(now, room, |host| host.room.leave(now, key, reason));
        self.pump(now, room);
        true
    }

    fn dump(&mut self, name: &RoomName, id: &ParticipantId) -> Option<async_channel::Receiver<Vec<u8>>> {
        let (room, key) = self.find(name, id)?;
        let host = self.hosts.get(room)?.as_deref()?;
        let Some(Member::Peer(place)) = host.members.get(&key) else { return None };
        let peer = self.peers.get_mut(*place)?.as_deref_mut()?;
        let (tx, rx) = async_channel::bounded(crate::dump::DUMP_RING);
        let _ = tx.try_send(antiphon_wire::rtp::dump::pcap_header().to_vec());
        peer.dump = Some(tx);
        Some(rx)
    }

    fn rooms(&self) -> Vec<RoomStatus> {
        let hosts = self.hosts.iter().flatten();
        hosts
            .map(|h| RoomStatus { name: h.name.clone(), participants: h.room.roster().cloned().collect() })
            .collect()
    }
}

fn room_join(
    request: &crate::join::JoinRequest,
    slots: SlotPlan,
    decodes: Vec<antiphon_base::VideoCodec>,
    control: bool,
    resume_token: &str,
) -> Join {
    Join {
        id: request.id.clone(),
        name: request.name.clone(),
        kind: request.kind,
        grants: request.grants,
        policy: request.policy.clone(),
        muted: request.muted.clone(),
        slots,
        decodes,
        hidden: request.kind == ParticipantKind::Whep,
        only: request.only.clone(),
        resume_token: resume_token.to_owned(),
        control,
    }
}
