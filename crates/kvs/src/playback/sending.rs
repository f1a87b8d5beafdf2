//! Sending what is held in memory: who reads it slowly keeps neither it nor its place.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::error::with_request_id;
use crate::flow::PIECE;

/// How long a reader may take for one piece: 2 kB/s.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer of these bytes. Place and bytes are given back when they are sent, or a piece took too long: then the connection
/// breaks, as fewer bytes came than were said.
pub(super) fn answer(
    kind: &'static str,
    cache: &'static str,
    bytes: Vec<u8>,
    place: OwnedSemaphorePermit,
) -> Response {
    let length = HeaderValue::from(bytes.len());
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        // Copied: a piece that waits for its reader must not keep all of them.
        for piece in bytes.chunks(PIECE).map(Bytes::copy_from_slice) {
            let sent = tokio::time::timeout(PIECE_TIMEOUT, sender.send(Ok::<_, Infallible>(piece))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    });
    let body = stream::unfold(receiver, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_LENGTH, length);
    with_request_id(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_keeps_no_place() {
        let places = Arc::new(Semaphore::new(1));
        let place = || places.clone().acquire_owned();
        let first = answer("video/mp4", "no-store", vec![7; 10 * PIECE], place().await.unwrap());
        assert_eq!(places.available_permits(), 0);
        // Held, and never read: the clock goes on by itself while nothing else happens.
        let second = answer("video/mp4", "no-store", vec![8; 3 * PIECE + 1], place().await.unwrap());
        let read = axum::body::to_bytes(second.into_body(), usize::MAX).await.unwrap();
        assert_eq!(read, vec![8; 3 * PIECE + 1]);
        let cut = axum::body::to_bytes(first.into_body(), usize::MAX).await.unwrap();
        assert!(cut.len() < 10 * PIECE, "fewer than were said, which breaks the connection");
    }
}
