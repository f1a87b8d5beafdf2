//! The two kinds of sealed objects: fragments (`KVF1`), and small ones (`KVS1`: headers and records).
//!
//! ```text
//! KVF1: magic 4 | version 1 | flags 1 | meta length 2 | meta | nonce 12 | ciphertext | tag 16 | crc32c 4
//! KVS1: magic 4 | version 1 | data key 4              | nonce 12 | ciphertext | tag 16 | crc32c 4
//! ```
//! All numbers are big-endian. The checksum covers all before it and tells rot from a wrong key. A fragment's
//! authenticated data is all before its nonce; a small object's is that and its path, so objects cannot change places.

use object_store::path::Path;

use crate::crypt::{DataKey, NONCE_BYTES, TAG_BYTES};
use crate::error::Error;
use crate::index::Entry;
use crate::key::KeyError;
use crate::layout::{Flags, HeaderId, Uid};
use crate::number::FragmentNumber;
use crate::whose::Whose;

const FRAGMENT_MAGIC: &[u8; 4] = b"KVF1";
const SMALL_MAGIC: &[u8; 4] = b"KVS1";
const VERSION: u8 = 1;
const CRC_BYTES: usize = 4;
/// uid, number (4 and 16), producer, duration, header id, data key, plain length.
const META_BYTES: usize = 16 + 20 + 8 + 4 + 16 + 4 + 4;
const FRAGMENT_HEAD_BYTES: usize = 8 + META_BYTES;
const SMALL_HEAD_BYTES: usize = 9;
/// The longest contact id: as long as a participant's.
pub(crate) const MAX_CONTACT_BYTES: usize = 128;
/// The contact's id stands before the media, always with the same length: sizes tell nothing about it.
const INNER_BYTES: usize = 1 + MAX_CONTACT_BYTES;
/// What an object has beside its media.
pub(crate) const FRAGMENT_OVERHEAD: usize =
    FRAGMENT_HEAD_BYTES + NONCE_BYTES + INNER_BYTES + TAG_BYTES + CRC_BYTES;

fn damaged(path: &Path, what: &'static str) -> Error {
    Error::Damaged { path: path.to_string(), what }
}

pub(crate) fn finish(mut object: Vec<u8>) -> Vec<u8> {
    let crc = crc(&object);
    object.extend_from_slice(&crc.to_be_bytes());
    object
}

/// CRC-32C.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum).expect("a checksum of 32 bits")
}

/// The object without its checksum, if that is right.
fn checked<'a>(path: &Path, object: &'a [u8]) -> Result<&'a [u8], Error> {
    let at = object.len().checked_sub(CRC_BYTES).ok_or_else(|| damaged(path, "too short"))?;
    let (body, sum) = object.split_at(at);
    if sum != crc(body).to_be_bytes() {
        return Err(damaged(path, "checksum"));
    }
    Ok(body)
}

/// A fragment to be sealed.
pub(crate) struct Plain<'a> {
    pub(crate) uid: Uid,
    pub(crate) entry: &'a Entry,
    pub(crate) contact: &'a str,
    /// The cluster and what follows it, in pieces.
    pub(crate) media: &'a [bytes::Bytes],
}

/// Makes the object of a fragment. The contact's id is cut at 128 bytes.
pub(crate) fn seal_fragment(key: &DataKey, key_id: u32, plain: &Plain<'_>) -> Vec<u8> {
    let media: usize = plain.media.iter().map(bytes::Bytes::len).sum();
    let len = u32::try_from(media).expect("fragments are far below 4 GB");
    let mut object = Vec::with_capacity(media + FRAGMENT_OVERHEAD);
    object.extend_from_slice(FRAGMENT_MAGIC);
    object.extend_from_slice(&[VERSION, plain.entry.flags.0]);
    object.extend_from_slice(&u16::try_from(META_BYTES).expect("72").to_be_bytes());
    meta(&mut object, plain, key_id, len);
    let mut data = Vec::with_capacity(INNER_BYTES + media + TAG_BYTES);
    let contact = &plain.contact.as_bytes()[..plain.contact.len().min(MAX_CONTACT_BYTES)];
    data.push(u8::try_from(contact.len()).expect("at most 128"));
    data.extend_from_slice(contact);
    data.resize(INNER_BYTES, 0);
    plain.media.iter().for_each(|piece| data.extend_from_slice(piece));
    let nonce = key.seal(&object, &mut data);
    object.extend_from_slice(&nonce);
    object.extend_from_slice(&data);
    finish(object)
}

fn meta(out: &mut Vec<u8>, plain: &Plain<'_>, key_id: u32, len: u32) {
    let e = plain.entry;
    out.extend_from_slice(&plain.uid.0);
    let (high, low) = e.number.parts();
    out.extend_from_slice(&high.to_be_bytes());
    out.extend_from_slice(&low.to_be_bytes());
    out.extend_from_slice(&e.producer_ms.to_be_bytes());
    out.extend_from_slice(&e.duration_ms.to_be_bytes());
    out.extend_from_slice(&e.header.0.to_be_bytes());
    out.extend_from_slice(&key_id.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
}

/// What a fragment's object says about itself, in the clear.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FragmentMeta {
    pub(crate) uid: Uid,
    pub(crate) entry: Entry,
    pub(crate) key_id: u32,
}

impl FragmentMeta {
    /// Whether it is the fragment that a listing says. Whose it is stands in the path and inside, not in the head.
    pub(crate) fn is_of(&self, listed: &Entry) -> bool {
        self.entry == Entry { damaged: false, aside: false, whose: Whose::NOBODY, ..*listed }
    }
}

/// Numbers from the front of bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }
}

/// Checks an object and reads its head.
pub(crate) fn fragment_meta(path: &Path, object: &[u8]) -> Result<FragmentMeta, Error> {
    let body = checked(path, object)?;
    let read = || -> Option<(FragmentMeta, u32)> {
        let mut r = Reader(body);
        if r.take()? != *FRAGMENT_MAGIC || r.take()? != [VERSION] {
            return None;
        }
        let [flags] = r.take()?;
        if usize::from(u16::from_be_bytes(r.take()?)) != META_BYTES {
            return None;
        }
        let uid = Uid(r.take()?);
        let high = u32::from_be_bytes(r.take()?);
        let number = FragmentNumber::from_parts(high, u128::from_be_bytes(r.take()?));
        let producer_ms = u64::from_be_bytes(r.take()?);
        let duration_ms = u32::from_be_bytes(r.take()?);
        let header = HeaderId(u128::from_be_bytes(r.take()?));
        let (key_id, size) = (u32::from_be_bytes(r.take()?), u32::from_be_bytes(r.take()?));
        let entry = Entry {
            number,
            producer_ms,
            duration_ms,
            header,
            flags: Flags(flags),
            whose: Whose::NOBODY,
            size,
            damaged: false,
            aside: false,
        };
        Some((FragmentMeta { uid, entry, key_id }, size))
    };
    let (meta, size) = read().ok_or_else(|| damaged(path, "not a fragment"))?;
    if object.len() != FRAGMENT_OVERHEAD + size as usize {
        return Err(damaged(path, "length"));
    }
    Ok(meta)
}

/// A fragment's content.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Opened {
    pub(crate) contact: String,
    /// The cluster and what follows it.
    pub(crate) media: bytes::Bytes,
}

/// Decrypts an object whose head [`fragment_meta`] has read.
pub(crate) fn open_fragment(path: &Path, key: &DataKey, object: &[u8]) -> Result<Opened, Error> {
    let body = checked(path, object)?;
    let (head, rest) =
        body.split_at_checked(FRAGMENT_HEAD_BYTES).ok_or_else(|| damaged(path, "too short"))?;
    let mut data = open(key, head, rest).ok_or(KeyError::Validation)?;
    if data.len() < INNER_BYTES {
        return Err(damaged(path, "too short"));
    }
    let media = bytes::Bytes::from(data.split_off(INNER_BYTES));
    let contact = data[1..].get(..usize::from(data[0])).unwrap_or_default();
    Ok(Opened { contact: String::from_utf8_lossy(contact).into_owned(), media })
}

/// `rest` is nonce, ciphertext and tag.
fn open(key: &DataKey, aad: &[u8], rest: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let mut data = sealed.to_vec();
    let len = key.open(aad, *nonce, &mut data)?.len();
    data.truncate(len);
    Some(data)
}

/// Makes a small object.
pub(crate) fn seal_small(key: &DataKey, key_id: u32, path: &Path, plain: &[u8]) -> Vec<u8> {
    let mut object = [&SMALL_MAGIC[..], &[VERSION], &key_id.to_be_bytes()].concat();
    let aad = [&object[..], path.as_ref().as_bytes()].concat();
    let mut data = plain.to_vec();
    let nonce = key.seal(&aad, &mut data);
    object.extend_from_slice(&nonce);
    object.extend_from_slice(&data);
    finish(object)
}

/// The data key that a small object needs.
pub(crate) fn small_key_id(path: &Path, object: &[u8]) -> Result<u32, Error> {
    let body = checked(path, object)?;
    let mut r = Reader(body);
    let read = || -> Option<u32> {
        let ours = r.take()? == *SMALL_MAGIC && r.take()? == [VERSION];
        ours.then(|| r.take().map(u32::from_be_bytes)).flatten()
    };
    let mut read = read;
    read().ok_or_else(|| damaged(path, "not a sealed object"))
}

/// Decrypts a small object.
pub(crate) fn open_small(path: &Path, key: &DataKey, object: &[u8]) -> Result<Vec<u8>, Error> {
    small_key_id(path, object)?;
    let (head, rest) = checked(path, object)?.split_at(SMALL_HEAD_BYTES);
    let aad = [head, path.as_ref().as_bytes()].concat();
    Ok(open(key, &aad, rest).ok_or(KeyError::Validation)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Secret;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    fn key() -> DataKey {
        DataKey::new(&Secret([3; 32]), "x")
    }

    fn entry() -> Entry {
        Entry {
            number: FragmentNumber::new(3, 1_700_000_000_000, 5),
            producer_ms: 1_700_000_000_001,
            duration_ms: 1024,
            header: HeaderId(77),
            flags: Flags::ANCHOR,
            whose: Whose::NOBODY,
            size: 10,
            damaged: false,
            aside: false,
        }
    }

    fn sealed() -> Vec<u8> {
        let media = [bytes::Bytes::from_static(b"01234"), bytes::Bytes::from_static(b"56789")];
        let plain = Plain { uid: Uid([1; 16]), entry: &entry(), contact: "c-1", media: &media };
        seal_fragment(&key(), 4, &plain)
    }

    #[test]
    fn a_fragment_comes_back_and_shows_nothing() {
        let (path, object) = (Path::from("p"), sealed());
        assert_eq!(object.len(), FRAGMENT_OVERHEAD + 10);
        let meta = fragment_meta(&path, &object).unwrap();
        assert_eq!(meta, FragmentMeta { uid: Uid([1; 16]), entry: entry(), key_id: 4 });
        let opened = open_fragment(&path, &key(), &object).unwrap();
        assert_eq!((opened.contact.as_str(), &opened.media[..]), ("c-1", &b"0123456789"[..]));
        for secret in [&b"c-1"[..], b"01234"] {
            assert!(!object.windows(secret.len()).any(|w| w == secret));
        }
        let other = DataKey::new(&Secret([4; 32]), "x");
        assert!(matches!(open_fragment(&path, &other, &object), Err(Error::Key(KeyError::Validation))));
    }

    #[test]
    fn a_small_object_is_bound_to_its_path() {
        let (a, b) = (Path::from("a"), Path::from("b"));
        let object = seal_small(&key(), 9, &a, b"record");
        assert_eq!(small_key_id(&a, &object).unwrap(), 9);
        assert_eq!(open_small(&a, &key(), &object).unwrap(), b"record");
        assert!(matches!(open_small(&b, &key(), &object), Err(Error::Key(KeyError::Validation))));
    }

    #[test]
    fn every_changed_bit_is_seen() {
        let path = Path::from("p");
        let object = sealed();
        for at in 0..object.len() {
            let mut changed = object.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(matches!(fragment_meta(&path, &changed), Err(Error::Damaged { .. })), "byte {at}");
        }
    }

    #[test]
    fn any_bytes_are_taken_calmly_even_with_a_right_checksum() {
        let mut rng = SmallRng::seed_from_u64(7);
        let (path, good) = (Path::from("p"), sealed());
        for _ in 0..5000 {
            let mut object = good[..good.len() - CRC_BYTES].to_vec();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..object.len());
                object[at] = rng.random();
            }
            object.truncate(rng.random_range(0..=object.len()));
            let object = finish(object);
            if fragment_meta(&path, &object).is_ok() {
                // Whatever the head says: content opens only if head and content are as they were.
                assert!(open_fragment(&path, &key(), &object).is_err() || object == good);
            }
            assert!(open_small(&path, &key(), &object).is_err());
        }
    }
}
