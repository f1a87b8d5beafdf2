//! Tokens for programs that shall not have a permanent key: a JSON Web Token to send as `Authorization: Bearer`, and the same
//! as the session credentials that AWS clients know. `POST /v1/tokens` makes them.
//!
//! Nothing is kept: the secret that belongs to a token is derived from it with the node's key, so any node verifies both.

use std::time::Duration;

use aws_lc_rs::hmac;
use axum::extract::{Request, State};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::access::Policy;
use crate::control::{Answer, answer, read};
use crate::error::KvsError;
use crate::playback::SessionKey;
use crate::sigv4::{Credentials, Refusal};
use crate::{Kvs, now_ms, time};

/// The longest token taken, in bytes: a policy at its limits has 64 patterns of 256 bytes for each of two things, which nobody
/// writes; headers have to fit the server's limit.
const MAX_TOKEN_BYTES: usize = 8_192;
/// As long as the longest session that AWS gives out.
pub const MAX_TTL: Duration = Duration::from_secs(36 * 3_600);
const DEFAULT_TTL_S: u64 = 3_600;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// What its bearer may do.
    pub policy: Policy,
    /// Seconds since 1970 at which it ends.
    pub exp: u64,
    /// Makes tokens of the same second differ.
    pub jti: String,
}

impl Claims {
    /// The access key that stands for the token.
    pub(crate) fn key_id(&self) -> String {
        format!("ASIA{}", self.jti.to_ascii_uppercase())
    }
}

/// A token in its three forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// For `Authorization: Bearer`.
    pub token: String,
    /// For AWS clients.
    pub credentials: Credentials,
    /// Seconds since 1970 at which both end.
    pub expires_s: u64,
}

/// Session credentials that were recognised.
pub(crate) struct Session {
    pub(crate) credentials: Credentials,
    pub(crate) policy: Policy,
}

/// Makes and reads tokens with the node's key. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    secrets: hmac::Key,
    playback: [u8; 32],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Tokens {
    /// With the node's signing key. What is made here is good for nothing else that key signs: another key is derived.
    pub fn new(node: &[u8; 32]) -> Self {
        let node = hmac::Key::new(hmac::HMAC_SHA256, node);
        let derive = |purpose: &str| hmac::sign(&node, purpose.as_bytes());
        let signing = derive("tokens of streams");
        let playback = derive("playback of streams").as_ref().try_into().expect("SHA-256 has 32 bytes");
        Self {
            encoding: EncodingKey::from_secret(signing.as_ref()),
            decoding: DecodingKey::from_secret(signing.as_ref()),
            secrets: hmac::Key::new(hmac::HMAC_SHA256, derive("session credentials of streams").as_ref()),
            playback,
        }
    }

    /// What seals the sessions of players.
    pub(crate) fn playback(&self) -> SessionKey {
        SessionKey::new(&self.playback)
    }

    /// A token for a policy.
    pub fn issue(&self, policy: Policy, ttl: Duration, now_s: u64) -> Issued {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).expect("the system gives random numbers");
        let claims = Claims { policy, exp: now_s + ttl.min(MAX_TTL).as_secs(), jti: hex(&random) };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .expect("claims are plain JSON and the key is one for HS256");
        let credentials = self.credentials(&token, &claims);
        Issued { token, credentials, expires_s: claims.exp }
    }

    fn credentials(&self, token: &str, claims: &Claims) -> Credentials {
        Credentials {
            // As AWS marks temporary ones.
            access_key_id: claims.key_id(),
            secret_access_key: hex(hmac::sign(&self.secrets, token.as_bytes()).as_ref()),
            session_token: Some(token.to_owned()),
        }
    }

    pub(crate) fn read(&self, token: &str, now_s: u64) -> Result<Claims, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Token);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        let read = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation);
        let claims = read.map_err(|_| Refusal::Token)?.claims;
        if claims.exp <= now_s { Err(Refusal::TokenExpired) } else { Ok(claims) }
    }

    /// The credentials that a token of theirs belongs to.
    pub(crate) fn session(&self, key_id: &str, token: &str, now_s: u64) -> Result<Session, Refusal> {
        let claims = self.read(token, now_s)?;
        let credentials = self.credentials(token, &claims);
        if credentials.access_key_id != key_id {
            return Err(Refusal::Token);
        }
        Ok(Session { credentials, policy: claims.policy })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    actions: Vec<String>,
    streams: Vec<String>,
    contacts: Option<Vec<String>>,
    ttl_s: Option<u64>,
}

/// Makes a token that allows no more than the key which asks for it.
pub(crate) async fn create(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, wanted): (_, Wanted) = read(&kvs, "CreateToken", request).await?;
    let policy = Policy { actions: wanted.actions, streams: wanted.streams, contacts: wanted.contacts };
    policy.check().map_err(KvsError::invalid)?;
    // What was made from a key may not live on in what is made from it.
    if !caller.permanent || !caller.policy().covers(&policy) {
        return Err(crate::access::denied("CreateToken"));
    }
    let ttl_s = wanted.ttl_s.unwrap_or(DEFAULT_TTL_S);
    if !(1..=MAX_TTL.as_secs()).contains(&ttl_s) {
        return Err(KvsError::invalid(format!("ttl_s: 1 to {}.", MAX_TTL.as_secs())));
    }
    let issued = kvs.tokens().issue(policy, Duration::from_secs(ttl_s), now_ms() / 1000);
    if issued.token.len() > MAX_TOKEN_BYTES {
        return Err(KvsError::invalid(format!("A token of this has more than {MAX_TOKEN_BYTES} bytes.")));
    }
    Ok(answer(&issued.to_json()))
}

impl Issued {
    /// As `POST /v1/tokens` and the command line give it.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "token": self.token,
            "access_key_id": self.credentials.access_key_id,
            "secret_access_key": self.credentials.secret_access_key,
            "session_token": self.token,
            "expiration": time::to_iso_8601(self.expires_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    #[test]
    fn a_token_is_good_for_its_node_its_key_and_its_time() {
        let (tokens, other) = (Tokens::new(&[1; 32]), Tokens::new(&[2; 32]));
        let issued = tokens.issue(Policy::everything(), Duration::from_secs(60), NOW);
        let id = &issued.credentials.access_key_id;
        assert_eq!(tokens.read(&issued.token, NOW + 59).unwrap().policy, Policy::everything());
        assert_eq!(tokens.read(&issued.token, NOW + 60), Err(Refusal::TokenExpired));
        assert_eq!(other.read(&issued.token, NOW), Err(Refusal::Token));
        assert_eq!(tokens.read(&issued.token[..issued.token.len() - 2], NOW), Err(Refusal::Token));
        assert_eq!(tokens.read(&"x".repeat(MAX_TOKEN_BYTES + 1), NOW), Err(Refusal::Token));
        assert_eq!(tokens.session(id, &issued.token, NOW).unwrap().credentials, issued.credentials);
        assert!(matches!(tokens.session("ASIA0", &issued.token, NOW), Err(Refusal::Token)));
        let again = tokens.issue(Policy::everything(), Duration::from_secs(60), NOW);
        assert_ne!(issued.credentials, again.credentials);
        assert_eq!(tokens.issue(Policy::everything(), Duration::MAX, NOW).expires_s, NOW + MAX_TTL.as_secs());
        assert_eq!(
            format!("{tokens:?} {issued:?}").matches(&issued.credentials.secret_access_key).count(),
            0
        );
    }
}
