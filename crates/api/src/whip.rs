//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): the same join with fewer m-lines.

use std::net::SocketAddr;

use antiphon_base::ParticipantId;
use antiphon_shard::{Grants, JoinRequest};
use antiphon_wire::control::{ParticipantKind, Policy};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::app::App;
use crate::auth::{Access, Grant};
use crate::error::ApiError;
use crate::join::{Offer, created, display_name, enter};

/// `POST /whip/{room}`: publish.
pub(crate) async fn publish(
    State(app): State<App>,
    Extension(peer): Extension<SocketAddr>,
    access: Access,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    access.need(Grant::Publish)?;
    let request = JoinRequest {
        id: access.identity(&app),
        name: display_name(&headers, &access)?,
        kind: ParticipantKind::Whip,
        grants: Grants { publish: true, subscribe: false, moderate: false },
        policy: Policy::default(),
        muted: Vec::new(),
        resume: None,
        only: None,
    };
    let joined = enter(&app, peer, &access, Offer { headers, body }, request).await?;
    Ok(created(&joined, &format!("/whip/{}/{}", access.room, joined.id)))
}

/// `POST /whep/{room}`: play the room.
pub(crate) async fn play(
    State(app): State<App>,
    Extension(peer): Extension<SocketAddr>,
    access: Access,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    start_playing(&app, peer, &access, Offer { headers, body }, None).await
}

/// `POST /whep/{room}/{participant}`: play one participant.
pub(crate) async fn play_one(
    State(app): State<App>,
    Extension(peer): Extension<SocketAddr>,
    access: Access,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let only =
        ParticipantId::new(&id).map_err(|e| ApiError::bad_request(format!("The participant id {e}.")))?;
    start_playing(&app, peer, &access, Offer { headers, body }, Some(only)).await
}

/// A player never takes the place of the token's identity: whoever is in the room may watch it as well.
async fn start_playing(
    app: &App,
    peer: SocketAddr,
    access: &Access,
    offer: Offer,
    only: Option<ParticipantId>,
) -> Result<Response, ApiError> {
    access.need(Grant::Subscribe)?;
    let request = JoinRequest {
        id: access.fresh_id(app),
        name: display_name(&offer.headers, access)?,
        kind: ParticipantKind::Whep,
        grants: Grants { publish: false, subscribe: true, moderate: false },
        policy: Policy::default(),
        muted: Vec::new(),
        resume: None,
        only,
    };
    let joined = enter(app, peer, access, offer, request).await?;
    Ok(created(&joined, &format!("/whep/{}/{}", access.room, joined.id)))
}
