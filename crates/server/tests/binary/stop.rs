//! The graceful stop, and the second signal that ends it.

use std::time::{Duration, Instant};

use crate::bot::Bot;
use crate::server::{Folder, Server, token};

/// Far more than a test may take: what ends earlier was not ended by it.
const DEADLINE_S: &str = "600";
/// Answers under way get 2 s, threads and sockets close; the rest is for slow machines.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The first signal drains, the second ends.
fn check(first: i32, second: i32) {
    let folder = Folder::new(&format!("stop-{first}-{second}"));
    let server = Server::start_with(&folder, &[], |command| {
        command.env("ANTIPHON_STOP_DEADLINE_S", DEADLINE_S);
    });
    let token = token(&folder, &["--room", "r"]);
    assert!(server.join("r", &token).starts_with("HTTP/1.1 201"));
    let mut bot = Bot::join(server.connect(), "r", &token);
    bot.message("stream_started");

    server.signal(first);
    let told = bot.message("draining");
    assert!(told.contains(&format!("\"deadline_s\":{DEADLINE_S}")), "{told}");
    assert!(server.request("GET /livez", "").starts_with("HTTP/1.1 200"), "it goes on");
    assert!(server.request("GET /readyz", "").starts_with("HTTP/1.1 503"));
    let refused = server.join("r", &token);
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("\"draining\""), "{refused}");

    let begin = Instant::now();
    server.signal(second);
    assert_eq!(server.exit_code(), Some(0));
    assert!(begin.elapsed() < AT_ONCE, "it took {:?}", begin.elapsed());
}

#[test]
fn a_second_sigterm_ends_a_graceful_stop_at_once() {
    check(libc::SIGTERM, libc::SIGTERM);
}

#[test]
fn a_sigint_after_a_sigint_or_a_sigterm_does_too() {
    check(libc::SIGINT, libc::SIGINT);
    check(libc::SIGTERM, libc::SIGINT);
}

#[test]
fn the_deadline_ends_a_graceful_stop_for_those_who_stay() {
    let folder = Folder::new("stop-deadline");
    let server = Server::start_with(&folder, &[], |command| {
        command.env("ANTIPHON_STOP_DEADLINE_S", "1");
    });
    let mut bot = Bot::join(server.connect(), "r", &token(&folder, &["--room", "r"]));
    bot.message("stream_started");
    let begin = Instant::now();
    server.signal(libc::SIGTERM);
    bot.message("draining");
    assert_eq!(bot.close_code(), 4503);
    assert_eq!(server.exit_code(), Some(0));
    assert!(begin.elapsed() < AT_ONCE, "it took {:?}", begin.elapsed());
}
