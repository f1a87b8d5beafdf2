//! A client that speaks no AES-GCM in SRTP, as old devices do. The DTLS library always offers three profiles (RFC 5764, 4.1.1); here
//! the two others become unknown ones in the ClientHello on its way out, and in all that the client hashes or signs of it.

use std::sync::LazyLock;

use dimpl::CryptoError;
use dimpl::crypto::aws_lc_rs::default_provider;
use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, KeyProvider, SignatureAlgorithm,
    SigningKey,
};

/// The extension `use_srtp` as the library writes it: AES-256-GCM, AES-128-GCM, AES128_CM_SHA1_80, no MKI.
const OFFERED: [u8; 13] = [0, 14, 0, 9, 0, 6, 0, 8, 0, 7, 0, 1, 0];
/// The same with two profiles that nobody knows.
const LEGACY: [u8; 13] = [0, 14, 0, 9, 0, 6, 0xff, 8, 0xff, 7, 0, 1, 0];

/// What leaves, or is hashed, with the older profile alone.
pub(crate) fn offer(bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    if let Some(at) = bytes.windows(OFFERED.len()).position(|window| window == OFFERED) {
        changed[at..at + LEGACY.len()].copy_from_slice(&LEGACY);
    }
    changed
}

pub(super) fn provider() -> CryptoProvider {
    CryptoProvider { hash_provider: &Legacy, key_provider: &Legacy, ..default_provider() }
}

fn usual() -> &'static CryptoProvider {
    static USUAL: LazyLock<CryptoProvider> = LazyLock::new(default_provider);
    &USUAL
}

#[derive(Debug)]
struct Legacy;

impl HashProvider for Legacy {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        Box::new(Transcript(usual().hash_provider.create_hash(algorithm)))
    }
}

impl KeyProvider for Legacy {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        Ok(Box::new(Signer(usual().key_provider.load_private_key(key_der)?)))
    }
}

#[derive(Debug)]
struct Transcript(Box<dyn HashContext>);

impl HashContext for Transcript {
    fn update(&mut self, data: &[u8]) {
        self.0.update(&offer(data));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}

#[derive(Debug)]
struct Signer(Box<dyn SigningKey>);

impl SigningKey for Signer {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        self.0.sign(&offer(data), hash, out)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        self.0.supported_hash_algorithms()
    }
}
