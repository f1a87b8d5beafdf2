//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): the same join with fewer m-lines.

use std::time::Instant;

use antiphon_base::{ErrorKind, ParticipantId};
use antiphon_shard::{Grants, JoinRequest};
use antiphon_wire::control::ParticipantKind;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::app::App;
use crate::auth::{Grant, Resource};
use crate::error::ApiError;
use crate::join::Entry;
use crate::{body, ice, join, options, participant, player};

/// Endpoints and sessions.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/whip/{room}", post(publish).get(endpoint).options(options::endpoint))
        .route(
            "/whip/{room}/{id}",
            axum::routing::patch(ice::patch).delete(participant::remove).get(show).options(options::session),
        )
        .route("/whep/{room}", post(play).get(endpoint).options(options::endpoint))
        .route(
            "/whep/{room}/{id}",
            axum::routing::patch(patch_player)
                .delete(remove_player)
                .post(play_one)
                .get(show_either)
                .options(options::either),
        )
}

/// `GET` and `HEAD` of an endpoint: nothing but the type by which players know it
/// (draft-ietf-wish-whep-04, "WHEP Endpoint URL Discoverability").
async fn endpoint() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(body::SDP))], ()).into_response()
}

/// `GET` of a session: it is there, and has no representation (RFC 9725, 4.1). What became of it says
/// `/v1/rooms/{room}/participants/{id}`.
async fn show(State(app): State<App>, resource: Resource) -> Result<StatusCode, ApiError> {
    let status = participant::status(&app, &resource, false).await?;
    if status.state == "gone" {
        return Err(participant::not_here(&resource).with_status(StatusCode::GONE));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `GET` of `/whep/{room}/{id}`: with a token the session, without one the endpoint for one participant.
async fn show_either(
    State(app): State<App>,
    headers: HeaderMap,
    resource: Result<Resource, ApiError>,
) -> Response {
    if !headers.contains_key(header::AUTHORIZATION) {
        return endpoint().await;
    }
    match resource {
        Ok(resource) => show(State(app), resource).await.into_response(),
        Err(error) => error.into_response(),
    }
}

/// `POST /whip/{room}`: publish.
pub(crate) async fn publish(entry: Entry) -> Result<Response, ApiError> {
    entry.access.need(Grant::Publish)?;
    let grants = Grants { publish: true, subscribe: false, moderate: false };
    let request = entry.request(entry.access.identity(&entry.app), ParticipantKind::Whip, grants)?;
    let under = format!("/whip/{}", entry.access.room);
    entry.enter(request, &under).await
}

/// `POST /whep/{room}`: play the room.
pub(crate) async fn play(entry: Entry) -> Result<Response, ApiError> {
    start_playing(entry, None).await
}

/// `POST /whep/{room}/{participant}`: play one participant.
pub(crate) async fn play_one(
    Path((_, id)): Path<(String, String)>,
    entry: Entry,
) -> Result<Response, ApiError> {
    let only =
        ParticipantId::new(&id).map_err(|e| ApiError::bad_request(format!("The participant id {e}.")))?;
    start_playing(entry, Some(only)).await
}

/// A player never takes the place of the token's identity: whoever is in the room may watch it as well.
///
/// Without an offer the server makes one, and so it does where it can take nothing of the player's
/// (draft-ietf-wish-whep-04, "Server Sends Counter-Offer").
async fn start_playing(entry: Entry, only: Option<ParticipantId>) -> Result<Response, ApiError> {
    entry.access.need(Grant::Subscribe)?;
    let grants = Grants { publish: false, subscribe: true, moderate: false };
    let request = entry.request(entry.access.fresh_id(&entry.app), ParticipantKind::Whep, grants)?;
    let request = JoinRequest { only, ..request };
    let under = format!("/whep/{}", entry.access.room);
    if entry.is_empty() {
        return offer(entry, request, StatusCode::CREATED, &under).await;
    }
    let again = entry.again();
    let counter = request.clone();
    match entry.enter(request, &under).await {
        Err(error) if error.kind() == ErrorKind::NoCommonCodec => {
            offer(again, counter, StatusCode::NOT_ACCEPTABLE, &under).await
        }
        answered => answered.map(|mut response| {
            player::add_links(response.headers_mut());
            response
        }),
    }
}

/// An offer of ours, to be answered by `PATCH` on its resource within 30 s.
async fn offer(
    entry: Entry,
    request: JoinRequest,
    status: StatusCode,
    under: &str,
) -> Result<Response, ApiError> {
    let client = request.id.clone();
    let location = format!("{under}/{client}");
    let app = entry.app.clone();
    let (text, session) = entry.offer(request).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(body::SDP)),
        (header::LOCATION, HeaderValue::from_str(&location).expect("ids are visible ASCII")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::ETAG, ice::entity_tag(&session)),
        (ice::ACCEPT_PATCH, HeaderValue::from_static(options::PLAYER_PATCH)),
    ];
    let mut response = (status, headers, text).into_response();
    ice::add_links(response.headers_mut(), &app.config().ice_servers, client.as_str());
    player::add_links(response.headers_mut());
    Ok(response)
}

/// `PATCH` of a player: the answer to an offer of ours, or what it says of ICE.
async fn patch_player(
    State(app): State<App>,
    resource: Resource,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response, ApiError> {
    if !body::is_type(&headers, body::SDP) {
        return ice::patch(State(app), resource, headers, sent).await;
    }
    let answer = body::sdp(&headers, sent, app.config().max_body_bytes).await?;
    let offered = app.offers().take(Instant::now(), &resource.room, &resource.participant);
    let offered = offered.ok_or_else(|| participant::not_here(&resource))?;
    let prepared = join::negotiate(&app, move || offered.accept(&answer)).await?;
    let joined = app.shards().join(prepared).await?;
    let headers = [(header::ETAG, ice::entity_tag(&joined.ice_session))];
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

/// `DELETE` of a player, also of one that has not answered yet.
async fn remove_player(State(app): State<App>, resource: Resource) -> Result<StatusCode, ApiError> {
    if app.offers().take(Instant::now(), &resource.room, &resource.participant).is_some() {
        return Ok(StatusCode::NO_CONTENT);
    }
    participant::remove(State(app), resource).await
}
