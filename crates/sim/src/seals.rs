//! Everything that the server seals for one client, opened with the client's keys before the network has it (RFC 3711, RFC 7714):
//! which (key, SSRC, index) were used, and by whom. Written by itself, since it checks the server's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::{constant_time, hmac};
use str0m::crypto::dtls::SrtpProfile;

use crate::dtls::{KeySlot, Keys};

/// Header and sender SSRC of RTCP are not encrypted.
const RTCP_CLEAR: usize = 8;
/// The E flag of SRTCP (RFC 3711, 3.4).
const ENCRYPTED: u32 = 1 << 31;
/// Bytes of a tag of HMAC-SHA1-80.
const SHA1_TAG: usize = 10;
/// Packet type of a sender report.
const SENDER_REPORT: u8 = 200;

/// First bytes of a generic NACK: version, no padding, format 1; packet type 205.
const GENERIC_NACK: [u8; 2] = [0x81, 205];

/// A sender report (RFC 3550, 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// Of whom.
    pub ssrc: u32,
    /// NTP time, 32.32 bits.
    pub ntp: u64,
    /// The same moment in RTP time.
    pub rtp_time: u32,
}

/// A packet of the client's that the server asks for again (generic NACK, RFC 4585, 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// When.
    pub at: Instant,
    /// Of which stream.
    pub ssrc: u32,
    /// Its sequence number.
    pub seq: u16,
}

/// What one connection's server side has sealed.
#[derive(Default)]
pub struct Seals {
    keys: KeySlot,
    openers: Option<[Opener; 2]>,
    /// Sealed before the client had its keys.
    waiting: Vec<(Instant, Vec<u8>)>,
    /// Extended sequence numbers by SSRC.
    pub rtp: BTreeMap<u32, BTreeSet<u64>>,
    /// SRTCP indices by the SSRC that is in the nonce, and by each that a sender report is of.
    pub rtcp: BTreeMap<u32, BTreeSet<u32>>,
    /// Sender reports in their order.
    pub reports: Vec<SenderReport>,
    /// What was asked for again, in order.
    pub requests: Vec<Request>,
    /// SRTCP packets.
    pub compounds: u64,
    /// What did not open, or had been used before.
    pub faults: Vec<String>,
}

impl Seals {
    pub(crate) fn new(keys: KeySlot) -> Self {
        Self { keys, ..Self::default() }
    }

    /// The profile that was agreed on.
    pub fn profile(&self) -> Option<SrtpProfile> {
        self.keys.get().map(|keys| keys.profile)
    }

    /// The keying material of the connection: what no other one has.
    pub fn material(&self) -> Option<Vec<u8>> {
        self.keys.get().map(|keys| keys.material)
    }

    /// RTP packets that were opened.
    pub fn packets(&self) -> usize {
        self.rtp.values().map(BTreeSet::len).sum()
    }

    /// Datagrams that could not be looked at, since the client has no keys.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// SSRCs whose reports are not from one count. A count goes up by one with each SRTCP packet of the connection, so two of them
    /// that begin at different numbers are further apart than there are packets.
    pub fn shared(&self) -> Vec<u32> {
        let apart = |indices: &BTreeSet<u32>| {
            let span = indices.last().zip(indices.first()).map(|(last, first)| u64::from(last - first));
            span.is_some_and(|span| span >= self.compounds)
        };
        self.rtcp.iter().filter(|(_, indices)| apart(indices)).map(|(ssrc, _)| *ssrc).collect()
    }

    /// A datagram leaves the server.
    pub(crate) fn take(&mut self, now: Instant, datagram: &[u8]) {
        if !matches!(datagram, [128..=191, ..]) {
            return;
        }
        if self.openers.is_none() {
            self.openers = self.keys.get().map(|keys| Opener::pair(&keys));
        }
        self.waiting.push((now, datagram.to_vec()));
        let Some([rtp, rtcp]) = self.openers.take() else { return };
        for (at, datagram) in std::mem::take(&mut self.waiting) {
            let taken = match datagram[1] {
                192..=223 => self.take_rtcp(at, &rtcp, &datagram),
                _ => self.take_rtp(&rtp, &datagram),
            };
            if taken.is_none() {
                self.faults.push(format!("does not open: {:?}", &datagram[..datagram.len().min(16)]));
            }
        }
        self.openers = Some([rtp, rtcp]);
    }

    fn take_rtp(&mut self, opener: &Opener, packet: &[u8]) -> Option<()> {
        let (seq, ssrc) = (u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]), word(packet, 8)?);
        let used = self.rtp.entry(ssrc).or_default();
        // As a receiver guesses the rollover counter (RFC 3711, 3.3.1). The seal shows whether the guess is right.
        let newest = used.last().copied().unwrap_or(u64::from(seq));
        let low = u16::try_from(newest & 0xffff).expect("16 bits");
        let index = newest.checked_add_signed(i64::from(seq.wrapping_sub(low).cast_signed()))?;
        opener.open_rtp(packet, ssrc, index)?;
        if !used.insert(index) {
            self.faults.push(format!("SRTP of {ssrc:08x}: index {index} twice"));
        }
        Some(())
    }

    fn take_rtcp(&mut self, at: Instant, opener: &Opener, packet: &[u8]) -> Option<()> {
        let (index, plain) = opener.open_rtcp(packet)?;
        self.compounds += 1;
        let sender = word(&plain, 4)?;
        if !self.rtcp.entry(sender).or_default().insert(index) {
            self.faults.push(format!("SRTCP of {sender:08x}: index {index} twice"));
        }
        let mut rest = plain.as_slice();
        while !rest.is_empty() {
            let length = 4 * (usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?])) + 1);
            let (one, tail) = rest.split_at_checked(length)?;
            if one[1] == SENDER_REPORT {
                let (high, low) = (word(one, 8)?, word(one, 12)?);
                let ntp = u64::from(high) << 32 | u64::from(low);
                let report = SenderReport { ssrc: word(one, 4)?, ntp, rtp_time: word(one, 16)? };
                self.rtcp.entry(report.ssrc).or_default().insert(index);
                self.reports.push(report);
            }
            if one[..2] == GENERIC_NACK {
                self.take_requests(at, one);
            }
            rest = tail;
        }
        Some(())
    }

    /// Each entry names one packet, and by a bit each of the sixteen after it.
    fn take_requests(&mut self, at: Instant, nack: &[u8]) {
        let Some(ssrc) = word(nack, 8) else { return };
        for entry in nack.get(12..).unwrap_or_default().chunks_exact(4) {
            let (first, more) =
                (u16::from_be_bytes([entry[0], entry[1]]), u16::from_be_bytes([entry[2], entry[3]]));
            let after = (0..16).filter(|bit| more >> bit & 1 == 1).map(|bit| first.wrapping_add(bit + 1));
            self.requests.extend([first].into_iter().chain(after).map(|seq| Request { at, ssrc, seq }));
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// What one protocol's packets are opened with.
struct Opener {
    suite: Suite,
    salt: [u8; 14],
}

enum Suite {
    Gcm(Box<LessSafeKey>),
    CmSha1 { key: Box<EncryptingKey>, auth: Box<hmac::Key> },
}

impl Opener {
    /// For the server's RTP and RTCP.
    fn pair(keys: &Keys) -> [Self; 2] {
        let (key, salt) = match keys.profile {
            SrtpProfile::AES128_CM_SHA1_80 => (16, 14),
            SrtpProfile::AEAD_AES_256_GCM => (32, 12),
            _ => (16, 12),
        };
        // RFC 5764, 4.2: client key, server key, client salt, server salt.
        let server = usize::from(keys.active);
        let master = &keys.material[server * key..][..key];
        let master_salt = &keys.material[2 * key + server * salt..][..salt];
        [0, 3].map(|protocol| Self::new(keys.profile, master, master_salt, protocol))
    }

    /// RFC 3711, 4.3: labels 0 to 2 are key, authentication and salt of RTP; those of RTCP are 3 higher.
    fn new(profile: SrtpProfile, master: &[u8], master_salt: &[u8], protocol: u8) -> Self {
        let derive = |label: u8, out: &mut [u8]| {
            let mut iv = [0; 16];
            iv[..master_salt.len()].copy_from_slice(master_salt);
            iv[7] ^= label + protocol;
            counter(master).less_safe_encrypt(out, EncryptionContext::Iv128(iv.into())).expect("any length");
        };
        let (mut key, mut salt, mut auth) = (vec![0; master.len()], [0; 14], [0; 20]);
        derive(0, &mut key);
        derive(1, &mut auth);
        derive(2, &mut salt[..master_salt.len()]);
        let gcm = |algorithm| {
            Suite::Gcm(Box::new(LessSafeKey::new(
                UnboundKey::new(algorithm, &key).expect("its length is right"),
            )))
        };
        let suite = match profile {
            SrtpProfile::AES128_CM_SHA1_80 => Suite::CmSha1 {
                key: Box::new(counter(&key)),
                auth: Box::new(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth)),
            },
            SrtpProfile::AEAD_AES_256_GCM => gcm(&AES_256_GCM),
            _ => gcm(&AES_128_GCM),
        };
        Self { suite, salt }
    }

    /// RFC 7714, 8.1 and 9.1: two zero bytes, SSRC, and the index in 48 bits.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut iv = [0; 12];
        iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
        iv[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        iv.iter_mut().zip(self.salt).for_each(|(a, b)| *a ^= b);
        Nonce::assume_unique_for_key(iv)
    }

    /// Only if it is sealed with this key at this index.
    fn open_rtp(&self, packet: &[u8], ssrc: u32, index: u64) -> Option<()> {
        let mut header = 12 + 4 * usize::from(packet[0] & 0x0f);
        if packet[0] & 0x10 != 0 {
            header +=
                4 + 4 * usize::from(u16::from_be_bytes([*packet.get(header + 2)?, *packet.get(header + 3)?]));
        }
        match &self.suite {
            Suite::Gcm(key) => {
                let (clear, sealed) = packet.split_at_checked(header)?;
                key.open_in_place(self.nonce(ssrc, index), Aad::from(clear), &mut sealed.to_vec()).ok()?;
            }
            Suite::CmSha1 { auth, .. } => {
                let (sealed, tag) = packet.split_at_checked(packet.len().checked_sub(SHA1_TAG)?)?;
                let rollover = u32::try_from(index >> 16).ok()?.to_be_bytes();
                let right = hmac::sign(auth, &[sealed, &rollover].concat());
                constant_time::verify_slices_are_equal(&right.as_ref()[..SHA1_TAG], tag).ok()?;
            }
        }
        Some(())
    }

    /// The index and the compound packet.
    fn open_rtcp(&self, packet: &[u8]) -> Option<(u32, Vec<u8>)> {
        let ssrc = word(packet, 4)?;
        match &self.suite {
            Suite::Gcm(key) => {
                let (sealed, trailer) = packet.split_at_checked(packet.len().checked_sub(4)?)?;
                let index = word(trailer, 0).filter(|index| index & ENCRYPTED != 0)? & !ENCRYPTED;
                let (clear, body) = sealed.split_at_checked(RTCP_CLEAR)?;
                let (aad, mut body) = ([clear, trailer].concat(), body.to_vec());
                let body =
                    key.open_in_place(self.nonce(ssrc, index.into()), Aad::from(aad), &mut body).ok()?;
                Some((index, [clear, body].concat()))
            }
            Suite::CmSha1 { key, auth } => {
                let (sealed, tag) = packet.split_at_checked(packet.len().checked_sub(SHA1_TAG)?)?;
                let right = hmac::sign(auth, sealed);
                constant_time::verify_slices_are_equal(&right.as_ref()[..SHA1_TAG], tag).ok()?;
                let (body, trailer) = sealed.split_at_checked(sealed.len().checked_sub(4)?)?;
                let index = word(trailer, 0).filter(|index| index & ENCRYPTED != 0)? & !ENCRYPTED;
                // RFC 3711, 4.1.1. To decrypt is to encrypt.
                let mut iv = [0; 16];
                iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
                iv[10..14].copy_from_slice(&index.to_be_bytes());
                iv.iter_mut().zip(self.salt).for_each(|(a, b)| *a ^= b);
                let mut plain = body.to_vec();
                key.less_safe_encrypt(plain.get_mut(RTCP_CLEAR..)?, EncryptionContext::Iv128(iv.into()))
                    .ok()?;
                Some((index, plain))
            }
        }
    }
}

fn counter(key: &[u8]) -> EncryptingKey {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let key = UnboundCipherKey::new(algorithm, key).expect("its length is right");
    EncryptingKey::ctr(key).expect("any key does")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_index_and_a_foreign_seal_are_faults() {
        let mut seals = Seals::default();
        let keys = Keys { profile: SrtpProfile::AEAD_AES_128_GCM, material: (0..56).collect(), active: true };
        let [opener, _] = Opener::pair(&keys);
        let sealed = |seq: u16, index: u64| {
            let mut packet = [&[0x80, 96][..], &seq.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 7]].concat();
            let Suite::Gcm(key) = &opener.suite else { panic!("another suite") };
            let mut body = b"payload".to_vec();
            key.seal_in_place_append_tag(opener.nonce(7, index), Aad::from(packet.clone()), &mut body)
                .unwrap();
            packet.extend(body);
            packet
        };
        seals.take(Instant::now(), &sealed(65_535, 65_535));
        assert_eq!(seals.waiting(), 1, "there are no keys yet");
        seals.openers = Some(Opener::pair(&keys));
        seals.take(Instant::now(), &sealed(0, 65_536));
        assert_eq!((seals.packets(), seals.faults.len(), seals.waiting()), (2, 0, 0));
        seals.take(Instant::now(), &sealed(0, 65_536));
        assert!(seals.faults.pop().unwrap().contains("twice"));
        seals.take(Instant::now(), &sealed(1, 1));
        assert!(seals.faults.pop().unwrap().contains("does not open"));
    }

    #[test]
    fn an_ssrc_with_two_counts_is_shared() {
        let mut seals = Seals { compounds: 100, ..Seals::default() };
        seals.rtcp.insert(1, [5, 90].into());
        seals.rtcp.insert(2, [5, 1 << 30].into());
        assert_eq!(seals.shared(), [2]);
    }
}
