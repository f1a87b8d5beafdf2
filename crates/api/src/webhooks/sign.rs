//! Secrets and signatures (Standard Webhooks 1.0.0, "Signature scheme": symmetric).

use aws_lc_rs::hmac;
use data_encoding::BASE64;

use super::Url;

/// What a secret's text begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret: what the specification asks for.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// Why a secret was refused. Says nothing of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretError;

impl std::fmt::Display for SecretError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a secret is whsec_ and 24 to 64 bytes in base64")
    }
}

impl std::error::Error for SecretError {}

/// What only we and a receiver know.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// From its text, `whsec_...`.
    ///
    /// # Errors
    /// Another form.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_| SecretError)?;
        let good = LENGTH.contains(&bytes.len());
        good.then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))).ok_or(SecretError)
    }

    /// The text of one that a node's key gives for a URL: nobody without that key can make it.
    pub fn derive(key: &[u8; 32], url: &Url) -> String {
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        mac.update(b"antiphon webhook secret 1\0");
        mac.update(url.as_str().as_bytes());
        format!("{PREFIX}{}", BASE64.encode(mac.sign().as_ref()))
    }
}

/// The three headers.
pub(super) struct Signed {
    pub(super) id: String,
    pub(super) timestamp: String,
    pub(super) signature: String,
}

/// Signs one attempt with each secret.
pub(super) fn headers(secrets: &[Secret], id: &str, timestamp: u64, body: &[u8]) -> Signed {
    let one = |secret: &Secret| {
        let mut mac = hmac::Context::with_key(&secret.0);
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(mac.sign().as_ref()))
    };
    let signatures: Vec<String> = secrets.iter().map(one).collect();
    Signed { id: id.to_owned(), timestamp: timestamp.to_string(), signature: signatures.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the specification's own libraries.
    #[test]
    fn the_signature_is_the_specifications() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = headers(&[secret.clone(), secret], id, 1_614_265_330, br#"{"test": 2432232314}"#);
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!((signed.id.as_str(), signed.timestamp.as_str()), (id, "1614265330"));
        assert_eq!(signed.signature, format!("{one} {one}"));
    }

    #[test]
    fn secrets_have_their_form_and_are_never_shown() {
        let url: Url = "https://example.com/hook".parse().unwrap();
        let derived = Secret::derive(&[7; 32], &url);
        assert_eq!(derived, Secret::derive(&[7; 32], &url));
        assert_ne!(derived, Secret::derive(&[8; 32], &url));
        assert_ne!(derived, Secret::derive(&[7; 32], &"https://example.com/other".parse().unwrap()));
        assert_eq!(format!("{:?}", Secret::parse(&derived).unwrap()), "Secret");
        let of = |bytes: usize| format!("{PREFIX}{}", BASE64.encode(&vec![1; bytes]));
        assert!(Secret::parse(&of(24)).is_ok() && Secret::parse(&of(64)).is_ok());
        for bad in [of(23), of(65), "whsec_".into(), "whsec_%".into(), BASE64.encode(&[1; 32])] {
            assert!(matches!(Secret::parse(&bad), Err(SecretError)), "{bad}");
        }
    }
}
