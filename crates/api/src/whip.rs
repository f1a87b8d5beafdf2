//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): the same join with fewer m-lines.

use antiphon_base::ParticipantId;
use antiphon_shard::{Grants, JoinRequest};
use antiphon_wire::control::ParticipantKind;
use axum::extract::Path;
use axum::response::Response;

use crate::auth::Grant;
use crate::error::ApiError;
use crate::join::Entry;

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
async fn start_playing(entry: Entry, only: Option<ParticipantId>) -> Result<Response, ApiError> {
    entry.access.need(Grant::Subscribe)?;
    let grants = Grants { publish: false, subscribe: true, moderate: false };
    let request = entry.request(entry.access.fresh_id(&entry.app), ParticipantKind::Whep, grants)?;
    let under = format!("/whep/{}", entry.access.room);
    entry.enter(JoinRequest { only, ..request }, &under).await
}
