//! G.711 mu-law and A-law (8 kHz) and G.722 at 64 kbit/s (16 kHz), with resampling and simple concealment.

use antiphon_base::AudioCodec;
use audio_codec::g722::{Bitrate, G722Decoder, G722Encoder};
use audio_codec::pcma::{PcmaDecoder, PcmaEncoder};
use audio_codec::pcmu::{PcmuDecoder, PcmuEncoder};

use super::{Error, MAX_PACKET_MS};
use crate::resample::Resampler;

fn native_rate(codec: AudioCodec) -> u32 {
    if codec == AudioCodec::G722 { 16_000 } else { 8_000 }
}

pub(super) struct Decoder {
    library: Box<dyn audio_codec::Decoder>,
    rate: u32,
    resampler: Resampler,
    native: Vec<i16>,
    concealment: Concealment,
}

impl Decoder {
    pub(super) fn new(codec: AudioCodec, rate: u32) -> Result<Self, Error> {
        let library: Box<dyn audio_codec::Decoder> = match codec {
            AudioCodec::Pcmu => Box::new(PcmuDecoder::new()),
            AudioCodec::Pcma => Box::new(PcmaDecoder::new()),
            _ => Box::new(G722Decoder::with_options(Bitrate::Mode1_64000, false, false)),
        };
        let resampler = Resampler::new(native_rate(codec), rate)?;
        Ok(Self { library, rate, resampler, native: Vec::new(), concealment: Concealment::default() })
    }

    pub(super) fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<usize, Error> {
        // 8 bytes per millisecond in all three.
        if packet.len() > MAX_PACKET_MS as usize * 8 {
            return Err(Error::Corrupt);
        }
        self.native.resize(self.library.max_decode_samples(packet.len()), 0);
        let samples = self.library.decode_into(packet, &mut self.native).map_err(|_| Error::Corrupt)?;
        let start = out.len();
        self.resampler.process(&self.native[..samples], out);
        self.concealment.heard(&out[start..], self.rate);
        Ok(out.len() - start)
    }

    pub(super) fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) {
        self.concealment.fill(samples, out);
    }
}

/// Repeats the last 20 ms, halved each time, forwards and backwards so that no repetition starts with a step;
/// after three repetitions silence. (G.711 Appendix I repeats pitch periods; this is its plain relative.)
#[derive(Default)]
struct Concealment {
    last: Vec<i16>,
    played: usize,
}

impl Concealment {
    fn heard(&mut self, samples: &[i16], rate: u32) {
        let keep = (rate / 50) as usize;
        let tail = samples.len().saturating_sub(keep);
        self.last.extend_from_slice(&samples[tail..]);
        let excess = self.last.len().saturating_sub(keep);
        self.last.drain(..excess);
        self.played = 0;
    }

    fn fill(&mut self, samples: usize, out: &mut Vec<i16>) {
        let len = self.last.len();
        for _ in 0..samples {
            let round = self.played.checked_div(len).unwrap_or(3);
            if round >= 3 {
                out.push(0);
                continue;
            }
            let at = self.played % len;
            let index = if round.is_multiple_of(2) { len - 1 - at } else { at };
            out.push(self.last[index] >> (round + 1));
            self.played += 1;
        }
    }
}

pub(super) struct Encoder {
    library: Box<dyn audio_codec::Encoder>,
    resampler: Resampler,
    native: Vec<i16>,
}

impl Encoder {
    pub(super) fn new(codec: AudioCodec, rate: u32) -> Result<Self, Error> {
        let library: Box<dyn audio_codec::Encoder> = match codec {
            AudioCodec::Pcmu => Box::new(PcmuEncoder::new()),
            AudioCodec::Pcma => Box::new(PcmaEncoder::new()),
            _ => Box::new(G722Encoder::with_options(Bitrate::Mode1_64000, false, false)),
        };
        Ok(Self { library, resampler: Resampler::new(rate, native_rate(codec))?, native: Vec::new() })
    }

    pub(super) fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) -> usize {
        self.native.clear();
        self.resampler.process(samples, &mut self.native);
        let packet = self.library.encode(&self.native);
        out.extend_from_slice(&packet);
        packet.len()
    }
}
