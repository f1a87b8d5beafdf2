//! Under which addresses peers reach us: what of the machine's addresses is told to them, what stands for an address
//! behind a NAT, and in which order (RFC 8445, 5.1.2; RFC 6544, 4.2; RFC 8421). Reasons: `docs/design/reachability.md`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{External, Interfaces, Reachability};
use crate::transport::Transport;

/// Type preference of UDP host candidates (RFC 8445, 5.1.2.2), and of TCP ones: below all of UDP's, as browsers have it.
const TYPE_UDP: u32 = 126;
const TYPE_TCP: u32 = 90;
/// Direction preference of passive TCP candidates (RFC 6544, 4.2), in the upper three bits of the local preference.
const DIRECTION_PASSIVE: u32 = 4 << 13;
/// Most addresses told: each is a line of the answer, and a check that every client makes.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interface {
    pub(crate) ip: IpAddr,
    pub(crate) name: String,
}

/// A candidate of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    pub(crate) priority: u32,
}

/// What a shard's peers are told, and what packets that come to other addresses are taken for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    told: Vec<Told>,
    mapped: Vec<External>,
}

impl Reach {
    /// Candidates for these addresses, best first, at the ports that peers connect to. `None`: not by that protocol.
    pub(crate) fn new(addresses: &[IpAddr], mapped: &[External], udp: Option<u16>, tcp: Option<u16>) -> Self {
        let mut told = Vec::new();
        for (transport, port) in [(Transport::Udp, udp), (Transport::Tcp, tcp)] {
            let Some(port) = port else { continue };
            for (place, ip) in (0..).zip(addresses) {
                let address = SocketAddr::new(*ip, port);
                told.push(Told { transport, address, priority: priority(transport, place) });
            }
        }
        Self { told, mapped: mapped.to_vec() }
    }

    /// In the order of their priorities.
    pub(crate) fn told(&self) -> &[Told] {
        &self.told
    }

    /// The candidate that a packet to `destination` belongs to. It is another address where a NAT stands between: the one
    /// that stands for it, or else the best of its family. ICE knows candidates only.
    pub(crate) fn candidate(&self, transport: Transport, destination: SocketAddr) -> SocketAddr {
        let of = |t: &&Told| t.transport == transport && t.address.is_ipv4() == destination.is_ipv4();
        let told = || self.told.iter().filter(of).map(|t| t.address);
        let outside = self.mapped.iter().find(|e| e.inside == Some(destination.ip())).map(|e| e.outside);
        let same = told().find(|a| a.ip() == destination.ip());
        same.or_else(|| told().find(|a| Some(a.ip()) == outside))
            .or_else(|| told().next())
            .unwrap_or(destination)
    }
}

/// RFC 8445, 5.1.2.1 for the address in this place of the order.
fn priority(transport: Transport, place: u32) -> u32 {
    let (kind, local) = match transport {
        Transport::Udp => (TYPE_UDP, 65_535_u32.saturating_sub(place)),
        Transport::Tcp => (TYPE_TCP, DIRECTION_PASSIVE + 8_191_u32.saturating_sub(place)),
    };
    // Component 1, the only one with rtcp-mux.
    (kind << 24) + (local << 8) + 255
}

/// The addresses to tell, best first, for a socket bound to `bound`.
pub(crate) fn addresses(reach: &Reachability, bound: IpAddr, interfaces: &[Interface]) -> Vec<IpAddr> {
    if !reach.announce.is_empty() {
        return ordered(reach.announce.clone());
    }
    let own: Vec<IpAddr> = if bound.is_unspecified() {
        let usable = |i: &&Interface| (i.ip.is_ipv4() || bound.is_ipv6()) && !is_link_local(i.ip);
        let usable: Vec<&Interface> = interfaces.iter().filter(usable).collect();
        let chosen: Vec<IpAddr> =
            usable.iter().filter(|i| reach.interfaces.has(&i.name)).map(|i| i.ip).collect();
        // A server that tells nothing can be reached by nobody.
        let lonely = reach.interfaces.include.is_empty() && chosen.iter().all(IpAddr::is_loopback);
        if lonely { usable.iter().map(|i| i.ip).collect() } else { chosen }
    } else {
        vec![bound]
    };
    let outside = reach.external.iter().filter(|e| own.iter().any(|ip| e.stands_for(*ip))).map(|e| e.outside);
    ordered(outside.chain(own.iter().copied()).collect())
}

/// Public addresses first, loopback last; in each class the families take turns, IPv6 first (RFC 8421, section 4).
fn ordered(all: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut keyed: Vec<((u8, usize, bool), IpAddr)> = Vec::new();
    for ip in all {
        if keyed.iter().any(|(_, known)| *known == ip) {
            continue;
        }
        let class = class(ip);
        let before = keyed.iter().filter(|((c, ..), k)| *c == class && k.is_ipv4() == ip.is_ipv4()).count();
        keyed.push(((class, before, ip.is_ipv4()), ip));
    }
    keyed.sort();
    keyed.into_iter().map(|(_, ip)| ip).take(MAX_ADDRESSES).collect()
}

fn class(ip: IpAddr) -> u8 {
    let private = match ip {
        IpAddr::V4(v4) => v4.is_private() || is_shared(v4),
        IpAddr::V6(v6) => v6.is_unique_local(),
    };
    match ip {
        ip if ip.is_loopback() => 2,
        _ if private => 1,
        _ => 0,
    }
}

/// Addresses of carriers' NATs (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [100, 64..=127, ..])
}

/// They mean something on one link only, and browsers and str0m refuse them.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

impl Interfaces {
    /// Whether the addresses of an interface of that name are told.
    fn has(&self, name: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|pattern| matches(pattern, name));
        (self.include.is_empty() || listed(&self.include)) && !listed(&self.exclude)
    }
}

/// A name, or its beginning before `*`.
fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

impl External {
    /// Whether the outside address leads to this one of ours.
    fn stands_for(&self, ip: IpAddr) -> bool {
        let any = self.inside.is_none() && !ip.is_loopback() && ip.is_ipv4() == self.outside.is_ipv4();
        self.inside == Some(ip) || any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
    }

    fn interfaces(text: &str) -> Vec<Interface> {
        let one = |pair: &str| {
            let (name, ip) = pair.split_once('=').unwrap();
            Interface { ip: ip.parse().unwrap(), name: name.into() }
        };
        text.split_whitespace().map(one).collect()
    }

    #[track_caller]
    fn check(reach: &Reachability, bound: &str, machine: &str, told: &str) {
        assert_eq!(addresses(reach, bound.parse().unwrap(), &interfaces(machine)), ips(told));
    }

    const MACHINE: &str = "lo=127.0.0.1 lo=::1 eth0=10.0.0.5 eth0=fd00::2 eth0=fe80::1 eth0=2001:db8::5 \
        eth1=203.0.113.9 eth1=169.254.1.1 docker0=172.17.0.1";

    #[test]
    fn public_addresses_come_first_and_families_take_turns() {
        let reach = Reachability::default();
        check(&reach, "::", MACHINE, "2001:db8::5 203.0.113.9 fd00::2 10.0.0.5 ::1 127.0.0.1");
        check(&reach, "0.0.0.0", MACHINE, "203.0.113.9 10.0.0.5 127.0.0.1");
        check(&reach, "10.0.0.5", MACHINE, "10.0.0.5");
    }

    #[test]
    fn announced_addresses_stand_instead_of_all() {
        let announce = ips("198.51.100.1 198.51.100.1 2001:db8::9");
        check(
            &Reachability { announce, ..Reachability::default() },
            "::",
            MACHINE,
            "2001:db8::9 198.51.100.1",
        );
    }

    #[test]
    fn external_addresses_stand_beside_those_they_lead_to() {
        let with =
            |text: &str| Reachability { external: vec![text.parse().unwrap()], ..Reachability::default() };
        let machine = "lo=127.0.0.1 eth0=10.0.0.5 eth1=10.0.1.5";
        check(&with("198.51.100.1"), "0.0.0.0", machine, "198.51.100.1 10.0.0.5 10.0.1.5 127.0.0.1");
        check(&with("10.0.1.5/198.51.100.1"), "10.0.0.5", machine, "10.0.0.5");
        check(&with("10.0.1.5/198.51.100.1"), "10.0.1.5", machine, "198.51.100.1 10.0.1.5");
        for wrong in ["x", "10.0.0.1/", "10.0.0.1/::1", "1.1.1.1/2.2.2.2/3.3.3.3"] {
            assert!(wrong.parse::<External>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn interfaces_are_chosen_by_name() {
        let with = |include: &[&str], exclude: &[&str]| {
            let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
            let interfaces = Interfaces { include: list(include), exclude: list(exclude) };
            Reachability { interfaces, ..Reachability::default() }
        };
        check(&with(&["eth1"], &[]), "0.0.0.0", MACHINE, "203.0.113.9");
        check(&with(&["eth*"], &["eth1"]), "0.0.0.0", MACHINE, "10.0.0.5");
        // In a container whose only interface has such a name, it is told all the same.
        check(&Reachability::default(), "0.0.0.0", "lo=127.0.0.1 veth0=172.17.0.2", "172.17.0.2 127.0.0.1");
        check(&with(&["wg0"], &[]), "0.0.0.0", MACHINE, "");
    }

    #[test]
    fn udp_is_better_than_tcp_and_no_two_priorities_are_the_same() {
        let reach = Reach::new(&ips("2001:db8::5 203.0.113.9"), &[], Some(7_701), Some(443));
        let told: Vec<_> =
            reach.told().iter().map(|t| (t.transport, t.address.to_string(), t.priority)).collect();
        assert_eq!(
            told,
            [
                (Transport::Udp, "[2001:db8::5]:7701".into(), (126 << 24) + (65_535 << 8) + 255),
                (Transport::Udp, "203.0.113.9:7701".into(), (126 << 24) + (65_534 << 8) + 255),
                (Transport::Tcp, "[2001:db8::5]:443".into(), (90 << 24) + (40_959 << 8) + 255),
                (Transport::Tcp, "203.0.113.9:443".into(), (90 << 24) + (40_958 << 8) + 255),
            ]
        );
    }

    #[test]
    fn packets_behind_a_nat_belong_to_the_address_that_was_told() {
        let mapped = ["10.0.1.5/198.51.100.2".parse().unwrap()];
        let reach = Reach::new(&ips("198.51.100.1 198.51.100.2 10.0.0.5"), &mapped, Some(7_701), Some(443));
        let udp = |to: &str| reach.candidate(Transport::Udp, to.parse().unwrap()).to_string();
        assert_eq!(udp("10.0.0.5:7701"), "10.0.0.5:7701");
        assert_eq!(udp("10.0.1.5:7701"), "198.51.100.2:7701");
        assert_eq!(udp("10.9.9.9:7701"), "198.51.100.1:7701");
        assert_eq!(udp("[::1]:7701"), "[::1]:7701");
        // The port that peers connect to may be another, too.
        assert_eq!(reach.candidate(Transport::Tcp, "10.0.0.5:7443".parse().unwrap()).port(), 443);
    }
}
