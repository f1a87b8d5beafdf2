//! What bots may take, in one place. Defaults are here and nowhere else.

use std::time::Duration;

/// Limits of bots. `server` fills them from its config; each says what happens when it is reached.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Rooms with bots on this node: each has one thread for sound. Over it a bot is refused (`overloaded`).
    pub rooms: usize,
    /// Bots in a room. Over it a bot is refused (`room_full`).
    pub bots_per_room: usize,
    /// Cameras that one bot gets at once, the dominant speakers' first.
    pub cameras_per_bot: usize,
    /// Screens that one bot gets at once.
    pub screens_per_bot: usize,
    /// Unmixed audio streams that one bot gets at once: 256 decoders take about a third of a core.
    pub voices_per_bot: usize,
    /// How long a connection may take to say `start`.
    pub start_timeout: Duration,
    /// Text messages per second (a burst may be four times that). Over it the connection ends with 4429.
    pub texts_per_second: u32,
    /// Binary messages per second (a burst may be four times that): 1 ms chunks of sound and three videos fit.
    pub frames_per_second: u32,
    /// Bytes of binary messages per second (a burst may be two times that): two 1080p30 RGBA pictures streams.
    pub bytes_per_second: u64,
    /// Audio that a bot may queue to be spoken. What does not fit is dropped and told (`queue`, `overflow`).
    pub queued_audio: Duration,
    /// Marks that may wait.
    pub marks: usize,
    /// Events waiting for a slow bot. Over it the connection ends with 4408: events must not be lost.
    pub events: usize,
    /// Audio frames per stream waiting for a slow bot: a second. Over it the oldest is dropped.
    pub audio_frames: usize,
    /// Raw pictures per stream waiting for a slow bot. Over it the oldest is dropped: latest wins.
    pub pictures: usize,
    /// Access units per stream waiting for a slow bot. Over it all are dropped up to the next keyframe.
    pub access_units: usize,
    /// Pictures of a bot waiting for its encoder. Over it the oldest is dropped.
    pub encode_pictures: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rooms: 256,
            bots_per_room: 32,
            cameras_per_bot: 10,
            screens_per_bot: 4,
            voices_per_bot: 256,
            start_timeout: Duration::from_secs(10),
            texts_per_second: 50,
            frames_per_second: 1_200,
            bytes_per_second: 500_000_000,
            queued_audio: Duration::from_secs(60),
            marks: 1_000,
            events: 2_048,
            audio_frames: 50,
            pictures: 2,
            access_units: 90,
            encode_pictures: 1,
        }
    }
}
