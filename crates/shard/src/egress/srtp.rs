//! SRTP and SRTCP (RFC 3711, RFC 7714), by aws-lc: what we send is sealed in the send arena; of what comes in, RTCP is
//! opened, and RTP only checked, where a packet claims an SSRC that was not heard before.
//!
//! One owner: nobody else seals RTP under these keys. str0m seals RTCP under them, too, for SSRCs of its own; should it
//! ever draw one of ours, the indices still differ, because ours begin at [`FIRST_INDEX`] and its at 0.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use str0m::crypto::dtls::SrtpProfile;

use super::keys::Keys;
use crate::prefetch::prefetch;

/// Bytes of a truncated HMAC tag (RFC 3711, 4.2).
const SHA1_TAG: usize = 10;
/// Bytes of RTCP that are not encrypted: header and sender SSRC.
const RTCP_CLEAR: usize = 8;
/// The E flag of SRTCP (RFC 3711, 3.4).
const ENCRYPTED: u32 = 1 << 31;
/// Our first SRTCP index.
const FIRST_INDEX: u32 = 1 << 30;

/// Key derivation labels (RFC 3711, 4.3.2); RTCP's are 3 higher.
const LABEL_KEY: u8 = 0;
const LABEL_AUTH: u8 = 1;
const LABEL_SALT: u8 = 2;
const RTCP: u8 = 3;

/// One direction of one protocol.
enum Cipher {
    Gcm { key: LessSafeKey, salt: Salt },
    CmSha1 { key: Box<EncryptingKey>, auth: Box<hmac::Key>, salt: [u8; 14] },
}

/// Seals what we send to one peer.
pub(crate) struct Sealer {
    rtp: Cipher,
    rtcp: Cipher,
    next_index: u32,
}

/// Opens what one peer sends.
pub(crate) struct Opener {
    /// `None`: it sends no media. A key takes 1 kB.
    rtp: Option<Cipher>,
    rtcp: Cipher,
    replay: Vec<(u32, Replay)>,
}

/// SSRCs of one peer for which replay of SRTCP is watched; the oldest is forgotten.
const MAX_REPLAY: usize = 16;

/// The newest index of an SSRC and which of the 63 before it came (RFC 3711, 3.3.2).
#[derive(Clone, Copy, Default)]
struct Replay {
    newest: u32,
    seen: u64,
}

/// Both directions of a connection. An error: the material has not the length that its profile wants.
pub(crate) fn contexts(keys: &Keys) -> Result<(Sealer, Opener), Unspecified> {
    let (key_len, salt_len) = lengths(keys.profile)?;
    let (client, server) = (Master::of(keys, key_len, salt_len, 0)?, Master::of(keys, key_len, salt_len, 1)?);
    let (ours, theirs) = if keys.active { (client, server) } else { (server, client) };
    let sealer = Sealer {
        rtp: ours.cipher(keys.profile, 0)?,
        rtcp: ours.cipher(keys.profile, RTCP)?,
        next_index: FIRST_INDEX,
    };
    let opener = Opener {
        rtp: (!keys.listens).then(|| theirs.cipher(keys.profile, 0)).transpose()?,
        rtcp: theirs.cipher(keys.profile, RTCP)?,
        replay: Vec::new(),
    };
    Ok((sealer, opener))
}

fn lengths(profile: SrtpProfile) -> Result<(usize, usize), Unspecified> {
    match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Ok((16, 14)),
        SrtpProfile::AEAD_AES_128_GCM => Ok((16, 12)),
        SrtpProfile::AEAD_AES_256_GCM => Ok((32, 12)),
        _ => Err(Unspecified),
    }
}

/// A master key and salt (RFC 5764, 4.2: client key, server key, client salt, server salt).
struct Master<'a> {
    key: &'a [u8],
    salt: &'a [u8],
}

impl<'a> Master<'a> {
    fn of(keys: &'a Keys, key_len: usize, salt_len: usize, which: usize) -> Result<Self, Unspecified> {
        let key = keys.material.get(which * key_len..).and_then(|k| k.get(..key_len));
        let salt = keys.material.get(2 * key_len + which * salt_len..).and_then(|s| s.get(..salt_len));
        Ok(Self { key: key.ok_or(Unspecified)?, salt: salt.ok_or(Unspecified)? })
    }

    /// RFC 3711, 4.3.3: the key stream of AES-CM under the master key, at the salt changed by the label.
    fn derive(&self, label: u8, out: &mut [u8]) -> Result<(), Unspecified> {
        let mut iv = [0; 16];
        iv.get_mut(..self.salt.len()).ok_or(Unspecified)?.copy_from_slice(self.salt);
        iv[7] ^= label;
        out.fill(0);
        let algorithm = if self.key.len() == 32 { &AES_256 } else { &AES_128 };
        let key = EncryptingKey::ctr(UnboundCipherKey::new(algorithm, self.key)?)?;
        key.less_safe_encrypt(out, EncryptionContext::Iv128(iv.into()))?;
        Ok(())
    }

    fn cipher(&self, profile: SrtpProfile, protocol: u8) -> Result<Cipher, Unspecified> {
        let mut key = [0; 32];
        let key = key.get_mut(..self.key.len()).ok_or(Unspecified)?;
        self.derive(LABEL_KEY + protocol, key)?;
        if profile == SrtpProfile::AES128_CM_SHA1_80 {
            let (mut auth, mut salt) = ([0; 20], [0; 14]);
            self.derive(LABEL_AUTH + protocol, &mut auth)?;
            self.derive(LABEL_SALT + protocol, &mut salt)?;
            let key = Box::new(EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, key)?)?);
            let auth = Box::new(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth));
            return Ok(Cipher::CmSha1 { key, auth, salt });
        }
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        let mut salt = [0; 12];
        self.derive(LABEL_SALT + protocol, &mut salt)?;
        Ok(Cipher::Gcm { key: LessSafeKey::new(UnboundKey::new(algorithm, key)?), salt: Salt::new(salt) })
    }
}

/// Salt of AES-GCM, big-endian, in the two words in which aws-lc reads a nonce: one that is put together from bytes waits for
/// everything that was written before it, the packet's payload too (a load that two stores have made is not forwarded).
#[derive(Clone, Copy)]
struct Salt(u64, u32);

impl Salt {
    fn new(bytes: [u8; 12]) -> Self {
        let [head @ .., a, b, c, d] = bytes;
        Self(u64::from_be_bytes(head), u32::from_be_bytes([a, b, c, d]))
    }

    /// RFC 7714, 8.1: two zero bytes, SSRC, rollover counter and sequence number. RTCP's, of 9.1, has two more zero bytes and
    /// 31 bits of index.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the words of a nonce")]
    fn nonce(self, ssrc: u32, index: u64) -> Nonce {
        let head = (u64::from(ssrc) << 16) | (index >> 32 & 0xffff);
        let mut iv = [0; 12];
        iv[..8].copy_from_slice(&(head ^ self.0).to_be_bytes());
        iv[8..].copy_from_slice(&(index as u32 ^ self.1).to_be_bytes());
        Nonce::assume_unique_for_key(iv)
    }
}

/// RFC 3711, 4.1.1: salt * 2^16 xor SSRC * 2^64 xor index * 2^16.
fn cm_iv(salt: &[u8; 14], ssrc: u32, index: u64) -> EncryptionContext {
    let mut iv = [0; 16];
    iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
    iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
    xor(&mut iv, salt);
    EncryptionContext::Iv128(iv.into())
}

fn xor(iv: &mut [u8], salt: &[u8]) {
    for (a, b) in iv.iter_mut().zip(salt) {
        *a ^= b;
    }
}

/// Rollover counter as it is authenticated (RFC 3711, 4.2).
fn rollover(index: u64) -> [u8; 4] {
    let bytes = index.to_be_bytes();
    [bytes[2], bytes[3], bytes[4], bytes[5]]
}

impl Sealer {
    /// Seals the RTP packet that stands in `out` from `start` on, with a header of `header` bytes, and appends its tag.
    /// `index`: rollover counter and sequence number. The caller never gives the same for an SSRC twice.
    pub(crate) fn seal_rtp(
        &self,
        out: &mut Vec<u8>,
        start: usize,
        header: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<(), Unspecified> {
        let packet = out.get_mut(start..).ok_or(Unspecified)?;
        let (clear, payload) = packet.split_at_mut_checked(header).ok_or(Unspecified)?;
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let nonce = salt.nonce(ssrc, index);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&*clear), payload)?;
                out.extend_from_slice(tag.as_ref());
            }
            Cipher::CmSha1 { key, auth, salt } => {
                key.less_safe_encrypt(payload, cm_iv(salt, ssrc, index))?;
                let mut mac = hmac::Context::with_key(auth);
                mac.update(packet);
                mac.update(&rollover(index));
                out.extend_from_slice(mac.sign().as_ref().get(..SHA1_TAG).ok_or(Unspecified)?);
            }
        }
        Ok(())
    }

    /// Seals the compound RTCP packet that stands in `out` from `start` on.
    pub(crate) fn seal_rtcp(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), Unspecified> {
        let index = self.next_index;
        // RFC 3711, 9.2: a key ends with its indices.
        if index >= ENCRYPTED {
            return Err(Unspecified);
        }
        self.next_index += 1;
        let trailer = (index | ENCRYPTED).to_be_bytes();
        let packet = out.get_mut(start..).ok_or(Unspecified)?;
        let ssrc = sender_ssrc(packet).ok_or(Unspecified)?;
        let (clear, body) = packet.split_at_mut_checked(RTCP_CLEAR).ok_or(Unspecified)?;
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let aad = gcm_rtcp_aad(clear, trailer);
                let nonce = salt.nonce(ssrc, u64::from(index));
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), body)?;
                out.extend_from_slice(tag.as_ref());
                out.extend(trailer);
            }
            Cipher::CmSha1 { key, auth, salt } => {
                key.less_safe_encrypt(body, cm_iv(salt, ssrc, u64::from(index)))?;
                out.extend(trailer);
                let tag = hmac::sign(auth, out.get(start..).ok_or(Unspecified)?);
                out.extend_from_slice(tag.as_ref().get(..SHA1_TAG).ok_or(Unspecified)?);
            }
        }
        Ok(())
    }
}

fn sender_ssrc(rtcp: &[u8]) -> Option<u32> {
    let bytes: [u8; 4] = rtcp.get(4..8)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

fn gcm_rtcp_aad(clear: &[u8], trailer: [u8; 4]) -> [u8; 12] {
    let mut aad = [0; 12];
    aad[..8].copy_from_slice(clear.get(..8).unwrap_or(&[0; 8]));
    aad[8..].copy_from_slice(&trailer);
    aad
}

impl Opener {
    /// Asks for what says which packets came before.
    pub(crate) fn prefetch(&self) {
        if let Some(first) = self.replay.first() {
            prefetch(first);
        }
    }

    /// Opens an SRTCP packet into `out`, which is emptied first. `None`: not from this peer, or seen before.
    pub(crate) fn open_rtcp<'o>(&mut self, packet: &[u8], out: &'o mut Vec<u8>) -> Option<&'o [u8]> {
        let ssrc = sender_ssrc(packet)?;
        let tag = match self.rtcp {
            Cipher::Gcm { .. } => 0,
            Cipher::CmSha1 { .. } => SHA1_TAG,
        };
        let (sealed, mac) = packet.split_at_checked(packet.len().checked_sub(tag)?)?;
        let (body, trailer) = sealed.split_at_checked(sealed.len().checked_sub(4)?)?;
        let trailer: [u8; 4] = trailer.try_into().ok()?;
        let index = u32::from_be_bytes(trailer);
        let (clear, body) = body.split_at_checked(RTCP_CLEAR)?;
        // Everybody encrypts: what says that it is not is not for us.
        if index & ENCRYPTED == 0 {
            return None;
        }
        out.clear();
        out.extend_from_slice(clear);
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let aad = gcm_rtcp_aad(clear, trailer);
                out.extend_from_slice(body);
                let plain = out.get_mut(RTCP_CLEAR..)?;
                let nonce = salt.nonce(ssrc, u64::from(index & !ENCRYPTED));
                let length = key.open_in_place(nonce, Aad::from(aad), plain).ok()?.len();
                out.truncate(RTCP_CLEAR + length);
            }
            Cipher::CmSha1 { key, auth, salt } => {
                let right = hmac::sign(auth, sealed);
                aws_lc_rs::constant_time::verify_slices_are_equal(right.as_ref().get(..SHA1_TAG)?, mac)
                    .ok()?;
                out.extend_from_slice(body);
                key.less_safe_encrypt(
                    out.get_mut(RTCP_CLEAR..)?,
                    cm_iv(salt, ssrc, u64::from(index & !ENCRYPTED)),
                )
                .ok()?;
            }
        }
        self.is_new(ssrc, index & !ENCRYPTED).then_some(out.as_slice())
    }

    fn is_new(&mut self, ssrc: u32, index: u32) -> bool {
        let at = self.replay.iter().position(|(s, _)| *s == ssrc).unwrap_or_else(|| {
            if self.replay.len() == MAX_REPLAY {
                self.replay.remove(0);
            }
            self.replay.push((ssrc, Replay { newest: index, seen: 0 }));
            self.replay.len() - 1
        });
        self.replay.get_mut(at).is_some_and(|(_, r)| r.take(index))
    }

    /// Whether an RTP packet is the peer's, if it stands at the beginning of its stream (rollover counter 0 or 1): what
    /// is not would make str0m forget the stream that it claims to be.
    pub(crate) fn is_genuine_rtp(&self, packet: &[u8]) -> bool {
        self.check_rtp(packet, 0).or_else(|| self.check_rtp(packet, 1)).is_some()
    }

    fn check_rtp(&self, packet: &[u8], roc: u64) -> Option<()> {
        let header = header_bytes(packet)?;
        let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
        let ssrc = u32::from(word(8)?) << 16 | u32::from(word(10)?);
        let index = roc << 16 | u64::from(word(2)?);
        match self.rtp.as_ref()? {
            Cipher::Gcm { key, salt } => {
                let (clear, sealed) = packet.split_at_checked(header)?;
                let mut sealed = sealed.to_vec();
                key.open_in_place(salt.nonce(ssrc, index), Aad::from(clear), &mut sealed).ok()?;
            }
            Cipher::CmSha1 { auth, .. } => {
                let (sealed, mac) = packet.split_at_checked(packet.len().checked_sub(SHA1_TAG)?)?;
                let mut right = hmac::Context::with_key(auth);
                right.update(sealed);
                right.update(&rollover(index));
                let right = right.sign();
                aws_lc_rs::constant_time::verify_slices_are_equal(right.as_ref().get(..SHA1_TAG)?, mac)
                    .ok()?;
            }
        }
        Some(())
    }
}

/// Length of an RTP header with its CSRCs and extension (RFC 3550, 5.1).
fn header_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut length = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let words = u16::from_be_bytes([*packet.get(length + 2)?, *packet.get(length + 3)?]);
        length += 4 + 4 * usize::from(words);
    }
    Some(length)
}

impl Replay {
    fn take(&mut self, index: u32) -> bool {
        if index > self.newest {
            let by = index - self.newest;
            self.seen = self.seen.checked_shl(by).unwrap_or(0) | 1;
            self.newest = index;
            return true;
        }
        let behind = self.newest - index;
        let bit = 1u64.checked_shl(behind).unwrap_or(0);
        let new = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        new
    }
}

#[cfg(test)]
mod tests;
