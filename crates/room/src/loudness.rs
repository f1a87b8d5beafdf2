//! How loud a track is over tens of milliseconds: for audio slots and for the `speakers` message.

use std::time::{Duration, Instant};

/// Share of a louder packet that is taken over at once: an onset counts within two packets.
const ATTACK: f32 = 0.5;
/// Share of a quieter packet: about 400 ms to fall by the half, longer than the gaps between words.
const RELEASE: f32 = 0.05;
/// Without packets (DTX) for this long a track is silent: longer than the largest packet time and some jitter.
const DTX: Duration = Duration::from_millis(400);
/// Audible from this loudness (RFC 6464 -50 dBov) ...
pub(crate) const AUDIBLE: f32 = 127.0 - 50.0;
/// ... or from this (-65 dBov) where the sender says that it is voice.
const AUDIBLE_VOICE: f32 = 127.0 - 65.0;

/// Smoothed loudness: 0 is silence, 127 is 0 dBov.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loudness {
    smooth: f32,
    voice: bool,
    last: Option<Instant>,
}

impl Loudness {
    /// One packet's level, -dBov. True where the track has become audible by it.
    pub(crate) fn level(&mut self, now: Instant, level: u8, voice: bool) -> bool {
        let before = self.audible();
        let loud = 127.0 - f32::from(level.min(127));
        let share = if loud > self.smooth { ATTACK } else { RELEASE };
        self.smooth += (loud - self.smooth) * share;
        self.voice = voice;
        self.last = Some(now);
        !before && self.audible()
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) > DTX) {
            self.smooth = 0.0;
            self.voice = false;
        }
    }

    pub(crate) fn loud(&self) -> f32 {
        self.smooth
    }

    pub(crate) fn audible(&self) -> bool {
        self.smooth >= if self.voice { AUDIBLE_VOICE } else { AUDIBLE }
    }

    /// Time of the latest packet.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// -dBov as on the wire.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=127 before the cast"
    )]
    pub(crate) fn dbov(&self) -> u8 {
        (127.0 - self.smooth).round().clamp(0.0, 127.0) as u8
    }
}
