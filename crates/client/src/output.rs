//! What the bot says and shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antiphon_base::{PixelFormat, Source, VideoCodec};
use antiphon_wire::bot::{BotEvent, BotMessage};
use antiphon_wire::frame::Format;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::error::Error;
use crate::frames::{VideoFrame, own};
use crate::pace::Verdict;
use crate::shared::{Shared, Voice, lock};

/// Chunks per second: the first words of a long speech start at once, and a flush stops the rest.
const CHUNKS_PER_SECOND: u32 = 10;

/// Everything pushed before a mark was played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkPlayed {
    /// Number of the first sample after the mark, since the bot began to send.
    pub sample: u64,
    /// The queue was flushed before the mark was reached.
    pub flushed: bool,
    /// When, in session media time.
    pub media_us: u64,
}

/// What became of the queue at a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// Samples played until then, since the bot began to send.
    pub played: u64,
    /// Samples thrown away.
    pub discarded: u64,
}

/// A voice: `microphone` or `screen_audio`. The server plays what is pushed at real time. Clones are the same voice.
#[derive(Clone)]
pub struct AudioOutput {
    shared: Arc<Shared>,
    voice: Arc<Voice>,
    source: Source,
    sequence: Arc<AtomicU32>,
}

impl AudioOutput {
    pub(crate) fn new(shared: &Arc<Shared>, source: Source) -> Self {
        let voice = if source == Source::Microphone { &shared.microphone } else { &shared.screen_audio };
        Self { shared: shared.clone(), voice: voice.clone(), source, sequence: Arc::default() }
    }

    /// Speaks: mono samples, any number of them. Returns when all is sent, which for long audio is up to two
    /// seconds before it is played. A [`flush`](Self::flush) meanwhile ends it.
    pub async fn push(&self, samples: &[i16], sample_rate: u32) -> Result<(), Error> {
        self.push_channels(samples, sample_rate, 1).await
    }

    /// Speaks with interleaved samples of one or two channels.
    pub async fn push_channels(&self, samples: &[i16], sample_rate: u32, channels: u8) -> Result<(), Error> {
        if ![8_000, 16_000, 24_000, 48_000].contains(&sample_rate) || !matches!(channels, 1 | 2) {
            return Err(Error::Misuse(
                "audio has 8000, 16000, 24000 or 48000 samples per second, in one or two channels",
            ));
        }
        let flushes = lock(&self.voice.pace).flushes();
        let per_chunk = (sample_rate / CHUNKS_PER_SECOND).max(1) as usize;
        let _turn = self.voice.turn.lock().await;
        for chunk in samples.chunks(per_chunk * usize::from(channels)) {
            if !self.wait_for_space(flushes).await? {
                return Ok(());
            }
            let count = u32::try_from(chunk.len() / usize::from(channels)).expect("a tenth of a second");
            let duration = Duration::from_secs(1) * count / sample_rate;
            lock(&self.voice.pace).add(Instant::now(), duration);
            let format = Format::Pcm { sample_rate, channels, samples: count };
            let payload: Vec<u8> = chunk.iter().flat_map(|s| s.to_le_bytes()).collect();
            let header = own(self.source, format, self.sequence.fetch_add(1, Ordering::Relaxed));
            self.shared.send(Message::binary(header.to_message(&payload))).await?;
        }
        Ok(())
    }

    /// Stops speaking within one frame: throws away what is queued, and what pushes in progress still hold.
    pub async fn flush(&self) -> Result<Flushed, Error> {
        lock(&self.voice.pace).flush();
        self.voice.changed.notify_waiters();
        match self.shared.request(|id| BotMessage::Flush { id, source: self.source }).await? {
            BotEvent::Flushed { played, discarded, .. } => Ok(Flushed { played, discarded }),
            other => Err(Error::Protocol(format!("a flush was answered by {other:?}"))),
        }
    }

    /// Waits until all that was pushed before has been played, or flushed.
    pub async fn mark(&self, name: Option<&str>) -> Result<MarkPlayed, Error> {
        match self.shared.mark(name, self.source).await? {
            BotEvent::MarkPlayed { sample, flushed, media_us, .. } => {
                Ok(MarkPlayed { sample, flushed, media_us })
            }
            other => Err(Error::Protocol(format!("a mark was answered by {other:?}"))),
        }
    }

    /// Holds the queue; silence goes out.
    pub async fn pause(&self) -> Result<(), Error> {
        self.shared.request(|id| BotMessage::Pause { id, source: self.source }).await?;
        lock(&self.voice.pace).pause(Instant::now());
        Ok(())
    }

    /// Goes on playing.
    pub async fn resume(&self) -> Result<(), Error> {
        self.shared.request(|id| BotMessage::Resume { id, source: self.source }).await?;
        lock(&self.voice.pace).resume(Instant::now());
        self.voice.changed.notify_waiters();
        Ok(())
    }

    /// Mutes or unmutes; others see it in the roster.
    pub async fn mute(&self, muted: bool) -> Result<(), Error> {
        self.shared.request(|id| BotMessage::Mute { id, source: self.source, muted }).await.map(drop)
    }

    /// Estimate of how much has been sent and not yet played.
    pub fn queued(&self) -> Duration {
        lock(&self.voice.pace).ahead(Instant::now())
    }

    /// `false` if a flush ended the push.
    async fn wait_for_space(&self, flushes: u64) -> Result<bool, Error> {
        loop {
            let changed = self.voice.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(why) = self.shared.ended() {
                return Err(why);
            }
            let verdict = lock(&self.voice.pace).verdict(Instant::now(), flushes);
            match verdict {
                Verdict::Go => return Ok(true),
                Verdict::Flushed => return Ok(false),
                Verdict::WaitForChange => changed.await,
                Verdict::Wait(until) => {
                    // Either way the next round decides.
                    let _ = tokio::time::timeout_at(until, changed).await;
                }
            }
        }
    }
}

/// A face or a screen. Each picture replaces the one before; the server encodes it. Clones are the same.
#[derive(Clone)]
pub struct VideoOutput {
    shared: Arc<Shared>,
    source: Source,
    sequence: Arc<AtomicU32>,
}

impl VideoOutput {
    pub(crate) fn new(shared: &Arc<Shared>, source: Source) -> Self {
        Self { shared: shared.clone(), source, sequence: Arc::default() }
    }

    /// Shows a picture: tight rows, planes one after the other ([`PixelFormat::bytes`] bytes in all).
    pub async fn push(&self, format: PixelFormat, width: u16, height: u16, data: &[u8]) -> Result<(), Error> {
        if data.len() != format.bytes(width.into(), height.into()) {
            return Err(Error::Misuse("the picture has not the size that its format says"));
        }
        let format = Format::Picture { format, width, height, source_width: width, source_height: height };
        self.send(format, false, data).await
    }

    /// Shows a picture as it was received.
    pub async fn push_frame(&self, frame: &VideoFrame) -> Result<(), Error> {
        self.push(frame.format, frame.width, frame.height, &frame.data).await
    }

    /// Shows an access unit that is encoded already: VP8, or H.264 as Annex B. Answer
    /// [`BotEvent::KeyframeNeeded`] with a keyframe.
    pub async fn push_encoded(&self, codec: VideoCodec, key: bool, data: &[u8]) -> Result<(), Error> {
        self.send(Format::EncodedVideo { codec, width: 0, height: 0 }, key, data).await
    }

    /// Mutes or unmutes; others see it in the roster.
    pub async fn mute(&self, muted: bool) -> Result<(), Error> {
        self.shared.request(|id| BotMessage::Mute { id, source: self.source, muted }).await.map(drop)
    }

    async fn send(&self, format: Format, key: bool, data: &[u8]) -> Result<(), Error> {
        let mut header = own(self.source, format, self.sequence.fetch_add(1, Ordering::Relaxed));
        header.key = key;
        self.shared.send(Message::binary(header.to_message(data))).await
    }
}
