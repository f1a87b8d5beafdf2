//! Reading: GetMedia, ListFragments, GetMediaForFragmentList.

use std::time::Duration;

use antiphon_store::{Clock, FragmentList, FragmentNumber, Range, Reader, Start, Step};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use crate::control::{Answer, answer, read, with_token};
use crate::error::{KvsError, with_request_id};
use crate::model::{FragmentOut, GetMedia, GetMediaForFragmentList, ListFragments, StartSelector};
use crate::{Kvs, time};

/// Not verified against Amazon; clients ignore it.
const CONTENT_TYPE: &str = "video/webm";
const DEFAULT_PAGE: usize = 100;

pub(crate) async fn get_media(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, get): (_, GetMedia) = read(&kvs, "GetMedia", request).await?;
    let start = start(&get.start_selector)?;
    let (stream, contacts) = caller.reading(get.stream.find()?)?;
    let reader = kvs.store().get_media_of(&stream, contacts, start, kvs.now_ms())?;
    let body = stream::unfold((kvs.clone(), reader), |(kvs, mut reader)| async move {
        let bytes = next(&kvs, &mut reader).await?;
        Some((bytes, (kvs, reader)))
    });
    Ok(media(kvs.body(kvs.reader_timeout(), body)))
}

fn media(body: Body) -> Response {
    with_request_id(([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response())
}

/// The next piece of the response; waits for it, and `None` at the end.
async fn next(kvs: &Kvs, reader: &mut Reader) -> Option<Bytes> {
    loop {
        match reader.next(kvs.now_ms()).await {
            Step::Bytes(bytes) => return Some(bytes),
            Step::End => return None,
            Step::Wait => {}
        }
        let deadline = reader.deadline_ms().map(|at| Duration::from_millis(at.saturating_sub(kvs.now_ms())));
        match deadline {
            None => reader.changed().await,
            Some(left) => _ = tokio::time::timeout(left, reader.changed()).await,
        }
    }
}

pub(crate) fn start(selector: &StartSelector) -> Result<Start, KvsError> {
    let number = |text: &Option<String>, field: &str| {
        let text = text.as_deref().ok_or_else(|| missing(field))?;
        text.parse::<FragmentNumber>().map_err(|e| KvsError::invalid(format!("{field}: {e}.")))
    };
    let at = || timestamp(selector.start_timestamp.as_ref(), "StartTimestamp");
    match selector.start_selector_type.as_str() {
        "NOW" => Ok(Start::Now),
        "EARLIEST" => Ok(Start::Earliest),
        "FRAGMENT_NUMBER" => {
            Ok(Start::After(number(&selector.after_fragment_number, "AfterFragmentNumber")?))
        }
        "CONTINUATION_TOKEN" => Ok(Start::After(number(&selector.continuation_token, "ContinuationToken")?)),
        "PRODUCER_TIMESTAMP" => Ok(Start::At(Clock::Producer, at()?)),
        "SERVER_TIMESTAMP" => Ok(Start::At(Clock::Server, at()?)),
        _ => Err(KvsError::invalid("StartSelectorType: no such type.")),
    }
}

fn missing(field: &str) -> KvsError {
    KvsError::invalid(format!("{field} is needed with that type of selector."))
}

fn timestamp(value: Option<&Value>, field: &str) -> Result<u64, KvsError> {
    let value = value.ok_or_else(|| missing(field))?;
    time::from_json(value).ok_or_else(|| KvsError::invalid(format!("{field}: not a time.")))
}

pub(crate) async fn list_fragments(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, list): (_, ListFragments) = read(&kvs, "ListFragments", request).await?;
    let max = list.max_results.unwrap_or(DEFAULT_PAGE);
    if !(1..=antiphon_store::MAX_PAGE).contains(&max) {
        return Err(KvsError::invalid(format!("MaxResults: 1 to {}.", antiphon_store::MAX_PAGE)));
    }
    let range = list.fragment_selector.map(|selector| {
        let clock = match selector.fragment_selector_type.as_str() {
            "PRODUCER_TIMESTAMP" => Clock::Producer,
            "SERVER_TIMESTAMP" => Clock::Server,
            _ => return Err(KvsError::invalid("FragmentSelectorType: no such type.")),
        };
        let times = selector.timestamp_range;
        let start_ms = timestamp(Some(&times.start_timestamp), "StartTimestamp")?;
        let end_ms = timestamp(Some(&times.end_timestamp), "EndTimestamp")?;
        Ok(Range { clock, start_ms, end_ms })
    });
    let (stream, contacts) = caller.reading(list.stream.find()?)?;
    let (range, token) = (range.transpose()?, list.next_token.as_deref());
    let page = kvs.store().list_fragments_of(&stream, contacts, range, (max, token), kvs.now_ms())?;
    let fragments: Vec<FragmentOut> = page.fragments.iter().map(FragmentOut::from).collect();
    Ok(answer(&with_token(json!({ "Fragments": fragments }), page.next)))
}

pub(crate) async fn get_media_for_fragment_list(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, get): (_, GetMediaForFragmentList) = read(&kvs, "GetMediaForFragmentList", request).await?;
    let numbers = get.fragments.iter().map(|text| text.parse());
    let numbers = numbers.collect::<Result<Vec<FragmentNumber>, _>>();
    let numbers = numbers.map_err(|e| KvsError::invalid(format!("Fragments: {e}.")))?;
    let (stream, contacts) = caller.reading(get.stream.find()?)?;
    let list = kvs.store().get_fragments_of(&stream, contacts, numbers, kvs.now_ms())?;
    let body = stream::unfold(list, |mut list: FragmentList| async move {
        let bytes = list.next().await?;
        Some((bytes, list))
    });
    Ok(media(kvs.body(kvs.reader_timeout(), body)))
}
