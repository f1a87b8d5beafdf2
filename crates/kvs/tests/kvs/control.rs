//! Streams and tags: what is taken, and every refusal with its name.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::rig::Rig;

const INVALID: &str = "InvalidArgumentException";

#[tokio::test]
async fn tags_are_the_same_by_stream_and_by_resource() {
    let rig = Rig::new().await;
    let arn = rig.create("s", 1).await;
    let tag = json!([{ "Key": "a", "Value": "1" }, { "Key": "b" }]);
    rig.call("TagResource", json!({ "ResourceARN": arn, "Tags": tag })).await.json();
    rig.call("tagStream", json!({ "StreamName": "s", "Tags": { "c": "3" } })).await.json();
    let tags = json!({ "Tags": { "a": "1", "b": "", "c": "3" } });
    assert_eq!(rig.call("listTagsForStream", json!({ "StreamARN": arn })).await.json(), tags);
    rig.call("UntagResource", json!({ "ResourceARN": arn, "TagKeyList": ["a", "zz"] })).await.json();
    rig.call("untagStream", json!({ "StreamName": "s", "TagKeyList": ["b"] })).await.json();
    let left = rig.call("ListTagsForResource", json!({ "ResourceARN": arn })).await.json();
    assert_eq!(left, json!({ "Tags": { "c": "3" } }));
    for (operation, body, status, exception) in [
        ("tagStream", json!({ "StreamName": "s", "Tags": {} }), 400, INVALID),
        ("tagStream", json!({ "StreamName": "s", "Tags": { "aws:x": "1" } }), 400, INVALID),
        (
            "tagStream",
            json!({ "StreamARN": "nonsense", "Tags": { "a": "1" } }),
            400,
            "InvalidResourceFormatException",
        ),
        (
            "untagStream",
            json!({ "StreamARN": "nonsense", "TagKeyList": ["a"] }),
            400,
            "InvalidResourceFormatException",
        ),
        ("listTagsForStream", json!({ "StreamARN": "arn:x" }), 400, "InvalidResourceFormatException"),
        ("untagStream", json!({ "StreamName": "s", "TagKeyList": [] }), 400, INVALID),
        (
            "TagResource",
            json!({ "ResourceARN": arn, "Tags": [{ "Key": "a" }, { "Key": "a" }] }),
            400,
            INVALID,
        ),
        ("TagResource", json!({ "ResourceARN": "arn", "Tags": [{ "Key": "a" }] }), 400, INVALID),
        (
            "ListTagsForResource",
            json!({ "ResourceARN": "arn:aws:kinesisvideo:x:0:channel/c/1" }),
            404,
            "ResourceNotFoundException",
        ),
        ("listTagsForStream", json!({}), 400, INVALID),
    ] {
        rig.refused(operation, body, status, exception).await;
    }
    let many: serde_json::Map<_, _> = (0..50).map(|i| (format!("k{i}"), json!("v"))).collect();
    rig.refused(
        "tagStream",
        json!({ "StreamName": "s", "Tags": many }),
        400,
        "TagsPerResourceExceededLimitException",
    )
    .await;
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let rig = Rig::new().await;
    let arn = rig.create("s", 1).await;
    let version = rig.version("s").await;
    let update = |more: serde_json::Value| {
        let mut body = json!({ "StreamName": "s", "CurrentVersion": version });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (operation, body, status, exception) in [
        ("createStream", json!({ "StreamName": "s" }), 400, "ResourceInUseException"),
        ("createStream", json!({ "StreamName": "a/b" }), 400, INVALID),
        ("createStream", json!({ "StreamName": "t", "MediaType": "audio" }), 400, INVALID),
        ("createStream", json!({ "StreamName": "t", "DeviceName": "a b" }), 400, INVALID),
        ("createStream", json!({ "StreamName": "t", "KmsKeyId": "nobody's" }), 400, INVALID),
        ("createStream", json!({ "StreamName": "t", "KmsKeyId": "" }), 400, INVALID),
        ("createStream", json!({ "StreamName": "t", "Tags": { "<": "" } }), 400, INVALID),
        ("createStream", json!({ "StreamName": "t", "DataRetentionInHours": 87_601 }), 400, INVALID),
        ("createStream", json!({ "StreamName": "t", "DataRetentionInHours": -1 }), 400, INVALID),
        (
            "createStream",
            json!({ "StreamName": "t", "StreamStorageConfiguration": { "DefaultStorageTier": "WARM" } }),
            400,
            INVALID,
        ),
        ("createStream", json!("not an object"), 400, INVALID),
        ("describeStream", json!({ "StreamName": "t" }), 404, "ResourceNotFoundException"),
        ("describeStream", json!({ "StreamARN": "arn" }), 400, INVALID),
        ("listStreams", json!({ "MaxResults": 0 }), 400, INVALID),
        ("listStreams", json!({ "MaxResults": 10_001 }), 400, INVALID),
        ("listStreams", json!({ "NextToken": "!" }), 400, INVALID),
        (
            "updateStream",
            json!({ "StreamName": "s", "CurrentVersion": "other" }),
            400,
            "VersionMismatchException",
        ),
        ("updateStream", update(json!({ "MediaType": "x" })), 400, INVALID),
        ("updateStream", update(json!({ "DeviceName": "" })), 400, INVALID),
        (
            "updateDataRetention",
            update(json!({ "Operation": "HALVE", "DataRetentionChangeInHours": 1 })),
            400,
            INVALID,
        ),
        (
            "updateDataRetention",
            update(json!({ "Operation": "INCREASE_DATA_RETENTION", "DataRetentionChangeInHours": 0 })),
            400,
            INVALID,
        ),
        (
            "updateDataRetention",
            update(json!({ "Operation": "DECREASE_DATA_RETENTION", "DataRetentionChangeInHours": 2 })),
            400,
            INVALID,
        ),
        (
            "deleteStream",
            json!({ "StreamARN": arn, "CurrentVersion": "other" }),
            400,
            "VersionMismatchException",
        ),
        ("deleteStream", json!({ "StreamARN": "arn" }), 400, INVALID),
        ("getDataEndpoint", json!({ "StreamName": "s", "APIName": "FLY" }), 400, INVALID),
        (
            "getMedia",
            json!({ "StreamName": "s", "StartSelector": { "StartSelectorType": "SERVER_TIMESTAMP" } }),
            400,
            INVALID,
        ),
        ("listFragments", json!({ "StreamName": "s", "MaxResults": 1001 }), 400, INVALID),
        ("getMediaForFragmentList", json!({ "StreamName": "s", "Fragments": [] }), 400, INVALID),
        ("getMediaForFragmentList", json!({ "StreamName": "s", "Fragments": ["x"] }), 400, INVALID),
        ("fly", json!({}), 404, "UnknownOperationException"),
    ] {
        rig.refused(operation, body, status, exception).await;
    }
    // All that without a change.
    assert_eq!(rig.version("s").await, version);
}

#[tokio::test]
async fn pages_of_streams_have_tokens_of_the_alphabet() {
    let rig = Rig::new().await;
    for name in ["a.1", "a.2", "b_3"] {
        rig.create(name, 0).await;
    }
    let first = rig.call("listStreams", json!({ "MaxResults": 2 })).await.json();
    let token = first["NextToken"].as_str().unwrap();
    assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)), "{token}");
    let rest = rig.call("listStreams", json!({ "MaxResults": 2, "NextToken": token })).await.json();
    assert_eq!(rest["StreamInfoList"][0]["StreamName"], "b_3");
    assert!(rest.get("NextToken").is_none());
}

#[tokio::test]
async fn the_endpoint_is_where_the_client_came_to() {
    let rig = Rig::new().await;
    rig.create("s", 0).await;
    let got = rig.call("getDataEndpoint", json!({ "StreamName": "s", "APIName": "GET_CLIP" })).await.json();
    assert_eq!(got["DataEndpoint"], "http://h:1/kvs");
}

#[tokio::test]
async fn pages_of_other_origins_may_ask() {
    let rig = Rig::new().await;
    let ask = Request::options("/kvs/getMedia")
        .header("access-control-request-headers", "authorization,x-amz-date");
    let answer = rig.send(ask.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["access-control-allow-headers"], "authorization,x-amz-date");
    let refused = rig.call("describeStream", json!({ "StreamName": "x" })).await;
    assert_eq!(refused.headers["access-control-allow-origin"], "*");
}
