//! `application/trickle-ice-sdpfrag` (RFC 8840, section 9): the ICE part of an SDP without the rest, as WHIP and WHEP carry it in
//! PATCH requests (RFC 9725, 4.3).
//!
//! ```
//! use antiphon_wire::sdpfrag::Fragment;
//!
//! let text = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
//! let fragment = Fragment::parse(text)?;
//! assert_eq!(fragment.ufrag.as_deref(), Some("EsAw"));
//! # Ok::<(), antiphon_wire::sdpfrag::Error>(())
//! ```

use std::fmt::Write;

/// Largest fragment taken: a candidate has some 120 bytes, a machine of many interfaces some dozens of them.
pub const MAX_BYTES: usize = 16 * 1024;
/// RFC 8839, 5.4: 4 to 256 characters.
const UFRAG_LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;
/// RFC 8839, 5.4: 22 to 256 characters.
const PWD_LENGTHS: std::ops::RangeInclusive<usize> = 22..=256;
/// RFC 8839, 5.1: 1 to 32 characters.
const FOUNDATION_LENGTHS: std::ops::RangeInclusive<usize> = 1..=32;

/// What a fragment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// User fragment, if it says one.
    pub ufrag: Option<String>,
    /// Password, if it says one.
    pub pwd: Option<String>,
    /// Value of `a=group`, such as `BUNDLE 0 1`.
    pub group: Option<String>,
    /// The pseudo m-line, without `m=`.
    pub media: Option<String>,
    /// The m-line's identification.
    pub mid: Option<String>,
    /// Candidates, each beginning with `candidate:`.
    pub candidates: Vec<String>,
    /// No more candidates will come.
    pub end_of_candidates: bool,
}

/// Why a fragment was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More than [`MAX_BYTES`].
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not one of the lines that a fragment may have.
    #[error("line {0} is not `a=` or `m=` with a value")]
    Line(usize),
    /// `ice-ufrag` or `ice-pwd` breaks RFC 8839, 5.4.
    #[error("line {0} is not a user fragment of 4 to 256, or a password of 22 to 256, ICE characters")]
    Credential(usize),
    /// Another value than before.
    #[error("line {0} says another user fragment, password or group than a line before")]
    Conflict(usize),
    /// A candidate that breaks RFC 8839, 5.1.
    #[error("line {0} is not a candidate")]
    Candidate(usize),
    /// A user fragment without password, or the other way round.
    #[error("user fragment and password come together")]
    Half,
}

impl Fragment {
    /// Reads a fragment. Attributes that are not of ICE are passed over.
    ///
    /// # Errors
    /// What breaks a rule, with its line.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_BYTES {
            return Err(Error::TooLarge);
        }
        let mut fragment = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() {
                continue;
            }
            match line.split_once('=') {
                Some(("m", value)) if !value.is_empty() => {
                    // One transport for all (max-bundle): further lines can only say the same.
                    fragment.media.get_or_insert_with(|| value.to_owned());
                }
                Some(("a", value)) if !value.is_empty() => fragment.attribute(number, value)?,
                _ => return Err(Error::Line(number)),
            }
        }
        if fragment.ufrag.is_some() != fragment.pwd.is_some() {
            return Err(Error::Half);
        }
        Ok(fragment)
    }

    fn attribute(&mut self, number: usize, attribute: &str) -> Result<(), Error> {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let once = |place: &mut Option<String>, value: &str| {
            if place.get_or_insert_with(|| value.to_owned()) == value {
                Ok(())
            } else {
                Err(Error::Conflict(number))
            }
        };
        let credential = |lengths: &std::ops::RangeInclusive<usize>| {
            if lengths.contains(&value.len()) && value.bytes().all(is_ice_char) {
                Ok(())
            } else {
                Err(Error::Credential(number))
            }
        };
        match name {
            "ice-ufrag" => {
                credential(&UFRAG_LENGTHS)?;
                once(&mut self.ufrag, value)?;
            }
            "ice-pwd" => {
                credential(&PWD_LENGTHS)?;
                once(&mut self.pwd, value)?;
            }
            "group" => once(&mut self.group, value)?,
            "mid" => {
                self.mid.get_or_insert_with(|| value.to_owned());
            }
            "candidate" if is_candidate(value) => self.candidates.push(attribute.to_owned()),
            "candidate" => return Err(Error::Candidate(number)),
            "end-of-candidates" => self.end_of_candidates = true,
            _ => {}
        }
        Ok(())
    }

    /// The text of a fragment from an ICE-lite agent (RFC 8839, 5.3); lines that must come together do.
    pub fn to_lite_text(&self) -> String {
        let mut out = String::from("a=ice-lite\r\n");
        let mut line = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                let _ = write!(out, "{name}{value}\r\n");
            }
        };
        line("a=group:", &self.group);
        line("m=", &self.media);
        line("a=mid:", &self.mid);
        line("a=ice-ufrag:", &self.ufrag);
        line("a=ice-pwd:", &self.pwd);
        for candidate in &self.candidates {
            let _ = write!(out, "a={candidate}\r\n");
        }
        if self.end_of_candidates {
            out.push_str("a=end-of-candidates\r\n");
        }
        out
    }
}

/// RFC 8839, 5.1.
fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// RFC 8839, 5.1: foundation, component, transport, priority, address, port, `typ`, type, and anything. What the transport and
/// the address are does not matter: those that cannot be used are passed over (RFC 9725, 4.3.2).
fn is_candidate(value: &str) -> bool {
    let mut words = value.split(' ');
    let mut next = || words.next().filter(|w| !w.is_empty());
    let number = |word: Option<&str>, most: u32| {
        word.is_some_and(|w| w.bytes().all(|b| b.is_ascii_digit()) && w.parse().is_ok_and(|n: u32| n <= most))
    };
    let foundation = |w: &str| FOUNDATION_LENGTHS.contains(&w.len()) && w.bytes().all(is_ice_char);
    next().is_some_and(foundation)
        && number(next(), 256)
        && next().is_some()
        && number(next(), (1 << 31) - 1)
        && next().is_some()
        && number(next(), u32::from(u16::MAX))
        && next() == Some("typ")
        && next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9725, figure 4.
    const TRICKLE: &str = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0 ufrag EsAw\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn the_example_of_the_rfc_is_read() {
        let fragment = Fragment::parse(TRICKLE).unwrap();
        assert_eq!(fragment.ufrag.as_deref(), Some("EsAw"));
        assert_eq!(fragment.pwd.as_deref(), Some("P2uYro0UCOQ4zxjKXaWCBui1"));
        assert_eq!(fragment.group.as_deref(), Some("BUNDLE 0 1"));
        assert_eq!((fragment.mid.as_deref(), fragment.candidates.len()), (Some("0"), 2));
        assert!(fragment.end_of_candidates);
        // Line ends as some clients write them.
        assert_eq!(Fragment::parse(&TRICKLE.replace("\r\n", "\n")).unwrap(), fragment);
        // What is written is what is read.
        let again = fragment.to_lite_text();
        assert_eq!(again, format!("a=ice-lite\r\n{TRICKLE}"));
        assert_eq!(Fragment::parse(&again).unwrap(), fragment);
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_its_line() {
        let pwd = "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1";
        for (text, error) in [
            ("v=0\r\n", Error::Line(1)),
            ("a=mid:0\r\nnonsense", Error::Line(2)),
            ("a=", Error::Line(1)),
            ("a=ice-ufrag:abc", Error::Credential(1)),
            ("a=ice-ufrag:ab c", Error::Credential(1)),
            ("a=ice-pwd:short", Error::Credential(1)),
            ("a=ice-ufrag:abcd", Error::Half),
            (pwd, Error::Half),
            ("a=ice-ufrag:abcd\na=ice-ufrag:abce", Error::Conflict(2)),
            ("a=candidate:", Error::Candidate(1)),
            ("a=candidate:1 1 udp 1 192.0.2.1 1 typ", Error::Candidate(1)),
            ("a=candidate:1 1 udp 2147483648 192.0.2.1 1 typ host", Error::Candidate(1)),
            ("a=candidate:1 1 udp 1 192.0.2.1 65536 typ host", Error::Candidate(1)),
            ("a=candidate:1 +1 udp 1 192.0.2.1 1 typ host", Error::Candidate(1)),
        ] {
            assert_eq!(Fragment::parse(text), Err(error), "{text}");
        }
        assert_eq!(Fragment::parse(&"a=x\n".repeat(MAX_BYTES)), Err(Error::TooLarge));
        assert_eq!(Fragment::parse(""), Ok(Fragment::default()));
    }

    /// The fuzz target's short form: bits turned in a good fragment, and what is taken survives being written.
    #[test]
    fn any_text_is_taken_or_refused() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut taken = 0;
        for _ in 0..20_000 {
            let mut bytes = TRICKLE.as_bytes().to_vec();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = u8::try_from(random(128)).unwrap(),
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, b'\n'),
                }
            }
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(fragment) = Fragment::parse(&text) {
                taken += 1;
                assert_eq!(Fragment::parse(&fragment.to_lite_text()), Ok(fragment), "{text:?}");
            }
        }
        assert!(taken > 1_000, "{taken}");
    }
}
