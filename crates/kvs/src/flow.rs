//! Answers that go on for as long as their stream does: who does not read them loses them, and the place of a reader.

use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use crate::Kvs;

/// Bytes that are handed to the connection at once: what a reader has to take within its time.
pub(crate) const PIECE: usize = 64 << 10;

enum Piece {
    Bytes(Bytes),
    End,
}

/// A body of these pieces, made no faster than it is read. When a reader has taken nothing for as long as `patience` although something was
/// there, `pieces` is dropped, and the body ends with an error, so that nobody takes what came for all there is.
pub(crate) fn body(
    kvs: &Kvs,
    patience: Duration,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(pump(kvs.clone(), patience, pieces, sender));
    let out = stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::from(io::ErrorKind::TimedOut)), None)),
        }
    });
    Body::from_stream(out)
}

async fn pump(kvs: Kvs, patience: Duration, pieces: impl Stream<Item = Bytes>, sender: mpsc::Sender<Piece>) {
    let mut pieces = pin!(pieces);
    loop {
        let mut bytes = tokio::select! {
            next = pieces.next() => match next {
                Some(bytes) => bytes,
                None => {
                    // Nobody waits for it any more, or somebody reads it.
                    let _ = tokio::time::timeout(patience, sender.send(Piece::End)).await;
                    return;
                }
            },
            () = sender.closed() => return,
        };
        while !bytes.is_empty() {
            let piece = Piece::Bytes(bytes.split_to(bytes.len().min(PIECE)));
            match tokio::time::timeout(patience, sender.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    kvs.0.readers_stuck.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!("a reader took nothing for too long");
                    return;
                }
            }
        }
    }
}
