//! The two tasks of a connection: one writes what is sent, one reads what comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use antiphon_base::Source;
use antiphon_wire::bot::{BotEvent, QueueState};
use antiphon_wire::control::RecordingState;
use antiphon_wire::topic;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use crate::error::Error;
use crate::frames;
use crate::shared::{Shared, lock};

/// Writes until nobody sends any more, or a close was sent.
pub(crate) async fn write<S>(mut socket: S, mut outgoing: mpsc::Receiver<Message>)
where
    S: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    while let Some(message) = outgoing.recv().await {
        let last = message.is_close();
        // What broke is told by the reading side.
        if socket.send(message).await.is_err() || last {
            return;
        }
    }
}

/// Reads until the connection ends, and says why.
pub(crate) async fn read<S>(mut socket: S, shared: Arc<Shared>)
where
    S: Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    let end = loop {
        match socket.next().await {
            Some(Ok(Message::Binary(message))) if message.get(1) == Some(&topic::KIND) => {
                match topic::Message::parse(&message) {
                    Ok((message, lost)) => {
                        lock(&shared.inbox).put_data(message, lost);
                        shared.arrived.notify_one();
                    }
                    Err(_) => skip(&shared),
                }
            }
            Some(Ok(Message::Binary(message))) => match frames::parse(&message) {
                Ok(frame) => {
                    lock(&shared.inbox).put_frame(frame);
                    shared.arrived.notify_one();
                }
                Err(_) => skip(&shared),
            },
            Some(Ok(Message::Text(text))) => {
                if let Some(fatal) = take(&shared, &text) {
                    break fatal;
                }
            }
            Some(Ok(Message::Close(frame))) => {
                let left = *lock(&shared.left);
                break match frame {
                    _ if left.is_some() => Error::Closed(left),
                    Some(f) if !matches!(f.code, CloseCode::Normal | CloseCode::Away) => {
                        Error::ConnectionLost(format!("close code {}, {}", u16::from(f.code), f.reason))
                    }
                    _ => Error::Closed(None),
                };
            }
            Some(Ok(_)) => {}
            Some(Err(tungstenite::Error::ConnectionClosed)) => break Error::Closed(*lock(&shared.left)),
            Some(Err(e)) => break Error::ConnectionLost(e.to_string()),
            None => break Error::ConnectionLost("the stream ended".to_owned()),
        }
    };
    shared.end(end);
}

/// Counts a message that this version does not understand, and goes on: a newer server may say more than we know.
fn skip(shared: &Shared) {
    shared.malformed.fetch_add(1, Ordering::Relaxed);
}

/// Takes one text message; gives the error of a fatal one.
fn take(shared: &Shared, text: &Utf8Bytes) -> Option<Error> {
    let Ok(event) = serde_json::from_str::<BotEvent>(text) else {
        skip(shared);
        return None;
    };
    match &event {
        BotEvent::Reply { id, error } => {
            let answer = match error.clone() {
                Some(e) => Err(Error::Refused { kind: e.code, message: e.message }),
                None => Ok(event.clone()),
            };
            resolve(shared, *id, answer);
            return None;
        }
        BotEvent::Flushed { id, .. } | BotEvent::Stats { id, .. } => {
            resolve(shared, *id, Ok(event.clone()));
            return None;
        }
        BotEvent::MarkPlayed { name, .. } => {
            if let Some(waiter) = lock(&shared.marks).remove(name) {
                // Whoever waited may have given up.
                let _ = waiter.send(Ok(event.clone()));
            }
        }
        BotEvent::Queue { source, state, .. } => {
            let voice = if *source == Source::Microphone { &shared.microphone } else { &shared.screen_audio };
            lock(&voice.pace).server_full(matches!(state, QueueState::High | QueueState::Overflow));
            voice.changed.notify_waiters();
        }
        BotEvent::Error { error, fatal: true } => {
            return Some(Error::Refused { kind: error.code, message: error.message.clone() });
        }
        BotEvent::Recording { recording, state, consent: false } if *state != RecordingState::Stopped => {
            shared.acknowledge(recording);
        }
        BotEvent::Closed { reason } => *lock(&shared.left) = Some(*reason),
        other => lock(&shared.roster).follow(other),
    }
    lock(&shared.inbox).put_event(event);
    shared.arrived.notify_one();
    None
}

fn resolve(shared: &Shared, id: u32, answer: Result<BotEvent, Error>) {
    if let Some(waiter) = lock(&shared.requests).remove(&id) {
        // Whoever waited may have given up.
        let _ = waiter.send(answer);
    }
}
