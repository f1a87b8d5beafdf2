//! The running set: threads, sockets on loopback, many rooms.

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_base::{AudioCodec, Codec, ErrorKind, ParticipantId, RoomName, Source, TrackKey};
use antiphon_shard::{
    AttachCommand, AttachRequest, Attachment, Config, Grants, OutPacket, Shards, TapRequest,
};
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
