//! str0m's SRTP ciphers, made when they are first used.
//!
//! str0m makes four for each connection, some 2 kB each: both directions of RTP and RTCP. Who only watches needs none of
//! them, since what it is sent is ours ([`super::srtp`]), and so is what it tells of that.

use std::fmt;

use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, CryptoError, SrtpProvider, SupportedAeadAes128Gcm,
    SupportedAeadAes256Gcm, SupportedAes128CmSha1_80, from_feature_flags,
};

/// The usual provider, but for when its ciphers are made.
#[derive(Debug)]
pub(super) struct Provider;

/// A key, and the cipher once there is one.
struct Lazy<const N: usize, C: ?Sized> {
    key: [u8; N],
    encrypt: bool,
    made: Option<Box<C>>,
}

impl<const N: usize, C: ?Sized> fmt::Debug for Lazy<N, C> {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lazy").field("made", &self.made.is_some()).finish_non_exhaustive()
    }
}

fn usual() -> &'static dyn SrtpProvider {
    from_feature_flags().srtp_provider
}

impl SrtpProvider for Provider {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        // It holds a key only.
        usual().aes_128_cm_sha1_80()
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Provider
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Provider
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        usual().srtp_aes_128_ecb_round(key, input, output);
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        usual().srtp_aes_256_ecb_round(key, input, output);
    }
}

impl SupportedAeadAes128Gcm for Provider {
    fn create_cipher(&self, key: [u8; 16], encrypt: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(Lazy { key, encrypt, made: None })
    }
}

impl SupportedAeadAes256Gcm for Provider {
    fn create_cipher(&self, key: [u8; 32], encrypt: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Lazy { key, encrypt, made: None })
    }
}

impl Lazy<16, dyn AeadAes128GcmCipher> {
    fn cipher(&mut self) -> &mut dyn AeadAes128GcmCipher {
        let (key, encrypt) = (self.key, self.encrypt);
        &mut **self.made.get_or_insert_with(|| usual().aead_aes_128_gcm().create_cipher(key, encrypt))
    }
}

impl Lazy<32, dyn AeadAes256GcmCipher> {
    fn cipher(&mut self) -> &mut dyn AeadAes256GcmCipher {
        let (key, encrypt) = (self.key, self.encrypt);
        &mut **self.made.get_or_insert_with(|| usual().aead_aes_256_gcm().create_cipher(key, encrypt))
    }
}

impl AeadAes128GcmCipher for Lazy<16, dyn AeadAes128GcmCipher> {
    fn encrypt(&mut self, iv: &[u8; 12], aad: &[u8], from: &[u8], to: &mut [u8]) -> Result<(), CryptoError> {
        self.cipher().encrypt(iv, aad, from, to)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        from: &[u8],
        to: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.cipher().decrypt(iv, aads, from, to)
    }
}

impl AeadAes256GcmCipher for Lazy<32, dyn AeadAes256GcmCipher> {
    fn encrypt(&mut self, iv: &[u8; 12], aad: &[u8], from: &[u8], to: &mut [u8]) -> Result<(), CryptoError> {
        self.cipher().encrypt(iv, aad, from, to)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        from: &[u8],
        to: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.cipher().decrypt(iv, aads, from, to)
    }
}
