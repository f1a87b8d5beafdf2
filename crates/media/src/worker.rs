//! The message boundary of video work: what the media side asks, and what comes back.
//!
//! [`Worker`] is a plain function from [`Request`] to [`Reply`], owned by whoever runs it: a thread of `bot`. Nothing but
//! these values crosses. Behind it AV1 is decoded in a process of its own ([`crate::video::process`]).

use std::sync::Arc;

use antiphon_base::{PixelFormat, VideoCodec};

use crate::convert::{Converted, Converter, Fit, to_i420};
use crate::picture::{Picture, SizeError};
use crate::video::{DecodeError, Decoder, Decoders, EncodeError, EncodedPicture, Encoder, EncoderConfig};

/// The most output formats of one decoded track: every pixel format at every height offered.
pub const MAX_OUTPUTS: usize = 20;

/// What a reader wants of a decoded track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Layout.
    pub format: PixelFormat,
    /// Size.
    pub fit: Fit,
}

/// A picture to encode.
#[derive(Debug, Clone)]
pub struct RawPicture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Layout of `data`.
    pub format: PixelFormat,
    /// [`PixelFormat::bytes`] bytes.
    pub data: Arc<[u8]>,
}

/// Work to do, for one track.
#[derive(Debug, Clone)]
pub enum Request {
    /// Decode an access unit and give it in each of `outputs` (at most [`MAX_OUTPUTS`]).
    Decode {
        /// Codec; a change starts a new decoder.
        codec: VideoCodec,
        /// The access unit.
        unit: Arc<[u8]>,
        /// Units are missing before this one.
        gap: bool,
        /// What is wanted; may be empty, then only the decoder's state moves.
        outputs: Vec<Output>,
    },
    /// Encode a picture. A change of codec, size or frame rate starts a new encoder with a key frame.
    Encode {
        /// Codec.
        codec: VideoCodec,
        /// The picture.
        picture: RawPicture,
        /// Presentation time, 90 kHz, growing.
        pts_90k: u64,
        /// Frames per second.
        fps: u32,
        /// Target in bits per second.
        bitrate_bps: u32,
        /// Make it a key frame.
        force_key: bool,
    },
}

/// What came of a [`Request`].
#[derive(Debug, Clone)]
pub enum Reply {
    /// The picture in each asked output, in order, with its size in the stream.
    Decoded {
        /// Pixels across, as sent.
        source_width: u32,
        /// Pixels down, as sent.
        source_height: u32,
        /// One per output.
        outputs: Vec<Result<Converted, SizeError>>,
    },
    /// The unit was not to be shown.
    NothingShown,
    /// No picture. On [`DecodeError::NeedKeyFrame`] and [`DecodeError::Corrupt`] ask the sender for a key frame.
    DecodeFailed(DecodeError),
    /// The access unit.
    Encoded(EncodedPicture),
    /// The rate control left the frame out.
    NotEncoded,
    /// The picture or the encoder was refused.
    EncodeFailed(EncodeError),
}

/// One track's decoder or encoder behind the message boundary.
#[derive(Default)]
pub struct Worker {
    decoders: Decoders,
    decoder: Option<Decoder>,
    converters: Vec<Converter>,
    encoder: Option<(VideoCodec, Encoder)>,
    picture: Option<Picture>,
}

impl Worker {
    /// A worker that has done nothing yet.
    pub fn new(decoders: Decoders) -> Self {
        Self { decoders, ..Self::default() }
    }

    /// Does one piece of work; may take tens of milliseconds.
    pub fn handle(&mut self, request: Request) -> Reply {
        match request {
            Request::Decode { codec, unit, gap, outputs } => {
                self.decode(codec, &unit, gap, &outputs).unwrap_or_else(Reply::DecodeFailed)
            }
            Request::Encode { codec, picture, pts_90k, fps, bitrate_bps, force_key } => {
                let (width, height) = (picture.width, picture.height);
                let config = EncoderConfig { width, height, fps, bitrate_bps };
                match self.encode(codec, config, &picture, pts_90k, force_key) {
                    Ok(Some(encoded)) => Reply::Encoded(encoded),
                    Ok(None) => Reply::NotEncoded,
                    Err(error) => Reply::EncodeFailed(error),
                }
            }
        }
    }

    fn decode(
        &mut self,
        codec: VideoCodec,
        unit: &[u8],
        gap: bool,
        outputs: &[Output],
    ) -> Result<Reply, DecodeError> {
        let decoder = match self.decoder.take() {
            Some(decoder) if decoder.codec() == codec => self.decoder.insert(decoder),
            _ => self.decoder.insert(self.decoders.open(codec)?),
        };
        if gap {
            decoder.lost();
        }
        let Some(view) = decoder.decode(unit)? else { return Ok(Reply::NothingShown) };
        let outputs = &outputs[..outputs.len().min(MAX_OUTPUTS)];
        self.converters.resize_with(outputs.len(), Converter::new);
        let convert = |(converter, output): (&mut Converter, &Output)| {
            converter.convert(&view, output.format, output.fit)
        };
        let converted = self.converters.iter_mut().zip(outputs).map(convert).collect();
        Ok(Reply::Decoded { source_width: view.width(), source_height: view.height(), outputs: converted })
    }

    fn encode(
        &mut self,
        codec: VideoCodec,
        config: EncoderConfig,
        raw: &RawPicture,
        pts_90k: u64,
        force_key: bool,
    ) -> Result<Option<EncodedPicture>, EncodeError> {
        let fits = |codec_made: &VideoCodec, made: &EncoderConfig| {
            *codec_made == codec
                && (made.width, made.height, made.fps) == (config.width, config.height, config.fps)
        };
        let mut encoder = match self.encoder.take() {
            Some((made, encoder)) if fits(&made, encoder.config()) => encoder,
            _ => Encoder::new(codec, config)?,
        };
        if encoder.config().bitrate_bps != config.bitrate_bps {
            encoder.set_bitrate(config.bitrate_bps)?;
        }
        let encoder = &mut self.encoder.insert((codec, encoder)).1;
        let mut picture = self.picture.take().map_or_else(|| Picture::black(2, 2), Ok)?;
        to_i420(raw.format, (raw.width, raw.height), &raw.data, &mut picture)?;
        let encoded = encoder.encode(&picture.view(), pts_90k, force_key);
        self.picture = Some(picture);
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{draw_frame_number, read_frame_number};

    fn encode(worker: &mut Worker, codec: VideoCodec, number: u16, format: PixelFormat) -> EncodedPicture {
        let mut picture = Picture::black(320, 180).expect("small");
        draw_frame_number(&mut picture, number);
        let data = Converter::new().convert(&picture.view(), format, Fit::Native).expect("small").data;
        let request = Request::Encode {
            codec,
            picture: RawPicture { width: 320, height: 180, format, data },
            pts_90k: u64::from(number) * 3000,
            fps: 30,
            bitrate_bps: 1_000_000,
            force_key: number == 3,
        };
        match worker.handle(request) {
            Reply::Encoded(encoded) => encoded,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_raw_picture_goes_in_and_comes_out_at_the_other_worker() {
        for codec in [VideoCodec::Vp8, VideoCodec::H264] {
            let (mut sender, mut receiver) = (Worker::default(), Worker::default());
            let outputs = vec![
                Output { format: PixelFormat::I420, fit: Fit::Native },
                Output { format: PixelFormat::Rgb24, fit: Fit::Height(360) },
            ];
            for number in 0..6 {
                let encoded = encode(&mut sender, codec, number, PixelFormat::Rgb24);
                assert_eq!(encoded.key, number == 0 || number == 3);
                let (unit, outputs) = (encoded.data.into(), outputs.clone());
                let Reply::Decoded { source_width, source_height, outputs } =
                    receiver.handle(Request::Decode { codec, unit, gap: false, outputs })
                else {
                    panic!("{codec:?} {number}")
                };
                assert_eq!((source_width, source_height), (320, 180));
                let native = outputs[0].as_ref().expect("native");
                let view = crate::picture::I420::from_tight(320, 180, &native.data, Default::default());
                assert_eq!(read_frame_number(&view.expect("tight")), Some(number));
                assert_eq!(outputs[1].as_ref().expect("scaled").data.len(), 640 * 360 * 3);
            }
        }
    }

    #[test]
    fn failures_are_replies() {
        let mut worker = Worker::default();
        let decode =
            |codec| Request::Decode { codec, unit: vec![1; 9].into(), gap: true, outputs: Vec::new() };
        assert!(matches!(
            worker.handle(decode(VideoCodec::Av1)),
            Reply::DecodeFailed(DecodeError::Unsupported(VideoCodec::Av1))
        ));
        assert!(matches!(
            worker.handle(decode(VideoCodec::Vp8)),
            Reply::DecodeFailed(DecodeError::NeedKeyFrame)
        ));
        let picture =
            RawPicture { width: 16, height: 16, format: PixelFormat::Rgba, data: vec![0; 5].into() };
        let request = Request::Encode {
            codec: VideoCodec::Vp8,
            picture,
            pts_90k: 0,
            fps: 30,
            bitrate_bps: 100_000,
            force_key: false,
        };
        assert!(matches!(worker.handle(request), Reply::EncodeFailed(EncodeError::Size(_))));
    }
}
