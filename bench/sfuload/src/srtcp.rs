//! SRTCP by AES-GCM (RFC 7714): what a sink says is sealed, what the server reports is opened. No other profile: servers
//! that agree on none of these are measured with subscribers that decrypt (`--decrypt-every 1`).
use crate::keys::Keys;
use anyhow::{Result, anyhow, bail};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use str0m::crypto::dtls::SrtpProfile;

/// Bytes that are not encrypted: header and sender SSRC.
const CLEAR: usize = 8;
const TAG: usize = 16;
/// The E flag (RFC 3711, 3.4).
const ENCRYPTED: u32 = 1 << 31;
/// Key derivation labels of RTCP (RFC 3711, 4.3.2).
const LABEL_KEY: u8 = 3;
const LABEL_SALT: u8 = 5;

struct Direction {
    key: LessSafeKey,
    salt: [u8; 12],
}

/// Both directions of RTCP of one connection.
pub struct Srtcp {
    ours: Direction,
    theirs: Direction,
    next_index: u32,
}

impl Direction {
    fn derive(master: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Result<()> {
        let mut iv = [0; 16];
        iv[..salt.len()].copy_from_slice(salt);
        iv[7] ^= label;
        out.fill(0);
        let algorithm = if master.len() == 32 { &AES_256 } else { &AES_128 };
        let key = EncryptingKey::ctr(UnboundCipherKey::new(algorithm, master)?)?;
        key.less_safe_encrypt(out, EncryptionContext::Iv128(iv.into()))?;
        Ok(())
    }

    fn new(master: &[u8], salt: &[u8]) -> Result<Direction> {
        let (mut key, mut session_salt) = (vec![0; master.len()], [0; 12]);
        Self::derive(master, salt, LABEL_KEY, &mut key)?;
        Self::derive(master, salt, LABEL_SALT, &mut session_salt)?;
        let algorithm = if master.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        Ok(Direction { key: LessSafeKey::new(UnboundKey::new(algorithm, &key)?), salt: session_salt })
    }

    /// RFC 7714, 9.1.
    fn nonce(&self, ssrc: &[u8], index: u32) -> Nonce {
        let mut iv = [0; 12];
        iv[2..6].copy_from_slice(ssrc);
        iv[8..].copy_from_slice(&(index & !ENCRYPTED).to_be_bytes());
        iv.iter_mut().zip(&self.salt).for_each(|(a, b)| *a ^= b);
        Nonce::assume_unique_for_key(iv)
    }
}

impl Srtcp {
    pub fn new(keys: &Keys) -> Result<Srtcp> {
        let (key, salt) = match keys.profile {
            SrtpProfile::AEAD_AES_128_GCM => (16, 12),
            SrtpProfile::AEAD_AES_256_GCM => (32, 12),
            other => bail!("sinks do not speak {other:?}: use --decrypt-every 1"),
        };
        let m = keys.material.get(..2 * key + 2 * salt).ok_or_else(|| anyhow!("short keying material"))?;
        let side = |i: usize| Direction::new(&m[i * key..][..key], &m[2 * key + i * salt..][..salt]);
        let (client, server) = (side(0)?, side(1)?);
        let (ours, theirs) = if keys.active { (client, server) } else { (server, client) };
        Ok(Srtcp { ours, theirs, next_index: 0 })
    }

    /// Seals the RTCP packet in `out` in place.
    pub fn seal(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let index = self.next_index | ENCRYPTED;
        self.next_index += 1;
        let mut aad = [0; CLEAR + 4];
        aad[..CLEAR].copy_from_slice(&out[..CLEAR]);
        aad[CLEAR..].copy_from_slice(&index.to_be_bytes());
        let nonce = self.ours.nonce(&aad[4..8], index);
        let tag = self.ours.key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[CLEAR..])?;
        out.extend_from_slice(tag.as_ref());
        out.extend_from_slice(&index.to_be_bytes());
        Ok(())
    }

    /// Opens an SRTCP packet into `out`.
    pub fn open(&self, packet: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let at = packet.len().checked_sub(4).filter(|at| *at >= CLEAR + TAG)?;
        let (sealed, trailer) = packet.split_at(at);
        let index = u32::from_be_bytes(trailer.try_into().ok()?);
        let mut aad = [0; CLEAR + 4];
        aad[..CLEAR].copy_from_slice(&sealed[..CLEAR]);
        aad[CLEAR..].copy_from_slice(trailer);
        out.clear();
        out.extend_from_slice(sealed);
        let nonce = self.theirs.nonce(&aad[4..8], index);
        self.theirs.key.open_in_place(nonce, Aad::from(aad), &mut out[CLEAR..]).ok()?;
        out.truncate(sealed.len() - TAG);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_seals_the_other_opens() {
        for profile in [SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM] {
            let material: Vec<u8> = (0..88).collect();
            let side = |active| Srtcp::new(&Keys { profile, material: material.clone(), active }).unwrap();
            let (mut client, mut server) = (side(true), side(false));
            let plain: Vec<u8> = (0x80..0x80 + 28).collect();
            let mut opened = vec![];
            let mut sealed = plain.clone();
            client.seal(&mut sealed).unwrap();
            assert_eq!(sealed.len(), plain.len() + TAG + 4);
            server.open(&sealed, &mut opened).unwrap();
            assert_eq!(opened, plain);
            sealed[12] ^= 1;
            assert!(server.open(&sealed, &mut opened).is_none());
            let mut sealed = plain.clone();
            server.seal(&mut sealed).unwrap();
            client.open(&sealed, &mut opened).unwrap();
            assert_eq!(opened, plain);
        }
        assert!(
            Srtcp::new(&Keys {
                profile: SrtpProfile::AES128_CM_SHA1_80,
                material: vec![0; 60],
                active: true
            })
            .is_err()
        );
    }
}
