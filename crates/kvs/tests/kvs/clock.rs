//! A machine's clock that has jumped ahead and is not believed yet: what is stored, read and removed goes by one time all the same.

use antiphon_kvs::{Config, TimeOfDay};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::put::{cluster, header};
use crate::rig::{Rig, now_ms};

/// Two days, which are more than anything is kept for here.
const JUMP_MS: u64 = 2 * 86_400_000;

/// As it was before the jump, going on with tokio's time.
fn believed() -> TimeOfDay {
    let (began, before) = (Instant::now(), now_ms() - JUMP_MS);
    TimeOfDay::new(move || before + u64::try_from(began.elapsed().as_millis()).unwrap())
}

async fn put(rig: &Rig, at_ms: u64) {
    let request = Request::post("/kvs/putMedia")
        .header("authorization", format!("Bearer {}", rig.token))
        .header("x-amzn-stream-name", "s")
        .header("x-amzn-fragment-timecode-type", "ABSOLUTE");
    let document = [header(), cluster(at_ms, 1024)].concat();
    let answer = rig.send(request.body(Body::from(document)).unwrap()).await;
    let acks = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&acks).contains("PERSISTED"), "{acks:?}");
}

fn count(listed: &Value) -> usize {
    listed["Fragments"].as_array().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_read_and_kept_by_the_time_that_is_believed() {
    let rig = Rig::with(Config { time: believed(), ..Config::default() }).await;
    rig.create("s", 24).await;
    put(&rig, 0).await;
    put(&rig, 1000).await;
    let name = json!({ "StreamName": "s" });
    assert_eq!(count(&rig.call("listFragments", name.clone()).await.json()), 2);
    let start = json!({ "StreamName": "s", "StartSelector": { "StartSelectorType": "EARLIEST" } });
    let began = Instant::now();
    let media = rig.call("getMedia", start).await.body;
    let text = String::from_utf8_lossy(&media);
    assert_eq!(text.matches("AWS_KINESISVIDEO_CONTINUATION_TOKEN").count(), 2);
    assert!(began.elapsed().as_secs() <= 4, "it ends after its producer, not two days later");
    let change = json!({ "StreamName": "s", "CurrentVersion": rig.version("s").await,
        "Operation": "DECREASE_DATA_RETENTION", "DataRetentionChangeInHours": 23 });
    assert_eq!(rig.call("updateDataRetention", change).await.status, 200);
    assert_eq!(count(&rig.call("listFragments", name).await.json()), 2, "an hour has not gone by");
    let info = rig.call("describeStream", json!({ "StreamName": "s" })).await.json();
    let created = info["StreamInfo"]["CreationTime"].as_f64().unwrap();
    assert!(created * 1000.0 < (now_ms() - JUMP_MS / 2) as f64, "{created}");
}
