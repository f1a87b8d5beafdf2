//! [`Shards`]: the running set, as other crates see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use antiphon_base::{ErrorKind, ParticipantId, RoomName};
use antiphon_wire::control::LeaveReason;

use crate::attach::{AttachRequest, Attachment};
use crate::clock::Clock;
use crate::command::{Command, Reply};
use crate::config::Config;
use crate::core::Core;
use crate::engine::{Address, Door};
use crate::inbox::{self, Inbox, Sender};
use crate::join::{JoinError, JoinRequest, Joined, Prepared};
use crate::link::Port;
use crate::load::{Loads, Placement};
use crate::net::{Socket, interface_addresses};
use crate::run::Runner;
use crate::status::{Metrics, ParticipantStatus, RoomStatus, ShardMetrics};

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
    candidates: Vec<SocketAddr>,
    local: SocketAddr,
    metrics: Arc<Mutex<ShardMetrics>>,
}

impl Shards {
    /// Binds the ports and starts the threads.
    ///
    /// # Errors
    /// A port that cannot be bound, a thread that cannot be started.
    pub fn start(config: Config) -> std::io::Result<Self> {
        let door = Door::new(&config)?;
        let addresses = announced(&config)?;
        // One clock for all shards, so that their times compare.
        let clock = Clock::new(Instant::now());
        let count = config.shards.max(1);
        let loads = Arc::new(Loads::new(count));
        let inboxes = (0..count).map(|_| inbox::inbox()).collect::<std::io::Result<Vec<_>>>()?;
        let (senders, inboxes): (Vec<_>, Vec<_>) = inboxes.into_iter().unzip();
        let ports = Port::all(&senders);
        let (mut shards, mut threads) = (Vec::new(), Vec::new());
        for (index, (inbox, port)) in inboxes.into_iter().zip(ports).enumerate() {
            let core = Core::new(index_u16(index)?, config.clone(), loads.clone(), clock, Instant::now());
            let parts = Parts { core, port, sender: senders[index].clone(), inbox };
            let (shard, thread) = start_shard(index, &config, &addresses, parts)?;
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
        let to = Address { shard, candidates: &self.inner.shards[shard].candidates };
        self.inner.door.prepare(to, room, offer, request, Instant::now())
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

/// Addresses told to peers.
fn announced(config: &Config) -> std::io::Result<Vec<IpAddr>> {
    if !config.announce.is_empty() {
        return Ok(config.announce.clone());
    }
    let ip = config.media.ip();
    if !ip.is_unspecified() {
        return Ok(vec![ip]);
    }
    Ok(interface_addresses()?.into_iter().filter(|a| a.is_ipv4() == ip.is_ipv4()).collect())
}

/// What a shard's thread gets.
struct Parts {
    core: Core,
    port: Port,
    sender: Sender,
    inbox: Inbox,
}

fn index_u16(index: usize) -> std::io::Result<u16> {
    u16::try_from(index).map_err(std::io::Error::other)
}

fn start_shard(
    index: usize,
    config: &Config,
    addresses: &[IpAddr],
    Parts { core, port: links, sender, inbox }: Parts,
) -> std::io::Result<(Shard, std::thread::JoinHandle<()>)> {
    let offset = index_u16(index)?;
    let port = config.media.port();
    let port = if port == 0 {
        0
    } else {
        port.checked_add(offset)
            .ok_or_else(|| std::io::Error::other("media port plus shards is above 65535"))?
    };
    let socket = Socket::bind(SocketAddr::new(config.media.ip(), port))?;
    let local = socket.local();
    let metrics = Arc::new(Mutex::new(ShardMetrics::default()));
    let runner =
        Runner { core, socket, port: links, inbox, sender: sender.clone(), metrics: metrics.clone() };
    let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
        if let Err(error) = runner.run() {
            tracing::error!(%error, index, "a shard has ended");
        }
    })?;
    let candidates = addresses.iter().map(|ip| SocketAddr::new(*ip, local.port())).collect();
    Ok((Shard { inbox: sender, candidates, local, metrics }, thread))
}
