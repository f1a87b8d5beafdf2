//! Who may do what.

use antiphon_api::config::Rate;
use antiphon_api::{Claims, Config, Key};
use antiphon_base::{ParticipantId, RoomName};

use crate::{OFFER, Server};

#[tokio::test(flavor = "multi_thread")]
async fn every_door_asks_for_the_right_token() {
    let server = Server::start().await;
    let other_key = Key::new(&[8; 32]);
    let claims = Claims::new(RoomName::new("r").unwrap(), std::time::Duration::from_secs(60));
    let none = |c: &mut Claims| c.grants = Some(vec![]);
    let forged = Some(other_key.sign(&claims));
    let expired = Some(server.token("r", |c| c.exp = c.iat - 60));
    let rows = [
        (None, 401, "unauthenticated"),
        (Some(String::new()), 401, "unauthenticated"),
        (Some("abc.def.ghi".into()), 401, "unauthenticated"),
        (forged, 401, "unauthenticated"),
        (expired, 401, "token_expired"),
        (Some(server.token("other", |_| {})), 403, "forbidden"),
        (Some(server.token("r", none)), 403, "forbidden"),
    ];
    let doors = [
        "POST /v1/rooms/r/participants",
        "GET /v1/rooms/r/participants/pa_x",
        "DELETE /v1/rooms/r/participants/pa_x",
        "GET /v1/rooms/r/participants/pa_x/stats",
        "GET /v1/rooms/r/participants/pa_x/dump",
        "GET /v1/rooms/r/bot",
        "GET /v1/rooms/r",
        "POST /whip/r",
        "DELETE /whip/r/pa_x",
        "POST /whep/r",
        "POST /whep/r/pa_x",
        "DELETE /whep/r/pa_x",
    ];
    for door in doors {
        for (token, status, code) in &rows {
            let bearer = token.as_ref().map(|t| format!("Authorization: Bearer {t}"));
            let head: Vec<&str> =
                bearer.iter().map(String::as_str).chain(["Content-Type: application/sdp"]).collect();
            println!("{door} {code}");
            server.request(door, &head, OFFER.as_bytes()).await.expect_error(*status, code);
        }
    }
    let reply = server.request(doors[0], &[], b"").await;
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_grant_opens_its_doors_only() {
    let server = Server::start().await;
    let (join, whip, whep, bot, room) = (
        "POST /v1/rooms/r/participants",
        "POST /whip/r",
        "POST /whep/r",
        "GET /v1/rooms/r/bot",
        "GET /v1/rooms/r",
    );
    let rows = [
        ("publish", [true, true, false, false, false]),
        ("subscribe", [true, false, true, false, false]),
        ("bot", [false, false, false, true, false]),
        ("moderate", [false, false, false, false, true]),
    ];
    for (grant, open) in rows {
        let token = server.token("r", |c| c.grants = Some(vec![grant.into()]));
        let head = [&*format!("Authorization: Bearer {token}")];
        for (door, open) in [join, whip, whep, bot, room].into_iter().zip(open) {
            let reply = server.request(door, &head, b"").await;
            assert_eq!(reply.status != 403, open, "{grant} {door} {reply:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_is_removed_by_itself_or_a_moderator() {
    let server = Server::start().await;
    let head = |token: &str| format!("Authorization: Bearer {token}");
    let mine = server.token("r", |_| {});
    let joined = server.join("r", &mine).await;
    let location = format!("DELETE {}", joined.header("location").unwrap());
    let stranger = head(&server.token("r", |_| {}));
    server.request(&location, &[&stranger], b"").await.expect_error(403, "forbidden");
    let moderator = head(&server.token("r", |c| c.grants = Some(vec!["moderate".into()])));
    assert_eq!(server.request(&location, &[&moderator], b"").await.status, 204);
    let state = server.request(&location.replace("DELETE", "GET"), &[&head(&mine)], b"").await.json();
    assert_eq!(state["reason"], "removed", "{state}");

    let alice = |c: &mut Claims| c.sub = Some(ParticipantId::new("alice").unwrap());
    assert_eq!(server.join("r", &server.token("r", alice)).await.status, 201);
    let late = head(&server.token("r", |c| {
        alice(c);
        c.exp = c.iat - 60;
    }));
    let path = "DELETE /v1/rooms/r/participants/alice";
    assert_eq!(server.request(path, &[&late], b"").await.status, 204, "a call may outlast its token");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_enter_open_rooms_only() {
    let guest_tokens = Rate { per_second: 0.0, burst: 4 };
    let server = Server::with(Config { guest_tokens, ..Config::default() }, |_| {}).await;
    let door = "POST /v1/rooms/demo/guest-token";
    server.request("POST /v1/rooms/mine/guest-token", &[], b"").await.expect_error(403, "forbidden");
    server.request(door, &[], b"{\"nme\":1}").await.expect_error(400, "bad_request");
    server.request(door, &[], &[b' '; 5_000]).await.expect_error(413, "too_large");
    let guest = server.request(door, &[], br#"{"name":"Ann"}"#).await;
    assert_eq!((guest.status, &guest.json()["expires_in"]), (200, &3600.into()), "{guest:?}");
    let token = guest.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(server.join("demo", &token).await.status, 201);
    server.join("mine", &token).await.expect_error(403, "forbidden");
    let bare = server.request(door, &[], b"").await;
    assert_ne!(bare.json()["token"].as_str().unwrap(), token);
    server.request(door, &[], b"").await.expect_error(429, "rate_limited");

    let server = Server::with(Config { guest_rooms: vec!["*".into()], ..Config::default() }, |_| {}).await;
    assert_eq!(server.request("POST /v1/rooms/mine/guest-token", &[], b"").await.status, 200);
}
