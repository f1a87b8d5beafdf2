//! A player's layers and events: the extensions of WHEP whose bodies are [`antiphon_wire::whep`].
//! `docs/reference/join.md` is the page for users.

use antiphon_base::ErrorKind;
use antiphon_shard::{SelectError, WatchError};
use antiphon_wire::whep::{EventType, Events, MAX_BODY_BYTES, Refused, Selection};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::app::App;
use crate::auth::Resource;
use crate::error::ApiError;
use crate::events::{self, PutError};
use crate::metrics::Refused as Limit;
use crate::{body, options, participant};

/// Media type of the bodies.
const JSON: &str = "application/json";
/// Media type of event streams (WHATWG HTML, 9.2).
const EVENT_STREAM: &str = "text/event-stream";

/// Layers, events, and each event stream.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/whep/{room}/{id}/layer", post(select).delete(release).options(options::layer))
        .route("/whep/{room}/{id}/events", post(create).options(options::events))
        .route("/whep/{room}/{id}/events/{stream}", get(read).delete(destroy).options(options::event_stream))
}

/// Says in the answer that made a player where its extensions are.
pub(crate) fn add_links(headers: &mut HeaderMap) {
    let Some(player) = headers.get(header::LOCATION).and_then(|l| l.to_str().ok()) else { return };
    let events = EventType::ALL.map(EventType::as_str).join(",");
    let links = [
        format!("<{player}/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\""),
        format!(
            "<{player}/events>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\"{events}\""
        ),
    ];
    for link in links {
        headers.append(header::LINK, HeaderValue::from_str(&link).expect("ids are visible ASCII"));
    }
}

/// `POST` on the layers: one is chosen, or the server chooses again.
async fn select(
    State(app): State<App>,
    resource: Resource,
    headers: HeaderMap,
    sent: Body,
) -> Result<StatusCode, ApiError> {
    body::require_type(&headers, JSON)?;
    let bytes = body::read(&headers, sent, MAX_BODY_BYTES).await?;
    choose(&app, &resource, Selection::parse(&bytes).map_err(refused)?).await
}

/// `DELETE` on the layers: the server chooses again.
async fn release(State(app): State<App>, resource: Resource) -> Result<StatusCode, ApiError> {
    choose(&app, &resource, Selection::default()).await
}

async fn choose(app: &App, resource: &Resource, selection: Selection) -> Result<StatusCode, ApiError> {
    need_answer(app, resource)?;
    match app.shards().select(&resource.room, &resource.participant, selection).await {
        Ok(()) => Ok(StatusCode::OK),
        Err(SelectError::Gone) => Err(gone(app, resource).await),
        Err(error @ (SelectError::UnknownEncoding | SelectError::UnknownLayer)) => {
            Err(sentence(error.kind(), &error).with_status(StatusCode::UNPROCESSABLE_ENTITY))
        }
        Err(error) => Err(sentence(error.kind(), &error)),
    }
}

/// `POST` on the events: makes a stream. Its path is a secret, because browsers read event streams without a token.
async fn create(
    State(app): State<App>,
    resource: Resource,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read(&headers, sent, MAX_BODY_BYTES).await?;
    if !bytes.is_empty() {
        body::require_type(&headers, JSON)?;
    }
    let events = Events::parse(&bytes).map_err(refused)?;
    need_answer(&app, &resource)?;
    let receiver = match app.shards().watch(&resource.room, &resource.participant).await {
        Ok(receiver) => receiver,
        Err(WatchError::Unknown) => return Err(gone(&app, &resource).await),
        Err(WatchError::Busy) => return Err(too_many(&app, ErrorKind::Overloaded)),
    };
    let put = app.event_streams().put(&resource.room, &resource.participant, events, receiver);
    let stream = put.map_err(|error| match error {
        PutError::OfPlayer => too_many(&app, ErrorKind::RateLimited),
        PutError::OfServer => too_many(&app, ErrorKind::Overloaded),
    })?;
    let location = format!("/whep/{}/{}/events/{stream}", resource.room, resource.participant);
    let headers = [
        (header::LOCATION, HeaderValue::from_str(&location).expect("ids are visible ASCII")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::CREATED, headers).into_response())
}

/// `GET` of a stream: its events, from what waits on. A second reader takes the place of the first.
async fn read(
    State(app): State<App>,
    Path((room, player, stream)): Path<(String, String, String)>,
    headers: HeaderMap,
    resource: Result<Resource, ApiError>,
) -> Result<Response, ApiError> {
    check_token(&headers, resource)?;
    let reading = app.event_streams().read(&room, &player, &stream).ok_or_else(no_stream)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::from_stream(events::to_body(reading))).into_response())
}

/// `DELETE` of a stream: what waits is dropped, and who reads it is at its end.
async fn destroy(
    State(app): State<App>,
    Path((room, player, stream)): Path<(String, String, String)>,
    headers: HeaderMap,
    resource: Result<Resource, ApiError>,
) -> Result<StatusCode, ApiError> {
    check_token(&headers, resource)?;
    match app.event_streams().remove(&room, &player, &stream) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_stream()),
    }
}

/// Who knows the path needs no token; who sends one must have the right one.
fn check_token(headers: &HeaderMap, resource: Result<Resource, ApiError>) -> Result<(), ApiError> {
    if headers.contains_key(header::AUTHORIZATION) { resource.map(drop) } else { Ok(()) }
}

/// A player that the server has made an offer to is none before its answer.
fn need_answer(app: &App, resource: &Resource) -> Result<(), ApiError> {
    if app.offers().has(&resource.room, &resource.participant) {
        let message =
            "The server's offer waits for its answer: send that first (`PATCH` on the player's resource).";
        return Err(ApiError::new(ErrorKind::Conflict, message));
    }
    Ok(())
}

async fn gone(app: &App, resource: &Resource) -> ApiError {
    let error = participant::not_here(resource);
    match participant::status(app, resource, false).await {
        Ok(status) if status.state == "gone" => error.with_status(StatusCode::GONE),
        Ok(_) => {
            ApiError::new(ErrorKind::NotFound, "This participant is no player: it did not come by WHEP.")
        }
        Err(unknown) => unknown,
    }
}

fn no_stream() -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        "There is no such event stream (any more). Make one by POST on `events`.",
    )
}

fn too_many(app: &App, kind: ErrorKind) -> ApiError {
    app.metrics().refused(Limit::EventStreams);
    ApiError::new(kind, "Too many event streams. Delete one, or try again later.")
}

fn refused(why: Refused) -> ApiError {
    let error = ApiError::bad_request(format!("The body was refused: {why}."));
    match why {
        Refused::Malformed(_) => error,
        Refused::Meaningless(_) => error.with_status(StatusCode::UNPROCESSABLE_ENTITY),
    }
}

/// An error's own words as a sentence.
fn sentence(kind: ErrorKind, error: &SelectError) -> ApiError {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    let capital: String = first.into_iter().chain(letters).collect();
    ApiError::new(kind, format!("{capital}."))
}
