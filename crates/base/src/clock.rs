//! The three clocks of a frame. Never zero, never guessed silently: a flag says what was estimated.

use serde::{Deserialize, Serialize};

/// When a frame was captured, when it arrived, and where it stands in the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clocks {
    /// Capture at the sender, in microseconds since the Unix epoch, on the server's clock:
    /// the RTP time mapped by RTCP sender reports (RFC 3550, 6.4.1) or abs-capture-time.
    pub capture_us: u64,
    /// Arrival at the server of the frame's first packet (for a synthesised frame: when it was due), same clock.
    pub arrival_us: u64,
    /// Microseconds since the media session began; audio and video of one session share it.
    pub media_us: u64,
    /// What of this was estimated.
    pub flags: ClockFlags,
}

/// Which clocks were estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClockFlags {
    /// No sender report yet: `capture_us` is the arrival less nothing but jitter.
    pub capture_estimated: bool,
}
