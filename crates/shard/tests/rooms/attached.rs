//! Programs in the room: they publish to WebRTC peers, tap their tracks, and lose only their own packets when slow.

use std::collections::BTreeSet;
use std::time::Duration;

use antiphon_base::{AudioCodec, Codec, ParticipantId, Source, TrackKey};
use antiphon_shard::attach::MEDIA_RING;
use antiphon_shard::{AttachCommand, AttachEvent, AttachRequest, Attachment, Grants, OutPacket, TapRequest};
use antiphon_sim::stamp::{self, Stamp};
use antiphon_sim::{Profile, World};
use antiphon_wire::control::{ParticipantKind, ServerMessage};

use crate::until_told;

/// Number of the bot in its stamps.
const BOT: u16 = 1_000;

pub(crate) fn bot(world: &mut World) -> Attachment {
    let request = AttachRequest {
        id: ParticipantId::new("bot").unwrap(),
        name: "A bot".into(),
        kind: ParticipantKind::Bot,
        grants: Grants { publish: true, subscribe: true, moderate: false },
        hidden: false,
    };
    world.attach(BOT, request)
}

fn camera_of(world: &World, client: usize) -> TrackKey {
    TrackKey { participant: world.clients[client].key(), source: Source::Camera }
}

/// Layers of the tapped packets that wait.
fn layers(bot: &Attachment) -> BTreeSet<u8> {
    std::iter::from_fn(|| bot.media.try_recv().ok()).map(|p| p.layer).collect()
}

#[test]
fn a_browser_hears_a_bot() {
    let mut world = World::new(41);
    let anna = world.enter(Profile::new("anna"));
    let bot = bot(&mut world);
    for frame in 0..200u32 {
        let stamp = Stamp {
            publisher: BOT,
            source: Source::Microphone,
            layer: 0,
            frame,
            index: 0,
            count: 1,
            key: true,
            place: None,
            nested: None,
        };
        let sent = bot.sender().send(AttachCommand::Send(OutPacket {
            source: Source::Microphone,
            codec: Codec::Audio(AudioCodec::Opus),
            seq: u64::from(frame) + 65_500,
            rtp_time: u64::from(frame) * 960,
            marker: false,
            payload: stamp.opus(60).into(),
            capture_us: 0,
            audio_level: Some(30),
        }));
        assert!(sent);
        let now = world.now;
        world.engine.handle_timeout(now);
        world.finish();
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_secs(1));
    let report = world.check();
    report.assert_sound();
    let heard = report.of(anna).from.get(&(BOT, Source::Microphone.index(), 0)).copied();
    assert_eq!((heard, report.of(anna).gaps), (Some(200), 0));
    let info = &world.clients[anna].roster[&bot.id];
    assert_eq!((info.kind, info.tracks.len()), (ParticipantKind::Bot, 1));
    assert_eq!(world.clients[anna].slots[0].packets.last().unwrap().level, Some(30));
    drop(bot);
    let now = world.now;
    world.engine.handle_timeout(now);
    world.finish();
    until_told(
        &mut world,
        anna,
        "the bot has left",
        |m| matches!(m, ServerMessage::ParticipantLeft { participant, .. } if participant.as_str() == "bot"),
    );
    assert_eq!(world.engine.metrics().attachments, 0);
}

#[test]
fn a_tap_gets_the_layer_it_asks_for() {
    let mut world = World::new(42);
    let anna = world.enter(Profile::new("anna").simulcast());
    let bot = bot(&mut world);
    let now = world.now;
    world.clients[anna].start(now, Source::Camera, 20);
    world.run(Duration::from_secs(1));
    let track = camera_of(&world, anna);
    for (max_height, layer) in [(Some(180), 0), (Some(360), 1), (None, 2), (Some(200), 0)] {
        bot.sender().send(AttachCommand::Tap(vec![TapRequest { track, max_height }]));
        world.run(Duration::from_secs(2));
        layers(&bot);
        world.run(Duration::from_secs(1));
        assert_eq!(layers(&bot), BTreeSet::from([layer]), "{max_height:?}");
    }
    bot.sender().send(AttachCommand::Tap(Vec::new()));
    world.run(Duration::from_secs(1));
    layers(&bot);
    world.run(Duration::from_secs(1));
    assert_eq!(layers(&bot), BTreeSet::new());
}

#[test]
fn tapped_packets_are_those_that_were_sent() {
    let mut world = World::new(43);
    let anna = world.enter(Profile::new("anna"));
    let bot = bot(&mut world);
    let track = camera_of(&world, anna);
    bot.sender().send(AttachCommand::Tap(vec![TapRequest { track, max_height: None }]));
    let now = world.now;
    world.engine.handle_timeout(now);
    world.clients[anna].start(now, Source::Camera, 20);
    world.run(Duration::from_secs(6));
    let packets: Vec<_> = std::iter::from_fn(|| bot.media.try_recv().ok()).collect();
    assert!(packets.len() > 150, "{}", packets.len());
    assert!(packets.windows(2).all(|w| w[1].seq == w[0].seq + 1 && w[1].rtp_time >= w[0].rtp_time));
    let first = stamp::parse(&packets[0].payload).unwrap().stamp;
    assert!(first.key && first.index == 0, "{first:?}");
    // After the first sender reports capture times are mapped, not guessed, and lie before the arrival.
    let last = packets.last().unwrap();
    assert!(!last.capture_estimated);
    let age = last.arrival_us - last.capture_us;
    assert!(age < 30_000, "captured {age} us before it came, over a link of 10 ms");
}

#[test]
fn a_bot_is_asked_for_key_frames() {
    let mut world = World::new(44);
    let anna = world.enter(Profile::new("anna").listener(0, 1));
    let bot = bot(&mut world);
    let sender = bot.sender();
    let mut asked = 0;
    for frame in 0..100u16 {
        let key = frame % 50 == 0;
        let stamp = Stamp {
            publisher: BOT,
            source: Source::Camera,
            layer: 0,
            frame: frame.into(),
            index: 0,
            count: 1,
            key,
            place: None,
            nested: None,
        };
        sender.send(AttachCommand::Send(OutPacket {
            source: Source::Camera,
            codec: Codec::Video(antiphon_base::VideoCodec::Vp8),
            seq: frame.into(),
            rtp_time: u64::from(frame) * 4_500,
            marker: true,
            payload: stamp.vp8((frame, 0), (640, 360), 300).into(),
            capture_us: 0,
            audio_level: None,
        }));
        world.run(Duration::from_millis(50));
        let is_request = |e: &AttachEvent| matches!(e, AttachEvent::Keyframe(Source::Camera));
        asked += std::iter::from_fn(|| bot.events.try_recv().ok()).filter(is_request).count();
    }
    assert!(asked >= 1);
    world.run(Duration::from_secs(1));
    world.check().assert_sound();
    assert!(world.check().of(anna).frames >= 49);
}

#[test]
fn a_slow_bot_loses_its_own_packets_only() {
    let mut world = World::new(45);
    let anna = world.enter(Profile::new("anna"));
    let ben = world.enter(Profile::new("ben").listener(1, 1));
    let bot = bot(&mut world);
    let track = camera_of(&world, anna);
    bot.sender().send(AttachCommand::Tap(vec![TapRequest { track, max_height: None }]));
    let now = world.now;
    world.engine.handle_timeout(now);
    world.clients[anna].start(now, Source::Camera, 500);
    world.run(Duration::from_secs(8));
    let sent = world.clients[anna].senders[0].frames;
    assert_eq!(bot.media.len(), MEDIA_RING);
    assert!(bot.dropped() > 0);
    assert_eq!(bot.dropped(), world.engine.metrics().attach_dropped);
    let report = world.check();
    report.assert_sound();
    let got = report.of(ben);
    assert!(got.frames + 500 > u64::from(sent), "{} of {sent}", got.frames);
    assert_eq!((got.missing, got.gaps), (0, 0));
    // It still gets what comes once it reads again.
    while bot.media.try_recv().is_ok() {}
    world.run(Duration::from_secs(1));
    assert!(bot.media.len() > 500);
}
