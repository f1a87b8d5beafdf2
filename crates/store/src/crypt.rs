//! Sealing and opening with a data key: AES-256-GCM with random nonces, names by HMAC-SHA256.
//!
//! A data key seals at most [`MAX_SEALS`] objects, so two random nonces of 96 bits meet with a probability below
//! 2^-32 (NIST SP 800-38D, section 8.3). A failed write is repeated with the same bytes, never sealed again.
//! Sequences of records have a key each, derived for them alone, and count their nonces: see [`Sequence`].

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};

use crate::key::Secret;

/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = NONCE_LEN;
/// Bytes of the authentication tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Fragments sealed by one data key before it is replaced; headers at most double it.
pub(crate) const MAX_SEALS: u64 = 1 << 31;

/// Random bytes.
///
/// # Panics
/// The system gives none: nothing can be sealed then, and going on would be worse.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// A key ready for use.
pub(crate) struct DataKey {
    seal: LessSafeKey,
    names: hmac::Key,
    sequences: hkdf::Prk,
}

impl DataKey {
    /// Derives the parts from the secret (HKDF-SHA256, RFC 5869); `purpose` keeps keys of one secret apart.
    pub(crate) fn new(secret: &Secret, purpose: &str) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"antiphon store 1");
        let derive = |part: &str| {
            let mut out = [0; 32];
            salt.extract(&secret.0)
                .expand(&[purpose.as_bytes(), part.as_bytes()], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut out))
                .expect("32 bytes are within the limit of HKDF");
            out
        };
        let seal = UnboundKey::new(&AES_256_GCM, &derive(" seal")).expect("32 bytes are a key");
        let names = hmac::Key::new(hmac::HMAC_SHA256, &derive(" names"));
        let sequences = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &derive(" sequences"));
        Self { seal: LessSafeKey::new(seal), names, sequences }
    }

    /// Begins a sequence. `id` must be one that no sequence of this key ever had.
    pub(crate) fn sequence(&self, id: &[&[u8]]) -> Sequence {
        Sequence { key: self.sequence_key(id), next: 0 }
    }

    /// The key of a sequence that was written before, to read it.
    pub(crate) fn sequence_key(&self, id: &[&[u8]]) -> SequenceKey {
        let mut key = [0; 32];
        self.sequences
            .expand(id, hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .expect("32 bytes are within the limit of HKDF");
        SequenceKey(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes are a key")))
    }

    /// Encrypts in place and appends the tag; gives the nonce.
    pub(crate) fn seal(&self, aad: &[u8], data: &mut Vec<u8>) -> [u8; NONCE_BYTES] {
        let nonce = random();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.seal
            .seal_in_place_append_tag(unique, Aad::from(aad), data)
            .expect("less than the 64 GB that AES-GCM takes");
        nonce
    }

    /// Decrypts ciphertext with its tag, in place; `None`: not what this key sealed with this `aad`.
    pub(crate) fn open<'a>(
        &self,
        aad: &[u8],
        nonce: [u8; NONCE_BYTES],
        data: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        self.seal.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data).ok()
    }

    /// A name that does not show what it was made from: 32 hexadecimal digits.
    pub(crate) fn name(&self, of: &[u8]) -> String {
        hex(&hmac::sign(&self.names, of).as_ref()[..16])
    }
}

/// Opens the records of one sequence.
pub(crate) struct SequenceKey(LessSafeKey);

impl SequenceKey {
    fn nonce(number: u64) -> Nonce {
        let mut nonce = [0; NONCE_BYTES];
        nonce[NONCE_BYTES - 8..].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Decrypts the record of that number, with its tag; `None`: it is not that one.
    pub(crate) fn open(&self, number: u64, aad: &[u8], record: &[u8]) -> Option<Vec<u8>> {
        let mut data = record.to_vec();
        let len = self.0.open_in_place(Self::nonce(number), Aad::from(aad), &mut data).ok()?.len();
        data.truncate(len);
        Some(data)
    }
}

/// Seals records in a row. The nonce of each is the number of those before it, the key is the sequence's own, and the counter
/// lives and ends with this value (it is neither cloned nor kept on a disk), so no nonce can come twice under a key.
pub(crate) struct Sequence {
    key: SequenceKey,
    next: u64,
}

impl Sequence {
    /// The number that the next record gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Encrypts in place and appends the tag.
    pub(crate) fn seal(&mut self, aad: &[u8], data: &mut Vec<u8>) {
        let nonce = SequenceKey::nonce(self.next);
        // Before anything can go wrong with it.
        self.next =
            self.next.checked_add(1).expect("2^64 records take longer than the universe has been there");
        let sealed = self.key.0.seal_in_place_append_tag(nonce, Aad::from(aad), data);
        sealed.expect("less than the 64 GB that AES-GCM takes");
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_the_same_key_and_aad_only() {
        let key = DataKey::new(&Secret([1; 32]), "x");
        let mut data = b"voice".to_vec();
        let nonce = key.seal(b"aad", &mut data);
        assert_eq!(data.len(), 5 + TAG_BYTES);
        assert_eq!(key.open(b"aad", nonce, &mut data.clone()).unwrap(), b"voice");
        assert!(key.open(b"aae", nonce, &mut data.clone()).is_none());
        assert!(DataKey::new(&Secret([1; 32]), "y").open(b"aad", nonce, &mut data.clone()).is_none());
        assert!(DataKey::new(&Secret([2; 32]), "x").open(b"aad", nonce, &mut data.clone()).is_none());
        data[0] ^= 1;
        assert!(key.open(b"aad", nonce, &mut data).is_none());
    }

    #[test]
    fn no_nonce_twice() {
        let key = DataKey::new(&Secret([1; 32]), "x");
        let mut seen = std::collections::HashSet::new();
        assert!((0..10_000).all(|_| seen.insert(key.seal(b"", &mut Vec::new()))));
    }

    #[test]
    fn records_open_in_their_place_of_their_sequence_only() {
        let key = DataKey::new(&Secret([1; 32]), "x");
        let mut sequence = key.sequence(&[b"a", b"1"]);
        let mut seal = |text: &str| {
            let (number, mut data) = (sequence.next(), text.as_bytes().to_vec());
            sequence.seal(b"k", &mut data);
            (number, data)
        };
        let (first, second) = (seal("same"), seal("same"));
        assert_ne!(first.1, second.1, "another nonce each time");
        let read = key.sequence_key(&[b"a", b"1"]);
        assert_eq!(read.open(first.0, b"k", &first.1).unwrap(), b"same");
        assert_eq!(read.open(second.0, b"k", &second.1).unwrap(), b"same");
        assert!(read.open(first.0, b"k", &second.1).is_none() && read.open(0, b"l", &first.1).is_none());
        assert!(key.sequence_key(&[b"a", b"2"]).open(0, b"k", &first.1).is_none());
        let other = DataKey::new(&Secret([1; 32]), "y");
        assert!(other.sequence_key(&[b"a", b"1"]).open(0, b"k", &first.1).is_none());
    }

    #[test]
    fn names_show_nothing_and_differ_by_key() {
        let (a, b) = (DataKey::new(&Secret([1; 32]), "x"), DataKey::new(&Secret([1; 32]), "y"));
        assert_eq!(a.name(b"n"), a.name(b"n"));
        assert_ne!(a.name(b"n"), b.name(b"n"));
        assert_eq!(a.name(b"n").len(), 32);
    }
}
