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
use crate::command::{Command, Reply};
use crate::core::Core;
use crate::home::{Attached, Away, Home, Member};
use crate::host::Host;
use crate::inbox;
use crate::join::{JoinError, Joined, Prepared};
use crate::peer::{Entry, Peer};
use crate::seam::{Message, Order, RoomId, Who};
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
                self.answer_status(now, &room, &id, detail, reply);
            }
            Command::Remove { room, id, reason, reply } => {
                let _ = reply.try_send(self.remove(now, &room, &id, reason));
            }
            Command::Hold { room, id, held, reply } => {
                let _ = reply.try_send(self.hold(now, &room, &id, held));
            }
            Command::Ice { room, id, request, reply } => {
                self.answer_ice(now, (&room, &id), request, reply);
            }
            Command::Select { room, id, selection, reply } => {
                let _ = reply.try_send(self.select(now, &room, &id, &selection));
            }
            Command::Watch { room, id, reply } => {
                let _ = reply.try_send(self.watch(now, &room, &id));
            }
            Command::Dump { room, id, reply } => {
                self.answer_dump(&room, &id, reply);
            }
            Command::Rooms { reply } => {
                let _ = reply.try_send(self.rooms());
            }
            Command::Drain { deadline } => {
                self.draining = Some(deadline);
                for room in 0..self.hosts.len() {
                    self.with_home(now, room, |home| home.room.drain(now, deadline));
                }
            }
            // The thread takes it before it comes here; a shard without sockets has no use for it.
            Command::Pipe(_) => {}
            Command::Stop => return false,
        }
        true
    }

    /// May anybody enter?
    fn admit(&self, shard: u16) -> Result<(), JoinError> {
        if self.draining.is_some() {
            return Err(JoinError::new(
                ErrorKind::Draining,
                "this server is stopping; join again to reach another one",
            ));
        }
        #[expect(clippy::cast_precision_loss, reason = "thousandths")]
        let share = self.loads.busy_permille(shard) as f64 / 1_000.0;
        if share > self.config.max_busy || self.links.has_much(shard) { Err(busy()) } else { Ok(()) }
    }

    /// Do the shards that have peers of a room, who would have to be told of a newcomer, take what waits for them?
    fn keeps_up(&self, room: usize) -> Result<(), JoinError> {
        let branches = self.home(room).map_or(&[][..], |home| &home.branches);
        if branches.iter().any(|to| self.links.has_much(*to)) { Err(busy()) } else { Ok(()) }
    }

    /// The room of that name; made if it is not there.
    fn open_room(&mut self, now: Instant, name: &RoomName) -> Result<usize, JoinError> {
        if let Some(&place) = self.by_name.get(name) {
            if self.home_mut(place).is_some_and(|home| !home.room.is_over()) {
                return Ok(place);
            }
            self.end_room(place);
        }
        if self.by_name.len() >= self.config.max_rooms {
            return Err(JoinError::new(
                ErrorKind::Overloaded,
                "this server has as many rooms as it may; use another",
            ));
        }
        let config = antiphon_room::Config {
            max_participants: self.config.max_participants_per_room,
            max_hidden: self.config.max_players_per_room,
            max_slots: self.config.max_slots,
            resume_ttl: self.config.resume_ttl,
            busy_permille: self.config.shed_permille(),
            ..antiphon_room::Config::default()
        };
        self.rooms_made += 1;
        let id = RoomId { home: self.shard, serial: self.rooms_made };
        let home = Home::new(Room::new(name.clone(), config, now));
        let place = self.place_host(Host::new(id, name.clone(), Some(home)));
        self.by_name.insert(name.clone(), place);
        self.metrics.rooms += 1;
        Ok(place)
    }

    pub(crate) fn place_host(&mut self, host: Host) -> usize {
        let id = host.id;
        let host = Some(Box::new(host));
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
        self.by_id.insert(id, place);
        place
    }

    pub(crate) fn join(&mut self, now: Instant, prepared: Prepared) -> Result<Joined, JoinError> {
        let shard = u16::try_from(prepared.shard).unwrap_or(self.shard);
        self.admit(shard)?;
        if self.loads.peers() >= self.config.max_peers as u64 {
            return Err(JoinError::new(
                ErrorKind::Overloaded,
                "this server has as many peers as it may; use another",
            ));
        }
        let room = self.open_room(now, &prepared.room)?;
        self.keeps_up(room)?;
        let Some(home) = self.home_mut(room) else {
            return Err(JoinError::new(ErrorKind::Internal, "the room could not be opened"));
        };
        let Prepared { request, negotiated, resume_token, ufrag, .. } = prepared;
        let ice_session = ufrag.clone();
        let resumed = request.resume.as_deref().and_then(|token| {
            home.room.resume(now, token, negotiated.slots.clone(), negotiated.decodes.clone()).ok()
        });
        let key = match resumed {
            Some(key) => key,
            None => home
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
        let id = home.room.participant(key).map_or_else(|| request.id.clone(), |p| p.id);
        // Who came back keeps its token.
        let token = request.resume.filter(|_| resumed.is_some()).unwrap_or(resume_token);
        // Here, wherever the peer sits: the room allocates by it from the first picture on.
        if let Some(bandwidth) = negotiated.connection.start() {
            home.room.bandwidth(now, key, bandwidth);
        }
        for (source, names) in negotiated.connection.layer_names() {
            home.room.name_layers(now, key, source, names);
        }
        if negotiated.takes_bounds {
            home.room.may_bound(now, key);
        }
        if request.kind == ParticipantKind::Whep {
            home.players.insert(key, negotiated.mids);
        }
        let connection = home.next_connection();
        let who = Who { room: self.id_of(room), key, connection };
        let entry = Entry {
            connection: negotiated.connection,
            who,
            id: id.clone(),
            grants: request.grants,
            has_control: negotiated.control,
            plan: negotiated.slots,
        };
        if resumed.is_some() {
            self.restart(now, room, who);
            self.tell_branches(room, |_| Message::Restart(who));
        }
        self.seat(now, room, shard, entry);
        self.mark(room);
        Ok(Joined { id, key, resume_token: token, answer: negotiated.answer, ice_session })
    }

    /// Puts a connection in its place, here or on another shard, instead of an older one of the same participant.
    fn seat(&mut self, now: Instant, room: usize, shard: u16, mut entry: Entry) {
        let (who, id) = (entry.who, entry.id.clone());
        let old = self.home_mut(room).and_then(|home| home.members.remove(&who.key));
        match old {
            Some(Member::Peer(old)) => self.obey(now, old, Order::Replace),
            Some(Member::Away(old)) => {
                let who = Who { connection: old.connection, ..who };
                self.links.send_always(old.shard, Message::Order { who, order: Order::Replace });
            }
            _ => {}
        }
        let here = shard == self.shard;
        let member = if here {
            entry.connection.enter(self.clock, now);
            let place = self.place_peer(Peer::new(entry, room, now));
            self.touch(place);
            Member::Peer(place)
        } else {
            let name = self.hosts[room].as_deref().map(|host| host.name.clone());
            let name = name.expect("the caller has opened it, and nothing above ends a room");
            let enter = Message::Enter { name, who, entry: Box::new(entry) };
            // The first message about a connection is within its budget.
            let _ = self.links.send(shard, enter);
            Member::Away(Away { shard, connection: who.connection, id, connected: false })
        };
        if let Some(home) = self.home_mut(room) {
            if !here && !home.branches.contains(&shard) {
                home.branches.push(shard);
            }
            home.members.insert(who.key, member);
            home.room.served_by(now, who.key, shard);
        }
        self.move_relays(now, room, who.key);
    }

    pub(crate) fn id_of(&self, room: usize) -> RoomId {
        let none = RoomId { home: self.shard, serial: 0 };
        self.hosts.get(room).and_then(Option::as_deref).map_or(none, |host| host.id)
    }

    pub(crate) fn place_peer(&mut self, peer: Peer) -> usize {
        self.metrics.peers += 1;
        self.loads.enter(self.shard, peer.slots.len());
        let ufrags: Vec<String> = peer.connection.sessions.ufrags().map(str::to_owned).collect();
        let (room, key) = (peer.room, peer.who.key);
        let peer = Some(Box::new(peer));
        let place = match self.free_peers.pop() {
            Some(place) => {
                self.peers[place] = peer;
                place
            }
            None => {
                self.peers.push(peer);
                self.peers.len() - 1
            }
        };
        self.by_ufrag.extend(ufrags.into_iter().map(|ufrag| (ufrag, place)));
        if let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) {
            host.peers += 1;
            host.seats.insert(key, place);
        }
        place
    }

    pub(crate) fn attach(
        &mut self,
        now: Instant,
        name: &RoomName,
        request: AttachRequest,
        inbox: &inbox::Sender,
    ) -> Result<Attachment, JoinError> {
        self.admit(self.shard)?;
        let room = self.open_room(now, name)?;
        self.keeps_up(room)?;
        let clock = self.clock;
        let Some(home) = self.home_mut(room) else {
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
        let key = home.room.join(now, join).map_err(|e| JoinError::new(e.kind(), e.to_string()))?;
        let (events, events_out) = async_channel::bounded(EVENT_RING);
        let (media, media_out) = async_channel::bounded(MEDIA_RING);
        let dropped = Arc::new(AtomicU64::new(0));
        let attached = Attached { events, media, dropped: dropped.clone(), may_publish };
        home.members.insert(key, Member::Attached(attached));
        home.room.connected(now, key, clock.us(now));
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
        let member = host.home.as_deref().and_then(|home| home.members.get(&key));
        let Some(Member::Attached(attached)) = member else { return };
        match command {
            AttachCommand::Send(out) => {
                if attached.may_publish && out.payload.len() <= MAX_PAYLOAD_BYTES {
                    let packet = self.own_packet(now, key, out);
                    self.metrics.packets_in += 1;
                    let who = Who { room: self.id_of(room), key, connection: 0 };
                    self.route(now, room, who, packet);
                }
            }
            AttachCommand::Tap(taps) => self.with_home(now, room, |h| h.room.set_taps(now, key, taps)),
            AttachCommand::Record(command) => self.with_home(now, room, |h| h.room.record(now, key, command)),
            AttachCommand::Request { id, request } => {
                self.with_home(now, room, |h| h.room.request(now, key, ClientMessage { id, request }));
            }
            AttachCommand::Publish(publication) => {
                self.with_home(now, room, |h| h.room.publish_data(now, key, Ok(publication)));
            }
            AttachCommand::Keyframe { track, layer } => {
                let feed = Feed { track, layer };
                if host.table.is_tapped(key, feed) {
                    self.want_keyframe(now, room, feed, KeyframeCause::Repair);
                }
            }
            AttachCommand::Leave => self.with_home(now, room, |h| h.room.leave(now, key, LeaveReason::Left)),
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

    pub(crate) fn find(&self, name: &RoomName, id: &ParticipantId) -> Option<(usize, ParticipantKey)> {
        let room = *self.by_name.get(name)?;
        Some((room, self.home(room)?.room.key_of(id)?))
    }

    /// The state of a participant, and where the counts of its connection are, if that is on another shard.
    pub(crate) fn status(
        &self,
        now: Instant,
        name: &RoomName,
        id: &ParticipantId,
        detail: bool,
    ) -> Option<(ParticipantStatus, Option<(u16, Who)>)> {
        let Some((room, key)) = self.find(name, id) else {
            let found = self.gone.iter().rev().find(|(n, s)| n == name && s.id == *id)?;
            let mut status = found.1.clone();
            if !detail {
                status.stats = None;
            }
            return Some((status, None));
        };
        let home = self.home(room)?;
        let presence = home.room.participant(key)?.presence;
        let (mut connected, mut stats, mut elsewhere) = (true, None, None);
        match home.members.get(&key) {
            Some(Member::Peer(place)) => {
                let peer = self.peers.get(*place).and_then(Option::as_deref);
                connected = peer.is_none_or(|p| p.connected);
                stats = peer.filter(|_| detail).map(|p| p.stats(now));
            }
            Some(Member::Away(away)) => {
                connected = away.connected;
                let who = Who { room: self.id_of(room), key, connection: away.connection };
                elsewhere = Some((away.shard, who));
            }
            Some(Member::Attached(_) | Member::Lost { .. }) | None => {}
        }
        let state = match presence {
            Presence::Reconnecting => "reconnecting",
            Presence::Connected if connected => "connected",
            Presence::Connected => "new",
        };
        let (id, presence) = (id.clone(), Some(presence));
        Some((ParticipantStatus { id, key, state, presence, reason: None, stats }, elsewhere))
    }

    fn answer_status(
        &mut self,
        now: Instant,
        name: &RoomName,
        id: &ParticipantId,
        detail: bool,
        reply: Reply<Option<ParticipantStatus>>,
    ) {
        let Some((status, elsewhere)) = self.status(now, name, id, detail) else {
            let _ = reply.try_send(None);
            return;
        };
        if let Some((shard, who)) = elsewhere.filter(|_| detail) {
            let look = Message::Look { who, status: Box::new(status.clone()), reply: reply.clone() };
            if self.links.send(shard, look) {
                return;
            }
        }
        let _ = reply.try_send(Some(status));
    }

    fn remove(&mut self, now: Instant, name: &RoomName, id: &ParticipantId, reason: LeaveReason) -> bool {
        let Some((room, key)) = self.find(name, id) else { return false };
        self.with_home(now, room, |home| home.room.leave(now, key, reason));
        self.pump(now, room);
        true
    }

    fn hold(&mut self, now: Instant, name: &RoomName, id: &ParticipantId, held: bool) -> bool {
        let Some((room, key)) = self.find(name, id) else { return false };
        self.with_home(now, room, |home| home.room.set_held(now, key, held));
        self.pump(now, room);
        true
    }

    fn answer_dump(
        &mut self,
        name: &RoomName,
        id: &ParticipantId,
        reply: Reply<Option<async_channel::Receiver<Vec<u8>>>>,
    ) {
        let found = self.find(name, id);
        let member = found.and_then(|(room, key)| Some((room, key, self.home(room)?.members.get(&key)?)));
        match member {
            Some((_, _, &Member::Peer(place))) => {
                let _ = reply.try_send(self.begin_dump(place));
            }
            Some((room, key, Member::Away(away))) => {
                let (shard, connection) = (away.shard, away.connection);
                let who = Who { room: self.id_of(room), key, connection };
                // Over its budget it is dropped, and the reply with it: there is nothing to dump.
                let _ = self.links.send(shard, Message::Dump { who, reply });
            }
            _ => {
                let _ = reply.try_send(None);
            }
        }
    }

    /// Begins a dump of what a peer here sends.
    pub(crate) fn begin_dump(&mut self, place: usize) -> Option<async_channel::Receiver<Vec<u8>>> {
        let peer = self.peers.get_mut(place)?.as_deref_mut()?;
        let (tx, rx) = async_channel::bounded(crate::dump::DUMP_RING);
        let _ = tx.try_send(antiphon_wire::rtp::dump::pcap_header().to_vec());
        peer.dump = Some(tx);
        Some(rx)
    }

    /// A room fails here, as by a panic.
    pub(crate) fn fail_room(&mut self, now: Instant, name: &RoomName) {
        let mut hosts = self.hosts.iter();
        if let Some(room) = hosts.position(|h| h.as_deref().is_some_and(|h| h.name == *name)) {
            self.drop_room(now, room);
        }
    }

    fn rooms(&self) -> Vec<RoomStatus> {
        let hosts = self.hosts.iter().flatten();
        hosts
            .filter_map(|host| {
                let participants = host.home.as_deref()?.room.roster().cloned().collect();
                Some(RoomStatus { name: host.name.clone(), participants })
            })
            .collect()
    }
}

fn busy() -> JoinError {
    JoinError::new(ErrorKind::Overloaded, "this server is busy; try again in a few seconds")
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
