//! Messages on topics over real data channels, a bot's attachment, and receivers on bad lines.

use std::time::Duration;

use antiphon_base::ParticipantKey;
use antiphon_shard::{AttachCommand, AttachEvent, Config};
use antiphon_sim::net::Rate;
use antiphon_sim::{Conditions, Profile, World};
use antiphon_wire::control::{Request, ServerMessage};
use antiphon_wire::topic::Publication;

use crate::attached::bot;

fn publication(lossy: bool, topic: &str, payload: &[u8]) -> Publication {
    Publication { lossy, to: Vec::new(), topic: topic.into(), payload: payload.into() }
}

/// A participant with data channels that listens to `topics`.
fn listener(world: &mut World, id: &str, topics: &[&str]) -> usize {
    let client = world.enter(Profile::new(id).listener(1, 1));
    world.until(Duration::from_secs(5), "a control channel", |w| w.clients[client].control_open.is_some());
    world.clients[client].open_data();
    let topics = topics.iter().map(|t| (*t).to_owned()).collect();
    let request = world.say(client, Request::Topics { topics });
    world.until(Duration::from_secs(5), "a reply", |w| w.clients[client].reply(request).is_some());
    client
}

/// The line from the server to a client.
fn down(world: &mut World, client: usize, conditions: Conditions) {
    let address = world.clients[client].address;
    world.network.paths.get_mut(&address).unwrap().down.set(conditions);
}

fn heard(world: &World, client: usize) -> Vec<(ParticipantKey, &str, &[u8])> {
    world.clients[client].data.iter().map(|(_, m, _)| (m.from, &*m.topic, &*m.payload)).collect()
}

#[test]
fn people_and_programs_hear_the_topics_they_listen_to() {
    let mut world = World::new(81);
    let anna = listener(&mut world, "anna", &["chat"]);
    let ben = listener(&mut world, "ben", &["*"]);
    let bot = bot(&mut world);
    let sender = bot.sender();
    sender.send(AttachCommand::Request { id: 1, request: Request::Topics { topics: vec!["chat".into()] } });
    world.run(Duration::from_millis(100));
    world.clients[anna].publish(publication(false, "chat", b"hello"));
    world.clients[anna].publish(publication(true, "cursor", b"12"));
    sender.send(AttachCommand::Publish(publication(false, "chat", b"beep")));
    world.run(Duration::from_millis(500));
    let (from_anna, from_bot) = (world.clients[anna].key(), bot.key);
    assert_eq!(heard(&world, anna), [(from_bot, "chat", &b"beep"[..])]);
    let mut by_ben = heard(&world, ben);
    by_ben.sort_unstable();
    assert_eq!(
        by_ben,
        [(from_anna, "chat", &b"hello"[..]), (from_anna, "cursor", b"12"), (from_bot, "chat", b"beep")]
    );
    let mut by_bot = Vec::new();
    while let Ok(event) = bot.events.try_recv() {
        if let AttachEvent::Data(message) = event {
            by_bot.push((message.from, message.payload.to_vec()));
        }
    }
    assert_eq!(by_bot, [(from_anna, b"hello".to_vec())]);
}

#[test]
fn messages_cross_between_shards() {
    let mut world = World::spread(85, &Config::default(), 2);
    let home = world.engine.home(&world.room);
    let mut on = |shard, id| {
        world.shard = Some(shard);
        listener(&mut world, id, &["chat"])
    };
    let (anna, ben, cleo) = (on(home, "anna"), on(1 - home, "ben"), on(1 - home, "cleo"));
    for (client, what) in [(anna, b"a"), (ben, b"b")] {
        world.clients[client].publish(publication(false, "chat", what));
        world.run(Duration::from_millis(300));
    }
    let (from_anna, from_ben) = (world.clients[anna].key(), world.clients[ben].key());
    assert_eq!(heard(&world, cleo), [(from_anna, "chat", &b"a"[..]), (from_ben, "chat", b"b")]);
    assert_eq!(heard(&world, anna), [(from_ben, "chat", &b"b"[..])]);
    assert_eq!(heard(&world, ben), [(from_anna, "chat", &b"a"[..])]);
}

#[test]
fn on_a_lossy_line_reliable_messages_all_come_in_order_and_lossy_ones_are_fresh() {
    let mut world = World::new(82);
    let anna = listener(&mut world, "anna", &[]);
    let ben = listener(&mut world, "ben", &["*"]);
    down(&mut world, ben, Conditions { loss: 0.1, ..Conditions::default() });
    for i in 0..100u8 {
        world.clients[anna].publish(publication(false, "chat", &[i]));
        world.clients[anna].publish(publication(true, "cursor", &[i]));
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_secs(5));
    let of = |topic: &str| -> Vec<u8> {
        heard(&world, ben).iter().filter(|(_, t, _)| *t == topic).map(|(_, _, payload)| payload[0]).collect()
    };
    assert_eq!(of("chat"), (0..100).collect::<Vec<u8>>());
    let cursors = of("cursor");
    assert!(cursors.is_sorted(), "{cursors:?}");
    assert!((60..=100).contains(&cursors.len()), "{} of 100 came", cursors.len());
}

#[test]
fn a_receiver_on_a_narrow_line_loses_its_own_and_gets_the_freshest() {
    let mut world = World::new(83);
    let anna = listener(&mut world, "anna", &[]);
    let ben = listener(&mut world, "ben", &["*"]);
    let cleo = listener(&mut world, "cleo", &["*"]);
    let rate = Some(Rate { bps: 60_000, queue_bytes: 20_000 });
    down(&mut world, ben, Conditions { rate, ..Conditions::default() });
    for i in 0..250u8 {
        world.clients[anna].publish(publication(true, "cursor", &[[i].as_slice(), &[0; 999]].concat()));
        world.run(Duration::from_millis(10));
    }
    world.run(Duration::from_secs(5));
    assert_eq!(heard(&world, cleo).len(), 250, "nobody else loses anything");
    let slow = &world.clients[ben].data;
    assert!(slow.len() < 125, "{} of 250 came by a line for 19", slow.len());
    let told: u32 = slow.iter().map(|(_, _, lost)| lost).sum();
    assert!(told > 0, "it is told what it lost");
    assert_eq!(slow.last().map(|(_, m, _)| m.payload[0]), Some(249), "the freshest comes");
    assert_eq!(world.engine.metrics().data_dropped, u64::from(told));
}

#[test]
fn too_much_and_nonsense_are_refused_and_told() {
    let mut world = World::new(84);
    let anna = listener(&mut world, "anna", &[]);
    let ben = listener(&mut world, "ben", &["*"]);
    for _ in 0..400 {
        world.clients[anna].publish(publication(false, "chat", b"x"));
    }
    world.run(Duration::from_millis(500));
    assert!((300..=350).contains(&heard(&world, ben).len()), "{}", heard(&world, ben).len());
    let refused = |m: &ServerMessage| match m {
        ServerMessage::DataRefused { count, error, .. } => Some((*count, error.code.as_str())),
        _ => None,
    };
    let told: Vec<_> = world.clients[anna].messages.iter().filter_map(|(_, m)| refused(m)).collect();
    assert_eq!(told, [(1, "rate_limited")]);
}

/// Control messages alone fill what SCTP takes; none of the data channels will tell that there is room again.
#[test]
fn a_message_behind_many_control_messages_comes_when_they_have_left() {
    let mut world = World::new(86);
    let ben = listener(&mut world, "ben", &["*"]);
    let others: Vec<usize> =
        (0..12).map(|i| world.enter(Profile::new(&format!("p{i}")).listener(1, 0))).collect();
    world.clients[others[0]].open_data();
    world.run(Duration::from_secs(1));
    down(&mut world, ben, Conditions { cut: true, ..Conditions::default() });
    for i in 0..150 {
        for client in &others {
            world.say(*client, Request::Rename { name: format!("{i:064}") });
        }
        world.run(Duration::from_millis(40));
    }
    world.clients[others[0]].publish(publication(false, "chat", &[7; 1_000]));
    world.run(Duration::from_millis(500));
    down(&mut world, ben, Conditions::default());
    world.run(Duration::from_secs(15));
    assert!(world.clients[ben].messages.len() > 1_000, "{}", world.clients[ben].messages.len());
    assert_eq!(heard(&world, ben), [(world.clients[others[0]].key(), "chat", &[7; 1_000][..])]);
}
