//! WHEP's extensions: layers are chosen, events are streamed.

use crate::client::Reply;
use crate::{OFFER, Server};

const JSON: &str = "Content-Type: application/json";

/// The receiving video line of the offer.
fn video() -> String {
    let mut parts = OFFER.split("m=");
    let top = parts.next().unwrap();
    let line = parts.find(|m| m.starts_with("video") && m.contains("a=recvonly")).unwrap();
    let mid = line.lines().find_map(|l| l.strip_prefix("a=mid:")).unwrap();
    format!("{}m={line}", top.replace("BUNDLE 0 1 2 3", &format!("BUNDLE {mid}")))
}

/// A server, a token's header, and a player of the room.
struct Rig {
    server: Server,
    bearer: String,
    player: String,
    links: Vec<String>,
}

impl Rig {
    async fn new() -> Self {
        let server = Server::start().await;
        let bearer = format!("Authorization: Bearer {}", server.token("r", |_| {}));
        let head = [bearer.as_str(), "Content-Type: application/sdp"];
        let reply = server.request("POST /whep/r", &head, video().as_bytes()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let player = reply.header("location").unwrap().to_owned();
        let links = reply.headers("link").into_iter().map(str::to_owned).collect();
        Self { server, bearer, player, links }
    }

    async fn ask(&self, method: &str, path: &str, head: &[&str], body: &str) -> Reply {
        self.server.request(&format!("{method} {path}"), head, body.as_bytes()).await
    }

    async fn layer(&self, body: &str) -> Reply {
        self.ask("POST", &format!("{}/layer", self.player), &[&self.bearer, JSON], body).await
    }

    async fn stream(&self, body: &str) -> Reply {
        self.ask("POST", &format!("{}/events", self.player), &[&self.bearer, JSON], body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_is_told_where_its_extensions_are() {
    let rig = Rig::new().await;
    let player = &rig.player;
    let links = [
        format!("<{player}/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\""),
        format!(
            "<{player}/events>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; \
             events=\"active,inactive,layers,viewercount,recording\""
        ),
    ];
    assert_eq!(rig.links, links);
    let offered = rig.ask("POST", "/whep/r", &[&rig.bearer], "").await;
    assert_eq!((offered.status, offered.headers("link").len()), (201, 2), "{offered:?}");
    // Before its answer it is no player.
    let location = offered.header("location").unwrap();
    for (path, body) in [("layer", "{}"), ("events", "")] {
        let path = format!("{location}/{path}");
        rig.ask("POST", &path, &[&rig.bearer, JSON], body).await.expect_error(409, "conflict");
    }
    for (path, allow) in [
        ("layer", "POST, DELETE, OPTIONS"),
        ("events", "POST, OPTIONS"),
        ("events/x", "GET, HEAD, DELETE, OPTIONS"),
    ] {
        let options = rig.ask("OPTIONS", &format!("{player}/{path}"), &[], "").await;
        assert_eq!((options.status, options.header("allow")), (200, Some(allow)), "{path}");
        assert_eq!(options.header("access-control-allow-origin"), Some("*"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_chosen_by_their_player_only() {
    let rig = Rig::new().await;
    for automatic in ["{}", r#"{"mediaId":"0"}"#] {
        let reply = rig.layer(automatic).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{automatic}");
    }
    rig.layer(r#"{"encodingId":"q"}"#).await.expect_error(409, "conflict");
    for unknown in [r#"{"mediaId":"1"}"#, r#"{"mediaId":"x","encodingId":"q"}"#] {
        rig.layer(unknown).await.expect_error(404, "not_found");
    }
    for malformed in ["", "[]", "{", r#"{"encodingID":"q"}"#, r#"{"spatialLayerId":300}"#, "\u{0}"] {
        rig.layer(malformed).await.expect_error(400, "bad_request");
    }
    for meaningless in [r#"{"encodingId":""}"#, r#"{"maxTemporalLayerId":8}"#] {
        rig.layer(meaningless).await.expect_error(422, "bad_request");
    }
    let large = format!(r#"{{"encodingId":"{}"}}"#, "q".repeat(2_000));
    rig.layer(&large).await.expect_error(413, "too_large");
    let path = format!("{}/layer", rig.player);
    rig.ask("POST", &path, &[&rig.bearer], "{}").await.expect_error(415, "bad_request");
    rig.ask("POST", &path, &[JSON], "{}").await.expect_error(401, "unauthenticated");
    let other = format!("Authorization: Bearer {}", rig.server.token("r", |_| {}));
    rig.ask("POST", &path, &[&other, JSON], "{}").await.expect_error(403, "forbidden");
    assert_eq!(rig.ask("GET", &path, &[&rig.bearer], "").await.status, 405);
    assert_eq!(rig.ask("DELETE", &path, &[&rig.bearer], "").await.status, 200);
    // Whoever came by another way is no player.
    let token = rig.bearer.strip_prefix("Authorization: Bearer ").unwrap();
    let joined = rig.server.join("r", token).await;
    let id = joined.header("antiphon-participant").unwrap();
    let foreign = rig.ask("POST", &format!("/whep/r/{id}/layer"), &[&rig.bearer, JSON], "{}").await;
    foreign.expect_error(404, "not_found");
    assert_eq!(rig.ask("DELETE", &rig.player, &[&rig.bearer], "").await.status, 204);
    rig.layer("{}").await.expect_error(410, "not_found");
    rig.stream("").await.expect_error(410, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn choosing_without_end_is_refused() {
    let rig = Rig::new().await;
    let mut refused = None;
    for _ in 0..200 {
        let reply = rig.layer("{}").await;
        if reply.status != 200 {
            refused = Some(reply);
            break;
        }
    }
    refused.expect("there is a limit").expect_error(429, "rate_limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_until_their_player_goes() {
    let rig = Rig::new().await;
    let made = rig.stream(r#"["layers","viewercount"]"#).await;
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "{made:?}");
    let path = made.header("location").unwrap();
    assert!(path.starts_with(&format!("{}/events/", rig.player)) && path.len() > 60, "{path}");
    // Browsers read event streams without a token.
    let reading = rig.ask("GET", path, &["Accept: text/event-stream"], "");
    let leaving = async {
        // The end of the player ends the stream: the first answer stands there by then, or is empty.
        rig.ask("DELETE", &rig.player, &[&rig.bearer], "").await
    };
    let (read, left) = tokio::join!(reading, leaving);
    assert_eq!(left.status, 204);
    if read.status == 200 {
        assert_eq!(read.header("content-type"), Some("text/event-stream"));
        assert!(read.body.contains("event: viewercount\ndata: {\"viewercount\":0}\n\n"), "{read:?}");
        assert!(read.body.contains("event: layers\ndata: {\"0\":{\"active\":[]"), "{read:?}");
        assert!(!read.body.contains("active\ndata: {}"), "nothing is published");
    } else {
        read.expect_error(404, "not_found");
    }
    rig.ask("GET", path, &[], "").await.expect_error(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_are_few_and_their_names_secret() {
    let rig = Rig::new().await;
    for malformed in ["{}", "[1]", "x"] {
        rig.stream(malformed).await.expect_error(400, "bad_request");
    }
    for meaningless in ["[]", r#"["layers","scte35"]"#] {
        rig.stream(meaningless).await.expect_error(422, "bad_request");
    }
    rig.stream(&format!("[{}\"layers\"]", "\"layers\",".repeat(200))).await.expect_error(413, "too_large");
    let events = format!("{}/events", rig.player);
    rig.ask("POST", &events, &[&rig.bearer], "[\"layers\"]").await.expect_error(415, "bad_request");
    rig.ask("POST", &events, &[JSON], "").await.expect_error(401, "unauthenticated");
    let mut paths = Vec::new();
    for _ in 0..4 {
        // No body at all: all events.
        let made = rig.ask("POST", &events, &[&rig.bearer], "").await;
        assert_eq!(made.status, 201, "{made:?}");
        paths.push(made.header("location").unwrap().to_owned());
    }
    rig.stream("").await.expect_error(429, "rate_limited");
    let metrics = rig.ask("GET", "/metrics", &[], "").await.body;
    assert!(metrics.contains("refused_total{limit=\"event_streams\"} 1"), "{metrics}");
    rig.ask("GET", &format!("{events}/nobody"), &[], "").await.expect_error(404, "not_found");
    let wrong = format!("Authorization: Bearer {}", rig.server.token("r", |_| {}));
    rig.ask("GET", &paths[0], &[&wrong], "").await.expect_error(403, "forbidden");
    // Another player's path with this one's name leads nowhere.
    let astray = paths[0].replace("/whep/r/", "/whep/s/");
    rig.ask("GET", &astray, &[], "").await.expect_error(404, "not_found");
    assert_eq!(rig.ask("DELETE", &paths[0], &[], "").await.status, 204);
    rig.ask("DELETE", &paths[0], &[], "").await.expect_error(404, "not_found");
    rig.ask("GET", &paths[0], &[], "").await.expect_error(404, "not_found");
    assert_eq!(rig.stream("").await.status, 201);
    // A second reader takes the place of the first, which is at its end then.
    let first = rig.ask("GET", &paths[1], &[], "");
    let second = async {
        let second = rig.ask("GET", &paths[1], &[], "");
        let end = rig.ask("DELETE", &paths[1], &[], "");
        tokio::join!(second, end)
    };
    let (first, (second, _)) = tokio::join!(first, second);
    assert!([first.status, second.status].iter().all(|status| [200, 404].contains(status)));
}
