//! What a token lets its bearer do.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::rig::{Rig, now_ms};

#[tokio::test]
async fn a_token_allows_what_its_policy_says() {
    let rig = Rig::new().await;
    rig.create("call-1", 1).await;
    let arn = rig.create("other", 1).await;
    let token = rig.limited(&["Describe*", "kinesisvideo:ListStreams", "ListTagsForResource"], &["call-*"]);
    let as_token = |path: &'static str, body| rig.post_as(&token, path, body);
    let mine = as_token("/kvs/describeStream", json!({ "StreamName": "call-1" })).await.json();
    assert_eq!(mine["StreamInfo"]["StreamName"], "call-1");
    let listed = as_token("/kvs/listStreams", json!({})).await.json();
    assert_eq!(
        listed["StreamInfoList"].as_array().unwrap().len(),
        1,
        "what is not its own is not there for it"
    );
    for (path, body, exception) in [
        ("/kvs/describeStream", json!({ "StreamName": "other" }), "NotAuthorizedException"),
        ("/kvs/describeStream", json!({ "StreamARN": arn }), "NotAuthorizedException"),
        ("/kvs/describeStream", json!({ "StreamName": "nobody" }), "NotAuthorizedException"),
        ("/kvs/deleteStream", json!({ "StreamARN": arn }), "NotAuthorizedException"),
        ("/kvs/ListTagsForResource", json!({ "ResourceARN": arn }), "AccessDeniedException"),
        ("/kvs/createSignalingChannel", json!({ "ChannelName": "c" }), "AccessDeniedException"),
        ("/v1/streams/call-1/key:rotate", json!({}), "NotAuthorizedException"),
        ("/v1/keys:rewrap", json!({}), "NotAuthorizedException"),
        ("/v1/tokens", json!({ "actions": ["*"], "streams": ["*"] }), "NotAuthorizedException"),
    ] {
        assert_eq!(as_token(path, body).await.error(), (401, exception.to_owned()), "{path}");
    }
    // The one service that says it with 403.
    let join = as_token("/kvs/joinStorageSession", json!({ "channelArn": arn })).await;
    assert_eq!(join.error(), (403, "AccessDeniedException".to_owned()));
}

#[tokio::test]
async fn no_token_no_entry() {
    let rig = Rig::new().await;
    let ended =
        rig.tokens.issue(antiphon_kvs::Policy::everything(), std::time::Duration::ZERO, now_ms() / 1000);
    let other = antiphon_kvs::Tokens::new(&[1; 32]);
    let foreign =
        other.issue(antiphon_kvs::Policy::everything(), std::time::Duration::from_secs(60), now_ms() / 1000);
    for (token, exception) in [
        (ended.token.as_str(), "ExpiredTokenException"),
        (foreign.token.as_str(), "UnrecognizedClientException"),
        ("", "UnrecognizedClientException"),
    ] {
        let answer = rig.post_as(token, "/kvs/listStreams", json!({})).await;
        assert_eq!(answer.error(), (403, exception.to_owned()));
    }
    let bare = rig.send(Request::post("/kvs/putMedia").body(Body::empty()).unwrap()).await;
    assert_eq!(bare.status(), 403);
    assert!(bare.headers()["x-amzn-errortype"].to_str().unwrap().starts_with("MissingAuthenticationToken"));
}

#[tokio::test]
async fn a_token_makes_no_tokens() {
    let rig = Rig::new().await;
    let wanted = json!({ "actions": ["GetMedia"], "streams": ["a"] });
    let answer = rig.call("../v1/tokens", wanted.clone()).await;
    assert_eq!(answer.status, 404, "there is one place for it");
    let answer = rig.post_as(&rig.token, "/v1/tokens", wanted).await;
    assert_eq!(answer.error(), (401, "NotAuthorizedException".into()));
}

#[tokio::test]
async fn a_rotated_stream_goes_on() {
    let rig = Rig::new().await;
    rig.create("s", 1).await;
    rig.post_as(&rig.token, "/v1/streams/s/key:rotate", json!({})).await.json();
    let answer = rig.post_as(&rig.token, "/v1/streams/nobody/key:rotate", json!({})).await;
    assert_eq!(answer.error(), (404, "ResourceNotFoundException".into()));
}

#[tokio::test]
async fn keys_are_wrapped_anew_for_who_may_do_it_to_all_streams() {
    let rig = Rig::new().await;
    rig.create("s", 1).await;
    let answer = rig.post_as(&rig.token, "/v1/keys:rewrap", json!({})).await.json();
    assert_eq!(answer, json!({ "Rewrapped": 0, "Newest": 2, "Problems": [] }));
    for (actions, streams, status) in
        [("RewrapKeys", "*", 200), ("RewrapKeys", "s*", 401), ("Get*", "*", 401)]
    {
        let token = rig.limited(&[actions], &[streams]);
        assert_eq!(
            rig.post_as(&token, "/v1/keys:rewrap", json!({})).await.status,
            status,
            "{actions} {streams}"
        );
    }
}

/// Puts fragments of a second, each with its contact's id, into a stream.
async fn put_for(rig: &Rig, stream: &str, contacts: &[&str]) -> Vec<String> {
    use antiphon_store::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block};
    let mut numbers = Vec::new();
    for (i, contact) in contacts.iter().enumerate() {
        let track = PcmTrack { number: 1, name: "VOICE".into(), rate_hz: 8000, label: PcmLabel::Pcm };
        let body = [
            pcm_header("t", &[track], &[("ContactId", contact)]),
            cluster_start(now_ms() + 1_000 * i as u64),
            simple_block(1, 0, &[0; 1024]),
        ];
        let request = Request::post("/kvs/putMedia")
            .header("host", "h:1")
            .header("authorization", format!("Bearer {}", rig.token))
            .header("x-amzn-stream-name", stream)
            .header("x-amzn-fragment-timecode-type", "ABSOLUTE")
            .header("x-amzn-producer-start-timestamp", "0");
        let answer = rig.send(request.body(Body::from(body.concat())).unwrap()).await;
        let acks = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let acks = String::from_utf8(acks.to_vec()).unwrap();
        let persisted = acks.lines().find(|line| line.contains("PERSISTED")).expect(&acks);
        let ack: serde_json::Value = serde_json::from_str(persisted).unwrap();
        numbers.push(ack["FragmentNumber"].as_str().unwrap().to_owned());
    }
    numbers
}

#[tokio::test]
async fn a_token_for_a_contact_reads_its_streams_and_its_part_of_others() {
    let rig = Rig::new().await;
    let tagged = json!({ "StreamName": "mine", "DataRetentionInHours": 1, "Tags": { "ContactId": "ada" } });
    rig.call("createStream", tagged).await.json();
    rig.create("shared", 1).await;
    let mine = put_for(&rig, "mine", &["ada"]).await;
    let shared = put_for(&rig, "shared", &["ben", "ada"]).await;
    let token = rig.limited_to(Some("ada"), &["*"], &["*"]);
    let as_token = |path: &'static str, body| rig.post_as(&token, path, body);
    let numbers = |answer: serde_json::Value| {
        let all = answer["Fragments"].as_array().unwrap().clone();
        all.iter().map(|f| f["FragmentNumber"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (stream, expected) in [("mine", &mine[..]), ("shared", &shared[1..])] {
        let listed = as_token("/kvs/listFragments", json!({ "StreamName": stream })).await.json();
        assert_eq!(numbers(listed), expected, "{stream}");
        let endpoint = json!({ "StreamName": stream, "APIName": "GET_MEDIA" });
        assert_eq!(as_token("/kvs/getDataEndpoint", endpoint).await.status, 200);
    }
    let wanted = json!({ "StreamName": "shared", "Fragments": shared });
    let media = as_token("/kvs/getMediaForFragmentList", wanted).await;
    let text = String::from_utf8_lossy(&media.body).into_owned();
    assert!(text.contains("FRAGMENT_NOT_FOUND") && text.contains("ada") && !text.contains("ben"), "{text}");
    let listed = as_token("/kvs/listStreams", json!({})).await.json();
    assert_eq!(listed["StreamInfoList"].as_array().unwrap().len(), 1, "what it shares is not its own");
    for (path, body) in [
        ("/kvs/describeStream", json!({ "StreamName": "shared" })),
        ("/kvs/describeStream", json!({ "StreamName": "nobody" })),
        ("/kvs/createStream", json!({ "StreamName": "new" })),
        ("/kvs/tagStream", json!({ "StreamName": "shared", "Tags": { "ContactId": "ada" } })),
        ("/v1/keys:rewrap", json!({})),
    ] {
        assert_eq!(as_token(path, body).await.status, 401, "{path}");
    }
    assert_eq!(as_token("/kvs/describeStream", json!({ "StreamName": "mine" })).await.status, 200);
}
