//! Thin UDP layer: recvmmsg() with receive offload, kernel receive timestamps and drop counters; sendmmsg().
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

/// Messages read by one call.
pub const BATCH: usize = 32;
/// A message of joined datagrams has at most the length of a UDP datagram.
const MESSAGE: usize = 1 << 16;
const CTRL: usize = 128;
/// `UDP_GRO`, which libc names for Linux only since late.
const UDP_GRO: i32 = 104;

/// CLOCK_REALTIME in nanoseconds (same clock as SO_TIMESTAMPNS).
pub fn realtime_ns() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

fn setsockopt_i32(fd: RawFd, level: i32, opt: i32, val: i32) -> bool {
    // SAFETY: the option value is an i32 that lives through the call, and its size is given.
    let r = unsafe {
        libc::setsockopt(
            fd,
            level,
            opt,
            &val as *const i32 as *const libc::c_void,
            mem::size_of::<i32>() as u32,
        )
    };
    r == 0
}

/// How sockets of peers are made.
#[derive(Clone, Copy)]
pub struct SocketPlan {
    pub ip: Ipv4Addr,
    pub rcvbuf: usize,
    /// Datagrams that were sent as one segmented message come as one.
    pub gro: bool,
}

/// Bind a UDP socket with a large receive buffer, kernel timestamps and drop counter.
pub fn bind_udp(plan: SocketPlan) -> io::Result<UdpSocket> {
    let SocketPlan { ip, rcvbuf, gro } = plan;
    let s = UdpSocket::bind(SocketAddrV4::new(ip, 0))?;
    s.set_nonblocking(true)?;
    let fd = s.as_raw_fd();
    if !setsockopt_i32(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, rcvbuf as i32) {
        setsockopt_i32(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, rcvbuf as i32);
    }
    setsockopt_i32(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
    setsockopt_i32(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    if gro && !setsockopt_i32(fd, libc::SOL_UDP, UDP_GRO, 1) {
        return Err(io::Error::last_os_error());
    }
    Ok(s)
}

/// Reusable receive buffers for one thread.
pub struct RecvBatch {
    bufs: Vec<[u8; MESSAGE]>,
    ctrl: Vec<[u8; CTRL]>,
    addrs: Vec<libc::sockaddr_in>,
    iovs: Vec<libc::iovec>,
    msgs: Vec<libc::mmsghdr>,
}

pub struct Message<'a> {
    pub data: &'a [u8],
    /// Bytes of each datagram in it; the last may be shorter.
    pub segment: usize,
    pub from: SocketAddr,
    /// Kernel receive time, CLOCK_REALTIME ns (0 if absent).
    pub rx_ns: u64,
    /// Cumulative number of datagrams dropped on this socket (receive queue overflow).
    pub drops: Option<u32>,
}

impl<'a> Message<'a> {
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> {
        self.data.chunks(self.segment.max(1))
    }
}

impl RecvBatch {
    pub fn new() -> Self {
        RecvBatch {
            bufs: vec![[0; MESSAGE]; BATCH],
            ctrl: vec![[0; CTRL]; BATCH],
            // SAFETY: an all-zero sockaddr_in is a valid one.
            addrs: vec![unsafe { mem::zeroed() }; BATCH],
            iovs: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH],
            // SAFETY: an all-zero mmsghdr (null pointers, zero lengths) is a valid one.
            msgs: vec![unsafe { mem::zeroed() }; BATCH],
        }
    }

    /// Returns how many messages were read (0 = would block).
    pub fn recv(&mut self, fd: RawFd) -> io::Result<usize> {
        for i in 0..BATCH {
            self.iovs[i] =
                libc::iovec { iov_base: self.bufs[i].as_mut_ptr() as *mut libc::c_void, iov_len: MESSAGE };
            let h = &mut self.msgs[i].msg_hdr;
            h.msg_name = &mut self.addrs[i] as *mut _ as *mut libc::c_void;
            h.msg_namelen = mem::size_of::<libc::sockaddr_in>() as u32;
            h.msg_iov = &mut self.iovs[i];
            h.msg_iovlen = 1;
            h.msg_control = self.ctrl[i].as_mut_ptr() as *mut libc::c_void;
            h.msg_controllen = CTRL;
            h.msg_flags = 0;
        }
        // SAFETY: the loop above pointed every header at buffers of `self` that outlive the call, with their sizes.
        let n = unsafe {
            libc::recvmmsg(
                fd,
                self.msgs.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if n < 0 {
            let e = io::Error::last_os_error();
            return match e.raw_os_error() {
                Some(libc::EAGAIN) | Some(libc::ECONNREFUSED) | Some(libc::EINTR) => Ok(0),
                _ => Err(e),
            };
        }
        Ok(n as usize)
    }

    pub fn get(&self, i: usize) -> Message<'_> {
        let m = &self.msgs[i];
        let a = &self.addrs[i];
        let ip = Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr));
        let from = SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(a.sin_port)));
        let mut rx_ns = 0;
        let mut drops = None;
        let mut segment = m.msg_len as usize;
        // SAFETY: the kernel filled this header's control buffer; the CMSG macros stay inside its length.
        unsafe {
            let mut c = libc::CMSG_FIRSTHDR(&m.msg_hdr);
            while !c.is_null() {
                let d = libc::CMSG_DATA(c);
                if (*c).cmsg_level == libc::SOL_UDP && (*c).cmsg_type == UDP_GRO {
                    segment = std::ptr::read_unaligned(d as *const i32).max(1) as usize;
                }
                if (*c).cmsg_level == libc::SOL_SOCKET {
                    if (*c).cmsg_type == libc::SCM_TIMESTAMPNS {
                        let ts = std::ptr::read_unaligned(d as *const libc::timespec);
                        rx_ns = ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64;
                    } else if (*c).cmsg_type == libc::SO_RXQ_OVFL {
                        drops = Some(std::ptr::read_unaligned(d as *const u32));
                    }
                }
                c = libc::CMSG_NXTHDR(&m.msg_hdr, c);
            }
        }
        Message { data: &self.bufs[i][..m.msg_len as usize], segment, from, rx_ns, drops }
    }
}

/// Sends datagrams by as few calls as possible: what is given at once shall arrive at once.
pub fn send_all(fd: RawFd, datagrams: &mut [(SocketAddr, Vec<u8>)]) {
    for some in datagrams.chunks_mut(BATCH) {
        let mut addresses: Vec<libc::sockaddr_in> = some.iter().map(|(to, _)| sockaddr(*to)).collect();
        let mut iovs: Vec<libc::iovec> = some
            .iter_mut()
            .map(|(_, d)| libc::iovec { iov_base: d.as_mut_ptr().cast(), iov_len: d.len() })
            .collect();
        let mut msgs: Vec<libc::mmsghdr> = addresses
            .iter_mut()
            .zip(&mut iovs)
            .map(|(address, iov)| {
                // SAFETY: an all-zero mmsghdr (null pointers, zero lengths) is a valid one.
                let mut m: libc::mmsghdr = unsafe { mem::zeroed() };
                m.msg_hdr.msg_name = (&raw mut *address).cast();
                m.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_in>() as u32;
                m.msg_hdr.msg_iov = iov;
                m.msg_hdr.msg_iovlen = 1;
                m
            })
            .collect();
        // SAFETY: headers, addresses, vectors and bytes live in this frame and the caller's. What the kernel does not take
        // is lost, as on any full link.
        unsafe { libc::sendmmsg(fd, msgs.as_mut_ptr(), msgs.len() as u32, 0) };
    }
}

fn sockaddr(to: SocketAddr) -> libc::sockaddr_in {
    let SocketAddr::V4(to) = to else { unreachable!("the sockets are IPv4") };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// Minimal epoll wrapper.
pub struct Epoll {
    fd: RawFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 256] })
    }
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let mut e = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `e` lives through the call.
        if unsafe { libc::epoll_ctl(self.fd, libc::EPOLL_CTL_ADD, fd, &mut e) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: no pointers that matter; the kernel ignores the event.
        unsafe { libc::epoll_ctl(self.fd, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }
    pub fn wait(&mut self, timeout_ms: i32, out: &mut Vec<usize>) {
        out.clear();
        // SAFETY: the kernel writes at most `events.len()` events.
        let n = unsafe {
            libc::epoll_wait(self.fd, self.events.as_mut_ptr(), self.events.len() as i32, timeout_ms)
        };
        for i in 0..n.max(0) as usize {
            out.push(self.events[i].u64 as usize);
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and is closed once.
        unsafe { libc::close(self.fd) };
    }
}
