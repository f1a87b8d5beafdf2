//! Lets pages of any origin use the API: what opens it travels in headers or addresses, never in a cookie.

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// How long a browser need not ask again: the longest that one takes.
const MAX_AGE_S: &str = "86400";

/// Answers what browsers ask first, and marks the answers.
pub(crate) async fn allow(request: Request, next: Next) -> Response {
    let preflight = request.method() == Method::OPTIONS;
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response =
        if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if preflight {
        let methods = HeaderValue::from_static("GET, HEAD, POST, OPTIONS");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
        if let Some(wanted) = wanted {
            // SDKs send headers of their own, more with each version; `*` would not stand for `Authorization`.
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
        }
    } else {
        let exposed = HeaderValue::from_static("x-amzn-RequestId, x-amzn-ErrorType");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}
