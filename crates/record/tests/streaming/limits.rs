//! What cannot be had is a typed error, and the call goes on.

use antiphon_base::ErrorKind;
use antiphon_record::wav::Wanted;
use antiphon_record::{Limits, Options, Recorder, RetentionUnit, Settings, Source};
use antiphon_store::{Backend, Config, FragmentNumber, StreamRef};

use crate::film;
use crate::hall::{Hall, Speaker, contact, entered, files, limits, on, rig, seconds, store};
use crate::{heard, presence, sound};

#[tokio::test(start_paused = true)]
async fn starts_that_cannot_be_are_told_why() {
    let (hall, _, recorder) = rig().await;
    let start = async |id: &str| recorder.start(&contact(id), Options::default()).await.map_err(|e| e.kind());
    assert_eq!(start("nobody").await.unwrap_err(), ErrorKind::NotFound);
    entered(&recorder, "r", "ghost", Some(&contact("ghost")));
    assert_eq!(start("ghost").await.unwrap_err(), ErrorKind::Conflict, "it is not in the room");
    for i in 0..4 {
        let name = format!("p{i}");
        hall.join("r", &name, i);
        entered(&recorder, "r", &name, Some(&contact(&format!("c{i}"))));
    }
    start("c0").await.unwrap();
    assert_eq!(start("c0").await.unwrap_err(), ErrorKind::AlreadyRunning);
    start("c1").await.unwrap();
    assert!(!recorder.metrics().is_near_limit());
    start("c2").await.unwrap();
    assert!(recorder.metrics().is_near_limit(), "before a start is refused");
    assert_eq!(start("c3").await.unwrap_err(), ErrorKind::AtLimit);
    let metrics = recorder.metrics();
    assert_eq!((metrics.streamed, metrics.streamed_max, metrics.refused_at_limit), (3, 3, 1));
    recorder.stop(&contact("c1")).await.unwrap();
    start("c3").await.unwrap();
    assert_eq!(recorder.stop(&contact("c1")).await.unwrap_err().kind(), ErrorKind::Conflict);
    recorder.set_settings(Settings::default()).await.unwrap();
    assert_eq!(start("c1").await.unwrap_err(), ErrorKind::Disabled);
    assert!(recorder.history(&contact("c0")).unwrap().running, "what runs goes on");
    let bad = Settings { prefix: "../x".into(), ..on() };
    assert_eq!(recorder.set_settings(bad).await.unwrap_err().kind(), ErrorKind::BadRequest);
    let options = Options { sample_rate: 1, ..Options::default() };
    assert_eq!(recorder.start(&contact("c1"), options).await.unwrap_err().kind(), ErrorKind::BadRequest);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_at_once_by_default_with_a_warning_before() {
    let hall = Hall::new();
    let store = store(Backend::memory(), Config::default()).await;
    let recorder = Recorder::new(store, hall.clone(), on(), Limits::default());
    for i in 1..=101 {
        let name = format!("p{i}");
        hall.join("r", &name, i);
        entered(&recorder, "r", &name, Some(&contact(&name)));
        let started = recorder.start(&contact(&name), Options::default()).await.map_err(|e| e.kind());
        assert_eq!(started.err(), (i > 100).then_some(ErrorKind::AtLimit), "{i}");
        assert_eq!(recorder.metrics().is_near_limit(), i >= 90, "{i}");
    }
    assert_eq!(recorder.metrics().streamed, 100);
}

#[tokio::test(start_paused = true)]
async fn without_retention_nothing_touches_the_disk_and_live_readers_hear() {
    let folder = tempfile::tempdir().unwrap();
    let hall = Hall::new();
    let store = store(Backend::local(folder.path()).unwrap(), Config::default()).await;
    let before = files(folder.path());
    let recorder = Recorder::new(store.clone(), hall.clone(), Settings { retention: 0, ..on() }, limits());
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    let started = recorder.start(&contact("c"), Options::default()).await.unwrap();
    let mut live = recorder.wav(&contact("c"), None, Wanted::From, true).await.unwrap();
    let heard = tokio::spawn(async move {
        let mut bytes = 0;
        while let Some(piece) = live.next().await {
            bytes += piece.len();
        }
        bytes
    });
    Speaker::new(&hall, 1, 440.0).speak("r", seconds(3)).await;
    let error = recorder.wav(&contact("c"), None, Wanted::From, false).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoDataRetention);
    let name = StreamRef::Name(started.stream.name.clone());
    let list = store.list_fragments(&name, None, 10, None, 0);
    assert!(matches!(list, Err(antiphon_store::Error::NoDataRetention)));
    let stopped = recorder.stop(&contact("c")).await.unwrap();
    assert!(stopped.latest().last.is_some() && heard.await.unwrap() > 40_000);
    assert_eq!(recorder.sweep().await, 0, "live readers may still read");
    tokio::time::sleep(seconds(301)).await;
    store.sweep(u64::MAX / 2).await;
    assert_eq!(recorder.sweep().await, 1);
    recorder.close().await;
    assert_eq!(files(folder.path()), before);
    let change = store.update_retention(&name, "", 1, 0).await;
    assert!(matches!(change, Err(antiphon_store::Error::StreamNotFound)));
}

#[tokio::test(start_paused = true)]
async fn deleting_a_contact_ends_it_and_leaves_nothing() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    recorder.start(&contact("c"), Options::default()).await.unwrap();
    Speaker::new(&hall, 1, 440.0).speak("r", seconds(1)).await;
    recorder.delete(&contact("c")).await.unwrap();
    assert!(store.list_streams("", "", 10).is_empty() && hall.listeners("r") == 0);
    assert_eq!(recorder.delete(&contact("c")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_stream_deleted_under_it_ends_nothing_else() {
    let (hall, store, recorder) = rig().await;
    for (name, key) in [("ada", 1), ("ben", 2)] {
        hall.join("r", name, key);
        entered(&recorder, "r", name, Some(&contact(name)));
    }
    let ada = recorder.start(&contact("ada"), Options::default()).await.unwrap();
    recorder.start(&contact("ben"), Options::default()).await.unwrap();
    store.delete_stream(&StreamRef::Arn(ada.stream.arn), None).await.unwrap();
    Speaker::new(&hall, 2, 440.0).speak("r", seconds(40)).await;
    assert!(recorder.metrics().blocks_dropped > 0, "a dead stream's blocks are counted");
    assert!(recorder.stop(&contact("ada")).await.is_err());
    assert!(recorder.stop(&contact("ben")).await.unwrap().latest().last.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_more_ends_neither_the_streaming_nor_the_call() {
    let hall = Hall::new();
    let quota = Config { max_stream_bytes: 40_000, ..Config::default() };
    let store = store(Backend::memory(), quota).await;
    let recorder = Recorder::new(store.clone(), hall.clone(), on(), limits());
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    recorder.start(&contact("c"), Options::default()).await.unwrap();
    Speaker::new(&hall, 1, 440.0).speak("r", seconds(5)).await;
    assert!(recorder.history(&contact("c")).unwrap().running, "who reads it live still hears the contact");
    let stopped = recorder.stop(&contact("c")).await.unwrap();
    let last = stopped.latest().last.unwrap();
    assert!(store.stats().fragments_failed >= 3, "{:?}", store.stats());
    let kept = store.fragment(&StreamRef::Name(stopped.stream.name), last).unwrap();
    assert!(kept.is_some(), "the stop fragment is one that is kept");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_there_is_told_and_leaves_nothing() {
    let (hall, store) = (Hall::new(), store(Backend::memory(), Config::default()).await);
    let nobodys = Settings { key: "nobody's".into(), ..on() };
    let recorder = Recorder::new(store.clone(), hall.clone(), nobodys.clone(), limits());
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    let error = recorder.set_settings(nobodys).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
    let error = recorder.start(&contact("c"), Options::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(store.list_streams("", "", 10).is_empty());
    assert_eq!((recorder.metrics().streamed, recorder.metrics().failed), (0, 1));
    recorder.set_settings(on()).await.unwrap();
    recorder.start(&contact("c"), Options::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retention_is_a_number_and_a_unit() {
    let (hall, store, recorder) = rig().await;
    for (unit, hours, id) in [(RetentionUnit::Days, 720, "days"), (RetentionUnit::Hours, 30, "hours")] {
        recorder.set_settings(Settings { retention: 30, retention_unit: unit, ..on() }).await.unwrap();
        hall.join("r", id, hours);
        entered(&recorder, "r", id, Some(&contact(id)));
        let started = recorder.start(&contact(id), Options::default()).await.unwrap();
        let kept = store.describe(&StreamRef::Name(started.stream.name)).unwrap().retention_h;
        assert_eq!(kept, hours, "{id}");
    }
}

/// What some programs of contact centres look for, whatever it is that follows.
#[tokio::test(start_paused = true)]
async fn the_label_that_strict_programs_want_is_on_the_same_sound() {
    let (hall, store, recorder) = rig().await;
    recorder.set_settings(Settings { connect_strict_codec: true, ..on() }).await.unwrap();
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    recorder.start(&contact("c"), Options::default()).await.unwrap();
    Speaker::new(&hall, 1, 440.0).speak("r", seconds(2)).await;
    let stopped = recorder.stop(&contact("c")).await.unwrap();
    let documents = film::read(&store, &stopped.stream.name, FragmentNumber::MIN, &hall).await;
    for document in &documents {
        let track = &document.header.tracks[0];
        assert_eq!((&*track.codec, &*track.codec_private), ("A_AAC", &[0x11, 0x90][..]));
        assert_eq!((track.rate_hz, track.bits), (0.0, 0), "no Audio element");
    }
    let bytes: usize = documents.iter().flat_map(|d| &d.blocks).map(|block| block.data.len()).sum();
    assert!(bytes >= 2 * 1_900 * 8, "{bytes} bytes of two seconds of PCM");
    let tenths = heard(&sound(&recorder, "c", Wanted::From).await.0[0], 8_000);
    assert!(presence(&tenths, 440).0 >= 18, "{tenths:?}");
}

#[tokio::test(start_paused = true)]
async fn tags_come_with_every_fragment() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    let tags = [("Queue".to_owned(), "sales".to_owned())].into();
    let started = recorder.start(&contact("c"), Options { tags, ..Options::default() }).await.unwrap();
    let name = StreamRef::Name(started.stream.name);
    assert_eq!(store.tags(&name).unwrap()["Queue"], "sales");
    let mut reader = store.get_media(&name, antiphon_store::Start::Earliest, 0).unwrap();
    let antiphon_store::Step::Bytes(header) = reader.next(0).await else { panic!("a header") };
    assert!(header.windows(5).any(|w| w == b"sales"));
}

/// A recorder over a store that was closed meanwhile, with what the configuration says now.
async fn restarted(folder: &std::path::Path, config: Settings) -> (Recorder, Source) {
    let store = store(Backend::local(folder).unwrap(), Config::default()).await;
    let recorder = Recorder::new(store, Hall::new(), config, limits());
    let source = recorder.restore_settings().await.unwrap();
    (recorder, source)
}

#[tokio::test(start_paused = true)]
async fn settings_that_were_set_outlast_a_restart_until_they_are_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = Settings { retention: 5, ..on() };
    let set = Settings { retention: 30, retention_unit: RetentionUnit::Days, prefix: "calls".into(), ..on() };
    let (recorder, source) = restarted(folder.path(), config.clone()).await;
    assert_eq!((recorder.settings(), source), (config.clone(), Source::Config));
    recorder.set_settings(set.clone()).await.unwrap();
    let bad = Settings { retention: u32::MAX, ..on() };
    assert_eq!(recorder.set_settings(bad).await.unwrap_err().kind(), ErrorKind::BadRequest);
    assert_eq!((recorder.settings(), recorder.settings_source()), (set.clone(), Source::Api));
    drop(recorder);
    // Whatever the configuration says then.
    let (recorder, source) = restarted(folder.path(), Settings::default()).await;
    assert_eq!((recorder.settings(), source), (set, Source::Api));
    recorder.reset_settings().await.unwrap();
    assert_eq!((recorder.settings(), recorder.settings_source()), (Settings::default(), Source::Config));
    drop(recorder);
    let (recorder, source) = restarted(folder.path(), config.clone()).await;
    assert_eq!((recorder.settings(), source), (config, Source::Config));
}

/// They may have said that nothing is to be kept: to go on by the configuration could be to keep it.
#[tokio::test(start_paused = true)]
async fn settings_that_cannot_be_read_start_nothing_until_they_are_set_again() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, _) = restarted(folder.path(), on()).await;
    recorder.set_settings(Settings { retention: 0, ..on() }).await.unwrap();
    drop(recorder);
    let file = folder.path().join("v1/000000000000/settings/media-streaming");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (recorder, source) = restarted(folder.path(), on()).await;
    assert_eq!((source, recorder.metrics().settings_unreadable), (Source::Unreadable, true));
    let error = recorder.start(&contact("c"), Options::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disabled);
    recorder.set_settings(on()).await.unwrap();
    assert_eq!((recorder.settings(), recorder.metrics().settings_unreadable), (on(), false));
    drop(recorder);
    let (recorder, source) = restarted(folder.path(), Settings::default()).await;
    assert_eq!((recorder.settings(), source), (on(), Source::Api));
}

/// What cannot be stored is not in force: it would be gone with the next restart.
#[tokio::test(start_paused = true)]
async fn settings_that_cannot_be_stored_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, _) = restarted(folder.path(), on()).await;
    std::fs::write(folder.path().join("v1/000000000000/settings"), "in the way").unwrap();
    let error = recorder.set_settings(Settings::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert_eq!((recorder.settings(), recorder.settings_source()), (on(), Source::Config));
}
