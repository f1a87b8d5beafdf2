//! [`Shards`]: the running set, as other crates see it.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use antiphon_base::{ErrorKind, ParticipantId, RoomName};
use antiphon_room::SelectError;
use antiphon_wire::control::LeaveReason;
use antiphon_wire::whep::{Event, Selection};

use crate::attach::{AttachRequest, Attachment};
use crate::clock::Clock;
use crate::command::{Command, Reply};
use crate::config::{Config, Tcp};
use crate::core::Core;
use crate::engine::{Address, Door};
use crate::inbox::{self, Inbox, Sender};
use crate::join::{JoinError, JoinRequest, Joined, Prepared};
use crate::link::Port;
use crate::load::{Loads, Placement};
use crate::net::{self, Socket};
use crate::offer::Offered;
use crate::reach::{self, Reach};
use crate::restart::{IceError, IceRequest, IceUpdate};
use crate::run::Runner;
use crate::status::{Metrics, ParticipantStatus, RoomStatus, ShardMetrics};
use crate::tcp::{Others, Pipes};
use crate::watch::WatchError;

/// All shards of this process. Cheap to clone; the threads end with [`Shards::stop`].
#[derive(Clone)]
pub struct Shards {
    inner: Arc<Inner>,
}

struct Inner {
    shards: Vec<Shard>,
    placement: Placement,
    door: Door,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

struct Shard {
    inbox: Sender,
    reach: Arc<Reach>,
    local: SocketAddr,
    tcp: Option<SocketAddr>,
    metrics: Arc<Mutex<ShardMetrics>>,
}

impl Shards {
    /// Binds the ports and starts the threads.
    ///
    /// # Errors
    /// A port that cannot be bound, a thread that cannot be started.
    pub fn start(config: Config) -> std::io::Result<Self> {
        let door = Door::new(&config)?;
        let count = config.shards.max(1);
        let loads = Arc::new(Loads::new(count));
        let inboxes = (0..count).map(|_| inbox::inbox()).collect::<std::io::Result<Vec<_>>>()?;
        let (senders, inboxes): (Vec<_>, Vec<_>) = inboxes.into_iter().unzip();
        let ports = Port::all(&senders);
        let shared = Shared::new(&config, senders)?;
        let (mut shards, mut threads) = (Vec::new(), Vec::new());
        for (index, (inbox, port)) in inboxes.into_iter().zip(ports).enumerate() {
            let core =
                Core::new(index_u16(index)?, config.clone(), loads.clone(), shared.clock, Instant::now());
            let (shard, thread) = start_shard(index, &config, &shared, Parts { core, port, inbox })?;
            shards.push(shard);
            threads.push(thread);
        }
        let placement = Placement::new(loads, config.spread_above, config.max_rooms);
        let threads = Mutex::new(threads);
        Ok(Self { inner: Arc::new(Inner { shards, placement, door, threads }) })
    }

    /// The bound UDP addresses, one per shard.
    pub fn media_addresses(&self) -> Vec<SocketAddr> {
        self.inner.shards.iter().map(|s| s.local).collect()
    }

    /// The bound TCP addresses: none, one for all shards, or one per shard.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self.inner.shards.iter().filter_map(|s| s.tcp).collect();
        all.dedup();
        all
    }

    /// The shard on which a room is at home.
    fn home(&self, room: &RoomName) -> &Shard {
        &self.inner.shards[self.inner.placement.home(room)]
    }

    /// Parses the offer and makes the answer and the connection, for the shard that has room for it. Costs milliseconds: not
    /// for an async thread.
    ///
    /// # Errors
    /// `bad_sdp`, `no_common_codec`.
    pub fn prepare(&self, room: &RoomName, offer: &str, request: JoinRequest) -> Result<Prepared, JoinError> {
        let shard = self.inner.placement.choose(room);
        let to = Address { shard, reach: &self.inner.shards[shard].reach };
        self.inner.door.prepare(to, room, offer, request, Instant::now())
    }

    /// Makes an offer of ours for a player, who answers with [`Offered::accept`]. Costs milliseconds: not for an async thread.
    ///
    /// # Errors
    /// `internal`.
    pub fn offer(&self, room: &RoomName, request: JoinRequest) -> Result<Offered, JoinError> {
        let shard = self.inner.placement.choose(room);
        let to = Address { shard, reach: &self.inner.shards[shard].reach };
        self.inner.door.offer(to, room, request, Instant::now())
    }

    /// Lets a prepared peer enter.
    ///
    /// # Errors
    /// `room_full`, `overloaded`, `draining`.
    pub async fn join(&self, prepared: Prepared) -> Result<Joined, JoinError> {
        let shard = self.home(&prepared.room);
        let prepared = Box::new(prepared);
        ask(shard, |reply| Command::Join { prepared, reply }).await.unwrap_or_else(|| Err(busy()))
    }

    /// Lets a program in this process enter.
    ///
    /// # Errors
    /// `room_full`, `overloaded`, `draining`.
    pub async fn attach(&self, room: &RoomName, request: AttachRequest) -> Result<Attachment, JoinError> {
        let name = room.clone();
        ask(self.home(room), |reply| Command::Attach { room: name, request, reply })
            .await
            .unwrap_or_else(|| Err(busy()))
    }

    /// State of a participant, also for a while after it has gone.
    pub async fn status(
        &self,
        room: &RoomName,
        id: &ParticipantId,
        detail: bool,
    ) -> Option<ParticipantStatus> {
        let (name, id) = (room.clone(), id.clone());
        ask(self.home(room), |reply| Command::Status { room: name, id, detail, reply }).await.flatten()
    }

    /// Takes somebody out of a room. `false`: nobody of that id is there.
    pub async fn remove(&self, room: &RoomName, id: &ParticipantId, reason: LeaveReason) -> bool {
        let (name, id) = (room.clone(), id.clone());
        ask(self.home(room), |reply| Command::Remove { room: name, id, reason, reply }).await.unwrap_or(false)
    }

    /// Puts somebody on hold, or takes it back: it gets nothing of the others and they get nothing of it, but for who only
    /// taps unseen. `false`: nobody of that id is there.
    pub async fn hold(&self, room: &RoomName, id: &ParticipantId, held: bool) -> bool {
        let (name, id) = (room.clone(), id.clone());
        ask(self.home(room), |reply| Command::Hold { room: name, id, held, reply }).await.unwrap_or(false)
    }

    /// What a participant says of its ICE session: candidates, or a restart.
    ///
    /// # Errors
    /// See [`IceError`].
    pub async fn ice(
        &self,
        room: &RoomName,
        id: &ParticipantId,
        request: IceRequest,
    ) -> Result<IceUpdate, IceError> {
        let (name, id) = (room.clone(), id.clone());
        ask(self.home(room), |reply| Command::Ice { room: name, id, request, reply })
            .await
            .unwrap_or(Err(IceError::Busy))
    }

    /// A player chooses a layer of what it is sent.
    ///
    /// # Errors
    /// See [`SelectError`].
    pub async fn select(
        &self,
        room: &RoomName,
        id: &ParticipantId,
        selection: Selection,
    ) -> Result<(), SelectError> {
        let (name, id) = (room.clone(), id.clone());
        ask(self.home(room), |reply| Command::Select { room: name, id, selection, reply })
            .await
            .unwrap_or(Err(SelectError::Gone))
    }

    /// What happens to what a player plays, from now on, until it goes or the receiver is dropped. Who does not read loses
    /// the oldest.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn watch(
        &self,
        room: &RoomName,
        id: &ParticipantId,
    ) -> Result<async_channel::Receiver<Event>, WatchError> {
        let (name, id) = (room.clone(), id.clone());
        ask(self.home(room), |reply| Command::Watch { room: name, id, reply })
            .await
            .unwrap_or(Err(WatchError::Busy))
    }

    /// Decrypted RTP that a participant sends, as pcap bytes, until the receiver is dropped.
    pub async fn dump(
        &self,
        room: &RoomName,
        id: &ParticipantId,
    ) -> Option<async_channel::Receiver<Vec<u8>>> {
        let (name, id) = (room.clone(), id.clone());
        ask(self.home(room), |reply| Command::Dump { room: name, id, reply }).await.flatten()
    }

    /// All rooms.
    pub async fn rooms(&self) -> Vec<RoomStatus> {
        let mut all = Vec::new();
        for shard in &self.inner.shards {
            all.extend(ask(shard, |reply| Command::Rooms { reply }).await.unwrap_or_default());
        }
        all
    }

    /// Counters as of the last second.
    pub fn metrics(&self) -> Metrics {
        let read = |s: &Shard| s.metrics.lock().map(|m| *m).unwrap_or_default();
        Metrics { shards: self.inner.shards.iter().map(read).collect() }
    }

    /// Tells everybody to join elsewhere within `deadline` and refuses joins.
    pub fn drain(&self, deadline: Duration) {
        for shard in &self.inner.shards {
            shard.inbox.send(Command::Drain { deadline });
        }
    }

    /// Ends the threads. Connections end without good-bye: drain first.
    pub async fn stop(&self) {
        for shard in &self.inner.shards {
            shard.inbox.send(Command::Stop);
        }
        let threads = self.inner.threads.lock().map(|mut t| std::mem::take(&mut *t)).unwrap_or_default();
        for thread in threads {
            // A round takes well under a millisecond; a panic in it was logged by the hook.
            let _ = thread.join();
        }
    }
}

fn busy() -> JoinError {
    JoinError::new(ErrorKind::Overloaded, "this server is busy; try again in a few seconds")
}

/// Asks a shard. `None`: its inbox was full, or it has stopped.
async fn ask<T>(shard: &Shard, command: impl FnOnce(Reply<T>) -> Command) -> Option<T> {
    let (tx, rx) = async_channel::bounded(1);
    if !shard.inbox.send(command(tx)) {
        return None;
    }
    rx.recv().await.ok()
}

/// What all shards have in common.
struct Shared {
    /// One clock, so that their times compare.
    clock: Clock,
    /// Addresses told to peers.
    addresses: Vec<IpAddr>,
    /// The TCP port of all shards.
    listener: Option<TcpListener>,
    /// TCP connections of each.
    tcp_connections: usize,
    /// Their inboxes.
    others: Others,
}

impl Shared {
    fn new(config: &Config, senders: Vec<Sender>) -> std::io::Result<Self> {
        let addresses = reach::addresses(&config.reach, config.media.ip(), &net::interfaces()?);
        if addresses.is_empty() {
            return Err(std::io::Error::other("no interface has an address to tell: see reach.interfaces"));
        }
        let listener = match config.reach.tcp {
            Tcp::At(address) => Some(net::listen(address).map_err(|e| named("TCP", address, &e))?),
            Tcp::Off | Tcp::SamePort | Tcp::IfFree => None,
        };
        let clock = Clock::new(Instant::now());
        let tcp_connections = tcp_connections(config, senders.len())?;
        Ok(Self { clock, addresses, listener, tcp_connections, others: senders.into() })
    }
}

/// TCP connections of each shard: of the process' descriptors half are for everything else, whatever strangers do.
fn tcp_connections(config: &Config, shards: usize) -> std::io::Result<usize> {
    let (wanted, most) = (config.reach.tcp_connections, net::descriptors()? / 2 / shards);
    if config.reach.tcp != Tcp::Off && most < wanted {
        tracing::info!(
            wanted,
            most,
            "fewer TCP connections than configured: this process may open few files"
        );
    }
    Ok(wanted.min(most))
}

fn named(protocol: &str, address: SocketAddr, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{protocol} {address}: {error}"))
}

/// How often a free port is looked for that is free in both protocols.
const MAX_PORT_TRIES: usize = 16;

/// The sockets of a shard.
fn bind(index: usize, config: &Config, shared: &Shared) -> std::io::Result<(Socket, Option<TcpListener>)> {
    let offset = u16::try_from(index).map_err(std::io::Error::other)?;
    let any = config.media.port() == 0;
    let port = if any { Some(0) } else { config.media.port().checked_add(offset) };
    let port = port.ok_or_else(|| std::io::Error::other("media port plus shards is above 65535"))?;
    let address = SocketAddr::new(config.media.ip(), port);
    for _ in 0..MAX_PORT_TRIES {
        let socket = Socket::bind(address).map_err(|e| named("UDP", address, &e))?;
        if !matches!(config.reach.tcp, Tcp::SamePort | Tcp::IfFree) {
            return Ok((socket, shared.listener.as_ref().map(TcpListener::try_clone).transpose()?));
        }
        match net::listen(socket.local()) {
            Ok(listener) => return Ok((socket, Some(listener))),
            // Somebody else has that number in TCP: with a free choice, the next.
            Err(e) if any && e.kind() == std::io::ErrorKind::AddrInUse => {}
            // Nobody has asked for it: who comes by UDP is served all the same.
            Err(error) if config.reach.tcp == Tcp::IfFree && config.reach.udp => {
                tracing::warn!(%error, port = socket.local().port(), "no TCP for peers: the port is not free");
                return Ok((socket, None));
            }
            Err(e) => return Err(named("TCP", socket.local(), &e)),
        }
    }
    Err(std::io::Error::other("no port was found that is free for UDP and TCP"))
}

/// What a shard's thread gets.
struct Parts {
    core: Core,
    port: Port,
    inbox: Inbox,
}

fn index_u16(index: usize) -> std::io::Result<u16> {
    u16::try_from(index).map_err(std::io::Error::other)
}

fn start_shard(
    index: usize,
    config: &Config,
    shared: &Shared,
    Parts { core, port, inbox }: Parts,
) -> std::io::Result<(Shard, std::thread::JoinHandle<()>)> {
    let (socket, listener) = bind(index, config, shared)?;
    let local = socket.local();
    let tcp = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let to = &config.reach;
    let tcp_port = tcp.map(|a| to.tcp_announce_port.unwrap_or(a.port()));
    let reach = Reach::new(&shared.addresses, &to.external, to.udp.then_some(local.port()), tcp_port);
    let metrics = Arc::new(Mutex::new(ShardMetrics::default()));
    let sender = shared.others[index].clone();
    let pipes = Pipes::new(index, listener, shared.tcp_connections, shared.others.clone(), Instant::now())?;
    let runner =
        Runner { core, socket, pipes, port, inbox, sender: sender.clone(), metrics: metrics.clone() };
    let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
        if let Err(error) = runner.run() {
            tracing::error!(%error, index, "a shard has ended");
        }
    })?;
    Ok((Shard { inbox: sender, reach: Arc::new(reach), local, tcp, metrics }, thread))
}
