//! Errors as HTTP answers: the one table from [`ErrorKind`] to status, and the one body shape
//! `{"error":{"code","message"}}`. Messages say what to do.

use antiphon_base::ErrorKind;
use antiphon_shard::JoinError;
use antiphon_wire::control::ErrorBody;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    body: ErrorBody,
    /// Where HTTP has a more exact status than the table (405, 408, 410, 412, 415, 426, 428).
    status: Option<StatusCode>,
}

#[derive(Serialize)]
struct Envelope {
    error: ErrorBody,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { body: ErrorBody { code: kind, message: message.into() }, status: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    /// A breach of HTTP itself: code `bad_request`, exact status.
    pub(crate) fn http(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status: Some(status), ..Self::bad_request(message) }
    }

    /// The same where HTTP has a more exact status.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        self.body.code
    }
}

impl From<JoinError> for ApiError {
    fn from(e: JoinError) -> Self {
        Self::new(e.kind, e.message)
    }
}

/// The table.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Disabled => StatusCode::FORBIDDEN,
        ErrorKind::Unauthenticated | ErrorKind::TokenExpired => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::BadRequest
        | ErrorKind::BadSdp
        | ErrorKind::NoCommonCodec
        | ErrorKind::UnsupportedCodec => StatusCode::BAD_REQUEST,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict | ErrorKind::AlreadyRunning | ErrorKind::NoDataRetention => StatusCode::CONFLICT,
        ErrorKind::RoomFull | ErrorKind::RateLimited | ErrorKind::AtLimit => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Overloaded | ErrorKind::Draining => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// When to try again, in seconds, where trying again can help.
fn retry_after(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::RateLimited => Some("1"),
        ErrorKind::Overloaded => Some("2"),
        ErrorKind::RoomFull | ErrorKind::Draining => Some("5"),
        _ => None,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let kind = self.kind();
        let status = self.status.unwrap_or_else(|| status(kind));
        let mut response = (status, Json(Envelope { error: self.body })).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after(kind) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
