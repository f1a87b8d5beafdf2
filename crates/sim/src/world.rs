//! A server and its clients in virtual time. Everything that happens at one moment happens in a fixed order.
//!
//! The network, the media and the tests draw from the world's seed. Inside [`crate::entropy::seeded`] everything else
//! does, too, but for keys: a replay has the same datagrams at the same times, with the same fate, and the same media in
//! them ([`World::trace`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use antiphon_base::{ParticipantId, ParticipantKey, RoomName, Source};
use antiphon_shard::{
    AttachRequest, Attachment, Config, Engine, IceError, IceMatch, IceRequest, IceUpdate, JoinError, Joined,
    ParticipantStatus, Transport,
};
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
    /// The shard that its packets come to.
    pub shard: usize,
    /// It joined, or came back, at that time.
    pub since: Instant,
}

/// A time in which a shard did nothing.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// Which.
    pub shard: usize,
    /// Since when.
    pub from: Instant,
    /// Until when; `None`: still.
    pub to: Option<Instant>,
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
    /// When shards did nothing ([`World::stall`]).
    pub stalls: Vec<Stall>,
    /// For the tests' own choices.
    pub rng: SmallRng,
    /// Keeps copies of everything that clients send to the server.
    pub captured: Option<Vec<Datagram>>,
    /// Sees everything that leaves the server.
    pub watch: Option<Watch>,
    /// Opens everything that the server seals, with the clients' keys ([`crate::seals`]).
    pub opens: bool,
    /// What a NAT before the server is reached at.
    pub nat: Option<SocketAddr>,
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
            stalls: Vec::new(),
            rng: SmallRng::seed_from_u64(seed),
            captured: None,
            watch: None,
            opens: false,
            nat: None,
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
        let place = self.place();
        self.join_at(place, profile)
    }

    /// A client is gone without a word, and one that comes anew has its address. The old one is forgotten here; the
    /// server does not know yet.
    pub fn comes_again(&mut self, client: usize, profile: Profile) {
        let address = self.clients[client].address;
        self.network.remove(address);
        let number = u16::try_from(client).expect("a world of few");
        self.join_at((number, address), profile).expect("who has left may come");
    }

    fn join_at(&mut self, place: (u16, SocketAddr), profile: Profile) -> Result<usize, JoinError> {
        let (number, address) = place;
        let request = profile.request();
        let offering = Offering::new(self.now, number, address, self.certificate.clone(), profile);
        let (now, offer) = (self.now, &offering.offer);
        let shard = self.shard.unwrap_or_else(|| self.engine.choose(&self.room));
        let joined = self.engine.join_on(now, shard, (&self.room, offer), request)?;
        Ok(self.add((number, shard), offering, joined))
    }

    /// Lets a player in by an offer of the server's.
    pub fn play(&mut self, profile: Profile) -> usize {
        let place = self.place();
        let offered = self.engine.offer(self.now, &self.room, profile.request());
        let offered = offered.expect("an offer needs nothing");
        let answering =
            Offering::answering(self.now, place, self.certificate.clone(), profile, offered.text());
        let shard = offered.shard();
        let joined = self.engine.answer(self.now, offered, &answering.offer);
        self.add((place.0, shard), answering, joined.expect("the answer fits the offer"))
    }

    /// Number and address of the next client.
    fn place(&self) -> (u16, SocketAddr) {
        let number = u16::try_from(self.clients.len()).expect("a world of few");
        (number, address_of(number))
    }

    fn add(&mut self, (number, shard): (u16, usize), offering: Offering, joined: Joined) -> usize {
        let (address, publish) = (offering.address(), offering.publishes());
        let (id, key) = (joined.id.clone(), joined.key);
        self.publishers.insert(number, Publisher { id, key, may_publish: publish, shard, since: self.now });
        let seed = self.rng.random();
        self.network.add(address, self.conditions.clone(), self.conditions.clone(), seed);
        let (number, client) = (usize::from(number), offering.accept(self.now, joined));
        match self.clients.get_mut(number) {
            Some(old) => *old = client,
            None => self.clients.push(client),
        }
        number
    }

    /// Lets a client send its microphone, and its camera with so many pictures a second.
    pub fn talk(&mut self, client: usize, fps: u32) {
        let (now, client) = (self.now, &mut self.clients[client]);
        client.start(now, Source::Microphone, 0);
        client.start(now, Source::Camera, fps);
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
        let shard = self.engine.home(&room);
        self.publishers.insert(number, Publisher { id, key, may_publish, shard, since: self.now });
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

    /// A client goes to another network: from now on it is at another port, and nothing reaches the old one.
    pub fn moves(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let old = client.address;
        client.address.set_port(old.port() + 1);
        self.network.move_to(self.now, old, client.address);
    }

    /// A client asks for an ICE restart, and does its part where it is granted.
    ///
    /// # Errors
    /// What the server says.
    pub fn restart_ice(&mut self, client: usize) -> Result<(), IceError> {
        let remote = Some(self.clients[client].begin_restart());
        let request = IceRequest { session: IceMatch::Any, remote };
        let id = self.clients[client].id();
        if let IceUpdate::Restarted(theirs) = self.engine.ice(self.now, &self.room, &id, &request)? {
            self.clients[client].end_restart(&theirs);
        }
        Ok(())
    }

    /// A shard does nothing from now on, or goes on: what its own peers miss by that has a reason.
    pub fn stall(&mut self, shard: usize, stalled: bool) {
        self.engine.stall(shard, stalled);
        let now = self.now;
        for stall in self.stalls.iter_mut().filter(|s| s.shard == shard) {
            stall.to = stall.to.or(Some(now));
        }
        if stalled {
            self.stalls.push(Stall { shard, from: now, to: None });
        }
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

    fn client_at(&self, address: SocketAddr) -> Option<&Client> {
        number_of(address).and_then(|n| self.clients.get(n))
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let server = self.nat.map_or(SERVER.ip(), |nat| nat.ip());
        let (source, destination) = (datagram.source, datagram.destination);
        if destination.ip() == server {
            if let Some(captured) = &mut self.captured {
                captured.push(datagram.clone());
            }
            let destination = SocketAddr::new(SERVER.ip(), destination.port());
            match self.client_at(source).map(|c| c.profile.transport) {
                Some(Transport::Tcp) => {
                    self.engine.handle_tcp(self.now, source, destination, &datagram.bytes);
                }
                _ => self.engine.handle_datagram(self.now, source, destination, &datagram.bytes),
            }
        } else if let Some(client) = number_of(destination).and_then(|n| self.clients.get_mut(n))
            && client.address == destination
        {
            client.handle_datagram(self.now, datagram, &mut self.out);
        }
    }

    /// Puts everything that leaves onto the network.
    pub fn finish(&mut self) {
        let (now, network, strays) = (self.now, &mut self.network, &mut self.strays);
        let (watch, clients, nat, opens) = (&mut self.watch, &mut self.clients, self.nat, self.opens);
        let (trace, elapsed) = (&mut self.trace, self.now - self.base);
        let mut send = |network: &mut Network, datagram: Datagram| {
            let head = (datagram.source, datagram.destination, net::length(&datagram.bytes));
            let delivery = network.send(now, datagram);
            trace.datagram(elapsed, head, delivery.map(|d| (d.at - now, d.twice, d.flipped)));
        };
        self.engine.finish(now, |t| {
            // Behind a NAT the machine's own address is the only one that it may send from.
            assert_eq!(t.source.ip(), SERVER.ip());
            let source = nat.map_or(t.source, |nat| SocketAddr::new(nat.ip(), t.source.port()));
            let destination = t.destination;
            let datagram = Datagram { source, destination, bytes: t.bytes.to_vec() };
            let mut client = number_of(destination).and_then(|n| clients.get_mut(n));
            if client.as_ref().is_some_and(|c| c.profile.transport != t.transport) {
                return strays.push(datagram);
            }
            if let Some(client) = client.as_mut().filter(|_| opens) {
                client.seals.take(now, t.bytes);
            }
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

/// The client of an address, at whatever port it is now.
fn number_of(address: SocketAddr) -> Option<usize> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    match ip.octets() {
        [10, 1, high, low] => Some(usize::from(u16::from_be_bytes([high, low]))),
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
