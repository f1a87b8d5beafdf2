//! The time axis: where a frame of a track stands, by the clock that all tracks share.

/// How far a sender's own clock may be off before it is believed no more: it was replaced, or its first report has come.
const JUMP_US: u64 = 60_000;
/// By which part of the difference the axis follows per frame: a clock that drifts is followed, jitter is not.
const FOLLOW: i64 = 64;

/// Maps a track's RTP time to the axis: the differences are the sender's, the place is its capture time on our clock.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    clock_hz: u64,
    /// RTP time of a frame, and its place in microseconds.
    base: Option<(u64, u64)>,
    last_ms: u64,
}

impl Axis {
    pub(crate) fn new(clock_hz: u32) -> Self {
        Self { clock_hz: u64::from(clock_hz.max(1)), base: None, last_ms: 0 }
    }

    /// Milliseconds since 1970; later than the frame before, also where a clock goes back: players drop what has the time of another.
    pub(crate) fn place(&mut self, rtp_time: u64, capture_us: u64) -> u64 {
        let predicted = self.base.and_then(|(rtp, us)| {
            let ticks = rtp_time.checked_sub(rtp)?;
            us.checked_add(u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(self.clock_hz)).ok()?)
        });
        let at_us = match predicted.filter(|us| us.abs_diff(capture_us) <= JUMP_US) {
            Some(us) => {
                let off = capture_us.cast_signed().wrapping_sub(us.cast_signed()) / FOLLOW;
                us.saturating_add_signed(off)
            }
            None => capture_us,
        };
        self.base = Some((rtp_time, at_us));
        self.last_ms = (self.last_ms + 1).max(at_us / 1_000);
        self.last_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_smoothed_and_jumps_are_followed() {
        let mut axis = Axis::new(48_000);
        let mut last = 0;
        for i in 0..500_u64 {
            let jitter = [0, 4_000, 9_000, 1_000][usize::try_from(i % 4).unwrap()];
            let at = axis.place(i * 960, 1_000_000_000 + i * 20_000 + jitter);
            assert!(i == 0 || (19..=21).contains(&(at - last)), "{i}: {}", at - last);
            last = at;
        }
        let jumped = axis.place(500 * 960, 1_000_000_000 + 500 * 20_000 + 2_000_000);
        assert!(jumped - last > 1_900);
        // A new connection begins somewhere else in RTP time; and nothing goes back.
        assert_eq!(axis.place(7, 1_013_000_000), 1_013_000);
        assert_eq!(axis.place(960, 900_000_000), 1_013_001);
    }
}
