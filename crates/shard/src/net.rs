//! Batch socket calls: recvmmsg, sendmmsg with UDP segmentation offload, epoll, eventfd, interface addresses.
//!
//! Each type here is safe to use.
#![expect(unsafe_code, reason = "recvmmsg, sendmmsg, cmsg and epoll have no safe interface in std")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "sizes of C structs, address families and batches are small"
)]

use std::io;
use std::mem;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket,
};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::egress::Arena;
use crate::egress::arena::Datagram;
use crate::reach::Interface;
use crate::transport::Transport;

mod steering;

/// Datagrams read by one call.
pub(crate) const RECV_BATCH: usize = 64;
/// Longest datagram taken: above the MTU of Ethernet; what is longer is not WebRTC.
const RECV_BYTES: usize = 2_048;
/// Messages sent by one call.
const SEND_BATCH: usize = 64;
/// Most segments the kernel takes in one message (UDP_MAX_SEGMENTS).
const MAX_SEGMENTS: usize = 64;
/// Most bytes of one segmented message, below the 16-bit length of UDP with room for headers.
const MAX_SEGMENTED_BYTES: usize = 65_000;
/// Room for the control messages of one datagram: packet info and segment size.
const CONTROL_BYTES: usize = 128;
/// Kernel buffers asked for: a keyframe to 1,000 subscribers fits.
const SOCKET_BUFFER_BYTES: libc::c_int = 8 << 20;
/// Connections that wait to be accepted; a flood of them is refused by the kernel.
const LISTEN_BACKLOG: libc::c_int = 1_024;
/// Bytes of a stream that the kernel keeps unsent: 100 ms at 2.5 Mbit/s.
const MAX_UNSENT_BYTES: libc::c_int = 32 << 10;
/// What one wait tells at most; the rest is told by the next.
const READY_BATCH: usize = 64;

/// A bound UDP socket, its buffers for one thread, and what it could not send.
pub(crate) struct Socket {
    socket: UdpSocket,
    /// Gets what is RTCP, where the kernel can sort.
    rtcp: Option<UdpSocket>,
    local: SocketAddr,
    recv: RecvBuffers,
    out: SendBuffers,
    /// Datagrams the kernel would not take.
    pub(crate) send_dropped: u64,
    segmentation: bool,
}

struct RecvBuffers {
    bytes: Vec<[u8; RECV_BYTES]>,
    control: Vec<[u64; CONTROL_BYTES / 8]>,
    addresses: Vec<libc::sockaddr_storage>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// How many headers the kernel has written to since they were prepared.
    used: usize,
}

// SAFETY: the raw pointers in `vectors` and `headers` point into the buffers of the sibling vectors, which are never
// resized and move with them.
unsafe impl Send for RecvBuffers {}

/// Processor time that this thread has used, in user and kernel mode.
pub(crate) fn thread_time() -> std::time::Duration {
    // SAFETY: zeroes are a valid timespec.
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    // SAFETY: it points to a live timespec. The clock is there on all Linux, so the call does not fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    std::time::Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// What one `sendmmsg` is given, kept for the next.
#[derive(Default)]
struct SendBuffers {
    messages: Vec<Range<usize>>,
    control: Vec<[u64; CONTROL_BYTES / 8]>,
    addresses: Vec<(libc::sockaddr_storage, libc::socklen_t)>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the raw pointers in `vectors` and `headers` are written anew before each call, and never outlive it.
unsafe impl Send for SendBuffers {}

/// A received datagram.
pub(crate) struct Received<'a> {
    pub(crate) transport: Transport,
    pub(crate) bytes: &'a [u8],
    pub(crate) source: SocketAddr,
    /// The local address it was sent to.
    pub(crate) destination: SocketAddr,
}

impl Socket {
    /// Binds `address`; `[::]` takes IPv4, too, and alone where there is no IPv6.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::from(bound(usable(address), libc::SOCK_DGRAM, None)?);
        let local = socket.local_addr()?;
        prepare_datagrams(&socket, local)?;
        let rtcp = steering::second(&socket, local)
            .and_then(|rtcp| prepare_datagrams(&rtcp, local).map(|()| rtcp))
            .inspect_err(|error| tracing::warn!(%error, "RTCP gets no socket of its own"))
            .ok();
        let (recv, out) = (RecvBuffers::new(), SendBuffers::default());
        Ok(Self { socket, rtcp, local, recv, out, send_dropped: 0, segmentation: true })
    }

    /// The bound address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Where RTCP comes in, if not with everything else.
    pub(crate) fn rtcp_fd(&self) -> Option<RawFd> {
        self.rtcp.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Reads what is there, at most [`RECV_BATCH`] datagrams. 0: nothing.
    pub(crate) fn recv(&mut self) -> io::Result<usize> {
        self.recv_from(self.socket.as_raw_fd())
    }

    /// The same of the RTCP that comes in apart.
    pub(crate) fn recv_rtcp(&mut self) -> io::Result<usize> {
        self.rtcp_fd().map_or(Ok(0), |fd| self.recv_from(fd))
    }

    fn recv_from(&mut self, fd: RawFd) -> io::Result<usize> {
        self.recv.prepare();
        // SAFETY: the headers point to live buffers of the lengths given (`prepare`); the fd is open.
        let n = unsafe {
            libc::recvmmsg(
                fd,
                self.recv.headers.as_mut_ptr(),
                RECV_BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(n) {
            Ok(n) => {
                self.recv.used = n;
                Ok(n)
            }
            Err(_) => {
                let e = io::Error::last_os_error();
                match e.raw_os_error() {
                    Some(libc::EAGAIN | libc::ECONNREFUSED | libc::EINTR) => Ok(0),
                    _ => Err(e),
                }
            }
        }
    }

    /// Datagram `i` of the last read; `None` where the kernel gave no usable address.
    pub(crate) fn received(&self, i: usize) -> Option<Received<'_>> {
        let header = self.recv.headers.get(i)?;
        let bytes = self.recv.bytes.get(i)?.get(..header.msg_len as usize)?;
        let source = read_address(self.recv.addresses.get(i)?)?;
        let ip = destination_ip(&header.msg_hdr).unwrap_or(self.local.ip());
        let destination = SocketAddr::new(ip, self.local.port());
        Some(Received { transport: Transport::Udp, bytes, source, destination })
    }

    /// Sends all; neighbours to one destination of one size leave as one segmented message. What the kernel does
    /// not take is dropped and counted, as on any full link.
    pub(crate) fn send(&mut self, arena: &Arena) {
        let datagrams = arena.datagrams();
        let mut out = mem::take(&mut self.out);
        let mut at = 0;
        while at < datagrams.len() {
            out.messages.clear();
            while out.messages.len() < SEND_BATCH && at < datagrams.len() {
                let end = if self.segmentation { run_end(datagrams, at) } else { at + 1 };
                out.messages.push(at..end);
                at = end;
            }
            self.send_messages(arena, &mut out);
        }
        self.out = out;
    }

    /// Sends `out.messages`.
    fn send_messages(&mut self, arena: &Arena, out: &mut SendBuffers) {
        let datagrams = arena.datagrams();
        out.addresses.clear();
        out.vectors.clear();
        out.headers.clear();
        if out.control.len() < out.messages.len() {
            out.control.resize(out.messages.len(), [0; CONTROL_BYTES / 8]);
        }
        for range in &out.messages {
            let first = &datagrams[range.start];
            // Neighbours lie next to each other in the arena: one piece of memory holds the whole run.
            let run = &arena.bytes()[first.range.start..datagrams[range.end - 1].range.end];
            out.vectors.push(libc::iovec { iov_base: run.as_ptr() as *mut _, iov_len: run.len() });
            out.addresses.push(write_address(first.destination));
        }
        // Bound to one address, the kernel knows the source: naming it again costs a route lookup per message.
        let names_source = self.local.ip().is_unspecified();
        let parts = out.addresses.iter_mut().zip(&mut out.vectors).zip(&mut out.control);
        for (range, ((address, vector), control)) in out.messages.iter().zip(parts) {
            let first = &datagrams[range.start];
            // SAFETY: all-zero is a valid mmsghdr.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = (&raw mut address.0).cast();
            header.msg_hdr.msg_namelen = address.1;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            let source = if names_source { first.source } else { Ipv4Addr::UNSPECIFIED.into() };
            let segment = (range.len() > 1).then_some(first.range.len());
            header.msg_hdr.msg_controllen = write_control(&mut header.msg_hdr, source, segment) as _;
            out.headers.push(header);
        }
        self.send_headers(arena, &out.messages, &mut out.headers);
    }

    fn send_headers(&mut self, arena: &Arena, messages: &[Range<usize>], headers: &mut [libc::mmsghdr]) {
        let mut done = 0;
        while done < headers.len() {
            // SAFETY: headers, vectors, addresses and control live in the caller's frame for the length of the call.
            let n = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    headers[done..].as_mut_ptr(),
                    (headers.len() - done) as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if let Ok(n) = usize::try_from(n) {
                done += n.max(1);
                continue;
            }
            // The error belongs to message `done`; go on behind it.
            let error = io::Error::last_os_error().raw_os_error();
            let range = messages[done].clone();
            if error == Some(libc::EIO) && range.len() > 1 {
                // The interface cannot segment: this once by hand, and never again in one message.
                self.segmentation = false;
                let messages = range.map(|i| i..i + 1).collect();
                self.send_messages(arena, &mut SendBuffers { messages, ..SendBuffers::default() });
            } else if error != Some(libc::EINTR) {
                self.send_dropped += range.len() as u64;
            } else {
                continue;
            }
            done += 1;
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// End of the run of datagrams from `at` that can leave as one message: same way, same size, the last may be shorter.
pub(crate) fn run_end(datagrams: &[Datagram], at: usize) -> usize {
    let first = &datagrams[at];
    let size = first.range.len();
    let mut bytes = size;
    let mut end = at + 1;
    while let Some(d) = datagrams.get(end) {
        // What goes into a TCP stream may lie between them.
        let adjacent = d.range.start == first.range.start + bytes;
        let same = d.destination == first.destination && d.source == first.source && d.range.len() <= size;
        bytes += d.range.len();
        if !same || !adjacent || end - at >= MAX_SEGMENTS || bytes > MAX_SEGMENTED_BYTES {
            break;
        }
        end += 1;
        if d.range.len() < size {
            break;
        }
    }
    end
}

impl RecvBuffers {
    fn new() -> Self {
        // SAFETY: all-zero is a valid value of these C structs.
        let (address, vector, header) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        let mut new = Self {
            bytes: vec![[0; RECV_BYTES]; RECV_BATCH],
            control: vec![[0; CONTROL_BYTES / 8]; RECV_BATCH],
            addresses: vec![address; RECV_BATCH],
            vectors: vec![vector; RECV_BATCH],
            headers: vec![header; RECV_BATCH],
            used: RECV_BATCH,
        };
        for i in 0..RECV_BATCH {
            new.vectors[i] = libc::iovec { iov_base: new.bytes[i].as_mut_ptr().cast(), iov_len: RECV_BYTES };
            let h = &mut new.headers[i].msg_hdr;
            h.msg_name = (&raw mut new.addresses[i]).cast();
            h.msg_iov = &raw mut new.vectors[i];
            h.msg_iovlen = 1;
            h.msg_control = new.control[i].as_mut_ptr().cast();
        }
        new
    }

    /// Gives back to the headers what the last call has changed.
    fn prepare(&mut self) {
        for i in 0..mem::take(&mut self.used) {
            let h = &mut self.headers[i].msg_hdr;
            h.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as u32;
            h.msg_controllen = CONTROL_BYTES as _;
            h.msg_flags = 0;
        }
    }
}

/// Room for many datagrams, and told with each to which address it came.
fn prepare_datagrams(socket: &UdpSocket, local: SocketAddr) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set_option(fd, libc::SOL_SOCKET, force, SOCKET_BUFFER_BYTES).is_err() {
            set_option(fd, libc::SOL_SOCKET, plain, SOCKET_BUFFER_BYTES)?;
        }
    }
    if local.is_ipv4() {
        set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    } else {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    }
}

/// Listens for TCP at `address`, as [`Socket::bind`] does; accepting does not block.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    // Connections of an earlier run may still be closing.
    let fd = bound(usable(address), libc::SOCK_STREAM, Some(libc::SO_REUSEADDR))?;
    // SAFETY: a plain system call on an open descriptor.
    if unsafe { libc::listen(fd.as_raw_fd(), LISTEN_BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpListener::from(fd))
}

/// Makes a stream one for media: nothing blocks, nothing waits to be filled up, and little lies in the kernel unsent, where
/// it would only become old.
pub(crate) fn prepare_stream(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    set_option(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
}

/// How many descriptors this process may have. The system lets it have few unless it asks, and each TCP connection is one.
pub(crate) fn descriptors() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through the call, which fills it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `wanted` lives through the call, which reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0 {
        limit = wanted;
    }
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// IPv4 for all interfaces where the system has no IPv6.
fn usable(address: SocketAddr) -> SocketAddr {
    let any = address.is_ipv6() && address.ip().is_unspecified();
    match any && UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err() {
        true => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()),
        false => address,
    }
}

/// A socket that does not block, bound to `address`, which it shares as this option says.
fn bound(address: SocketAddr, kind: libc::c_int, shares: Option<libc::c_int>) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a plain system call; the result is checked before it is owned.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the fd is fresh and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if address.is_ipv6() && address.ip().is_unspecified() {
        set_option(fd.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    if let Some(option) = shares {
        set_option(fd.as_raw_fd(), libc::SOL_SOCKET, option, 1)?;
    }
    let (storage, length) = write_address(address);
    // SAFETY: `storage` lives through the call and holds an address of `length` bytes.
    if unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// `T`: what the option is said to take, socket(7).
fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<()> {
    let size = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` lives through the call and has the size given.
    let r = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read_address(a: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(a.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in.
            let a = unsafe { &*(&raw const *a).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr));
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(a.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds a sockaddr_in6.
            let a = unsafe { &*(&raw const *a).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(a.sin6_addr.s6_addr);
            let port = u16::from_be(a.sin6_port);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
                None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, a.sin6_scope_id)),
            })
        }
        _ => None,
    }
}

fn write_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let length = match address {
        SocketAddr::V4(a) => {
            // SAFETY: a sockaddr_storage is large and aligned enough for a sockaddr_in.
            let s = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            s.sin_family = libc::AF_INET as _;
            s.sin_port = a.port().to_be();
            s.sin_addr.s_addr = u32::from(*a.ip()).to_be();
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(a) => {
            // SAFETY: a sockaddr_storage is large and aligned enough for a sockaddr_in6.
            let s = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            s.sin6_family = libc::AF_INET6 as _;
            s.sin6_port = a.port().to_be();
            s.sin6_addr.s6_addr = a.ip().octets();
            s.sin6_scope_id = a.scope_id();
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

/// The address a datagram was sent to, from its packet-info control message.
fn destination_ip(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has filled `msg_controllen` bytes of control messages; the CMSG macros stay inside them.
    unsafe {
        let mut c = libc::CMSG_FIRSTHDR(header);
        while !c.is_null() {
            let data = libc::CMSG_DATA(c);
            if (*c).cmsg_level == libc::IPPROTO_IP && (*c).cmsg_type == libc::IP_PKTINFO {
                let info = std::ptr::read_unaligned(data.cast::<libc::in_pktinfo>());
                return Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))));
            }
            if (*c).cmsg_level == libc::IPPROTO_IPV6 && (*c).cmsg_type == libc::IPV6_PKTINFO {
                let info = std::ptr::read_unaligned(data.cast::<libc::in6_pktinfo>());
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                return Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4));
            }
            c = libc::CMSG_NXTHDR(header, c);
        }
    }
    None
}

/// Writes packet info and segment size; gives the bytes used.
fn write_control(header: &mut libc::msghdr, source: IpAddr, segment: Option<usize>) -> usize {
    let mut used = 0;
    // SAFETY: the caller's control buffer has CONTROL_BYTES bytes, enough for both messages; the CMSG macros walk it.
    unsafe {
        let mut c = libc::CMSG_FIRSTHDR(header);
        match source {
            IpAddr::V4(ip) if !ip.is_unspecified() => {
                let mut info: libc::in_pktinfo = mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                used += put(c, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
                c = libc::CMSG_NXTHDR(header, c);
            }
            IpAddr::V6(ip) if !ip.is_unspecified() => {
                let mut info: libc::in6_pktinfo = mem::zeroed();
                info.ipi6_addr.s6_addr = ip.octets();
                used += put(c, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
                c = libc::CMSG_NXTHDR(header, c);
            }
            _ => {}
        }
        if let Some(size) = segment.and_then(|s| u16::try_from(s).ok()) {
            used += put(c, libc::SOL_UDP, libc::UDP_SEGMENT, &size);
        }
    }
    used
}

/// Fills one control message and gives the space it takes.
///
/// # Safety
/// `c` points to room for a control message of `T`.
unsafe fn put<T: Copy>(c: *mut libc::cmsghdr, level: libc::c_int, kind: libc::c_int, value: &T) -> usize {
    let size = mem::size_of::<T>() as libc::c_uint;
    // SAFETY: the caller vouches for the room behind `c`.
    unsafe {
        (*c).cmsg_level = level;
        (*c).cmsg_type = kind;
        (*c).cmsg_len = libc::CMSG_LEN(size) as _;
        std::ptr::write_unaligned(libc::CMSG_DATA(c).cast::<T>(), *value);
        libc::CMSG_SPACE(size) as usize
    }
}

/// An eventfd: rings across threads.
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a plain system call; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the fd is fresh and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes whoever waits.
    pub(crate) fn ring(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from a live u64. A full counter still wakes, so the result does not matter.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Back to quiet. `false`: it was.
    pub(crate) fn clear(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: eight bytes are written into a live u64. Nothing to read is fine.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
        read == 8
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An epoll set. It tells what is there as long as it is there.
pub(crate) struct Epoll(OwnedFd);

/// What to wait for, beside the end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Something to read.
    Read,
    /// Something to read, or room to write.
    Write,
    /// Something to read, told to one of the sets that wait for it.
    Shared,
}

/// Something that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) writable: bool,
}

impl Epoll {
    /// Waits for something to read from any of `fds`; their tokens are their places.
    pub(crate) fn new(fds: &[RawFd]) -> io::Result<Self> {
        // SAFETY: a plain system call; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the fd is fresh and nobody else's.
        let epoll = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        for (token, &watched) in (0..).zip(fds) {
            epoll.add(watched, token, Interest::Read)?;
        }
        Ok(epoll)
    }

    /// Waits for one more.
    pub(crate) fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Waits for something else of it.
    pub(crate) fn change(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Waits for it no more.
    pub(crate) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::Read)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let events = libc::EPOLLIN
            | match interest {
                Interest::Read => 0,
                Interest::Write => libc::EPOLLOUT,
                Interest::Shared => libc::EPOLLEXCLUSIVE,
            };
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: `event` lives through the call.
        match unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until something is there or the time is over; what is there, [`READY_BATCH`] at most.
    pub(crate) fn wait(&self, timeout: std::time::Duration) -> impl Iterator<Item = Ready> + use<> {
        let millis = timeout.as_micros().div_ceil(1_000).min(60_000);
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY_BATCH];
        // SAFETY: `events` has room for the events asked for. An interrupted wait is just a short one.
        let n = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                READY_BATCH as libc::c_int,
                libc::c_int::try_from(millis).unwrap_or(60_000),
            )
        };
        let ready = |e: libc::epoll_event| Ready {
            token: e.u64,
            writable: e.events & libc::EPOLLOUT.cast_unsigned() != 0,
        };
        events.into_iter().take(usize::try_from(n).unwrap_or(0)).map(ready)
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Addresses of the interfaces that are up, loopback included.
pub(crate) fn interfaces() -> io::Result<Vec<Interface>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs fills the pointer or fails.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut at = list;
    // SAFETY: the list is walked as the manual says, and freed once, after the last use.
    unsafe {
        while !at.is_null() {
            let entry = &*at;
            if !entry.ifa_addr.is_null() && entry.ifa_flags & libc::IFF_UP as u32 != 0 {
                let name = std::ffi::CStr::from_ptr(entry.ifa_name).to_string_lossy().into_owned();
                let family = libc::c_int::from((*entry.ifa_addr).sa_family);
                if family == libc::AF_INET {
                    let a = &*entry.ifa_addr.cast::<libc::sockaddr_in>();
                    let ip = IpAddr::V4(Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr)));
                    found.push(Interface { ip, name });
                } else if family == libc::AF_INET6 {
                    let a = &*entry.ifa_addr.cast::<libc::sockaddr_in6>();
                    found.push(Interface { ip: IpAddr::V6(Ipv6Addr::from(a.sin6_addr.s6_addr)), name });
                }
            }
            at = entry.ifa_next;
        }
        libc::freeifaddrs(list);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Path;

    fn batch(datagrams: &[(u16, usize)]) -> Arena {
        let mut arena = Arena::default();
        for &(to, size) in datagrams {
            let destination = SocketAddr::from(([127, 0, 0, 1], to));
            let (transport, source) = (Transport::Udp, Ipv4Addr::LOCALHOST.into());
            arena.push(Path { transport, source, destination }, &vec![7; size]);
        }
        arena
    }

    #[test]
    fn runs_end_where_destination_or_size_changes() {
        let arena = batch(&[(1, 10), (1, 10), (1, 4), (1, 10), (2, 10), (2, 11)]);
        let d = arena.datagrams();
        assert_eq!((run_end(d, 0), run_end(d, 3), run_end(d, 4), run_end(d, 5)), (3, 4, 5, 6));
    }

    #[test]
    fn segmented_datagrams_arrive_one_by_one() {
        let mut a = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut b = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = b.local().port();
        let sizes = [1_000, 1_000, 1_000, 300, 1_000, 50];
        a.send(&batch(&sizes.map(|s| (to, s))));
        assert_eq!(a.send_dropped, 0);
        assert!(a.segmentation, "loopback segments: nothing was sent by hand");
        let epoll = Epoll::new(&[b.as_raw_fd()]).unwrap();
        let mut seen = Vec::new();
        while seen.len() < sizes.len() {
            assert!(epoll.wait(std::time::Duration::from_secs(10)).next().is_some(), "nothing came");
            let n = b.recv().unwrap();
            for i in 0..n {
                let r = b.received(i).unwrap();
                assert_eq!(r.source, a.local());
                assert_eq!(r.destination, b.local());
                seen.push(r.bytes.len());
            }
        }
        assert_eq!(seen, sizes);
    }

    /// Skips, and says so past the capture of the output, where the machine has no IPv6.
    #[test]
    fn one_socket_speaks_both_families_with_plain_addresses() {
        if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            let _ = io::Write::write_all(&mut io::stderr(), b"SKIPPED: this machine has no IPv6\n");
            return;
        }
        let mut socket = Socket::bind("[::]:0".parse().unwrap()).unwrap();
        let epoll = Epoll::new(&[socket.as_raw_fd()]).unwrap();
        for local in ["127.0.0.1", "::1"] {
            let ip: IpAddr = local.parse().unwrap();
            let client = UdpSocket::bind((ip, 0)).unwrap();
            client.send_to(b"hello", (ip, socket.local().port())).unwrap();
            assert!(epoll.wait(std::time::Duration::from_secs(10)).next().is_some(), "nothing came");
            assert_eq!(socket.recv().unwrap(), 1);
            let received = socket.received(0).unwrap();
            assert_eq!(received.source, client.local_addr().unwrap());
            assert_eq!(received.destination, SocketAddr::new(ip, socket.local().port()));
            // Back by the way it came, in one message of several datagrams.
            let path = Path { transport: Transport::Udp, source: ip, destination: received.source };
            let mut arena = Arena::default();
            (0..3).for_each(|_| arena.push(path, &[7; 900]));
            socket.send(&arena);
            for _ in 0..3 {
                let (n, from) = client.recv_from(&mut [0; 2_048]).unwrap();
                assert_eq!((n, from), (900, SocketAddr::new(ip, socket.local().port())));
            }
        }
        assert_eq!(socket.send_dropped, 0);
    }

    #[test]
    fn what_goes_by_tcp_does_not_break_a_run() {
        let destination = SocketAddr::from(([127, 0, 0, 1], 1));
        let path = |transport| Path { transport, source: Ipv4Addr::LOCALHOST.into(), destination };
        let mut arena = Arena::default();
        for transport in [Transport::Udp, Transport::Udp, Transport::Tcp, Transport::Udp] {
            arena.push(path(transport), &[7; 100]);
        }
        let d = arena.datagrams();
        assert_eq!((d.len(), arena.by_tcp().len()), (3, 1));
        assert_eq!((run_end(d, 0), run_end(d, 2)), (2, 3));
    }
}
