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
        ("/v1/streams/call-1/key:rotate", json!({}), "NotAuthorizedException"),
        ("/v1/keys:rewrap", json!({}), "NotAuthorizedException"),
        ("/v1/tokens", json!({ "actions": ["*"], "streams": ["*"] }), "NotAuthorizedException"),
    ] {
        assert_eq!(as_token(path, body).await.error(), (401, exception.to_owned()), "{path}");
    }
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
