//! A sine tone as mono PCM.

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
