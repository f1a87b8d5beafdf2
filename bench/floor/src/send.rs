//! Batch sending: the packets of one wake-up as one array of messages, by UDP GSO (udp(7), `UDP_SEGMENT`) or one by one.

use std::mem;
use std::os::fd::RawFd;

/// Messages per system call.
const MESSAGES: usize = 64;
/// Room for one `UDP_SEGMENT` control message, aligned as `cmsghdr` wants it.
const CONTROL_WORDS: usize = 4;

/// Most segments and bytes of one message (`UDP_MAX_SEGMENTS`; below the 16-bit length of UDP).
const MAX_SEGMENTS: usize = 64;
const MAX_SEGMENTED_BYTES: usize = 65_000;
const RECEIVE_BUFFER: libc::c_int = 4 << 20;
const UDP_GRO: libc::c_int = 104;

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

/// The receiving side as `sfuload` has it: a large buffer, and joined datagrams if `gro`.
pub fn prepare_receiver(fd: RawFd, gro: bool) {
    let set = |level, name, value: libc::c_int| {
        let size = mem::size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` lives through the call and has the size given.
        unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) }
    };
    if set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER) != 0 {
        set(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER);
    }
    set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
    set(libc::SOL_UDP, UDP_GRO, libc::c_int::from(gro));
}

/// The packets of one wake-up, one behind the other.
pub struct Batch {
    mode: Mode,
    bytes: Vec<u8>,
    /// Each packet's receiver and where it ends in `bytes`.
    packets: Vec<(libc::sockaddr_in, usize)>,
    messages: Vec<Message>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

/// Packets of one receiver that leave together.
struct Message {
    to: libc::sockaddr_in,
    bytes: std::ops::Range<usize>,
    size: usize,
    packets: usize,
    control: [u64; CONTROL_WORDS],
}

impl Batch {
    pub fn new(mode: Mode) -> Batch {
        Batch { mode, bytes: vec![], packets: vec![], messages: vec![], iovecs: vec![], headers: vec![] }
    }

    /// Where the next packet goes.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What was appended since the last call is a packet for this receiver.
    pub fn close_packet(&mut self, to: libc::sockaddr_in) {
        self.packets.push((to, self.bytes.len()));
    }

    /// Sends everything; gives the number of packets.
    pub fn send(&mut self, fd: RawFd) -> u64 {
        self.form_messages();
        self.iovecs.clear();
        self.headers.clear();
        for m in &self.messages {
            let part = &mut self.bytes[m.bytes.clone()];
            self.iovecs.push(libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
        }
        for (m, iov) in self.messages.iter_mut().zip(&mut self.iovecs) {
            // SAFETY: an all-zero mmsghdr (null pointers, zero lengths) is a valid one.
            let mut h: libc::mmsghdr = unsafe { mem::zeroed() };
            h.msg_hdr.msg_name = (&raw mut m.to).cast();
            h.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
            h.msg_hdr.msg_iov = iov;
            h.msg_hdr.msg_iovlen = 1;
            if m.packets > 1 {
                write_segment_size(&mut m.control, m.size);
                h.msg_hdr.msg_control = m.control.as_mut_ptr().cast();
                h.msg_hdr.msg_controllen = segment_control_bytes() as _;
            }
            self.headers.push(h);
        }
        let mut sent = 0;
        for (headers, messages) in self.headers.chunks_mut(MESSAGES).zip(self.messages.chunks(MESSAGES)) {
            // SAFETY: the headers point at `bytes`, `messages` and `iovecs`, which outlive the call.
            let n = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), headers.len() as u32, 0) };
            let n = usize::try_from(n).unwrap_or(0);
            sent += messages[..n].iter().map(|m| m.packets as u64).sum::<u64>();
        }
        self.bytes.clear();
        self.packets.clear();
        sent
    }

    /// Neighbours to one receiver of one size are one message; the last may be shorter.
    fn form_messages(&mut self) {
        self.messages.clear();
        let mut start = 0;
        for &(to, end) in &self.packets {
            let size = end - start;
            let joins = |m: &&mut Message| {
                self.mode == Mode::Gso
                    && m.to.sin_port == to.sin_port
                    && m.bytes.len() == m.size * m.packets
                    && size <= m.size
                    && m.packets < MAX_SEGMENTS
                    && m.bytes.len() + size <= MAX_SEGMENTED_BYTES
            };
            match self.messages.last_mut().filter(joins) {
                Some(m) => {
                    m.bytes.end = end;
                    m.packets += 1;
                }
                None => {
                    let control = [0; CONTROL_WORDS];
                    self.messages.push(Message { to, bytes: start..end, size, packets: 1, control });
                }
            }
            start = end;
        }
    }
}

fn write_segment_size(control: &mut [u64; CONTROL_WORDS], size: usize) {
    let cmsg: *mut libc::cmsghdr = control.as_mut_ptr().cast();
    let size = u16::try_from(size).expect("a packet is shorter than a datagram");
    // SAFETY: `control` is aligned for a cmsghdr and larger than one with two bytes of data.
    unsafe {
        (*cmsg).cmsg_level = libc::SOL_UDP;
        (*cmsg).cmsg_type = libc::UDP_SEGMENT;
        (*cmsg).cmsg_len = libc::CMSG_LEN(2) as _;
        libc::CMSG_DATA(cmsg).cast::<u16>().write_unaligned(size);
    }
}

fn segment_control_bytes() -> usize {
    // SAFETY: arithmetic only.
    unsafe { libc::CMSG_SPACE(2) as usize }
}
