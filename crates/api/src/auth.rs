//! Tokens: JSON Web Tokens (RFC 7519) signed with HS256, and what a request may do by them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_base::{ErrorKind, ParticipantId, RoomName};
use antiphon_record::ContactId;
use antiphon_shard::Grants;
use aws_lc_rs::hmac;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::ApiError;
use crate::id;

/// The longest token taken, in bytes: claims at their limits fit twice.
const MAX_TOKEN_BYTES: usize = 4_096;
/// By how much clocks of issuer and server may differ, in seconds.
const LEEWAY_S: u64 = 5;
/// WebSocket subprotocol by which a browser, which cannot set headers, gives its token.
const BEARER_PROTOCOL: &str = "bearer.";

/// One thing that a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// Send tracks.
    Publish,
    /// Receive tracks.
    Subscribe,
    /// Open the bot WebSocket.
    Bot,
    /// Mute and remove others, list who is there.
    Moderate,
    /// Stream contacts that are in the room into the store, read and delete what was streamed of them.
    Record,
    /// Change settings of the whole server; everything that `record` lets do, to any contact and stream.
    Admin,
}

impl Grant {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Publish, Self::Subscribe, Self::Bot, Self::Moderate, Self::Record, Self::Admin];
    /// What a token without a list grants.
    pub const DEFAULT: [Self; 3] = [Self::Publish, Self::Subscribe, Self::Bot];

    /// The word used in tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Bot => "bot",
            Self::Moderate => "moderate",
            Self::Record => "record",
            Self::Admin => "admin",
        }
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The one room it opens.
    pub room: RoomName,
    /// Who the bearer is. Absent: every connection is a participant of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<ParticipantId>,
    /// Name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The contact that its bearer is: one caller's conversation, whatever room and connection carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<ContactId>,
    /// Words of [`Grant`]; others are ignored. Absent: [`Grant::DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// Seconds since the Unix epoch at which it ends.
    pub exp: u64,
    /// When it was issued.
    #[serde(default)]
    pub iat: u64,
    /// Makes tokens of the same second differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

impl Claims {
    /// Claims for `room` that end after `ttl`, with the default grants and no identity.
    pub fn new(room: RoomName, ttl: Duration) -> Self {
        let now = unix_now();
        let jti = Some(random_hex());
        Self {
            room,
            sub: None,
            name: None,
            contact: None,
            grants: None,
            exp: now + ttl.as_secs(),
            iat: now,
            jti,
        }
    }

    /// Whether the token grants `grant`.
    pub fn has(&self, grant: Grant) -> bool {
        match &self.grants {
            None => Grant::DEFAULT.contains(&grant),
            Some(list) => list.iter().any(|g| g == grant.as_str()),
        }
    }
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn random_hex() -> String {
    let mut bytes = [0_u8; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random numbers");
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// The node's signing key. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Key {
    encoding: EncodingKey,
    decoding: DecodingKey,
    ids: hmac::Key,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Takes 32 random bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            ids: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// A token that says `claims`.
    pub fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .expect("claims are plain JSON and the key is one for HS256")
    }

    /// Checks the signature and the shape, not the time.
    pub(crate) fn read(&self, token: &str) -> Result<Claims, ApiError> {
        let unauthenticated = |m: &str| ApiError::new(ErrorKind::Unauthenticated, m);
        if token.len() > MAX_TOKEN_BYTES {
            return Err(unauthenticated("The token is longer than any this server makes. Get a new one."));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).map_err(|_| {
            unauthenticated(
                "The token does not verify: it was signed with another key, changed, or cut. \
                 Get a new one (`antiphon token --data DIR --room ROOM` on the server).",
            )
        })?;
        Ok(data.claims)
    }
}

/// A request with a token for the room in its path.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) room: RoomName,
    pub(crate) claims: Claims,
    token: String,
}

impl Access {
    /// 403 unless the token has `grant`.
    pub(crate) fn need(&self, grant: Grant) -> Result<(), ApiError> {
        if self.claims.has(grant) {
            return Ok(());
        }
        let message = format!("The token lacks the grant `{0}`. Get one made with it.", grant.as_str());
        Err(ApiError::new(ErrorKind::Forbidden, message))
    }

    /// What the token lets a participant do.
    pub(crate) fn grants(&self) -> Grants {
        Grants {
            publish: self.claims.has(Grant::Publish),
            subscribe: self.claims.has(Grant::Subscribe),
            moderate: self.claims.has(Grant::Moderate),
        }
    }

    /// The token's identity, or a new id.
    pub(crate) fn identity(&self, app: &App) -> ParticipantId {
        self.claims.sub.clone().unwrap_or_else(|| self.fresh_id(app))
    }

    /// A new id, whatever the token's identity.
    pub(crate) fn fresh_id(&self, app: &App) -> ParticipantId {
        id::fresh(&app.key().ids, &self.room, &self.token)
    }

    fn owns(&self, app: &App, participant: &ParticipantId) -> bool {
        self.claims.sub.as_ref() == Some(participant)
            || id::made_by(&app.key().ids, &self.room, &self.token, participant)
    }

    fn expired(&self) -> bool {
        expired(&self.claims)
    }
}

fn expired(claims: &Claims) -> bool {
    claims.exp.saturating_add(LEEWAY_S) < unix_now()
}

fn token_expired() -> ApiError {
    ApiError::new(ErrorKind::TokenExpired, "The token has expired. Get a new one and try again.")
}

impl FromRequestParts<App> for Access {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let access = access(parts, app).await?.0;
        if access.expired() { Err(token_expired()) } else { Ok(access) }
    }
}

/// A token of any room.
#[derive(Debug, Clone)]
pub(crate) struct AnyRoom(pub(crate) Claims);

impl FromRequestParts<App> for AnyRoom {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers)?;
        let claims = app.key().read(&token)?;
        if expired(&claims) {
            return Err(token_expired());
        }
        // Here, as those who take the path apart would answer in another shape.
        match RawPathParams::from_request_parts(parts, app).await {
            Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => Err(not_utf8()),
            _ => Ok(Self(claims)),
        }
    }
}

/// A request about one participant, by the one who made it or by a moderator.
///
/// What a token opened, it may close after its end: calls outlast tokens.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) room: RoomName,
    pub(crate) participant: ParticipantId,
    /// By the participant itself.
    pub(crate) own: bool,
}

impl FromRequestParts<App> for Resource {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let (access, id) = access(parts, app).await?;
        let id = id.unwrap_or_default();
        let participant =
            ParticipantId::new(&id).map_err(|e| ApiError::bad_request(format!("The participant id {e}.")))?;
        let own = access.owns(app, &participant);
        if !own {
            if access.expired() {
                return Err(token_expired());
            }
            access.need(Grant::Moderate).map_err(|_| {
                ApiError::new(
                    ErrorKind::Forbidden,
                    "This participant joined with another token. Use that one, or one with the grant `moderate`.",
                )
            })?;
        }
        Ok(Self { room: access.room, participant, own })
    }
}

fn not_utf8() -> ApiError {
    ApiError::bad_request("The path is not UTF-8.")
}

/// Token, room and participant of a request; its time is not checked.
async fn access(parts: &mut Parts, app: &App) -> Result<(Access, Option<String>), ApiError> {
    let params = RawPathParams::from_request_parts(parts, app).await.map_err(|_| not_utf8())?;
    let mut room = None;
    let mut id = None;
    for (key, value) in &params {
        match key {
            "room" => room = Some(room_name(value)?),
            "id" => id = Some(value.to_owned()),
            _ => {}
        }
    }
    let room = room.ok_or_else(|| ApiError::new(ErrorKind::NotFound, "There is no room in this path."))?;
    let token = bearer(&parts.headers)?;
    let claims = app.key().read(&token)?;
    if claims.room != room {
        return Err(ApiError::new(
            ErrorKind::Forbidden,
            format!("The token is for another room than {room}. Get one for this room."),
        ));
    }
    Ok((Access { room, claims, token }, id))
}

/// A room's name from a path.
pub(crate) fn room_name(text: &str) -> Result<RoomName, ApiError> {
    RoomName::new(text).map_err(|e| ApiError::bad_request(format!("The room name {e}.")))
}

/// The token of `Authorization: Bearer`, or of the WebSocket subprotocol `bearer.<token>`.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<String, ApiError> {
    let missing = || {
        ApiError::new(
            ErrorKind::Unauthenticated,
            "Send a token in the header `Authorization: Bearer <token>`. \
             `antiphon token` makes one; open rooms give one at POST /v1/rooms/{room}/guest-token.",
        )
    };
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.to_str().map_err(|_| missing())?;
        let (scheme, token) = value.split_once(' ').ok_or_else(missing)?;
        return if scheme.eq_ignore_ascii_case("bearer") {
            Ok(token.trim().to_owned())
        } else {
            Err(missing())
        };
    }
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .find_map(|p| p.trim().strip_prefix(BEARER_PROTOCOL))
        .map(str::to_owned)
        .ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_have_a_default_without_moderate() {
        let mut claims = Claims::new(RoomName::new("r").unwrap(), Duration::from_secs(60));
        assert_eq!(Grant::ALL.map(|g| claims.has(g)), [true, true, true, false, false, false]);
        claims.grants = Some(vec!["moderate".into(), "fly".into()]);
        assert_eq!(Grant::ALL.map(|g| claims.has(g)), [false, false, false, true, false, false]);
        claims.grants = Some(vec![]);
        assert!(!Grant::ALL.iter().any(|g| claims.has(*g)));
    }

    #[test]
    fn a_key_reads_only_what_it_signed() {
        let (key, other) = (Key::new(&[1; 32]), Key::new(&[2; 32]));
        let claims = Claims::new(RoomName::new("r").unwrap(), Duration::from_secs(60));
        let token = key.sign(&claims);
        assert_eq!(key.read(&token).unwrap(), claims);
        assert!(other.read(&token).is_err());
        assert!(key.read(&token[..token.len() - 4]).is_err());
        // {"alg":"none"}
        let body = token.split('.').nth(1).unwrap();
        assert!(key.read(&format!("eyJhbGciOiJub25lIn0.{body}.")).is_err());
        assert!(key.read(&"x".repeat(MAX_TOKEN_BYTES + 1)).is_err());
        assert_ne!(key.sign(&Claims::new(claims.room.clone(), Duration::from_secs(60))), token);
        assert_eq!(format!("{key:?}"), "Key");
    }
}
