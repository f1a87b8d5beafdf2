//! The threads with real sockets: UDP and TCP, IPv4 and IPv6, one TCP port for all shards. Clients are those of `sim`, here
//! in real time.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use antiphon_base::{RoomName, Source};
use antiphon_shard::config::{Reachability, Tcp};
use antiphon_shard::{Config, Shards, Transport};
use antiphon_sim::world::certificate;
use antiphon_sim::{Client, Datagram, Offering, Profile};
use antiphon_wire::framing::{self, Deframer};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// A socket without anything is looked at again so soon.
const TICK: Duration = Duration::from_millis(1);

/// The sockets of one client.
enum Wire {
    Udp(UdpSocket),
    /// One connection to each candidate of the server.
    Tcp(HashMap<SocketAddr, (TcpStream, Deframer)>),
}

struct Peer {
    client: Client,
    wire: Wire,
    ip: IpAddr,
}

impl Peer {
    async fn join(shards: &Shards, room: &str, ip: IpAddr, profile: Profile) -> Self {
        let now = Instant::now();
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        let (address, transport) = (socket.local_addr().unwrap(), profile.transport);
        socket.set_read_timeout(Some(TICK)).unwrap();
        let wire = match transport {
            Transport::Udp => Wire::Udp(socket),
            Transport::Tcp => Wire::Tcp(HashMap::new()),
        };
        let request = profile.request();
        let offering = Offering::new(now, 0, address, certificate(), profile);
        let prepared = shards.prepare(&RoomName::new(room).unwrap(), &offering.offer, request).unwrap();
        let joined = shards.join(prepared).await.unwrap();
        Self { client: offering.accept(now, joined), wire, ip }
    }

    fn send(&mut self, datagram: &Datagram) {
        let to = datagram.destination;
        if to.is_ipv4() != self.ip.is_ipv4() || to.ip().is_loopback() != self.ip.is_loopback() {
            return;
        }
        match &mut self.wire {
            Wire::Udp(socket) => drop(socket.send_to(&datagram.bytes, to).unwrap()),
            Wire::Tcp(all) => {
                let (stream, _) = all.entry(to).or_insert_with(|| {
                    let stream = TcpStream::connect(to).unwrap();
                    stream.set_read_timeout(Some(TICK)).unwrap();
                    (stream, Deframer::default())
                });
                let length = framing::length(&datagram.bytes).unwrap();
                stream.write_all(&[&length[..], &datagram.bytes].concat()).unwrap();
            }
        }
    }

    fn received(&mut self) -> Vec<Datagram> {
        let mut buffer = [0; 4_096];
        let to = self.client.address;
        let mut all = Vec::new();
        match &mut self.wire {
            Wire::Udp(socket) => {
                while let Ok((n, source)) = socket.recv_from(&mut buffer) {
                    all.push(Datagram { source, destination: to, bytes: buffer[..n].to_vec() });
                }
            }
            Wire::Tcp(streams) => {
                for (source, (stream, frames)) in streams {
                    let Ok(n) = stream.read(&mut buffer) else { continue };
                    let flow = frames.read(&buffer[..n], |packet| {
                        all.push(Datagram { source: *source, destination: to, bytes: packet.to_vec() });
                        ControlFlow::<()>::Continue(())
                    });
                    assert!(flow.is_ok());
                }
            }
        }
        all
    }

    fn turn(&mut self) {
        let now = Instant::now();
        let mut out = Vec::new();
        for datagram in self.received() {
            self.client.handle_datagram(now, &datagram, &mut out);
        }
        if self.client.poll_timeout().is_some_and(|at| at <= now) || self.client.is_waiting() {
            self.client.handle_timeout(now, &mut out);
        }
        out.iter().for_each(|d| self.send(d));
    }

    fn pictures(&self) -> usize {
        self.client.slots.iter().map(|s| s.packets.iter().filter(|p| p.parsed.is_some()).count()).sum()
    }
}

/// Turns all until `done`.
fn until(peers: &mut [Peer], what: &str, done: impl Fn(&[Peer]) -> bool) {
    let end = Instant::now() + LIMIT;
    while !done(peers) {
        assert!(Instant::now() < end, "after {LIMIT:?} still not: {what}");
        peers.iter_mut().for_each(Peer::turn);
    }
}

/// A publisher and a listener at these addresses meet, and its media arrives.
fn meet(
    shards: &Shards,
    room: &str,
    publisher: (IpAddr, Transport),
    listener: (IpAddr, Transport),
) -> Vec<Peer> {
    let by = |id: &str, transport| Profile { transport, ..Profile::new(id) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut peers = runtime.block_on(async {
        vec![
            Peer::join(shards, room, publisher.0, by("anna", publisher.1)).await,
            Peer::join(shards, room, listener.0, by("ben", listener.1).listener(3, 4)).await,
        ]
    });
    until(&mut peers, "both are connected", |all| all.iter().all(|p| p.client.control_open.is_some()));
    let now = Instant::now();
    peers[0].client.start(now, Source::Microphone, 0);
    peers[0].client.start(now, Source::Camera, 30);
    until(&mut peers, "media arrives", |all| all[1].pictures() > 50);
    peers
}

fn shards(media: &str, shards: usize, reach: Reachability) -> Shards {
    let config = Config { media: media.parse().unwrap(), shards, reach, ..Config::default() };
    Shards::start(config).unwrap()
}

fn stop(shards: &Shards) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(shards.stop());
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Says so where the machine has no IPv6, past the capture of the test's output.
fn has_ipv6(test: &str) -> bool {
    let has = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: this machine has no IPv6");
    }
    has
}

#[test]
fn ipv6_alone() {
    if !has_ipv6("ipv6_alone") {
        return;
    }
    let set = shards("[::1]:0", 1, Reachability::default());
    for transport in [Transport::Udp, Transport::Tcp] {
        let at = (ip("::1"), transport);
        meet(&set, &format!("{transport:?}"), at, at);
    }
    stop(&set);
}

#[test]
fn one_socket_takes_both_families() {
    if !has_ipv6("one_socket_takes_both_families") {
        return;
    }
    let set = shards("[::]:0", 1, Reachability::default());
    for (room, transport) in [("udp", Transport::Udp), ("tcp", Transport::Tcp)] {
        meet(&set, room, (ip("::1"), transport), (ip("127.0.0.1"), transport));
        meet(&set, &format!("{room}-back"), (ip("127.0.0.1"), transport), (ip("::1"), transport));
    }
    stop(&set);
}

/// A listener whose port number nobody else on this machine has by UDP.
fn taken_by_tcp_only() -> std::net::TcpListener {
    loop {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        if std::net::UdpSocket::bind(taken.local_addr().unwrap()).is_ok() {
            return taken;
        }
    }
}

#[test]
fn a_start_fails_for_a_taken_tcp_port_only_where_it_was_asked_for() {
    let taken = taken_by_tcp_only();
    let media = taken.local_addr().unwrap();
    let start = |tcp, udp| {
        let reach = Reachability { tcp, udp, ..Reachability::default() };
        Shards::start(Config { media, shards: 1, reach, ..Config::default() })
    };
    assert!(start(Tcp::SamePort, true).is_err());
    assert!(start(Tcp::IfFree, false).is_err(), "nobody could come");
    let set = start(Tcp::IfFree, true).unwrap();
    assert_eq!((set.media_addresses(), set.tcp_addresses()), (vec![media], vec![]));
    let at = (ip("127.0.0.1"), Transport::Udp);
    meet(&set, "udp", at, at);
    stop(&set);
}

#[test]
fn tcp_and_udp_meet_at_the_same_port_number() {
    let set = shards("127.0.0.1:0", 2, Reachability::default());
    assert_eq!(set.media_addresses(), set.tcp_addresses());
    let local = ip("127.0.0.1");
    meet(&set, "there", (local, Transport::Tcp), (local, Transport::Udp));
    meet(&set, "back", (local, Transport::Udp), (local, Transport::Tcp));
    stop(&set);
}

/// A binding request with this user name, framed; whoever sent it does not know the password.
fn request(ufrag: &str) -> Vec<u8> {
    let name = format!("{ufrag}:them");
    let mut m = vec![0, 1, 0, 4 + u8::try_from(name.len()).unwrap(), 0x21, 0x12, 0xa4, 0x42];
    m.extend([9; 12]);
    m.extend([0, 6, 0, u8::try_from(name.len()).unwrap()]);
    m.extend(name.as_bytes());
    m.resize(m.len().next_multiple_of(4), 0);
    m[3] = u8::try_from(m.len() - 20).unwrap();
    [&framing::length(&m).unwrap()[..], &m].concat()
}

#[test]
fn strangers_by_tcp_disturb_nobody() {
    let set = shards("127.0.0.1:0", 2, Reachability::default());
    let local = ip("127.0.0.1");
    let mut peers = meet(&set, "talk", (local, Transport::Tcp), (local, Transport::Udp));
    let ufrags =
        peers.iter().filter_map(|p| p.client.answer.lines().find_map(|l| l.strip_prefix("a=ice-ufrag:")));
    let of_peers: Vec<_> = ufrags.map(request).collect();
    let words: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        of_peers[0][..20].to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 4_000],
        of_peers[0].repeat(20),
        of_peers[1].repeat(20),
        request("00nobody"),
        request("01nobody"),
    ];
    let at = set.tcp_addresses();
    let strangers = std::thread::spawn(move || {
        let mut all = Vec::new();
        for (n, words) in words.iter().cycle().take(400).enumerate() {
            // Refused or ended at once is as good as not.
            let Ok(mut stream) = TcpStream::connect(at[n % at.len()]) else { continue };
            let _ = stream.write_all(words);
            all.push(stream);
        }
        all
    });
    let before = peers[1].pictures();
    until(&mut peers, "media goes on", |all| strangers.is_finished() && all[1].pictures() > before + 100);
    assert!(peers.iter().all(|p| p.client.closed.is_none()));
    drop(strangers.join().unwrap());
    let connections = || set.metrics().shards.iter().map(|s| s.tcp_connections).sum::<u64>();
    until(&mut peers, "they are forgotten", |_| connections() == 1);
    let metrics: antiphon_shard::ShardMetrics = set.metrics().shards.into_iter().sum();
    // Whether a word or a bound ends them is a matter of who is faster.
    let ended = metrics.tcp_strangers + metrics.tcp_refused;
    assert!(metrics.tcp_accepted > 400 && ended > 200 && metrics.tcp_handed > 0, "{metrics:?}");
    meet(&set, "others", (local, Transport::Tcp), (local, Transport::Tcp));
    stop(&set);
}

#[test]
fn one_tcp_port_serves_all_shards() {
    let tcp = Tcp::At("127.0.0.1:0".parse().unwrap());
    let set = shards("127.0.0.1:0", 2, Reachability { tcp, udp: false, ..Reachability::default() });
    assert_eq!((set.media_addresses().len(), set.tcp_addresses().len()), (2, 1));
    let at = (ip("127.0.0.1"), Transport::Tcp);
    // Rooms spread over the shards by their names, and connections are accepted by whichever shard comes first.
    for room in 0..4 {
        meet(&set, &format!("room-{room}"), at, at);
    }
    let end = Instant::now() + LIMIT;
    let counts = |of: fn(&antiphon_shard::ShardMetrics) -> u64| {
        set.metrics().shards.iter().map(of).collect::<Vec<_>>()
    };
    // Metrics are a second old.
    while counts(|s| s.packets_in).contains(&0) || counts(|s| s.tcp_accepted).iter().sum::<u64>() < 8 {
        assert!(Instant::now() < end, "{:?}", set.metrics());
        std::thread::yield_now();
    }
    assert_eq!(counts(|s| s.tcp_refused + s.tcp_strangers), [0, 0]);
    stop(&set);
}
