//! A shard without thread and socket: what [`crate::Shards`] runs, for tests under virtual time (`sim`).
//!
//! ```
//! use std::time::Instant;
//! use antiphon_shard::{Config, Engine};
//!
//! let now = Instant::now();
//! let mut engine = Engine::new(Config::default(), "10.0.0.1:7701".parse()?, now, 1_700_000_000_000_000)?;
//! engine.handle_timeout(now);
//! engine.finish(now, |_source, _destination, _bytes| {});
//! assert!(engine.poll_timeout().is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use antiphon_base::{ParticipantId, RoomName};
use antiphon_wire::control::LeaveReason;
use rand::Rng;
use rand::distr::Alphanumeric;
use str0m::IceCreds;
use str0m::config::DtlsCert;

use crate::attach::{AttachRequest, Attachment};
use crate::clock::Clock;
use crate::command::Command;
use crate::config::Config;
use crate::core::Core;
use crate::inbox::{self, Inbox, Sender};
use crate::join::{JoinError, JoinRequest, Joined, Prepared};
use crate::net::Received;
use crate::sdp::{Terms, negotiate};
use crate::status::{ParticipantStatus, ShardMetrics};

/// One shard, driven by the caller.
pub struct Engine {
    core: Core,
    door: Door,
    local: SocketAddr,
    sender: Sender,
    inbox: Inbox,
}

impl Engine {
    /// A shard that believes to be at `local`, at `now`, which is `epoch_us` microseconds after the Unix epoch.
    ///
    /// # Errors
    /// When the system gives no eventfd.
    pub fn new(config: Config, local: SocketAddr, now: Instant, epoch_us: u64) -> std::io::Result<Self> {
        let (sender, inbox) = inbox::inbox()?;
        let door = Door::new(&config)?;
        Ok(Self { core: Core::new(config, Clock::at(now, epoch_us), now), door, local, sender, inbox })
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
        let to = Address { shard: 0, candidates: &[self.local] };
        let prepared = self.door.prepare(to, room, offer, request, now)?;
        self.core.join(now, prepared)
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
        self.core.attach(now, room, request, &self.sender)
    }

    /// Takes somebody out of a room. `false`: nobody of that id is there.
    pub fn remove(&mut self, now: Instant, room: &RoomName, id: &ParticipantId, reason: LeaveReason) -> bool {
        let (reply, answer) = async_channel::bounded(1);
        let command = Command::Remove { room: room.clone(), id: id.clone(), reason, reply };
        self.core.handle_command(now, command, &self.sender);
        answer.try_recv().unwrap_or(false)
    }

    /// Tells everybody to join elsewhere within `deadline` and refuses joins.
    pub fn drain(&mut self, now: Instant, deadline: Duration) {
        self.core.handle_command(now, Command::Drain { deadline }, &self.sender);
    }

    /// A datagram came.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
    ) {
        self.core.handle_datagram(now, &Received { bytes, source, destination });
    }

    /// Commands of attachments, and everything that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.inbox.answer();
        while let Some(command) = self.inbox.next() {
            self.core.handle_command(now, command, &self.sender);
        }
        self.core.handle_timeout(now);
    }

    /// When to call [`Engine::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }

    /// Ends a round: everything that leaves is given to `send` as source, destination, bytes.
    pub fn finish(&mut self, now: Instant, mut send: impl FnMut(SocketAddr, SocketAddr, &[u8])) {
        let port = self.local.port();
        self.core.finish(now, |arena| {
            for d in arena.datagrams() {
                send(SocketAddr::new(d.source, port), d.destination, arena.contents(d));
            }
        });
    }

    /// How busy the shard is, in thousandths: what its thread measures once per second.
    pub fn set_load(&mut self, now: Instant, permille: u64) {
        self.core.set_load(now, permille);
    }

    /// Counters.
    pub fn metrics(&self) -> ShardMetrics {
        self.core.metrics
    }

    /// State of a participant.
    pub fn status(&self, now: Instant, room: &RoomName, id: &ParticipantId) -> Option<ParticipantStatus> {
        self.core.status(now, room, id, true)
    }
}

/// The shard that a peer is to enter.
#[derive(Clone, Copy)]
pub(crate) struct Address<'a> {
    pub(crate) shard: usize,
    pub(crate) candidates: &'a [SocketAddr],
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

    /// Makes the answer and the connection for a shard with these candidates.
    pub(crate) fn prepare(
        &self,
        to: Address<'_>,
        room: &RoomName,
        offer: &str,
        request: JoinRequest,
        now: Instant,
    ) -> Result<Prepared, JoinError> {
        // The shard stands in the user fragment, so that any shard, and any node, can tell whose datagram it is.
        let ufrag = format!("{:02x}{}", to.shard, random_text(10));
        let credentials = IceCreds { ufrag: ufrag.clone(), pass: random_text(24) };
        let kind = request.kind;
        let certificate = &self.certificate;
        let terms =
            Terms { candidates: to.candidates, certificate, credentials, max_slots: self.max_slots, kind };
        let negotiated = negotiate(offer, terms, now)?;
        Ok(Prepared { room: room.clone(), request, negotiated, resume_token: random_text(32), ufrag })
    }
}

fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}
