//! Recordings of rooms: announce, pause, stop, list, read, destroy. `docs/reference/recordings.md` is the page for users.

use antiphon_base::ErrorKind;
use antiphon_record::rooms::{Cut, FileKind, Recording, Recordings, StartRecording};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::{Access, Grant};
use crate::body;
use crate::contacts::{bad_query, recorder};
use crate::error::ApiError;

/// Options with as many tags as there may be, and as long ones.
const MAX_BODY_BYTES: usize = 16_384;

/// All routes of recordings.
pub(crate) fn routes() -> Router<App> {
    let all = "/v1/rooms/{room}/recordings";
    Router::new()
        .route(all, get(list).post(start))
        .route(&format!("{all}/{{recording}}"), get(show).post(act).delete(delete))
        .route(&format!("{all}/{{recording}}/tracks"), get(tracks))
        .route(&format!("{all}/{{recording}}/tracks/{{file}}"), get(track))
        .route(&format!("{all}/{{recording}}/timeline"), get(timeline))
}

/// The recordings, for who may have to do with those of its room.
fn recordings<'a>(app: &'a App, access: &Access) -> Result<&'a Recordings, ApiError> {
    if !access.claims.has(Grant::Admin) {
        access.need(Grant::Record)?;
    }
    Ok(recorder(app)?.rooms())
}

fn shown(recording: &Recording) -> Json<Value> {
    Json(recording.to_json())
}

/// `POST .../recordings`: announces one.
async fn start(
    State(app): State<App>,
    access: Access,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let recordings = recordings(&app, &access)?;
    let bytes = body::read(&headers, body, MAX_BODY_BYTES).await?;
    let options = if bytes.is_empty() {
        StartRecording::default()
    } else {
        serde_json::from_slice(&bytes)
            .map_err(|e| ApiError::bad_request(format!("The body is wrong: {e}.")))?
    };
    let recording = recordings.start(&access.room, options).await?;
    Ok((StatusCode::CREATED, shown(&recording)))
}

/// `GET .../recordings`: the room's, the latest first.
async fn list(State(app): State<App>, access: Access) -> Result<Json<Value>, ApiError> {
    let all = recordings(&app, &access)?.list(&access.room);
    Ok(Json(json!({"recordings": all.iter().map(Recording::to_json).collect::<Vec<_>>()})))
}

async fn show(
    State(app): State<App>,
    access: Access,
    Path((_, id)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    Ok(shown(&recordings(&app, &access)?.get(&access.room, &id)?))
}

/// `POST .../{recording}:pause`, `:resume`, `:stop`.
async fn act(
    State(app): State<App>,
    access: Access,
    Path((_, what)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let recordings = recordings(&app, &access)?;
    let (id, verb) = what.split_once(':').unwrap_or((&what, ""));
    let recording = match verb {
        "pause" => recordings.pause(&access.room, id).await?,
        "resume" => recordings.resume(&access.room, id).await?,
        "stop" => recordings.stop(&access.room, id).await?,
        _ => {
            let message = "A recording can be told `:pause`, `:resume` and `:stop`.";
            return Err(ApiError::new(ErrorKind::NotFound, message));
        }
    };
    Ok(shown(&recording))
}

/// `DELETE`: ends it, and destroys what was kept.
async fn delete(
    State(app): State<App>,
    access: Access,
    Path((_, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    recordings(&app, &access)?.delete(&access.room, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn tracks(
    State(app): State<App>,
    access: Access,
    Path((_, id)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(recordings(&app, &access)?.get(&access.room, &id)?.tracks_json()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    from: Option<u64>,
    to: Option<u64>,
    follow: Option<u8>,
}

/// `GET .../tracks/{track}.webm|.mkv|.wav`.
async fn track(
    State(app): State<App>,
    access: Access,
    Path((_, id, file)): Path<(String, String, String)>,
    query: Result<Query<Part>, QueryRejection>,
) -> Result<Response, ApiError> {
    let recordings = recordings(&app, &access)?;
    let Query(part) = query.map_err(|e| bad_query(&e))?;
    let follow = match part.follow.unwrap_or(0) {
        0 => false,
        1 => true,
        _ => return Err(ApiError::bad_request("follow: 0 or 1.")),
    };
    let named =
        file.split_once('.').and_then(|(number, end)| Some((number.parse().ok()?, FileKind::of(end)?)));
    let (number, kind) = named.ok_or_else(|| {
        ApiError::new(ErrorKind::NotFound, "A track is asked for as NUMBER.webm, NUMBER.mkv or NUMBER.wav.")
    })?;
    let cut = Cut { from_ms: part.from.unwrap_or(0), to_ms: part.to, follow };
    let file = recordings.track(&access.room, &id, number, kind, cut).await?;
    let media_type = file.media_type();
    let body = stream::unfold(file, |mut file| async move {
        let bytes = file.next().await?;
        Some((bytes, file))
    });
    Ok(response(media_type, app.reading(follow, body)))
}

/// `GET .../timeline`.
async fn timeline(
    State(app): State<App>,
    access: Access,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let file = recordings(&app, &access)?.timeline(&access.room, &id)?;
    let body = stream::unfold(file, |mut file| async move {
        let bytes = file.next().await?;
        Some((bytes, file))
    });
    Ok(response("application/json", app.reading(false, body)))
}

fn response(media_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
