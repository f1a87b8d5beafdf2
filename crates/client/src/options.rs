//! How to join.

use std::time::Duration;

use antiphon_wire::bot::{AudioSession, Direction, MediaSession, VideoForm, VideoSession};

/// The environment variable that is asked for a token where none is given.
pub const TOKEN_VARIABLE: &str = "ANTIPHON_TOKEN";

/// How to join a room. Make one with [`Options::new`]; what is left out of the session is inactive.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server, e.g. `http://localhost:7700`.
    pub url: String,
    /// The room's name.
    pub room: String,
    /// The name to show; by default the token's.
    pub name: Option<String>,
    /// A token; by default that of the environment ([`TOKEN_VARIABLE`]), or else a guest's from the server.
    pub token: Option<String>,
    /// What to get and give.
    pub session: MediaSession,
    /// How long joining may take.
    pub timeout: Duration,
}

impl Options {
    /// A bot that neither gets nor gives anything yet.
    pub fn new(url: impl Into<String>, room: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            room: room.into(),
            name: None,
            token: None,
            session: MediaSession::default(),
            timeout: Duration::from_secs(10),
        }
    }

    /// Shows this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Joins with this token.
    #[must_use]
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// Sets the microphone part of the session.
    #[must_use]
    pub fn audio(mut self, audio: AudioSession) -> Self {
        self.session.audio = audio;
        self
    }

    /// Sets the camera part of the session.
    #[must_use]
    pub fn camera(mut self, camera: VideoSession) -> Self {
        self.session.camera = camera;
        self
    }

    /// Hears each participant by itself, as 16 kHz PCM.
    #[must_use]
    pub fn hear(self) -> Self {
        self.audio(AudioSession { direction: Direction::Recvonly, ..AudioSession::default() })
    }

    /// Hears each participant, and has a voice.
    #[must_use]
    pub fn hear_and_speak(self) -> Self {
        self.audio(AudioSession { direction: Direction::Sendrecv, ..AudioSession::default() })
    }

    /// Sees each camera as RGB pictures.
    #[must_use]
    pub fn see(self) -> Self {
        let rgb = VideoSession { form: VideoForm::Rgb24, ..VideoSession::default() };
        self.camera(VideoSession { direction: Direction::Recvonly, ..rgb })
    }

    /// Sees each camera as RGB pictures, and has a face.
    #[must_use]
    pub fn see_and_show(self) -> Self {
        let rgb = VideoSession { form: VideoForm::Rgb24, ..VideoSession::default() };
        self.camera(VideoSession { direction: Direction::Sendrecv, ..rgb })
    }
}
