//! Frame protocol v1: one binary message = one frame = a header, the speakers, the payload.
//!
//! All numbers little endian. The payload begins at a multiple of 8. `docs/reference/frame-protocol.md` is the
//! specification; `docs/reference/frame-vectors.json` holds the bytes that every SDK's tests read.
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | u8 | version, 1 |
//! | 1 | u8 | kind: 1 PCM, 2 picture, 3 encoded audio, 4 encoded video |
//! | 2 | u8 | source: 0 microphone, 1 camera, 2 screen, 3 screen audio |
//! | 3 | u8 | flags: 1 silence, 2 gap, 4 key, 8 capture estimated, 16 mixed |
//! | 4 | u32 | stream |
//! | 8 | u32 | participant number (0: a mix, or from a bot) |
//! | 12 | u32 | sequence: +1 for each frame of the stream, dropped ones included |
//! | 16 | u64 | capture time, us since the Unix epoch |
//! | 24 | u64 | arrival time, same clock |
//! | 32 | u64 | media time, us since the session's epoch |
//! | 40 | u32 | frames of this stream dropped since the previous one delivered |
//! | 44 | u8 | format: PCM 0 s16le; picture 0 I420, 1 NV12, 2 RGB24, 3 BGR24, 4 RGBA; encoded audio 1 Opus, 2 PCMU, 3 PCMA, 4 G.722; encoded video 1 VP8, 2 H.264, 3 VP9, 4 AV1 |
//! | 45 | u8 | channels (audio), 0 (video) |
//! | 46 | u8 | number of speakers, at most 16 |
//! | 47 | u8 | 0 |
//! | 48 | u32 | audio: samples per second; video: width u16, height u16 |
//! | 52 | u32 | audio: samples per channel (0 if encoded); video: width u16, height u16 before scaling |
//! | 56 | 8 each | speakers: participant u32, level u8 (-dBov), 3 zero bytes |
//! | 56 + 8 n | | payload |

use antiphon_base::{
    AudioCodec, ClockFlags, Clocks, Codec, ParticipantKey, PixelFormat, Source, SpeakerLevel, VideoCodec,
};

/// The version this module reads and writes.
pub const VERSION: u8 = 1;
/// Bytes before the speakers.
pub const HEADER_BYTES: usize = 56;
/// Bytes per speaker.
pub const SPEAKER_BYTES: usize = 8;
/// The most speakers a frame lists.
pub const MAX_SPEAKERS: usize = 16;
/// The largest message taken from a bot: a 4096 x 2304 RGBA picture and its header.
pub const MAX_MESSAGE_BYTES: usize = 4096 * 2304 * 4 + 4096;

const FLAG_SILENCE: u8 = 1;
const FLAG_GAP: u8 = 2;
const FLAG_KEY: u8 = 4;
const FLAG_CAPTURE_ESTIMATED: u8 = 8;
const FLAG_MIXED: u8 = 16;

/// What the payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PCM s16le, interleaved.
    Pcm {
        /// Samples per second.
        sample_rate: u32,
        /// 1 or 2.
        channels: u8,
        /// Samples per channel.
        samples: u32,
    },
    /// A raw picture.
    Picture {
        /// Layout.
        format: PixelFormat,
        /// As delivered.
        width: u16,
        /// As delivered.
        height: u16,
        /// Before scaling.
        source_width: u16,
        /// Before scaling.
        source_height: u16,
    },
    /// One coded packet of audio.
    EncodedAudio {
        /// Codec.
        codec: AudioCodec,
        /// RTP clock.
        sample_rate: u32,
        /// 1 or 2.
        channels: u8,
    },
    /// One access unit of video.
    EncodedVideo {
        /// Codec.
        codec: VideoCodec,
        /// 0 where not known (no keyframe seen yet).
        width: u16,
        /// 0 where not known.
        height: u16,
    },
}

/// Everything of a frame but its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub format: Format,
    /// What from.
    pub source: Source,
    /// Number told by `stream_started`; from a bot 0.
    pub stream: u32,
    /// Whose; 0 for a mix.
    pub participant: ParticipantKey,
    /// +1 per frame, dropped ones included.
    pub sequence: u32,
    /// When.
    pub clocks: Clocks,
    /// Dropped since the previous delivered one.
    pub dropped_before: u32,
    /// Nothing was sent.
    pub silence: bool,
    /// Something was lost.
    pub gap: bool,
    /// A decoder can start here.
    pub key: bool,
    /// A mix of several.
    pub mixed: bool,
    /// Who is heard, loudest first; cut at [`MAX_SPEAKERS`].
    pub speakers: Vec<SpeakerLevel>,
}

/// Why a frame was refused; the number is the offset of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its header says.
    #[error("frame ends at {0}, before its header does")]
    Truncated(usize),
    /// Not version 1.
    #[error("version {0} is not spoken here")]
    Version(u8),
    /// A value outside its set.
    #[error("byte {value} at offset {offset} has no meaning")]
    Value {
        /// Where.
        offset: usize,
        /// What stood there.
        value: u8,
    },
    /// The payload has not the size that the format says.
    #[error("payload has {found} bytes, the format says {expected}")]
    PayloadSize {
        /// By the format.
        expected: usize,
        /// In the message.
        found: usize,
    },
}

impl Header {
    /// What a bot says of a frame of its own: everything else is what the server says, and 0.
    pub fn of_bot(source: Source, format: Format) -> Self {
        Self {
            format,
            source,
            stream: 0,
            participant: ParticipantKey(0),
            sequence: 0,
            clocks: Clocks::default(),
            dropped_before: 0,
            silence: false,
            gap: false,
            key: false,
            mixed: false,
            speakers: Vec::new(),
        }
    }

    /// Appends header and speakers to `out`; the payload follows them.
    pub fn write(&self, out: &mut Vec<u8>) {
        let speakers = &self.speakers[..self.speakers.len().min(MAX_SPEAKERS)];
        let (kind, format, channels, a, b) = self.format.fields();
        out.reserve(HEADER_BYTES + SPEAKER_BYTES * speakers.len());
        out.extend_from_slice(&[VERSION, kind, u8::try_from(self.source.index()).unwrap_or(0), self.flags()]);
        out.extend_from_slice(&self.stream.to_le_bytes());
        out.extend_from_slice(&self.participant.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.clocks.capture_us.to_le_bytes());
        out.extend_from_slice(&self.clocks.arrival_us.to_le_bytes());
        out.extend_from_slice(&self.clocks.media_us.to_le_bytes());
        out.extend_from_slice(&self.dropped_before.to_le_bytes());
        out.extend_from_slice(&[format, channels, u8::try_from(speakers.len()).unwrap_or(0), 0]);
        out.extend_from_slice(&a);
        out.extend_from_slice(&b);
        for s in speakers {
            out.extend_from_slice(&s.participant.0.to_le_bytes());
            out.extend_from_slice(&[s.level, 0, 0, 0]);
        }
    }

    /// Header and payload as one message.
    pub fn to_message(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + SPEAKER_BYTES * self.speakers.len() + payload.len());
        self.write(&mut out);
        out.extend_from_slice(payload);
        out
    }

    fn flags(&self) -> u8 {
        let bit = |on: bool, flag: u8| if on { flag } else { 0 };
        bit(self.silence, FLAG_SILENCE)
            | bit(self.gap, FLAG_GAP)
            | bit(self.key, FLAG_KEY)
            | bit(self.clocks.flags.capture_estimated, FLAG_CAPTURE_ESTIMATED)
            | bit(self.mixed, FLAG_MIXED)
    }
}

/// Splits a message into header and payload, and checks that the payload has the size its format says.
pub fn parse(message: &[u8]) -> Result<(Header, &[u8]), FrameError> {
    let fixed: &[u8; HEADER_BYTES] = message
        .get(..HEADER_BYTES)
        .and_then(|m| m.try_into().ok())
        .ok_or(FrameError::Truncated(message.len()))?;
    if fixed[0] != VERSION {
        return Err(FrameError::Version(fixed[0]));
    }
    let source =
        *Source::ALL.get(fixed[2] as usize).ok_or(FrameError::Value { offset: 2, value: fixed[2] })?;
    let format = Format::read(fixed)?;
    let count = fixed[46] as usize;
    if count > MAX_SPEAKERS {
        return Err(FrameError::Value { offset: 46, value: fixed[46] });
    }
    let start = HEADER_BYTES + SPEAKER_BYTES * count;
    let (head, payload) = message.split_at_checked(start).ok_or(FrameError::Truncated(message.len()))?;
    let speakers = head[HEADER_BYTES..]
        .chunks_exact(SPEAKER_BYTES)
        .map(|s| SpeakerLevel { participant: ParticipantKey(u32_at(s, 0)), level: s[4] })
        .collect();
    if let Some(expected) = format.payload_bytes()
        && expected != payload.len()
    {
        return Err(FrameError::PayloadSize { expected, found: payload.len() });
    }
    let flags = fixed[3];
    let header = Header {
        format,
        source,
        stream: u32_at(fixed, 4),
        participant: ParticipantKey(u32_at(fixed, 8)),
        sequence: u32_at(fixed, 12),
        clocks: Clocks {
            capture_us: u64_at(fixed, 16),
            arrival_us: u64_at(fixed, 24),
            media_us: u64_at(fixed, 32),
            flags: ClockFlags { capture_estimated: flags & FLAG_CAPTURE_ESTIMATED != 0 },
        },
        dropped_before: u32_at(fixed, 40),
        silence: flags & FLAG_SILENCE != 0,
        gap: flags & FLAG_GAP != 0,
        key: flags & FLAG_KEY != 0,
        mixed: flags & FLAG_MIXED != 0,
        speakers,
    };
    Ok((header, payload))
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

fn pair(a: u16, b: u16) -> [u8; 4] {
    let ([a0, a1], [b0, b1]) = (a.to_le_bytes(), b.to_le_bytes());
    [a0, a1, b0, b1]
}

const PIXELS: [PixelFormat; 5] =
    [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Rgb24, PixelFormat::Bgr24, PixelFormat::Rgba];
const AUDIO: [AudioCodec; 4] = [AudioCodec::Opus, AudioCodec::Pcmu, AudioCodec::Pcma, AudioCodec::G722];
const VIDEO: [VideoCodec; 4] = [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1];

/// Place of `x` in a table of at most five, plus `from`.
fn number<T: PartialEq>(table: &[T], x: &T, from: u8) -> u8 {
    let place = table.iter().position(|t| t == x).expect("the tables list every variant");
    u8::try_from(place).expect("tables are short") + from
}

impl Format {
    /// Kind, format byte, channels, and the two last words.
    fn fields(&self) -> (u8, u8, u8, [u8; 4], [u8; 4]) {
        match *self {
            Self::Pcm { sample_rate, channels, samples } => {
                (1, 0, channels, sample_rate.to_le_bytes(), samples.to_le_bytes())
            }
            Self::Picture { format, width, height, source_width, source_height } => {
                (2, number(&PIXELS, &format, 0), 0, pair(width, height), pair(source_width, source_height))
            }
            Self::EncodedAudio { codec, sample_rate, channels } => {
                (3, number(&AUDIO, &codec, 1), channels, sample_rate.to_le_bytes(), [0; 4])
            }
            Self::EncodedVideo { codec, width, height } => {
                (4, number(&VIDEO, &codec, 1), 0, pair(width, height), pair(width, height))
            }
        }
    }

    fn read(h: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let bad = |offset: usize| FrameError::Value { offset, value: h[offset] };
        let channels = || if matches!(h[45], 1 | 2) { Ok(h[45]) } else { Err(bad(45)) };
        Ok(match h[1] {
            1 if h[44] != 0 => return Err(bad(44)),
            1 => Self::Pcm { sample_rate: u32_at(h, 48), channels: channels()?, samples: u32_at(h, 52) },
            2 => Self::Picture {
                format: *PIXELS.get(h[44] as usize).ok_or(bad(44))?,
                width: u16_at(h, 48),
                height: u16_at(h, 50),
                source_width: u16_at(h, 52),
                source_height: u16_at(h, 54),
            },
            3 => Self::EncodedAudio {
                codec: *AUDIO.get((h[44] as usize).wrapping_sub(1)).ok_or(bad(44))?,
                sample_rate: u32_at(h, 48),
                channels: channels()?,
            },
            4 => Self::EncodedVideo {
                codec: *VIDEO.get((h[44] as usize).wrapping_sub(1)).ok_or(bad(44))?,
                width: u16_at(h, 48),
                height: u16_at(h, 50),
            },
            _ => return Err(bad(1)),
        })
    }

    /// Size of the payload where the format decides it.
    pub fn payload_bytes(&self) -> Option<usize> {
        match *self {
            Self::Pcm { channels, samples, .. } => (samples as usize).checked_mul(2 * channels as usize),
            Self::Picture { format, width, height, .. } => Some(format.bytes(width.into(), height.into())),
            Self::EncodedAudio { .. } | Self::EncodedVideo { .. } => None,
        }
    }

    /// The codec, if encoded.
    pub fn codec(&self) -> Option<Codec> {
        match *self {
            Self::EncodedAudio { codec, .. } => Some(Codec::Audio(codec)),
            Self::EncodedVideo { codec, .. } => Some(Codec::Video(codec)),
            Self::Pcm { .. } | Self::Picture { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(format: Format) -> Header {
        Header {
            format,
            source: Source::Camera,
            stream: 7,
            participant: ParticipantKey(3),
            sequence: 99,
            clocks: Clocks {
                capture_us: 1,
                arrival_us: u64::MAX,
                media_us: 3,
                flags: ClockFlags { capture_estimated: true },
            },
            dropped_before: 2,
            silence: false,
            gap: true,
            key: true,
            mixed: false,
            speakers: vec![SpeakerLevel { participant: ParticipantKey(3), level: 30 }],
        }
    }

    fn check(format: Format, payload: usize) {
        let h = header(format);
        let message = h.to_message(&vec![5; payload]);
        let (back, body) = parse(&message).unwrap();
        assert_eq!(back, h);
        assert_eq!(body.len(), payload);
        for cut in 0..HEADER_BYTES + SPEAKER_BYTES {
            assert!(matches!(parse(&message[..cut]), Err(FrameError::Truncated(_))));
        }
    }

    #[test]
    fn frames_round_trip() {
        check(Format::Pcm { sample_rate: 16_000, channels: 1, samples: 320 }, 640);
        for format in PIXELS {
            let f = Format::Picture { format, width: 5, height: 3, source_width: 10, source_height: 6 };
            check(f, format.bytes(5, 3));
        }
        for codec in AUDIO {
            check(Format::EncodedAudio { codec, sample_rate: 48_000, channels: 2 }, 17);
        }
        for codec in VIDEO {
            check(Format::EncodedVideo { codec, width: 640, height: 360 }, 1);
        }
    }

    #[test]
    fn any_byte_may_be_wrong() {
        let good = header(Format::Pcm { sample_rate: 16_000, channels: 1, samples: 4 }).to_message(&[0; 8]);
        for at in 0..good.len() {
            for value in [0, 1, 2, 5, 17, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = parse(&bad);
            }
        }
        let mut short = good.clone();
        short.pop();
        assert_eq!(parse(&short), Err(FrameError::PayloadSize { expected: 8, found: 7 }));
    }
}
