//! Logs as JSON, and what must never stand in them.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::bot::Bot;
use crate::server::{Folder, OFFER_PASSWORD, Server, header_of, token};

/// The value of the first SDP line that begins so.
fn line_of<'a>(sdp: &'a str, begin: &str) -> &'a str {
    sdp.lines().find_map(|l| l.strip_prefix(begin)).unwrap_or_else(|| panic!("no {begin} in {sdp}"))
}

#[test]
fn json_logs_parse_and_keep_secrets_whatever_the_filter() {
    let folder = Folder::new("logs");
    let mut server = Server::start_with(&folder, &[], |command| {
        command.env("ANTIPHON_LOG_FORMAT", "json").env("ANTIPHON_LOG_FILTER", "trace").stderr(Stdio::piped());
    });
    // Read while the server runs: a full pipe would stop it.
    let stderr = server.stderr();
    let reader = std::thread::spawn(move || {
        BufReader::new(stderr).lines().map(Result::unwrap).collect::<Vec<String>>()
    });
    let token = token(&folder, &["--room", "r", "--identity", "ada"]);
    let joined = server.join("r", &token);
    assert!(joined.starts_with("HTTP/1.1 201"), "{joined}");
    let resume = header_of(&joined, "antiphon-resume");
    let mut bot = Bot::join(server.connect(), "r", &token);
    bot.message("stream_started");
    assert!(server.join("r", &format!("{token}x")).starts_with("HTTP/1.1 401"), "a token that is refused");
    server.signal(libc::SIGTERM);
    bot.message("draining");
    server.signal(libc::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));

    let lines = reader.join().unwrap();
    let objects: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    for object in &objects {
        let has = |key: &str| object[key].is_string();
        assert!(has("timestamp") && has("level") && has("message") && has("target"), "{object}");
    }
    let joins = objects.iter().any(|o| o["message"] == "joined" && o["room"] == "r" && o["level"] == "DEBUG");
    assert!(joins, "more than info is on: {lines:#?}");
    let signature = token.rsplit('.').next().unwrap();
    let key = std::fs::read(folder.data().join("signing.key")).unwrap();
    let key = data_encoding::HEXLOWER.encode(&key);
    let secrets = [
        ("the token's signature", signature),
        ("the signing key", &key),
        ("the resume token", &resume),
        ("the server's ICE password", line_of(&joined, "a=ice-pwd:")),
        ("the client's ICE password", OFFER_PASSWORD),
        ("a header with a token", "Bearer"),
    ];
    for (what, secret) in secrets {
        let found = lines.iter().find(|l| l.to_lowercase().contains(&secret.to_lowercase()));
        assert!(found.is_none(), "{what} is logged: {found:?}");
    }
}
