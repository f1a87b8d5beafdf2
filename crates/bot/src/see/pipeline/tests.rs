use antiphon_base::{Codec, ParticipantKey, PixelFormat, Source, TrackKey};
use antiphon_media::convert::Fit;
use antiphon_media::picture::{Colour, I420, Picture};
use antiphon_media::synth::{draw_frame_number, read_frame_number};
use antiphon_media::video::{Encoder, EncoderConfig};
use antiphon_wire::bot::{StreamForm, StreamStats};
use antiphon_wire::frame::{self, Header};
use antiphon_wire::rtp::Descriptor;
use antiphon_wire::rtp::packetize::Vp8;

use super::*;
use crate::limits::Limits;
use crate::mailbox::Mailbox;
use crate::outbox::{Lane, StreamInfo};
use crate::transport::Outbound;

const TRACK: TrackKey = TrackKey { participant: ParticipantKey(3), source: Source::Camera };

/// A camera whose pictures have numbers.
struct Camera {
    encoder: Encoder,
    packetizer: Vp8,
    layer: u8,
    size: (u32, u32),
    seq: u64,
    n: u16,
}

impl Camera {
    fn new(layer: u8, size: (u32, u32)) -> Self {
        let encoder = Encoder::new(VideoCodec::Vp8, EncoderConfig::for_size(size.0, size.1, 30)).unwrap();
        Self { encoder, packetizer: Vp8::new(1), layer, size, seq: 100 * u64::from(layer), n: 0 }
    }

    fn picture(&mut self, key: bool) -> Vec<Arc<Packet>> {
        let mut picture = Picture::black(self.size.0, self.size.1).unwrap();
        draw_frame_number(&mut picture, self.n);
        let time = u64::from(self.n) * 3_000;
        self.n += 1;
        let unit = self.encoder.encode(&picture.view(), time, key).unwrap().expect("not dropped");
        let payloads = self.packetizer.packetize(&unit.data, 1_100).unwrap();
        let packet = |p: antiphon_wire::rtp::packetize::Payload| {
            self.seq += 1;
            let packet = packet(VideoCodec::Vp8, self.seq, time, &p.data);
            Arc::new(Packet { layer: self.layer, marker: p.marker, ..packet })
        };
        payloads.into_iter().map(packet).collect()
    }
}

/// The only one of its access unit.
fn packet(codec: VideoCodec, seq: u64, rtp_time: u64, payload: &[u8]) -> Packet {
    let codec = Codec::Video(codec);
    Packet {
        track: TRACK,
        layer: 0,
        codec,
        seq,
        rtp_time,
        marker: true,
        descriptor: Descriptor::parse(codec, payload),
        payload: payload.into(),
        arrival: std::time::Instant::now(),
        arrival_us: 1_000 + rtp_time * 100 / 9,
        capture_us: 500 + rtp_time * 100 / 9,
        capture_estimated: false,
        audio_level: None,
        dependency: None,
        spatial_layers: 1,
    }
}

fn sink(mailbox: &Arc<Mailbox>, output: Output) -> Sink {
    let (form, lane) = match output {
        Output::Encoded => (StreamForm::Encoded { codec: Codec::Video(VideoCodec::Vp8) }, Lane::AccessUnit),
        Output::Raw { format, .. } => (StreamForm::Picture { pixel_format: format }, Lane::Picture),
    };
    let info = StreamInfo { participant: None, source: Source::Camera, form, lane };
    Sink { mailbox: Arc::clone(mailbox), stream: mailbox.with(|o| o.start(info)), output }
}

fn raw(format: PixelFormat, fit: Fit, max_frame_rate: u8) -> Output {
    Output::Raw { format, fit, max_frame_rate }
}

fn mailbox() -> Arc<Mailbox> {
    let limits = Limits { pictures: 1_000, access_units: 1_000, ..Limits::default() };
    Arc::new(Mailbox::new(limits, 0))
}

fn frames(mailbox: &Arc<Mailbox>, stream: u32) -> Vec<(Header, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some(message) = mailbox.with(|o| o.pop()) {
        if let Outbound::Binary { mut head, payload } = message {
            head.extend_from_slice(&payload);
            let (header, payload) = frame::parse(&head).unwrap();
            if header.stream == stream {
                out.push((header, payload.to_vec()));
            }
        }
    }
    out
}

fn stats(mailbox: &Arc<Mailbox>, stream: u32) -> StreamStats {
    mailbox.with(|o| o.stats().into_iter().find(|s| s.stream == stream)).unwrap()
}

fn feed(pipeline: &mut Pipeline, packets: &[Arc<Packet>], sinks: &[Sink]) -> Option<u8> {
    packets.iter().map(|p| pipeline.packet(p, sinks)).last().flatten()
}

#[test]
fn one_track_serves_formats_sizes_and_rates_at_once() {
    let boxes = [mailbox(), mailbox(), mailbox()];
    let sinks = [
        sink(&boxes[0], raw(PixelFormat::I420, Fit::Native, 30)),
        sink(&boxes[1], raw(PixelFormat::Rgb24, Fit::Height(180), 10)),
        sink(&boxes[2], Output::Encoded),
    ];
    let (mut pipeline, mut camera) =
        (Pipeline::new(VideoCodec::Vp8, Decoders::default()), Camera::new(0, (320, 240)));
    for _ in 0..30 {
        feed(&mut pipeline, &camera.picture(false), &sinks);
    }
    let native = frames(&boxes[0], 1);
    assert_eq!(native.len(), 30);
    for (n, (header, data)) in native.iter().enumerate() {
        let view = I420::from_tight(320, 240, data, Colour::default()).unwrap();
        assert_eq!(read_frame_number(&view).map(usize::from), Some(n));
        assert_eq!(header.dropped_before, 0);
        assert!(header.clocks.capture_us < header.clocks.arrival_us && header.clocks.media_us > 0);
    }
    let counts = stats(&boxes[1], 1);
    let scaled = frames(&boxes[1], 1);
    assert_eq!(scaled.len(), 10);
    assert_eq!((counts.received, counts.dropped_rate), (30, 20));
    assert_eq!(scaled[1].0.dropped_before, 2);
    let size = Format::Picture {
        format: PixelFormat::Rgb24,
        width: 240,
        height: 180,
        source_width: 320,
        source_height: 240,
    };
    assert_eq!(scaled[1].0.format, size);
    let units = frames(&boxes[2], 1);
    assert_eq!(units.len(), 30);
    assert!(units[0].0.key && !units[1].0.key);
    assert_eq!(units[5].0.format, Format::EncodedVideo { codec: VideoCodec::Vp8, width: 320, height: 240 });
}

#[test]
fn a_loss_asks_for_a_keyframe_and_shows_nothing_torn() {
    let mailbox = mailbox();
    let sinks = [sink(&mailbox, raw(PixelFormat::I420, Fit::Native, 30))];
    let (mut pipeline, mut camera) =
        (Pipeline::new(VideoCodec::Vp8, Decoders::default()), Camera::new(0, (320, 240)));
    let mut asked = 0;
    for n in 0..60u32 {
        let packets = camera.picture(n == 40);
        if n != 10 && feed(&mut pipeline, &packets, &sinks).is_some() {
            asked += 1;
        }
    }
    assert!(asked > 0);
    let shown: Vec<u16> = frames(&mailbox, 1)
        .iter()
        .filter_map(|(_, data)| {
            read_frame_number(&I420::from_tight(320, 240, data, Colour::default()).unwrap())
        })
        .collect();
    assert_eq!(shown[..10], (0..10).collect::<Vec<u16>>());
    assert!(shown[10] >= 40 && shown.ends_with(&[58, 59]), "{shown:?}");
}

#[test]
fn a_new_layer_takes_over_at_its_keyframe() {
    let mailbox = mailbox();
    let sinks = [sink(&mailbox, raw(PixelFormat::I420, Fit::Native, 30))];
    let mut pipeline = Pipeline::new(VideoCodec::Vp8, Decoders::default());
    let (mut low, mut high) = (Camera::new(0, (320, 180)), Camera::new(1, (640, 360)));
    for _ in 0..5 {
        feed(&mut pipeline, &low.picture(false), &sinks);
        high.picture(false);
    }
    // Late packets of the old layer do no harm.
    feed(&mut pipeline, &high.picture(true), &sinks);
    feed(&mut pipeline, &low.picture(false), &sinks);
    feed(&mut pipeline, &high.picture(false), &sinks);
    let widths: Vec<u16> = frames(&mailbox, 1)
        .iter()
        .map(|(h, _)| if let Format::Picture { width, .. } = h.format { width } else { 0 })
        .collect();
    assert_eq!(widths, [320, 320, 320, 320, 320, 640, 640]);
}

#[test]
fn a_consumer_of_access_units_that_comes_late_waits_for_a_keyframe() {
    let mailbox = mailbox();
    let (mut pipeline, mut camera) =
        (Pipeline::new(VideoCodec::Vp8, Decoders::default()), Camera::new(0, (320, 240)));
    feed(&mut pipeline, &camera.picture(false), &[]);
    let sinks = [sink(&mailbox, Output::Encoded)];
    assert_eq!(feed(&mut pipeline, &camera.picture(false), &sinks), Some(0), "asked for");
    assert_eq!(feed(&mut pipeline, &camera.picture(true), &sinks), None);
    let units = frames(&mailbox, 1);
    assert_eq!(units.len(), 1);
    assert!(units[0].0.key && units[0].0.dropped_before == 1);
}

#[test]
fn a_keyframe_of_the_layer_just_left_does_not_lead_back() {
    // Both layers are tapped while they change; here the old one's keyframe ends after the new one's.
    let (mut low, mut high) = (Camera::new(0, (320, 180)), Camera::new(1, (640, 360)));
    let mailbox = mailbox();
    let sinks = [sink(&mailbox, Output::Encoded)];
    let mut pipeline = Pipeline::new(VideoCodec::Vp8, Decoders::default());
    feed(&mut pipeline, &low.picture(true), &sinks);
    high.n = low.n;
    let (late, first) = (low.picture(true), high.picture(true));
    feed(&mut pipeline, &first, &sinks);
    feed(&mut pipeline, &late, &sinks);
    // The old layer ends here; without another keyframe the new one goes on.
    for _ in 0..3 {
        feed(&mut pipeline, &high.picture(false), &sinks);
    }
    assert_eq!(stats(&mailbox, sinks[0].stream).received, 5);
}

#[test]
fn a_layer_that_follows_without_keyframe_is_asked_for_one() {
    let (mut low, mut high) = (Camera::new(0, (320, 180)), Camera::new(1, (640, 360)));
    let mailbox = mailbox();
    let sinks = [sink(&mailbox, Output::Encoded)];
    let mut pipeline = Pipeline::new(VideoCodec::Vp8, Decoders::default());
    feed(&mut pipeline, &low.picture(true), &sinks);
    high.picture(true); // Never comes.
    let mut asked = None;
    for _ in 0..10 {
        asked = asked.or(feed(&mut pipeline, &high.picture(false), &sinks));
    }
    assert_eq!(asked, Some(1));
    feed(&mut pipeline, &high.picture(true), &sinks);
    assert_eq!(stats(&mailbox, sinks[0].stream).received, 2);
}

#[cfg(feature = "av1")]
#[test]
fn a_decoder_that_keeps_dying_loses_its_pictures_and_is_not_fed_for_ever() {
    use antiphon_media::video::process::{Launch, MAX_RESTARTS};

    // A worker that ends at once: this program, looking for a test that it does not have.
    let decoders = Decoders::with_workers(Launch::this_program(&["no such test"]));
    let mut pipeline = Pipeline::new(VideoCodec::Av1, decoders.clone());
    let mailbox = mailbox();
    let sinks = [sink(&mailbox, raw(PixelFormat::I420, Fit::Native, 30))];
    // Aggregation header (W = 2, N), a sequence header after its length, a key frame.
    let key = [0x28, 2, 0x08, 0, 0x30, 0x10];
    let feed = |n| pipeline.packet(&Arc::new(packet(VideoCodec::Av1, n, n * 3_000, &key)), &sinks);
    let asked: Vec<_> = (1..=10).map(feed).collect();
    let (dying, given_up) = asked.split_at(MAX_RESTARTS + 1);
    assert!(dying.iter().all(|a| *a == Some(0)), "the next key frame may help: {asked:?}");
    assert!(given_up.iter().all(Option::is_none), "none helps now: {asked:?}");
    assert_eq!(decoders.workers().died, 1 + MAX_RESTARTS as u64);
    let counts = stats(&mailbox, sinks[0].stream);
    assert_eq!((counts.received, counts.dropped_undecodable), (10, 10));
}
