//! Contacts and their media streaming: start, stop, the contact record, its sound, its end; hold; and the settings of all.
//! `docs/reference/contacts.md` is the page for users.

use antiphon_base::{ErrorKind, ParticipantId, RoomName};
use antiphon_record::wav::{Wanted, Wav};
use antiphon_record::{ContactId, History, Options, Recorder, Settings};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::app::App;
use crate::auth::{Access, AnyRoom, Claims, Grant};
use crate::body;
use crate::error::ApiError;
use crate::live;

/// Options with as many tags as there may be, and as long ones.
const MAX_BODY_BYTES: usize = 16_384;

/// All routes of contacts and streams.
pub(crate) fn routes() -> Router<App> {
    let participant = "/v1/rooms/{room}/participants/{id}/media-streaming";
    let contact = "/v1/contacts/{contact}";
    Router::new()
        .route(&format!("{participant}:start"), post(start_participant))
        .route(&format!("{participant}:stop"), post(stop_participant))
        .route(&format!("{contact}/media-streaming:start"), post(start))
        .route(&format!("{contact}/media-streaming:stop"), post(stop))
        .route("/v1/rooms/{room}/participants/{id}/hold:start", post(hold_participant))
        .route("/v1/rooms/{room}/participants/{id}/hold:stop", post(resume_participant))
        .route(&format!("{contact}/hold:start"), post(hold))
        .route(&format!("{contact}/hold:stop"), post(resume))
        .route(contact, get(show).delete(delete))
        .route(&format!("{contact}/audio.wav"), get(wav))
        .route("/v1/streams/{name}/live", get(live::open))
        .route("/v1/media-streaming", get(settings).put(set_settings).delete(reset_settings))
}

impl From<antiphon_record::Error> for ApiError {
    fn from(e: antiphon_record::Error) -> Self {
        let text = e.to_string();
        let mut letters = text.chars();
        let first = letters.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
        Self::new(e.kind(), format!("{first}{}.", letters.as_str()))
    }
}

pub(crate) fn recorder(app: &App) -> Result<&Recorder, ApiError> {
    app.recorder().ok_or_else(|| {
        ApiError::new(
            ErrorKind::Disabled,
            "This server stores no streams. The operator can set `store.enabled` and `media_streaming.enabled`.",
        )
    })
}

/// Whether a token lets its bearer do things to a contact: it is about a room that the contact is or was in, or about all.
pub(crate) fn may(recorder: &Recorder, claims: &Claims, contact: &ContactId) -> Result<(), ApiError> {
    if claims.has(Grant::Admin) {
        return Ok(());
    }
    if !claims.has(Grant::Record) {
        let message = "The token lacks the grant `record`. Get one made with it.";
        return Err(ApiError::new(ErrorKind::Forbidden, message));
    }
    // Who may not know of it is told what is told of one that does not exist.
    let known = recorder.was_in(contact, &claims.room);
    known.then_some(()).ok_or_else(|| antiphon_record::Error::NoContact.into())
}

fn contact_id(text: &str) -> Result<ContactId, ApiError> {
    ContactId::new(text).map_err(|e| ApiError::bad_request(format!("The contact id {e}.")))
}

/// The contact of a path, for who may.
fn allowed<'a>(app: &'a App, claims: &Claims, contact: &str) -> Result<(&'a Recorder, ContactId), ApiError> {
    let (recorder, contact) = (recorder(app)?, contact_id(contact)?);
    may(recorder, claims, &contact)?;
    Ok((recorder, contact))
}

/// The contact of a participant, for who may.
async fn carried<'a>(app: &'a App, access: &Access, id: &str) -> Result<(&'a Recorder, ContactId), ApiError> {
    if !access.claims.has(Grant::Admin) {
        access.need(Grant::Record)?;
    }
    let recorder = recorder(app)?;
    let id = ParticipantId::new(id).map_err(|e| ApiError::bad_request(format!("The participant id {e}.")))?;
    // Only who is there gets a contact of its own: made-up names would fill the list.
    let status = app.shards().status(&access.room, &id, false).await;
    if status.is_none_or(|s| s.state == "gone") {
        let message = format!("There is no participant {id} in room {} (any more).", access.room);
        return Err(ApiError::new(ErrorKind::NotFound, message));
    }
    Ok((recorder, recorder.contact_of(&access.room, &id)))
}

fn attributes(history: &History) -> Json<Value> {
    Json(history.attributes())
}

async fn options(headers: &HeaderMap, body: Body) -> Result<Options, ApiError> {
    let bytes = body::read(headers, body, MAX_BODY_BYTES).await?;
    if bytes.is_empty() {
        return Ok(Options::default());
    }
    serde_json::from_slice(&bytes).map_err(|e| ApiError::bad_request(format!("The body is wrong: {e}.")))
}

async fn start_participant(
    State(app): State<App>,
    access: Access,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let options = options(&headers, body).await?;
    let (recorder, contact) = carried(&app, &access, &id).await?;
    Ok(attributes(&recorder.start(&contact, options).await?))
}

async fn stop_participant(
    State(app): State<App>,
    access: Access,
    Path((_, id)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let (recorder, contact) = carried(&app, &access, &id).await?;
    Ok(attributes(&recorder.stop(&contact).await?))
}

async fn start(
    State(app): State<App>,
    AnyRoom(claims): AnyRoom,
    Path(contact): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let options = options(&headers, body).await?;
    let (recorder, contact) = allowed(&app, &claims, &contact)?;
    Ok(attributes(&recorder.start(&contact, options).await?))
}

async fn stop(
    State(app): State<App>,
    AnyRoom(claims): AnyRoom,
    Path(contact): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (recorder, contact) = allowed(&app, &claims, &contact)?;
    Ok(attributes(&recorder.stop(&contact).await?))
}

/// Puts a participant on hold, or takes it back.
async fn set_held(
    app: &App,
    room: &RoomName,
    id: &ParticipantId,
    held: bool,
) -> Result<StatusCode, ApiError> {
    if app.shards().hold(room, id, held).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    let message = format!("There is no participant {id} in room {room} (any more).");
    Err(ApiError::new(ErrorKind::NotFound, message))
}

async fn set_participant_held(
    app: &App,
    access: &Access,
    id: &str,
    held: bool,
) -> Result<StatusCode, ApiError> {
    if !access.claims.has(Grant::Admin) {
        access.need(Grant::Moderate)?;
    }
    let id = ParticipantId::new(id).map_err(|e| ApiError::bad_request(format!("The participant id {e}.")))?;
    set_held(app, &access.room, &id, held).await
}

async fn hold_participant(
    State(app): State<App>,
    access: Access,
    Path((_, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    set_participant_held(&app, &access, &id, true).await
}

async fn resume_participant(
    State(app): State<App>,
    access: Access,
    Path((_, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    set_participant_held(&app, &access, &id, false).await
}

/// The contact of a path, where it is now, for who may moderate there.
async fn set_contact_held(
    app: &App,
    claims: &Claims,
    contact: &str,
    held: bool,
) -> Result<StatusCode, ApiError> {
    if !claims.has(Grant::Moderate) && !claims.has(Grant::Admin) {
        let message = "The token lacks the grant `moderate`. Get one made with it.";
        return Err(ApiError::new(ErrorKind::Forbidden, message));
    }
    let (recorder, contact) = (recorder(app)?, contact_id(contact)?);
    let (room, id) = recorder.place(&contact)?;
    if room != claims.room && !claims.has(Grant::Admin) {
        return Err(antiphon_record::Error::NoContact.into());
    }
    set_held(app, &room, &id, held).await
}

async fn hold(
    State(app): State<App>,
    AnyRoom(claims): AnyRoom,
    Path(contact): Path<String>,
) -> Result<StatusCode, ApiError> {
    set_contact_held(&app, &claims, &contact, true).await
}

async fn resume(
    State(app): State<App>,
    AnyRoom(claims): AnyRoom,
    Path(contact): Path<String>,
) -> Result<StatusCode, ApiError> {
    set_contact_held(&app, &claims, &contact, false).await
}

/// `GET`: the contact record.
async fn show(
    State(app): State<App>,
    AnyRoom(claims): AnyRoom,
    Path(contact): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (recorder, contact) = allowed(&app, &claims, &contact)?;
    Ok(Json(recorder.record(&contact)?))
}

/// `DELETE`: ends it, and destroys what was kept of it.
async fn delete(
    State(app): State<App>,
    AnyRoom(claims): AnyRoom,
    Path(contact): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (recorder, contact) = allowed(&app, &claims, &contact)?;
    recorder.delete(&contact).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WavQuery {
    track: Option<String>,
    follow: Option<u8>,
    /// The start fragment of the start that is meant.
    start: Option<String>,
}

pub(crate) fn wanted(track: Option<&str>) -> Result<Wanted, ApiError> {
    let parse = |text| Wanted::parse(text).ok_or_else(|| ApiError::bad_request("track: from, to or stereo."));
    track.map_or(Ok(Wanted::default()), parse)
}

pub(crate) fn bad_query(e: &QueryRejection) -> ApiError {
    ApiError::bad_request(format!("The query is wrong: {e}."))
}

/// `GET .../audio.wav`.
async fn wav(
    State(app): State<App>,
    AnyRoom(claims): AnyRoom,
    Path(contact): Path<String>,
    query: Result<Query<WavQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|e| bad_query(&e))?;
    let track = wanted(query.track.as_deref())?;
    let follow = match query.follow.unwrap_or(0) {
        0 => false,
        1 => true,
        _ => return Err(ApiError::bad_request("follow: 0 or 1.")),
    };
    let start = query.start.as_deref().map(str::parse).transpose();
    let start = start.map_err(|_| ApiError::bad_request("start: the number of a start fragment."))?;
    let (recorder, contact) = allowed(&app, &claims, &contact)?;
    let wav = recorder.wav(&contact, start, track, follow).await?;
    let length = wav.len();
    let body = stream::unfold(wav, |mut wav: Wav| async move {
        let bytes = wav.next().await?;
        Some((bytes, wav))
    });
    let mut response = Response::new(app.reading(follow, body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

fn admin(app: &App, claims: &Claims) -> Result<Recorder, ApiError> {
    if !claims.has(Grant::Admin) {
        let message = "The token lacks the grant `admin`. Get one made with it.";
        return Err(ApiError::new(ErrorKind::Forbidden, message));
    }
    recorder(app).cloned()
}

/// Where settings come from, in the answer beside them.
const FROM: &str = "from";

fn in_force(recorder: &Recorder) -> Json<Value> {
    let mut all = serde_json::to_value(recorder.settings()).expect("settings have a JSON form");
    all[FROM] = recorder.settings_source().as_str().into();
    Json(all)
}

/// `GET /v1/media-streaming`: the settings in force.
async fn settings(State(app): State<App>, AnyRoom(claims): AnyRoom) -> Result<Json<Value>, ApiError> {
    Ok(in_force(&admin(&app, &claims)?))
}

/// `DELETE /v1/media-streaming`: back to the settings of the configuration.
async fn reset_settings(State(app): State<App>, AnyRoom(claims): AnyRoom) -> Result<Json<Value>, ApiError> {
    let recorder = admin(&app, &claims)?;
    recorder.reset_settings().await?;
    Ok(in_force(&recorder))
}

/// `PUT /v1/media-streaming`: all settings, also after a restart. What is left out has its default.
async fn set_settings(
    State(app): State<App>,
    AnyRoom(claims): AnyRoom,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let recorder = admin(&app, &claims)?;
    let bytes = body::read(&headers, body, MAX_BODY_BYTES).await?;
    let wrong = |e| ApiError::bad_request(format!("The body is wrong: {e}."));
    let mut all: Map<String, Value> = serde_json::from_slice(&bytes).map_err(wrong)?;
    // What was got may be put back.
    all.remove(FROM);
    let settings: Settings = serde_json::from_value(Value::Object(all)).map_err(wrong)?;
    recorder.set_settings(settings).await?;
    Ok(in_force(&recorder))
}
