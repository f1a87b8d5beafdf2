//! A participant's resource: its state and last reason, its counts, its dump, its end.

use antiphon_base::ErrorKind;
use antiphon_shard::ParticipantStatus;
use antiphon_wire::control::LeaveReason;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use crate::app::App;
use crate::auth::Resource;
use crate::error::ApiError;

/// `GET`: state and last reason; for a while after it has gone, too.
pub(crate) async fn show(
    State(app): State<App>,
    resource: Resource,
) -> Result<Json<ParticipantStatus>, ApiError> {
    status(&app, &resource, false).await.map(Json)
}

/// `GET .../stats`: the same with counts and the latest events.
pub(crate) async fn stats(
    State(app): State<App>,
    resource: Resource,
) -> Result<Json<ParticipantStatus>, ApiError> {
    status(&app, &resource, true).await.map(Json)
}

pub(crate) async fn status(
    app: &App,
    resource: &Resource,
    detail: bool,
) -> Result<ParticipantStatus, ApiError> {
    let found = app.shards().status(&resource.room, &resource.participant, detail).await;
    found.ok_or_else(|| not_here(resource))
}

/// `DELETE`: leave, or be removed.
pub(crate) async fn remove(State(app): State<App>, resource: Resource) -> Result<StatusCode, ApiError> {
    let reason = if resource.own { LeaveReason::Left } else { LeaveReason::Removed };
    if app.shards().remove(&resource.room, &resource.participant, reason).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(not_here(&resource))
}

/// `GET .../dump`: decrypted RTP as a pcap file, for as long as the client reads and the participant is there.
pub(crate) async fn dump(State(app): State<App>, resource: Resource) -> Result<Response, ApiError> {
    if !app.config().rtp_dump {
        return Err(ApiError::new(
            ErrorKind::Forbidden,
            "Dumps are off on this server: they show media in the clear. The operator can set `debug.rtp_dump`.",
        ));
    }
    let bytes = app.shards().dump(&resource.room, &resource.participant).await;
    let stream = bytes.ok_or_else(|| not_here(&resource))?.map(Ok::<_, std::convert::Infallible>);
    let name = format!("attachment; filename=\"{}.pcap\"", resource.participant);
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.tcpdump.pcap".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

pub(crate) fn not_here(resource: &Resource) -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        format!("There is no participant {} in room {} (any more).", resource.participant, resource.room),
    )
}
