//! The sans-IO heart of a shard: datagrams, commands and `now` in; datagrams and a deadline out.
//!
//! A round is: any number of [`Core::handle_datagram`] and [`Core::handle_command`], [`Core::handle_timeout`], then
//! [`Core::finish`], which lets every touched subscriber write all its packets in turn. `sim` drives the same core.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::RoomName;
use antiphon_room::{Feed, KeyframeCause};
use antiphon_wire::control::{ClientMessage, ErrorBody, LeaveReason, ServerMessage};
use antiphon_wire::rtp::{AudioLevel, Packet};
use antiphon_wire::topic;

use crate::clock::Clock;
use crate::config::Config;
use crate::egress::Arena;
use crate::happening::{Happening, Ingress};
use crate::holdings::Holdings;
use crate::home::{Home, Member};
use crate::host::Host;
use crate::link::Links;
use crate::load::Loads;
use crate::net::Received;
use crate::peer::{MAX_ADDRESSES, Peer};
use crate::seam::{Fact, Message, RoomId};
use crate::status::{ParticipantStatus, ShardMetrics};
use crate::stun;
use crate::table::Routed;
use crate::timers::{Timer, Timers};
use crate::transport::{Remote, Transport};

/// The arena is sent when it holds so much: a burst to many subscribers stays in the second-level cache, and takes no more
/// memory than this and one subscriber's share.
pub(crate) const ARENA_BYTES: usize = 128 * 1024;
/// How often consent and the like are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// A peer that has not finished ICE and DTLS by then is let go.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a peer that was let go may read its last message.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_millis(300);
/// States of gone participants kept for `GET`.
pub(crate) const MAX_GONE: usize = 2_048;
/// How often rooms' outputs are pumped in one round before the rest waits for the next; a loop between two engines
/// would be a bug, and must not stop the packets.
const MAX_PUMPS: usize = 64;

/// All state of one shard.
pub(crate) struct Core {
    pub(crate) shard: u16,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) peers: Vec<Option<Box<Peer>>>,
    pub(crate) free_peers: Vec<usize>,
    by_address: HashMap<Remote, usize>,
    pub(crate) by_ufrag: HashMap<String, usize>,
    pub(crate) hosts: Vec<Option<Box<Host>>>,
    pub(crate) free_hosts: Vec<usize>,
    /// Rooms at home here.
    pub(crate) by_name: HashMap<RoomName, usize>,
    /// All rooms here.
    pub(crate) by_id: HashMap<RoomId, usize>,
    /// Rooms that have had their home here.
    pub(crate) rooms_made: u64,
    pub(crate) links: Links,
    pub(crate) loads: Arc<Loads>,
    pub(crate) timers: Timers,
    housekeeping: Option<Instant>,
    touched: Vec<usize>,
    dirty: Vec<usize>,
    arena: Arena,
    pub(crate) gone: VecDeque<(RoomName, ParticipantStatus)>,
    pub(crate) metrics: ShardMetrics,
    pub(crate) draining: Option<Duration>,
    pub(crate) routed: Routed,
    /// TCP connections that lead to nobody any more.
    ended_pipes: Vec<SocketAddr>,
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is from nobody we know.
    Unknown,
    /// A peer got it.
    Given,
    /// It was a valid binding request: who sends from there is a peer of ours.
    Proven,
}

impl Core {
    pub(crate) fn new(shard: u16, config: Config, loads: Arc<Loads>, clock: Clock, now: Instant) -> Self {
        let mut core = Self {
            shard,
            config,
            clock,
            peers: Vec::new(),
            free_peers: Vec::new(),
            by_address: HashMap::new(),
            by_ufrag: HashMap::new(),
            hosts: Vec::new(),
            free_hosts: Vec::new(),
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            rooms_made: 0,
            links: Links::new(shard, loads.shards()),
            loads,
            timers: Timers::default(),
            housekeeping: None,
            touched: Vec::new(),
            dirty: Vec::new(),
            arena: Arena::default(),
            gone: VecDeque::new(),
            metrics: ShardMetrics::default(),
            draining: None,
            routed: Routed::default(),
            ended_pipes: Vec::new(),
        };
        core.timers.schedule(Timer::Housekeeping, now + HOUSEKEEPING, &mut core.housekeeping);
        core
    }

    /// When to call [`Core::handle_timeout`] at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The place of the peer that is known to send from there.
    pub(crate) fn sender_of(&self, received: &Received<'_>) -> Option<usize> {
        let remote = Remote { transport: received.transport, address: received.source };
        self.by_address.get(&remote).copied()
    }

    /// What a peer needs for a datagram of its own comes near, in three `steps`: what leads to other memory before that.
    pub(crate) fn prefetch(&self, place: usize, step: usize) {
        let Some(peer) = self.peers.get(place).and_then(Option::as_deref) else { return };
        match step {
            0 => peer.prefetch(),
            1 => peer.connection.sender.prefetch_estimator(),
            _ => peer.connection.sender.prefetch_told(),
        }
    }

    /// Takes a datagram from the socket, or out of a stream.
    pub(crate) fn handle_datagram(&mut self, now: Instant, received: &Received<'_>) -> Taken {
        self.metrics.datagrams_in += 1;
        let stun = stun::is_stun(received.bytes);
        let remote = Remote { transport: received.transport, address: received.source };
        let place = if stun {
            stun::local_ufrag(received.bytes).and_then(|u| self.by_ufrag.get(u)).copied()
        } else {
            self.by_address.get(&remote).copied()
        };
        let Some(place) = place else {
            self.metrics.datagrams_unknown += 1;
            return Taken::Unknown;
        };
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else {
            return Taken::Unknown;
        };
        let arena = &mut self.arena;
        // What a peer sends may at the worst end that peer.
        let result = catch_unwind(AssertUnwindSafe(|| peer.connection.on_datagram(now, received, arena)));
        let restarted = peer.connection.sessions.has_retired();
        match result {
            Ok(valid_binding) => {
                peer.deadline = peer.connection.deadline();
                self.timers.schedule(Timer::Peer(place), peer.deadline, &mut peer.scheduled);
                if peer.connection.waits() {
                    self.touch(place);
                }
                if valid_binding {
                    self.learn_address(now, place, remote);
                }
                if restarted {
                    self.forget_retired(now, place);
                }
                self.handle_happenings(now, place);
                if valid_binding { Taken::Proven } else { Taken::Given }
            }
            Err(_) => {
                tracing::error!("a peer's datagram made its connection panic; the peer is dropped");
                self.lose_peer(now, place);
                Taken::Unknown
            }
        }
    }

    /// A valid binding request came from there: media and DTLS may, too.
    fn learn_address(&mut self, now: Instant, place: usize, remote: Remote) {
        let old = self.by_address.get(&remote).copied();
        if old == Some(place) || old.is_some_and(|owner| self.keeps_address(now, owner, place, remote)) {
            return;
        }
        self.by_address.insert(remote, place);
        if let Some(other) = old.and_then(|o| self.peers.get_mut(o)).and_then(Option::as_deref_mut) {
            other.addresses.retain(|a| *a != remote);
        }
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        peer.addresses.push_back(remote);
        if peer.addresses.len() > MAX_ADDRESSES {
            // The one in use stays: who replays the peer's checks from elsewhere must not push it out.
            let used = peer.connection.remote();
            let oldest = peer.addresses.iter().position(|a| Some(*a) != used);
            if let Some(oldest) = oldest.and_then(|at| peer.addresses.remove(at)) {
                self.forget_address(oldest);
            }
        }
    }

    /// Two peers are said to be at one address. The one that is alive there stays, if the other is alive elsewhere: who
    /// replays that one's check from this address would otherwise silence its owner. A peer without another way (one
    /// that came again from its old port) gets it.
    fn keeps_address(&self, now: Instant, owner: usize, claimant: usize, remote: Remote) -> bool {
        let way = |place: usize| self.peers.get(place)?.as_deref()?.connection.live_remote(now);
        way(owner) == Some(remote) && way(claimant).is_some_and(|w| w != remote)
    }

    fn forget_address(&mut self, remote: Remote) {
        self.by_address.remove(&remote);
        if remote.transport == Transport::Tcp {
            self.ended_pipes.push(remote.address);
        }
    }

    /// TCP connections to close: their peers are gone, or have too many.
    pub(crate) fn take_ended_pipes(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.ended_pipes)
    }

    /// A TCP connection has ended.
    pub(crate) fn pipe_ended(&mut self, address: SocketAddr) {
        let remote = Remote { transport: Transport::Tcp, address };
        let Some(place) = self.by_address.remove(&remote) else { return };
        if let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) {
            peer.addresses.retain(|a| *a != remote);
            peer.connection.lose_way(remote);
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
                    self.tell(now, place, Fact::ControlOpen);
                }
                Happening::Control(bytes) => self.on_control(now, place, &bytes),
                Happening::Data(bytes) => self.tell(now, place, Fact::Data(topic::parse(&bytes))),
                Happening::DataReady => {
                    peer.flush_topics();
                    self.touch(place);
                }
                Happening::KeyframeWanted(slot, cause) => {
                    let (room, closing) = (peer.room, peer.closing.is_some());
                    let slot = peer.slots.get(usize::from(slot.0));
                    let feed = slot.and_then(antiphon_room::slot::Slot::current).filter(|_| !closing);
                    if let Some(feed) = feed {
                        self.want_keyframe(now, room, feed, cause);
                    }
                }
                Happening::Bandwidth(bandwidth) => self.tell(now, place, Fact::Bandwidth(bandwidth)),
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
        let (room, has_control, closing) = (peer.room, peer.has_control, peer.closing.is_some());
        let feeds: Vec<_> = peer.slots.iter().filter_map(antiphon_room::slot::Slot::needs_keyframe).collect();
        if closing {
            return;
        }
        if let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) {
            host.table.connected(peer);
        }
        self.settle_interests(now, room);
        self.tell(now, place, Fact::Connected { has_control });
        for feed in feeds {
            self.want_keyframe(now, room, feed, KeyframeCause::Start);
        }
    }

    fn on_control(&mut self, now: Instant, place: usize, bytes: &[u8]) {
        match ClientMessage::parse(bytes) {
            Ok(message) => self.tell(now, place, Fact::Request(Box::new(message))),
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

    /// Tells the room of a peer what happened to it.
    pub(crate) fn tell(&mut self, now: Instant, place: usize, fact: Fact) {
        let Some(peer) = self.peers.get(place).and_then(Option::as_deref) else { return };
        if peer.closing.is_some() {
            return;
        }
        let (room, who, clock) = (peer.room, peer.who, self.clock);
        if who.room.home == self.shard {
            self.with_home(now, room, |home| home.learn(now, clock, who.key, fact));
            return;
        }
        let message = Message::Fact { who, fact };
        let may_be_lost = message.is_data();
        match self.links.send(who.room.home, message) {
            true => {}
            false if may_be_lost => self.metrics.data_dropped += 1,
            false => self.give_up(now, place),
        }
    }

    /// Somebody on this shard needs a keyframe.
    pub(crate) fn want_keyframe(&mut self, now: Instant, room: usize, feed: Feed, cause: KeyframeCause) {
        let Some(host) = self.hosts.get(room).and_then(Option::as_deref) else { return };
        let id = host.id;
        if id.home == self.shard {
            self.with_home(now, room, |home| home.room.keyframe_wanted(now, feed, cause));
        } else {
            self.links.want(id.home, id, feed, cause);
        }
    }

    /// The engine and members of a room that is at home here.
    pub(crate) fn home(&self, room: usize) -> Option<&Home> {
        self.hosts.get(room)?.as_deref()?.home.as_deref()
    }

    /// As [`Core::home`].
    pub(crate) fn home_mut(&mut self, room: usize) -> Option<&mut Home> {
        self.hosts.get_mut(room)?.as_deref_mut()?.home.as_deref_mut()
    }

    /// Runs something on a room that is at home here; a panic in it ends that room only.
    pub(crate) fn with_home(&mut self, now: Instant, room: usize, act: impl FnOnce(&mut Home)) {
        let Some(home) = self.home_mut(room) else { return };
        let result = catch_unwind(AssertUnwindSafe(|| {
            act(home);
            home.dirty = true;
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

    /// A peer has something to send.
    pub(crate) fn waits(&self) -> bool {
        !self.touched.is_empty()
    }

    fn on_media(&mut self, now: Instant, place: usize, ingress: Ingress) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        if !peer.grants.publish || peer.closing.is_some() {
            return;
        }
        self.metrics.packets_in += 1;
        let track = antiphon_base::TrackKey { participant: peer.who.key, source: ingress.source };
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
        let (room, who) = (peer.room, peer.who);
        self.route(now, room, who, packet);
    }

    /// Handles everything that is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop(now) {
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
                    if let Some(home) = self.home_mut(place) {
                        home.scheduled = None;
                        self.with_home(now, place, |home| home.room.handle_timeout(now));
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
            } else if peer.messages_wait() {
                peer.flush_control();
                peer.flush_topics();
                self.touch(place);
            }
            self.ask_again(now, place);
            let peer = self.peers[place].as_deref_mut();
            if peer.is_some_and(|peer| peer.connection.repeat_bound(now)) {
                self.touch(place);
            }
        }
        for room in 0..self.hosts.len() {
            self.find_stopped_layers(now, room);
            self.tell_watches(now, room);
            if self.home_mut(room).is_some_and(|home| home.room.is_over()) {
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
        for feed in waits {
            self.want_keyframe(now, room, feed, KeyframeCause::Start);
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
            for (i, &place) in peers.iter().enumerate() {
                self.approach(&peers, i);
                self.finish_peer(now, place);
                if self.arena.bytes().len() >= ARENA_BYTES {
                    self.send_arena(&mut send);
                }
            }
        }
        self.send_arena(&mut send);
    }

    /// The state of the peers that are finished after the one at `i` comes near: what leads to other memory before that.
    fn approach(&self, peers: &[usize], i: usize) {
        let ahead = |by: usize| peers.get(i + by).and_then(|&place| self.peers.get(place)?.as_deref());
        if let Some(peer) = ahead(3) {
            peer.prefetch();
        }
        if let Some(peer) = ahead(2) {
            peer.connection.sender.prefetch_lines();
        }
        if let Some(peer) = ahead(1) {
            peer.connection.sender.prefetch_histories();
        }
    }

    fn send_arena(&mut self, send: &mut impl FnMut(&Arena)) {
        let count = self.arena.datagrams().len() + self.arena.by_tcp().len();
        if count > 0 {
            self.metrics.datagrams_out += count as u64;
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
        let lost = Fact::Lost { id: peer.id.clone(), stats: peer.stats(now) };
        self.tell(now, place, lost);
        self.take_down(now, place);
    }

    /// Ends a connection and forgets it.
    pub(crate) fn take_down(&mut self, now: Instant, place: usize) {
        let Some(mut peer) = self.peers.get_mut(place).and_then(Option::take) else { return };
        self.timers.cancel(Timer::Peer(place), peer.scheduled);
        let arena = &mut self.arena;
        // BYE and close_notify leave now; nobody waits for answers.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            peer.connection.close();
            peer.connection.finish(now, arena);
        }));
        for remote in std::mem::take(&mut peer.addresses) {
            self.forget_address(remote);
        }
        for ufrag in peer.connection.sessions.ufrags() {
            self.by_ufrag.remove(ufrag);
        }
        self.free_peers.push(place);
        self.loads.leave(self.shard, peer.slots.len());
        self.metrics.peers = self.metrics.peers.saturating_sub(1);
        self.vacate(now, place, &peer);
    }

    /// A peer's seat in its room is free.
    fn vacate(&mut self, now: Instant, place: usize, peer: &Peer) {
        let room = peer.room;
        let Some(host) = self.hosts.get_mut(room).and_then(Option::as_deref_mut) else { return };
        if host.id != peer.who.room {
            return; // Its room has ended before.
        }
        host.table.forget_peer(place);
        if host.seats.get(&peer.who.key) == Some(&place) {
            host.seats.remove(&peer.who.key);
            host.table.unrelay(peer.who.key);
        }
        host.peers -= 1;
        if host.is_deserted() {
            self.settle_interests(now, room);
            self.end_room(room);
        } else {
            self.mark(room);
        }
    }

    /// A room has panicked: it ends, with everybody in it; the others go on.
    pub(crate) fn drop_room(&mut self, now: Instant, room: usize) {
        let Some(host) = self.hosts.get(room).and_then(Option::as_deref) else { return };
        let id = host.id;
        self.metrics.room_panics += 1;
        tracing::error!(room = %host.name, "a room panicked and is dropped");
        if id.home == self.shard {
            self.tell_branches(room, Message::End);
        } else {
            self.links.send_always(id.home, Message::Failed(id));
        }
        self.close_room(now, room);
    }

    /// A room ends by a fault: its peers here are told.
    pub(crate) fn close_room(&mut self, now: Instant, room: usize) {
        let Some(host) = self.hosts.get(room).and_then(Option::as_deref) else { return };
        let id = host.id;
        self.end_room(room);
        let places: Vec<usize> = (0..self.peers.len())
            .filter(|p| self.peers[*p].as_deref().is_some_and(|peer| peer.who.room == id))
            .collect();
        for place in places {
            if let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) {
                peer.closing = Some(now + CLOSE_GRACE);
            }
            self.say(now, place, &ServerMessage::Closed { reason: LeaveReason::RoomClosed });
        }
    }

    /// Forgets a room. Attachments see their rings close.
    pub(crate) fn end_room(&mut self, room: usize) {
        let Some(host) = self.hosts.get_mut(room).and_then(Option::take) else { return };
        self.timers.cancel(Timer::Room(room), host.home.as_ref().and_then(|home| home.scheduled));
        self.by_id.remove(&host.id);
        self.free_hosts.push(room);
        let Some(home) = host.home else {
            self.metrics.branches = self.metrics.branches.saturating_sub(1);
            return;
        };
        let attached = home.members.values().filter(|m| matches!(m, Member::Attached(_))).count() as u64;
        self.metrics.attachments = self.metrics.attachments.saturating_sub(attached);
        self.by_name.remove(&host.name);
        self.metrics.rooms = self.metrics.rooms.saturating_sub(1);
    }

    /// How much there is of everything.
    pub(crate) fn holdings(&self) -> Holdings {
        let hosts = || self.hosts.iter().flatten();
        let homes = hosts().filter_map(|h| h.home.as_deref());
        let mut held = Holdings {
            peers: self.peers.iter().flatten().count(),
            addresses: self.by_address.len(),
            ufrags: self.by_ufrag.len(),
            rooms: hosts().count(),
            members: homes.map(|h| h.members.len()).sum(),
            feeds: hosts().map(|h| h.table.feeds()).sum(),
            routes: hosts().map(|h| h.table.routes()).sum(),
            timers: self.timers.len(),
            gone: self.gone.len(),
            ..Holdings::default()
        };
        self.peers.iter().flatten().for_each(|peer| peer.count(&mut held));
        self.links.count(&mut held);
        held.unsent.add(self.arena.datagrams().len() + self.arena.by_tcp().len());
        held.arena_bytes.add(self.arena.capacity());
        held
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
