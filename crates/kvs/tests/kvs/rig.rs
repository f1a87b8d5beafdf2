//! A server in the process, and what asks it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_kvs::{Config, Kvs, Policy, Tokens};
use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::{Backend, Store};
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::{Router, response::Response};
use bytes::Bytes;
use serde_json::{Value, json};
use tower_service::Service;

/// The server, and a token that may do everything.
pub(crate) struct Rig {
    pub(crate) router: Router,
    pub(crate) tokens: Tokens,
    pub(crate) store: Store,
    pub(crate) token: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and the exception's name.
    pub(crate) fn error(&self) -> (u16, String) {
        let message: Value = serde_json::from_slice(&self.body).unwrap();
        assert!(!message["Message"].as_str().unwrap().is_empty());
        assert!(self.headers.contains_key("x-amzn-requestid"));
        let kind = self.headers["x-amzn-errortype"].to_str().unwrap();
        (self.status.as_u16(), kind.split(':').next().unwrap().to_owned())
    }
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let keys = Arc::new(LocalKeys::new("default", Secret([7; 32])));
        let opened = Store::open(Backend::memory(), keys, antiphon_store::Config::default(), now_ms()).await;
        Self::of(opened.unwrap().0, config)
    }

    pub(crate) fn of(store: Store, config: Config) -> Self {
        let tokens = Tokens::new(&[9; 32]);
        let router = Kvs::new(store.clone(), tokens.clone(), config).router("/kvs");
        let hour = Duration::from_secs(3600);
        let token = tokens.issue(Policy::everything(), hour, now_ms() / 1000).token;
        Self { router, tokens, store, token }
    }

    pub(crate) fn limited(&self, actions: &[&str], streams: &[&str]) -> String {
        self.limited_to(None, actions, streams)
    }

    pub(crate) fn limited_to(&self, contact: Option<&str>, actions: &[&str], streams: &[&str]) -> String {
        let all = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let contacts = contact.map(|id| vec![id.to_owned()]);
        let policy = Policy { actions: all(actions), streams: all(streams), contacts };
        self.tokens.issue(policy, Duration::from_secs(60), now_ms() / 1000).token
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().call(request).await.unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.send(request).await.into_parts();
        let body = to_bytes(body, 1 << 28).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn post_as(&self, token: &str, path: &str, body: Value) -> Answer {
        let request =
            Request::post(path).header("host", "h:1").header("authorization", format!("Bearer {token}"));
        self.answer(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn call(&self, operation: &str, body: Value) -> Answer {
        self.post_as(&self.token, &format!("/kvs/{operation}"), body).await
    }

    pub(crate) async fn create(&self, name: &str, hours: u32) -> String {
        let answer =
            self.call("createStream", json!({ "StreamName": name, "DataRetentionInHours": hours })).await;
        answer.json()["StreamARN"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn version(&self, name: &str) -> String {
        let info = self.call("describeStream", json!({ "StreamName": name })).await.json();
        info["StreamInfo"]["Version"].as_str().unwrap().to_owned()
    }

    /// The operation is refused with that status and exception.
    pub(crate) async fn refused(&self, operation: &str, body: Value, status: u16, exception: &str) {
        let answer = self.call(operation, body.clone()).await;
        assert_eq!(answer.error(), (status, exception.to_owned()), "{operation} {body}");
    }
}
