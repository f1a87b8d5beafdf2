//! The rules of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-04), one by one.

use antiphon_api::{Config, IceServer};

use crate::client::Reply;
use crate::{OFFER, Server};

const SDP: &str = "Content-Type: application/sdp";
const FRAGMENT: &str = "Content-Type: application/trickle-ice-sdpfrag";
/// Of a client that gathers candidates, its credentials as in [`OFFER`].
const CANDIDATE: &str = "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
    a=candidate:2 1 sctp 2122260223 nowhere.invalid 61764 typ host\r\na=end-of-candidates\r\n";

/// One line of the offer, by its direction.
fn session(direction: &str) -> String {
    let line = OFFER.split("m=").find(|m| m.contains(&format!("a={direction}"))).unwrap();
    let top = OFFER.split("m=").next().unwrap();
    let mid = line.lines().find_map(|l| l.strip_prefix("a=mid:")).unwrap();
    format!("{}m={line}", top.replace("BUNDLE 0 1 2 3", &format!("BUNDLE {mid}")))
}

fn of_offer(name: &str) -> &'static str {
    OFFER.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim()
}

/// A fragment with these credentials.
fn fragment(ufrag: &str, pwd: &str) -> String {
    format!(
        "a=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n{CANDIDATE}"
    )
}

fn same() -> String {
    fragment(of_offer("a=ice-ufrag:"), of_offer("a=ice-pwd:"))
}

/// A server, a token's header, and a session of each kind with its entity tag.
struct Rig {
    server: Server,
    bearer: String,
}

impl Rig {
    async fn new() -> Self {
        let turn = IceServer {
            urls: vec!["stun:turn.example.net".into(), "turn:turn.example.net?transport=udp".into()],
            username: Some("user".into()),
            credential: Some("secret".into()),
            ..IceServer::default()
        };
        let config = Config { ice_servers: vec![turn], ..Config::default() };
        let server = Server::with(config, |_| {}).await;
        let bearer = format!("Authorization: Bearer {}", server.token("r", |_| {}));
        Self { server, bearer }
    }

    async fn post(&self, path: &str, offer: &str) -> Reply {
        self.server.request(&format!("POST {path}"), &[&self.bearer, SDP], offer.as_bytes()).await
    }

    async fn patch(&self, path: &str, head: &[&str], body: &str) -> Reply {
        let head: Vec<&str> = head.iter().copied().chain([self.bearer.as_str()]).collect();
        self.server.request(&format!("PATCH {path}"), &head, body.as_bytes()).await
    }

    /// All kinds of sessions that ICE can be restarted of: where, and the entity tag.
    async fn sessions(&self) -> Vec<(String, String)> {
        let joined = [
            self.post("/whip/r", &session("sendonly")).await,
            self.post("/whep/r", &session("recvonly")).await,
            self.post("/v1/rooms/r/participants", OFFER).await,
        ];
        let of = |r: &Reply| {
            assert_eq!(r.status, 201, "{r:?}");
            (r.header("location").unwrap().to_owned(), r.header("etag").unwrap().to_owned())
        };
        joined.iter().map(of).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_says_its_tag_and_what_it_takes_and_where_turn_is() {
    let rig = Rig::new().await;
    for (path, offer) in [
        ("/whip/r", session("sendonly")),
        ("/whep/r", session("recvonly")),
        ("/v1/rooms/r/participants", OFFER.into()),
    ] {
        let reply = rig.post(path, &offer).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let tag = reply.header("etag").unwrap();
        assert!(tag.len() > 6 && tag.starts_with('"') && tag.ends_with('"'), "a strong tag: {tag}");
        assert_eq!(reply.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
        let links = reply.headers("link").into_iter().filter(|l| l.contains("ice-server"));
        assert_eq!(
            links.collect::<Vec<_>>(),
            [
                "<stun:turn.example.net>; rel=\"ice-server\"",
                "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"user\"; \
                 credential=\"secret\"; credential-type=\"password\""
            ]
        );
        let exposed = reply.header("access-control-expose-headers").unwrap();
        for name in ["Location", "Link", "ETag", "Accept-Patch"] {
            assert!(exposed.contains(name), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_are_taken_without_a_word() {
    let rig = Rig::new().await;
    for (path, tag) in rig.sessions().await {
        let matching = format!("If-Match: {tag}");
        for body in [same(), format!("a=mid:0\r\n{CANDIDATE}")] {
            let reply = rig.patch(&path, &[FRAGMENT, &matching], &body).await;
            assert_eq!((reply.status, reply.header("etag")), (204, None), "{path} {reply:?}");
            assert_eq!(reply.body, "");
        }
        rig.patch(&path, &[FRAGMENT], &same()).await.expect_error(428, "bad_request");
        for other in ["If-Match: \"other\"".to_owned(), format!("If-Match: W/{tag}")] {
            rig.patch(&path, &[FRAGMENT, &other], &same()).await.expect_error(412, "conflict");
        }
        rig.patch(&path, &[&matching], &same()).await.expect_error(415, "bad_request");
        rig.patch(&path, &["Content-Type: text/plain", &matching], &same())
            .await
            .expect_error(415, "bad_request");
        for bad in ["hello", "a=ice-ufrag:abcd\r\n", "a=candidate:nonsense\r\n", "\u{0}"] {
            rig.patch(&path, &[FRAGMENT, &matching], bad).await.expect_error(400, "bad_sdp");
        }
        let large = "a=x\r\n".repeat(10_000);
        rig.patch(&path, &[FRAGMENT, &matching], &large).await.expect_error(413, "too_large");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_credentials_restart_ice() {
    let rig = Rig::new().await;
    for (path, tag) in rig.sessions().await {
        let reply = rig.patch(&path, &[FRAGMENT, "If-Match: *"], &fragment("ysXw", &"p".repeat(24))).await;
        assert_eq!(reply.status, 200, "{path} {reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/trickle-ice-sdpfrag"));
        let new = reply.header("etag").unwrap().to_owned();
        assert_ne!(new, tag);
        let lines: Vec<&str> = reply.body.lines().collect();
        assert_eq!(
            lines[..4],
            ["a=ice-lite", "a=group:BUNDLE 0", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0"]
        );
        assert!(lines[4].strip_prefix("a=ice-ufrag:").is_some_and(|u| format!("\"{u}\"") == new));
        assert!(lines[5].strip_prefix("a=ice-pwd:").is_some_and(|p| p.len() >= 22));
        assert!(reply.body.contains("a=candidate:") && reply.body.ends_with("a=end-of-candidates\r\n"));
        // Candidates of the old session are late; those of the new one are not. Other credentials restart with a tag as well.
        let again = fragment("ysXw", &"p".repeat(24));
        rig.patch(&path, &[FRAGMENT, &format!("If-Match: {tag}")], &again)
            .await
            .expect_error(412, "conflict");
        assert_eq!(rig.patch(&path, &[FRAGMENT, &format!("If-Match: {new}")], &again).await.status, 204);
        let third = fragment("zzXw", &"q".repeat(24));
        let reply = rig.patch(&path, &[FRAGMENT, &format!("If-Match: \"x\", {new}")], &third).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_restarts_are_refused_and_what_is_gone_is_gone() {
    let rig = Rig::new().await;
    let (path, tag) = rig.sessions().await.swap_remove(0);
    let mut refused = None;
    for n in 0..20 {
        let body = fragment(&format!("ufrag{n}"), &"p".repeat(24));
        let reply = rig.patch(&path, &[FRAGMENT, "If-Match: *"], &body).await;
        if reply.status != 200 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("there is a limit");
    refused.expect_error(429, "rate_limited");
    assert!(refused.header("retry-after").is_some());
    let delete = format!("DELETE {path}");
    // Entity tags do not matter here (RFC 9725, 4.3.1).
    let left = rig.server.request(&delete, &[&rig.bearer, "If-Match: \"other\""], b"").await;
    assert_eq!(left.status, 204, "{left:?}");
    let head = [FRAGMENT, &format!("If-Match: {tag}")];
    rig.patch(&path, &head, &same()).await.expect_error(410, "not_found");
    let show = rig.server.request(&format!("GET {path}"), &[&rig.bearer], b"").await;
    show.expect_error(410, "not_found");
    rig.server.request(&delete, &[&rig.bearer], b"").await.expect_error(404, "not_found");
    rig.patch("/whip/r/pa_nobody", &head, &same()).await.expect_error(403, "forbidden");
    let other = format!("Authorization: Bearer {}", rig.server.token("r", |_| {}));
    let (path, tag) = rig.sessions().await.swap_remove(1);
    let head = [FRAGMENT, &format!("If-Match: {tag}"), &other];
    let foreign = rig.server.request(&format!("PATCH {path}"), &head, same().as_bytes()).await;
    foreign.expect_error(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_say_what_they_take() {
    let rig = Rig::new().await;
    let ask = async |method: &str, path: &str, head: &[&str]| {
        rig.server.request(&format!("{method} {path}"), head, b"").await
    };
    for path in ["/whip/r", "/whep/r", "/whep/r/pa_x"] {
        for method in ["GET", "HEAD"] {
            let reply = ask(method, path, &[]).await;
            assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{method} {path}");
            assert_eq!(reply.header("content-type"), Some("application/sdp"));
        }
        let options = ask("OPTIONS", path, &[]).await;
        assert_eq!((options.status, options.header("accept-post")), (200, Some("application/sdp")), "{path}");
        assert_eq!(options.headers("link"), Vec::<&str>::new(), "secrets are for those with a token");
        let options = ask("OPTIONS", path, &[&rig.bearer]).await;
        assert_eq!(options.headers("link").len(), 2, "{options:?}");
        let methods = options.header("access-control-allow-methods").unwrap();
        for method in ["POST", "PATCH", "DELETE", "OPTIONS"] {
            assert!(methods.contains(method));
        }
        assert!(options.header("access-control-allow-headers").unwrap().contains("If-Match"));
        assert_eq!(ask("PUT", path, &[&rig.bearer]).await.status, 405);
    }
    for path in ["/whip/r/pa_x", "/v1/rooms/r/participants/pa_x"] {
        let options = ask("OPTIONS", path, &[]).await;
        assert_eq!(options.status, 200);
        assert_eq!(options.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
        assert_eq!(ask("POST", path, &[&rig.bearer]).await.status, 405);
    }
    let (path, _) = rig.sessions().await.swap_remove(0);
    let session = ask("GET", &path, &[&rig.bearer]).await;
    assert_eq!((session.status, session.body.as_str()), (204, ""));
    assert_eq!(ask("GET", &path, &[]).await.status, 401);
}

/// RFC 9725, 4.4.2 and 4.4.3: all of an offer, or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whip_takes_all_of_an_offer_or_nothing() {
    let rig = Rig::new().await;
    let half = session("sendonly").replace("opus/48000", "speex/8000");
    rig.post("/whip/r", &half).await.expect_error(400, "no_common_codec");
    rig.post("/whip/r", OFFER).await.expect_error(400, "no_common_codec");
    rig.post("/whip/r", &session("recvonly")).await.expect_error(400, "no_common_codec");
    let reply = rig.post("/whip/r", &session("sendonly")).await;
    assert!(reply.body.contains("a=recvonly") && !reply.body.contains("a=sendonly"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_offers_where_the_player_does_not() {
    let rig = Rig::new().await;
    let bare = rig.server.request("POST /whep/r", &[&rig.bearer], b"").await;
    assert_eq!(bare.status, 201, "{bare:?}");
    let counter = rig.post("/whep/r", &session("sendonly")).await;
    assert_eq!(counter.status, 406, "{counter:?}");
    for offer in [bare, counter] {
        assert_eq!(offer.header("content-type"), Some("application/sdp"));
        assert!(offer.header("etag").is_some() && offer.body.contains("a=ice-lite"), "{offer:?}");
        assert_eq!(offer.body.matches("a=sendonly").count(), 2, "{offer:?}");
        let path = offer.header("location").unwrap();
        assert!(path.starts_with("/whep/r/pa_"), "{path}");
        // What is no answer ends it.
        rig.patch(path, &[SDP], "hello").await.expect_error(400, "bad_sdp");
        rig.patch(path, &[SDP], "hello").await.expect_error(404, "not_found");
    }
    let offer = rig.server.request("POST /whep/r", &[&rig.bearer], b"").await;
    let path = offer.header("location").unwrap();
    let delete = format!("DELETE {path}");
    assert_eq!(rig.server.request(&delete, &[&rig.bearer], b"").await.status, 204);
    rig.patch(path, &[SDP], "hello").await.expect_error(404, "not_found");
    // Only players are offered anything.
    rig.server.request("POST /whip/r", &[&rig.bearer, SDP], b"").await.expect_error(400, "bad_sdp");
}
