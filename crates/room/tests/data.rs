//! Messages on topics: who gets them, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod call;

use antiphon_base::{ErrorKind, ParticipantKey};
use antiphon_room::{Config, DataRates, Grants};
use antiphon_wire::control::{Request, ServerMessage};
use antiphon_wire::topic::{Publication, TopicError};

use call::{Call, browser, plan};

fn publication(topic: &str, to: &[ParticipantKey]) -> Publication {
    Publication { lossy: false, to: to.to_vec(), topic: topic.into(), payload: b"hello".as_slice().into() }
}

fn listen(call: &mut Call, key: ParticipantKey, topics: &[&str]) -> Option<ErrorKind> {
    let topics = topics.iter().map(|t| (*t).to_owned()).collect();
    match call.request(key, Request::Topics { topics }) {
        Some(ServerMessage::Reply { error, .. }) => error.map(|e| e.code),
        other => panic!("{other:?}"),
    }
}

fn publish(call: &mut Call, from: ParticipantKey, publication: Publication) {
    call.room.publish_data(call.now, from, Ok(publication));
    call.drain();
}

fn refusals(call: &Call, key: ParticipantKey) -> Vec<(Option<&str>, u32, ErrorKind)> {
    let messages = call.clients[&key].messages.iter();
    let refused = |m| match m {
        &ServerMessage::DataRefused { ref topic, count, ref error } => {
            Some((topic.as_deref(), count, error.code))
        }
        _ => None,
    };
    messages.filter_map(refused).collect()
}

#[test]
fn a_message_goes_to_those_who_listen_and_names_its_sender() {
    let mut call = Call::new(Config::default());
    let [ada, bob, eve] = ["ada", "bob", "eve"].map(|name| call.join(browser(name)));
    for (key, topics) in [(ada, &["chat"][..]), (bob, &["chat", "cursor"]), (eve, &["*"])] {
        assert_eq!(listen(&mut call, key, topics), None);
    }
    publish(&mut call, ada, publication("chat", &[]));
    publish(&mut call, ada, publication("cursor", &[bob]));
    publish(&mut call, eve, publication("cursor", &[ada]));
    let got: Vec<_> = call.data.iter().map(|(to, m)| (to.clone(), m.from, m.addressed)).collect();
    // Not back to the sender; a named recipient gets it only if it listens.
    assert_eq!(got, [(vec![bob, eve], ada, false), (vec![bob], ada, true)]);
}

#[test]
fn a_subscription_ends_with_its_participant_and_outlives_a_lost_connection() {
    let mut call = Call::new(Config::default());
    let [ada, bob] = ["ada", "bob"].map(|name| call.join(browser(name)));
    listen(&mut call, bob, &["chat"]);
    call.room.disconnected(call.now, bob);
    call.drain();
    publish(&mut call, ada, publication("chat", &[]));
    assert!(call.data.is_empty(), "nobody is there to read it");
    call.resume("token-bob", plan(1, 1, false)).unwrap();
    call.room.connected(call.now, bob, 1);
    publish(&mut call, ada, publication("chat", &[]));
    assert_eq!(call.data.len(), 1);
    call.request(bob, Request::Leave);
    publish(&mut call, ada, publication("chat", &[]));
    assert_eq!(call.data.len(), 1);
}

#[test]
fn without_the_grants_nothing_is_sent_or_heard() {
    let mut call = Call::new(Config::default());
    let mut mute = browser("mute");
    mute.grants = Grants { publish: false, subscribe: true, moderate: false };
    let mut deaf = browser("deaf");
    deaf.grants = Grants { publish: true, subscribe: false, moderate: false };
    let (mute, deaf) = (call.join(mute), call.join(deaf));
    assert_eq!(listen(&mut call, deaf, &["chat"]), Some(ErrorKind::Forbidden));
    assert_eq!(listen(&mut call, mute, &["chat"]), None);
    publish(&mut call, mute, publication("chat", &[]));
    assert_eq!(refusals(&call, mute), [(Some("chat"), 1, ErrorKind::Forbidden)]);
    publish(&mut call, deaf, publication("chat", &[]));
    assert_eq!(call.data.len(), 1);
}

#[test]
fn what_is_over_the_rate_or_unreadable_is_refused_and_told() {
    let data = DataRates { messages: 10, bytes: 10_000, fan_out_bytes: 100_000 };
    let mut call = Call::new(Config { data, ..Config::default() });
    let [ada, bob] = ["ada", "bob"].map(|name| call.join(browser(name)));
    listen(&mut call, bob, &["chat"]);
    for _ in 0..25 {
        publish(&mut call, ada, publication("chat", &[]));
    }
    assert_eq!(call.data.len(), 10);
    call.pass(1_000);
    publish(&mut call, ada, publication("chat", &[]));
    assert_eq!(call.data.len(), 11);
    call.room.publish_data(call.now, ada, Err(TopicError::Truncated(3)));
    call.drain();
    let expected = [(Some("chat"), 1, ErrorKind::RateLimited), (None, 15, ErrorKind::BadRequest)];
    assert_eq!(refusals(&call, ada), expected);
    assert_eq!(call.room.stats().data_refused, 16);
}

/// 17 of 15 KiB are 255 KiB; to sixty who listen, nine are 7.9 MiB.
#[test]
fn as_it_comes_256_kib_a_second_are_taken_and_8_mib_of_copies_made() {
    for (listeners, taken) in [(1, 17), (60, 9)] {
        let mut call = Call::new(Config::default());
        let ada = call.join(browser("ada"));
        for i in 0..listeners {
            let key = call.join(browser(&format!("p{i}")));
            listen(&mut call, key, &["chat"]);
        }
        let large = || Publication { payload: vec![0; 15_360].into(), ..publication("chat", &[]) };
        for _ in 0..25 {
            publish(&mut call, ada, large());
        }
        assert_eq!(call.data.len(), taken, "{listeners} listen");
        call.pass(1_000);
        publish(&mut call, ada, large());
        assert_eq!(call.data.len(), taken + 1);
    }
}

#[test]
fn subscriptions_are_bounded() {
    let mut call = Call::new(Config::default());
    let ada = call.join(browser("ada"));
    let many: Vec<String> = (0..65).map(|i| format!("t{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(listen(&mut call, ada, &many), Some(ErrorKind::BadRequest));
    assert_eq!(listen(&mut call, ada, &many[..64]), None);
    assert_eq!(listen(&mut call, ada, &[""]), Some(ErrorKind::BadRequest));
}
