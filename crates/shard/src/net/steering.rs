//! A second socket at the same address, to which the kernel gives what is RTCP.
//!
//! Receivers report often, and nobody waits for a report as for media: whoever has them apart can leave them for some
//! milliseconds. The kernel sorts by a classic BPF program over the payload (socket(7), `SO_ATTACH_REUSEPORT_CBPF`).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use super::{bound, set_option};
use crate::demux::{MEDIA, RTCP};

/// The sockets by their order in the group.
const FIRST: u32 = 0;
const SECOND: u32 = 1;

/// The second socket for what `first` gets, which is bound to `address` and did not share it with anybody.
pub(super) fn second(first: &UdpSocket, address: SocketAddr) -> io::Result<UdpSocket> {
    // Only after it was bound: whoever else has the port, another server, say, made that fail.
    set_option(first.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    let second = UdpSocket::from(bound(address, libc::SOCK_DGRAM, Some(libc::SO_REUSEPORT))?);
    let mut program = program();
    let attached = libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    set_option(first.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, attached)?;
    Ok(second)
}

/// Gives the place of the socket. A datagram too short for a load ends the program with 0, the first.
fn program() -> [libc::sock_filter; 8] {
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at: u32| op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at, 0, 0);
    let jump = |comparison: u32, k: u8, jt: u8, jf: u8| {
        op(libc::BPF_JMP | comparison | libc::BPF_K, k.into(), jt, jf)
    };
    let at_least = |k: &u8, jt, jf| jump(libc::BPF_JGE, *k, jt, jf);
    let above = |k: &u8, jt, jf| jump(libc::BPF_JGT, *k, jt, jf);
    let give = |k: u32| op(libc::BPF_RET | libc::BPF_K, k, 0, 0);
    [
        load(0),
        at_least(MEDIA.start(), 0, 4),
        above(MEDIA.end(), 3, 0),
        load(1),
        at_least(RTCP.start(), 0, 1),
        above(RTCP.end(), 0, 1),
        give(FIRST),
        give(SECOND),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{Epoll, Socket};
    use std::net::UdpSocket;
    use std::time::Duration;

    const WAIT: Duration = Duration::from_secs(10);

    fn all_of(first_byte: &[u8], second_byte: &[u8]) -> Vec<[u8; 12]> {
        let mut all = Vec::new();
        for &a in first_byte {
            for &b in second_byte {
                let mut datagram = [0; 12];
                (datagram[0], datagram[1]) = (a, b);
                all.push(datagram);
            }
        }
        all
    }

    #[test]
    fn the_second_gets_rtcp_and_nothing_else() {
        for local in ["127.0.0.1:0", "[::]:0"] {
            let mut socket = Socket::bind(local.parse().unwrap()).unwrap();
            let (port, second) = (socket.local().port(), socket.rtcp_fd().expect("a second socket"));
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = ("127.0.0.1", port);
            let rtcp = all_of(&[0x80, 0x8f, 0xbf], &[192, 200, 206, 223]);
            let media = all_of(&[0x80, 0x90, 0xbf], &[96, 111, 191, 224, 255]);
            let others = all_of(&[0, 1, 20, 63, 64, 127, 192, 255], &[200, 0]);
            for datagram in rtcp.iter().chain(&media).chain(&others) {
                client.send_to(datagram, to).unwrap();
            }
            client.send_to(&[0x80], to).unwrap();
            client.send_to(&[], to).unwrap();
            let (mut by_first, mut by_second) = (Vec::new(), Vec::new());
            let epoll = Epoll::new(&[second]).unwrap();
            while by_second.len() < rtcp.len() {
                assert!(epoll.wait(WAIT).next().is_some(), "nothing came");
                let n = socket.recv_rtcp().unwrap();
                by_second.extend((0..n).map(|i| socket.received(i).unwrap().bytes.to_vec()));
            }
            while let n @ 1.. = socket.recv().unwrap() {
                by_first.extend((0..n).map(|i| socket.received(i).unwrap().bytes.to_vec()));
            }
            assert_eq!(by_second, rtcp);
            assert_eq!(by_first.len(), media.len() + others.len() + 2);
            assert_eq!(socket.recv_rtcp().unwrap(), 0);
        }
    }

    #[test]
    fn nobody_else_gets_the_port() {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(Socket::bind(socket.local()).is_err());
        assert!(UdpSocket::bind(socket.local()).is_err());
    }
}
