//! What is stored, and what is just coming.

use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_sdk_kinesisvideo::types::ApiName;
use aws_sdk_kinesisvideoarchivedmedia::Client as Archived;
use aws_sdk_kinesisvideoarchivedmedia::primitives::{ByteStream, DateTime};
use aws_sdk_kinesisvideoarchivedmedia::types::{
    ClipFragmentSelector, ClipFragmentSelectorType, ClipTimestampRange, Format, Fragment, FragmentSelector,
    FragmentSelectorType, ImageSelectorType, TimestampRange,
};
use aws_sdk_kinesisvideomedia::types::{StartSelector, StartSelectorType};
use serde_json::json;

use crate::{clients, say};

async fn keep(body: ByteStream, file: &Path) {
    let bytes = body.collect().await.expect("the whole body").into_bytes();
    std::fs::write(file, bytes).expect("a file");
}

/// The last hour, by the server's clock.
fn hour() -> (DateTime, DateTime) {
    let now = SystemTime::now();
    (DateTime::from(now - Duration::from_secs(3600)), DateTime::from(now))
}

async fn fragments(archived: &Archived, stream: &str) -> Vec<Fragment> {
    let (start, end) = hour();
    let range = TimestampRange::builder().start_timestamp(start).end_timestamp(end).build().expect("a range");
    let selector = FragmentSelector::builder().fragment_selector_type(FragmentSelectorType::ServerTimestamp);
    let selector = selector.timestamp_range(range).build().expect("a selector");
    // Two a page: a consumer follows NextToken.
    let list = archived.list_fragments().stream_name(stream).fragment_selector(selector);
    let mut pages = list.into_paginator().page_size(2).send();
    let mut all = Vec::new();
    while let Some(page) = pages.next().await {
        all.extend(page.expect("a page").fragments.unwrap_or_default());
    }
    all
}

async fn get_media(stream: &str, from: StartSelectorType, after: Option<&str>) -> ByteStream {
    let selector =
        StartSelector::builder().start_selector_type(from).set_after_fragment_number(after.map(Into::into));
    let selector = selector.build().expect("a selector");
    let answer =
        clients::media(stream).await.get_media().stream_name(stream).start_selector(selector).send().await;
    answer.expect("media").payload
}

fn clip_selector() -> ClipFragmentSelector {
    let (start, end) = hour();
    let range =
        ClipTimestampRange::builder().start_timestamp(start).end_timestamp(end).build().expect("a range");
    let selector =
        ClipFragmentSelector::builder().fragment_selector_type(ClipFragmentSelectorType::ServerTimestamp);
    selector.timestamp_range(range).build().expect("a selector")
}

/// Lists and reads sound: `earliest`, `after` the first fragment, the `second` fragment alone.
pub async fn sound(stream: &str, folder: &Path) {
    let archived = clients::archived(stream, ApiName::ListFragments).await;
    let listed = fragments(&archived, stream).await;
    let numbers: Vec<&str> = listed.iter().filter_map(|f| f.fragment_number.as_deref()).collect();
    keep(get_media(stream, StartSelectorType::Earliest, None).await, &folder.join("earliest")).await;
    let after = get_media(stream, StartSelectorType::FragmentNumber, Some(numbers[0])).await;
    keep(after, &folder.join("after")).await;
    let list = archived.get_media_for_fragment_list().stream_name(stream).fragments(numbers[1]).send().await;
    keep(list.expect("media").payload, &folder.join("second")).await;

    let refused =
        archived.get_clip().stream_name(stream).clip_fragment_selector(clip_selector()).send().await;
    let refused = refused.expect_err("sound is no clip");
    let unsupported =
        refused.as_service_error().is_some_and(|e| e.is_unsupported_stream_media_type_exception());
    assert!(unsupported, "{refused:?}");
    let lengths: Vec<_> = listed.iter().map(|f| f.fragment_length_in_milliseconds).collect();
    say(&json!({"event": "done", "numbers": numbers, "lengths": lengths}));
}

/// A `clip` of all, and an image for each second from the first fragment on.
pub async fn pictures(stream: &str, folder: &Path) {
    let archived = clients::archived(stream, ApiName::GetClip).await;
    let clip = archived
        .get_clip()
        .stream_name(stream)
        .clip_fragment_selector(clip_selector())
        .send()
        .await
        .expect("a clip");
    let kind = clip.content_type.clone();
    keep(clip.payload, &folder.join("clip")).await;

    let listed = fragments(&archived, stream).await;
    let start = listed[0].producer_timestamp.expect("its time");
    let archived = clients::archived(stream, ApiName::GetImages).await;
    let images =
        archived.get_images().stream_name(stream).image_selector_type(ImageSelectorType::ProducerTimestamp);
    let images = images
        .start_timestamp(start)
        .end_timestamp(DateTime::from_millis(start.to_millis().expect("a time") + 2_500));
    let images = images
        .sampling_interval(1_000)
        .format(Format::Jpeg)
        .send()
        .await
        .expect("images")
        .images
        .unwrap_or_default();
    let contents: Vec<_> =
        images.iter().map(|i| (i.error.as_ref().map(|e| e.as_str()), &i.image_content)).collect();
    say(&json!({"event": "done", "kind": kind, "images": contents}));
}

/// Says each piece of what comes after a fragment when it comes, and when no more does.
pub async fn follow(stream: &str, number: &str) {
    let mut body = get_media(stream, StartSelectorType::FragmentNumber, Some(number)).await;
    say(&json!({"event": "following"}));
    while let Some(piece) = body.next().await {
        let hex: String = piece.expect("a piece").iter().map(|b| format!("{b:02x}")).collect();
        say(&json!({"event": "piece", "hex": hex}));
    }
    say(&json!({"event": "end"}));
}
