//! Joining, its resource, its limits, and every kind of bad input.

use antiphon_api::Config;
use antiphon_api::config::Rate;
use antiphon_base::ParticipantId;

use crate::{OFFER, Server};

/// Request, more header lines, body; status and code of the answer.
type Row<'a> = (&'a str, &'a [&'a str], &'a [u8], u16, &'a str);

const SDP: &str = "Content-Type: application/sdp";

#[tokio::test(flavor = "multi_thread")]
async fn a_join_is_one_request_and_its_resource_says_what_became_of_it() {
    let server = Server::start().await;
    let token = server.token("r", |_| {});
    let bearer = format!("Authorization: Bearer {token}");
    let joined = server.join("r", &token).await;
    assert_eq!(joined.status, 201, "{joined:?}");
    assert_eq!(joined.header("content-type"), Some("application/sdp"));
    assert!(joined.body.starts_with("v=0\r\n") && joined.body.contains("a=candidate:"), "{joined:?}");
    assert_eq!(joined.body.matches("m=").count(), 4, "{joined:?}");
    let id = joined.header("antiphon-participant").unwrap();
    let location = joined.header("location").unwrap();
    assert_eq!(location, format!("/v1/rooms/r/participants/{id}"));
    assert!(joined.header("antiphon-resume").is_some_and(|t| t.len() >= 16));

    let state = server.request(&format!("GET {location}"), &[&bearer], b"").await;
    assert_eq!(state.status, 200, "{state:?}");
    assert_eq!((&state.json()["id"], &state.json()["state"]), (&id.into(), &"new".into()));
    let stats = server.request(&format!("GET {location}/stats"), &[&bearer], b"").await;
    assert!(stats.json()["stats"].is_object(), "{stats:?}");

    let left = server.request(&format!("DELETE {location}"), &[&bearer], b"").await;
    assert_eq!(left.status, 204, "{left:?}");
    let state = server.request(&format!("GET {location}"), &[&bearer], b"").await.json();
    assert_eq!((&state["state"], &state["reason"]), (&"gone".into(), &"left".into()), "{state}");
    server.request(&format!("DELETE {location}"), &[&bearer], b"").await.expect_error(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_identity_makes_a_participant_each_time() {
    let server = Server::start().await;
    let token = server.token("r", |_| {});
    let ids = [server.join("r", &token).await, server.join("r", &token).await];
    let ids = ids.each_ref().map(|j| j.header("antiphon-participant").unwrap());
    assert_ne!(ids[0], ids[1]);
    let named = server.token("r", |c| c.sub = Some(ParticipantId::new("alice").unwrap()));
    assert_eq!(server.join("r", &named).await.header("antiphon-participant"), Some("alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn name_and_mute_travel_in_headers() {
    let server = Server::start().await;
    let token = server.token("r", |c| c.grants = Some(vec!["publish".into(), "moderate".into()]));
    let bearer = format!("Authorization: Bearer {token}");
    let head =
        [&bearer, SDP, "Antiphon-Name: J%C3%BCrgen%20W", "Antiphon-Muted: microphone", "Antiphon-Policy: {}"];
    let joined = server.request("POST /v1/rooms/r/participants", &head, OFFER.as_bytes()).await;
    assert_eq!(joined.status, 201, "{joined:?}");
    let room = server.request("GET /v1/rooms/r", &[&bearer], b"").await.json();
    assert_eq!(room["participants"][0]["name"], "Jürgen W", "{room}");
    let list = server.request("GET /v1/rooms", &[&bearer], b"").await.json();
    assert_eq!(list["rooms"][0]["name"], "r", "{list}");
    server
        .request("GET /v1/rooms/r", &[&format!("Authorization: Bearer {}", server.token("r", |_| {}))], b"")
        .await
        .expect_error(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn whip_publishes_and_whep_plays() {
    let server = Server::start().await;
    let bearer = format!("Authorization: Bearer {}", server.token("r", |_| {}));
    let head = [bearer.as_str(), SDP];
    let session = |receive: bool| {
        let (keep, drop) = if receive { ("recvonly", "sendonly") } else { ("sendonly", "recvonly") };
        let line = OFFER.split("m=").find(|m| m.contains(keep) && !m.contains(drop)).unwrap();
        let top = OFFER.split("m=").next().unwrap();
        let mid = line.lines().find_map(|l| l.strip_prefix("a=mid:")).unwrap();
        format!("{}m={line}", top.replace("BUNDLE 0 1 2 3", &format!("BUNDLE {mid}")))
    };
    let whip = server.request("POST /whip/r", &head, session(false).as_bytes()).await;
    assert_eq!(whip.status, 201, "{whip:?}");
    let id = whip.header("antiphon-participant").unwrap();
    assert_eq!(whip.header("location").unwrap(), format!("/whip/r/{id}"));
    for path in ["/whep/r".to_owned(), format!("/whep/r/{id}")] {
        let whep = server.request(&format!("POST {path}"), &head, session(true).as_bytes()).await;
        assert_eq!(whep.status, 201, "{whep:?}");
        let location = whep.header("location").unwrap();
        assert!(location.starts_with("/whep/r/pa_"), "{location}");
        assert_eq!(server.request(&format!("DELETE {location}"), &[&bearer], b"").await.status, 204);
    }
    assert_eq!(server.request(&format!("DELETE /whip/r/{id}"), &[&bearer], b"").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_answered_with_a_typed_error() {
    let server = Server::start().await;
    let bearer = format!("Authorization: Bearer {}", server.token("r", |_| {}));
    let join = "POST /v1/rooms/r/participants";
    let no_codec = OFFER.replace("opus/48000", "speex/8000").replace("VP8/", "theora/");
    let big = vec![b'x'; 256 * 1024 + 1];
    let rows: [Row; 17] = [
        (join, &[SDP], b"", 400, "bad_sdp"),
        (join, &[SDP], b"hello", 400, "bad_sdp"),
        (join, &[SDP], b"v=0\r\nm=audio", 400, "bad_sdp"),
        (join, &[SDP], b"\xff\xfe\x00", 400, "bad_sdp"),
        (join, &[SDP], no_codec.as_bytes(), 400, "no_common_codec"),
        (join, &[SDP], &big, 413, "too_large"),
        (join, &[SDP, "Content-Length: 99999999999"], b"v=0", 413, "too_large"),
        (join, &[], OFFER.as_bytes(), 415, "bad_request"),
        (join, &["Content-Type: application/json"], OFFER.as_bytes(), 415, "bad_request"),
        (join, &[SDP, "Antiphon-Name: %ff"], OFFER.as_bytes(), 400, "bad_request"),
        (join, &[SDP, "Antiphon-Policy: {\"x\":1}"], OFFER.as_bytes(), 400, "bad_request"),
        (join, &[SDP, "Antiphon-Muted: nose"], OFFER.as_bytes(), 400, "bad_request"),
        ("POST /v1/rooms/a%20b/participants", &[SDP], OFFER.as_bytes(), 400, "bad_request"),
        ("POST /v1/rooms/%2e%2e/participants", &[SDP], OFFER.as_bytes(), 400, "bad_request"),
        ("PUT /v1/rooms/r/participants", &[SDP], b"", 405, "bad_request"),
        ("GET /v1/nothing", &[], b"", 404, "not_found"),
        ("GET /v1/rooms/r/bot", &[], b"", 426, "bad_request"),
    ];
    for (request, head, body, status, code) in rows {
        let head: Vec<&str> = head.iter().copied().chain([bearer.as_str()]).collect();
        let reply = server.request(request, &head, body).await;
        println!("{request} {head:?}");
        reply.expect_error(status, code);
    }
    let chunked = format!(
        "{join} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n{SDP}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         50000\r\n{}\r\n0\r\n\r\n",
        "x".repeat(0x50000)
    );
    crate::client::raw(server.address, chunked.as_bytes()).await.expect_error(413, "too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_429_or_503_and_say_when_to_come_back() {
    let server = Server::with(Config::default(), |shard| shard.max_participants_per_room = 1).await;
    assert_eq!(server.join("r", &server.token("r", |_| {})).await.status, 201);
    let full = server.join("r", &server.token("r", |_| {})).await;
    full.expect_error(429, "room_full");
    assert!(full.header("retry-after").is_some());

    let joins = Rate { per_second: 0.0, burst: 1 };
    let server = Server::with(Config { joins, ..Config::default() }, |_| {}).await;
    assert_eq!(server.join("r", &server.token("r", |_| {})).await.status, 201);
    let limited = server.join("r", &server.token("r", |_| {})).await;
    limited.expect_error(429, "rate_limited");
    assert!(limited.header("retry-after").is_some());

    let room_joins = Rate { per_second: 0.0, burst: 1 };
    let server = Server::with(Config { room_joins, ..Config::default() }, |_| {}).await;
    assert_eq!(server.join("r", &server.token("r", |_| {})).await.status, 201);
    let limited = server.join("r", &server.token("r", |_| {})).await;
    limited.expect_error(429, "rate_limited");
    assert!(limited.body.contains("this room"));
    assert_eq!(server.join("other", &server.token("other", |_| {})).await.status, 201);

    let server = Server::with(Config { max_joins_in_progress: 0, ..Config::default() }, |_| {}).await;
    server.join("r", &server.token("r", |_| {})).await.expect_error(503, "overloaded");

    let server = Server::with(Config { max_connections: 0, ..Config::default() }, |_| {}).await;
    server.join("r", &server.token("r", |_| {})).await.expect_error(503, "overloaded");

    let server = Server::start().await;
    server.app.drain();
    server.join("r", &server.token("r", |_| {})).await.expect_error(503, "draining");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_whose_join_it_is() {
    for (trusted, second) in [(true, 201), (false, 429)] {
        let joins = Rate { per_second: 0.0, burst: 1 };
        let trusted_proxies = if trusted { vec!["127.0.0.1".parse().unwrap()] } else { Vec::new() };
        let server = Server::with(Config { joins, trusted_proxies, ..Config::default() }, |_| {}).await;
        let join = async |from: &str| {
            let authorization = format!("Authorization: Bearer {}", server.token("r", |_| {}));
            let forwarded = format!("X-Forwarded-For: {from}");
            let head = [authorization.as_str(), forwarded.as_str(), "Content-Type: application/sdp"];
            server.request("POST /v1/rooms/r/participants", &head, crate::OFFER.as_bytes()).await.status
        };
        assert_eq!(join("198.51.100.1").await, 201);
        assert_eq!(join("198.51.100.2").await, second);
        assert_eq!(join("198.51.100.1").await, 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_there_only_where_the_operator_allows_it() {
    for (rtp_dump, status) in [(false, 403), (true, 404)] {
        let server = Server::with(Config { rtp_dump, ..Config::default() }, |_| {}).await;
        let token = server.token("r", |c| c.sub = Some(ParticipantId::new("alice").unwrap()));
        let head = [&*format!("Authorization: Bearer {token}")];
        let reply = server.request("GET /v1/rooms/r/participants/alice/dump", &head, b"").await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
}
