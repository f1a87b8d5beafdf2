//! PutMedia: a body that flows in while acknowledgements flow out.

use std::convert::Infallible;
use std::time::Duration;

use antiphon_store::{Ack, AckOf, Acks, Error, FaultKind, Place, Session, StreamRef, Timecodes};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::control::{Answer, authenticate_stream};
use crate::error::{KvsError, with_request_id};
use crate::{Kvs, time};

/// How long a producer may be silent that has connected again: longer than what it sent last is under way.
const FOLLOWED_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn put_media(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let caller = authenticate_stream(&kvs, "PutMedia", &parts)?;
    let headers = &parts.headers;
    let (stream, timecodes) = (caller.check(stream_of(headers)?)?, timecodes(headers)?);
    let wanted = wants_acks(headers)?;
    let busy = |_| {
        let message = "This server has as many producers as it may.";
        KvsError::new(StatusCode::BAD_REQUEST, "ConnectionLimitExceededException", message)
    };
    let place = kvs.producers().try_acquire_owned().map_err(busy)?;
    let opened = kvs.store().open_session_of(&stream, Some(&caller.id), timecodes, kvs.now_ms()).await;
    let (mut session, acks) = match opened {
        Ok(opened) => opened,
        // Of keys producers are told by an acknowledgement, as of all that can befall a stream while it is written.
        Err(Error::Key(key)) => {
            return Ok(answer(Body::from(format!("{}\n", error(None, FaultKind::Key(key))))));
        }
        Err(error) => return Err(error.into()),
    };
    if kvs.config().every_track {
        session.want_every_track();
    }
    // A task of its own: what was received is stored even if nobody waits for the answer any more.
    tokio::spawn(receive(kvs.clone(), session, body, place));
    Ok(answer(Body::from_stream(lines(acks, kvs.config().idle_interval, wanted))))
}

fn answer(body: Body) -> Response {
    with_request_id(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, KvsError> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| KvsError::invalid(format!("{name}: not text.")))
}

fn stream_of(headers: &HeaderMap) -> Result<StreamRef, KvsError> {
    match (text(headers, "x-amzn-stream-name")?, text(headers, "x-amzn-stream-arn")?) {
        (Some(name), None) => Ok(StreamRef::Name(name.to_owned())),
        (None, Some(arn)) => Ok(StreamRef::Arn(arn.parse()?)),
        _ => Err(KvsError::invalid("Exactly one of x-amzn-stream-name and x-amzn-stream-arn is needed.")),
    }
}

fn timecodes(headers: &HeaderMap) -> Result<Timecodes, KvsError> {
    let start = text(headers, "x-amzn-producer-start-timestamp")?;
    match text(headers, "x-amzn-fragment-timecode-type")? {
        Some("ABSOLUTE") => Ok(Timecodes::Absolute),
        Some("RELATIVE") => {
            let start_ms = start.and_then(time::from_text);
            let message = "x-amzn-producer-start-timestamp: epoch seconds are needed with RELATIVE.";
            Ok(Timecodes::Relative { start_ms: start_ms.ok_or_else(|| KvsError::invalid(message))? })
        }
        _ => Err(KvsError::invalid("x-amzn-fragment-timecode-type: ABSOLUTE or RELATIVE.")),
    }
}

/// Whether a producer wants to hear of each fragment; of faults it does always.
fn wants_acks(headers: &HeaderMap) -> Result<bool, KvsError> {
    match text(headers, "x-amzn-fragment-acknowledgment-required")? {
        None | Some("1") => Ok(true),
        Some("0") => Ok(false),
        Some(_) => Err(KvsError::invalid("x-amzn-fragment-acknowledgment-required: 0 or 1.")),
    }
}

/// Takes the body until its end, a fault, silence, a newer connection of the same producer, or the server's stop.
async fn receive(kvs: Kvs, mut session: Session, mut body: Body, _place: OwnedSemaphorePermit) {
    let mut stopping = kvs.stopping();
    let (mut timeout, mut place) = (kvs.config().producer_timeout, session.place());
    let longest = kvs.config().max_connection;
    let end = (!longest.is_zero()).then(|| Instant::now() + longest);
    // Not reading before is what slows a producer down.
    let mut reads_at = Instant::now();
    loop {
        if end.is_some_and(|end| end <= Instant::now()) {
            session.fail(FaultKind::ConnectionDuration).await;
            break;
        }
        let left = end.map_or(timeout, |end| timeout.min(end.saturating_duration_since(Instant::now())));
        let waits = reads_at > Instant::now();
        let frame = tokio::select! {
            () = tokio::time::sleep_until(reads_at), if waits => continue,
            frame = tokio::time::timeout(left, body.frame()), if !waits => Some(frame),
            Ok(()) = place.changed() => None,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let Some(frame) = frame else {
            if *place.borrow_and_update() == Place::Lost {
                session.fail(FaultKind::StreamRead).await;
                break;
            }
            timeout = timeout.min(FOLLOWED_TIMEOUT);
            continue;
        };
        match frame {
            Err(_) if end.is_some_and(|end| end <= Instant::now()) => {}
            // Silence, or the end of the body: the last fragment is complete.
            Err(_) | Ok(None) => break,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a producer's connection broke");
                session.fail(FaultKind::StreamRead).await;
                break;
            }
            Ok(Some(Ok(frame))) => {
                let Ok(bytes) = frame.into_data() else { continue };
                if session.push(&bytes, kvs.now_ms()).await.is_err() {
                    break;
                }
                reads_at = Instant::now() + Duration::from_millis(session.pace(bytes.len(), kvs.now_ms()));
            }
        }
    }
    session.finish(false, kvs.now_ms()).await;
}

/// Acknowledgements, one JSON object per line; `IDLE` while there are none.
fn lines(acks: Acks, idle: Duration, wanted: bool) -> impl stream::Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(acks, move |mut acks| async move {
        loop {
            let line = match tokio::time::timeout(idle, acks.recv()).await {
                Err(_) => json!({ "EventType": "IDLE" }),
                Ok(ack) => match ack? {
                    Ack::Buffering(_) | Ack::Received(_) | Ack::Persisted(_) if !wanted => continue,
                    ack => line(&ack),
                },
            };
            return Some((Ok(Bytes::from(format!("{line}\n"))), acks));
        }
    })
}

fn line(ack: &Ack) -> Value {
    let event = |kind: &str, of: &AckOf| json!({ "EventType": kind, "FragmentTimecode": of.timecode_ms, "FragmentNumber": of.number.to_string() });
    match ack {
        Ack::Buffering(of) => event("BUFFERING", of),
        Ack::Received(of) => event("RECEIVED", of),
        Ack::Persisted(of) => event("PERSISTED", of),
        Ack::Error { of, kind } => error(of.as_ref(), *kind),
    }
}

fn error(of: Option<&AckOf>, kind: FaultKind) -> Value {
    let mut line = json!({ "EventType": "ERROR", "ErrorId": kind.id(), "ErrorCode": kind.code() });
    if let Some(of) = of {
        line["FragmentTimecode"] = of.timecode_ms.into();
        line["FragmentNumber"] = of.number.to_string().into();
    }
    line
}
