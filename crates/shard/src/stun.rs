//! Just enough of STUN (RFC 8489) to find whom a binding request is for. Checking it is str0m's.

/// Fixed header, section 5.
const HEADER_BYTES: usize = 20;
/// Section 5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// USERNAME, section 14.3.
const USERNAME: u16 = 0x0006;

/// USE-CANDIDATE (RFC 8445, 16.1).
const USE_CANDIDATE: u16 = 0x0025;
/// Type of a binding request, section 3.2.
const BINDING_REQUEST: [u8; 2] = [0, 1];

/// By RFC 7983 the first byte of STUN is 0 to 3.
pub(crate) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|b| *b < 4) && datagram.get(4..8) == Some(&MAGIC_COOKIE)
}

/// Attributes as type and value; what is cut off ends them.
fn attributes(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = datagram.get(HEADER_BYTES..).unwrap_or(&[]);
    std::iter::from_fn(move || {
        let [t0, t1, l0, l1, tail @ ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = tail.get(..length)?;
        rest = tail.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((u16::from_be_bytes([*t0, *t1]), value))
    })
}

/// Our half of the user name of a request (RFC 8445, 7.2.2: `theirs` after `ours`).
pub(crate) fn local_ufrag(datagram: &[u8]) -> Option<&str> {
    let (_, value) = attributes(datagram).find(|(kind, _)| *kind == USERNAME)?;
    std::str::from_utf8(value).ok()?.split(':').next()
}

/// The shard that stands in one of our user fragments (see `Door::terms`).
pub(crate) fn shard(ufrag: &str) -> Option<usize> {
    usize::from_str_radix(ufrag.get(..2)?, 16).ok()
}

/// A binding request by which the peer nominates the way that it took (RFC 8445, 7.3.1.5: USE-CANDIDATE). Whether it is
/// valid is for ICE to say.
pub(crate) fn nominates(datagram: &[u8]) -> bool {
    is_stun(datagram)
        && datagram.starts_with(&BINDING_REQUEST)
        && attributes(datagram).any(|(kind, _)| kind == USE_CANDIDATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(username: &[u8]) -> Vec<u8> {
        let mut m = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        m.extend([9; 12]);
        m.extend([0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]);
        m.extend([0, 6, 0, u8::try_from(username.len()).unwrap()]);
        m.extend(username);
        m
    }

    #[test]
    fn the_user_name_is_found() {
        let m = request(b"00abcd:efgh");
        assert!(is_stun(&m));
        assert_eq!(local_ufrag(&m), Some("00abcd"));
        for cut in 0..m.len() {
            assert_eq!(local_ufrag(&m[..cut]), None);
        }
        assert_eq!((shard("00abcd"), shard("1fabcd")), (Some(0), Some(31)));
        assert_eq!((shard("zzabcd"), shard("0"), shard("0\u{e4}b")), (None, None, None));
        assert!(!is_stun(&m[..7]));
        assert_eq!(local_ufrag(&request(&[0xff, 0xfe])), None);
    }
}
