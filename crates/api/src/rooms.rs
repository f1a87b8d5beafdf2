//! Who is there: rooms as a moderator sees them.

use antiphon_base::ErrorKind;
use antiphon_shard::RoomStatus;
use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::app::App;
use crate::auth::{Access, AnyRoom, Grant};
use crate::error::ApiError;

/// Answer of [`list`].
#[derive(Serialize)]
pub(crate) struct Rooms {
    rooms: Vec<RoomStatus>,
}

/// `GET /v1/rooms`: the rooms that the token opens and that exist now; a token opens one.
pub(crate) async fn list(State(app): State<App>, AnyRoom(claims): AnyRoom) -> Result<Json<Rooms>, ApiError> {
    if !claims.has(Grant::Moderate) {
        return Err(ApiError::new(
            ErrorKind::Forbidden,
            "The token lacks the grant `moderate`. Get one made with it.",
        ));
    }
    let mut rooms = app.shards().rooms().await;
    rooms.retain(|r| r.name == claims.room);
    Ok(Json(Rooms { rooms }))
}

/// `GET /v1/rooms/{room}`.
pub(crate) async fn show(State(app): State<App>, access: Access) -> Result<Json<RoomStatus>, ApiError> {
    access.need(Grant::Moderate)?;
    let rooms = app.shards().rooms().await;
    rooms.into_iter().find(|r| r.name == access.room).map(Json).ok_or_else(|| {
        ApiError::new(
            ErrorKind::NotFound,
            format!("Nobody is in room {}: it does not exist now.", access.room),
        )
    })
}
