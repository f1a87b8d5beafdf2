//! A server and its clients in virtual time. Everything that happens at one moment happens in a fixed order.
//!
//! The network, the media and the tests draw from the world's seed. Inside [`crate::entropy::seeded`] everything else
//! does, too, but for keys: a replay has the same datagrams at the same times, with the same fate, and the same media in
//! them ([`World::trace`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use antiphon_base::{ParticipantId, ParticipantKey, RoomName};
use antiphon_shard::{AttachRequest, Attachment, Config, Engine, JoinError, ParticipantStatus};
use antiphon_wire::control::Request;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use str0m::config::DtlsCert;
use str0m::crypto::from_feature_flags;

use crate::check;
use crate::client::{Client, IDLE, Offering, Profile};
use crate::net::{self, Conditions, Datagram, Network};
use crate::trace::Trace;

/// Where the server is, and its first shard.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 7_701);
/// The server's clock at the beginning, us since the Unix epoch.
pub const EPOCH_US: u64 = 1_700_000_000_000_000;
/// Every client's.
const CLIENT_PORT: u16 = 40_000;
/// Rounds at one moment before the world is thought to be in a loop.
const MAX_ROUNDS_AT_ONCE: u32 = 1_000;

/// The seed to replay, by `ANTIPHON_SIM_SEED`.
pub fn given_seed() -> Option<u64> {
    std::env::var("ANTIPHON_SIM_SEED").ok().and_then(|s| s.parse().ok())
}

/// Takes a datagram on its way.
pub type Watch = Box<dyn FnMut(&Datagram) + Send>;

/// Somebody who makes stamped packets.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// Its id.
    pub id: ParticipantId,
    /// Its number in the room, as the server told it.
    pub key: ParticipantKey,
    /// It has the grant.
    pub may_publish: bool,
}

/// A server, its clients and the network between them.
pub struct World {
    /// Now.
    pub now: Instant,
    /// When it began.
    pub base: Instant,
    /// The server.
    pub engine: Engine,
    /// By number. Those who have gone stay here.
    pub clients: Vec<Client>,
    /// The network.
    pub network: Network,
    /// How the links of the next clients are.
    pub conditions: Conditions,
    /// The room that [`World::join`] joins.
    pub room: RoomName,
    /// Who makes stamped packets, by the number in the stamps.
    pub publishers: BTreeMap<u16, Publisher>,
    /// The shard of the next clients; `None`: the one that the server chooses.
    pub shard: Option<usize>,
    /// For the tests' own choices.
    pub rng: SmallRng,
    /// Keeps copies of everything that clients send to the server.
    pub captured: Option<Vec<Datagram>>,
    /// Sees everything that leaves the server.
    pub watch: Option<Watch>,
    /// Keeps everything that the server sends to addresses without client.
    pub strays: Vec<Datagram>,
    seed: u64,
    out: Vec<Datagram>,
    rounds_at_once: u32,
    trace: Trace,
    /// That all clients share: each of its own would only take time.
    certificate: DtlsCert,
}

/// A DTLS certificate for clients.
///
/// # Panics
/// Where the crypto library can make none.
pub fn certificate() -> DtlsCert {
    from_feature_flags().dtls_provider.generate_certificate().expect("it can be made")
}

impl World {
    /// A world with a server of default settings.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Config::default())
    }

    /// A world with a server of these settings. `ANTIPHON_SIM_SEED` takes the place of `seed`.
    pub fn with(seed: u64, config: Config) -> Self {
        Self::spread(seed, &config, 1)
    }

    /// A world whose server has so many shards, at ports from [`SERVER`]'s on. `ANTIPHON_SIM_SEED` takes the place of
    /// `seed`.
    pub fn spread(seed: u64, config: &Config, shards: u16) -> Self {
        let seed = given_seed().unwrap_or(seed);
        let now = Instant::now();
        let locals: Vec<SocketAddr> =
            (0..shards).map(|i| SocketAddr::new(SERVER.ip(), SERVER.port() + i)).collect();
        Self {
            now,
            base: now,
            engine: Engine::spread(config, &locals, now, EPOCH_US).expect("the system gives an eventfd"),
            clients: Vec::new(),
            network: Network::default(),
            conditions: Conditions::default(),
            room: RoomName::new("sim").expect("a good name"),
            publishers: BTreeMap::new(),
            shard: None,
            rng: SmallRng::seed_from_u64(seed),
            captured: None,
            watch: None,
            strays: Vec::new(),
            seed,
            out: Vec::new(),
            rounds_at_once: 0,
            trace: Trace::default(),
            certificate: certificate(),
        }
    }

    /// How many shards the server has.
    pub fn shards(&self) -> usize {
        self.engine.shards()
    }

    /// A number that two runs share if the same datagrams were sent at the same times and met the same fate, and the
    /// same media and messages came to every client.
    pub fn trace(&self) -> u64 {
        let mut trace = self.trace;
        self.clients.iter().for_each(|client| trace.client(self.base, client));
        trace.value()
    }

    /// Lets a client join, and hands its number back.
    pub fn join(&mut self, profile: Profile) -> usize {
        let id = profile.id.clone();
        self.try_join(profile).unwrap_or_else(|e| panic!("{id} could not join: {e}"))
    }

    /// As [`World::join`], where it may fail.
    ///
    /// # Errors
    /// What the server says.
    pub fn try_join(&mut self, profile: Profile) -> Result<usize, JoinError> {
        let number = u16::try_from(self.clients.len()).expect("a world of few");
        let address = address_of(number);
        let (request, publish) = (profile.request(), profile.grants.publish);
        let offering = Offering::new(self.now, number, address, self.certificate.clone(), profile);
        let (now, offer) = (self.now, &offering.offer);
        let joined = match self.shard {
            Some(shard) => self.engine.join_on(now, shard, (&self.room, offer), request)?,
            None => self.engine.join(now, &self.room, offer, request)?,
        };
        self.publishers
            .insert(number, Publisher { id: joined.id.clone(), key: joined.key, may_publish: publish });
        let seed = self.rng.random();
        self.network.add(address, self.conditions.clone(), self.conditions.clone(), seed);
        self.clients.push(offering.accept(self.now, joined));
        Ok(usize::from(number))
    }

    /// Lets a client join and waits until it has media and control.
    pub fn enter(&mut self, profile: Profile) -> usize {
        let control = profile.control;
        let client = self.join(profile);
        self.until(Duration::from_secs(10), "the client is connected", |w| {
            let client = &w.clients[client];
            client.connected.is_some() && (!control || !client.roster.is_empty())
        });
        client
    }

    /// Lets a program join, whose stamps will have this number.
    pub fn attach(&mut self, number: u16, request: AttachRequest) -> Attachment {
        let room = self.room.clone();
        let may_publish = request.grants.publish;
        let attachment = self.engine.attach(self.now, &room, request).expect("nothing keeps it out");
        let (id, key) = (attachment.id.clone(), attachment.key);
        self.publishers.insert(number, Publisher { id, key, may_publish });
        attachment
    }

    /// Lets a client say something now.
    pub fn say(&mut self, client: usize, request: Request) -> u32 {
        self.clients[client].say(request)
    }

    /// A client's connection ends without a word.
    pub fn vanish(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.vanished = true;
        client.vanished_at = client.vanished_at.or(Some(self.now));
        self.network.remove(client.address);
    }

    /// State of a participant.
    pub fn status(&self, id: &str) -> Option<ParticipantStatus> {
        let id = ParticipantId::new(id).expect("tests use good ids");
        self.engine.status(self.now, &self.room, &id)
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - self.base
    }

    /// Runs for `time`.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, at most for `limit`.
    pub fn until(&mut self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.step(end), "after {limit:?} still not: {what}");
        }
    }

    /// Checks all that every client has received ([`check`]).
    pub fn check(&self) -> check::Report {
        check::check(self)
    }

    /// The next moment at which something happens.
    fn next(&self) -> Instant {
        let clients = self.clients.iter().filter_map(Client::poll_timeout);
        let all = clients.chain(self.engine.poll_timeout()).chain(self.network.next());
        all.min().map_or(self.now + IDLE, |at| at.max(self.now))
    }

    /// One round. `false`: nothing happens before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let waiting = self.clients.iter().any(Client::is_waiting);
        let next = if waiting { self.now } else { self.next() };
        if next > end {
            return false;
        }
        self.rounds_at_once = if next == self.now { self.rounds_at_once + 1 } else { 0 };
        assert!(self.rounds_at_once < MAX_ROUNDS_AT_ONCE, "no progress at {:?}", self.elapsed());
        self.now = next;
        while let Some(datagram) = self.network.pop(next) {
            self.deliver(&datagram);
        }
        for client in &mut self.clients {
            if client.poll_timeout().is_some_and(|at| at <= next) || client.is_waiting() {
                client.handle_timeout(next, &mut self.out);
            }
        }
        self.engine.handle_timeout(next);
        self.finish();
        true
    }

    fn deliver(&mut self, datagram: &Datagram) {
        if datagram.destination.ip() == SERVER.ip() {
            if let Some(captured) = &mut self.captured {
                captured.push(datagram.clone());
            }
            self.engine.handle_datagram(self.now, datagram.source, datagram.destination, &datagram.bytes);
        } else if let Some(client) = number_of(datagram.destination).and_then(|n| self.clients.get_mut(n)) {
            client.handle_datagram(self.now, datagram, &mut self.out);
        }
    }

    /// Puts everything that leaves onto the network.
    pub fn finish(&mut self) {
        let (now, network, strays) = (self.now, &mut self.network, &mut self.strays);
        let (watch, trace, elapsed) = (&mut self.watch, &mut self.trace, self.now - self.base);
        let mut send = |network: &mut Network, datagram: Datagram| {
            let head = (datagram.source, datagram.destination, net::length(&datagram.bytes));
            let delivery = network.send(now, datagram);
            trace.datagram(elapsed, head, delivery.map(|d| (d.at - now, d.twice, d.flipped)));
        };
        self.engine.finish(now, |source, destination, bytes| {
            let datagram = Datagram { source, destination, bytes: bytes.to_vec() };
            if let Some(watch) = watch {
                watch(&datagram);
            }
            if network.paths.contains_key(&destination) {
                send(network, datagram);
            } else {
                strays.push(datagram);
            }
        });
        for datagram in self.out.drain(..) {
            send(network, datagram);
        }
    }
}

fn address_of(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, high, low)), CLIENT_PORT)
}

/// The client at an address.
fn number_of(address: SocketAddr) -> Option<usize> {
    match (address.ip(), address.port()) {
        (IpAddr::V4(ip), CLIENT_PORT) => match ip.octets() {
            [10, 1, high, low] => Some(usize::from(u16::from_be_bytes([high, low]))),
            _ => None,
        },
        _ => None,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed at {:?}; replay with ANTIPHON_SIM_SEED={}", self.elapsed(), self.seed);
        }
    }
}
