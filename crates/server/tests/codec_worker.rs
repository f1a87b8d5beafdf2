//! The binary as its own codec worker.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

fn antiphon(argument: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_antiphon"));
    command.arg(argument);
    command
}

#[test]
fn it_is_not_for_people() {
    let output: Output = antiphon("codec-worker").stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("started by the server"), "{output:?}");
    let help = antiphon("--help").output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("codec-worker"), "{help:?}");
}

#[test]
fn it_ends_when_the_server_hangs_up() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut worker = antiphon("codec-worker").stdin(OwnedFd::from(theirs)).spawn().unwrap();
    drop(ours);
    assert_eq!(worker.wait().unwrap().success(), cfg!(feature = "av1"));
}
