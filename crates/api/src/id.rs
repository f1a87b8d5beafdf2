//! Ids of participants whose token names no identity: `pa_` and 16 letters of base32.
//!
//! The first 40 bits are random, the last 40 are a MAC over room, token and the first: so any node can tell, without
//! remembering anything, that a participant was made by the token that now asks to remove it.

use antiphon_base::{ParticipantId, RoomName};
use aws_lc_rs::{constant_time, hmac, rand};

const HALF: usize = 5;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Keeps these MACs apart from the JWTs' signatures, which use the same key.
const PURPOSE: &[u8] = b"antiphon participant id 1\0";

/// A new id for a connection made with `token`.
pub(crate) fn fresh(key: &hmac::Key, room: &RoomName, token: &str) -> ParticipantId {
    let mut bytes = [0; 2 * HALF];
    rand::fill(&mut bytes[..HALF]).expect("the system gives random numbers");
    let tag = tag(key, room, token, &bytes[..HALF]);
    bytes[HALF..].copy_from_slice(&tag);
    ParticipantId::new(&format!("pa_{}", encode(bytes))).expect("letters and digits")
}

/// Whether `id` was made for a connection with `token`.
pub(crate) fn made_by(key: &hmac::Key, room: &RoomName, token: &str, id: &ParticipantId) -> bool {
    let Some(bytes) = id.as_str().strip_prefix("pa_").and_then(decode) else { return false };
    let (random, found) = bytes.split_at(HALF);
    constant_time::verify_slices_are_equal(&tag(key, room, token, random), found).is_ok()
}

/// 160 random bits: a path that only those know who were told.
pub(crate) fn secret() -> String {
    let half = || {
        let mut bytes = [0; 2 * HALF];
        rand::fill(&mut bytes).expect("the system gives random numbers");
        encode(bytes)
    };
    half() + &half()
}

fn tag(key: &hmac::Key, room: &RoomName, token: &str, random: &[u8]) -> [u8; HALF] {
    let mut mac = hmac::Context::with_key(key);
    for part in [PURPOSE, room.as_str().as_bytes(), b"\0", random, token.as_bytes()] {
        mac.update(part);
    }
    let mut out = [0; HALF];
    out.copy_from_slice(&mac.sign().as_ref()[..HALF]);
    out
}

fn encode(bytes: [u8; 2 * HALF]) -> String {
    let bits = bytes.iter().fold(0_u128, |acc, b| acc << 8 | u128::from(*b));
    (0..16).rev().map(|i| char::from(BASE32[usize::try_from(bits >> (5 * i) & 31).unwrap_or(0)])).collect()
}

fn decode(text: &str) -> Option<[u8; 2 * HALF]> {
    if text.len() != 16 {
        return None;
    }
    let mut bits = 0_u128;
    for c in text.bytes() {
        let digit = BASE32.iter().position(|b| *b == c)?;
        bits = bits << 5 | digit as u128;
    }
    let bytes = bits.to_be_bytes();
    let mut out = [0; 2 * HALF];
    out.copy_from_slice(&bytes[bytes.len() - 2 * HALF..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_knows_its_token() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let (room, other) = (RoomName::new("r").unwrap(), RoomName::new("s").unwrap());
        let id = fresh(&key, &room, "token");
        assert_eq!(id.as_str().len(), 3 + 16);
        assert!(made_by(&key, &room, "token", &id));
        assert!(!made_by(&key, &room, "another", &id));
        assert!(!made_by(&key, &other, "token", &id));
        for bad in ["alice", "pa_", "pa_1111111111111111", "pa_aaaaaaaaaaaaaaaa"] {
            assert!(!made_by(&key, &room, "token", &ParticipantId::new(bad).unwrap()), "{bad}");
        }
        assert_ne!(fresh(&key, &room, "token"), id);
    }
}
