//! Keys that are on a server: what is told of them, and what does not wait for them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use antiphon_kvs::Config;
use antiphon_store::key::{KeyError, KeyProvider, LocalKeys, Secret};
use antiphon_store::{Backend, NewStream, Store, StreamRef, Timecodes};
use axum::body::Body;
use axum::http::Request;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::rig::{Rig, now_ms};

/// "far" is refused, or, where nothing is said of it, never answered.
struct Far(LocalKeys, Option<KeyError>);

impl KeyProvider for Far {
    fn default_key(&self) -> &str {
        self.0.default_key()
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        of: &'a str,
        secret: &'a Secret,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        self.0.wrap(key, of, secret)
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        of: &'a str,
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, Result<Secret, KeyError>> {
        match (key, self.1) {
            ("far", Some(error)) => std::future::ready(Err(error)).boxed(),
            ("far", None) => std::future::pending().boxed(),
            _ => self.0.unwrap(key, of, wrapped),
        }
    }

    fn is_newest(&self, _: &str, _: &[u8]) -> bool {
        true
    }

    fn asks(&self, key: &str) -> bool {
        key == "far"
    }
}

fn local() -> LocalKeys {
    LocalKeys::new("default", Secret([7; 32])).with("far", Secret([8; 32]))
}

async fn open(folder: &Path, keys: impl KeyProvider) -> Store {
    let backend = Backend::local(folder).unwrap();
    Store::open(backend, Arc::new(keys), antiphon_store::Config::default(), now_ms()).await.unwrap().0
}

/// A fragment of sound in a stream under each key; then another server, for which "far" is like that.
async fn restarted(folder: &Path, far: Option<KeyError>) -> Rig {
    let store = open(folder, local()).await;
    for key in ["far", "default"] {
        let new =
            NewStream { name: key.into(), key: Some(key.into()), retention_h: 1, ..NewStream::default() };
        store.create_stream(new, now_ms()).await.unwrap();
        let stream = StreamRef::Name(key.into());
        let opened = store.open_session(&stream, Timecodes::Absolute, now_ms()).await;
        let (mut session, _acks) = opened.unwrap();
        session
            .push(&[crate::put::header(), crate::put::cluster(0, 1_024)].concat(), now_ms())
            .await
            .unwrap();
        assert_eq!(session.finish(true, now_ms()).await.kept, 1);
    }
    drop(store);
    Rig::of(open(folder, Far(local(), far)).await, Config::default())
}

fn clip(stream: &str) -> Value {
    let range = json!({ "StartTimestamp": 0, "EndTimestamp": now_ms() / 1000 + 60 });
    json!({
        "StreamName": stream,
        "ClipFragmentSelector": { "FragmentSelectorType": "SERVER_TIMESTAMP", "TimestampRange": range }
    })
}

async fn put(rig: &Rig, stream: &str) -> (u16, String) {
    let request = Request::post("/kvs/putMedia")
        .header("authorization", format!("Bearer {}", rig.token))
        .header("x-amzn-stream-name", stream)
        .header("x-amzn-fragment-timecode-type", "ABSOLUTE")
        .header("x-amzn-fragment-acknowledgment-required", "0");
    let answer = rig.send(request.body(Body::from(crate::put::header())).unwrap()).await;
    let (status, body) = (answer.status().as_u16(), answer.into_body().collect().await.unwrap());
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn each_error_of_a_key_is_told_to_producers_and_readers() {
    for (error, code) in [
        (KeyError::AccessDenied, "4500 KMS_KEY_ACCESS_DENIED"),
        (KeyError::Disabled, "4501 KMS_KEY_DISABLED"),
        (KeyError::Validation, "4502 KMS_KEY_VALIDATION_ERROR"),
        (KeyError::Unavailable, "4503 KMS_KEY_UNAVAILABLE"),
        (KeyError::InvalidUsage, "4504 KMS_KEY_INVALID_USAGE"),
        (KeyError::InvalidState, "4505 KMS_KEY_INVALID_STATE"),
        (KeyError::NotFound, "4506 KMS_KEY_NOT_FOUND"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let rig = restarted(folder.path(), Some(error)).await;
        let (status, told) = put(&rig, "far").await;
        let told: Value = serde_json::from_str(told.trim_end()).unwrap();
        let (id, name) = code.split_once(' ').unwrap();
        let expected =
            json!({ "EventType": "ERROR", "ErrorId": id.parse::<u16>().unwrap(), "ErrorCode": name });
        assert_eq!((status, told), (200, expected));
        let answer = rig.call("getClip", clip("far")).await;
        let away = error == KeyError::Unavailable;
        let (status, exception) =
            if away { (503, "ServiceUnavailable") } else { (400, "InvalidArgumentException") };
        assert_eq!(answer.error(), (status, exception.to_owned()), "{code}");
        let message: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(message["Message"].as_str().unwrap().starts_with(&format!("{code}: ")), "{message}");
        assert_eq!(put(&rig, "default").await, (200, String::new()), "{code}");
    }
}

#[tokio::test]
async fn a_key_that_hangs_takes_no_place_that_others_need() {
    let folder = tempfile::tempdir().unwrap();
    let rig = restarted(folder.path(), None).await;
    // More of each than there are places.
    let mut hanging = Box::pin(join_all((0..100).map(|_| rig.call("getClip", clip("far")))));
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut hanging).await.is_err());
    // It gets as far as to see that there is no picture.
    let other = rig.refused("getClip", clip("default"), 400, "UnsupportedStreamMediaTypeException");
    tokio::time::timeout(Duration::from_secs(20), other).await.expect("it waits for somebody else's key");
}
