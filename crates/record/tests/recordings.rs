//! A recording against a room made of channels that obeys slowly and hands over more than it should: the recorder keeps only what may
//! be kept, and the store is untouched before.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use antiphon_base::{AudioCodec, Codec, ParticipantId, ParticipantKey, RoomName, Source, TrackKey};
use antiphon_record::rooms::{Cut, FileKind, Recordings, StartRecording};
use antiphon_record::{Error, Limits, Recorder, Settings};
use antiphon_shard::{
    AttachCommand, AttachEvent, AttachRequest, Attaching, Door, Place, RecordingCommand, RecordingEnd,
    RecordingView, Waiting,
};
use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::{Backend, Config, Store};
use antiphon_wire::control::{
    ParticipantInfo, ParticipantKind, Presence, RecordingState, ServerMessage, TrackInfo,
};
use antiphon_wire::rtp::{Descriptor, Packet};

const OPUS: Codec = Codec::Audio(AudioCodec::Opus);
/// Who is asked whether something has happened, at most so often.
const LOOKS: usize = 5_000;

/// The room's end of one attachment.
#[derive(Clone)]
struct Hall {
    events: (async_channel::Sender<AttachEvent>, async_channel::Receiver<AttachEvent>),
    media: (async_channel::Sender<Arc<Packet>>, async_channel::Receiver<Arc<Packet>>),
    said: (async_channel::Sender<RecordingCommand>, async_channel::Receiver<RecordingCommand>),
    base: (Instant, u64),
}

impl Hall {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let base = (Instant::now(), u64::try_from(since.as_micros()).unwrap());
        let (events, media, said) =
            (async_channel::bounded(1_000), async_channel::bounded(4_096), async_channel::bounded(100));
        Self { events, media, said, base }
    }

    fn tell(&self, event: AttachEvent) {
        self.events.0.try_send(event).unwrap();
    }

    fn view(&self, state: RecordingState, cleared: &[u32], end: Option<RecordingEnd>) {
        let cleared = cleared.iter().map(|key| ParticipantKey(*key)).collect();
        let waiting = vec![Waiting { participant: ParticipantId::new("ben").unwrap(), refused: false }];
        let id = String::new();
        self.tell(AttachEvent::Recording(RecordingView { id, state, end, cleared, waiting }));
    }

    fn packets(&self, key: u32, seqs: std::ops::Range<u64>) {
        for seq in seqs {
            let payload: Arc<[u8]> =
                vec![0xf8, u8::try_from(seq % 256).unwrap(), u8::try_from(key).unwrap()].into();
            let at = u64::try_from(self.base.0.elapsed().as_micros()).unwrap();
            let packet = Packet {
                track: TrackKey { participant: ParticipantKey(key), source: Source::Microphone },
                layer: 0,
                codec: OPUS,
                seq,
                rtp_time: seq * 960,
                marker: false,
                descriptor: Descriptor::parse(OPUS, &payload),
                payload,
                arrival: Instant::now(),
                arrival_us: self.base.1 + at,
                capture_us: self.base.1 + seq * 20_000,
                capture_estimated: false,
                audio_level: None,
                dependency: None,
                spatial_layers: 1,
            };
            self.media.0.try_send(Arc::new(packet)).unwrap();
        }
    }

    /// What the recorder asks next.
    async fn asked(&self) -> RecordingCommand {
        tokio::time::timeout(Duration::from_secs(10), self.said.1.recv()).await.unwrap().unwrap()
    }
}

impl Door for Hall {
    fn attach<'a>(&'a self, _room: &'a RoomName, request: AttachRequest) -> Attaching<'a> {
        Box::pin(async move {
            assert!(request.hidden && !request.grants.publish, "a recorder only listens");
            let said = self.said.0.clone();
            let say = move |command| {
                if let AttachCommand::Record(command) = command {
                    let _ = said.try_send(command);
                }
                true
            };
            let (id, key) = (request.id, ParticipantKey(9_999));
            let (events, media) = (self.events.1.clone(), self.media.1.clone());
            Ok(Place { id, key, events, media, say: Arc::new(say), hold: Box::new(()) })
        })
    }
}

fn person(key: u32, name: &str) -> ParticipantInfo {
    let track = TrackInfo { source: Source::Microphone, codec: OPUS, muted: false, layers: 1 };
    ParticipantInfo {
        id: ParticipantId::new(name).unwrap(),
        key: ParticipantKey(key),
        name: name.into(),
        kind: ParticipantKind::WebRtc,
        presence: Presence::Connected,
        held: false,
        tracks: vec![track],
    }
}

/// Names and sizes of all files below a folder.
fn files(folder: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push((path, entry.metadata().unwrap().len()));
        }
    }
    all.sort();
    all
}

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if look() {
            return;
        }
        // Time for the recorder's task; what is waited for is looked at again, however long it takes.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("not within {LOOKS} looks: {what}");
}

async fn opened(folder: &Path, hall: &Hall) -> Recordings {
    opened_all(folder, hall).await.1.rooms().clone()
}

async fn opened_all(folder: &Path, hall: &Hall) -> (Store, Recorder) {
    let keys = Arc::new(LocalKeys::new("default", Secret([7; 32])));
    let now_ms = hall.base.1 / 1_000;
    let backend = Backend::local(folder).unwrap();
    let (store, _) = Store::open(backend, keys, Config::default(), now_ms).await.unwrap();
    let recorder = Recorder::new(store.clone(), hall.clone(), Settings::default(), Limits::default());
    (store, recorder)
}

async fn mkv(recordings: &Recordings, room: &RoomName, id: &str) -> Vec<u8> {
    let file = recordings.track(room, id, 1, FileKind::Mkv, Cut::default()).await;
    let (mut file, mut bytes) = (file.unwrap(), Vec::new());
    while let Some(piece) = file.next().await {
        bytes.extend(piece);
    }
    bytes
}

/// Frames of a participant in a file: they have their own byte at the end.
fn frames(bytes: &[u8], key: u8) -> Vec<u8> {
    bytes.windows(3).filter(|w| w[0] == 0xf8 && w[2] == key && key != 0).map(|w| w[1]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_may_be_kept_is_and_only_from_then_on() {
    use RecordingState::{Announcing, Paused, Recording, Stopped};
    let folder = tempfile::tempdir().unwrap();
    let hall = Hall::new();
    let recordings = opened(folder.path(), &hall).await;
    let room = RoomName::new("desk").unwrap();
    let before = files(folder.path());

    hall.tell(AttachEvent::Control(ServerMessage::Roster {
        seq: 1,
        participants: vec![person(201, "ada"), person(202, "ben")],
    }));
    hall.view(Announcing, &[201], None);
    let started = recordings.start(&room, StartRecording::default()).await.unwrap();
    assert!(matches!(hall.asked().await, RecordingCommand::Announce { consent: false, .. }));
    assert_eq!((started.state, started.waiting.len()), (Some(Announcing), 1));
    let again = recordings.start(&room, StartRecording::default()).await;
    assert!(matches!(again, Err(Error::RoomRecorded)));
    // A room that hands over what it should not.
    hall.packets(201, 0..40);
    until("they were taken", || hall.media.1.is_empty()).await;
    assert_eq!(files(folder.path()), before, "something was written before all had acknowledged");

    hall.view(Recording, &[201], None);
    until("it records", || recordings.get(&room, &started.id).unwrap().state == Some(Recording)).await;
    hall.packets(201, 100..140);
    hall.packets(202, 100..140);
    until("there is a track", || recordings.get(&room, &started.id).unwrap().tracks.len() == 1).await;
    let pausing = tokio::spawn({
        let (recordings, room, id) = (recordings.clone(), room.clone(), started.id.clone());
        async move { recordings.pause(&room, &id).await }
    });
    assert_eq!(hall.asked().await, RecordingCommand::Pause);
    hall.view(Paused, &[201], None);
    assert_eq!(pausing.await.unwrap().unwrap().state, Some(Paused));
    hall.packets(201, 140..180);
    until("they were taken", || hall.media.1.is_empty()).await;
    assert!(
        matches!(recordings.pause(&room, &started.id).await.unwrap().state, Some(Paused)),
        "twice is once"
    );
    hall.view(Recording, &[201], None);
    until("it goes on", || recordings.get(&room, &started.id).unwrap().state == Some(Recording)).await;
    hall.packets(201, 180..200);
    until("they were taken", || hall.media.1.is_empty()).await;
    hall.view(Stopped, &[201], Some(RecordingEnd::Stopped));
    until("it is over", || recordings.metrics().running == 0).await;

    let stopped = recordings.get(&room, &started.id).unwrap();
    assert_eq!((stopped.state, stopped.tracks.len()), (Some(Stopped), 1));
    let bytes = mkv(&recordings, &room, &started.id).await;
    let kept: Vec<u8> = (100..140).chain(180..200).collect();
    assert_eq!(frames(&bytes, 201), kept);
    assert_eq!(frames(&bytes, 202), [0; 0]);
    assert!(matches!(recordings.stop(&room, &started.id).await, Err(Error::WrongState(_))));
    let elsewhere = RoomName::new("other").unwrap();
    assert!(matches!(recordings.get(&elsewhere, &started.id), Err(Error::NoRecording)));

    recordings.delete(&room, &started.id).await.unwrap();
    assert!(matches!(recordings.get(&room, &started.id), Err(Error::NoRecording)));
    assert!(recordings.list(&room).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_never_acknowledged_leaves_nothing_but_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let hall = Hall::new();
    let recordings = opened(folder.path(), &hall).await;
    let room = RoomName::new("desk").unwrap();
    let before = files(folder.path());
    hall.view(RecordingState::Announcing, &[], None);
    let started = recordings.start(&room, StartRecording::default()).await.unwrap();
    hall.view(RecordingState::Stopped, &[], Some(RecordingEnd::NotAcknowledged));
    until("it is over", || recordings.metrics().running == 0).await;
    let over = recordings.get(&room, &started.id).unwrap();
    assert_eq!(over.to_json()["reason"], "not_acknowledged");
    assert_eq!(over.to_json()["waiting"][0]["participant"], "ben");
    assert_eq!(files(folder.path()), before);
}

/// The operator's clock was days late, is set, and believed while a room is recorded: on the recording's axis nothing jumps, and what
/// was said from then on is kept as long as promised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_moves_nothing_and_takes_nothing_of_what_follows() {
    const DAYS_MS: u64 = 3 * 86_400_000;
    let folder = tempfile::tempdir().unwrap();
    let hall = Hall::new();
    let (store, recorder) = opened_all(folder.path(), &hall).await;
    let (recordings, room) = (recorder.rooms().clone(), RoomName::new("desk").unwrap());
    hall.tell(AttachEvent::Control(ServerMessage::Roster { seq: 1, participants: vec![person(201, "ada")] }));
    hall.view(RecordingState::Recording, &[201], None);
    let options = StartRecording { retention_h: Some(24), ..StartRecording::default() };
    let id = recordings.start(&room, options).await.unwrap().id;
    let is = |state| recordings.get(&room, &id).unwrap().state == Some(state);
    until("it records", || is(RecordingState::Recording)).await;
    hall.packets(201, 0..150);
    let track = antiphon_store::StreamRef::Name(format!("recording-{id}-0001"));
    let stored = || store.describe(&track).is_ok_and(|stream| stream.fragments > 0);
    until("the first two seconds are stored", stored).await;
    let late_ms = hall.base.1 / 1_000;
    recorder.believe(late_ms + DAYS_MS);
    hall.packets(201, 150..250);
    until("they were taken", || hall.media.1.is_empty()).await;
    hall.view(RecordingState::Stopped, &[201], Some(RecordingEnd::Stopped));
    until("it is over", || recordings.metrics().running == 0).await;

    let over = recordings.get(&room, &id).unwrap();
    let took_ms = over.stop_ms.unwrap() - over.start_ms.unwrap();
    assert!(took_ms < DAYS_MS / 100, "the axis jumped: {took_ms} ms");
    assert_eq!(recordings.metrics().frames_dropped, 0);
    // By the old clock everything is there, in its order and each frame once.
    let name = |n: &str| antiphon_store::StreamRef::Name(n.to_owned());
    let names: Vec<String> = store.list_streams("", "", 100).into_iter().map(|s| s.name).collect();
    for stream in &names {
        let all = store.list_fragments(&name(stream), None, 1_000, None, late_ms).unwrap().fragments;
        assert!(all.is_sorted_by(|a, b| a.number < b.number && a.producer_ms < b.producer_ms), "{all:?}");
        let [first, last] = [all.first(), all.last()].map(|f| f.unwrap().producer_ms);
        assert!(last - first < 60_000, "{stream}: {all:?}");
    }
    // By the new one what was said before it is too old; the fragment that was open then goes with it.
    let now_ms = late_ms + DAYS_MS + 60_000;
    assert!(store.sweep(now_ms).await.fragments > 0);
    recorder.sweep().await;
    let kept = frames(&mkv(&recordings, &room, &id).await, 201);
    assert!(kept.ends_with(&(200..250).collect::<Vec<_>>()), "{kept:?}");
    assert!(kept.windows(2).all(|w| w[0] + 1 == w[1]), "{kept:?}");
    recorder.believe(now_ms + DAYS_MS);
    store.sweep(now_ms + DAYS_MS).await;
    recorder.sweep().await;
    assert!(matches!(recordings.get(&room, &id), Err(Error::NoRecording)));
}
