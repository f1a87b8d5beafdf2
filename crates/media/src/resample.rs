//! Streaming mono resampler between the rates of telephony and WebRTC: a polyphase windowed-sinc FIR.
//!
//! Rates are 8, 12, 16, 24, 48 kHz; any pair is a ratio L/M of small integers, so 20 ms in give exactly 20 ms out,
//! always, and the same input gives the same bits. The delay is [`Resampler::delay_us`] (2 ms to or from 16 kHz).
//! Own code because the libraries are built for other ends: `rubato`'s FFT resamplers delay by half a block
//! (10 ms for 20 ms blocks), its sinc ones give varying counts.

/// The sample rates of frames, in Hz.
pub const RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];

/// Filter half-length in samples of the slower of the two rates. 32 gives 70 dB stop band with a transition of
/// 1/8 of the band; it is the delay too (2 ms at 16 kHz, 4 ms at 8 kHz).
const HALF_TAPS: usize = 32;

/// Kaiser window's beta for about 70 dB.
const BETA: f64 = 7.0;

/// The cut-off, as a part of the slower rate's Nyquist frequency.
const CUT_OFF: f64 = 0.92;

/// The rates are not among [`RATES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot resample {from} Hz to {to} Hz")]
pub struct UnsupportedRate {
    /// Input rate.
    pub from: u32,
    /// Output rate.
    pub to: u32,
}

/// Converts one mono stream from one rate to another.
pub struct Resampler {
    from: u32,
    to: u32,
    /// Interpolation and decimation: `to / from` = `up / down` in lowest terms.
    up: usize,
    down: usize,
    /// One filter of `taps` coefficients per output phase, oldest sample first.
    phases: Vec<f32>,
    taps: usize,
    /// The last `taps - 1` input samples, then the new ones.
    history: Vec<f32>,
    /// Position of the next output in units of 1/`up` input samples.
    phase: usize,
}

impl Resampler {
    /// A resampler that starts in silence.
    pub fn new(from: u32, to: u32) -> Result<Self, UnsupportedRate> {
        if !RATES.contains(&from) || !RATES.contains(&to) {
            return Err(UnsupportedRate { from, to });
        }
        let divisor = gcd(from, to);
        let (up, down) = ((to / divisor) as usize, (from / divisor) as usize);
        // The filter spans HALF_TAPS samples of the slower rate on both sides.
        let taps = (2 * HALF_TAPS * down.max(up)).div_ceil(up);
        let phases = if from == to { Vec::new() } else { design(up, down, taps) };
        Ok(Self { from, to, up, down, phases, taps, history: vec![0.0; taps - 1], phase: 0 })
    }

    /// Input rate in Hz.
    pub fn from_rate(&self) -> u32 {
        self.from
    }

    /// Output rate in Hz.
    pub fn to_rate(&self) -> u32 {
        self.to
    }

    /// How much later the output is than the input.
    pub fn delay_us(&self) -> u32 {
        if self.from == self.to {
            return 0;
        }
        let taps = u32::try_from(self.taps).expect("a few hundred");
        taps * 500_000 / self.from
    }

    /// Appends the output for `input` to `out`. A whole number of milliseconds in gives as many out.
    pub fn process(&mut self, input: &[i16], out: &mut Vec<i16>) {
        if self.from == self.to {
            out.extend_from_slice(input);
            return;
        }
        self.history.extend(input.iter().map(|s| f32::from(*s)));
        let mut at = self.phase;
        let end = input.len() * self.up;
        while at < end {
            let start = at / self.up;
            let filter = at % self.up * self.taps;
            let filter = &self.phases[filter..filter + self.taps];
            out.push(to_i16(dot(filter, &self.history[start..start + self.taps])));
            at += self.down;
        }
        self.phase = at - end;
        let keep = self.history.len() - (self.taps - 1);
        self.history.drain(..keep);
    }

    /// Forgets what was heard before.
    pub fn reset(&mut self) {
        self.history.fill(0.0);
        self.phase = 0;
    }
}

/// Four partial sums, in a fixed order: vectorises, and the bits do not depend on the machine.
fn dot(filter: &[f32], samples: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (filters, samples_8) = (filter.chunks_exact(8), samples.chunks_exact(8));
    let rest: f32 = filters.remainder().iter().zip(samples_8.remainder()).map(|(a, b)| a * b).sum();
    for (f, s) in filters.zip(samples_8) {
        for i in 0..8 {
            sums[i] += f[i] * s[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` from float to integer saturates, which is what is wanted"
)]
fn to_i16(sample: f32) -> i16 {
    sample.round_ties_even() as i16
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The polyphase filters: phase p is the filter for an output that lies p/up samples after an input.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "small integers; f32 is enough"
)]
fn design(up: usize, down: usize, taps: usize) -> Vec<f32> {
    let length = taps * up;
    let centre = length as f64 / 2.0;
    let cut_off = CUT_OFF / up.max(down) as f64;
    let value = |n: usize| {
        let t = n as f64 - centre;
        let x = std::f64::consts::PI * cut_off * t;
        let sinc = if t == 0.0 { 1.0 } else { x.sin() / x };
        let r = t / centre;
        sinc * bessel_i0(BETA * (1.0 - r * r).max(0.0).sqrt())
    };
    let mut phases = Vec::with_capacity(length);
    for phase in 0..up {
        // The newest sample of the window lies `phase` units before the output's centre, the oldest furthest.
        let filter: Vec<f64> = (0..taps).map(|k| value((taps - 1 - k) * up + phase)).collect();
        // Each phase passes a constant unchanged.
        let sum: f64 = filter.iter().sum();
        phases.extend(filter.iter().map(|c| (c / sum) as f32));
    }
    phases
}

/// Modified Bessel function of the first kind, order 0, by its series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..32 {
        let factor = x / (2.0 * f64::from(k));
        term *= factor * factor;
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::Tone;

    fn run(from: u32, to: u32, freq: f64) -> Vec<i16> {
        let mut resampler = Resampler::new(from, to).expect("both supported");
        let mut tone = Tone::new(from, freq, -10.0);
        let mut out = Vec::new();
        for frame in 1..=50 {
            let mut pcm = Vec::new();
            tone.append(from as usize / 50, &mut pcm);
            resampler.process(&pcm, &mut out);
            assert_eq!(out.len(), frame * to as usize / 50, "{from} to {to}");
        }
        out
    }

    fn level_db(pcm: &[i16]) -> f64 {
        let sum: f64 = pcm.iter().map(|s| (f64::from(*s) / 32768.0).powi(2)).sum();
        10.0 * (2.0 * sum / pcm.len() as f64 + 1e-12).log10()
    }

    /// What is left of a tone after the best sinusoid of its frequency is taken away, in dB below the tone.
    fn distortion_db(pcm: &[i16], rate: u32, freq: f64) -> f64 {
        let w = std::f64::consts::TAU * freq / f64::from(rate);
        let (mut c, mut s) = (0.0, 0.0);
        for (n, x) in pcm.iter().enumerate() {
            c += f64::from(*x) * (w * n as f64).cos();
            s += f64::from(*x) * (w * n as f64).sin();
        }
        let half = pcm.len() as f64 / 2.0;
        let (c, s) = (c / half, s / half);
        let (mut rest, mut all) = (0.0, 0.0);
        for (n, x) in pcm.iter().enumerate() {
            let fit = c * (w * n as f64).cos() + s * (w * n as f64).sin();
            rest += (f64::from(*x) - fit).powi(2);
            all += f64::from(*x).powi(2);
        }
        10.0 * (rest / all).log10()
    }

    #[test]
    fn every_pair_keeps_a_tone_and_gives_exact_counts() {
        for from in RATES {
            for to in RATES {
                let out = run(from, to, 1000.0);
                let steady = &out[to as usize / 10..];
                assert!((level_db(steady) + 10.0).abs() < 0.05, "{from} to {to}: {}", level_db(steady));
                let rest = distortion_db(steady, to, 1000.0);
                assert!(rest < -60.0, "{from} to {to}: {rest} dB");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_gone() {
        for (from, to, freq) in
            [(48_000, 16_000, 9_000.0), (16_000, 8_000, 4_500.0), (48_000, 8_000, 6_000.0)]
        {
            let out = run(from, to, freq);
            let level = level_db(&out[to as usize / 10..]);
            assert!(level < -70.0, "{from} to {to} at {freq}: {level}");
        }
    }

    #[test]
    fn the_split_of_the_input_does_not_change_a_bit() {
        let mut pcm = Vec::new();
        Tone::new(48_000, 440.0, -6.0).append(4800, &mut pcm);
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        Resampler::new(48_000, 16_000).expect("supported").process(&pcm, &mut whole);
        let mut resampler = Resampler::new(48_000, 16_000).expect("supported");
        pcm.chunks(97).for_each(|chunk| resampler.process(chunk, &mut pieces));
        assert_eq!(whole, pieces);
    }

    #[test]
    fn a_full_scale_square_saturates_instead_of_wrapping() {
        let pcm: Vec<i16> = (0..960).map(|n| if n / 60 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let mut out = Vec::new();
        Resampler::new(48_000, 16_000).expect("supported").process(&pcm, &mut out);
        assert!(out[140..150].iter().all(|s| *s > 25_000) || out[140..150].iter().all(|s| *s < -25_000));
    }

    #[test]
    fn other_rates_are_refused_and_delays_are_short() {
        assert!(Resampler::new(44_100, 48_000).is_err());
        assert_eq!(Resampler::new(48_000, 16_000).expect("supported").delay_us(), 2_000);
        assert_eq!(Resampler::new(8_000, 48_000).expect("supported").delay_us(), 4_000);
    }
}
