//! Servers with master keys that never leave them: they encrypt and decrypt data keys.
//!
//! Requests are sent by what the buckets use already. Each call is bounded: how long, how often, and how many at a time; while a server is
//! away calls fail at once, so that who goes through many keys does not wait for each.

mod caller;
pub mod kms;
mod patience;
pub mod vault;

use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::BASE64;

use crate::key::{KEY_BYTES, KeyError, Secret};

/// 12 bytes of nonce, the key, 16 of tag: nothing shorter is an authenticated ciphertext of a data key.
const MIN_SEALED_BYTES: usize = 12 + KEY_BYTES + 16;
/// Bytes of what a server made of a data key, at most: Amazon's bound. Amazon's are about 180, a Vault's about 90.
const MAX_BLOB_BYTES: usize = 6144;

/// The data key of an answer, which has it in base64.
fn data_key(text: &str) -> Result<Secret, KeyError> {
    let plain = BASE64.decode(text.as_bytes()).map_err(|_| KeyError::Unavailable)?;
    Ok(Secret(<[u8; KEY_BYTES]>::try_from(plain).map_err(|_| KeyError::Validation)?))
}

/// The base URL of a server without a `/` at its end: `https://HOST[:PORT]`, or with `http` where that will do.
fn base_url(text: &str, allow_http: bool) -> Result<&str, String> {
    let base = text.trim_end_matches('/');
    let host = match base.split_once("://") {
        Some(("https", host)) => host,
        Some(("http", host)) if allow_http => host,
        Some(("http", _)) => return Err("https://, or allow_http".into()),
        _ => return Err("https://HOST[:PORT]".into()),
    };
    let is_url = reqwest::Url::parse(base).is_ok();
    if is_url && is_authority(host) { Ok(base) } else { Err("a host and a port, nothing behind them".into()) }
}

/// Whether that is a host, with or without a port: what signs does not bear anything else.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "443"),
    };
    let good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => {
            let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let number = host.rsplit('.').next().is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit()));
            host.split('.').all(label) && (!number || host.parse::<Ipv4Addr>().is_ok())
        }
    };
    good && port.parse::<u16>().is_ok()
}
