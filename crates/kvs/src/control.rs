//! Streams as a whole: the operations of the control plane, and what all operations with a JSON body share.

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_store::{NewStream, StreamRef};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{KvsError, with_request_id};
use crate::model::{
    CreateStream, DeleteStream, GetDataEndpoint, ListStreams, StreamInfoOut, StreamOf, TagStream,
    UntagStream, UpdateDataRetention, UpdateStream,
};
use crate::sigv4::{self, Payload};
use crate::{Kvs, now_ms, private};

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
pub(crate) fn authenticate_stream(kvs: &Kvs, request: &Request) -> Result<(), KvsError> {
    let peer = request.extensions().get::<SocketAddr>();
    let unsigned = private(kvs.config(), peer);
    verify(kvs, request, Payload::Stream { unsigned })
}

fn verify(kvs: &Kvs, request: &Request, payload: Payload<'_>) -> Result<(), KvsError> {
    let signed = sigv4::Request {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: request.headers(),
    };
    let config = kvs.config();
    sigv4::verify(signed, payload, &config.credentials, now_ms() / 1000, config.skew.as_secs())?;
    Ok(())
}

/// Checks who asks, and reads the JSON body.
pub(crate) async fn read<T: DeserializeOwned>(kvs: &Kvs, request: Request) -> Result<T, KvsError> {
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await;
    let body = body.map_err(|_| KvsError::invalid("The body took too long."))?;
    let message = || format!("The body broke off, or has more than {MAX_BODY_BYTES} bytes.");
    let body = body.map_err(|_| KvsError::invalid(message()))?;
    let request = Request::from_parts(parts, Body::empty());
    verify(kvs, &request, Payload::Signed(&body))?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(text).map_err(|e| KvsError::invalid(format!("The request is not valid: {e}.")))
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
    let new: CreateStream = read(&kvs, request).await?;
    let new = NewStream {
        name: new.stream_name,
        media_type: new.media_type,
        device_name: new.device_name,
        // Amazon's own default key has a name everywhere; here the provider's default stands for it.
        key: new.kms_key_id.filter(|id| !id.is_empty() && id != "alias/aws/kinesisvideo"),
        retention_h: new.data_retention_in_hours,
        tags: new.tags,
        in_memory: false,
    };
    let info = kvs.store().create_stream(new, now_ms()).await?;
    Ok(answer(&json!({ "StreamARN": info.arn.as_str() })))
}

pub(crate) async fn describe_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let stream: StreamOf = read(&kvs, request).await?;
    let info = kvs.store().describe(&stream.find()?)?;
    Ok(answer(&json!({ "StreamInfo": StreamInfoOut::from(info) })))
}

pub(crate) async fn list_streams(State(kvs): State<Kvs>, request: Request) -> Answer {
    let list: ListStreams = read(&kvs, request).await?;
    let condition = list.stream_name_condition.unwrap_or_default();
    if condition.comparison_operator.is_some_and(|op| op != "BEGINS_WITH") {
        return Err(KvsError::invalid("ComparisonOperator: only BEGINS_WITH."));
    }
    let max = list.max_results.unwrap_or(MAX_STREAMS_PER_PAGE);
    if !(1..=MAX_STREAMS_PER_PAGE).contains(&max) {
        return Err(KvsError::invalid(format!("MaxResults: 1 to {MAX_STREAMS_PER_PAGE}.")));
    }
    let after = list.next_token.unwrap_or_default();
    let mut found = kvs.store().list_streams(&condition.comparison_value, &after, max + 1);
    let more = found.len() > max;
    found.truncate(max);
    let next = found.last().filter(|_| more).map(|info| info.name.clone());
    let all: Vec<StreamInfoOut> = found.into_iter().map(StreamInfoOut::from).collect();
    Ok(answer(&with_token(json!({ "StreamInfoList": all }), next)))
}

/// `NextToken` stands there only if there is one.
pub(crate) fn with_token(mut body: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        body["NextToken"] = next.into();
    }
    body
}

pub(crate) async fn delete_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let delete: DeleteStream = read(&kvs, request).await?;
    let stream = StreamRef::Arn(delete.stream_arn.parse()?);
    kvs.store().delete_stream(&stream, delete.current_version.as_deref()).await?;
    Ok(answer(&json!({})))
}

pub(crate) async fn update_data_retention(State(kvs): State<Kvs>, request: Request) -> Answer {
    let update: UpdateDataRetention = read(&kvs, request).await?;
    let stream = update.stream.find()?;
    let (now, change) = (kvs.store().describe(&stream)?.retention_h, update.data_retention_change_in_hours);
    let hours = match update.operation.as_str() {
        _ if change == 0 => None,
        "INCREASE_DATA_RETENTION" => now.checked_add(change),
        "DECREASE_DATA_RETENTION" => now.checked_sub(change),
        _ => return Err(KvsError::invalid("Operation: INCREASE_ or DECREASE_DATA_RETENTION.")),
    };
    let hours = hours.ok_or_else(|| KvsError::invalid("DataRetentionChangeInHours: out of range."))?;
    kvs.store().update_retention(&stream, &update.current_version, hours, now_ms()).await?;
    Ok(answer(&json!({})))
}

pub(crate) async fn update_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let update: UpdateStream = read(&kvs, request).await?;
    let stream = update.stream.find()?;
    let (media_type, device_name) = (update.media_type, update.device_name);
    kvs.store().update_stream(&stream, &update.current_version, media_type, device_name).await?;
    Ok(answer(&json!({})))
}

pub(crate) async fn tag_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let tag: TagStream = read(&kvs, request).await?;
    kvs.store().tag(&tag.stream.find()?, tag.tags, &[]).await?;
    Ok(answer(&json!({})))
}

pub(crate) async fn untag_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let untag: UntagStream = read(&kvs, request).await?;
    kvs.store().tag(&untag.stream.find()?, Default::default(), &untag.tag_key_list).await?;
    Ok(answer(&json!({})))
}

pub(crate) async fn list_tags_for_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let stream: StreamOf = read(&kvs, request).await?;
    Ok(answer(&json!({ "Tags": kvs.store().tags(&stream.find()?)? })))
}

pub(crate) async fn get_data_endpoint(State(kvs): State<Kvs>, request: Request) -> Answer {
    let here = here(&kvs, request.headers());
    let get: GetDataEndpoint = read(&kvs, request).await?;
    if !DATA_OPERATIONS.contains(&get.api_name.as_str()) {
        return Err(KvsError::invalid("APIName: no such operation."));
    }
    kvs.store().describe(&get.stream.find()?)?;
    Ok(answer(&json!({ "DataEndpoint": here })))
}

/// Our own URL: as configured, or as the client reached us.
fn here(kvs: &Kvs, headers: &HeaderMap) -> String {
    let config = kvs.config();
    if !config.endpoint.is_empty() {
        return config.endpoint.clone();
    }
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("localhost");
    let scheme = if config.tls { "https" } else { "http" };
    format!("{scheme}://{host}{}", config.prefix)
}

/// Operations that this store does not have.
pub(crate) async fn unknown() -> KvsError {
    KvsError::new(
        StatusCode::NOT_FOUND,
        "UnknownOperationException",
        "This server does not have that operation.",
    )
}
