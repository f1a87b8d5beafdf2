//! Streams as a whole: the operations of the control plane, and what all operations with a JSON body share.

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_store::{NewStream, StreamRef};
use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::access::{Caller, authenticate};
use crate::error::{KvsError, with_request_id};
use crate::model::{
    CreateStream, DeleteStream, GetDataEndpoint, ListStreams, StreamInfoOut, StreamOf, UpdateDataRetention,
    UpdateStream,
};
use crate::sigv4::Payload;
use crate::{Kvs, absent, private, valid};

/// A list of 1000 fragment numbers of 128 digits fits.
const MAX_BODY_BYTES: usize = 1 << 20;
/// How long a JSON body may take: no limit stands around these requests, as some last as long as a call.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_STREAMS_PER_PAGE: usize = 10_000;

/// Operations that a data endpoint can be asked for.
const DATA_OPERATIONS: [&str; 8] = [
    "PUT_MEDIA",
    "GET_MEDIA",
    "LIST_FRAGMENTS",
    "GET_MEDIA_FOR_FRAGMENT_LIST",
    "GET_HLS_STREAMING_SESSION_URL",
    "GET_DASH_STREAMING_SESSION_URL",
    "GET_CLIP",
    "GET_IMAGES",
];

pub(crate) type Answer = Result<Response, KvsError>;

/// Checks who asks, with a body that is a stream.
pub(crate) fn authenticate_stream(
    kvs: &Kvs,
    operation: &'static str,
    parts: &Parts,
) -> Result<Caller, KvsError> {
    let peer = parts.extensions.get::<SocketAddr>();
    let unsigned = private(kvs.config(), peer);
    authenticate(kvs, operation, parts, Payload::Stream { unsigned })
}

/// Checks who asks, and reads the JSON body.
pub(crate) async fn read<T: DeserializeOwned>(
    kvs: &Kvs,
    operation: &'static str,
    request: Request,
) -> Result<(Caller, T), KvsError> {
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await;
    let body = body.map_err(|_| KvsError::invalid("The body took too long."))?;
    let message = || format!("The body broke off, or has more than {MAX_BODY_BYTES} bytes.");
    let body = body.map_err(|_| KvsError::invalid(message()))?;
    let caller = authenticate(kvs, operation, &parts, Payload::Signed(&body))?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    let input = serde_json::from_slice(text);
    Ok((caller, input.map_err(|e| KvsError::invalid(format!("The request is not valid: {e}.")))?))
}

pub(crate) fn answer(body: &Value) -> Response {
    with_request_id(([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response())
}

impl StreamOf {
    pub(crate) fn find(self) -> Result<StreamRef, KvsError> {
        match (self.name, self.arn) {
            (Some(name), None) => Ok(StreamRef::Name(name)),
            (_, Some(arn)) => Ok(StreamRef::Arn(arn.parse()?)),
            (None, None) => Err(KvsError::invalid("Either StreamName or StreamARN is needed.")),
        }
    }
}

pub(crate) async fn create_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, new): (_, CreateStream) = read(&kvs, "CreateStream", request).await?;
    new.media_type.as_deref().map_or(Ok(()), valid::media_type)?;
    new.device_name.as_deref().map_or(Ok(()), valid::device_name)?;
    new.kms_key_id.as_deref().map_or(Ok(()), valid::key_id)?;
    valid::tags(&new.tags)?;
    absent::check_tier(new.stream_storage_configuration.as_ref())?;
    caller.check(StreamRef::Name(new.stream_name.clone()))?;
    let new = NewStream {
        name: new.stream_name,
        media_type: new.media_type.unwrap_or_default(),
        device_name: new.device_name.unwrap_or_default(),
        // Amazon's own default key has a name everywhere; here the provider's default stands for it.
        key: new.kms_key_id.filter(|id| id != "alias/aws/kinesisvideo"),
        retention_h: new.data_retention_in_hours,
        tags: new.tags,
        in_memory: false,
    };
    let info = kvs.store().create_stream(new, kvs.now_ms()).await?;
    Ok(answer(&json!({ "StreamARN": info.arn.as_str() })))
}

pub(crate) async fn describe_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, stream): (_, StreamOf) = read(&kvs, "DescribeStream", request).await?;
    let info = kvs.store().describe(&caller.check(stream.find()?)?)?;
    Ok(answer(&json!({ "StreamInfo": StreamInfoOut::from(info) })))
}

pub(crate) async fn list_streams(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, list): (_, ListStreams) = read(&kvs, "ListStreams", request).await?;
    let condition = list.stream_name_condition.unwrap_or_default();
    if condition.comparison_operator.is_some_and(|op| op != "BEGINS_WITH") {
        return Err(KvsError::invalid("ComparisonOperator: only BEGINS_WITH."));
    }
    let max = list.max_results.unwrap_or(MAX_STREAMS_PER_PAGE);
    if !(1..=MAX_STREAMS_PER_PAGE).contains(&max) {
        return Err(KvsError::invalid(format!("MaxResults: 1 to {MAX_STREAMS_PER_PAGE}.")));
    }
    let after = list.next_token.as_deref().map_or(Some(String::new()), name_of_token);
    let after = after.ok_or_else(|| KvsError::invalid("NextToken: not one of ours."))?;
    // What the caller may not see is not there for it.
    let all = kvs.store().list_streams(&condition.comparison_value, &after, usize::MAX);
    let mut found: Vec<_> =
        all.into_iter().filter(|info| caller.may(&StreamRef::Arn(info.arn.clone()))).take(max + 1).collect();
    let more = found.len() > max;
    found.truncate(max);
    let next = found.last().filter(|_| more).map(|info| BASE64.encode(info.name.as_bytes()));
    let all: Vec<StreamInfoOut> = found.into_iter().map(StreamInfoOut::from).collect();
    Ok(answer(&with_token(json!({ "StreamInfoList": all }), next)))
}

/// The last name of the page before.
fn name_of_token(token: &str) -> Option<String> {
    String::from_utf8(BASE64.decode(token.as_bytes()).ok()?).ok()
}

/// `NextToken` stands there only if there is one.
pub(crate) fn with_token(mut body: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        body["NextToken"] = next.into();
    }
    body
}

pub(crate) async fn delete_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, delete): (_, DeleteStream) = read(&kvs, "DeleteStream", request).await?;
    let stream = caller.check(StreamRef::Arn(delete.stream_arn.parse()?))?;
    kvs.store().delete_stream(&stream, delete.current_version.as_deref()).await?;
    Ok(answer(&json!({})))
}

pub(crate) async fn update_data_retention(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, update): (_, UpdateDataRetention) = read(&kvs, "UpdateDataRetention", request).await?;
    let stream = caller.check(update.stream.find()?)?;
    let (now, change) = (kvs.store().describe(&stream)?.retention_h, update.data_retention_change_in_hours);
    let hours = match update.operation.as_str() {
        _ if change == 0 => None,
        "INCREASE_DATA_RETENTION" => now.checked_add(change),
        "DECREASE_DATA_RETENTION" => now.checked_sub(change),
        _ => return Err(KvsError::invalid("Operation: INCREASE_ or DECREASE_DATA_RETENTION.")),
    };
    let hours = hours.ok_or_else(|| KvsError::invalid("DataRetentionChangeInHours: out of range."))?;
    kvs.store().update_retention(&stream, &update.current_version, hours, kvs.now_ms()).await?;
    Ok(answer(&json!({})))
}

pub(crate) async fn update_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, update): (_, UpdateStream) = read(&kvs, "UpdateStream", request).await?;
    let stream = caller.check(update.stream.find()?)?;
    let (media_type, device_name) = (update.media_type, update.device_name);
    media_type.as_deref().map_or(Ok(()), valid::media_type)?;
    device_name.as_deref().map_or(Ok(()), valid::device_name)?;
    kvs.store().update_stream(&stream, &update.current_version, media_type, device_name).await?;
    Ok(answer(&json!({})))
}

pub(crate) async fn get_data_endpoint(State(kvs): State<Kvs>, request: Request) -> Answer {
    let here = here(&kvs, request.headers(), request.uri().path(), "/getDataEndpoint");
    let (caller, get): (_, GetDataEndpoint) = read(&kvs, "GetDataEndpoint", request).await?;
    if !DATA_OPERATIONS.contains(&get.api_name.as_str()) {
        return Err(KvsError::invalid("APIName: no such operation."));
    }
    kvs.store().describe(&caller.reading(get.stream.find()?)?.0)?;
    Ok(answer(&json!({ "DataEndpoint": here })))
}

/// Our own URL: as configured, or as the client reached us. What stands before the operation in the path is where the API
/// is mounted on the port that the client came to.
pub(crate) fn here(kvs: &Kvs, headers: &HeaderMap, path: &str, operation: &str) -> String {
    let config = kvs.config();
    if !config.endpoint.is_empty() {
        return config.endpoint.clone();
    }
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("localhost");
    let scheme = if config.tls { "https" } else { "http" };
    format!("{scheme}://{host}{}", path.strip_suffix(operation).unwrap_or_default())
}

/// Gives a stream a new data key; what is stored stays readable. Ours, not Amazon's.
pub(crate) async fn rotate_key(State(kvs): State<Kvs>, Path(name): Path<String>, request: Request) -> Answer {
    let (caller, _): (_, Value) = read(&kvs, "RotateKey", request).await?;
    kvs.store().rotate_key(&caller.check(StreamRef::Name(name))?).await?;
    Ok(answer(&json!({})))
}

/// Problems that an answer tells; `antiphon store check` tells all.
const MAX_PROBLEMS: usize = 100;

/// Has all keys wrapped by the newest versions of their master keys, for who may do it to any stream. A client that hangs up ends it
/// between two keys; it may be asked for again. Ours, not Amazon's.
pub(crate) async fn rewrap_keys(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, _): (_, Value) = read(&kvs, "RewrapKeys", request).await?;
    // No stream has this name: patterns for some streams do not match it.
    caller.check(StreamRef::Name("*".into()))?;
    let done = kvs.store().rewrap_keys().await?;
    let problems: Vec<_> = done.problems.iter().take(MAX_PROBLEMS).map(ToString::to_string).collect();
    Ok(answer(&json!({"Rewrapped": done.rewrapped, "Newest": done.newest, "Problems": problems})))
}

/// Operations that this store does not have.
pub(crate) async fn unknown() -> KvsError {
    KvsError::new(
        StatusCode::NOT_FOUND,
        "UnknownOperationException",
        "This server does not have that operation.",
    )
}
