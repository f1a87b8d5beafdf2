//! A sine tone as mono PCM, and how to read it back.

/// A sine of one frequency and level; its phase runs on from call to call.
#[derive(Debug, Clone)]
pub struct Tone {
    step: f64,
    phase: f64,
    amplitude: f64,
}

impl Tone {
    /// `level_dbov`: of the sine's peak against full scale, so 0 is the loudest that does not clip.
    pub fn new(sample_rate: u32, freq_hz: f64, level_dbov: f64) -> Self {
        let step = std::f64::consts::TAU * freq_hz / f64::from(sample_rate);
        Self { step, phase: 0.0, amplitude: 32_767.0 * 10f64.powf(level_dbov.min(0.0) / 20.0) }
    }

    /// Appends `samples` samples.
    #[expect(clippy::cast_possible_truncation, reason = "the amplitude is at most 32767")]
    pub fn append(&mut self, samples: usize, out: &mut Vec<i16>) {
        for _ in 0..samples {
            out.push((self.phase.sin() * self.amplitude).round() as i16);
            self.phase = (self.phase + self.step) % std::f64::consts::TAU;
        }
    }
}

/// Cycles per second of a tone: from the first rising zero crossing to the last, placed between samples. `None` where
/// there are not two.
pub fn frequency(samples: &[i16], sample_rate: u32) -> Option<f64> {
    let rising = samples.windows(2).enumerate().filter(|(_, w)| w[0] < 0 && w[1] >= 0);
    let at = |(n, w): (usize, &[i16])| {
        let (a, b) = (f64::from(w[0]), f64::from(w[1]));
        #[expect(clippy::cast_precision_loss, reason = "sound of hours stays below 2^52 samples")]
        let whole = n as f64;
        whole - a / (b - a)
    };
    let mut crossings = rising.map(at);
    let first = crossings.next()?;
    let (cycles, last) = crossings.fold((0u32, first), |(cycles, _), at| (cycles + 1, at));
    (cycles > 0).then(|| f64::from(cycles) * f64::from(sample_rate) / (last - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequency_of_a_tone_is_read_back() {
        for (rate, freq) in [(8_000, 200.0), (16_000, 440.0), (48_000, 1234.5)] {
            let mut samples = Vec::new();
            Tone::new(rate, freq, -12.0).append(rate as usize / 10, &mut samples);
            let read = frequency(&samples, rate).expect("many crossings");
            assert!((read / freq - 1.0).abs() < 1e-3, "{freq} was read as {read}");
        }
        assert_eq!(frequency(&[0; 100], 8_000), None);
        assert_eq!(frequency(&[-1, 1], 8_000), None, "one crossing is no cycle");
    }
}
