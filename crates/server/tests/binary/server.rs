//! The binary, run with a folder of its own, and plain requests to it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

/// An offer as a small client sends it: one microphone, one audio slot, one video slot, the control channel.
pub(crate) const OFFER: &str = include_str!("../../../api/tests/http/offer.sdp");
/// What its lines say as ICE password.
pub(crate) const OFFER_PASSWORD: &str = "abcdefghijklmnopqrstuvwx";
/// No answer takes this long; a test that waits for one must end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of its own for each test, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("antiphon-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The server's data folder, made by it.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// The path of a file in it with this text.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The binary, untouched by the environment of whoever runs the tests.
pub(crate) fn antiphon() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_antiphon"));
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("ANTIPHON_")) {
        command.env_remove(name);
    }
    command
}

/// A token as the command prints it.
pub(crate) fn token(folder: &Folder, arguments: &[&str]) -> String {
    let output = antiphon().arg("token").args(arguments).arg("--data").arg(folder.data()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output).0.trim().to_owned()
}

/// A running server, killed at the end if it did not stop by itself.
pub(crate) struct Server {
    child: Child,
    /// Kept open: the server may write to it.
    _stdout: BufReader<ChildStdout>,
    /// Host and port of HTTP.
    pub(crate) address: String,
    /// Its first line.
    pub(crate) line: String,
}

impl Server {
    pub(crate) fn start(folder: &Folder, arguments: &[&str]) -> Self {
        Self::start_with(folder, arguments, |_| {})
    }

    /// `change` may add to the command, as variables.
    pub(crate) fn start_with(folder: &Folder, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = antiphon();
        command
            .args(["serve", "--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--shards", "2", "--data"])
            .arg(folder.data())
            .args(arguments)
            .stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.split("://").nth(1).unwrap_or_else(|| panic!("said {line:?}"));
        let address = address.split(' ').next().unwrap().to_owned();
        Self { child, _stdout: stdout, address, line }
    }

    /// A connection that gives up after [`PATIENCE`].
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One request without a body. `header` is whole lines.
    pub(crate) fn request(&self, method_and_path: &str, header: &str) -> String {
        exchange(&mut self.connect(), method_and_path, header, "")
    }

    /// Joins `room`; the whole answer.
    pub(crate) fn join(&self, room: &str, token: &str) -> String {
        join(&mut self.connect(), room, token)
    }

    #[expect(unsafe_code, reason = "std has no way to send a signal")]
    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: kill has no memory effects; the child is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for the end.
    pub(crate) fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// What it writes to standard error; once, and where the command pipes it.
    pub(crate) fn stderr(&mut self) -> impl Read + use<> {
        self.child.stderr.take().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection, which ends with it. `header` is whole lines.
pub(crate) fn exchange(
    stream: &mut (impl Read + Write),
    method_and_path: &str,
    header: &str,
    body: &str,
) -> String {
    let length = body.len();
    let head = format!(
        "{method_and_path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{header}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Joins `room` on a connection; the whole answer.
pub(crate) fn join(stream: &mut (impl Read + Write), room: &str, token: &str) -> String {
    let header = format!("Authorization: Bearer {token}\r\nContent-Type: application/sdp\r\n");
    exchange(stream, &format!("POST /v1/rooms/{room}/participants"), &header, OFFER)
}

/// The value of a header of an answer.
pub(crate) fn header_of(answer: &str, name: &str) -> String {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {answer:?}"));
    let mut lines = head.lines().filter_map(|l| l.split_once(": "));
    let found = lines.find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.unwrap_or_else(|| panic!("no {name}: {answer}")).1.to_owned()
}

/// Standard output and error as text.
pub(crate) fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
