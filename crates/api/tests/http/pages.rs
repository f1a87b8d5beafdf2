//! The web client's files, health, metrics, and rules between origins.

use std::time::Duration;

use antiphon_api::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Server;

#[tokio::test(flavor = "multi_thread")]
async fn the_web_client_is_served_with_its_rules() {
    let server = Server::start().await;
    for path in ["/", "/r/demo", "/r/a-room", "/index.html"] {
        let page = server.request(&format!("GET {path}"), &[], b"").await;
        assert_eq!((page.status, page.body.as_str()), (200, "<!doctype html>hello"), "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        assert!(page.header("content-security-policy").unwrap().contains("connect-src 'self' ws: wss:"));
        assert!(page.header("permissions-policy").unwrap().contains("display-capture=(self)"));
    }
    let script = server.request("GET /assets/index-1a2b.js", &[], b"").await;
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(script.header("cache-control").unwrap().contains("immutable"));
    server.request("GET /assets/../../etc/passwd", &[], b"").await.expect_error(404, "not_found");
    server.request("POST /index.html", &[], b"").await.expect_error(405, "bad_request");
    server.request("POST /", &[], b"").await.expect_error(405, "bad_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_call() {
    let server = Server::start().await;
    let head = ["Origin: https://example.org", "Access-Control-Request-Method: POST"];
    for path in ["/v1/rooms/r/participants", "/whip/r", "/whep/r/pa_x"] {
        let reply = server.request(&format!("OPTIONS {path}"), &head, b"").await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some("*")), "{path}");
        assert!(reply.header("access-control-allow-headers").unwrap().contains("Antiphon-Policy"));
    }
    let refused = server.request("POST /whip/r", &head, b"").await;
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"), "errors can be read too");
    assert!(refused.header("access-control-expose-headers").unwrap().contains("Location"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_counters_can_be_read() {
    let server = Server::start().await;
    assert_eq!(server.request("GET /livez", &[], b"").await.status, 200);
    assert_eq!(server.request("GET /readyz", &[], b"").await.status, 200);
    let text = server.request("GET /metrics", &[], b"").await.body;
    for line in [
        r#"antiphon_http_requests_total{route="/livez",method="GET",status="200"} 1"#,
        r#"antiphon_shard_packets_forwarded_total{shard="0"} 0"#,
        "antiphon_bots 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    server.app.drain();
    server.request("GET /readyz", &[], b"").await.expect_error(503, "draining");
    assert_eq!(server.request("GET /livez", &[], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_finish_its_request_is_let_go() {
    let short = Duration::from_millis(100);
    let config = Config { header_timeout: short, request_timeout: short, ..Config::default() };
    let server = Server::with(config, |_| {}).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();

    let head = [
        &*format!("Authorization: Bearer {}", server.token("r", |_| {})),
        "Content-Type: application/sdp",
        "Content-Length: 1000",
    ];
    let reply = server.request("POST /v1/rooms/r/participants", &head, b"v=0").await;
    reply.expect_error(503, "overloaded");
}
