//! A decoder in a process of its own, for a library that can end its process on a stranger's bytes.
//!
//! The worker is this program again, started with a hidden argument ([`Launch`]), which makes it call [`serve`]. It
//! gets one access unit at a time over a socket, which is its standard input, and answers before it gets the next, so
//! nothing queues. It knows nothing: its environment is empty, it holds no other file, and it ends with the thread that
//! started it, at the latest.
//! When it dies, hangs or talks nonsense, that is an error of this track's access unit; the next key frame starts
//! another one, but no more than [`MAX_RESTARTS`] in [`RESTART_WINDOW`].
//!
//! This is the one place of the crate with a clock, a socket and a process: how long another process takes cannot be
//! an argument.

mod message;
mod serve;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use antiphon_base::VideoCodec;

use self::message::{Answer, LENGTH, MAX_ANSWER};
use super::DecodeError;
use crate::picture::I420;

pub use serve::serve;

/// The most workers of one server: as many 720p decodes as eight fast cores do. Over it a track is not decoded.
pub const MAX_WORKERS: usize = 64;
/// A worker that died is replaced this often in [`RESTART_WINDOW`]: one bad picture costs one, a hostile sender no more.
pub const MAX_RESTARTS: usize = 3;
/// See [`MAX_RESTARTS`].
pub const RESTART_WINDOW: Duration = Duration::from_secs(10);
/// How long a worker may take for an access unit: milliseconds are usual, and a loaded machine stalls for a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a codec worker ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Death {
    /// It could not be started.
    #[error("did not start")]
    NotStarted,
    /// It took too long for an access unit.
    #[error("hung")]
    Hung,
    /// Its answer broke the protocol.
    #[error("gave a malformed answer")]
    Malformed,
    /// It exited with this code.
    #[error("exited with code {0}")]
    Exited(i32),
    /// A signal ended it; 6 is an abort.
    #[error("was ended by signal {0}")]
    Signal(i32),
}

/// What became of all workers of a [`Launch`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Workers {
    /// How many run.
    pub running: usize,
    /// How many have been started.
    pub started: u64,
    /// How many have died before their time.
    pub died: u64,
}

/// How codec workers are started: a program that calls [`serve`] when it gets these arguments. Clones count together.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    running: AtomicUsize,
    started: AtomicU64,
    died: AtomicU64,
}

impl Launch {
    /// This program again, also where its file has been replaced since.
    pub fn this_program(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { program: "/proc/self/exe".into(), arguments, counts: Arc::default() }
    }

    /// What became of them.
    pub fn workers(&self) -> Workers {
        let Counts { running, started, died } = &*self.counts;
        Workers {
            running: running.load(Ordering::Relaxed),
            started: started.load(Ordering::Relaxed),
            died: died.load(Ordering::Relaxed),
        }
    }

    fn start(&self) -> Result<Running, DecodeError> {
        let seat = Seat::take(&self.counts).ok_or(DecodeError::GaveUp)?;
        let not_started = |_| {
            self.counts.died.fetch_add(1, Ordering::Relaxed);
            DecodeError::WorkerDied(Death::NotStarted)
        };
        let (ours, theirs) = UnixStream::pair().map_err(not_started)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg0("antiphon-codec-worker").env_clear();
        // What the library prints about a stranger's bytes is the stranger's to choose: not for our log.
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(not_started)?;
        self.counts.started.fetch_add(1, Ordering::Relaxed);
        Ok(Running { child, socket: ours, _seat: seat })
    }
}

/// One of [`MAX_WORKERS`].
struct Seat(Arc<Counts>);

impl Seat {
    fn take(counts: &Arc<Counts>) -> Option<Self> {
        let more = |n: usize| (n < MAX_WORKERS).then_some(n + 1);
        counts.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(counts)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Running {
    child: Child,
    socket: UnixStream,
    _seat: Seat,
}

impl Running {
    /// Sends the message `unit` and reads one into `answer`.
    fn exchange(&mut self, unit: &[u8], answer: &mut Vec<u8>, deadline: Instant) -> Result<(), Fault> {
        self.write(unit, deadline)?;
        let mut head = [0; LENGTH];
        self.read(&mut head, deadline)?;
        answer.resize(message::length(head, MAX_ANSWER).map_err(|_| Fault::Malformed)?, 0);
        self.read(answer, deadline)
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Fault> {
        while !bytes.is_empty() {
            self.socket.set_write_timeout(Some(left(deadline)?))?;
            bytes = &bytes[moved(self.socket.write(bytes))?..];
        }
        Ok(())
    }

    fn read(&mut self, mut into: &mut [u8], deadline: Instant) -> Result<(), Fault> {
        while !into.is_empty() {
            self.socket.set_read_timeout(Some(left(deadline)?))?;
            let n = match self.socket.read(into) {
                Ok(0) => return Err(Fault::Gone),
                result => moved(result)?,
            };
            into = &mut into[n..];
        }
        Ok(())
    }

    /// Ends it and says how it ended.
    fn bury(mut self, fault: Fault) -> Death {
        // One that hung up may still run; the status of one that was exiting by itself stays what it was.
        let status = self.child.kill().and_then(|()| self.child.wait());
        match (fault, status) {
            (Fault::Hung, _) => Death::Hung,
            (Fault::Gone, Ok(status)) => {
                status.signal().map_or(Death::Exited(status.code().unwrap_or(-1)), Death::Signal)
            }
            (Fault::Malformed, _) | (Fault::Gone, Err(_)) => Death::Malformed,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has been buried already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why an exchange came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Gone,
    Hung,
    Malformed,
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Hung,
            _ => Self::Gone,
        }
    }
}

/// The time to the deadline, which is never zero: that would mean for ever to a socket.
fn left(deadline: Instant) -> Result<Duration, Fault> {
    let left = deadline.saturating_duration_since(clock());
    if left.is_zero() { Err(Fault::Hung) } else { Ok(left) }
}

/// How many bytes a socket took or gave.
fn moved(result: std::io::Result<usize>) -> Result<usize, Fault> {
    match result {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
        result => Ok(result?),
    }
}

/// How often its worker has died lately.
#[derive(Debug, Default)]
struct Deaths(Vec<Instant>);

impl Deaths {
    fn add(&mut self, now: Instant) {
        self.0.push(now);
    }

    /// Whether another worker may be started.
    fn allow_another(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.saturating_duration_since(*at) < RESTART_WINDOW);
        self.0.len() <= MAX_RESTARTS
    }
}

/// The decoder of one track; its process starts with the first access unit and ends with it.
pub(super) struct Decoder {
    codec: VideoCodec,
    launch: Launch,
    running: Option<Running>,
    deaths: Deaths,
    patience: Duration,
    number: u32,
    unit: Vec<u8>,
    answer: Vec<u8>,
}

impl Decoder {
    pub(super) fn new(codec: VideoCodec, launch: Launch) -> Self {
        let (unit, answer) = (Vec::new(), Vec::new());
        let (deaths, patience) = (Deaths::default(), PATIENCE);
        Self { codec, launch, running: None, deaths, patience, number: 0, unit, answer }
    }

    /// [`DecodeError::GaveUp`] while workers have died too often.
    pub(super) fn ready(&mut self) -> Result<(), DecodeError> {
        if self.running.is_some() || self.deaths.allow_another(clock()) {
            return Ok(());
        }
        Err(DecodeError::GaveUp)
    }

    /// Decodes an access unit that begins with a key frame if the worker is new.
    pub(super) fn decode(&mut self, unit: &[u8]) -> Result<Option<I420<'_>>, DecodeError> {
        self.ready()?;
        self.number = self.number.wrapping_add(1);
        message::write_unit(self.number, unit, &mut self.unit);
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.launch.start().inspect_err(|_| self.deaths.add(clock()))?,
        };
        let exchanged = running.exchange(&self.unit, &mut self.answer, clock() + self.patience);
        let parsed = exchanged.and_then(|()| {
            let (number, answer) =
                message::parse_answer(self.codec, &self.answer).map_err(|_| Fault::Malformed)?;
            if number == self.number { Ok(answer) } else { Err(Fault::Malformed) }
        });
        match parsed {
            Ok(answer) => {
                self.running = Some(running);
                self.picture(answer)
            }
            Err(fault) => {
                self.deaths.add(clock());
                self.launch.counts.died.fetch_add(1, Ordering::Relaxed);
                Err(DecodeError::WorkerDied(running.bury(fault)))
            }
        }
    }

    fn picture(&self, answer: Answer) -> Result<Option<I420<'_>>, DecodeError> {
        match answer {
            Answer::Picture { width, height, colour } => {
                let planes = &self.answer[Answer::PLANES..];
                I420::from_tight(width, height, planes, colour).map(Some).map_err(|_| DecodeError::TooLarge)
            }
            Answer::Nothing => Ok(None),
            Answer::Failed(error) => Err(error),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long another process takes cannot be an argument")]
fn clock() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
