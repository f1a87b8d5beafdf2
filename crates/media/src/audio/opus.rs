//! Opus by libopus 1.5 or later, mono. Stereo packets are mixed down by the decoder.

use ::opus::{Application, Bitrate, Channels, packet};

use super::{Error, MAX_PACKET_MS};
use crate::resample::{RATES, UnsupportedRate};

/// The longest packet we make: a 60 ms frame at 128 kbit/s has below 1000 bytes; this fits one datagram.
const MAX_ENCODED_BYTES: usize = 1200;

/// Samples in one packet at 48 kHz; 0 where it does not parse.
pub(super) fn packet_duration(bytes: &[u8]) -> u32 {
    let samples = if bytes.is_empty() { Ok(0) } else { packet::get_nb_samples(bytes, 48_000) };
    samples.ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

fn check_rate(rate: u32) -> Result<(), Error> {
    if RATES.contains(&rate) { Ok(()) } else { Err(UnsupportedRate { from: 48_000, to: rate }.into()) }
}

pub(super) struct Decoder {
    library: ::opus::Decoder,
    rate: u32,
}

impl Decoder {
    pub(super) fn new(rate: u32) -> Result<Self, Error> {
        check_rate(rate)?;
        let library = ::opus::Decoder::new(rate, Channels::Mono).map_err(|_| Error::Library)?;
        Ok(Self { library, rate })
    }

    pub(super) fn decode(&mut self, bytes: &[u8], out: &mut Vec<i16>) -> Result<usize, Error> {
        let most = (self.rate / 1000 * MAX_PACKET_MS) as usize;
        self.run(bytes, most, false, out)
    }

    pub(super) fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) {
        self.in_steps(&[], samples, false, out);
    }

    pub(super) fn decode_fec(&mut self, next: &[u8], samples: usize, out: &mut Vec<i16>) {
        self.in_steps(next, samples, true, out);
    }

    /// libopus conceals multiples of 2.5 ms, up to 120 ms at once.
    fn in_steps(&mut self, bytes: &[u8], samples: usize, fec: bool, out: &mut Vec<i16>) {
        let end = out.len() + samples;
        let step = (self.rate / 400) as usize;
        let most = (self.rate / 1000 * MAX_PACKET_MS) as usize;
        while out.len() < end {
            let want = (end - out.len()).next_multiple_of(step).min(most);
            if self.run(bytes, want, fec, out).is_err() {
                out.resize(end, 0);
            }
        }
        out.truncate(end);
    }

    fn run(&mut self, bytes: &[u8], room: usize, fec: bool, out: &mut Vec<i16>) -> Result<usize, Error> {
        let start = out.len();
        out.resize(start + room, 0);
        let result = self.library.decode(bytes, &mut out[start..], fec);
        let samples = result.as_ref().copied().unwrap_or(0);
        out.truncate(start + samples);
        result.map_err(|_| Error::Corrupt).and_then(|n| if n == 0 { Err(Error::Corrupt) } else { Ok(n) })
    }
}

/// How Opus encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderConfig {
    /// Target in bits per second; 6,000 to 128,000.
    pub bitrate_bps: u32,
    /// Send nothing in silence (packets of at most two bytes, which the caller drops).
    pub dtx: bool,
    /// Put a copy of each frame at low rate into the next packet, for this expected loss in percent. 0: none.
    pub fec_loss_percent: u8,
}

impl Default for EncoderConfig {
    /// Voice as browsers send it: 32 kbit/s, with redundancy for 5 % loss, without DTX.
    fn default() -> Self {
        Self { bitrate_bps: 32_000, dtx: false, fec_loss_percent: 5 }
    }
}

pub(super) struct Encoder {
    library: ::opus::Encoder,
    rate: u32,
}

impl Encoder {
    pub(super) fn new(rate: u32, config: EncoderConfig) -> Result<Self, Error> {
        check_rate(rate)?;
        let bitrate = i32::try_from(config.bitrate_bps.clamp(6_000, 128_000)).expect("clamped");
        let library = (|| {
            let mut library = ::opus::Encoder::new(rate, Channels::Mono, Application::Voip)?;
            library.set_bitrate(Bitrate::Bits(bitrate))?;
            library.set_inband_fec(config.fec_loss_percent > 0)?;
            library.set_packet_loss_perc(i32::from(config.fec_loss_percent.min(100)))?;
            library.set_dtx(config.dtx)?;
            library.set_complexity(COMPLEXITY)?;
            Ok::<_, ::opus::Error>(library)
        })();
        Ok(Self { library: library.map_err(|_| Error::Library)?, rate })
    }

    pub(super) fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) -> Result<usize, Error> {
        let tick = (self.rate / 100) as usize;
        if ![1, 2, 4, 6].contains(&(samples.len() / tick)) || !samples.len().is_multiple_of(tick) {
            return Err(Error::FrameLength(samples.len()));
        }
        let start = out.len();
        out.resize(start + MAX_ENCODED_BYTES, 0);
        let result = self.library.encode(samples, &mut out[start..]);
        out.truncate(start + result.as_ref().copied().unwrap_or(0));
        result.map_err(|_| Error::Library)
    }
}

/// 5 of 10: the mixer's cost is encoding, and above 5 the gain for voice is not heard.
const COMPLEXITY: i32 = 5;
