//! The binary as an operator meets it: start, first answers, tokens, wrong settings, stop.

#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("antiphon-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn antiphon() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_antiphon"));
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("ANTIPHON_")) {
        command.env_remove(name);
    }
    command
}

/// A running server, killed at the end if it did not stop by itself.
struct Server {
    child: Child,
    address: String,
    line: String,
}

impl Server {
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut child = antiphon()
            .args(["serve", "--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--shards", "2"])
            .arg("--data")
            .arg(&folder.0)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap_or_else(|| panic!("said {line:?}"));
        let address = address.split(' ').next().unwrap().to_owned();
        Self { child, address, line }
    }

    fn request(&self, method_and_path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("{method_and_path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// SIGTERM, then the exit code.
    #[expect(unsafe_code, reason = "std has no way to send SIGTERM")]
    fn stop(mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: kill has no memory effects; the child is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn it_starts_answers_and_stops() {
    let folder = Folder::new("starts");
    let server = Server::start(&folder, &[]);
    assert!(server.line.starts_with("antiphon: listening on http://127.0.0.1:"), "{}", server.line);
    assert!(server.line.contains("(media udp "), "{}", server.line);
    assert!(server.request("GET /readyz", "").starts_with("HTTP/1.1 200"));
    assert!(server.request("GET /r/demo", "").contains("<!doctype html>"));
    assert!(server.request("POST /v1/rooms/demo/guest-token", "Content-Length: 0\r\n").contains("\"token\""));

    let key = folder.0.join("signing.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let output = antiphon()
        .args(["token", "--room", "r", "--grants", "moderate", "--ttl", "1m", "--data"])
        .arg(&folder.0)
        .output()
        .unwrap();
    let token = text(&output).0;
    let authorization = format!("Authorization: Bearer {}\r\n", token.trim());
    let answer = server.request("GET /v1/rooms/r", &authorization);
    assert!(answer.starts_with("HTTP/1.1 404"), "the token is good, the room is empty: {answer}");
    assert!(server.request("GET /v1/rooms/s", &authorization).starts_with("HTTP/1.1 403"));

    let secret = fs::read(&key).unwrap();
    assert_eq!(server.stop(), Some(0));
    let again = Server::start(&folder, &["--config", "/dev/null"]);
    assert_eq!(fs::read(&key).unwrap(), secret, "the key stays");
    assert!(again.request("GET /v1/rooms/r", &authorization).starts_with("HTTP/1.1 404"));
}

#[test]
fn wrong_settings_end_the_start_with_the_name_of_the_key() {
    let folder = Folder::new("wrong");
    fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("a.toml");
    fs::write(&file, "[guests]\nroom = ['demo']\n").unwrap();
    let file = file.to_str().unwrap();
    let rows: [(&[&str], &str); 5] = [
        (&["serve", "--http", "nowhere"], "--http"),
        (&["serve", "--shards", "many"], "--shards"),
        (&["serve", "--config", file], "room"),
        (&["serve", "--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (&["token", "--room", "a b"], "room name"),
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
fn the_printed_default_is_a_file_that_serves() {
    let folder = Folder::new("printed");
    fs::create_dir_all(&folder.0).unwrap();
    let printed = antiphon().args(["config", "print-default"]).output().unwrap();
    let file = folder.0.join("default.toml");
    fs::write(&file, &printed.stdout).unwrap();
    let server = Server::start(&folder, &["--config", file.to_str().unwrap()]);
    assert!(server.request("GET /livez", "").starts_with("HTTP/1.1 200"));
}
