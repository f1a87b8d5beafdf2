//! Shards without threads and sockets: what [`crate::Shards`] runs, for tests under virtual time (`sim`).
//!
//! ```
//! use std::time::Instant;
//! use antiphon_shard::{Config, Engine};
//!
//! let now = Instant::now();
//! let mut engine = Engine::new(Config::default(), "10.0.0.1:7701".parse()?, now, 1_700_000_000_000_000)?;
//! engine.handle_timeout(now);
//! engine.finish(now, |_packet| {});
//! assert!(engine.poll_timeout().is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::{ParticipantId, RoomName};
use antiphon_room::SelectError;
use antiphon_wire::control::{LeaveReason, ParticipantKind};
use antiphon_wire::whep::{Event, Selection};
use str0m::IceCreds;
use str0m::config::DtlsCert;

use crate::attach::{AttachRequest, Attachment};
use crate::clock::Clock;
use crate::command::Command;
use crate::config::{Config, Reachability, Tcp};
use crate::core::Core;
use crate::holdings::Holdings;
use crate::inbox::{self, Inbox, Sender};
use crate::join::{JoinError, JoinRequest, Joined, Prepared};
use crate::link::{Load, Port};
use crate::load::{Loads, Placement};
use crate::net::Received;
use crate::offer::Offered;
use crate::reach::{self, Reach};
use crate::restart::{IceError, IceRequest, IceUpdate, PWD_CHARACTERS, Seat, UFRAG_CHARACTERS, random_text};
use crate::sdp::{Terms, negotiate};
use crate::status::{ParticipantStatus, ShardMetrics};
use crate::transport::Transport;
use crate::watch::WatchError;

/// A packet that leaves.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    /// As a datagram, or framed in a stream.
    pub transport: Transport,
    /// From where.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
    /// What.
    pub bytes: &'a [u8],
}

/// How often shards may answer each other within one round before the rest waits for the next.
const MAX_EXCHANGES: usize = 64;

/// One shard or several, driven by the caller.
pub struct Engine {
    cores: Vec<Core>,
    door: Door,
    placement: Placement,
    locals: Vec<SocketAddr>,
    reach: Vec<Arc<Reach>>,
    senders: Vec<Sender>,
    inboxes: Vec<Inbox>,
    ports: Vec<Port>,
    flights: Flights,
    /// How long what goes from shard to shard is under way.
    pub lag: Lag,
    stalled: Vec<bool>,
}

/// How long what goes from shard to shard is under way: for real threads, some microseconds while they are idle, and a
/// round of the other one while it is busy. Both kinds keep their order, but not with each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Messages.
    pub messages: Duration,
    /// Packets.
    pub media: Duration,
}

/// What is between the shards: when it arrives, from whom, for whom.
#[derive(Default)]
struct Flights {
    messages: VecDeque<Flight>,
    media: VecDeque<Flight>,
}

struct Flight {
    due: Instant,
    from: u16,
    to: usize,
    load: Load,
}

impl Flights {
    fn next(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<Flight>| queue.front().map(|f| f.due);
        [first(&self.messages), first(&self.media)].into_iter().flatten().min()
    }

    fn pop(&mut self, now: Instant) -> Option<Flight> {
        let is_due = |queue: &VecDeque<Flight>| queue.front().is_some_and(|f| f.due <= now);
        if is_due(&self.messages) {
            return self.messages.pop_front();
        }
        if is_due(&self.media) { self.media.pop_front() } else { None }
    }

    fn count(&self, held: &mut Holdings) {
        let mut pairs: BTreeMap<(u16, usize), (usize, usize)> = BTreeMap::new();
        for Flight { from, to, load, .. } in self.messages.iter().chain(&self.media) {
            let pair = pairs.entry((*from, *to)).or_default();
            *pair = (pair.0 + load.messages.len(), pair.1 + load.media.len());
        }
        for (messages, media) in pairs.into_values() {
            held.flying_messages.add(messages);
            held.flying_media.add(media);
        }
    }
}

impl Engine {
    /// A shard that believes to be at `local`, at `now`, which is `epoch_us` microseconds after the Unix epoch.
    ///
    /// # Errors
    /// When the system gives no eventfd.
    pub fn new(config: Config, local: SocketAddr, now: Instant, epoch_us: u64) -> std::io::Result<Self> {
        Self::spread(&config, &[local], now, epoch_us)
    }

    /// One shard for each of these addresses, whose ports differ.
    ///
    /// # Errors
    /// When the system gives no eventfd.
    pub fn spread(
        config: &Config,
        locals: &[SocketAddr],
        now: Instant,
        epoch_us: u64,
    ) -> std::io::Result<Self> {
        let loads = Arc::new(Loads::new(locals.len()));
        let clock = Clock::at(now, epoch_us);
        let (mut senders, mut inboxes, mut cores) = (Vec::new(), Vec::new(), Vec::new());
        for shard in 0..locals.len() {
            let (sender, inbox) = inbox::inbox()?;
            senders.push(sender);
            inboxes.push(inbox);
            let shard = u16::try_from(shard).map_err(std::io::Error::other)?;
            cores.push(Core::new(shard, config.clone(), loads.clone(), clock, now));
        }
        Ok(Self {
            cores,
            door: Door::new(config)?,
            placement: Placement::new(loads, config.spread_above, config.max_rooms),
            reach: locals.iter().map(|local| reach_of(&config.reach, *local)).collect(),
            locals: locals.to_vec(),
            ports: Port::all(&senders),
            senders,
            inboxes,
            flights: Flights::default(),
            lag: Lag::default(),
            stalled: vec![false; locals.len()],
        })
    }

    /// Answers an offer and lets the peer enter.
    ///
    /// # Errors
    /// As [`crate::Shards::prepare`] and [`crate::Shards::join`].
    pub fn join(
        &mut self,
        now: Instant,
        room: &RoomName,
        offer: &str,
        request: JoinRequest,
    ) -> Result<Joined, JoinError> {
        let shard = self.choose(room);
        self.join_on(now, shard, (room, offer), request)
    }

    /// The shard for the next peer of a room.
    pub fn choose(&self, room: &RoomName) -> usize {
        self.placement.choose(room)
    }

    /// As [`Engine::join`], on this shard.
    ///
    /// # Errors
    /// The same.
    pub fn join_on(
        &mut self,
        now: Instant,
        shard: usize,
        (room, offer): (&RoomName, &str),
        request: JoinRequest,
    ) -> Result<Joined, JoinError> {
        let to = Address { shard, reach: &self.reach[shard] };
        let prepared = self.door.prepare(to, room, offer, request, now)?;
        self.cores[self.placement.home(room)].join(now, prepared)
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.cores.len()
    }

    /// The shard on which a room is at home.
    pub fn home(&self, room: &RoomName) -> usize {
        self.placement.home(room)
    }

    /// Makes an offer of ours for a player.
    ///
    /// # Errors
    /// As [`crate::Shards::offer`].
    pub fn offer(
        &mut self,
        now: Instant,
        room: &RoomName,
        request: JoinRequest,
    ) -> Result<Offered, JoinError> {
        let shard = self.placement.choose(room);
        let to = Address { shard, reach: &self.reach[shard] };
        self.door.offer(to, room, request, now)
    }

    /// Lets the player of an offer of ours enter.
    ///
    /// # Errors
    /// As [`Offered::accept`] and [`crate::Shards::join`].
    pub fn answer(&mut self, now: Instant, offered: Offered, answer: &str) -> Result<Joined, JoinError> {
        let home = self.placement.home(offered.room());
        self.cores[home].join(now, offered.accept_at(answer, now)?)
    }

    /// Lets a program enter; what it sends is taken at the next [`Engine::handle_timeout`].
    ///
    /// # Errors
    /// As [`crate::Shards::attach`].
    pub fn attach(
        &mut self,
        now: Instant,
        room: &RoomName,
        request: AttachRequest,
    ) -> Result<Attachment, JoinError> {
        let home = self.placement.home(room);
        self.cores[home].attach(now, room, request, &self.senders[home])
    }

    /// What a participant says of its ICE session.
    ///
    /// # Errors
    /// As [`crate::Shards::ice`].
    pub fn ice(
        &mut self,
        now: Instant,
        room: &RoomName,
        id: &ParticipantId,
        request: &IceRequest,
    ) -> Result<IceUpdate, IceError> {
        let home = self.placement.home(room);
        match self.cores[home].find_ice(room, id)? {
            Seat::Here(place) => self.cores[home].ice(now, place, request),
            Seat::Away(shard, who) => self.cores[usize::from(shard)].ice_of(now, who, request),
        }
    }

    /// A player chooses a layer of what it is sent.
    ///
    /// # Errors
    /// As [`crate::Shards::select`].
    pub fn select(
        &mut self,
        now: Instant,
        room: &RoomName,
        id: &ParticipantId,
        selection: &Selection,
    ) -> Result<(), SelectError> {
        let home = self.placement.home(room);
        self.cores[home].select(now, room, id, selection)
    }

    /// What happens to what a player plays.
    ///
    /// # Errors
    /// As [`crate::Shards::watch`].
    pub fn watch(
        &mut self,
        now: Instant,
        room: &RoomName,
        id: &ParticipantId,
    ) -> Result<async_channel::Receiver<Event>, WatchError> {
        let home = self.placement.home(room);
        self.cores[home].watch(now, room, id)
    }

    /// Takes somebody out of a room. `false`: nobody of that id is there.
    pub fn remove(&mut self, now: Instant, room: &RoomName, id: &ParticipantId, reason: LeaveReason) -> bool {
        let (reply, answer) = async_channel::bounded(1);
        let command = Command::Remove { room: room.clone(), id: id.clone(), reason, reply };
        let home = self.placement.home(room);
        self.cores[home].handle_command(now, command, &self.senders[home]);
        answer.try_recv().unwrap_or(false)
    }

    /// Tells everybody to join elsewhere within `deadline` and refuses joins.
    pub fn drain(&mut self, now: Instant, deadline: Duration) {
        for (core, sender) in self.cores.iter_mut().zip(&self.senders) {
            core.handle_command(now, Command::Drain { deadline }, sender);
        }
    }

    /// A room fails on a shard, as by a panic there.
    pub fn fail_room(&mut self, now: Instant, shard: usize, room: &RoomName) {
        self.cores[shard].fail_room(now, room);
    }

    /// A shard does nothing for a while, as a thread does that gets no processor; what is sent to it is lost.
    pub fn stall(&mut self, shard: usize, stalled: bool) {
        self.stalled[shard] = stalled;
    }

    /// A datagram came.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
    ) {
        self.take(now, Transport::Udp, (source, destination), bytes);
    }

    /// A packet came by the TCP connection that `source` has opened.
    pub fn handle_tcp(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) {
        self.take(now, Transport::Tcp, (source, destination), bytes);
    }

    fn take(
        &mut self,
        now: Instant,
        transport: Transport,
        (source, destination): (SocketAddr, SocketAddr),
        bytes: &[u8],
    ) {
        let shard = self.locals.iter().position(|local| local.port() == destination.port());
        if let Some(shard) = shard.filter(|shard| !self.stalled[*shard]) {
            self.cores[shard].handle_datagram(now, &Received { transport, bytes, source, destination });
        }
    }

    /// The TCP connection that `source` had opened has ended.
    pub fn tcp_ended(&mut self, source: SocketAddr) {
        self.cores.iter_mut().for_each(|core| core.pipe_ended(source));
    }

    /// TCP connections that are to be closed: nobody is behind them any more.
    pub fn ended_tcp(&mut self) -> Vec<SocketAddr> {
        self.cores.iter_mut().flat_map(Core::take_ended_pipes).collect()
    }

    /// Commands of attachments, what comes from shard to shard, and everything that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Flight { from, to, mut load, .. }) = self.flights.pop(now) {
            self.cores[to].handle_load(now, from, &mut load);
        }
        for shard in (0..self.cores.len()).filter(|shard| !self.stalled[*shard]) {
            let (core, inbox) = (&mut self.cores[shard], &self.inboxes[shard]);
            inbox.answer();
            while let Some(command) = inbox.next() {
                core.handle_command(now, command, &self.senders[shard]);
            }
            core.handle_timeout(now);
        }
    }

    /// When to call [`Engine::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let running = self.cores.iter().zip(&self.stalled).filter(|(_, stalled)| !**stalled);
        running.filter_map(|(core, _)| core.poll_timeout()).chain(self.flights.next()).min()
    }

    /// Ends a round: everything that leaves is given to `send`.
    pub fn finish(&mut self, now: Instant, mut send: impl FnMut(Transmit<'_>)) {
        for _ in 0..MAX_EXCHANGES {
            for shard in (0..self.cores.len()).filter(|shard| !self.stalled[*shard]) {
                let port = self.locals[shard].port();
                self.cores[shard].finish(now, |arena| {
                    let udp = arena.datagrams().iter().map(|d| (Transport::Udp, d));
                    for (transport, d) in udp.chain(arena.by_tcp().iter().map(|d| (Transport::Tcp, d))) {
                        let (source, destination) = (SocketAddr::new(d.source, port), d.destination);
                        send(Transmit { transport, source, destination, bytes: arena.contents(d) });
                    }
                });
            }
            if !self.exchange(now) {
                return;
            }
        }
    }

    /// Moves what shards have for each other. `false`: nothing has arrived.
    fn exchange(&mut self, now: Instant) -> bool {
        let mut arrived = Vec::new();
        for shard in (0..self.cores.len()).filter(|shard| !self.stalled[*shard]) {
            self.cores[shard].flush(&self.ports[shard]);
        }
        for to in (0..self.cores.len()).filter(|shard| !self.stalled[*shard]) {
            self.ports[to].take(|from, load| arrived.push((from, to, std::mem::take(load))));
        }
        let any = !arrived.is_empty() && self.lag == Lag::default();
        for (from, to, mut load) in arrived {
            if any {
                self.cores[to].handle_load(now, from, &mut load);
                continue;
            }
            let media = Load { media: load.media, messages: Vec::new() };
            let messages = Load { messages: load.messages, media: Vec::new() };
            self.flights.media.push_back(Flight { due: now + self.lag.media, from, to, load: media });
            let due = now + self.lag.messages;
            self.flights.messages.push_back(Flight { due, from, to, load: messages });
        }
        any
    }

    /// How busy a shard is, in thousandths: what its thread measures once per second.
    pub fn set_load(&mut self, now: Instant, shard: usize, permille: u64) {
        self.cores[shard].set_load(now, permille);
    }

    /// Counters of all shards together.
    pub fn metrics(&self) -> ShardMetrics {
        self.cores.iter().map(|core| core.metrics).sum()
    }

    /// Counters of one shard.
    pub fn metrics_of(&self, shard: usize) -> ShardMetrics {
        self.cores[shard].metrics
    }

    /// How much it holds now.
    pub fn holdings(&self) -> Holdings {
        let mut held: Holdings = self.cores.iter().map(Core::holdings).sum();
        self.inboxes.iter().for_each(|inbox| held.commands.add(inbox.len()));
        self.ports.iter().for_each(|port| port.count(&mut held));
        self.flights.count(&mut held);
        held
    }

    /// State of a participant.
    pub fn status(&self, now: Instant, room: &RoomName, id: &ParticipantId) -> Option<ParticipantStatus> {
        let (mut status, elsewhere) = self.cores[self.placement.home(room)].status(now, room, id, true)?;
        if let Some((shard, who)) = elsewhere {
            status.stats = self.cores[usize::from(shard)].stats_of(now, who);
        }
        Some(status)
    }
}

/// What peers of a shard at this address are told.
fn reach_of(to: &Reachability, local: SocketAddr) -> Arc<Reach> {
    let addresses = reach::addresses(to, local.ip(), &[]);
    let (udp, tcp) = (to.udp.then_some(local.port()), (to.tcp != Tcp::Off).then_some(local.port()));
    let tcp = tcp.map(|port| to.tcp_announce_port.unwrap_or(port));
    Arc::new(Reach::new(&addresses, &to.external, udp, tcp))
}

/// The shard that a peer is to enter.
#[derive(Clone, Copy)]
pub(crate) struct Address<'a> {
    pub(crate) shard: usize,
    pub(crate) reach: &'a Arc<Reach>,
}

/// Where offers are answered; needs no shard thread.
pub(crate) struct Door {
    certificate: DtlsCert,
    max_slots: usize,
}

impl Door {
    /// Makes the certificate that all connections of this process share.
    pub(crate) fn new(config: &Config) -> std::io::Result<Self> {
        let provider = str0m::crypto::from_feature_flags();
        let certificate = provider
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| std::io::Error::other("no DTLS certificate could be made"))?;
        Ok(Self { certificate, max_slots: config.max_slots })
    }

    fn terms<'a>(&'a self, to: Address<'a>, kind: ParticipantKind) -> Terms<'a> {
        // The shard stands in the user fragment, so that any shard, and any node, can tell whose datagram it is.
        let ufrag = format!("{:02x}{}", to.shard, random_text(UFRAG_CHARACTERS));
        let credentials = IceCreds { ufrag, pass: random_text(PWD_CHARACTERS) };
        let certificate = &self.certificate;
        Terms { reach: to.reach, certificate, credentials, max_slots: self.max_slots, kind }
    }

    /// Makes an offer of ours for a player on a shard with these candidates.
    pub(crate) fn offer(
        &self,
        to: Address<'_>,
        room: &RoomName,
        request: JoinRequest,
        now: Instant,
    ) -> Result<Offered, JoinError> {
        let terms = self.terms(to, ParticipantKind::Whep);
        Offered::new((room, to.shard), request, &terms, random_text(32), now)
    }

    /// Makes the answer and the connection for a shard with these candidates.
    pub(crate) fn prepare(
        &self,
        to: Address<'_>,
        room: &RoomName,
        offer: &str,
        request: JoinRequest,
        now: Instant,
    ) -> Result<Prepared, JoinError> {
        let terms = self.terms(to, request.kind);
        let ufrag = terms.credentials.ufrag.clone();
        let negotiated = negotiate(offer, terms, now)?;
        let (room, shard, resume_token) = (room.clone(), to.shard, random_text(32));
        Ok(Prepared { room, shard, request, negotiated, resume_token, ufrag })
    }
}
