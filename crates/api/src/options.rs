//! `OPTIONS`: what a resource takes, and, to who may join, the ICE servers (RFC 9725, 4.2 and 4.6).
//!
//! Whoever cannot change its ICE servers after its offer asks here first. TURN credentials are for those with a token: a
//! browser's preflight request has none, and gets none.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::auth::Access;
use crate::error::ApiError;
use crate::{body, ice};

/// What `PATCH` takes of a player: answers to our offers, and what it says of ICE.
pub(crate) const PLAYER_PATCH: &str = "application/sdp, application/trickle-ice-sdpfrag";

/// Of an endpoint.
pub(crate) async fn endpoint(State(app): State<App>, access: Result<Access, ApiError>) -> Response {
    let headers =
        [(ice::ACCEPT_POST, HeaderValue::from_static(body::SDP)), (header::ALLOW, allow("GET, HEAD, POST"))];
    let mut response = (StatusCode::OK, headers).into_response();
    add_links(&app, access, response.headers_mut());
    response
}

/// Of a session.
pub(crate) async fn session() -> Response {
    let headers = [
        (ice::ACCEPT_PATCH, HeaderValue::from_static(ice::SDPFRAG)),
        (header::ALLOW, allow("GET, HEAD, PATCH, DELETE")),
    ];
    (StatusCode::OK, headers).into_response()
}

/// Of `/whep/{room}/{id}`, which is a session, and the endpoint for a participant.
pub(crate) async fn either(State(app): State<App>, access: Result<Access, ApiError>) -> Response {
    let headers = [
        (ice::ACCEPT_POST, HeaderValue::from_static(body::SDP)),
        (ice::ACCEPT_PATCH, HeaderValue::from_static(PLAYER_PATCH)),
        (header::ALLOW, allow("GET, HEAD, POST, PATCH, DELETE")),
    ];
    let mut response = (StatusCode::OK, headers).into_response();
    add_links(&app, access, response.headers_mut());
    response
}

/// Of a player's layers.
pub(crate) async fn layer() -> Response {
    extension("POST, DELETE")
}

/// Of a player's events.
pub(crate) async fn events() -> Response {
    extension("POST")
}

/// Of an event stream.
pub(crate) async fn event_stream() -> Response {
    (StatusCode::OK, [(header::ALLOW, allow("GET, HEAD, DELETE"))]).into_response()
}

fn extension(methods: &'static str) -> Response {
    let headers =
        [(ice::ACCEPT_POST, HeaderValue::from_static("application/json")), (header::ALLOW, allow(methods))];
    (StatusCode::OK, headers).into_response()
}

fn add_links(app: &App, access: Result<Access, ApiError>, headers: &mut HeaderMap) {
    if let Ok(access) = access {
        // No session is there yet whose id could name the client.
        ice::add_links(headers, &app.config().ice_servers, access.room.as_str());
    }
}

fn allow(methods: &'static str) -> HeaderValue {
    let all = format!("{methods}, OPTIONS");
    HeaderValue::from_str(&all).expect("names of methods are ASCII")
}
