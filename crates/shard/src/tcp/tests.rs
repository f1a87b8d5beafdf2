//! Connections of strangers over real sockets, with the clock in the test's hand: whatever they do, they end, the bounds
//! hold, and nobody gets a byte.

use std::io::{Read, Write};

use super::admission::{MAX_PER_SOURCE, MAX_WAIT, MAX_WAITING};
use super::pipe::MAX_PIPE_BYTES;
use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::egress::Path;
use crate::inbox::{self, Inbox};
use crate::load::Loads;

/// Two shards' worth of pipes; the second has no listener.
struct Rig {
    now: Instant,
    at: SocketAddr,
    core: Core,
    pipes: Pipes,
    inboxes: Vec<Inbox>,
}

impl Rig {
    fn new(max: usize) -> Self {
        let now = Instant::now();
        let listener = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..2).map(|_| inbox::inbox().unwrap()).unzip();
        let loads = Arc::new(Loads::new(senders.len()));
        Self {
            now,
            at,
            core: Core::new(0, Config::default(), loads, Clock::at(now, 0), now),
            pipes: Pipes::new(0, Some(listener), max, senders.into(), now).unwrap(),
            inboxes,
        }
    }

    fn connect(&mut self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        let accepted = self.pipes.counters.accepted;
        self.until(|r| r.pipes.counters.accepted > accepted);
        stream
    }

    /// Polls until something holds; whatever is on its way on loopback comes with the next event.
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let epoll = Epoll::new(&[self.pipes.as_raw_fd()]).unwrap();
        while !done(self) {
            assert!(epoll.wait(Duration::from_secs(10)).next().is_some(), "nothing happens");
            self.pipes.poll(self.now, &mut self.core);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.pipes.sweep(self.now, &mut self.core);
    }
}

fn request(username: &str) -> Vec<u8> {
    let mut m = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    m.extend([9; 12]);
    m.extend([0, 6, 0, u8::try_from(username.len()).unwrap()]);
    m.extend(username.as_bytes());
    m.resize(m.len().next_multiple_of(4), 0);
    m
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&antiphon_wire::framing::length(packet).unwrap()[..], packet].concat()
}

/// It has ended, and nothing was said to it.
#[track_caller]
fn ended(mut stream: TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    match stream.read(&mut [0; 100]) {
        Ok(n) => assert_eq!(n, 0),
        Err(e) => assert_eq!(e.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn who_speaks_something_else_is_let_go_at_once() {
    let mut rig = Rig::new(100);
    let first: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &framed(&[22, 254, 253, 0, 0, 0, 0, 0]),
        &framed(&request("zz:them")),
        &framed(&request("09nobody:them")),
        &framed(&request("00nobody:them")),
        &[0xff; 3_000],
    ];
    for (n, words) in (1..).zip(first) {
        let mut stream = rig.connect();
        stream.write_all(words).unwrap();
        rig.until(|r| r.pipes.counters.strangers == n);
        assert_eq!(rig.pipes.len(), 0);
        ended(stream);
    }
}

#[test]
fn a_connection_goes_to_the_shard_of_its_peer_with_all_it_has_said() {
    let mut rig = Rig::new(100);
    let mut stream = rig.connect();
    let words = [framed(&request("01abcdefgh:them")), framed(b"more")].concat();
    // Byte by byte: it is known only when the packet is complete.
    for byte in &words[..40] {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.write_all(&words[40..]).unwrap();
    rig.until(|r| r.pipes.counters.handed == 1);
    assert_eq!(rig.pipes.len(), 0);
    let Some(Command::Pipe(handed)) = rig.inboxes[1].next() else { panic!("it was not handed over") };
    assert!(handed.said.starts_with(&words[..words.len() - 6]), "{:?}", handed.said);
    assert_eq!(handed.remote, stream.local_addr().unwrap());
    // The other shard does not know the peer either.
    rig.pipes.shard = 1;
    let (now, core) = (rig.now, &mut rig.core);
    rig.pipes.adopt(now, *handed, core);
    assert_eq!(rig.pipes.counters.strangers, 1);
    ended(stream);
}

#[test]
fn who_says_nothing_or_little_has_five_seconds() {
    let mut rig = Rig::new(100);
    let mut slow = rig.connect();
    let silent = rig.connect();
    for _ in 0..4 {
        slow.write_all(&[0]).unwrap();
        rig.pass(Duration::from_secs(1));
        rig.pipes.poll(rig.now, &mut rig.core);
        // 0 0 0 0: two empty packets, which are no request either.
        if rig.pipes.len() < 2 {
            break;
        }
    }
    rig.pass(MAX_WAIT);
    assert_eq!(rig.pipes.len(), 0);
    ended(silent);
    ended(slow);
}

#[test]
fn half_open_connections_are_bounded_and_the_rest_goes_on() {
    let mut rig = Rig::new(4 * MAX_PER_SOURCE as usize);
    let flood: Vec<_> = (0..MAX_PER_SOURCE + 20).map(|_| rig.connect()).collect();
    assert_eq!(rig.pipes.len(), MAX_PER_SOURCE as usize);
    assert_eq!(rig.pipes.counters.refused, 20);
    drop(flood);
    rig.until(|r| r.pipes.len() == 0);
    assert!(rig.pipes.pipes.len() <= MAX_PER_SOURCE as usize, "places are used again");
    // All that is counted was counted back.
    let again = rig.connect();
    assert_eq!(rig.pipes.len(), 1);
    drop(again);
}

#[test]
fn a_flood_of_many_sources_makes_room_for_who_comes_later() {
    let mut rig = Rig::new(20);
    let mut flood: Vec<_> = (0..15).map(|_| rig.connect()).collect();
    assert_eq!((rig.pipes.len(), rig.pipes.counters.refused), (10, 5), "half of all are for the proven");
    for stream in flood.drain(..5) {
        ended(stream);
    }
    rig.pass(MAX_WAIT);
    assert_eq!(rig.pipes.len(), 0);
    assert!(MAX_WAITING > MAX_PER_SOURCE as usize, "one source alone does not end others' pipes");
}

#[test]
fn nobody_waits_for_who_does_not_read() {
    let mut rig = Rig::new(10);
    let mut stream = rig.connect();
    let remote = stream.local_addr().unwrap();
    let path = Path { transport: Transport::Tcp, source: rig.at.ip(), destination: remote };
    let packet = vec![7; 1_200];
    // Loopback takes megabytes before it is full.
    let mut sent = 0_usize;
    while rig.pipes.counters.dropped == 0 {
        let mut arena = Arena::default();
        (0..WRITE_BATCH).for_each(|_| arena.push(path, &packet));
        rig.pipes.send(&arena);
        sent += WRITE_BATCH;
        assert!(sent < 100_000 && rig.pipes.queued <= MAX_PIPE_BYTES);
    }
    // What was taken arrives whole, once it reads.
    let taken = sent - usize::try_from(rig.pipes.counters.dropped).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    while bytes.len() < taken * 1_202 {
        match stream.read(&mut [0; 65_536][..]) {
            Ok(0) => panic!("it ended"),
            Ok(n) => bytes.resize(bytes.len() + n, 0),
            Err(_) => rig.pipes.poll(rig.now, &mut rig.core),
        }
    }
    assert_eq!((bytes.len(), rig.pipes.queued), (taken * 1_202, 0));
}
