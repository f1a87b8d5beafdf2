//! Streams made, described, tagged, changed and deleted; and refusals, each by its type.

use aws_sdk_kinesisvideo::error::ProvideErrorMetadata;
use aws_sdk_kinesisvideo::types::{Status, StreamInfo, Tag, UpdateDataRetentionOperation as Operation};
use aws_sdk_kinesisvideo::{Client, primitives::DateTime};
use serde_json::json;

use crate::{clients, say};

async fn describe(client: &Client, name: &str) -> StreamInfo {
    let answer = client.describe_stream().stream_name(name).send().await;
    answer.expect("a description").stream_info.expect("its stream")
}

/// Refusals have the types that the SDK knows.
async fn refusals(client: &Client) {
    let again = client.create_stream().stream_name("rust").send().await.expect_err("there is one");
    assert!(again.as_service_error().is_some_and(|e| e.is_resource_in_use_exception()), "{again:?}");
    let nobody = client.describe_stream().stream_name("nobody").send().await.expect_err("there is none");
    assert!(nobody.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()), "{nobody:?}");
    let path = client.create_stream().stream_name("../rust").send().await.expect_err("no such name");
    assert!(path.as_service_error().is_some_and(|e| e.is_invalid_argument_exception()), "{path:?}");
    let wrong = clients::control_with("wrong".into());
    let wrong = wrong.describe_stream().stream_name("rust").send().await.expect_err("not signed by the key");
    assert_eq!(wrong.code(), Some("InvalidSignatureException"), "{wrong:?}");
}

async fn tags(client: &Client, arn: &str) {
    let tag = Tag::builder().key("queue").value("sales").build().expect("a tag");
    client.tag_resource().resource_arn(arn).tags(tag).send().await.expect("tagged");
    let listed = client.list_tags_for_stream().stream_arn(arn).send().await.expect("a list");
    let tags = listed.tags.expect("tags");
    assert_eq!(tags.get("queue").map(String::as_str), Some("sales"));
    assert_eq!(tags.get("made").map(String::as_str), Some("by Rust"), "{tags:?}");
    client.untag_resource().resource_arn(arn).tag_key_list("queue").send().await.expect("untagged");
    let left =
        client.list_tags_for_resource().resource_arn(arn).send().await.expect("a list").tags.expect("tags");
    assert_eq!(left.keys().collect::<Vec<_>>(), ["made"]);
}

/// Two hours become three; gives the stream's version.
async fn retention(client: &Client) -> String {
    let change = |version: String| {
        let update = client.update_data_retention().stream_name("rust").current_version(version);
        update.operation(Operation::IncreaseDataRetention).data_retention_change_in_hours(1).send()
    };
    let old = change("0".into()).await.expect_err("not its version");
    assert!(old.as_service_error().is_some_and(|e| e.is_version_mismatch_exception()), "{old:?}");
    change(describe(client, "rust").await.version.expect("a version")).await.expect("changed");
    let info = describe(client, "rust").await;
    assert_eq!(info.data_retention_in_hours, Some(3));
    info.version.expect("a version")
}

pub async fn run() {
    let client = clients::control();
    let make = client.create_stream().stream_name("rust").data_retention_in_hours(2).tags("made", "by Rust");
    let arn = make.send().await.expect("made").stream_arn.expect("its ARN");
    client.create_stream().stream_name("rust-2").send().await.expect("another");
    let info = describe(&client, "rust").await;
    assert_eq!((info.stream_arn.as_ref(), info.status.as_ref()), (Some(&arn), Some(&Status::Active)));
    assert!(
        info.creation_time.is_some_and(|t| t > DateTime::from_secs(1_700_000_000)),
        "{:?}",
        info.creation_time
    );

    let mut names = Vec::new();
    let mut pages = client.list_streams().into_paginator().page_size(1).send();
    while let Some(page) = pages.next().await {
        names.extend(
            page.expect("a page")
                .stream_info_list
                .unwrap_or_default()
                .into_iter()
                .filter_map(|s| s.stream_name),
        );
    }
    assert_eq!(names, ["rust", "rust-2"]);

    refusals(&client).await;
    tags(&client, &arn).await;
    let version = retention(&client).await;
    let old = client
        .delete_stream()
        .stream_arn(&arn)
        .current_version("0")
        .send()
        .await
        .expect_err("not its version");
    assert!(old.as_service_error().is_some_and(|e| e.is_version_mismatch_exception()), "{old:?}");
    client.delete_stream().stream_arn(&arn).current_version(version).send().await.expect("deleted");
    let gone = client.describe_stream().stream_arn(&arn).send().await.expect_err("it is gone");
    assert!(gone.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()), "{gone:?}");
    say(&json!({"event": "done", "arn": arn}));
}
