//! Thin UDP layer: recvmmsg() with kernel receive timestamps and drop counters.
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

pub const BATCH: usize = 64;
const MTU: usize = 1700;
const CTRL: usize = 128;

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

/// Bind a UDP socket with a large receive buffer, kernel timestamps and drop counter.
pub fn bind_udp(ip: Ipv4Addr, rcvbuf: usize) -> io::Result<UdpSocket> {
    let s = UdpSocket::bind(SocketAddrV4::new(ip, 0))?;
    s.set_nonblocking(true)?;
    let fd = s.as_raw_fd();
    if !setsockopt_i32(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, rcvbuf as i32) {
        setsockopt_i32(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, rcvbuf as i32);
    }
    setsockopt_i32(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
    setsockopt_i32(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    Ok(s)
}

/// Reusable receive buffers for one thread.
pub struct RecvBatch {
    bufs: Vec<[u8; MTU]>,
    ctrl: Vec<[u8; CTRL]>,
    addrs: Vec<libc::sockaddr_in>,
    iovs: Vec<libc::iovec>,
    msgs: Vec<libc::mmsghdr>,
}

pub struct Datagram<'a> {
    pub data: &'a [u8],
    pub from: SocketAddr,
    /// Kernel receive time, CLOCK_REALTIME ns (0 if absent).
    pub rx_ns: u64,
    /// Cumulative number of datagrams dropped on this socket (receive queue overflow).
    pub drops: Option<u32>,
}

impl RecvBatch {
    pub fn new() -> Self {
        RecvBatch {
            bufs: vec![[0; MTU]; BATCH],
            ctrl: vec![[0; CTRL]; BATCH],
            // SAFETY: an all-zero sockaddr_in is a valid one.
            addrs: vec![unsafe { mem::zeroed() }; BATCH],
            iovs: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH],
            // SAFETY: an all-zero mmsghdr (null pointers, zero lengths) is a valid one.
            msgs: vec![unsafe { mem::zeroed() }; BATCH],
        }
    }

    /// Returns how many datagrams were read (0 = would block).
    pub fn recv(&mut self, fd: RawFd) -> io::Result<usize> {
        for i in 0..BATCH {
            self.iovs[i] =
                libc::iovec { iov_base: self.bufs[i].as_mut_ptr() as *mut libc::c_void, iov_len: MTU };
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

    pub fn get(&self, i: usize) -> Datagram<'_> {
        let m = &self.msgs[i];
        let a = &self.addrs[i];
        let ip = Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr));
        let from = SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(a.sin_port)));
        let mut rx_ns = 0;
        let mut drops = None;
        // SAFETY: the kernel filled this header's control buffer; the CMSG macros stay inside its length.
        unsafe {
            let mut c = libc::CMSG_FIRSTHDR(&m.msg_hdr);
            while !c.is_null() {
                if (*c).cmsg_level == libc::SOL_SOCKET {
                    let d = libc::CMSG_DATA(c);
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
        Datagram { data: &self.bufs[i][..m.msg_len as usize], from, rx_ns, drops }
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
