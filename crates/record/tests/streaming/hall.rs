//! Rooms made of channels, with people who speak tones, under virtual time; and a store in memory or on a disk.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_base::{
    AudioCodec, Codec, ErrorKind, ParticipantId, ParticipantKey, RoomName, Source, TrackKey, VideoCodec,
};
use antiphon_media::audio::{Encoder, OpusConfig};
use antiphon_media::synth::Tone;
use antiphon_record::{ContactId, Entered, Limits, Recorder, Settings};
use antiphon_shard::{AttachCommand, AttachEvent, AttachRequest, Attaching, Door, JoinError, Place};
use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::{Backend, Config, Store};
use antiphon_wire::control::{
    LeaveReason, ParticipantInfo, ParticipantKind, Presence, ServerMessage, TrackInfo,
};
use antiphon_wire::rtp::{Descriptor, Packet};
use tokio::time::Instant;

/// A program that is attached.
struct Attached {
    events: async_channel::Sender<AttachEvent>,
    media: async_channel::Sender<Arc<Packet>>,
    taps: Arc<Mutex<Vec<TrackKey>>>,
}

#[derive(Default)]
struct Room {
    seq: u64,
    participants: Vec<ParticipantInfo>,
    attached: Vec<Attached>,
    closed: bool,
}

/// All rooms of a test, and its clock.
#[derive(Clone)]
pub(crate) struct Hall {
    rooms: Arc<Mutex<HashMap<RoomName, Room>>>,
    /// Of which a key frame is wanted.
    keys: Arc<Mutex<HashSet<TrackKey>>>,
    base: Instant,
    base_us: u64,
}

impl Hall {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let base_us = u64::try_from(since.as_micros()).unwrap();
        Self { rooms: Arc::default(), keys: Arc::default(), base: Instant::now(), base_us }
    }

    /// A packet with these numbers (sequence, RTP time) that comes now, and was captured 20 ms ago.
    pub(crate) fn captured(
        &self,
        track: TrackKey,
        codec: Codec,
        (seq, rtp_time): (u64, u64),
        payload: Arc<[u8]>,
    ) -> Packet {
        let now_us = self.now_us();
        Packet {
            track,
            layer: 0,
            codec,
            seq,
            rtp_time,
            marker: false,
            descriptor: Descriptor::parse(codec, &payload),
            payload,
            arrival: Instant::now().into_std(),
            arrival_us: now_us,
            capture_us: now_us - 20_000,
            capture_estimated: false,
            audio_level: None,
            dependency: None,
            spatial_layers: 1,
        }
    }

    /// With the clock as it is now, and half a millisecond: what was opened just before has the same, but for the microseconds between
    /// the two. Time goes by whole milliseconds here, and what stood at the very border of two frames would be of either by those.
    pub(crate) fn in_step(self) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - self.base.elapsed();
        Self { base_us: u64::try_from(since.as_micros()).unwrap() + 500, ..self }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.base_us + u64::try_from(self.base.elapsed().as_micros()).unwrap()
    }

    fn with<T>(&self, room: &str, act: impl FnOnce(&mut Room) -> T) -> T {
        act(self.rooms.lock().unwrap().entry(RoomName::new(room).unwrap()).or_default())
    }

    fn tell(room: &mut Room, message: impl Fn(u64) -> ServerMessage) {
        room.seq += 1;
        for attached in &room.attached {
            let _ = attached.events.try_send(AttachEvent::Control(message(room.seq)));
        }
    }

    /// Somebody with a microphone comes in.
    pub(crate) fn join(&self, room: &str, name: &str, key: u32) {
        let codec = Codec::Audio(AudioCodec::Opus);
        let track = TrackInfo { source: Source::Microphone, codec, muted: false, layers: 1 };
        let participant = ParticipantInfo {
            id: ParticipantId::new(name).unwrap(),
            key: ParticipantKey(key),
            name: name.into(),
            kind: ParticipantKind::WebRtc,
            presence: Presence::Connected,
            held: false,
            tracks: vec![track],
        };
        self.with(room, |room| {
            room.closed = false;
            room.participants.push(participant.clone());
            Self::tell(room, |seq| ServerMessage::ParticipantJoined {
                seq,
                participant: participant.clone(),
            });
        });
    }

    /// Somebody's camera comes up, is muted, or goes.
    pub(crate) fn camera(&self, room: &str, name: &str, codec: Option<VideoCodec>, muted: bool) {
        self.with(room, |room| {
            let participant = room.participants.iter_mut().find(|p| p.id.as_str() == name).unwrap();
            participant.tracks.retain(|t| t.source != Source::Camera);
            let track =
                |codec| TrackInfo { source: Source::Camera, codec: Codec::Video(codec), muted, layers: 1 };
            participant.tracks.extend(codec.map(track));
            let participant = participant.clone();
            Self::tell(room, |seq| ServerMessage::ParticipantUpdated {
                seq,
                participant: participant.clone(),
            });
        });
    }

    /// A key frame of a track is wanted.
    pub(crate) fn asks_for_key(&self, track: TrackKey) {
        self.keys.lock().unwrap().insert(track);
    }

    /// Whether one is; it will be sent.
    pub(crate) fn wants_key(&self, track: TrackKey) -> bool {
        self.keys.lock().unwrap().remove(&track)
    }

    /// Tracks that are tapped.
    pub(crate) fn tapped(&self, room: &str) -> usize {
        self.with(room, |room| room.attached.iter().map(|a| a.taps.lock().unwrap().len()).sum())
    }

    pub(crate) fn leave(&self, room: &str, name: &str, reason: LeaveReason) {
        self.with(room, |room| {
            room.participants.retain(|p| p.id.as_str() != name);
            let participant = ParticipantId::new(name).unwrap();
            Self::tell(room, |seq| ServerMessage::ParticipantLeft {
                seq,
                participant: participant.clone(),
                reason,
            });
        });
    }

    /// The room ends, or its shard is lost.
    pub(crate) fn close(&self, room: &str) {
        self.with(room, |room| *room = Room { closed: true, ..Room::default() });
    }

    /// Programs that are attached.
    pub(crate) fn listeners(&self, room: &str) -> usize {
        self.with(room, |room| room.attached.iter().filter(|a| !a.events.is_closed()).count())
    }

    pub(crate) fn packet(&self, room: &str, packet: &Arc<Packet>) {
        self.with(room, |room| {
            for attached in &room.attached {
                if attached.taps.lock().unwrap().contains(&packet.track) {
                    let _ = attached.media.try_send(packet.clone());
                }
            }
        });
    }
}

impl Door for Hall {
    fn attach<'a>(&'a self, room: &'a RoomName, request: AttachRequest) -> Attaching<'a> {
        Box::pin(async move {
            assert!(request.hidden && !request.grants.publish, "a recorder only listens");
            let (events, events_out) = async_channel::bounded(1_000);
            let (media, media_out) = async_channel::bounded(1_000);
            let taps = Arc::new(Mutex::new(Vec::new()));
            let mut rooms = self.rooms.lock().unwrap();
            let there = rooms.entry(room.clone()).or_default();
            if there.closed {
                return Err(JoinError::new(ErrorKind::Overloaded, "closed for this test"));
            }
            let roster = ServerMessage::Roster { seq: there.seq, participants: there.participants.clone() };
            events.try_send(AttachEvent::Control(roster)).unwrap();
            there.attached.push(Attached { events, media, taps: taps.clone() });
            let keys = self.keys.clone();
            let say = move |command| {
                match command {
                    // A track that is tapped anew is asked for a key frame.
                    AttachCommand::Tap(wanted) => {
                        let mut taps = taps.lock().unwrap();
                        let new = wanted.iter().map(|t| t.track).filter(|t| !taps.contains(t));
                        keys.lock().unwrap().extend(new.filter(|t| t.source == Source::Camera));
                        *taps = wanted.iter().map(|t| t.track).collect();
                    }
                    AttachCommand::Keyframe { track, .. } => drop(keys.lock().unwrap().insert(track)),
                    _ => {}
                }
                true
            };
            Ok(Place {
                id: request.id,
                key: ParticipantKey(9_999),
                events: events_out,
                media: media_out,
                say: Arc::new(say),
                hold: Box::new(()),
            })
        })
    }
}

/// Somebody who says a tone.
pub(crate) struct Speaker {
    hall: Hall,
    track: TrackKey,
    tone: Tone,
    encoder: Encoder,
    seq: u64,
    /// Frames of 20 ms, said or not.
    frame: u64,
    due: Instant,
    /// Every packet that was sent.
    pub(crate) sent: Vec<Arc<[u8]>>,
}

impl Speaker {
    pub(crate) fn new(hall: &Hall, key: u32, hertz: f64) -> Self {
        let opus = OpusConfig { bitrate_bps: 64_000, ..OpusConfig::default() };
        Self {
            hall: hall.clone(),
            track: TrackKey { participant: ParticipantKey(key), source: Source::Microphone },
            tone: Tone::new(48_000, hertz, -12.0),
            encoder: Encoder::new(AudioCodec::Opus, 48_000, opus).unwrap(),
            seq: u64::from(key) * 10_000,
            frame: u64::from(key) * 10_000,
            due: Instant::now(),
            sent: Vec::new(),
        }
    }

    /// Another connection: other numbers.
    pub(crate) fn reconnected(mut self, key: u32) -> Self {
        self.track.participant = ParticipantKey(key);
        (self.seq, self.frame) = (u64::from(key) * 10_000, u64::from(key) * 10_000);
        self.due = Instant::now();
        self
    }

    /// Speaks in a room for so long.
    pub(crate) async fn speak(&mut self, room: &str, length: Duration) {
        self.due = self.due.max(Instant::now());
        let until = self.due + length;
        while self.due < until {
            tokio::time::sleep_until(self.due).await;
            let (numbers, payload) = self.say();
            let packet = self.hall.captured(self.track, OPUS, numbers, payload);
            self.hall.packet(room, &Arc::new(packet));
            self.due += Duration::from_millis(20);
        }
    }

    /// 20 ms of the tone, as a packet: its numbers, and its payload.
    fn say(&mut self) -> ((u64, u64), Arc<[u8]>) {
        let (mut pcm, mut payload) = (Vec::new(), Vec::new());
        self.tone.append(960, &mut pcm);
        self.encoder.encode(&pcm[..], &mut payload).unwrap();
        let payload: Arc<[u8]> = payload.into();
        self.sent.push(payload.clone());
        let numbers = (self.seq, self.frame * 960);
        self.seq += 1;
        self.frame += 1;
        (numbers, payload)
    }

    /// Speaks for so many frames of 20 ms; `way` says of each, counted from 0, how long its packet is on the way. `None`: it is not spoken,
    /// nothing is sent, and time goes on (DTX). Returns when the last has come.
    pub(crate) async fn speak_over(
        &mut self,
        room: &str,
        frames: u32,
        mut way: impl FnMut(u32) -> Option<Duration>,
    ) {
        let began = Instant::now();
        let mut on_the_way = Vec::new();
        for n in 0..frames {
            match way(n) {
                Some(delay) => on_the_way.push((began + Duration::from_millis(20) * n + delay, self.say())),
                None => self.frame += 1,
            }
        }
        on_the_way.sort_by_key(|(arrives, _)| *arrives);
        for (arrives, (numbers, payload)) in on_the_way {
            tokio::time::sleep_until(arrives).await;
            self.hall.packet(room, &Arc::new(self.hall.captured(self.track, OPUS, numbers, payload)));
        }
    }
}

const OPUS: Codec = Codec::Audio(AudioCodec::Opus);

/// Everything in a folder, with length and time of the last change.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
            let meta = entry.metadata().unwrap();
            found.push((entry.path(), meta.len(), meta.modified().unwrap()));
        }
    }
    found.sort();
    found
}

pub(crate) fn room(name: &str) -> RoomName {
    RoomName::new(name).unwrap()
}

pub(crate) fn participant(name: &str) -> ParticipantId {
    ParticipantId::new(name).unwrap()
}

pub(crate) fn contact(id: &str) -> ContactId {
    ContactId::new(id).unwrap()
}

pub(crate) fn entered(recorder: &Recorder, room: &str, participant: &str, given: Option<&ContactId>) {
    let as_whom = given.map_or(Entered::Anew, Entered::As);
    recorder.entered(&self::room(room), &self::participant(participant), as_whom);
}

pub(crate) async fn store(backend: Backend, config: Config) -> Store {
    let keys = Arc::new(LocalKeys::new("default", Secret([7; 32])));
    let (store, problems) = Store::open(backend, keys, config, 1_000).await.unwrap();
    assert!(problems.is_empty());
    store
}

pub(crate) fn on() -> Settings {
    Settings { enabled: true, ..Settings::default() }
}

pub(crate) fn limits() -> Limits {
    Limits { streams: 3, absence: Duration::from_secs(10), ..Limits::default() }
}

/// A hall, a store in memory, a recorder.
pub(crate) async fn rig() -> (Hall, Store, Recorder) {
    let (hall, store) = (Hall::new(), store(Backend::memory(), Config::default()).await);
    let recorder = Recorder::new(store.clone(), hall.clone(), on(), limits());
    (hall.in_step(), store, recorder)
}

pub(crate) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}
