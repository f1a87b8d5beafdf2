//! Which streams a bot is to have, from its session, the roster and the dominant speakers.

use std::collections::BTreeSet;

use antiphon_base::{AudioCodec, Codec, ParticipantKey, PixelFormat, Source, TrackKey, VideoCodec};
use antiphon_media::video::Decoders;
use antiphon_shard::Roster;
use antiphon_wire::bot::{AudioForm, AudioSession, MediaSession, Mix, Participants, VideoSession};

use crate::limits::Limits;

/// A stream that a bot is to have. What is in here makes it another stream; what is not can change under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Want {
    /// PCM of one track.
    Voice { track: TrackKey, rate: u32 },
    /// Packets of one audio track.
    Packets { track: TrackKey, codec: AudioCodec },
    /// PCM of all tracks of this source but the bot's.
    Mixed { source: Source, rate: u32, all: bool },
    /// Pictures of one track.
    Pictures { track: TrackKey, format: Layout },
    /// Access units of one track.
    AccessUnits { track: TrackKey, codec: VideoCodec },
}

/// A [`PixelFormat`] that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Layout(u8);

impl Layout {
    const ALL: [PixelFormat; 5] =
        [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Rgb24, PixelFormat::Bgr24, PixelFormat::Rgba];

    fn new(format: PixelFormat) -> Self {
        let at = Self::ALL.iter().position(|f| *f == format);
        Self(at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0))
    }

    /// The layout.
    pub(crate) fn get(self) -> PixelFormat {
        Self::ALL[usize::from(self.0)]
    }
}

/// What a bot is to have, and what it asked for in vain.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    pub(crate) streams: BTreeSet<Want>,
    pub(crate) undecodable: BTreeSet<(TrackKey, VideoCodec)>,
}

impl Wants {
    /// All of one bot's.
    pub(crate) fn of(
        bot: ParticipantKey,
        media: &MediaSession,
        roster: &Roster,
        limits: &Limits,
        decoders: &Decoders,
    ) -> Self {
        let mut wants = Self::default();
        wants.audio(bot, Source::Microphone, &media.audio, roster, limits.voices_per_bot);
        wants.audio(bot, Source::ScreenAudio, &media.screen_audio, roster, limits.voices_per_bot);
        for (source, video, limit) in [
            (Source::Camera, &media.camera, limits.cameras_per_bot),
            (Source::Screen, &media.screen, limits.screens_per_bot),
        ] {
            if video.direction.receives() {
                let tracks = chosen(bot, source, &video.participants, roster).take(limit);
                wants.video(video, tracks, decoders);
            }
        }
        wants
    }

    fn audio(
        &mut self,
        bot: ParticipantKey,
        source: Source,
        audio: &AudioSession,
        roster: &Roster,
        limit: usize,
    ) {
        if !audio.direction.receives() {
            return;
        }
        let rate = audio.sample_rate;
        if let Some(mix) = audio.mixed {
            self.streams.insert(Want::Mixed { source, rate, all: mix == Mix::All });
        }
        if !audio.unmixed {
            return;
        }
        for (track, codec) in chosen(bot, source, &audio.participants, roster).take(limit) {
            let Codec::Audio(codec) = codec else { continue };
            self.streams.insert(match audio.form {
                AudioForm::Pcm => Want::Voice { track, rate },
                AudioForm::Encoded => Want::Packets { track, codec },
            });
        }
    }

    fn video(
        &mut self,
        video: &VideoSession,
        tracks: impl Iterator<Item = (TrackKey, Codec)>,
        decoders: &Decoders,
    ) {
        for (track, codec) in tracks {
            let Codec::Video(codec) = codec else { continue };
            match video.form.pixel_format() {
                Some(format) if decoders.can_decode(codec) => {
                    self.streams.insert(Want::Pictures { track, format: Layout::new(format) });
                }
                Some(_) => {
                    self.undecodable.insert((track, codec));
                }
                None => {
                    self.streams.insert(Want::AccessUnits { track, codec });
                }
            }
        }
    }
}

/// The tracks that a choice of participants names, in the room's order of dominance.
fn chosen<'a>(
    bot: ParticipantKey,
    source: Source,
    participants: &'a Participants,
    roster: &'a Roster,
) -> impl Iterator<Item = (TrackKey, Codec)> + 'a {
    let most = if let Participants::Top(k) = participants { usize::from(*k) } else { usize::MAX };
    let named = move |key: &ParticipantKey| match participants {
        Participants::All | Participants::Top(_) => true,
        Participants::Ids(ids) => roster.id(*key).is_some_and(|id| ids.contains(id)),
    };
    let track = move |participant: ParticipantKey| {
        let track = TrackKey { participant, source };
        Some((track, roster.codec(track)?))
    };
    roster.order().filter(move |key| *key != bot).filter(named).filter_map(track).take(most)
}
