//! `POST /v1/rooms/{room}/guest-token`: a token for whoever asks, in the rooms that the operator opened to guests.

use std::net::SocketAddr;

use antiphon_base::ErrorKind;
use antiphon_wire::control::check_display_name;
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::{Claims, room_name};
use crate::body;
use crate::error::ApiError;

/// Room for a name and nothing else.
const MAX_BODY_BYTES: usize = 4_096;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Ask {
    name: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    token: String,
    expires_in: u64,
}

/// The handler.
pub(crate) async fn token(
    State(app): State<App>,
    Extension(peer): Extension<SocketAddr>,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let room = room_name(&room)?;
    let open = app.config().guest_rooms.iter().any(|r| r == "*" || r == room.as_str());
    if !open {
        return Err(ApiError::new(
            ErrorKind::Forbidden,
            format!("Room {room} is not open to guests. Ask whoever runs it for a link with a token."),
        ));
    }
    app.admit_guest(peer.ip())?;
    let bytes = body::read(&headers, body, MAX_BODY_BYTES).await?;
    let name = if bytes.is_empty() { None } else { name(&bytes)? };
    let ttl = app.config().guest_ttl;
    let claims = Claims { name, ..Claims::new(room, ttl) };
    let answer = Answer { token: app.key().sign(&claims), expires_in: ttl.as_secs() };
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(answer)).into_response())
}

fn name(bytes: &[u8]) -> Result<Option<String>, ApiError> {
    let bad =
        |e: String| ApiError::bad_request(format!("The body is wrong: {e}. Send {{\"name\": \"...\"}}."));
    let ask: Ask = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
    ask.name.as_deref().map_or(Ok(()), check_display_name).map_err(|e| bad(e.to_string()))?;
    Ok(ask.name)
}
