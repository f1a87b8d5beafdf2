//! Batch sending: the packets of one wake-up as one array of messages, by UDP GSO (udp(7), `UDP_SEGMENT`) or one by one.

use std::mem;
use std::os::fd::RawFd;

/// Messages per system call.
const MESSAGES: usize = 64;
/// Room for one `UDP_SEGMENT` control message, aligned as `cmsghdr` wants it.
const CONTROL_WORDS: usize = 4;

/// How packets are given to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// All packets of a receiver in one message.
    Gso,
    /// One message per packet.
    Sendmmsg,
}

/// An address on loopback.
pub fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

/// The packets of one wake-up: equal sizes, the same number for each receiver.
pub struct Batch {
    mode: Mode,
    bytes: Vec<u8>,
    to: Vec<libc::sockaddr_in>,
    size: usize,
    per_receiver: usize,
    control: [u64; CONTROL_WORDS],
}

impl Batch {
    pub fn new(mode: Mode) -> Batch {
        Batch { mode, bytes: vec![], to: vec![], size: 0, per_receiver: 0, control: [0; CONTROL_WORDS] }
    }

    /// Begins a wake-up: `per_receiver` packets of `size` bytes for each receiver that follows.
    pub fn start(&mut self, size: usize, per_receiver: usize) {
        self.bytes.clear();
        self.to.clear();
        (self.size, self.per_receiver) = (size, per_receiver);
    }

    /// Where the next packets go.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The packets appended since the last call are for this receiver.
    pub fn close_receiver(&mut self, to: libc::sockaddr_in) {
        self.to.push(to);
    }

    /// Sends everything; gives the number of packets.
    pub fn send(&mut self, fd: RawFd) -> u64 {
        let (message_bytes, per_receiver) = match self.mode {
            Mode::Gso => (self.size * self.per_receiver, 1),
            Mode::Sendmmsg => (self.size, self.per_receiver),
        };
        let segmented = self.mode == Mode::Gso && self.per_receiver > 1;
        if segmented {
            self.write_segment_size();
        }
        let control = self.control.as_mut_ptr();
        let mut iovecs: Vec<libc::iovec> = self
            .bytes
            .chunks_exact_mut(message_bytes)
            .map(|m| libc::iovec { iov_base: m.as_mut_ptr().cast(), iov_len: m.len() })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(iovecs.len());
        for (i, iov) in iovecs.iter_mut().enumerate() {
            // SAFETY: an all-zero mmsghdr (null pointers, zero lengths) is a valid one.
            let mut h: libc::mmsghdr = unsafe { mem::zeroed() };
            h.msg_hdr.msg_name = (&raw mut self.to[i / per_receiver]).cast();
            h.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
            h.msg_hdr.msg_iov = iov;
            h.msg_hdr.msg_iovlen = 1;
            if segmented {
                h.msg_hdr.msg_control = control.cast();
                h.msg_hdr.msg_controllen = segment_control_bytes() as _;
            }
            headers.push(h);
        }
        let mut sent = 0;
        for some in headers.chunks_mut(MESSAGES) {
            // SAFETY: the headers point at `bytes`, `to`, `control` and `iovecs`, which outlive the call.
            let n = unsafe { libc::sendmmsg(fd, some.as_mut_ptr(), some.len() as u32, 0) };
            sent += u64::try_from(n).unwrap_or(0);
        }
        sent * (message_bytes / self.size) as u64
    }

    fn write_segment_size(&mut self) {
        let cmsg: *mut libc::cmsghdr = self.control.as_mut_ptr().cast();
        let size = u16::try_from(self.size).expect("a packet is shorter than a datagram");
        // SAFETY: `control` is aligned for a cmsghdr and larger than one with two bytes of data.
        unsafe {
            (*cmsg).cmsg_level = libc::SOL_UDP;
            (*cmsg).cmsg_type = libc::UDP_SEGMENT;
            (*cmsg).cmsg_len = libc::CMSG_LEN(2) as _;
            libc::CMSG_DATA(cmsg).cast::<u16>().write_unaligned(size);
        }
    }
}

fn segment_control_bytes() -> usize {
    // SAFETY: arithmetic only.
    unsafe { libc::CMSG_SPACE(2) as usize }
}
