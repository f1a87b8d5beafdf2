//! The encoder of a bot's raw pictures, on a thread of its own; the latest picture wins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use antiphon_base::{ErrorKind, PixelFormat, Source, VideoCodec};
use antiphon_media::video::{EncodeError, EncoderConfig};
use antiphon_media::worker::{self, Reply, Request, Worker};
use antiphon_shard::{Clock, OutPacket};
use antiphon_wire::bot::BotEvent;
use antiphon_wire::control::ErrorBody;

use super::track::OutTrack;
use crate::mailbox::Mailbox;

/// Frames per second that the bitrate is divided by.
const RATE: u32 = 30;
/// What a bot's fault in its pictures is told at most so often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// A raw picture from a bot: `message[payload_at..]` is the picture.
pub(crate) struct RawPicture {
    pub(crate) format: PixelFormat,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) message: bytes::Bytes,
    pub(crate) payload_at: usize,
}

/// Where encoded packets go.
pub(crate) type SendPackets = Box<dyn Fn(Vec<OutPacket>) + Send>;

/// A running encoder. Dropping it ends the thread after the picture at hand.
pub(crate) struct PictureEncoder {
    codec: VideoCodec,
    pictures: async_channel::Sender<RawPicture>,
    keyframe: Arc<AtomicBool>,
    bitrate: Arc<AtomicU32>,
}

struct Work {
    pictures: async_channel::Receiver<RawPicture>,
    keyframe: Arc<AtomicBool>,
    /// Bits per second; 0: by size.
    bitrate: Arc<AtomicU32>,
    mailbox: Arc<Mailbox>,
    clock: Clock,
    send: SendPackets,
    codec: VideoCodec,
    track: OutTrack,
    worker: Worker,
    started: Instant,
    complained: Option<Instant>,
}

impl PictureEncoder {
    /// Starts a thread. `waiting` pictures may wait. `None` where the codec cannot be encoded or no thread is to be had.
    pub(crate) fn start(
        source: Source,
        codec: VideoCodec,
        waiting: usize,
        mailbox: Arc<Mailbox>,
        clock: Clock,
        send: SendPackets,
    ) -> Option<Self> {
        let (pictures, receiver) = async_channel::bounded(waiting.max(1));
        let keyframe = Arc::new(AtomicBool::new(false));
        let bitrate = Arc::new(AtomicU32::new(0));
        let work = Work {
            pictures: receiver,
            keyframe: Arc::clone(&keyframe),
            bitrate: Arc::clone(&bitrate),
            mailbox,
            clock,
            send,
            codec,
            track: OutTrack::video(source, codec)?,
            worker: Worker::default(),
            started: Instant::now(),
            complained: None,
        };
        std::thread::Builder::new().name(format!("show-{}", source.as_str())).spawn(|| work.run()).ok()?;
        Some(Self { codec, pictures, keyframe, bitrate })
    }

    /// The codec it was started for.
    pub(crate) fn codec(&self) -> VideoCodec {
        self.codec
    }

    /// The next picture; if too many wait, the oldest goes.
    pub(crate) fn picture(&self, picture: RawPicture) {
        // Fails only when the thread is gone.
        drop(self.pictures.force_send(picture));
    }

    /// The next picture is to be a keyframe.
    pub(crate) fn keyframe(&self) {
        self.keyframe.store(true, Ordering::Relaxed);
    }

    /// Bits per second; `None`: by size.
    pub(crate) fn set_bitrate(&self, bitrate: Option<u32>) {
        self.bitrate.store(bitrate.unwrap_or(0), Ordering::Relaxed);
    }
}

impl Work {
    fn run(mut self) {
        while let Ok(picture) = self.pictures.recv_blocking() {
            if let Err(error) = self.show(&picture) {
                self.complain(&error);
            }
        }
    }

    fn show(&mut self, raw: &RawPicture) -> Result<(), EncodeError> {
        let now = Instant::now();
        let Some(data) = self.encode(raw, now)? else { return Ok(()) };
        match self.track.picture(now, self.clock.us(now), &data) {
            Ok(packets) => (self.send)(packets),
            Err(error) => tracing::warn!(%error, "encoded picture is not sent"),
        }
        Ok(())
    }

    fn encode(&mut self, raw: &RawPicture, now: Instant) -> Result<Option<Vec<u8>>, EncodeError> {
        let (width, height, format) = (raw.width, raw.height, raw.format);
        let data = Arc::from(raw.message.get(raw.payload_at..).unwrap_or_default());
        let asked = self.bitrate.load(Ordering::Relaxed);
        let by_size = || EncoderConfig::for_size(width, height, RATE).bitrate_bps;
        let pts = now.saturating_duration_since(self.started).as_micros() * 9 / 100;
        let force_key = self.keyframe.swap(false, Ordering::Relaxed);
        let reply = self.worker.handle(Request::Encode {
            codec: self.codec,
            picture: worker::RawPicture { width, height, format, data },
            pts_90k: u64::try_from(pts).unwrap_or(u64::MAX),
            fps: RATE,
            bitrate_bps: if asked > 0 { asked } else { by_size() },
            force_key,
        });
        match reply {
            Reply::Encoded(encoded) => Ok(Some(encoded.data)),
            Reply::EncodeFailed(error) => Err(error),
            _ => {
                self.keyframe.fetch_or(force_key, Ordering::Relaxed);
                Ok(None)
            }
        }
    }

    fn complain(&mut self, error: &EncodeError) {
        let now = Instant::now();
        if self.complained.is_some_and(|at| now.duration_since(at) < COMPLAINT_INTERVAL) {
            return;
        }
        self.complained = Some(now);
        let code = match error {
            EncodeError::Size(_) => ErrorKind::BadRequest,
            EncodeError::Unsupported(_) => ErrorKind::UnsupportedCodec,
            EncodeError::Library(_) => ErrorKind::Internal,
        };
        let message = format!("the picture was not sent: {error}; H.264 takes even widths and heights only");
        let event = BotEvent::Error { error: ErrorBody { code, message }, fatal: false };
        self.mailbox.with(|o| o.event(&event));
    }
}
