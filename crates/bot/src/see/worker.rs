//! The thread of one video track: decoders are slow and parse hostile input, so each has its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use antiphon_base::{TrackKey, VideoCodec};
use antiphon_media::video::Decoders;
use antiphon_wire::rtp::Packet;

use super::Sink;
use super::pipeline::Pipeline;

/// Packets waiting for a worker: two seconds of 5 Mbit/s. Over it the newest is dropped and the picture torn, which
/// the assembler sees.
const WAITING_PACKETS: usize = 1_024;
/// Keyframes are asked for at most so often per track: a sender needs a round trip to answer.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(300);

/// Asks the publisher for a keyframe of a layer.
pub(crate) type AskKeyframe = Box<dyn Fn(TrackKey, u8) + Send>;

/// A running track. Dropping it ends the thread after the picture at hand.
pub(crate) struct Worker {
    codec: VideoCodec,
    packets: async_channel::Sender<Arc<Packet>>,
    sinks: Arc<Mutex<Arc<[Sink]>>>,
    keyframe: Arc<AtomicBool>,
    dropped: AtomicU64,
}

impl Worker {
    /// Starts a thread.
    pub(crate) fn start(
        track: TrackKey,
        codec: VideoCodec,
        decoders: Decoders,
        ask: AskKeyframe,
    ) -> std::io::Result<Self> {
        let (packets, receiver) = async_channel::bounded::<Arc<Packet>>(WAITING_PACKETS);
        let sinks: Arc<Mutex<Arc<[Sink]>>> = Arc::new(Mutex::new(Arc::new([])));
        let shared = Arc::clone(&sinks);
        let keyframe = Arc::new(AtomicBool::new(false));
        let wanted = Arc::clone(&keyframe);
        let pipeline = Pipeline::new(codec, decoders);
        let run =
            move || Run { track, ask, sinks: shared, keyframe: wanted, asked: None }.run(pipeline, &receiver);
        std::thread::Builder::new().name(format!("see-{track}")).spawn(run)?;
        Ok(Self { codec, packets, sinks, keyframe, dropped: AtomicU64::new(0) })
    }

    /// The codec it was started for.
    pub(crate) fn codec(&self) -> VideoCodec {
        self.codec
    }

    /// The whole set of consumers.
    pub(crate) fn set_sinks(&self, sinks: Vec<Sink>) {
        *self.sinks.lock().unwrap_or_else(PoisonError::into_inner) = sinks.into();
    }

    /// A bot wants a keyframe.
    pub(crate) fn ask_keyframe(&self) {
        self.keyframe.store(true, Ordering::Relaxed);
    }

    /// Hands a packet over without blocking.
    pub(crate) fn packet(&self, packet: Arc<Packet>) {
        if self.packets.try_send(packet).is_err() {
            let before = self.dropped.fetch_add(1, Ordering::Relaxed);
            if before.is_multiple_of(1_000) {
                tracing::warn!(dropped = before + 1, "video decoding does not keep up");
            }
        }
    }
}

/// What the thread holds.
struct Run {
    track: TrackKey,
    ask: AskKeyframe,
    sinks: Arc<Mutex<Arc<[Sink]>>>,
    keyframe: Arc<AtomicBool>,
    asked: Option<Instant>,
}

impl Run {
    fn run(mut self, mut pipeline: Pipeline, packets: &async_channel::Receiver<Arc<Packet>>) {
        while let Ok(packet) = packets.recv_blocking() {
            let sinks = Arc::clone(&self.sinks.lock().unwrap_or_else(PoisonError::into_inner));
            let needed = pipeline.packet(&packet, &sinks);
            let wanted = self.keyframe.swap(false, Ordering::Relaxed).then_some(packet.layer);
            if let Some(layer) = needed.or(wanted) {
                self.ask(layer);
            }
        }
    }

    fn ask(&mut self, layer: u8) {
        let now = Instant::now();
        if self.asked.is_none_or(|at| now.duration_since(at) >= KEYFRAME_INTERVAL) {
            self.asked = Some(now);
            (self.ask)(self.track, layer);
        }
    }
}
