//! The sans-IO heart of a shard: datagrams, commands and `now` in; datagrams and a deadline out.
//!
//! A round is: any number of [`Core::handle_datagram`] and [`Core::handle_command`], [`Core::handle_timeout`], then
//! [`Core::finish`], which lets every touched subscriber write all its packets in turn. `sim` drives the same core.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use antiphon_base::RoomName;
use antiphon_room::KeyframeCause;
use antiphon_wire::control::{ClientMessage, ErrorBody, LeaveReason, ServerMessage};
use antiphon_wire::rtp::{AudioLevel, Packet};

use crate::clock::Clock;
use crate::config::Config;
use crate::connection::{Happening, Ingress};
use crate::egress::Arena;
use crate::host::{Host, Member, Routed};
use crate::net::Received;
use crate::peer::{MAX_ADDRESSES, Peer};
use crate::status::{ParticipantStatus, ShardMetrics};
use crate::stun;
use crate::timers::{Timer, Timers};

/// The arena is sent when it holds so much: a burst to many subscribers stays in the second-level cache, and takes no more
/// memory than this and one subscriber's share.
const ARENA_BYTES: usize = 256 * 1024;
/// How often consent and the like are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// A peer that has not finished ICE and DTLS by then is let go.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a peer that was let go may read its last message.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_millis(300);
/// States of gone participants kept for `GET`.
const MAX_GONE: usize = 2_048;
/// How often rooms' outputs are pumped in one round before the rest waits for the next; a loop between two engines
/// would be a bug, and must not stop the packets.
const MAX_PUMPS: usize = 64;

/// All state of one shard.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) peers: Vec<Option<Box<Peer>>>,
    pub(crate) free_peers: Vec<usize>,
    by_address: HashMap<std::net::SocketAddr, usize>,
    pub(crate) by_ufrag: HashMap<String, usize>,
    pub(crate) hosts: Vec<Option<Box<Host>>>,
    pub(crate) free_hosts: Vec<usize>,
    pub(crate) by_name: HashMap<RoomName, usize>,
    pub(crate) timers: Timers,
    housekeeping: Option<Instant>,
    touched: Vec<usize>,
    dirty: Vec<usize>,
    arena: Arena,
    pub(crate) gone: VecDeque<(RoomName, ParticipantStatus)>,
    pub(crate) metrics: ShardMetrics,
    pub(crate) draining: Option<Duration>,
    routed: Routed,
}

impl Core {
    pub(crate) fn new(config: Config, clock: Clock, now: Instant) -> Self {
        let mut core = Self {
            config,
            clock,
            peers: Vec::new(),
            free_peers: Vec::new(),
            by_address: HashMap::new(),
            by_ufrag: HashMap::new(),
            hosts: Vec::new(),
            free_hosts: Vec::new(),
            by_name: HashMap::new(),
            timers: Timers::default(),
            housekeeping: None,
            touched: Vec::new(),
            dirty: Vec::new(),
            arena: Arena::default(),
            gone: VecDeque::new(),
            metrics: ShardMetrics::default(),
            draining: None,
            routed: Routed::default(),
        };
        core.timers.schedule(Timer::Housekeeping, now + HOUSEKEEPING, &mut core.housekeeping);
        core
    }

    /// When to call [`Core::handle_timeout`] at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Takes a datagram from the socket.
    pub(crate) fn handle_datagram(&mut self, now: Instant, received: &Received<'_>) {
        self.metrics.datagrams_in += 1;
        let stun = stun::is_stun(received.bytes);
        let place = if stun {
            stun::local_ufrag(received.bytes).and_then(|u| self.by_ufrag.get(u)).copied()
        } else {
            self.by_address.get(&received.source).copied()
        };
        let Some(place) = place else {
            self.metrics.datagrams_unknown += 1;
            return;
        };
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        let arena = &mut self.arena;
        // What a peer sends may at the worst end that peer.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let before = peer.connection.consent();
            peer.connection.on_datagram(now, received, arena);
            stun && peer.connection.consent() != before
        }));
        match result {
            Ok(valid_binding) => {
                peer.deadline = peer.connection.deadline();
                self.timers.schedule(Timer::Peer(place), peer.deadline, &mut peer.scheduled);
                if peer.connection.waits() {
                    self.touch(place);
                }
                if valid_binding {
                    self.learn_address(place, received.source);
                }
                self.handle_happenings(now, place);
            }
            Err(_) => {
                tracing::error!("a peer's datagram made its connection panic; the peer is dropped");
                self.lose_peer(now, place);
            }
        }
    }

    /// A valid binding request came from there: media and DTLS may, too.
    fn learn_address(&mut self, place: usize, source: std::net::SocketAddr) {
        let old = self.by_address.insert(source, place);
        if old == Some(place) {
            return;
        }
        if let Some(other) = old.and_then(|o| self.peers.get_mut(o)).and_then(Option::as_deref_mut) {
            other.addresses.retain(|a| *a != source);
        }
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        peer.addresses.push_back(source);
        if peer.addresses.len() > MAX_ADDRESSES
            && let Some(oldest) = peer.addresses.pop_front()
        {
            self.by_address.remove(&oldest);
        }
    }

    fn handle_happenings(&mut self, now: Instant, place: usize) {
        while let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) {
            let Some(happening) = peer.connection.next_event() else { return };
            match happening {
                Happening::Media(ingress) => self.on_media(now, place, *ingress),
                Happening::Connected => self.on_connected(now, place),
                Happening::ControlOpen => {
                    peer.note(now, "control channel open");
                    let us = self.clock.us(now);
                    self.with_room(now, place, |host, key| host.room.connected(now, key, us));
                }
                Happening::Control(bytes) => self.on_control(now, place, &bytes),
                Happening::KeyframeWanted(slot) => {
                    let feed =
                        peer.slots.get(usize::from(slot.0)).and_then(antiphon_room::slot::Slot::current);
                    if let Some(feed) = feed {
                        self.with_room(now, place, |host, _| {
                            host.room.keyframe_wanted(now, feed, KeyframeCause::Repair)
                        });
                    }
                }
                Happening::Bandwidth(bps) => {
                    self.with_room(now, place, |host, key| host.room.bandwidth(now, key, bps));
                }
                Happening::Closed => {
                    peer.note(now, "connection closed");
                    self.lose_peer(now, place);
                    return;
                }
            }
        }
    }

    /// Media can flow: what the slots wait for has passed by until now.
    fn on_connected(&mut self, now: Instant, place: usize) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        peer.connected = true;
        peer.note(now, "connected");
        let has_control = peer.has_control;
        let feeds: Vec<_> = peer.slots.iter().filter_map(antiphon_room::slot::Slot::needs_keyframe).collect();
        self.with_room(now, place, |host, key| {
            if !has_control {
                host.room.connected(now, key, 0);
            }
            for feed in feeds {
                host.room.keyframe_wanted(now, feed, KeyframeCause::Start);
            }
        });
    }

    fn on_control(&mut self, now: Instant, place: usize, bytes: &[u8]) {
        match ClientMessage::parse(bytes) {
            Ok(message) => self.with_room(now, place, |host, key| host.room.request(now, key, message)),
            Err(error) => {
                let kind = antiphon_base::ErrorKind::BadRequest;
                let reply = ServerMessage::Reply {
                    id: request_id(bytes),
                    error: Some(ErrorBody { code: kind, message: error.to_string() }),
                };
                self.say(now, place, &reply);
            }
        }
    }

    /// Sends a control message to a peer.
    pub(crate) fn say(&mut self, now: Instant, place: usize, message: &ServerMessage) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        if peer.has_control && !peer.say(message.to_json()) {
            peer.note(now, "does not read its control channel");
            self.lose_peer(now, place);
            return;
        }
        self.touch(place);
    }

    /// Runs something on the room of a peer.
    pub(crate) fn with_room(
        &mut self,
        now: Instant,
        place: usize,
        act: impl FnOnce(&mut Host, antiphon_base::ParticipantKey),
    ) {
        let Some(peer) = self.peers.get(place).and_then(Option::as_deref) else { return };
        if peer.closing.is_some() {
            return;
        }
        let (room, key) = (peer.room, peer.key);
        self.with_host(now, room, |host| act(host, key));
    }

    /// Runs something on a room; a panic in it ends that room only.
    pub(crate) fn with_host(&mut self, now: Instant, room: usize, act: impl FnOnce(&mut Host)) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let result = catch_unwind(AssertUnwindSafe(|| {
            act(host);
            host.dirty = true;
        }));
        match result {
            Ok(()) => self.mark(room),
            Err(_) => self.drop_room(now, room),
        }
    }

    /// The room may have outputs.
    pub(crate) fn mark(&mut self, room: usize) {
        if !self.dirty.contains(&room) {
            self.dirty.push(room);
        }
    }

    /// The peer has something to send.
    pub(crate) fn touch(&mut self, place: usize) {
        if let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut)
            && !peer.touched
        {
            peer.touched = true;
            self.touched.push(place);
        }
    }

    fn on_media(&mut self, now: Instant, place: usize, ingress: Ingress) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        if !peer.grants.publish || peer.closing.is_some() {
            return;
        }
        self.metrics.packets_in += 1;
        let track = antiphon_base::TrackKey { participant: peer.key, source: ingress.source };
        let rtp = ingress.packet;
        let packet = Packet {
            track,
            layer: ingress.layer,
            codec: ingress.codec,
            seq: rtp.seq,
            rtp_time: rtp.rtp_time,
            marker: rtp.marker,
            descriptor: rtp.descriptor,
            payload: rtp.payload,
            arrival: now,
            arrival_us: self.clock.us(now),
            capture_us: rtp.capture_us,
            capture_estimated: rtp.capture_estimated,
            audio_level: rtp.audio_level.map(|(level, voice)| AudioLevel { level, voice }),
            dependency: rtp.dependency,
            spatial_layers: rtp.spatial_layers,
        };
        if let Some(dump) = &peer.dump {
            crate::dump::record(dump, &packet);
        }
        let room = peer.room;
        self.route(now, room, packet);
    }

    /// Gives a packet of a room's participant to whoever gets it.
    pub(crate) fn route(&mut self, now: Instant, room: usize, packet: Packet) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        let peers = &self.peers;
        let observed = catch_unwind(AssertUnwindSafe(|| host.observe(now, &packet, peers)));
        match observed {
            // The room decides first who gets it: the first packets of a voice and the first key frame are not lost.
            Ok(true) => self.pump(now, room),
            Ok(false) => {}
            Err(_) => return self.drop_room(now, room),
        }
        let Some(mut host) = self.hosts.get_mut(room).and_then(Option::take) else { return };
        let packet = std::sync::Arc::new(packet);
        let mut routed = std::mem::take(&mut self.routed);
        let peers = &mut self.peers;
        let result = catch_unwind(AssertUnwindSafe(|| host.route(&packet, peers, &mut routed)));
        if result.is_err() {
            self.hosts[room] = Some(host);
            self.drop_room(now, room);
            return;
        }
        self.metrics.packets_forwarded += routed.forwarded;
        self.metrics.packets_unwanted += u64::from(routed.unwanted);
        self.metrics.attach_dropped += routed.attach_dropped;
        for switched in routed.switched.drain(..) {
            if let Some(peer) = self.peers.get_mut(switched.peer).and_then(Option::as_deref_mut) {
                host.room.switched(now, peer.key, switched.slot, switched.feed, switched.rtp_time);
                host.relisten(now, switched.peer, peer, switched.slot);
                host.dirty = true;
            }
        }
        let dirty = host.dirty;
        self.hosts[room] = Some(host);
        for i in 0..routed.touched.len() {
            self.touch(routed.touched[i]);
        }
        self.routed = routed;
        if dirty {
            self.mark(room);
        }
    }

    /// Handles everything that is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, timer)) = self.timers.pop(now) {
            match timer {
                Timer::Peer(place) => {
                    let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else {
                        continue;
                    };
                    peer.scheduled = None;
                    if peer.deadline <= now {
                        self.touch(place);
                    } else {
                        self.timers.schedule(timer, peer.deadline, &mut peer.scheduled);
                    }
                }
                Timer::Room(place) => {
                    if let Some(host) = self.hosts.get_mut(place).and_then(Option::as_deref_mut) {
                        host.scheduled = None;
                        self.with_host(now, place, |host| host.room.handle_timeout(now));
                    }
                }
                Timer::Housekeeping => {
                    self.housekeeping = None;
                    self.keep_house(now);
                    self.timers.schedule(timer, now + HOUSEKEEPING, &mut self.housekeeping);
                }
            }
        }
    }

    fn keep_house(&mut self, now: Instant) {
        for place in 0..self.peers.len() {
            let Some(peer) = self.peers[place].as_deref_mut() else { continue };
            if peer.closing.is_some_and(|at| at <= now) {
                self.take_down(now, place);
            } else if !peer.connected && now.saturating_duration_since(peer.since) > CONNECT_TIMEOUT {
                peer.note(now, "did not connect in time");
                self.lose_peer(now, place);
            } else if peer.is_lost(now, self.config.consent_timeout) {
                peer.note(now, "no consent for too long");
                self.lose_peer(now, place);
            } else if peer.control_waits() {
                peer.flush_control();
                self.touch(place);
            }
            self.ask_again(now, place);
        }
        for room in 0..self.hosts.len() {
            self.with_host(now, room, |host| host.find_stopped_layers(now));
            if self.hosts[room].as_deref().is_some_and(|h| h.room.is_over()) {
                self.end_room(room);
            }
        }
    }

    /// A slot may have missed its key frame (the first packet came late). Who watches another layer until then sees nothing
    /// wrong, and does not ask.
    fn ask_again(&mut self, now: Instant, place: usize) {
        let Some(peer) = self.peers[place].as_deref().filter(|p| p.connected && p.closing.is_none()) else {
            return;
        };
        let (room, waits): (usize, Vec<_>) =
            (peer.room, peer.slots.iter().filter_map(antiphon_room::slot::Slot::needs_keyframe).collect());
        if !waits.is_empty() {
            self.with_host(now, room, |host| {
                for feed in waits {
                    host.room.keyframe_wanted(now, feed, antiphon_room::KeyframeCause::Start);
                }
            });
        }
    }

    /// Ends a round: rooms' outputs, then every touched subscriber writes all it has. What leaves is given to `send`, in
    /// pieces that the cache holds.
    pub(crate) fn finish(&mut self, now: Instant, mut send: impl FnMut(&Arena)) {
        for _ in 0..MAX_PUMPS {
            let (rooms, peers) = (std::mem::take(&mut self.dirty), std::mem::take(&mut self.touched));
            if rooms.is_empty() && peers.is_empty() {
                break;
            }
            for room in rooms {
                self.pump(now, room);
            }
            for place in peers {
                self.finish_peer(now, place);
                if self.arena.bytes().len() >= ARENA_BYTES {
                    self.send_arena(&mut send);
                }
            }
        }
        self.send_arena(&mut send);
    }

    fn send_arena(&mut self, send: &mut impl FnMut(&Arena)) {
        if !self.arena.datagrams().is_empty() {
            self.metrics.datagrams_out += self.arena.datagrams().len() as u64;
            send(&self.arena);
            self.arena.clear();
        }
    }

    fn finish_peer(&mut self, now: Instant, place: usize) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        peer.touched = false;
        let arena = &mut self.arena;
        let result = catch_unwind(AssertUnwindSafe(|| peer.connection.finish(now, arena)));
        if result.is_err() {
            tracing::error!("a connection panicked; the peer is dropped");
            self.lose_peer(now, place);
            return;
        }
        peer.deadline = peer.connection.deadline();
        self.timers.schedule(Timer::Peer(place), peer.deadline, &mut peer.scheduled);
        self.handle_happenings(now, place);
    }

    /// The connection is gone without good-bye: the room keeps the place for a while.
    pub(crate) fn lose_peer(&mut self, now: Instant, place: usize) {
        let Some(peer) = self.peers.get(place).and_then(Option::as_deref) else { return };
        let lost = Member::Lost { id: peer.id.clone(), stats: peer.stats(now) };
        self.with_room(now, place, |host, key| {
            host.forget_peer(place);
            host.members.insert(key, lost);
            host.room.disconnected(now, key);
        });
        self.take_down(now, place);
    }

    /// Ends a connection and forgets it.
    pub(crate) fn take_down(&mut self, now: Instant, place: usize) {
        let Some(mut peer) = self.peers.get_mut(place).and_then(Option::take) else { return };
        let arena = &mut self.arena;
        // BYE and close_notify leave now; nobody waits for answers.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            peer.connection.close();
            peer.connection.finish(now, arena);
        }));
        for address in &peer.addresses {
            self.by_address.remove(address);
        }
        self.by_ufrag.remove(&peer.ufrag);
        if let Some(host) = self.hosts.get_mut(peer.room).and_then(Option::as_deref_mut) {
            host.forget_peer(place);
        }
        self.free_peers.push(place);
        self.metrics.peers = self.metrics.peers.saturating_sub(1);
    }

    /// A room has panicked: it ends, with everybody in it; the others go on.
    pub(crate) fn drop_room(&mut self, now: Instant, room: usize) {
        self.metrics.room_panics += 1;
        let members = self.hosts.get(room).and_then(Option::as_deref).map(|h| h.name.clone());
        tracing::error!(room = ?members, "a room panicked and is dropped");
        self.end_room(room);
        let places: Vec<usize> = (0..self.peers.len())
            .filter(|p| self.peers[*p].as_deref().is_some_and(|peer| peer.room == room))
            .collect();
        for place in places {
            self.say(now, place, &ServerMessage::Closed { reason: LeaveReason::RoomClosed });
            if let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) {
                peer.closing = Some(now + CLOSE_GRACE);
            }
        }
    }

    /// Forgets a room. Attachments see their rings close.
    fn end_room(&mut self, room: usize) {
        if let Some(host) = self.hosts.get_mut(room).and_then(Option::take) {
            let attached = host.members.values().filter(|m| matches!(m, Member::Attached(_))).count() as u64;
            self.metrics.attachments = self.metrics.attachments.saturating_sub(attached);
            self.by_name.remove(&host.name);
            self.free_hosts.push(room);
            self.metrics.rooms = self.metrics.rooms.saturating_sub(1);
        }
    }

    /// Keeps the last state of somebody for `GET`.
    pub(crate) fn remember(&mut self, room: RoomName, status: ParticipantStatus) {
        if self.gone.len() == MAX_GONE {
            self.gone.pop_front();
        }
        self.gone.push_back((room, status));
    }
}

/// The id of a request that did not parse, where it can be read.
fn request_id(bytes: &[u8]) -> u32 {
    #[derive(serde::Deserialize)]
    struct Id {
        id: u32,
    }
    if bytes.len() > antiphon_wire::control::MAX_MESSAGE_BYTES {
        return 0;
    }
    serde_json::from_slice::<Id>(bytes).map_or(0, |i| i.id)
}
