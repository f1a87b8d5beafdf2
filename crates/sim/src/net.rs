//! A network of seeded links: one per direction between each client and the server. Sans-IO: bytes and `now` in,
//! deliveries with their times out. What happens to a datagram depends on the seed, on when it was sent and on how long
//! it is, never on what is in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Harm is remembered in steps of so long: a minute of it is six hundred entries.
const HARM_STEP: Duration = Duration::from_millis(100);
/// A queue that a sender may take for a link that is full: some datagrams of a picture more than jitter is.
const QUEUE: Duration = Duration::from_millis(30);

/// How a link treats datagrams. Shares are 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditions {
    /// Share of datagrams lost, each by itself.
    pub loss: f64,
    /// Losses in bursts, beside `loss`.
    pub burst: Option<Burst>,
    /// One-way delay.
    pub delay: Duration,
    /// Added to the delay, evenly between nothing and this; it does not change the order.
    pub jitter: Duration,
    /// Share of datagrams that are held up and so overtaken.
    pub reorder: f64,
    /// By how much they are held up.
    pub reorder_delay: Duration,
    /// Share of datagrams that come twice.
    pub duplicate: f64,
    /// Share of datagrams that come with one bit turned: as if the checksum of UDP were not there.
    pub corrupt: f64,
    /// A bottleneck.
    pub rate: Option<Rate>,
    /// Nothing passes. Cutting one direction only is a one-way partition.
    pub cut: bool,
}

/// The Gilbert-Elliott model: in its bad state a link loses more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// Chance per datagram of becoming bad.
    pub enter: f64,
    /// Chance per datagram of becoming good again.
    pub leave: f64,
    /// Share lost while bad.
    pub loss: f64,
}

/// A bottleneck with a queue that drops at its tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second.
    pub bps: u64,
    /// Bytes that may wait.
    pub queue_bytes: u64,
}

impl Rate {
    /// With a queue that is this long when it is full.
    pub fn with_queue(bps: u64, queue: Duration) -> Self {
        let bytes = u128::from(bps) * queue.as_millis() / 8_000;
        Self { bps, queue_bytes: u64::try_from(bytes).expect("a queue of a test") }
    }
}

impl Default for Conditions {
    /// A perfect link of 10 ms.
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst: None,
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(15),
            duplicate: 0.0,
            corrupt: 0.0,
            rate: None,
            cut: false,
        }
    }
}

impl Conditions {
    /// The same delay, and nothing bad.
    #[must_use]
    pub fn healed(&self) -> Self {
        Self { delay: self.delay, ..Self::default() }
    }

    /// So much is lost that a reliable channel (SCTP) may stand still: its timers double with each loss.
    pub fn is_hard(&self) -> bool {
        let bursting = self.burst.is_some_and(|burst| burst.loss > 0.8);
        let narrow = self.rate.is_some_and(|rate| rate.bps < 300_000);
        self.cut || self.loss >= 0.1 || self.corrupt > 0.05 || bursting || narrow
    }
}

/// What a link did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that came to it.
    pub sent: u64,
    /// Lost, by chance, at the queue or in a partition.
    pub lost: u64,
    /// Bytes that came to it.
    pub bytes: u64,
    /// Came damaged.
    pub corrupted: u64,
}

/// A datagram that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// When.
    pub at: Instant,
    /// It comes twice.
    pub twice: bool,
    /// Counted from its beginning, this bit of it is turned.
    pub flipped: Option<usize>,
    /// It is overtaken.
    pub held_up: bool,
}

/// Which packet of a stream a datagram is: SRTP leaves that open (RFC 3711, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of the stream.
    pub ssrc: u32,
    /// Sequence number.
    pub seq: u16,
}

impl Place {
    /// `None`: it is not RTP (RFC 7983; RFC 5761, 4).
    pub(crate) fn of(datagram: &[u8]) -> Option<Self> {
        let [128..=191, kind, s0, s1, _, _, _, _, ssrc @ ..] = datagram.first_chunk::<12>()? else {
            return None;
        };
        let seq = u16::from_be_bytes([*s0, *s1]);
        (!matches!(kind, 192..=223)).then_some(Self { ssrc: u32::from_be_bytes(*ssrc), seq })
    }
}

/// One direction between two places.
#[derive(Debug)]
pub struct Link {
    conditions: Conditions,
    rng: SmallRng,
    bad: bool,
    /// When the bottleneck has sent what waits.
    free: Option<Instant>,
    /// The latest delivery in order.
    last: Option<Instant>,
    shortest: Option<Duration>,
    /// The longest that a datagram was under way.
    pub longest: Duration,
    /// What it did.
    pub counters: Counters,
    /// When it did harm (lost, damaged, held up), each tenth of a second once.
    pub harm: Vec<Instant>,
    /// When datagrams took so much longer than the shortest way that a sender sees a queue, each tenth of a second once.
    pub stood: Vec<Instant>,
    /// Media packets to which it did harm, in the order in which they were sent.
    pub harmed: Vec<(Instant, Place)>,
    /// When the client went to another address: then it may have lost anything.
    pub moved: Vec<Instant>,
}

impl Link {
    /// A link with its own randomness.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            rng: SmallRng::seed_from_u64(seed),
            bad: false,
            free: None,
            last: None,
            shortest: None,
            longest: Duration::ZERO,
            counters: Counters::default(),
            harm: Vec::new(),
            stood: Vec::new(),
            harmed: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// Changes how it treats what comes from now on.
    pub fn set(&mut self, conditions: Conditions) {
        self.bad &= conditions.burst.is_some();
        self.conditions = conditions;
    }

    /// How it treats what comes now.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Something was lost, damaged or held up on it from `from` on, until `to`.
    pub(crate) fn did_harm(&self, from: Instant, to: Instant) -> bool {
        noted(&self.harm, from, to)
    }

    /// Media packets to which it did harm in that time.
    pub(crate) fn harmed(&self, from: Instant, to: Instant) -> impl Iterator<Item = (Instant, Place)> {
        let begin = self.harmed.partition_point(|(at, _)| *at < from);
        self.harmed[begin..].iter().copied().take_while(move |(at, _)| *at <= to)
    }

    /// Its client went to another address in that time.
    pub(crate) fn has_moved(&self, from: Instant, to: Instant) -> bool {
        noted(&self.moved, from, to)
    }

    /// A queue was seen on it in that time.
    pub(crate) fn was_full(&self, from: Instant, to: Instant) -> bool {
        noted(&self.stood, from, to)
    }

    fn note_harm(&mut self, now: Instant) {
        note(&mut self.harm, now);
    }

    fn is_lost(&mut self) -> bool {
        let bursting = self.conditions.burst.is_some_and(|burst| {
            let change = if self.bad { burst.leave } else { burst.enter };
            self.bad ^= self.rng.random_bool(change);
            self.bad && self.rng.random_bool(burst.loss)
        });
        self.rng.random_bool(self.conditions.loss) || bursting
    }

    /// When the bottleneck has let the datagram through; `None`: its queue is full.
    fn queued(&mut self, now: Instant, bytes: u64) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else { return Some(now) };
        let begin = self.free.map_or(now, |free| free.max(now));
        let waiting = (begin - now).as_micros() * u128::from(rate.bps) / 8_000_000;
        if waiting + u128::from(bytes) > u128::from(rate.queue_bytes) {
            return None;
        }
        let end = begin + Duration::from_micros(bytes * 8_000_000 / rate.bps);
        self.free = Some(end);
        Some(end)
    }

    /// What becomes of a datagram sent now; `None`: it is lost.
    pub fn send(&mut self, now: Instant, bytes: usize) -> Option<Delivery> {
        self.counters.sent += 1;
        self.counters.bytes += bytes as u64;
        let lost = self.is_lost() || self.conditions.cut;
        let Some(through) = (if lost { None } else { self.queued(now, bytes as u64) }) else {
            self.counters.lost += 1;
            self.note_harm(now);
            return None;
        };
        let jitter = self.conditions.jitter.mul_f64(self.rng.random::<f64>());
        let mut at = through + self.conditions.delay + jitter;
        let held_up = self.rng.random_bool(self.conditions.reorder);
        if held_up {
            at += self.conditions.reorder_delay;
            self.note_harm(now);
        } else {
            at = self.last.map_or(at, |last| last.max(at));
            self.last = Some(at);
        }
        let shortest = self.shortest.map_or(at - now, |shortest| shortest.min(at - now));
        self.shortest = Some(shortest);
        self.longest = self.longest.max(at - now);
        if at - now >= shortest + QUEUE {
            note(&mut self.stood, now);
        }
        let flipped =
            self.rng.random_bool(self.conditions.corrupt).then(|| self.rng.random_range(0..bytes.max(1) * 8));
        if flipped.is_some() {
            self.counters.corrupted += 1;
            self.note_harm(now);
        }
        Some(Delivery { at, twice: self.rng.random_bool(self.conditions.duplicate), flipped, held_up })
    }
}

fn noted(moments: &[Instant], from: Instant, to: Instant) -> bool {
    moments.iter().any(|at| *at + HARM_STEP >= from && *at <= to)
}

fn note(moments: &mut Vec<Instant>, now: Instant) {
    if moments.last().is_none_or(|last| now - *last >= HARM_STEP) {
        moments.push(now);
    }
}

/// Signatures and certificates in a DTLS 1.2 handshake are a byte longer or shorter by keys that nobody can seed. So that
/// they decide nothing, each such datagram takes as much of a link as the longest.
const HANDSHAKE_BYTES: usize = 1_200;
/// In a handshake's datagram only bits of the first bytes are turned: those are there whatever the keys.
const HANDSHAKE_HEAD: usize = 40;

fn is_handshake(datagram: &[u8]) -> bool {
    // Content type of a DTLS record (RFC 6347, 4.1).
    datagram.first() == Some(&22)
}

/// How long a datagram is on a link.
pub(crate) fn length(datagram: &[u8]) -> usize {
    if is_handshake(datagram) { HANDSHAKE_BYTES } else { datagram.len() }
}

fn flip(datagram: &mut [u8], bit: usize) {
    let span = if is_handshake(datagram) { HANDSHAKE_HEAD.min(datagram.len()) } else { datagram.len() };
    if let Some(byte) = datagram.get_mut(bit / 8 % span.max(1)) {
        *byte ^= 1 << (bit % 8);
    }
}

/// A datagram under way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Datagram {
    /// From where.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// The two links of a client.
#[derive(Debug)]
pub struct Path {
    /// To the server.
    pub up: Link,
    /// From the server.
    pub down: Link,
    /// When one of them became [hard](Conditions::is_hard) and when both were good again, if they are.
    pub hard: Vec<(Instant, Option<Instant>)>,
}

/// A direction, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// From the server.
    Down,
    /// Both.
    Both,
}

impl Path {
    /// Changes one or both directions.
    pub fn set(&mut self, way: Way, conditions: &Conditions) {
        if way != Way::Down {
            self.up.set(conditions.clone());
        }
        if way != Way::Up {
            self.down.set(conditions.clone());
        }
    }

    /// The shortest there was.
    pub(crate) fn round_trip(&self) -> Duration {
        self.up.shortest.unwrap_or_default() + self.down.shortest.unwrap_or_default()
    }

    fn note_hard(&mut self, now: Instant) {
        let hard = self.up.conditions.is_hard() || self.down.conditions.is_hard();
        let open = self.hard.last_mut().filter(|(_, end)| end.is_none());
        match (hard, open) {
            (true, None) => self.hard.push((now, None)),
            (false, Some((_, end))) => *end = Some(now),
            _ => {}
        }
    }

    /// One of them was hard for a time in the given one.
    pub(crate) fn was_hard(&self, from: Instant, to: Instant) -> bool {
        self.hard.iter().any(|(begin, end)| *begin <= to && end.is_none_or(|end| end >= from))
    }
}

/// All links, and what is under way on them.
#[derive(Debug, Default)]
pub struct Network {
    /// By the client's address. Who is not in here does not get and not send anything.
    pub paths: BTreeMap<SocketAddr, Path>,
    /// Those who were [removed](Network::remove).
    gone: BTreeMap<SocketAddr, Path>,
    queue: BinaryHeap<Reverse<(Instant, u64, Datagram)>>,
    count: u64,
    changes: VecDeque<Change>,
}

/// A change of a link that is to come.
#[derive(Debug)]
struct Change {
    at: Instant,
    address: SocketAddr,
    way: Way,
    conditions: Conditions,
}

impl Network {
    /// A new client at `address`.
    pub fn add(&mut self, address: SocketAddr, up: Conditions, down: Conditions, seed: u64) {
        let (up, down) = (Link::new(up, seed), Link::new(down, seed ^ 0x9e37_79b9_7f4a_7c15));
        let path = Path { up, down, hard: Vec::new() };
        self.paths.insert(address, path);
    }

    /// A client goes to another address: its links stay as they are, and what is under way to the old address is lost.
    pub fn move_to(&mut self, now: Instant, old: SocketAddr, new: SocketAddr) {
        let Some(mut path) = self.paths.remove(&old) else { return };
        for link in [&mut path.up, &mut path.down] {
            link.note_harm(now);
            link.moved.push(now);
        }
        self.paths.insert(new, path);
    }

    /// A client is not there any more.
    pub fn remove(&mut self, address: SocketAddr) {
        self.gone.extend(self.paths.remove(&address).map(|path| (address, path)));
    }

    /// The links of a client, or as they were when it was removed.
    pub fn path(&self, address: SocketAddr) -> Option<&Path> {
        self.paths.get(&address).or_else(|| self.gone.get(&address))
    }

    /// Changes a client's links at that time; of two at one time the one said first comes first.
    pub fn change(&mut self, at: Instant, address: SocketAddr, way: Way, conditions: Conditions) {
        let place = self.changes.partition_point(|c| c.at <= at);
        self.changes.insert(place, Change { at, address, way, conditions });
    }

    /// Takes a datagram of a client or of the server; what becomes of it.
    pub fn send(&mut self, now: Instant, mut datagram: Datagram) -> Option<Delivery> {
        let link = match self.paths.get_mut(&datagram.source) {
            Some(path) => &mut path.up,
            None => &mut self.paths.get_mut(&datagram.destination)?.down,
        };
        let delivery = link.send(now, length(&datagram.bytes));
        if delivery.is_none_or(|d| d.held_up || d.flipped.is_some()) {
            link.harmed.extend(Place::of(&datagram.bytes).map(|place| (now, place)));
        }
        let delivery = delivery?;
        if delivery.twice {
            self.count += 1;
            self.queue.push(Reverse((delivery.at, self.count, datagram.clone())));
        }
        if let Some(bit) = delivery.flipped {
            flip(&mut datagram.bytes, bit);
        }
        self.count += 1;
        self.queue.push(Reverse((delivery.at, self.count, datagram)));
        Some(delivery)
    }

    /// Makes the changes that are due.
    fn apply(&mut self, now: Instant) {
        while let Some(change) = self.changes.pop_front_if(|c| c.at <= now) {
            if let Some(path) = self.paths.get_mut(&change.address) {
                path.set(change.way, &change.conditions);
                path.note_hard(now);
            }
        }
    }

    /// Media packets that are under way to a client.
    pub(crate) fn under_way(&self, to: SocketAddr) -> impl Iterator<Item = Place> {
        let datagrams = self.queue.iter().map(|Reverse((_, _, datagram))| datagram);
        datagrams.filter(move |d| d.destination == to).filter_map(|d| Place::of(&d.bytes))
    }

    /// When the next datagram arrives, or a link changes.
    pub fn next(&self) -> Option<Instant> {
        let arrival = self.queue.peek().map(|Reverse((at, _, _))| *at);
        arrival.into_iter().chain(self.changes.front().map(|c| c.at)).min()
    }

    /// A datagram that has arrived.
    pub fn pop(&mut self, now: Instant) -> Option<Datagram> {
        self.apply(now);
        self.queue.peek().filter(|Reverse((at, _, _))| *at <= now)?;
        self.queue.pop().map(|Reverse((_, _, datagram))| datagram)
    }
}

#[cfg(test)]
mod tests;
