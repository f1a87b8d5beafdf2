//! One connection on tokio: feeds the [`Session`] and does what it says. Encoding sound is done here (a tenth of a
//! millisecond per frame); pictures are encoded on threads of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::{AudioCodec, Codec, ErrorKind, RoomName, Source, VideoCodec};
use antiphon_media::audio::{Encoder, OpusConfig};
use antiphon_media::mix::level_dbov;
use antiphon_media::resample::Resampler;
use antiphon_shard::{AttachCommand, AttachRequest, JoinError, OutPacket, Place, Say};
use antiphon_wire::bot::{BotEvent, MediaSession};
use antiphon_wire::control::{ErrorBody, ParticipantKind, Request};

use crate::bots::{Identity, Seat, Shared};
use crate::inject::picture::{PictureEncoder, RawPicture};
use crate::inject::player::{RATE, Spoken, Upsample};
use crate::inject::track::OutTrack;
use crate::mailbox::Mailbox;
use crate::room::run::Command;
use crate::session::{Action, Session, Standing};
use crate::transport::{Inbound, Outbound, Transport};

/// How long a bot may take to read what was said before its connection was closed.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Bits per second of the bot's voice: music passes well.
const VOICE_BITRATE: u32 = 48_000;
/// Our own requests, whose replies nobody waits for. Sessions count from 1.
const NO_REPLY: u32 = 0;
/// The level said of packets that we did not encode: as loud as speech.
const UNKNOWN_LEVEL: u8 = 30;

/// [`Resampler`]s as the player uses them.
#[derive(Default)]
struct Upsampler(Option<Resampler>);

impl Upsample for Upsampler {
    fn upsample(&mut self, rate: u32, input: &[i16], out: &mut Vec<i16>) {
        if self.0.as_ref().is_none_or(|r| r.from_rate() != rate) {
            self.0 = Resampler::new(rate, RATE).ok();
        }
        if let Some(resampler) = &mut self.0 {
            resampler.process(input, out);
        }
    }

    fn reset(&mut self) {
        self.0 = None;
    }
}

/// What sends one source.
enum Sender {
    Voice { encoder: Encoder, track: OutTrack },
    Packets(OutTrack),
    Pictures(PictureEncoder),
}

struct Connection {
    shared: Arc<Shared>,
    room: RoomName,
    identity: Identity,
    mailbox: Arc<Mailbox>,
    session: Session,
    /// Before the seat: a bot leaves the room before the room's thread may end.
    place: Option<Place>,
    seat: Option<Seat>,
    senders: [Option<Sender>; 4],
}

/// Runs one connection to its end.
pub(crate) async fn serve(shared: &Arc<Shared>, room: RoomName, identity: Identity, transport: Transport) {
    let now = Instant::now();
    let mailbox = Arc::new(Mailbox::new(shared.limits.clone(), shared.clock.us(now)));
    let upsample = || -> Box<dyn Upsample> { Box::new(Upsampler::default()) };
    let session = Session::new(now, shared.limits.clone(), identity.grants, upsample);
    let pump = tokio::spawn(pump(Arc::clone(&mailbox), transport.outbound));
    let mut connection = Connection {
        shared: Arc::clone(shared),
        room,
        identity,
        mailbox,
        session,
        place: None,
        seat: None,
        senders: [const { None }; 4],
    };
    connection.run(&transport.inbound, &pump).await;
    drop(connection);
    let abort = pump.abort_handle();
    if tokio::time::timeout(LAST_WORDS, pump).await.is_err() {
        abort.abort();
    }
}

/// Carries messages to the bot, as fast as it takes them.
async fn pump(mailbox: Arc<Mailbox>, outbound: async_channel::Sender<Outbound>) {
    loop {
        let message = mailbox.next().await;
        let last = matches!(message, Outbound::Close { .. });
        if outbound.send(message).await.is_err() || last {
            return;
        }
    }
}

/// The next event of an attachment, if there is one.
async fn event(place: Option<&Place>) -> Option<antiphon_shard::AttachEvent> {
    match place {
        Some(place) => place.events.recv().await.ok(),
        None => std::future::pending().await,
    }
}

impl Connection {
    async fn run(&mut self, inbound: &async_channel::Receiver<Inbound>, pump: &tokio::task::JoinHandle<()>) {
        let mut check = tokio::time::interval(Duration::from_secs(1));
        while !self.session.is_closed() {
            let due = self.session.due();
            let timer = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into());
            tokio::select! {
                biased;
                () = timer, if due.is_some() => self.session.handle_timeout(Instant::now()),
                event = event(self.place.as_ref()) => match event {
                    Some(event) => self.session.room_event(event),
                    None => self.session.lost(),
                },
                message = inbound.recv() => match message {
                    Ok(Inbound::Text(text)) => self.session.text(Instant::now(), &text),
                    Ok(Inbound::Binary(bytes)) => self.session.binary(Instant::now(), &bytes),
                    Err(_) => self.session.hung_up(),
                },
                // The mailbox may have closed the connection by itself: the bot did not read.
                _ = check.tick() => if pump.is_finished() { self.session.hung_up() },
            }
            while let Some(action) = self.session.poll() {
                self.act(action).await;
            }
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Attach { name } => {
                let result = self.attach(name).await;
                self.session.attached(result);
            }
            Action::Event(event) => self.mailbox.with(|o| o.event(&event)),
            Action::Data(message) => self.mailbox.with(|o| o.data(message)),
            Action::Publish(publication) => {
                if let Some(place) = &self.place {
                    // What the shard's full inbox does not take is lost, and counted there.
                    (place.say)(AttachCommand::Publish(publication));
                }
            }
            Action::Listen(media) => self.listen(media).await,
            Action::Speak { source, spoken } => self.speak(source, &spoken),
            Action::SpeakOpus { source, packet } => self.speak_opus(source, &packet),
            Action::Show { source, codec, bitrate, picture } => self.show(source, codec, bitrate, picture),
            Action::ShowEncoded { source, codec, unit } => self.show_encoded(source, codec, &unit),
            Action::EncodeKeyframe { source } => {
                if let Some(Sender::Pictures(encoder)) = &self.senders[source.index()] {
                    encoder.keyframe();
                }
            }
            Action::EndTrack { source } => self.end_track(source),
            Action::Request { id, request } => self.request(id, request),
            Action::AskKeyframe { id, stream } => {
                if let Some(seat) = &self.seat {
                    let mailbox = Arc::clone(&self.mailbox);
                    let command = Command::Keyframe { id: seat.id, stream, reply: id, mailbox };
                    let _ = seat.commands.send(command).await;
                }
            }
            Action::Stats { id } => self.mailbox.with(|o| {
                let streams = o.stats();
                o.event(&BotEvent::Stats { id, streams });
            }),
            Action::Close { code, reason } => self.mailbox.with(|o| o.close(code, reason)),
        }
    }

    async fn attach(&mut self, name: Option<String>) -> Result<Standing, JoinError> {
        self.seat = Some(self.shared.seat(&self.room)?);
        let request = AttachRequest {
            id: self.identity.id.clone(),
            name: name.unwrap_or_else(|| self.identity.name.clone()),
            kind: ParticipantKind::Bot,
            grants: self.identity.grants,
            hidden: false,
        };
        let place = self.shared.door.attach(&self.room, request).await?;
        let standing = Standing {
            id: place.id.clone(),
            key: place.key,
            room: self.room.clone(),
            epoch_us: self.mailbox.with(|o| o.epoch_us()),
        };
        self.place = Some(place);
        Ok(standing)
    }

    async fn listen(&mut self, media: MediaSession) {
        let (Some(seat), Some(place)) = (&self.seat, &self.place) else { return };
        let mailbox = Arc::clone(&self.mailbox);
        let command = Command::Listen { id: seat.id, bot: place.key, media: Box::new(media), mailbox };
        // The room's thread outlives its seats; it may be busy for a moment.
        let _ = seat.commands.send(command).await;
    }

    fn say(&self) -> Option<Say> {
        self.place.as_ref().map(|p| Arc::clone(&p.say))
    }

    fn send(&self, packets: impl IntoIterator<Item = OutPacket>) {
        if let Some(place) = &self.place {
            for packet in packets {
                // What the shard does not take is lost like any packet, and counted there.
                (place.say)(AttachCommand::Send(packet));
            }
        }
    }

    fn request(&self, id: u32, request: Request) {
        let sent = self.place.as_ref().is_some_and(|p| (p.say)(AttachCommand::Request { id, request }));
        if !sent && id != NO_REPLY {
            let message = "the server is busy: ask again".into();
            let error = Some(ErrorBody { code: ErrorKind::Overloaded, message });
            self.mailbox.with(|o| o.event(&BotEvent::Reply { id, error }));
        }
    }

    fn end_track(&mut self, source: Source) {
        if self.senders[source.index()].take().is_some() {
            self.request(NO_REPLY, Request::Publish { source, active: false, hint: None });
        }
    }

    fn speak(&mut self, source: Source, spoken: &Spoken) {
        if !matches!(self.senders[source.index()], Some(Sender::Voice { .. })) {
            self.end_track(source);
            let opus = OpusConfig { bitrate_bps: VOICE_BITRATE, ..OpusConfig::default() };
            match Encoder::new(AudioCodec::Opus, RATE, opus) {
                Ok(encoder) => {
                    let track = OutTrack::audio(source);
                    self.senders[source.index()] = Some(Sender::Voice { encoder, track });
                }
                Err(error) => return tracing::error!(%error, "no encoder for a bot's voice"),
            }
        }
        let Some(Sender::Voice { encoder, track }) = &mut self.senders[source.index()] else { return };
        let mut packet = Vec::new();
        if let Err(error) = encoder.encode(&spoken.samples[..], &mut packet) {
            return tracing::error!(%error, "a bot's voice is not encoded");
        }
        let now_us = self.shared.clock.us(Instant::now());
        let level = level_dbov(&spoken.samples[..]);
        let packet = track.sound(spoken.due, now_us, &packet, spoken.first, level);
        self.send([packet]);
    }

    fn speak_opus(&mut self, source: Source, packet: &[u8]) {
        if !matches!(self.senders[source.index()], Some(Sender::Packets(_))) {
            self.end_track(source);
            self.senders[source.index()] = Some(Sender::Packets(OutTrack::audio(source)));
        }
        let Some(Sender::Packets(track)) = &mut self.senders[source.index()] else { return };
        let now = Instant::now();
        let packet = track.sound(now, self.shared.clock.us(now), packet, false, UNKNOWN_LEVEL);
        self.send([packet]);
    }

    fn show(&mut self, source: Source, codec: VideoCodec, bitrate: Option<u32>, picture: RawPicture) {
        let fits = |s: &Sender| matches!(s, Sender::Pictures(e) if e.codec() == codec);
        if !self.senders[source.index()].as_ref().is_some_and(fits) {
            self.end_track(source);
            let Some(say) = self.say() else { return };
            let send = move |packets: Vec<OutPacket>| {
                for packet in packets {
                    say(AttachCommand::Send(packet));
                }
            };
            let (waiting, mailbox) = (self.shared.limits.encode_pictures, Arc::clone(&self.mailbox));
            let clock = self.shared.clock;
            let started = PictureEncoder::start(source, codec, waiting, mailbox, clock, Box::new(send));
            self.senders[source.index()] = started.map(Sender::Pictures);
        }
        if let Some(Sender::Pictures(encoder)) = &self.senders[source.index()] {
            encoder.set_bitrate(bitrate);
            encoder.picture(picture);
        }
    }

    fn show_encoded(&mut self, source: Source, codec: VideoCodec, unit: &[u8]) {
        let fits = |s: &Sender| matches!(s, Sender::Packets(t) if t.codec() == Codec::Video(codec));
        if !self.senders[source.index()].as_ref().is_some_and(fits) {
            self.end_track(source);
            self.senders[source.index()] = OutTrack::video(source, codec).map(Sender::Packets);
        }
        let Some(Sender::Packets(track)) = &mut self.senders[source.index()] else { return };
        let now = Instant::now();
        match track.picture(now, self.shared.clock.us(now), unit) {
            Ok(packets) => self.send(packets),
            Err(error) => {
                let error = ErrorBody { code: ErrorKind::BadRequest, message: error.to_string() };
                self.mailbox.with(|o| o.event(&BotEvent::Error { error, fatal: false }));
            }
        }
    }
}
