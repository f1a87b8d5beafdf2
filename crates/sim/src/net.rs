//! A network of seeded links: one per direction between each client and the server. Sans-IO: bytes and `now` in,
//! deliveries with their times out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

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
    /// A bottleneck.
    pub rate: Option<Rate>,
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
            rate: None,
        }
    }
}

/// What a link did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that came to it.
    pub sent: u64,
    /// Lost, by chance or at the queue.
    pub lost: u64,
    /// Bytes that came to it.
    pub bytes: u64,
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
    /// What it did.
    pub counters: Counters,
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
            counters: Counters::default(),
        }
    }

    /// Changes how it treats what comes from now on.
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
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

    /// When a datagram sent now arrives: never, once or twice.
    pub fn send(&mut self, now: Instant, bytes: usize) -> Vec<Instant> {
        self.counters.sent += 1;
        self.counters.bytes += bytes as u64;
        let through = if self.is_lost() { None } else { self.queued(now, bytes as u64) };
        let Some(through) = through else {
            self.counters.lost += 1;
            return Vec::new();
        };
        let jitter = self.conditions.jitter.mul_f64(self.rng.random::<f64>());
        let mut at = through + self.conditions.delay + jitter;
        if self.rng.random_bool(self.conditions.reorder) {
            at += self.conditions.reorder_delay;
        } else {
            at = self.last.map_or(at, |last| last.max(at));
            self.last = Some(at);
        }
        if self.rng.random_bool(self.conditions.duplicate) { vec![at, at] } else { vec![at] }
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
}

/// All links, and what is under way on them.
#[derive(Debug, Default)]
pub struct Network {
    /// By the client's address. Who is not in here does not get and not send anything.
    pub paths: BTreeMap<SocketAddr, Path>,
    queue: BinaryHeap<Reverse<(Instant, u64, Datagram)>>,
    count: u64,
}

impl Network {
    /// A new client at `address`.
    pub fn add(&mut self, address: SocketAddr, up: Conditions, down: Conditions, seed: u64) {
        let path = Path { up: Link::new(up, seed), down: Link::new(down, seed ^ 0x9e37_79b9_7f4a_7c15) };
        self.paths.insert(address, path);
    }

    /// Takes a datagram of a client or of the server.
    pub fn send(&mut self, now: Instant, datagram: Datagram) {
        let link = match self.paths.get_mut(&datagram.source) {
            Some(path) => &mut path.up,
            None => match self.paths.get_mut(&datagram.destination) {
                Some(path) => &mut path.down,
                None => return,
            },
        };
        for at in link.send(now, datagram.bytes.len()) {
            self.count += 1;
            self.queue.push(Reverse((at, self.count, datagram.clone())));
        }
    }

    /// When the next datagram arrives.
    pub fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// A datagram that has arrived.
    pub fn pop(&mut self, now: Instant) -> Option<Datagram> {
        self.next().filter(|at| *at <= now)?;
        self.queue.pop().map(|Reverse((_, _, datagram))| datagram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries(conditions: Conditions, count: u32) -> (Vec<Duration>, Counters) {
        let base = Instant::now();
        let mut link = Link::new(conditions, 7);
        let send = |i: u32| {
            let now = base + Duration::from_millis(1) * i;
            link.send(now, 1_000).into_iter().map(|at| at - now).collect::<Vec<_>>()
        };
        (((0..count).flat_map(send)).collect(), link.counters)
    }

    #[test]
    fn the_same_seed_gives_the_same_network() {
        let conditions = Conditions {
            loss: 0.1,
            jitter: Duration::from_millis(5),
            reorder: 0.1,
            duplicate: 0.1,
            ..Conditions::default()
        };
        assert_eq!(deliveries(conditions.clone(), 1_000), deliveries(conditions, 1_000));
    }

    #[test]
    fn losses_come_at_their_rates() {
        let (got, _) = deliveries(Conditions { loss: 0.2, ..Conditions::default() }, 10_000);
        assert!((7_800..8_200).contains(&got.len()), "{}", got.len());
        let burst = Some(Burst { enter: 0.01, leave: 0.09, loss: 1.0 });
        let (got, _) = deliveries(Conditions { burst, ..Conditions::default() }, 100_000);
        assert!((87_000..93_000).contains(&got.len()), "{}", got.len());
    }

    #[test]
    fn a_bottleneck_delays_and_then_drops() {
        // A kilobyte each millisecond is 8 Mbit/s: twice what passes.
        let rate = Some(Rate { bps: 4_000_000, queue_bytes: 20_000 });
        let (got, counters) = deliveries(Conditions { rate, ..Conditions::default() }, 1_000);
        assert!((500..=520).contains(&got.len()), "{}", got.len());
        assert_eq!(counters.lost + got.len() as u64, 1_000);
        let longest = got.iter().max().unwrap();
        assert!(*longest <= Duration::from_millis(50) && *longest > Duration::from_millis(40), "{longest:?}");
    }
}
