//! The codec worker's side: access units from standard input, which is a socket, answers back by the same.
#![allow(unsafe_code, reason = "prctl, setrlimit and close_range have no safe wrapper in std")]

use std::io::{Error, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::message::{self, LENGTH, MAX_UNIT};
#[cfg(feature = "av1")]
use crate::video::av1::Decoder as Library;

/// Decodes what the server sends until it hangs up. The caller's `main` does nothing else: see [`super::Launch`].
pub fn serve() -> std::io::Result<()> {
    confine()?;
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr().map_err(|_| {
        Error::new(ErrorKind::InvalidInput, "a codec worker is started by the server, not by hand")
    })?;
    answer_all(&socket)
}

/// Ends with the server even inside a decoder that never returns, leaves no core files of people's pictures behind, and
/// lets go of files that whoever started the server left open for it.
pub(super) fn confine() -> std::io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: closes what is above standard error, before this process has opened anything of its own. Linux has it since
    // 5.9; before that such files stay open.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    // SAFETY: prctl with these arguments takes no pointer; setrlimit reads `none` during the call.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0
            || libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::setrlimit(libc::RLIMIT_CORE, &raw const none) != 0
    };
    if failed { Err(Error::last_os_error()) } else { Ok(()) }
}

fn answer_all(mut socket: &UnixStream) -> std::io::Result<()> {
    let mut decoder = Library::new().map_err(Error::other)?;
    let (mut unit, mut answer) = (Vec::new(), Vec::new());
    loop {
        let mut head = [0; LENGTH];
        match socket.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        }
        let malformed = |_| Error::from(ErrorKind::InvalidData);
        unit.resize(message::length(head, MAX_UNIT).map_err(malformed)?, 0);
        socket.read_exact(&mut unit)?;
        let (number, bytes) = message::parse_unit(&unit).map_err(malformed)?;
        message::write_answer(number, decoder.decode(bytes), &mut answer);
        socket.write_all(&answer)?;
    }
}

/// In a build without AV1 no worker is ever started ([`crate::video::Decoders::with_workers`]).
#[cfg(not(feature = "av1"))]
enum Library {}

#[cfg(not(feature = "av1"))]
impl Library {
    fn new() -> Result<Self, crate::video::DecodeError> {
        Err(crate::video::DecodeError::Unsupported(antiphon_base::VideoCodec::Av1))
    }

    fn decode(
        &mut self,
        _unit: &[u8],
    ) -> Result<Option<crate::picture::I420<'_>>, crate::video::DecodeError> {
        match *self {}
    }
}
