//! What streaming costs: so many contacts speak for ten seconds of virtual time, and the processor time of that is told.
//! `cargo run --release -p antiphon-record --example load -- 100 [both]`; with `both` what they hear is kept, too.

#![expect(clippy::unwrap_used, reason = "a program that measures ends where something is wrong")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use antiphon_base::{AudioCodec, Codec, ParticipantId, ParticipantKey, RoomName, Source, TrackKey};
use antiphon_media::audio::{Encoder, OpusConfig};
use antiphon_media::synth::Tone;
use antiphon_record::{ContactId, Entered, Limits, Options, Recorder, Settings};
use antiphon_shard::{AttachEvent, AttachRequest, Attaching, Door, Place};
use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::{Backend, Config, Store};
use antiphon_wire::control::{ParticipantInfo, ParticipantKind, Presence, ServerMessage, TrackInfo};
use antiphon_wire::rtp::{Descriptor, Packet};

const SECONDS: u64 = 10;
const CODEC: Codec = Codec::Audio(AudioCodec::Opus);

/// Two people in each room: a contact, and whom it hears.
#[derive(Clone, Default)]
struct Rooms(Arc<Mutex<Vec<async_channel::Sender<Arc<Packet>>>>>);

fn person(key: u32) -> ParticipantInfo {
    ParticipantInfo {
        id: ParticipantId::new(&format!("p{key}")).unwrap(),
        key: ParticipantKey(key),
        name: String::new(),
        kind: ParticipantKind::WebRtc,
        presence: Presence::Connected,
        held: false,
        tracks: vec![TrackInfo { source: Source::Microphone, codec: CODEC, muted: false, layers: 1 }],
    }
}

impl Door for Rooms {
    fn attach<'a>(&'a self, _: &'a RoomName, request: AttachRequest) -> Attaching<'a> {
        Box::pin(async move {
            let (events, events_out) = async_channel::bounded(4);
            let (media, media_out) = async_channel::bounded(1_000);
            let roster = ServerMessage::Roster { seq: 0, participants: vec![person(1), person(2)] };
            events.try_send(AttachEvent::Control(roster)).unwrap();
            self.0.lock().unwrap().push(media);
            let (say, hold) = (Arc::new(|_| true), Box::new(events));
            Ok(Place {
                id: request.id,
                key: ParticipantKey(9),
                events: events_out,
                media: media_out,
                say,
                hold,
            })
        })
    }
}

fn now_us() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn packets() -> Vec<Arc<[u8]>> {
    let mut encoder = Encoder::new(AudioCodec::Opus, 48_000, OpusConfig::default()).unwrap();
    let mut tone = Tone::new(48_000, 440.0, -12.0);
    let one = |_| {
        let (mut pcm, mut payload) = (Vec::new(), Vec::new());
        tone.append(960, &mut pcm);
        encoder.encode(&pcm[..], &mut payload).unwrap();
        payload.into()
    };
    (0..SECONDS * 50).map(one).collect()
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let contacts: usize = args.next().map_or(100, |n| n.parse().unwrap());
    let options = Options { to_customer: args.next().is_some(), ..Options::default() };
    let keys = Arc::new(LocalKeys::new("default", Secret([7; 32])));
    let (store, _) = Store::open(Backend::memory(), keys, Config::default(), now_us() / 1_000).await.unwrap();
    let rooms = Rooms::default();
    let settings = Settings { enabled: true, ..Settings::default() };
    let limits = Limits { streams: contacts, ..Limits::default() };
    let recorder = Recorder::new(store.clone(), rooms.clone(), settings, limits);
    let packets = packets();
    let (base, base_us) = (tokio::time::Instant::now(), now_us());
    for i in 0..contacts {
        let contact = ContactId::new(&format!("c{i}")).unwrap();
        let room = RoomName::new(&format!("r{i}")).unwrap();
        recorder.entered(&room, &ParticipantId::new("p1").unwrap(), Entered::As(&contact));
        recorder.start(&contact, options.clone()).await.unwrap();
    }
    let began = Instant::now();
    for (i, payload) in (0_u64..).zip(&packets) {
        let arrival_us = base_us + u64::try_from(base.elapsed().as_micros()).unwrap();
        for participant in [ParticipantKey(1), ParticipantKey(2)] {
            let packet = Arc::new(Packet {
                track: TrackKey { participant, source: Source::Microphone },
                layer: 0,
                codec: CODEC,
                seq: i,
                rtp_time: i * 960,
                marker: false,
                payload: payload.clone(),
                arrival: began,
                arrival_us,
                capture_us: arrival_us,
                capture_estimated: false,
                audio_level: None,
                descriptor: Descriptor::parse(CODEC, payload),
                dependency: None,
                spatial_layers: 1,
            });
            rooms.0.lock().unwrap().iter().for_each(|media| drop(media.try_send(packet.clone())));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed().as_secs_f64();
    recorder.close().await;
    let share = took / f64::from(u32::try_from(SECONDS).unwrap()) * 100.0;
    println!("{contacts} contacts: {share:.1} % of a core; {:?}", store.stats());
}
