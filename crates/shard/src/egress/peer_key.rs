//! Signatures of peers in the DTLS handshake: the usual curves by aws-lc, and P-224.
//!
//! FFmpeg's WHIP muxer (8.0 and later) makes itself a certificate with a P-224 key, which neither aws-lc-rs nor str0m's
//! DTLS knows. Nothing of ours has such a key; only what the peer has signed is looked at.

use aws_lc_rs::digest;
use dimpl::CryptoError;
use dimpl::crypto::aws_lc_rs::default_provider;
use dimpl::crypto::{CryptoProvider, HashAlgorithm, NamedGroup, SignatureAlgorithm, SignatureVerifier};
use p224::ecdsa::signature::hazmat::PrehashVerifier;
use p224::ecdsa::{Signature, VerifyingKey};
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Reader, SliceReader, Tag, Tagged};

/// Bytes of a coordinate of P-224.
const FIELD_BYTES: usize = 28;
/// `secp224r1` (RFC 5480, 2.1.1.1).
const P224: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.33");

/// aws-lc for everything but a P-224 key's signature.
pub(crate) fn provider() -> CryptoProvider {
    static VERIFIER: Verifier = Verifier;
    CryptoProvider { signature_verification: &VERIFIER, ..default_provider() }
}

#[derive(Debug)]
struct Verifier;

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        certificate: &[u8],
        data: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        kind: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let Some(key) = p224_key(certificate).filter(|_| kind == SignatureAlgorithm::ECDSA) else {
            let usual = default_provider().signature_verification;
            return usual.verify_signature(certificate, data, signature, hash, kind);
        };
        let group = NamedGroup::Secp224r1;
        let failed = CryptoError::SignatureVerificationFailed { signature: kind, hash, group };
        is_signed(&key, data, signature, hash).filter(|good| *good).map(drop).ok_or(failed)
    }
}

/// The P-224 key of a certificate, if it has one.
pub(crate) fn p224_key(certificate: &[u8]) -> Option<VerifyingKey> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let key = certificate.tbs_certificate().subject_public_key_info();
    let curve: ObjectIdentifier = key.algorithm.parameters.as_ref()?.decode_as().ok()?;
    if curve != P224 {
        return None;
    }
    VerifyingKey::from_sec1_bytes(key.subject_public_key.as_bytes()?).ok()
}

/// `None`: not a signature of this kind.
fn is_signed(key: &VerifyingKey, data: &[u8], signature: &[u8], hash: HashAlgorithm) -> Option<bool> {
    let algorithm = match hash {
        HashAlgorithm::SHA256 => &digest::SHA256,
        HashAlgorithm::SHA384 => &digest::SHA384,
        _ => return None,
    };
    let signature = read_signature(signature)?;
    Some(key.verify_prehash(digest::digest(algorithm, data).as_ref(), &signature).is_ok())
}

/// A sequence of two integers (RFC 3279, 2.2.3).
fn read_signature(der: &[u8]) -> Option<Signature> {
    let sequence = AnyRef::from_der(der).ok().filter(|any| any.tag() == Tag::Sequence)?;
    let mut reader = SliceReader::new(sequence.value()).ok()?;
    let mut next = || -> Option<[u8; FIELD_BYTES]> {
        let number = UintRef::decode(&mut reader).ok()?;
        let mut out = [0; FIELD_BYTES];
        let at = FIELD_BYTES.checked_sub(number.as_bytes().len())?;
        out.get_mut(at..)?.copy_from_slice(number.as_bytes());
        Some(out)
    };
    let (r, s) = (next()?, next()?);
    reader.is_finished().then_some(())?;
    Signature::from_scalars(r, s).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By OpenSSL, of the kind that FFmpeg 8.1 makes: `openssl req -x509` with a key of `secp224r1`.
    const CERTIFICATE: &[u8] = include_bytes!("../../tests/data/p224-certificate.der");
    /// `the data` signed with its key.
    const SIGNATURE: &[u8] = include_bytes!("../../tests/data/p224-signature.der");

    fn verify(data: &[u8], signature: &[u8], hash: HashAlgorithm) -> Result<(), CryptoError> {
        provider().signature_verification.verify_signature(
            CERTIFICATE,
            data,
            signature,
            hash,
            SignatureAlgorithm::ECDSA,
        )
    }

    #[test]
    fn a_p224_signature_is_verified() {
        verify(b"the data", SIGNATURE, HashAlgorithm::SHA256).unwrap();
        assert!(verify(b"the date", SIGNATURE, HashAlgorithm::SHA256).is_err());
        assert!(verify(b"the data", SIGNATURE, HashAlgorithm::SHA384).is_err());
        assert!(verify(b"the data", SIGNATURE, HashAlgorithm::SHA1).is_err());
    }

    #[test]
    fn a_broken_signature_or_certificate_is_refused() {
        for at in 0..SIGNATURE.len() {
            let mut broken = SIGNATURE.to_vec();
            broken[at] ^= 1;
            assert!(verify(b"the data", &broken, HashAlgorithm::SHA256).is_err(), "{at}");
            assert!(verify(b"the data", &SIGNATURE[..at], HashAlgorithm::SHA256).is_err(), "{at}");
        }
        for at in 0..CERTIFICATE.len() {
            // Whatever comes of it: no panic.
            let _ = p224_key(&CERTIFICATE[..at]);
            let mut broken = CERTIFICATE.to_vec();
            broken[at] ^= 0x21;
            let _ = p224_key(&broken);
        }
    }
}
