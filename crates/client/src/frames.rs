//! Frames as a program gets them: header fields by name, the participant looked up, the payload shared.

use std::sync::Arc;

use antiphon_base::{AudioCodec, Clocks, Codec, PixelFormat, Source, VideoCodec};
use antiphon_wire::bot::BotEvent;
use antiphon_wire::control::ParticipantInfo;
use antiphon_wire::frame::{self, Format, FrameError, Header};
use antiphon_wire::topic::Message;
use tokio_tungstenite::tungstenite::Bytes;

use crate::roster::Roster;

/// What a room delivers.
#[derive(Debug, Clone)]
pub enum Event {
    /// 20 ms of PCM.
    Audio(AudioFrame),
    /// A raw picture.
    Video(VideoFrame),
    /// An access unit as its sender coded it.
    Encoded(EncodedFrame),
    /// Somebody sent a message on a topic that the bot listens to.
    Data(Data),
    /// Something happened: roster, dominant speakers, streams, queues.
    Room(BotEvent),
}

/// A message on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// Whose, by the server's word; `None`: the roster does not know the number.
    pub sender: Option<Arc<ParticipantInfo>>,
    /// Topic, payload, and how it was sent.
    pub message: Message,
    /// Messages of its kind (lossy or not) that were lost since the one before, on the way or here.
    pub lost_before: u32,
}

/// What all frames have.
#[derive(Debug, Clone)]
pub struct Meta {
    /// Whose; `None` in a mix, or before the roster has told.
    pub participant: Option<Arc<ParticipantInfo>>,
    /// What it comes from.
    pub source: Source,
    /// Number of the stream: one per participant, source and form.
    pub stream: u32,
    /// +1 for each frame of the stream, dropped ones included.
    pub sequence: u32,
    /// When it was captured, arrived, and where it stands in the session.
    pub clocks: Clocks,
    /// Frames of this stream dropped since the previous one that the program got.
    pub dropped_before: u32,
    /// Something was lost on the way to the server: concealment, or a hole before this frame.
    pub gap: bool,
}

/// Somebody heard in a frame.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// Who, if the roster knows.
    pub participant: Option<Arc<ParticipantInfo>>,
    /// -dBov (RFC 6464): 0 the loudest, 127 silence.
    pub level: u8,
}

/// 20 ms of PCM.
#[derive(Debug, Clone)]
pub struct AudioFrame {
    /// Whose and when.
    pub meta: Meta,
    /// Interleaved samples.
    pub samples: Vec<i16>,
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Who is heard, loudest first.
    pub speakers: Vec<Speaker>,
    /// Nothing was sent.
    pub silence: bool,
    /// A mix of several participants.
    pub mixed: bool,
}

/// One raw picture.
#[derive(Debug, Clone)]
pub struct VideoFrame {
    /// Whose and when.
    pub meta: Meta,
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
    /// Pixels across before scaling.
    pub source_width: u16,
    /// Pixels down before scaling.
    pub source_height: u16,
    /// Layout of `data`.
    pub format: PixelFormat,
    /// The picture: a part of the received message, not a copy.
    pub data: Bytes,
}

/// One access unit.
#[derive(Debug, Clone)]
pub struct EncodedFrame {
    /// Whose and when.
    pub meta: Meta,
    /// Codec of `data`.
    pub codec: Codec,
    /// A decoder can start here.
    pub key: bool,
    /// Pixels across; 0 while not known, and for audio.
    pub width: u16,
    /// Pixels down; 0 while not known, and for audio.
    pub height: u16,
    /// The access unit: a part of the received message, not a copy.
    pub data: Bytes,
}

/// A frame that has come and waits to be taken.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) header: Header,
    pub(crate) payload: Bytes,
}

/// Reads a binary message.
pub(crate) fn parse(message: &Bytes) -> Result<Received, FrameError> {
    let (header, payload) = frame::parse(message)?;
    let payload = message.slice_ref(payload);
    Ok(Received { header, payload })
}

impl Received {
    /// The frame for the program; `lost` more were dropped here.
    pub(crate) fn into_event(self, roster: &Roster, lost: u32) -> Event {
        let Self { header, payload } = self;
        let meta = Meta {
            participant: roster.at(header.participant),
            source: header.source,
            stream: header.stream,
            sequence: header.sequence,
            clocks: header.clocks,
            dropped_before: header.dropped_before.saturating_add(lost),
            gap: header.gap,
        };
        let encoded = |codec, meta, (width, height)| {
            Event::Encoded(EncodedFrame {
                meta,
                codec,
                key: header.key,
                width,
                height,
                data: payload.clone(),
            })
        };
        match header.format {
            Format::Pcm { sample_rate, channels, .. } => Event::Audio(AudioFrame {
                meta,
                samples: payload.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect(),
                sample_rate,
                channels,
                speakers: header
                    .speakers
                    .iter()
                    .map(|s| Speaker { participant: roster.at(s.participant), level: s.level })
                    .collect(),
                silence: header.silence,
                mixed: header.mixed,
            }),
            Format::Picture { format, width, height, source_width, source_height } => {
                Event::Video(VideoFrame {
                    meta,
                    width,
                    height,
                    source_width,
                    source_height,
                    format,
                    data: payload,
                })
            }
            Format::EncodedAudio { codec, .. } => encoded(Codec::Audio(codec), meta, (0, 0)),
            Format::EncodedVideo { codec, width, height } => {
                encoded(Codec::Video(codec), meta, (width, height))
            }
        }
    }
}

/// A header of the bot's own.
pub(crate) fn own(source: Source, format: Format, sequence: u32) -> Header {
    Header { sequence, ..Header::of_bot(source, format) }
}

impl AudioFrame {
    /// Samples per channel.
    pub fn len(&self) -> usize {
        self.samples.len() / usize::from(self.channels.max(1))
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

impl EncodedFrame {
    /// The codec, if this is audio.
    pub fn audio_codec(&self) -> Option<AudioCodec> {
        if let Codec::Audio(codec) = self.codec { Some(codec) } else { None }
    }

    /// The codec, if this is video.
    pub fn video_codec(&self) -> Option<VideoCodec> {
        if let Codec::Video(codec) = self.codec { Some(codec) } else { None }
    }
}
