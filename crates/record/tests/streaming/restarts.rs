//! A contact that is started again is kept as the settings say then, whatever they said before.

use std::collections::BTreeMap;
use std::sync::Arc;

use antiphon_base::ErrorKind;
use antiphon_record::wav::Wanted;
use antiphon_record::{Form, History, Options, Recorder, Settings};
use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block};
use antiphon_store::{Backend, Config, NewStream, Store, StreamRef, Timecodes};
use serde_json::Value;

use crate::hall::{Hall, Speaker, contact, entered, files, limits, on, rig, seconds};
use crate::{heard, presence, sound_of};

/// Ada's contact is in a room; what the store and its recorder are over.
async fn ada(backend: Backend) -> (Hall, Store, Recorder) {
    let hall = Hall::new();
    let keys =
        LocalKeys::by_default("default").with("default", Secret([7; 32])).with("other", Secret([8; 32]));
    let (store, problems) = Store::open(backend, Arc::new(keys), Config::default(), 1_000).await.unwrap();
    assert!(problems.is_empty());
    let recorder = Recorder::new(store.clone(), hall.clone(), on(), limits());
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    (hall, store, recorder)
}

/// Starts, speaks for a second, stops.
async fn run(recorder: &Recorder, speaker: &mut Speaker, options: Options) -> History {
    recorder.start(&contact("c"), options).await.unwrap();
    speaker.speak("r", seconds(1)).await;
    let stopped = recorder.stop(&contact("c")).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    stopped
}

fn locations(recorder: &Recorder) -> Vec<Value> {
    let record = recorder.record(&contact("c")).unwrap();
    record["Recordings"].as_array().unwrap().iter().map(|r| r["Location"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_kept_nowhere_does_not_go_where_an_earlier_start_went() {
    let folder = tempfile::tempdir().unwrap();
    let (hall, store, recorder) = ada(Backend::local(folder.path()).unwrap()).await;
    let mut speaker = Speaker::new(&hall, 1, 440.0);
    let kept = run(&recorder, &mut speaker, Options::default()).await;
    recorder.set_settings(Settings { retention: 0, ..on() }).await.unwrap();
    let before = files(folder.path());
    let not_kept = run(&recorder, &mut speaker, Options::default()).await;
    assert_eq!(files(folder.path()), before, "nothing of it touches the disk");
    assert_eq!(not_kept.stream.name, "antiphon-connect-default.2-contact-c");
    assert!(not_kept.stream.in_memory && not_kept.others.len() == 1);
    // And what is to be kept again is.
    recorder.set_settings(on()).await.unwrap();
    let again = run(&recorder, &mut speaker, Options::default()).await;
    assert_eq!((again.stream.name.as_str(), again.runs.len()), ("antiphon-connect-default-contact-c", 2));
    let arns = [&kept, &not_kept, &again].map(|h| Value::from(h.stream.arn.as_str()));
    assert_eq!(locations(&recorder), arns, "the record has all of them, in order");
    for (history, retained) in [(&kept, true), (&again, true), (&not_kept, false)] {
        let first = Some(history.latest().first);
        if retained {
            let (channels, rate) = sound_of(&recorder, "c", first, Wanted::From).await;
            let tenths = heard(&channels[0], rate);
            assert!(presence(&tenths, 440).0 >= 9, "{tenths:?}");
        } else {
            let error = recorder.wav(&contact("c"), first, Wanted::From, false).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::NoDataRetention);
        }
    }
    recorder.delete(&contact("c")).await.unwrap();
    assert!(store.list_streams("", "", 10).is_empty(), "all of them are destroyed");
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_kept_is_not_left_in_memory() {
    let (hall, _, recorder) = ada(Backend::memory()).await;
    let mut speaker = Speaker::new(&hall, 1, 440.0);
    recorder.set_settings(Settings { retention: 0, ..on() }).await.unwrap();
    run(&recorder, &mut speaker, Options::default()).await;
    recorder.set_settings(on()).await.unwrap();
    let kept = run(&recorder, &mut speaker, Options::default()).await;
    assert_eq!((kept.stream.retention_h, kept.stream.in_memory), (24, false));
    assert!(kept.stream.fragments >= 2, "{}", kept.stream.fragments);
}

#[tokio::test(start_paused = true)]
async fn another_retention_key_or_codec_is_another_stream_and_the_same_is_the_same() {
    let (hall, store, recorder) = ada(Backend::memory()).await;
    let mut speaker = Speaker::new(&hall, 1, 440.0);
    let opus = Options { codec: Form::Opus, ..Options::default() };
    let longer = Settings { retention: 48, ..on() };
    let other_key = Settings { key: "other".into(), ..on() };
    let mut names = Vec::new();
    for (settings, options) in [
        (on(), Options::default()),
        (longer.clone(), Options::default()),
        (other_key, Options::default()),
        (on(), opus),
        (longer, Options::default()),
    ] {
        recorder.set_settings(settings.clone()).await.unwrap();
        let stream = run(&recorder, &mut speaker, options.clone()).await.stream;
        let key = if settings.key.is_empty() { "default" } else { &settings.key };
        let media_type = if options.codec == Form::Opus { "audio/opus" } else { "audio/L16" };
        assert_eq!((stream.key.as_str(), stream.media_type.as_str()), (key, media_type));
        assert_eq!(stream.retention_h, settings.retention_h());
        names.push(stream.name);
    }
    assert_eq!(names[4], names[1]);
    let first = store.describe(&StreamRef::Name(names[0].clone())).unwrap();
    assert_eq!(first.retention_h, 24, "what was kept for a day still is");
    assert_eq!(locations(&recorder).len(), 5);
    assert_eq!(names[..4].iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_somebody_else_is_left_alone() {
    let (hall, store, recorder) = ada(Backend::memory()).await;
    let name = |n: u32| match n {
        1 => "antiphon-connect-default-contact-c".to_owned(),
        n => format!("antiphon-connect-default.{n}-contact-c"),
    };
    let foreign = async |n: u32, tags: BTreeMap<String, String>| {
        let new = NewStream {
            name: name(n),
            media_type: "audio/L16".into(),
            retention_h: 24,
            tags,
            ..NewStream::default()
        };
        store.create_stream(new, 1_000).await.unwrap();
    };
    foreign(1, BTreeMap::new()).await;
    foreign(2, [("ContactId".to_owned(), "d".to_owned())].into()).await;
    let mut speaker = Speaker::new(&hall, 1, 440.0);
    let started = run(&recorder, &mut speaker, Options::default()).await;
    assert_eq!(started.stream.name, name(3));
    for n in [1, 2] {
        let there = StreamRef::Name(name(n));
        assert_eq!(store.describe(&there).unwrap().fragments, 0);
        assert!(store.tags(&there).unwrap().len() <= 1);
    }
    for n in 4..=8 {
        foreign(n, BTreeMap::new()).await;
    }
    recorder.set_settings(Settings { retention: 48, ..on() }).await.unwrap();
    let error = recorder.start(&contact("c"), Options::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    recorder.delete(&contact("c")).await.unwrap();
    assert_eq!(store.list_streams("", "", 10).len(), 7, "those of others stay");
}

/// Two contacts of which each stream would have the same name, by other settings; and somebody else who writes into the first one's.
#[tokio::test(start_paused = true)]
async fn contacts_that_follow_each_other_under_one_name_keep_to_their_own() {
    let (hall, store, recorder) = rig().await;
    let (first, second) = (contact("x-contact-c"), contact("c"));
    let name = "antiphon-connect-default-contact-x-contact-c";
    let other_name = Settings { instance: "default-contact-x".into(), ..on() };
    let mut streams = Vec::new();
    for (id, who, key, hertz, settings) in
        [(&first, "ada", 1, 440.0, on()), (&second, "ben", 2, 800.0, other_name.clone())]
    {
        recorder.set_settings(settings).await.unwrap();
        hall.join("r", who, key);
        entered(&recorder, "r", who, Some(id));
        recorder.start(id, Options::default()).await.unwrap();
        Speaker::new(&hall, key, hertz).speak("r", seconds(1)).await;
        streams.push(recorder.stop(id).await.unwrap().stream.name);
        tokio::time::sleep(seconds(1)).await;
    }
    assert_eq!(streams, [name, "antiphon-connect-default-contact-x.2-contact-c"]);
    // A producer of the API writes into the first one's stream, as whose contact it likes.
    let now = hall.now_us() / 1000;
    let track =
        PcmTrack { number: 1, name: "AUDIO_FROM_CUSTOMER".into(), rate_hz: 8000, label: PcmLabel::Pcm };
    let stream = StreamRef::Name(name.into());
    let (mut session, _acks) = store.open_session(&stream, Timecodes::Absolute, now).await.unwrap();
    let document = [
        pcm_header("t", &[track], &[("ContactId", "c")]),
        cluster_start(now),
        simple_block(1, 0, &[0x40; 16_000]),
    ];
    session.push(&document.concat(), now).await.unwrap();
    assert_eq!(session.finish(true, now).await.kept, 1);
    let only = async |id: &str, hertz: u32, not: u32| {
        let (channels, rate) = sound_of(&recorder, id, None, Wanted::From).await;
        let tenths = heard(&channels[0], rate);
        assert!(presence(&tenths, hertz).0 >= 9 && tenths.len() <= 13, "{id}: {tenths:?}");
        assert!(tenths.iter().all(|t| t.abs_diff(not) > 100), "{id}: {tenths:?}");
    };
    only("x-contact-c", 440, 800).await;
    only("c", 800, 440).await;
    // By whatever settings the names are made now.
    recorder.set_settings(on()).await.unwrap();
    only("x-contact-c", 440, 800).await;
    only("c", 800, 440).await;
    recorder.set_settings(other_name).await.unwrap();
    recorder.delete(&second).await.unwrap();
    assert_eq!(store.list_streams("", "", 10).into_iter().map(|s| s.name).collect::<Vec<_>>(), [name]);
    only("x-contact-c", 440, 800).await;
    recorder.delete(&first).await.unwrap();
    assert!(store.list_streams("", "", 10).is_empty());
}

#[tokio::test(start_paused = true)]
async fn tags_are_those_of_the_last_start_however_many_there_were() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    let mut speaker = Speaker::new(&hall, 1, 440.0);
    for i in 0..12 {
        let tags = (0..20).map(|n| (format!("t{i}-{n}"), n.to_string())).collect();
        let stopped = run(&recorder, &mut speaker, Options { tags, ..Options::default() }).await;
        let tags = store.tags(&StreamRef::Name(stopped.stream.name)).unwrap();
        let given: Vec<_> = tags.keys().filter(|name| name.starts_with(&format!("t{i}-"))).collect();
        assert_eq!(given.len(), 20);
        assert!(tags.keys().all(|name| !name.starts_with('t') || given.contains(&name)), "{tags:?}");
    }
    assert_eq!(recorder.metrics().failed, 0);
}

/// The operator's clock was a day late, is set, and believed: what is said from then on is not a day old when it is stored.
#[tokio::test(start_paused = true)]
async fn what_is_said_after_the_clock_was_set_is_kept_as_long_as_promised() {
    for jump_ms in [3_600_000, 86_400_000] {
        let (hall, store, recorder) = ada(Backend::memory()).await;
        let hour = u32::try_from(jump_ms / 3_600_000).unwrap();
        recorder.set_settings(Settings { retention: hour, ..on() }).await.unwrap();
        let started = recorder.start(&contact("c"), Options::default()).await.unwrap();
        let name = StreamRef::Name(started.stream.name.clone());
        let mut speaker = Speaker::new(&hall, 1, 440.0);
        speaker.speak("r", seconds(3)).await;
        let set_at = hall.now_us() / 1_000;
        recorder.believe(set_at + jump_ms);
        speaker.speak("r", seconds(6)).await;
        let run = recorder.stop(&contact("c")).await.unwrap().latest().clone();
        let now = hall.now_us() / 1_000 + jump_ms;
        let listed = |now| store.list_fragments(&name, None, 100, None, now).unwrap().fragments;
        let all = listed(set_at);
        assert!(all.is_sorted_by(|a, b| a.number < b.number && a.server_ms <= b.server_ms));
        // On the axis nothing has jumped: each fragment where the one before it ends, and the whole as long as it took.
        assert!(all.windows(2).all(|w| w[0].producer_ms + w[0].duration_ms == w[1].producer_ms), "{all:?}");
        let said = run.stop_ms.unwrap() - run.start_ms;
        assert!((8_900..9_500).contains(&said), "{said}");
        // By the new clock what was said before it is old, and nothing else is.
        store.sweep(now).await;
        let kept = listed(now);
        let first = kept.first().expect("something is kept").producer_ms;
        assert!(first <= set_at + 1_100, "kept from {} ms behind the jump on", first - set_at);
        assert_eq!(kept.last().map(|f| f.number), run.last);
    }
}
