//! STUN and TURN servers told to clients, and the passwords for them: fixed ones, or such that expire, made of a secret
//! shared with the TURN server (draft-uberti-behave-turn-rest-00, section 2.2; coturn's `use-auth-secret`).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64;

/// A STUN or TURN server, as in `RTCConfiguration` of browsers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IceServer {
    /// Its addresses as RFC 7064 and RFC 7065 write them: `stun:host`, `turn:host:port?transport=udp`, `turns:host`.
    pub urls: Vec<String>,
    /// Of TURN.
    pub username: Option<String>,
    /// Password of TURN.
    pub credential: Option<String>,
    /// Instead of both: how they are made for each client.
    pub shared: Option<SharedSecret>,
}

/// What user names and passwords that expire are made of.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret {
    /// The TURN server has it, too.
    pub secret: String,
    /// How long a password is good.
    pub ttl: Duration,
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords and secrets stay out of whatever prints a configuration.
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSecret").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl IceServer {
    /// What the client `name` is told, at `now_s` seconds after the Unix epoch: the same server with a user name and a
    /// password, if it asks for them, and without the secret.
    #[must_use]
    pub fn for_client(&self, now_s: u64, name: &str) -> Self {
        let Some(SharedSecret { secret, ttl }) = &self.shared else { return self.clone() };
        let username = format!("{}:{name}", now_s.saturating_add(ttl.as_secs()));
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let credential = BASE64.encode(hmac::sign(&key, username.as_bytes()).as_ref());
        let (urls, username, credential) = (self.urls.clone(), Some(username), Some(credential));
        Self { urls, username, credential, shared: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> IceServer {
        let shared = Some(SharedSecret { secret: "north".into(), ttl: Duration::from_secs(3_600) });
        IceServer { urls: vec!["turn:turn.example.org".into()], shared, ..IceServer::default() }
    }

    #[test]
    fn a_shared_secret_makes_passwords_that_expire() {
        let told = shared().for_client(1_433_895_918, "ada");
        assert_eq!(told.username.as_deref(), Some("1433899518:ada"));
        // printf 1433899518:ada | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(told.credential.as_deref(), Some("2CQCmsDciigx/CkZ4FAJhnGW+WI="));
        assert_eq!((told.urls, told.shared), (shared().urls, None));
    }

    #[test]
    fn fixed_passwords_are_told_as_they_are() {
        let fixed =
            IceServer { username: Some("u".into()), credential: Some("p".into()), ..IceServer::default() };
        assert_eq!(fixed.for_client(1, "ada"), fixed);
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", shared()).contains("north"));
        assert!(!format!("{:?}", shared().shared).contains("north"));
    }
}
