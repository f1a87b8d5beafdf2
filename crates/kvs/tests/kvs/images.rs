//! GetImages: times, pages, gaps and refusals; an imager that makes no pictures but says what it was given. Real pictures are for
//! `tests/e2e`.

use std::sync::Arc;

use antiphon_kvs::{Config, Imager, Wanted};
use antiphon_store::matroska::id;
use antiphon_store::matroska::write::{Writer, cluster_start, document_head, simple_block};
use antiphon_store::{StreamRef, Timecodes};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::rig::{Rig, now_ms};

/// Gives the first byte of the wanted unit; makes none of units that begin with 255.
#[derive(Debug)]
struct Names;

impl Imager for Names {
    fn images(&self, wanted: &Wanted) -> Vec<Option<Vec<u8>>> {
        let name = |i: &usize| Some(vec![wanted.units[*i][0]]).filter(|name| name[0] != 255);
        wanted.pictures.iter().map(name).collect()
    }
}

async fn rig() -> Rig {
    Rig::with(Config { images: Some(Arc::new(Names)), ..Config::default() }).await
}

fn header(codec: &str) -> Vec<u8> {
    let mut w = Writer::new();
    w.master(id::INFO, |w| _ = w.uint(id::TIMECODE_SCALE, 1_000_000));
    w.master(id::TRACKS, |w| {
        w.master(id::TRACK_ENTRY, |w| {
            w.uint(id::TRACK_NUMBER, 1).uint(id::TRACK_TYPE, 1).text(id::CODEC_ID, codec);
        });
    });
    [document_head(), w.into_bytes()].concat()
}

/// Fragments of a second that begin at these times, of ten frames each: their names are 10 a + the frame.
async fn stored(rig: &Rig, name: &str, codec: &str, starts: &[u64]) {
    rig.create(name, 24).await;
    let (now, stream) = (now_ms(), StreamRef::Name(name.into()));
    let (mut session, _acks) = rig.store.open_session(&stream, Timecodes::Absolute, now).await.unwrap();
    session.push(&header(codec), now).await.unwrap();
    for (a, start) in starts.iter().enumerate() {
        let mut cluster = cluster_start(*start);
        for i in 0..10_u8 {
            cluster.extend(simple_block(
                1,
                i16::from(i) * 100,
                &[u8::try_from(10 * a + usize::from(i)).unwrap_or(255)],
            ));
        }
        session.push(&cluster, now).await.unwrap();
    }
    assert_eq!(session.finish(true, now).await.kept, starts.len() as u64);
}

fn request(name: &str, start_ms: u64, end_ms: u64, step_ms: u64) -> Value {
    json!({
        "StreamName": name, "ImageSelectorType": "PRODUCER_TIMESTAMP", "Format": "PNG", "SamplingInterval": step_ms,
        "StartTimestamp": start_ms as f64 / 1000.0, "EndTimestamp": end_ms as f64 / 1000.0,
    })
}

/// Milliseconds from `start_ms`, and the name of the image or its error.
fn images(answer: &Value, start_ms: u64) -> Vec<(u64, String)> {
    let one = |image: &Value| {
        let at = format!("{:.0}", image["TimeStamp"].as_f64().unwrap() * 1000.0).parse::<u64>().unwrap()
            - start_ms;
        let name =
            image["ImageContent"].as_str().map(|text| BASE64.decode(text.as_bytes()).unwrap()[0].to_string());
        (at, name.unwrap_or_else(|| image["Error"].as_str().unwrap().to_owned()))
    };
    answer["Images"].as_array().unwrap().iter().map(one).collect()
}

fn expected(list: &[(u64, &str)]) -> Vec<(u64, String)> {
    list.iter().map(|(at, name)| (*at, (*name).to_owned())).collect()
}

#[tokio::test]
async fn each_step_has_its_picture_or_says_that_there_is_none() {
    let (rig, start) = (rig().await, now_ms() - 60_000);
    // The third second is missing.
    stored(&rig, "s", "V_VP8", &[start, start + 1_000, start + 3_000]).await;
    let answer = rig.call("getImages", request("s", start - 500, start + 3_900, 500)).await.json();
    let list = [
        (0, "NO_MEDIA"),
        (500, "0"),
        (1_000, "5"),
        (1_500, "10"),
        (2_000, "15"),
        (2_500, "NO_MEDIA"),
        (3_000, "NO_MEDIA"),
        (3_500, "20"),
        (4_000, "25"),
    ];
    assert_eq!(images(&answer, start - 500), expected(&list));
    assert_eq!(answer.get("NextToken"), None);
    // A range shorter than a step has its beginning.
    let answer = rig.call("getImages", request("s", start + 250, start + 300, 3_000)).await.json();
    assert_eq!(images(&answer, start), expected(&[(250, "2")]));
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let (rig, start) = (rig().await, now_ms() - 60_000);
    let starts: Vec<u64> = (0..8).map(|i| start + 1_000 * i).collect();
    stored(&rig, "s", "V_VP9", &starts).await;
    let mut request = request("s", start, start + 7_900, 200);
    let mut all = Vec::new();
    for size in [25, 7, 8] {
        let answer = rig.call("getImages", request.clone()).await.json();
        all.extend(images(&answer, start));
        assert_eq!(answer["Images"].as_array().unwrap().len(), size);
        request["NextToken"] = answer["NextToken"].clone();
        request["MaxResults"] = if size == 25 { json!(7) } else { json!(100) };
    }
    assert_eq!(request["NextToken"], Value::Null);
    let list: Vec<_> = (0..40_u64).map(|i| (200 * i, (2 * i).to_string())).collect();
    assert_eq!(all, list);
    request["NextToken"] = json!("bm90IG91cnM=");
    rig.refused("getImages", request, 400, "InvalidArgumentException").await;
}

#[tokio::test]
async fn what_has_no_pictures_is_refused_or_says_so() {
    let (rig, start) = (rig().await, now_ms() - 60_000);
    stored(&rig, "sound", "A_PCM/INT/LIT", &[start]).await;
    let answer = rig.call("getImages", request("sound", start, start + 400, 200)).await.json();
    assert_eq!(
        images(&answer, start),
        expected(&[(0, "MEDIA_ERROR"), (200, "MEDIA_ERROR"), (400, "MEDIA_ERROR")])
    );
    // Names of 250 and more: the last is one of which no image can be made.
    let starts: Vec<u64> = (0..26).map(|i| start + 1_000 * i).collect();
    stored(&rig, "broken", "V_VP8", &starts).await;
    let answer = rig.call("getImages", request("broken", start + 25_400, start + 25_500, 200)).await.json();
    assert_eq!(images(&answer, start), expected(&[(25_400, "254")]));
    let answer = rig.call("getImages", request("broken", start + 25_500, start + 25_500, 200)).await.json();
    assert_eq!(images(&answer, start), expected(&[(25_500, "MEDIA_ERROR")]));
    rig.create("nothing", 0).await;
    rig.refused("getImages", request("nothing", start, start, 200), 400, "NoDataRetentionException").await;
    rig.refused("getImages", request("nobody", start, start, 200), 404, "ResourceNotFoundException").await;
    rig.refused("getImages", request("sound", start, start + 300_001, 200), 400, "InvalidArgumentException")
        .await;
    let without = Rig::new().await;
    without.refused("getImages", request("s", 0, 0, 200), 501, "NotImplementedException").await;
    let token = rig.limited(&["GetMedia"], &["*"]);
    let answer = rig.post_as(&token, "/kvs/getImages", request("sound", start, start, 200)).await;
    assert_eq!(answer.error(), (401, "NotAuthorizedException".into()));
}
