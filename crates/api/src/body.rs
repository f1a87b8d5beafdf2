//! Reading request bodies: bounded in size, checked in type.

use antiphon_base::ErrorKind;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::LengthLimitError;

use crate::error::ApiError;

/// Media type of offers and answers.
pub(crate) const SDP: &str = "application/sdp";

/// The body, if it has at most `limit` bytes.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::new(ErrorKind::TooLarge, format!("The body has more than the {limit} bytes allowed."));
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|n| n > limit as u64) {
        return Err(too_large());
    }
    to_bytes(body, limit).await.map_err(|e| {
        if std::error::Error::source(&e).is_some_and(|s| s.is::<LengthLimitError>()) {
            too_large()
        } else {
            ApiError::bad_request("The body ended before its end.")
        }
    })
}

/// An SDP offer.
pub(crate) async fn sdp(headers: &HeaderMap, body: Body, limit: usize) -> Result<String, ApiError> {
    require_type(headers, SDP)?;
    let bytes = read(headers, body, limit).await?;
    if bytes.is_empty() {
        return Err(ApiError::new(ErrorKind::BadSdp, "The body is empty. Send an SDP offer."));
    }
    String::from_utf8(bytes.into())
        .map_err(|_| ApiError::new(ErrorKind::BadSdp, "The body is not UTF-8 text. Send an SDP offer."))
}

/// 415 unless the body is said to be of this type. Parameters do not matter.
pub(crate) fn require_type(headers: &HeaderMap, wanted: &str) -> Result<(), ApiError> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(ApiError::http(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("Send the body with the header `Content-Type: {wanted}`."),
    ))
}
