//! The running set: threads, sockets on loopback, many rooms.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use antiphon_base::{AudioCodec, Codec, ErrorKind, MediaKind, ParticipantId, RoomName, Source, TrackKey};
use antiphon_shard::{
    AttachCommand, AttachRequest, Attachment, Config, Grants, OutPacket, Shards, TapRequest,
};
use antiphon_sim::net::Datagram;
use antiphon_sim::world::certificate;
use antiphon_sim::{Client, Offering, Profile};
use antiphon_wire::control::{LeaveReason, ParticipantKind};

/// A thread that does nothing for as long is a fault.
const LIMIT: Duration = Duration::from_secs(20);

fn start() -> Shards {
    let media = SocketAddr::from(([127, 0, 0, 1], 0));
    Shards::start(Config { media, shards: 2, ..Config::default() }).expect("loopback has free ports")
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("it ends in time") });
}

async fn attach(shards: &Shards, room: &RoomName, id: &str) -> Attachment {
    let request = AttachRequest {
        id: ParticipantId::new(id).unwrap(),
        name: id.into(),
        kind: ParticipantKind::Bot,
        grants: Grants { publish: true, subscribe: true, moderate: false },
        hidden: false,
    };
    shards.attach(room, request).await.unwrap()
}

fn voice(seq: u64) -> AttachCommand {
    AttachCommand::Send(OutPacket {
        source: Source::Microphone,
        codec: Codec::Audio(AudioCodec::Opus),
        seq,
        rtp_time: seq * 960,
        marker: false,
        payload: vec![0xf8, 0xff, 0xfe].into(),
        capture_us: 1,
        audio_level: Some(30),
    })
}

#[test]
fn rooms_spread_over_the_shards_and_each_is_whole() {
    run(async {
        let shards = start();
        let rooms: Vec<RoomName> = (0..16).map(|i| RoomName::new(&format!("room-{i}")).unwrap()).collect();
        let mut pairs = Vec::new();
        for room in &rooms {
            pairs.push((attach(&shards, room, "speaker").await, attach(&shards, room, "listener").await));
        }
        for (speaker, listener) in &pairs {
            let track = TrackKey { participant: speaker.key, source: Source::Microphone };
            listener.sender().send(AttachCommand::Tap(vec![TapRequest { track, max_height: None }]));
            for seq in 0..50 {
                assert!(speaker.sender().send(voice(seq)));
            }
        }
        for (speaker, listener) in &pairs {
            for seq in 0..50 {
                let packet = listener.media.recv().await.unwrap();
                assert_eq!((packet.seq, packet.track.participant), (seq, speaker.key));
            }
        }
        let status = shards.rooms().await;
        assert_eq!(status.len(), 16);
        assert!(status.iter().all(|r| r.participants.len() == 2));
        // Counters are published once per second.
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        while shards.metrics().shards.iter().map(|s| s.rooms).sum::<u64>() < 16 {
            clock.tick().await;
        }
        let rooms_of: Vec<u64> = shards.metrics().shards.iter().map(|s| s.rooms).collect();
        assert!(rooms_of.iter().all(|n| *n >= 2), "{rooms_of:?}");
        let packets: u64 = shards.metrics().shards.iter().map(|s| s.packets_in).sum();
        assert_eq!(packets, 16 * 50);
        shards.stop().await;
    });
}

#[test]
fn what_is_asked_of_shards_is_answered() {
    run(async {
        let shards = start();
        let room = RoomName::new("demo").unwrap();
        let anna = attach(&shards, &room, "anna").await;
        let (id, nobody) = (anna.id.clone(), ParticipantId::new("nobody").unwrap());
        assert_eq!(shards.status(&room, &id, true).await.unwrap().state, "connected");
        assert!(shards.status(&room, &nobody, true).await.is_none());
        assert!(!shards.remove(&room, &nobody, LeaveReason::Removed).await);
        assert!(shards.remove(&room, &id, LeaveReason::Removed).await);
        while anna.events.recv().await.is_ok() {}
        shards.drain(Duration::from_secs(1));
        let request = AttachRequest {
            id,
            name: String::new(),
            kind: ParticipantKind::Bot,
            grants: Grants { publish: true, subscribe: true, moderate: false },
            hidden: false,
        };
        let refused = shards.attach(&room, request).await.err().expect("it is draining");
        assert_eq!(refused.kind, ErrorKind::Draining);
        shards.stop().await;
        assert!(shards.status(&room, &nobody, false).await.is_none(), "a stopped shard answers nothing");
    });
}

#[test]
fn each_shard_has_its_own_port() {
    run(async {
        let shards = start();
        let addresses = shards.media_addresses();
        assert_eq!(addresses.len(), 2);
        assert_ne!(addresses[0].port(), addresses[1].port());
        shards.stop().await;
    });
}

/// A client on a socket.
struct Connected {
    client: Client,
    socket: UdpSocket,
}

impl Connected {
    async fn join(shards: &Shards, room: &RoomName, number: u16, profile: Profile) -> Self {
        let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let request = profile.request();
        let address = socket.local_addr().unwrap();
        let offering = Offering::new(Instant::now(), number, address, certificate(), profile);
        let prepared = shards.prepare(room, &offering.offer, request).unwrap();
        let joined = shards.join(prepared).await.unwrap();
        Self { client: offering.accept(Instant::now(), joined), socket }
    }

    /// Takes what has come, does what is due, sends what it has.
    fn step(&mut self) {
        let (mut out, mut bytes) = (Vec::new(), [0; 2_048]);
        while let Ok((length, source)) = self.socket.recv_from(&mut bytes) {
            let (destination, bytes) = (self.client.address, bytes[..length].to_vec());
            self.client.handle_datagram(Instant::now(), &Datagram { source, destination, bytes }, &mut out);
        }
        let now = Instant::now();
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now, &mut out);
        }
        for datagram in out {
            // A full socket is loss, as on any network.
            let _ = self.socket.send_to(&datagram.bytes, datagram.destination);
        }
    }
}

/// Runs both until `done`; the test's own limit ends it otherwise.
async fn until(pair: &mut [Connected; 2], done: impl Fn(&[Connected; 2]) -> bool) {
    let mut clock = tokio::time::interval(Duration::from_millis(2));
    while !done(pair) {
        pair.iter_mut().for_each(Connected::step);
        clock.tick().await;
    }
}

#[test]
fn media_crosses_from_thread_to_thread() {
    run(async {
        let media = SocketAddr::from(([127, 0, 0, 1], 0));
        // Peers take turns: the first one goes to the room's home, the second one to the other shard.
        let config = Config { media, shards: 2, spread_above: 0.0, ..Config::default() };
        let shards = Shards::start(config).unwrap();
        let room = RoomName::new("demo").unwrap();
        let anna = Connected::join(&shards, &room, 0, Profile::new("anna")).await;
        let ben = Connected::join(&shards, &room, 1, Profile::new("ben")).await;
        // As the candidate in the answer says.
        let here =
            |c: &Connected, a: &SocketAddr| c.client.answer.contains(&format!(" {} typ host", a.port()));
        let port_of = |c: &Connected| shards.media_addresses().iter().position(|a| here(c, a));
        let (home, away) = (port_of(&anna).unwrap(), port_of(&ben).unwrap());
        assert_ne!(home, away);
        let mut pair = [anna, ben];
        until(&mut pair, |pair| pair.iter().all(|c| !c.client.roster.is_empty())).await;
        let now = Instant::now();
        pair[0].client.start(now, Source::Microphone, 0);
        pair[0].client.start(now, Source::Camera, 20);
        let got = |c: &Connected, kind| -> usize {
            let slots = c.client.slots.iter().filter(|slot| slot.kind == kind);
            slots.map(|slot| slot.packets.len()).sum()
        };
        until(&mut pair, |pair| {
            got(&pair[1], MediaKind::Audio) >= 100 && got(&pair[1], MediaKind::Video) >= 40
        })
        .await;
        // Counters are published once per second.
        until(&mut pair, |_| shards.metrics().shards[away].packets_forwarded > 100).await;
        let metrics = shards.metrics().shards;
        assert_eq!((metrics[home].peers, metrics[away].peers, metrics[away].branches), (1, 1, 1));
        assert_eq!((metrics[away].packets_in, metrics[home].packets_forwarded), (0, 0));
        assert_eq!((metrics[home].relay_dropped, metrics[home].link_dropped), (0, 0));
        // What is asked about the one elsewhere is answered from there.
        let status = shards.status(&room, &pair[1].client.id(), true).await.unwrap();
        assert_eq!((status.state, status.stats.is_some()), ("connected", true));
        let dump = shards.dump(&room, &pair[1].client.id()).await.expect("there is somebody to dump");
        assert!(!dump.recv().await.unwrap().is_empty());
        assert!(shards.remove(&room, &pair[1].client.id(), LeaveReason::Removed).await);
        until(&mut pair, |pair| pair[1].client.closed_reason().is_some()).await;
        shards.stop().await;
    });
}
