//! All bots of this node: which rooms have one, and the session of each connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use antiphon_base::{ErrorKind, ParticipantId, RoomName};
use antiphon_media::video::Decoders;
use antiphon_shard::{Clock, Door, Grants, JoinError};

use crate::limits::Limits;
use crate::room::run::{self, Command};
use crate::transport::Transport;

/// Who opens a connection; from its token.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id: the token's identity, or one made by the caller.
    pub id: ParticipantId,
    /// Name to show unless `start` says another.
    pub name: String,
    /// What it may do.
    pub grants: Grants,
}

/// The bots of a node. Cheap to clone.
#[derive(Clone)]
pub struct Bots {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) door: Arc<dyn Door>,
    pub(crate) limits: Limits,
    decoders: Decoders,
    pub(crate) clock: Clock,
    rooms: Mutex<HashMap<RoomName, RoomEntry>>,
    next_session: AtomicU64,
}

struct RoomEntry {
    commands: async_channel::Sender<Command>,
    bots: usize,
}

/// What is going on, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BotMetrics {
    /// Rooms with bots.
    pub rooms: usize,
    /// Bots.
    pub bots: usize,
    /// Codec workers that run.
    pub codec_workers: usize,
    /// Codec workers that were started.
    pub codec_workers_started: u64,
    /// Codec workers that died before their time: hostile pictures, or a fault of a codec library.
    pub codec_workers_died: u64,
}

impl Bots {
    /// No bots yet; they enter rooms by `door`, and see what is decoded in this process.
    pub fn new(door: impl Door + 'static, limits: Limits) -> Self {
        Self::with_decoders(door, limits, Decoders::default())
    }

    /// The same, and they see what `decoders` take.
    pub fn with_decoders(door: impl Door + 'static, limits: Limits, decoders: Decoders) -> Self {
        let shared = Shared {
            door: Arc::new(door),
            limits,
            decoders,
            clock: Clock::new(Instant::now()),
            rooms: Mutex::default(),
            next_session: AtomicU64::new(1),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs one connection to its end: until the bot hangs up, breaks a rule, or the room lets it go. The last message
    /// to the bot is [`crate::Outbound::Close`], unless it hung up. Needs a tokio runtime with time.
    pub async fn serve(&self, room: RoomName, identity: Identity, transport: Transport) {
        crate::serve::serve(&self.shared, room, identity, transport).await;
    }

    /// What is going on.
    pub fn metrics(&self) -> BotMetrics {
        let rooms = self.shared.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = self.shared.decoders.workers();
        BotMetrics {
            rooms: rooms.len(),
            bots: rooms.values().map(|r| r.bots).sum(),
            codec_workers: workers.running,
            codec_workers_started: workers.started,
            codec_workers_died: workers.died,
        }
    }
}

/// A session's standing with its room's thread, which ends with the last of them.
pub(crate) struct Seat {
    pub(crate) id: u64,
    pub(crate) commands: async_channel::Sender<Command>,
    room: RoomName,
    shared: Arc<Shared>,
}

impl Shared {
    /// Takes a seat; starts the room's thread for the first one.
    pub(crate) fn seat(self: &Arc<Self>, room: &RoomName) -> Result<Seat, JoinError> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let full = rooms.len() >= self.limits.rooms;
        let entry = match rooms.entry(room.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if full => {
                return Err(JoinError::new(ErrorKind::Overloaded, "too many rooms have bots on this server"));
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                let (door, limits) = (Arc::clone(&self.door), self.limits.clone());
                let started = run::start(room.clone(), door, limits, self.decoders.clone(), self.clock);
                let commands = started.map_err(|error| {
                    JoinError::new(ErrorKind::Overloaded, format!("no thread for the room's bots: {error}"))
                })?;
                entry.insert(RoomEntry { commands, bots: 0 })
            }
        };
        if entry.bots >= self.limits.bots_per_room {
            return Err(JoinError::new(ErrorKind::RoomFull, "the room has as many bots as it may"));
        }
        entry.bots += 1;
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        Ok(Seat { id, commands: entry.commands.clone(), room: room.clone(), shared: Arc::clone(self) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // If the ring is full the room's thread is stuck; it forgets the bot when all are gone.
        let _ = self.commands.try_send(Command::Leave { id: self.id });
        let mut rooms = self.shared.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = rooms.get_mut(&self.room) {
            entry.bots = entry.bots.saturating_sub(1);
            if entry.bots == 0 {
                rooms.remove(&self.room);
            }
        }
    }
}
