//! Start, first answers, tokens, settings.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::server::{Folder, Server, antiphon, header_of, text, token};

#[test]
fn it_starts_answers_and_stops() {
    let folder = Folder::new("starts");
    let server = Server::start(&folder, &[]);
    assert!(server.line.starts_with("antiphon: listening on http://127.0.0.1:"), "{}", server.line);
    assert!(server.line.contains("(media udp "), "{}", server.line);
    assert!(server.request("GET /readyz", "").starts_with("HTTP/1.1 200"));
    assert!(server.request("GET /r/demo", "").contains("<!doctype html>"));
    assert!(server.request("POST /v1/rooms/demo/guest-token", "").contains("\"token\""));

    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let key = folder.data().join("signing.key");
    assert_eq!((mode(folder.data()), mode(key.clone())), (0o700, 0o600));
    let token = token(&folder, &["--room", "r", "--grants", "moderate", "--ttl", "1m"]);
    let authorization = format!("Authorization: Bearer {token}\r\n");
    let answer = server.request("GET /v1/rooms/r", &authorization);
    assert!(answer.starts_with("HTTP/1.1 404"), "the token is good, the room is empty: {answer}");
    assert!(server.request("GET /v1/rooms/s", &authorization).starts_with("HTTP/1.1 403"));

    let secret = fs::read(&key).unwrap();
    server.signal(libc::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    let again = Server::start(&folder, &["--config", "/dev/null"]);
    assert_eq!(fs::read(&key).unwrap(), secret, "the key stays");
    assert!(again.request("GET /v1/rooms/r", &authorization).starts_with("HTTP/1.1 404"));
}

#[test]
fn two_servers_do_not_share_a_key() {
    let (folder, other) = (Folder::new("key-a"), Folder::new("key-b"));
    let server = Server::start(&folder, &[]);
    let foreign = token(&other, &["--room", "r"]);
    assert!(server.join("r", &foreign).starts_with("HTTP/1.1 401"), "signed with another key");
    assert!(server.join("r", &token(&folder, &["--room", "r"])).starts_with("HTTP/1.1 201"));
}

#[test]
fn a_token_without_identity_serves_many_connections_and_one_with_it_serves_one() {
    let folder = Folder::new("identity");
    let server = Server::start(&folder, &[]);
    let ids = |arguments: &[&str]| {
        let token = token(&folder, arguments);
        [(); 2].map(|()| header_of(&server.join("r", &token), "antiphon-participant"))
    };
    let [a, b] = ids(&["--room", "r"]);
    assert_ne!(a, b);
    let [ada, again] = ids(&["--room", "r", "--identity", "ada", "--name", "Ada L."]);
    assert_eq!((ada.as_str(), again.as_str()), ("ada", "ada"));
    let moderator = token(&folder, &["--room", "r", "--grants", "moderate"]);
    let room = server.request("GET /v1/rooms/r", &format!("Authorization: Bearer {moderator}\r\n"));
    assert_eq!(room.matches("\"id\":").count(), 3, "the second ada took the place of the first: {room}");
    assert!(room.contains("\"Ada L.\""), "{room}");
}

#[test]
fn wrong_settings_end_the_start_with_the_name_of_the_key() {
    let folder = Folder::new("wrong");
    let file = folder.file("a.toml", "[guests]\nroom = ['demo']\n");
    let rows: [(&[&str], &str); 6] = [
        (&["serve", "--http", "nowhere"], "--http"),
        (&["serve", "--shards", "many"], "--shards"),
        (&["serve", "--config", &file], "room"),
        (&["serve", "--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (&["token", "--room", "a b"], "room name"),
        (&["token", "--room", "a", "--grants", "fly"], "publish, subscribe, bot, moderate"),
    ];
    for (arguments, part) in rows {
        let output = antiphon().args(arguments).current_dir(&folder.0).output().unwrap();
        let (out, error) = text(&output);
        assert!(!output.status.success() && out.is_empty(), "{arguments:?}: {out}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let output = antiphon().args(["serve"]).env("ANTIPHON_ROOMS_MAX_BUSY", "9").output().unwrap();
    assert!(text(&output).1.contains("rooms.max_busy"), "{output:?}");
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let folder = Folder::new("precedence");
    // Addresses of nobody's (RFC 5737): a server that took the file's or the environment's would not start.
    let file = folder.file(
        "a.toml",
        "http = '192.0.2.1:1'\n[guests]\nrooms = ['of-the-file']\nttl_s = 77\n[demo]\nenabled = false\n",
    );
    let server = Server::start_with(&folder, &["--config", &file], |command| {
        command.env("ANTIPHON_HTTP", "192.0.2.2:2").env("ANTIPHON_GUESTS_ROOMS", "of-the-environment");
    });
    let guest = |room: &str| server.request(&format!("POST /v1/rooms/{room}/guest-token"), "");
    let answer = guest("of-the-environment");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"expires_in\":77"), "{answer}");
    assert!(guest("of-the-file").starts_with("HTTP/1.1 403"));
    assert!(guest("demo").starts_with("HTTP/1.1 403"), "the default is replaced, not added to");
}

#[test]
fn the_printed_default_is_a_file_that_serves() {
    let folder = Folder::new("printed");
    let printed = text(&antiphon().args(["config", "print-default"]).output().unwrap()).0;
    let file = folder.file("default.toml", &printed);
    let server = Server::start(&folder, &["--config", &file]);
    assert!(server.request("GET /livez", "").starts_with("HTTP/1.1 200"));
}
