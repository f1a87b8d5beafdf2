//! Contacts where no streams are stored, and tokens that are not enough.

use crate::Server;

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[tokio::test]
async fn without_a_store_streaming_is_disabled_and_says_so() {
    let server = Server::start().await;
    let record = bearer(&server.token("r", |c| c.grants = Some(vec!["record".into()])));
    let admin = bearer(&server.token("r", |c| c.grants = Some(vec!["admin".into()])));
    for (path, token) in [
        ("POST /v1/rooms/r/participants/ada/media-streaming:start", &record),
        ("POST /v1/contacts/c/media-streaming:start", &record),
        ("POST /v1/contacts/c/media-streaming:stop", &admin),
        ("GET /v1/contacts/c", &record),
        ("DELETE /v1/contacts/c", &record),
        ("GET /v1/contacts/c/audio.wav?track=to&follow=1", &record),
        ("GET /v1/streams/s/live", &record),
        ("GET /v1/media-streaming", &admin),
    ] {
        server.request(path, &[token], b"").await.expect_error(403, "disabled");
    }
}

#[tokio::test]
async fn contacts_need_grants_of_their_own() {
    let server = Server::start().await;
    let moderate = bearer(&server.token("r", |c| c.grants = Some(vec!["moderate".into()])));
    let other = bearer(&server.token("s", |c| c.grants = Some(vec!["record".into()])));
    let start = "POST /v1/rooms/r/participants/ada/media-streaming:start";
    server.request(start, &[&moderate], b"").await.expect_error(403, "forbidden");
    server.request(start, &[&other], b"").await.expect_error(403, "forbidden");
    server.request(start, &[], b"").await.expect_error(401, "unauthenticated");
    server.request("PUT /v1/media-streaming", &[&other], b"{}").await.expect_error(403, "forbidden");
    server.request("GET /v1/media-streaming", &[&moderate], b"").await.expect_error(403, "forbidden");
}

#[tokio::test]
async fn who_moderates_puts_a_participant_on_hold() {
    let server = Server::start().await;
    let ada = server.token("r", |c| c.sub = Some(antiphon_base::ParticipantId::new("ada").unwrap()));
    assert_eq!(server.join("r", &ada).await.status, 201);
    let moderate = bearer(&server.token("r", |c| c.grants = Some(vec!["moderate".into()])));
    let hold = "POST /v1/rooms/r/participants/ada/hold:start";
    for _ in 0..2 {
        assert_eq!(server.request(hold, &[&moderate], b"").await.status, 204);
    }
    assert_eq!(
        server.request("POST /v1/rooms/r/participants/ada/hold:stop", &[&moderate], b"").await.status,
        204
    );
    server.request(hold, &[&bearer(&ada)], b"").await.expect_error(403, "forbidden");
    server
        .request("POST /v1/contacts/c/hold:start", &[&bearer(&ada)], b"")
        .await
        .expect_error(403, "forbidden");
    server.request("POST /v1/contacts/c/hold:start", &[&moderate], b"").await.expect_error(403, "disabled");
    let nobody = "POST /v1/rooms/r/participants/nobody/hold:start";
    server.request(nobody, &[&moderate], b"").await.expect_error(404, "not_found");
}

#[tokio::test]
async fn a_token_says_which_contact_its_bearer_is() {
    let server = Server::start().await;
    let contact = antiphon_record::ContactId::new("call-1").unwrap();
    let token = server.token("r", |c| c.contact = Some(contact.clone()));
    assert_eq!(server.join("r", &token).await.status, 201);
}

#[tokio::test]
async fn what_does_not_parse_is_refused_before_anything_else() {
    let server = Server::start().await;
    let record = bearer(&server.token("r", |c| c.grants = Some(vec!["record".into()])));
    for path in [
        "GET /v1/contacts/c/audio.wav?track=both",
        "GET /v1/contacts/c/audio.wav?follow=2",
        "GET /v1/contacts/c/audio.wav?x=1",
        "GET /v1/contacts/c/audio.wav?start=x",
    ] {
        server.request(path, &[&record], b"").await.expect_error(400, "bad_request");
    }
    let start = "POST /v1/contacts/c/media-streaming:start";
    for body in [&b"{"[..], b"7", br#"{"rate":1}"#, br#"{"tags":{"a":1}}"#] {
        server.request(start, &[&record], body).await.expect_error(400, "bad_request");
    }
    server.request(start, &[&record], &[b' '; 20_000]).await.expect_error(413, "too_large");
}
