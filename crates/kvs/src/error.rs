//! The table of errors: status, exception name, message, in the form that SDKs take apart.

use antiphon_store::key::KeyError;
use antiphon_store::{Error, FaultKind, Limit};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What stands behind the exception's name in `x-amzn-ErrorType`.
const DOCUMENTATION: &str = "https://kinesisvideo.amazonaws.com/doc/2017-09-30/";

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KvsError {
    pub(crate) status: StatusCode,
    pub(crate) exception: &'static str,
    pub(crate) message: String,
}

impl KvsError {
    pub(crate) fn new(status: StatusCode, exception: &'static str, message: impl Into<String>) -> Self {
        Self { status, exception, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgumentException", message)
    }

    /// What this server does not do.
    pub(crate) fn not_implemented(operation: &str) -> Self {
        let message = format!("This server does not have {operation}.");
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplementedException", message)
    }

    /// The key that protects the stream, with the id and the code that acknowledgements and documents have.
    fn key(key: KeyError) -> Self {
        let message = format!("{} {}: {key}", key.id(), FaultKind::Key(key).code());
        match key {
            // It may be there in a minute: clients ask again.
            KeyError::Unavailable => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            }
            _ => Self::invalid(message),
        }
    }

    pub(crate) fn forbidden(exception: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, exception, message)
    }
}

impl From<Error> for KvsError {
    fn from(e: Error) -> Self {
        let exception = match &e {
            Error::StreamNotFound | Error::StreamNotActive => {
                let message = "The requested stream is not found or not active.";
                return Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message);
            }
            Error::StreamExists => "ResourceInUseException",
            Error::VersionMismatch => "VersionMismatchException",
            Error::Key(key) => return Self::key(*key),
            Error::InvalidArgument(_) | Error::BeforeRetention { .. } => "InvalidArgumentException",
            Error::Limit(Limit::Streams) => "AccountStreamLimitExceededException",
            Error::Limit(Limit::Sessions | Limit::Readers) => "ConnectionLimitExceededException",
            Error::Limit(Limit::Tags) => "TagsPerResourceExceededLimitException",
            Error::Limit(Limit::StreamBytes | Limit::TotalBytes) => "ClientLimitExceededException",
            Error::NoDataRetention => "NoDataRetentionException",
            Error::Damaged { .. } | Error::Storage { .. } | Error::Locked => {
                tracing::warn!(error = %e, "the store failed");
                let message = "The store is not available at this moment.";
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message);
            }
        };
        Self::new(StatusCode::BAD_REQUEST, exception, e.to_string())
    }
}

impl IntoResponse for KvsError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "Message": self.message }).to_string();
        let kind = format!("{}:{DOCUMENTATION}", self.exception);
        let kind = HeaderValue::from_str(&kind).expect("exception names are letters");
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        response.headers_mut().insert("x-amzn-errortype", kind);
        with_request_id(response)
    }
}

/// Adds `x-amzn-RequestId`: a random UUID.
pub(crate) fn with_request_id(mut response: Response) -> Response {
    let mut bytes = [0u8; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_ok() {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        let id = HeaderValue::from_str(&id).expect("digits and hyphens");
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigv4::Refusal;
    use antiphon_store::StorageFault;

    #[test]
    fn each_error_of_the_store_has_its_status_and_exception() {
        let storage = || Error::Storage { fault: StorageFault::Full, message: "secret path".into() };
        for (error, status, exception) in [
            (Error::StreamNotFound, 404, "ResourceNotFoundException"),
            (Error::StreamNotActive, 404, "ResourceNotFoundException"),
            (Error::StreamExists, 400, "ResourceInUseException"),
            (Error::VersionMismatch, 400, "VersionMismatchException"),
            (Error::InvalidArgument("a".into()), 400, "InvalidArgumentException"),
            (Error::BeforeRetention { end_ms: 5 }, 400, "InvalidArgumentException"),
            (Error::Key(KeyError::NotFound), 400, "InvalidArgumentException"),
            (Error::Key(KeyError::Unavailable), 503, "ServiceUnavailable"),
            (Limit::Streams.into(), 400, "AccountStreamLimitExceededException"),
            (Limit::Sessions.into(), 400, "ConnectionLimitExceededException"),
            (Limit::Readers.into(), 400, "ConnectionLimitExceededException"),
            (Limit::Tags.into(), 400, "TagsPerResourceExceededLimitException"),
            (Limit::StreamBytes.into(), 400, "ClientLimitExceededException"),
            (Limit::TotalBytes.into(), 400, "ClientLimitExceededException"),
            (Error::NoDataRetention, 400, "NoDataRetentionException"),
            (Error::Damaged { path: "secret path".into(), what: "a" }, 503, "ServiceUnavailable"),
            (storage(), 503, "ServiceUnavailable"),
            (Error::Locked, 503, "ServiceUnavailable"),
        ] {
            let what = format!("{error:?}");
            let told = KvsError::from(error);
            assert_eq!((told.status.as_u16(), told.exception), (status, exception), "{what}");
            assert!(!told.message.is_empty() && !told.message.contains("secret"), "{what}: {}", told.message);
        }
        let disabled = KvsError::from(Error::Key(KeyError::Disabled)).message;
        assert_eq!(disabled, "4501 KMS_KEY_DISABLED: the key is disabled");
        let before = KvsError::from(Error::BeforeRetention { end_ms: 5 }).message;
        assert_eq!(before, "End timestamp 5 is outside of the stream retention period.");
    }

    #[test]
    fn each_refused_signature_is_a_403_of_its_own_name() {
        for (refusal, exception) in [
            (Refusal::Missing, "MissingAuthenticationTokenException"),
            (Refusal::Incomplete, "IncompleteSignatureException"),
            (Refusal::UnknownKey, "UnrecognizedClientException"),
            (Refusal::Token, "UnrecognizedClientException"),
            (Refusal::TokenExpired, "ExpiredTokenException"),
            (Refusal::Expired, "InvalidSignatureException"),
            (Refusal::PresignedExpired, "RequestExpired"),
            (Refusal::Mismatch, "InvalidSignatureException"),
        ] {
            let told = KvsError::from(refusal);
            assert_eq!((told.status.as_u16(), told.exception), (403, exception), "{refusal:?}");
        }
    }
}
