//! Kinds of errors that cross crate borders. `api` holds the one table that maps them to status codes.

use serde::{Deserialize, Serialize};

/// What went wrong, as a closed set. The word is what clients see as `error.code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No token, or one that does not verify.
    Unauthenticated,
    /// The token has expired.
    TokenExpired,
    /// The token is for another room, or lacks the grant.
    Forbidden,
    /// A request or message that does not parse or breaks a documented rule.
    BadRequest,
    /// SDP that does not parse or has no usable line.
    BadSdp,
    /// None of the offered codecs is one we speak.
    NoCommonCodec,
    /// A body or message over its limit.
    TooLarge,
    /// No such room, participant, track or resource.
    NotFound,
    /// The state does not allow it now.
    Conflict,
    /// The room has as many participants as it may.
    RoomFull,
    /// Too many requests or messages.
    RateLimited,
    /// The server is busy or has reached a limit of its own.
    Overloaded,
    /// The server is stopping: join elsewhere.
    Draining,
    /// This build cannot decode or encode that codec.
    UnsupportedCodec,
    /// The operator has not enabled it.
    Disabled,
    /// As many as may be run already.
    AtLimit,
    /// It runs already.
    AlreadyRunning,
    /// Nothing is kept, so there is nothing to read.
    NoDataRetention,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// The word clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::TokenExpired => "token_expired",
            Self::Forbidden => "forbidden",
            Self::BadRequest => "bad_request",
            Self::BadSdp => "bad_sdp",
            Self::NoCommonCodec => "no_common_codec",
            Self::TooLarge => "too_large",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::RoomFull => "room_full",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::UnsupportedCodec => "unsupported_codec",
            Self::Disabled => "disabled",
            Self::AtLimit => "at_limit",
            Self::AlreadyRunning => "already_running",
            Self::NoDataRetention => "no_data_retention",
            Self::Internal => "internal",
        }
    }
}
