//! A contact's camera beside its sound: as it was sent, at its time, and never at the cost of the sound.

use antiphon_base::VideoCodec;
use antiphon_record::wav::Wanted;
use antiphon_record::{Form, Options, Settings};
use antiphon_store::{Backend, Config, FragmentNumber};
use antiphon_wire::control::LeaveReason;

use crate::film::{Camera, Document, Kept, Shot, check, follow, read};
use crate::hall::{Hall, Speaker, contact, entered, files, limits, on, rig, seconds, store};

const VP8: VideoCodec = VideoCodec::Vp8;

fn with_video() -> Options {
    Options { video: true, ..Options::default() }
}

/// Whether these are the pictures that were sent, from one on, without a hole, each as far behind its capture as all are.
fn as_sent(kept: &[Kept], sent: &[Shot]) -> usize {
    let first = sent.iter().position(|shot| shot.data[..] == kept[0].data[..]).unwrap();
    let delays: Vec<u64> = kept.iter().zip(&sent[first..]).map(|(k, s)| k.at_ms - s.captured_ms).collect();
    for (kept, sent) in kept.iter().zip(&sent[first..]) {
        assert_eq!(kept.key, sent.key);
        assert!(kept.data[..] == sent.data[..], "bit by bit");
    }
    // But for the first ones, which were captured before the beginning; and for a step of the jitter buffer's.
    let usual = delays[delays.len() / 2];
    assert!(delays[12..].iter().all(|delay| delay.abs_diff(usual) <= 22), "{delays:?}");
    first
}

fn sizes(documents: &[Document]) -> Vec<(u64, u64)> {
    let mut all: Vec<_> =
        documents.iter().filter_map(|d| d.header.tracks.iter().find(|t| t.kind == 1)).collect();
    all.dedup_by_key(|t| (t.width, t.height));
    all.iter().map(|t| (t.width, t.height)).collect()
}

#[tokio::test(start_paused = true)]
async fn pictures_stand_beside_the_sound_from_the_start() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    hall.camera("r", "ada", Some(VP8), false);
    entered(&recorder, "r", "ada", Some(&contact("c-1")));
    let mut camera = Camera::new(&hall, 1, VP8, (640, 360));
    let filming = tokio::spawn(async move {
        camera.film("r", seconds(8)).await;
        camera
    });
    let started = recorder.start(&contact("c-1"), with_video()).await.unwrap();
    let reading = follow(&store, &started.stream.name, started.latest().first, &hall);
    Speaker::new(&hall, 1, 440.0).speak("r", seconds(7)).await;
    let stopped = recorder.stop(&contact("c-1")).await.unwrap();
    let documents = reading.await.unwrap();
    let run = stopped.latest();
    let pictures = check(&documents, run.start_ms);
    let sent = filming.await.unwrap().sent;
    let before = as_sent(&pictures, &sent);
    assert!(before <= 2 && pictures.len() >= 7 * 25, "{before} {}", pictures.len());
    assert!(pictures[0].at_ms - run.start_ms < 100, "from the start: {}", pictures[0].at_ms - run.start_ms);
    // The voice is what it is without pictures, and ends with the last block, or with the last picture's time.
    let (channels, rate) = crate::sound(&recorder, "c-1", Wanted::From).await;
    let tenths = crate::heard(&channels[0], rate);
    assert!(crate::presence(&tenths, 440).0 >= 69 && crate::presence(&tenths, 440).1 == 0, "{tenths:?}");
    let (length_ms, said_ms) = (channels[0].len() as u64 / 8, run.stop_ms.unwrap() - run.start_ms);
    assert!((said_ms + 140..said_ms + 220).contains(&length_ms), "{length_ms} of {said_ms}");
    // One header throughout, which the anchor has too.
    assert!(documents.iter().all(|d| d.header.tracks == documents[0].header.tracks));
    let times: Vec<u64> = documents.iter().flat_map(|d| &d.blocks).map(|block| block.at_ms).collect();
    assert!(times.is_sorted(), "blocks of all tracks in the order of time: {times:?}");
    let video = &documents[0].header.tracks[1];
    assert_eq!((video.number, video.kind, &*video.codec), (2, 1, "V_VP8"));
    assert_eq!((video.width, video.height), (640, 360));
    let anchor = read(&store, &started.stream.name, FragmentNumber::MIN, &hall).await.remove(0);
    assert_eq!((&anchor.header.tracks, anchor.blocks.len()), (&documents[0].header.tracks, 1));
    // A key frame each two seconds, with which a fragment begins.
    let lengths: Vec<u64> = documents.windows(2).map(|w| w[1].began_ms - w[0].began_ms).collect();
    assert!(lengths[1..].iter().all(|ms| (1_900..2_300).contains(ms)), "{lengths:?}");
    let record = stopped.record();
    let kinds: Vec<_> =
        record["Recordings"].as_array().unwrap().iter().map(|r| &r["MediaStreamType"]).collect();
    assert_eq!(kinds, ["AUDIO", "VIDEO"]);
    assert_eq!(record["MediaStreams"][1]["Type"], "VIDEO");
    let metrics = recorder.metrics();
    assert_eq!(
        (metrics.frames, metrics.frames_dropped, metrics.blocks_dropped),
        (pictures.len() as u64, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn who_speaks_and_who_is_seen_speaking_are_in_step() {
    for form in [Form::Pcm, Form::Opus] {
        let (hall, store, recorder) = rig().await;
        hall.join("r", "ada", 1);
        hall.camera("r", "ada", Some(VP8), false);
        entered(&recorder, "r", "ada", Some(&contact("c")));
        let mut camera = Camera::new(&hall, 1, VP8, (64, 48));
        let filming = tokio::spawn(async move {
            camera.film("r", seconds(6)).await;
            camera.sent
        });
        let started = recorder.start(&contact("c"), Options { codec: form, ..with_video() }).await.unwrap();
        // Two seconds of silence, so that the jitter buffer has nothing to remember; then a word, and its capture.
        tokio::time::sleep(seconds(2)).await;
        let said_ms = hall.now_us() / 1_000 - 20;
        Speaker::new(&hall, 1, 440.0).speak("r", seconds(3)).await;
        recorder.stop(&contact("c")).await.unwrap();
        let documents = read(&store, &started.stream.name, started.latest().first, &hall).await;
        let blocks: Vec<&Kept> = documents.iter().flat_map(|d| &d.blocks).collect();
        let heard_ms = blocks
            .iter()
            .filter(|block| block.track == 1)
            .find_map(|block| match form {
                Form::Opus => (block.data.len() > 3).then_some(block.at_ms),
                Form::Pcm => {
                    let loud = |s: &[u8]| i16::from_le_bytes([s[0], s[1]]).unsigned_abs() > 1_000;
                    let at = block.data.chunks_exact(2).position(loud)?;
                    Some(block.at_ms + at as u64 / 8)
                }
            })
            .unwrap();
        let sent = filming.await.unwrap();
        let pictures = blocks.iter().filter(|block| block.track == 2);
        // A second later all is settled.
        let off: Vec<i64> = pictures
            .filter(|p| p.at_ms > heard_ms + 1_000)
            .map(|p| {
                let shot = sent.iter().find(|shot| shot.data[..] == p.data[..]).unwrap();
                let (voice, lips) = (heard_ms - said_ms, p.at_ms - shot.captured_ms);
                voice.cast_signed() - lips.cast_signed()
            })
            .collect();
        assert!(off.len() > 40 && off.iter().all(|ms| ms.abs() <= 25), "{form:?}: {off:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_comes_later_changes_or_goes_leaves_the_sound_whole() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    let started = recorder.start(&contact("c"), with_video()).await.unwrap();
    let reading = follow(&store, &started.stream.name, started.latest().first, &hall);
    let speaking = {
        let mut ada = Speaker::new(&hall, 1, 440.0);
        tokio::spawn(async move { ada.speak("r", seconds(16)).await })
    };
    tokio::time::sleep(seconds(3)).await;
    hall.camera("r", "ada", Some(VP8), false);
    let mut camera = Camera::new(&hall, 1, VP8, (320, 180));
    // The recorder takes up the new track.
    tokio::time::sleep(crate::film::FRAME).await;
    camera.film("r", seconds(3)).await;
    // Another size, with the next key frame.
    camera.size = (640, 360);
    camera.key();
    camera.film("r", seconds(3)).await;
    // Muted, and on again.
    tokio::time::sleep(seconds(2)).await;
    camera.key();
    camera.film("r", seconds(2)).await;
    // Another codec.
    hall.camera("r", "ada", Some(VideoCodec::H264), false);
    let mut camera = camera.reconnected(1, VideoCodec::H264);
    camera.film("r", seconds(2)).await;
    speaking.await.unwrap();
    let stopped = recorder.stop(&contact("c")).await.unwrap();
    let documents = reading.await.unwrap();
    let pictures = check(&documents, stopped.latest().start_ms);
    assert_eq!(pictures.len(), camera.sent.len(), "every picture that was sent");
    assert_eq!(sizes(&documents), [(320, 180), (640, 360), (64, 64)]);
    assert!(
        documents[..2].iter().all(|d| d.header.tracks.len() == 1),
        "sound alone, and no track of nothing"
    );
    assert!(
        documents
            .iter()
            .filter(|d| d.header.tracks.len() == 2)
            .all(|d| d.track("VIDEO_FROM_CUSTOMER") == Some(2))
    );
    let last = documents.last().unwrap().header.tracks[1].clone();
    assert!(last.codec == "V_MPEG4/ISO/AVC" && last.codec_private[..4] == [1, 0x64, 0, 0x0a]);
    assert_eq!(pictures.last().unwrap().data[..4], [0, 0, 5, 230], "NAL units after their lengths");
    assert_eq!(recorder.metrics().frames_dropped, 0);
    // The numbers go on, none twice.
    let run = stopped.latest();
    assert!(run.last.unwrap() > run.first);
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_says_something_else_each_time_costs_a_session_each_half_second_at_most() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "eve", 1);
    hall.camera("r", "eve", Some(VP8), false);
    entered(&recorder, "r", "eve", Some(&contact("c")));
    let mut camera = Camera::new(&hall, 1, VP8, (16, 16));
    let filming = tokio::spawn(async move {
        for i in 0..100 {
            camera.size.0 = 16 + i;
            camera.key();
            camera.film("r", crate::film::FRAME).await;
        }
    });
    let started = recorder.start(&contact("c"), with_video()).await.unwrap();
    filming.await.unwrap();
    let stopped = recorder.stop(&contact("c")).await.unwrap();
    let documents = read(&store, &started.stream.name, started.latest().first, &hall).await;
    let pictures = check(&documents, stopped.latest().start_ms);
    assert!(pictures.len() >= 95, "{}", pictures.len());
    let (headers, fragments) = (sizes(&documents).len(), documents.len());
    assert!((4..=10).contains(&headers) && fragments <= 30, "{headers} headers, {fragments} fragments");
}

#[tokio::test(start_paused = true)]
async fn the_contact_is_followed_and_nobody_else_is_seen() {
    let (hall, store, recorder) = rig().await;
    let id = contact("c");
    for (name, key) in [("ada", 1), ("ben", 5)] {
        hall.join("r", name, key);
        hall.camera("r", name, Some(VP8), false);
    }
    entered(&recorder, "r", "ada", Some(&id));
    let mut ben = Camera::new(&hall, 5, VP8, (1_280, 720));
    let others = tokio::spawn(async move { ben.film("r", seconds(12)).await });
    let mut camera = Camera::new(&hall, 1, VP8, (320, 180));
    let (started, ()) = tokio::join!(recorder.start(&id, with_video()), camera.film("r", seconds(2)));
    let started = started.unwrap();
    assert_eq!(hall.tapped("r"), 2, "its own microphone and camera");
    // A new connection, then another room after a second in none.
    hall.leave("r", "ada", LeaveReason::Replaced);
    hall.join("r", "ada", 2);
    hall.camera("r", "ada", Some(VP8), false);
    entered(&recorder, "r", "ada", None);
    let mut camera = camera.reconnected(2, VP8);
    // The recorder takes up the new track.
    tokio::time::sleep(crate::film::FRAME).await;
    camera.film("r", seconds(2)).await;
    hall.leave("r", "ada", LeaveReason::Left);
    tokio::time::sleep(seconds(1)).await;
    hall.join("s", "adam", 7);
    hall.camera("s", "adam", Some(VP8), false);
    entered(&recorder, "s", "adam", Some(&id));
    let mut camera = camera.reconnected(7, VP8);
    tokio::time::sleep(crate::film::FRAME).await;
    camera.film("s", seconds(2)).await;
    others.await.unwrap();
    let stopped = recorder.stop(&id).await.unwrap();
    let documents = read(&store, &started.stream.name, started.latest().first, &hall).await;
    let pictures = check(&documents, stopped.latest().start_ms);
    assert_eq!(sizes(&documents), [(320, 180)], "one camera, one header: the same picture needs no other");
    let sent: Vec<&[u8]> = camera.sent.iter().map(|shot| &shot.data[..]).collect();
    assert!(pictures.iter().all(|p| sent.contains(&&p.data[..])), "nobody else's");
    // Of each of the three places all, but for what came before the recorder was there.
    assert!(pictures.len() + 5 >= sent.len(), "{} of {}", pictures.len(), sent.len());
}

#[tokio::test(start_paused = true)]
async fn without_retention_pictures_touch_no_disk() {
    let folder = tempfile::tempdir().unwrap();
    let hall = Hall::new();
    let store = store(Backend::local(folder.path()).unwrap(), Config::default()).await;
    let before = files(folder.path());
    let settings = Settings { retention: 0, ..on() };
    let recorder = antiphon_record::Recorder::new(store.clone(), hall.clone(), settings, limits());
    let hall = hall.in_step();
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    let started = recorder.start(&contact("c"), with_video()).await.unwrap();
    let reading = follow(&store, &started.stream.name, started.latest().first, &hall);
    hall.camera("r", "ada", Some(VP8), false);
    let mut camera = Camera::new(&hall, 1, VP8, (320, 180));
    tokio::time::sleep(crate::film::FRAME).await;
    camera.film("r", seconds(4)).await;
    let stopped = recorder.stop(&contact("c")).await.unwrap();
    let pictures = check(&reading.await.unwrap(), stopped.latest().start_ms);
    assert!(pictures.len() >= 98, "who reads live sees it: {}", pictures.len());
    recorder.close().await;
    assert_eq!(files(folder.path()), before);
}
