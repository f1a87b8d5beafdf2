//! What stands around all handlers: counting, time limits, cross-origin rules.

use std::time::Instant;

use antiphon_base::ErrorKind;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::ApiError;

/// Counts requests by route, method and status.
pub(crate) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let method = request.method().clone();
    let start = Instant::now();
    let response = next.run(request).await;
    app.metrics().answered(route.as_deref(), &method, response.status(), start.elapsed());
    response
}

/// Ends requests that take too long.
pub(crate) async fn limit_time(State(app): State<App>, request: Request, next: Next) -> Response {
    let limit = app.config().request_timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            ErrorKind::Overloaded,
            format!("The request, with its body, was not done in {} s. Try again.", limit.as_secs()),
        )
        .into_response(),
    }
}

/// Lets pages of any origin call the API: tokens travel in a header, never in a cookie.
pub(crate) async fn cross_origin(request: Request, next: Next) -> Response {
    let preflight = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if preflight && !response.status().is_success() {
        // A resource with nothing to say of itself.
        response = StatusCode::NO_CONTENT.into_response();
    }
    let headers = response.headers_mut();
    set(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    if preflight {
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        set(
            headers,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, If-Match, \
             Antiphon-Name, Antiphon-Policy, Antiphon-Muted, Antiphon-Resume",
        );
        set(headers, header::ACCESS_CONTROL_MAX_AGE, "86400");
    } else {
        set(
            headers,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Location, Link, ETag, Accept-Post, Accept-Patch, Allow, Retry-After, Antiphon-Participant, Antiphon-Resume",
        );
    }
    response
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
