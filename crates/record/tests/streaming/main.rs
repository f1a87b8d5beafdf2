//! Contacts are streamed: what they say is in their streams, all of it, at its place in time; whatever happens to them, to the
//! room or to the store.

#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed")]

mod film;
mod hall;
mod limits;
mod patience;
mod restarts;
mod shared;
mod video;

use antiphon_media::mix::level_dbov;
use antiphon_media::synth;
use antiphon_record::wav::Wanted;
use antiphon_record::{Entered, Form, FragmentNumber, Options, Recorder, Run, Settings, Sounding};
use antiphon_store::matroska::{Bounds, Item, Parser};
use antiphon_store::{Backend, Config, Start, Step, Store, StreamRef};
use antiphon_wire::control::LeaveReason;
use bytes::Bytes;

use hall::{Hall, Speaker, contact, entered, on, participant, rig, room, seconds};

/// A contact's sound, channel by channel, and what the head of the file says of its length.
async fn sound(recorder: &Recorder, id: &str, wanted: Wanted) -> (Vec<Vec<i16>>, u32) {
    sound_of(recorder, id, None, wanted).await
}

/// The same of the start with that start fragment.
async fn sound_of(
    recorder: &Recorder,
    id: &str,
    start: Option<FragmentNumber>,
    wanted: Wanted,
) -> (Vec<Vec<i16>>, u32) {
    let mut wav = recorder.wav(&contact(id), start, wanted, false).await.unwrap();
    let mut all = Vec::new();
    while let Some(bytes) = wav.next().await {
        all.extend_from_slice(&bytes);
    }
    let rate = u32::from_le_bytes(all[24..28].try_into().unwrap());
    let told = u32::from_le_bytes(all[40..44].try_into().unwrap());
    assert_eq!(told as usize, all.len() - 44);
    let samples: Vec<i16> = all[44..].chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    let channels = usize::from(wanted.channels());
    ((0..channels).map(|c| samples.iter().skip(c).step_by(channels).copied().collect()).collect(), rate)
}

/// Blocks of a stream of Opus, and how many milliseconds behind a run's start each begins.
async fn blocks_of(store: &Store, name: &StreamRef, start: Start, run: &Run) -> Vec<(u64, Bytes)> {
    let mut reader = store.get_media(name, start, run.stop_ms.unwrap()).unwrap();
    let parser = || Parser::new(Bounds { header_bytes: 10_000, fragment_bytes: 1_000_000 });
    let (mut found, mut reading, mut began) = (Vec::new(), parser(), 0);
    while let Step::Bytes(bytes) = reader.next(run.stop_ms.unwrap()).await {
        if bytes.starts_with(&[0x1A, 0x45]) {
            reading = parser();
        }
        reading.push(&bytes);
        while let Some(item) = reading.next_item().unwrap() {
            match item {
                Item::Header { header, .. } => assert_eq!(header.tracks[0].codec, "A_OPUS"),
                Item::Timecode { ticks, .. } => began = ticks,
                Item::Block { bytes, block } => {
                    let at = began + u64::try_from(block.relative).unwrap() - run.start_ms;
                    found.push((at, bytes.slice(bytes.len() - block.len..)));
                }
                _ => {}
            }
        }
    }
    found
}

/// Of each tenth of a second: the frequency heard, 0 for silence.
fn heard(samples: &[i16], rate: u32) -> Vec<u32> {
    let tenth = samples.chunks_exact(rate as usize / 10);
    tenth
        .map(|c| {
            if level_dbov(c) > 40 {
                return 0;
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred hertz")]
            let hertz = synth::frequency(c, rate).unwrap_or(1.0).round() as u32;
            // Within the resolution of a tenth of a second.
            (hertz + 5) / 10 * 10
        })
        .collect()
}

/// How many tenths have that frequency, and the longest run of others between the first and the last of them. Where the jitter
/// buffer has left out a packet, a tenth is some hertz off.
fn presence(heard: &[u32], hertz: u32) -> (usize, usize) {
    let is = |h: &u32| h.abs_diff(hertz) <= 25;
    let first = heard.iter().position(is).unwrap();
    let last = heard.iter().rposition(is).unwrap();
    let holes = heard[first..=last].split(is).map(<[u32]>::len).max().unwrap_or(0);
    (heard.iter().filter(|h| is(h)).count(), holes)
}

#[tokio::test(start_paused = true)]
async fn a_voice_is_in_the_stream_from_the_first_word_to_the_last() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c-1")));
    let started = recorder.start(&contact("c-1"), Options::default()).await.unwrap();
    assert_eq!(started.stream.name, "antiphon-connect-default-contact-c-1");
    let mut ada = Speaker::new(&hall, 1, 440.0);
    ada.speak("r", seconds(5)).await;
    let stopped = recorder.stop(&contact("c-1")).await.unwrap();
    let (run, name) = (stopped.latest().clone(), StreamRef::Name(stopped.stream.name.clone()));
    assert!(store.fragment(&name, run.last.unwrap()).unwrap().is_some(), "stop answers when all is stored");
    assert_eq!(hall.listeners("r"), 0, "nobody listens any more");
    let (channels, rate) = sound(&recorder, "c-1", Wanted::From).await;
    let tenths = heard(&channels[0], rate);
    assert!(tenths.len() >= 50 && presence(&tenths, 440).0 >= 49, "{tenths:?}");
    assert_eq!(presence(&tenths, 440).1, 0, "{tenths:?}");
    assert!(tenths[..2].contains(&440), "nothing is lost at the beginning: {tenths:?}");
    let frames = u64::try_from(channels[0].len() / 160).unwrap();
    assert_eq!(frames, (run.stop_ms.unwrap() - run.start_ms + 160) / 20, "the time axis holds");
    let audio = stopped.attributes()["MediaStreams"]["Customer"]["Audio"].clone();
    for (name, value) in [
        ("StreamARN", stopped.stream.arn.as_str()),
        ("StartTimestamp", &run.start_ms.to_string()),
        ("StopTimestamp", &run.stop_ms.unwrap().to_string()),
        ("StartFragmentNumber", &run.first.to_string()),
        ("StartPosition", &run.first.to_string()),
        ("StopFragmentNumber", &run.last.unwrap().to_string()),
        ("StopPosition", &run.last.unwrap().to_string()),
    ] {
        assert_eq!(audio[name], value, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_behind_the_start_fragment_gets_everything_live() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    let id = recorder.contact_of(&room("r"), &participant("ada"));
    let started = recorder.start(&id, Options::default()).await.unwrap();
    let first = started.latest().first;
    let mut live = recorder.live(&started.stream.name, Some(first)).unwrap();
    let reading = tokio::spawn(async move {
        let (mut samples, mut at) = (Vec::new(), Vec::new());
        while let Some(sounding) = live.next().await {
            match sounding {
                Sounding::Block { at_ms, pcm, .. } => {
                    at.push(at_ms);
                    samples.extend(pcm.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])));
                }
                Sounding::Fragment { number, .. } => assert!(number > first),
                Sounding::Missing => panic!("a fragment is missing"),
            }
        }
        (samples, at)
    });
    Speaker::new(&hall, 1, 440.0).speak("r", seconds(3)).await;
    let run = recorder.stop(&id).await.unwrap().latest().clone();
    let (samples, at) = reading.await.unwrap();
    assert!(at.windows(2).all(|w| w[1] == w[0] + 64) && at[0] == run.start_ms, "{at:?}");
    let (stored, _) = sound(&recorder, id.as_str(), Wanted::From).await;
    assert_eq!(samples, stored[0]);
    assert!(presence(&heard(&samples, 8_000), 440).0 >= 29);
    // The anchor is real: silence of one block, with all tags.
    let name = StreamRef::Name(started.stream.name.clone());
    let mut reader = store.get_media(&name, Start::Earliest, run.stop_ms.unwrap()).unwrap();
    let Step::Bytes(header) = reader.next(run.stop_ms.unwrap()).await else { panic!("a header") };
    for tag in ["ContactId", id.as_str(), "AUDIO_FROM_CUSTOMER", "audio/L16;rate=8000;channels=1;"] {
        assert!(header.windows(tag.len()).any(|w| w == tag.as_bytes()), "{tag}");
    }
    let page = store.list_fragments(&name, None, 10, None, run.stop_ms.unwrap()).unwrap();
    assert_eq!((page.fragments[0].number, page.fragments[0].duration_ms), (first, 64));
    assert_eq!(page.fragments[0].producer_ms, run.start_ms - 64);
}

#[tokio::test(start_paused = true)]
async fn a_contact_is_followed_through_rooms_connections_and_silence() {
    let (hall, _, recorder) = rig().await;
    let id = contact("c-2");
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&id));
    recorder.start(&id, Options::default()).await.unwrap();
    let mut ada = Speaker::new(&hall, 1, 440.0);
    ada.speak("r", seconds(2)).await;
    // Mute: nothing is sent for a second.
    tokio::time::sleep(seconds(1)).await;
    ada.speak("r", seconds(2)).await;
    // The connection is replaced: the same participant, other numbers.
    hall.leave("r", "ada", LeaveReason::Replaced);
    hall.join("r", "ada", 2);
    entered(&recorder, "r", "ada", None);
    let mut ada = ada.reconnected(2);
    ada.speak("r", seconds(2)).await;
    // On to another room, after three seconds in none.
    hall.leave("r", "ada", LeaveReason::Left);
    tokio::time::sleep(seconds(3)).await;
    hall.join("s", "adam", 7);
    entered(&recorder, "s", "adam", Some(&id));
    let mut ada = ada.reconnected(7);
    ada.speak("s", seconds(2)).await;
    // That room is lost with all who listen, and comes back.
    hall.close("s");
    tokio::time::sleep(seconds(2)).await;
    hall.join("s", "adam", 1);
    entered(&recorder, "s", "adam", Some(&id));
    let mut ada = ada.reconnected(1);
    ada.speak("s", seconds(2)).await;
    recorder.stop(&id).await.unwrap();
    let (channels, rate) = sound(&recorder, "c-2", Wanted::From).await;
    let tenths = heard(&channels[0], rate);
    let (there, hole) = presence(&tenths, 440);
    assert!((98..=110).contains(&there), "{there}: {tenths:?}");
    assert!((28..=32).contains(&hole), "the time axis holds: {hole}: {tenths:?}");
    let silent = tenths.iter().filter(|t| **t == 0).count();
    assert!((56..=66).contains(&silent), "{silent}: {tenths:?}");
    assert!(recorder.was_in(&id, &room("r")) && recorder.was_in(&id, &room("s")));
}

#[tokio::test(start_paused = true)]
async fn streaming_ends_with_the_contact() {
    let (hall, _, recorder) = rig().await;
    for (name, given) in [("own", false), ("given", true)] {
        hall.join(name, "ada", 1);
        let id = if given {
            entered(&recorder, name, "ada", Some(&contact("c-3")));
            contact("c-3")
        } else {
            recorder.contact_of(&room(name), &participant("ada"))
        };
        recorder.start(&id, Options::default()).await.unwrap();
        Speaker::new(&hall, 1, 440.0).speak(name, seconds(1)).await;
        hall.leave(name, "ada", LeaveReason::Left);
        tokio::time::sleep(seconds(2)).await;
        // Who has an id of its own could not be found again; who was given one may be on its way to another room.
        let running = recorder.history(&id).unwrap().running;
        assert_eq!(running, given);
        tokio::time::sleep(seconds(10)).await;
        let history = recorder.history(&id).unwrap();
        assert!(!history.running && history.latest().stop_ms.is_some());
        let said = history.latest().stop_ms.unwrap() - history.latest().start_ms;
        assert!((900..1_300).contains(&said), "it stopped when the contact left: {said}");
        assert_eq!(history.record()["Recordings"][0]["Status"], "AVAILABLE");
    }
    assert_eq!(recorder.metrics().streamed, 0);
}

#[tokio::test(start_paused = true)]
async fn the_same_name_in_another_call_is_another_contact() {
    let (hall, _, recorder) = rig().await;
    let own = || recorder.contact_of(&room("r"), &participant("ada"));
    hall.join("r", "ada", 1);
    let first = own();
    recorder.start(&first, Options::default()).await.unwrap();
    // While it is streamed, whoever comes by that name takes the place of who had it.
    entered(&recorder, "r", "ada", None);
    assert_eq!(own(), first);
    recorder.stop(&first).await.unwrap();
    recorder.entered(&room("r"), &participant("ada"), Entered::Again);
    assert_eq!(own(), first);
    entered(&recorder, "r", "ada", None);
    assert_ne!(own(), first);
    assert!(recorder.record(&first).is_ok(), "what was kept of the first is there");
}

#[tokio::test(start_paused = true)]
async fn what_the_contact_hears_is_a_track_of_its_own() {
    let (hall, _, recorder) = rig().await;
    hall.join("r", "ada", 1);
    hall.join("r", "agent", 2);
    entered(&recorder, "r", "ada", Some(&contact("c-4")));
    let options = Options { to_customer: true, sample_rate: 16_000, ..Options::default() };
    recorder.start(&contact("c-4"), options).await.unwrap();
    let agent_hall = hall.clone();
    let agent = tokio::spawn(async move { Speaker::new(&agent_hall, 2, 800.0).speak("r", seconds(3)).await });
    Speaker::new(&hall, 1, 400.0).speak("r", seconds(3)).await;
    agent.await.unwrap();
    recorder.stop(&contact("c-4")).await.unwrap();
    let (channels, rate) = sound(&recorder, "c-4", Wanted::Stereo).await;
    assert_eq!((rate, channels.len()), (16_000, 2));
    assert!(presence(&heard(&channels[0], rate), 400).0 >= 28);
    assert!(presence(&heard(&channels[1], rate), 800).0 >= 28);
    assert!(!heard(&channels[0], rate).contains(&800), "nobody else is in the contact's track");
    let (to, _) = sound(&recorder, "c-4", Wanted::To).await;
    assert_eq!(to[0], channels[1]);
}

#[tokio::test(start_paused = true)]
async fn opus_is_kept_as_it_was_sent() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c-8")));
    let options = Options { codec: Form::Opus, ..Options::default() };
    let started = recorder.start(&contact("c-8"), options).await.unwrap();
    let mut ada = Speaker::new(&hall, 1, 440.0);
    ada.speak("r", seconds(2)).await;
    tokio::time::sleep(seconds(1)).await;
    ada.speak("r", seconds(1)).await;
    let run = recorder.stop(&contact("c-8")).await.unwrap().latest().clone();
    let name = StreamRef::Name(started.stream.name);
    let (times, kept): (Vec<u64>, Vec<_>) =
        blocks_of(&store, &name, Start::After(run.first), &run).await.into_iter().unzip();
    let said: Vec<_> = kept.iter().filter(|packet| packet.len() > 3).collect();
    assert_eq!(said.len(), ada.sent.len());
    assert!(said.iter().zip(&ada.sent).all(|(kept, sent)| ***kept == **sent), "each packet, in order");
    assert!(times.windows(2).all(|w| w[0] <= w[1] && w[1] - w[0] <= 40), "the time axis holds: {times:?}");
    assert!((3_900..4_300).contains(times.last().unwrap()), "{times:?}");
    let error = recorder.wav(&contact("c-8"), None, Wanted::From, false).await.err().unwrap();
    assert_eq!(error.kind(), antiphon_base::ErrorKind::NotFound, "no PCM is in it");
}

#[tokio::test(start_paused = true)]
async fn a_second_start_is_another_session_of_the_same_stream() {
    let (hall, _, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c-5")));
    let mut ada = Speaker::new(&hall, 1, 440.0);
    let mut runs = Vec::new();
    for _ in 0..2 {
        recorder.start(&contact("c-5"), Options::default()).await.unwrap();
        ada.speak("r", seconds(1)).await;
        runs.push(recorder.stop(&contact("c-5")).await.unwrap().latest().clone());
        tokio::time::sleep(seconds(5)).await;
    }
    assert!(runs[0].last < Some(runs[1].first));
    let history = recorder.history(&contact("c-5")).unwrap();
    assert_eq!(history.runs, runs);
    // The file is of the last start, or of the one that is named.
    let (channels, _) = sound(&recorder, "c-5", Wanted::From).await;
    assert!((8_000..11_000).contains(&channels[0].len()), "{}", channels[0].len());
    for (run, is_last) in runs.iter().zip([false, true]) {
        let (of_run, _) = sound_of(&recorder, "c-5", Some(run.first), Wanted::From).await;
        assert_eq!(of_run == channels, is_last);
        let said_ms = usize::try_from(run.stop_ms.unwrap() - run.start_ms).unwrap();
        assert!(of_run[0].len().abs_diff(8 * said_ms) < 8 * 200, "{} of {said_ms} ms", of_run[0].len());
    }
    let nothing = recorder.wav(&contact("c-5"), runs[1].last, Wanted::From, false).await.err().unwrap();
    assert_eq!(nothing.kind(), antiphon_base::ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_followed_file_grows_and_ends_with_the_streaming() {
    let (hall, _, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c-6")));
    recorder.start(&contact("c-6"), Options::default()).await.unwrap();
    let mut wav = recorder.wav(&contact("c-6"), None, Wanted::From, true).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(bytes) = wav.next().await {
            all.extend_from_slice(&bytes);
        }
        all
    });
    Speaker::new(&hall, 1, 440.0).speak("r", seconds(3)).await;
    assert!(!reading.is_finished());
    recorder.stop(&contact("c-6")).await.unwrap();
    let all = reading.await.unwrap();
    assert_eq!(all[40..44], [0xff; 4], "the length is not known");
    let samples: Vec<i16> = all[44..].chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    let (stored, _) = sound(&recorder, "c-6", Wanted::From).await;
    assert_eq!(samples, stored[0]);
}

/// What a server finds that is started after a kill: the folder as it was at that moment.
#[tokio::test(start_paused = true)]
async fn a_server_that_was_killed_leaves_what_was_said() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hall = Hall::new();
    let backend = |root: &std::path::Path| {
        Backend::local(&root.join("store")).unwrap().with_journal(&root.join("journal"))
    };
    let store = hall::store(backend(folder.path()), Config::default()).await;
    let recorder = Recorder::new(store.clone(), hall.clone(), on(), hall::limits());
    let id = contact("c-9");
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&id));
    let started = recorder.start(&id, Options::default()).await.unwrap().latest().clone();
    // Not a whole number of fragments.
    Speaker::new(&hall, 1, 440.0).speak("r", std::time::Duration::from_millis(5_500)).await;
    store.sync_journal(0);
    let mut folders = vec![folder.path().to_owned()];
    while let Some(from) = folders.pop() {
        let to = copy.path().join(from.strip_prefix(folder.path()).unwrap());
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(&from).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
    let store = hall::store(backend(copy.path()), Config::default()).await;
    assert!(store.stats().fragments_salvaged > 0);
    let again = Recorder::new(store, hall.clone(), on(), hall::limits());
    let history = again.history(&id).unwrap();
    assert!(!history.running && history.latest() == &started);
    assert_eq!(history.record()["Recordings"][0]["Status"], "INTERRUPTED");
    let (channels, rate) = sound(&again, "c-9", Wanted::From).await;
    let tenths = heard(&channels[0], rate);
    // Of 55: three were waiting for packets before them, and a block was not full.
    assert!(presence(&tenths, 440).0 >= 51, "all but what was on its way to the journal: {tenths:?}");
    // It can be started anew, and what was stays.
    entered(&again, "r", "ada", Some(&id));
    again.start(&id, Options::default()).await.unwrap();
    assert_eq!(again.stop(&id).await.unwrap().runs.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn records_outlast_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let hall = Hall::new();
    let backend = || Backend::local(folder.path()).unwrap();
    let id = contact("c-7");
    {
        let store = hall::store(backend(), Config::default()).await;
        let recorder = Recorder::new(store, hall.clone(), on(), hall::limits());
        hall.join("r", "ada", 1);
        entered(&recorder, "r", "ada", Some(&id));
        recorder.start(&id, Options::default()).await.unwrap();
        Speaker::new(&hall, 1, 440.0).speak("r", seconds(2)).await;
        recorder.close().await;
    }
    let store = hall::store(backend(), Config::default()).await;
    // Another prefix since.
    let settings = Settings { prefix: "other".into(), ..on() };
    let recorder = Recorder::new(store, hall, settings, hall::limits());
    let record = recorder.record(&id).unwrap();
    assert_eq!(record["Recordings"][0]["Status"], "AVAILABLE", "{record}");
    assert!(recorder.was_in(&id, &room("r")) && !recorder.was_in(&id, &room("s")));
    let tenths = heard(&sound(&recorder, "c-7", Wanted::From).await.0[0], 8_000);
    assert!(presence(&tenths, 440).0 >= 19, "{tenths:?}");
    assert_eq!(recorder.sweep().await, 0, "what is kept stays");
    recorder.delete(&id).await.unwrap();
    assert!(recorder.record(&id).is_err());
}
