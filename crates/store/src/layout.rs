//! Where objects lie. Keys sort in time, so the index of a stream is a listing of its folder; nothing in a key tells
//! who called.
//!
//! ```text
//! v1/<account>/account                      the account's key, wrapped
//! v1/<account>/settings/<name>            settings that were made while the server ran, encrypted
//! v1/<account>/names/<hmac of a name>       -> uid; created once, which makes names unique
//! v1/<account>/<uid>/stream.json            the stream's record, encrypted
//! v1/<account>/<uid>/dek/<n>                a data key, wrapped; overwritten first when the stream is deleted
//! v1/<account>/<uid>/hdr/<id>               a session's header, encrypted
//! v1/<account>/<uid>/f/<YYYYMMDDHH>/<number>.<producer ms>.<duration ms>.<header id>.<flags>[.<hmac of a contact's id>]
//! v1/<account>/<uid>/q/<YYYYMMDDHH>/<the same>   one that was found to be damaged, as it was found
//! ```

use object_store::path::Path;

use crate::crypt::hex;
use crate::hour;
use crate::index::Entry;
use crate::whose::Whose;

/// A stream's own name in the storage: random, says nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Uid(pub(crate) [u8; 16]);

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Uid {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let id = hex_u128(text)?;
        Some(Self(id.to_be_bytes()))
    }
}

/// Exactly 32 lower-case hexadecimal digits.
fn hex_u128(text: &str) -> Option<u128> {
    let canonical = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    canonical.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// The paths of one account.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    account: String,
}

impl Layout {
    /// `account` is digits or letters; `Store::open` has checked it.
    pub(crate) fn new(account: &str) -> Self {
        Self { account: account.to_owned() }
    }

    fn path(&self, rest: &str) -> Path {
        Path::from(format!("v1/{}/{rest}", self.account))
    }

    /// Everything.
    pub(crate) fn root(&self) -> Path {
        Path::from(format!("v1/{}", self.account))
    }

    pub(crate) fn account_key(&self) -> Path {
        self.path("account")
    }

    pub(crate) fn settings(&self, name: &str) -> Path {
        self.path(&format!("settings/{name}"))
    }

    pub(crate) fn name(&self, hidden: &str) -> Path {
        self.path(&format!("names/{hidden}"))
    }

    pub(crate) fn stream(&self, uid: Uid) -> Path {
        self.path(&uid.to_string())
    }

    pub(crate) fn record(&self, uid: Uid) -> Path {
        self.path(&format!("{uid}/stream.json"))
    }

    pub(crate) fn dek(&self, uid: Uid, id: u32) -> Path {
        self.path(&format!("{uid}/dek/{id}"))
    }

    pub(crate) fn header(&self, uid: Uid, id: HeaderId) -> Path {
        self.path(&format!("{uid}/hdr/{id}"))
    }

    pub(crate) fn fragment(&self, uid: Uid, e: &Entry) -> Path {
        let folder = hour::folder(e.number.server_ms());
        let file =
            format!("{}.{:013}.{}.{}.{:x}", e.number, e.producer_ms, e.duration_ms, e.header, e.flags.0);
        let whose = e.whose.known().map(|whose| format!(".{whose}")).unwrap_or_default();
        let place = if e.aside { 'q' } else { 'f' };
        self.path(&format!("{uid}/{place}/{folder}/{file}{whose}"))
    }

    /// Behind what all paths begin with.
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix("v1/")?.strip_prefix(&self.account)?.strip_prefix('/')
    }

    /// The fragment that lies at a path, without its size, which only the listing knows. One fragment, one path: what is not written as we
    /// write it is not ours. Makes nothing: it is asked about every file.
    pub(crate) fn fragment_at(&self, path: &str) -> Option<(Uid, Entry)> {
        let (uid, rest) = self.rest(path)?.split_once('/')?;
        let (place, rest) = rest.split_once('/')?;
        let (hour, file) = rest.split_once('/')?;
        let aside = match place {
            "f" => false,
            "q" => true,
            _ => return None,
        };
        let (uid, entry) = (Uid::parse(uid)?, Entry { aside, ..fragment_file(file)? });
        (hour.as_bytes() == hour::digits(entry.number.server_ms())).then_some((uid, entry))
    }

    /// What an object is, from its path.
    pub(crate) fn kind(&self, path: &Path) -> Kind {
        let Some(rest) = self.rest(path.as_ref()) else { return Kind::Unknown };
        let parts: Vec<&str> = rest.split('/').collect();
        let uid = Uid::parse(parts[0]);
        match (uid, &parts[1..]) {
            (None, []) if parts[0] == "account" => Kind::Account,
            (None, [name]) if parts[0] == "settings" && settings_name(name) => {
                Kind::Settings((*name).to_owned())
            }
            (None, [name]) if parts[0] == "names" => Kind::Name((*name).to_owned()),
            (Some(uid), ["stream.json"]) => Kind::Record(uid),
            (Some(uid), ["dek", id]) => id.parse().map_or(Kind::Stray(uid), |id| Kind::Dek(uid, id)),
            (Some(uid), ["hdr", id]) => {
                HeaderId::parse(id).map_or(Kind::Stray(uid), |id| Kind::Header(uid, id))
            }
            (Some(uid), _) => {
                self.fragment_at(path.as_ref()).map_or(Kind::Stray(uid), |(_, e)| Kind::Fragment(uid, e))
            }
            _ => Kind::Unknown,
        }
    }
}

/// Small letters and `-`: as they are named in the code.
fn settings_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// What an object is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Account,
    Settings(String),
    Name(String),
    Record(Uid),
    Dek(Uid, u32),
    Header(Uid, HeaderId),
    /// Without its size, which only the listing knows.
    Fragment(Uid, Entry),
    /// In a stream's folder, and not ours.
    Stray(Uid),
    Unknown,
}

impl std::fmt::Debug for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A header's name: an HMAC of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderId(pub(crate) u128);

impl HeaderId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        hex_u128(text).map(Self)
    }
}

impl std::fmt::Display for HeaderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a fragment is, beside its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub(crate) u8);

impl Flags {
    /// Written at the start of a contact's streaming, so that readers "after" it lose nothing.
    pub const ANCHOR: Self = Self(1);
    /// Its producer vanished inside it; what was complete was kept.
    pub const SALVAGED: Self = Self(2);

    /// Whether all flags of `other` are set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The path of a fragment's header; `None`: it is no fragment's path.
pub(crate) fn header_of(fragment: &Path) -> Option<Path> {
    let (stream, rest) = fragment.as_ref().split_once("/f/")?;
    let entry = fragment_file(rest.rsplit('/').next()?)?;
    Some(Path::from(format!("{stream}/hdr/{}", entry.header)))
}

/// As [`Layout::fragment`] writes it, and no other way.
fn fragment_file(file: &str) -> Option<Entry> {
    let mut parts = file.split('.');
    let mut next = || parts.next();
    let (number, producer, duration, header, flags) = (next()?, next()?, next()?, next()?, next()?);
    let whole = number.len() == crate::number::DIGITS && plain(number) && producer.len() == 13;
    let number = whole.then(|| number.parse().ok())??;
    let lower = flags.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let short = lower && (flags.len() == 1 || !flags.starts_with('0'));
    let entry = Entry {
        number,
        producer_ms: digits(producer).then(|| producer.parse().ok())??,
        duration_ms: plain(duration).then(|| duration.parse().ok())??,
        header: HeaderId::parse(header)?,
        flags: Flags(short.then(|| u8::from_str_radix(flags, 16).ok())??),
        whose: parts.next().map_or(Some(Whose::NOBODY), Whose::parse)?,
        size: 0,
        damaged: false,
        aside: false,
    };
    parts.next().is_none().then_some(entry)
}

fn digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// A number without a sign, and without zeros before it.
fn plain(text: &str) -> bool {
    digits(text) && (text.len() == 1 || !text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::FragmentNumber;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    fn entry() -> Entry {
        Entry {
            number: FragmentNumber::new(7, 1_700_000_000_000, 9),
            producer_ms: 1_699_999_999_900,
            duration_ms: 1024,
            header: HeaderId(0xabc),
            flags: Flags::ANCHOR.and(Flags::SALVAGED),
            whose: Whose::NOBODY,
            size: 0,
            damaged: false,
            aside: false,
        }
    }

    #[test]
    fn every_path_is_recognised() {
        let layout = Layout::new("000000000000");
        let uid = Uid([0xab; 16]);
        let check = |path: Path, kind: Kind| assert_eq!(layout.kind(&path), kind, "{path}");
        check(layout.account_key(), Kind::Account);
        check(layout.settings("a-b"), Kind::Settings("a-b".into()));
        check(Path::from("v1/000000000000/settings/a.b"), Kind::Unknown);
        check(layout.name("x"), Kind::Name("x".into()));
        check(layout.record(uid), Kind::Record(uid));
        check(layout.dek(uid, 3), Kind::Dek(uid, 3));
        check(layout.header(uid, HeaderId(5)), Kind::Header(uid, HeaderId(5)));
        check(layout.fragment(uid, &entry()), Kind::Fragment(uid, entry()));
        assert!(layout.fragment(uid, &entry()).as_ref().contains("/f/2023111422/"));
        check(Path::from(format!("v1/000000000000/{uid}/x")), Kind::Stray(uid));
        check(Path::from("v1/000000000000/nonsense"), Kind::Unknown);
        check(Path::from("v2/000000000000/account"), Kind::Unknown);
    }

    #[test]
    fn file_names_in_order_are_fragments_in_order() {
        let layout = Layout::new("a");
        let path = |counter, ms| {
            let entry = Entry { number: FragmentNumber::new(counter, ms, 0), ..entry() };
            layout.fragment(Uid([1; 16]), &entry).to_string()
        };
        let names = [path(1, 3_599_999), path(2, 3_600_000), path(3, 86_400_000), path(4, 1_700_000_000_000)];
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn a_fragment_has_one_path() {
        let layout = Layout::new("a");
        let good = layout.fragment(Uid([1; 16]), &entry()).to_string();
        let (folder, file) = good.rsplit_once('/').unwrap();
        let parts: Vec<_> = file.split('.').collect();
        let header = parts[3].to_uppercase();
        let signed = format!("+{}", &parts[1][1..]);
        for (at, other) in [
            (0, "0"),
            (0, "00000000000000000000000000000000000000000000001"),
            (1, &signed),
            (1, "1699999999900.0"),
            (1, "169999999990"),
            (1, "01699999999900"),
            (2, "+1024"),
            (2, "01024"),
            (2, ""),
            (2, "4294967296"),
            (3, &header),
            (4, "03"),
            (4, "+3"),
            (4, ""),
            (4, "A"),
            (4, "100"),
        ] {
            let mut parts = parts.clone();
            parts[at] = other;
            let path = format!("{folder}/{}", parts.join("."));
            assert_eq!(layout.fragment_at(&path), None, "{path}");
        }
        for (from, to) in [("2023111422", "2023111423"), ("/f/", "/f/2023111422/"), ("v1/a/", "v1/b/")] {
            assert_eq!(layout.fragment_at(&good.replacen(from, to, 1)), None, "{to}");
        }
        assert_eq!(layout.fragment_at(&good), Some((Uid([1; 16]), entry())));
        let whose = Entry { whose: Whose::parse("00000000000000ab").unwrap(), ..entry() };
        let path = layout.fragment(Uid([1; 16]), &whose).to_string();
        assert!(path.ends_with(".3.00000000000000ab"), "{path}");
        assert_eq!(layout.fragment_at(&path), Some((Uid([1; 16]), whose)));
        for other in ["", "ab", "0000000000000000", "00000000000000AB", "00000000000000ab.1"] {
            let path = format!("{good}.{other}");
            assert_eq!(layout.fragment_at(&path), None, "{path}");
        }
        let aside = Entry { aside: true, ..entry() };
        let path = layout.fragment(Uid([1; 16]), &aside).to_string();
        assert_eq!(path, good.replacen("/f/", "/q/", 1));
        assert_eq!(layout.fragment_at(&path), Some((Uid([1; 16]), aside)));
        assert_eq!(layout.fragment_at(&good.replacen("/f/", "/r/", 1)), None);
        let long = Entry { flags: Flags(0xaf), duration_ms: 0, ..entry() };
        let path = layout.fragment(Uid([1; 16]), &long).to_string();
        assert_eq!(layout.fragment_at(&path), Some((Uid([1; 16]), long)));
    }

    #[test]
    fn any_file_name_is_taken_calmly() {
        let layout = Layout::new("a");
        let good = layout.fragment(Uid([1; 16]), &entry()).to_string();
        let mut rng = SmallRng::seed_from_u64(1);
        for _ in 0..50_000 {
            let mut bytes = good.clone().into_bytes();
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[at] = rng.random_range(b' '..b'~'),
                1 => bytes.truncate(at),
                _ => bytes.insert(at, rng.random_range(b' '..b'~')),
            }
            let path = Path::from(String::from_utf8(bytes).unwrap());
            if let Kind::Fragment(uid, entry) = layout.kind(&path) {
                assert_eq!(layout.fragment(uid, &entry), path);
            }
        }
    }
}
