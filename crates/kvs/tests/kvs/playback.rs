//! Clips and sessions of players: refusals by name, windows, numbers. Whether players play it is for `tests/e2e`.

use antiphon_store::matroska::id;
use antiphon_store::matroska::write::{Writer, cluster_start, document_head, simple_block};
use antiphon_store::{StreamRef, Timecodes};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::{Value, json};

use crate::rig::{Rig, now_ms};

/// AAC-LC, 48 kHz, stereo.
const AAC: &[u8] = &[0x11, 0x90];

struct Track {
    kind: u64,
    codec: &'static str,
    private: &'static [u8],
}

const SOUND: Track = Track { kind: 2, codec: "A_AAC", private: AAC };

fn header(tracks: &[Track]) -> Vec<u8> {
    let mut w = Writer::new();
    w.master(id::INFO, |w| _ = w.uint(id::TIMECODE_SCALE, 1_000_000));
    w.master(id::TRACKS, |w| {
        for (track, number) in tracks.iter().zip(1..) {
            w.master(id::TRACK_ENTRY, |w| {
                w.uint(id::TRACK_NUMBER, number).uint(id::TRACK_TYPE, track.kind);
                w.text(id::CODEC_ID, track.codec);
                if !track.private.is_empty() {
                    w.binary(id::CODEC_PRIVATE, track.private);
                }
            });
        }
    });
    [document_head(), w.into_bytes()].concat()
}

/// Of H.264, 16 x 16.
const AVCC: &[u8] =
    &[1, 0x42, 0xc0, 30, 0xff, 0xe1, 0, 6, 0x67, 0x42, 0xc0, 30, 0xda, 0x71, 1, 0, 4, 0x68, 0xce, 0x3c, 0x80];
const PICTURE: Track = Track { kind: 1, codec: "V_MPEG4/ISO/AVC", private: AVCC };

/// A stream with fragments of a second that began so many milliseconds ago.
async fn stored(rig: &Rig, name: &str, tracks: &[Track], ages_ms: &[u64]) {
    rig.create(name, 24).await;
    produce(rig, name, tracks, ages_ms).await;
}

async fn produce(rig: &Rig, name: &str, tracks: &[Track], ages_ms: &[u64]) {
    let (now, stream) = (now_ms(), StreamRef::Name(name.into()));
    let (mut session, _acks) = rig.store.open_session(&stream, Timecodes::Absolute, now).await.unwrap();
    session.push(&header(tracks), now).await.unwrap();
    for age in ages_ms {
        let mut cluster = cluster_start(now - age);
        // 21 ms each, as AAC of 48 kHz has them.
        for i in 0..47i16 {
            cluster.extend(simple_block(1, i * 21, &[1, 2, 3]));
        }
        session.push(&cluster, now - age).await.unwrap();
    }
    let finished = session.finish(true, now).await;
    assert_eq!(finished.kept, ages_ms.len() as u64);
}

fn range(from_ago_ms: u64, to_ago_ms: u64) -> Value {
    let at = |ago: u64| (now_ms() - ago) as f64 / 1000.0;
    json!({
        "FragmentSelectorType": "SERVER_TIMESTAMP",
        "TimestampRange": { "StartTimestamp": at(from_ago_ms), "EndTimestamp": at(to_ago_ms) },
    })
}

async fn fetch(rig: &Rig, url: &str) -> (u16, String) {
    let path = url.strip_prefix("http://h:1").unwrap();
    let answer = rig.send(Request::get(path).header("host", "h:1").body(Body::empty()).unwrap()).await;
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, 1 << 24).await.unwrap();
    (parts.status.as_u16(), String::from_utf8_lossy(&body).into_owned())
}

async fn hls(rig: &Rig, body: Value) -> String {
    let answer = rig.call("getHLSStreamingSessionURL", body).await.json();
    answer["HLSStreamingSessionURL"].as_str().unwrap().to_owned()
}

/// The media playlist of a session.
async fn playlist(rig: &Rig, url: &str) -> String {
    let (status, master) = fetch(rig, url).await;
    assert_eq!(status, 200, "{master}");
    let media = master.lines().last().unwrap();
    let (status, text) = fetch(rig, &format!("http://h:1/kvs/hls/v1/{media}")).await;
    assert_eq!(status, 200, "{text}");
    text
}

fn value<'a>(playlist: &'a str, tag: &str) -> &'a str {
    playlist.lines().find_map(|line| line.strip_prefix(tag)?.strip_prefix(':')).unwrap()
}

#[tokio::test]
async fn what_cannot_be_repacked_is_named() {
    let rig = Rig::new().await;
    let picture = |private| Track { kind: 1, codec: "V_MPEG4/ISO/AVC", private };
    for (name, tracks, clip, play) in [
        ("pcm", vec![Track { kind: 2, codec: "A_PCM/INT/LIT", private: &[] }], "Unsupported", "Unsupported"),
        ("vp8", vec![Track { kind: 1, codec: "V_VP8", private: &[] }], "Unsupported", "Unsupported"),
        ("order", vec![SOUND, picture(&[1])], "Unsupported", "Unsupported"),
        ("none", vec![picture(&[])], "MissingCodecPrivateData", "MissingCodecPrivateData"),
        ("wrong", vec![picture(&[0, 0, 0, 1, 0x67])], "InvalidCodecPrivateData", "InvalidCodecPrivateData"),
        ("sound", vec![SOUND], "Unsupported", ""),
    ] {
        stored(&rig, name, &tracks, &[2000]).await;
        let exception = |name: &str| match name {
            "Unsupported" => "UnsupportedStreamMediaTypeException".to_owned(),
            name => format!("{name}Exception"),
        };
        let body = json!({ "StreamName": name, "ClipFragmentSelector": range(5000, 0) });
        rig.refused("getClip", body, 400, &exception(clip)).await;
        for operation in ["getHLSStreamingSessionURL", "getDASHStreamingSessionURL"] {
            let answer = rig.call(operation, json!({ "StreamName": name })).await;
            match play {
                "" => _ = answer.json(),
                play => assert_eq!(answer.error(), (400, exception(play)), "{name}"),
            }
        }
    }
}

#[tokio::test]
async fn a_frame_that_is_none_of_its_codec_is_named() {
    let rig = Rig::new().await;
    // Three bytes are less than the size before a unit.
    stored(&rig, "s", &[PICTURE], &[2000]).await;
    let named = "InvalidMediaFrameException";
    let clip = json!({ "StreamName": "s", "ClipFragmentSelector": range(5000, 0) });
    rig.refused("getClip", clip, 400, named).await;
    let body =
        json!({ "StreamName": "s", "PlaybackMode": "ON_DEMAND", "HLSFragmentSelector": range(5000, 0) });
    let text = playlist(&rig, &hls(&rig, body).await).await;
    let segment = text.lines().find(|line| !line.is_empty() && !line.starts_with('#')).unwrap();
    let (status, said) = fetch(&rig, &format!("http://h:1/kvs/hls/v1/{segment}")).await;
    assert!(status == 400 && said.contains("not one of its track's codec"), "{status} {said}");
}

#[tokio::test]
async fn a_wish_that_cannot_be_is_refused() {
    let rig = Rig::new().await;
    stored(&rig, "s", &[SOUND], &[2000]).await;
    rig.create("kept-nowhere", 0).await;
    rig.create("empty", 1).await;
    let invalid = "InvalidArgumentException";
    let day = 86_400_000;
    for (body, status, exception) in [
        (json!({ "StreamName": "s", "PlaybackMode": "SLOW" }), 400, invalid),
        (json!({ "StreamName": "s", "PlaybackMode": "ON_DEMAND" }), 400, invalid),
        (json!({ "StreamName": "s", "PlaybackMode": "LIVE_REPLAY" }), 400, invalid),
        (json!({ "StreamName": "s", "HLSFragmentSelector": range(9000, 0) }), 400, invalid),
        (
            json!({ "StreamName": "s", "PlaybackMode": "ON_DEMAND", "HLSFragmentSelector": range(0, 9000) }),
            400,
            invalid,
        ),
        (
            json!({ "StreamName": "s", "PlaybackMode": "ON_DEMAND", "HLSFragmentSelector": range(day + 1000, 0) }),
            400,
            invalid,
        ),
        (json!({ "StreamName": "s", "Expires": 299 }), 400, invalid),
        (json!({ "StreamName": "s", "Expires": 43_201 }), 400, invalid),
        (json!({ "StreamName": "s", "MaxMediaPlaylistFragmentResults": 5001 }), 400, invalid),
        (json!({ "StreamName": "s", "ContainerFormat": "MPEG_TS" }), 400, invalid),
        (json!({ "StreamName": "s", "DiscontinuityMode": "OFTEN" }), 400, invalid),
        (json!({ "StreamName": "s", "DisplayFragmentTimestamp": "YES" }), 400, invalid),
        (json!({ "StreamName": "s", "HLSFragmentSelector": { "FragmentSelectorType": "X" } }), 400, invalid),
        (json!({ "StreamName": "kept-nowhere" }), 400, "NoDataRetentionException"),
        (json!({ "StreamName": "empty" }), 404, "ResourceNotFoundException"),
        (json!({ "StreamName": "nobody" }), 404, "ResourceNotFoundException"),
    ] {
        rig.refused("getHLSStreamingSessionURL", body, status, exception).await;
    }
    let clip = |selector: Value| json!({ "StreamName": "s", "ClipFragmentSelector": selector });
    rig.refused("getClip", clip(range(90_000, 60_000)), 404, "ResourceNotFoundException").await;
    rig.refused("getClip", clip(json!({ "FragmentSelectorType": "X" })), 400, invalid).await;
    rig.refused("getClip", json!({ "StreamName": "s" }), 400, invalid).await;
}

/// Fragments of one frame, each so many bytes, that began a second after each other and before now.
/// Gives what asks for a clip of the newest of them.
async fn filled(rig: &Rig, name: &str, count: u64, bytes: usize) -> impl Fn(u64) -> Value {
    rig.create(name, 24).await;
    let (now, stream) = (now_ms(), StreamRef::Name(name.into()));
    let (mut session, _acks) = rig.store.open_session(&stream, Timecodes::Absolute, now).await.unwrap();
    session.push(&header(&[PICTURE]), now).await.unwrap();
    // One unit, with its size before it.
    let mut frame = u32::try_from(bytes - 4).unwrap().to_be_bytes().to_vec();
    frame.resize(bytes, 0x65);
    for age in (1..=count).rev().map(|i| i * 1000) {
        let cluster = [cluster_start(now - age), simple_block(1, 0, &frame)].concat();
        session.push(&cluster, now - age).await.unwrap();
    }
    assert_eq!(session.finish(true, now).await.kept, count);
    let name = name.to_owned();
    move |newest| {
        let times = json!({ "StartTimestamp": (now - newest * 1000) as f64 / 1000.0, "EndTimestamp": now as f64 / 1000.0 });
        let selector = json!({ "FragmentSelectorType": "SERVER_TIMESTAMP", "TimestampRange": times });
        json!({ "StreamName": name, "ClipFragmentSelector": selector })
    }
}

#[tokio::test]
async fn a_clip_has_at_most_200_fragments_and_100_megabytes() {
    let rig = Rig::new().await;
    let many = filled(&rig, "many", 201, 100).await;
    rig.refused("getClip", many(201), 400, "InvalidArgumentException").await;
    let answer = rig.call("getClip", many(200)).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.headers["content-type"], "video/mp4");
    assert!(answer.body[4..].starts_with(b"ftyp") && answer.body.len() > 200 * 100);
    let large = filled(&rig, "large", 3, 34_000_000).await;
    rig.refused("getClip", large(3), 400, "InvalidArgumentException").await;
    let answer = rig.call("getClip", large(2)).await;
    assert!(answer.status == 200 && answer.body.len() > 68_000_000, "{}", answer.status);
}

#[tokio::test]
async fn a_live_window_moves_and_keeps_its_numbers() {
    let rig = Rig::new().await;
    stored(&rig, "s", &[SOUND], &[9000, 8000, 7000, 6000, 5000]).await;
    let url = hls(&rig, json!({ "StreamName": "s", "MaxMediaPlaylistFragmentResults": 3 })).await;
    let before = playlist(&rig, &url).await;
    assert_eq!((before.matches("#EXTINF").count(), value(&before, "#EXT-X-MEDIA-SEQUENCE")), (3, "0"));
    assert_eq!(before.matches("#EXT-X-DISCONTINUITY\n").count(), 2, "by default after each");
    assert!(!before.contains("ENDLIST"));
    // Another producer, with another header.
    let other = Track { kind: 2, codec: "A_AAC", private: &[0x12, 0x10] };
    produce(&rig, "s", &[other], &[2000, 1000]).await;
    let after = playlist(&rig, &url).await;
    assert_eq!((after.matches("#EXTINF").count(), value(&after, "#EXT-X-MEDIA-SEQUENCE")), (3, "2"));
    assert_eq!(value(&after, "#EXT-X-DISCONTINUITY-SEQUENCE"), "2");
    assert_eq!(after.matches("#EXT-X-MAP").count(), 2, "{after}");
    let (kept, gone) = (before.lines().last().unwrap(), before.lines().nth(8).unwrap());
    assert!(after.contains(kept) && !after.contains(gone), "{gone}\n{after}");
}

#[tokio::test]
async fn segments_are_mp4_with_their_times() {
    let rig = Rig::new().await;
    stored(&rig, "s", &[SOUND], &[9000, 8000]).await;
    let selector = range(10_000, 0);
    let body = json!({ "StreamName": "s", "PlaybackMode": "ON_DEMAND", "HLSFragmentSelector": selector });
    let text = playlist(&rig, &hls(&rig, body).await).await;
    assert!(text.ends_with("#EXT-X-ENDLIST\n") && text.contains("PLAYLIST-TYPE:VOD"));
    let init = text.lines().find_map(|l| l.strip_prefix("#EXT-X-MAP:URI=\"")?.strip_suffix('"')).unwrap();
    let (status, init) = fetch(&rig, &format!("http://h:1/kvs/hls/v1/{init}")).await;
    assert!(status == 200 && init[4..].starts_with("ftyp") && init.contains("mp4a"));
    let body = json!({ "StreamName": "s", "PlaybackMode": "ON_DEMAND", "DASHFragmentSelector": selector, "DisplayFragmentNumber": "ALWAYS" });
    let url = rig.call("getDASHStreamingSessionURL", body).await.json()["DASHStreamingSessionURL"].clone();
    let (_, mpd) = fetch(&rig, url.as_str().unwrap()).await;
    assert!(mpd.contains("type=\"static\"") && mpd.contains("<S t=\"1000\" d=\"987\" kvs:fn="), "{mpd}");
    let token = url.as_str().unwrap().split("SessionToken=").nth(1).unwrap();
    let at = |time: u64| {
        format!(
            "http://h:1/kvs/dash/v1/getMP4MediaFragment.mp4?SessionToken={token}&TrackNumber=1&Time={time}"
        )
    };
    let (status, segment) = fetch(&rig, &at(1000)).await;
    assert!(status == 200 && segment[4..].starts_with("moof") && segment.contains("mdat"));
    assert_eq!(fetch(&rig, &at(1001)).await.0, 404);
    let bad = at(0).replace("TrackNumber=1", "TrackNumber=7");
    assert_eq!(fetch(&rig, &bad).await.0, 400);
    assert_eq!(fetch(&rig, &at(0).replace(token, "AAAA")).await.0, 403);
}

#[tokio::test]
async fn a_deleted_streams_sessions_end() {
    let rig = Rig::new().await;
    stored(&rig, "s", &[SOUND], &[2000]).await;
    let url = hls(&rig, json!({ "StreamName": "s" })).await;
    assert_eq!(fetch(&rig, &url).await.0, 200);
    let arn =
        rig.call("describeStream", json!({ "StreamName": "s" })).await.json()["StreamInfo"]["StreamARN"]
            .clone();
    rig.call("deleteStream", json!({ "StreamARN": arn })).await.json();
    stored(&rig, "s", &[SOUND], &[2000]).await;
    assert_eq!(fetch(&rig, &url).await.0, 404, "one of the same name is another");
}
