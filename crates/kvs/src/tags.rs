//! Tags, by stream and by resource: the same tags.

use std::collections::BTreeMap;

use antiphon_store::StreamRef;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::json;

use crate::Kvs;
use crate::access::Caller;
use crate::control::{Answer, answer, read};
use crate::error::KvsError;
use crate::model::{StreamOf, TagResource, TagStream, UntagResource, UntagStream};
use crate::valid;

/// For these an ARN that is none has an error of its own.
fn of_stream(caller: &Caller, of: StreamOf) -> Result<StreamRef, KvsError> {
    let format = |_| {
        let message = "The format of the StreamARN is not valid.";
        KvsError::new(StatusCode::BAD_REQUEST, "InvalidResourceFormatException", message)
    };
    let arn = of.arn.as_ref().is_some_and(|arn| arn.parse::<antiphon_store::Arn>().is_err());
    caller.check(if arn { of.find().map_err(format)? } else { of.find()? })
}

/// Signaling channels are resources too; there are none.
fn of_resource(caller: &Caller, arn: &str) -> Result<StreamRef, KvsError> {
    if arn.starts_with("arn:") && arn.split(':').nth(5).is_some_and(|r| r.starts_with("channel/")) {
        return Err(antiphon_store::Error::StreamNotFound.into());
    }
    caller.check(StreamRef::Arn(arn.parse()?))
}

async fn tag(kvs: &Kvs, stream: &StreamRef, tags: BTreeMap<String, String>) -> Answer {
    if tags.is_empty() {
        return Err(KvsError::invalid("Tags: at least one."));
    }
    valid::tags(&tags)?;
    kvs.store().tag(stream, tags, &[]).await?;
    Ok(answer(&json!({})))
}

async fn untag(kvs: &Kvs, stream: &StreamRef, keys: &[String]) -> Answer {
    valid::tag_keys(keys)?;
    kvs.store().tag(stream, BTreeMap::new(), keys).await?;
    Ok(answer(&json!({})))
}

pub(crate) async fn tag_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, input): (_, TagStream) = read(&kvs, "TagStream", request).await?;
    tag(&kvs, &of_stream(&caller, input.stream)?, input.tags).await
}

pub(crate) async fn untag_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, input): (_, UntagStream) = read(&kvs, "UntagStream", request).await?;
    untag(&kvs, &of_stream(&caller, input.stream)?, &input.tag_key_list).await
}

pub(crate) async fn list_tags_for_stream(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, input): (_, StreamOf) = read(&kvs, "ListTagsForStream", request).await?;
    let stream = of_stream(&caller, input)?;
    // At most 50: one page.
    Ok(answer(&json!({ "Tags": kvs.store().tags(&stream)? })))
}

pub(crate) async fn tag_resource(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, input): (_, TagResource) = read(&kvs, "TagResource", request).await?;
    let stream = of_resource(&caller, &input.resource_arn)?;
    let count = input.tags.len();
    let tags: BTreeMap<_, _> = input.tags.into_iter().map(|t| (t.key, t.value.unwrap_or_default())).collect();
    if tags.len() < count {
        return Err(KvsError::invalid("Tags: a key stands there twice."));
    }
    tag(&kvs, &stream, tags).await
}

pub(crate) async fn untag_resource(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, input): (_, UntagResource) = read(&kvs, "UntagResource", request).await?;
    untag(&kvs, &of_resource(&caller, &input.resource_arn)?, &input.tag_key_list).await
}

pub(crate) async fn list_tags_for_resource(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, input): (_, crate::model::ResourceOf) = read(&kvs, "ListTagsForResource", request).await?;
    let stream = of_resource(&caller, &input.resource_arn)?;
    Ok(answer(&json!({ "Tags": kvs.store().tags(&stream)? })))
}
