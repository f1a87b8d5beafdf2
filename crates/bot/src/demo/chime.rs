//! Four soft bell tones, rising: the demo bot's greeting.

/// Notes in Hz (D5, F#5, A5, D6) and when they are struck, in seconds.
const NOTES: [(f32, f32); 4] = [(587.33, 0.0), (739.99, 0.13), (880.0, 0.26), (1174.66, 0.42)];
/// A bell's partials: times the note's frequency, loudness, seconds until it has faded to a third.
const PARTIALS: [(f32, f32, f32); 4] =
    [(1.0, 1.0, 0.34), (2.0, 0.35, 0.20), (3.01, 0.14, 0.11), (4.17, 0.07, 0.06)];
/// Length in seconds.
const SECONDS: f32 = 1.6;
/// Loudness of one note against full scale: -19 dB.
const GAIN: f32 = 0.11;
/// A struck note rises in 4 ms, without a click.
const ATTACK: f32 = 0.004;

/// The chime, mono.
pub(super) fn chime(rate: u32) -> Vec<i16> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small numbers; float to integer saturates"
    )]
    let samples = (0..(SECONDS * rate as f32) as usize).map(|n| {
        let t = n as f32 / rate as f32;
        let sum: f32 = NOTES.iter().map(|(note, start)| bell(*note, t - start)).sum();
        // The end fades, so that nothing is cut off.
        let fade = ((SECONDS - t) / 0.2).min(1.0);
        (sum * fade * GAIN * 32_767.0) as i16
    });
    samples.collect()
}

fn bell(note: f32, t: f32) -> f32 {
    if t < 0.0 {
        return 0.0;
    }
    let attack = (t / ATTACK).min(1.0);
    let partial = |(times, loud, fade): &(f32, f32, f32)| {
        loud * (-t / fade).exp() * (std::f32::consts::TAU * note * times * t).sin()
    };
    attack * PARTIALS.iter().map(partial).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_heard_and_does_not_clip() {
        let chime = chime(48_000);
        let peak = chime.iter().map(|s| s.unsigned_abs()).max().unwrap();
        assert!((3_000..20_000).contains(&peak), "{peak}");
        assert!(chime[0].abs() < 100 && chime[chime.len() - 1].abs() < 100);
    }
}
