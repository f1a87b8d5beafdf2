//! Bots in a room of real shards, without sockets: what one says and shows, another hears and sees.

use std::time::{Duration, Instant};

use antiphon_base::{ParticipantId, PixelFormat, RoomName, Source, VideoCodec};
use antiphon_bot::{Bots, Carrier, Identity, Inbound, Limits, Outbound, connection, demo};
use antiphon_media::convert::{Converter, Fit};
use antiphon_media::picture::{Colour, I420, Picture};
use antiphon_media::synth::{self, Tone, draw_frame_number, read_frame_number};
use antiphon_media::video::{Encoder, EncoderConfig};
use antiphon_shard::{Config, Grants, Shards};
use antiphon_wire::bot::{BotEvent, StreamForm};
use antiphon_wire::frame::{self, Format, Header};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn shards() -> Shards {
    let media = "127.0.0.1:0".parse().expect("an address");
    Shards::start(Config { media, shards: 1, ..Config::default() }).expect("loopback ports are to be had")
}

fn identity(name: &str) -> Identity {
    let id = ParticipantId::new(name).expect("a name");
    Identity { id, name: name.into(), grants: Grants { publish: true, subscribe: true, moderate: false } }
}

/// A bot's own end.
struct Bot {
    carrier: Carrier,
    serving: tokio::task::JoinHandle<()>,
}

enum Got {
    Event(BotEvent),
    Frame(Header, Vec<u8>),
    Close(u16),
}

impl Bot {
    async fn join(bots: &Bots, name: &str, session: &str) -> Self {
        let (transport, carrier) = connection();
        let (bots, identity) = (bots.clone(), identity(name));
        let room = RoomName::new("hall").expect("a name");
        let serving = tokio::spawn(async move { bots.serve(room, identity, transport).await });
        let mut bot = Self { carrier, serving };
        bot.text(&format!(r#"{{"type":"start","protocol":1,"session":{session}}}"#)).await;
        bot.until(|got| matches!(got, Got::Event(BotEvent::Started { .. })).then_some(())).await;
        bot
    }

    async fn text(&self, text: &str) {
        self.carrier.inbound.send(Inbound::Text(text.into())).await.expect("the session runs");
    }

    async fn frame(&self, source: Source, format: Format, payload: &[u8]) {
        let header = Header::of_bot(source, format);
        self.carrier.inbound.send(Inbound::frame(&header, payload)).await.expect("the session runs");
    }

    async fn speak(&self, samples: &[i16]) {
        let count = u32::try_from(samples.len()).expect("small");
        let format = Format::Pcm { sample_rate: 48_000, channels: 1, samples: count };
        let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        self.frame(Source::Microphone, format, &bytes).await;
    }

    async fn next(&mut self) -> Got {
        let message = tokio::time::timeout(PATIENCE, self.carrier.outbound.recv()).await;
        match message.expect("a message comes in time").expect("the session runs") {
            Outbound::Close { code, .. } => Got::Close(code),
            Outbound::Binary { mut head, payload } => {
                head.extend_from_slice(&payload);
                let (header, payload) = frame::parse(&head).expect("a whole frame");
                Got::Frame(header, payload.to_vec())
            }
            text @ Outbound::Text(_) => Got::Event(text.event().expect("an event")),
        }
    }

    /// Reads until `found` says so.
    async fn until<T>(&mut self, mut found: impl FnMut(Got) -> Option<T>) -> T {
        loop {
            if let Some(result) = found(self.next().await) {
                return result;
            }
        }
    }
}

fn pcm(payload: &[u8]) -> impl Iterator<Item = i16> + '_ {
    payload.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]))
}

/// Cycles per second: the median over frames. Where the machine has stalled, frames are left out, and a window of several of
/// them has crossings more at each seam: on a full machine the median over tenths of a second was 631 Hz of a tone of 600.
fn frequency(samples: &[i16]) -> f64 {
    let mut found: Vec<f64> = samples.chunks_exact(320).filter_map(|c| synth::frequency(c, 16_000)).collect();
    found.sort_by(f64::total_cmp);
    found[found.len() / 2]
}

fn tone(freq: f64, seconds: usize) -> Vec<i16> {
    let mut samples = Vec::new();
    Tone::new(48_000, freq, -12.0).append(48_000 * seconds, &mut samples);
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tone_is_heard_mixed_and_unmixed_on_time() {
    let shards = shards();
    let bots = Bots::new(shards.clone(), Limits::default());
    let mut listener =
        Bot::join(&bots, "listener", r#"{"audio":{"direction":"recvonly","mixed":"dominant"}}"#).await;
    let speaker = Bot::join(&bots, "speaker", r#"{"audio":{"direction":"sendonly"}}"#).await;
    speaker.speak(&tone(440.0, 3)).await;
    let (mut unmixed, mut mixed, mut ages) = (Vec::new(), Vec::new(), Vec::new());
    listener
        .until(|got| {
            let Got::Frame(header, payload) = got else { return None };
            assert_eq!(payload.len(), 640);
            assert!(
                header.clocks.capture_us > 0 && header.clocks.arrival_us > 0 && header.clocks.media_us > 0
            );
            if header.silence || header.speakers.first().is_none_or(|s| s.level > 40) {
                return None;
            }
            let samples = if header.mixed { &mut mixed } else { &mut unmixed };
            samples.extend(pcm(&payload));
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            ages.push(
                u64::try_from(now.as_micros()).expect("small").saturating_sub(header.clocks.arrival_us),
            );
            (mixed.len().min(unmixed.len()) > 32_000).then_some(())
        })
        .await;
    for samples in [&unmixed, &mixed] {
        let measured = frequency(&samples[8_000..]);
        assert!((measured - 440.0).abs() < 4.4, "{measured} Hz");
    }
    ages.sort_unstable();
    let median = ages[ages.len() / 2];
    // The target, 30 ms (p99), is measured by the bench on a quiet machine; tests share theirs.
    println!("age of an audio frame: median {median} us, p99 {} us", ages[ages.len() * 99 / 100]);
    assert!(median <= 500_000, "{median} us");
    assert_eq!(bots.metrics().bots, 2);
    drop((listener.carrier, speaker.carrier));
    listener.serving.await.expect("no panic");
    speaker.serving.await.expect("no panic");
    assert_eq!(bots.metrics(), antiphon_bot::BotMetrics::default());
    shards.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_arrive_in_another_format_with_their_numbers() {
    let shards = shards();
    let bots = Bots::new(shards.clone(), Limits::default());
    let mut viewer =
        Bot::join(&bots, "viewer", r#"{"camera":{"direction":"recvonly","form":"i420","height":180}}"#).await;
    let shower = Bot::join(&bots, "shower", r#"{"camera":{"direction":"sendonly"}}"#).await;
    let showing = tokio::spawn(async move {
        let mut clock = tokio::time::interval(Duration::from_millis(33));
        let mut converter = Converter::new();
        for number in 0..300u16 {
            clock.tick().await;
            let mut picture = Picture::black(640, 360).expect("small");
            draw_frame_number(&mut picture, number);
            let rgb = converter.convert(&picture.view(), PixelFormat::Rgb24, Fit::Native).expect("small");
            let format = Format::Picture {
                format: PixelFormat::Rgb24,
                width: 640,
                height: 360,
                source_width: 640,
                source_height: 360,
            };
            shower.frame(Source::Camera, format, &rgb.data).await;
        }
    });
    let mut numbers = Vec::new();
    let started = viewer
        .until(|got| match got {
            Got::Event(BotEvent::StreamStarted { stream, form: StreamForm::Picture { .. }, .. }) => {
                Some(stream)
            }
            _ => None,
        })
        .await;
    viewer
        .until(|got| {
            let Got::Frame(header, payload) = got else { return None };
            assert_eq!(header.stream, started);
            let view = I420::from_tight(320, 180, &payload, Colour::default()).expect("320x180");
            numbers.push(read_frame_number(&view).expect("a number"));
            (numbers.len() >= 30).then_some(())
        })
        .await;
    assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{numbers:?}");
    showing.abort();
    shards.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_bot_greets_shows_and_echoes() {
    let shards = shards();
    let bots = Bots::new(shards.clone(), Limits::default());
    let room = RoomName::new("hall").expect("a name");
    let demo = tokio::spawn(demo::run(bots.clone(), room, identity("demo")));
    let session = r#"{"audio":{"direction":"sendrecv"},"camera":{"direction":"recvonly"}}"#;
    let mut guest = Bot::join(&bots, "guest", session).await;
    let (mut pictures, mut chimed) = (0, false);
    guest
        .until(|got| {
            if let Got::Frame(header, _) = got {
                pictures +=
                    u32::from(matches!(header.format, Format::Picture { width: 640, height: 360, .. }));
                chimed |= header.speakers.first().is_some_and(|s| s.level < 40);
            }
            (pictures >= 5 && chimed).then_some(())
        })
        .await;
    // The chime is over when nothing was heard for half a second.
    let mut quiet = 0;
    guest
        .until(|got| {
            if let Got::Frame(header, _) = got
                && header.source == Source::Microphone
            {
                quiet = if header.speakers.first().is_none_or(|s| s.level > 70) { quiet + 1 } else { 0 };
            }
            (quiet >= 25).then_some(())
        })
        .await;
    let said = Instant::now();
    guest.speak(&tone(600.0, 1)).await;
    let mut echo = Vec::new();
    let heard = guest
        .until(|got| {
            if let Got::Frame(header, payload) = got
                && header.speakers.first().is_some_and(|s| s.level < 40)
            {
                echo.extend(pcm(&payload));
            }
            (echo.len() >= 8_000).then(Instant::now)
        })
        .await;
    let after = heard.duration_since(said);
    assert!((Duration::from_millis(1_300)..Duration::from_millis(2_300)).contains(&after), "{after:?}");
    let measured = frequency(&echo[1_600..]);
    assert!((measured - 600.0).abs() < 6.0, "{measured} Hz");
    demo.abort();
    shards.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_ends_only_its_sender() {
    let shards = shards();
    let bots = Bots::new(shards.clone(), Limits::default());
    let mut good = Bot::join(&bots, "good", r#"{"audio":{"direction":"recvonly"}}"#).await;
    let mut bad = Bot::join(&bots, "bad", r#"{"audio":{"direction":"sendonly"}}"#).await;
    bad.carrier.inbound.send(Inbound::Binary(vec![7; 99].into())).await.expect("the session runs");
    let mut told = false;
    let code = bad
        .until(|got| match got {
            Got::Event(BotEvent::Error { fatal, .. }) => {
                told = fatal;
                None
            }
            Got::Close(code) => Some(code),
            _ => None,
        })
        .await;
    assert!(told && code == 4400);
    bad.serving.await.expect("no panic");
    let left = |got| matches!(got, Got::Event(BotEvent::ParticipantLeft { .. })).then_some(());
    good.until(left).await;
    good.text(r#"{"type":"stats","id":9}"#).await;
    good.until(|got| matches!(got, Got::Event(BotEvent::Stats { id: 9, .. })).then_some(())).await;
    shards.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_screen_begins_is_seen_and_ends() {
    let shards = shards();
    let bots = Bots::new(shards.clone(), Limits::default());
    let mut viewer = Bot::join(&bots, "viewer", r#"{"screen":{"direction":"recvonly"}}"#).await;
    let sharer = Bot::join(&bots, "sharer", r#"{"screen":{"direction":"sendonly"}}"#).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let sharing = tokio::spawn(async move {
        let config = EncoderConfig::for_size(640, 360, 30);
        let mut encoder = Encoder::new(VideoCodec::H264, config).expect("built in");
        let mut clock = tokio::time::interval(Duration::from_millis(33));
        let format = Format::EncodedVideo { codec: VideoCodec::H264, width: 640, height: 360 };
        let mut stopped = std::pin::pin!(stopped);
        for number in 0u16.. {
            tokio::select! {
                _ = clock.tick() => {}
                _ = &mut stopped => break,
            }
            let mut picture = Picture::black(640, 360).expect("small");
            draw_frame_number(&mut picture, number);
            let unit = encoder.encode(&picture.view(), u64::from(number) * 3_000, number % 10 == 0);
            if let Some(unit) = unit.expect("a picture") {
                sharer.frame(Source::Screen, format, &unit.data).await;
            }
        }
        sharer.text(r#"{"type":"update","id":1,"session":{"screen":{"direction":"inactive"}}}"#).await;
        sharer
    });
    let mut events = Vec::new();
    let mut numbers = Vec::new();
    viewer
        .until(|got| {
            match got {
                Got::Event(event) => events.push(event),
                Got::Frame(header, payload) => {
                    assert_eq!(header.source, Source::Screen);
                    let view = I420::from_tight(640, 360, &payload, Colour::default()).expect("640x360");
                    numbers.push(read_frame_number(&view).expect("a number"));
                }
                Got::Close(code) => panic!("{code}"),
            }
            (numbers.len() >= 20).then_some(())
        })
        .await;
    assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{numbers:?}");
    assert!(events.iter().any(|e| matches!(e, BotEvent::ScreenStarted { .. })), "{events:?}");
    stop.send(()).expect("the sharer runs");
    let (mut screen, mut stream) = (false, false);
    viewer
        .until(|got| {
            if let Got::Event(event) = got {
                screen |= matches!(event, BotEvent::ScreenStopped { .. });
                if let BotEvent::StreamEnded { stats: s } = event {
                    let dropped = s.dropped_slow + s.dropped_rate + s.dropped_undecodable;
                    assert_eq!(s.received, s.delivered + dropped + s.queued, "{s:?}");
                    stream = true;
                }
            }
            (screen && stream).then_some(())
        })
        .await;
    drop(sharing.await.expect("no panic"));
    shards.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_does_not_read_loses_its_own_pictures_only() {
    let shards = shards();
    let bots = Bots::new(shards.clone(), Limits::default());
    let camera = r#"{"camera":{"direction":"recvonly"}}"#;
    let mut slow = Bot::join(&bots, "slow", camera).await;
    let mut quick = Bot::join(&bots, "quick", camera).await;
    let shower = Bot::join(&bots, "shower", r#"{"camera":{"direction":"sendonly"}}"#).await;
    let showing = tokio::spawn(async move {
        let mut clock = tokio::time::interval(Duration::from_millis(33));
        // What a stalled machine makes up for at once is faster than the session's rate, and left out.
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let picture = Picture::black(320, 180).expect("small");
        let (width, height) = (320, 180);
        let format = PixelFormat::I420;
        let format = Format::Picture { format, width, height, source_width: width, source_height: height };
        loop {
            clock.tick().await;
            shower.frame(Source::Camera, format, picture.data()).await;
        }
    });
    let mut seen = 0;
    quick
        .until(|got| {
            if let Got::Frame(header, _) = got {
                assert_eq!(header.dropped_before, 0);
                seen += 1;
            }
            (seen >= 60).then_some(())
        })
        .await;
    // Now the slow one reads: a few old pictures that were on their way, then a hole, then the latest.
    let mut before = None;
    let hole = slow
        .until(|got| {
            let Got::Frame(header, _) = got else { return None };
            let expected = before.map_or(0, |b| b + 1);
            assert_eq!(header.sequence, expected + header.dropped_before, "the counts are exact");
            before = Some(header.sequence);
            (header.dropped_before > 0).then_some(header.dropped_before)
        })
        .await;
    assert!(hole >= 30, "{hole}");
    showing.abort();
    shards.stop().await;
}
