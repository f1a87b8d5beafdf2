//! Whose request it is where a proxy stands before the server.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies in a row that are believed.
const MAX_HOPS: usize = 8;

/// The address of the client: the peer's own unless the peer is trusted; then the last one in `X-Forwarded-For` that is not
/// trusted. What stands before it a client may have written.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.contains(address);
    if !is_trusted(&peer) {
        return peer;
    }
    // Several headers are one list (RFC 9110, 5.3).
    let lines = headers.get_all(FORWARDED_FOR).iter().rev().map(|v| v.to_str().unwrap_or_default());
    let hops = lines.flat_map(|line| line.rsplit(',')).take(MAX_HOPS);
    let mut last = peer;
    for hop in hops {
        // What is no address ends what can be believed.
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        last = address.to_canonical();
        if !is_trusted(&last) {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let parse = |a: &&str| a.parse::<IpAddr>().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let trusted: Vec<IpAddr> = trusted.iter().map(parse).collect();
        client(parse(&peer), &headers, &trusted).to_string()
    }

    #[test]
    fn only_the_word_of_a_trusted_proxy_counts() {
        let proxy = ["10.0.0.9", "10.0.0.8"];
        assert_eq!(of("192.0.2.1", &["198.51.100.7"], &[]), "192.0.2.1");
        assert_eq!(of("192.0.2.1", &["198.51.100.7"], &proxy), "192.0.2.1");
        assert_eq!(of("10.0.0.9", &["198.51.100.7"], &proxy), "198.51.100.7");
        assert_eq!(of("::ffff:10.0.0.9", &["198.51.100.7"], &proxy), "198.51.100.7");
        // What a client wrote itself stands before what the proxy added.
        assert_eq!(of("10.0.0.9", &["203.0.113.1, 198.51.100.7"], &proxy), "198.51.100.7");
        assert_eq!(of("10.0.0.9", &["203.0.113.1", "198.51.100.7, 10.0.0.8"], &proxy), "198.51.100.7");
        assert_eq!(of("10.0.0.9", &["203.0.113.1, nonsense"], &proxy), "10.0.0.9");
        assert_eq!(of("10.0.0.9", &[], &proxy), "10.0.0.9");
        assert_eq!(of("10.0.0.9", &["2001:db8::1"], &proxy), "2001:db8::1");
    }
}
